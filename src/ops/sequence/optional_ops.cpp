// Operators on optionals (https://onnx.ai/onnx/operators/onnx__Optional.html and its neighbours).
#include "ops/control/subgraph.h"
#include "ops/sequence/types.h"

namespace ocior::ops {
namespace {

Type optional_type(const Type& element) {
  return without_element_shapes({Value::Kind::kOptional, DType::kUndefined, std::nullopt, std::make_shared<const Type>(element)});
}

}  // namespace

struct Optional {
  static constexpr OpInfo info{.name = "Optional", .since = 15, .min_inputs = 0, .any_kind = true};
  std::optional<Type> type;  // of the element that is not there

  static Optional parse(const NodeReader& node) {
    Optional op;
    if (const auto given = node.type("type")) op.type = *given;
    if (node.inputs() == 0 && !op.type) node.fail("expected an input, or the attribute 'type' for an empty optional");
    return op;
  }
  Status infer(ShapeContext& c) const {
    const Type& element = c.inputs() > 0 && c.has(0) ? c.in(0) : *type;
    if (element.kind != Value::Kind::kTensor && element.kind != Value::Kind::kSequence)
      return error(Code::kInvalidGraph, "the element is {}; expected a tensor or a sequence", element.text());
    c.set(0, optional_type(element));
    return {};
  }
  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(Value element, own(c.value(0)));
    return c.set_value(0, Value::optional(std::move(element)));
  }
  static std::vector<Sample> samples() { return {}; }
};
OCIOR_OPERATOR(Optional)

struct OptionalGetElement {
  static constexpr OpInfo info{.name = "OptionalGetElement", .since = 15, .any_kind = true};

  static OptionalGetElement parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const {
    const Type& type = c.in(0);
    if (type.kind == Value::Kind::kOptional && !type.element)
      return error(Code::kInvalidGraph, "the type of the optional's element is unknown");
    c.set(0, type.kind == Value::Kind::kOptional ? *without_element_shapes(type).element : type);
    return {};
  }
  Status reference(RefContext& c) const {
    const Value given = c.value(0);
    if (given.kind() != Value::Kind::kOptional) {
      OCIOR_ASSIGN(Value same, own(given));
      return c.set_value(0, std::move(same));
    }
    if (given.elements().empty()) return error(Code::kInvalidArgument, "the optional is empty; ask OptionalHasElement first");
    return c.set_value(0, given.elements()[0]);
  }
  static std::vector<Sample> samples() {
    return {{.inputs = {{.shape = {2, 3}}}}, {.inputs = {{.dtype = DType::kInt64, .shape = {0}, .fill = Fill::kSmallInts}}}};
  }
};
OCIOR_OPERATOR(OptionalGetElement)

struct OptionalHasElement {
  static constexpr OpInfo info{.name = "OptionalHasElement", .since = 15, .min_inputs = 0, .any_kind = true};

  static OptionalHasElement parse(const NodeReader&) { return {}; }
  Status infer(ShapeContext& c) const {
    c.set(0, DType::kBool, Dims{});
    return {};
  }
  Status reference(RefContext& c) const {
    const Value given = c.value(0);
    const bool has = given.kind() == Value::Kind::kOptional ? !given.elements().empty() : given.kind() != Value::Kind::kNone;
    OCIOR_ASSIGN(Tensor out, Tensor::allocate(DType::kBool, {}));
    *out.as<bool>() = has;
    return c.set_value(0, Value(std::move(out)));
  }
  static std::vector<Sample> samples() { return {{.inputs = {{.shape = {2, 3}}}}, {.inputs = {}}}; }
};
OCIOR_OPERATOR(OptionalHasElement)

}  // namespace ocior::ops
