// Fixed-point sums of one thread: what fixed.py defines, gathered in float64 without an error.
//
// Adding 1.5 2^(52+b) to a float64 and taking it away again rounds it, half to even, to a multiple of 2^b; what is left
// of the first is exact. So each value is cut into a multiple of 2^40 and the integer nearest to the rest. Some
// thousands of such parts add up in float64 exactly, in any order; then they go into the totals as integers. Most rows
// have no rest, and cost one addition a value.
#pragma once

#include "rows.h"

namespace stepfit::STEPFIT_LEVEL {

constexpr int limb = 40;
constexpr int32_t most_parts = 1 << 10;             // of 2^40 that add up to less than 2^51
constexpr int32_t most_squares = 1 << 13;          // the same for SomeSquares, which are under 2^101

// The multiple of 2^b nearest to each value.
template <int b>
INLINE Doubles nearest(Doubles value) {
  constexpr double large = 0x1.8p52 * double(int64_t(1) << (b / 2)) * double(int64_t(1) << (b - b / 2));
  return (value + large) - large;
}

// The same; `value` keeps the rest.
template <int b>
INLINE Doubles take(Doubles& value) {
  const Doubles part = nearest<b>(value);
  value -= part;
  return part;
}

struct Pair {
  Doubles high, low;
};

// a * b without an error, if no part is under 2^-1022.
#if defined(__AVX512F__)
INLINE Pair two_product(Doubles a, Doubles b) {
  const Doubles p = a * b;
  return {p, (Doubles)_mm512_fmsub_pd((__m512d)a, (__m512d)b, (__m512d)p)};
}
#elif defined(__FMA__)
INLINE Pair two_product(Doubles a, Doubles b) {
  const Doubles p = a * b;
  return {p, (Doubles)_mm256_fmsub_pd((__m256d)a, (__m256d)b, (__m256d)p)};
}
#else
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
#endif

// Some squares, under 2^96 each, as multiples of 2^48 and integers; and those of small integers, which float64 adds up as
// they are. Made where it is added to, so that it stays in registers.
struct SomeSquares {
  static constexpr int most = 32;  // that a lane adds up without an error
  Doubles high{}, low{}, integers{};

  INLINE_MEMBER void add(Doubles value) {
    high += take<48>(value);
    low += nearest<0>(value);
  }
};

// The sum of the squares of all rows that a thread saw, in limbs of 2^0, 2^32 and 2^64.
class Squares {
 public:
  // `unit`: what the square of the integer 1 stands for.
  explicit Squares(double unit) : unit_(unit) {}

  // `times` as many as SomeSquares::most of a lane.
  INLINE_MEMBER void add(SomeSquares more, int32_t times = 1) {
    if ((added_ += times) > most_squares) flush();
    high_ += take<64>(more.high);
    middle_ += more.high + take<32>(more.low);
    low_ += more.low;
    integers_ += more.integers;
  }

  void finish(int64_t* to) {
    flush();
    for (int i = 0; i < 4; ++i) to[i] += whole_[i], whole_[i] = 0;
    carry(to, 4, 1, square_width);
  }

  // Bring all of `count` limbs but the highest into 0 .. 2^bits - 1.
  static void carry(int64_t* limbs, int count, int64_t apart, int bits) {
    for (int i = 0; i + 1 < count; ++i, limbs += apart) {
      const int64_t over = limbs[0] >> bits;
      limbs[0] -= over << bits;
      limbs[apart] += over;
    }
  }

 private:
  void flush() {
    Doubles integers = integers_ * unit_;
    high_ += take<64>(integers);
    middle_ += take<32>(integers);
    low_ += nearest<0>(integers);
    for (int lane = 0; lane < L; ++lane) {
      whole_[0] += int64_t(low_[lane]);
      whole_[1] += int64_t(middle_[lane] * 0x1p-32);
      whole_[2] += int64_t(high_[lane] * 0x1p-64);
    }
    high_ = middle_ = low_ = integers_ = Doubles{};
    added_ = 0;
    carry(whole_, 4, 1, square_width);
  }

