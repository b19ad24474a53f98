// CausalConvWithState: a depthwise convolution over past and present of a sequence, which hands its last values on
// (https://onnx.ai/onnx/operators/onnx__CausalConvWithState.html).
#include <cmath>
#include <cstring>

#include "base/pool.h"
#include "ops/evaluate.h"
#include "ops/nn/numeric.h"
#include "ops/shape_data.h"

namespace ocior::ops {

struct CausalConvWithState {
  static constexpr OpInfo info{.name = "CausalConvWithState", .since = 27, .min_inputs = 2, .max_inputs = 4, .max_outputs = 2};

  bool silu = false;

  static CausalConvWithState parse(const NodeReader& node) {
    const std::string activation = node.text("activation", "none");
    if (activation != "none" && activation != "silu" && activation != "swish")
      node.fail("activation is '{}'; expected none, silu or swish", activation);
    return {activation != "none"};
  }

  Status infer(ShapeContext& c) const {
    constexpr TypeSet kTypes = types(DType::kFloat, DType::kFloat16, DType::kBFloat16);
    for (int i = 0; i < 4; ++i) {
      OCIOR_RETURN_IF_ERROR(check_type(c, i, kTypes, "CausalConvWithState"));
      OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, i, "CausalConvWithState"));
      const size_t rank = i == 2 ? 1 : 3;
      if (c.has(i) && ranked(c, i) && c.shape(i)->size() != rank)
        return error(Code::kInvalidGraph, "CausalConvWithState: input {} has shape {}; expected rank {}", i,
                     to_string(*c.shape(i)), rank);
    }
    const auto dim = [&c](int input, size_t axis) {
      return c.has(input) && ranked(c, input) ? (*c.shape(input))[axis] : c.fresh("conv");
    };
    const Dim batch = dim(0, 0), channels = ranked(c, 0) ? dim(0, 1) : dim(1, 0), taps = dim(1, 2);
    if (taps.known() && taps.value() < 1)
      return error(Code::kInvalidArgument, "CausalConvWithState: w has {} taps; expected 1 or more", taps.value());
    const Dim kept = taps.known() || !c.has(3) ? taps - 1 : dim(3, 2);
    const auto check = [&](int i, const Dims& want) {
      if (!c.has(i) || !ranked(c, i) || nn::may_equal(*c.shape(i), want)) return Status();
      return error(Code::kInvalidArgument, "CausalConvWithState: input {} has shape {}; expected {}", i, to_string(*c.shape(i)),
                   to_string(want));
    };
    OCIOR_RETURN_IF_ERROR(check(1, {channels, 1, taps}));
    OCIOR_RETURN_IF_ERROR(check(2, {channels}));
    OCIOR_RETURN_IF_ERROR(check(3, {batch, channels, kept}));
    c.set(0, c.in(0));
    c.set(1, c.dtype(0), Dims{batch, channels, kept});
    return {};
  }

  Status reference(RefContext& c) const {
    const std::vector<double> x = nn::doubles(c.in(0)), w = nn::doubles(c.in(1));
    const int64_t rows = c.in(0).shape()[0] * c.in(0).shape()[1], channels = c.in(0).shape()[1], length = c.in(0).shape()[2];
    const int64_t taps = c.in(1).shape()[2], kept = taps - 1;
    const std::vector<double> bias = c.has(2) ? nn::doubles(c.in(2)) : std::vector<double>();
    const std::vector<double> past = c.has(3) ? nn::doubles(c.in(3)) : std::vector<double>();
    const auto value = [&](int64_t row, int64_t i) {  // of the sequence that begins with the past
      if (i >= kept) return x[static_cast<size_t>(row * length + i - kept)];
      return past.empty() ? 0 : past[static_cast<size_t>(row * kept + i)];
    };
    std::vector<double> y(x.size());
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < length; ++i) {
        const int64_t channel = row % channels;
        double sum = bias.empty() ? 0 : bias[static_cast<size_t>(channel)];
        for (int64_t t = 0; t < taps; ++t) sum += value(row, i + t) * w[static_cast<size_t>(channel * taps + t)];
        y[static_cast<size_t>(row * length + i)] = silu ? sum / (1 + std::exp(-sum)) : sum;
      }
    nn::store(c.out(0), y);
    if (!c.wants(1) || rows == 0) return {};
    std::vector<double> state(static_cast<size_t>(rows * kept));
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < kept; ++i) state[static_cast<size_t>(row * kept + i)] = value(row, length + i);
    nn::store(c.out(1), state);
    return {};
  }

  size_t scratch(const BindContext& c) const {
    if (c.in(0).dtype != DType::kFloat || c.in(0).shape[0] * c.in(0).shape[1] == 0) return 0;
    return line(c) * sizeof(float) * static_cast<size_t>(c.workers());
  }

  double work(const BindContext& c) const {
    return 2.0 * static_cast<double>(c.in(0).count()) * static_cast<double>(c.in(1).shape[2]);
  }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    const auto shape = c.in(0).shape;
    const int64_t channels = shape[1], length = shape[2], taps = c.in(1).shape[2], kept = taps - 1;
    const float* past = c.has(3) ? c.in(3).as<float>() : nullptr;
    nn::parallel_rows(c, shape[0] * channels, length * taps + kept, [&](int64_t begin, int64_t end, int worker) {
      float* const x = static_cast<float*>(c.scratch()) + static_cast<size_t>(worker) * line(c);
      for (int64_t row = begin; row < end; ++row) {
        if (past) std::copy_n(past + row * kept, kept, x);
        else std::fill_n(x, kept, 0.0f);
        std::copy_n(c.in(0).as<float>() + row * length, length, x + kept);
        std::fill_n(x + kept + length, DepthwiseArgs::kSlack, 0.0f);
        float* y = c.out(0).as<float>() + row * length;
        const int64_t channel = row % channels;
        const DepthwiseArgs args{.x = x,
                                 .w = c.in(1).as<float>() + channel * taps,
                                 .y = y,
                                 .out_h = 1,
                                 .out_w = length,
                                 .kernel_h = 1,
                                 .kernel_w = taps,
                                 .bias = c.has(2) ? c.in(2).as<float>()[channel] : 0};
        c.kernels().depthwise_conv_f32(args, 0, 1);
        if (silu) c.kernels().unary_f32(UnaryFn::kSilu, y, y, length, 0, 0);
        if (c.wants(1)) std::copy_n(x + length, kept, c.out(1).as<float>() + row * kept);
      }
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&out](Shape x, int64_t taps, bool bias, bool past, const char* activation, DType dtype = DType::kFloat) {
      const int64_t batch = x[0], channels = x[1];
      out.push_back({.inputs = {{.dtype = dtype, .shape = std::move(x)},
                                {.dtype = dtype, .shape = {channels, 1, taps}},
                                {.dtype = dtype, .shape = {channels}, .omitted = !bias},
                                {.dtype = dtype, .shape = {batch, channels, taps - 1}, .omitted = !past}},
                     .attributes = {{"activation", std::string(activation)}},
                     .outputs = 2,
                     .tolerance = dtype == DType::kFloat ? 2e-6 : 1e-2});
    };
    for (const char* activation : {"none", "silu", "swish"})
      for (const bool bias : {false, true})
        for (const bool past : {false, true}) {
          add({2, 4, 8}, 4, bias, past, activation);
          add({2, 4, 1}, 4, bias, past, activation);
          add({1, 3, 70}, 7, bias, past, activation);
        }
    add({2, 4, 8}, 1, true, false, "none");
    add({2, 4, 2}, 5, false, false, "none");
    add({0, 4, 8}, 3, true, true, "none");
    add({2, 4, 0}, 3, true, true, "none");
    for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) add({2, 3, 5}, 3, true, true, "silu", dtype);
    out.push_back(out.front());
    out.back().outputs = 1;
    return out;
  }

 private:
  // Floats of a worker's line: past, input, and what the kernel may read behind them.
  template <class Context>
  static size_t line(const Context& c) {
    const int64_t floats = c.in(1).shape[2] + c.in(0).shape[2] + DepthwiseArgs::kSlack;
    return nn::align64(static_cast<size_t>(floats) * sizeof(float)) / sizeof(float);
  }
};

OCIOR_OPERATOR(CausalConvWithState)

}  // namespace ocior::ops
