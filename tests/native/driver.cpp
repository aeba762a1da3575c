// The compiled kernels without Python, for the sanitizers: random problems in memory without a byte to spare, at every
// level and with several threads. Labels must be those of the plain float64 loop; the integers, those of one thread of
// the first level.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "found.h"
#include "levels.h"
#include "threads.h"

namespace {

using namespace stepfit;
using Random = std::mt19937_64;
using Integers = std::vector<int64_t>;

// ---- points of any type and layout

const char* const type_names[] = {"f16", "bf16", "f32", "f64", "u8", "i8", "i16", "i32", "i64"};
constexpr int type_count = 9;
constexpr int steps = 4;

// Call f with a value of an integer type.
template <class F>
auto with_integer(Type type, F f) {
  switch (type) {
    case Type::u8: return f(uint8_t{});
    case Type::i8: return f(int8_t{});
    case Type::i16: return f(int16_t{});
    case Type::i32: return f(int32_t{});
    default: return f(int64_t{});
  }
}

// Write a value so far as its type can hold it.
void put(Type type, double value, char* to) {
  const auto as = [to](auto v) { memcpy(to, &v, sizeof v); };
  const float narrow = float(std::clamp<double>(value, -0x1.fffffep127, 0x1.fffffep127));
  switch (type) {
    case Type::f64: return as(value);
    case Type::f32: return as(narrow);
    case Type::bf16: return as(uint16_t(std::bit_cast<uint32_t>(narrow) >> 16));
    case Type::f16: {
      const auto bits = std::bit_cast<uint32_t>(std::clamp(narrow, -65504.0f, 65504.0f) * 0x1p-112f);
      return as(uint16_t(bits >> 31 << 15 | (bits & 0x7fffffff) >> 13));
    }
    default: return with_integer(type, [&](auto zero) {
      using T = decltype(zero);
      using Limits = std::numeric_limits<T>;
      as(value >= double(Limits::max()) ? Limits::max() : value <= double(Limits::min()) ? Limits::min() : T(value));
    });
  }
}

double get(Type type, const char* from) {
  const auto as = [from](auto v) { return memcpy(&v, from, sizeof v), v; };
  switch (type) {
    case Type::f64: return as(double{});
    case Type::f32: return as(float{});
    case Type::bf16: return std::bit_cast<float>(uint32_t(as(uint16_t{})) << 16);
    case Type::f16: {
      const int bits = as(uint16_t{}), exponent = bits >> 10 & 31, mantissa = bits & 1023;
      const double size = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
      return bits >> 15 ? -size : size;
    }
    default: return with_integer(type, [&](auto zero) { return double(as(zero)); });
  }
}

struct Shape {
  Type type;
  int64_t n, d, k;
};

struct Problem {
  std::string name;
  Shape shape;
  int64_t row, column;         // strides in bytes
  std::vector<char> memory;    // from the first byte of the first value to the last of the last
  std::vector<double> weight;  // empty without weights
  std::vector<double> centers[steps];

