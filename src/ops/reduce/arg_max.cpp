// ArgMax and ArgMin: where along an axis the largest or smallest element is. NaN is larger and smaller than everything, as in
// NumPy.
#include <algorithm>

#include "ops/loops.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

struct ArgSpec {
  std::string_view name;
  bool largest;
};

struct ArgAxis {
  int64_t axis = 0;
  bool keep = true, last = false;

  static ArgAxis parse(const NodeReader& node) {
    ArgAxis out{node.integer("axis", 0), node.integer("keepdims", 1) != 0};
    if (node.opset() >= 12) out.last = node.integer("select_last_index", 0) != 0;
    return out;
  }
};

Status arg_infer(const ArgSpec& spec, const ArgAxis& a, ShapeContext& c) {
  OCIOR_RETURN_IF_ERROR(check_type(c, 0, kNumbers, spec.name));
  if (!ranked(c, 0)) return c.set(0, DType::kInt64, std::nullopt), Status();
  Dims out = *c.shape(0);
  OCIOR_ASSIGN(const int64_t at, resolve_axis(a.axis, rank(c, 0)));
  const auto place = out.begin() + at;
  if (place->known() && place->value() == 0)
    return error(Code::kInvalidArgument, "{}: dimension {} has no elements", spec.name, at);
  if (a.keep) *place = 1;
  else out.erase(place);
  c.set(0, DType::kInt64, std::move(out));
  return {};
}

template <class C>
bool better(bool largest, bool ties, C x, C best) {
  if (best != best) return ties && x != x;
  if (x != x) return true;
  return (largest ? x > best : x < best) || (ties && x == best);
}

// Rows [begin, end) of the output, each one column of the input.
template <class C>
void search(const ArgSpec& spec, const ArgAxis& a, DType t, const void* x, int64_t* y, int64_t length, int64_t inner,
            int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t base = row / inner * length * inner + row % inner;
    C buffer;
    C best = *load<C>(t, x, base, 1, &buffer);
    int64_t at = 0;
    for (int64_t i = 1; i < length; ++i) {
      C value;
      value = *load<C>(t, x, base + i * inner, 1, &value);
      if (better(spec.largest, a.last, value, best)) best = value, at = i;
    }
    y[row] = at;
  }
}

// The same for floats, without a conversion per element.
void search_float(const ArgSpec& spec, const ArgAxis& a, const float* x, int64_t* y, int64_t length, int64_t inner, int64_t begin,
                  int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* from = x + row / inner * length * inner + row % inner;
    float best = from[0];
    int64_t at = 0;
    for (int64_t i = 1; i < length; ++i)
      if (better(spec.largest, a.last, from[i * inner], best)) best = from[i * inner], at = i;
    y[row] = at;
  }
}

struct Cut {
  int64_t outer, length, inner;
};
Result<Cut> cut_at(const ArgSpec& spec, const ArgAxis& a, std::span<const int64_t> x) {
  OCIOR_ASSIGN(const int64_t axis, resolve_axis(a.axis, static_cast<int64_t>(x.size())));
  const auto at = static_cast<size_t>(axis);
  if (x[at] == 0) return error(Code::kInvalidArgument, "{}: dimension {} has no elements", spec.name, axis);
  return Cut{element_count(x.first(at)), x[at], element_count(x.subspan(at + 1))};
}

Status arg_reference(const ArgSpec& spec, const ArgAxis& a, RefContext& c) {
  const Tensor& x = c.in(0);
  OCIOR_ASSIGN(const Cut cut, cut_at(spec, a, x.shape()));
  visit_kind(kind_of(x.dtype()), [&](auto zero) {
    search<decltype(zero)>(spec, a, x.dtype(), x.data(), c.out(0).as<int64_t>(), cut.length, cut.inner, 0, cut.outer * cut.inner);
  });
  return {};
}

Status arg_run(const ArgSpec& spec, const ArgAxis& a, CpuContext& c) {
  const TensorView& x = c.in(0);
  OCIOR_ASSIGN(const Cut cut, cut_at(spec, a, x.shape));
  auto* y = c.out(0).as<int64_t>();
  for_items(c, cut.outer * cut.inner, cut.length, [&](int64_t begin, int64_t end) {
    if (x.dtype == DType::kFloat) return search_float(spec, a, x.as<const float>(), y, cut.length, cut.inner, begin, end);
    visit_kind(kind_of(x.dtype),
               [&](auto zero) { search<decltype(zero)>(spec, a, x.dtype, x.data, y, cut.length, cut.inner, begin, end); });
  });
  return {};
}

std::vector<Sample> arg_samples() {
  std::vector<Sample> out;
  for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16, DType::kInt8, DType::kInt32,
                        DType::kInt64, DType::kUint64})
    for (const int64_t last : {0, 1}) {
      out.push_back(
          {.inputs = {{t, {3, 7, 4}, Fill::kSmallInts}}, .attributes = {{"axis", int64_t{1}}, {"select_last_index", last}}});
      out.push_back({.inputs = {{t, {3, 9}, Fill::kSmallInts}},
                     .attributes = {{"axis", int64_t{-1}}, {"keepdims", int64_t{0}}, {"select_last_index", last}}});
      out.push_back({.inputs = {{t, {5, 0}}}, .attributes = {{"select_last_index", last}}});
    }
  out.push_back({.inputs = {{DType::kFloat, {60, 9}, Fill::kSpecials}}, .attributes = {{"axis", int64_t{1}}}});
  out.push_back({.inputs = {{DType::kFloat, {200, 400}}}, .attributes = {{"axis", int64_t{1}}}, .opset = 11});
  return out;
}

}  // namespace

struct ArgMax {
  static constexpr OpInfo info{.name = "ArgMax"};
  static constexpr ArgSpec spec{"ArgMax", true};
  ArgAxis axis;

  static ArgMax parse(const NodeReader& node) { return {ArgAxis::parse(node)}; }
  Status infer(ShapeContext& c) const { return arg_infer(spec, axis, c); }
  Status reference(RefContext& c) const { return arg_reference(spec, axis, c); }
  Status run(CpuContext& c) const { return arg_run(spec, axis, c); }
  static std::vector<Sample> samples() { return arg_samples(); }
};
OCIOR_OPERATOR(ArgMax)

struct ArgMin {
  static constexpr OpInfo info{.name = "ArgMin"};
  static constexpr ArgSpec spec{"ArgMin", false};
  ArgAxis axis;

  static ArgMin parse(const NodeReader& node) { return {ArgAxis::parse(node)}; }
  Status infer(ShapeContext& c) const { return arg_infer(spec, axis, c); }
  Status reference(RefContext& c) const { return arg_reference(spec, axis, c); }
  Status run(CpuContext& c) const { return arg_run(spec, axis, c); }
  static std::vector<Sample> samples() { return arg_samples(); }
};
OCIOR_OPERATOR(ArgMin)

}  // namespace ocior::ops
