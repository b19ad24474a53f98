// WebP by libwebp.
#include <webp/decode.h>

#include "base/error.h"
#include "ops/image/codecs.h"

namespace ocior::ops::image {

Result<Picture> decode_webp(Bytes file) {
  WebPBitstreamFeatures features;
  if (const VP8StatusCode code = WebPGetFeatures(file.data(), file.size(), &features); code != VP8_STATUS_OK)
    return error(Code::kInvalidArgument, "its header is damaged or cut short (libwebp's code {})", static_cast<int>(code));
  if (features.has_animation) return error(Code::kNotImplemented, "it is an animation; expected a single image");
  OCIOR_ASSIGN(Picture picture, make_picture(features.height, features.width));
  if (!WebPDecodeRGBInto(file.data(), file.size(), picture.rgb.data(), picture.rgb.size(), static_cast<int>(3 * picture.width)))
    return error(Code::kInvalidArgument, "it is damaged or cut short");
  return picture;
}

}  // namespace ocior::ops::image