  double at(int64_t i, int64_t t) const { return get(shape.type, memory.data() + i * row + t * column); }
};

void lay_out(Problem& p, int layout) {
  const int64_t size = size_of(p.shape.type), n = p.shape.n, d = p.shape.d;
  p.row = d * size, p.column = size;
  switch (layout) {
    case 1: p.row += 3 * size; break;                         // some columns of a wider array
    case 2: p.row = 2 * d * size, p.column = 2 * size; break;  // every other column
    case 3: p.row = size, p.column = n * size; break;         // transposed
    case 4: p.row = 0; break;                                 // one row, n times
  }
  p.memory.resize(size_t((n - 1) * p.row + (d - 1) * p.column + size));
  p.memory.shrink_to_fit();
}

// ---- random problems; each family is hard in another way

enum Family { plain, ties, offset, any_scale, least_values, outliers, near_zero, any_bits, families };

double draw(Random& random, Family family, const Shape& shape, double scale) {
  const double normal = std::normal_distribution<>()(random);
  switch (family) {
    case ties: return std::round(normal);
    case offset: return 1e8 + 100 * normal;
    case any_scale: return scale * normal;
    case least_values: return std::round(2 * normal) * scale;
    case outliers: return random() % 20 ? normal : 1e9 * normal;
    case near_zero: return 1e-3 * normal;
    case any_bits: {
      const uint64_t bits = random();
      const double value = get(shape.type, reinterpret_cast<const char*>(&bits));
      return std::isfinite(value) ? std::clamp(value, -3e150, 3e150) : 0;  // points.LARGEST
    }
    default: return 10 * normal;
  }
}

double scale_of(Random& random, Family family, Type type) {
  if (family == any_scale) {
    return std::pow(10.0, type == Type::f64 ? double(random() % 600) - 310 : double(random() % 80) - 43);
  }
  return type == Type::f64 ? 0x1p-1074 : type == Type::f32 ? 0x1p-149 : type == Type::bf16 ? 0x1p-133
         : type == Type::f16 ? 0x1p-24 : 1;
}

void draw_centers(Random& random, Problem& p, Family family, double scale, std::vector<double>& centers) {
  const auto& [type, n, d, k] = p.shape;
  centers.resize(size_t(k * d));
  for (int64_t j = 0; j < k; ++j) {
    const auto below = [&random](int64_t count) { return int64_t(random() % uint64_t(count)); };
    const int64_t kind = below(4), a = below(n), b = below(n), other = j ? below(j) : 0;
    for (int64_t t = 0; t < d; ++t) {
      double& value = centers[size_t(j * d + t)];
      if (family == near_zero) value = t == j % d ? 1e3 : draw(random, family, p.shape, scale);
      else if (kind == 0 && j) value = centers[size_t(other * d + t)];
      else if (kind == 1) value = p.at(a, t) / 2 + p.at(b, t) / 2;
      else if (kind == 2) value = p.at(a, t);
      else value = draw(random, family, p.shape, scale);
    }
  }
  if (random() % 16 == 0) centers[random() % centers.size()] = std::numeric_limits<double>::quiet_NaN();
}

// Centers that went a little towards others: most rows keep theirs.
std::vector<double> moved(Random& random, const std::vector<double>& centers, const Shape& shape) {
  std::vector<double> found = centers;
  const double part = std::pow(0.1, double(1 + random() % 8));
  const size_t apart = random() % uint64_t(shape.k) * size_t(shape.d);
  for (size_t i = 0; i < found.size(); ++i) found[i] += part * (centers[(i + apart) % found.size()] - found[i]);
  return found;
}

Problem make(int64_t seed, const Shape& shape, Family family, int layout, bool weighted) {
  Random random{uint64_t(seed)};
  Problem p;
  p.shape = shape;
  char name[200];
  std::snprintf(name, sizeof name, "seed %d: %s, n %d, d %d, k %d, family %d, layout %d%s", int(seed),
                type_names[int(shape.type)], int(shape.n), int(shape.d), int(shape.k), int(family), layout,
                weighted ? ", weights" : "");
  p.name = name;
  lay_out(p, layout);
  const double scale = scale_of(random, family, shape.type);
  for (int64_t i = 0; i < (p.row ? shape.n : 1); ++i) {
    for (int64_t t = 0; t < shape.d; ++t) {
      put(shape.type, draw(random, family, shape, scale), p.memory.data() + i * p.row + t * p.column);
    }
  }
  for (int64_t i = 0; weighted && i < shape.n; ++i) {
    p.weight.push_back(random() % 5 ? std::ldexp(double(random() % 1000), int(random() % 20) - 10) : 0);
  }
  p.weight.shrink_to_fit();
  draw_centers(random, p, family, scale, p.centers[0]);
  draw_centers(random, p, family, scale, p.centers[1]);
  for (int s = 2; s < steps; ++s) p.centers[s] = moved(random, p.centers[s - 1], shape);
  return p;
}

// ---- a pass, and what it must give

// The powers of two of fixed.Scale.
struct Powers {
  std::vector<double> before, after;
  double near_one, square, weight;

  explicit Powers(const Problem& p) : before(size_t(p.shape.d)), after(size_t(p.shape.d)) {
    const auto exponent = [](double largest) { int e; return std::frexp(largest, &e), e; };
    const bool weighted = !p.weight.empty();
    double heaviest = 0;
    for (const double w : p.weight) heaviest = std::max(heaviest, w);
    const int scale = heaviest > 0 ? exponent(heaviest) : 0;
    int widest = -500, widest_product = -10000;
    for (int64_t t = 0; t < p.shape.d; ++t) {
      double largest = 0, largest_product = 0;
      for (int64_t i = 0; i < p.shape.n; ++i) {
        const double w = weighted ? p.weight[size_t(i)] : 1, size = w > 0 ? std::fabs(p.at(i, t)) : 0;
        largest = std::max(largest, size);
        largest_product = std::max(largest_product, w * size);
      }
      const int x = std::max(-500, exponent(largest));
      const int product = heaviest > 0 ? std::max(exponent(largest_product), x + scale - 500) : x;
      before[size_t(t)] = std::ldexp(1.0, weighted ? -x : 80 - x);
      after[size_t(t)] = std::ldexp(1.0, 80 + scale + x - product);
      widest = std::max(widest, x);
      widest_product = std::max(widest_product, product);
    }
    near_one = std::ldexp(1.0, -widest);
    square = std::ldexp(1.0, weighted ? 96 + scale + widest - widest_product : 96);
    weight = std::ldexp(1.0, -scale);
  }
};

// What native.py remembers from step to step: empty when rows are short.
struct Leads {
  std::vector<float> of_rows;
  std::vector<double> moved, frame;
  std::vector<int32_t> pairs;
  std::vector<float> norms;
  int64_t stride = 0;

