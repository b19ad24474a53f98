#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/error.h"
#include "checkpoint/json.h"

namespace ocior::checkpoint {
namespace {

struct HeaderEntry {
  std::string name;
  DType dtype = DType::kUndefined;
  std::vector<int64_t> shape;
  std::vector<int64_t> offsets;  // begin and end, counted from the end of the header
};

DType dtype_named(std::string_view name) {
  static constexpr std::pair<std::string_view, DType> kNames[] = {
      {"F32", DType::kFloat},          {"F16", DType::kFloat16},       {"BF16", DType::kBFloat16},
      {"F64", DType::kDouble},         {"I64", DType::kInt64},         {"I32", DType::kInt32},
      {"I16", DType::kInt16},          {"I8", DType::kInt8},           {"U64", DType::kUint64},
      {"U32", DType::kUint32},         {"U16", DType::kUint16},        {"U8", DType::kUint8},
      {"BOOL", DType::kBool},          {"C64", DType::kComplex64},     {"F8_E4M3", DType::kFloat8E4M3FN},
      {"F8_E5M2", DType::kFloat8E5M2}, {"F8_E8M0", DType::kFloat8E8M0}};
  for (const auto& [text, dtype] : kNames) {
    if (text == name) return dtype;
  }
  return DType::kUndefined;
}

// Follows the header's grammar as the parser meets it, so that no tree of it is ever built and anything unexpected stops at once:
// { name: {"dtype": string, "shape": [ints], "data_offsets": [begin, end]}, "__metadata__": {string: string} }
class HeaderParser : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<HeaderEntry> entries;
  std::string fault;

  bool start_object(std::size_t) override {
    if (at_ == At::kStart) return go(At::kNames);
    if (at_ == At::kMetadataValue) return go(At::kMetadata);
    if (at_ == At::kTensorValue) return go(At::kFields);
    return unexpected("an object");
  }
  bool end_object() override {
    if (at_ == At::kMetadata) return go(At::kNames);
    if (at_ == At::kFields) return end_tensor();
    return go(At::kEnd);
  }
  bool key(std::string& text) override {
    if (at_ == At::kNames) return begin_tensor(text);
    if (at_ == At::kMetadata) return go(At::kMetadataText);
    if (text == "dtype" && entries.back().dtype == DType::kUndefined) return go(At::kDtype);
    if (text == "shape" && !has_shape_) return go(At::kShapeValue);
    if (text == "data_offsets" && entries.back().offsets.empty()) return go(At::kOffsetsValue);
    return fail(
        fmt::format("tensor `{}` has an unknown or repeated field \"{}\"", printable(entries.back().name), printable(text)));
  }
  bool string(std::string& text) override {
    if (at_ == At::kMetadataText) return go(At::kMetadata);
    if (at_ != At::kDtype) return unexpected("a string");
    entries.back().dtype = dtype_named(text);
    if (entries.back().dtype != DType::kUndefined) return go(At::kFields);
    return fail(fmt::format("tensor `{}` has the unknown dtype \"{}\"; convert it to F32, F16 or BF16 first",
                            printable(entries.back().name), printable(text)));
  }
  bool start_array(std::size_t) override {
    if (at_ == At::kShapeValue) {
      has_shape_ = true;
      return go(At::kShape);
    }
    if (at_ == At::kOffsetsValue) return go(At::kOffsets);
    return unexpected("an array");
  }
  bool end_array() override { return go(At::kFields); }
  bool number_unsigned(uint64_t value) override {
    if (at_ != At::kShape && at_ != At::kOffsets) return unexpected("a number");
    std::vector<int64_t>& into = at_ == At::kShape ? entries.back().shape : entries.back().offsets;
    if (into.size() >= (at_ == At::kShape ? kMaxRank : 2)) return unexpected("one more number");
    if (value > static_cast<uint64_t>(INT64_MAX)) return unexpected("a number beyond 2^63");
    into.push_back(static_cast<int64_t>(value));
    return true;
  }
  bool number_integer(int64_t) override { return unexpected("a negative number"); }
  bool number_float(double, const std::string&) override { return unexpected("a fraction"); }
  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a truth value"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return fail(fmt::format("the header is not valid JSON (byte {} of it)", position));
  }

 private:
  enum class At {
    kStart,
    kNames,
    kMetadataValue,
    kMetadata,
    kMetadataText,
    kTensorValue,
    kFields,
    kDtype,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets,
    kEnd,
  };

  bool go(At next) {
    at_ = next;
    return true;
  }
  bool fail(std::string what) {
    if (fault.empty()) fault = std::move(what);
    return false;
  }
  bool unexpected(std::string_view what) {
    if (entries.empty()) return fail(fmt::format("the header has {} where the format has none", what));
    return fail(fmt::format("the header has {} where the format has none, at or after tensor `{}`", what,
                            printable(entries.back().name)));
  }
  bool begin_tensor(const std::string& name) {
    if (name == "__metadata__") return go(At::kMetadataValue);
    entries.push_back({.name = name});
    has_shape_ = false;
    return go(At::kTensorValue);
  }
  bool end_tensor() {
    const HeaderEntry& entry = entries.back();
    if (entry.dtype != DType::kUndefined && has_shape_ && entry.offsets.size() == 2) return go(At::kNames);
    return fail(fmt::format("tensor `{}` lacks one of dtype, shape and data_offsets", printable(entry.name)));
  }