  double unit_;
  Doubles high_{}, middle_{}, low_{}, integers_{};
  int64_t whole_[4]{};
  int32_t added_ = 0;
};

class Sums {
 public:
  // Two threads never add to the totals at once: `adding` says that one does.
  Sums(const Job& job, bool& adding)
      : x_(job.x), scale_(job.scale), totals_(job.totals), adding_(adding), k_(job.totals.sums ? job.k : 0),
        d_(job.x.d), stride_(rounded_up(d_, L)), readable_(readable(job.x)),
        in_integers_(job.x.type == Type::u8 && !job.x.weight && d_ > L), squares_(integer_unit(scale_)),
        row_(stride_ * 8), before_(stride_), after_(stride_), counts_(k_), parts_(k_), masses_(2 * k_),
        sums_(2 * k_ * stride_) {
    for (int64_t t = 0; t < stride_; ++t) {
      before_[t] = k_ && t < d_ ? scale_.before[t] : 0;
      after_[t] = k_ && t < d_ && x_.weight ? scale_.after[t] : 0;
    }
    fill<char>(row_, stride_ * 8, 0);
    fill<int32_t>(parts_, k_, -1);
  }

  // What the square of 1 stands for. Of integers none is under 1, so the largest is not either.
  static double integer_unit(const Scale& scale) {
    return scale.near_one <= 1 ? scale.near_one * scale.near_one * scale.square : 0;
  }

  // Let the rows listed join the centers of their labels, and leave those of `before`, null when all are new.
  template <class T>
  void move(const int64_t* rows, int64_t count, const int32_t* labels, const int32_t* before) {
    constexpr int64_t ahead = 4;
    int64_t i = 0;
    if (d_ <= L && x_.row == d_ * x_.column && !x_.weight) {
      i = before ? move_short<T, true>(rows, count, labels, before) : move_short<T, false>(rows, count, labels, before);
    }
    for (; i < count; ++i) {
      prefetch(x_, rows[min(i + ahead, count - 1)], int64_t(sizeof(T)));
      move<T>(rows[i], labels[rows[i]], before ? before[rows[i]] : -1);
    }
  }

  // Add what was gathered to the totals.
  void finish() {
    for (int64_t j = 0; j < k_; ++j) {
      if (parts_[j] >= 0) flush(j);
    }
    if (k_) squares_.finish(totals_.squares);
  }

 private:
  template <class T>
  void move(int64_t row, int32_t to, int32_t from) {
    const char* values = x_.data + row * x_.row;
    if (row >= readable_) values = dense<T>(values, x_, row_);
    double* joined = part_of(to);
    double* left = from < 0 ? nullptr : part_of(from);
    counts_[to] += 1;
    if (left) counts_[from] -= 1;
    if constexpr (std::is_same_v<T, uint8_t>) {
      if (in_integers_) {
        move_bytes(values, reinterpret_cast<int32_t*>(joined), reinterpret_cast<int32_t*>(left));
        if (!left) add_squares_of_bytes(values);
        return;
      }
    }
    if (x_.weight) {
      weighted<T>(values, x_.weight[row], to, from, joined, left);
    } else {
      const bool more = left ? high<T, true>(values, joined, left) : high<T, false>(values, joined, nullptr);
      if (more) low<T>(values, joined + stride_, left ? left + stride_ : nullptr);
    }
    if (!left) add_squares<T>(values, x_.weight ? x_.weight[row] : 1);
  }

  // The same for rows that fill one vector at most, so far as they may be loaded as they lie; returns how many were moved.
  template <class T, bool leaves>
  int64_t move_short(const int64_t* rows, int64_t count, const int32_t* labels, const int32_t* before) {
    const Doubles up = load<Doubles>(before_);
    int64_t moved = 0;
    for (; moved < count && rows[moved] < readable_; ++moved) {
      const int64_t row = rows[moved];
      const Doubles value = exact<T>(x_.data + row * x_.row) * up;
      const Doubles high = nearest<limb>(value);
      const bool more = any(high != value);
      const Doubles low = more ? nearest<0>(value - high) : Doubles{};
      join(labels[row], 1, high, low, more);
      if (leaves) join(before[row], -1, -high, -low, more);
    }
    if (leaves || !moved) return moved;
    // All rows enter, one behind the other: their squares need not know where one ends.
    const char* values = x_.data + rows[0] * x_.row;
    const int64_t last = moved * d_;
    for (int64_t t = 0; t < last;) {
      SomeSquares squares;
      for (int i = 0; i < SomeSquares::most / 2 && t + L <= last; ++i, t += L) {
        add_square<T>(exact<T>(values + t * int64_t(sizeof(T))), squares);
      }
      if (t < last && t + L > last) {
        char some[L * sizeof(T)] = {};
        memcpy(some, values + t * int64_t(sizeof(T)), size_t(last - t) * sizeof(T));
        add_square<T>(exact<T>(some), squares);
        t = last;
      }
      squares_.add(squares);
    }
    return moved;
  }

  INLINE_MEMBER void join(int32_t j, int sign, Doubles high, Doubles low, bool more) {
    double* part = part_of(j);
    counts_[j] += sign;
    store(part, load<Doubles>(part) + high);
    if (more) store(part + stride_, load<Doubles>(part + stride_) + low);
  }