  explicit Leads(const Shape& shape) : stride((shape.d + 31) / 32 * 16) {
    if (shape.d * size_of(shape.type) < 128 || shape.k == 1) return;
    of_rows.resize(size_t(shape.n));
    moved.resize(size_t(shape.k));
    norms.resize(size_t(shape.n), -1);
    frame.resize(size_t(shape.d + 1));
    if (shape.type != Type::u8) pairs.resize(size_t(shape.n * stride));
  }
};

struct Sums {
  Integers counts, sums, squares, masses;
  bool operator==(const Sums&) const = default;
};

struct Outcome {
  std::vector<int32_t> labels;
  Sums sums;
  Leads leads;
  int64_t changed = 0;
};

Points points(const Problem& p) {
  return {p.memory.data(), p.shape.type, p.shape.n, p.shape.d, p.row, p.column,
          p.weight.empty() ? nullptr : p.weight.data()};
}

Job job_of(const Problem& p, int step, std::vector<int32_t>& labels) {
  Job job{};
  job.x = points(p);
  job.centers = p.centers[step].data();
  job.k = p.shape.k;
  job.labels = labels.data();
  return job;
}

void run_whole(Pass* pass, int64_t rows, int threads, Totals& totals) {
  const std::unique_ptr<Pass> owned(pass);
  run(*pass, rows, threads, [] { return false; });
  pass->finish(totals);
}

std::vector<int32_t> assign(const Level& level, int threads, const Problem& p, int step) {
  std::vector<int32_t> labels(size_t(p.shape.n), -1);
  Totals none{};
  run_whole(level.label(job_of(p, step, labels), threads), p.shape.n, threads, none);
  return labels;
}

Outcome assign_and_sum(const Level& level, int threads, const Problem& p, const Powers& powers, int step,
                       const Outcome* last = nullptr) {
  const size_t k = size_t(p.shape.k), d = size_t(p.shape.d);
  Outcome out{std::vector<int32_t>(size_t(p.shape.n), -1),
              last ? last->sums : Sums{Integers(k), Integers(3 * k * d), Integers(4), Integers(3 * k)},
              last ? last->leads : Leads(p.shape)};
  Job job = job_of(p, step, out.labels);
  job.before = last ? last->labels.data() : nullptr;
  if (!out.leads.of_rows.empty()) {
    job.leads = out.leads.of_rows.data();
    job.moved = out.leads.moved.data();
    job.centers_before = last ? p.centers[step - 1].data() : nullptr;
    job.lead_unit = powers.near_one;
    job.kept = {out.leads.pairs.data(), out.leads.norms.data(), out.leads.frame.data(), out.leads.stride};
  }
  job.scale = {powers.before.data(), powers.after.data(), powers.near_one, powers.square, powers.weight};
  job.totals.counts = out.sums.counts.data();
  job.totals.sums = out.sums.sums.data();
  job.totals.squares = out.sums.squares.data();
  job.totals.masses = p.weight.empty() ? nullptr : out.sums.masses.data();
  run_whole(level.label(job, threads), p.shape.n, threads, job.totals);
  out.changed = job.totals.changed;
  return out;
}

// The next centers, and what else the finish of a step gives.
template <class T>
std::vector<double> finish(const Level& level, int threads, const Problem& p, int step, const Sums& sums) {
  const size_t k = size_t(p.shape.k);
  const std::vector<double> unit(size_t(p.shape.d), 0x1p-80), mass(sums.counts.begin(), sums.counts.end()), rest(k);
  const std::vector<T> centers(p.centers[step].begin(), p.centers[step].end());
  std::vector<T> following(centers.size());
  Finish job{.k = p.shape.k, .d = p.shape.d, .sums = sums.sums.data(), .mass = {mass.data(), rest.data()},
             .mass_exponent = 0, .widest = 3, .heaviest = 1, .to_values = unit.data(), .to_unit = unit.data(),
             .centers = centers.data(), .type = sizeof(T) == 4 ? Type::f32 : Type::f64, .following = following.data(),
             .part = {}, .largest = 0, .shift = 0};
  Totals none{};
  run_whole(level.finish(job, threads), p.shape.k, threads, none);
  std::vector<double> found(following.begin(), following.end());
  found.insert(found.end(), {job.part[0], job.part[1], job.largest, job.shift});
  return found;
}

bool same(const std::vector<double>& a, const std::vector<double>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); });
}

