// Split: parts along an axis. Sizes: an attribute before opset 13, an input since; without them equal parts (the last may be
// smaller since opset 18).
#include <algorithm>

#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct Split {
  static constexpr OpInfo info{.name = "Split", .max_inputs = 2, .max_outputs = kUnbounded};
  int64_t axis = 0;
  int64_t parts = 1;
  bool uneven = false;  // opset 18: equal parts may leave a smaller last one
  bool input = false;   // sizes come from input 1
  bool floats = false;  // opset 1: they have the data's type
  std::vector<int64_t> sizes;

  static Split parse(const NodeReader& node) {
    Split op;
    op.axis = node.integer("axis", 0);
    op.parts = node.outputs();
    op.input = (node.opset() >= 13 || node.opset() == 1) && node.inputs() == 2;
    op.floats = node.opset() == 1;
    if (node.inputs() == 2 && !op.input) node.fail("sizes are an attribute before opset 13, got 2 inputs");
    if (node.opset() < 13) op.sizes = node.integers("split");
    if (node.opset() >= 18) {
      op.uneven = true;
      const int64_t wish = node.integer("num_outputs", op.parts);
      if (wish != op.parts) node.fail("num_outputs is {}, but the node has {} outputs", wish, op.parts);
    }
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "Split"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, floats ? kIndices | kFloats : kIndices, "Split"));
    if (!ranked(c, 0)) {
      for (int i = 0; i < c.outputs(); ++i) c.set(i, c.dtype(0), std::nullopt);
      return {};
    }
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, rank(c, 0)));
    const Dim length = (*c.shape(0))[static_cast<size_t>(a)];
    Dims lengths;
    if (const auto data = sizes_of(c)) lengths = *data;
    else if (input && c.has(1)) lengths = fresh_dims(c, parts, "split");
    else if (length.known())
      for (int64_t i = 0; i < parts; ++i) lengths.push_back(equal_part(length.value(), i));
    else lengths = Dims(static_cast<size_t>(parts), Dim::quotient(length, parts));
    if (static_cast<int64_t>(lengths.size()) != parts)
      return error(Code::kInvalidArgument, "Split: {} sizes for {} outputs", lengths.size(), parts);
    const auto numbers = known_shape(lengths);
    if (numbers && length.known()) OCIOR_RETURN_IF_ERROR(check_sizes(*numbers, length.value()));
    return set_outputs(c, static_cast<size_t>(a), lengths);
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, x.rank()));
    std::optional<std::vector<int64_t>> given;
    if (input && c.has(1)) given = to_ints(c.in(1));
    OCIOR_ASSIGN(const std::vector<int64_t> lengths, lengths_of(given, x.shape()[static_cast<size_t>(a)]));
    int64_t at = 0;
    for (int i = 0; i < static_cast<int>(parts); ++i) {
      const int64_t length = lengths[static_cast<size_t>(i)];
      if (c.wants(i)) {
        Shape shape = x.shape();
        shape[static_cast<size_t>(a)] = length;
        OCIOR_RETURN_IF_ERROR(ensure_output(c, i, x.dtype(), shape));
        box(x.shape(), static_cast<size_t>(a), at, length, x.dtype(), x.data(), c.out(i).data()).run();
      }
      at += length;
    }
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, x.rank()));
    OCIOR_ASSIGN(FixedShape shape, fixed_shape(x.shape));
    const int64_t whole = shape[a];
    const bool listed = input && c.has(1);
    if (listed && c.in(1).count() != parts)
      return error(Code::kInvalidArgument, "Split: {} sizes for {} outputs", c.in(1).count(), parts);
    int64_t at = 0;
    for (int i = 0; i < static_cast<int>(parts); ++i) {
      const int64_t length = listed          ? get_int(c.in(1).dtype, c.in(1).data, i)
                             : sizes.empty() ? equal_part(whole, i)
                                             : sizes[static_cast<size_t>(i)];
      if (length < 0 || length > whole - at)
        return error(Code::kInvalidArgument, "Split: part {} of size {} leaves a dimension of {}", i, length, whole);
      if (c.wants(i)) {
        shape[a] = length;
        OCIOR_RETURN_IF_ERROR(ensure_output(c, i, shape));
        box(x.shape, static_cast<size_t>(a), at, length, x.dtype, x.data, c.out(i).data).run(c);
      }
      at += length;
    }
    if (at != whole) return error(Code::kInvalidArgument, "Split: the sizes add up to {}; expected {}", at, whole);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const SampleInput sizes{DType::kInt64, {3}, Fill::kZeros, {2, 0, 4}};
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kString, DType::kFloat16, DType::kBool, DType::kInt4}) {
      out.push_back({.inputs = {{t, {6, 4}}, sizes}, .outputs = 3});
      out.push_back({.inputs = {{t, {4, 6}}, sizes}, .attributes = {{"axis", int64_t{-1}}}, .outputs = 3});
      out.push_back({.inputs = {{t, {7, 2}}}, .attributes = {{"num_outputs", int64_t{3}}}, .outputs = 3});
      out.push_back({.inputs = {{t, {2, 6}}}, .attributes = {{"axis", int64_t{1}}}, .opset = 13, .outputs = 2});
      out.push_back({.inputs = {{t, {5}}}, .attributes = {{"split", std::vector<int64_t>{1, 4}}}, .opset = 2, .outputs = 2});
    }
    for (const DType t : {DType::kFloat, DType::kInt64})
      out.push_back({.inputs = {{DType::kFloat, {6, 2}}, {t, {3}, Fill::kZeros, {2, 0, 4}}}, .opset = 1, .outputs = 3});
    out.push_back({.inputs = {{DType::kFloat, {80, 3 * 384}}}, .attributes = {{"axis", int64_t{1}}}, .opset = 13, .outputs = 3});
    return out;
  }

 private:
  // Part i of equal parts.
  int64_t equal_part(int64_t length, int64_t i) const {
    const int64_t size = uneven ? length / parts + (length % parts != 0) : length / parts;
    return std::clamp<int64_t>(length - i * size, 0, size);
  }

  std::optional<Dims> sizes_of(ShapeContext& c) const {
    if (!sizes.empty()) return Dims(sizes.begin(), sizes.end());
    return input ? data_of(c, 1) : std::nullopt;
  }

  static Status check_sizes(const std::vector<int64_t>& lengths, int64_t whole) {
    int64_t rest = whole;
    for (const int64_t n : lengths) {
      if (n < 0 || n > rest)
        return error(Code::kInvalidArgument, "Split: sizes {} do not add up to {}", to_string(lengths), whole);
      rest -= n;
    }
    if (rest != 0) return error(Code::kInvalidArgument, "Split: sizes {} do not add up to {}", to_string(lengths), whole);
    return {};
  }

  Status set_outputs(ShapeContext& c, size_t a, const Dims& lengths) const {
    const auto data = carries_data(c.dtype(0)) && rank(c, 0) == 1 ? data_of(c, 0) : std::nullopt;
    const auto numbers = known_shape(lengths);
    size_t at = 0;
    for (int i = 0; i < c.outputs(); ++i) {
      Dims shape = *c.shape(0);
      shape[a] = lengths[static_cast<size_t>(i)];
      c.set(i, c.dtype(0), std::move(shape));
      if (!data || !numbers) continue;
      const auto n = static_cast<size_t>((*numbers)[static_cast<size_t>(i)]);
      if (at + n <= data->size())
        c.set_data(i, Dims(data->begin() + static_cast<ptrdiff_t>(at), data->begin() + static_cast<ptrdiff_t>(at + n)));
      at += n;
    }
    return {};
  }

  Result<std::vector<int64_t>> lengths_of(const std::optional<std::vector<int64_t>>& given, int64_t whole) const {
    std::vector<int64_t> out = given ? *given : sizes;
    if (!given && sizes.empty())
      for (int64_t i = 0; i < parts; ++i) out.push_back(equal_part(whole, i));
    if (static_cast<int64_t>(out.size()) != parts)
      return error(Code::kInvalidArgument, "Split: {} sizes for {} outputs", out.size(), parts);
    OCIOR_RETURN_IF_ERROR(check_sizes(out, whole));
    return out;
  }

  static BoxCopy box(std::span<const int64_t> x, size_t a, int64_t at, int64_t length, DType dtype, const void* from, void* to) {
    const int64_t outer = element_count(x.first(a)), inner = element_count(x.subspan(a + 1));
    BoxCopy copy{.dtype = dtype, .destination = to, .source = from, .s = at * inner};
    if (outer * inner * length == 0) return copy.extent[0] = 0, copy.rank = 1, copy;
    copy.axis(outer, length * inner, x[a] * inner);
    copy.axis(length * inner, 1, 1);
    return copy;
  }
};
OCIOR_OPERATOR(Split)

}  // namespace ocior::ops
