// The largest size of each feature, by one level of instructions; compiled once for each, under the name STEPFIT_LEVEL.
//
// Without its sign a float is ordered as the integer of its bits, infinity behind all others and NaN behind infinity: so
// integers are compared, whatever the type.
#include <cmath>
#include <limits>

#include "rows.h"

namespace stepfit::STEPFIT_LEVEL {
namespace {

constexpr int64_t columns_at_least = 1024;   // compared side by side: features of several rows, to fill the vectors
constexpr int64_t block_bytes = 1 << 18;

template <class T> struct Ordered { using type = T; };
template <> struct Ordered<Half> { using type = int16_t; };
template <> struct Ordered<Bfloat> { using type = int16_t; };
template <> struct Ordered<float> { using type = int32_t; };
template <> struct Ordered<double> { using type = int64_t; };

template <class T>
class ExtremesPass final : public Pass {
 public:
  ExtremesPass(const Extremes& job, int threads)
      : x_(job.x), largest_(job.largest), dense_(x_.column == int64_t(sizeof(T))),
        beside_(dense_ && x_.row == x_.d * x_.column ? max(1, columns_at_least / x_.d) : 1),
        columns_(beside_ * x_.d), threads_(threads), low_(threads * columns_), high_(threads * columns_) {
    fill<Value>(low_, threads * columns_, 0);
    fill<Value>(high_, threads * columns_, 0);
  }

  int64_t block_rows() const override { return max(1, block_bytes / (x_.d * int64_t(sizeof(T)))); }

  void work(int thread, int64_t first, int64_t last) override {
    Value* low = low_ + thread * columns_;
    Value* high = high_ + thread * columns_;
    for (; dense_ && first + beside_ <= last; first += beside_) widen(x_.data + first * x_.row, columns_, low, high);
    for (; dense_ && first < last; ++first) widen(x_.data + first * x_.row, x_.d, low, high);
    for (; first < last; ++first) {
      for (int64_t t = 0; t < x_.d; ++t) widen(x_.data + first * x_.row + t * x_.column, 1, low + t, high + t);
    }
  }

  void finish(Totals&) override {
    fill<double>(largest_, x_.d, 0);
    for (int64_t c = 0; c < threads_ * columns_; ++c) {
      double& largest = largest_[c % columns_ % x_.d];
      for (const Value end : {low_[c], high_[c]}) {
        const double size = std::fabs(double(value_of(bits<T>(end))));
        largest = largest >= size || largest != largest ? largest : size;  // NaN stays
      }
    }
  }

 private:
  using Value = typename Ordered<T>::type;
  static constexpr bool is_float = !std::is_integral_v<T>;

  // Let values that lie one behind the other take part, each in its own column.
  static void widen(const char* from, int64_t count, Value* low, Value* high) {
    for (int64_t c = 0; c < count; ++c) {
      const Value value = load<Value>(from + c * int64_t(sizeof(T)));
      if constexpr (is_float) {
        const Value size = value & std::numeric_limits<Value>::max();
        high[c] = size > high[c] ? size : high[c];
      } else {
        low[c] = value < low[c] ? value : low[c];
        high[c] = value > high[c] ? value : high[c];
      }
    }
  }

  Points x_;
  double* largest_;
  bool dense_;
  int64_t beside_, columns_;  // rows taken as one, and their values
  int threads_;
  Buffer<Value> low_, high_;  // of each thread; 0 is among them
};

}  // namespace

Pass* extremes(Extremes& job, int threads) {
  return with_type(job.x.type, [&](auto value) -> Pass* { return new ExtremesPass<decltype(value)>(job, threads); });
}

}  // namespace stepfit::STEPFIT_LEVEL
