// Conv: weighted sums over windows of the input (https://onnx.ai/onnx/operators/onnx__Conv.html), and the forms of it that are
// followed by an activation.
#include "ops/conv/conv_driver.h"
#include "ops/conv/window.h"
#include "ops/microsoft/microsoft.h"
#include "ops/nn/activation.h"
#include "ops/nn/numeric.h"

namespace ocior::ops {

namespace {

Status infer_conv(ShapeContext& c, const conv::Window& window) {
  for (int i = 0; i < 3; ++i) OCIOR_RETURN_IF_ERROR(check_type(c, i, kFloats, "Conv"));
  for (int i = 1; i < 3; ++i) OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, i, "Conv"));
  OCIOR_ASSIGN(std::optional<Dims> shape, window.infer(c, 0, 1, 2));
  if (c.has(3) && c.shape(3) && shape && !nn::may_equal(*c.shape(3), *shape))
    return error(Code::kInvalidGraph, "FusedConv: residual has shape {}; expected {}", to_string(*c.shape(3)), to_string(*shape));
  c.set(0, c.dtype(0), std::move(shape));
  return {};
}

// Input 3, when given, is added before the activation.
Status reference_conv(RefContext& c, const conv::Window& window, const conv::Tail& tail) {
  OCIOR_ASSIGN(const conv::Geometry g, window.geometry(c.in(0).shape(), c.in(1).shape()));
  std::vector<double> y = conv::convolve(g, nn::doubles(c.in(0)), nn::doubles(c.in(1)));
  const std::vector<double> bias = c.has(2) ? nn::doubles(c.in(2)) : std::vector<double>();
  const std::vector<double> residual = c.has(3) ? nn::doubles(c.in(3)) : std::vector<double>(y.size());
  const auto pixels = static_cast<size_t>(g.pixels());
  for (size_t i = 0; i < y.size(); ++i)
    y[i] = nn::apply(tail.act, y[i] + (bias.empty() ? 0 : bias[i / pixels % bias.size()]) + residual[i], tail.lo, tail.hi);
  nn::store(c.out(0), y);
  return {};
}

double work_of(const BindContext& c) {
  const auto outputs = static_cast<double>(std::max<int64_t>(1, c.in(1).shape[0]));
  return 2.0 * static_cast<double>(c.out(0).count()) * static_cast<double>(c.in(1).count()) / outputs;
}

}  // namespace

struct Conv {
  static constexpr OpInfo info{.name = "Conv", .min_inputs = 2, .max_inputs = 3};

  conv::Window window;

  static Conv parse(const NodeReader& node) { return {conv::Window::parse(node)}; }
  Status infer(ShapeContext& c) const { return infer_conv(c, window); }
  Status reference(RefContext& c) const { return reference_conv(c, window, {}); }
  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const { return conv::prepare(c, window); }
  size_t scratch(const BindContext& c) const { return c.in(0).dtype == DType::kFloat ? conv::scratch(c, window) : 0; }
  double work(const BindContext& c) const { return work_of(c); }
  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    return conv::run(c, window, {});
  }
  std::string describe(const Prepared* prepared) const { return conv::describe(prepared); }
  static std::vector<Sample> samples();
};

// FusedConv (ai.ocior): a Conv, the sum with input 3 (a residual of y's shape, or none) and the activation behind it. Made by
// passes.
struct FusedConv {
  static constexpr OpInfo info{.name = "FusedConv", .domain = kOcior, .min_inputs = 2, .max_inputs = 4};

  conv::Window window;
  conv::Tail tail;

  static FusedConv parse(const NodeReader& node) {
    const std::string name = node.text("activation", "none");
    const auto act = nn::activation_of(name);
    if (!act) node.fail("activation '{}' is unknown", name);
    return {conv::Window::parse(node), {act.value_or(Activation::kNone), node.number("act_p", 0), node.number("act_q", 0)}};
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 3, kFloats, "FusedConv"));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 3, "FusedConv"));
    return infer_conv(c, window);
  }
  Status reference(RefContext& c) const { return reference_conv(c, window, tail); }
  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const { return conv::prepare(c, window); }
  size_t scratch(const BindContext& c) const { return c.in(0).dtype == DType::kFloat ? conv::scratch(c, window) : 0; }
  double work(const BindContext& c) const { return work_of(c); }
  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    return conv::run(c, window, tail);
  }
  std::string describe(const Prepared* prepared) const { return conv::describe(prepared); }

  static std::vector<Sample> samples() {
    using Ints = std::vector<int64_t>;
    std::vector<Sample> out;
    for (int a = 0; a < nn::kActivations; ++a)
      for (const auto& [x, w, group] : {std::tuple{Shape{1, 3, 30, 40}, Shape{5, 3, 3, 3}, 1},
                                        {{2, 40, 5, 4}, {30, 40, 3, 3}, 1},
                                        {{2, 4, 9, 7}, {4, 1, 3, 3}, 4},
                                        {{1, 0, 4, 4}, {3, 0, 3, 3}, 1}})
        out.push_back({.inputs = {{.shape = x}, {.shape = w, .constant = true}, {.shape = {w[0]}, .constant = true}},
                       .attributes = {{"activation", std::string(nn::name_of(static_cast<Activation>(a)))},
                                      {"act_p", 0.25f},
                                      {"act_q", 0.5f},
                                      {"group", int64_t{group}},
                                      {"pads", Ints{1, 1, 1, 1}}},
                       .tolerance = 3e-5});  // of clipped outputs, not of the sums
    for (size_t i = out.size(); i-- > 0;) {
      const Shape &x = out[i].inputs[0].shape, &w = out[i].inputs[1].shape;
      out.push_back(out[i]);
      out.back().inputs.push_back({.shape = {x[0], w[0], x[2], x[3]}});
    }
    for (const size_t i : {size_t{1}, out.size() - 2}) {
      out.push_back(out[i]);
      for (SampleInput& input : out.back().inputs) input.dtype = DType::kDouble;
    }
    return out;
  }
};