// Squared distances to the first centers: to the one of each label, or to all where there are none.
std::vector<double> distances(const Level& level, int threads, const Problem& p, const std::vector<int32_t>& labels) {
  std::vector<double> out(size_t(labels.empty() ? p.shape.n * p.shape.k : p.shape.n), -1);
  const Distances job{points(p), p.centers[0].data(), p.shape.k, labels.empty() ? nullptr : labels.data(), out.data()};
  Totals none{};
  run_whole(level.measure(job, threads), p.shape.n, threads, none);
  return out;
}

// The first centers that lie nearer to a row than `most`.
std::vector<Near> closer(const Level& level, int threads, const Problem& p, const std::vector<double>& most) {
  Sorted found;
  const Closer job{points(p), p.centers[0].data(), p.shape.k, most.data(), found};
  Totals none{};
  run_whole(level.closer(job, threads), p.shape.n, threads, none);
  return found.pairs();
}

// The same, where the distances to all are known.
std::vector<Near> closer(const Problem& p, const std::vector<double>& distances, const std::vector<double>& most) {
  std::vector<Near> found;
  for (int64_t i = 0; i < p.shape.n; ++i) {
    for (int64_t j = 0; j < p.shape.k; ++j) {
      const double distance = distances[size_t(i * p.shape.k + j)];
      if (distance < most[size_t(i)]) found.push_back({i, j, distance});
    }
  }
  return found;
}

double squared_distance(const Problem& p, int64_t i, int64_t j) {
  double distance = 0;
  for (int64_t t = 0; t < p.shape.d; ++t) {
    const double difference = p.at(i, t) - p.centers[0][size_t(j * p.shape.d + t)];
    distance += difference * difference;
  }
  return distance;
}

std::vector<int32_t> nearest(const Problem& p, const std::vector<double>& centers) {
  std::vector<int32_t> labels;
  std::vector<double> x(size_t(p.shape.d));
  for (int64_t i = 0; i < p.shape.n; ++i) {
    for (int64_t t = 0; t < p.shape.d; ++t) x[size_t(t)] = p.at(i, t);
    int32_t label = 0;
    double least = 0;
    for (int64_t j = 0; j < p.shape.k; ++j) {
      double distance = 0;
      for (int64_t t = 0; t < p.shape.d; ++t) {
        const double difference = x[size_t(t)] - centers[size_t(j * p.shape.d + t)];
        distance += difference * difference;
      }
      if (j == 0 || distance < least || (std::isnan(distance) && !std::isnan(least))) {
        least = distance;
        label = int32_t(j);
      }
    }
    labels.push_back(label);
  }
  return labels;
}

void expect(bool right, const char* what, const Level& level, int threads, const std::string& problem) {
  if (right) return;
  std::printf("%s: wrong %s by level %s with %d threads\n", problem.c_str(), what, level.name, threads);
  std::exit(1);
}

