// PNG by libpng, through its simplified functions: they return errors, where the others jump.
#include <png.h>

#include "base/error.h"
#include "ops/image/codecs.h"

namespace ocior::ops::image {

Result<Picture> decode_png(Bytes file) {
  struct Image : png_image {
    Image() : png_image{} { version = PNG_IMAGE_VERSION; }
    Image(const Image&) = delete;
    Image& operator=(const Image&) = delete;
    ~Image() { png_image_free(this); }
  } image;
  if (!png_image_begin_read_from_memory(&image, file.data(), file.size()))
    return error(Code::kInvalidArgument, "its header is damaged: {}", image.message);
  OCIOR_ASSIGN(Picture picture, make_picture(image.height, image.width));
  image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;  // as other files: 16 bits are not taken to be linear light
  // Asked for without transparency, pixels would be mixed with a background.
  const bool transparent = (image.format & PNG_FORMAT_FLAG_ALPHA) != 0;
  image.format = transparent ? PNG_FORMAT_RGBA : PNG_FORMAT_RGB;
  std::vector<uint8_t> rgba(transparent ? picture.rgb.size() / 3 * 4 : 0);
  if (!png_image_finish_read(&image, nullptr, transparent ? rgba.data() : picture.rgb.data(), 0, nullptr))
    return error(Code::kInvalidArgument, "it is damaged or cut short: {}", image.message);
  for (size_t i = 0; i < rgba.size(); ++i)
    if (i % 4 != 3) picture.rgb[i / 4 * 3 + i % 4] = rgba[i];
  return picture;
}

}  // namespace ocior::ops::image
