// Between bytes, integers and floats on every table: all lengths around the vectors, halves, NaN and infinities.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/test_memory.h"
#include "kernels/test_tables.h"

namespace ocior {
namespace {

class Quantize : public testing::TestWithParam<const KernelTable*> {};

constexpr int64_t kLengths[] = {0, 1, 3, 4, 8, 17, 40, 67};

int32_t saturated(float v, bool is_signed) {
  const float least = is_signed ? -128 : 0, most = is_signed ? 127 : 255;
  return static_cast<int32_t>(v > most ? most : v >= least ? v : least);
}
int32_t value(uint8_t byte, bool is_signed) { return is_signed ? static_cast<int8_t>(byte) : byte; }

TEST_P(Quantize, BytesOfSums) {
  const KernelTable& kernels = *GetParam();
  for (const int64_t n : kLengths)
    for (const bool is_signed : {false, true})
      for (const int64_t step : {0, 1})
        for (const int32_t add : {0, -5, INT32_MAX}) {
          std::vector<int32_t> x(static_cast<size_t>(n));
          std::vector<float> scales(static_cast<size_t>(std::max<int64_t>(1, n)));
          for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<int32_t>(i * 37) - 600;
          for (size_t i = 0; i < scales.size(); ++i) scales[i] = i % 3 == 0 ? 0.5f : i % 3 == 1 ? NAN : 1e30f;
          const int32_t zero = is_signed ? -7 : 13;
          const Guarded<int32_t> from(x);
          Guarded<uint8_t> y(x.size());
          kernels.requantize(from.data(), add, scales.data(), step, zero, is_signed, y.data(), n);
          for (size_t i = 0; i < x.size(); ++i) {
            const auto sum = static_cast<int32_t>(static_cast<uint32_t>(x[i]) + static_cast<uint32_t>(add));
            const float v = std::nearbyint(static_cast<float>(sum) * scales[step ? i : 0]) + static_cast<float>(zero);
            const int32_t want = saturated(v, is_signed);
            ASSERT_EQ(value(y[i], is_signed), want) << i << " of " << n;
          }
        }
}

TEST_P(Quantize, BytesOfFloats) {
  for (const int64_t n : kLengths)
    for (const bool is_signed : {false, true}) {
      std::vector<float> x = random_floats(static_cast<size_t>(n), 5, -80, 80);
      for (size_t i = 0; i < x.size(); ++i)
        if (i % 4 == 1) x[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : 1.25f;  // 1.25 / 0.5 is a half
      const int32_t zero = is_signed ? -7 : 13;
      const Guarded<float> from(x);
      Guarded<uint8_t> y(x.size());
      GetParam()->quantize_f32(from.data(), 0.5f, zero, is_signed, y.data(), n);
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_EQ(value(y[i], is_signed), saturated(std::nearbyint(x[i] / 0.5f) + static_cast<float>(zero), is_signed)) << x[i];
    }
}

TEST_P(Quantize, Bounds) {
  for (const int64_t n : kLengths)
    for (const float shift : {-2.0f, 0.0f, 2.0f}) {
      std::vector<float> x = random_floats(static_cast<size_t>(n), 6, shift - 1, shift + 1);
      for (size_t i = 5; i < x.size(); i += 7) x[i] = NAN;
      float want_lo = 0, want_hi = 0, lo, hi;
      for (const float v : x)
        if (!std::isnan(v)) want_lo = std::min(want_lo, v), want_hi = std::max(want_hi, v);
      const Guarded<float> from(x);
      GetParam()->bounds_f32(from.data(), n, &lo, &hi);
      EXPECT_EQ(lo, want_lo);
      EXPECT_EQ(hi, want_hi);
    }
}

TEST_P(Quantize, Conversions) {
  for (const int64_t n : kLengths) {
    std::vector<uint8_t> bytes(static_cast<size_t>(n));
    std::vector<int32_t> sums(bytes.size());
    for (size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<uint8_t>(i * 41), sums[i] = static_cast<int32_t>(i * 12345677u);
    const std::vector<float> scales = random_floats(std::max<size_t>(1, bytes.size()), 8);
    const Guarded<uint8_t> from(bytes);
    const Guarded<int32_t> integers(sums);
    const Guarded<float> factors(scales);
    Guarded<float> y(bytes.size());
    Guarded<int32_t> back(bytes.size());
    for (const bool is_signed : {false, true}) {
      GetParam()->bytes_to_f32(from.data(), is_signed, 77, y.data(), n);
      for (size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(y[i], static_cast<float>(value(bytes[i], is_signed) - 77));
      GetParam()->f32_to_i32(y.data(), back.data(), n);
      for (size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(back[i], value(bytes[i], is_signed) - 77);
    }
    for (const int64_t step : {0, 1}) {
      GetParam()->scale_i32(integers.data(), factors.data(), step, y.data(), n);
      for (size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(y[i], static_cast<float>(sums[i]) * scales[step ? i : 0]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, Quantize, testing::ValuesIn(tables_under_test()), TableName());

}  // namespace
}  // namespace ocior
