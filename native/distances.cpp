// Squared distances themselves, by one level of instructions; compiled once for each, under the name STEPFIT_LEVEL.
//
// All that is given back is float64, added in the order t = 0..d-1, each operation rounded once.
#include <memory>

#include "screen.h"

namespace stepfit::STEPFIT_LEVEL {
namespace {

constexpr int64_t block_products = 1 << 24;  // of a block: some hundredths of a second

// The pass that would label the same rows.
Job labelling(const Closer& closer) {
  Job job{};
  job.x = closer.x, job.centers = closer.centers, job.k = closer.k;
  return job;
}

int64_t rows_at_once(const Points& x, int64_t centers, int threads) {
  const int64_t fit = min(x.n / (4 * threads), block_products / (x.d * centers));
  return max(1, fit / tile_rows) * tile_rows;
}

constexpr int64_t together = 2 * L;  // rows, which are lanes of two vectors

// Of each row to its own center.
class OwnPass final : public Pass {
 public:
  OwnPass(const Distances& job, int threads)
      : job_(job), d_(job.x.d), rows_(rows_at_once(job.x, 1, threads)), values_(threads * d_),
        differences_(threads * d_ * together) {}

  int64_t block_rows() const override { return rows_; }

  void work(int thread, int64_t first, int64_t last) override {
    double* values = values_ + thread * d_;
    double* differences = differences_ + thread * d_ * together;
    with_type(job_.x.type, [&](auto value) {
      for (int64_t row = first; row < last; row += together) {
        const int64_t count = min(together, last - row);
        for (int64_t i = 0; i < together; ++i) {
          const int64_t at = row + min(i, count - 1);
          const double* center = job_.centers + job_.labels[at] * d_;
          read_row<decltype(value)>(job_.x, at, values);
          for (int64_t t = 0; t < d_; ++t) differences[t * together + i] = values[t] - center[t];
        }
        Doubles sum[2]{};
        for (int64_t t = 0; t < d_; ++t) {
          for (int half = 0; half < 2; ++half) {
            const Doubles difference = load<Doubles>(differences + t * together + half * L);
            sum[half] += difference * difference;
          }
        }
        memcpy(job_.out + row, sum, size_t(count) * sizeof(double));
      }
    });
  }

 private:
  Distances job_;
  int64_t d_, rows_;
  Buffer<double> values_, differences_;  // of each thread
};

// Of each row to all centers.
class AllPass final : public Pass {
 public:
  AllPass(const Distances& job, int threads)
      : job_(job), d_(job.x.d), rows_(rows_at_once(job.x, job.k, threads)), values_(threads * d_),
        turned_(threads * d_ * together) {}

  int64_t block_rows() const override { return rows_; }

  void work(int thread, int64_t first, int64_t last) override {
    double* values = values_ + thread * d_;
    double* turned = turned_ + thread * d_ * together;
    with_type(job_.x.type, [&](auto value) {
      for (int64_t row = first; row < last; row += together) {
        const int64_t count = min(together, last - row);
        for (int64_t i = 0; i < together; ++i) {
          read_row<decltype(value)>(job_.x, row + min(i, count - 1), values);
          for (int64_t t = 0; t < d_; ++t) turned[t * together + i] = values[t];
        }
        for (int64_t j = 0; j < job_.k; j += centers) measure(turned, row, count, j);
      }
    });
  }

 private:
  static constexpr int64_t centers = 4;  // at once: each sum waits for its last addition

  void measure(const double* turned, int64_t row, int64_t count, int64_t first) const {
    const double* center[centers];
    for (int c = 0; c < centers; ++c) center[c] = job_.centers + min(first + c, job_.k - 1) * d_;
    Doubles sum[centers][2]{};
    for (int64_t t = 0; t < d_; ++t, turned += together) {
#pragma GCC unroll 4
      for (int c = 0; c < centers; ++c) {
        for (int half = 0; half < 2; ++half) {
          const Doubles difference = load<Doubles>(turned + half * L) - center[c][t];
          sum[c][half] += difference * difference;
        }
      }
    }
    for (int c = 0; c < min(centers, job_.k - first); ++c) {
      for (int64_t i = 0; i < count; ++i) job_.out[(row + i) * job_.k + first + c] = sum[c][i / L][i % L];
    }
  }

  Distances job_;
  int64_t d_, rows_;
  Buffer<double> values_, turned_;  // of each thread
};

// Of each row to the centers nearer than `job.limits[row]`: those that surely lie farther are screened out.
class CloserPass final : public Pass {
 public:
  CloserPass(const Closer& job, int threads)
      : job_(job), d_(job.x.d), rows_(rows_at_once(job.x, job.k, threads)),
        screen_(labelling(job), Path::tiles), precision_(precision()),
        workers_(new std::unique_ptr<Worker>[threads]) {
    if (precision_ == shorts) screen_.pack_shorts();
    for (int i = 0; i < threads; ++i) workers_[i].reset(new Worker(d_));
  }

  int64_t block_rows() const override { return rows_; }

