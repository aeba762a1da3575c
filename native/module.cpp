// The door to Python: addresses and numbers in, numbers out. native.py owns the memory, but for the pairs of `closer`.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "found.h"
#include "levels.h"
#include "threads.h"

namespace nb = nanobind;

namespace stepfit {
namespace {

std::vector<std::string> names() {
  std::vector<std::string> found;
  for (const Level& level : levels()) found.push_back(level.name);
  return found;
}

// STEPFIT_ISA from the environment, else the best that this machine has.
const Level& level() {
  static const std::vector<Level> known = levels();
  const char* wanted = std::getenv("STEPFIT_ISA");
  if (!wanted || !*wanted) return known.back();
  for (const Level& level : known) {
    if (!std::strcmp(level.name, wanted)) return level;
  }
  std::string all;
  for (const Level& level : known) all += (all.empty() ? "" : ", ") + std::string(level.name);
  throw std::invalid_argument("STEPFIT_ISA is '" + std::string(wanted) + "'; this machine has " + all);
}

Type type_of(const std::string& name) {
  if (name == "float16") return Type::f16;
  if (name == "bfloat16") return Type::bf16;
  if (name == "float32") return Type::f32;
  if (name == "float64") return Type::f64;
  if (name == "uint8" || name == "bool") return Type::u8;
  if (name == "int8") return Type::i8;
  if (name == "int16") return Type::i16;
  if (name == "int32") return Type::i32;
  if (name == "int64") return Type::i64;
  throw std::invalid_argument("no kernel for " + name);
}

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// Centers in float64: as they are, or a copy.
class Exact {
 public:
  Exact(uintptr_t address, const std::string& type, int64_t count) : values_(at<const double>(address)) {
    if (!address || type == "float64") return;
    const float* from = at<const float>(address);
    copy_.reset(new double[size_t(count)]);
    for (int64_t i = 0; i < count; ++i) copy_[size_t(i)] = from[i];  // std::vector would make them one by one
    values_ = copy_.get();
  }
  operator const double*() const { return values_; }

 private:
  std::unique_ptr<double[]> copy_;
  const double* values_;
};

// Begin a pass over rows and run it, without the interpreter's lock; a signal breaks it off.
template <class Job>
void run_whole(Pass* (*begin)(Job&, int), int threads, Job& job, int64_t rows, Totals& totals) {
  bool whole;
  {
    nb::gil_scoped_release release;
    const std::unique_ptr<Pass> pass(begin(job, threads));
    whole = run(*pass, rows, threads, [] {
      nb::gil_scoped_acquire acquire;
      return PyErr_CheckSignals() != 0;
    });
    if (whole) pass->finish(totals);
  }
  if (!whole) throw nb::python_error();
}

int64_t run_pass(int threads, const std::string& type, uintptr_t x, int64_t n, int64_t d,
                 int64_t row, int64_t column, uintptr_t weight, uintptr_t centers, const std::string& center_type,
                 int64_t k, uintptr_t before, uintptr_t labels, uintptr_t scale_before, uintptr_t scale_after,
                 double near_one, double square, double scale_weight, uintptr_t counts, uintptr_t sums,
                 uintptr_t squares, uintptr_t masses, uintptr_t leads, uintptr_t moved, uintptr_t centers_before,
                 double lead_unit, uintptr_t kept_pairs, uintptr_t kept_norms, uintptr_t kept_frame,
                 int64_t kept_stride) {
  const Exact exact(centers, center_type, k * d), exact_before(centers_before, center_type, k * d);
  Job job{
      .x = {at<const char>(x), type_of(type), n, d, row, column, at<const double>(weight)},
      .centers = exact,
      .k = k,
      .before = at<const int32_t>(before),
      .labels = at<int32_t>(labels),
      .leads = at<float>(leads),
      .moved = at<double>(moved),
      .centers_before = exact_before,
      .lead_unit = lead_unit,
      .kept = {at<int32_t>(kept_pairs), at<float>(kept_norms), at<double>(kept_frame), kept_stride},
      .scale = {at<const double>(scale_before), at<const double>(scale_after), near_one, square, scale_weight},
      .totals = {at<int64_t>(counts), at<int64_t>(sums), at<int64_t>(squares), at<int64_t>(masses), 0},
  };
  run_whole<const Job>(level().label, threads, job, n, job.totals);
  return job.totals.changed;
}

std::string path(const std::string& type, int64_t n, int64_t d, int64_t k) {
  Job job{};
  const Type stored = type_of(type);
  job.x = {nullptr, stored, n, d, d * size_of(stored), size_of(stored), nullptr};
  job.k = k;
  return level().path(job);
}

std::tuple<double, double, double, double> finish(int threads, int64_t k, int64_t d, uintptr_t sums,
                                                  uintptr_t mass_high, uintptr_t mass_low, int mass_exponent,
                                                  int widest, int heaviest, uintptr_t to_values, uintptr_t to_unit,
                                                  uintptr_t centers, const std::string& center_type,
                                                  uintptr_t following) {
  Finish job{
      .k = k,
      .d = d,
      .sums = at<const int64_t>(sums),
      .mass = {at<const double>(mass_high), at<const double>(mass_low)},
      .mass_exponent = mass_exponent,
      .widest = widest,
      .heaviest = heaviest,
      .to_values = at<const double>(to_values),
      .to_unit = at<const double>(to_unit),
      .centers = at<const void>(centers),
      .type = type_of(center_type),
      .following = at<void>(following),
  };
  Totals none{};
  run_whole(level().finish, threads, job, k, none);
  return {job.part[0], job.part[1], job.largest, job.shift};
}

void run_distances(int threads, const std::string& type, uintptr_t x, int64_t n, int64_t d,
                   int64_t row, int64_t column, uintptr_t centers, int64_t k, uintptr_t labels,
                   uintptr_t out) {
  const Distances job{
      .x = {at<const char>(x), type_of(type), n, d, row, column, nullptr},
      .centers = at<const double>(centers),
      .k = k,
      .labels = at<const int32_t>(labels),
      .out = at<double>(out),
  };
  Totals none{};
  run_whole<const Distances>(level().measure, threads, job, n, none);
}

template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> as_array(const std::vector<Near>& pairs, T Near::*value) {
  std::unique_ptr<T[]> values(new T[pairs.size()]);
  for (size_t i = 0; i < pairs.size(); ++i) values[i] = pairs[i].*value;
  const nb::capsule owner(values.get(), [](void* memory) noexcept { delete[] static_cast<T*>(memory); });
  return {values.release(), {pairs.size()}, owner};
}

nb::tuple run_closer(int threads, const std::string& type, uintptr_t x, int64_t n, int64_t d, int64_t row,
                     int64_t column, uintptr_t centers, int64_t k, uintptr_t most) {
  Sorted found;
  const Closer job{
      .x = {at<const char>(x), type_of(type), n, d, row, column, nullptr},
      .centers = at<const double>(centers),
      .k = k,
      .most = at<const double>(most),
      .found = found,
  };
  Totals none{};
  run_whole<const Closer>(level().closer, threads, job, n, none);
  const std::vector<Near> pairs = found.pairs();
  return nb::make_tuple(as_array(pairs, &Near::row), as_array(pairs, &Near::center), as_array(pairs, &Near::distance));
}

void run_extremes(int threads, const std::string& type, uintptr_t x, int64_t n, int64_t d,
                  int64_t row, int64_t column, uintptr_t largest) {
  Extremes job{{at<const char>(x), type_of(type), n, d, row, column, nullptr}, at<double>(largest)};
  Totals none{};
  run_whole(level().extremes, threads, job, n, none);
}

}  // namespace
}  // namespace stepfit

