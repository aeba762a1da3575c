// Squared distances themselves, by one level of instructions: of each row to its own center, or of all rows to all.
//
// Nothing is screened: float64, added in the order t = 0..d-1, each operation rounded once. Lanes are rows.
#include "rows.h"

namespace stepfit::STEPFIT_LEVEL {
namespace {

constexpr int64_t together = 2 * L;            // rows of a tile
constexpr int at_once = 4;                     // centers whose sums stay in registers
constexpr int64_t block_products = 1 << 24;    // of a block: some hundredths of a second

class DistancesPass final : public Pass {
 public:
  DistancesPass(const Distances& job, int threads)
      : job_(job), d_(job.x.d), own_(job.labels || job.k == 1), tiles_(threads * together * d_),
        values_(threads * d_) {}

  int64_t block_rows() const override {
    const int64_t threads = 4, products = d_ * (own_ ? 1 : job_.k);
    return most(1, least(job_.x.n / (4 * threads), block_products / products) / together) * together;
  }

  void work(int thread, int64_t first, int64_t last) override {
    double* tile = tiles_ + thread * together * d_;
    double* values = values_ + thread * d_;
    with_type(job_.x.type, [&](auto value) {
      for (int64_t row = first; row < last; row += together) {
        const int64_t count = least(together, last - row);
        read<decltype(value)>(row, count, values, tile);
        if (own_) {
          square(tile, job_.out + row, count);
        } else {
          for (int64_t j = 0; j < job_.k; j += at_once) compare(tile, j, row, count);
        }
      }
    });
  }

 private:
  // Rows as tile[t][row], less their own centers if each has one.
  template <class T>
  void read(int64_t first, int64_t count, double* values, double* tile) const {
    for (int64_t i = 0; i < together; ++i) {
      const int64_t row = first + least(i, count - 1);
      read_row<T>(job_.x, row, values);
      if (own_) {
        const double* center = job_.centers + (job_.labels ? job_.labels[row] * d_ : 0);
        for (int64_t t = 0; t < d_; ++t) tile[t * together + i] = values[t] - center[t];
      } else {
        for (int64_t t = 0; t < d_; ++t) tile[t * together + i] = values[t];
      }
    }
  }

  void square(const double* tile, double* out, int64_t count) const {
    Doubles sum[2]{};
    for (int64_t t = 0; t < d_; ++t, tile += together) {
      for (int half = 0; half < 2; ++half) {
        const Doubles difference = load<Doubles>(tile + half * L);
        sum[half] += difference * difference;
      }
    }
    memcpy(out, sum, size_t(count) * sizeof(double));
  }

  // The distances of a tile to some centers.
  void compare(const double* tile, int64_t first, int64_t row, int64_t count) const {
    const double* center[at_once];
    Doubles sum[at_once][2]{};
    for (int c = 0; c < at_once; ++c) center[c] = job_.centers + least(first + c, job_.k - 1) * d_;
    for (int64_t t = 0; t < d_; ++t, tile += together) {
      const Doubles x[2] = {load<Doubles>(tile), load<Doubles>(tile + L)};
#pragma GCC unroll 4
      for (int c = 0; c < at_once; ++c) {
        for (int half = 0; half < 2; ++half) {
          const Doubles difference = x[half] - center[c][t];
          sum[c][half] += difference * difference;
        }
      }
    }
    for (int c = 0; c < at_once && first + c < job_.k; ++c) {
      memcpy(job_.out + (first + c) * job_.x.n + row, sum[c], size_t(count) * sizeof(double));
    }
  }

  Distances job_;
  int64_t d_;
  bool own_;               // one center a row
  Buffer<double> tiles_;   // one a thread
  Buffer<double> values_;  // of a row, one a thread
};

}  // namespace

Pass* begin(const Distances& job, int threads) { return new DistancesPass(job, threads); }

}  // namespace stepfit::STEPFIT_LEVEL
