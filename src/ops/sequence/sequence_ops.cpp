// Operators that make, read and change sequences (https://onnx.ai/onnx/operators/onnx__SequenceConstruct.html and its
// neighbours). A sequence shares its elements with those it was made of; tensors that enter one are copied.
#include "ops/control/subgraph.h"
#include "ops/sequence/types.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

std::vector<Value> elements_of(const Value& sequence) { return {sequence.elements().begin(), sequence.elements().end()}; }

}  // namespace

struct SequenceEmpty {
  static constexpr OpInfo info{.name = "SequenceEmpty", .since = 11, .min_inputs = 0, .max_inputs = 0, .any_kind = true};
  DType dtype = DType::kFloat;

  static SequenceEmpty parse(const NodeReader& node) {
    const int64_t number = node.integer("dtype", static_cast<int64_t>(DType::kFloat));
    if (number < 1 || number >= kDTypeCount) node.fail("dtype is {}; expected an element type of ONNX", number);
    return {static_cast<DType>(number)};
  }
  Status infer(ShapeContext& c) const {
    c.set(0, sequence_type(dtype));
    return {};
  }
  Status reference(RefContext& c) const { return c.set_value(0, Value::sequence({})); }
  static std::vector<Sample> samples() { return {}; }
};
OCIOR_OPERATOR(SequenceEmpty)

struct SequenceConstruct {
  static constexpr OpInfo info{.name = "SequenceConstruct", .since = 11, .max_inputs = kUnbounded, .any_kind = true};

  static SequenceConstruct parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const {
    for (int i = 0; i < c.inputs(); ++i) {
      if (!c.has(i)) return error(Code::kInvalidGraph, "input {} is missing", i);
      OCIOR_RETURN_IF_ERROR(check_tensor(c, i, c.dtype(0), fmt::format("input {}", i)));
    }
    c.set(0, sequence_type(c.dtype(0)));
    return {};
  }
  Status reference(RefContext& c) const {
    std::vector<Value> elements;
    for (int i = 0; i < c.inputs(); ++i) {
      OCIOR_ASSIGN(Value element, own(c.value(i)));
      elements.push_back(std::move(element));
    }
    return c.set_value(0, Value::sequence(std::move(elements)));
  }
  static std::vector<Sample> samples() { return {}; }
};
OCIOR_OPERATOR(SequenceConstruct)

struct SequenceAt {
  static constexpr OpInfo info{.name = "SequenceAt", .since = 11, .min_inputs = 2, .max_inputs = 2, .any_kind = true};

  static SequenceAt parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const {
    OCIOR_ASSIGN(const DType dtype, sequence_dtype(c, 0));
    OCIOR_RETURN_IF_ERROR(check_integers(c, 1, "the position"));
    c.set(0, dtype, std::nullopt);
    return {};
  }
  Status reference(RefContext& c) const {
    const Value sequence = c.value(0);
    OCIOR_ASSIGN(const int64_t position, resolve_position(c, 1, std::ssize(sequence.elements()), 0, 0));
    return c.set_value(0, sequence.elements()[static_cast<size_t>(position)]);
  }
  static std::vector<Sample> samples() { return {}; }
};
OCIOR_OPERATOR(SequenceAt)

struct SequenceInsert {
  static constexpr OpInfo info{.name = "SequenceInsert", .since = 11, .min_inputs = 2, .max_inputs = 3, .any_kind = true};

  static SequenceInsert parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const {
    OCIOR_ASSIGN(const DType dtype, sequence_dtype(c, 0));
    OCIOR_RETURN_IF_ERROR(check_tensor(c, 1, dtype, "the new element"));
    OCIOR_RETURN_IF_ERROR(check_integers(c, 2, "the position"));
    c.set(0, sequence_type(dtype));
    return {};
  }
  Status reference(RefContext& c) const {
    std::vector<Value> elements = elements_of(c.value(0));
    const int64_t n = std::ssize(elements);
    OCIOR_ASSIGN(const int64_t position, resolve_position(c, 2, n, 1, n));
    OCIOR_ASSIGN(Value element, own(c.value(1)));
    elements.insert(elements.begin() + position, std::move(element));
    return c.set_value(0, Value::sequence(std::move(elements)));
  }
  static std::vector<Sample> samples() { return {}; }
};
OCIOR_OPERATOR(SequenceInsert)

