// The vectors of one level of instructions, and the few operations that the compiler's vector extensions lack.
//
// Everything here lies in the namespace of the level, so that the linker never mixes two levels.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define INLINE_MEMBER inline __attribute__((always_inline))

namespace stepfit::STEPFIT_LEVEL {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

constexpr int W = vector_bytes / 4;  // lanes of float32
constexpr int L = vector_bytes / 8;  // lanes of float64

template <class T>
struct Wide {  // W values of any type
  typedef T type __attribute__((vector_size(W * sizeof(T))));
};
template <class T>
using Lanes = typename Wide<T>::type;

using Floats = Lanes<float>;
using Ints = Lanes<int32_t>;
typedef double Doubles __attribute__((vector_size(vector_bytes)));
typedef int64_t Longs __attribute__((vector_size(vector_bytes)));

template <class V>
INLINE V load(const void* from) {
  V v;
  memcpy(&v, from, sizeof v);
  return v;
}

template <class V>
INLINE void store(void* to, V v) {
  memcpy(to, &v, sizeof v);
}

template <class To, class From>
INLINE To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

// Vectors that begin in an array, the last of which may end outside of it: then `count` of their lanes.
template <class V, class T>
INLINE V load_some(const T* from, int64_t count) {
  if (count >= L) return load<V>(from);
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 8) return (V)_mm512_maskz_loadu_epi64(uint8_t((1u << count) - 1), from);
  if constexpr (sizeof(T) == 4) {
    return bits<V>(_mm512_castsi512_si256(_mm512_maskz_loadu_epi32(uint16_t((1u << count) - 1), from)));
  }
#endif
  T some[L] = {};
  for (int64_t i = 0; i < count; ++i) some[i] = from[i];
  return load<V>(some);
}
template <class T, class V>
INLINE void store_some(T* to, V v, int64_t count) {
  typedef T Some __attribute__((vector_size(L * sizeof(T))));
  const Some some = __builtin_convertvector(v, Some);
  if (count >= L) return store(to, some);
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 8) return _mm512_mask_storeu_epi64(to, uint8_t((1u << count) - 1), (__m512i)some);
#endif
  for (int64_t i = 0; i < count; ++i) to[i] = some[i];
}

INLINE Floats all(float value) { return value - Floats{}; }  // exact, and no instruction
#if defined(__AVX512F__)
INLINE Floats larger(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE Floats smaller(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }
#else
INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }
INLINE Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
#endif

// a * b + c. Contraction is off, so this is the only place where a level may round once instead of twice.
INLINE Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

// Compilers take the bytes of a vector apart one by one.
INLINE Ints widened(Lanes<uint8_t> bytes) {
#if defined(__AVX512F__)
  return (Ints)_mm512_cvtepu8_epi32(load<__m128i>(&bytes));
#elif defined(__AVX2__)
  return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(&bytes)));
#else
  return __builtin_convertvector(bytes, Ints);
#endif
}

template <class V, class Order, size_t... I>
INLINE V pick(V a, V b, Order, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, Order::at(I)...);
}
template <class Order, class V>
INLINE V pick(V a, V b) {
  return pick(a, b, Order{}, std::make_index_sequence<W>{});
}

template <int by>
struct Turned {
  static constexpr int at(int i) { return (i + by) % W; }
};
template <class V, int by = W / 2>
INLINE auto total_of(V v) {
  if constexpr (by == 0) {
    return v[0];
  } else {
    return total_of<V, by / 2>(v + pick<Turned<by>>(v, v));
  }
}

// Lanes of 32 bits as pairs of int16: a - b.
INLINE Ints words_apart(Ints a, Ints b) {
  typedef int16_t Words __attribute__((vector_size(vector_bytes)));
  return bits<Ints>(bits<Words>(a) - bits<Words>(b));
}

