// A pass by one level of instructions; compiled once for each, under the name STEPFIT_LEVEL.
#include <memory>

#include "screen.h"
#include "settle.h"
#include "sums.h"

namespace stepfit::STEPFIT_LEVEL {
namespace {

constexpr int64_t tile_floats = 1 << 14;   // of the tiles of a block: they fit the second cache
constexpr int64_t panel_floats = 1 << 12;  // of the panels that stay in the first cache
constexpr int64_t most_narrow = 32;        // centers; with more, the bounds cost more than to look one up
constexpr int64_t least_long = 64;         // features; with fewer, adding up the lanes costs more

// What one thread works with.
struct Worker {
  Worker(const Job& job, int64_t rows)
      : tiles(rows * job.x.d), norms(rows), best(rows / tile_rows), open(rows),
        pair(2 * rounded_up(job.x.d, W)), values(job.x.d), sums(job) {}

  Buffer<float> tiles;    // [tile][t][lane]
  Buffer<float> norms;    // (rows,)
  Buffer<Best> best;      // [tile]
  Buffer<int64_t> open;   // rows with more than one candidate, then those whose label changed
  Buffer<float> pair;     // two rows in which lanes are features
  Buffer<double> values;  // of the row that is settled
  Candidates candidates;  // of a tile
  Sums sums;
  int64_t changed = 0;
};

class LevelPass final : public Pass {
 public:
  LevelPass(const Job& job, int threads)
      : job_(job), missing_(missing(job)), rows_(rows_of(job, threads)), screen_(job), threads_(threads),
        workers_(new std::unique_ptr<Worker>[threads]) {
    for (int i = 0; i < threads; ++i) workers_[i].reset(new Worker(job, rows_));
  }

  int64_t block_rows() const override { return rows_; }

  void work(int thread, int64_t first, int64_t last) override {
    Worker& worker = *workers_[thread];
    with_type(job_.x.type, [&](auto value) {
      using T = decltype(value);
      if (missing_ >= 0) {
        fill(job_.labels + first, last - first, missing_);
      } else if (!screen_.valid) {
        for (int64_t row = first; row < last; ++row) settle_over_all<T>(worker, row);
      } else {
        label<T>(worker, first, last);
      }
      if (job_.totals.sums) add<T>(worker, first, last);
    });
  }

  void finish(Totals& totals) override {
    for (int i = 0; i < threads_; ++i) {
      if (totals.sums) workers_[i]->sums.finish(totals);
      totals.changed += workers_[i]->changed;
    }
  }

 private:
  // The lowest center with a NaN, which counts as nearest to all; -1 is none.
  static int32_t missing(const Job& job) {
    for (int64_t i = 0; i < job.k * job.x.d; ++i) {
      if (std::isnan(job.centers[i])) return int32_t(i / job.x.d);
    }
    return -1;
  }

  static int64_t rows_of(const Job& job, int threads) {
    const int64_t fit = least(tile_floats / job.x.d, job.x.n / (4 * threads));
    return most(1, fit / tile_rows) * tile_rows;
  }

  template <class T>
  void settle_over_all(Worker& worker, int64_t row) {
    read_row<T>(job_.x, row, worker.values);
    job_.labels[row] = settle(worker.values, job_.centers, job_.x.d, job_.k, [](int64_t i) { return i; });
  }

