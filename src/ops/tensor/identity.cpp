// Identity: the same value.
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct Identity {
  static constexpr OpInfo info{.name = "Identity", .view = true, .in_place = 1, .any_kind = true};

  static Identity parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    if (!c.in(0).is_tensor()) {
      c.set(0, c.in(0));
      return {};
    }
    pass_data(c);
    return infer_unary(c);
  }
  Status reference(RefContext& c) const {
    if (c.value(0).kind() != Value::Kind::kTensor) return c.set_value(0, c.value(0));
    const Tensor& x = c.in(0);
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), x.shape()));
    copy_elements(x.dtype(), c.out(0).data(), 0, x.data(), 0, x.count());
    return {};
  }
  Status run(CpuContext& c) const {
    if (!c.has(0)) return c.set_value(0, c.value(0));  // no tensor
    const TensorView& x = c.in(0);
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.shape));
    if (c.out(0).data != x.data) copy_elements(x.dtype, c.out(0).data, 0, x.data, 0, x.count());
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t :
         {DType::kFloat, DType::kInt64, DType::kBool, DType::kString, DType::kFloat16, DType::kInt4, DType::kComplex64})
      for (const Shape& shape : {Shape{2, 3}, Shape{}, Shape{0}}) out.push_back({.inputs = {{t, shape, Fill::kSmallInts}}});
    return out;
  }
};
OCIOR_OPERATOR(Identity)

}  // namespace ocior::ops
