// Scores in low precision and their error bounds: which centers may be the nearest of a row.
//
// Points and centers are moved and scaled to lie near 1. The score of center j for row x is x.c_j - |c_j|^2/2, half of
// |x|^2 less the squared distance, so that the largest wins. What is computed is its upper bound: score + bound.
// The bound on the error of one score has a term for each place where something is lost:
//
// - (d + 10) 2^-24 (|x||c| + |c|^2/2): the additions, which begin at -|c|^2/2 (N. J. Higham, "Accuracy and Stability of
//   Numerical Algorithms", 2002, section 3.1), the rounding of x and c to float32, the norms, and the comparisons;
// - (d + 4) 2^-53 (|x|^2 + |c|^2): the float64 sums that define the answer are rounded too;
// - d 2^-74 (1 + |c|): products that underflow;
// - |x - x'||c| + |x'||c - c'| where whole numbers of 16 bits, x' and c', stand for x and c (Cauchy and Schwarz). Their
//   products add up in 32 bits without an error: no sum of some of them is over |x'||c'|, which is kept under 2^31;
// - |x - x'||c'| + |x||c - c'| with 8 bits, where |x - x'| is at most half a unit of the row times sqrt(d), and nothing
//   where rows are bytes. These sums cannot overflow: 255 * 127 * 2^15 is under 2^31.
#pragma once

#include <cmath>
#include <mutex>

#include "rows.h"

namespace stepfit::STEPFIT_LEVEL {

constexpr int most_centers = vector_bytes == 64 ? 12 : 6;  // scores of two vectors each that stay in registers

// In which numbers rows are screened: float32, whole numbers of 16 bits, the bytes that they are with centers of 16 bits,
// whole numbers of 8 bits, or bytes with centers of 8 bits and 8 more.
enum Precision { floats, shorts, bytes, octets, two_octets };

// How rows lie in the vectors.
enum class Path {
  narrow,  // lanes are rows of at most 4 features
  bytes,   // lanes are rows of bytes, which are multiplied as they are
  rows,    // lanes are features of rows of bytes, which are multiplied where they lie
  tiles,   // lanes are rows, cut into tiles
};

constexpr int64_t least_short = 16;      // features; with fewer, turning them into whole numbers costs more
constexpr int64_t least_products = 768;  // of a row; the same
constexpr bool shorts_pay(int64_t d, int64_t k) { return d >= least_short && d * k >= least_products; }

// The two largest upper bounds of each row of a tile, and the center of the first.
struct Best {
  Floats first[2], second[2];
  Ints center[2];

  static Best none() {
    return {{all(-INFINITY), all(-INFINITY)}, {all(-INFINITY), all(-INFINITY)}, {}};
  }
};

// The same for one row.
struct BestOfRow {
  float first = -INFINITY, second = -INFINITY;
  int32_t center = 0;

  INLINE_MEMBER void keep(float upper, int32_t j) {  // without a branch: which is the best so far is a matter of chance
    const float less = upper < first ? upper : first;
    second = less > second ? less : second;
    center = upper > first ? j : center;
    first = upper > first ? upper : first;
  }
};

// The candidates of each row of a tile, ascending.
struct Candidates {
  static constexpr int most = 64;  // a row with more is settled over all centers
  int64_t count[tile_rows];
  int32_t center[tile_rows][most];

  // Of all lanes that are set in `lanes`.
  INLINE_MEMBER void add(uint32_t lanes, int64_t j) {
    for (; lanes; lanes &= lanes - 1) {
      const int lane = __builtin_ctz(lanes);
      if (count[lane] < most) center[lane][count[lane]] = int32_t(j);
      ++count[lane];
    }
  }
};

struct Screen {
  int64_t d, k;
  int together;       // centers a panel
  int64_t panels;
  bool valid = true;  // false when float32 cannot hold the centers: then every row is settled over all of them
  Path path;
  bool fits_shorts, fits_octets;  // sums of whole numbers fit 32 bits
  float center_unit = 1;          // what 1 stands for in a center of whole numbers of 16 bits

