// JPEG 2000 by OpenJPEG: gray or RGB, with or without transparency, as a JP2 file or a bare code stream.
#include <openjpeg.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "ops/image/codecs.h"

namespace ocior::ops::image {
namespace {

struct Source {
  Bytes file;
  size_t at = 0;
};

OPJ_SIZE_T read(void* to, OPJ_SIZE_T size, void* user) {
  auto& s = *static_cast<Source*>(user);
  const size_t n = std::min<size_t>(size, s.file.size() - s.at);
  if (n == 0) return static_cast<OPJ_SIZE_T>(-1);  // the end
  std::memcpy(to, s.file.data() + s.at, n);
  s.at += n;
  return n;
}

OPJ_OFF_T skip(OPJ_OFF_T count, void* user) {
  auto& s = *static_cast<Source*>(user);
  if (count < 0) return -1;
  const size_t n = std::min(static_cast<size_t>(count), s.file.size() - s.at);
  s.at += n;
  return static_cast<OPJ_OFF_T>(n);
}

OPJ_BOOL seek(OPJ_OFF_T to, void* user) {
  auto& s = *static_cast<Source*>(user);
  if (to < 0 || static_cast<size_t>(to) > s.file.size()) return OPJ_FALSE;
  s.at = static_cast<size_t>(to);
  return OPJ_TRUE;
}

void note_error(const char* message, void* user) {
  auto& problem = *static_cast<std::string*>(user);
  if (!problem.empty()) return;
  problem = message;
  while (!problem.empty() && problem.back() == '\n') problem.pop_back();
}

Status check_components(const opj_image_t& image) {
  if (image.numcomps < 1 || image.numcomps > 4)
    return error(Code::kNotImplemented, "it has {} components; expected 1 to 4", image.numcomps);
  const auto& first = image.comps[0];
  for (const auto& c : std::span(image.comps, image.numcomps)) {
    if (c.dx != first.dx || c.dy != first.dy || c.w != first.w || c.h != first.h)
      return error(Code::kNotImplemented, "its components differ in size; expected {} x {} of each", first.w, first.h);
    if (c.prec < 1 || c.prec > 16 || c.sgnd)
      return error(Code::kNotImplemented, "a component has {} bits{}; expected 1 to 16 without sign", c.prec,
                   c.sgnd ? " with sign" : "");
  }
  return {};
}

Result<Picture> to_picture(const opj_image_t& image) {
  OCIOR_RETURN_IF_ERROR(check_components(image));
  if (image.color_space != OPJ_CLRSPC_SRGB && image.color_space != OPJ_CLRSPC_GRAY &&
      image.color_space != OPJ_CLRSPC_UNSPECIFIED && image.color_space != OPJ_CLRSPC_UNKNOWN)
    return error(Code::kNotImplemented, "its colour space is number {} of OpenJPEG; expected RGB or gray",
                 static_cast<int>(image.color_space));
  OCIOR_ASSIGN(Picture picture, make_picture(image.comps[0].h, image.comps[0].w));
  const size_t count = picture.rgb.size() / 3;
  for (size_t k = 0; k < 3; ++k) {
    const opj_image_comp_t& c = image.comps[image.numcomps < 3 ? 0 : k];
    if (!c.data) return error(Code::kInvalidArgument, "component {} has no pixels", k);
    const int most = (1 << c.prec) - 1;
    for (size_t i = 0; i < count; ++i) {
      const int v = std::clamp(c.data[i], 0, most);
      picture.rgb[3 * i + k] = static_cast<uint8_t>(c.prec >= 8 ? v >> (c.prec - 8) : v * 255 / most);
    }
  }
  return picture;
}

}  // namespace

Result<Picture> decode_jpeg2000(Bytes file) {
  Source source{file};
  std::string problem;
  const std::unique_ptr<opj_codec_t, void (*)(opj_codec_t*)> codec(
      opj_create_decompress(file[0] == 0 ? OPJ_CODEC_JP2 : OPJ_CODEC_J2K), opj_destroy_codec);
  const std::unique_ptr<opj_stream_t, void (*)(opj_stream_t*)> stream(opj_stream_default_create(OPJ_TRUE),
                                                                      [](opj_stream_t* s) { opj_stream_destroy(s); });
  opj_dparameters_t parameters;
  opj_set_default_decoder_parameters(&parameters);
  if (!codec || !stream || !opj_setup_decoder(codec.get(), &parameters)) return error(Code::kFail, "no memory for the decoder");
  opj_set_error_handler(codec.get(), note_error, &problem);
  opj_stream_set_user_data(stream.get(), &source, nullptr);
  opj_stream_set_user_data_length(stream.get(), file.size());
  opj_stream_set_read_function(stream.get(), read);
  opj_stream_set_skip_function(stream.get(), skip);
  opj_stream_set_seek_function(stream.get(), seek);
  opj_image_t* header = nullptr;
  const bool begun = opj_read_header(stream.get(), codec.get(), &header) != 0;
  const std::unique_ptr<opj_image_t, void (*)(opj_image_t*)> image(header, opj_image_destroy);
  if (!begun || !image) return error(Code::kInvalidArgument, "its header is damaged: {}", problem);
  OCIOR_RETURN_IF_ERROR(check_components(*image));
  // Sides before the decoder takes memory for them: a file of a few bytes may claim any.
  const auto side = [](OPJ_UINT32 from, OPJ_UINT32 to) { return static_cast<int64_t>(to) - static_cast<int64_t>(from); };
  OCIOR_RETURN_IF_ERROR(check_sides(side(image->y0, image->y1), side(image->x0, image->x1)));
  if (!opj_decode(codec.get(), stream.get(), image.get()) || !opj_end_decompress(codec.get(), stream.get()))
    return error(Code::kInvalidArgument, "it is damaged or cut short: {}", problem);
  return to_picture(*image);
}

}  // namespace ocior::ops::image