// Lanes of 32 bits as pairs of int16: a.low b.low + a.high b.high + sum.
INLINE Ints add_products(Ints a, Ints b, Ints sum) {
#if defined(__AVX512VNNI__)
  return (Ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVX512BW__)
  return sum + (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return sum + (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return sum + (Ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  return sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}

// The first `count` bytes of a vector, and zeros; what lies behind them is not read.
INLINE Ints load_bytes(const char* from, int64_t count) {
  if (count >= vector_bytes) return load<Ints>(from);
#if defined(__AVX512BW__)
  return (Ints)_mm512_maskz_loadu_epi8((uint64_t(1) << count) - 1, from);
#else
  char few[vector_bytes] = {};
  memcpy(few, from, size_t(count));
  return load<Ints>(few);
#endif
}

// Lanes of 32 bits as four bytes: a[0] b[0] + ... + a[3] b[3] + sum, where those of b are signed.
#if defined(__AVX512VNNI__)
constexpr bool multiplies_bytes = true;
INLINE Ints add_byte_products(Ints a, Ints b, Ints sum) {
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
}
#else
constexpr bool multiplies_bytes = false;  // what there is saturates
INLINE Ints add_byte_products(Ints, Ints, Ints sum) { return sum; }
#endif

INLINE Floats square_root(Floats v) {
  for (int i = 0; i < W; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
}

// One bit a lane, of a comparison.
INLINE uint32_t lanes_of(Ints mask) {
#if defined(__AVX512DQ__)
  return uint32_t(_mm512_movepi32_mask((__m512i)mask));
#elif defined(__AVX2__)
  return uint32_t(_mm256_movemask_ps((__m256)mask));
#elif defined(__SSE2__)
  return uint32_t(_mm_movemask_ps((__m128)mask));
#else
  uint32_t found = 0;
  for (int i = 0; i < W; ++i) found |= uint32_t(mask[i] & 1) << i;
  return found;
#endif
}

// One bit a lane: a >= b.
INLINE uint32_t lanes_at_least(Floats a, Floats b) {
#if defined(__AVX512F__)  // compilers make a vector of the bits first
  return uint32_t(_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ));
#else
  return lanes_of(a >= b);
#endif
}

// Integers under 2^51, which a float64 of 2^52 and more holds in its lowest bits.
INLINE Doubles from_integers(Longs v) { return bits<Doubles>(v + bits<int64_t>(0x1.8p52)) - 0x1.8p52; }
INLINE Longs to_integers(Doubles v) { return bits<Longs>(v + 0x1.8p52) - bits<int64_t>(0x1.8p52); }

// Keep in `largest` the largest |v| of each lane; what is not a number is passed over.
INLINE void keep_largest(Doubles& largest, Doubles v) {
  const Doubles size = v < 0 ? -v : v;
  largest = size > largest ? size : largest;
}
INLINE double largest_of(Doubles v) {
  for (int i = 1; i < L; ++i) v[0] = v[i] > v[0] ? v[i] : v[0];
  return v[0];
}
template <int by = W / 2>
INLINE float largest_of(Floats v) {
  if constexpr (by == 0) {
    return v[0];
  } else {
    return largest_of<by / 2>(larger(v, pick<Turned<by>>(v, v)));
  }
}

INLINE double sum_of(Doubles v) {
  for (int i = 1; i < L; ++i) v[0] += v[i];
  return v[0];
}

INLINE bool any(Longs mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#else
  int64_t found = 0;
  for (int i = 0; i < L; ++i) found |= mask[i];
  return found != 0;
#endif
}

// table[index[lane]]
INLINE Floats look_up(const float* table, Ints index) {
#if defined(__AVX512F__)
  return (Floats)_mm512_i32gather_ps((__m512i)index, table, 4);
#elif defined(__AVX2__)
  return (Floats)_mm256_i32gather_ps(table, (__m256i)index, 4);
#else
  Floats found;
  for (int i = 0; i < W; ++i) found[i] = table[index[i]];
  return found;
#endif
}

// Turn W rows of W values into W columns.
template <int first>
struct Unpack32 {  // a0 b0 a1 b1 of each four lanes, or a2 b2 a3 b3
  static constexpr int at(int i) { return i / 4 * 4 + i % 4 / 2 + first + (i % 2 ? W : 0); }
};
template <int first>
struct Unpack64 {  // a0 a1 b0 b1, or a2 a3 b2 b3
  static constexpr int at(int i) { return i / 4 * 4 + i % 2 + first + (i % 4 / 2 ? W : 0); }
};
template <int first>
struct Unzip {  // every second group of four lanes, of a and then of b
  static constexpr int at(int i) { return (i / 4 * 2 + first) * 4 + i % 4; }
};

INLINE void transpose(Floats (&v)[W]) {
  for (int g = 0; g < W; g += 4) {
    Floats a = pick<Unpack32<0>>(v[g], v[g + 1]), b = pick<Unpack32<2>>(v[g], v[g + 1]);
    Floats c = pick<Unpack32<0>>(v[g + 2], v[g + 3]), d = pick<Unpack32<2>>(v[g + 2], v[g + 3]);
    v[g] = pick<Unpack64<0>>(a, c), v[g + 1] = pick<Unpack64<2>>(a, c);
    v[g + 2] = pick<Unpack64<0>>(b, d), v[g + 3] = pick<Unpack64<2>>(b, d);
  }
  if constexpr (W == 8) {
    for (int c = 0; c < 4; ++c) {
      Floats a = v[c], b = v[4 + c];
      v[c] = pick<Unzip<0>>(a, b), v[4 + c] = pick<Unzip<1>>(a, b);
    }
  } else if constexpr (W == 16) {
    for (int c = 0; c < 4; ++c) {
      Floats a = pick<Unzip<0>>(v[c], v[4 + c]), b = pick<Unzip<1>>(v[c], v[4 + c]);
      Floats e = pick<Unzip<0>>(v[8 + c], v[12 + c]), f = pick<Unzip<1>>(v[8 + c], v[12 + c]);
      v[c] = pick<Unzip<0>>(a, e), v[8 + c] = pick<Unzip<1>>(a, e);
      v[4 + c] = pick<Unzip<0>>(b, f), v[12 + c] = pick<Unzip<1>>(b, f);
    }
  }
}

// The sum of the lanes of each vector, in its lane.
INLINE Ints totals(Ints (&v)[W]) {
  auto add = [](Floats a, Floats b) { return bits<Floats>(bits<Ints>(a) + bits<Ints>(b)); };
  Floats two[W / 2], four[W / 4];
  for (int i = 0; i < W / 2; ++i) {
    const Floats a = bits<Floats>(v[2 * i]), b = bits<Floats>(v[2 * i + 1]);
    two[i] = add(pick<Unpack32<0>>(a, b), pick<Unpack32<2>>(a, b));
  }
  for (int i = 0; i < W / 4; ++i) {
    four[i] = add(pick<Unpack64<0>>(two[2 * i], two[2 * i + 1]), pick<Unpack64<2>>(two[2 * i], two[2 * i + 1]));
  }
  for (int left = W / 4; left > 1; left /= 2) {
    for (int i = 0; i < left / 2; ++i) {
      four[i] = add(pick<Unzip<0>>(four[2 * i], four[2 * i + 1]), pick<Unzip<1>>(four[2 * i], four[2 * i + 1]));
    }
  }
  return bits<Ints>(four[0]);
}

template <int D, int t, int m>
struct Every {  // value t of every D, so far as it lies in vector m; the others stay
  static constexpr int at(int i) {
    const int place = D * i + t;
    return m == 1 && place < W ? place : place / W == m ? W + place % W : i;
  }
};

// Feature t of W rows that lie in D vectors.
template <int D, int t, int m = 1>
INLINE Floats column(const Floats (&v)[D], Floats found) {
  if constexpr (m < D) {
    return column<D, t, m + 1>(v, pick<Every<D, t, m>>(found, v[m]));
  } else {
    return found;
  }
}

// In place of those of <algorithm>: an inline function of std that is compiled for two levels may be linked from the
// wrong one.
constexpr int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
template <class T>
INLINE void fill(T* to, int64_t count, T value) {
  for (int64_t i = 0; i < count; ++i) to[i] = value;
}

constexpr int64_t rounded_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// Aligned memory without a first value.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count = 0)
      : data_(static_cast<T*>(std::aligned_alloc(64, size_t(rounded_up(count * int64_t(sizeof(T)) + 1, 64))))) {
    if (!data_) throw std::bad_alloc();
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }
  operator T*() const { return data_; }

 private:
  T* data_;
};

}  // namespace stepfit::STEPFIT_LEVEL
