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

// Integers under 2^51, which a float64 of 2^52 and more holds in its lowest bits.
INLINE Doubles from_integers(Longs v) { return bits<Doubles>(v + bits<int64_t>(0x1.8p52)) - 0x1.8p52; }

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

template <class T>
static void finish(Finish& f, T* following) {
  const int64_t k = f.k, d = f.d;
  f.largest = 0;
  for (int64_t j = 0; j < k; ++j) {
    for (int64_t t = 0; t < d && f.mass[0][j] > 0; ++t) {
      const double size = std::fabs(f.centers[j * d + t]);
      if (!(size <= f.largest)) f.largest = size;
      if (std::isnan(size)) break;
    }
    if (std::isnan(f.largest)) break;
  }
  int unit = 0;
  if (std::isfinite(f.largest)) std::frexp(f.largest, &unit);
  if (unit < f.widest) unit = f.widest;
  const double center_unit = std::ldexp(1.0, -unit);
  Terms terms(k * d);
  Buffer<double> moves(k * d);
  for (int64_t j = 0; j < k; ++j) {
    const double mass = std::ldexp(f.mass[0][j], f.mass_exponent);
    Pair scaled;
    scaled.high = Doubles{} + std::ldexp(f.mass[0][j], f.mass_exponent + unit - f.heaviest);
    scaled.low = Doubles{} + std::ldexp(f.mass[1][j], f.mass_exponent + unit - f.heaviest);
    for (int64_t t = 0; t < d; t += L) {
      const int64_t at = j * d + t, some = d - t;
      const int64_t* limbs = f.sums + at;
      const Pair sum = sum_of_limbs(load_some<Longs>(limbs, some), load_some<Longs>(limbs + k * d, some),
                                    load_some<Longs>(limbs + 2 * k * d, some));
      const Doubles center = load_some<Doubles>(f.centers + at, some), unit_of_sum = load_some<Doubles>(f.to_unit + t, some);
      const Doubles mean = mass > 0 ? sum.high * load_some<Doubles>(f.to_values + t, some) / mass : Doubles{} + NAN;
      const Doubles c = mass > 0 ? center * center_unit : Doubles{};
      const Pair rest = add(times(scaled, c), Pair{-2 * (sum.high * unit_of_sum), -2 * (sum.low * unit_of_sum)});
      terms.set(at, times(rest, c), some);
      store_some(following + at, mean, some);
      for (int64_t i = 0; i < least(some, L); ++i) moves[at + i] = double(following[at + i]) - center[i];
    }
  }
  terms.add_up(f.part);
  f.shift = sum_of_squares(moves, k * d);
}

// Fill the next centers and what else a step tells of them.
void finish(Finish& f) {
  if (f.type == Type::f32) {
    finish(f, static_cast<float*>(f.following));
  } else {
    finish(f, static_cast<double*>(f.following));
  }
}

}  // namespace stepfit::STEPFIT_LEVEL
