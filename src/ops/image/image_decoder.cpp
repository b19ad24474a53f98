// ImageDecoder: an image file as a tensor [height, width, channels] of bytes
// (https://onnx.ai/onnx/operators/onnx__ImageDecoder.html). The standard gives an empty tensor for a file that cannot be decoded;
// here that is an error, which says what is wrong with it.
#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/resources.h"
#include "ops/evaluate.h"
#include "ops/image/codecs.h"
#include "ops/shape_data.h"

namespace ocior::ops {
namespace image {

constexpr int64_t kBytesPerPixel = 32;  // that a library may take while it decodes: JPEG 2000 has integers, and a copy of them

Status check_sides(int64_t height, int64_t width) {
  const int64_t most = std::min<int64_t>(kMostPixels, static_cast<int64_t>(available_memory() / kBytesPerPixel));
  if (height < 1 || width < 1)
    return error(Code::kInvalidArgument, "the image is {} x {}; expected positive sides", width, height);
  if (height > most / width)
    return error(Code::kInvalidArgument, "the image is {} x {}; expected at most {} pixels", width, height, most);
  return {};
}

Result<Picture> make_picture(int64_t height, int64_t width) {
  OCIOR_RETURN_IF_ERROR(check_sides(height, width));
  return Picture{height, width, std::vector<uint8_t>(static_cast<size_t>(3 * height * width))};
}

struct Format {
  std::string_view name;
  std::vector<std::string_view> starts;  // any of these; '?' stands for any byte
  Result<Picture> (*decode)(Bytes);
};

const std::vector<Format>& formats() {
  using namespace std::string_view_literals;
  static const std::vector<Format> all{{"JPEG", {"\xff\xd8\xff"sv}, decode_jpeg},
                                       {"PNG", {"\x89PNG\r\n\x1a\n"sv}, decode_png},
                                       {"WebP", {"RIFF????WEBP"sv}, decode_webp},
                                       {"TIFF", {"II*\0"sv, "MM\0*"sv, "II+\0"sv, "MM\0+"sv}, decode_tiff},
                                       {"JPEG 2000", {"\0\0\0\x0cjP  \r\n\x87\n"sv, "\xff\x4f\xff\x51"sv}, decode_jpeg2000},
                                       {"BMP", {"BM"sv}, decode_bmp},
                                       {"PNM", {"P1"sv, "P2"sv, "P3"sv, "P4"sv, "P5"sv, "P6"sv}, decode_pnm}};
  return all;
}

Result<Picture> decode(Bytes file) {
  const auto begins = [file](std::string_view start) {
    return file.size() >= start.size() && std::ranges::equal(start, file.first(start.size()), [](char s, uint8_t f) {
             return s == '?' || static_cast<uint8_t>(s) == f;
           });
  };
  for (const Format& f : formats())
    if (std::ranges::any_of(f.starts, begins)) {
      auto picture = f.decode(file);
      if (!picture.ok()) return with_context(picture.status(), fmt::format("the {} file of {} bytes", f.name, file.size()));
      return picture;
    }
  return error(Code::kInvalidArgument,
               "the {} bytes are no image file that is known: expected JPEG, PNG, WebP, TIFF, JPEG 2000, BMP or PNM (P1 to P6)",
               file.size());
}

}  // namespace image

struct ImageDecoder {
  enum class Pixels { kRgb, kBgr, kGray };
  static constexpr OpInfo info{.name = "ImageDecoder", .since = 20};
  Pixels pixels = Pixels::kRgb;

  static ImageDecoder parse(const NodeReader& node) {
    const std::string format = node.text("pixel_format", "RGB");
    if (format != "RGB" && format != "BGR" && format != "Grayscale")
      node.fail("pixel_format is '{}'; expected RGB, BGR or Grayscale", format);
    return {format == "Grayscale" ? Pixels::kGray : format == "BGR" ? Pixels::kBgr : Pixels::kRgb};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, type_bit(DType::kUint8), info.name));
    if (ranked(c, 0) && rank(c, 0) != 1)
      return error(Code::kInvalidGraph, "ImageDecoder: the input has rank {}; expected the bytes of a file, rank 1", rank(c, 0));
    c.set(0, DType::kUint8, Dims{c.fresh("height"), c.fresh("width"), channels()});
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    if (x.rank() != 1)
      return error(Code::kInvalidArgument, "ImageDecoder: the input has rank {}; expected the bytes of a file, rank 1", x.rank());
    auto decoded = image::decode({x.as<uint8_t>(), static_cast<size_t>(x.count())});
    if (!decoded.ok()) return with_context(decoded.status(), info.name);
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, DType::kUint8, Shape{decoded->height, decoded->width, channels()}));
    write(decoded->rgb, c.out(0).as<uint8_t>());
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const std::vector<double> ppm{'P', '6', '\n', '2', ' ', '1', '\n', '2', '5', '5', '\n', 1, 2, 3, 250, 128, 0};
    const std::vector<double> pgm{'P', '2', ' ', '1', ' ', '3', ' ', '4', ' ', '0', ' ', '4', '\n', '2', '\n'};
    for (const char* format : {"RGB", "BGR", "Grayscale"})
      for (const auto& file : {ppm, pgm})
        out.push_back({.inputs = {{.dtype = DType::kUint8, .shape = {static_cast<int64_t>(file.size())}, .values = file}},
                       .attributes = {{"pixel_format", std::string(format)}}});
    return out;
  }

 private:
  int64_t channels() const { return pixels == Pixels::kGray ? 1 : 3; }

  void write(std::span<const uint8_t> rgb, uint8_t* y) const {
    if (pixels == Pixels::kRgb) {
      std::ranges::copy(rgb, y);
      return;
    }
    for (size_t i = 0; i < rgb.size(); i += 3)
      if (pixels == Pixels::kBgr) std::reverse_copy(rgb.data() + i, rgb.data() + i + 3, y + i);
      // The luma of ITU-R BT.601 in 16-bit fixed point, rounded: the weights add up to 1.
      else y[i / 3] = static_cast<uint8_t>((19595U * rgb[i] + 38470U * rgb[i + 1] + 7471U * rgb[i + 2] + 0x8000U) >> 16);
  }
};

OCIOR_OPERATOR(ImageDecoder)

}  // namespace ocior::ops
