// Rows of x, of any type: as float64 one by one, and as float32 tiles in which lanes are rows.
#pragma once

#include "lanes.h"
#include "pass.h"

namespace stepfit::STEPFIT_LEVEL {

struct Half { uint16_t bits; };
struct Bfloat { uint16_t bits; };

INLINE float value_of(Bfloat b) { return bits<float>(uint32_t(b.bits) << 16); }
INLINE float value_of(Half h) {
  float size = bits<float>(uint32_t(h.bits & 0x7fff) << 13) * 0x1p112f;  // points are finite
  return h.bits >> 15 ? -size : size;
}
template <class T>
INLINE T value_of(T value) { return value; }

template <class T> constexpr bool is_wide = sizeof(T) == 8 || std::is_same_v<T, int32_t>;

// Call f with a value of the type of the points.
template <class F>
auto with_type(Type type, F f) {
  switch (type) {
    case Type::f16: return f(Half{});
    case Type::bf16: return f(Bfloat{});
    case Type::f64: return f(double{});
    case Type::u8: return f(uint8_t{});
    case Type::i8: return f(int8_t{});
    case Type::i16: return f(int16_t{});
    case Type::i32: return f(int32_t{});
    case Type::i64: return f(int64_t{});
    default: return f(float{});
  }
}

// A row in float64: the values that labels and sums are defined by.
template <class T>
static void read_row(const Points& x, int64_t row, double* values) {
  const char* from = x.data + row * x.row;
  if (x.column == sizeof(T)) {
    for (int64_t t = 0; t < x.d; ++t) values[t] = double(value_of(load<T>(from + t * int64_t(sizeof(T)))));
  } else {
    for (int64_t t = 0; t < x.d; ++t) values[t] = double(value_of(load<T>(from + t * x.column)));
  }
}

constexpr int tile_rows = 2 * W;

// What is taken from x, and then multiplied with, so that rows and centers lie near 1. Any values are right.
struct Frame {
  const double* shift;         // (d + W,)
  const float* narrow_shift;   // the same, when x is not wide
  double scale;
};

// W values of one row from feature t on, moved into the frame.
template <class T>
INLINE Floats moved(const char* from, const Frame& frame, int64_t t) {
  if constexpr (is_wide<T>) {
    Lanes<double> exact = __builtin_convertvector(load<Lanes<T>>(from), Lanes<double>);
    exact = (exact - load<Lanes<double>>(frame.shift + t)) * frame.scale;
    return __builtin_convertvector(exact, Floats);
  } else {
    Floats value;
    if constexpr (std::is_same_v<T, float>) {
      value = load<Floats>(from);
    } else if constexpr (std::is_same_v<T, Bfloat>) {
      using Words = Lanes<uint32_t>;
      value = bits<Floats>(__builtin_convertvector(load<Lanes<uint16_t>>(from), Words) << 16);
    } else if constexpr (std::is_same_v<T, Half>) {
#if   defined(__F16C__)
      value = (Floats)_mm256_cvtph_ps(load<__m128i>(from));
#else
      for (int i = 0; i < W; ++i) value[i] = value_of(load<Half>(from + 2 * i));
#endif
    } else if constexpr (std::is_same_v<T, uint8_t>) {
      value = __builtin_convertvector(widened(load<Lanes<uint8_t>>(from)), Floats);
    } else {
      value = __builtin_convertvector(__builtin_convertvector(load<Lanes<T>>(from), Ints), Floats);
    }
    return (value - load<Floats>(frame.narrow_shift + t)) * float(frame.scale);
  }
}

// Rows `rows[0 .. tile_rows)` as tile[t][lane], and the norm of each.
template <class T>
static void read_tile(const Points& x, const int64_t* rows, const Frame& frame, float* tile, Floats (&norms)[2]) {
  constexpr int64_t size = sizeof(T);
  const bool dense = x.column == size;
  for (int half = 0; half < 2; ++half) {
    const char* from[W];
    for (int i = 0; i < W; ++i) from[i] = x.data + rows[half * W + i] * x.row;
    Floats squares{};
    for (int64_t t = 0; t < x.d; t += W) {
      const int64_t width = x.d - t < W ? x.d - t : W;
      Floats v[W];
      for (int i = 0; i < W; ++i) {
        if (dense && width == W) {
          v[i] = moved<T>(from[i] + t * size, frame, t);
        } else {
          char few[W * size] = {};
          for (int64_t s = 0; s < width; ++s) memcpy(few + s * size, from[i] + (t + s) * x.column, size);
          v[i] = moved<T>(few, frame, t);
        }
      }
      transpose(v);
      for (int s = 0; s < width; ++s) {
        store(tile + (t + s) * tile_rows + half * W, v[s]);
        squares = fma(v[s], v[s], squares);
      }
    }
    for (int i = 0; i < W; ++i) norms[half][i] = __builtin_sqrtf(squares[i]);
  }
}

// A row in the frame, with zeros up to a whole vector; its norm.
template <class T>
INLINE float read_long(const char* from, int64_t d, const Frame& frame, float* values) {
  constexpr int64_t size = sizeof(T);
  Floats squares{};
  int64_t t = 0;
  for (; t + W <= d; t += W) {
    const Floats v = moved<T>(from + t * size, frame, t);
    store(values + t, v);
    squares = fma(v, v, squares);
  }
  if (t < d) {
    char few[W * size] = {};
    memcpy(few, from + t * size, size_t((d - t) * size));
    Floats v = moved<T>(few, frame, t);
    for (int i = int(d - t); i < W; ++i) v[i] = 0;
    store(values + t, v);
    squares = fma(v, v, squares);
  }
  return __builtin_sqrtf(total_of(squares));
}

// W float32 rows of D features that lie one behind the other, a vector a feature; any norm above the true one will do.
template <int D, int t = 0>
INLINE void read_columns(const Floats (&v)[D], const Frame& frame, Floats (&x)[D], Floats& norms) {
  if constexpr (t < D) {
    x[t] = (column<D, t>(v, v[0]) - frame.narrow_shift[t]) * float(frame.scale);
    norms += larger(x[t], -x[t]);
    read_columns<D, t + 1>(v, frame, x, norms);
  }
}
template <int D>
INLINE void read_narrow(const char* from, const Frame& frame, Floats (&x)[D], Floats& norms) {
  Floats v[D];
  for (int i = 0; i < D; ++i) v[i] = load<Floats>(from + i * vector_bytes);
  norms = Floats{};
  read_columns<D>(v, frame, x, norms);
}

}  // namespace stepfit::STEPFIT_LEVEL
