// See npy.h.
#include "npy.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "checkpoint/zip.h"
#include "half.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxHeader = 1 << 20, kMaxRank = 64;

struct Header {
  std::string type;  // descr, such as "<f4"
  bool fortran = false;
  std::vector<int64_t> shape;
};

// Reads the Python dictionary of a header: strings, True, False and tuples of integers, nothing nested.
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view text) : text_(text) {}

  std::optional<Header> read() {
    Header out;
    int seen = 0;
    if (!take('{')) return {};
    while (!take('}')) {
      const auto key = quoted();
      if (!key || !take(':')) return {};
      const bool good = *key == "descr"           ? read_type(out)
                        : *key == "fortran_order" ? read_order(out)
                                                  : *key == "shape" && read_shape(out);
      if (!good || (!take(',') && peek() != '}')) return {};
      ++seen;
    }
    return seen == 3 ? std::optional(out) : std::nullopt;
  }

 private:
  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) { return peek() == c && ++at_; }

  std::optional<std::string> quoted() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') return {};
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) return {};
    std::string out(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return out;
  }

  bool read_type(Header& out) {
    const auto text = quoted();
    if (text) out.type = *text;
    return text.has_value();
  }

  bool read_order(Header& out) {
    peek();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      out.fortran = value;
      return true;
    }
    return false;
  }

  bool read_shape(Header& out) {
    if (!take('(')) return false;
    while (!take(')')) {
      int64_t value = 0;
      const char first = peek();
      if (first < '0' || first > '9' || out.shape.size() == kMaxRank) return false;
      for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, text_[at_] - '0', &value)) return false;
      }
      out.shape.push_back(value);
      if (!take(',') && peek() != ')') return false;
    }
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
};

// Element type of a descr without byte order ("f4"); kUndefined for text and what is unknown.
DType dtype_of_descr(std::string_view kind) {
  constexpr std::pair<std::string_view, DType> kTypes[] = {
      {"b1", DType::kBool},      {"i1", DType::kInt8},        {"i2", DType::kInt16},   {"i4", DType::kInt32},
      {"i8", DType::kInt64},     {"u1", DType::kUint8},       {"u2", DType::kUint16},  {"u4", DType::kUint32},
      {"u8", DType::kUint64},    {"f2", DType::kFloat16},     {"f4", DType::kFloat},   {"f8", DType::kDouble},
      {"c8", DType::kComplex64}, {"c16", DType::kComplex128}, {"V2", DType::kBFloat16}};
  for (const auto& [name, dtype] : kTypes) {
    if (name == kind) return dtype;
  }
  return DType::kUndefined;
}

std::optional<std::string_view> descr_of(DType dtype) {
  switch (dtype) {
    case DType::kBool: return "|b1";
    case DType::kInt8: return "|i1";
    case DType::kInt16: return "<i2";
    case DType::kInt32: return "<i4";
    case DType::kInt64: return "<i8";
    case DType::kUint8: return "|u1";
    case DType::kUint16: return "<u2";
    case DType::kUint32: return "<u4";
    case DType::kUint64: return "<u8";
    case DType::kFloat16: return "<f2";
    case DType::kFloat:
    case DType::kBFloat16: return "<f4";
    case DType::kDouble: return "<f8";
    case DType::kComplex64: return "<c8";
    case DType::kComplex128: return "<c16";
    default: return {};
  }
}

// Characters of a U or S type, 0 when it is neither or absurd.
size_t text_length(std::string_view kind) {
  if (kind.size() < 2 || kind.size() > 10 || (kind[0] != 'U' && kind[0] != 'S')) return 0;
  size_t out = 0;
  for (const char c : kind.substr(1)) {
    if (c < '0' || c > '9') return 0;
    out = out * 10 + static_cast<size_t>(c - '0');
  }
  return out;
}

void append_utf8(uint32_t c, std::string& out) {
  if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) c = 0xfffd;
  if (c < 0x80) {
    out += static_cast<char>(c);
    return;
  }
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  out += static_cast<char>((0xf00 >> (more + 1)) | (c >> (6 * more)));
  for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | ((c >> (6 * i)) & 0x3f));
}

