// NonZero: the positions of the elements that are not 0, one column each, in row-major order. Sized by the run.
#include <algorithm>

#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {

struct NonZero {
  static constexpr OpInfo info{.name = "NonZero", .since = 9};

  static NonZero parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kNumbers | kBools, "NonZero"));
    const Dim rows = ranked(c, 0) ? Dim(rank(c, 0)) : c.fresh("rank");
    c.set(0, DType::kInt64, Dims{rows, c.fresh("nonzero")});
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_RETURN_IF_ERROR(fixed_shape(x.shape()).status());
    const int64_t found = find(x.dtype(), x.data(), x.shape(), nullptr, 0);
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, DType::kInt64, Shape{x.rank(), found}));
    find(x.dtype(), x.data(), x.shape(), c.out(0).as<int64_t>(), found);
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_RETURN_IF_ERROR(fixed_shape(x.shape).status());
    const int64_t found = find(x.dtype, x.data, x.shape, nullptr, 0);
    const int64_t shape[2] = {x.rank(), found};
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
    find(x.dtype, x.data, x.shape, c.out(0).as<int64_t>(), found);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t :
         {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBool, DType::kInt8, DType::kInt64, DType::kUint64})
      for (const Shape& shape : {Shape{3, 4}, Shape{2, 3, 2}, Shape{7}, Shape{0, 2}, Shape{}})
        out.push_back({.inputs = {{t, shape, Fill::kBools}}});
    out.push_back({.inputs = {{DType::kFloat, {99}, Fill::kSpecials}}});
    out.push_back({.inputs = {{DType::kFloat, {4}, Fill::kZeros}}});
    return out;
  }

 private:
  // Counts; with `out` ([rank, found]) also writes the positions.
  static int64_t find(DType t, const void* data, std::span<const int64_t> shape, int64_t* out, int64_t found) {
    int64_t column = 0;
    const auto note = [&](int64_t i) {
      if (out) {
        for (size_t a = shape.size(), rest = static_cast<size_t>(i); a-- > 0;) {
          out[static_cast<int64_t>(a) * found + column] = static_cast<int64_t>(rest % static_cast<size_t>(shape[a]));
          rest /= static_cast<size_t>(shape[a]);
        }
      }
      ++column;
    };
    const int64_t n = element_count(shape);
    visit_kind(kind_of(t), [&](auto zero) {
      using C = decltype(zero);
      alignas(64) C buffer[kStrip];
      for (int64_t at = 0; at < n; at += kStrip) {
        const int64_t length = std::min(kStrip, n - at);
        const C* x = load<C>(t, data, at, length, buffer);
        for (int64_t i = 0; i < length; ++i)
          if (x[i] != 0) note(at + i);
      }
    });
    return column;
  }
};
OCIOR_OPERATOR(NonZero)

}  // namespace ocior::ops