  // For as many centers a panel as there are.
  void (*rank[3])(const Screen&, const Tile&, int64_t from, int64_t to, Best&);  // [floats, shorts, bytes]
  void (*rank_octets)(const Screen&, const Tile&, float* upper, Best&);
  void (*collect[2])(const Screen&, const Tile&, const Floats (&lower)[2], Candidates&);  // [floats, shorts]

  Frame frame;
  double row_slack;           // times |x|^2
  Buffer<double> shift;
  Buffer<float> narrow_shift;
  Buffer<float> packed;       // [panel][t][center]
  Buffer<int32_t> pairs;      // [panel][pair][center]
  Buffer<int32_t> quads;      // [panel][quad][center]
  Buffer<int8_t> octet, rest; // for rows of bytes: [center][t] with zeros up to a whole vector, and 8 bits more
  Buffer<uint8_t> byte_shift; // the shift of rows of bytes
  Buffer<int32_t> offset, rest_offset;  // of center j in octets: takes away what the offset of rows, or shift, adds
  Buffer<float> octet_unit, rest_unit;  // what 1 stands for
  Buffer<float> lost_slope;   // times what rounding took from x
  Buffer<float> framed;       // [center][t]: float32, with zeros up to a whole vector
  Buffer<float> slope[5];     // [Precision] of center j: its upper bound begins at start + slope |x|,
  Buffer<float> start;        // and lies
  Buffer<float> slack;        // at most 2 (slope |x| + slack) above the true score
  Buffer<float> half;         // -|c|^2/2
  float most_slope = 0, most_slack = 0, most_norm = 0;  // of all centers

  static constexpr float too_far = 0x1p60f;  // for a norm: float32 may overflow

  Screen(const Job& job, Path way, bool in_octets = false)
      : d(job.x.d), k(job.k), panels((k + most_centers - 1) / most_centers), path(way), shift(d + W),
        narrow_shift(d + W), packed(padded() * d + W),
        pairs(path == Path::narrow ? 0 : padded() * max(pairs_of(d), 2 * bytes_of(d)) + W),
        quads(in_octets && path != Path::rows ? padded() * quads_of(d) + W : 0),
        octet(path == Path::rows ? padded() * byte_stride() : 0),
        rest(path == Path::rows ? padded() * byte_stride() : 0), byte_shift(byte_stride()), offset(padded()),
        rest_offset(padded()), octet_unit(padded()), rest_unit(padded()), lost_slope(padded()),
        framed(padded() * rounded_up(d, W)),
        slope{Buffer<float>(padded()), Buffer<float>(padded()), Buffer<float>(padded()), Buffer<float>(padded()),
              Buffer<float>(padded())},
        start(padded()), slack(padded()), half(padded()) {
    centers_ = job.centers;
    fits_octets = in_octets;
    together = int((k + panels - 1) / panels);
    panels = (k + together - 1) / together;
    choose();
    place(job);
    pack();
    if (path == Path::bytes && fits_shorts) pack_shorts();
  }

  int64_t padded() const { return panels * most_centers; }
  int64_t byte_stride() const { return rounded_up(d, vector_bytes); }

  // Without the offset that all points share, few bits tell them apart better. That of rows of bytes is bytes, and bytes
  // that are multiplied with 16 bits have none.
  void place(const Job& job) {
    for (int64_t t = 0; t < d + W; ++t) shift[t] = 0;
    const double share = 1 / double(k);
    for (int64_t j = 0; j < k && path != Path::bytes; ++j) {
      for (int64_t t = 0; t < d; ++t) shift[t] += job.centers[j * d + t] * share;
    }
    const bool wide = job.x.wide();
    for (int64_t t = 0; t < d + W; ++t) {
      if (path == Path::rows) shift[t] = std::nearbyint(std::fmax(0, std::fmin(shift[t], 255)));
      narrow_shift[t] = float(shift[t]);
      if (!wide) shift[t] = double(narrow_shift[t]);
    }
    Doubles sizes{};
    for (int64_t j = 0; j < k; ++j) {
      for (int64_t t = 0; t < d; t += L) {
        keep_largest(sizes, load_some<Doubles>(job.centers + j * d + t, d - t) - load<Doubles>(shift + t));
      }
    }
    const double largest = largest_of(sizes);
    int exponent = 0;
    if (std::isfinite(largest)) std::frexp(largest, &exponent);
    const int most = wide ? 450 : 100;  // so that no square of a distance overflows in float64: then all would be equal
    exponent = exponent < -100 ? -100 : exponent > most ? most : exponent;
    frame = {shift, narrow_shift, std::ldexp(1.0, -exponent), byte_shift};
    if (job.kept.frame) keep_frame(job);
    for (int64_t t = 0; t < byte_stride(); ++t) byte_shift[t] = uint8_t(t < d && path == Path::rows ? shift[t] : 0);
  }

