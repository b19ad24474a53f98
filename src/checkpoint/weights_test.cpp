#include "checkpoint/weights.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "checkpoint/test_support.h"

namespace ocior::checkpoint {
namespace {

TensorEntry entry_of(DType dtype, std::vector<int64_t> shape, const std::string& bytes) {
  return {.name = "w",
          .dtype = dtype,
          .shape = shape,
          .strides = dense_strides(shape),
          .data = testing::bytes_of(bytes),
          .file = "f"};
}

float widened(DType dtype, const std::string& bytes) {
  const auto made = to_initializer(entry_of(dtype, {1}, bytes), "w", DType::kFloat, false);
  float out = 0;
  std::memcpy(&out, made->raw.data(), sizeof out);
  return out;
}

TEST(Weights, WidensExactlyAndBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = widened(DType::kFloat16, testing::le(half));
    const int exponent = (half >> 10) & 31, mantissa = half & 0x3ff;
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(value), mantissa != 0) << bits;
    } else {
      const double expected =
          (half & 0x8000 ? -1 : 1) * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
      EXPECT_EQ(value, expected) << bits;
      EXPECT_EQ(half_bits(value), half);
    }
    EXPECT_EQ(std::signbit(value), (half & 0x8000) != 0) << bits;
    const uint32_t wide = std::bit_cast<uint32_t>(widened(DType::kBFloat16, testing::le(half)));
    EXPECT_EQ(wide, bits << 16);
  }
}

TEST(Weights, RoundsToNearestEven) {
  EXPECT_EQ(half_bits(1.0f + 0x1p-11f), 0x3c00);  // halfway, to even
  EXPECT_EQ(half_bits(1.0f + 3 * 0x1p-11f), 0x3c02);
  EXPECT_EQ(half_bits(std::nextafter(1.0f + 0x1p-11f, 2.0f)), 0x3c01);
  EXPECT_EQ(half_bits(65504.0f), 0x7bff);
  EXPECT_EQ(half_bits(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(half_bits(65520.0f), 0x7c00);
  EXPECT_EQ(half_bits(-0x1p-24f), 0x8001);
  EXPECT_EQ(half_bits(0x1p-25f), 0);
  EXPECT_EQ(half_bits(std::nextafter(0x1p-25f, 1.0f)), 1);
  EXPECT_EQ(half_bits(std::nextafter(0x1p-14f, 0.0f)), 0x0400);
  EXPECT_EQ(half_bits(std::numeric_limits<float>::infinity()), 0x7c00);
  EXPECT_EQ(half_bits(std::numeric_limits<float>::quiet_NaN()) & 0x7c00, 0x7c00);
  EXPECT_NE(half_bits(std::numeric_limits<float>::quiet_NaN()) & 0x3ff, 0);
}

TEST(Weights, CopiesOnlyWhatMustChange) {
  std::string bytes;
  for (int i = 0; i < 70 * 40; ++i) bytes += testing::le(static_cast<float>(i));
  const TensorEntry entry = entry_of(DType::kFloat, {70, 40}, bytes);
  const auto same = to_initializer(entry, "w", DType::kFloat, false);
  EXPECT_EQ(same->raw.data(), entry.data.data());
  const auto turned = to_initializer(entry, "w", DType::kFloat, true);
  EXPECT_EQ(turned->dims, (std::vector<int64_t>{40, 70}));
  for (int r = 0; r < 40; ++r) {
    for (int c = 0; c < 70; ++c) {
      float value;
      std::memcpy(&value, turned->raw.data() + (r * 70 + c) * 4, 4);
      ASSERT_EQ(value, static_cast<float>(c * 40 + r));
    }
  }
}

TEST(Weights, RefusesWhatCannotBeWritten) {
  const std::string big = testing::le(1e6f), huge = testing::le(1e300), integer = testing::le<int32_t>(1);
  EXPECT_NE(to_initializer(entry_of(DType::kFloat, {1}, big), "w", DType::kFloat16, false)
                .status()
                .message()
                .find("beyond float16's range"),
            std::string::npos);
  EXPECT_NE(to_initializer(entry_of(DType::kDouble, {1}, huge), "w", DType::kFloat, false)
                .status()
                .message()
                .find("beyond float's range"),
            std::string::npos);
  EXPECT_NE(to_initializer(entry_of(DType::kInt32, {1}, integer), "w", DType::kFloat, false)
                .status()
                .message()
                .find("element type int32"),
            std::string::npos);
  EXPECT_NE(to_initializer(entry_of(DType::kFloat, {}, big), "w", DType::kFloat, false).status().message().find("0 dimensions"),
            std::string::npos);
  const std::string infinite = testing::le(std::numeric_limits<float>::infinity());
  EXPECT_TRUE(to_initializer(entry_of(DType::kFloat, {1}, infinite), "w", DType::kFloat16, false).ok());
}

TEST(Weights, ReadsBigEndian) {
  const std::string bytes = testing::raw("\x3f\x80\0\0\xc0\0\0\0");
  TensorEntry entry = entry_of(DType::kFloat, {2}, bytes);
  entry.big_endian = true;
  const auto made = to_initializer(entry, "w", DType::kFloat, false);
  float out[2];
  std::memcpy(out, made->raw.data(), sizeof out);
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -2.0f);
}

}  // namespace
}  // namespace ocior::checkpoint
