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

template <class T> constexpr bool is_small_integer = std::is_integral_v<T> && sizeof(T) <= 2;
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

// The same for L values that lie one behind the other.
template <class T>
INLINE Doubles exact(const char* from) {
  if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, Bfloat>) {
    double values[L];  // g++ 12 loses some of the lanes of a vector that is set one by one
    for (int i = 0; i < L; ++i) values[i] = double(value_of(load<T>(from + i * int64_t(sizeof(T)))));
    return load<Doubles>(values);
#if defined(__AVX512F__)
  } else if constexpr (std::is_same_v<T, float>) {  // compilers take these vectors apart
    return (Doubles)_mm512_cvtps_pd(load<__m256>(from));
  } else if constexpr (std::is_same_v<T, uint8_t>) {
    return (Doubles)_mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#elif defined(__AVX2__)
  } else if constexpr (std::is_same_v<T, float>) {
    return (Doubles)_mm256_cvtps_pd(load<__m128>(from));
  } else if constexpr (std::is_same_v<T, uint8_t>) {
    return (Doubles)_mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(load<int>(from))));
#endif
  } else {
    typedef T Some __attribute__((vector_size(L * sizeof(T))));
    return __builtin_convertvector(load<Some>(from), Doubles);
  }
}

// A row whose values lie one behind the other; `row` gets it, and keeps what stands behind it.
template <class T>
static const char* dense(const char* from, const Points& x, char* row) {
  if (x.column == sizeof(T)) {
    memcpy(row, from, size_t(x.d) * sizeof(T));
  } else {
    for (int64_t t = 0; t < x.d; ++t) memcpy(row + t * int64_t(sizeof(T)), from + t * x.column, sizeof(T));
  }
  return row;
}

constexpr int tile_rows = 2 * W;