// An element of a U (UCS-4) or S (bytes) array without the zeros at its end.
std::string text_element(const std::byte* at, size_t length, bool wide, bool swap) {
  std::string out;
  if (!wide) {
    out.assign(reinterpret_cast<const char*>(at), length);
    out.resize(out.find_last_not_of('\0') + 1);
    return out;
  }
  std::vector<uint32_t> characters(length);
  std::memcpy(characters.data(), at, 4 * length);
  while (!characters.empty() && characters.back() == 0) characters.pop_back();
  for (const uint32_t c : characters) append_utf8(swap ? __builtin_bswap32(c) : c, out);
  return out;
}

// For each element of a row-major array its place in the column-major file.
std::vector<size_t> fortran_places(const std::vector<int64_t>& shape, size_t count) {
  std::vector<size_t> out(count), index(shape.size(), 0), step(shape.size(), 1);
  for (size_t d = 1; d < shape.size(); ++d) step[d] = step[d - 1] * static_cast<size_t>(shape[d - 1]);
  size_t place = 0;
  for (size_t i = 0; i < count; ++i) {
    out[i] = place;
    for (size_t d = shape.size(); d-- > 0;) {
      place += step[d];
      if (++index[d] < static_cast<size_t>(shape[d])) break;
      place -= step[d] * index[d];
      index[d] = 0;
    }
  }
  return out;
}

Status bad(const std::string& name, std::string_view what) {
  return error(Code::kInvalidArgument, "{}: {}; write it with numpy.save", name, what);
}

// Number of elements of `bytes` bytes each that the shape asks for and the data holds.
Result<size_t> count_elements(const Header& header, size_t bytes, size_t available, const std::string& name) {
  size_t count = 1;
  for (const int64_t d : header.shape) {
    if (__builtin_mul_overflow(count, static_cast<size_t>(d), &count)) return bad(name, "its shape is too large");
  }
  size_t needed = 0;
  if (__builtin_mul_overflow(count, bytes, &needed) || needed > available) {
    return bad(
        name, fmt::format("its shape [{}] needs more than the {} bytes of data in it", fmt::join(header.shape, ", "), available));
  }
  return count;
}

Result<Value> read_strings(const Header& header, std::span<const std::byte> data, size_t length, bool swap,
                           const std::string& name) {
  const bool wide = header.type.find('U') != std::string::npos;
  const size_t bytes = wide ? 4 * length : length;
  OCIOR_ASSIGN(const size_t count, count_elements(header, bytes, data.size(), name));
  const auto places = header.fortran ? fortran_places(header.shape, count) : std::vector<size_t>();
  std::vector<std::string> out;
  for (size_t i = 0; i < count; ++i) {
    out.push_back(text_element(data.data() + bytes * (header.fortran ? places[i] : i), length, wide, swap));
  }
  return Value::strings(header.shape, std::move(out));
}

Result<Value> read_array(const Header& header, std::span<const std::byte> data, const std::string& name) {
  const bool ordered = !header.type.empty() && std::string_view("<>|=").find(header.type[0]) != std::string_view::npos;
  const std::string_view kind = std::string_view(header.type).substr(ordered ? 1 : 0);
  const bool swap = header.type.starts_with('>');
  if (const size_t length = text_length(kind); length > 0) return read_strings(header, data, length, swap, name);
  const DType dtype = dtype_of_descr(kind);
  if (dtype == DType::kUndefined) return bad(name, fmt::format("arrays of type '{}' are not read", one_line(header.type)));
  const auto bytes = static_cast<size_t>(bits_of(dtype)) / 8;
  OCIOR_ASSIGN(const size_t count, count_elements(header, bytes, data.size(), name));
  OCIOR_ASSIGN(Value value, Value::tensor(dtype, header.shape));
  auto* to = static_cast<std::byte*>(value.data());
  if (!header.fortran || header.shape.size() < 2) {
    if (count > 0) std::memcpy(to, data.data(), count * bytes);
  } else {
    const auto places = fortran_places(header.shape, count);
    for (size_t i = 0; i < count; ++i) std::memcpy(to + i * bytes, data.data() + places[i] * bytes, bytes);
  }
  const bool complex = dtype == DType::kComplex64 || dtype == DType::kComplex128;
  const size_t word = complex ? bytes / 2 : bytes;
  for (size_t i = 0; swap && i < count * bytes; i += word) std::reverse(to + i, to + i + word);
  return value;
}

