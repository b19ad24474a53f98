#include "ops/shape_data.h"

#include <algorithm>

#include "ops/shapes.h"

namespace ocior::ops {

bool carries_data(DType dtype) { return dtype == DType::kInt64 || dtype == DType::kInt32 || dtype == DType::kBool; }

std::optional<Dims> constant_data(const Tensor& t) {
  if (!carries_data(t.dtype()) || !t.dense() || t.memory().kind == MemoryKind::kDevice || t.count() > kMaxData)
    return std::nullopt;
  Dims out(static_cast<size_t>(t.count()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = get_int(t.dtype(), t.data(), static_cast<int64_t>(i));
  return out;
}

std::optional<Dims> data_of(ShapeContext& c, int i) {
  if (!c.has(i)) return std::nullopt;
  if (const Dims* d = c.data(i)) return *d;
  if (const Tensor* t = c.constant(i)) return constant_data(*t);
  return std::nullopt;
}

std::optional<std::vector<int64_t>> ints_of(ShapeContext& c, int i) {
  if (!c.has(i)) return std::nullopt;
  const Tensor* t = c.constant(i);
  if (t && t->dense() && t->dtype() != DType::kString && bits_of(t->dtype()) >= 8) return to_ints(*t);
  if (const auto data = data_of(c, i)) return known_shape(*data);
  return std::nullopt;
}

std::optional<Shape> known_shape(const Dims& dims) {
  Shape out;
  out.reserve(dims.size());
  for (const Dim& d : dims) {
    if (!d.known()) return std::nullopt;
    out.push_back(d.value());
  }
  return out;
}

std::optional<int64_t> known_product(const Dims& dims) {
  const auto shape = known_shape(dims);
  if (!shape) return std::nullopt;
  const auto count = checked_element_count(*shape);
  return count.ok() ? std::optional<int64_t>(*count) : std::nullopt;
}

std::optional<int64_t> length_of(const ShapeContext& c, int i) {
  if (!c.has(i) || !ranked(c, i) || rank(c, i) != 1 || !(*c.shape(i))[0].known()) return std::nullopt;
  return (*c.shape(i))[0].value();
}

Dims fresh_dims(ShapeContext& c, int64_t count, std::string_view hint) {
  Dims out;
  for (int64_t i = 0; i < count; ++i) out.push_back(c.fresh(hint));
  return out;
}

void pass_data(ShapeContext& c) {
  if (auto data = data_of(c, 0)) c.set_data(0, std::move(*data));
}

void combine_data(ShapeContext& c, const DataFunction& f) {
  std::vector<Dims> inputs;
  size_t size = 1;
  for (int i = 0; i < c.inputs(); ++i) {
    if (!c.has(i) || !carries_data(c.dtype(i)) || !ranked(c, i) || rank(c, i) > 1) return;
    auto data = data_of(c, i);
    if (!data || (rank(c, i) == 0 && data->size() != 1)) return;
    if (data->size() != 1) {
      if (size != 1 && size != data->size()) return;
      size = data->size();
    }
    inputs.push_back(std::move(*data));
  }
  Dims out, arguments(inputs.size());
  for (size_t k = 0; k < size; ++k) {
    for (size_t i = 0; i < inputs.size(); ++i) arguments[i] = inputs[i][inputs[i].size() == 1 ? 0 : k];
    auto value = f(arguments);
    if (!value) return;
    out.push_back(std::move(*value));
  }
  c.set_data(0, std::move(out));
}

Status check_type(const ShapeContext& c, int i, TypeSet allowed, std::string_view op) {
  if (!c.has(i)) return {};
  if (!c.in(i).is_tensor()) return error(Code::kInvalidGraph, "{}: input {} must be a tensor, got {}", op, i, c.in(i).text());
  const DType t = c.dtype(i);
  if (t == DType::kUndefined || (allowed & type_bit(t))) return {};
  std::string names;
  for (int k = 1; k < kDTypeCount; ++k)
    if (allowed & (TypeSet{1} << k)) names += (names.empty() ? "" : ", ") + std::string(name_of(static_cast<DType>(k)));
  return error(Code::kInvalidGraph, "{}: input {} is of type {}; expected one of {}", op, i, name_of(t), names);
}

Status check_same_type(const ShapeContext& c, int i, int j, std::string_view op) {
  if (!c.has(i) || !c.has(j)) return {};
  const DType a = c.dtype(i), b = c.dtype(j);
  if (a == b || a == DType::kUndefined || b == DType::kUndefined) return {};
  return error(Code::kInvalidGraph, "{}: inputs {} and {} must have one element type, got {} and {}", op, i, j, name_of(a),
               name_of(b));
}

Status ensure_output(CpuContext& c, int i, std::span<const int64_t> shape) {
  if (!c.wants(i)) return {};
  const TensorView& out = c.out(i);
  if (out.data && std::ranges::equal(out.shape, shape)) return {};
  OCIOR_ASSIGN(const int64_t count, checked_element_count(shape));
  if (count == 0 && std::ranges::equal(out.shape, shape)) return {};
  return c.allocate(i, shape);
}

Status ensure_output(RefContext& c, int i, DType dtype, std::span<const int64_t> shape) {
  if (!c.wants(i)) return {};
  const Tensor& out = c.out(i);
  const bool placed =
      out.defined() && (out.data() || out.count() == 0);  // a step that sizes its outputs gets them without memory
  if (placed && out.dtype() == dtype && std::ranges::equal(out.shape(), shape)) return {};
  return c.allocate(i, dtype, Shape(shape.begin(), shape.end()));
}

Result<FixedShape> fixed_shape(std::span<const int64_t> shape) {
  if (shape.size() > kMaxRank)
    return error(Code::kNotImplemented, "tensors of rank {} are not supported; the limit is {}", shape.size(), kMaxRank);
  FixedShape out;
  for (int64_t d : shape) out.push(d);
  return out;
}

Result<FixedShape> fixed_ints(DType dtype, const void* data, int64_t count, std::string_view what) {
  if (count > kMaxRank) return error(Code::kInvalidArgument, "{} has {} elements; the limit is {}", what, count, kMaxRank);
  FixedShape out;
  for (int64_t i = 0; i < count; ++i) out.push(get_int(dtype, data, i));
  return out;
}

}  // namespace ocior::ops
