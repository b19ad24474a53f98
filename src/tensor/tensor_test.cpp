// Tests of tensors and their elements: counts that overflow, clones of strided views, and every code of every narrow type.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "tensor/tensor.h"

namespace ocior {
namespace {

TEST(ElementCount, RefusesNegativeAndOverflowingShapes) {
  EXPECT_EQ(*checked_element_count(Shape{}), 1);
  EXPECT_EQ(*checked_element_count(Shape{2, 3, 4}), 24);
  EXPECT_EQ(*checked_element_count(Shape{int64_t{1} << 40, 0, int64_t{1} << 40}), 0);
  constexpr int64_t kMost = int64_t{1} << 58;
  EXPECT_EQ(*checked_element_count(Shape{kMost}), kMost);
  EXPECT_FALSE(checked_element_count(Shape{kMost + 1}).ok());
  EXPECT_FALSE(checked_element_count(Shape{INT64_MAX}).ok());
  const auto negative = checked_element_count(Shape{2, -1});
  ASSERT_FALSE(negative.ok());
  EXPECT_NE(negative.status().message().find("[2, -1]"), std::string::npos);
  EXPECT_FALSE(checked_element_count(Shape{0, -1}).ok());
  EXPECT_FALSE(checked_element_count(Shape{int64_t{1} << 32, int64_t{1} << 31}).ok());
  EXPECT_FALSE(checked_element_count(Shape{INT64_MAX, 2}).ok());
}

TEST(TensorAllocate, RefusesWhatNoMachineHas) {
  EXPECT_FALSE(Tensor::allocate(DType::kFloat, {int64_t{1} << 59}).ok());
  EXPECT_FALSE(Tensor::allocate(DType::kComplex128, {int64_t{1} << 40, int64_t{1} << 40}).ok());
  EXPECT_FALSE(Tensor::allocate(DType::kFloat, {-3}).ok());
}

TEST(ByteCount, PacksNarrowTypes) {
  EXPECT_EQ(byte_count(DType::kInt4, 3), 2u);
  EXPECT_EQ(byte_count(DType::kUint2, 5), 2u);
  EXPECT_EQ(byte_count(DType::kUint2, 4), 1u);
  EXPECT_EQ(byte_count(DType::kFloat16, 3), 6u);
  EXPECT_EQ(byte_count(DType::kComplex128, 2), 32u);
}

TEST(TensorClone, GathersStrides) {
  const Tensor x = Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor transposed(DType::kFloat, {3, 2}, x.buffer(), 0, {1, 3});
  const auto y = transposed.clone();
  ASSERT_TRUE(y.ok());
  EXPECT_TRUE(y->dense());
  EXPECT_EQ(std::vector<float>(y->as<float>(), y->as<float>() + 6), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  const Tensor repeated(DType::kFloat, {2, 2}, x.buffer(), 2 * sizeof(float), {0, 1});
  const auto z = repeated.clone();
  ASSERT_TRUE(z.ok());
  EXPECT_EQ(std::vector<float>(z->as<float>(), z->as<float>() + 4), (std::vector<float>{3, 4, 3, 4}));
  const Tensor empty(DType::kFloat, {0, 5}, x.buffer(), 0, {1, 1});
  ASSERT_TRUE(empty.clone().ok());
}

TEST(TensorClone, OwnsItsBytesAndRefusesPackedStrides) {
  const Tensor x = Tensor::of<int64_t>({2}, {1, 2});
  Tensor y = *x.clone();
  y.as<int64_t>()[0] = 9;
  EXPECT_EQ(x.as<int64_t>()[0], 1);
  const Tensor nibbles(DType::kInt4, {2, 2}, x.buffer(), 0, {1, 2});
  EXPECT_FALSE(nibbles.clone().ok());
  Tensor strings = *Tensor::allocate(DType::kString, {2});
  strings.as<std::string>()[1] = "a string that is longer than the small buffer";
  const Tensor copy = *strings.clone();
  EXPECT_EQ(copy.as<std::string>()[1], strings.as<std::string>()[1]);
  EXPECT_NE(copy.as<std::string>(), strings.as<std::string>());
}

// IEEE 754 binary16 by its definition.
double half_by_definition(unsigned code) {
  const int exponent = code >> 10 & 31, mantissa = code & 1023;
  const double sign = code & 0x8000 ? -1 : 1;
  if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
  return sign * (exponent ? std::ldexp(1 + mantissa / 1024.0, exponent - 15) : std::ldexp(mantissa / 1024.0, -14));
}

double bfloat16_by_definition(unsigned code) {
  const int exponent = code >> 7 & 255, mantissa = code & 127;
  const double sign = code & 0x8000 ? -1 : 1;
  if (exponent == 255) return mantissa ? NAN : sign * INFINITY;
  return sign * (exponent ? std::ldexp(1 + mantissa / 128.0, exponent - 127) : std::ldexp(mantissa / 128.0, -126));
}

std::vector<double> table(DType type) {
  std::vector<double> out;
  if (type == DType::kFloat16 || type == DType::kBFloat16) {
    for (unsigned code = 0; code < 65536; ++code)
      out.push_back(type == DType::kFloat16 ? half_by_definition(code) : bfloat16_by_definition(code));
    return out;
  }
  std::ifstream in(OCIOR_SOURCE_DIR "/tests/data/dtypes/small_floats.txt");
  std::string line, word;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    words >> word;
    if (word != name_of(type)) continue;
    while (words >> word) out.push_back(std::strtod(word.c_str(), nullptr));
  }
  return out;
}

// Reads the code back from memory in which element 1 has neighbours.
struct Cell {
  DType type;
  uint8_t bytes[8] = {0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5};

