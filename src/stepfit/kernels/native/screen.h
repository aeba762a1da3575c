// Scores in float32 and their error bounds: which centers may be the nearest of a row.
//
// Points and centers are moved and scaled to lie near 1. The score of center j for row x is x.c_j - |c_j|^2/2, half of
// |x|^2 less the squared distance, so that the largest wins. What is computed is its upper bound: score + bound.
// The bound on the error of one score has a term for each place where something is lost:
//
// - (d + 10) 2^-24 (|x||c| + |c|^2/2): the additions, which begin at -|c|^2/2 (N. J. Higham, "Accuracy and Stability of
//   Numerical Algorithms", 2002, section 3.1), the rounding of x and c to float32, the norms, and the comparisons;
// - (d + 4) 2^-53 (|x|^2 + |c|^2): the float64 sums that define the answer are rounded too;
// - d 2^-74 (1 + |c|): products that underflow.
#pragma once

#include <cmath>

#include "rows.h"

namespace stepfit::STEPFIT_LEVEL {

constexpr int most_centers = 6;  // scores of two vectors each that stay in registers

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
};

// The candidates of each row of a tile, ascending.
struct Candidates {
  static constexpr int most = 64;  // a row with more is settled over all centers
  int64_t count[tile_rows];
  int32_t center[tile_rows][most];
};

struct Screen {
  int64_t d, k;
  int together;       // centers a panel
  int64_t panels;
  bool valid = true;  // false when float32 cannot hold the centers: then every row is settled over all of them
  void (*rank)(const Screen&, const float* tile, const Floats (&norms)[2], int64_t from, int64_t to, Best&);
  void (*collect)(const Screen&, const float* tile, const Floats (&norms)[2], const Floats (&lower)[2], Candidates&);
  void (*rank_pair)(const Screen&, const float* pair, const float (&norms)[2], BestOfRow (&)[2]);
  Frame frame;
  double row_slack;         // times |x|^2
  Buffer<double> shift;
  Buffer<float> narrow_shift;
  Buffer<float> packed;     // [panel][t][center]
  Buffer<float> wide_packed;  // [panel][t / W][center][W]: lanes are features, those beyond d are 0
  Buffer<float> slope;      // of center j: its upper bound begins at start + slope |x|,
  Buffer<float> start;      // and lies
  Buffer<float> slack;      // at most 2 (slope |x| + slack) above the true score

  explicit Screen(const Job& job)
      : d(job.x.d), k(job.k),
        panels((k + most_centers - 1) / most_centers),
        shift(d + W), narrow_shift(d + W),
        packed(panels * most_centers * d),
        wide_packed(panels * most_centers * rounded_up(d, W)), slope(panels * most_centers),
        start(panels * most_centers),
        slack(panels * most_centers) {
    together = int((k + panels - 1) / panels);
    panels = (k + together - 1) / together;
    choose();
    place(job);
    pack(job.centers);
  }

  // Without the offset that all points share, float32 tells them apart better.
  void place(const Job& job) {
    for (int64_t t = 0; t < d + W; ++t) shift[t] = 0;
    for (int64_t j = 0; j < k; ++j) {
      for (int64_t t = 0; t < d; ++t) shift[t] += job.centers[j * d + t] / double(k);
    }
    const bool wide = job.x.wide();
    for (int64_t t = 0; t < d + W; ++t) {
      narrow_shift[t] = float(shift[t]);
      if (!wide) shift[t] = double(narrow_shift[t]);
    }
    double largest = 0;
    for (int64_t j = 0; j < k * d; ++j) {
      const double size = std::fabs(job.centers[j] - shift[j % d]);
      if (!(size <= largest)) largest = size;
    }
    int exponent = 0;
    if (std::isfinite(largest)) std::frexp(largest, &exponent);
    const int most = wide ? 600 : 100;
    exponent = exponent < -100 ? -100 : exponent > most ? most : exponent;
    frame = {shift, narrow_shift, std::ldexp(1.0, -exponent)};
  }