struct SequenceErase {
  static constexpr OpInfo info{.name = "SequenceErase", .since = 11, .max_inputs = 2, .any_kind = true};

  static SequenceErase parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const {
    OCIOR_ASSIGN(const DType dtype, sequence_dtype(c, 0));
    OCIOR_RETURN_IF_ERROR(check_integers(c, 1, "the position"));
    c.set(0, sequence_type(dtype));
    return {};
  }
  Status reference(RefContext& c) const {
    std::vector<Value> elements = elements_of(c.value(0));
    const int64_t n = std::ssize(elements);
    if (n == 0) return error(Code::kInvalidArgument, "the sequence is empty; there is nothing to erase");
    OCIOR_ASSIGN(const int64_t position, resolve_position(c, 1, n, 0, n - 1));
    elements.erase(elements.begin() + position);
    return c.set_value(0, Value::sequence(std::move(elements)));
  }
  static std::vector<Sample> samples() { return {}; }
};
OCIOR_OPERATOR(SequenceErase)

struct SequenceLength {
  static constexpr OpInfo info{.name = "SequenceLength", .since = 11, .any_kind = true};

  static SequenceLength parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(sequence_dtype(c, 0).status());
    c.set(0, DType::kInt64, Dims{});
    return {};
  }
  Status reference(RefContext& c) const { return c.set_value(0, Value(Tensor::scalar_i64(std::ssize(c.value(0).elements())))); }
  static std::vector<Sample> samples() { return {}; }
};
OCIOR_OPERATOR(SequenceLength)

struct SplitToSequence {
  static constexpr OpInfo info{.name = "SplitToSequence", .since = 11, .max_inputs = 2, .any_kind = true};
  int64_t axis = 0;
  bool keep_dims = true;  // without a split: pieces keep the axis, of extent 1

  static SplitToSequence parse(const NodeReader& node) { return {node.integer("axis", 0), node.integer("keepdims", 1) != 0}; }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_tensor(c, 0, c.dtype(0), "input 0"));
    OCIOR_RETURN_IF_ERROR(check_integers(c, 1, "the split"));
    if (c.shape(0)) OCIOR_RETURN_IF_ERROR(resolve_axis(axis, std::ssize(*c.shape(0))).status());
    c.set(0, sequence_type(c.dtype(0)));
    return {};
  }
  Status reference(RefContext& c) const {
    const Tensor x = *c.value(0).get_tensor();
    OCIOR_ASSIGN(const int64_t along, resolve_axis(axis, x.rank()));
    const int64_t extent = x.shape()[static_cast<size_t>(along)];
    OCIOR_ASSIGN(const std::vector<int64_t> sizes, sizes_of(c.value(1), extent));
    const bool squeeze = !c.value(1).is_tensor() && !keep_dims;
    std::vector<Value> pieces;
    int64_t from = 0;
    for (const int64_t size : sizes) {
      OCIOR_ASSIGN(Tensor piece, squeeze ? slice_at(x, along, from) : range_of(x, along, from, size));
      pieces.push_back(Value(std::move(piece)));
      from += size;
    }
    return c.set_value(0, Value::sequence(std::move(pieces)));
  }
  static std::vector<Sample> samples() { return {}; }

 private:
  static Result<std::vector<int64_t>> sizes_of(const Value& split, int64_t extent) {
    if (!split.is_tensor()) return std::vector<int64_t>(static_cast<size_t>(extent), 1);
    std::vector<int64_t> sizes = to_ints(*split.get_tensor());
    if (split.shape().empty()) {
      const int64_t size = sizes[0];
      if (size < 1) return error(Code::kInvalidArgument, "the split is {}; expected a positive size", size);
      sizes.assign(static_cast<size_t>(extent / size), size);
      if (extent % size != 0) sizes.push_back(extent % size);
      return sizes;
    }
    int64_t left = extent;
    for (const int64_t size : sizes) {
      if (split.shape().size() != 1 || size < 0 || size > left) left = -1;
      if (left < 0) break;
      left -= size;
    }
    if (left != 0)
      return error(Code::kInvalidArgument, "the split is {} of shape {}; expected sizes that add up to {}", to_string(sizes),
                   to_string(split.shape()), extent);
    return sizes;
  }

  static Result<Tensor> range_of(const Tensor& x, int64_t axis, int64_t from, int64_t size) {
    Shape shape = x.shape();
    shape[static_cast<size_t>(axis)] = size;
    OCIOR_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), std::move(shape)));
    copy_range(out, axis, 0, x, from, size);
    return out;
  }
};
OCIOR_OPERATOR(SplitToSequence)