// FusedConv of com.microsoft: the sum, then Z (input 3, like the output), then the activation.
struct MicrosoftFusedConv : FusedConv {
  static constexpr OpInfo info{.name = "FusedConv", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 4};

  static MicrosoftFusedConv parse(const NodeReader& node) {
    MicrosoftFusedConv op{{conv::Window::parse(node), {}}};
    const std::string name = node.text("activation", "");
    const std::vector<float> numbers = node.numbers("activation_params");
    for (const Named& known : kNamed) {
      if (known.name != name) continue;
      if (numbers.size() != known.numbers)
        node.fail("activation_params has {} elements; expected {} for '{}'", numbers.size(), known.numbers, name);
      op.tail = {known.act, numbers.empty() ? 0 : numbers[0], numbers.size() < 2 ? 0 : numbers[1]};
      return op;
    }
    node.fail("activation '{}' is not supported; expected Relu, LeakyRelu, Tanh, Sigmoid, HardSigmoid, HardSwish or Clip", name);
    return op;
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const Named& known : kNamed)
      for (const bool added : {false, true})
        for (const DType t : {DType::kFloat, DType::kFloat16}) {
          std::vector<float> numbers{0.25f, 0.5f};
          numbers.resize(known.numbers);
          out.push_back({.inputs = {{t, {2, 6, 7, 9}},
                                    {.dtype = t, .shape = {4, 3, 3, 3}, .constant = true},
                                    {.dtype = t, .shape = {4}, .constant = true},
                                    {.dtype = t, .shape = {2, 4, 7, 9}, .omitted = !added}},
                         .attributes = {{"activation", std::string(known.name)},
                                        {"activation_params", numbers},
                                        {"group", int64_t{2}},
                                        {"pads", std::vector<int64_t>{1, 1, 1, 1}}},
                         .tolerance = t == DType::kFloat ? 3e-5 : 2e-3});
        }
    return out;
  }

 private:
  struct Named {
    std::string_view name;
    Activation act;
    size_t numbers;
  };
  static constexpr Named kNamed[] = {
      {"", Activation::kNone},
      {"Relu", Activation::kRelu},
      {"LeakyRelu", Activation::kLeakyRelu, 1},
      {"Tanh", Activation::kTanh},
      {"Sigmoid", Activation::kSigmoid},
      {"HardSigmoid", Activation::kHardSigmoid, 2},
      {"HardSwish", Activation::kHardSwish},
      {"Clip", Activation::kClip, 2},
  };
};

