// Maps of ai.onnx.ml: ZipMap gives them, CastMap and DictVectorizer make tensors of them, with the shapes that ONNX Runtime
// gives.
#include <algorithm>
#include <cstring>
#include <map>
#include <type_traits>

#include "ops/loops.h"
#include "ops/ml/scores.h"
#include "ops/move.h"
#include "ops/shapes.h"
#include "ops/tensor/cast.h"

namespace ocior::ops {
namespace {

Type map_type(DType key, DType value) {
  return {Value::Kind::kMap, key, std::nullopt, std::make_shared<const Type>(Type::tensor(value))};
}

// The type of the values of input 0, which must be a map from `keys` to one of `values`.
Result<DType> check_map(const ShapeContext& c, DType keys, TypeSet values, std::string_view op) {
  const Type& type = c.in(0);
  if (type.kind != Value::Kind::kMap || !type.element || !type.element->is_tensor())
    return error(Code::kInvalidGraph, "{}: the input is {}; expected a map", op, type.text());
  if (type.dtype != keys || !(values & type_bit(type.element->dtype)))
    return error(Code::kInvalidGraph, "{}: the input is {}; this node expects keys of type {} and values that it can convert", op,
                 type.text(), name_of(keys));
  return type.element->dtype;
}

template <class K>
K key_at(const Tensor& keys, int64_t i) {
  if constexpr (std::is_same_v<K, std::string>) return keys.as<std::string>()[i];
  else return get_int(keys.dtype(), keys.data(), i);
}

// Where the value of each key is; of equal keys the last counts.
template <class K>
std::map<K, int64_t> places_of(const Tensor& keys) {
  std::map<K, int64_t> out;
  for (int64_t i = 0; i < keys.count(); ++i) out[key_at<K>(keys, i)] = i;
  return out;
}

}  // namespace

// Each row of scores as a map from class labels.
struct ZipMap {
  static constexpr OpInfo info{.name = "ZipMap", .domain = ml::kMl, .any_kind = true};
  int64_t columns = 0;
  Tensor keys;                // in order, each once
  std::vector<int64_t> from;  // the column of each key: the last one, if there are several

  static ZipMap parse(const NodeReader& node) {
    const ml::Labels labels = ml::Labels::parse(node, "classlabels_int64s", "classlabels_strings");
    ZipMap op;
    op.columns = labels.count();
    std::map<std::pair<int64_t, std::string>, int64_t> places;
    for (int64_t i = 0; i < op.columns; ++i) {
      const auto at = static_cast<size_t>(i);
      places[labels.names.empty() ? std::pair{labels.numbers[at], std::string()} : std::pair{int64_t{0}, labels.names[at]}] = i;
    }
    auto made = Tensor::allocate(labels.dtype(), {static_cast<int64_t>(places.size())});
    if (!made.ok()) return node.fail("{}", made.status().message()), op;
    op.keys = std::move(made).value();
    for (const auto& [key, column] : places) {
      labels.put(op.keys.data(), std::ssize(op.from), column);
      op.from.push_back(column);
    }
    return op;
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, type_bit(DType::kFloat), info.name));
    OCIOR_ASSIGN(const ml::SymbolicMatrix x, ml::infer_matrix(c, info.name));
    OCIOR_RETURN_IF_ERROR(ml::check_features(x.columns, columns, info.name));
    c.set(0, Type{Value::Kind::kSequence, DType::kUndefined, std::nullopt,
                  std::make_shared<const Type>(map_type(keys.dtype(), DType::kFloat))});
    return {};
  }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const ml::Matrix matrix, ml::matrix_of(x.shape(), info.name));
    OCIOR_RETURN_IF_ERROR(ml::check_features(matrix.columns, columns, info.name));
    OCIOR_ASSIGN(Tensor shared, keys.clone());
    const Value all_keys(std::move(shared));
    std::vector<Value> rows;
    for (int64_t row = 0; row < matrix.rows; ++row) {
      OCIOR_ASSIGN(Tensor values, Tensor::allocate(DType::kFloat, {std::ssize(from)}));
      for (size_t k = 0; k < from.size(); ++k) values.as<float>()[k] = x.as<float>()[row * columns + from[k]];
      OCIOR_ASSIGN(Value map, Value::map(all_keys, Value(std::move(values))));
      rows.push_back(std::move(map));
    }
    return c.set_value(0, Value::sequence(std::move(rows)));
  }
  static std::vector<Sample> samples() { return {}; }
};
OCIOR_OPERATOR(ZipMap)

// The values of a map in the order of its keys, or each at the place that its key says.
struct CastMap {
  static constexpr OpInfo info{.name = "CastMap", .domain = ml::kMl, .any_kind = true};
  static constexpr int64_t kMostPlaces = int64_t{1} << 28;
  DType to = DType::kFloat;
  bool sparse = false;
  int64_t places = 1;

