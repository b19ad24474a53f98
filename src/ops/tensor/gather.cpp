// Gather: rows of the data along one axis, picked by indices (negative ones count from the end).
#include "ops/loops.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/tensor/indices.h"

namespace ocior::ops {

struct Gather {
  static constexpr OpInfo info{.name = "Gather", .min_inputs = 2, .max_inputs = 2};
  int64_t axis = 0;

  static Gather parse(const NodeReader& node) { return {node.integer("axis", 0)}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "Gather"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, "Gather"));
    if (!ranked(c, 0)) return c.set(0, c.dtype(0), std::nullopt), Status();
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, rank(c, 0)));
    if (!ranked(c, 1)) return c.set(0, c.dtype(0), std::nullopt), Status();
    const Dims &data = *c.shape(0), &indices = *c.shape(1);
    Dims out(data.begin(), data.begin() + a);
    out.insert(out.end(), indices.begin(), indices.end());
    out.insert(out.end(), data.begin() + a + 1, data.end());
    c.set(0, c.dtype(0), std::move(out));
    return follow(c);
  }

  Status reference(RefContext& c) const {
    const Tensor &x = c.in(0), &indices = c.in(1);
    OCIOR_ASSIGN(const Cut cut, cut_at(x.shape()));
    const int64_t picks = indices.count();
    Tensor& y = c.out(0);
    for (int64_t o = 0; o < cut.outer; ++o)
      for (int64_t i = 0; i < picks; ++i) {
        OCIOR_ASSIGN(const int64_t at, resolve_index(get_int(indices.dtype(), indices.data(), i), cut.length, "Gather", i));
        copy_elements(x.dtype(), y.data(), (o * picks + i) * cut.inner, x.data(), (o * cut.length + at) * cut.inner, cut.inner);
      }
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &indices = c.in(1), &y = c.out(0);
    OCIOR_ASSIGN(const Cut cut, cut_at(x.shape));
    const int64_t picks = indices.count();
    if (cut.outer * picks == 0) return {};
    for (int64_t i = 0; i < picks; ++i)
      OCIOR_RETURN_IF_ERROR(resolve_index(get_int(indices.dtype, indices.data, i), cut.length, "Gather", i).status());
    const auto rows = [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const int64_t index = get_int(indices.dtype, indices.data, k % picks);
        const int64_t at = index < 0 ? index + cut.length : index;
        copy_elements(x.dtype, y.data, k * cut.inner, x.data, (k / picks * cut.length + at) * cut.inner, cut.inner);
      }
    };
    if (moves_as_bytes(x.dtype)) for_items(c, cut.outer * picks, cut.inner, rows);
    else rows(0, cut.outer * picks);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&out](DType t, Shape data, DType index, Shape shape, std::vector<double> values, int64_t axis) {
      out.push_back({.inputs = {{t, std::move(data)}, {index, std::move(shape), Fill::kZeros, std::move(values)}},
                     .attributes = {{"axis", axis}}});
    };
    for (const DType t :
         {DType::kFloat, DType::kInt64, DType::kBool, DType::kFloat16, DType::kString, DType::kDouble, DType::kInt4})
      for (const DType index : {DType::kInt32, DType::kInt64}) {
        add(t, {4, 3, 2}, index, {3}, {0, -1, 2}, 0);
        add(t, {4, 3, 2}, index, {2, 2}, {0, 1, -3, 2}, 1);
        add(t, {4, 3, 2}, index, {}, {1}, -1);
        add(t, {4, 0}, index, {2}, {1, 2}, 0);
        add(t, {4, 2}, index, {0}, {}, 0);
      }
    out.push_back({.inputs = {{DType::kFloat, {30522, 384}}, {DType::kInt64, {1, 128}, Fill::kPositive}}, .bench = true});
    out.push_back({.inputs = {{DType::kFloat, {50, 384}}, {DType::kInt64, {2, 128}, Fill::kPositive}}});
    return out;
  }

 private:
  struct Cut {
    int64_t outer, length, inner;
  };
  Result<Cut> cut_at(std::span<const int64_t> shape) const {
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, static_cast<int64_t>(shape.size())));
    const auto at = static_cast<size_t>(a);
    return Cut{element_count(shape.first(at)), shape[at], element_count(shape.subspan(at + 1))};
  }

  // Elements of a vector, picked by known indices.
  Status follow(ShapeContext& c) const {
    if (!carries_data(c.dtype(0)) || rank(c, 0) != 1) return {};
    const auto data = data_of(c, 0);
    const auto picks = ints_of(c, 1);
    if (!data || !picks || static_cast<int64_t>(picks->size()) > kMaxData) return {};
    Dims out;
    for (size_t i = 0; i < picks->size(); ++i) {
      OCIOR_ASSIGN(const int64_t at,
                   resolve_index((*picks)[i], static_cast<int64_t>(data->size()), "Gather", static_cast<int64_t>(i)));
      out.push_back((*data)[static_cast<size_t>(at)]);
    }
    c.set_data(0, std::move(out));
    return {};
  }
};
OCIOR_OPERATOR(Gather)

}  // namespace ocior::ops
