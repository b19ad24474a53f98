// See values.h.
#include "values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "half.h"

namespace ocior::cli {
namespace {

constexpr size_t kMaxRank = 64;
constexpr int64_t kOpenDimension = 16;

// Calls `use` with a null pointer of the C++ type that holds a `dtype`; false for types without one.
template <class Use>
bool with_type(DType dtype, Use use) {
  switch (dtype) {
    case DType::kFloat: use(static_cast<float*>(nullptr)); return true;
    case DType::kDouble: use(static_cast<double*>(nullptr)); return true;
    case DType::kInt8: use(static_cast<int8_t*>(nullptr)); return true;
    case DType::kInt16: use(static_cast<int16_t*>(nullptr)); return true;
    case DType::kInt32: use(static_cast<int32_t*>(nullptr)); return true;
    case DType::kInt64: use(static_cast<int64_t*>(nullptr)); return true;
    case DType::kUint8: use(static_cast<uint8_t*>(nullptr)); return true;
    case DType::kUint16: use(static_cast<uint16_t*>(nullptr)); return true;
    case DType::kUint32: use(static_cast<uint32_t*>(nullptr)); return true;
    case DType::kUint64: use(static_cast<uint64_t*>(nullptr)); return true;
    case DType::kBool: use(static_cast<bool*>(nullptr)); return true;
    default: return false;
  }
}

bool is_half(DType dtype) { return dtype == DType::kFloat16 || dtype == DType::kBFloat16; }

float widened(DType dtype, uint16_t bits) { return dtype == DType::kFloat16 ? from_half(bits) : from_bfloat16(bits); }

// The 16-bit float nearest to `x`, ties to even, by search: from_half and from_bfloat16 grow with the bits.
uint16_t narrowed(DType dtype, double x) {
  if (std::isnan(x)) return 0x7fff;
  const uint16_t infinity = dtype == DType::kFloat16 ? 0x7c00 : 0x7f80, sign = std::signbit(x) ? 0x8000 : 0;
  const double size = std::fabs(x);
  uint16_t low = 0, high = infinity;
  while (high - low > 1) {
    const auto middle = static_cast<uint16_t>((low + high) / 2);
    (widened(dtype, middle) <= size ? low : high) = middle;
  }
  const double below = widened(dtype, low);
  const double above = high == infinity ? 2 * below - widened(dtype, static_cast<uint16_t>(low - 1)) : widened(dtype, high);
  const bool up = std::isinf(size) || size - below > above - size || (size - below == above - size && (low & 1));
  return static_cast<uint16_t>((up ? high : low) | sign);
}

// Walks nested arrays and writes their elements one after the other.
class JsonReader {
 public:
  JsonReader(DType dtype, const std::string& name) : dtype_(dtype), name_(name) {}

  Result<Value> read(const Json& json) {
    std::vector<int64_t> shape;
    int64_t count = 1;
    for (const Json* at = &json; at->is_array(); at = &at->front()) {
      if (shape.size() == kMaxRank) return bad("has more than 64 dimensions");
      shape.push_back(static_cast<int64_t>(at->size()));
      if (__builtin_mul_overflow(count, shape.back(), &count)) return bad("has too many elements");
      if (at->empty()) break;
    }
    // The arrays hold no more elements than the file has bytes, so that a shape that lies is found before memory is asked for.
    OCIOR_RETURN_IF_ERROR(check(json, shape, 0));
    if (dtype_ == DType::kString) {
      OCIOR_RETURN_IF_ERROR(fill_strings(json));
      return Value::strings(shape, std::move(strings_));
    }
    OCIOR_ASSIGN(Value value, Value::tensor(dtype_, shape));
    data_ = static_cast<std::byte*>(value.data());
    OCIOR_RETURN_IF_ERROR(fill(json));
    return value;
  }

 private:
  Status bad(std::string_view what) const { return error(Code::kInvalidArgument, "input '{}': the JSON value {}", name_, what); }

  Status check(const Json& json, std::span<const int64_t> shape, size_t depth) const {
    if (depth == shape.size()) return json.is_structured() ? bad("has arrays of different depths") : Status();
    if (!json.is_array() || static_cast<int64_t>(json.size()) != shape[depth]) return bad("has arrays of different lengths");
    for (const Json& element : json) OCIOR_RETURN_IF_ERROR(check(element, shape, depth + 1));
    return {};
  }

  Status fill_strings(const Json& json) {
    if (!json.is_array()) {
      if (!json.is_string()) return unfit(json);
      strings_.push_back(json.get<std::string>());
      return {};
    }
    for (const Json& element : json) OCIOR_RETURN_IF_ERROR(fill_strings(element));
    return {};
  }

  Status fill(const Json& json) {
    if (!json.is_array()) return store(json);
    for (const Json& element : json) OCIOR_RETURN_IF_ERROR(fill(element));
    return {};
  }

  Status unfit(const Json& json) const {
    return bad(fmt::format("has the element {}, which is no {}", json_line(json).substr(0, 40), name_of(dtype_)));
  }

