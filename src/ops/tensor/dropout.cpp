// Dropout: in inference the input itself, with a mask of ones. With training_mode (opset 12) elements are dropped by NumPy's
// legacy generator (MT19937 seeded with `seed`), as the ONNX reference does; without a seed every run draws other ones.
#include <atomic>
#include <random>

#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {

struct Dropout {
  static constexpr OpInfo info{.name = "Dropout", .max_inputs = 3, .max_outputs = 2, .in_place = 1};
  std::optional<int64_t> seed;
  float ratio = 0.5f;        // of training, where input 1 does not say
  bool mask_is_bool = true;  // opset < 10: of the data's type

  static Dropout parse(const NodeReader& node) {
    Dropout op;
    if (node.opset() < 6) node.ignore("consumed_inputs");
    if (node.opset() < 7) node.ignore("is_test");
    if (node.opset() < 12) op.ratio = node.number("ratio", 0.5f);
    else if (node.has("seed")) op.seed = node.integer("seed", 0);
    if (node.opset() < 12 && node.inputs() > 1) node.fail("expected 1 input before opset 12, got {}", node.inputs());
    op.mask_is_bool = node.opset() >= 10;
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, "Dropout"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kFloats, "Dropout"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 2, kBools, "Dropout"));
    if (c.outputs() > 1) c.set(1, mask_is_bool ? DType::kBool : c.dtype(0), c.shape(0));
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    const bool training = c.has(2) && c.in(2).count() == 1 && get_int(DType::kBool, c.in(2).data(), 0);
    const double p = c.has(1) && c.in(1).count() == 1 ? get_double(c.in(1).dtype(), c.in(1).data(), 0) : ratio;
    return apply(x.dtype(), x.data(), x.count(), training ? p : 0, c.out(0).data(), c.wants(1) ? c.out(1).data() : nullptr);
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    const bool training = c.has(2) && c.in(2).count() == 1 && get_int(DType::kBool, c.in(2).data, 0);
    const double p = c.has(1) && c.in(1).count() == 1 ? get_double(c.in(1).dtype, c.in(1).data, 0) : ratio;
    return apply(x.dtype, x.data, x.count(), training ? p : 0, c.out(0).data, c.wants(1) ? c.out(1).data : nullptr);
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16}) {
      out.push_back({.inputs = {{t, {3, 4}}}, .outputs = 2});
      out.push_back({.inputs = {{t, {3, 4}}}});
      out.push_back({.inputs = {{t, {3, 4}}}, .attributes = {{"ratio", 0.3f}}, .opset = 7, .outputs = 2});
      const SampleInput ratio{DType::kFloat, {}, Fill::kZeros, {0.4}}, training{DType::kBool, {}, Fill::kZeros, {1}};
      out.push_back({.inputs = {{t, {5, 6}}, ratio, training}, .attributes = {{"seed", int64_t{7}}}, .outputs = 2});
      out.push_back({.inputs = {{t, {5, 6}}, ratio}, .outputs = 2});
    }
    out.push_back({.inputs = {{DType::kFloat, {2}}}, .attributes = {{"is_test", int64_t{1}}}, .opset = 1});
    return out;
  }

 private:
  uint32_t first_state() const {
    static std::atomic<uint32_t> runs{0};
    return seed ? static_cast<uint32_t>(*seed) : std::random_device()() ^ runs.fetch_add(1);
  }

  Status apply(DType t, const void* x, int64_t n, double p, void* y, void* mask) const {
    if (!(p >= 0 && p < 1)) return error(Code::kInvalidArgument, "Dropout: the ratio is {}; expected 0 or more and below 1", p);
    const DType mask_type = mask_is_bool ? DType::kBool : t;
    if (p == 0) {
      if (y != x) copy_elements(t, y, 0, x, 0, n);
      for (int64_t i = 0; mask && i < n; ++i) set_int(mask_type, mask, i, 1);
      return {};
    }
    std::mt19937 random(first_state());
    for (int64_t i = 0; i < n; ++i) {
      const double high = random() >> 5, low = random() >> 6;
      const bool keep = (high * 67108864.0 + low) / 9007199254740992.0 >= p;
      set_double(t, y, i, keep ? get_double(t, x, i) / (1 - p) : 0);
      if (mask) set_int(mask_type, mask, i, keep);
    }
    return {};
  }
};
OCIOR_OPERATOR(Dropout)

}  // namespace ocior::ops
