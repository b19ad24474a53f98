// ConvInteger, QLinearConv and that of com.microsoft: convolutions of 8-bit numbers, exact in 32 bits
// (https://onnx.ai/onnx/operators/onnx__ConvInteger.html, https://onnx.ai/onnx/operators/onnx__QLinearConv.html).
#include <cmath>

#include "ops/conv/byte_conv.h"
#include "ops/evaluate.h"
#include "ops/microsoft/microsoft.h"
#include "ops/nn/numeric.h"
#include "ops/quant/integer_product.h"

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

// [n, channels, pixels] of [n, pixels, channels].
template <class T>
std::vector<T> channels_second(const std::vector<T>& x, int64_t channels, int64_t pixels) {
  std::vector<T> out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    out[static_cast<size_t>((at / channels / pixels * channels + at % channels) * pixels + at / channels % pixels)] = x[i];
  }
  return out;
}

// The sums, wrapped to 32 bits, channels second.
Result<std::vector<int32_t>> sums(RefContext& c, const conv::Geometry& g, const conv::ByteInputs& inputs, bool channels_last) {
  OCIOR_ASSIGN(std::vector<int64_t> a, centred(c, inputs.x, inputs.x_zero, 1));
  OCIOR_ASSIGN(const std::vector<int64_t> b, centred(c, inputs.w, inputs.w_zero, g.out_channels));
  if (channels_last) a = channels_second(a, g.channels, g.plane());
  const std::vector<int64_t> wide = conv::convolve(g, a, b);
  return std::vector<int32_t>(wide.begin(), wide.end());
}

double conv_work(const BindContext& c, const conv::ByteInputs& inputs) {
  const std::span<const int64_t> w = c.in(inputs.w).shape;
  return 2.0 * static_cast<double>(c.out(0).count()) * static_cast<double>(element_count(w.subspan(1)));
}

// Sums as they are.
class Plain final : public conv::ByteSums {
 public:
  Plain(int32_t* y, const conv::Geometry& g) : y_(y), channels_(g.out_channels), pixels_(g.pixels()) {}
  void take(int64_t image, int64_t channel, int64_t pixel, const int32_t* sums, int64_t n) const override {
    std::copy_n(sums, n, y_ + (image * channels_ + channel) * pixels_ + pixel);
  }

 private:
  int32_t* y_;
  int64_t channels_, pixels_;
};

// What becomes of a sum in QLinearConv: saturate(round((sum + bias) * (x scale * w scale / y scale)) + y zero point), each
// product and quotient rounded to float.
struct Requantization {
  DType dtype = DType::kUint8;
  float x_scale = 1, y_scale = 1;
  int32_t y_zero = 0;
  std::span<const float> w_scales;
  const int32_t* bias = nullptr;

  float scale(int64_t channel) const {
    return x_scale * w_scales[w_scales.size() == 1 ? 0 : static_cast<size_t>(channel)] / y_scale;
  }
  int32_t added(int64_t channel) const { return bias ? bias[channel] : 0; }
};

class Requantized final : public conv::ByteSums {
 public:
  Requantized(const KernelTable& kernels, const Requantization& how, uint8_t* y, const conv::Geometry& g)
      : kernels_(kernels), how_(how), y_(y), channels_(g.out_channels), pixels_(g.pixels()) {}
  void take(int64_t image, int64_t channel, int64_t pixel, const int32_t* sums, int64_t n) const override {
    const float scale = how_.scale(channel);
    kernels_.requantize(sums, how_.added(channel), &scale, 0, how_.y_zero, how_.dtype == DType::kInt8,
                        y_ + (image * channels_ + channel) * pixels_ + pixel, n);
  }

 private:
  const KernelTable& kernels_;
  const Requantization& how_;
  uint8_t* y_;
  int64_t channels_, pixels_;
};

// The shape of x with channels second, and the other way round.
Shape channels_second(std::span<const int64_t> x) {
  Shape out(x.begin(), x.end());
  if (out.size() > 2) std::rotate(out.begin() + 1, out.end() - 1, out.end());
  return out;
}