  static std::optional<double> number_of(const Json& json) {
    if (json.is_number()) return json.get<double>();
    if (!json.is_string()) return {};
    const auto& word = json.get_ref<const std::string&>();
    if (word == "NaN") return std::nan("");
    if (word == "Infinity") return HUGE_VAL;
    if (word == "-Infinity") return -HUGE_VAL;
    return {};
  }

  Status store(const Json& json) {
    bool good = false;
    if (is_half(dtype_)) {
      const auto number = number_of(json);
      if (number) put(narrowed(dtype_, *number));
      good = number.has_value();
    } else if (!with_type(dtype_, [&]<class T>(T*) { good = store_as<T>(json); })) {
      return error(Code::kNotImplemented, "input '{}' is {}, which JSON files cannot give; use a .npy file", name_,
                   name_of(dtype_));
    }
    return good ? Status() : unfit(json);
  }

  template <class T>
  bool store_as(const Json& json) {
    if constexpr (std::is_same_v<T, bool>) {
      const bool number = json.is_number_integer() && (json == 0 || json == 1);
      if (!json.is_boolean() && !number) return false;
      put(static_cast<uint8_t>(json.is_boolean() ? json.get<bool>() : json.get<int>() == 1));
    } else if constexpr (std::is_integral_v<T>) {
      if (json.is_number_unsigned() && json.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<T>::max()))
        put(static_cast<T>(json.get<uint64_t>()));
      else if (json.is_number_integer() && !json.is_number_unsigned() && json.get<int64_t>() < 0 &&
               std::in_range<T>(json.get<int64_t>()))
        put(static_cast<T>(json.get<int64_t>()));
      else return false;
    } else {
      const auto number = number_of(json);
      if (!number) return false;
      put(static_cast<T>(*number));
    }
    return true;
  }

  template <class T>
  void put(T value) {
    std::memcpy(data_, &value, sizeof value);
    data_ += sizeof value;
  }

  DType dtype_;
  const std::string& name_;
  std::byte* data_ = nullptr;
  std::vector<std::string> strings_;
};

Json float_json(double x) {
  if (std::isfinite(x)) return x;
  return std::isnan(x) ? "NaN" : x > 0 ? "Infinity" : "-Infinity";
}

// The shortest decimal number that is read back as this float.
Json float_json(float x) {
  char digits[32];
  const auto end = std::to_chars(digits, std::end(digits), x).ptr;
  double same = x;
  std::from_chars(digits, end, same);
  return float_json(same);
}

// Nested arrays of `at(0)`, `at(1)`, ….
template <class At>
Json nested(std::span<const int64_t> shape, int64_t& next, At at) {
  if (shape.empty()) return at(static_cast<size_t>(next++));
  Json out = Json::array();
  for (int64_t i = 0; i < shape[0]; ++i) out.push_back(nested(shape.subspan(1), next, at));
  return out;
}

bool says(const ValueInfo& info, std::string_view part) { return info.name.find(part) != std::string::npos; }

// A made-up integer for place `i` of an input, whose last dimension is `width`.
int64_t made_up_integer(const ValueInfo& info, int64_t i, int64_t width, std::mt19937_64& random) {
  if (says(info, "mask")) return 1;
  if (says(info, "position")) return width > 0 ? i % width : 0;
  if (info.dtype == DType::kUint8) return static_cast<int64_t>(random() % 256);
  if (says(info, "type") || says(info, "segment") || !says(info, "id")) return static_cast<int64_t>(random() % 2);
  return static_cast<int64_t>(random() % 100);
}

double made_up_float(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1p-52 - 1; }

template <class T>
void gather(std::span<const T> values, Statistics& s, int64_t& count) {
  double sum = 0;
  for (const T element : values) {
    const auto x = static_cast<double>(element);
    if (std::isnan(x)) {
      ++s.nan;
      continue;
    }
    s.least = count == 0 ? x : std::min(s.least, x);
    s.most = count == 0 ? x : std::max(s.most, x);
    sum += x;
    ++count;
  }
  s.mean = count > 0 ? sum / static_cast<double>(count) : 0;
}

}  // namespace

Result<Value> value_from_json(const Json& json, DType dtype, const std::string& name) {
  return JsonReader(dtype, name).read(json);
}

Result<Json> value_to_json(const Value& value, const std::string& name) {
  int64_t next = 0;
  if (!value.is_tensor())
    return error(Code::kNotImplemented, "output '{}' is not a tensor; a .json file holds tensors only", name);
  if (value.dtype() == DType::kString) return nested(value.shape(), next, [&](size_t i) { return Json(value.string_data()[i]); });
  if (is_half(value.dtype())) {
    const auto bits = value.as<uint16_t>();
    return nested(value.shape(), next, [&](size_t i) { return float_json(widened(value.dtype(), bits[i])); });
  }
  Json out;
  const bool known = with_type(value.dtype(), [&]<class T>(T*) {
    const auto data = value.as<T>();
    out = nested(value.shape(), next, [&](size_t i) {
      if constexpr (std::is_floating_point_v<T>) return float_json(data[i]);
      else return Json(data[i]);
    });
  });
  if (!known)
    return error(Code::kNotImplemented, "output '{}' is {}, which JSON files cannot hold; write a .npz file", name,
                 name_of(value.dtype()));
  return out;
}