  // Take the frame of the rows that are kept while it is nearly as good, and otherwise begin to keep them anew.
  void keep_frame(const Job& job) {
    const Kept& kept = job.kept;
    bool near = kept.frame[d] == frame.scale;
    for (int64_t t = 0; t < d && near; ++t) near = std::fabs(kept.frame[t] - shift[t]) * frame.scale < 0.5;
    if (near) {
      for (int64_t t = 0; t < d; ++t) shift[t] = kept.frame[t], narrow_shift[t] = float(shift[t]);
    } else {
      for (int64_t t = 0; t < d; ++t) kept.frame[t] = shift[t];
      kept.frame[d] = frame.scale;
      fill<float>(kept.norms, job.x.n, -1);
    }
  }

  void pack() {
    const double unit = double(d + 10) * 0x1p-24;
    relative_ = 1.01 * unit / ((1 - unit) * (1 - unit));
    const double settled = double(d + 4) * 0x1p-53;
    row_slack = 1.01 * settled;

    const bool makes_quads = fits_octets && path != Path::rows;
    const int64_t stride = rounded_up(d, W), quad_stride = rounded_up(quads_of(d), W);
    Buffer<double> values(rounded_up(d, 4 * W));
    Buffer<int32_t> rounded(rounded_up(d, 4 * W)), quad_rows(makes_quads ? together * quad_stride : 0);
    fill<double>(values, rounded_up(d, 4 * W), 0);
    Doubles sizes{};
    double largest_norm = 0;
    for (int64_t j = 0; j < panels * together; ++j) {
      const int64_t panel = j / together, place = j % together;
      const double squares = read(j, values), norm = std::sqrt(squares);
      for (int64_t t = 0; t < d; t += L) keep_largest(sizes, load<Doubles>(values + t));
      if (!(norm <= largest_norm)) largest_norm = norm;
      for (int64_t t = 0; t < stride; t += L) store_some<float>(framed + j * stride + t, load<Doubles>(values + t), L);
      if (path == Path::rows) make_bytes(values, j, rounded, norm);
      if (makes_quads) make_quads(values, j, rounded, norm, quad_rows + place * quad_stride);
      if (place == together - 1) {
        turn_panel(framed + panel * together * stride, d, packed + panel * together * d);
        if (makes_quads) turn_panel(quad_rows, quads_of(d), quads + panel * together * quads_of(d));
      }
      const double lost = 1.01 * (relative_ * squares / 2 + settled * squares + double(d) * 0x1p-74 * (1 + norm));
      slope[floats][j] = float(1.01 * relative_ * norm);
      slack[j] = float(1.01 * lost);
      half[j] = j < k ? float(-squares / 2) : -INFINITY;
      start[j] = j < k ? float(lost - squares / 2) : -INFINITY;
      if (j < k && !(norm < too_far)) valid = false;
      if (j < k && slope[floats][j] > most_slope) most_slope = slope[floats][j];
      if (j < k && slack[j] > most_slack) most_slack = slack[j];
    }
    most_norm = float(largest_norm);
    // |x'| and what remains of 2^31 for |c'|; what rounding adds to a norm is at most half of sqrt(d).
    const double row_norm = path == Path::bytes ? 255 * std::sqrt(double(d)) : most_whole * 1.001 + added();
    const double room = (0x1p31 / row_norm - added()) * 0.999, most_size = largest_of(sizes);
    up_ = most_size > 0 ? std::fmin(32767 / most_size, room / largest_norm) : 1;
    fits_shorts = path != Path::narrow && up_ > 0 && largest_norm < too_far;
    center_unit = float(1 / up_);
  }