// Shape inference that sees input 0 with channels second.
class ChannelsSecond final : public ShapeContext {
 public:
  explicit ChannelsSecond(ShapeContext& c) : c_(c), x_(c.in(0)) {
    if (x_.shape && x_.shape->size() > 2) std::rotate(x_.shape->begin() + 1, x_.shape->end() - 1, x_.shape->end());
  }
  int inputs() const override { return c_.inputs(); }
  int outputs() const override { return c_.outputs(); }
  bool has(int i) const override { return c_.has(i); }
  const Type& in(int i) const override { return i == 0 ? x_ : c_.in(i); }
  const Tensor* constant(int i) const override { return c_.constant(i); }
  const Dims* data(int i) const override { return c_.data(i); }
  void set(int i, Type type) override { c_.set(i, std::move(type)); }
  void set_data(int i, Dims elements) override { c_.set_data(i, std::move(elements)); }
  Dim fresh(std::string_view hint) override { return c_.fresh(hint); }

 private:
  ShapeContext& c_;
  Type x_;
};

void add_inputs(std::vector<SampleInput>& to, DType dtype, Shape shape) {
  to.push_back({.dtype = dtype, .shape = std::move(shape), .fill = Fill::kSpecials});
}

}  // namespace

struct ConvInteger {
  static constexpr OpInfo info{.name = "ConvInteger", .since = 10, .min_inputs = 2, .max_inputs = 4};

  static constexpr conv::ByteInputs kInputs{.x = 0, .x_zero = 2, .w = 1, .w_zero = 3};

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
    OCIOR_ASSIGN(const std::vector<int32_t> y, sums(c, g, kInputs, false));
    std::copy(y.begin(), y.end(), c.out(0).as<int32_t>());
    return {};
  }

  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const { return conv::prepare_bytes(c, kInputs, window); }
  size_t scratch(const BindContext& c) const {
    const auto g = window.geometry(c.in(0).shape, c.in(1).shape);
    return g.ok() ? conv::byte_scratch(c, *g) : 0;
  }
  double work(const BindContext& c) const { return conv_work(c, kInputs); }

  Status run(CpuContext& c) const {
    OCIOR_ASSIGN(const conv::Geometry g, window.geometry(c.in(0).shape, c.in(1).shape));
    return conv::run_bytes(c, kInputs, g, c.in(0).as<uint8_t>(), Plain(c.out(0).as<int32_t>(), g), c.scratch());
  }

  static std::vector<Sample> samples();
};

struct QLinearConv {
  static constexpr OpInfo info{.name = "QLinearConv", .since = 10, .min_inputs = 8, .max_inputs = 9};
  enum Input { kX, kXScale, kXZero, kW, kWScale, kWZero, kYScale, kYZero, kBias };
  static constexpr conv::ByteInputs kInputs{.x = kX, .x_zero = kXZero, .w = kW, .w_zero = kWZero};

  conv::Window window;
  bool channels_last = false;

  static QLinearConv parse(const NodeReader& node) { return {conv::Window::parse(node)}; }

