// A pass by one level of instructions; compiled once for each, under the name STEPFIT_LEVEL.
#include <memory>

#include "inertia.h"
#include "screen.h"
#include "settle.h"
#include "sums.h"

namespace stepfit::STEPFIT_LEVEL {
namespace {

constexpr int64_t tile_floats = 1 << 14;    // of the tiles that are screened together: they fit the second cache
constexpr int64_t panel_floats = 1 << 12;   // of the panels that stay in the first cache
constexpr int64_t block_products = 1 << 28; // of a block: some hundredths of a second
constexpr int64_t block_bytes = 1 << 19;    // of a block that is read twice: half of the second cache
constexpr int64_t most_narrow = 32;         // centers; with more, tiles are faster
constexpr int64_t most_bytes = 31;          // the same for rows of bytes as they are
constexpr int64_t least_long = 192, most_in_rows = 64;  // features and centers for which lanes are features
constexpr int64_t most_short = 1 << 15;     // features; with more, too few bits are left for each
constexpr int64_t least_octets = 1 << 13;   // products of a row; with fewer, whole numbers of 16 bits are faster
constexpr int64_t products_listed = 1 << 11; // that are multiplied in 8 bits in the time that one more candidate takes

Path path_of(const Job& job) {
  const Points& x = job.x;
  if (x.d <= 4 && job.k <= most_narrow && x.type == Type::f32 && x.column == 4 && x.row == x.d * 4) return Path::narrow;
  const bool as_they_are = x.type == Type::u8 && x.column == 1 && x.d >= least_short && x.d <= most_short;
  if (multiplies_bytes && as_they_are && x.d >= least_long && job.k <= most_in_rows) return Path::rows;
  return as_they_are && job.k <= most_bytes ? Path::bytes : Path::tiles;
}

bool in_octets(const Job& job) {
  const int64_t d = job.x.d;
  if (path_of(job) == Path::rows) return true;
  return multiplies_bytes && d >= 4 * W && d <= most_short && job.k >= 32 && d * job.k >= least_octets;
}

// What one thread works with.
struct Worker {
  Worker(const Job& job, int64_t block, int64_t chunk, bool& adding)
      : tiles(chunk * job.x.d), norms(chunk), units(chunk), best(chunk / tile_rows), rows(block + 2 * tile_rows),
        open(block), upper(in_octets(job) ? (job.k + most_centers) * tile_rows : 0), values(job.x.d), buffers(job.x.d),
        sums(job, adding) {}

  Buffer<float> tiles;    // [tile][t][lane], or as whole numbers [tile][pair][lane]
  Buffer<float> norms;    // of the rows in them
  Buffer<float> units;
  Buffer<Best> best;      // [tile]
  Buffer<int64_t> rows;   // to be labeled, then those whose label changed
  Buffer<int64_t> open;   // those with more than one candidate
  Buffer<float> upper;    // [center][lane] bounds of a tile
  Buffer<double> values;  // of the row that is settled
  Rows buffers;
  Candidates candidates;  // of a tile
  Sums sums;
  int64_t changed = 0;
  int64_t labeled = 0, opened = 0;  // rows in all, and those for which whole numbers were not enough
  int64_t listed = 0;               // candidates in whole numbers of 8 bits, more than one a row
};

class LevelPass final : public Pass {
 public:
  LevelPass(const Job& job, int threads)
      : job_(job), missing_(missing(job)), path_(path_of(job)),
        pays_(shorts_pay(job.x.d, job.k)), chunk_(chunk_of(job)),
        block_(block_of(job, threads)), screen_(job, path_, in_octets(job)), spent_(job.leads ? job.k : 0),
        threads_(threads), workers_(new std::unique_ptr<Worker>[threads]) {
    for (int i = 0; i < threads; ++i) workers_[i].reset(new Worker(job, block_, chunk_, adding_));
    if (job.leads) {
      const double unit = job.lead_unit / screen_.frame.scale;
      lead_unit_ = unit > 0x1p-100 && unit < 0x1p100 ? float(unit) : 0;
      let_centers_move();
    }
  }

  int64_t block_rows() const override { return block_; }

  void work(int thread, int64_t first, int64_t last) override {
    Worker& worker = *workers_[thread];
    with_type(job_.x.type, [&](auto value) {
      using T = decltype(value);
      if (missing_ >= 0) {
        fill(job_.labels + first, last - first, missing_);
      } else {
        label<T>(worker, first, last);
      }
      if (job_.totals.sums) add<T>(worker, first, last);
    });
  }

  void finish(Totals& totals) override {
    for (int i = 0; i < threads_; ++i) {
      workers_[i]->sums.finish();
      totals.changed += workers_[i]->changed;
    }
  }