Result<Value> parse_npy(std::span<const std::byte> bytes, const std::string& name) {
  const auto text = std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(kMagic) || text.size() < 12) return bad(name, "is not a .npy file");
  const bool wide = text[6] > 1;
  const size_t start = wide ? 12 : 10;
  uint32_t length = 0;
  std::memcpy(&length, text.data() + 8, wide ? 4 : 2);
  if (length > kMaxHeader || length > text.size() - start) return bad(name, "its header is cut off");
  const auto header = HeaderReader(text.substr(start, length)).read();
  if (!header) return bad(name, "its header is not understood (arrays of records and objects are not read)");
  return read_array(*header, bytes.subspan(start + length), name);
}

std::string npy_header(std::string_view descr, std::span<const int64_t> shape) {
  std::string dims;
  for (const int64_t d : shape) dims += fmt::format("{}, ", d);
  std::string dictionary = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", descr, dims);
  dictionary.append(63 - (kMagic.size() + 4 + dictionary.size()) % 64, ' ');
  dictionary += '\n';
  const auto length = static_cast<uint16_t>(dictionary.size());  // rank is at most 64
  std::string out(kMagic);
  out += {'\x01', '\x00', static_cast<char>(length & 255), static_cast<char>(length >> 8)};
  return out + dictionary;
}

// Strings as a U array: UCS-4, padded with zeros.
std::pair<std::string, std::string> string_npy(const Value& value) {
  std::vector<std::u32string> texts;
  size_t longest = 1;
  for (const std::string& s : value.string_data()) {
    std::u32string wide;
    for (size_t i = 0; i < s.size();) {
      const auto c = static_cast<unsigned char>(s[i]);
      const int more = c < 0xc0 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
      uint32_t character = more == 0 ? c : c & (0x3f >> more);
      for (int k = 1; k <= more && i + static_cast<size_t>(k) < s.size(); ++k)
        character = character << 6 | (static_cast<unsigned char>(s[i + static_cast<size_t>(k)]) & 0x3f);
      wide += character;
      i += static_cast<size_t>(more) + 1;
    }
    longest = std::max(longest, wide.size());
    texts.push_back(std::move(wide));
  }
  std::string data;
  for (std::u32string& text : texts) {
    text.resize(longest);
    data.append(reinterpret_cast<const char*>(text.data()), 4 * longest);
  }
  return {npy_header(fmt::format("<U{}", longest), value.shape()), std::move(data)};
}

struct Piece {
  std::string header, owned;
  std::span<const std::byte> data;  // of the value, or of `owned`
};

Result<Piece> npy_of(const std::string& name, const Value& value) {
  Piece out;
  if (!value.is_tensor())
    return error(Code::kNotImplemented, "output '{}' is not a tensor; a .npz file holds tensors only", name);
  if (value.dtype() == DType::kString) {
    std::tie(out.header, out.owned) = string_npy(value);
  } else {
    const auto descr = descr_of(value.dtype());
    if (!descr)
      return error(Code::kNotImplemented, "output '{}' is {}, which NumPy has no type for; write a .json file", name,
                   name_of(value.dtype()));
    out.header = npy_header(*descr, value.shape());
    out.data = {static_cast<const std::byte*>(value.data()), value.byte_size()};
    if (value.dtype() == DType::kBFloat16) {
      for (const uint16_t bits : value.as<uint16_t>()) {
        const float wide = from_bfloat16(bits);
        out.owned.append(reinterpret_cast<const char*>(&wide), sizeof wide);
      }
    }
  }
  if (!out.owned.empty() || value.dtype() == DType::kString) out.data = std::as_bytes(std::span(out.owned));
  return out;
}