// Steps from one to the next, then labels alone, and distances.
void check(const Problem& p, const std::vector<int>& thread_counts) {
  const Powers powers(p);
  const Level first = levels()[0];
  std::vector<int32_t> labels[steps];
  Sums wanted[steps];
  int64_t changed[steps] = {p.shape.n};
  for (int s = 0; s < steps; ++s) {
    labels[s] = nearest(p, p.centers[s]);
    wanted[s] = assign_and_sum(first, 1, p, powers, s).sums;
    for (size_t i = 0; s && i < labels[s].size(); ++i) changed[s] += labels[s][i] != labels[s - 1][i];
  }
  std::vector<double> own, next, every;
  const std::vector<double> endless(size_t(p.shape.n), INFINITY);
  for (int64_t i = 0; i < p.shape.n; ++i) {
    own.push_back(squared_distance(p, i, labels[1][size_t(i)]));
    next.push_back(std::nextafter(own.back(), INFINITY));
    for (int64_t j = 0; j < p.shape.k; ++j) every.push_back(squared_distance(p, i, j));
  }
  const bool missing = std::any_of(p.centers[0].begin(), p.centers[0].end(), [](double c) { return std::isnan(c); });
  for (const Level& level : levels()) {
    for (const int threads : thread_counts) {
      const auto single = [&](const Level& by, int with) { return finish<float>(by, with, p, 0, wanted[0]); };
      const auto exact = [&](const Level& by, int with) { return finish<double>(by, with, p, 0, wanted[0]); };
      expect(same(single(level, threads), single(first, 1)), "finish in float32", level, threads, p.name);
      expect(same(exact(level, threads), exact(first, 1)), "finish in float64", level, threads, p.name);
      std::vector<Outcome> found;
      for (int s = 0; s < steps; ++s) {
        found.push_back(assign_and_sum(level, threads, p, powers, s, s ? &found[size_t(s) - 1] : nullptr));
        const std::string where = p.name + ", step " + std::to_string(s);
        expect(found.back().labels == labels[s], "labels", level, threads, where);
        expect(found.back().sums == wanted[s], "integers", level, threads, where);
        expect(found.back().changed == changed[s], "number of changed labels", level, threads, where);
      }
      expect(assign(level, threads, p, 1) == labels[1], "labels alone", level, threads, p.name);
      if (missing) continue;
      expect(distances(level, threads, p, labels[1]) == own, "distances", level, threads, p.name);
      expect(distances(level, threads, p, {}) == every, "all distances", level, threads, p.name);
      for (const auto& most : {own, next, endless}) {
        expect(closer(level, threads, p, most) == closer(p, every, most), "nearer pairs", level, threads, p.name);
      }
    }
  }
}

// Integers of the largest values, so many that threads must empty theirs into the totals before they end.
void check_many() {
  Problem p = make(1, {Type::u8, 3 << 20, 1, 2}, plain, 4, false);
  p.memory = {char(255)};
  p.centers[0] = {0, 255};
  const Powers powers(p);
  const Sums wanted = assign_and_sum(levels()[0], 1, p, powers, 0).sums;
  expect(wanted.counts == Integers{0, p.shape.n}, "counts", levels()[0], 1, p.name);
  for (const Level& level : levels()) {
    expect(assign_and_sum(level, 2, p, powers, 0).sums == wanted, "integers", level, 2, p.name);
  }
}

// A pass that would take long, broken off.
void check_interruption() {
  Problem p = make(2, {Type::f64, 8 << 20, 4, 4}, plain, 4, false);
  p.centers[0].assign(4 * 4, 1e300);  // too large for float32: every row takes the long way
  for (const Level& level : levels()) {
    for (const int threads : {1, 3}) {
      std::vector<int32_t> labels(size_t(p.shape.n), -1);
      const std::unique_ptr<Pass> pass(level.label(job_of(p, 0, labels), threads));
      const bool whole = run(*pass, p.shape.n, threads, [] { return true; });
      expect(!whole, "answer to an interruption", level, threads, p.name);
      expect(labels.front() >= 0 && labels.back() == -1, "labels after an interruption", level, threads, p.name);
    }
  }
}

}  // namespace

// Under AddressSanitizer, memory without a first value is NaN.
extern "C" const char* __asan_default_options() { return "malloc_fill_byte=255:max_malloc_fill_size=2147483647"; }

int main() {
#if defined(__SANITIZE_THREAD__)
  constexpr int64_t apart = 11;  // it takes long to start a thread
#else
  constexpr int64_t apart = 1;
#endif
  int64_t seed = 0;
  const auto check_shape = [&seed](int64_t n, int64_t d, int64_t k, const std::vector<int>& thread_counts) {
    Random random(uint64_t(++seed));
    const auto below = [&random](int count) { return int(random() % uint64_t(count)); };
    const Type type = Type(seed % type_count);
    check(make(seed, {type, n, d, k}, Family(below(families)), below(5), below(3) == 0), thread_counts);
  };
  // 70 and 9 share no factor: every number of features meets every type.
  for (int64_t i = 0; i < 70 * type_count; i += apart) {
    constexpr int more[] = {2, 3, 7};
    check_shape(1 + i * 37 % 97, 1 + i % 70, 1 + i * 29 % 70, {1, more[i / 9 % 3]});
  }
  const std::vector<int> all{1, 2, 3, 7};
  for (int64_t i = 0; i < type_count; ++i) {
    check_shape(150, 64 + 5 * i, 2 + i, all);
    check_shape(200, 100, 12, all);
    check_shape(40, 784, 10, all);
    check_shape(100, 190 + i, 3 + 7 * i, all);
    check_shape(60, 33, 300, all);
    check_shape(3001, 1 + i % 4, 7, all);
    check_shape(1201, 17, 20, all);
  }
  check_many();
  check_interruption();
  std::printf("%d problems at %d levels: right\n", int(seed), int(levels().size()));
}
