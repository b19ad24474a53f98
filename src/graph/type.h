// Types of graph values and of attributes. Plain values.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "ocior/value.h"
#include "tensor/dim.h"
#include "tensor/tensor.h"

namespace ocior::graph {

using ocior::to_string;

// Kind, element type and (for tensors) symbolic shape; nullopt: the rank is unknown.
struct Type {
  Value::Kind kind = Value::Kind::kTensor;
  DType dtype = DType::kUndefined;  // of elements; of keys for maps
  std::optional<Dims> shape;
  std::shared_ptr<const Type> element;  // sequence and optional: element; map: value

  static Type tensor(DType dtype, std::optional<Dims> shape = std::nullopt) {
    return {Value::Kind::kTensor, dtype, std::move(shape), nullptr};
  }
  bool is_tensor() const { return kind == Value::Kind::kTensor; }
  std::string text() const;  // "float[batch, 768]"
};

class Graph;

using AttributeValue = std::variant<int64_t, float, std::string, std::vector<int64_t>, std::vector<float>,
                                    std::vector<std::string>, Tensor, std::shared_ptr<Graph>, Type>;
using Attributes = std::map<std::string, AttributeValue>;

// One line, for printing and for comparing nodes: "axis=1, epsilon=1e-05". Large tensors print as dtype, shape and content hash.
std::string to_string(const Attributes& attributes);

}  // namespace ocior::graph
