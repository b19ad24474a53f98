// libFuzzer target: any bytes as a safetensors file.
#include <cstddef>
#include <cstdint>

#include "checkpoint/safetensors.h"
#include "checkpoint/test_support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto got = ocior::checkpoint::read_safetensors(std::as_bytes(std::span(data, size)), "fuzz");
  if (got.ok()) ocior::checkpoint::testing::touch_all(*got);
  return 0;
}