  // The centers as whole numbers of 16 bits; when first needed, since it takes as long as some hundred rows.
  void pack_shorts() {
    std::call_once(packed_shorts_, [this] {
      const bool is_bytes = path == Path::bytes;
      const int64_t stride = rounded_up(d, 2 * W), count = pairs_of(d);
      const double lost_of_row = is_bytes ? 0 : added() / double(most_whole);
      Buffer<double> values(rounded_up(d, 4 * W));
      Buffer<int32_t> rounded(rounded_up(d, 4 * W)), pair_rows(together * rounded_up(count, W));
      fill<double>(values, rounded_up(d, 4 * W), 0);
      for (int64_t j = 0; j < panels * together; ++j) {
        const int64_t panel = j / together, place = j % together;
        const double norm = std::sqrt(read(j, values));
        Doubles lost{};
        for (int64_t t = 0; t < stride; t += L) {
          const Doubles value = load<Doubles>(values + t), nearest = (value * up_ + 0x1.8p52) - 0x1.8p52;
          const Doubles rest = value - nearest / up_;
          lost += rest * rest;
          store_some<int32_t>(rounded + t, nearest, L);
        }
        if (is_bytes) {
          const int32_t* from = rounded;
          int32_t* pair = pairs + panel * together * 2 * bytes_of(d) + place;
          for (int64_t t = 0; t < d; t += 4, from += 4) {
            for (int odd = 0; odd < 2; ++odd, pair += together) *pair = (from[odd] & 0xffff) | from[odd + 2] << 16;
          }
        } else {
          for (int64_t p = 0; p < count; p += W) {
            const Ints low = load<Ints>(rounded + 2 * p), high = load<Ints>(rounded + 2 * p + W);
            store(pair_rows + place * rounded_up(count, W) + p, (low & 0xffff) | high << 16);
          }
          if (place == together - 1) turn_panel(pair_rows, count, pairs + panel * together * count);
        }
        slope[is_bytes ? bytes : shorts][j] =
            float(1.02 * (relative_ * norm + lost_of_row * norm + (1 + lost_of_row) * std::sqrt(sum_of(lost))));
      }
    });
  }

  // A center in the frame as `values`, which keeps what stands behind it; the sum of its squares. Behind the last center
  // stand some at the origin.
  double read(int64_t j, double* values) const {
    Doubles squares{};
    for (int64_t t = 0; t < d; t += L) {
      const Doubles center = j < k ? load_some<Doubles>(centers_ + j * d + t, d - t) : load<Doubles>(shift + t);
      const Doubles value = (center - load<Doubles>(shift + t)) * frame.scale;
      store(values + t, value);
      squares += value * value;
    }
    return sum_of(squares);
  }

  double added() const { return 0.51 * std::sqrt(double(d)); }

  // Let the rows of a panel, of `count` lanes and with room up to a whole vector, become its columns. Whole vectors are
  // stored, the last centers of all columns first: what a vector has too much is written over by the next column, by
  // the first centers or by the next panel, and behind the last panel there is room.
  void turn_panel(const void* rows, int64_t count, void* columns) const {
    const int64_t stride = rounded_up(count, W);
    for (int64_t first = (together - 1) / W * W; first >= 0; first -= W) {
      const int32_t* some[W];
      for (int64_t i = 0; i < W; ++i) {
        some[i] = static_cast<const int32_t*>(rows) + min(first + i, together - 1) * stride;
      }
      turn(some, count, static_cast<int32_t*>(columns) + first, together);
    }
  }

