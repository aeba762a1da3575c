// Squared distances themselves, by one level of instructions; compiled once for each, under the name STEPFIT_LEVEL.
//
// All that is given back is float64, added in the order t = 0..d-1, each operation rounded once.
#include "screen.h"

namespace stepfit::STEPFIT_LEVEL {
namespace {

constexpr int64_t block_products = 1 << 24;  // of a block: some hundredths of a second

// The pass that would label the same rows.
Job labelling(const Distances& distances) {
  Job job{};
  job.x = distances.x, job.centers = distances.centers, job.k = distances.k;
  return job;
}

int64_t rows_at_once(const Distances& job, int64_t centers, int threads) {
  const int64_t fit = least(job.x.n / (4 * threads), block_products / (job.x.d * centers));
  return most(1, fit / tile_rows) * tile_rows;
}

// Of each row to its own center. Lanes are rows.
class OwnPass final : public Pass {
 public:
  OwnPass(const Distances& job, int threads)
      : job_(job), d_(job.x.d), rows_(rows_at_once(job, 1, threads)), values_(threads * d_),
        differences_(threads * d_ * together) {}

  int64_t block_rows() const override { return rows_; }

  void work(int thread, int64_t first, int64_t last) override {
    double* values = values_ + thread * d_;
    double* differences = differences_ + thread * d_ * together;
    with_type(job_.x.type, [&](auto value) {
      for (int64_t row = first; row < last; row += together) {
        const int64_t count = least(together, last - row);
        for (int64_t i = 0; i < together; ++i) {
          const int64_t at = row + least(i, count - 1);
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
  static constexpr int64_t together = 2 * L;

  Distances job_;
  int64_t d_, rows_;
  Buffer<double> values_, differences_;  // of each thread
};

// Of each row to all centers, but at most `job.most[row]`: centers that surely lie farther are screened out in float32.
class CloserPass final : public Pass {
 public:
  CloserPass(const Distances& job, int threads)
      : job_(job), d_(job.x.d), rows_(rows_at_once(job, job.k, threads)),
        screen_(labelling(job), Path::tiles),
        values_(threads * d_ * tile_rows), tiles_(threads * d_ * tile_rows) {}

  int64_t block_rows() const override { return rows_; }

  void work(int thread, int64_t first, int64_t last) override {
    double* values = values_ + thread * d_ * tile_rows;
    Tile tile{tiles_ + thread * d_ * tile_rows, {}, {}, {}};
    Candidates candidates;
    Pairs pairs;
    with_type(job_.x.type, [&](auto value) {
      using T = decltype(value);
      for (int64_t row = first; row < last; row += tile_rows) {
        const int64_t count = least(tile_rows, last - row);
        int64_t rows[tile_rows];
        for (int i = 0; i < tile_rows; ++i) rows[i] = row + least(i, count - 1);
        read_floats<T>(job_.x, rows, screen_.frame, tile);
        Floats lower[2];
        for (int i = 0; i < tile_rows; ++i) lower[i / W][i % W] = lower_bound(tile.norms[i / W][i % W], rows[i]);
        screen_.collect(screen_, tile, lower, candidates);
        for (int i = 0; i < count; ++i) {
          double* out = job_.out + rows[i] * job_.k;
          fill(out, job_.k, job_.most[rows[i]]);
          const bool listed = screen_.valid && tile.norms[i / W][i % W] < Screen::too_far &&
                              candidates.count[i] <= Candidates::most;
          const int64_t to_measure = listed ? candidates.count[i] : job_.k;
          if (to_measure) read_row<T>(job_.x, rows[i], values + i * d_);
          for (int64_t c = 0; c < to_measure; ++c) {
            const int64_t j = listed ? candidates.center[i][c] : c;
            pairs.x[pairs.count] = values + i * d_;
            pairs.center[pairs.count] = job_.centers + j * d_;
            pairs.out[pairs.count] = out + j;
            if (++pairs.count == Pairs::most) measure(pairs);
          }
        }
        measure(pairs);
      }
    });
  }

 private:
  struct Pairs {
    static constexpr int most = 8;  // each sum waits for its last addition, so some are made side by side
    const double *x[most], *center[most];
    double* out[most];
    int count = 0;
  };

  // What the score of a center must reach to be nearer than `most`: (|x|^2 - most)/2 in the frame, less what rounding
  // may take: (d + 10) 2^-24 of |x|^2, as it is computed in float32; (d + 4) 2^-53 of `most`, as the answer is; and what
  // underflows.
  float lower_bound(float norm, int64_t row) const {
    const double square = double(norm) * norm * (1 - 2.1 * double(d_ + 10) * 0x1p-24);
    const double most = job_.most[row] * screen_.frame.scale * screen_.frame.scale * (1 + double(d_ + 4) * 0x1p-52);
    const double lower = (square - most) / 2 - double(d_) * 0x1p-74;
    return float(lower - std::fabs(lower) * 0x1p-22);
  }

  void measure(Pairs& pairs) const {
    if (!pairs.count) return;
    for (int i = pairs.count; i < Pairs::most; ++i) pairs.x[i] = pairs.x[0], pairs.center[i] = pairs.center[0];
    double sum[Pairs::most] = {};
    for (int64_t t = 0; t < d_; ++t) {
#pragma GCC unroll 8
      for (int i = 0; i < Pairs::most; ++i) {
        const double difference = pairs.x[i][t] - pairs.center[i][t];
        sum[i] += difference * difference;
      }
    }
    for (int i = 0; i < pairs.count; ++i) {
      if (sum[i] < *pairs.out[i]) *pairs.out[i] = sum[i];
    }
    pairs.count = 0;
  }

  Distances job_;
  int64_t d_, rows_;
  Screen screen_;
  Buffer<double> values_;  // of a tile, for each thread
  Buffer<float> tiles_;
};

}  // namespace

Pass* measure(const Distances& job, int threads) {
  if (job.labels) return new OwnPass(job, threads);
  return new CloserPass(job, threads);
}

}  // namespace stepfit::STEPFIT_LEVEL