 private:
  // The lowest center with a NaN, which counts as nearest to all; -1 is none.
  static int32_t missing(const Job& job) {
    const int64_t values = job.k * job.x.d;
    for (int64_t i = 0; i < values; i += L) {
      const Doubles some = load_some<Doubles>(job.centers + i, values - i);
      if (!any(some != some)) continue;
      while (!std::isnan(job.centers[i])) ++i;
      return int32_t(i / job.x.d);
    }
    return -1;
  }

  // Let `moved` grow by how far each center and the fastest other one moved; that is what a lead has to be above for its
  // row to keep its label. G. Hamerly, "Making k-means even faster", SDM 2010, has two bounds; their difference decides
  // alone.
  void let_centers_move() {
    const int64_t k = job_.k, d = job_.x.d;
    bool known = job_.centers_before && std::isfinite(job_.moved[0]);
    Buffer<double> moves(k);
    double first = 0, second = 0;
    Doubles sizes{};
    for (int64_t j = 0; j < k; ++j) {
      Doubles squares{};
      for (int64_t t = 0; t < d; t += L) {
        const Doubles center = load_some<Doubles>(job_.centers + j * d + t, d - t);
        keep_largest(sizes, center);
        if (!known) continue;
        const Doubles apart = (center - load_some<Doubles>(job_.centers_before + j * d + t, d - t)) * job_.lead_unit;
        squares += apart * apart;
      }
      moves[j] = std::sqrt(sum_of(squares));
      second = moves[j] > first ? first : moves[j] > second ? moves[j] : second;
      first = moves[j] > first ? moves[j] : first;
    }
    const double largest = largest_of(sizes);
    if (missing_ >= 0 || !std::isfinite(largest)) {
      job_.leads = nullptr;
      job_.moved[0] = NAN;
      return;
    }
    for (int64_t j = 0; j < k && known; ++j) {
      job_.moved[j] += moves[j] + (moves[j] == first ? second : first);
      known = std::isfinite(job_.moved[j]);
      spent_[j] = float(job_.moved[j] * (1 + 0x1p-22));
    }
    knows_ = known;
    if (!known) fill<double>(job_.moved, k, 0);
    margin_ = float(double(d + 4) * 0x1p-50 * double(d) * (largest * job_.lead_unit + 1));
  }

  static int64_t chunk_of(const Job& job) { return max(1, tile_floats / job.x.d / tile_rows) * tile_rows; }

  // So many rows that all threads have some, and that an interrupted pass ends soon.
  int64_t block_of(const Job& job, int threads) const {
    int64_t fit = min(job.x.n / (4 * threads), block_products / (job.x.d * job.k));
    // In a first pass all rows are added after they were labeled: they shall still be in the cache.
    if (!job.before) fit = min(fit, block_bytes / (job.x.d * size_of(job.x.type)));
    return max(1, min(fit, 1 << 14) / tile_rows) * tile_rows;
  }

  template <class T>
  void label(Worker& worker, int64_t first, int64_t last) {
    if constexpr (std::is_same_v<T, float>) {
      if (path_ == Path::narrow && screen_.valid) {
        switch (job_.x.d) {
          case 1: first = label_narrow<1>(worker, first, last); break;
          case 2: first = label_narrow<2>(worker, first, last); break;
          case 3: first = label_narrow<3>(worker, first, last); break;
          case 4: first = label_narrow<4>(worker, first, last); break;
        }
      }
    }
    const int64_t count = knows_ ? not_sure(first, last, worker.rows) : last - first;
    if (!knows_) {
      for (int64_t i = 0; i < count; ++i) worker.rows[i] = first + i;
    }
    // Up to a whole tile, and one more.
    fill<int64_t>(worker.rows + count, 2 * tile_rows, count ? worker.rows[count - 1] : first);
    int64_t open = 0;
    for (int64_t i = 0; i < count; i += chunk_) {
      const int64_t* rows = worker.rows + i;
      const int64_t some = min(chunk_, count - i);
      if (!screen_.valid) {
        for (int64_t r = 0; r < some; ++r) settle_over_all<T>(worker, rows[r]);
      } else if (path_ == Path::bytes && screen_.fits_shorts) {
        open = label_tiles<T, bytes>(worker, rows, some, open);
      } else if (multiplies_bytes && coarsest(worker)) {
        open = label_octets<T>(worker, rows, some, open);
      } else if (coarse(worker)) {
        screen_.pack_shorts();
        open = label_tiles<T, shorts>(worker, rows, some, open);
      } else {
        open = label_tiles<T, floats>(worker, rows, some, open);
      }
    }
    worker.labeled += count, worker.opened += open;
    for (int64_t i = 0; i < open; i += tile_rows) settle_tile<T>(worker, worker.open + i, min(tile_rows, open - i));
  }

