// Means and inertia in double-double, by the same operations in the same order as fixed.py.
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
INLINE Pair sum_of_limbs(const int64_t* limbs, int64_t apart, int64_t count) {
  double parts[4][L] = {};
  for (int64_t lane = 0; lane < count; ++lane) {
    const int64_t highest = limbs[2 * apart + lane], over = highest >> width;
    parts[0][lane] = double(limbs[lane]), parts[1][lane] = double(limbs[apart + lane]);
    parts[2][lane] = double(highest - (over << width)), parts[3][lane] = double(over);
  }
  Pair sum{load<Doubles>(parts[3]) * 0x1p81, Doubles{}};
  for (int s = 2; s >= 0; --s) {
    const Pair next = two_sum(sum.high, load<Doubles>(parts[s]) * double(int64_t(1) << (s * width)));
    sum = {next.high, sum.low + next.low};
  }
  return two_sum(sum.high, sum.low);
}

INLINE Doubles load_some(const double* from, int64_t count) {
  double some[L] = {};
  for (int64_t i = 0; i < count; ++i) some[i] = from[i];
  return load<Doubles>(some);
}

// Fill `means`, and give what the centers take from the sum of squares: the sum of c (m c - 2 S), in two parts.
void finish(const Finish& f, double (&part)[2]) {
  const int64_t k = f.k, d = f.d;
  Buffer<double> high(k * d), low(k * d);
  for (int64_t j = 0; j < k; ++j) {
    const Pair mass{Doubles{} + f.scaled_mass[j], Doubles{} + f.scaled_mass[k + j]};
    const auto some = [&](int64_t t, int64_t count) __attribute__((always_inline)) {
      const int64_t at = j * d + t;
      const Pair sum = sum_of_limbs(f.sums + at, k * d, count);
      const Doubles mean = sum.high * load_some(f.to_values + t, count) / f.mass[j];
      const Doubles c = f.mass[j] > 0 ? load_some(f.centers + at, count) * f.center_unit : Doubles{};
      const Doubles unit = load_some(f.to_unit + t, count);
      const Pair rest = add(times(mass, c), Pair{-2 * (sum.high * unit), -2 * (sum.low * unit)});
      const Pair term = times(rest, c);
      for (int64_t i = 0; i < count; ++i) {
        f.means[at + i] = f.mass[j] > 0 ? mean[i] : NAN;
        high[at + i] = term.high[i], low[at + i] = term.low[i];
      }
    };
    int64_t t = 0;
    for (; t + L <= d; t += L) some(t, L);
    if (t < d) some(t, d - t);
  }
  for (int64_t count = k * d; count > 1;) {  // by halves: an order that does not depend on the length of a vector
    const int64_t half = count / 2;
    int64_t i = 0;
    for (; i + L <= half; i += L) {
      const Pair sum = add({load<Doubles>(high + i), load<Doubles>(low + i)},
                           {load<Doubles>(high + half + i), load<Doubles>(low + half + i)});
      store(high + i, sum.high), store(low + i, sum.low);
    }
    if (i < half) {
      const Pair sum = add({load_some(high + i, half - i), load_some(low + i, half - i)},
                           {load_some(high + half + i, half - i), load_some(low + half + i, half - i)});
      for (int64_t r = 0; i + r < half; ++r) high[i + r] = sum.high[r], low[i + r] = sum.low[r];
    }
    if (count % 2) high[half] = high[count - 1], low[half] = low[count - 1];
    count = half + count % 2;
  }
  part[0] = high[0], part[1] = low[0];
}

}  // namespace stepfit::STEPFIT_LEVEL
