// JPEG by libjpeg-turbo, through its TurboJPEG functions: they return errors, where the others jump or exit.
#include <turbojpeg.h>

#include <memory>

#include "base/error.h"
#include "ops/image/codecs.h"

namespace ocior::ops::image {
namespace {

// Four inks to light. Files of that kind are written by Adobe's programs, which store the complement of the ink.
void to_light(std::span<const uint8_t> cmyk, uint8_t* rgb) {
  for (size_t i = 0; i < cmyk.size(); i += 4)
    for (size_t k = 0; k < 3; ++k) *rgb++ = static_cast<uint8_t>((cmyk[i + k] * cmyk[i + 3] + 127) / 255);
}

}  // namespace

Result<Picture> decode_jpeg(Bytes file) {
  const std::unique_ptr<void, int (*)(tjhandle)> decoder(tjInitDecompress(), tjDestroy);
  if (!decoder) return error(Code::kFail, "no memory for the decoder");
  int width = 0, height = 0, subsampling = 0, colors = 0;
  if (tjDecompressHeader3(decoder.get(), file.data(), file.size(), &width, &height, &subsampling, &colors) != 0)
    return error(Code::kInvalidArgument, "its header is damaged: {}", tjGetErrorStr2(decoder.get()));
  OCIOR_ASSIGN(Picture picture, make_picture(height, width));
  const bool inks = colors == TJCS_CMYK || colors == TJCS_YCCK;
  std::vector<uint8_t> cmyk(inks ? static_cast<size_t>(width) * static_cast<size_t>(height) * 4 : 0);
  // A progressive file may repeat empty scans without end: their number is limited. Warnings mean damage, as errors do.
  if (tjDecompress2(decoder.get(), file.data(), file.size(), inks ? cmyk.data() : picture.rgb.data(), width, 0, height,
                    inks ? TJPF_CMYK : TJPF_RGB, TJFLAG_LIMITSCANS) != 0)
    return error(Code::kInvalidArgument, "it is damaged or cut short: {}", tjGetErrorStr2(decoder.get()));
  if (inks) to_light(cmyk, picture.rgb.data());
  return picture;
}

}  // namespace ocior::ops::image
