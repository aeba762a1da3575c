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

// What the centers take from the sum of squares: the sum of c (m c - 2 S), of which every center has its own part.
class Terms {
 public:
  explicit Terms(int64_t count) : count_(count), high_(count), low_(count) {}

  INLINE_MEMBER void set(int64_t at, Pair term, int64_t count) {
    store_some(high_ + at, term.high, count), store_some(low_ + at, term.low, count);
  }

  // Add up by halves: an order that does not depend on the length of a vector.
  void add_up(double (&part)[2]) {
    while (count_ > 1) {
      const int64_t half = count_ / 2;
      for (int64_t i = 0; i < half; i += L) {
        const int64_t some = half - i;
        set(i, add(at(i, some), at(half + i, some)), some);
      }
      if (count_ % 2) high_[half] = high_[count_ - 1], low_[half] = low_[count_ - 1];
      count_ = half + count_ % 2;
    }
    part[0] = high_[0], part[1] = low_[0];
  }

 private:
  Pair at(int64_t i, int64_t some) const { return {load_some<Doubles>(high_ + i, some), load_some<Doubles>(low_ + i, some)}; }

  int64_t count_;
  Buffer<double> high_, low_;
};

// fixed.sum_of_squares: by halves, then one after the other.
static double sum_of_squares(double* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] *= values[i];
  while (count > 1024) {
    const int64_t half = (count + 1) / 2;
    for (int64_t i = 0; i < count - half; ++i) values[i] += values[half + i];
    count = half;
  }
  double sum = values[0];
  for (int64_t i = 1; i < count; ++i) sum += values[i];
  return sum;
}

// Cut into blocks of centers.
class FinishPass final : public Pass {
 public:
  explicit FinishPass(Finish& finish) : f_(finish), terms_(f_.k * f_.d), moves_(f_.k * f_.d) {
    Doubles largest{};
    Longs missing{};
    for (int64_t j = 0; j < f_.k; ++j) {
      for (int64_t t = 0; t < f_.d && f_.mass[0][j] > 0; t += L) {
        const Doubles center = load_some<Doubles>(f_.centers + j * f_.d + t, f_.d - t);
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
    if (f_.type == Type::f32) {
      work(first, last, static_cast<float*>(f_.following));
    } else {
      work(first, last, static_cast<double*>(f_.following));
    }
  }

  void finish(Totals&) override {
    terms_.add_up(f_.part);
    f_.shift = sum_of_squares(moves_, f_.k * f_.d);
  }

 private:
  template <class T>
  void work(int64_t first, int64_t last, T* following) {
    const int64_t d = f_.d, all = f_.k * d;
    const double center_unit = std::ldexp(1.0, -unit_);
    for (int64_t j = first; j < last; ++j) {
      const double mass = std::ldexp(f_.mass[0][j], f_.mass_exponent);
      const Pair scaled{Doubles{} + std::ldexp(f_.mass[0][j], f_.mass_exponent + unit_ - f_.heaviest),
                        Doubles{} + std::ldexp(f_.mass[1][j], f_.mass_exponent + unit_ - f_.heaviest)};
      for (int64_t t = 0; t < d; t += L) {
        const int64_t at = j * d + t, some = d - t;
        const int64_t* limbs = f_.sums + at;
        const Pair sum = sum_of_limbs(load_some<Longs>(limbs, some), load_some<Longs>(limbs + all, some),
                                      load_some<Longs>(limbs + 2 * all, some));
        const Doubles center = load_some<Doubles>(f_.centers + at, some);
        const Doubles unit = load_some<Doubles>(f_.to_unit + t, some);
        const Doubles total = sum.high * load_some<Doubles>(f_.to_values + t, some);
        const Doubles mean = mass > 0 ? total / mass : Doubles{} + NAN;
        const Doubles c = mass > 0 ? center * center_unit : Doubles{};
        const Pair rest = add(times(scaled, c), Pair{-2 * (sum.high * unit), -2 * (sum.low * unit)});
        terms_.set(at, times(rest, c), some);
        store_some(following + at, mean, some);
        store_some<double>(moves_ + at, rounded<T>(mean) - center, some);
      }
    }
  }

  template <class T>
  static INLINE_MEMBER Doubles rounded(Doubles v) {
    typedef T Some __attribute__((vector_size(L * sizeof(T))));
    return __builtin_convertvector(__builtin_convertvector(v, Some), Doubles);
  }

  Finish& f_;
  int unit_ = 0;  // 2^unit is above all of x and all centers with mass
  Terms terms_;
  Buffer<double> moves_;
};

}  // namespace stepfit::STEPFIT_LEVEL