  // Whether to screen in whole numbers of 8 bits: while what they save is more than their candidates cost.
  bool coarsest(const Worker& worker) const {
    return screen_.fits_octets &&
           worker.listed * products_listed <= (worker.labeled + 1024) * job_.x.d * job_.k;
  }

  // Whether to screen in whole numbers of 16 bits: while they are enough for most rows.
  bool coarse(const Worker& worker) const {
    return screen_.fits_shorts && pays_ && 8 * worker.opened <= worker.labeled + 256;
  }

  // Give all rows the label they had, and list those that the moves of the centers may have given another one.
  int64_t not_sure(int64_t first, int64_t last, int64_t* rows) const {
    memcpy(job_.labels + first, job_.before + first, size_t(last - first) * sizeof(int32_t));
    int64_t count = 0, row = first;
    for (; row + W <= last; row += W) {
      const Floats spent = look_up(spent_, load<Ints>(job_.before + row)) + margin_;
      uint32_t rest = ~lanes_of(load<Floats>(job_.leads + row) > spent) & ((1u << W) - 1);
      for (; rest; rest &= rest - 1) rows[count++] = row + __builtin_ctz(rest);
    }
    for (; row < last; ++row) {
      if (!(job_.leads[row] > spent_[job_.before[row]] + margin_)) rows[count++] = row;
    }
    return count;
  }

  // Label rows by tiles, and list those that are not sure.
  template <class T, Precision P>
  int64_t label_tiles(Worker& worker, const int64_t* listed, int64_t count, int64_t open) {
    const int64_t tiles = (count + tile_rows - 1) / tile_rows;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t* rows = listed + tile * tile_rows;
      Tile read{worker.tiles + tile * tile_rows * job_.x.d, {}, {}, {}};
      if constexpr (P == bytes) {
        read_bytes(job_.x, rows, screen_.frame, job_.kept, read);
        read.units[0] = read.units[1] = all(screen_.center_unit * float(screen_.frame.scale));
      } else if constexpr (P == shorts) {
        read_pairs<T>(job_.x, rows, screen_.frame, job_.kept, screen_.center_unit, worker.buffers, read);
      } else {
        read_floats<T>(job_.x, rows, screen_.frame, read);
      }
      for (int half = 0; half < 2; ++half) {
        store(worker.norms + tile * tile_rows + half * W, read.norms[half]);
        store(worker.units + tile * tile_rows + half * W, read.units[half]);
      }
      worker.best[tile] = Best::none();
    }
    const int64_t at_once = max(1, panel_floats / (screen_.together * job_.x.d));
    for (int64_t from = 0; from < screen_.panels; from += at_once) {
      const int64_t to = min(from + at_once, screen_.panels);
      for (int64_t tile = 0; tile < tiles; ++tile) {
        screen_.rank[P](screen_, tile_of(worker, tile), from, to, worker.best[tile]);
      }
    }
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const Tile read = tile_of(worker, tile);
      const Best& best = worker.best[tile];
      Floats lower[2];
      screen_.lower_bound(P, best, read, lower);
      for (int half = 0; half < 2; ++half) {
        const int64_t* rows = listed + tile * tile_rows + half * W;
        uint32_t rest = label_best(rows, listed + count - rows, best, read, lower, half);
        for (; rest; rest &= rest - 1) worker.open[open++] = rows[__builtin_ctz(rest)];
      }
    }
    return open;
  }

  // Label rows by tiles in whole numbers of 8 bits, which leave a few candidates; these are ranked in float32.
  template <class T>
  int64_t label_octets(Worker& worker, const int64_t* listed, int64_t count, int64_t open) {
    for (int64_t first = 0; first < count; first += tile_rows) {
      const int64_t* rows = listed + first;
      Tile tile{worker.tiles, {}, {}, {}};
      if (path_ == Path::rows) {
        find_bytes(job_.x, rows, screen_.frame, job_.kept, tile);
      } else {
        read_quads<T>(job_.x, rows, screen_.frame, worker.buffers, tile);
      }
      Best best = Best::none();
      Floats lower[2];
      screen_.rank_octets(screen_, tile, worker.upper, best);
      screen_.lower_bound(octets, best, tile, lower);
      uint32_t open_lanes = label_best(rows, count - first, best, tile, lower, 0);
      open_lanes |= label_best(rows + W, count - first - W, best, tile, lower, 1) << W;
      if (open_lanes) screen_.collect_kept(worker.upper, lower, open_lanes, worker.candidates);
      for (; open_lanes; open_lanes &= open_lanes - 1) {
        const int i = __builtin_ctz(open_lanes);
        const int64_t candidates = worker.candidates.count[i];
        worker.listed += candidates - 1;
        if (tile.norms[i / W][i % W] < Screen::too_far && candidates <= Candidates::most) {
          label_listed<T>(worker, rows[i], tile.norms[i / W][i % W], i, lower[i / W][i % W]);
        } else {
          worker.open[open++] = rows[i];
        }
      }
    }
    return open;
  }