  // Take whole numbers of 8 bits, which become `rounded`, away from a center in the frame, with zeros up to 4 W; the norm
  // of what is left. `unit`: what 1 stands for.
  double take_octets(double* values, int32_t* rounded, float& unit) const {
    const int64_t whole = byte_stride();
    Doubles sizes{}, lost{};
    for (int64_t t = 0; t < whole; t += L) keep_largest(sizes, load<Doubles>(values + t));
    const double largest = largest_of(sizes), up = largest > 0 ? double(most_octet) / largest : 1, one = 1 / up;
    for (int64_t t = 0; t < whole; t += L) {
      const Doubles value = load<Doubles>(values + t), nearest = (value * up + 0x1.8p52) - 0x1.8p52;
      const Doubles left = value - nearest * one;
      lost += left * left;
      store(values + t, left);
      store_some<int32_t>(rounded + t, nearest, L);
    }
    unit = float(one);
    return std::sqrt(sum_of(lost));
  }

  // A center for rows of bytes: 8 bits, and 8 more of what they leave.
  void make_bytes(double* values, int64_t j, int32_t* rounded, double norm) {
    const auto take = [&](int8_t* to, int32_t* offsets, float* units, Precision precision) {
      const double left = take_octets(values, rounded, units[j]);
      slope[precision][j] = float(1.02 * (relative_ * norm + left));
      int32_t sum = 0;
      for (int64_t t = 0; t < byte_stride(); ++t) {
        to[j * byte_stride() + t] = int8_t(rounded[t]);
        sum += byte_shift[t] * int8_t(rounded[t]);
      }
      offsets[j] = -sum;
    };
    take(octet, offset, octet_unit, octets);
    take(rest, rest_offset, rest_unit, two_octets);
    lost_slope[j] = 0;  // the rows are whole numbers already
  }

  // A center for rows that are made of octets, as quads.
  void make_quads(double* values, int64_t j, int32_t* rounded, double norm, int32_t* quad_row) {
    const double left = take_octets(values, rounded, octet_unit[j]);
    slope[octets][j] = float(1.02 * (relative_ * norm + left));
    lost_slope[j] = float(1.02 * (norm + left));
    int32_t sum = 0;
    for (int64_t t = 0; t < byte_stride(); ++t) sum += int8_t(rounded[t]);
    offset[j] = -octet_offset * sum;
    for (int64_t q = 0; q < quads_of(d); q += W) {
      Ints quad{};
      for (int part = 0; part < 4; ++part) quad |= (load<Ints>(rounded + 4 * q + part * W) & 0xff) << 8 * part;
      store(quad_row + q, quad);
    }
  }