std::vector<Sample> Conv::samples() {
  using Ints = std::vector<int64_t>;
  std::vector<Sample> out;
  const auto add = [&out](Shape x, Shape w, Attributes attributes = {}, bool bias = true, bool constant = true,
                          DType dtype = DType::kFloat) {
    const int64_t outputs = w[0];
    out.push_back({.inputs = {{.dtype = dtype, .shape = std::move(x)},
                              {.dtype = dtype, .shape = std::move(w), .constant = constant},
                              {.dtype = dtype, .shape = {outputs}, .constant = constant, .omitted = !bias}},
                   .attributes = std::move(attributes),
                   .tolerance = dtype == DType::kFloat    ? 3e-6
                                : dtype == DType::kDouble ? 1e-14
                                                          : 1e-3});
  };
  const Attributes same_upper{{"auto_pad", std::string("SAME_UPPER")}, {"strides", Ints{2, 2}}};
  const Attributes same_lower{{"auto_pad", std::string("SAME_LOWER")}, {"strides", Ints{2, 3}}, {"dilations", Ints{1, 2}}};
  const Attributes valid{{"auto_pad", std::string("VALID")}, {"kernel_shape", Ints{3, 2}}};
  const Attributes padded{{"pads", Ints{1, 1, 1, 1}}};
  const Attributes uneven{{"pads", Ints{2, 0, 1, 3}}, {"strides", Ints{1, 2}}, {"dilations", Ints{2, 1}}};
  const auto grouped = [](Attributes attributes, int64_t group) {
    attributes["group"] = group;
    return attributes;
  };
  for (const bool constant : {true, false})
    for (const bool bias : {true, false}) {
      add({1, 1, 1}, {1, 1, 1}, {}, bias, constant);
      add({2, 3, 40}, {5, 3, 3}, {{"pads", Ints{1, 1}}}, bias, constant);
      add({2, 3, 7, 9}, {4, 3, 3, 3}, padded, bias, constant);
      for (const Attributes& a : {same_upper, same_lower, valid, uneven}) {
        add({1, 3, 11, 13}, {6, 3, 3, 2}, a, bias, constant);
        add({2, 6, 11, 13}, {9, 2, 3, 2}, grouped(a, 3), bias, constant);
        add({1, 5, 11, 13}, {5, 1, 3, 2}, grouped(a, 5), bias, constant);
        add({1, 3, 40, 37}, {8, 3, 3, 2}, a, bias, constant);
      }
      add({1, 3, 4, 5, 6}, {4, 3, 2, 3, 3}, {{"pads", Ints{1, 0, 1, 0, 1, 1}}, {"strides", Ints{2, 1, 1}}}, bias, constant);
      add({1, 3, 3, 4, 3, 5}, {2, 3, 2, 2, 2, 2}, {}, bias, constant);
      add({1, 4, 3, 4, 5}, {4, 1, 2, 2, 2}, {{"group", int64_t{4}}}, bias, constant);
      add({1, 70, 5, 6}, {50, 70, 1, 1}, {}, bias, constant);
      add({2, 33, 40, 30}, {50, 33, 1, 1}, {}, bias, constant);
      add({1, 4, 9, 9}, {8, 1, 3, 3}, grouped(padded, 4), bias, constant);
      add({2, 4, 40}, {4, 1, 5}, {{"group", int64_t{4}}, {"pads", Ints{4, 0}}, {"dilations", Ints{1}}}, bias, constant);
    }
  add({1, 3, 33, 35}, {10, 3, 7, 7}, {{"pads", Ints{3, 3, 3, 3}}, {"strides", Ints{2, 2}}});
  add({1, 64, 7, 7}, {96, 64, 3, 3}, padded);
  add({1, 64, 14, 14}, {100, 64, 3, 3}, padded);
  add({1, 600, 3, 3}, {40, 600, 1, 1});
  add({1, 48, 1, 1}, {12, 48, 1, 1});
  add({1, 32, 28, 28}, {48, 32, 3, 3}, padded);
  for (const int64_t stride : {1, 2, 3})
    for (const int64_t kernel : {3, 5})
      for (const int64_t size : {7, 14, 33})
        add({1, 3, size, size}, {3, 1, kernel, kernel},
            {{"group", int64_t{3}},
             {"pads", Ints{kernel / 2, kernel / 2, kernel / 2, kernel / 2}},
             {"strides", Ints{stride, stride}}});
  add({1, 3, 20, 20}, {3, 1, 3, 3}, {{"group", int64_t{3}}, {"dilations", Ints{7, 7}}});
  add({1, 3, 4, 4}, {3, 1, 2, 2}, {{"group", int64_t{3}}, {"dilations", Ints{100, 100}}, {"pads", Ints{50, 50, 50, 50}}});
  add({0, 3, 5, 5}, {4, 3, 3, 3}, padded);
  add({2, 0, 5, 5}, {4, 0, 3, 3}, padded);
  add({2, 3, 5, 5}, {0, 3, 3, 3}, padded);
  add({2, 3, 0, 5}, {4, 3, 1, 1});
  for (const DType dtype : {DType::kDouble, DType::kFloat16, DType::kBFloat16}) {
    add({2, 4, 5, 6}, {6, 2, 3, 3}, grouped(padded, 2), true, true, dtype);
    if (dtype == DType::kBFloat16) out.back().tolerance = 1e-2;
  }
  add({1, 2, 5, 5}, {3, 2, 3, 3}, padded);
  out.back().opset = 1;
  add({1, 2, 5, 5}, {3, 2, 3, 3}, same_upper);
  out.back().opset = 11;
  const auto bench = [&](int64_t channels, int64_t size, int64_t outputs, int64_t kernel, int64_t stride, int64_t group = 1) {
    const int64_t pad = kernel / 2;
    add({1, channels, size, size}, {outputs, channels / group, kernel, kernel},
        {{"pads", Ints{pad, pad, pad, pad}}, {"strides", Ints{stride, stride}}, {"group", group}});
    out.back().bench = true;
  };
  bench(3, 224, 64, 7, 2);
  bench(64, 56, 64, 3, 1);
  bench(64, 56, 256, 1, 1);
  bench(256, 14, 256, 3, 1);
  bench(512, 7, 512, 3, 1);
  bench(96, 56, 96, 3, 1, 96);
  return out;
}

OCIOR_OPERATOR(Conv)
OCIOR_OPERATOR(FusedConv)
OCIOR_OPERATOR(MicrosoftFusedConv)

}  // namespace ocior::ops
