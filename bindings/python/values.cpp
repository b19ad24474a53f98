#include "values.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <optional>

namespace nb = nanobind;
using namespace nb::literals;

namespace ocior::python {
namespace {

constexpr const char* kErrorNames[] = {"",
                                       "Fail",
                                       "InvalidArgument",
                                       "NoSuchFile",
                                       "NoModel",
                                       "EngineError",
                                       "RuntimeException",
                                       "InvalidProtobuf",
                                       "ModelLoaded",
                                       "NotImplemented",
                                       "InvalidGraph",
                                       "EPFail",
                                       "ModelLoadCanceled",
                                       "ModelRequiresCompilation",
                                       "NotFound"};
PyObject* error_classes[std::size(kErrorNames)];

// Element types that NumPy knows from the package ml_dtypes only: its name of each.
struct MlType {
  DType dtype;
  const char* name;
};
constexpr std::array<MlType, 11> kMlTypes = {{{DType::kBFloat16, "bfloat16"},
                                              {DType::kFloat8E4M3FN, "float8_e4m3fn"},
                                              {DType::kFloat8E4M3FNUZ, "float8_e4m3fnuz"},
                                              {DType::kFloat8E5M2, "float8_e5m2"},
                                              {DType::kFloat8E5M2FNUZ, "float8_e5m2fnuz"},
                                              {DType::kFloat8E8M0, "float8_e8m0fnu"},
                                              {DType::kFloat4E2M1, "float4_e2m1fn"},
                                              {DType::kInt4, "int4"},
                                              {DType::kUint4, "uint4"},
                                              {DType::kInt2, "int2"},
                                              {DType::kUint2, "uint2"}}};

DType dtype_of(const nb::dlpack::dtype& d) {
  using nb::dlpack::dtype_code;
  switch (static_cast<dtype_code>(d.code)) {
    case dtype_code::Float:
      return d.bits == 32 ? DType::kFloat : d.bits == 64 ? DType::kDouble : d.bits == 16 ? DType::kFloat16 : DType::kUndefined;
    case dtype_code::Int:
      return d.bits == 64   ? DType::kInt64
             : d.bits == 32 ? DType::kInt32
             : d.bits == 16 ? DType::kInt16
             : d.bits == 8  ? DType::kInt8
                            : DType::kUndefined;
    case dtype_code::UInt:
      return d.bits == 64   ? DType::kUint64
             : d.bits == 32 ? DType::kUint32
             : d.bits == 16 ? DType::kUint16
             : d.bits == 8  ? DType::kUint8
                            : DType::kUndefined;
    case dtype_code::Bool: return DType::kBool;
    case dtype_code::Bfloat: return DType::kBFloat16;
    case dtype_code::Complex: return d.bits == 64 ? DType::kComplex64 : d.bits == 128 ? DType::kComplex128 : DType::kUndefined;
    default: return DType::kUndefined;
  }
}

std::optional<nb::dlpack::dtype> dlpack_of(DType t) {
  using nb::dlpack::dtype_code;
  const auto bits = static_cast<uint8_t>(bits_of(t));
  switch (t) {
    case DType::kFloat:
    case DType::kDouble:
    case DType::kFloat16: return nb::dlpack::dtype{static_cast<uint8_t>(dtype_code::Float), bits, 1};
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
    case DType::kInt64: return nb::dlpack::dtype{static_cast<uint8_t>(dtype_code::Int), bits, 1};
    case DType::kUint8:
    case DType::kUint16:
    case DType::kUint32:
    case DType::kUint64: return nb::dlpack::dtype{static_cast<uint8_t>(dtype_code::UInt), bits, 1};
    case DType::kBool: return nb::dlpack::dtype{static_cast<uint8_t>(dtype_code::Bool), 8, 1};
    case DType::kComplex64:
    case DType::kComplex128: return nb::dlpack::dtype{static_cast<uint8_t>(dtype_code::Complex), bits, 1};
    default: return std::nullopt;
  }
}

nb::object numpy() { return nb::module_::import_("numpy"); }

nb::object ml_dtype(const MlType& type) {
  try {
    return nb::module_::import_("ml_dtypes").attr(type.name);
  } catch (nb::python_error&) {
    raise(Status(Code::kNotImplemented, "a result is a tensor of " + std::string(name_of(type.dtype)) +
                                            ", which NumPy knows from the package ml_dtypes only (" + type.name +
                                            "); install ml_dtypes or its newer version"));
  }
}

Value strings_of(nb::handle array, const std::string& name) {
  nb::object flat = array.attr("ravel")();
  std::vector<std::string> values;
  for (nb::handle item : flat) {
    if (nb::isinstance<nb::bytes>(item)) {
      const auto bytes = nb::borrow<nb::bytes>(item);
      values.emplace_back(bytes.c_str(), bytes.size());
    } else if (nb::isinstance<nb::str>(item)) {
      values.push_back(nb::cast<std::string>(item));
    } else {
      raise(Status(Code::kInvalidArgument, "input '" + name + "': an array of objects must hold strings only"));
    }
  }
  const auto shape = nb::cast<std::vector<int64_t>>(array.attr("shape"));
  return unwrap(Value::strings(shape, std::move(values)));
}

bool is_dense(const nb::ndarray<nb::ro>& a) {
  int64_t step = 1;
  for (size_t i = a.ndim(); i-- > 0;) {
    if (a.shape(i) != 1 && a.stride(i) != step && a.size() > 0) return false;
    step *= static_cast<int64_t>(a.shape(i));
  }
  return true;
}

std::vector<int64_t> shape_of(const nb::ndarray<nb::ro>& array) {
  std::vector<int64_t> shape;
  for (size_t i = 0; i < array.ndim(); ++i) shape.push_back(static_cast<int64_t>(array.shape(i)));
  return shape;
}

// One element a byte -> `8 / bits` elements a byte, the first in the lowest bits.
Value packed(DType dtype, const nb::ndarray<nb::ro>& bytes) {
  const auto bits = static_cast<size_t>(bits_of(dtype)), per_byte = 8 / bits;
  Value value = unwrap(Value::tensor(dtype, shape_of(bytes)));
  const auto* from = static_cast<const uint8_t*>(bytes.data());
  auto* to = static_cast<uint8_t*>(value.data());
  std::fill_n(to, value.byte_size(), uint8_t{0});
  const unsigned mask = (1u << bits) - 1;
  for (size_t i = 0; i < bytes.size(); ++i)
    to[i / per_byte] = static_cast<uint8_t>(to[i / per_byte] | (from[i] & mask) << (i % per_byte * bits));
  return value;
}

// The reverse, as ml_dtypes keeps elements: signed integers with their sign in the upper bits too.
void unpack(const Value& value, uint8_t* to) {
  const DType dtype = value.dtype();
  const auto bits = static_cast<size_t>(bits_of(dtype)), per_byte = 8 / bits;
  const bool is_signed = dtype == DType::kInt4 || dtype == DType::kInt2;
  const auto* from = static_cast<const uint8_t*>(value.data());
  const unsigned mask = (1u << bits) - 1, sign = is_signed ? 1u << (bits - 1) : 0;
  const auto count = static_cast<size_t>(value.element_count());
  for (size_t i = 0; i < count; ++i) {
    const unsigned v = from[i / per_byte] >> (i % per_byte * bits) & mask;
    to[i] = static_cast<uint8_t>(v & sign ? v | ~mask : v);
  }
}

// A contiguous array of one of ml_dtypes' types.
Value small_tensor_of(const MlType& type, nb::object held, std::deque<nb::object>& keep) {
  const nb::object flat = numpy().attr("ascontiguousarray")(held).attr("reshape")(held.attr("shape"));
  held = flat.attr("view")(bits_of(type.dtype) == 16 ? "uint16" : "uint8");
  const auto array = nb::cast<nb::ndarray<nb::ro>>(held);
  if (bits_of(type.dtype) < 8) return packed(type.dtype, array);
  keep.push_back(std::move(held));
  return unwrap(Value::view(type.dtype, shape_of(array), const_cast<void*>(array.data()), array.nbytes()));
}

std::string kind_of(nb::handle object) { return nb::cast<std::string>(nb::str(object.type())); }

// Values of one NumPy type for keys or values of a map.
Value column_of(nb::handle items, DType dtype, const std::string& name, std::deque<nb::object>& keep) {
  nb::object list = nb::steal<nb::object>(PySequence_List(items.ptr()));
  if (!list) throw nb::python_error();
  if (dtype == DType::kString) {
    nb::object array = numpy().attr("empty")(nb::len(list), "dtype"_a = nb::str("object"));
    array.attr("__setitem__")(nb::slice(nb::none(), nb::none(), nb::none()), list);
    return strings_of(array, name);
  }
  const auto type = std::string(name_of(dtype) == "float" ? "float32" : name_of(dtype) == "double" ? "float64" : name_of(dtype));
  return tensor_of(numpy().attr("asarray")(list, "dtype"_a = nb::str(type.c_str())), name, keep);
}

nb::object map_object(const Value& map) {
  nb::dict out;
  const nb::object keys = array_of(map.elements()[0]).attr("tolist")(), values = array_of(map.elements()[1]).attr("tolist")();
  for (size_t i = 0; i < nb::len(keys); ++i) out[keys[i]] = values[i];
  return out;
}

}  // namespace

Value value_of(nb::handle object, const ValueInfo& want, std::deque<nb::object>& keep) {
  switch (want.kind) {
    case Value::Kind::kOptional: {
      if (object.is_none()) return Value::optional(Value());
      if (!want.element) break;
      ValueInfo element = *want.element;
      element.name = want.name;
      return Value::optional(value_of(object, element, keep));
    }
    case Value::Kind::kSequence: {
      if (!nb::isinstance<nb::list>(object) && !nb::isinstance<nb::tuple>(object))
        raise(Status(Code::kInvalidArgument,
                     "input '" + want.name + "' is a " + kind_of(object) + "; pass a list, as it is " + want.type_string()));
      if (!want.element) break;
      ValueInfo element = *want.element;
      element.name = want.name;
      std::vector<Value> elements;
      for (nb::handle item : object) elements.push_back(value_of(item, element, keep));
      return Value::sequence(std::move(elements));
    }
    case Value::Kind::kMap: {
      if (!nb::isinstance<nb::dict>(object))
        raise(Status(Code::kInvalidArgument,
                     "input '" + want.name + "' is a " + kind_of(object) + "; pass a dict, as it is " + want.type_string()));
      if (!want.element || !want.element->element) {
        const DType values = want.element ? want.element->dtype : DType::kUndefined;
        Value keys = column_of(object.attr("keys")(), want.dtype, want.name, keep);
        return unwrap(Value::map(std::move(keys), column_of(object.attr("values")(), values, want.name, keep)));
      }
      break;
    }
    default: return tensor_of(object, want.name, keep);
  }
  raise(Status(Code::kNotImplemented, "input '" + want.name + "' is " + want.type_string() + ", which Python cannot give"));
}

nb::object object_of(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kTensor: return array_of(value);
    case Value::Kind::kSequence: {
      nb::list out;
      for (const Value& element : value.elements()) out.append(object_of(element));
      return out;
    }
    case Value::Kind::kOptional: return value.elements().empty() ? nb::none() : object_of(value.elements()[0]);
    case Value::Kind::kMap: return map_object(value);
    case Value::Kind::kNone: break;
  }
  return nb::none();
}

