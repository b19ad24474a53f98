#include "onnx/read_tensor.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <limits>

#include "base/error.h"
#include "onnx/proto_fields.h"
#include "onnx/quote.h"

namespace ocior::onnx {
namespace {

static_assert(std::endian::native == std::endian::little, "payloads are used as they lie in the file: little-endian");

using F = field::Tensor;

// What the fields of a TensorProto say, before anything is checked against anything else.
struct Parts {
  int64_t dtype = 0;
  uint32_t typed_field = 0;  // which of float_data, int32_data, …; 0 when there is none
  int typed_chunks = 0;      // occurrences of it: one when packed
  std::span<const std::byte> raw;
  std::span<const std::byte> chunk;  // the last chunk of float_data or double_data
  std::vector<std::pair<std::string, std::string>> external;
  bool is_external = false;
};

const char* name_of_field(uint32_t tag) {
  switch (tag) {
    case F::kFloatData: return "float_data";
    case F::kInt32Data: return "int32_data";
    case F::kInt64Data: return "int64_data";
    case F::kDoubleData: return "double_data";
    case F::kUint64Data: return "uint64_data";
    case F::kStringData: return "string_data";
    default: return "raw_data";
  }
}

// The typed field that onnx.proto prescribes for a type.
uint32_t typed_field_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat:
    case DType::kComplex64: return F::kFloatData;
    case DType::kDouble:
    case DType::kComplex128: return F::kDoubleData;
    case DType::kInt64: return F::kInt64Data;
    case DType::kUint32:
    case DType::kUint64: return F::kUint64Data;
    case DType::kString: return F::kStringData;
    default: return F::kInt32Data;
  }
}

// First pass: everything but the values of the typed fields, which need the type to be known.
Status read_parts(Fields fields, ReadContext& context, Parts& parts, Tensor& out) {
  while (fields.next()) {
    const uint32_t tag = fields.tag();
    switch (tag) {
      case F::kDims: fields.append_int64s(out.dims); break;
      case F::kDataType: parts.dtype = fields.int32(); break;
      case F::kSegment:
        return error(Code::kNotImplemented, "it is stored in segments, which no tool writes; save the model again");
      case F::kName: out.name = fields.text(); break;
      case F::kDocString: out.doc = fields.text(); break;
      case F::kRawData: parts.raw = fields.bytes(); break;
      case F::kExternalData:
        OCIOR_RETURN_IF_ERROR(context.take());
        parts.external.push_back(read_entry(fields.message()));
        break;
      case F::kMetadataProps:
        OCIOR_RETURN_IF_ERROR(context.take());
        out.metadata.push_back(read_entry(fields.message()));
        break;
      case F::kDataLocation: parts.is_external = fields.int32() == 1; break;
      case F::kStringData:
        OCIOR_RETURN_IF_ERROR(context.take());
        out.strings.push_back(fields.text());
        break;
      case F::kFloatData: parts.chunk = fields.fixed<float>(); break;
      case F::kDoubleData: parts.chunk = fields.fixed<double>(); break;
      default: fields.skip();
    }
    const bool typed = tag == F::kFloatData || tag == F::kInt32Data || tag == F::kInt64Data || tag == F::kDoubleData ||
                       tag == F::kUint64Data || tag == F::kStringData;
    if (!typed) continue;
    if (parts.typed_field && parts.typed_field != tag)
      return error(Code::kInvalidGraph, "it has both {} and {}; expected one of them", name_of_field(parts.typed_field),
                   name_of_field(tag));
    parts.typed_field = tag;
    ++parts.typed_chunks;
  }
  return {};
}

// Appends varints as elements of one width, noting the first that does not fit.
struct Narrow {
  DType dtype;
  int64_t least = 0, most = 0;
  std::vector<std::byte> bytes;
  int64_t count = 0;
  int64_t bad_index = -1, bad_value = 0;

  explicit Narrow(DType type) : dtype(type) {
    const int bits = std::clamp(bits_of(type), 8, 64);  // sub-byte types come as whole bytes
    const bool is_signed = type == DType::kInt8 || type == DType::kInt16 || type == DType::kInt32 || type == DType::kInt64;
    const bool is_unsigned = type == DType::kUint8 || type == DType::kUint16 || type == DType::kUint32;
    most = is_signed || bits == 64 ? static_cast<int64_t>(~uint64_t{0} >> (65 - bits))
                                   : static_cast<int64_t>(~uint64_t{0} >> (64 - bits));
    least = is_unsigned ? 0 : -static_cast<int64_t>(~uint64_t{0} >> (65 - bits)) - 1;  // bit patterns may be sign-extended
  }

