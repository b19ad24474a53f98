// GatherND and GatherElements: elements or slices picked by tuples of indices, and single elements picked along an axis.
#include <algorithm>

#include "ops/loops.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/tensor/indices.h"

namespace ocior::ops {

// The last axis of the indices holds tuples that address the first axes of the data, after `batch_dims` axes that both share.
struct GatherND {
  static constexpr OpInfo info{.name = "GatherND", .since = 11, .min_inputs = 2, .max_inputs = 2};
  int64_t batch_dims = 0;

  static GatherND parse(const NodeReader& node) {
    GatherND op{node.opset() >= 12 ? node.integer("batch_dims", 0) : 0};
    if (op.batch_dims < 0) node.fail("batch_dims is {}; expected 0 or more", op.batch_dims);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "GatherND"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, "GatherND"));
    c.set(0, c.dtype(0), std::nullopt);
    if (!ranked(c, 0) || !ranked(c, 1)) return {};
    const Dims &data = *c.shape(0), &indices = *c.shape(1);
    if (indices.empty() || batch_dims >= static_cast<int64_t>(std::min(data.size(), indices.size())))
      return error(Code::kInvalidArgument, "GatherND: data {}, indices {} and batch_dims {} do not fit", to_string(data),
                   to_string(indices), batch_dims);
    if (!indices.back().known()) return {};
    const int64_t tuple = indices.back().value(), first = batch_dims + tuple;
    if (tuple < 1 || first > static_cast<int64_t>(data.size()))
      return error(Code::kInvalidArgument, "GatherND: tuples of {} indices after {} batch axes for data of rank {}", tuple,
                   batch_dims, data.size());
    Dims out(indices.begin(), indices.end() - 1);
    out.insert(out.end(), data.begin() + first, data.end());
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor &x = c.in(0), &indices = c.in(1);
    return gather(x.dtype(), x.shape(), x.data(), {indices.dtype(), indices.shape(), const_cast<void*>(indices.data())},
                  c.out(0).data());
  }
  Status run(CpuContext& c) const { return gather(c.in(0).dtype, c.in(0).shape, c.in(0).data, c.in(1), c.out(0).data); }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&out](DType t, Shape x, Shape indices, std::vector<double> values, int64_t batch) {
      out.push_back({.inputs = {{t, std::move(x)}, {DType::kInt64, std::move(indices), Fill::kZeros, std::move(values)}},
                     .attributes = {{"batch_dims", batch}}});
    };
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kBool, DType::kString, DType::kFloat16}) {
      add(t, {2, 2}, {2, 2}, {0, 0, 1, -1}, 0);
      add(t, {2, 3, 2}, {2, 1}, {1, 0}, 0);
      add(t, {2, 2, 2}, {2, 1}, {1, 0}, 1);
      add(t, {2, 3, 4}, {2, 2, 2}, {0, 1, 1, 1, 2, -1, 0, 0}, 1);
      add(t, {4}, {0, 1}, {}, 0);
    }
    return out;
  }

 private:
  Status gather(DType t, std::span<const int64_t> x, const void* data, const TensorView& indices, void* y) const {
    const auto batch = static_cast<size_t>(batch_dims);
    if (indices.shape.empty() || batch >= std::min(x.size(), indices.shape.size()))
      return error(Code::kInvalidArgument, "GatherND: data {} and indices {} do not fit batch_dims {}", to_string(x),
                   to_string(indices.shape), batch_dims);
    const auto tuple = static_cast<size_t>(indices.shape.back());
    if (tuple < 1 || tuple > x.size() - batch)
      return error(Code::kInvalidArgument, "GatherND: tuples of {} indices for data {}", tuple, to_string(x));
    if (!std::ranges::equal(x.first(batch), indices.shape.first(batch)))
      return error(Code::kInvalidArgument, "GatherND: the first {} axes of data {} and indices {} differ", batch, to_string(x),
                   to_string(indices.shape));
    const int64_t batches = element_count(x.first(batch)), inner = element_count(x.subspan(batch + tuple));
    const int64_t per_batch = batches ? element_count(x) / batches : 0;
    const int64_t picks = element_count(indices.shape.first(indices.shape.size() - 1)),
                  picks_per_batch = batches ? picks / batches : 0;
    for (int64_t k = 0; k < picks; ++k) {
      int64_t at = 0;
      for (size_t i = 0; i < tuple; ++i) {
        const int64_t which = k * static_cast<int64_t>(tuple) + static_cast<int64_t>(i), length = x[batch + i];
        OCIOR_ASSIGN(const int64_t index, resolve_index(get_int(indices.dtype, indices.data, which), length, "GatherND", which));
        at = at * length + index;
      }
      copy_elements(t, y, k * inner, data, k / picks_per_batch * per_batch + at * inner, inner);
    }
    return {};
  }
};
OCIOR_OPERATOR(GatherND)

