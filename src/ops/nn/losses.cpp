// NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: weighted losses of class labels, over inputs [N, C, d1, ...] and labels
// [N, d1, ...] (https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html).
#include <cmath>
#include <optional>

#include "ops/nn/numeric.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

enum class LossReduction { kNone, kSum, kMean };

// What both share; they differ in where the log-probabilities come from.
struct Loss {
  LossReduction reduction = LossReduction::kMean;
  std::optional<int64_t> ignore_index;  // labels that count for nothing

  static Loss parse(const NodeReader& node) {
    Loss out;
    const std::string name = node.text("reduction", "mean");
    if (name == "none") out.reduction = LossReduction::kNone;
    else if (name == "sum") out.reduction = LossReduction::kSum;
    else if (name != "mean") node.fail("reduction is '{}'; expected none, sum or mean", name);
    if (node.has("ignore_index")) out.ignore_index = node.integer("ignore_index", 0);
    return out;
  }

  Status infer(ShapeContext& c, std::string_view op) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, op));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, op));
    if (c.has(2)) OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 2, op));
    if (reduction == LossReduction::kNone) c.set(0, c.dtype(0), c.shape(1));
    else c.set(0, c.dtype(0), Dims{});
    if (ranked(c, 0)) {
      const Dims& x = *c.shape(0);
      if (x.size() < 2)
        return error(Code::kInvalidArgument, "{}: the input's shape is {}; expected [N, C, ...]", op, to_string(x));
      Dims labels = x;
      labels.erase(labels.begin() + 1);
      if (ranked(c, 1) && !nn::may_equal(labels, *c.shape(1)))
        return error(Code::kInvalidArgument, "{}: labels of shape {} for an input of shape {}; expected {}", op,
                     to_string(*c.shape(1)), to_string(x), to_string(labels));
      if (c.has(2) && ranked(c, 2) && !nn::may_equal(*c.shape(2), Dims{x[1]}))
        return error(Code::kInvalidArgument, "{}: weights of shape {} for an input of shape {}; expected [{}]", op,
                     to_string(*c.shape(2)), to_string(x), x[1].text());
      if (reduction == LossReduction::kNone && !ranked(c, 1)) c.set(0, c.dtype(0), std::move(labels));
    }
    return {};
  }

  // `log_prob`: input 0's elements, or what became of them.
  Status reduce(RefContext& c, const std::vector<double>& log_prob, std::string_view op) const {
    const Tensor &x = c.in(0), &labels = c.in(1);
    const int64_t classes = x.shape()[1], inner = nn::extent(x.shape(), 2, x.rank()), n = labels.count();
    const std::vector<double> weights = c.has(2) ? nn::doubles(c.in(2)) : std::vector<double>();
    std::vector<double> losses(static_cast<size_t>(n));
    double sum = 0, weight_sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t label = get_int(labels.dtype(), labels.data(), i);
      if (label == ignore_index) continue;
      if (label < 0 || label >= classes)
        return error(Code::kInvalidArgument, "{}: label {} is {}; expected 0 to {}{}", op, i, label, classes - 1,
                     ignore_index ? fmt::format(", or {} (ignore_index)", *ignore_index) : "");
      const double weight = weights.empty() ? 1 : weights[static_cast<size_t>(label)];
      const double loss = -log_prob[static_cast<size_t>((i / inner * classes + label) * inner + i % inner)] * weight;
      losses[static_cast<size_t>(i)] = loss;
      sum += loss, weight_sum += weight;
    }
    if (reduction == LossReduction::kNone) return nn::store(c.out(0), losses), Status();
    const double one[] = {reduction == LossReduction::kSum ? sum : sum / weight_sum};
    nn::store(c.out(0), one);
    return {};
  }

  static std::vector<Sample> samples(int outputs) {
    std::vector<Sample> out;
    const auto add = [&](const Shape& x, const std::vector<double>& labels, bool weighted, const char* how, Attributes more = {},
                         DType t = DType::kFloat, DType index = DType::kInt64) {
      Shape label_shape = x;
      label_shape.erase(label_shape.begin() + 1);
      Sample s{.inputs = {{t, x, Fill::kNormal}, {index, label_shape, Fill::kZeros, labels}},
               .attributes = std::move(more),
               .outputs = outputs};
      if (weighted) s.inputs.push_back({t, {x[1]}, Fill::kPositive});
      s.attributes["reduction"] = std::string(how);
      s.tolerance = t == DType::kFloat16 ? 1e-3 : t == DType::kBFloat16 ? 8e-3 : 1e-6;
      out.push_back(std::move(s));
    };
    const std::vector<double> six = {0, 2, 1, 1, 0, 2};
    for (const bool weighted : {false, true})
      for (const char* how : {"none", "sum", "mean"}) {
        add({6, 3}, six, weighted, how);
        add({2, 3, 3}, six, weighted, how);
        add({1, 3, 2, 3}, six, weighted, how, {{"ignore_index", int64_t{1}}});
        add({2, 3, 3, 1, 1}, {0, -1, 1, -1, 0, 2}, weighted, how, {{"ignore_index", int64_t{-1}}});
        for (const DType t : {DType::kDouble, DType::kFloat16, DType::kBFloat16})
          add({6, 3}, six, weighted, how, {}, t, DType::kInt32);
      }
    add({0, 3}, {}, false, "sum");
    for (const int opset : {12, 13}) {
      add({2, 3, 3}, six, true, "mean");
      out.back().opset = opset;
    }
    return out;
  }
};

}  // namespace