void add_errors(nb::module_& m) {
  for (size_t i = 1; i < std::size(kErrorNames); ++i) {
    error_classes[i] = PyErr_NewException((std::string("ocior.") + kErrorNames[i]).c_str(), PyExc_RuntimeError, nullptr);
    m.attr(kErrorNames[i]) = nb::handle(error_classes[i]);
  }
}

void raise(const Status& status) {
  const auto code = static_cast<size_t>(status.code());
  PyObject* type = code < std::size(kErrorNames) && error_classes[code] ? error_classes[code] : PyExc_RuntimeError;
  const std::string text = "[ONNXRuntimeError] : " + std::to_string(code) + " : " +
                           (code < std::size(kErrorNames) ? kErrorNames[code] : "") + " : " + status.message();
  PyErr_SetString(type, text.c_str());
  throw nb::python_error();
}

Value tensor_of(nb::handle object, const std::string& name, std::deque<nb::object>& keep) {
  nb::object held = nb::borrow(object);
  if (nb::hasattr(held, "numpy") && !nb::hasattr(held, "__array_interface__")) held = held.attr("numpy")();
  if (nb::isinstance<nb::list>(held) || nb::isinstance<nb::tuple>(held) || nb::isinstance<nb::float_>(held) ||
      nb::isinstance<nb::int_>(held) || nb::isinstance<nb::str>(held) || nb::isinstance<nb::bytes>(held))
    held = numpy().attr("asarray")(held);
  if (nb::hasattr(held, "dtype")) {
    const nb::object dtype = nb::getattr(held, "dtype");
    const auto kind = nb::cast<std::string>(nb::str(nb::getattr(dtype, "kind", nb::str("?"))));
    if (kind == "O" || kind == "U" || kind == "S" || kind == "T") return strings_of(held, name);
    const auto type_name = nb::cast<std::string>(nb::str(nb::getattr(dtype, "name", nb::str("?"))));
    for (const MlType& type : kMlTypes)
      if (type_name == type.name && nb::hasattr(held, "__array_interface__")) return small_tensor_of(type, std::move(held), keep);
  }
  nb::ndarray<nb::ro> array;
  if (!nb::try_cast(held, array))
    raise(Status(Code::kInvalidArgument,
                 "input '" + name + "' is a " + nb::cast<std::string>(nb::str(held.type())) + "; pass a NumPy array"));
  if (!is_dense(array)) {
    held = numpy().attr("ascontiguousarray")(held);
    array = nb::cast<nb::ndarray<nb::ro>>(held);
  }
  const DType dtype = dtype_of(array.dtype());
  if (dtype == DType::kUndefined)
    raise(Status(Code::kInvalidArgument, "input '" + name + "': its element type is not supported"));
  keep.push_back(std::move(held));
  return unwrap(Value::view(dtype, shape_of(array), const_cast<void*>(array.data()), array.nbytes()));
}

