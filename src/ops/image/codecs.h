// Image files from memory, each format by one function: hostile bytes end in an error that says what is wrong, and an image
// larger than kMostPixels or this process's memory allows is refused before its pixels are allocated. Plain functions,
// thread-safe; nothing is printed, and no error leaves a library by a jump.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ocior/status.h"

namespace ocior::ops::image {

using Bytes = std::span<const uint8_t>;

inline constexpr int64_t kMostPixels = int64_t{1} << 27;

// 8 bits each of red, green and blue, row by row from the top left; transparency is dropped.
struct Picture {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> rgb;

  uint8_t* pixel(int64_t row, int64_t column) { return rgb.data() + 3 * (row * width + column); }
};

// An error when a side is not positive or there are too many pixels.
Status check_sides(int64_t height, int64_t width);
// A black picture of such sides.
Result<Picture> make_picture(int64_t height, int64_t width);

Result<Picture> decode_bmp(Bytes file);
Result<Picture> decode_jpeg(Bytes file);
Result<Picture> decode_jpeg2000(Bytes file);
Result<Picture> decode_png(Bytes file);
Result<Picture> decode_pnm(Bytes file);
Result<Picture> decode_tiff(Bytes file);
Result<Picture> decode_webp(Bytes file);

}  // namespace ocior::ops::image
