// InstanceNormalization and GroupNormalization (https://onnx.ai/onnx/operators/onnx__GroupNormalization.html): x [n, c, ...] with
// mean 0 and variance 1 over each channel, or group of channels, of each sample; then scaled and shifted.
#include "ops/nn/normalization.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

// x as [rows, channels of a group, inner]; scale i of row r and channel k is at `scale_of(r, k)`.
struct Groups {
  int64_t groups = 1, per_group = 1, inner = 1, rows = 0;
  bool scale_per_group = false;

  Groups(std::span<const int64_t> x, int64_t groups_in, bool per_group_scale)
      : groups(groups_in),
        per_group(groups == 0 ? 0 : x[1] / groups),
        inner(nn::extent(x, 2, static_cast<int64_t>(x.size()))),
        rows(x[0] * groups),
        scale_per_group(per_group_scale) {}
  int64_t row() const { return per_group * inner; }
  int64_t scale_of(int64_t r, int64_t k) const {
    const int64_t group = r % groups;
    return scale_per_group ? group : group * per_group + k;
  }
};

// x, scale and bias [scales]; `scales` may be unknown.
Status infer_groups(ShapeContext& c, const std::optional<Dim>& scales, std::string_view name) {
  OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, name));
  for (int i = 1; i < 3; ++i) {
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, i, name));
    if (ranked(c, i) && (rank(c, i) != 1 || (scales && !nn::may_equal((*c.shape(i))[0], *scales))))
      return error(Code::kInvalidGraph, "{}: input {} has shape {}; expected [{}]", name, i, to_string(*c.shape(i)),
                   scales ? scales->text() : "scales");
  }
  if (ranked(c, 0) && rank(c, 0) < 2)
    return error(Code::kInvalidGraph, "{}: the input has rank {}; expected [n, c, ...]", name, rank(c, 0));
  return infer_unary(c);
}

Status reference_groups(RefContext& c, const Groups& g, double epsilon) {
  const std::vector<double> x = nn::doubles(c.in(0)), scale = nn::doubles(c.in(1)), bias = nn::doubles(c.in(2));
  std::vector<double> y(x.size());
  const auto n = static_cast<size_t>(g.row());
  for (int64_t r = 0; r < g.rows && n > 0; ++r) {
    const std::span<double> row(y.data() + static_cast<size_t>(r) * n, n);
    nn::normalize({x.data() + static_cast<size_t>(r) * n, n}, epsilon, false, row);
    for (size_t i = 0; i < n; ++i) {
      const auto k = static_cast<size_t>(g.scale_of(r, static_cast<int64_t>(i) / g.inner));
      row[i] = row[i] * scale[k] + bias[k];
    }
  }
  nn::store(c.out(0), y);
  return {};
}

// A row is normalised and, while it is in the cache, its channels are scaled.
void run_groups(CpuContext& c, const Groups& g, float epsilon) {
  if (g.row() == 0) return;
  const LayerNormArgs args{.x = c.in(0).as<float>(), .y = c.out(0).as<float>(), .n = g.row(), .epsilon = epsilon};
  const float *const scale = c.in(1).as<float>(), *const bias = c.in(2).as<float>();
  nn::parallel_rows(c, g.rows, g.row(), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      c.kernels().layer_norm(args, r, r + 1);
      for (int64_t k = 0; k < g.per_group; ++k) {
        float* const y = args.y + r * g.row() + k * g.inner;
        c.kernels().binary_f32(BinaryFn::kMul, y, 1, scale + g.scale_of(r, k), 0, y, g.inner);
        c.kernels().binary_f32(BinaryFn::kAdd, y, 1, bias + g.scale_of(r, k), 0, y, g.inner);
      }
    }
  });
}

SampleInput floats(Shape shape, DType t, Fill fill = Fill::kUniform) {
  return {.dtype = t, .shape = std::move(shape), .fill = fill};
}

Sample sample(Shape x, int64_t scales, Attributes a, int opset = 0, DType t = DType::kFloat, bool bench = false) {
  return {.inputs = {floats(std::move(x), t, Fill::kNormal), floats({scales}, t), floats({scales}, t)},
          .attributes = std::move(a),
          .opset = opset,
          .bench = bench,
          .tolerance = t == DType::kFloat     ? 4e-6
                       : t == DType::kDouble  ? 1e-12
                       : t == DType::kFloat16 ? 2e-3
                                              : 1e-2};
}

}  // namespace

