// What one pass over the data is given and what it fills; the same for every level of instructions.
#pragma once

#include <cstdint>

namespace stepfit {

enum class Type { f16, bf16, f32, f64, u8, i8, i16, i32, i64 };

struct Points {
  const char* data;
  Type type;
  int64_t n, d;
  int64_t row, column;   // strides in bytes
  const double* weight;  // (n,), or null

  // Types that float32 cannot hold: fixed.WIDE.
  bool wide() const { return type == Type::f64 || type == Type::i32 || type == Type::i64; }
};

// The powers of two of fixed.parts: what a value is multiplied with before it is rounded to an integer.
struct Scale {
  const double* before;  // (d,) without weights 2^(80-e), with weights 2^-e
  const double* after;   // (d,) with weights: of the product w x
  double near_one;       // of x before it is squared
  double square;         // of the square
  double weight;         // of w, to lie near 1
};

// The integers of fixed.Totals, which the pass adds to. `sums` is null when only labels are wanted.
struct Totals {
  int64_t* counts;   // (k,)
  int64_t* sums;     // (3, k, d)
  int64_t* squares;  // (3, k)
  int64_t* masses;   // (3, k), or null
  int64_t changed;
};

struct Job {
  Points x;
  const double* centers;  // (k, d)
  int64_t k;
  const int32_t* before;  // (n,) the labels of the step before, or null
  int32_t* labels;        // (n,)
  Scale scale;
  Totals totals;
};

// A pass cut into blocks of rows, which any thread may work on in any order.
class Pass {
 public:
  virtual ~Pass() = default;
  virtual int64_t block_rows() const = 0;
  virtual void work(int thread, int64_t first, int64_t last) = 0;  // rows first .. last - 1
  virtual void finish(Totals& totals) = 0;                         // add up what the threads found
};

// One maker a level: level.cpp is compiled once for each.
#define STEPFIT_LEVELS(X) X(generic) X(avx2)
#define STEPFIT_DECLARE(level) \
  namespace level {            \
  Pass* begin(const Job& job, int threads); \
  }
STEPFIT_LEVELS(STEPFIT_DECLARE)
#undef STEPFIT_DECLARE

}  // namespace stepfit
