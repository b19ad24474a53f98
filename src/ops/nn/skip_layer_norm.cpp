// SkipLayerNorm (ai.ocior): s = x (+ skip) (+ bias), y = normalised s over its last axis * gamma (+ beta); s is an optional
// output. x, skip [..., n]; gamma, beta, bias [n]. Made by passes.
#include "ops/nn/normalization.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct SkipLayerNorm {
  static constexpr OpInfo info{
      .name = "SkipLayerNorm", .domain = kOcior, .min_inputs = 3, .max_inputs = 5, .max_outputs = 2, .in_place = 0b11};

  float epsilon = 1e-5f;
  bool rms = false;  // y = s / sqrt(mean(s * s) + epsilon) * gamma, without mean and beta

  static SkipLayerNorm parse(const NodeReader& node) { return {node.number("epsilon", 1e-5f), node.integer("rms", 0) != 0}; }

  Status infer(ShapeContext& c) const {
    if (!c.has(2)) return error(Code::kInvalidGraph, "SkipLayerNorm: gamma is missing");
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1, 2, 3, 4}));
    if (const auto& x = c.shape(0)) {
      if (x->empty()) return error(Code::kInvalidGraph, "SkipLayerNorm: x is a scalar");
      OCIOR_RETURN_IF_ERROR(check(c, 1, *x));
      for (int i = 2; i < 5; ++i) OCIOR_RETURN_IF_ERROR(check(c, i, Dims{x->back()}));
    }
    for (int i = 0; i < c.outputs(); ++i) c.set(i, c.in(0));
    return {};
  }

  Status reference(RefContext& c) const {
    std::vector<double> s = nn::doubles(c.in(0));
    const auto optional = [&](int i) { return c.has(i) ? nn::doubles(c.in(i)) : std::vector<double>(); };
    const std::vector<double> skip = optional(1), gamma = nn::doubles(c.in(2)), beta = optional(3), bias = optional(4);
    const auto n = static_cast<size_t>(c.in(0).shape().back());
    for (size_t i = 0; i < s.size(); ++i) s[i] += (c.has(1) ? skip[i] : 0) + (c.has(4) ? bias[i % n] : 0);
    std::vector<double> y(s.size());
    for (size_t at = 0; at < s.size(); at += n) nn::normalize({s.data() + at, n}, epsilon, rms, {y.data() + at, n});
    for (size_t i = 0; i < y.size(); ++i) y[i] = y[i] * gamma[i % n] + (c.has(3) && !rms ? beta[i % n] : 0);
    nn::store(c.out(0), y);
    if (c.wants(1)) nn::store(c.out(1), s);
    return {};
  }

  double work(const BindContext& c) const { return 9.0 * static_cast<double>(c.in(0).count()); }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    const auto input = [&](int i) -> const float* { return c.has(i) ? c.in(i).as<float>() : nullptr; };
    if (c.in(0).count() == 0) return {};
    LayerNormArgs args;
    args.x = input(0), args.skip = input(1), args.gamma = input(2), args.beta = input(3), args.bias = input(4);
    args.y = c.out(0).as<float>(), args.sum = c.wants(1) ? c.out(1).as<float>() : nullptr;
    args.n = c.in(0).shape.back(), args.epsilon = epsilon, args.rms = rms;
    nn::run_layer_norm(c, args, nn::extent(c.in(0).shape, 0, c.in(0).rank() - 1));
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    // with: bit 0 skip, bit 1 beta, bit 2 bias.
    const auto add = [&](Shape x, unsigned with, int outputs, Attributes attributes = {}, DType dtype = DType::kFloat) {
      const Shape row{x.back()};
      out.push_back({.inputs = {{.dtype = dtype, .shape = x, .fill = Fill::kNormal},
                                {.dtype = dtype, .shape = x, .fill = Fill::kNormal, .omitted = !(with & 1)},
                                {.dtype = dtype, .shape = row},
                                {.dtype = dtype, .shape = row, .omitted = !(with & 2)},
                                {.dtype = dtype, .shape = row, .omitted = !(with & 4)}},
                     .attributes = std::move(attributes),
                     .outputs = outputs,
                     .tolerance = dtype == DType::kFloat16 ? 1e-3 : 2e-6});
    };
    for (unsigned with = 0; with < 8; ++with)
      for (int outputs : {1, 2}) {
        add({3, 35}, with, outputs);
        add({2, 3, 64}, with, outputs, {{"rms", int64_t{1}}, {"epsilon", 1e-6f}});
      }
    for (int64_t n : {1, 7, 16, 17, 768}) add({5, n}, 7, 2);
    add({0, 16}, 7, 2);
    add({4, 0}, 7, 2);
    add({300, 100}, 7, 2);
    add({3, 9}, 7, 2, {}, DType::kDouble);
    add({128, 768}, 3, 1);
    out.back().bench = true;
    return out;
  }

 private:
  static Status check(ShapeContext& c, int i, const Dims& want) {
    if (!c.has(i) || !c.shape(i)) return {};
    const Dims& got = *c.shape(i);
    return nn::may_equal(got, want) ? Status()
                                    : error(Code::kInvalidArgument, "SkipLayerNorm: input {} has shape {}; expected {}", i,
                                            to_string(got), to_string(want));
  }
};

OCIOR_OPERATOR(SkipLayerNorm)

}  // namespace ocior::ops