  // Bytes add up in 32 bits: twice as many at once, and nothing to multiply.
  void move_bytes(const char* values, int32_t* joined, int32_t* left) {
    for (int64_t t = 0; t < d_; t += W) {
      const Ints value = widened(load<Lanes<uint8_t>>(values + t));
      store(joined + t, load<Ints>(joined + t) + value);
      if (left) store(left + t, load<Ints>(left + t) - value);
    }
  }

  void add_squares_of_bytes(const char* values) {
    constexpr int64_t part = SomeSquares::most * L, at_once = 64 * part;
    for (int64_t first = 0; first < d_; first += at_once) {
      const int64_t last = min(first + at_once, d_);
      Ints sum{};
      for (int64_t t = first; t < last; t += W) {
        Ints value = widened(load<Lanes<uint8_t>>(values + t));
        if (t + W > d_) value = bits<Ints>(first_of<int32_t>(bits<Floats>(value), d_ - t));  // the next row may follow
        sum = add_products(value, value, sum);
      }
      SomeSquares squares;
      squares.integers = half_of(sum, 0) + half_of(sum, 1);
      squares_.add(squares, int32_t((last - first + part - 1) / part));
    }
  }

  // L of the lanes.
  INLINE Doubles half_of(Ints sum, int half) {
    int32_t lanes[W];
    store(lanes, sum);
    return from_ints(lanes + half * L);
  }

  INLINE Doubles from_ints(const int32_t* from) {
    typedef int32_t Some __attribute__((vector_size(L * sizeof(int32_t))));
    return __builtin_convertvector(load<Some>(from), Doubles);
  }

  // The multiples of 2^40; returns whether a value has a rest.
  template <class T, bool leaves>
  bool high(const char* values, double* joined, double* left) {
    Longs rest{};
    const double* before = before_;  // what is stored below might otherwise change it
    for (int64_t t = 0, stride = stride_; t < stride; t += L) {
      const Doubles value = exact<T>(values + t * int64_t(sizeof(T))) * load<Doubles>(before + t);
      const Doubles part = is_small_integer<T> ? value : nearest<limb>(value);
      if (!is_small_integer<T>) rest |= part != value;
      store(joined + t, load<Doubles>(joined + t) + part);
      if (leaves) store(left + t, load<Doubles>(left + t) - part);
    }
    return any(rest);
  }

  template <class T>
  void low(const char* values, double* joined, double* left) {
    for (int64_t t = 0; t < stride_; t += L) {
      Doubles value = exact<T>(values + t * int64_t(sizeof(T))) * load<Doubles>(before_ + t);
      take<limb>(value);
      const Doubles part = nearest<0>(value);
      store(joined + t, load<Doubles>(joined + t) + part);
      if (left) store(left + t, load<Doubles>(left + t) - part);
    }
  }

  template <class T>
  void weighted(const char* values, double weight, int32_t to, int32_t from, double* joined, double* left) {
    const Doubles w = Doubles{} + weight * scale_.weight;
    for (int64_t t = 0; t < stride_; t += L) {
      const Doubles x = exact<T>(values + t * int64_t(sizeof(T))), up = load<Doubles>(after_ + t);
      Pair product = two_product(x * load<Doubles>(before_ + t), w);
      product.high *= up, product.low *= up;
      const Doubles high = take<limb>(product.high) + take<limb>(product.low);
      const Doubles low = take<0>(product.high) + take<0>(product.low);
      store(joined + t, load<Doubles>(joined + t) + high);
      store(joined + stride_ + t, load<Doubles>(joined + stride_ + t) + low);
      if (!left) continue;
      store(left + t, load<Doubles>(left + t) - high);
      store(left + stride_ + t, load<Doubles>(left + stride_ + t) - low);
    }
    Doubles mass = w * 0x1p80;
    const double high = take<limb>(mass)[0], low = take<0>(mass)[0];
    masses_[2 * to] += high, masses_[2 * to + 1] += low;
    if (left) masses_[2 * from] -= high, masses_[2 * from + 1] -= low;
  }

