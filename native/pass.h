// What one pass over the data is given and what it fills; the same for every level of instructions.
#pragma once

#include <cstdint>

namespace stepfit {

// The fixed-point format. kernels/native.py refuses a module that was built for another than that of kernels/fixed.py.
constexpr int value_bits = 80, square_bits = 96;         // of w x and w, and of squares
constexpr int width = 27, square_width = 32, limbs = 3;  // of the limbs of totals, and how many there are

enum class Type { f16, bf16, f32, f64, u8, i8, i16, i32, i64 };

struct Points {
  const char* data;
  Type type;
  int64_t n, d;
  int64_t row, column;   // strides in bytes
  const double* weight;  // (n,), or null

  // Behind the last value, when those of a row lie one behind the other.
  const char* end(int64_t size) const { return data + (n - 1) * row + d * size; }

  // Types that float32 cannot hold: fixed.WIDE.
  bool wide() const { return type == Type::f64 || type == Type::i32 || type == Type::i64; }
};

// Bytes of a value.
constexpr int64_t size_of(Type type) {
  switch (type) {
    case Type::u8: case Type::i8: return 1;
    case Type::f16: case Type::bf16: case Type::i16: return 2;
    case Type::f32: case Type::i32: return 4;
    default: return 8;
  }
}

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
  int64_t* squares;  // (4,)
  int64_t* masses;   // (3, k), or null
  int64_t changed;
};

// Rows as whole numbers of 16 bits, and their norms, which later passes need not make again. `frame` is what was taken
// from the rows before they were scaled, and by what; scale 0: nothing is there.
struct Kept {
  int32_t* pairs;  // (n, stride), or null
  float* norms;    // (n,) in the frame, below 0 where a row is not there; or null
  double* frame;   // (d + 1,)
  int64_t stride;  // half of d at least, in whole vectors
};

struct Job {
  Points x;
  const double* centers;  // (k, d)
  int64_t k;
  const int32_t* before;  // (n,) the labels of the step before, or null
  int32_t* labels;        // (n,)
  // A row whose center is nearer than all others by more than the centers moved since keeps its label unseen.
  float* leads;  // (n,) by how much, and what `moved` held then; or null
  double* moved; // (k,) how far this center and the fastest other one moved, in all; not finite: nothing is remembered
  const double* centers_before;  // (k, d) of the pass that `moved` speaks of, or null
  double lead_unit;              // of leads and moved, of the length 1
  Kept kept;
  Scale scale;
  Totals totals;
};

// Another pass: squared distances.
struct Distances {
  Points x;
  const double* centers;  // (k, d)
  int64_t k;
  const int32_t* labels;  // (n,) of each row's own center, or null: then to all of them
  double* out;            // (n,), or (n, k)
};

// And another: which centers lie nearer to a row than its limit. A row's pairs are added by one thread, in order.
struct Near {
  int64_t row, center;
  double distance;
  bool operator==(const Near&) const = default;
};
class Found {
 public:
  virtual ~Found() = default;
  virtual void add(const Near* pairs, int64_t count) = 0;  // called by any thread
};
struct Closer {
  Points x;
  const double* centers;  // (k, d)
  int64_t k;
  const double* limits;   // (n,)
  Found& found;
};

// And another: how far the values of each feature go.
struct Extremes {
  Points x;
  double* largest;  // (d,) out: of |x_t|, NaN where there is one
};

// A pass cut into blocks of rows, which any thread may work on in any order.
class Pass {
 public:
  virtual ~Pass() = default;
  virtual int64_t block_rows() const = 0;
  virtual void work(int thread, int64_t first, int64_t last) = 0;  // rows first .. last - 1
  virtual void finish(Totals&) {}                                  // add up what the threads found
};

// From totals to the next centers and the inertia; see fixed.Totals.finish.
struct Finish {
  int64_t k, d;
  const int64_t* sums;      // (3, k, d)
  const double* mass[2];    // (k,) a high and a low part, as multiples of
  int mass_exponent;        // this power of two
  int widest, heaviest;     // of the scale
  const double* to_values;  // (d,) what 1 stands for in the sums
  const double* to_unit;    // (d,) the same, scaled
  const void* centers;      // (k, d)
  Type type;                // of them and the next: f32 or f64
  void* following;          // (k, d)

  double part[2];  // out: what the centers take from the sum of squares
  double largest;  // of the centers with mass
  double shift;
};

// Makers of passes, compiled once for each level. `path` names the way that a labelling pass takes.
#if defined(__x86_64__)
#define STEPFIT_LEVELS(X) X(generic) X(avx2) X(avx512) X(avx512vnni)
#else
#define STEPFIT_LEVELS(X) X(generic)
#endif
#define STEPFIT_DECLARE(level)                  \
  namespace level {                             \
  Pass* label(const Job&, int threads);         \
  Pass* measure(const Distances&, int threads); \
  Pass* closer(const Closer&, int threads);     \
  Pass* extremes(Extremes&, int threads);       \
  Pass* finish(Finish&, int threads);           \
  const char* path(const Job&);                 \
  }
STEPFIT_LEVELS(STEPFIT_DECLARE)
#undef STEPFIT_DECLARE

}  // namespace stepfit
