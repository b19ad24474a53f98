// BatchNormalization (https://onnx.ai/onnx/operators/onnx__BatchNormalization.html): x [n, c, ...] normalised per channel, with
// given statistics or, in training mode (by the reference), with those of the batch.
#include <cmath>

#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct BatchNormalization {
  static constexpr OpInfo info{.name = "BatchNormalization", .min_inputs = 5, .max_inputs = 5, .max_outputs = 5, .in_place = 1};

  float epsilon = 1e-5f, momentum = 0.9f;
  bool training = false;
  bool spatial = true;  // false (opset < 9): statistics per element of a sample, not per channel

  static BatchNormalization parse(const NodeReader& node) {
    BatchNormalization op{node.number("epsilon", 1e-5f), node.number("momentum", 0.9f)};
    const int opset = node.opset();
    if (opset < 6) node.ignore("consumed_inputs");
    if (opset < 9) op.spatial = node.integer("spatial", 1) != 0;
    if (opset >= 14) op.training = node.integer("training_mode", 0) != 0;
    else if (opset >= 7) op.training = node.outputs() > 1;
    else op.training = node.integer("is_test", 0) == 0;
    const int most = !op.training ? 1 : opset >= 14 ? 3 : 5;
    if (node.outputs() > most)
      node.fail("{} mode gives {} outputs, but {} are named", op.training ? "training" : "inference", most, node.outputs());
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1, 2, 3, 4}, false));
    if (c.shape(0)) {
      const Dims& x = *c.shape(0);
      if (x.empty()) return error(Code::kInvalidGraph, "x is a scalar; expected [n, c, ...]");
      const Dims want = spatial ? Dims{x.size() > 1 ? x[1] : Dim(1)} : Dims(x.begin() + 1, x.end());
      for (int i = 1; i < 5; ++i) OCIOR_RETURN_IF_ERROR(check(c, i, want));
    }
    for (int i = 1; i < c.outputs(); ++i) c.set(i, c.in(i % 2 == 1 ? 3 : 4));
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    const std::vector<double> x = nn::doubles(c.in(0)), gamma = nn::doubles(c.in(1)), beta = nn::doubles(c.in(2));
    std::vector<double> mean = nn::doubles(c.in(3)), variance = nn::doubles(c.in(4));
    const Planes p = planes(c.in(0).shape());
    const auto channel = [&](size_t i) { return static_cast<size_t>(static_cast<int64_t>(i) / p.inner % p.channels); };
    if (training) {
      const auto [batch_mean, batch_variance] = statistics(x, p);
      for (int out : {1, 2}) {
        if (!c.wants(out)) continue;
        std::vector<double> running = out == 1 ? mean : variance;
        for (size_t i = 0; i < running.size(); ++i)
          running[i] = running[i] * momentum + (out == 1 ? batch_mean : batch_variance)[i] * (1 - static_cast<double>(momentum));
        nn::store(c.out(out), running);
      }
      mean = batch_mean, variance = batch_variance;
      if (c.wants(3)) nn::store(c.out(3), mean);  // before opset 14, for the gradient
      if (c.wants(4)) nn::store(c.out(4), variance);
    }
    std::vector<double> y(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t k = channel(i);
      y[i] = (x[i] - mean[k]) / std::sqrt(variance[k] + epsilon) * gamma[k] + beta[k];
    }
    nn::store(c.out(0), y);
    return {};
  }

  size_t scratch(const BindContext& c) const {
    if (c.out(0).count() == 0) return 0;
    return static_cast<size_t>(2 * planes(c.in(0).shape).channels) * sizeof(float);
  }

  Status run(CpuContext& c) const {
    for (int i = 0; i < 5; ++i)
      if (training || c.in(i).dtype != DType::kFloat) return run_by_reference(*this, c);
    if (c.out(0).count() == 0) return {};
    const Planes p = planes(c.in(0).shape);
    const auto row = [&c](int i) { return c.in(i).as<float>(); };
    float* const scale = static_cast<float*>(c.scratch());
    float* const shift = scale + p.channels;
    for (int64_t k = 0; k < p.channels; ++k) {
      const double s = row(1)[k] / std::sqrt(static_cast<double>(row(4)[k]) + epsilon);
      scale[k] = static_cast<float>(s), shift[k] = static_cast<float>(row(2)[k] - row(3)[k] * s);
    }
    const auto affine = [&](const float* x, const float* s, const float* t, int64_t step, float* y, int64_t n) {
      c.kernels().binary_f32(BinaryFn::kMul, x, 1, s, step, y, n);
      c.kernels().binary_f32(BinaryFn::kAdd, y, 1, t, step, y, n);
    };
    const float* const x = c.in(0).as<float>();
    float* const y = c.out(0).as<float>();
    if (p.inner == 1) {
      nn::parallel_rows(c, p.batch, p.channels, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) affine(x + i * p.channels, scale, shift, 1, y + i * p.channels, p.channels);
      });
    } else {
      nn::parallel_rows(c, p.batch * p.channels, p.inner, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
          affine(x + i * p.inner, scale + i % p.channels, shift + i % p.channels, 0, y + i * p.inner, p.inner);
      });
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&](Shape x, Shape channels, Attributes attributes = {}, int opset = 0, int outputs = 1,
                         DType dtype = DType::kFloat) {
      out.push_back({.inputs = {{.dtype = dtype, .shape = std::move(x), .fill = Fill::kNormal},
                                {.dtype = dtype, .shape = channels},
                                {.dtype = dtype, .shape = channels},
                                {.dtype = dtype, .shape = channels},
                                {.dtype = dtype, .shape = channels, .fill = Fill::kPositive}},
                     .attributes = std::move(attributes),
                     .opset = opset,
                     .outputs = outputs,
                     .tolerance = dtype == DType::kFloat16 ? 2e-3 : 3e-6});
    };
    add({2, 3, 4, 5}, {3});
    add({2, 3, 4, 5}, {3}, {{"epsilon", 1e-2f}});
    add({4, 33}, {33});
    add({4}, {1});
    add({2, 3, 70}, {3});
    add({40, 5, 300}, {5});
    add({0, 3, 4}, {3});
    add({2, 3, 0}, {3});
    add({2, 0, 4}, {0});
    add({2, 3, 4}, {3, 4}, {{"spatial", int64_t{0}}}, 7);
    add({2, 3, 4}, {3}, {{"is_test", int64_t{1}}}, 6);
    add({2, 3, 4, 5}, {3}, {{"training_mode", int64_t{1}}, {"momentum", 0.75f}}, 15, 3);
    add({2, 3, 4, 5}, {3}, {}, 9, 5);
    add({4, 3, 5}, {3, 5}, {{"spatial", int64_t{0}}}, 7, 3);
    add({2, 3, 4}, {3}, {}, 6, 5);
    for (const DType dtype : {DType::kDouble, DType::kFloat16}) add({2, 3, 4}, {3}, {}, 0, 1, dtype);
    add({1, 64, 56, 56}, {64});
    out.back().bench = true;
    return out;
  }

 private:
  struct Planes {
    int64_t batch = 0, channels = 0, inner = 0;
  };
  Planes planes(std::span<const int64_t> x) const {
    const auto rank = std::ssize(x);
    if (!spatial) return {x[0], nn::extent(x, 1, rank), 1};
    if (rank == 1) return {x[0], 1, 1};
    return {x[0], x[1], nn::extent(x, 2, rank)};
  }

  // Mean and population variance per channel.
  static std::pair<std::vector<double>, std::vector<double>> statistics(const std::vector<double>& x, const Planes& p) {
    std::vector<double> mean(static_cast<size_t>(p.channels)), variance = mean;
    const auto each = [&](auto f) {
      for (size_t i = 0; i < x.size(); ++i) f(static_cast<size_t>(static_cast<int64_t>(i) / p.inner % p.channels), x[i]);
    };
    const double count = static_cast<double>(p.batch * p.inner);
    each([&](size_t k, double v) { mean[k] += v / count; });
    each([&](size_t k, double v) { variance[k] += (v - mean[k]) * (v - mean[k]) / count; });
    return {mean, variance};
  }

  static Status check(ShapeContext& c, int i, const Dims& want) {
    if (!c.shape(i)) return {};
    const Dims& got = *c.shape(i);
    return nn::may_equal(got, want)
               ? Status()
               : error(Code::kInvalidArgument, "input {} has shape {}; expected {}", i, to_string(got), to_string(want));
  }
};

OCIOR_OPERATOR(BatchNormalization)

}  // namespace ocior::ops