struct NegativeLogLikelihoodLoss {
  static constexpr OpInfo info{.name = "NegativeLogLikelihoodLoss", .since = 12, .min_inputs = 2, .max_inputs = 3};
  Loss loss;

  static NegativeLogLikelihoodLoss parse(const NodeReader& node) { return {Loss::parse(node)}; }
  Status infer(ShapeContext& c) const { return loss.infer(c, info.name); }
  Status reference(RefContext& c) const { return loss.reduce(c, nn::doubles(c.in(0)), info.name); }
  static std::vector<Sample> samples() { return Loss::samples(1); }
};
OCIOR_OPERATOR(NegativeLogLikelihoodLoss)

// The same after a LogSoftmax over the classes, which is output 1.
struct SoftmaxCrossEntropyLoss {
  static constexpr OpInfo info{
      .name = "SoftmaxCrossEntropyLoss", .since = 12, .min_inputs = 2, .max_inputs = 3, .max_outputs = 2};
  Loss loss;

  static SoftmaxCrossEntropyLoss parse(const NodeReader& node) { return {Loss::parse(node)}; }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(loss.infer(c, info.name));
    c.set(1, c.in(0));
    return {};
  }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    std::vector<double> values = nn::doubles(x);
    const int64_t classes = x.shape()[1], inner = nn::extent(x.shape(), 2, x.rank());
    for (int64_t lane = 0; classes > 0 && lane < x.count() / classes; ++lane) {
      const auto at = [&](int64_t i) -> double& {
        return values[static_cast<size_t>((lane / inner * classes + i) * inner + lane % inner)];
      };
      double max = -INFINITY, sum = 0;
      for (int64_t i = 0; i < classes; ++i) max = std::fmax(max, at(i));
      for (int64_t i = 0; i < classes; ++i) sum += std::exp(at(i) - max);
      for (int64_t i = 0; i < classes; ++i) at(i) -= max + std::log(sum);
    }
    if (c.wants(1)) nn::store(c.out(1), values);
    return loss.reduce(c, values, info.name);
  }
  static std::vector<Sample> samples() {
    auto out = Loss::samples(1);
    for (Sample& s : Loss::samples(2)) out.push_back(std::move(s));
    return out;
  }
};
OCIOR_OPERATOR(SoftmaxCrossEntropyLoss)

}  // namespace ocior::ops
