// Next centers and inertia in double-double: the same numbers, added up in the same order, as in fixed.py.
#pragma once

#include <cmath>

#include "sums.h"

namespace stepfit::STEPFIT_LEVEL {

INLINE Pair two_sum(Doubles a, Doubles b) {
  const Doubles s = a + b, t = s - a;
  return {s, (a - (s - t)) + (b - t)};
}

// The same where |a| >= |b|, or a is 0.
INLINE Pair fast_two_sum(Doubles a, Doubles b) {
  const Doubles s = a + b;
  return {s, b - (s - a)};
}

INLINE Pair add(Pair a, Pair b) {
  const Pair high = two_sum(a.high, b.high), low = two_sum(a.low, b.low);
  const Pair once = two_sum(high.high, high.low + low.high);
  return two_sum(once.high, once.low + low.low);
}

INLINE Pair times(Pair a, Doubles b) {
  const Pair product = two_product(a.high, b);
  return fast_two_sum(product.high, product.low + a.low * b);
}

// The sum of three limbs, as a high and a low part.
INLINE Pair sum_of_limbs(Longs low, Longs middle, Longs high) {
  const Longs over = high >> width;
  Pair sum{from_integers(over) * 0x1p81, Doubles{}};
  const Doubles parts[3] = {from_integers(low), from_integers(middle), from_integers(high - (over << width))};
  for (int s = 2; s >= 0; --s) {
    const Pair next = fast_two_sum(sum.high, parts[s] * double(int64_t(1) << (s * width)));
    sum = {next.high, sum.low + next.low};
  }
  return fast_two_sum(sum.high, sum.low);
}

// Some rows of values, which are added up by halves: an order that does not depend on the length of a vector. All rows
// take a step before one takes the next, so that none waits for itself.
class Halves {
 public:
  Halves(int64_t rows, int64_t count) : stride_(rounded_up(count, L) + L), values_(rows * stride_) {
    fill<double>(values_, rows * stride_, 0);
  }

  INLINE_MEMBER double* row(int64_t r) { return values_ + r * stride_; }

  // fixed.sum_of_squares: the first of each row becomes the sum of the first `count`.
  void add_up(int64_t rows, int64_t count) {
    while (count > 1) {
      const int64_t half = (count + 1) / 2;
      for (int64_t r = 0; r < rows; ++r) {
        double* values = row(r);
        for (int64_t i = 0; i < count - half; i += L) {
          const Doubles sum = load<Doubles>(values + i) + load<Doubles>(values + half + i);
          store_some<double>(values + i, sum, count - half - i);
        }
      }
      count = half;
    }
  }

 private:
  int64_t stride_;
  Buffer<double> values_;
};

// The same of values in two parts.
struct Terms {
  Halves high, low;

  Terms(int64_t rows, int64_t count) : high(rows, count), low(rows, count) {}

  void add_up(int64_t rows, int64_t count) {
    while (count > 1) {
      const int64_t half = count / 2;
      for (int64_t r = 0; r < rows; ++r) {
        double *h = high.row(r), *l = low.row(r);
        const double odd[2] = {h[count - 1], l[count - 1]};
        for (int64_t i = 0; i < half; i += L) {  // what is stored behind `half` has been read
          const Pair sum = add({load<Doubles>(h + i), load<Doubles>(l + i)},
                               {load<Doubles>(h + half + i), load<Doubles>(l + half + i)});
          store(h + i, sum.high), store(l + i, sum.low);
        }
        if (count % 2) h[half] = odd[0], l[half] = odd[1];
      }
      count = half + count % 2;
    }
  }
};

// Cut into blocks of centers, of type T.
template <class T>
class FinishPass final : public Pass {
 public:
  explicit FinishPass(Finish& finish) : f_(finish), terms_(1, f_.k), squares_(1, f_.k) {
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

  int64_t block_rows() const override { return max(1, (1 << 13) / f_.d); }

  void work(int, int64_t first, int64_t last) override {
    constexpr int64_t together = 8;
    const int64_t d = f_.d;
    Terms terms(together, d);
    Halves squares(together, d);
    for (; first < last; first += together) {
      const int64_t rows = min(together, last - first);
      for (int64_t r = 0; r < rows; ++r) finish_center(first + r, terms.high.row(r), terms.low.row(r), squares.row(r));
      terms.add_up(rows, d);
      squares.add_up(rows, d);
      for (int64_t r = 0; r < rows; ++r) {
        terms_.high.row(0)[first + r] = terms.high.row(r)[0];
        terms_.low.row(0)[first + r] = terms.low.row(r)[0];
        squares_.row(0)[first + r] = squares.row(r)[0];
      }
    }
  }

  void finish(Totals&) override {
    terms_.add_up(1, f_.k);
    squares_.add_up(1, f_.k);
    f_.part[0] = terms_.high.row(0)[0], f_.part[1] = terms_.low.row(0)[0];
    f_.shift = squares_.row(0)[0];
  }

 private:
  typedef T Some __attribute__((vector_size(L * sizeof(T))));

  INLINE_MEMBER Doubles center_at(int64_t at, int64_t count) const {
    return __builtin_convertvector(load_some<Some>(static_cast<const T*>(f_.centers) + at, count), Doubles);
  }

  // The next center; per feature its term of the inertia, in two parts, and the square of its move.
  void finish_center(int64_t j, double* high, double* low, double* squares) {
    const int64_t d = f_.d, all = f_.k * d;
    const double center_unit = std::ldexp(1.0, -unit_);
    const double mass = std::ldexp(f_.mass[0][j], f_.mass_exponent);
    const Pair scaled{Doubles{} + std::ldexp(f_.mass[0][j], f_.mass_exponent + unit_ - f_.heaviest),
                      Doubles{} + std::ldexp(f_.mass[1][j], f_.mass_exponent + unit_ - f_.heaviest)};
    for (int64_t t = 0; t < d; t += L) {
      const int64_t at = j * d + t, some = d - t;
      const int64_t* lowest = f_.sums + at;
      const Pair sum = sum_of_limbs(load_some<Longs>(lowest, some), load_some<Longs>(lowest + all, some),
                                    load_some<Longs>(lowest + 2 * all, some));
      const Doubles center = center_at(at, some), unit = load_some<Doubles>(f_.to_unit + t, some);
      const Doubles total = sum.high * load_some<Doubles>(f_.to_values + t, some);
      const Some mean = __builtin_convertvector(mass > 0 ? total / mass : Doubles{} + NAN, Some);
      store_some<T>(static_cast<T*>(f_.following) + at, mean, some);
      const Doubles move = __builtin_convertvector(mean, Doubles) - center;
      store(squares + t, move * move);
      const Doubles c = mass > 0 ? center * center_unit : Doubles{};
      const Pair rest = add(times(scaled, c), Pair{-2 * (sum.high * unit), -2 * (sum.low * unit)});
      const Pair term = times(rest, c);
      store(high + t, term.high), store(low + t, term.low);
    }
  }

  Finish& f_;
  int unit_ = 0;  // 2^unit is above all of x and all centers with mass
  Terms terms_;   // of each center
  Halves squares_;
};

}  // namespace stepfit::STEPFIT_LEVEL
