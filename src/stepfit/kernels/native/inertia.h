// Next centers and inertia in double-double, by the same operations in the same order as fixed.py.
#pragma once

#include <cmath>

#include "sums.h"

namespace stepfit::STEPFIT_LEVEL {

INLINE Pair two_sum(Doubles a, Doubles b) {
  const Doubles s = a + b, t = s - a;
  return {s, (a - (s - t)) + (b - t)};
}

INLINE Pair add(Pair a, Pair b) {
  const Pair high = two_sum(a.high, b.high), low = two_sum(a.low, b.low);
  const Pair once = two_sum(high.high, high.low + low.high);
  return two_sum(once.high, once.low + low.low);
}

INLINE Pair times(Pair a, Doubles b) {
  const Pair product = two_product(a.high, b);
  return two_sum(product.high, product.low + a.low * b);
}

// The sum of three limbs, as a high and a low part.
INLINE Pair sum_of_limbs(Longs low, Longs middle, Longs high) {
  const Longs over = high >> width;
  Pair sum{from_integers(over) * 0x1p81, Doubles{}};
  const Doubles parts[3] = {from_integers(low), from_integers(middle), from_integers(high - (over << width))};
  for (int s = 2; s >= 0; --s) {
    const Pair next = two_sum(sum.high, parts[s] * double(int64_t(1) << (s * width)));
    sum = {next.high, sum.low + next.low};
  }
  return two_sum(sum.high, sum.low);
}

// Values that are added up by halves: an order that does not depend on the length of a vector.
class Terms {
 public:
  explicit Terms(int64_t count) : high_(count), low_(count) {}

  INLINE_MEMBER void set(int64_t at, Pair term, int64_t count) {
    store_some<double>(high_ + at, term.high, count), store_some<double>(low_ + at, term.low, count);
  }

  // The sum of the first `count`, in two parts.
  Pair sum(int64_t count) {
    while (count > 1) {
      const int64_t half = count / 2;
      for (int64_t i = 0; i < half; i += L) set(i, add(at(i, half - i), at(half + i, half - i)), half - i);
      if (count % 2) high_[half] = high_[count - 1], low_[half] = low_[count - 1];
      count = half + count % 2;
    }
    return {Doubles{} + high_[0], Doubles{} + low_[0]};
  }

 private:
  Pair at(int64_t i, int64_t count) const {
    return {load_some<Doubles>(high_ + i, count), load_some<Doubles>(low_ + i, count)};
  }

  Buffer<double> high_, low_;
};

// fixed.sum_of_squares, of one row.
static double halved(double* values, int64_t count) {
  while (count > 1) {
    const int64_t half = (count + 1) / 2;
    for (int64_t i = 0; i < count - half; ++i) values[i] += values[half + i];
    count = half;
  }
  return values[0];
}

// Cut into blocks of centers, of type T.
template <class T>
class FinishPass final : public Pass {
 public:
  explicit FinishPass(Finish& finish) : f_(finish), terms_(f_.k), squares_(f_.k) {
    Doubles largest{};
    Longs missing{};
    for (int64_t j = 0; j < f_.k; ++j) {
      for (int64_t t = 0; t < f_.d && f_.mass[0][j] > 0; t += L) {
        const Doubles center = center_at(j * f_.d + t, f_.d - t);
        keep_largest(largest, center);
        missing |= center != center;
      }
    }
    f_.largest = any(missing) ? NAN : largest_of(largest);
    if (std::isfinite(f_.largest)) std::frexp(f_.largest, &unit_);
    unit_ = unit_ < f_.widest ? f_.widest : unit_;
  }

  int64_t block_rows() const override { return most(1, (1 << 13) / f_.d); }

  void work(int, int64_t first, int64_t last) override {
    const int64_t d = f_.d, all = f_.k * d;
    const double center_unit = std::ldexp(1.0, -unit_);
    Terms terms(d);
    Buffer<double> squares(d);
    for (int64_t j = first; j < last; ++j) {
      const double mass = std::ldexp(f_.mass[0][j], f_.mass_exponent);
      const Pair scaled{Doubles{} + std::ldexp(f_.mass[0][j], f_.mass_exponent + unit_ - f_.heaviest),
                        Doubles{} + std::ldexp(f_.mass[1][j], f_.mass_exponent + unit_ - f_.heaviest)};
      for (int64_t t = 0; t < d; t += L) {
        const int64_t at = j * d + t, some = d - t;
        const int64_t* limbs = f_.sums + at;
        const Pair sum = sum_of_limbs(load_some<Longs>(limbs, some), load_some<Longs>(limbs + all, some),
                                      load_some<Longs>(limbs + 2 * all, some));
        const Doubles center = center_at(at, some), unit = load_some<Doubles>(f_.to_unit + t, some);
        const Doubles total = sum.high * load_some<Doubles>(f_.to_values + t, some);
        const Some mean = __builtin_convertvector(mass > 0 ? total / mass : Doubles{} + NAN, Some);
        store_some<T>(static_cast<T*>(f_.following) + at, mean, some);
        const Doubles move = __builtin_convertvector(mean, Doubles) - center;
        store_some<double>(squares + t, move * move, some);
        const Doubles c = mass > 0 ? center * center_unit : Doubles{};
        const Pair rest = add(times(scaled, c), Pair{-2 * (sum.high * unit), -2 * (sum.low * unit)});
        terms.set(t, times(rest, c), some);
      }
      terms_.set(j, terms.sum(d), 1);
      squares_[j] = halved(squares, d);
    }
  }

  void finish(Totals&) override {
    const Pair sum = terms_.sum(f_.k);
    f_.part[0] = sum.high[0], f_.part[1] = sum.low[0];
    f_.shift = halved(squares_, f_.k);
  }

 private:
  typedef T Some __attribute__((vector_size(L * sizeof(T))));

  INLINE_MEMBER Doubles center_at(int64_t at, int64_t count) const {
    return __builtin_convertvector(load_some<Some>(static_cast<const T*>(f_.centers) + at, count), Doubles);
  }

  Finish& f_;
  int unit_ = 0;  // 2^unit is above all of x and all centers with mass
  Terms terms_;   // of each center
  Buffer<double> squares_;
};

}  // namespace stepfit::STEPFIT_LEVEL