  void pack(const double* centers) {
    const double unit = double(d + 10) * 0x1p-24;
    const double relative = 1.01 * unit / ((1 - unit) * (1 - unit));
    const double settled = double(d + 4) * 0x1p-53;
    row_slack = 1.01 * settled;
    const int64_t stride = rounded_up(d, W);
    fill(wide_packed + 0, panels * together * stride, 0.0f);
    for (int64_t j = 0; j < panels * together; ++j) {
      float* wide = wide_packed + j / together * together * stride + j % together * W;
      float* column = packed + j / together * together * d + j % together;
      double squares = 0;
      for (int64_t t = 0; t < d; ++t) {
        const double value = j < k ? (centers[j * d + t] - shift[t]) * frame.scale : 0;
        column[t * together] = float(value);
        wide[t / W * W * together + t % W] = float(value);
        squares += value * value;
      }
      const double norm = std::sqrt(squares);
      const double lost = 1.01 * (relative * squares / 2 + settled * squares + double(d) * 0x1p-74 * (1 + norm));
      slope[j] = float(1.01 * relative * norm);
      slack[j] = float(1.01 * lost);
      start[j] = j < k ? float(lost - squares / 2) : -INFINITY;
      if (j < k && !(norm < 0x1p60)) valid = false;
    }
  }

  // Above this |x| float32 may overflow.
  static constexpr float most_norm = 0x1p60f;

  // Upper bounds of one panel for one tile.
  template <int C>
  INLINE void bounds(const Screen& s, const float* tile, const Floats (&norms)[2], int64_t panel,
                     Floats (&upper)[C][2]) {
    const float* center = s.packed + panel * C * s.d;
#pragma GCC unroll 6
    for (int c = 0; c < C; ++c) {
      const Floats start = all(s.start[panel * C + c]), slope = all(s.slope[panel * C + c]);
      upper[c][0] = fma(norms[0], slope, start);
      upper[c][1] = fma(norms[1], slope, start);
    }
    for (int64_t t = 0; t < s.d; ++t, center += C, tile += tile_rows) {
      const Floats x0 = load<Floats>(tile), x1 = load<Floats>(tile + W);
#pragma GCC unroll 6
      for (int c = 0; c < C; ++c) {
        const Floats value = all(center[c]);
        upper[c][0] = fma(x0, value, upper[c][0]);
        upper[c][1] = fma(x1, value, upper[c][1]);
      }
    }
  }

  template <int C>
  static void rank_by(const Screen& s, const float* tile, const Floats (&norms)[2], int64_t from, int64_t to,
                      Best& best) {
    for (int64_t panel = from; panel < to; ++panel) {
      Floats upper[C][2];
      bounds<C>(s, tile, norms, panel, upper);
      for (int half = 0; half < 2; ++half) {
        Floats first = best.first[half], second = best.second[half];
        Ints center = best.center[half];
#pragma GCC unroll 6
        for (int c = 0; c < C; ++c) {
          const Floats u = upper[c][half];
          second = larger(second, smaller(first, u));
          center = u > first ? int32_t(panel * C + c) - Ints{} : center;
          first = larger(first, u);
        }
        best.first[half] = first, best.second[half] = second, best.center[half] = center;
      }
    }
  }

  // The same for rows of few features, whose values, best scores and bounds all stay in registers.
  template <int D>
  INLINE void rank_narrow(const Screen& s, const Floats (&x)[2][D], const Floats (&norms)[2], Ints (&nearest)[2],
                          Floats (&second)[2], Floats (&lower)[2]) {
    Floats first[2] = {all(-INFINITY), all(-INFINITY)}, bound[2]{};
    second[0] = second[1] = first[0];
    nearest[0] = nearest[1] = Ints{};
    for (int64_t j = 0; j < s.k; ++j) {
      const float* center = s.packed + j / s.together * s.together * D + j % s.together;
      const Floats start = all(s.start[j]), slope = all(s.slope[j]), slack = all(s.slack[j]);
      for (int half = 0; half < 2; ++half) {
        Floats u = fma(norms[half], slope, start);
        for (int t = 0; t < D; ++t) u = fma(x[half][t], all(center[t * s.together]), u);
        const Floats about = fma(norms[half], slope, slack);
        second[half] = larger(second[half], smaller(first[half], u));
        nearest[half] = u > first[half] ? int32_t(j) - Ints{} : nearest[half];
        bound[half] = u > first[half] ? about : bound[half];
        first[half] = larger(first[half], u);
      }
    }
    for (int half = 0; half < 2; ++half) lower[half] = s.below(first[half], bound[half], norms[half]);
  }

