#include "onnx/quote.h"

#include <algorithm>

namespace ocior::onnx {

std::string quoted(std::string_view name) {
  constexpr size_t kMost = 100;
  std::string out = "'";
  for (const char c : name.substr(0, kMost)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  if (name.size() > kMost) {
    while (out.size() > 1 && (static_cast<unsigned char>(out.back()) & 0x80)) out.pop_back();  // no half UTF-8 character
    out += "…";
  }
  return out + "'";
}

std::string shape_text(std::span<const int64_t> dims) {
  constexpr size_t kMost = 16;
  std::string out = "[";
  for (size_t i = 0; i < std::min(dims.size(), kMost); ++i) out += (i ? ", " : "") + std::to_string(dims[i]);
  return out + (dims.size() > kMost ? ", …]" : "]");
}

}  // namespace ocior::onnx
