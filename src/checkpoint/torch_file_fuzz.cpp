// libFuzzer target: any bytes as a file of torch.save; a first byte 'P' that no zip follows is read as the pickle of an archive.
#include <cstddef>
#include <cstdint>
#include <string>

#include "checkpoint/test_support.h"
#include "checkpoint/torch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace cp = ocior::checkpoint;
  std::string file(reinterpret_cast<const char*>(data), size);
  if (file.starts_with('P') && !file.starts_with("PK")) {
    file = cp::testing::make_zip({{"m/data.pkl", file.substr(1)}, {"m/data/0", std::string(64, '\1')}});
  }
  const auto got = cp::read_torch_file(cp::testing::bytes_of(file), "fuzz");
  if (got.ok()) cp::testing::touch_all(*got);
  return 0;
}
