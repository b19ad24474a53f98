// BMP and PNM: formats so plain that no library is needed. Every field is checked against the file's length before it is used.
#include <array>
#include <bit>
#include <optional>

#include "base/error.h"
#include "ops/image/codecs.h"

namespace ocior::ops::image {
namespace {

uint32_t little(Bytes file, size_t at, int bytes) {
  uint32_t v = 0;
  for (int i = 0; i < bytes; ++i) v |= static_cast<uint32_t>(file[at + static_cast<size_t>(i)]) << (8 * i);
  return v;
}

// What the header of a BMP file says.
struct Bmp {
  int64_t width = 0, height = 0;
  bool top_down = false;
  uint32_t bits = 0, compression = 0, header = 0, pixels = 0, colors = 0;
  size_t palette = 0;  // where the palette begins
  int entry = 4;       // bytes of one colour
  std::array<uint32_t, 3> masks{};
};

constexpr size_t kFileHeader = 14;
constexpr uint32_t kCoreHeader = 12, kInfoHeader = 40, kPlain = 0, kMasks = 3, kMasksWithAlpha = 6;

Status read_fields(Bytes file, Bmp& b) {
  const bool core = b.header == kCoreHeader;
  if ((!core && b.header < kInfoHeader) || b.header > file.size() - kFileHeader)
    return error(Code::kInvalidArgument, "its header has {} bytes; expected 12, or 40 and more, within the file", b.header);
  b.width = core ? static_cast<int64_t>(little(file, 18, 2)) : static_cast<int32_t>(little(file, 18, 4));
  b.height = core ? static_cast<int64_t>(little(file, 20, 2)) : static_cast<int32_t>(little(file, 22, 4));
  b.top_down = b.height < 0;
  if (b.top_down) b.height = -b.height;
  b.bits = little(file, core ? 24 : 28, 2);
  b.compression = core ? kPlain : little(file, 30, 4);
  b.colors = core ? 0 : little(file, 46, 4);
  b.entry = core ? 3 : 4;
  b.palette = kFileHeader + b.header;
  return {};
}

Status read_layout(Bytes file, Bmp& b) {
  const bool masked = b.compression == kMasks || b.compression == kMasksWithAlpha;
  if (b.compression != kPlain && !masked)
    return error(Code::kNotImplemented, "its pixels are compressed (number {}); expected plain ones", b.compression);
  if (b.bits == 16) b.masks = {0x7c00, 0x03e0, 0x001f};
  else if (b.bits == 24 || b.bits == 32) b.masks = {0xff0000, 0xff00, 0xff};
  else if (b.bits != 1 && b.bits != 4 && b.bits != 8)
    return error(Code::kInvalidArgument, "its pixels have {} bits; expected 1, 4, 8, 16, 24 or 32", b.bits);
  if (masked) {
    if (b.bits != 16 && b.bits != 32)
      return error(Code::kInvalidArgument, "it has masks for pixels of {} bits; expected 16 or 32", b.bits);
    if (file.size() < kFileHeader + kInfoHeader + 12) return error(Code::kInvalidArgument, "it ends before its masks");
    for (size_t k = 0; k < 3; ++k) b.masks[k] = little(file, kFileHeader + kInfoHeader + 4 * k, 4);
    for (const uint32_t m : b.masks)
      if (m == 0 || !std::has_single_bit((uint64_t{m} >> std::countr_zero(m)) + 1))
        return error(Code::kInvalidArgument, "its mask {:#x} is not one run of bits", m);
  }
  if (b.bits <= 8) {
    const uint32_t all = 1U << b.bits;
    if (b.colors == 0 || b.colors > all) b.colors = all;
    if (file.size() - b.palette < size_t{b.colors} * static_cast<size_t>(b.entry))
      return error(Code::kInvalidArgument, "it ends before its {} colours", b.colors);
  }
  return {};
}

// PNM: numbers between white space and comments, then numbers or bytes or bits.
class PnmReader {
 public:
  explicit PnmReader(Bytes file) : file_(file) {}

  // A decimal number of at most nine digits.
  std::optional<int64_t> number() {
    skip_space();
    int64_t v = 0;
    const size_t from = at_;
    while (at_ < file_.size() && file_[at_] >= '0' && file_[at_] <= '9' && at_ - from < 9) v = 10 * v + (file_[at_++] - '0');
    if (at_ == from) return std::nullopt;
    return v;
  }
  // '0' or '1', which need no space between them.
  std::optional<int64_t> digit() {
    skip_space();
    if (at_ >= file_.size() || (file_[at_] != '0' && file_[at_] != '1')) return std::nullopt;
    return file_[at_++] - '0';
  }
  // The bytes after the one white space that ends the header.
  Bytes rest() const { return file_.subspan(std::min(at_ + 1, file_.size())); }

 private:
  void skip_space() {
    for (; at_ < file_.size(); ++at_) {
      if (file_[at_] == '#')
        while (at_ < file_.size() && file_[at_] != '\n') ++at_;
      else if (file_[at_] != ' ' && (file_[at_] < '\t' || file_[at_] > '\r')) return;
    }
  }

