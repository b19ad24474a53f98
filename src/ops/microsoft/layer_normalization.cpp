// SkipLayerNormalization, SkipSimplifiedLayerNormalization and EmbedLayerNormalization of com.microsoft, and
// SimplifiedLayerNormalization, which ONNX Runtime writes without a domain: normalisation of rows after what led to them.
#include <cmath>

#include "ops/microsoft/microsoft.h"
#include "ops/nn/normalization.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

enum Output { kY, kMean, kInvStd, kSum };

// y = normalise(x + skip + bias) * gamma + beta over the last axis. Simplified: by the root mean square, without beta.
struct SkipNorm {
  float epsilon = 1e-12f;
  bool simplified = false;

  int beta() const { return simplified ? -1 : 3; }
  int bias() const { return simplified ? 3 : 4; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1, 2, 3, 4}));
    std::optional<Dims> statistics;
    if (const auto& x = c.shape(0)) {
      if (x->size() != 2 && x->size() != 3)
        return error(Code::kInvalidGraph, "the input has shape {}; expected two or three axes", to_string(*x));
      for (int i = 2; i < 5; ++i) OCIOR_RETURN_IF_ERROR(check_input(c, i, i == 2 ? "gamma" : "beta or bias", {x->back()}));
      OCIOR_RETURN_IF_ERROR(check_skip(c, *x));
      statistics = *x;
      statistics->back() = Dim(1);
    }
    c.set(kY, c.in(0));
    for (const int i : {kMean, kInvStd}) c.set(i, DType::kFloat, statistics);
    c.set(kSum, c.dtype(0), c.shape(0));
    return {};
  }

  Status reference(RefContext& c) const {
    std::vector<double> s = nn::doubles(c.in(0));
    const auto optional = [&](int i) { return i >= 0 && c.has(i) ? nn::doubles(c.in(i)) : std::vector<double>(); };
    const std::vector<double> skip = optional(1), gamma = optional(2), shift = optional(beta()), added = optional(bias());
    const auto n = static_cast<size_t>(c.in(0).shape().back());
    std::vector<double> y(s.size()), mean, inv_std;
    for (size_t i = 0; i < s.size(); ++i) s[i] += skip[i % skip.size()] + (added.empty() ? 0 : added[i % n]);
    for (size_t at = 0; at < s.size(); at += n) {
      const nn::NormalizedRow row = nn::normalize({s.data() + at, n}, epsilon, simplified, {y.data() + at, n});
      mean.push_back(row.mean), inv_std.push_back(row.inv_std);
    }
    for (size_t i = 0; i < y.size(); ++i) y[i] = y[i] * gamma[i % n] + (shift.empty() ? 0 : shift[i % n]);
    nn::store(c.out(kY), y);
    if (!s.empty() && c.wants(kMean)) nn::store(c.out(kMean), mean);
    if (!s.empty() && c.wants(kInvStd)) nn::store(c.out(kInvStd), inv_std);
    if (c.wants(kSum)) nn::store(c.out(kSum), s);
    return {};
  }

  static double work(const BindContext& c) { return 9.0 * static_cast<double>(c.in(0).count()); }

  Status run(CpuContext& c) const {
    // The kernel takes a skip per row; a smaller one repeats.
    if (c.in(0).dtype != DType::kFloat || c.in(1).count() != c.in(0).count()) return run_by_reference(*this, c);
    if (c.in(0).count() == 0) return {};
    const auto input = [&](int i) -> const float* { return i >= 0 && c.has(i) ? c.in(i).as<float>() : nullptr; };
    const auto output = [&](int i) -> float* { return c.wants(i) ? c.out(i).as<float>() : nullptr; };
    LayerNormArgs args;
    args.x = input(0), args.skip = input(1), args.gamma = input(2), args.beta = input(beta()), args.bias = input(bias());
    args.y = output(kY), args.sum = output(kSum), args.mean = output(kMean), args.inv_std = output(kInvStd);
    args.n = c.in(0).shape.back(), args.epsilon = epsilon, args.rms = simplified;
    if (simplified && args.mean) return run_by_reference(*this, c);
    nn::run_layer_norm(c, args, c.in(0).count() / args.n);
    return {};
  }

 private:
  // skip is like x, or lacks its batch axis, or has a batch of 1.
  static Status check_skip(const ShapeContext& c, const Dims& x) {
    if (!c.shape(1)) return {};
    const Dims& skip = *c.shape(1);
    if (nn::may_equal(skip, x)) return {};
    if (x.size() == 3 && (nn::may_equal(skip, Dims{x[1], x[2]}) || nn::may_equal(skip, Dims{Dim(1), x[1], x[2]}))) return {};
    return error(Code::kInvalidArgument, "skip has shape {}; expected {}, with or without its first axis", to_string(skip),
                 to_string(x));
  }
};

