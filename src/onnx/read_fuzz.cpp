// libFuzzer target: arbitrary bytes through read_bytes, and what was read through the writer and back.
#include <cstdlib>

#include "onnx/model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ocior::onnx;
  const auto model = read_bytes(std::as_bytes(std::span(data, size)), nullptr);
  if (!model.ok()) return 0;
  const auto bytes = write_bytes(*model);
  if (!bytes.ok() || !read_bytes(std::as_bytes(std::span(*bytes)), nullptr).ok()) abort();
  return 0;
}
