// Fixed-point sums of one thread: what fixed.py defines, in integers of 40 bits a limb, and the way into the totals.
//
// Adding 1.5 2^(52+b) to a float64 rounds it, half to even, to a multiple of 2^b, which then stands in the low bits as
// an integer; taking the number away again leaves the rounded value, and what is left of the first is exact.
#pragma once

#include "rows.h"

namespace stepfit::STEPFIT_LEVEL {

constexpr int limb = 40;
constexpr int width = 27, square_width = 32;  // of the limbs of the totals: fixed.WIDTH, fixed.SQUARE_WIDTH

// The integer multiple of 2^b nearest to each value, as that multiple; `value` keeps the rest.
template <int b>
INLINE Longs take(Doubles& value) {
  constexpr double large = 0x1.8p52 * double(int64_t(1) << (b / 2)) * double(int64_t(1) << (b - b / 2));
  const Doubles sum = value + large;
  value -= sum - large;
  return bits<Longs>(sum) - bits<Longs>(Doubles{} + large);
}

INLINE int64_t total(Longs v) {
  int64_t sum = 0;
  for (int i = 0; i < L; ++i) sum += v[i];
  return sum;
}

struct Pair {
  Doubles high, low;
};

INLINE Pair halves(Doubles a) {
  const Doubles t = a * 134217729.0;  // 2^27 + 1: Veltkamp's splitter
  const Doubles high = t - (t - a);
  return {high, a - high};
}

INLINE Pair two_product(Doubles a, Doubles b) {
  const Doubles p = a * b;
  const Pair x = halves(a), y = halves(b);
  return {p, ((x.high * y.high - p) + x.high * y.low + x.low * y.high) + x.low * y.low};
}

// The integers of one row; limbs of 2^0, 2^32 and 2^64 for the squares.
struct RowSquare {
  Longs limbs[3]{};
  INLINE void add(RowSquare& to, Doubles value) {
    to.limbs[2] += take<64>(value);
    to.limbs[1] += take<32>(value);
    to.limbs[0] += take<0>(value);
  }
};

class Sums {
 public:
  explicit Sums(const Job& job)
      : x_(job.x), scale_(job.scale), k_(job.totals.sums ? job.k : 0), d_(job.x.d), stride_(rounded_up(d_, L)),
        values_(stride_), integers_(2 * stride_), before_(stride_), after_(stride_),
        counts_(k_), squares_(3 * k_), masses_(2 * k_), sums_(2 * k_ * stride_), touched_(k_) {
    for (int64_t t = 0; t < stride_; ++t) {
      values_[t] = 0;
      before_[t] = k_ && t < d_ ? scale_.before[t] : 0;
      after_[t] = k_ && t < d_ && x_.weight ? scale_.after[t] : 0;
    }
    fill<bool>(touched_, k_, false);
  }

  // Let a row join the center `to`, and leave the center `from`; -1 is none.
  template <class T>
  void move(int64_t row, int32_t to, int32_t from) {
    read_row<T>(x_, row, values_);
    RowSquare square;
    if (x_.weight) {
      weighted(x_.weight[row], square);
    } else {
      plain<is_wide<T>>(square);
    }
    int64_t limbs[3] = {total(square.limbs[0]), total(square.limbs[1]), total(square.limbs[2])};
    limbs[1] += limbs[0] >> square_width;
    limbs[2] += limbs[1] >> square_width;
    limbs[0] &= 0xffffffff, limbs[1] &= 0xffffffff;
    join<1>(to, limbs);
    if (from >= 0) join<-1>(from, limbs);
    ++moved_;
  }

  // The same for the rows listed; `before` is null when all join for the first time.
  template <class T>
  void move(const int64_t* rows, int64_t count, const int32_t* labels, const int32_t* before) {
    int64_t i = 0;
    if (!x_.weight) {
      switch (d_) {
        case 1: i = move_narrow<T, 1>(rows, count, labels, before); break;
        case 2: i = move_narrow<T, 2>(rows, count, labels, before); break;
        case 3: i = move_narrow<T, 3>(rows, count, labels, before); break;
        case 4: i = move_narrow<T, 4>(rows, count, labels, before); break;
      }
    }
    for (; i < count; ++i) move<T>(rows[i], labels[rows[i]], before ? before[rows[i]] : -1);
  }

  // Whether the integers of 40 bits may soon be too many for 63.
  bool full() const { return moved_ >= 1 << 22; }

  // Add what was gathered to the totals, and begin again.
  void finish(Totals& totals) {
    for (int64_t j = 0; j < k_; ++j) {
      if (!touched_[j]) continue;
      touched_[j] = false;
      totals.counts[j] += counts_[j];
      const int64_t* sums = sums_ + 2 * j * stride_;
      for (int64_t t = 0; t < d_; ++t) add_to(totals.sums + j * d_ + t, k_ * d_, sums[t], sums[stride_ + t]);
      int64_t* squares = totals.squares + j;
      squares[0] += squares_[3 * j], squares[k_] += squares_[3 * j + 1], squares[2 * k_] += squares_[3 * j + 2];
      carry(squares, k_, square_width);
      if (x_.weight) add_to(totals.masses + j, k_, masses_[2 * j], masses_[2 * j + 1]);
    }
    moved_ = 0;
  }

 private:
  template <bool wide>
  void plain(RowSquare& square) {
    for (int64_t t = 0; t < stride_; t += L) {
      const Doubles x = load<Doubles>(values_ + t);
      Doubles value = x * load<Doubles>(before_ + t);
      store(integers_ + t, take<limb>(value));
      store(integers_ + stride_ + t, take<0>(value));
      add_square<wide>(square, x);
    }
  }