  void work(int thread, int64_t first, int64_t last) override {
    Worker& worker = *workers_[thread];
    Candidates& candidates = worker.candidates;
    Pairs& pairs = worker.pairs;
    with_type(job_.x.type, [&](auto value) {
      using T = decltype(value);
      for (int64_t row = first; row < last; row += tile_rows) {
        const int64_t count = min(tile_rows, last - row);
        int64_t rows[2 * tile_rows];  // of this tile and the next
        for (int i = 0; i < 2 * tile_rows; ++i) rows[i] = min(row + i, last - 1);
        Tile tile{worker.tile, {}, {}, {}};
        if (precision_ == shorts) {
          read_pairs<T>(job_.x, rows, screen_.frame, {}, screen_.center_unit, worker.buffers, tile);
        } else {
          read_floats<T>(job_.x, rows, screen_.frame, tile);
        }
        Floats lower[2];
        for (int i = 0; i < tile_rows; ++i) lower[i / W][i % W] = lower_bound(tile.norms[i / W][i % W], rows[i]);
        screen_.collect[precision_](screen_, tile, lower, candidates);
        for (int i = 0; i < count; ++i) {
          const float norm = tile.norms[i / W][i % W];
          const bool listed = screen_.valid && norm < Screen::too_far && candidates.count[i] <= Candidates::most;
          const int64_t to_measure = listed ? candidates.count[i] : job_.k;
          double* values = worker.values + i * d_;
          if (to_measure) read_row<T>(job_.x, rows[i], values);
          for (int64_t c = 0; c < to_measure; ++c) {
            const int64_t j = listed ? candidates.center[i][c] : c;
            pairs.x[pairs.count] = values;
            pairs.pair[pairs.count] = {rows[i], j, 0};
            if (++pairs.count == Pairs::most) measure(pairs);
          }
        }
        measure(pairs);  // before the values of their rows are gone
      }
    });
    job_.found.add(pairs.found, pairs.kept);
    pairs.kept = 0;
  }

 private:
  struct Pairs {
    static constexpr int most = 8;  // each sum waits for its last addition, so some are made side by side
    const double* x[most];
    Near pair[most];
    int count = 0;

    static constexpr int most_kept = 1024;
    Near found[most_kept];
    int kept = 0;
  };

  struct Worker {
    explicit Worker(int64_t d) : tile(d * tile_rows), values(d * tile_rows), buffers(d) {}

    Buffer<float> tile;
    Buffer<double> values;  // of its rows
    Rows buffers;
    Candidates candidates;
    Pairs pairs;
  };

  Precision precision() const { return screen_.fits_shorts && shorts_pay(d_, job_.k) ? shorts : floats; }

  // What the score of a center must reach to be nearer than its limit: (|x|^2 - limit)/2 in the frame, less what rounding
  // may take: (d + 10) 2^-24 of |x|^2, as it is computed in float32; (d + 4) 2^-53 of the limit, as the answer is; and what
  // underflows, by far more than `least_norm` adds.
  float lower_bound(float norm, int64_t row) const {
    const double square = double(norm) * norm * (1 - 2.1 * double(d_ + 10) * 0x1p-24);
    const double limit = job_.limits[row] * screen_.frame.scale * screen_.frame.scale * (1 + double(d_ + 4) * 0x1p-52);
    const double lower = (square - limit) / 2 - double(d_) * 0x1p-74;
    return float(lower - std::fabs(lower) * 0x1p-22);
  }

  void measure(Pairs& pairs) const {
    if (!pairs.count) return;
    const double *x[Pairs::most], *center[Pairs::most];
    for (int i = 0; i < Pairs::most; ++i) {
      const int at = i < pairs.count ? i : 0;
      x[i] = pairs.x[at], center[i] = job_.centers + pairs.pair[at].center * d_;
    }
    double sum[Pairs::most] = {};
    for (int64_t t = 0; t < d_; ++t) {
#pragma GCC unroll 8
      for (int i = 0; i < Pairs::most; ++i) {
        const double difference = x[i][t] - center[i][t];
        sum[i] += difference * difference;
      }
    }
    for (int i = 0; i < pairs.count; ++i) {
      if (!(sum[i] < job_.limits[pairs.pair[i].row])) continue;
      if (pairs.kept == Pairs::most_kept) job_.found.add(pairs.found, pairs.kept), pairs.kept = 0;
      pairs.found[pairs.kept] = pairs.pair[i];
      pairs.found[pairs.kept++].distance = sum[i];
    }
    pairs.count = 0;
  }

  Closer job_;
  int64_t d_, rows_;
  Screen screen_;
  Precision precision_;
  std::unique_ptr<std::unique_ptr<Worker>[]> workers_;
};

}  // namespace

Pass* measure(const Distances& job, int threads) {
  if (job.labels) return new OwnPass(job, threads);
  return new AllPass(job, threads);
}

Pass* closer(const Closer& job, int threads) { return new CloserPass(job, threads); }

}  // namespace stepfit::STEPFIT_LEVEL