// What is taken from x, and then multiplied with, so that rows and centers lie near 1. Any values are right.
struct Frame {
  const double* shift;         // (d + W,)
  const float* narrow_shift;   // the same, when x is not wide
  double scale;
  const uint8_t* bytes;        // `shift`, where rows are bytes, with zeros up to a whole vector
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
#if defined(__AVX512F__)
      value = (Floats)_mm512_cvtph_ps(load<__m256i>(from));
#elif defined(__F16C__)
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

// The first `count` values of type T in a vector, and zeros.
template <class T>
INLINE Floats first_of(Floats v, int64_t count) {
  typedef T Values __attribute__((vector_size(vector_bytes)));
  constexpr int most = vector_bytes / sizeof(T);
  Values place;
  for (int i = 0; i < most; ++i) place[i] = T(i);
  return bits<Floats>(bits<Values>(v) & (place < T(min(count, most))));
}

// Rows in the frame, in which lanes are rows: what `values` holds is for the screen to say.
struct Tile {
  void* values;
  Floats norms[2];
  Floats units[2];  // of whole numbers: what 1 stands for
  Floats lost[2];   // of whole numbers of 8 bits: what rounding takes, at most
};

// Rows `rows[0 .. tile_rows)` as values[t][lane].
template <class T>
static void read_floats(const Points& x, const int64_t* rows, const Frame& frame, Tile& tile) {
  constexpr int64_t size = sizeof(T);
  float* to = static_cast<float*>(tile.values);
  const bool is_dense = x.column == size;
  const char* end = x.end(size);
  for (int half = 0; half < 2; ++half) {
    const char* from[W];
    for (int i = 0; i < W; ++i) from[i] = x.data + rows[half * W + i] * x.row;
    Floats squares{};
    for (int64_t t = 0; t < x.d; t += W) {
      const int64_t width = min(x.d - t, W);
      Floats v[W];
      for (int i = 0; i < W; ++i) {
        if (is_dense && from[i] + (t + W) * size <= end) {  // such lanes of the next row are not stored
          v[i] = moved<T>(from[i] + t * size, frame, t);
        } else {
          char few[W * size] = {};
          for (int64_t s = 0; s < width; ++s) memcpy(few + s * size, from[i] + (t + s) * x.column, size);
          v[i] = moved<T>(few, frame, t);
        }
      }
      transpose(v);
      for (int s = 0; s < width; ++s) {
        store(to + (t + s) * tile_rows + half * W, v[s]);
        squares = fma(v[s], v[s], squares);
      }
    }
    tile.norms[half] = square_root(squares);
  }
}

// Whole numbers of 16 bits: two features in a lane, t and t + W of every 2 W.
constexpr float most_whole = 32000;     // of a row: its norm becomes this, so that no value passes 2^15
constexpr float least_norm = 0x1p-40f;  // rows nearer to 0 count as that far

constexpr int64_t pairs_of(int64_t d) { return d / (2 * W) * W + min(d % (2 * W), W); }

// Buffers of a thread for the rows that become a tile.
struct Rows {
  explicit Rows(int64_t d)
      : dense(8 * rounded_up(d, W)), values(rounded_up(d, 4 * W)), pairs(W * rounded_up(pairs_of(d), W)) {
    fill<float>(values, rounded_up(d, 4 * W), 0);
  }
  Buffer<char> dense;     // one row, as it came, and room up to a whole vector
  Buffer<float> values;   // one row, in the frame
  Buffer<int32_t> pairs;  // W rows, or their quads
};

// A row in the frame, with zeros up to a whole vector, as buffers.values; its norm. Four sums of squares, so that none
// waits for itself.
template <class T>
INLINE float read_long(const Points& x, const char* from, const Frame& frame, Rows& buffers) {
  constexpr int64_t size = sizeof(T);
  const char* end = x.end(size);
  if (x.column != size) {
    from = dense<T>(from, x, buffers.dense);
    end = from + rounded_up(x.d, W) * size;
  }
  Floats squares[4]{};
  int64_t t = 0;
  for (; t + 4 * W <= x.d; t += 4 * W) {
    for (int part = 0; part < 4; ++part) {
      const Floats v = moved<T>(from + (t + part * W) * size, frame, t + part * W);
      store(buffers.values + t + part * W, v);
      squares[part] = fma(v, v, squares[part]);
    }
  }
  for (; t < x.d; t += W) {
    char few[W * size];
    const char* whole = from + t * size;
    if (whole + W * size > end) {
      memset(few, 0, sizeof few);
      whole = static_cast<char*>(memcpy(few, whole, size_t(min(x.d - t, W) * size)));
    }
    const Floats v = first_of<int32_t>(moved<T>(whole, frame, t), x.d - t);  // it may end in the next row
    store(buffers.values + t, v);
    squares[0] = fma(v, v, squares[0]);
  }
  return __builtin_sqrtf(total_of((squares[0] + squares[1]) + (squares[2] + squares[3])));
}

// Let W rows of `count` lanes, with room up to a whole vector, become the columns of a tile, or lie elsewhere.
static void turn(const int32_t* const (&rows)[W], int64_t count, int32_t* to, int64_t apart = tile_rows) {
  for (int64_t p = 0; p < count; p += W) {
    Floats v[W];
    for (int i = 0; i < W; ++i) v[i] = load<Floats>(rows[i] + p);
    transpose(v);
    for (int s = 0; s < W && p + s < count; ++s) store(to + (p + s) * apart, v[s]);
  }
}

// Ask for a row of the next tile: it comes while this one is turned and multiplied.
INLINE void prefetch(const char* from, int64_t size) {
  for (int64_t at = 0; at < size; at += 64) __builtin_prefetch(from + at, 0, 2);
}
INLINE void prefetch(const Points& x, int64_t row, int64_t size) {
  if (x.column == size) prefetch(x.data + row * x.row, x.d * size);
}

// A row in the frame as pairs, scaled by its norm, which is given back.
template <class T>
INLINE float make_pairs(const Points& x, int64_t row, const Frame& frame, Rows& buffers, int32_t* pairs) {
  const float norm = read_long<T>(x, x.data + row * x.row, frame, buffers);
  const float at_least = norm < least_norm ? least_norm : norm;
  const Floats up = all(most_whole / at_least), round = all(0x1.8p23f);
  const int64_t count = pairs_of(x.d);
  for (int64_t t = 0, p = 0; p < count; t += 2 * W, p += W) {
    // The sum's last bits are the value rounded to a whole number.
    const Ints low = bits<Ints>(fma(load<Floats>(buffers.values + t), up, round));
    const Ints high = bits<Ints>(fma(load<Floats>(buffers.values + t + W), up, round));
    store(pairs + p, (low & 0xffff) | high << 16);
  }
  return at_least;
}

// Rows `rows[0 .. tile_rows)` as values[pair][lane]; those that are not kept yet are made, and kept where there is room.
// As many rows again are listed behind them: those of the next tile.
template <class T>
static void read_pairs(const Points& x, const int64_t* rows, const Frame& frame, const Kept& kept, float center_unit,
                       Rows& buffers, Tile& tile) {
  const int64_t count = pairs_of(x.d), stride = rounded_up(count, W);
  int32_t* to = static_cast<int32_t*>(tile.values);
  for (int half = 0; half < 2; ++half) {
    const int32_t* made[W];
    for (int i = 0; i < W; ++i) {
      const int64_t row = rows[half * W + i], next = rows[half * W + i + tile_rows];
      int32_t* pairs = kept.pairs ? kept.pairs + row * kept.stride : buffers.pairs + i * stride;
      if (kept.pairs && kept.norms[next] >= 0) {
        prefetch(reinterpret_cast<const char*>(kept.pairs + next * kept.stride), 4 * count);
      } else {
        prefetch(x, next, int64_t(sizeof(T)));
      }
      float norm = kept.pairs ? kept.norms[row] : -1;
      if (norm < 0) {
        norm = make_pairs<T>(x, row, frame, buffers, pairs);
        if (kept.pairs) kept.norms[row] = norm;
      }
      tile.norms[half][i] = norm;
      tile.units[half][i] = norm * (center_unit / most_whole);
      made[i] = pairs;
    }
    turn(made, count, to + half * W);
  }
}

// Bytes are whole numbers as they are: a lane holds features t .. t + 3, and in two vectors of pairs t, t + 2 and
// t + 1, t + 3.
constexpr int64_t bytes_of(int64_t d) { return (d + 3) / 4; }
INLINE Ints even_bytes(Ints four) { return four & 0x00ff00ff; }
INLINE Ints odd_bytes(Ints four) { return (four >> 8) & 0x00ff00ff; }

// Rows `rows[0 .. tile_rows)` as values[t / 4][lane]. Their norms are made where they are not kept yet.
template <bool known>
static void read_bytes(const Points& x, const int64_t* rows, const Frame& frame, const Kept& kept, Tile& tile) {
  const int64_t count = bytes_of(x.d);
  int32_t* to = static_cast<int32_t*>(tile.values);
  for (int half = 0; half < 2; ++half) {
    const char* from[W];
    for (int i = 0; i < W; ++i) {
      from[i] = x.data + rows[half * W + i] * x.row;
      prefetch(x, rows[half * W + i + tile_rows], 1);
    }
    Ints squares{};
    for (int64_t p = 0; p < count; p += W) {
      Floats v[W];
      for (int i = 0; i < W; ++i) v[i] = bits<Floats>(load_bytes(from[i] + 4 * p, x.d - 4 * p));
      transpose(v);
      for (int s = 0; s < W && p + s < count; ++s) {
        const Ints four = bits<Ints>(v[s]);
        store(to + (p + s) * tile_rows + half * W, four);
        if (known) continue;
        squares = add_products(even_bytes(four), even_bytes(four), squares);
        squares = add_products(odd_bytes(four), odd_bytes(four), squares);
      }
    }
    if (!known) tile.norms[half] = square_root(__builtin_convertvector(squares, Floats)) * float(frame.scale);
    for (int i = 0; i < W && kept.norms; ++i) {
      float& norm = kept.norms[rows[half * W + i]];
      if (known) {
        tile.norms[half][i] = norm;
      } else {
        norm = tile.norms[half][i];
      }
    }
  }
}
INLINE void read_bytes(const Points& x, const int64_t* rows, const Frame& frame, const Kept& kept, Tile& tile) {
  bool known = kept.norms;
  for (int i = 0; i < tile_rows && known; ++i) known = kept.norms[rows[i]] >= 0;
  if (known) {
    read_bytes<true>(x, rows, frame, kept, tile);
  } else {
    read_bytes<false>(x, rows, frame, kept, tile);
  }
}

// Rows that stay where they lie, since lanes are features: `values` holds where each begins, and each of the next tile.
INLINE void find_bytes(const Points& x, const int64_t* rows, const Frame& frame, const Kept& kept, Tile& tile) {
  const char** from = static_cast<const char**>(tile.values);
  for (int i = 0; i < 2 * tile_rows; ++i) from[i] = x.data + rows[i] * x.row;
  for (int half = 0; half < 2; ++half) tile.units[half] = all(float(frame.scale)), tile.lost[half] = Floats{};
  for (int i = 0; i < tile_rows; ++i) {
    float norm = kept.norms ? kept.norms[rows[i]] : -1;
    if (norm < 0) {
      Floats squares{};
      for (int64_t t = 0; t < x.d; t += vector_bytes) {
        const Ints four = load_bytes(from[i] + t, x.d - t), shift = load<Ints>(frame.bytes + t);
        const Ints even = words_apart(even_bytes(four), even_bytes(shift));
        const Ints odd = words_apart(odd_bytes(four), odd_bytes(shift));
        squares += __builtin_convertvector(add_products(even, even, add_products(odd, odd, Ints{})), Floats);
      }
      norm = __builtin_sqrtf(total_of(squares)) * float(frame.scale);
      if (kept.norms) kept.norms[rows[i]] = norm;
    }
    tile.norms[i / W][i % W] = norm;
  }
}

// Whole numbers of 8 bits: four features in a lane, t, t + W, t + 2 W and t + 3 W of every 4 W.
constexpr float most_octet = 127;
constexpr int octet_offset = 128;  // is added to those of rows, which are multiplied as unsigned

constexpr int64_t quads_of(int64_t d) { return d / (4 * W) * W + min(d % (4 * W), W); }

// Rows `rows[0 .. tile_rows)` as values[quad][lane]; each row is scaled by its own largest value.
template <class T>
static void read_quads(const Points& x, const int64_t* rows, const Frame& frame, Rows& buffers, Tile& tile) {
  const int64_t count = quads_of(x.d), stride = rounded_up(count, W);
  const float most_lost = 0.51f * __builtin_sqrtf(float(x.d));
  int32_t* to = static_cast<int32_t*>(tile.values);
  for (int half = 0; half < 2; ++half) {
    const int32_t* made[W];
    float norms[W], units[W];
    for (int i = 0; i < W; ++i) {
      const char* from = x.data + rows[half * W + i] * x.row;
      prefetch(x, rows[half * W + i + tile_rows], int64_t(sizeof(T)));
      norms[i] = read_long<T>(x, from, frame, buffers);
      Floats sizes = all(least_norm);
      for (int64_t t = 0; t < x.d; t += W) {
        const Floats value = load<Floats>(buffers.values + t);
        sizes = larger(sizes, larger(value, -value));
      }
      const float largest = largest_of(sizes);
      units[i] = largest / most_octet;
      const Floats up = all(most_octet / largest), round = all(0x1.8p23f);
      int32_t* quads = buffers.pairs + i * stride;
      made[i] = quads;
      for (int64_t t = 0, q = 0; q < count; t += 4 * W, q += W) {
        Ints quad{};
        for (int part = 0; part < 4; ++part) {
          const Floats rounded = fma(load<Floats>(buffers.values + t + part * W), up, round);
          quad |= (bits<Ints>(rounded) & 0xff) << 8 * part;
        }
        store(quads + q, quad ^ int32_t(octet_offset * 0x01010101u));
      }
    }
    tile.norms[half] = load<Floats>(norms), tile.units[half] = load<Floats>(units);
    tile.lost[half] = most_lost * tile.units[half];
    turn(made, count, to + half * W);
  }
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