NB_MODULE(_native, m) {
  m.doc() = "The compiled kernel; see native.py.";
  m.attr("build") = STEPFIT_BUILD;
  m.def("levels", &stepfit::names, "The levels of instructions that this machine has, the best last.");
  m.def("level", [] { return std::string(stepfit::level().name); }, "The level that passes take.");
  m.def("path", &stepfit::path, nb::kw_only(), nb::arg("type"), nb::arg("n"), nb::arg("d"),
        nb::arg("k"), "The way that a pass over such rows takes, when they lie one after the other.");
  m.def("run", &stepfit::run_pass, nb::arg("threads"), nb::kw_only(), nb::arg("type"), nb::arg("x"),
        nb::arg("n"), nb::arg("d"), nb::arg("row"), nb::arg("column"), nb::arg("weight"), nb::arg("centers"),
        nb::arg("center_type"), nb::arg("k"), nb::arg("before"), nb::arg("labels"), nb::arg("scale_before"),
        nb::arg("scale_after"), nb::arg("near_one"), nb::arg("square"), nb::arg("scale_weight"), nb::arg("counts"),
        nb::arg("sums"), nb::arg("squares"), nb::arg("masses"), nb::arg("leads"), nb::arg("moved"),
        nb::arg("centers_before"), nb::arg("lead_unit"), nb::arg("kept_pairs"), nb::arg("kept_norms"),
        nb::arg("kept_frame"), nb::arg("kept_stride"),
        "One pass over the rows; the labels that changed.");
  m.def("finish", &stepfit::finish, nb::arg("threads"), nb::arg("k"), nb::arg("d"), nb::kw_only(), nb::arg("sums"),
        nb::arg("mass_high"), nb::arg("mass_low"), nb::arg("mass_exponent"), nb::arg("widest"), nb::arg("heaviest"),
        nb::arg("to_values"), nb::arg("to_unit"), nb::arg("centers"), nb::arg("center_type"), nb::arg("following"),
        "Fill the next centers; the sum of c (m c - 2 S), in two parts, the largest center and the shift.");
  m.def("distances", &stepfit::run_distances, nb::arg("threads"), nb::kw_only(), nb::arg("type"),
        nb::arg("x"), nb::arg("n"), nb::arg("d"), nb::arg("row"), nb::arg("column"), nb::arg("centers"), nb::arg("k"),
        nb::arg("labels"), nb::arg("out"), "Squared distances of rows to their own centers, or to all of them.");
  m.def("closer", &stepfit::run_closer, nb::arg("threads"), nb::kw_only(), nb::arg("type"), nb::arg("x"),
        nb::arg("n"), nb::arg("d"), nb::arg("row"), nb::arg("column"), nb::arg("centers"), nb::arg("k"),
        nb::arg("most"), "Rows, centers and squared distances of the pairs that are nearer than `most` of the row.");
  m.def("extremes", &stepfit::run_extremes, nb::arg("threads"), nb::kw_only(), nb::arg("type"),
        nb::arg("x"), nb::arg("n"), nb::arg("d"), nb::arg("row"), nb::arg("column"), nb::arg("largest"),
        "Fill the largest size of each feature.");
}