struct ConcatFromSequence {
  static constexpr OpInfo info{.name = "ConcatFromSequence", .since = 11, .any_kind = true};
  int64_t axis = 0;
  bool new_axis = false;

  static ConcatFromSequence parse(const NodeReader& node) {
    const int64_t added = node.integer("new_axis", 0);
    if (added != 0 && added != 1) node.fail("new_axis is {}; expected 0 or 1", added);
    return {node.required_integer("axis"), added == 1};
  }
  Status infer(ShapeContext& c) const {
    OCIOR_ASSIGN(const DType dtype, sequence_dtype(c, 0));
    c.set(0, dtype, std::nullopt);
    return {};
  }
  Status reference(RefContext& c) const {
    const Value sequence = c.value(0);
    const std::span<const Value> elements = sequence.elements();
    if (elements.empty()) return error(Code::kInvalidArgument, "the sequence is empty; there is nothing to concatenate");
    const DType dtype = elements[0].dtype();
    Shape shape(elements[0].shape().begin(), elements[0].shape().end());
    if (new_axis) {
      for (size_t i = 0; i < elements.size(); ++i) OCIOR_RETURN_IF_ERROR(check_shape(elements[i], i, shape, -1));
      OCIOR_ASSIGN(Tensor out, stack(elements, axis, Type::tensor(dtype), "an element of the sequence"));
      return c.set_value(0, Value(std::move(out)));
    }
    OCIOR_ASSIGN(const int64_t along, resolve_axis(axis, std::ssize(shape)));
    int64_t& extent = shape[static_cast<size_t>(along)];
    for (size_t i = 0; i < elements.size(); ++i) {
      OCIOR_RETURN_IF_ERROR(check_shape(elements[i], i, shape, along));
      if (i > 0 && __builtin_add_overflow(extent, elements[i].shape()[static_cast<size_t>(along)], &extent))
        return error(Code::kInvalidArgument, "the elements together are too large");
    }
    OCIOR_ASSIGN(Tensor out, Tensor::allocate(dtype, shape));
    int64_t at = 0;
    for (const Value& element : elements) {
      const int64_t n = element.shape()[static_cast<size_t>(along)];
      copy_range(out, along, at, *element.get_tensor(), 0, n);
      at += n;
    }
    return c.set_value(0, Value(std::move(out)));
  }
  static std::vector<Sample> samples() { return {}; }

 private:
  static Status check_shape(const Value& element, size_t i, const Shape& first, int64_t except) {
    const auto shape = element.shape();
    bool alike = shape.size() == first.size();
    for (int64_t k = 0; alike && k < std::ssize(first); ++k)
      alike = k == except || shape[static_cast<size_t>(k)] == first[static_cast<size_t>(k)];
    if (alike) return {};
    return error(Code::kInvalidArgument, "element {} of the sequence has shape {}, the first {}; they cannot be concatenated", i,
                 to_string(shape), to_string(first));
  }
};
OCIOR_OPERATOR(ConcatFromSequence)

}  // namespace ocior::ops
