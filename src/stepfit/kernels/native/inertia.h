// Means and inertia in double-double, by the same operations in the same order as fixed.py.
#pragma once

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

INLINE Pair load_pair(const double* high, const double* low) { return {load<Doubles>(high), load<Doubles>(low)}; }

// Limbs (3, count) as sums of a high and a low part.
void exact_sums(const int64_t* limbs, int64_t count, double* high, double* low) {
  for (int64_t i = 0; i < count; i += L) {
    double limbs_of[4][L];
    for (int lane = 0; lane < L; ++lane) {
      const int64_t at = least(i + lane, count - 1), highest = limbs[2 * count + at], over = highest >> width;
      limbs_of[0][lane] = double(limbs[at]), limbs_of[1][lane] = double(limbs[count + at]);
      limbs_of[2][lane] = double(highest - (over << width)), limbs_of[3][lane] = double(over);
    }
    Pair sum{load<Doubles>(limbs_of[3]) * 0x1p81, Doubles{}};
    for (int s = 2; s >= 0; --s) {
      const Pair next = two_sum(sum.high, load<Doubles>(limbs_of[s]) * double(int64_t(1) << (s * width)));
      sum = {next.high, sum.low + next.low};
    }
    sum = two_sum(sum.high, sum.low);
    for (int lane = 0; lane < L && i + lane < count; ++lane) {
      high[i + lane] = sum.high[lane], low[i + lane] = sum.low[lane];
    }
  }
}

// What the centers take from the sum of squares: the sum of c (m c - 2 S). Give its high and its low part; `high` and `low` (k, d) hold S and are used up. m and c: (2, k) and (k, d).
void from_centers(const double* c, double* high, double* low, const double* m, int64_t k, int64_t d,
                  double* to) {
  const auto term = [](Pair sum, Pair mass, Doubles center) {
    return times(add(times(mass, center), Pair{-2 * sum.high, -2 * sum.low}), center);
  };
  for (int64_t j = 0; j < k; ++j) {
    const Pair mass{Doubles{} + m[j], Doubles{} + m[k + j]};
    for (int64_t t = 0; t < d; t += L) {
      if (t + L <= d) {
        const int64_t at = j * d + t;
        const Pair sum = term(load_pair(high + at, low + at), mass, load<Doubles>(c + at));
        store(high + at, sum.high), store(low + at, sum.low);
        continue;
      }
      double some[3][L] = {};
      const int64_t at = j * d + t, count = least(L, d - t);
      for (int64_t i = 0; i < count; ++i) some[0][i] = high[at + i], some[1][i] = low[at + i], some[2][i] = c[at + i];
      const Pair sum = term(load_pair(some[0], some[1]), mass, load<Doubles>(some[2]));
      for (int64_t i = 0; i < count; ++i) high[at + i] = sum.high[i], low[at + i] = sum.low[i];
    }
  }
  int64_t count = k * d;
  while (count > 1) {
    const int64_t half = count / 2;
    for (int64_t i = 0; i < half; i += L) {
      if (i + L <= half) {
        const Pair sum = add(load_pair(high + i, low + i), load_pair(high + half + i, low + half + i));
        store(high + i, sum.high), store(low + i, sum.low);
        continue;
      }
      for (int64_t r = i; r < half; ++r) {
        const Pair sum = add(Pair{Doubles{} + high[r], Doubles{} + low[r]},
                             Pair{Doubles{} + high[half + r], Doubles{} + low[half + r]});
        high[r] = sum.high[0], low[r] = sum.low[0];
      }
    }
    if (count % 2) high[half] = high[count - 1], low[half] = low[count - 1];
    count = half + count % 2;
  }
  to[0] = high[0], to[1] = low[0];
}

}  // namespace stepfit::STEPFIT_LEVEL