  template <class T>
  void add_squares(const char* values, double weight) {
    const int64_t at_once = SomeSquares::most / (x_.weight ? 3 : is_wide<T> ? 2 : 1) * L;  // parts of a value
    const Doubles w = Doubles{} + weight * scale_.weight;
    for (int64_t first = 0; first < d_; first += at_once) {
      SomeSquares squares;
      for (int64_t t = first; t < min(first + at_once, stride_); t += L) {
        Doubles x = exact<T>(values + t * int64_t(sizeof(T)));
        if (t + L > d_) x = load<Doubles>(before_ + t) != 0 ? x : 0;  // behind a row may stand the next
        if (x_.weight) {
          const Doubles near_one = x * scale_.near_one;
          const Pair product = two_product(near_one, w), again = two_product(product.high, near_one);
          squares.add(again.high * scale_.square);
          squares.add(again.low * scale_.square);
          squares.add(product.low * near_one * scale_.square);
        } else {
          add_square<T>(x, squares);
        }
      }
      squares_.add(squares);
    }
  }

  template <class T>
  INLINE_MEMBER void add_square(Doubles x, SomeSquares& squares) const {
    const Doubles near_one = x * scale_.near_one;
    if constexpr (is_small_integer<T>) {
      squares.integers += x * x;
    } else if constexpr (is_wide<T>) {
      const Pair parts = two_product(near_one, near_one);
      squares.add(parts.high * scale_.square);
      squares.add(parts.low * scale_.square);
    } else {
      squares.add(near_one * near_one * scale_.square);  // 24 bits, squared: exact
    }
  }

  // The rows whose vectors may be loaded as they lie, though they end in the next row.
  static int64_t readable(const Points& x) {
    const int64_t over = rounded_up(x.d, W) - x.d;
    if (x.column != size_of(x.type) || (over && x.row != x.d * x.column)) return 0;
    return x.n - (over + x.d - 1) / x.d;
  }

  // The sums of a center, with room for one more row.
  INLINE_MEMBER double* part_of(int32_t j) {
    if (uint32_t(parts_[j]) >= uint32_t(most_parts)) renew(j);
    ++parts_[j];
    return sums_ + 2 * j * stride_;
  }

  // Begin anew with what a center gathers.
  void renew(int32_t j) {
    if (parts_[j] >= 0) flush(j);
    fill<double>(sums_ + 2 * j * stride_, 2 * stride_, 0);
    counts_[j] = 0;
    masses_[2 * j] = masses_[2 * j + 1] = 0;
    parts_[j] = 0;
  }

  void flush(int64_t j) {
    while (__atomic_test_and_set(&adding_, __ATOMIC_ACQUIRE)) {}
    totals_.counts[j] += counts_[j];
    const double* sums = sums_ + 2 * j * stride_;
    const int32_t* integers = reinterpret_cast<const int32_t*>(sums);
    for (int64_t t = 0; t < d_; t += L) {
      const Doubles high = in_integers_ ? from_ints(integers + t) * load<Doubles>(before_ + t) : load<Doubles>(sums + t);
      const Doubles low = in_integers_ ? Doubles{} : load<Doubles>(sums + stride_ + t);
      add_to(totals_.sums + j * d_ + t, k_ * d_, high, low, d_ - t);
    }
    if (x_.weight) add_to(totals_.masses + j, k_, Doubles{} + masses_[2 * j], Doubles{} + masses_[2 * j + 1], 1);
    __atomic_clear(&adding_, __ATOMIC_RELEASE);
    parts_[j] = -1;
  }

  // Add multiples of 2^40 and integers to `count` times three limbs of 27 bits, `apart` from each other.
  static void add_to(int64_t* limbs, int64_t apart, Doubles high_part, Doubles low_part, int64_t count) {
    constexpr int64_t rest = (int64_t(1) << (2 * width - limb)) - 1;
    const Longs high = to_integers(high_part * 0x1p-40), low = to_integers(low_part) + ((high & rest) << limb);
    Longs sum[3]{low & ((1 << width) - 1), low >> width, high >> (2 * width - limb)};
    for (int i = 0; i < 3; ++i) {
      sum[i] += load_some<Longs>(limbs + i * apart, count);
      if (i > 0) sum[i] += sum[i - 1] >> width;
      if (i > 0) sum[i - 1] &= (1 << width) - 1;
    }
    for (int i = 0; i < 3; ++i) store_some(limbs + i * apart, sum[i], count);
  }

  Points x_;
  Scale scale_;
  Totals totals_;
  bool& adding_;
  int64_t k_, d_, stride_, readable_;
  bool in_integers_;
  Squares squares_;
  Buffer<char> row_;  // one row, dense, with zeros up to a whole vector
  Buffer<double> before_, after_;
  Buffer<int64_t> counts_;  // rows that joined less those that left
  Buffer<int32_t> parts_;   // rows that joined or left since the last flush; -1: none
  Buffer<double> masses_, sums_;  // of center j: multiples of 2^40, then integers; or int32, as they came
};

}  // namespace stepfit::STEPFIT_LEVEL
