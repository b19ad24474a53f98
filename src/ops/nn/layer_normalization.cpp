// LayerNormalization over the axes from `axis` on (https://onnx.ai/onnx/operators/onnx__LayerNormalization.html).
#include "ops/nn/normalization.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct LayerNormalization {
  static constexpr OpInfo info{
      .name = "LayerNormalization", .since = 17, .min_inputs = 2, .max_inputs = 3, .max_outputs = 3, .in_place = 1};

  nn::NormAxes axes;
  float epsilon = 1e-5f;
  DType stash = DType::kFloat;  // of Mean and InvStdDev

  static LayerNormalization parse(const NodeReader& node) {
    const auto stash = static_cast<DType>(node.integer("stash_type", 1));
    if (stash != DType::kFloat && stash != DType::kBFloat16 && stash != DType::kFloat16 && stash != DType::kDouble)
      node.fail("stash_type is {}; expected a float type (1, 10, 11 or 16)", static_cast<int>(stash));
    return {{node.integer("axis", -1)}, node.number("epsilon", 1e-5f), stash};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1, 2}));
    OCIOR_RETURN_IF_ERROR(axes.infer(c, c.dtype(0)));
    for (int i = 1; i < c.outputs(); ++i) c.set(i, stash, axes.reduced(c.shape(0)));
    return {};
  }

  Status reference(RefContext& c) const {
    const Shape& shape = c.in(0).shape();
    if (c.in(0).count() == 0 && !c.wants(1) && !c.wants(2)) return {};
    const int64_t n = axes.row(shape), rows = axes.rows(shape);
    const std::vector<double> x = nn::doubles(c.in(0)), scale = nn::doubles(c.in(1));
    const std::vector<double> shift = c.has(2) ? nn::doubles(c.in(2)) : std::vector<double>();
    std::vector<double> y(x.size());
    for (int64_t i = 0; i < rows; ++i) {
      const auto at = static_cast<size_t>(i * n), count = static_cast<size_t>(n);
      const nn::NormalizedRow r = nn::normalize({x.data() + at, count}, epsilon, false, {y.data() + at, count});
      if (c.wants(1)) set_double(c.out(1).dtype(), c.out(1).data(), i, r.mean);
      if (c.wants(2)) set_double(c.out(2).dtype(), c.out(2).data(), i, r.inv_std);
    }
    const std::vector<int64_t> scale_at = nn::broadcast_index(c.in(1).shape(), shape);
    const std::vector<int64_t> shift_at = c.has(2) ? nn::broadcast_index(c.in(2).shape(), shape) : std::vector<int64_t>();
    for (size_t i = 0; i < y.size(); ++i)
      y[i] = y[i] * scale[static_cast<size_t>(scale_at[i])] + (c.has(2) ? shift[static_cast<size_t>(shift_at[i])] : 0);
    nn::store(c.out(0), y);
    return {};
  }

  double work(const BindContext& c) const { return 8.0 * static_cast<double>(c.in(0).count()); }

  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &scale = c.in(1);
    const bool stash_float = stash == DType::kFloat || (!c.wants(1) && !c.wants(2));
    if (x.dtype != DType::kFloat || !stash_float || !axes.per_element(x.shape, scale.shape) ||
        (c.has(2) && !axes.per_element(x.shape, c.in(2).shape)))
      return run_by_reference(*this, c);
    LayerNormArgs args;
    args.x = x.as<float>(), args.y = c.out(0).as<float>();
    args.gamma = scale.as<float>(), args.beta = c.has(2) ? c.in(2).as<float>() : nullptr;
    args.mean = c.wants(1) ? c.out(1).as<float>() : nullptr;
    args.inv_std = c.wants(2) ? c.out(2).as<float>() : nullptr;
    args.n = axes.row(x.shape), args.epsilon = epsilon;
    if (args.n == 0 && (args.mean || args.inv_std)) return run_by_reference(*this, c);
    nn::run_layer_norm(c, args, axes.rows(x.shape));
    return {};
  }

  static std::vector<Sample> samples();
};

std::vector<Sample> LayerNormalization::samples() {
  std::vector<Sample> out;
  const auto add = [&](Shape x, Shape scale, std::optional<Shape> shift, Attributes attributes = {}, int outputs = 1,
                       DType dtype = DType::kFloat) {
    Sample s{
        .inputs = {{.dtype = dtype, .shape = std::move(x), .fill = Fill::kNormal}, {.dtype = dtype, .shape = std::move(scale)}},
        .attributes = std::move(attributes),
        .outputs = outputs,
        .tolerance = dtype == DType::kFloat16 ? 1e-3 : 2e-6};
    if (shift) s.inputs.push_back({.dtype = dtype, .shape = std::move(*shift)});
    out.push_back(std::move(s));
  };
  for (int64_t n : {1, 2, 7, 8, 15, 16, 17, 33, 64, 129, 768}) add({3, n}, {n}, Shape{n});
  add({3, 5, 33}, {33}, std::nullopt, {{"epsilon", 1e-3f}});
  add({3, 5, 33}, {33}, Shape{33}, {}, 3);
  add({3, 5, 33}, {5, 33}, Shape{5, 33}, {{"axis", int64_t{1}}}, 3);
  add({3, 5, 33}, {3, 5, 33}, Shape{3, 5, 33}, {{"axis", int64_t{0}}}, 2);
  add({3, 5, 33}, {33}, Shape{5, 1}, {{"axis", int64_t{-2}}}, 3);
  add({3, 5, 33}, {1}, Shape{}, {}, 1);
  add({3, 5, 1}, {5, 1}, Shape{1}, {}, 1);
  add({0, 5}, {5}, Shape{5}, {}, 3);
  add({3, 0}, {0}, Shape{0}, {}, 3);
  add({300, 100}, {100}, Shape{100}, {}, 3);
  add({3, 9}, {9}, Shape{9}, {{"stash_type", int64_t{16}}}, 3);
  for (const DType dtype : {DType::kDouble, DType::kFloat16}) add({3, 9}, {9}, Shape{9}, {}, 3, dtype);
  add({128, 768}, {768}, Shape{768});
  out.back().bench = true;
  return out;
}

OCIOR_OPERATOR(LayerNormalization)

}  // namespace ocior::ops