  void add(uint64_t varint) {
    auto value = static_cast<int64_t>(varint);
    if (dtype == DType::kBool) value = value != 0;
    if (dtype != DType::kUint64 && (value < least || value > most) && bad_index < 0) bad_index = count, bad_value = value;
    const auto* at = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), at, at + std::clamp(bits_of(dtype), 8, 64) / 8);
    ++count;
  }
};

// Second pass: the values of the typed field as dense bytes. Aliases the file where that is what the file holds.
Status read_typed(Fields fields, const Parts& parts, Tensor& out) {
  const bool is_fixed = parts.typed_field == F::kFloatData || parts.typed_field == F::kDoubleData;
  if (is_fixed && parts.typed_chunks == 1) {
    out.raw = parts.chunk;
    return {};
  }
  Narrow narrow(out.dtype);
  while (fields.next()) {
    if (fields.tag() != parts.typed_field) {
      fields.skip();
    } else if (is_fixed) {
      const auto chunk = parts.typed_field == F::kFloatData ? fields.fixed<float>() : fields.fixed<double>();
      narrow.bytes.insert(narrow.bytes.end(), chunk.begin(), chunk.end());
    } else if (parts.typed_field == F::kInt32Data) {
      fields.each_varint([&](uint64_t value) { narrow.add(static_cast<uint64_t>(int64_t{static_cast<int32_t>(value)})); });
    } else {
      fields.each_varint([&](uint64_t value) { narrow.add(value); });
    }
  }
  if (narrow.bad_index >= 0)
    return error(Code::kInvalidGraph, "{} has the value {} at index {}, which does not fit type {}",
                 name_of_field(parts.typed_field), narrow.bad_value, narrow.bad_index, name_of(out.dtype));
  out.owned = std::make_shared<const std::vector<std::byte>>(std::move(narrow.bytes));
  out.raw = *out.owned;
  return {};
}

Result<int64_t> decimal(const std::string& key, const std::string& text) {
  int64_t value = -1;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size() || value < 0)
    return error(Code::kInvalidGraph, "external data {} is {}; expected a number of bytes, 0 or more", key, quoted(text));
  return value;
}

struct Place {
  std::string location;
  int64_t offset = 0;
  int64_t length = -1;  // -1: whatever the shape needs
};

Result<Place> read_place(const std::vector<std::pair<std::string, std::string>>& entries) {
  Place place;
  for (const auto& [key, value] : entries) {
    if (key == "location") place.location = value;
    else if (key == "offset") {
      OCIOR_ASSIGN(place.offset, decimal(key, value));
    } else if (key == "length") {
      OCIOR_ASSIGN(place.length, decimal(key, value));
    }
  }
  return place;
}

Status wrong_size(const Tensor& tensor, int64_t expected, int64_t got, const char* where) {
  return error(Code::kInvalidGraph, "type {} and shape {} need {} bytes, but {} holds {}; the model is damaged, write it again",
               name_of(tensor.dtype), shape_text(tensor.dims), expected, where, got);
}

Status read_external(const Parts& parts, int64_t expected, ExternalData& external, Tensor& out) {
  if (!parts.raw.empty() || parts.typed_field)
    return error(Code::kInvalidGraph, "it has external data and also {}; expected one of them", name_of_field(parts.typed_field));
  if (out.dtype == DType::kString)
    return error(Code::kInvalidGraph, "strings cannot be external data; store them as string_data");
  OCIOR_ASSIGN(const Place place, read_place(parts.external));
  if (place.length >= 0 && place.length != expected) return wrong_size(out, expected, place.length, "its external data");
  if (expected == 0) return {};
  OCIOR_ASSIGN(const auto file, external.open(place.location));
  const auto bytes = file->bytes();
  const auto size = static_cast<int64_t>(bytes.size());
  if (place.offset > size || expected > size - place.offset)
    return error(Code::kInvalidGraph,
                 "{} bytes at offset {} of external data file {} are needed, but the file has {} bytes; "
                 "it is truncated or belongs to another model",
                 expected, place.offset, quoted(place.location), size);
  out.raw = bytes.subspan(static_cast<size_t>(place.offset), static_cast<size_t>(expected));
  return {};
}

