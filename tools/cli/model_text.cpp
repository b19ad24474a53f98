// See model_text.h.
#include "model_text.h"

#include "base/error.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

template <class Dimensions, class Symbol>
std::string dimensions_text(const Dimensions& shape, Symbol symbol) {
  std::string out;
  for (const auto& d : shape) {
    const std::string& name = symbol(d);
    out += (out.empty() ? "" : ", ") + (d.value >= 0 ? std::to_string(d.value) : name.empty() ? "?" : one_line(name));
  }
  return "[" + out + "]";
}

std::string line(const std::string& name, const std::string& type, const std::string& shape) {
  return fmt::format("{}  {}  {}", one_line(name), type, shape);
}

}  // namespace

std::string type_text(const onnx::Type& type) {
  using Kind = onnx::Type::Kind;
  const auto inner = [&] { return type.element ? type_text(*type.element) : std::string("?"); };
  switch (type.kind) {
    case Kind::kTensor: return fmt::format("tensor({})", name_of(type.dtype));
    case Kind::kSparseTensor: return fmt::format("sparse_tensor({})", name_of(type.dtype));
    case Kind::kSequence: return "seq(" + inner() + ")";
    case Kind::kOptional: return "optional(" + inner() + ")";
    case Kind::kMap: return fmt::format("map({},{})", name_of(type.dtype), inner());
    case Kind::kNone: break;
  }
  return "?";
}

std::string value_text(const onnx::ValueInfo& value) {
  const auto symbol = [](const onnx::Dimension& d) -> const std::string& { return d.param; };
  return line(value.name, type_text(value.type),
              value.type.has_shape ? dimensions_text(value.type.shape, symbol) : "of any shape");
}

std::string value_text(const ValueInfo& value) {
  const auto symbol = [](const Dimension& d) -> const std::string& { return d.symbol; };
  return line(value.name, value.type_string(), value.has_shape ? dimensions_text(value.shape, symbol) : "of any shape");
}

Json value_json(const onnx::ValueInfo& value) {
  Json out{{"name", value.name}, {"type", type_text(value.type)}, {"shape", nullptr}};
  if (!value.type.has_shape) return out;
  out["shape"] = Json::array();
  for (const onnx::Dimension& d : value.type.shape) {
    out["shape"].push_back(d.value >= 0 ? Json(d.value) : d.param.empty() ? Json() : Json(d.param));
  }
  return out;
}

std::string shape_text(std::span<const int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace ocior::cli