  Status infer(ShapeContext& c) const {
    for (const int i : {kX, kXZero, kW, kWZero, kYZero}) OCIOR_RETURN_IF_ERROR(check_type(c, i, kBytes, "QLinearConv"));
    for (const int i : {kXScale, kWScale, kYScale}) OCIOR_RETURN_IF_ERROR(check_type(c, i, types(DType::kFloat), "QLinearConv"));
    OCIOR_RETURN_IF_ERROR(check_type(c, kBias, types(DType::kInt32), "QLinearConv"));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, kX, kXZero, "QLinearConv"));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, kW, kWZero, "QLinearConv"));
    for (int i = 0; i < kBias; ++i)
      if (!c.has(i)) return error(Code::kInvalidGraph, "QLinearConv: input {} is missing; only the bias may be", i);
    for (const int i : {kXScale, kXZero, kYScale, kYZero}) OCIOR_RETURN_IF_ERROR(check_count(c, i, nullptr));
    ChannelsSecond turned(c);
    OCIOR_ASSIGN(std::optional<Dims> shape, window.infer(channels_last ? turned : c, kX, kW, kBias));
    for (const int i : {kWScale, kWZero})
      if (shape) OCIOR_RETURN_IF_ERROR(check_count(c, i, &(*shape)[1]));
    if (shape && channels_last) std::rotate(shape->begin() + 1, shape->begin() + 2, shape->end());
    c.set(0, c.dtype(kYZero), std::move(shape));
    return {};
  }

  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(const conv::Geometry g, geometry(c.in(kX).shape(), c.in(kW).shape()));
    OCIOR_ASSIGN(const Requantization how, requantization(c, g));
    OCIOR_ASSIGN(const std::vector<int32_t> y, sums(c, g, kInputs, channels_last));
    const int64_t pixels = g.pixels();
    for (size_t i = 0; i < y.size(); ++i) {
      const auto at = static_cast<int64_t>(i);
      const int64_t m = at / pixels % g.out_channels, image = at / pixels / g.out_channels;
      const auto sum = static_cast<int32_t>(static_cast<uint32_t>(y[i]) + static_cast<uint32_t>(how.added(m)));
      const double v = std::nearbyint(static_cast<float>(sum) * how.scale(m)) + how.y_zero;
      set_double(how.dtype, c.out(0).data(), channels_last ? (image * pixels + at % pixels) * g.out_channels + m : at,
                 quant::saturated(v, quant::range_of(how.dtype)));
    }
    return {};
  }

  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const { return conv::prepare_bytes(c, kInputs, window); }
  size_t scratch(const BindContext& c) const {
    const auto g = geometry(c.in(kX).shape, c.in(kW).shape);
    return g.ok() ? turned_bytes(*g).used() + conv::byte_scratch(c, *g) : 0;
  }
  double work(const BindContext& c) const { return conv_work(c, kInputs); }

  Status run(CpuContext& c) const {
    OCIOR_ASSIGN(const conv::Geometry g, geometry(c.in(kX).shape, c.in(kW).shape));
    OCIOR_ASSIGN(const Requantization how, requantization(c, g));
    const auto* x = c.in(kX).as<uint8_t>();
    auto* y = c.out(0).as<uint8_t>();
    if (!channels_last) return conv::run_bytes(c, kInputs, g, x, Requantized(c.kernels(), how, y, g), c.scratch());
    nn::Carver carver(c.scratch());
    auto* x_turned = carver.take<uint8_t>(elements_of_x(g));
    auto* y_turned = carver.take<uint8_t>(elements_of_y(g));
    transpose(c, x, g.batch, g.plane(), g.channels, x_turned);
    OCIOR_RETURN_IF_ERROR(conv::run_bytes(c, kInputs, g, x_turned, Requantized(c.kernels(), how, y_turned, g), carver.take(0)));
    transpose(c, y_turned, g.batch, g.out_channels, g.pixels(), y);
    return {};
  }

  static std::vector<Sample> samples();

 private:
  Result<conv::Geometry> geometry(std::span<const int64_t> x, std::span<const int64_t> w) const {
    return channels_last ? window.geometry(channels_second(x), w) : window.geometry(x, w);
  }
  static size_t elements_of_x(const conv::Geometry& g) { return static_cast<size_t>(g.batch * g.channels * g.plane()); }
  static size_t elements_of_y(const conv::Geometry& g) { return static_cast<size_t>(g.batch * g.out_channels * g.pixels()); }
  // x and y with channels second, where they are last.
  nn::Carver turned_bytes(const conv::Geometry& g) const {
    nn::Carver carver;
    if (channels_last) carver.take<uint8_t>(elements_of_x(g)), carver.take<uint8_t>(elements_of_y(g));
    return carver;
  }
  // Images of [rows, columns] bytes each.
  static void transpose(CpuContext& c, const uint8_t* in, int64_t images, int64_t rows, int64_t columns, uint8_t* out) {
    const int64_t step = std::max<int64_t>(8, nn::rows_per_chunk(columns) / 8 * 8), each = nn::chunks_of(rows, step);
    c.team().parallel_for(images * each, c.stop(), [&](int64_t task, int) {
      const int64_t image = task / each * rows * columns, row = task % each * step;
      conv::transpose_bytes(in + image + row * columns, std::min(step, rows - row), columns, out + image + row, rows);
    });
  }

  template <class C>
  static Result<Requantization> requantization(C& c, const conv::Geometry& g) {
    const quant::Operand x_scale(c.in(kXScale)), w_scale(c.in(kWScale)), y_scale(c.in(kYScale)), y_zero(c.in(kYZero));
    const int64_t scales = element_count(w_scale.shape);
    if (element_count(x_scale.shape) != 1 || element_count(y_scale.shape) != 1 || element_count(y_zero.shape) != 1 ||
        (scales != 1 && scales != g.out_channels))
      return error(Code::kInvalidArgument, "QLinearConv: expected one scale and zero point for x and y, and one or {} for w",
                   g.out_channels);
    return Requantization{.dtype = y_zero.dtype,
                          .x_scale = *static_cast<const float*>(x_scale.data),
                          .y_scale = *static_cast<const float*>(y_scale.data),
                          .y_zero = static_cast<int32_t>(get_int(y_zero.dtype, y_zero.data, 0)),
                          .w_scales = {static_cast<const float*>(w_scale.data), static_cast<size_t>(scales)},
                          .bias = c.has(kBias) ? static_cast<const int32_t*>(quant::Operand(c.in(kBias)).data) : nullptr};
  }
};