std::vector<Sample> skip_samples(bool simplified) {
  std::vector<Sample> out;
  for (const DType dtype : {DType::kFloat, DType::kFloat16, DType::kDouble})
    for (const Shape& skip : {Shape{2, 3, 35}, Shape{3, 35}, Shape{1, 3, 35}})
      for (const bool optional : {false, true}) {
        const SampleInput row{.dtype = dtype, .shape = {35}, .omitted = !optional};
        Sample s{.inputs = {{.dtype = dtype, .shape = {2, 3, 35}, .fill = Fill::kNormal},
                            {.dtype = dtype, .shape = skip},
                            {.dtype = dtype, .shape = {35}},
                            row},
                 .attributes = {{"epsilon", 1e-5f}},
                 .outputs = optional ? 4 : 1,
                 .tolerance = dtype == DType::kFloat16 ? 1e-3 : 2e-6};
        if (!simplified) s.inputs.push_back(row);
        out.push_back(std::move(s));
      }
  return out;
}

}  // namespace

struct SkipLayerNormalization : SkipNorm {
  static constexpr OpInfo info{
      .name = "SkipLayerNormalization", .domain = kMicrosoft, .min_inputs = 3, .max_inputs = 5, .max_outputs = 4};
  static SkipLayerNormalization parse(const NodeReader& node) { return {{node.number("epsilon", 1e-12f), false}}; }
  static std::vector<Sample> samples() { return skip_samples(false); }
};

struct SkipSimplifiedLayerNormalization : SkipNorm {
  static constexpr OpInfo info{
      .name = "SkipSimplifiedLayerNormalization", .domain = kMicrosoft, .min_inputs = 3, .max_inputs = 4, .max_outputs = 4};
  static SkipSimplifiedLayerNormalization parse(const NodeReader& node) { return {{node.number("epsilon", 1e-12f), true}}; }
  static std::vector<Sample> samples() { return skip_samples(true); }
};

struct SimplifiedLayerNormalization {
  static constexpr OpInfo info{.name = "SimplifiedLayerNormalization", .min_inputs = 2, .max_inputs = 2, .max_outputs = 2};

  nn::NormAxes axes;
  float epsilon = 1e-5f;