  // Label rows of one half of a tile with their best centers, and keep their leads; returns the lanes that are not sure.
  uint32_t label_best(const int64_t* rows, int64_t width, const Best& best, const Tile& tile,
                      const Floats (&lower)[2], int half) {
    if (width <= 0) return 0;
    width = min(width, W);
    const Ints sure = (best.second[half] < lower[half]) & (tile.norms[half] < Screen::too_far);
    for (int64_t i = 0; i < width; ++i) job_.labels[rows[i]] = best.center[half][i];
    if (job_.leads) {
      keep_leads(rows, width, best.center[half], sure, screen_.lead(tile.norms[half], lower[half], best.second[half]));
    }
    return ~lanes_of(sure) & ((1u << width) - 1);
  }

  // Label the row in a lane by its candidates, since all others lie under `rest`.
  template <class T>
  void label_listed(Worker& worker, int64_t row, float norm, int lane, float rest) {
    const char* from = job_.x.data + row * job_.x.row;
    const int32_t* centers = worker.candidates.center[lane];
    const int64_t count = worker.candidates.count[lane];
    float upper[Candidates::most], lower;
    BestOfRow best;
    if (path_ == Path::rows) {
      best = screen_.rank_rests(from, norm, worker.upper + lane, centers, count, upper);
      lower = screen_.lower_bound(two_octets, best, norm);
    } else {
      norm = read_long<T>(job_.x, from, screen_.frame, worker.buffers);
      best = screen_.rank_listed(worker.buffers.values, norm, centers, count, upper);
      lower = screen_.lower_bound(floats, best, norm);
    }
    const float second = best.second > rest ? best.second : rest;
    if (second < lower) {
      job_.labels[row] = best.center;
      if (job_.leads) keep_lead(row, screen_.lead(all(norm), all(lower), all(second))[0]);
      return;
    }
    int32_t left[Candidates::most];
    int64_t some = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (upper[i] >= lower) left[some++] = centers[i];
    }
    settle_row<T>(worker, row, left, some);
  }

  // Label a row with the nearest of some centers.
  template <class T>
  void settle_row(Worker& worker, int64_t row, const int32_t* centers, int64_t count) {
    read_row<T>(job_.x, row, worker.values);
    const auto candidate = [centers](int64_t c) { return int64_t(centers[c]); };
    job_.labels[row] = settle(worker.values, job_.centers, job_.x.d, count, candidate);
    if (job_.leads) job_.leads[row] = -INFINITY;
  }

  Tile tile_of(const Worker& worker, int64_t tile) const {
    const float* norms = worker.norms + tile * tile_rows;
    const float* units = worker.units + tile * tile_rows;
    return {worker.tiles + tile * tile_rows * job_.x.d,
            {load<Floats>(norms), load<Floats>(norms + W)},
            {load<Floats>(units), load<Floats>(units + W)},
            {}};
  }

  // Label the whole tiles of a block of float32 rows with D features; returns the first row that is left.
  template <int D>
  int64_t label_narrow(Worker& worker, int64_t first, int64_t last) {
    int64_t open = 0, row = first;
    for (; row + tile_rows <= last; row += tile_rows) {
      Floats x[2][D], norms[2], bound[2];
      Best best;
      const char* from = job_.x.data + row * job_.x.row;
      for (int half = 0; half < 2; ++half) {
        read_narrow<D>(from + half * D * vector_bytes, screen_.frame, x[half], norms[half]);
      }
      Screen::rank_narrow<D>(screen_, x, norms, best, bound);
      for (int half = 0; half < 2; ++half) {
        store(job_.labels + row + half * W, best.center[half]);
        // Written so that a norm that is not finite leaves its row open.
        const Ints sure = (best.second[half] + bound[half] < best.first[half] - bound[half]) &
                          (norms[half] < Screen::too_far);
        uint32_t rest = ~lanes_of(sure) & ((1u << W) - 1);
        for (; rest; rest &= rest - 1) worker.open[open++] = row + half * W + __builtin_ctz(rest);
      }
    }
    for (int64_t i = 0; i < open; i += tile_rows) {
      settle_tile<float>(worker, worker.open + i, min(tile_rows, open - i));
    }
    return row;
  }

  // What `not_sure` will compare: the lead, and all that the moves of the centers had used up before it was measured.
  void keep_leads(const int64_t* rows, int64_t width, Ints centers, Ints sure, Floats lead) {
    for (int64_t i = 0; i < width; ++i) {
      const float spent = knows_ ? spent_[centers[i]] : 0;
      job_.leads[rows[i]] = sure[i] ? (lead[i] * lead_unit_ + spent) * (1 - 0x1p-22f) : -INFINITY;
    }
  }

  void keep_lead(int64_t row, float lead) {
    keep_leads(&row, 1, job_.labels[row] - Ints{}, Ints{} - 1, all(lead));
  }

  template <class T>
  void settle_over_all(Worker& worker, int64_t row) {
    read_row<T>(job_.x, row, worker.values);
    job_.labels[row] = settle(worker.values, job_.centers, job_.x.d, job_.k, [](int64_t i) { return i; });
    if (job_.leads) job_.leads[row] = -INFINITY;
  }

  // Label some rows that are not sure yet: screen them in float32, and settle the candidates.
  template <class T>
  void settle_tile(Worker& worker, const int64_t* open, int64_t count) {
    int64_t rows[tile_rows];
    for (int i = 0; i < tile_rows; ++i) rows[i] = open[min(i, count - 1)];
    Tile tile{worker.tiles, {}, {}, {}};
    read_floats<T>(job_.x, rows, screen_.frame, tile);
    Best best = Best::none();
    Floats lower[2];
    screen_.rank[floats](screen_, tile, 0, screen_.panels, best);
    screen_.lower_bound(floats, best, tile, lower);
    screen_.collect[floats](screen_, tile, lower, worker.candidates);
    const Floats leads[2] = {screen_.lead(tile.norms[0], lower[0], best.second[0]),
                             screen_.lead(tile.norms[1], lower[1], best.second[1])};
    for (int i = 0; i < count; ++i) {
      if (!(tile.norms[i / W][i % W] < Screen::too_far) || worker.candidates.count[i] > Candidates::most) {
        settle_over_all<T>(worker, rows[i]);
        continue;
      }
      settle_row<T>(worker, rows[i], worker.candidates.center[i], worker.candidates.count[i]);
      if (job_.leads && worker.candidates.count[i] == 1) keep_lead(rows[i], leads[i / W][i % W]);
    }
  }

  template <class T>
  void add(Worker& worker, int64_t first, int64_t last) {
    int64_t* moved = worker.rows;
    const int64_t count = job_.before ? changed(first, last, moved) : last - first;
    if (!job_.before) {
      for (int64_t i = 0; i < count; ++i) moved[i] = first + i;
    }
    worker.sums.move<T>(moved, count, job_.labels, job_.before);
    worker.changed += count;
  }

  // List the rows whose label is another than before.
  int64_t changed(int64_t first, int64_t last, int64_t* rows) const {
    int64_t count = 0, row = first;
    for (; row + W <= last; row += W) {
      uint32_t rest = lanes_of(load<Ints>(job_.labels + row) != load<Ints>(job_.before + row));
      for (; rest; rest &= rest - 1) rows[count++] = row + __builtin_ctz(rest);
    }
    for (; row < last; ++row) {
      if (job_.labels[row] != job_.before[row]) rows[count++] = row;
    }
    return count;
  }

  Job job_;
  int32_t missing_;
  Path path_;
  bool pays_;              // turning rows into whole numbers does
  int64_t chunk_, block_;  // rows that are screened together; that a thread takes at once
  Screen screen_;
  float lead_unit_ = 0;
  Buffer<float> spent_;  // (k,) `moved`, rounded up
  bool knows_ = false;   // there are leads of an earlier pass
  float margin_ = 0;     // what the float64 sums that define the answer may round
  int threads_;
  std::unique_ptr<std::unique_ptr<Worker>[]> workers_;
  bool adding_ = false;  // a thread adds to the totals
};

}  // namespace

Pass* label(const Job& job, int threads) { return new LevelPass(job, threads); }

Pass* finish(Finish& job, int) {
  if (job.type == Type::f32) return new FinishPass<float>(job);
  return new FinishPass<double>(job);
}

const char* path(const Job& job) {
  switch (path_of(job)) {
    case Path::narrow: return "narrow";
    case Path::bytes: return "bytes";
    case Path::rows: return "rows";
    default: return "tiles";
  }
}

}  // namespace stepfit::STEPFIT_LEVEL
