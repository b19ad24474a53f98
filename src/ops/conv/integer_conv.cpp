// ConvInteger and QLinearConv: convolutions of 8-bit numbers, exact in 32 bits
// (https://onnx.ai/onnx/operators/onnx__ConvInteger.html, https://onnx.ai/onnx/operators/onnx__QLinearConv.html).
#include <cmath>

#include "ops/conv/window.h"
#include "ops/evaluate.h"
#include "ops/nn/numeric.h"

namespace ocior::ops {
namespace {

constexpr TypeSet kBytes = types(DType::kInt8, DType::kUint8);

// Elements of tensor i less its zero point (input `zero`, if given), which may be one for each of the `rows` of the first axis.
Result<std::vector<int64_t>> centred(RefContext& c, int i, int zero, int64_t rows) {
  std::vector<int64_t> out(static_cast<size_t>(c.in(i).count()));
  const Tensor& x = c.in(i);
  for (size_t k = 0; k < out.size(); ++k) out[k] = get_int(x.dtype(), x.data(), static_cast<int64_t>(k));
  if (!c.has(zero)) return out;
  const Tensor& z = c.in(zero);
  const int64_t points = z.count();
  if (points != 1 && points != rows)
    return error(Code::kInvalidArgument, "input {} has {} zero points; expected 1 or {}", zero, points, rows);
  const auto each = std::max<size_t>(1, out.size() / static_cast<size_t>(std::max<int64_t>(1, points)));
  for (size_t k = 0; k < out.size(); ++k) out[k] -= get_int(z.dtype(), z.data(), static_cast<int64_t>(k / each));
  return out;
}

// Fails unless input i is one number or, where `rows` is given, one for each of them.
Status check_count(const ShapeContext& c, int i, const Dim* rows) {
  if (!c.has(i) || !ranked(c, i)) return {};
  const Dims& shape = *c.shape(i);
  if (shape.empty() || (shape.size() == 1 && nn::may_equal(shape[0], 1))) return {};
  if (shape.size() == 1 && rows && nn::may_equal(shape[0], *rows)) return {};
  return error(Code::kInvalidArgument, "input {} has shape {}; expected a scalar{}", i, to_string(shape),
               rows ? fmt::format(" or [{}]", rows->text()) : "");
}

// The sums, wrapped to 32 bits.
Result<std::vector<int32_t>> sums(RefContext& c, const conv::Geometry& g, int x, int x_zero, int w, int w_zero) {
  OCIOR_ASSIGN(const std::vector<int64_t> a, centred(c, x, x_zero, 1));
  OCIOR_ASSIGN(const std::vector<int64_t> b, centred(c, w, w_zero, g.out_channels));
  const std::vector<int64_t> wide = conv::convolve(g, a, b);
  return std::vector<int32_t>(wide.begin(), wide.end());
}

void add_inputs(std::vector<SampleInput>& to, DType dtype, Shape shape) {
  to.push_back({.dtype = dtype, .shape = std::move(shape), .fill = Fill::kSpecials});
}

}  // namespace

struct ConvInteger {
  static constexpr OpInfo info{.name = "ConvInteger", .since = 10, .min_inputs = 2, .max_inputs = 4};

  conv::Window window;

  static ConvInteger parse(const NodeReader& node) { return {conv::Window::parse(node)}; }

  Status infer(ShapeContext& c) const {
    for (int i = 0; i < 4; ++i) OCIOR_RETURN_IF_ERROR(check_type(c, i, kBytes, "ConvInteger"));
    for (int i = 0; i < 2; ++i) OCIOR_RETURN_IF_ERROR(check_same_type(c, i, i + 2, "ConvInteger"));
    OCIOR_RETURN_IF_ERROR(check_count(c, 2, nullptr));
    OCIOR_ASSIGN(std::optional<Dims> shape, window.infer(c, 0, 1, -1));
    if (shape) OCIOR_RETURN_IF_ERROR(check_count(c, 3, &(*shape)[1]));
    c.set(0, DType::kInt32, std::move(shape));
    return {};
  }

  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(const conv::Geometry g, window.geometry(c.in(0).shape(), c.in(1).shape()));
    OCIOR_ASSIGN(const std::vector<int32_t> y, sums(c, g, 0, 2, 1, 3));
    std::copy(y.begin(), y.end(), c.out(0).as<int32_t>());
    return {};
  }

  static std::vector<Sample> samples();
};

struct QLinearConv {
  static constexpr OpInfo info{.name = "QLinearConv", .since = 10, .min_inputs = 8, .max_inputs = 9};

  conv::Window window;

  static QLinearConv parse(const NodeReader& node) { return {conv::Window::parse(node)}; }

