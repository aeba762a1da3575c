// The door to Python: every array is checked for its type, shape and layout before a pass sees its address.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
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

Type type_of(const nb::dlpack::dtype& type) {
  using Code = nb::dlpack::dtype_code;
  const auto is = [&](Code code, int bits) { return type.code == uint8_t(code) && type.bits == bits && type.lanes == 1; };
  if (is(Code::Float, 16)) return Type::f16;
  if (is(Code::Bfloat, 16)) return Type::bf16;
  if (is(Code::Float, 32)) return Type::f32;
  if (is(Code::Float, 64)) return Type::f64;
  if (is(Code::UInt, 8) || is(Code::Bool, 8)) return Type::u8;
  if (is(Code::Int, 8)) return Type::i8;
  if (is(Code::Int, 16)) return Type::i16;
  if (is(Code::Int, 32)) return Type::i32;
  if (is(Code::Int, 64)) return Type::i64;
  throw std::invalid_argument("no kernel for numbers of this type");
}

// Arrays of one type, their values one behind the other. What is const is only read.
template <class T, int dimensions>
using Array = nb::ndarray<T, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;
template <int dimensions>
using AnyArray = nb::ndarray<nb::ro, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;

// Refuse an array of another shape.
template <class A>
void check_shape(const A& array, const char* name, std::initializer_list<int64_t> shape) {
  bool right = array.ndim() == shape.size();
  std::string found, wanted;
  size_t axis = 0;
  for (const int64_t size : shape) {
    right = right && int64_t(array.shape(axis)) == size;
    wanted += (axis++ ? ", " : "") + std::to_string(size);
  }
  if (right) return;
  for (size_t i = 0; i < array.ndim(); ++i) found += (i ? ", " : "") + std::to_string(array.shape(i));
  throw std::invalid_argument(std::string(name) + " has shape (" + found + "); it must be (" + wanted + ")");
}

template <class A>
auto* data_or_null(const std::optional<A>& array) {
  return array ? array->data() : nullptr;
}

// The rows of a run, (n, d), of any type and with any strides.
class Rows {
 public:
  explicit Rows(nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu> x) : x_(std::move(x)) {
    const Type type = type_of(x_.dtype());
    const int64_t size = size_of(type), n = int64_t(x_.shape(0)), d = int64_t(x_.shape(1));
    if (!n || !d) throw std::invalid_argument("x has no values; it must be (n, d), at least one of each");
    points = {static_cast<const char*>(x_.data()), type, n, d, x_.stride(0) * size, x_.stride(1) * size, nullptr};
  }

  Points points;

 private:
  nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu> x_;  // keeps the memory
};

// Centers (k, d) of float32 or float64, and in float64: as they are, or a copy.
class Centers {
 public:
  Centers(AnyArray<2> centers, int64_t k, int64_t d, const char* name = "centers") : centers_(std::move(centers)) {
    check_shape(centers_, name, {k, d});
    if (type() == Type::f64) return;
    if (type() != Type::f32) throw std::invalid_argument(std::string(name) + " must be float32 or float64");
    const float* from = static_cast<const float*>(centers_.data());
    copy_.reset(new double[size_t(k * d)]);
    for (int64_t i = 0; i < k * d; ++i) copy_[size_t(i)] = from[i];  // std::vector would make them one by one
  }
  Type type() const { return type_of(centers_.dtype()); }
  const void* data() const { return centers_.data(); }
  const double* exact() const { return copy_ ? copy_.get() : static_cast<const double*>(centers_.data()); }

