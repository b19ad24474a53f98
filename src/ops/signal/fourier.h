// The discrete Fourier transform of one length, in double, for DFT and STFT: mixed radix where the length has small prime factors
// only, else by convolution (Bluestein), so that no length takes quadratic time. A plan is immutable; runs use their own memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace ocior::ops {

struct ComplexNumber {  // std::complex multiplies with a check for NaN, at twice the time
  double re = 0, im = 0;
};

class Fourier {
 public:
  explicit Fourier(int64_t length);  // length >= 1

  int64_t length() const { return length_; }
  int64_t work() const { return work_; }  // elements of working memory for one transform
  // x[length] becomes its transform with exp(-2 pi i k n / length), or with the other sign when `inverse`; nothing is scaled.
  void run(ComplexNumber* x, ComplexNumber* work, bool inverse) const;

 private:
  void mixed_radix(ComplexNumber* x, ComplexNumber* work) const;
  void convolve(ComplexNumber* x, ComplexNumber* work) const;

  int64_t length_, work_;
  std::vector<int64_t> radices_;         // their product is the length; empty: by convolution, or length 1
  std::vector<ComplexNumber> roots_;     // exp(-2 pi i k / length)
  std::shared_ptr<const Fourier> wide_;  // of the convolution
  std::vector<ComplexNumber> chirp_;     // exp(-pi i k^2 / length)
  std::vector<ComplexNumber> filter_;    // the transform of the conjugate chirp, over the convolution's length
};

}  // namespace ocior::ops