  template <class T>
  void label(Worker& worker, int64_t first, int64_t last) {
    if constexpr (std::is_same_v<T, float>) {
      if (job_.k <= most_narrow && job_.x.column == 4 && job_.x.row == job_.x.d * 4) {
        switch (job_.x.d) {
          case 1: first = label_narrow<1>(worker, first, last); break;
          case 2: first = label_narrow<2>(worker, first, last); break;
          case 3: first = label_narrow<3>(worker, first, last); break;
          case 4: first = label_narrow<4>(worker, first, last); break;
        }
      }
    }
    if (job_.k <= most_narrow && job_.x.d >= least_long && job_.x.column == sizeof(T)) {
      return label_long<T>(worker, first, last);
    }
    const int64_t d = job_.x.d, tiles = (last - first + tile_rows - 1) / tile_rows;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      Floats norms[2];
      int64_t rows[tile_rows];
      for (int i = 0; i < tile_rows; ++i) rows[i] = least(first + tile * tile_rows + i, last - 1);
      read_tile<T>(job_.x, rows, screen_.frame, worker.tiles + tile * tile_rows * d, norms);
      store(worker.norms + tile * tile_rows, norms[0]);
      store(worker.norms + tile * tile_rows + W, norms[1]);
      worker.best[tile] = Best::none();
    }
    const int64_t at_once = most(1, panel_floats / (screen_.together * d));
    for (int64_t from = 0; from < screen_.panels; from += at_once) {
      const int64_t to = least(from + at_once, screen_.panels);
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const float* norm = worker.norms + tile * tile_rows;
        const Floats norms[2] = {load<Floats>(norm), load<Floats>(norm + W)};
        screen_.rank(screen_, worker.tiles + tile * tile_rows * d, norms, from, to, worker.best[tile]);
      }
    }
    int64_t open = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const Best& best = worker.best[tile];
      const float* norm = worker.norms + tile * tile_rows;
      const Floats norms[2] = {load<Floats>(norm), load<Floats>(norm + W)};
      Floats lower[2];
      screen_.lower_bound(best, norms, lower);
      for (int half = 0; half < 2; ++half) {
        const int64_t row = first + tile * tile_rows + half * W;
        if (row >= last) break;
        const int64_t width = least(W, last - row);
        memcpy(job_.labels + row, &best.center[half], size_t(width) * sizeof(int32_t));
        open = keep_open(worker, open, row, width,
                         (best.second[half] < lower[half]) & (norms[half] < Screen::most_norm));
      }
    }
    settle_open<T>(worker, open);
  }

  // Label the whole tiles of a block of float32 rows with D features; the rows that are left.
  template <int D>
  int64_t label_narrow(Worker& worker, int64_t first, int64_t last) {
    int64_t open = 0, row = first;
    for (; row + tile_rows <= last; row += tile_rows) {
      Floats x[2][D], norms[2], second[2], lower[2];
      Ints nearest[2];
      const char* from = job_.x.data + row * job_.x.row;
      for (int half = 0; half < 2; ++half) {
        read_narrow<D>(from + half * D * vector_bytes, screen_.frame, x[half], norms[half]);
      }
      Screen::rank_narrow<D>(screen_, x, norms, nearest, second, lower);
      for (int half = 0; half < 2; ++half) {
        store(job_.labels + row + half * W, nearest[half]);
        open = keep_open(worker, open, row + half * W, W,
                         (second[half] < lower[half]) & (norms[half] < Screen::most_norm));
      }
    }
    settle_open<float>(worker, open);
    return row;
  }

  // Label long rows, for few centers.
  template <class T>
  void label_long(Worker& worker, int64_t first, int64_t last) {
    const int64_t d = job_.x.d, stride = rounded_up(d, W);
    int64_t open = 0;
    for (int64_t row = first; row < last; row += 2) {
      const int64_t rows[2] = {row, least(row + 1, last - 1)};
      float norms[2];
      for (int i = 0; i < 2; ++i) {
        norms[i] = read_long<T>(job_.x.data + rows[i] * job_.x.row, d, screen_.frame, worker.pair + i * stride);
      }
      BestOfRow best[2];
      screen_.rank_pair(screen_, worker.pair, norms, best);
      for (int i = 0; i < 2 && row + i < last; ++i) {
        job_.labels[row + i] = best[i].center;
        if (!screen_.sure(best[i], norms[i])) worker.open[open++] = row + i;
      }
    }
    settle_open<T>(worker, open);
  }

  // List the rows that are not sure. Written so that a norm that is not finite leaves its row open.
  int64_t keep_open(Worker& worker, int64_t open, int64_t row, int64_t width, Ints sure) {
    for (uint32_t rest = ~lanes_of(sure) & ((1u << width) - 1); rest; rest &= rest - 1) {
      worker.open[open++] = row + __builtin_ctz(rest);
    }
    return open;
  }

  template <class T>
  void settle_open(Worker& worker, int64_t open) {
    for (int64_t i = 0; i < open; i += tile_rows) settle_tile<T>(worker, worker.open + i, least(tile_rows, open - i));
  }

  // Label some rows for which float32 was not enough.
  template <class T>
  void settle_tile(Worker& worker, const int64_t* open, int64_t count) {
    int64_t rows[tile_rows];
    for (int i = 0; i < tile_rows; ++i) rows[i] = open[least(i, count - 1)];
    Floats norms[2], lower[2];
    read_tile<T>(job_.x, rows, screen_.frame, worker.tiles, norms);
    Best best = Best::none();
    screen_.rank(screen_, worker.tiles, norms, 0, screen_.panels, best);
    screen_.lower_bound(best, norms, lower);
    screen_.collect(screen_, worker.tiles, norms, lower, worker.candidates);
    for (int i = 0; i < count; ++i) {
      if (!(norms[i / W][i % W] < Screen::most_norm) || worker.candidates.count[i] > Candidates::most) {
        settle_over_all<T>(worker, rows[i]);
        continue;
      }
      read_row<T>(job_.x, rows[i], worker.values);
      const int32_t* listed = worker.candidates.center[i];
      job_.labels[rows[i]] = settle(worker.values, job_.centers, job_.x.d, worker.candidates.count[i],
                                    [listed](int64_t c) { return int64_t(listed[c]); });
    }
  }

  template <class T>
  void add(Worker& worker, int64_t first, int64_t last) {
    int64_t* moved = worker.open;
    const int64_t count = job_.before ? changed(first, last, moved) : last - first;
    if (!job_.before) {
      for (int64_t i = 0; i < count; ++i) moved[i] = first + i;
    }
    worker.sums.move<T>(moved, count, job_.labels, job_.before);
    worker.changed += count;
    if (worker.sums.full()) {
      while (__atomic_test_and_set(&adding_, __ATOMIC_ACQUIRE)) {}
      worker.sums.finish(job_.totals);
      __atomic_clear(&adding_, __ATOMIC_RELEASE);
    }
  }

  // List the rows whose label is another than before.
  int64_t changed(int64_t first, int64_t last, int64_t* rows) const {
    int64_t count = 0, row = first;
    for (; row + W <= last; row += W) {
      uint32_t rest = lanes_of(load<Ints>(job_.labels + row) != load<Ints>(job_.before + row));
      for (; rest; rest &= rest - 1) rows[count++] = row + __builtin_ctz(rest);
    }
    for (; row < last; ++row) {
      if (job_.labels[row] != job_.before[row]) rows[count++] = row;
    }
    return count;
  }

  Job job_;
  int32_t missing_;
  int64_t rows_;
  Screen screen_;
  int threads_;
  std::unique_ptr<std::unique_ptr<Worker>[]> workers_;
  bool adding_ = false;  // a thread adds to the totals
};

}  // namespace

Pass* begin(const Job& job, int threads) { return new LevelPass(job, threads); }

}  // namespace stepfit::STEPFIT_LEVEL