 private:
  AnyArray<2> centers_;
  std::unique_ptr<double[]> copy_;
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

// What a run keeps between its passes: sums, the labels and centers of the last pass, and by how much each row was nearer
// to its center than to any other. One pass at a time; after one that was broken off there is none.
class Workspace {
 public:
  Workspace(const Rows& rows, int64_t k, std::optional<Array<const double, 1>> weight,
            Array<const double, 1> scale_before, Array<const double, 1> scale_after, double near_one, double square,
            double scale_weight, Array<int64_t, 1> counts, Array<int64_t, 3> sums, Array<int64_t, 1> squares,
            std::optional<Array<int64_t, 2>> masses, std::optional<Array<float, 1>> leads,
            std::optional<Array<double, 1>> moved, double lead_unit, std::optional<Array<int32_t, 2>> kept_pairs,
            std::optional<Array<float, 1>> kept_norms, std::optional<Array<double, 1>> kept_frame)
      : rows_(rows), weight_(weight), scale_before_(scale_before), scale_after_(scale_after), counts_(counts),
        sums_(sums), squares_(squares), masses_(masses), leads_(leads), moved_(moved), pairs_(kept_pairs),
        norms_(kept_norms), frame_(kept_frame) {
    const int64_t n = rows.points.n, d = rows.points.d;
    if (k < 1) throw std::invalid_argument("k must be 1 or more");
    check_shape(scale_before, "scale_before", {d});
    check_shape(scale_after, "scale_after", {d});
    check_shape(counts, "counts", {k});
    check_shape(sums, "sums", {limbs, k, d});
    check_shape(squares, "squares", {limbs + 1});
    if (weight) check_shape(*weight, "weight", {n});
    if (masses) check_shape(*masses, "masses", {limbs, k});
    if (leads) check_shape(*leads, "leads", {n});
    if (moved) check_shape(*moved, "moved", {k});
    const int64_t stride = kept_pairs ? int64_t(kept_pairs->shape(1)) : 0;
    if (kept_pairs) check_shape(*kept_pairs, "kept_pairs", {n, (d + 31) / 32 * 16});
    if (kept_norms) check_shape(*kept_norms, "kept_norms", {n});
    if (kept_frame) check_shape(*kept_frame, "kept_frame", {d + 1});
    const bool whole = bool(weight) == bool(masses) && bool(leads) == bool(moved) &&
                       bool(kept_norms) == bool(kept_frame) && (leads || !kept_norms) && (kept_norms || !kept_pairs);
    if (!whole) throw std::invalid_argument("weight and masses, leads and moved, norms and frame come together");
    job_.x = rows.points;
    job_.x.weight = data_or_null(weight);
    job_.k = k;
    job_.leads = data_or_null(leads);
    job_.moved = data_or_null(moved);
    job_.lead_unit = lead_unit;
    job_.kept = {data_or_null(kept_pairs), data_or_null(kept_norms), data_or_null(kept_frame), stride};
    job_.scale = {scale_before.data(), scale_after.data(), near_one, square, scale_weight};
    job_.totals = {counts.data(), sums.data(), squares.data(), data_or_null(masses), 0};
  }

  // One pass over the rows: fill the labels, and add to the sums what has changed since the last pass.
  int64_t run(int threads, AnyArray<2> given, Array<int32_t, 1> labels) {
    check_shape(labels, "labels", {job_.x.n});
    Centers centers(std::move(given), job_.k, job_.x.d);
    if (busy_.exchange(true)) throw std::runtime_error("a pass with this workspace goes on, or was broken off");
    job_.centers = centers.exact();
    job_.before = data_or_null(last_labels_);
    job_.centers_before = last_centers_ ? last_centers_->exact() : nullptr;
    job_.labels = labels.data();
    job_.totals.changed = 0;
    run_whole<const Job>(level().label, threads, job_, job_.x.n, job_.totals);
    last_labels_ = std::move(labels);
    last_centers_.emplace(std::move(centers));
    busy_ = false;
    return job_.totals.changed;
  }

