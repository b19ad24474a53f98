// RMSNormalization over the axes from `axis` on (https://onnx.ai/onnx/operators/onnx__RMSNormalization.html).
#include "ops/nn/normalization.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct RMSNormalization {
  static constexpr OpInfo info{.name = "RMSNormalization", .since = 23, .min_inputs = 2, .max_inputs = 2, .in_place = 1};

  nn::NormAxes axes;
  float epsilon = 1e-5f;

  static RMSNormalization parse(const NodeReader& node) {
    node.ignore("stash_type");  // the precision in between: never below the inputs' here
    return {{node.integer("axis", -1)}, node.number("epsilon", 1e-5f)};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1}, false));
    return axes.infer(c, c.dtype(1));
  }

  Status reference(RefContext& c) const {
    const Shape& shape = c.in(0).shape();
    if (c.in(0).count() == 0) return {};
    const auto n = static_cast<size_t>(axes.row(shape));
    const std::vector<double> x = nn::doubles(c.in(0)), scale = nn::doubles(c.in(1));
    std::vector<double> y(x.size());
    for (size_t at = 0; at < x.size(); at += n) nn::normalize({x.data() + at, n}, epsilon, true, {y.data() + at, n});
    const std::vector<int64_t> scale_at = nn::broadcast_index(c.in(1).shape(), shape);
    for (size_t i = 0; i < y.size(); ++i) y[i] *= scale[static_cast<size_t>(scale_at[i])];
    nn::store(c.out(0), y);
    return {};
  }

  double work(const BindContext& c) const { return 6.0 * static_cast<double>(c.in(0).count()); }

  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &scale = c.in(1);
    if (x.dtype != DType::kFloat || scale.dtype != DType::kFloat || !axes.per_element(x.shape, scale.shape))
      return run_by_reference(*this, c);
    if (x.count() == 0) return {};
    LayerNormArgs args;
    args.x = x.as<float>(), args.y = c.out(0).as<float>(), args.gamma = scale.as<float>();
    args.n = axes.row(x.shape), args.epsilon = epsilon, args.rms = true;
    nn::run_layer_norm(c, args, axes.rows(x.shape));
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&](Shape x, Shape scale, Attributes attributes = {}, DType dtype = DType::kFloat,
                         DType scale_dtype = DType::kFloat) {
      out.push_back({.inputs = {{.dtype = dtype, .shape = std::move(x), .fill = Fill::kNormal},
                                {.dtype = scale_dtype, .shape = std::move(scale)}},
                     .attributes = std::move(attributes),
                     .tolerance = scale_dtype == DType::kFloat16 ? 1e-3 : 2e-6});
    };
    for (int64_t n : {1, 2, 7, 8, 15, 16, 17, 33, 129, 768}) add({3, n}, {n});
    add({3, 5, 33}, {33}, {{"epsilon", 1e-3f}, {"stash_type", int64_t{1}}});
    add({3, 5, 33}, {5, 33}, {{"axis", int64_t{1}}});
    add({3, 5, 33}, {1, 33}, {{"axis", int64_t{-2}}});
    add({0, 5}, {5});
    add({3, 0}, {0});
    add({3, 9}, {9}, {}, DType::kFloat16, DType::kFloat16);
    add({3, 9}, {9}, {}, DType::kFloat16, DType::kFloat);
    add({3, 9}, {9}, {}, DType::kDouble, DType::kDouble);
    add({128, 4096}, {4096});
    out.back().bench = true;
    return out;
  }
};

OCIOR_OPERATOR(RMSNormalization)

}  // namespace ocior::ops