// That of com.microsoft has channels_last: x and y are [n, spatial..., channels] then, w is as ever.
struct MicrosoftQLinearConv : QLinearConv {
  static constexpr OpInfo info{.name = "QLinearConv", .domain = kMicrosoft, .min_inputs = 8, .max_inputs = 9};

  static MicrosoftQLinearConv parse(const NodeReader& node) {
    return {{conv::Window::parse(node), node.integer("channels_last", 0) != 0}};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out = QLinearConv::samples();
    for (Sample& s : QLinearConv::samples()) {
      Shape& x = s.inputs[0].shape;
      std::rotate(x.begin() + 1, x.begin() + 2, x.end());
      s.attributes["channels_last"] = int64_t{1};
      out.push_back(std::move(s));
    }
    return out;
  }
};

namespace {

// Shapes for every way of computing: one tap, strides, pairs of channels in place, channel by channel; more rows and pixels than
// a tile, odd channels, padding on one side.
struct Route {
  Shape x, w;
  Attributes attributes;
};
std::vector<Route> routes() {
  using Ints = std::vector<int64_t>;
  return {{{1, 5, 12, 13}, {7, 5, 1, 1}, {}},
          {{2, 8, 12, 13}, {100, 8, 1, 1}, {}},
          {{2, 5, 12, 13}, {9, 5, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}}},
          {{1, 6, 15, 40}, {98, 3, 2, 3}, {{"pads", Ints{0, 2, 1, 0}}, {"dilations", Ints{2, 1}}, {"group", int64_t{2}}}},
          {{1, 3, 17, 19}, {8, 3, 3, 3}, {{"strides", Ints{2, 3}}, {"pads", Ints{1, 1, 1, 1}}}},
          {{1, 4, 6, 3}, {5, 4, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}}},
          {{2, 3, 90}, {4, 3, 5}, {{"pads", Ints{2, 2}}}},
          {{1, 4, 3, 5, 4}, {3, 4, 2, 2, 2}, {{"pads", Ints{1, 0, 0, 0, 1, 1}}}},
          {{2, 6, 14, 15}, {12, 1, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}, {"group", int64_t{6}}}},
          {{1, 4, 14, 15}, {4, 1, 3, 2}, {{"strides", Ints{2, 2}}, {"pads", Ints{1, 0, 0, 1}}, {"group", int64_t{4}}}},
          {{1, 2, 40, 40}, {2, 1, 17, 17}, {{"group", int64_t{2}}}},
          {{1, 1, 20, 21}, {3, 1, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}}}};
}

}  // namespace

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
  for (const auto& [x, w, attributes] : routes())
    for (const bool constant : {false, true}) {
      Sample s{.attributes = attributes};
      add_inputs(s.inputs, DType::kUint8, x);
      add_inputs(s.inputs, DType::kInt8, w);
      s.inputs.back().constant = constant;
      s.inputs.push_back({.dtype = DType::kUint8, .values = {77}});
      s.inputs.push_back({.dtype = DType::kInt8, .shape = {w[0]}, .fill = Fill::kSmallInts, .constant = constant});
      out.push_back(std::move(s));
    }
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
  for (const auto& [x, w, attributes] : routes()) {
    Sample s{.attributes = attributes};
    add_inputs(s.inputs, DType::kUint8, x);
    s.inputs.push_back({.values = {0.013}});
    s.inputs.push_back({.dtype = DType::kUint8, .values = {131}});
    add_inputs(s.inputs, DType::kUint8, w);
    s.inputs.back().constant = true;
    s.inputs.push_back({.shape = {w[0]}, .fill = Fill::kPositive});
    s.inputs.push_back({.dtype = DType::kUint8, .shape = {w[0]}, .fill = Fill::kUniform, .constant = true});
    s.inputs.push_back({.values = {3.7}});
    s.inputs.push_back({.dtype = DType::kInt8, .values = {-3}});
    s.inputs.push_back({.dtype = DType::kInt32, .shape = {w[0]}});
    out.push_back(std::move(s));
  }
  return out;
}

OCIOR_OPERATOR(ConvInteger)
OCIOR_OPERATOR(QLinearConv)
OCIOR_OPERATOR(MicrosoftQLinearConv)

}  // namespace ocior::ops
