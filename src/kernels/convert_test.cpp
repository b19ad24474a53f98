// Half-precision conversions of every table: all 65536 values, every rounding boundary, and the same bits from every table.
#include <gtest/gtest.h>

#include "kernels/test_memory.h"
#include "kernels/test_tables.h"

namespace ocior {
namespace {

struct Format {
  int exponent_bits, mantissa_bits, bias;
};
constexpr Format kF16 = {5, 10, 15}, kBf16 = {8, 7, 127};

double value(uint16_t h, const Format& f) {
  const int exponent = h >> f.mantissa_bits & ((1 << f.exponent_bits) - 1), mantissa = h & ((1 << f.mantissa_bits) - 1);
  const double sign = h >> 15 ? -1 : 1;
  if (exponent == (1 << f.exponent_bits) - 1) return mantissa ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - f.bias - f.mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << f.mantissa_bits), exponent - f.bias - f.mantissa_bits);
}

// Nearest, ties to even, by search over the finite magnitudes in order.
uint16_t nearest(float x, const Format& f) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0,
                 infinity = static_cast<uint16_t>(((1 << f.exponent_bits) - 1) << f.mantissa_bits);
  const double magnitude = std::fabs(static_cast<double>(x));
  uint16_t low = 0, high = infinity;  // value(low) <= magnitude < value(high)
  while (high - low > 1) {
    const uint16_t middle = static_cast<uint16_t>((low + high) / 2);
    (value(middle, f) <= magnitude ? low : high) = middle;
  }
  if (std::isinf(x)) return sign | infinity;
  const double below = value(low, f), step = below - value(low ? static_cast<uint16_t>(low - 1) : 0, f);
  const double above = high == infinity ? below + (low ? step : 0) : value(high, f);
  const double down = magnitude - below, up = above - magnitude;
  return sign | (down < up || (down == up && low % 2 == 0) ? low : high);
}

class Convert : public testing::TestWithParam<const KernelTable*> {
 protected:
  std::vector<uint16_t> narrow(const std::vector<float>& x, const Format& f) {
    std::vector<uint16_t> h(x.size());
    (f.bias == 15 ? GetParam()->f32_to_f16 : GetParam()->f32_to_bf16)(x.data(), h.data(), static_cast<int64_t>(x.size()));
    return h;
  }
  std::vector<float> widen(const std::vector<uint16_t>& h, const Format& f) {
    std::vector<float> x(h.size());
    (f.bias == 15 ? GetParam()->f16_to_f32 : GetParam()->bf16_to_f32)(h.data(), x.data(), static_cast<int64_t>(h.size()));
    return x;
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, Convert, testing::ValuesIn(tables_under_test()), TableName());

std::vector<uint16_t> all_halves() {
  std::vector<uint16_t> h(1 << 16);
  for (size_t i = 0; i < h.size(); ++i) h[i] = static_cast<uint16_t>(i);
  return h;
}

TEST_P(Convert, EveryValueWidensExactlyAndComesBack) {
  for (const Format& f : {kF16, kBf16}) {
    const std::vector<uint16_t> h = all_halves(), back = narrow(widen(h, f), f);
    const std::vector<float> x = widen(h, f);
    for (size_t i = 0; i < h.size(); ++i) {
      const double want = value(h[i], f);
      if (std::isnan(want)) {
        ASSERT_TRUE(std::isnan(x[i])) << h[i];
        ASSERT_EQ(back[i], h[i] | 1 << (f.mantissa_bits - 1)) << "NaN stays, made quiet";
        continue;
      }
      ASSERT_EQ(x[i], want) << h[i];
      ASSERT_EQ(std::signbit(x[i]), std::signbit(want));
      ASSERT_EQ(back[i], h[i]);
    }
  }
}

// Each value, the midpoint to the next, and their neighbours in float.
TEST_P(Convert, EveryRoundingBoundary) {
  for (const Format& f : {kF16, kBf16}) {
    std::vector<float> x = {65519.99f, 65520, 65536, 1e30f, 3.4028235e38f, 1e-45f, 2.98e-8f, 0.0f, -0.0f};
    for (uint32_t h = 0; h < 0x7f80; h += f.bias == 15 ? 1 : 3) {
      const double a = value(static_cast<uint16_t>(h), f), b = value(static_cast<uint16_t>(h + 1), f);
      if (!std::isfinite(a) || !std::isfinite(b)) continue;
      for (const double d : {a, (a + b) / 2}) {
        const float v = static_cast<float>(d);
        for (const float w : {v, std::nextafterf(v, 0), std::nextafterf(v, INFINITY)}) x.push_back(w), x.push_back(-w);
      }
    }
    x.push_back(INFINITY), x.push_back(-INFINITY);
    const std::vector<uint16_t> h = narrow(x, f);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(h[i], nearest(x[i], f)) << x[i] << " bias " << f.bias;
  }
}

TEST_P(Convert, NanKeepsSignAndUpperPayload) {
  for (const uint32_t b : {0x7f800001u, 0x7fc00000u, 0xffc12345u, 0x7fffffffu, 0xff812000u}) {
    float x;
    std::memcpy(&x, &b, sizeof x);
    EXPECT_EQ(narrow({x}, kF16)[0], (b >> 16 & 0x8000) | 0x7e00 | (b >> 13 & 0x3ff));
    EXPECT_EQ(narrow({x}, kBf16)[0], b >> 16 | 0x40);
  }
}

TEST_P(Convert, EveryTailBetweenGuardPages) {
  for (size_t n = 0; n <= 50; ++n) {
    const Guarded<float> x(random_floats(n, 1)), y(n);
    const Guarded<uint16_t> h(n);
    const int64_t count = static_cast<int64_t>(n);
    GetParam()->f32_to_f16(x.data(), h.data(), count);
    GetParam()->f16_to_f32(h.data(), y.data(), count);
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(y[i], value(nearest(x[i], kF16), kF16)) << n;
    GetParam()->f32_to_bf16(x.data(), h.data(), count);
    GetParam()->bf16_to_f32(h.data(), y.data(), count);
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(y[i], value(nearest(x[i], kBf16), kBf16)) << n;
  }
}

class Transpose : public testing::TestWithParam<const KernelTable*> {};
INSTANTIATE_TEST_SUITE_P(Tables, Transpose, testing::ValuesIn(tables_under_test()), TableName());

TEST_P(Transpose, EveryShapeAndStride) {
  const auto check = [&](int64_t m, int64_t n, int64_t pad) {
    const int64_t ld_in = m + pad, ld_out = n + 2 * pad;
    // The last row ends at the guard page: nothing beyond its last element exists.
    const Guarded<float> in(random_floats(static_cast<size_t>((n - 1) * ld_in + m), 1));
    const Guarded<float> out(std::vector<float>(static_cast<size_t>((m - 1) * ld_out + n), 7));
    GetParam()->transpose_f32(in.data(), ld_in, out.data(), ld_out, m, n);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < (i == m - 1 ? n : ld_out); ++j)
        ASSERT_EQ(out[static_cast<size_t>(i * ld_out + j)], j < n ? in[static_cast<size_t>(j * ld_in + i)] : 7)
            << m << " x " << n;
  };
  for (int64_t m = 1; m <= 20; ++m)
    for (int64_t n = 1; n <= 20; ++n) check(m, n, m % 3);
  check(33, 70, 0), check(128, 96, 5), check(1, 100, 0), check(100, 1, 3);
}

}  // namespace
}  // namespace ocior
