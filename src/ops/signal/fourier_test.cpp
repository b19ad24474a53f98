// The Fourier transform against its definition, the signal operators' errors.
#include "ops/signal/fourier.h"

#include <cmath>
#include <limits>
#include <numbers>

#include "ops/test_call.h"

namespace ocior::ops {
namespace {

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max(), kLeast = std::numeric_limits<int64_t>::min();

void check(int64_t n, bool inverse) {
  std::vector<ComplexNumber> x(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    x[static_cast<size_t>(i)] = {std::sin(3.7 * static_cast<double>(i) + 1), std::cos(0.9 * static_cast<double>(i * i % 97))};
  std::vector<ComplexNumber> want(x.size());
  for (int64_t k = 0; k < n; ++k)
    for (int64_t i = 0; i < n; ++i) {
      const double angle = (inverse ? 2 : -2) * std::numbers::pi * static_cast<double>(k * i % n) / static_cast<double>(n);
      const auto& v = x[static_cast<size_t>(i)];
      want[static_cast<size_t>(k)].re += v.re * std::cos(angle) - v.im * std::sin(angle);
      want[static_cast<size_t>(k)].im += v.re * std::sin(angle) + v.im * std::cos(angle);
    }
  const Fourier plan(n);
  std::vector<ComplexNumber> work(static_cast<size_t>(plan.work()));
  plan.run(x.data(), work.data(), inverse);
  for (size_t k = 0; k < x.size(); ++k) {
    EXPECT_NEAR(x[k].re, want[k].re, 1e-11 * static_cast<double>(n)) << n << " at " << k;
    EXPECT_NEAR(x[k].im, want[k].im, 1e-11 * static_cast<double>(n)) << n << " at " << k;
  }
}

TEST(Fourier, IsItsDefinition) {
  for (int64_t n = 1; n <= 70; ++n) check(n, false), check(n, true);
  for (const int64_t n : {128, 169, 210, 251, 289, 400, 509, 512, 1009, 1024}) check(n, false), check(n, true);
}

TEST(Fourier, LongPrimesAreFast) {
  const Fourier plan(1000003);  // by the definition: 10^12 products
  std::vector<ComplexNumber> x(1000003, ComplexNumber{1, 0}), work(static_cast<size_t>(plan.work()));
  plan.run(x.data(), work.data(), false);
  EXPECT_NEAR(x[0].re, 1000003, 1e-3);
  EXPECT_NEAR(x[12345].re, 0, 1e-3);
}

Tensor floats(Shape shape) {
  const auto n = static_cast<size_t>(element_count(shape));
  return tensor_of<float>(std::move(shape), std::vector<float>(n, 1));
}
Tensor number(int64_t v) { return tensor_of<int64_t>({}, {v}); }

TEST(Dft, WrongLengthsAxesAndShapesAreErrors) {
  for (const int64_t length : {int64_t{0}, int64_t{-1}, kHuge, kLeast}) failure("DFT", {}, {floats({1, 8, 1}), number(length)});
  for (const int64_t axis : {int64_t{2}, int64_t{-1}, int64_t{3}, int64_t{-4}, kLeast}) {
    failure("DFT", {}, {floats({1, 8, 1}), number(8), number(axis)});
    failure("DFT", {{"axis", axis}}, {floats({1, 8, 1})}, 1, 17);
  }
  failure("DFT", {}, {floats({1, 8, 3})});
  failure("DFT", {}, {floats({8})});
  failure("DFT", {{"onesided", int64_t{1}}}, {floats({1, 8, 2})});
  failure("DFT", {{"onesided", int64_t{1}}, {"inverse", int64_t{1}}}, {floats({1, 8, 1})});
  failure("DFT", {{"onesided", int64_t{1}}, {"inverse", int64_t{1}}}, {floats({1, 1, 2})});  // of length 0 by default
  failure("DFT", {}, {floats({2, 0, 1})});
  failure("DFT", {}, {floats({1, 8, 1}), tensor_of<int64_t>({2}, {8, 8})});
  EXPECT_TRUE(call("DFT", {}, {floats({0, 8, 1}), number(int64_t{1} << 40)}).ok());  // no rows: nothing is made
}

TEST(Stft, WrongStepsLengthsAndWindowsAreErrors) {
  const Tensor none;
  for (const int64_t step : {int64_t{0}, int64_t{-1}, kLeast})
    failure("STFT", {}, {floats({1, 8, 1}), number(step), none, number(4)});
  for (const int64_t length : {int64_t{0}, int64_t{-1}, int64_t{9}, kHuge})
    failure("STFT", {}, {floats({1, 8, 1}), number(2), none, number(length)});
  failure("STFT", {}, {floats({1, 8, 1}), number(2), floats({4}), number(5)});
  failure("STFT", {}, {floats({1, 8, 1}), number(2), floats({9})});
  failure("STFT", {}, {floats({1, 8, 2}), number(2), floats({4})});
  failure("STFT", {}, {floats({8, 1}), number(2), floats({4})});
  EXPECT_TRUE(call("STFT", {}, {floats({1, 8, 1}), number(kHuge), floats({4})}).ok());
}

TEST(Windows, WrongSizesAreErrors) {
  for (const char* name : {"HannWindow", "HammingWindow", "BlackmanWindow"}) {
    for (const int64_t size : {int64_t{-1}, kHuge, kLeast}) failure(name, {}, {number(size)});
    for (const int64_t type : {int64_t{0}, int64_t{8}, int64_t{9}, int64_t{14}, kHuge, kLeast})
      failure(name, {{"output_datatype", type}}, {number(4)});
  }
  const Tensor low = tensor_of<float>({}, {0}), high = tensor_of<float>({}, {4000}), beyond = tensor_of<float>({}, {1e9f}),
               nan = tensor_of<float>({}, {std::nanf("")});
  for (const int64_t wrong : {int64_t{-1}, kHuge, kLeast}) {
    failure("MelWeightMatrix", {}, {number(wrong), number(16), number(8000), low, high});
    failure("MelWeightMatrix", {}, {number(4), number(wrong), number(8000), low, high});
  }
  failure("MelWeightMatrix", {}, {number(4), number(16), number(0), low, high});
  failure("MelWeightMatrix", {}, {number(4), number(16), number(8000), low, beyond});
  failure("MelWeightMatrix", {}, {number(4), number(16), number(8000), nan, high});
  EXPECT_TRUE(call("MelWeightMatrix", {}, {number(4), number(16), number(8000), high, low}).ok());
}

}  // namespace
}  // namespace ocior::ops