  Status infer(ShapeContext& c) const {
    for (const int i : {0, 2, 3, 5, 7}) OCIOR_RETURN_IF_ERROR(check_type(c, i, kBytes, "QLinearConv"));
    for (const int i : {1, 4, 6}) OCIOR_RETURN_IF_ERROR(check_type(c, i, types(DType::kFloat), "QLinearConv"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 8, types(DType::kInt32), "QLinearConv"));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 2, "QLinearConv"));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 3, 5, "QLinearConv"));
    for (int i = 0; i < 8; ++i)
      if (!c.has(i)) return error(Code::kInvalidGraph, "QLinearConv: input {} is missing; only the bias may be", i);
    for (const int i : {1, 2, 6, 7}) OCIOR_RETURN_IF_ERROR(check_count(c, i, nullptr));
    OCIOR_ASSIGN(std::optional<Dims> shape, window.infer(c, 0, 3, 8));
    for (const int i : {4, 5})
      if (shape) OCIOR_RETURN_IF_ERROR(check_count(c, i, &(*shape)[1]));
    c.set(0, c.dtype(7), std::move(shape));
    return {};
  }

  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(const conv::Geometry g, window.geometry(c.in(0).shape(), c.in(3).shape()));
    OCIOR_ASSIGN(const std::vector<int32_t> y, sums(c, g, 0, 2, 3, 5));
    const std::vector<double> w_scale = nn::doubles(c.in(4));
    if (c.in(1).count() != 1 || c.in(6).count() != 1 || c.in(7).count() != 1 ||
        (w_scale.size() != 1 && std::ssize(w_scale) != g.out_channels))
      return error(Code::kInvalidArgument, "QLinearConv: expected one scale and zero point for x and y, and one or {} for w",
                   g.out_channels);
    const double scale = nn::doubles(c.in(1))[0] / nn::doubles(c.in(6))[0];
    const int64_t zero = get_int(c.in(7).dtype(), c.in(7).data(), 0);
    const DType dtype = c.out(0).dtype();
    const double lo = dtype == DType::kInt8 ? -128 : 0, hi = dtype == DType::kInt8 ? 127 : 255;
    const int64_t pixels = g.pixels();
    for (size_t i = 0; i < y.size(); ++i) {
      const auto m = static_cast<size_t>(static_cast<int64_t>(i) / pixels % g.out_channels);
      int32_t sum = y[i];
      if (c.has(8)) sum = static_cast<int32_t>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(c.in(8).as<int32_t>()[m]));
      const double v = std::nearbyint(sum * (scale * w_scale[w_scale.size() == 1 ? 0 : m])) + static_cast<double>(zero);
      set_int(dtype, c.out(0).data(), static_cast<int64_t>(i), static_cast<int64_t>(std::isnan(v) ? 0 : std::clamp(v, lo, hi)));
    }
    return {};
  }

  static std::vector<Sample> samples();
};

std::vector<Sample> ConvInteger::samples() {
  using Ints = std::vector<int64_t>;
  std::vector<Sample> out;
  for (const DType x : {DType::kUint8, DType::kInt8})
    for (const DType w : {DType::kUint8, DType::kInt8})
      for (const int points : {0, 1, 4}) {
        Sample s{.attributes = {{"pads", Ints{1, 0, 1, 2}}, {"strides", Ints{2, 1}}, {"group", int64_t{2}}}};
        add_inputs(s.inputs, x, {2, 6, 5, 7});
        add_inputs(s.inputs, w, {4, 3, 3, 2});
        add_inputs(s.inputs, x, {});
        s.inputs.back().omitted = points == 0;
        add_inputs(s.inputs, w, points == 4 ? Shape{4} : Shape{});
        s.inputs.back().omitted = points == 0;
        out.push_back(std::move(s));
      }
  Sample line{.attributes = {{"auto_pad", std::string("SAME_LOWER")}}};
  add_inputs(line.inputs, DType::kUint8, {1, 2, 9});
  add_inputs(line.inputs, DType::kInt8, {3, 2, 4});
  out.push_back(line);
  line.inputs[0].shape = {0, 2, 9};
  out.push_back(line);
  return out;
}

std::vector<Sample> QLinearConv::samples() {
  using Ints = std::vector<int64_t>;
  std::vector<Sample> out;
  for (const DType x : {DType::kUint8, DType::kInt8})
    for (const bool per_channel : {false, true})
      for (const bool bias : {false, true}) {
        Sample s{.attributes = {{"pads", Ints{1, 0, 1, 2}}, {"dilations", Ints{1, 2}}, {"group", int64_t{2}}}};
        const Shape points = per_channel ? Shape{4} : Shape{};
        add_inputs(s.inputs, x, {2, 6, 5, 7});
        s.inputs.push_back({.shape = {}, .values = {0.013}});
        add_inputs(s.inputs, x, {});
        add_inputs(s.inputs, DType::kInt8, {4, 3, 3, 2});
        s.inputs.push_back({.shape = points, .fill = Fill::kPositive});
        add_inputs(s.inputs, DType::kInt8, points);
        s.inputs.push_back({.shape = {}, .values = {3.7}});
        add_inputs(s.inputs, x, {});
        s.inputs.push_back({.dtype = DType::kInt32, .shape = {4}, .omitted = !bias});
        out.push_back(std::move(s));
      }
  return out;
}

OCIOR_OPERATOR(ConvInteger)
OCIOR_OPERATOR(QLinearConv)

}  // namespace ocior::ops
