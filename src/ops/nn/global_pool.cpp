// GlobalAveragePool, GlobalMaxPool and GlobalLpPool: each plane of [n, c, spatial...] becomes one element
// (https://onnx.ai/onnx/operators/onnx__GlobalAveragePool.html).
#include <cmath>
#include <limits>

#include "ops/nn/numeric.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

Status infer_global(ShapeContext& c, std::string_view name) {
  OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, name));
  c.set(0, c.dtype(0), std::nullopt);
  if (!ranked(c, 0)) return {};
  Dims out = *c.shape(0);
  if (out.size() < 2) return error(Code::kInvalidGraph, "{}: the input has rank {}; expected at least 2", name, out.size());
  std::fill(out.begin() + 2, out.end(), Dim(1));
  c.set(0, c.dtype(0), std::move(out));
  return {};
}

// y[plane] = f(its elements).
template <class F>
Status global_reference(RefContext& c, F&& f) {
  const std::vector<double> x = nn::doubles(c.in(0));
  std::vector<double> y(static_cast<size_t>(c.out(0).count()));
  const size_t n = y.empty() ? 0 : x.size() / y.size();
  for (size_t p = 0; p < y.size(); ++p) y[p] = f(std::span<const double>(x).subspan(p * n, n));
  nn::store(c.out(0), y);
  return {};
}

// The same over the team for float: f(kernel's reduction of a plane, its elements).
template <class F>
void global_run(CpuContext& c, ReduceFn fn, F&& f) {
  const int64_t planes = c.out(0).count(), n = planes == 0 ? 0 : c.in(0).count() / planes;
  const float* const x = c.in(0).as<float>();
  float* const y = c.out(0).as<float>();
  nn::parallel_rows(c, planes, n, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) y[p] = f(c.kernels().reduce_f32(fn, x + p * n, n), n);
  });
}

std::vector<Sample> global_samples() {
  std::vector<Sample> out;
  for (const Shape& x :
       {Shape{2, 3}, Shape{2, 3, 7}, Shape{2, 3, 4, 5}, Shape{1, 2, 3, 4, 5}, Shape{0, 3, 4}, Shape{40, 30, 7, 7}})
    out.push_back({.inputs = {{.shape = x, .fill = Fill::kNormal}}, .tolerance = 2e-6});
  out.push_back({.inputs = {{.shape = {1, 2, 3}}}, .opset = 1});
  for (const DType t : {DType::kDouble, DType::kFloat16, DType::kBFloat16})
    out.push_back({.inputs = {{.dtype = t, .shape = {1, 2, 6}}}, .tolerance = t == DType::kBFloat16 ? 1e-2 : 1e-3});
  out.push_back({.inputs = {{.shape = {1, 2048, 7, 7}}}, .bench = true});
  return out;
}

bool whole_planes(const CpuContext& c) { return c.in(0).dtype == DType::kFloat && c.in(0).count() > 0; }

}  // namespace

struct GlobalAveragePool {
  static constexpr OpInfo info{.name = "GlobalAveragePool"};
  static GlobalAveragePool parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const { return infer_global(c, info.name); }
  Status reference(RefContext& c) const {
    return global_reference(c, [](std::span<const double> x) {
      double sum = 0;
      for (const double v : x) sum += v;
      return x.empty() ? std::nan("") : sum / static_cast<double>(x.size());
    });
  }
  double work(const BindContext& c) const { return static_cast<double>(c.in(0).count()); }
  Status run(CpuContext& c) const {
    if (!whole_planes(c)) return run_by_reference(*this, c);
    global_run(c, ReduceFn::kSum, [](float sum, int64_t n) { return static_cast<float>(sum / static_cast<double>(n)); });
    return {};
  }
  static std::vector<Sample> samples() { return global_samples(); }
};
OCIOR_OPERATOR(GlobalAveragePool)

struct GlobalMaxPool {
  static constexpr OpInfo info{.name = "GlobalMaxPool"};
  static GlobalMaxPool parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const { return infer_global(c, info.name); }
  Status reference(RefContext& c) const {
    return global_reference(c, [](std::span<const double> x) {
      double best = -std::numeric_limits<double>::infinity();
      for (const double v : x) best = v > best || v != v ? v : best;
      return best;
    });
  }
  double work(const BindContext& c) const { return static_cast<double>(c.in(0).count()); }
  Status run(CpuContext& c) const {
    if (!whole_planes(c)) return run_by_reference(*this, c);
    global_run(c, ReduceFn::kMax, [](float best, int64_t) { return best; });
    return {};
  }
  static std::vector<Sample> samples() { return global_samples(); }
};
OCIOR_OPERATOR(GlobalMaxPool)

struct GlobalLpPool {
  static constexpr OpInfo info{.name = "GlobalLpPool"};
  double p = 2;
  static GlobalLpPool parse(const NodeReader& node) {
    GlobalLpPool op{node.opset() < 2 ? node.number("p", 2) : static_cast<double>(node.integer("p", 2))};
    if (!(op.p > 0)) node.fail("p is {}; expected a positive number", op.p);
    return op;
  }
  Status infer(ShapeContext& c) const { return infer_global(c, info.name); }
  Status reference(RefContext& c) const {
    return global_reference(c, [this](std::span<const double> x) {
      double sum = 0;
      for (const double v : x) sum += std::pow(std::fabs(v), p);
      return std::pow(sum, 1 / p);
    });
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out = global_samples();
    out.pop_back();  // the large one: there is only the reference
    out.push_back({.inputs = {{.shape = {1, 2, 6}}}, .attributes = {{"p", 1.5f}}, .opset = 1});
    out.push_back({.inputs = {{.shape = {1, 2, 6}}}, .attributes = {{"p", int64_t{1}}}});
    return out;
  }
};
OCIOR_OPERATOR(GlobalLpPool)

}  // namespace ocior::ops