  static SimplifiedLayerNormalization parse(const NodeReader& node) {
    node.ignore("stash_type");  // the precision in between: never below the inputs' here
    return {{node.integer("axis", -1)}, node.number("epsilon", 1e-5f)};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1}, false));
    OCIOR_RETURN_IF_ERROR(axes.infer(c, c.dtype(1)));
    const std::optional<Dims> reduced = axes.reduced(c.shape(0));
    c.set(1, c.dtype(0) == DType::kDouble ? DType::kDouble : DType::kFloat, reduced);
    if (!c.shape(0) || !c.shape(1)) return {};
    const Dims& x = *c.shape(0);
    OCIOR_ASSIGN(const int64_t axis, resolve_axis(axes.axis, std::ssize(x)));
    return check_input(c, 1, "scale", Dims(x.begin() + axis, x.end()));
  }

  Status reference(RefContext& c) const {
    if (c.in(0).count() == 0) return {};
    const auto n = static_cast<size_t>(axes.row(c.in(0).shape()));
    const std::vector<double> x = nn::doubles(c.in(0)), scale = nn::doubles(c.in(1));
    std::vector<double> y(x.size()), inv_std;
    for (size_t at = 0; at < x.size(); at += n)
      inv_std.push_back(nn::normalize({x.data() + at, n}, epsilon, true, {y.data() + at, n}).inv_std);
    for (size_t i = 0; i < y.size(); ++i) y[i] *= scale[i % n];
    nn::store(c.out(0), y);
    if (c.wants(1)) nn::store(c.out(1), inv_std);
    return {};
  }

  static double work(const BindContext& c) { return 6.0 * static_cast<double>(c.in(0).count()); }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat || c.in(1).dtype != DType::kFloat) return run_by_reference(*this, c);
    if (c.in(0).count() == 0) return {};
    LayerNormArgs args;
    args.x = c.in(0).as<float>(), args.y = c.out(0).as<float>(), args.gamma = c.in(1).as<float>();
    args.inv_std = c.wants(1) ? c.out(1).as<float>() : nullptr;
    args.n = axes.row(c.in(0).shape), args.epsilon = epsilon, args.rms = true;
    nn::run_layer_norm(c, args, axes.rows(c.in(0).shape));
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType dtype : {DType::kFloat, DType::kFloat16, DType::kDouble})
      for (const int outputs : {1, 2}) {
        const double tolerance = dtype == DType::kFloat16 ? 1e-3 : 2e-6;
        out.push_back({.inputs = {{.dtype = dtype, .shape = {2, 3, 33}, .fill = Fill::kNormal}, {.dtype = dtype, .shape = {33}}},
                       .outputs = outputs,
                       .tolerance = tolerance});
        out.push_back({.inputs = {{.dtype = dtype, .shape = {2, 3, 5}, .fill = Fill::kNormal}, {.dtype = dtype, .shape = {3, 5}}},
                       .attributes = {{"axis", int64_t{1}}, {"epsilon", 1e-3f}},
                       .outputs = outputs,
                       .tolerance = tolerance});
      }
    return out;
  }
};

// The sum of word, position and segment embeddings, normalised. Output 1 counts the ones of each row of the mask.
struct EmbedLayerNormalization {
  static constexpr OpInfo info{
      .name = "EmbedLayerNormalization", .domain = kMicrosoft, .min_inputs = 1, .max_inputs = 9, .max_outputs = 3};
  enum Input { kIds, kSegments, kWords, kPositions, kSegmentTable, kGamma, kBeta, kMask, kPositionIds };

  float epsilon = 1e-12f;

  static EmbedLayerNormalization parse(const NodeReader& node) {
    node.ignore("mask_index_type");  // of shape inference elsewhere: whether output 1 is read
    return {node.number("epsilon", 1e-12f)};
  }

  Status infer(ShapeContext& c) const {
    for (const int i : {kWords, kPositions, kGamma, kBeta})  // behind optional ones
      if (!c.has(i)) return error(Code::kInvalidGraph, "input {} is required", i);
    if (c.has(kSegments) != c.has(kSegmentTable))
      return error(Code::kInvalidGraph, "segment_ids and segment_embedding come together or not at all");
    for (const int i : {kIds, kSegments, kMask, kPositionIds})
      if (c.has(i) && c.dtype(i) != DType::kInt32)
        return error(Code::kInvalidGraph, "input {} is {}; expected int32", i, name_of(c.dtype(i)));
    const DType dtype = c.dtype(kWords);
    for (const int i : {kWords, kPositions, kSegmentTable, kGamma, kBeta})
      if (c.has(i) && (!is_floating(c.dtype(i)) || c.dtype(i) != dtype))
        return error(Code::kInvalidGraph, "input {} is {}; expected the float type of word_embedding", i, name_of(c.dtype(i)));
    const Dims ids = c.shape(kIds) ? *c.shape(kIds) : Dims{c.fresh("batch"), c.fresh("sequence")};
    if (ids.size() != 2) return error(Code::kInvalidGraph, "input_ids has shape {}; expected two axes", to_string(ids));
    const Dim width = c.shape(kGamma) && c.shape(kGamma)->size() == 1 ? (*c.shape(kGamma))[0] : c.fresh("hidden");
    for (const int i : {kWords, kPositions, kSegmentTable})
      if (c.has(i) && c.shape(i) && (c.shape(i)->size() != 2 || !nn::may_equal((*c.shape(i))[1], width)))
        return error(Code::kInvalidArgument, "the table at input {} has shape {}; expected rows of {}", i, to_string(*c.shape(i)),
                     width.text());
    for (const int i : {kGamma, kBeta}) OCIOR_RETURN_IF_ERROR(check_input(c, i, "gamma or beta", {width}));
    for (const int i : {kSegments, kMask}) OCIOR_RETURN_IF_ERROR(check_input(c, i, "segment_ids or mask", ids));
    if (c.has(kPositionIds) && c.shape(kPositionIds) && !nn::may_equal(*c.shape(kPositionIds), Dims{Dim(1), ids[1]}))
      OCIOR_RETURN_IF_ERROR(check_input(c, kPositionIds, "position_ids", ids));
    const Dims out{ids[0], ids[1], width};
    c.set(0, dtype, out);
    c.set(1, DType::kInt32, Dims{ids[0]});
    c.set(2, dtype, out);
    return {};
  }