struct InstanceNormalization {
  static constexpr OpInfo info{.name = "InstanceNormalization", .min_inputs = 3, .max_inputs = 3, .in_place = 1};
  float epsilon = 1e-5f;

  static InstanceNormalization parse(const NodeReader& node) {
    if (node.opset() < 6) node.ignore("consumed_inputs");
    return {node.number("epsilon", 1e-5f)};
  }

  Status infer(ShapeContext& c) const {
    const bool known = ranked(c, 0) && rank(c, 0) >= 2;
    return infer_groups(c, known ? std::optional<Dim>((*c.shape(0))[1]) : std::nullopt, info.name);
  }

  Status reference(RefContext& c) const { return reference_groups(c, groups(c.in(0).shape()), epsilon); }
  double work(const BindContext& c) const { return 8.0 * static_cast<double>(c.out(0).count()); }
  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    run_groups(c, groups(c.in(0).shape), epsilon);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const Shape& x : {Shape{2, 3, 4, 5}, Shape{1, 2, 9}, Shape{2, 3}, Shape{0, 3, 4}, Shape{2, 3, 0}, Shape{4, 33, 40, 41}})
      out.push_back(sample(x, x[1], {}));
    out.push_back(sample({2, 3, 4}, 3, {{"epsilon", 1e-2f}}, 1));
    for (const DType t : {DType::kDouble, DType::kFloat16, DType::kBFloat16}) out.push_back(sample({2, 3, 4}, 3, {}, 0, t));
    out.push_back(sample({1, 64, 128, 128}, 64, {}, 0, DType::kFloat, true));
    return out;
  }

 private:
  static Groups groups(std::span<const int64_t> x) { return {x, x[1], false}; }
};
OCIOR_OPERATOR(InstanceNormalization)

struct GroupNormalization {
  static constexpr OpInfo info{.name = "GroupNormalization", .since = 18, .min_inputs = 3, .max_inputs = 3, .in_place = 1};
  int64_t groups = 1;
  float epsilon = 1e-5f;
  bool scale_per_group = false;  // opset < 21; since then one scale per channel

  // The first stage is computed in float or better whatever stash_type asks for.
  static GroupNormalization parse(const NodeReader& node) {
    GroupNormalization op{node.required_integer("num_groups"), node.number("epsilon", 1e-5f), node.opset() < 21};
    if (op.groups < 1) node.fail("num_groups is {}; expected a positive number", op.groups);
    if (node.opset() >= 21) node.ignore("stash_type");
    return op;
  }

  Status infer(ShapeContext& c) const {
    std::optional<Dim> scales;
    if (scale_per_group) scales = Dim(groups);
    if (ranked(c, 0) && rank(c, 0) >= 2) {
      const Dim& channels = (*c.shape(0))[1];
      if (!scale_per_group) scales = channels;
      if (channels.known() && channels.value() % groups != 0)
        return error(Code::kInvalidGraph, "GroupNormalization: {} channels are not divided by num_groups {}", channels.value(),
                     groups);
    }
    return infer_groups(c, scales, info.name);
  }

  Status reference(RefContext& c) const { return reference_groups(c, Groups(c.in(0).shape(), groups, scale_per_group), epsilon); }
  double work(const BindContext& c) const { return 8.0 * static_cast<double>(c.out(0).count()); }
  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    run_groups(c, Groups(c.in(0).shape, groups, scale_per_group), epsilon);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto groups_of = [](int64_t n) { return Attributes{{"num_groups", n}}; };
    for (const Shape& x : {Shape{2, 4, 3, 5}, Shape{1, 6, 9}, Shape{2, 4}, Shape{0, 4, 4}, Shape{2, 4, 0}, Shape{3, 32, 30, 31}})
      for (const int64_t n : {1, 2}) {
        out.push_back(sample(x, x[1], groups_of(n)));
        out.push_back(sample(x, n, groups_of(n), 18));
      }
    for (const DType t : {DType::kDouble, DType::kFloat16, DType::kBFloat16})
      out.push_back(sample({2, 4, 3}, 4, {{"num_groups", int64_t{2}}, {"epsilon", 1e-2f}, {"stash_type", int64_t{1}}}, 21, t));
    out.push_back(sample({1, 256, 64, 64}, 256, groups_of(32), 0, DType::kFloat, true));
    return out;
  }
};
OCIOR_OPERATOR(GroupNormalization)

}  // namespace ocior::ops