// y[i, j] = x[index[i, j], j] for axis 0, and so on; the output has the indices' shape.
struct GatherElements {
  static constexpr OpInfo info{.name = "GatherElements", .since = 11, .min_inputs = 2, .max_inputs = 2};
  int64_t axis = 0;

  static GatherElements parse(const NodeReader& node) { return {node.integer("axis", 0)}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "GatherElements"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, "GatherElements"));
    if (ranked(c, 0)) OCIOR_RETURN_IF_ERROR(resolve_axis(axis, rank(c, 0)).status());
    if (ranked(c, 0) && ranked(c, 1) && rank(c, 0) != rank(c, 1))
      return error(Code::kInvalidArgument, "GatherElements: data of rank {} and indices of rank {}", rank(c, 0), rank(c, 1));
    c.set(0, c.dtype(0), c.shape(1));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor &x = c.in(0), &indices = c.in(1);
    return gather(x.dtype(), x.shape(), x.data(), {indices.dtype(), indices.shape(), const_cast<void*>(indices.data())},
                  c.out(0).data());
  }
  Status run(CpuContext& c) const { return gather(c.in(0).dtype, c.in(0).shape, c.in(0).data, c.in(1), c.out(0).data); }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kBool, DType::kString, DType::kFloat16}) {
      out.push_back({.inputs = {{t, {3, 3}}, {DType::kInt64, {2, 3}, Fill::kZeros, {1, 2, 0, 2, 0, -3}}},
                     .attributes = {{"axis", int64_t{0}}}});
      out.push_back({.inputs = {{t, {2, 2}}, {DType::kInt32, {2, 3}, Fill::kZeros, {0, 0, 1, 1, 0, -1}}},
                     .attributes = {{"axis", int64_t{-1}}}});
      out.push_back({.inputs = {{t, {2, 4, 3}}, {DType::kInt64, {1, 2, 2}, Fill::kZeros, {1, 0, 3, -4}}},
                     .attributes = {{"axis", int64_t{1}}}});
      out.push_back({.inputs = {{t, {4}}, {DType::kInt64, {0}}}});
    }
    return out;
  }

 private:
  Status gather(DType t, std::span<const int64_t> x, const void* data, const TensorView& indices, void* y) const {
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, static_cast<int64_t>(x.size())));
    OCIOR_ASSIGN(FixedShape place, fixed_shape(indices.shape));
    if (indices.shape.size() != x.size())
      return error(Code::kInvalidArgument, "GatherElements: data {} and indices {}", to_string(x), to_string(indices.shape));
    int64_t stride[kMaxRank], step = 1;
    for (int64_t i = place.rank; i-- > 0;) {
      const int64_t length = x[static_cast<size_t>(i)];
      if (i != a && place[i] > length)
        return error(Code::kInvalidArgument, "GatherElements: indices {} are longer than data {} at axis {}",
                     to_string(indices.shape), to_string(x), i);
      stride[i] = step;
      step *= length;
      place[i] = 0;
    }
    const int64_t n = indices.count(), length = x[static_cast<size_t>(a)];
    for (int64_t k = 0; k < n; ++k) {
      OCIOR_ASSIGN(const int64_t index, resolve_index(get_int(indices.dtype, indices.data, k), length, "GatherElements", k));
      int64_t at = 0;
      for (int64_t i = 0; i < place.rank; ++i) at += (i == a ? index : place[i]) * stride[i];
      copy_elements(t, y, k, data, at, 1);
      for (int64_t i = place.rank; i-- > 0;) {
        if (++place[i] < indices.shape[static_cast<size_t>(i)]) break;
        place[i] = 0;
      }
    }
    return {};
  }
};
OCIOR_OPERATOR(GatherElements)

}  // namespace ocior::ops
