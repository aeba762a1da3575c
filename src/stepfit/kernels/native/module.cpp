// The door to Python: addresses and numbers in, integers out. native.py owns the memory.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "pass.h"
#include "threads.h"

namespace nb = nanobind;

namespace stepfit {
namespace {

// The levels that this machine has, the best last.
std::vector<std::string> levels() {
  std::vector<std::string> found{"generic"};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    found.push_back("avx2");
  }
#endif
  return found;
}

template <class Job>
Pass* begin(const std::string& level, const Job& job, int threads) {
#if defined(__x86_64__)
  if (level == "avx2") return avx2::begin(job, threads);
#endif
  return generic::begin(job, threads);
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

// Run a pass without the interpreter's lock; a signal breaks it off.
template <class Job>
void run_whole(const std::string& level, int threads, const Job& job, Totals& totals) {
  bool whole;
  {
    nb::gil_scoped_release release;
    std::unique_ptr<Pass> pass(begin(level, job, threads));
    whole = run(*pass, job.x.n, threads, [] {
      nb::gil_scoped_acquire acquire;
      return PyErr_CheckSignals() != 0;
    });
    if (whole) pass->finish(totals);
  }
  if (!whole) throw nb::python_error();
}

int64_t run_pass(const std::string& level, int threads, const std::string& type, uintptr_t x, int64_t n, int64_t d,
                 int64_t row, int64_t column, uintptr_t weight, uintptr_t centers, int64_t k, uintptr_t before,
                 uintptr_t labels, uintptr_t scale_before, uintptr_t scale_after, double near_one, double square,
                 double scale_weight, uintptr_t counts, uintptr_t sums, uintptr_t squares, uintptr_t masses,
                 uintptr_t leads, uintptr_t spent, double margin, double lead_unit) {
  Job job{
      .x = {at<const char>(x), type_of(type), n, d, row, column, at<const double>(weight)},
      .centers = at<const double>(centers),
      .k = k,
      .before = at<const int32_t>(before),
      .labels = at<int32_t>(labels),
      .leads = at<float>(leads),
      .spent = at<const float>(spent),
      .margin = float(margin),
      .lead_unit = lead_unit,
      .scale = {at<const double>(scale_before), at<const double>(scale_after), near_one, square, scale_weight},
      .totals = {at<int64_t>(counts), at<int64_t>(sums), at<int64_t>(squares), at<int64_t>(masses), 0},
  };
  run_whole(level, threads, job, job.totals);
  return job.totals.changed;
}

void exact_sums(const std::string& level, uintptr_t limbs, int64_t count, uintptr_t high, uintptr_t low) {
#if defined(__x86_64__)
  if (level == "avx2") return avx2::exact_sums(at<const int64_t>(limbs), count, at<double>(high), at<double>(low));
#endif
  generic::exact_sums(at<const int64_t>(limbs), count, at<double>(high), at<double>(low));
}

void from_centers(const std::string& level, uintptr_t c, uintptr_t high, uintptr_t low, uintptr_t m, int64_t k,
                  int64_t d, uintptr_t to) {
  auto* add_up = generic::from_centers;
#if defined(__x86_64__)
  if (level == "avx2") add_up = avx2::from_centers;
#endif
  add_up(at<const double>(c), at<double>(high), at<double>(low), at<const double>(m), k, d, at<double>(to));
}

void run_distances(const std::string& level, int threads, const std::string& type, uintptr_t x, int64_t n, int64_t d,
                   int64_t row, int64_t column, uintptr_t centers, int64_t k, uintptr_t labels,
                   uintptr_t most, uintptr_t out) {
  const Distances job{
      .x = {at<const char>(x), type_of(type), n, d, row, column, nullptr},
      .centers = at<const double>(centers),
      .k = k,
      .labels = at<const int32_t>(labels),
      .most = at<const double>(most),
      .out = at<double>(out),
  };
  Totals none{};
  run_whole(level, threads, job, none);
}

}  // namespace
}  // namespace stepfit

NB_MODULE(_native, m) {
  m.doc() = "The compiled kernel; see native.py.";
  m.def("levels", &stepfit::levels, "The levels of instructions that this machine has, the best last.");
  m.def("run", &stepfit::run_pass, nb::arg("level"), nb::arg("threads"), nb::kw_only(), nb::arg("type"), nb::arg("x"),
        nb::arg("n"), nb::arg("d"), nb::arg("row"), nb::arg("column"), nb::arg("weight"), nb::arg("centers"),
        nb::arg("k"), nb::arg("before"), nb::arg("labels"), nb::arg("scale_before"), nb::arg("scale_after"),
        nb::arg("near_one"), nb::arg("square"), nb::arg("scale_weight"), nb::arg("counts"), nb::arg("sums"),
        nb::arg("squares"), nb::arg("masses"), nb::arg("leads"), nb::arg("spent"), nb::arg("margin"),
        nb::arg("lead_unit"), "One pass over the rows; the labels that changed.");
  m.def("exact_sums", &stepfit::exact_sums, nb::arg("level"), nb::arg("limbs"), nb::arg("count"), nb::arg("high"),
        nb::arg("low"), "Limbs as float64 in two parts.");
  m.def("from_centers", &stepfit::from_centers, nb::arg("level"), nb::arg("c"), nb::arg("high"), nb::arg("low"),
        nb::arg("m"), nb::arg("k"), nb::arg("d"), nb::arg("to"), "The sum of c (m c - 2 S), in two parts.");
  m.def("distances", &stepfit::run_distances, nb::arg("level"), nb::arg("threads"), nb::kw_only(), nb::arg("type"),
        nb::arg("x"), nb::arg("n"), nb::arg("d"), nb::arg("row"), nb::arg("column"), nb::arg("centers"), nb::arg("k"),
        nb::arg("labels"), nb::arg("most"), nb::arg("out"), "Squared distances of rows to centers.");
}
