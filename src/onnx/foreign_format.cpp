#include "onnx/foreign_format.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace ocior::onnx {
namespace {

struct Magic {
  size_t offset;
  std::string_view bytes;
  std::string_view says;
};

using namespace std::string_view_literals;

constexpr std::string_view kCheckpoint =
    "this is a PyTorch checkpoint (zip or pickle), not an ONNX model; run `ocior convert` on its folder or export it to ONNX";

constexpr std::array kMagics = {
    Magic{4, "ORTM"sv, "this is a model in ONNX Runtime's own format (.ort), not ONNX; use the .onnx file that it was made from"},
    Magic{4, "TFL3"sv, "this is a TensorFlow Lite model; convert it to ONNX with tf2onnx"},
    Magic{0, "PK\x03\x04"sv, kCheckpoint},
    Magic{0, "\x80\x02"sv, kCheckpoint},
    Magic{0, "\x80\x03"sv, kCheckpoint},
    Magic{0, "\x80\x04"sv, kCheckpoint},
    Magic{0, "\x80\x05"sv, kCheckpoint},
    Magic{0, "GGUF"sv, "this is a GGUF file, not an ONNX model; get the model's ONNX or safetensors files"},
    Magic{0, "\x89HDF\r\n"sv, "this is an HDF5 file (Keras), not an ONNX model; convert it to ONNX with tf2onnx"},
    Magic{0, "\x1f\x8b"sv, "this is a gzip archive; unpack it and pass the .onnx file in it"},
    Magic{0, "version https://git-lfs"sv, "this is a Git LFS pointer instead of the model itself; run `git lfs pull`"},
    Magic{0, "<"sv, "this is an HTML or XML page, perhaps a failed download; fetch the model again"},
    Magic{0, "{"sv, "this is a JSON file, not an ONNX model; pass the .onnx file"},
};

bool is_safetensors(std::string_view text) {
  uint64_t header = 0;
  if (text.size() < 10) return false;
  std::memcpy(&header, text.data(), sizeof header);
  return header >= 2 && header <= (uint64_t{100} << 20) && text[8] == '{' && (text[9] == '"' || text[9] == '}' || text[9] == ' ');
}

}  // namespace

std::string_view describe_foreign(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 64));
  if (is_safetensors(text)) return "this is a safetensors checkpoint, not an ONNX model; run `ocior convert` on its folder";
  for (const Magic& magic : kMagics)
    if (text.size() >= magic.offset && text.substr(magic.offset).starts_with(magic.bytes)) return magic.says;
  return "";
}

}  // namespace ocior::onnx
