#include "ops/signal/fourier.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

namespace ocior::ops {
namespace {

constexpr int64_t kLargestRadix = 13;

ComplexNumber operator+(ComplexNumber a, ComplexNumber b) { return {a.re + b.re, a.im + b.im}; }
ComplexNumber operator-(ComplexNumber a, ComplexNumber b) { return {a.re - b.re, a.im - b.im}; }
ComplexNumber operator*(ComplexNumber a, ComplexNumber b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }

// exp(-2 pi i k / n) for k in [0, n).
ComplexNumber root(int64_t k, int64_t n) {
  const double angle = -2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n);
  return {std::cos(angle), std::sin(angle)};
}

// The radices of a length, 4 first; nothing when a prime factor is too large.
std::vector<int64_t> radices_of(int64_t n) {
  std::vector<int64_t> out;
  for (; n % 4 == 0; n /= 4) out.push_back(4);
  for (int64_t r = 2; r <= kLargestRadix; ++r)
    for (; n % r == 0; n /= r) out.push_back(r);
  if (n > 1) out.clear();
  return out;
}

// One pass of the self-sorting transform: n = radix * m, `stride` transforms side by side; y gets the radix * stride ones of m.
// roots has n * stride entries.
void pass4(const ComplexNumber* x, ComplexNumber* y, int64_t m, int64_t stride, const ComplexNumber* roots) {
  for (int64_t p = 0; p < m; ++p) {
    const ComplexNumber w1 = roots[p * stride], w2 = w1 * w1, w3 = w2 * w1;
    for (int64_t q = 0; q < stride; ++q) {
      const ComplexNumber a = x[q + stride * p], b = x[q + stride * (p + m)];
      const ComplexNumber c = x[q + stride * (p + 2 * m)], d = x[q + stride * (p + 3 * m)];
      const ComplexNumber s = a + c, t = a - c, u = b + d, v = {b.im - d.im, d.re - b.re};  // v = -i (b - d)
      ComplexNumber* out = y + q + stride * 4 * p;
      out[0] = s + u;
      out[stride] = (t + v) * w1;
      out[2 * stride] = (s - u) * w2;
      out[3 * stride] = (t - v) * w3;
    }
  }
}

void pass(const ComplexNumber* x, ComplexNumber* y, int64_t radix, int64_t m, int64_t stride, const ComplexNumber* roots) {
  const int64_t n = radix * m * stride;
  ComplexNumber own[kLargestRadix];
  for (int64_t k = 0; k < radix; ++k) own[k] = roots[k * (n / radix)];
  for (int64_t p = 0; p < m; ++p)
    for (int64_t q = 0; q < stride; ++q)
      for (int64_t k = 0; k < radix; ++k) {
        ComplexNumber sum = x[q + stride * p];
        for (int64_t j = 1, turn = k; j < radix; ++j, turn = (turn + k) % radix)
          sum = sum + x[q + stride * (p + m * j)] * own[turn];
        y[q + stride * (radix * p + k)] = sum * roots[p * k * stride];
      }
}

}  // namespace

Fourier::Fourier(int64_t length) : length_(length), work_(length), radices_(radices_of(length)) {
  if (length == 1) return;
  if (!radices_.empty()) {
    roots_.resize(static_cast<size_t>(length));
    for (int64_t k = 0; k < length; ++k) roots_[static_cast<size_t>(k)] = root(k, length);
    return;
  }
  wide_ = std::make_shared<const Fourier>(static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(2 * length - 1))));
  work_ = 2 * wide_->length();
  chirp_.resize(static_cast<size_t>(length));
  filter_.resize(static_cast<size_t>(wide_->length()));
  for (int64_t k = 0, square = 0; k < length; ++k) {  // square: k * k modulo 2 * length
    const ComplexNumber c = root(square, 2 * length);
    chirp_[static_cast<size_t>(k)] = c;
    filter_[static_cast<size_t>(k)] = filter_[static_cast<size_t>(k ? wide_->length() - k : 0)] = {c.re, -c.im};
    square = (square + 2 * k + 1) % (2 * length);
  }
  std::vector<ComplexNumber> work(static_cast<size_t>(wide_->work()));
  wide_->run(filter_.data(), work.data(), false);
}

void Fourier::run(ComplexNumber* x, ComplexNumber* work, bool inverse) const {
  if (length_ == 1) return;
  const auto conjugate = [&] {
    for (int64_t i = 0; inverse && i < length_; ++i) x[i].im = -x[i].im;
  };
  conjugate();
  if (wide_) convolve(x, work);
  else mixed_radix(x, work);
  conjugate();
}

void Fourier::mixed_radix(ComplexNumber* x, ComplexNumber* work) const {
  ComplexNumber *from = x, *to = work;
  int64_t stride = 1, n = length_;
  for (const int64_t radix : radices_) {
    const int64_t m = n / radix;
    if (radix == 4) pass4(from, to, m, stride, roots_.data());
    else pass(from, to, radix, m, stride, roots_.data());
    std::swap(from, to);
    stride *= radix, n = m;
  }
  if (from != x) std::copy_n(from, length_, x);
}

void Fourier::convolve(ComplexNumber* x, ComplexNumber* work) const {
  const int64_t wide = wide_->length();
  std::fill_n(work, wide, ComplexNumber{});
  for (int64_t k = 0; k < length_; ++k) work[k] = x[k] * chirp_[static_cast<size_t>(k)];
  wide_->run(work, work + wide, false);
  for (int64_t k = 0; k < wide; ++k) work[k] = work[k] * filter_[static_cast<size_t>(k)];
  wide_->run(work, work + wide, true);
  const double scale = 1 / static_cast<double>(wide);
  for (int64_t k = 0; k < length_; ++k) {
    const ComplexNumber v = work[k] * chirp_[static_cast<size_t>(k)];
    x[k] = {v.re * scale, v.im * scale};
  }
}

}  // namespace ocior::ops
