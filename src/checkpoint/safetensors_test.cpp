#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include "checkpoint/test_support.h"

namespace ocior::checkpoint {
namespace {

using testing::bytes_of;
using testing::le;

std::string file_with(const std::string& header, const std::string& data) { return le<uint64_t>(header.size()) + header + data; }

Result<StateDict> read(const std::string& file) { return read_safetensors(bytes_of(file), "model.safetensors"); }

// The message of the error that `header` over `data` bytes gives, "" when it is read.
std::string fault_of(const std::string& header, size_t data) {
  const std::string file = file_with(header, std::string(data, '\1'));
  const auto got = read(file);
  return got.ok() ? "" : got.status().message();
}

TEST(Safetensors, ReadsNamesShapesAndBytes) {
  const std::string file = file_with(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2,1],"data_offsets":[4,8]},)"
      R"("a":{"data_offsets":[0,4],"shape":[],"dtype":"I32"},"empty":{"dtype":"F64","shape":[0,3],"data_offsets":[8,8]}} )",
      std::string("abcdefgh"));
  const auto got = read(file);
  ASSERT_TRUE(got.ok()) << got.status().message();
  ASSERT_EQ(got->entries().size(), 3u);
  EXPECT_EQ(got->entries()[0].name, "b");
  const TensorEntry& b = *got->find("b");
  EXPECT_EQ(b.dtype, DType::kFloat16);
  EXPECT_EQ(b.shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(b.strides, (std::vector<int64_t>{1, 1}));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(b.data.data()), b.data.size()), "efgh");
  EXPECT_EQ(got->find("a")->elements(), 1);
  EXPECT_EQ(got->find("empty")->elements(), 0);
  EXPECT_EQ(got->find("c"), nullptr);
}

TEST(Safetensors, RefusesBadHeaders) {
  const auto has = [](const std::string& fault, const std::string& part) { return fault.find(part) != std::string::npos; };
  EXPECT_TRUE(has(fault_of("[]", 0), "an array where the format has none"));
  EXPECT_TRUE(has(fault_of("{", 0), "not valid JSON"));
  EXPECT_TRUE(has(
      fault_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
               8),
      "twice"));
  EXPECT_TRUE(
      has(fault_of(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4), "repeated field \"dtype\""));
  EXPECT_TRUE(has(fault_of(R"({"a":{"dtype":"F32","shape":[1]}})", 0), "lacks one of"));
  EXPECT_TRUE(has(fault_of(R"({"a":{"dtype":"Q4","shape":[1],"data_offsets":[0,4]}})", 4), "unknown dtype \"Q4\""));
  EXPECT_TRUE(has(fault_of(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4), "negative"));
  EXPECT_TRUE(has(fault_of(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4), "fraction"));
  EXPECT_TRUE(has(fault_of(R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4), "an array"));
  EXPECT_TRUE(has(fault_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4), "one more number"));
  EXPECT_TRUE(has(fault_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}})", 4), "beyond 2^63"));
  EXPECT_TRUE(has(fault_of("{\"a\":" + std::string(100000, '['), 0), "an array"));
}

TEST(Safetensors, RefusesTensorsThatDoNotFitTheData) {
  const auto one = [](const std::string& shape, const std::string& offsets, size_t data) {
    return fault_of(R"({"a":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}", data);
  };
  EXPECT_EQ(one("[2]", "[0,8]", 8), "");
  EXPECT_NE(one("[2]", "[0,8]", 7).find("claims bytes 0 to 8"), std::string::npos);
  EXPECT_NE(one("[2]", "[8,0]", 8).find("claims bytes 8 to 0"), std::string::npos);
  EXPECT_NE(one("[3]", "[0,8]", 8).find("has 8 bytes of data"), std::string::npos);
  EXPECT_NE(one("[2]", "[0,8]", 12).find("4 bytes of data belong to no tensor"), std::string::npos);
  EXPECT_NE(one("[1]", "[4,8]", 8).find("begins at byte 4 where 0 is due"), std::string::npos);
  EXPECT_NE(one("[4294967296,4294967296]", "[0,8]", 8).find("does not fit 64 bits"), std::string::npos);
  EXPECT_NE(
      fault_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
               12)
          .find("`b` begins at byte 4 where 8 is due"),
      std::string::npos);
}

TEST(Safetensors, RefusesBadLengths) {
  EXPECT_NE(read("").status().message().find("too few"), std::string::npos);
  EXPECT_NE(read("1234567").status().message().find("too few"), std::string::npos);
  EXPECT_NE(read(le<uint64_t>(3) + "{}").status().message().find("claims a header of 3 bytes"), std::string::npos);
  EXPECT_NE(read(le<uint64_t>(UINT64_MAX) + "{}").status().message().find("claims a header"), std::string::npos);
  EXPECT_NE(read("version https://git-lfs.github.com/spec/v1\n").status().message().find("git lfs pull"), std::string::npos);
  EXPECT_TRUE(read(le<uint64_t>(2) + "{}").ok());
}

TEST(Safetensors, SurvivesMutants) {
  const std::string seed = testing::read_text(OCIOR_SOURCE_DIR "/tests/data/checkpoints/tiny-distilbert-qa/model.safetensors");
  ASSERT_FALSE(seed.empty());
  int refused = 0;
  const int count = testing::mutant_count(2000);
  for (int i = 0; i < count; ++i) {
    const std::vector<std::byte> file = testing::exact_copy(testing::mutant(seed, static_cast<uint32_t>(i)));
    const auto got = read_safetensors(file, "model.safetensors");
    if (got.ok()) {
      testing::touch_all(*got);
    } else {
      ++refused;
      EXPECT_TRUE(got.status().message().starts_with("model.safetensors: ")) << got.status().message();
    }
  }
  EXPECT_GT(refused, count / 2);
}

}  // namespace
}  // namespace ocior::checkpoint