  template <bool wide>
  void add_square(RowSquare& square, Doubles x) const {
    const Doubles near_one = x * scale_.near_one;
    if constexpr (wide) {
      const Pair parts = two_product(near_one, near_one);
      RowSquare::add(square, parts.high * scale_.square);
      RowSquare::add(square, parts.low * scale_.square);
    } else {
      RowSquare::add(square, near_one * near_one * scale_.square);  // 24 bits, squared: exact
    }
  }

  // With few features lanes are rows: L at a time, as many as fill them. Returns how many were moved.
  template <class T, int D>
  int64_t move_narrow(const int64_t* rows, int64_t count, const int32_t* labels, const int32_t* before) {
    int64_t i = 0;
    for (; i + L <= count; i += L) {
      int64_t integers[2 * D + 3][L];
      RowSquare square;
      for (int t = 0; t < D; ++t) {
        Doubles x;
        for (int lane = 0; lane < L; ++lane) {
          x[lane] = double(value_of(load<T>(x_.data + rows[i + lane] * x_.row + t * x_.column)));
        }
        Doubles value = x * before_[t];
        store(integers[t], take<limb>(value));
        store(integers[D + t], take<0>(value));
        add_square<is_wide<T>>(square, x);
      }
      for (int s = 0; s < 3; ++s) store(integers[2 * D + s], square.limbs[s]);
      for (int lane = 0; lane < L; ++lane) {
        join_narrow<1, D>(labels[rows[i + lane]], integers, lane);
        if (before) join_narrow<-1, D>(before[rows[i + lane]], integers, lane);
      }
    }
    moved_ += i;
    return i;
  }

  template <int sign, int D>
  void join_narrow(int32_t j, const int64_t (&integers)[2 * D + 3][L], int lane) {
    touch(j);
    counts_[j] += sign;
    int64_t* sums = sums_ + 2 * j * stride_;
    for (int t = 0; t < D; ++t) {
      sums[t] += sign * integers[t][lane];
      sums[stride_ + t] += sign * integers[D + t][lane];
    }
    for (int s = 0; s < 3; ++s) squares_[3 * j + s] += sign * integers[2 * D + s][lane];
  }

  void touch(int32_t j) {
    if (touched_[j]) return;
    touched_[j] = true;
    counts_[j] = 0;
    fill<int64_t>(sums_ + 2 * j * stride_, 2 * stride_, 0);
    fill<int64_t>(squares_ + 3 * j, 3, 0);
    fill<int64_t>(masses_ + 2 * j, 2, 0);
  }

  void weighted(double weight, RowSquare& square) {
    const Doubles w = Doubles{} + weight * scale_.weight;
    for (int64_t t = 0; t < stride_; t += L) {
      const Doubles x = load<Doubles>(values_ + t), up = load<Doubles>(after_ + t);
      Pair parts = two_product(x * load<Doubles>(before_ + t), w);
      parts.high *= up, parts.low *= up;
      Longs high = take<limb>(parts.high);
      high += take<limb>(parts.low);
      store(integers_ + t, high);
      store(integers_ + stride_ + t, take<0>(parts.high) + take<0>(parts.low));
      const Doubles near_one = x * scale_.near_one;
      const Pair product = two_product(near_one, w), again = two_product(product.high, near_one);
      RowSquare::add(square, again.high * scale_.square);
      RowSquare::add(square, again.low * scale_.square);
      RowSquare::add(square, product.low * near_one * scale_.square);
    }
    Doubles mass = w * 0x1p80;
    mass_[0] = take<limb>(mass)[0];
    mass_[1] = take<0>(mass)[0];
  }

  template <int sign>
  void join(int32_t j, const int64_t (&square)[3]) {
    int64_t* sums = sums_ + 2 * j * stride_;
    touch(j);
    counts_[j] += sign;
    for (int64_t t = 0; t < 2 * stride_; t += L) {
      store(sums + t, load<Longs>(sums + t) + sign * load<Longs>(integers_ + t));
    }
    for (int i = 0; i < 3; ++i) squares_[3 * j + i] += sign * square[i];
    if (x_.weight) masses_[2 * j] += sign * mass_[0], masses_[2 * j + 1] += sign * mass_[1];
  }

  // Add high 2^40 + low to three limbs of 27 bits, `apart` from each other.
  static void add_to(int64_t* limbs, int64_t apart, int64_t high, int64_t low) {
    constexpr int64_t rest = (int64_t(1) << (2 * width - limb)) - 1;
    low += (high & rest) << limb;
    limbs[0] += low & ((1 << width) - 1);
    limbs[apart] += low >> width;
    limbs[2 * apart] += high >> (2 * width - limb);
    carry(limbs, apart, width);
  }

  static void carry(int64_t* limbs, int64_t apart, int bits) {
    for (int i = 0; i < 2; ++i, limbs += apart) {
      const int64_t over = limbs[0] >> bits;
      limbs[0] -= over << bits;
      limbs[apart] += over;
    }
  }

  Points x_;
  Scale scale_;
  int64_t k_, d_, stride_;
  int64_t moved_ = 0;
  int64_t mass_[2];
  Buffer<double> values_;      // of the row
  Buffer<int64_t> integers_;   // of the row: limbs of 2^40, then of 1
  Buffer<double> before_, after_;
  Buffer<int64_t> counts_, squares_, masses_, sums_;
  Buffer<bool> touched_;
};

}  // namespace stepfit::STEPFIT_LEVEL