  Bytes file_;
  size_t at_ = 2;  // behind the kind
};

}  // namespace

Result<Picture> decode_bmp(Bytes file) {
  if (file.size() < kFileHeader + kCoreHeader) return error(Code::kInvalidArgument, "it ends before its header does");
  Bmp b{.header = little(file, kFileHeader, 4), .pixels = little(file, 10, 4)};
  OCIOR_RETURN_IF_ERROR(read_fields(file, b));
  OCIOR_RETURN_IF_ERROR(read_layout(file, b));
  OCIOR_RETURN_IF_ERROR(check_sides(b.height, b.width));
  const auto stride = static_cast<size_t>((b.width * b.bits + 31) / 32 * 4);
  if (b.pixels > file.size() || (file.size() - b.pixels) / stride < static_cast<size_t>(b.height))
    return error(Code::kInvalidArgument, "{} rows of {} bytes from byte {} on do not fit into it", b.height, stride, b.pixels);
  OCIOR_ASSIGN(Picture picture, make_picture(b.height, b.width));
  for (int64_t row = 0; row < b.height; ++row) {
    const size_t from = b.pixels + stride * static_cast<size_t>(b.top_down ? row : b.height - 1 - row);
    for (int64_t column = 0; column < b.width; ++column) {
      uint8_t* y = picture.pixel(row, column);
      const size_t bit = static_cast<size_t>(column) * b.bits;
      if (b.bits <= 8) {
        const uint32_t color = (file[from + bit / 8] >> (8 - b.bits - bit % 8)) & ((1U << b.bits) - 1);
        if (color >= b.colors) return error(Code::kInvalidArgument, "a pixel has colour {}, but there are {}", color, b.colors);
        for (size_t k = 0; k < 3; ++k) y[k] = file[b.palette + color * static_cast<size_t>(b.entry) + 2 - k];
      } else {
        const uint32_t v = little(file, from + bit / 8, static_cast<int>(b.bits / 8));
        for (size_t k = 0; k < 3; ++k) {
          const int shift = std::countr_zero(b.masks[k]);
          y[k] = static_cast<uint8_t>(uint64_t{(v & b.masks[k]) >> shift} * 255 / (b.masks[k] >> shift));
        }
      }
    }
  }
  return picture;
}

Result<Picture> decode_pnm(Bytes file) {
  const int kind = file[1] - '0';  // 1 to 3: bits, gray, colour as numbers; 4 to 6: as bytes
  const bool bits = kind % 3 == 1, colors = kind % 3 == 0, as_numbers = kind <= 3;
  PnmReader reader(file);
  const auto width = reader.number(), height = reader.number(), most = bits ? std::optional<int64_t>(1) : reader.number();
  if (!width || !height || !most)
    return error(Code::kInvalidArgument, "its header is damaged: expected width, height and the largest value");
  if (*most < 1 || *most > 65535) return error(Code::kInvalidArgument, "its largest value is {}; expected 1 to 65535", *most);
  const size_t bytes = *most > 255 ? 2 : 1, per_pixel = colors ? 3 : 1;
  const Bytes data = reader.rest();
  const size_t stride = bits ? static_cast<size_t>(*width + 7) / 8 : static_cast<size_t>(*width) * per_pixel * bytes;
  // A number takes a byte at least, so no file makes a picture that is much larger than itself.
  const size_t row_bytes = as_numbers ? static_cast<size_t>(*width) * per_pixel : stride;
  if (row_bytes != 0 && data.size() / row_bytes < static_cast<size_t>(*height))
    return error(Code::kInvalidArgument, "it has {} bytes of pixels, too few for {} x {}", data.size(), *width, *height);
  OCIOR_ASSIGN(Picture picture, make_picture(*height, *width));
  for (int64_t row = 0; row < *height; ++row)
    for (int64_t column = 0; column < *width; ++column)
      for (size_t k = 0; k < 3; ++k) {
        uint8_t* y = picture.pixel(row, column) + k;
        if (k >= per_pixel) {
          *y = y[-1];
          continue;
        }
        const size_t at = stride * static_cast<size_t>(row) + (static_cast<size_t>(column) * per_pixel + k) * bytes;
        std::optional<int64_t> v;
        if (as_numbers) v = bits ? reader.digit() : reader.number();
        else if (bits) v = (data[stride * static_cast<size_t>(row) + static_cast<size_t>(column) / 8] >> (7 - column % 8)) & 1;
        else v = bytes == 2 ? data[at] << 8 | data[at + 1] : data[at];
        if (!v || *v > *most)
          return error(Code::kInvalidArgument, "the pixel at row {}, column {} has no value from 0 to {}", row, column, *most);
        const int64_t light = bits ? 1 - *v : *v;  // of bits, 1 is black
        *y = static_cast<uint8_t>((light * 255 + *most / 2) / *most);
      }
  return picture;
}

}  // namespace ocior::ops::image