  At at_ = At::kStart;
  bool has_shape_ = false;
};

Result<std::vector<HeaderEntry>> parse_header(std::string_view header, const std::string& file) {
  HeaderParser parser;
  try {
    if (!nlohmann::json::sax_parse(header.begin(), header.end(), &parser)) {
      return error(Code::kInvalidArgument, "{}: {}; the file is damaged or not a safetensors file", file, parser.fault);
    }
  } catch (const std::exception& e) {
    return error(Code::kInvalidArgument, "{}: the header cannot be read: {}", file, printable(e.what()));
  }
  return std::move(parser.entries);
}

// Every byte of the data belongs to exactly one tensor.
Status check_layout(const std::vector<HeaderEntry>& entries, int64_t data_bytes, const std::string& file) {
  std::vector<const HeaderEntry*> by_offset;
  by_offset.reserve(entries.size());
  for (const HeaderEntry& entry : entries) by_offset.push_back(&entry);
  std::sort(by_offset.begin(), by_offset.end(), [](auto* a, auto* b) { return a->offsets < b->offsets; });
  int64_t at = 0;
  for (const HeaderEntry* entry : by_offset) {
    const int64_t begin = entry->offsets[0], end = entry->offsets[1];
    if (begin > end || end > data_bytes) {
      return error(Code::kInvalidArgument,
                   "{}: tensor `{}` claims bytes {} to {}, but the file has {} bytes of data; is it complete?", file,
                   printable(entry->name), begin, end, data_bytes);
    }
    if (begin != at) {
      return error(Code::kInvalidArgument,
                   "{}: tensor `{}` begins at byte {} where {} is due; tensors may neither overlap nor leave gaps", file,
                   printable(entry->name), begin, at);
    }
    at = end;
  }
  if (at == data_bytes) return {};
  return error(Code::kInvalidArgument, "{}: {} bytes of data belong to no tensor; the file is damaged", file, data_bytes - at);
}

Status check_size(const HeaderEntry& entry, const std::string& file) {
  auto elements = checked_elements(entry.shape);
  int64_t bytes = 0;
  if (!elements.ok()) return with_context(elements.status(), fmt::format("{}: tensor `{}`", file, printable(entry.name)));
  const int64_t claimed = entry.offsets[1] - entry.offsets[0];
  if (__builtin_mul_overflow(*elements, bits_of(entry.dtype) / 8, &bytes) || bytes != claimed) {
    return error(Code::kInvalidArgument, "{}: tensor `{}` of {} elements of type {} has {} bytes of data", file,
                 printable(entry.name), *elements, name_of(entry.dtype), claimed);
  }
  return {};
}

Result<std::string_view> header_text(std::span<const std::byte> bytes, const std::string& file) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with("version https://git-lfs")) {
    return error(Code::kInvalidArgument, "{}: is a Git LFS pointer, not the weights; fetch them with `git lfs pull`", file);
  }
  uint64_t length = 0;
  if (bytes.size() < sizeof length)
    return error(Code::kInvalidArgument, "{}: has {} bytes; too few for a safetensors file", file, bytes.size());
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > static_cast<uint64_t>(kMaxSafetensorsHeader) || length > bytes.size() - sizeof length) {
    return error(Code::kInvalidArgument,
                 "{}: claims a header of {} bytes, but has {} bytes and headers are limited to {}; it is cut off or not a "
                 "safetensors file",
                 file, length, bytes.size(), kMaxSafetensorsHeader);
  }
  return text.substr(sizeof length, length);
}

}  // namespace

Result<StateDict> read_safetensors(std::span<const std::byte> bytes, const std::string& file,
                                   std::shared_ptr<const MappedFile> mapped) {
  OCIOR_ASSIGN(const std::string_view header, header_text(bytes, file));
  OCIOR_ASSIGN(std::vector<HeaderEntry> entries, parse_header(header, file));
  const std::span<const std::byte> data = bytes.subspan(sizeof(uint64_t) + header.size());
  OCIOR_RETURN_IF_ERROR(check_layout(entries, static_cast<int64_t>(data.size()), file));
  StateDict out;
  for (HeaderEntry& entry : entries) {
    OCIOR_RETURN_IF_ERROR(check_size(entry, file));
    const auto begin = static_cast<size_t>(entry.offsets[0]), end = static_cast<size_t>(entry.offsets[1]);
    std::vector<int64_t> strides = dense_strides(entry.shape);
    OCIOR_RETURN_IF_ERROR(out.add({std::move(entry.name), entry.dtype, std::move(entry.shape), std::move(strides),
                                   data.subspan(begin, end - begin), false, file, mapped}));
  }
  return out;
}

}  // namespace ocior::checkpoint