  static CastMap parse(const NodeReader& node) {
    const std::string to = node.text("cast_to", "TO_FLOAT"), form = node.text("map_form", "DENSE");
    CastMap op;
    if (to == "TO_INT64") op.to = DType::kInt64;
    else if (to == "TO_STRING") op.to = DType::kString;
    else if (to != "TO_FLOAT") node.fail("cast_to is '{}'; expected TO_FLOAT, TO_STRING or TO_INT64", to);
    if (form != "DENSE" && form != "SPARSE") node.fail("map_form is '{}'; expected DENSE or SPARSE", form);
    op.sparse = form == "SPARSE";
    op.places = node.integer("max_map", 1);
    if (op.sparse && (op.places < 1 || op.places > kMostPlaces))
      node.fail("max_map is {}; expected 1 to {}", op.places, kMostPlaces);
    return op;
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_map(c, DType::kInt64, types(DType::kFloat, DType::kString), info.name).status());
    c.set(0, to, Dims{1, sparse ? Dim(places) : c.fresh("entries")});
    return {};
  }
  Status reference(RefContext& c) const {
    const Value map = c.value(0);
    const Tensor& values = *map.elements()[1].get_tensor();
    const auto order = places_of<int64_t>(*map.elements()[0].get_tensor());
    OCIOR_ASSIGN(Tensor y, Tensor::allocate(to, {1, sparse ? places : std::ssize(order)}));
    for (int64_t i = 0; i < y.count(); ++i) put_nothing(y, i);
    int64_t next = 0;
    for (const auto& [key, at] : order) {
      if (sparse && key < 0) return error(Code::kInvalidArgument, "CastMap: the key is {}; expected 0 or more for SPARSE", key);
      if (sparse && key >= places) break;  // left out, as in ONNX Runtime
      OCIOR_RETURN_IF_ERROR(convert(values, at, y, sparse ? key : next++));
    }
    return c.set_value(0, Value(std::move(y)));
  }
  static std::vector<Sample> samples() { return {}; }

 private:
  // A place without a key; the text is ONNX Runtime's.
  static void put_nothing(Tensor& y, int64_t i) {
    if (y.dtype() == DType::kString) y.as<std::string>()[i] = "0.f";
    else if (y.dtype() == DType::kInt64) y.as<int64_t>()[i] = 0;
    else y.as<float>()[i] = 0;
  }
  static void* element(Tensor& y, int64_t i) {
    return static_cast<std::byte*>(y.data()) + static_cast<size_t>(i) * element_size(y.dtype());
  }
  static Status convert(const Tensor& values, int64_t at, Tensor& y, int64_t i) {
    const bool is_text = values.dtype() == DType::kString;
    if (y.dtype() == DType::kString) {
      y.as<std::string>()[i] = is_text ? values.as<std::string>()[at] : fmt::format("{:f}", values.as<float>()[at]);
      return {};
    }
    if (is_text) return cast_elements({}, DType::kString, values.as<std::string>() + at, y.dtype(), element(y, i), 0, 1);
    const float v = values.as<float>()[at];
    if (y.dtype() == DType::kFloat) y.as<float>()[i] = v;
    else y.as<int64_t>()[i] = v >= -0x1p63F && v < 0x1p63F ? static_cast<int64_t>(v) : INT64_MIN;
    return {};
  }
};
OCIOR_OPERATOR(CastMap)

// The values of a map at the places of their keys in a vocabulary; zeros or empty strings where the map has no such key.
struct DictVectorizer {
  static constexpr OpInfo info{.name = "DictVectorizer", .domain = ml::kMl, .any_kind = true};
  ml::Labels vocabulary;

  static DictVectorizer parse(const NodeReader& node) {
    return {ml::Labels::parse(node, "int64_vocabulary", "string_vocabulary")};
  }
  Status infer(ShapeContext& c) const {
    const DType key = vocabulary.dtype(), other = key == DType::kString ? DType::kInt64 : DType::kString;
    OCIOR_ASSIGN(const DType values, check_map(c, key, types(DType::kFloat, DType::kDouble) | type_bit(other), info.name));
    c.set(0, values, Dims{1, vocabulary.count()});
    return {};
  }
  Status reference(RefContext& c) const {
    const Value map = c.value(0);
    const Tensor &keys = *map.elements()[0].get_tensor(), &values = *map.elements()[1].get_tensor();
    OCIOR_ASSIGN(Tensor y, Tensor::allocate(values.dtype(), {1, vocabulary.count()}));
    if (values.dtype() != DType::kString) std::memset(y.data(), 0, y.bytes());
    if (vocabulary.names.empty()) fill(vocabulary.numbers, keys, values, y);
    else fill(vocabulary.names, keys, values, y);
    return c.set_value(0, Value(std::move(y)));
  }
  static std::vector<Sample> samples() { return {}; }

 private:
  // Keys that the vocabulary lacks are left out, as in ONNX Runtime.
  template <class K>
  static void fill(const std::vector<K>& words, const Tensor& keys, const Tensor& values, Tensor& y) {
    const auto places = places_of<K>(keys);
    for (size_t i = 0; i < words.size(); ++i)
      if (const auto at = places.find(words[i]); at != places.end())
        copy_elements(y.dtype(), y.data(), static_cast<int64_t>(i), values.data(), at->second, 1);
  }
};
OCIOR_OPERATOR(DictVectorizer)

}  // namespace ocior::ops