 private:
  Rows rows_;  // this and the arrays keep their memory
  std::optional<Array<const double, 1>> weight_;
  Array<const double, 1> scale_before_, scale_after_;
  Array<int64_t, 1> counts_;
  Array<int64_t, 3> sums_;
  Array<int64_t, 1> squares_;
  std::optional<Array<int64_t, 2>> masses_;
  std::optional<Array<float, 1>> leads_;
  std::optional<Array<double, 1>> moved_;
  std::optional<Array<int32_t, 2>> pairs_;
  std::optional<Array<float, 1>> norms_;
  std::optional<Array<double, 1>> frame_;
  std::optional<Array<int32_t, 1>> last_labels_;
  std::optional<Centers> last_centers_;
  Job job_{};
  std::atomic<bool> busy_{false};
};

void label(int threads, const Rows& rows, AnyArray<2> given, Array<int32_t, 1> labels) {
  check_shape(labels, "labels", {rows.points.n});
  const int64_t k = int64_t(given.shape(0));
  const Centers centers(std::move(given), k, rows.points.d);
  Job job{};
  job.x = rows.points;
  job.centers = centers.exact();
  job.k = k;
  job.labels = labels.data();
  run_whole<const Job>(level().label, threads, job, job.x.n, job.totals);
}

std::string path(const std::string& type, int64_t n, int64_t d, int64_t k) {
  Job job{};
  const Type stored = type_of(type);
  job.x = {nullptr, stored, n, d, d * size_of(stored), size_of(stored), nullptr};
  job.k = k;
  return level().path(job);
}

std::tuple<double, double, double, double> finish(int threads, Array<const int64_t, 3> sums,
                                                  Array<const double, 1> mass_high, Array<const double, 1> mass_low,
                                                  int mass_exponent, int widest, int heaviest,
                                                  Array<const double, 1> to_values, Array<const double, 1> to_unit,
                                                  AnyArray<2> centers,
                                                  nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu> following) {
  const int64_t k = int64_t(centers.shape(0)), d = int64_t(centers.shape(1));
  check_shape(sums, "sums", {limbs, k, d});
  check_shape(mass_high, "mass_high", {k});
  check_shape(mass_low, "mass_low", {k});
  check_shape(to_values, "to_values", {d});
  check_shape(to_unit, "to_unit", {d});
  check_shape(following, "following", {k, d});
  const Type type = type_of(centers.dtype());
  if ((type != Type::f32 && type != Type::f64) || type_of(following.dtype()) != type) {
    throw std::invalid_argument("centers and following must both be float32, or both float64");
  }
  Finish job{
      .k = k,
      .d = d,
      .sums = sums.data(),
      .mass = {mass_high.data(), mass_low.data()},
      .mass_exponent = mass_exponent,
      .widest = widest,
      .heaviest = heaviest,
      .to_values = to_values.data(),
      .to_unit = to_unit.data(),
      .centers = centers.data(),
      .type = type,
      .following = following.data(),
  };
  Totals none{};
  run_whole(level().finish, threads, job, k, none);
  return {job.part[0], job.part[1], job.largest, job.shift};
}

void run_distances(int threads, const Rows& rows, Array<const double, 2> centers,
                   std::optional<Array<const int32_t, 1>> labels,
                   nb::ndarray<double, nb::c_contig, nb::device::cpu> out) {
  const int64_t n = rows.points.n, k = int64_t(centers.shape(0));
  check_shape(centers, "centers", {k, rows.points.d});
  if (labels) {
    check_shape(*labels, "labels", {n});
    check_shape(out, "out", {n});
    const int32_t* first = labels->data();
    if (!std::all_of(first, first + n, [&](int32_t label) { return 0 <= label && label < k; })) {
      throw std::invalid_argument("a label names no center; labels must be from 0 to " + std::to_string(k - 1));
    }
  } else {
    check_shape(out, "out", {n, k});
  }
  const Distances job{
      .x = rows.points, .centers = centers.data(), .k = k, .labels = data_or_null(labels), .out = out.data()};
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

nb::tuple run_closer(int threads, const Rows& rows, Array<const double, 2> centers, Array<const double, 1> limits) {
  const int64_t n = rows.points.n, k = int64_t(centers.shape(0));
  check_shape(centers, "centers", {k, rows.points.d});
  check_shape(limits, "limits", {n});
  Sorted found;
  const Closer job{.x = rows.points, .centers = centers.data(), .k = k, .limits = limits.data(), .found = found};
  Totals none{};
  run_whole<const Closer>(level().closer, threads, job, n, none);
  const std::vector<Near> pairs = found.pairs();
  return nb::make_tuple(as_array(pairs, &Near::row), as_array(pairs, &Near::center), as_array(pairs, &Near::distance));
}

void run_extremes(int threads, const Rows& rows, Array<double, 1> largest) {
  check_shape(largest, "largest", {rows.points.d});
  Extremes job{rows.points, largest.data()};
  Totals none{};
  run_whole(level().extremes, threads, job, rows.points.n, none);
}

}  // namespace
}  // namespace stepfit

