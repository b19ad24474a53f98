// TIFF by libtiff: the first image of a file, turned so that its top left comes first.
#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "base/error.h"
#include "ops/image/codecs.h"

namespace ocior::ops::image {
namespace {

// The file in memory, as libtiff reads it, and what it says of errors.
struct Source {
  Bytes file;
  size_t at = 0;
  std::string problem;
};

Source& source(thandle_t handle) { return *static_cast<Source*>(handle); }

tmsize_t read(thandle_t handle, void* to, tmsize_t size) {
  Source& s = source(handle);
  const size_t left = s.file.size() - std::min(s.at, s.file.size());
  const size_t n = std::min(static_cast<size_t>(std::max<tmsize_t>(size, 0)), left);
  if (n != 0) std::memcpy(to, s.file.data() + s.at, n);
  s.at += n;
  return static_cast<tmsize_t>(n);
}

toff_t seek(thandle_t handle, toff_t offset, int whence) {
  Source& s = source(handle);
  s.at = whence == SEEK_SET ? offset : whence == SEEK_CUR ? s.at + offset : s.file.size() + offset;
  return s.at;
}

// Keeps the first error. The format is libtiff's own, and so are its arguments.
int note_error(TIFF*, void* user, const char* module, const char* format, va_list arguments) {
  auto& s = *static_cast<Source*>(user);
  char text[512];
  std::vsnprintf(text, sizeof text, format, arguments);
  if (s.problem.empty()) s.problem = fmt::format("{}: {}", module ? module : "libtiff", text);
  return 1;
}
int ignore_warning(TIFF*, void*, const char*, const char*, va_list) { return 1; }

}  // namespace

Result<Picture> decode_tiff(Bytes file) {
  Source s{file};
  const std::unique_ptr<TIFFOpenOptions, void (*)(TIFFOpenOptions*)> options(TIFFOpenOptionsAlloc(), TIFFOpenOptionsFree);
  if (!options) return error(Code::kFail, "no memory for the decoder");
  TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), static_cast<tmsize_t>(4 * kMostPixels));
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), note_error, &s);
  TIFFOpenOptionsSetWarningHandlerExtR(options.get(), ignore_warning, nullptr);
  const std::unique_ptr<TIFF, void (*)(TIFF*)> tiff(
      TIFFClientOpenExt(
          "memory", "rm", &s, read, [](thandle_t, void*, tmsize_t) -> tmsize_t { return 0; }, seek, [](thandle_t) { return 0; },
          [](thandle_t handle) -> toff_t { return source(handle).file.size(); }, [](thandle_t, void**, toff_t*) { return 0; },
          [](thandle_t, void*, toff_t) {}, options.get()),
      TIFFClose);
  if (!tiff) return error(Code::kInvalidArgument, "its header is damaged: {}", s.problem);
  uint32_t width = 0, height = 0;
  TIFFGetField(tiff.get(), TIFFTAG_IMAGEWIDTH, &width);
  TIFFGetField(tiff.get(), TIFFTAG_IMAGELENGTH, &height);
  OCIOR_ASSIGN(Picture picture, make_picture(height, width));
  char why[1024] = "";
  if (!TIFFRGBAImageOK(tiff.get(), why)) return error(Code::kNotImplemented, "its kind of pixels is not supported: {}", why);
  std::vector<uint32_t> pixels(static_cast<size_t>(picture.width * picture.height));
  if (!TIFFReadRGBAImageOriented(tiff.get(), width, height, pixels.data(), ORIENTATION_TOPLEFT, 1) || !s.problem.empty())
    return error(Code::kInvalidArgument, "it is damaged or cut short: {}", s.problem);
  uint8_t* y = picture.rgb.data();
  for (const uint32_t p : pixels) {
    *y++ = static_cast<uint8_t>(TIFFGetR(p));
    *y++ = static_cast<uint8_t>(TIFFGetG(p));
    *y++ = static_cast<uint8_t>(TIFFGetB(p));
  }
  return picture;
}

}  // namespace ocior::ops::image