Status read_strings(const Parts& parts, int64_t elements, const Tensor& out) {
  if (!parts.raw.empty()) return error(Code::kInvalidGraph, "strings cannot be raw_data; store them as string_data");
  if (static_cast<int64_t>(out.strings.size()) == elements) return {};
  return error(Code::kInvalidGraph, "shape {} needs {} strings, but string_data holds {}", shape_text(out.dims), elements,
               out.strings.size());
}

Status read_payload(Fields fields, const Parts& parts, ReadContext& context, Tensor& out) {
  const ReadLimits& limits = context.limits;
  if (static_cast<int64_t>(out.dims.size()) > limits.max_rank)
    return error(Code::kInvalidGraph, "it has {} dimensions; at most {} are allowed", out.dims.size(), limits.max_rank);
  OCIOR_ASSIGN(out.dtype, checked_dtype(parts.dtype));
  int64_t elements = 0;
  OCIOR_ASSIGN(const int64_t expected, payload_bytes(out.dtype, out.dims, elements));
  if (expected > limits.max_tensor_bytes)
    return error(Code::kInvalidGraph, "shape {} takes {} bytes; at most {} are allowed", shape_text(out.dims), expected,
                 limits.max_tensor_bytes);
  if (parts.is_external) return read_external(parts, expected, context.external, out);
  if (parts.typed_field && parts.typed_field != typed_field_of(out.dtype))
    return error(Code::kInvalidGraph, "values of type {} are stored in {}; expected {} or raw_data", name_of(out.dtype),
                 name_of_field(parts.typed_field), name_of_field(typed_field_of(out.dtype)));
  if (out.dtype == DType::kString) return read_strings(parts, elements, out);
  out.raw = parts.raw;
  if (parts.typed_field) OCIOR_RETURN_IF_ERROR(read_typed(fields, parts, out));
  if (parts.typed_field && !parts.raw.empty() && !out.raw.empty())
    return error(Code::kInvalidGraph, "it has both raw_data and {}; expected one of them", name_of_field(parts.typed_field));
  if (out.raw.empty()) out.raw = parts.raw;
  const auto got = static_cast<int64_t>(out.raw.size());
  return got == expected ? Status() : wrong_size(out, expected, got, name_of_field(parts.raw.empty() ? parts.typed_field : 0));
}

}  // namespace

Result<DType> checked_dtype(int64_t number) {
  if (number > 0 && number < kDTypeCount) return static_cast<DType>(number);
  if (number == 0) return error(Code::kInvalidGraph, "the element type is missing");
  return error(Code::kInvalidGraph, "element type {} is unknown; this version knows 1 to {}", number, kDTypeCount - 1);
}

Result<int64_t> payload_bytes(DType dtype, std::span<const int64_t> dims, int64_t& elements) {
  int64_t product = 1;
  bool has_zero = false;
  for (const int64_t dim : dims) {
    if (dim < 0) return error(Code::kInvalidGraph, "shape {} has a negative dimension", shape_text(dims));
    if (dim == 0) has_zero = true;
    else if (__builtin_mul_overflow(product, dim, &product))
      return error(Code::kInvalidGraph, "shape {} has more elements than can be counted", shape_text(dims));
  }
  elements = has_zero ? 0 : product;
  int64_t bits = 0;
  if (__builtin_mul_overflow(product, int64_t{bits_of(dtype)}, &bits) || bits > std::numeric_limits<int64_t>::max() - 7)
    return error(Code::kInvalidGraph, "shape {} of type {} has more bytes than can be counted", shape_text(dims), name_of(dtype));
  return has_zero ? 0 : (bits + 7) / 8;
}

Status ReadContext::take() {
  if (++items <= limits.max_items) return {};
  return error(Code::kInvalidGraph, "the model has more than {} parts; raise ReadLimits::max_items if it is trusted",
               limits.max_items);
}

std::pair<std::string, std::string> read_entry(Fields fields) {
  std::pair<std::string, std::string> out;
  while (fields.next()) switch (fields.tag()) {
      case field::StringStringEntry::kKey: out.first = fields.text(); break;
      case field::StringStringEntry::kValue: out.second = fields.text(); break;
      default: fields.skip();
    }
  return out;
}

Status read_tensor(Fields fields, ReadContext& context, Tensor& out) {
  Parts parts;
  OCIOR_RETURN_IF_ERROR(read_parts(fields, context, parts, out));
  return read_payload(fields, parts, context, out);
}

}  // namespace ocior::onnx