// Little-endian numbers of a zip archive's records.
class Record {
 public:
  template <class... Numbers>
  explicit Record(Numbers... numbers) {
    (add(numbers), ...);
  }
  void add(auto number) { bytes_.append(reinterpret_cast<const char*>(&number), sizeof number); }
  Record& text(std::string_view text) {
    bytes_ += text;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

using U16 = uint16_t;
using U32 = uint32_t;
using U64 = uint64_t;
constexpr U32 kSee64 = 0xffffffff;  // "the zip64 field says"
constexpr U16 kVersion = 45, kJan1980 = 0x21;

// A zip archive of stored entries (APPNOTE 6.3), always with 64-bit sizes, as numpy.savez does.
class ZipWriter {
 public:
  explicit ZipWriter(AtomicFile& file) : file_(file) {}

  Status add(const std::string& name, const Piece& piece) {
    U32 sum = static_cast<U32>(crc32_z(0, reinterpret_cast<const Bytef*>(piece.header.data()), piece.header.size()));
    sum = static_cast<U32>(crc32_z(sum, reinterpret_cast<const Bytef*>(piece.data.data()), piece.data.size()));
    const U64 size = piece.header.size() + piece.data.size(), offset = static_cast<U64>(file_.size());
    const auto length = static_cast<U16>(name.size());
    const Record local =
        Record(U32{0x04034b50}, kVersion, U16{0x800}, U16{0}, U16{0}, kJan1980, sum, kSee64, kSee64, length, U16{20}).text(name);
    OCIOR_RETURN_IF_ERROR(file_.write(local.bytes()));
    OCIOR_RETURN_IF_ERROR(file_.write(Record(U16{1}, U16{16}, size, size).bytes()));
    OCIOR_RETURN_IF_ERROR(file_.write(piece.header));
    OCIOR_RETURN_IF_ERROR(file_.write(piece.data));
    directory_ += Record(U32{0x02014b50}, kVersion, kVersion, U16{0x800}, U16{0}, U16{0}, kJan1980, sum, kSee64, kSee64, length,
                         U16{28}, U16{0}, U16{0}, U16{0}, U32{0}, kSee64)
                      .text(name)
                      .bytes();
    directory_ += Record(U16{1}, U16{24}, size, size, offset).bytes();
    ++count_;
    return {};
  }

  Status finish() {
    const U64 start = static_cast<U64>(file_.size()), size = directory_.size(), end = start + size;
    OCIOR_RETURN_IF_ERROR(file_.write(directory_));
    OCIOR_RETURN_IF_ERROR(
        file_.write(Record(U32{0x06064b50}, U64{44}, kVersion, kVersion, U32{0}, U32{0}, count_, count_, size, start).bytes()));
    OCIOR_RETURN_IF_ERROR(file_.write(Record(U32{0x07064b50}, U32{0}, end, U32{1}).bytes()));
    OCIOR_RETURN_IF_ERROR(
        file_.write(Record(U32{0x06054b50}, U16{0}, U16{0}, U16{0xffff}, U16{0xffff}, kSee64, kSee64, U16{0}).bytes()));
    return file_.commit();
  }

 private:
  AtomicFile& file_;
  std::string directory_;
  U64 count_ = 0;
};

}  // namespace

Result<Value> read_npy(const std::string& path) {
  OCIOR_ASSIGN(const auto file, MappedFile::open(path));
  return parse_npy(file->bytes(), path);
}

Result<NamedValues> read_npz(const std::string& path) {
  OCIOR_ASSIGN(const auto file, MappedFile::open(path));
  const auto entries = checkpoint::read_zip(file->bytes(), path);
  if (!entries.ok())
    return error(Code::kInvalidArgument,
                 "{}: is not a .npz file that can be read; write it with numpy.savez (savez_compressed is not read)", path);
  NamedValues out;
  for (const auto& [name, bytes] : *entries) {
    OCIOR_ASSIGN(Value value, parse_npy(bytes, path + ":" + one_line(name)));
    out.emplace_back(name.ends_with(".npy") ? name.substr(0, name.size() - 4) : name, std::move(value));
  }
  return out;
}

Status write_npz(const std::string& path, const NamedValues& values) {
  OCIOR_ASSIGN(AtomicFile file, AtomicFile::open(path));
  ZipWriter zip(file);
  for (const auto& [name, value] : values) {
    if (name.size() > 60000)
      return error(Code::kNotImplemented, "an output's name has {} bytes, too many for a .npz file; write a .json file",
                   name.size());
    OCIOR_ASSIGN(const Piece piece, npy_of(name, value));
    OCIOR_RETURN_IF_ERROR(zip.add(name + ".npy", piece));
  }
  return zip.finish();
}

}  // namespace ocior::cli