nb::object array_of(const Value& value) {
  const auto shape = value.shape();
  if (value.dtype() == DType::kString) {
    nb::list items;
    for (const std::string& s : value.string_data()) items.append(nb::str(s.data(), s.size()));
    nb::object flat = numpy().attr("array")(items, "dtype"_a = nb::str("object"));
    return flat.attr("reshape")(nb::cast(std::vector<int64_t>(shape.begin(), shape.end())));
  }
  std::vector<size_t> sizes(shape.begin(), shape.end());
  if (const auto dtype = dlpack_of(value.dtype())) {
    auto* owner = new Value(value);
    nb::capsule capsule(owner, [](void* p) noexcept { delete static_cast<Value*>(p); });
    return nb::cast(nb::ndarray<nb::numpy>(owner->data(), sizes.size(), sizes.data(), capsule, nullptr, *dtype));
  }
  for (const MlType& type : kMlTypes) {
    if (type.dtype != value.dtype()) continue;
    Value bytes = value;
    if (bits_of(type.dtype) < 8) {
      bytes = unwrap(Value::tensor(DType::kUint8, shape));
      unpack(value, static_cast<uint8_t*>(bytes.data()));
    }
    auto* owner = new Value(std::move(bytes));
    nb::capsule capsule(owner, [](void* p) noexcept { delete static_cast<Value*>(p); });
    const DType as = bits_of(type.dtype) == 16 ? DType::kUint16 : DType::kUint8;
    const nb::object plain =
        nb::cast(nb::ndarray<nb::numpy>(owner->data(), sizes.size(), sizes.data(), capsule, nullptr, *dlpack_of(as)));
    return plain.attr("view")(ml_dtype(type));
  }
  raise(Status(Code::kNotImplemented, "NumPy has no element type for " + std::string(name_of(value.dtype()))));
}

}  // namespace ocior::python