NB_MODULE(_native, m) {
  using namespace stepfit;
  // An array of another type would be converted to a copy otherwise, and what is written to that is lost.
  const auto array = [](const char* name) { return nb::arg(name).noconvert(); };
  const auto maybe = [](const char* name) { return nb::arg(name).noconvert().none(); };
  m.doc() = "The compiled kernel; see native.py.";
  m.attr("build") = STEPFIT_BUILD;
  m.attr("fixed_point") = nb::make_tuple(value_bits, width, square_bits, square_width, limbs);
  m.def("levels", &names, "The levels of instructions that this machine has, the best last.");
  m.def("level", [] { return std::string(level().name); }, "The level that passes take.");
  m.def("path", &path, nb::kw_only(), nb::arg("type"), nb::arg("n"), nb::arg("d"), nb::arg("k"),
        "The way that a pass over such rows takes, when they lie one after the other.");
  nb::class_<Rows>(m, "Rows", "The rows of a run, (n, d), of any type and with any strides.")
      .def(nb::init<nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu>>(), array("x"));
  nb::class_<Workspace>(m, "Workspace", "What a run keeps between its passes.")
      .def(nb::init<const Rows&, int64_t, std::optional<Array<const double, 1>>, Array<const double, 1>,
                    Array<const double, 1>, double, double, double, Array<int64_t, 1>, Array<int64_t, 3>,
                    Array<int64_t, 1>, std::optional<Array<int64_t, 2>>, std::optional<Array<float, 1>>,
                    std::optional<Array<double, 1>>, double, std::optional<Array<int32_t, 2>>,
                    std::optional<Array<float, 1>>, std::optional<Array<double, 1>>>(),
           nb::arg("rows"), nb::arg("k"), nb::kw_only(), maybe("weight"), array("scale_before"), array("scale_after"),
           nb::arg("near_one"), nb::arg("square"), nb::arg("scale_weight"), array("counts"), array("sums"),
           array("squares"), maybe("masses"), maybe("leads"), maybe("moved"), nb::arg("lead_unit"),
           maybe("kept_pairs"), maybe("kept_norms"), maybe("kept_frame"))
      .def("run", &Workspace::run, nb::arg("threads"), array("centers"), array("labels"),
           "One pass over the rows; how many labels changed.");
  m.def("label", &label, nb::arg("threads"), nb::arg("rows"), array("centers"), array("labels"),
        "Fill the labels of the nearest centers.");
  m.def("finish", &finish, nb::arg("threads"), nb::kw_only(), array("sums"), array("mass_high"), array("mass_low"),
        nb::arg("mass_exponent"), nb::arg("widest"), nb::arg("heaviest"), array("to_values"), array("to_unit"),
        array("centers"), array("following"),
        "Fill the next centers; the sum of c (m c - 2 S), in two parts, the largest center and the shift.");
  m.def("distances", &run_distances, nb::arg("threads"), nb::arg("rows"), array("centers"), maybe("labels"),
        array("out"), "Squared distances of rows to their own centers, or to all of them.");
  m.def("closer", &run_closer, nb::arg("threads"), nb::arg("rows"), array("centers"), array("limits"),
        "Rows, centers and squared distances of the pairs that are nearer than the limit of the row.");
  m.def("extremes", &run_extremes, nb::arg("threads"), nb::arg("rows"), array("largest"),
        "Fill the largest size of each feature.");
}