  double decoded(unsigned code) {
    if (bits_of(type) == 16) {
      const auto two = static_cast<uint16_t>(code);
      std::memcpy(bytes + 2, &two, 2);
    } else if (bits_of(type) == 8) {
      bytes[1] = static_cast<uint8_t>(code);
    } else {
      bytes[0] = static_cast<uint8_t>(code << 4 | 0x5);
    }
    return get_double(type, bytes, 1);
  }
  unsigned encoded(double value) {
    set_double(type, bytes, 1, value);
    if (bits_of(type) == 16) {
      uint16_t two;
      std::memcpy(&two, bytes + 2, 2);
      return two;
    }
    return bits_of(type) == 8 ? bytes[1] : bytes[0] >> 4;
  }
};

class NarrowFloat : public testing::TestWithParam<DType> {};

TEST_P(NarrowFloat, EveryCodeDecodesAndComesBack) {
  Cell cell{GetParam()};
  const std::vector<double> values = table(GetParam());
  ASSERT_EQ(values.size(), size_t{1} << bits_of(GetParam()));
  for (unsigned code = 0; code < values.size(); ++code) {
    const double got = cell.decoded(code);
    if (std::isnan(values[code])) {
      EXPECT_TRUE(std::isnan(got)) << code;
      EXPECT_TRUE(std::isnan(cell.decoded(cell.encoded(NAN)))) << code;
      continue;
    }
    EXPECT_EQ(got, values[code]) << code;
    EXPECT_EQ(std::signbit(got), std::signbit(values[code])) << code;
    if (bits_of(GetParam()) < 16 && std::isinf(values[code])) continue;  // saturates
    EXPECT_EQ(cell.encoded(values[code]), code) << values[code];
  }
}

// Half-way values go to the even code, the doubles next to them to the nearer one; all adjacent pairs.
TEST_P(NarrowFloat, RoundsToNearestEven) {
  if (GetParam() == DType::kFloat8E8M0) GTEST_SKIP() << "powers of two round in the logarithm";
  Cell cell{GetParam()};
  std::map<double, unsigned> codes;
  const std::vector<double> values = table(GetParam());
  for (unsigned code = 0; code < values.size(); ++code)
    if (std::isfinite(values[code]) && !(values[code] == 0 && std::signbit(values[code]))) codes[values[code]] = code;
  for (auto low = codes.begin(), high = std::next(low); high != codes.end(); ++low, ++high) {
    const double middle = low->first / 2 + high->first / 2;
    const double tied = values[low->second % 2 == 0 ? low->second : high->second];
    ASSERT_EQ(values[cell.encoded(middle)], tied) << "between " << low->first << " and " << high->first;
    ASSERT_EQ(values[cell.encoded(std::nextafter(middle, low->first))], low->first) << "below " << middle;
    ASSERT_EQ(values[cell.encoded(std::nextafter(middle, high->first))], high->first) << "above " << middle;
  }
}

TEST_P(NarrowFloat, LeavesItsNeighboursAlone) {
  Cell cell{GetParam()};
  Cell before = cell;
  cell.encoded(1.0);
  if (bits_of(GetParam()) == 4) {
    EXPECT_EQ(cell.bytes[0] & 15, before.bytes[0] & 15);
    EXPECT_EQ(cell.bytes[1], before.bytes[1]);
  } else {
    EXPECT_EQ(cell.bytes[0], before.bytes[0]);
    EXPECT_EQ(cell.bytes[bits_of(GetParam()) / 4], before.bytes[bits_of(GetParam()) / 4]);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, NarrowFloat,
                         testing::Values(DType::kFloat16, DType::kBFloat16, DType::kFloat8E4M3FN, DType::kFloat8E4M3FNUZ,
                                         DType::kFloat8E5M2, DType::kFloat8E5M2FNUZ, DType::kFloat8E8M0, DType::kFloat4E2M1),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST(NarrowFloats, SaturateWhereThereIsNoInfinity) {
  const auto round_trip = [](DType t, double v) {
    Cell cell{t};
    return cell.decoded(cell.encoded(v));
  };
  EXPECT_EQ(round_trip(DType::kFloat8E4M3FN, 1e9), 448);
  EXPECT_EQ(round_trip(DType::kFloat8E4M3FNUZ, -1e9), -240);
  EXPECT_EQ(round_trip(DType::kFloat8E5M2, 1e9), 57344);
  EXPECT_EQ(round_trip(DType::kFloat8E5M2FNUZ, 1e9), 57344);
  EXPECT_EQ(round_trip(DType::kFloat4E2M1, -100), -6);
  EXPECT_EQ(round_trip(DType::kFloat16, 65520), INFINITY);
  EXPECT_EQ(round_trip(DType::kFloat16, 65519.9), 65504);
  EXPECT_EQ(round_trip(DType::kBFloat16, 1e300), INFINITY);
  EXPECT_EQ(round_trip(DType::kFloat16, -1e-300), 0);
}

TEST(HalfConversions, AgreeWithDoublesOnEveryCode) {
  for (unsigned code = 0; code < 65536; ++code) {
    const double h = half_by_definition(code), b = bfloat16_by_definition(code);
    const auto bits = static_cast<uint16_t>(code);
    ASSERT_TRUE(std::isnan(h) ? std::isnan(half_to_float(bits)) : half_to_float(bits) == h) << code;
    ASSERT_TRUE(std::isnan(b) ? std::isnan(bfloat16_to_float(bits)) : bfloat16_to_float(bits) == b) << code;
    ASSERT_TRUE(std::isnan(h) || float_to_half(static_cast<float>(h)) == code) << code;
    ASSERT_TRUE(std::isnan(b) || float_to_bfloat16(static_cast<float>(b)) == code) << code;
  }
}

// Packed integers: element i of a byte lies at bit i * width (onnx.proto, TensorProto.raw_data).
TEST(PackedIntegers, EveryByteReadsAndWrites) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto b = static_cast<uint8_t>(byte);
    for (int i = 0; i < 2; ++i) {
      const int nibble = byte >> (4 * i) & 15;
      EXPECT_EQ(get_int(DType::kUint4, &b, i), nibble);
      EXPECT_EQ(get_int(DType::kInt4, &b, i), nibble < 8 ? nibble : nibble - 16);
      EXPECT_EQ(get_double(DType::kInt4, &b, i), nibble < 8 ? nibble : nibble - 16);
      uint8_t changed = b;
      set_int(DType::kInt4, &changed, i, get_int(DType::kInt4, &b, i));
      EXPECT_EQ(changed, b);
      set_int(DType::kUint4, &changed, i, 15 - nibble);
      EXPECT_EQ(changed ^ b, 15 << (4 * i));
    }
    for (int i = 0; i < 4; ++i) {
      const int crumb = byte >> (2 * i) & 3;
      EXPECT_EQ(get_int(DType::kUint2, &b, i), crumb);
      EXPECT_EQ(get_int(DType::kInt2, &b, i), crumb < 2 ? crumb : crumb - 4);
      uint8_t changed = b;
      set_int(DType::kUint2, &changed, i, 3 - crumb);
      EXPECT_EQ(changed ^ b, 3 << (2 * i));
    }
  }
}

TEST(Integers, DoublesSaturate) {
  int64_t i64 = 1;
  uint64_t u64 = 1;
  set_double(DType::kInt64, &i64, 0, 1e300);
  EXPECT_EQ(i64, INT64_MAX);
  set_double(DType::kInt64, &i64, 0, -1e300);
  EXPECT_EQ(i64, INT64_MIN);
  set_double(DType::kInt64, &i64, 0, NAN);
  EXPECT_EQ(i64, 0);
  set_double(DType::kUint64, &u64, 0, 1e300);
  EXPECT_EQ(u64, UINT64_MAX);
  set_double(DType::kUint64, &u64, 0, 18446744073709549568.0);
  EXPECT_EQ(u64, 18446744073709549568u);
  EXPECT_EQ(get_double(DType::kUint64, &u64, 0), 18446744073709549568.0);
}

TEST(DTypes, NamesAreInverse) {
  for (int t = 1; t < kDTypeCount; ++t) EXPECT_EQ(dtype_of(name_of(static_cast<DType>(t))), static_cast<DType>(t));
  EXPECT_EQ(dtype_of("float128"), DType::kUndefined);
  EXPECT_EQ(name_of(static_cast<DType>(99)), "undefined");
}

}  // namespace
}  // namespace ocior