  // Products of rows of bytes with the centers of one panel.
  template <int C>
  INLINE void row_products(const Screen& s, const Tile& tile, int64_t panel, Ints (&sum)[C][2]) {
    constexpr int at_once = 2;  // rows for which a center is loaded once
    const char* const* from = static_cast<const char* const*>(tile.values);
    const int64_t stride = s.byte_stride();
    const int8_t* center = s.octet + panel * C * stride;
    Ints part[C][W];
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < W; i += at_once) {
        const char* const* row = from + half * W + i;
        const char* const* next = panel ? row : row + tile_rows;  // of the next tile, which may come meanwhile
        Ints some[C][at_once]{};
        for (int64_t t = 0; t < s.d; t += vector_bytes) {
          Ints x[at_once];
          for (int r = 0; r < at_once; ++r) {
            x[r] = load_bytes(row[r] + t, s.d - t);
            __builtin_prefetch(next[r] + t, 0, 2);
          }
#pragma GCC unroll most_centers
          for (int c = 0; c < C; ++c) {
            const Ints value = load<Ints>(center + c * stride + t);
            for (int r = 0; r < at_once; ++r) some[c][r] = add_byte_products(x[r], value, some[c][r]);
          }
        }
#pragma GCC unroll most_centers
        for (int c = 0; c < C; ++c) {
          for (int r = 0; r < at_once; ++r) part[c][i + r] = some[c][r];
        }
      }
      for (int c = 0; c < C; ++c) sum[c][half] = totals(part[c]) + s.offset[panel * C + c];
    }
  }

  // Upper bounds of one panel for one tile. Octets lie as columns, or they are rows of bytes.
  template <int C, Precision P, bool as_rows = false>
  INLINE void bounds(const Screen& s, const Tile& tile, int64_t panel, Floats (&upper)[C][2]) {
    Ints sum[C][2]{};
    if constexpr (as_rows) {
      row_products<C>(s, tile, panel, sum);
    } else if constexpr (P == octets) {
      const int64_t count = quads_of(s.d);
      const int32_t* center = s.quads + panel * C * count;
      const int32_t* x = static_cast<const int32_t*>(tile.values);
#pragma GCC unroll most_centers
      for (int c = 0; c < C; ++c) sum[c][0] = sum[c][1] = s.offset[panel * C + c] - Ints{};
      for (int64_t q = 0; q < count; ++q, center += C, x += tile_rows) {
        const Ints x0 = load<Ints>(x), x1 = load<Ints>(x + W);
#pragma GCC unroll most_centers
        for (int c = 0; c < C; ++c) {
          const Ints value = center[c] - Ints{};
          sum[c][0] = add_byte_products(x0, value, sum[c][0]);
          sum[c][1] = add_byte_products(x1, value, sum[c][1]);
        }
      }
    }
    if constexpr (P == shorts) {
      const int64_t count = pairs_of(s.d);
      const int32_t* center = s.pairs + panel * C * count;
      const int32_t* x = static_cast<const int32_t*>(tile.values);
      for (int64_t p = 0; p < count; ++p, center += C, x += tile_rows) {
        const Ints x0 = load<Ints>(x), x1 = load<Ints>(x + W);
#pragma GCC unroll most_centers
        for (int c = 0; c < C; ++c) {
          const Ints value = center[c] - Ints{};
          sum[c][0] = add_products(x0, value, sum[c][0]);
          sum[c][1] = add_products(x1, value, sum[c][1]);
        }
      }
    }
    if constexpr (P == bytes) {
      const int64_t count = bytes_of(s.d);
      const int32_t* center = s.pairs + panel * C * 2 * count;
      const int32_t* x = static_cast<const int32_t*>(tile.values);
      for (int64_t q = 0; q < count; ++q, center += 2 * C, x += tile_rows) {
        const Ints x0 = load<Ints>(x), x1 = load<Ints>(x + W);
        const Ints even0 = even_bytes(x0), even1 = even_bytes(x1), odd0 = odd_bytes(x0), odd1 = odd_bytes(x1);
#pragma GCC unroll most_centers
        for (int c = 0; c < C; ++c) {
          const Ints even = center[c] - Ints{}, odd = center[C + c] - Ints{};
          sum[c][0] = add_products(odd0, odd, add_products(even0, even, sum[c][0]));
          sum[c][1] = add_products(odd1, odd, add_products(even1, even, sum[c][1]));
        }
      }
    }
#pragma GCC unroll most_centers
    for (int c = 0; c < C; ++c) {
      const Floats start = all(s.start[panel * C + c]), slope = all(s.slope[P][panel * C + c]);
      upper[c][0] = fma(tile.norms[0], slope, start);
      upper[c][1] = fma(tile.norms[1], slope, start);
      if constexpr (P == shorts || P == bytes) {
        upper[c][0] = fma(__builtin_convertvector(sum[c][0], Floats), tile.units[0], upper[c][0]);
        upper[c][1] = fma(__builtin_convertvector(sum[c][1], Floats), tile.units[1], upper[c][1]);
      }
      if constexpr (P == octets) {
        const Floats lost = all(s.lost_slope[panel * C + c]), unit = all(s.octet_unit[panel * C + c]);
        for (int half = 0; half < 2; ++half) {
          upper[c][half] = fma(tile.lost[half], lost, upper[c][half]);
          upper[c][half] = fma(__builtin_convertvector(sum[c][half], Floats), tile.units[half] * unit, upper[c][half]);
        }
      }
    }
    if constexpr (P == floats) {
      const float* center = s.packed + panel * C * s.d;
      const float* x = static_cast<const float*>(tile.values);
      for (int64_t t = 0; t < s.d; ++t, center += C, x += tile_rows) {
        const Floats x0 = load<Floats>(x), x1 = load<Floats>(x + W);
#pragma GCC unroll most_centers
        for (int c = 0; c < C; ++c) {
          const Floats value = all(center[c]);
          upper[c][0] = fma(x0, value, upper[c][0]);
          upper[c][1] = fma(x1, value, upper[c][1]);
        }
      }
    }
  }

  // Let the upper bounds of one panel take part.
  template <int C>
  INLINE void keep_best(const Floats (&upper)[C][2], int64_t panel, Best& best) {
    for (int half = 0; half < 2; ++half) {
      Floats first = best.first[half], second = best.second[half];
      Ints center = best.center[half];
#pragma GCC unroll most_centers
      for (int c = 0; c < C; ++c) {
        const Floats u = upper[c][half];
        second = larger(second, smaller(first, u));
        center = u > first ? int32_t(panel * C + c) - Ints{} : center;
        first = larger(first, u);
      }
      best.first[half] = first, best.second[half] = second, best.center[half] = center;
    }
  }

  template <int C, Precision P>
  static void rank_by(const Screen& s, const Tile& tile, int64_t from, int64_t to, Best& best) {
    for (int64_t panel = from; panel < to; ++panel) {
      Floats upper[C][2];
      bounds<C, P>(s, tile, panel, upper);
      keep_best<C>(upper, panel, best);
    }
  }

  // The same for all panels; the upper bounds are kept as kept[center][lane].
  template <int C, bool as_rows>
  static void rank_octets_by(const Screen& s, const Tile& tile, float* kept, Best& best) {
    for (int64_t panel = 0; panel < s.panels; ++panel) {
      Floats upper[C][2];
      bounds<C, octets, as_rows>(s, tile, panel, upper);
      for (int c = 0; c < C; ++c, kept += tile_rows) store(kept, upper[c][0]), store(kept + W, upper[c][1]);
      keep_best<C>(upper, panel, best);
    }
  }

  // List every center whose upper bound, kept by rank_octets, reaches `lower`, for some lanes.
  void collect_kept(const float* kept, const Floats (&lower)[2], uint32_t lanes, Candidates& list) const {
    for (int64_t& count : list.count) count = 0;
    for (int64_t j = 0; j < k; ++j, kept += tile_rows) {
      const uint32_t first = lanes_at_least(load<Floats>(kept), lower[0]);
      list.add((first | lanes_at_least(load<Floats>(kept + W), lower[1]) << W) & lanes, j);
    }
  }

  // The best of a few centers for one row, which lies in the frame with zeros up to a whole vector; fills their upper
  // bounds.
  BestOfRow rank_listed(const float* row, float norm, const int32_t* centers, int64_t count, float* upper) const {
    constexpr int at_once = 4;
    const int64_t stride = rounded_up(d, W);
    BestOfRow best;
    for (int64_t first = 0; first < count; first += at_once) {
      const float* from[at_once];
      Floats sum[at_once]{};
      for (int i = 0; i < at_once; ++i) from[i] = framed + centers[min(first + i, count - 1)] * stride;
      for (int64_t t = 0; t < stride; t += W) {
        const Floats x = load<Floats>(row + t);
        for (int i = 0; i < at_once; ++i) sum[i] = fma(x, load<Floats>(from[i] + t), sum[i]);
      }
      for (int i = 0; i < at_once && first + i < count; ++i) {
        const int32_t j = centers[first + i];
        upper[first + i] = total_of(sum[i]) + (start[j] + slope[floats][j] * norm);
        best.keep(upper[first + i], j);
      }
    }
    return best;
  }

  // The best of a few centers for a row of bytes, with 8 bits more; `kept` holds their upper bounds, `upper` gets better
  // ones.
  BestOfRow rank_rests(const char* row, float norm, const float* kept, const int32_t* centers, int64_t count,
                       float* upper) const {
    const int64_t stride = byte_stride();
    BestOfRow best;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t j = centers[i];
      Ints sum{};
      for (int64_t t = 0; t < d; t += vector_bytes) {
        sum = add_byte_products(load_bytes(row + t, d - t), load<Ints>(rest + j * stride + t), sum);
      }
      const float more = float(total_of(sum) + rest_offset[j]) * (rest_unit[j] * float(frame.scale));
      upper[i] = kept[j * tile_rows] + more - (slope[octets][j] - slope[two_octets][j]) * norm;
      best.keep(upper[i], j);
    }
    return best;
  }

  // List every center whose upper bound reaches `lower`.
  template <int C, Precision P>
  static void collect_by(const Screen& s, const Tile& tile, const Floats (&lower)[2], Candidates& list) {
    for (int64_t& count : list.count) count = 0;
    for (int64_t panel = 0; panel < s.panels; ++panel) {
      Floats upper[C][2];
      bounds<C, P>(s, tile, panel, upper);
      // Not those behind the last center: -infinity is at least a `lower` that every distance reaches.
      for (int c = 0; c < C && panel * C + c < s.k; ++c) {
        list.add(lanes_at_least(upper[c][0], lower[0]) | lanes_at_least(upper[c][1], lower[1]) << W, panel * C + c);
      }
    }
  }

  // The best for rows of few features, whose values and scores stay in registers: `first` and `second` are scores, each
  // within `bound` of the truth.
  template <int D>
  INLINE void rank_narrow(const Screen& s, const Floats (&x)[2][D], const Floats (&norms)[2], Best& best,
                          Floats (&bound)[2]) {
    best = Best::none();
    for (int64_t j = 0; j < s.k; ++j) {
      const float* center = s.packed + j / s.together * s.together * D + j % s.together;
      for (int half = 0; half < 2; ++half) {
        Floats score = all(s.half[j]);
        for (int t = 0; t < D; ++t) score = fma(x[half][t], all(center[t * s.together]), score);
        best.second[half] = larger(best.second[half], smaller(best.first[half], score));
        best.center[half] = score > best.first[half] ? int32_t(j) - Ints{} : best.center[half];
        best.first[half] = larger(best.first[half], score);
      }
    }
    for (int half = 0; half < 2; ++half) {
      bound[half] = fma(norms[half], all(s.most_slope), all(s.most_slack));
      bound[half] += float(s.row_slack) * norms[half] * norms[half];
    }
  }

  // A lower bound of the true score of the best center, and so of the largest; less what the settling may round.
  void lower_bound(Precision precision, const Best& best, const Tile& tile, Floats (&lower)[2]) const {
    for (int half = 0; half < 2; ++half) {
      const Floats norms = tile.norms[half];
      Floats bound = look_up(slope[precision], best.center[half]) * norms + look_up(slack, best.center[half]);
      if (precision == octets) bound += look_up(lost_slope, best.center[half]) * tile.lost[half];
      lower[half] = best.first[half] - 2 * bound - 2 * float(row_slack) * norms * norms;
    }
  }
  float lower_bound(Precision precision, const BestOfRow& best, float norm) const {
    const float bound = slope[precision][best.center] * norm + slack[best.center];
    return best.first - 2 * bound - 2 * float(row_slack) * norm * norm;
  }

  // By how much a row is nearer to its center than to all others, at least. The squared distances are apart by
  // b = 2 (lower - second), and the distances by sqrt(a + b) - sqrt(a) = b / (sqrt(a + b) + sqrt(a)), which is least for
  // the largest a that can be: |x|^2 - 2 lower.
  Floats lead(Floats norms, Floats lower, Floats second) const {
    const Floats square = norms * norms, b = 2 * (lower - second);
    const Floats a = square - 2 * lower + float(d + 16) * 0x1p-23f * (square + most_norm * most_norm);
    return 0.999f * b / (square_root(larger(a, Floats{}) + b) + square_root(larger(a, Floats{})));
  }

  template <int C = 1>
  void choose() {
    if (C == together) {
      rank[floats] = rank_by<C, floats>;
      rank[shorts] = rank_by<C, shorts>;
      rank[bytes] = rank_by<C, bytes>;
      rank_octets = path == Path::rows ? rank_octets_by<C, true> : rank_octets_by<C, false>;
      collect[floats] = collect_by<C, floats>;
      collect[shorts] = collect_by<C, shorts>;
    } else if constexpr (C < most_centers) {
      choose<C + 1>();
    }
  }

 private:
  const double* centers_;
  double relative_, up_;  // what rounding may take from a score; what centers are multiplied with to become whole
  std::once_flag packed_shorts_;
};

}  // namespace stepfit::STEPFIT_LEVEL