  // The same for two rows in which lanes are features: with few centers, turning rows into tiles costs more than to
  // add up the lanes.
  template <int C>
  static void rank_pair_by(const Screen& s, const float* pair, const float (&norms)[2], BestOfRow (&best)[2]) {
    const int64_t stride = rounded_up(s.d, W);
    const float* center = s.wide_packed;
    for (int64_t panel = 0; panel < s.panels; ++panel) {
      Floats sum[2][C]{};
      for (int64_t t = 0; t < stride; t += W, center += C * W) {
        const Floats x0 = load<Floats>(pair + t), x1 = load<Floats>(pair + stride + t);
#pragma GCC unroll 6
        for (int c = 0; c < C; ++c) {
          const Floats value = load<Floats>(center + c * W);
          sum[0][c] = fma(x0, value, sum[0][c]);
          sum[1][c] = fma(x1, value, sum[1][c]);
        }
      }
      for (int row = 0; row < 2; ++row) {
        for (int c = 0; c < C; ++c) {
          const int32_t j = int32_t(panel * C + c);
          const float upper = total_of(sum[row][c]) + (s.start[j] + s.slope[j] * norms[row]);
          if (upper > best[row].first) {
            best[row] = {upper, best[row].first, j};
          } else if (upper > best[row].second) {
            best[row].second = upper;
          }
        }
      }
    }
  }

  // Whether all other centers are surely farther.
  bool sure(const BestOfRow& best, float norm) const {
    const float bound = slope[best.center] * norm + slack[best.center];
    return best.second < best.first - 2 * bound - 2 * float(row_slack) * norm * norm && norm < most_norm;
  }

  // List every center whose upper bound reaches `lower`.
  template <int C>
  static void collect_by(const Screen& s, const float* tile, const Floats (&norms)[2], const Floats (&lower)[2],
                      Candidates& list) {
    for (int64_t& count : list.count) count = 0;
    for (int64_t panel = 0; panel < s.panels; ++panel) {
      Floats upper[C][2];
      bounds<C>(s, tile, norms, panel, upper);
      for (int c = 0; c < C; ++c) {
        const uint32_t found = lanes_of(upper[c][0] >= lower[0]) | lanes_of(upper[c][1] >= lower[1]) << W;
        for (uint32_t rest = found; rest; rest &= rest - 1) {
          const int lane = __builtin_ctz(rest);
          if (list.count[lane] < list.most) list.center[lane][list.count[lane]] = int32_t(panel * C + c);
          ++list.count[lane];
        }
      }
    }
  }

  // The functions for as many centers a panel as there are.
  template <int C = 1>
  void choose() {
    if (C == together) {
      rank = rank_by<C>;
      collect = collect_by<C>;
      rank_pair = rank_pair_by<C>;
    } else if constexpr (C < most_centers) {
      choose<C + 1>();
    }
  }

  Floats below(Floats upper, Floats bound, Floats norms) const {
    return upper - 2 * bound - 2 * float(row_slack) * norms * norms;
  }

  // A lower bound of the true score of the best center, and so of the largest; less what the settling may round.
  void lower_bound(const Best& best, const Floats (&norms)[2], Floats (&lower)[2]) const {
    for (int half = 0; half < 2; ++half) {
      const Floats bound = look_up(slope, best.center[half]) * norms[half] + look_up(slack, best.center[half]);
      lower[half] = below(best.first[half], bound, norms[half]);
    }
  }
};

}  // namespace stepfit::STEPFIT_LEVEL