  Status reference(RefContext& c) const {
    const Shape& ids = c.in(kIds).shape();
    const auto n = static_cast<size_t>(c.in(kGamma).shape()[0]);
    const auto read = [&](int i) { return c.has(i) ? to_ints(c.in(i)) : std::vector<int64_t>(); };
    const std::vector<int64_t> words = read(kIds), segments = read(kSegments), mask = read(kMask), positions = read(kPositionIds);
    const std::vector<double> gamma = nn::doubles(c.in(kGamma)), beta = nn::doubles(c.in(kBeta));
    std::vector<double> sum(static_cast<size_t>(c.out(0).count())), y(sum.size());
    const auto add = [&](int table, int64_t row, size_t at) -> Status {
      const Tensor& t = c.in(table);
      if (row < 0 || row >= t.shape()[0])
        return error(Code::kInvalidArgument, "id {} is outside the table at input {}, which has {} rows", row, table,
                     t.shape()[0]);
      for (size_t j = 0; j < n; ++j)
        sum[at * n + j] += get_double(t.dtype(), t.data(), row * static_cast<int64_t>(n) + static_cast<int64_t>(j));
      return {};
    };
    for (size_t i = 0; i < words.size(); ++i) {
      OCIOR_RETURN_IF_ERROR(add(kWords, words[i], i));
      const int64_t position = positions.empty() ? static_cast<int64_t>(i) % ids[1] : positions[i % positions.size()];
      OCIOR_RETURN_IF_ERROR(add(kPositions, position, i));
      if (!segments.empty()) OCIOR_RETURN_IF_ERROR(add(kSegmentTable, segments[i], i));
      nn::normalize({sum.data() + i * n, n}, epsilon, false, {y.data() + i * n, n});
      for (size_t j = 0; j < n; ++j) y[i * n + j] = y[i * n + j] * gamma[j] + beta[j];
    }
    nn::store(c.out(0), y);
    for (int64_t b = 0; b < ids[0] && c.wants(1); ++b) {
      int64_t ones = 0;
      for (int64_t i = 0; i < ids[1] && !mask.empty(); ++i) ones += mask[static_cast<size_t>(b * ids[1] + i)] == 1;
      c.out(1).as<int32_t>()[b] = static_cast<int32_t>(ones);
    }
    if (c.wants(2)) nn::store(c.out(2), sum);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const bool optional : {false, true}) {
      const auto ids = [&](bool given, Shape shape, std::vector<double> values) {
        return SampleInput{.dtype = DType::kInt32, .shape = std::move(shape), .values = std::move(values), .omitted = !given};
      };
      out.push_back({.inputs = {ids(true, {2, 3}, {1, 5, 0, 2, 2, 4}),
                                ids(optional, {2, 3}, {0, 1, 1, 0, 0, 1}),
                                {.shape = {6, 8}},
                                {.shape = {4, 8}},
                                {.shape = {2, 8}, .omitted = !optional},
                                {.shape = {8}},
                                {.shape = {8}},
                                ids(optional, {2, 3}, {1, 1, 0, 1, 0, 0}),
                                ids(optional, {1, 3}, {3, 1, 0})},
                     .attributes = {{"epsilon", 1e-5f}},
                     .outputs = 3});
    }
    return out;
  }
};

OCIOR_OPERATOR(EmbedLayerNormalization)
OCIOR_OPERATOR(SimplifiedLayerNormalization)
OCIOR_OPERATOR(SkipLayerNormalization)
OCIOR_OPERATOR(SkipSimplifiedLayerNormalization)

}  // namespace ocior::ops