Result<OpenDimensions> OpenDimensions::parse(std::span<const std::string> texts) {
  OpenDimensions out;
  for (const std::string& text : texts) {
    const size_t equals = text.rfind('=');
    int64_t size = -1;
    const char* end = text.data() + text.size();
    if (equals != std::string::npos && equals > 0) {
      if (const auto [at, wrong] = std::from_chars(text.data() + equals + 1, end, size); wrong != std::errc() || at != end)
        size = -1;
    }
    if (size < 0) return error(Code::kInvalidArgument, "--dim {}: is not NAME=NUMBER, such as batch=4 or input_ids:1=128", text);
    out.sizes_[text.substr(0, equals)] = size;
  }
  return out;
}

Result<std::vector<int64_t>> OpenDimensions::shape_of(const ValueInfo& info) {
  if (!info.has_shape)
    return error(Code::kInvalidArgument, "input '{}' has no declared shape, so nothing can be made up for it; pass a file",
                 info.name);
  std::vector<int64_t> out;
  for (size_t i = 0; i < info.shape.size(); ++i) {
    const Dimension& d = info.shape[i];
    int64_t size = d.value >= 0 ? d.value : i == 0 ? 1 : kOpenDimension;
    for (const std::string& name : {d.symbol, fmt::format("{}:{}", info.name, i)}) {
      const auto it = d.value < 0 ? sizes_.find(name) : sizes_.end();
      if (it == sizes_.end()) continue;
      size = it->second;
      used_[name] = true;
    }
    out.push_back(size);
  }
  return out;
}

Status OpenDimensions::all_used(std::span<const ValueInfo> inputs) const {
  std::vector<std::string> known;
  for (const ValueInfo& info : inputs) {
    for (size_t i = 0; i < info.shape.size(); ++i) {
      if (info.shape[i].value < 0)
        known.push_back(info.shape[i].symbol.empty() ? fmt::format("{}:{}", info.name, i) : info.shape[i].symbol);
    }
  }
  std::sort(known.begin(), known.end());
  known.erase(std::unique(known.begin(), known.end()), known.end());
  for (const auto& [name, size] : sizes_) {
    if (used_.contains(name)) continue;
    return error(Code::kInvalidArgument, "--dim {}={}: no made-up input has that open dimension; there are {}", name, size,
                 known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", ")));
  }
  return {};
}

Result<Value> made_up(const ValueInfo& info, std::span<const int64_t> shape, std::mt19937_64& random) {
  if (info.kind != Value::Kind::kTensor)
    return error(Code::kNotImplemented, "input '{}' is a {}; only tensors can be given here", info.name, info.type_string());
  int64_t count = 1;
  for (const int64_t d : shape) {
    if (__builtin_mul_overflow(count, d, &count))
      return error(Code::kInvalidArgument, "input '{}': the shape [{}] is too large", info.name, fmt::join(shape, ", "));
  }
  if (info.dtype == DType::kString) return Value::strings(shape, std::vector<std::string>(static_cast<size_t>(count), "text"));
  OCIOR_ASSIGN(Value value, Value::tensor(info.dtype, shape));
  const int64_t width = shape.empty() ? 0 : shape.back();
  if (is_half(info.dtype)) {
    for (uint16_t& bits : value.as<uint16_t>()) bits = narrowed(info.dtype, made_up_float(random));
    return value;
  }
  const bool known = with_type(info.dtype, [&]<class T>(T*) {
    auto data = value.as<T>();
    for (size_t i = 0; i < data.size(); ++i) {
      if constexpr (std::is_floating_point_v<T>) data[i] = static_cast<T>(made_up_float(random));
      else data[i] = static_cast<T>(made_up_integer(info, static_cast<int64_t>(i), width, random));
    }
  });
  if (!known)
    return error(Code::kNotImplemented, "input '{}' is {}; nothing is made up for that type, so pass a file", info.name,
                 name_of(info.dtype));
  return value;
}

std::optional<Statistics> statistics_of(const Value& value) {
  Statistics s;
  int64_t count = 0;
  if (!value.is_tensor()) return {};
  if (is_half(value.dtype())) {
    std::vector<float> wide;
    for (const uint16_t bits : value.as<uint16_t>()) wide.push_back(widened(value.dtype(), bits));
    gather<float>(wide, s, count);
  } else if (!with_type(value.dtype(), [&]<class T>(T*) { gather<T>(value.as<T>(), s, count); })) {
    return {};
  }
  return count > 0 || s.nan > 0 ? std::optional(s) : std::nullopt;
}

}  // namespace ocior::cli
