// Memory whose neighbours may not be touched, and the error measures of the kernel tests. For *_test.cpp of this folder.
#pragma once

#include <math.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <vector>

namespace ocior {

// n values between two inaccessible pages: the last one (or the first, `at_start`) touches its page, so an access out of bounds
// on that side ends the test.
template <class T>
class Guarded {
 public:
  explicit Guarded(size_t n, bool at_start = false) : n_(n) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), body = (n * sizeof(T) + page - 1) / page * page;
    bytes_ = body + 2 * page;
    base_ = static_cast<char*>(mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || (body != 0 && mprotect(base_ + page, body, PROT_READ | PROT_WRITE) != 0)) throw std::bad_alloc();
    data_ = reinterpret_cast<T*>(at_start ? base_ + page : base_ + page + body - n * sizeof(T));
  }
  explicit Guarded(const std::vector<T>& values, bool at_start = false) : Guarded(values.size(), at_start) {
    std::copy(values.begin(), values.end(), data_);
  }
  ~Guarded() { munmap(base_, bytes_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() const { return data_; }
  size_t size() const { return n_; }
  T& operator[](size_t i) const { return data_[i]; }
  std::vector<T> values() const { return std::vector<T>(data_, data_ + n_); }

 private:
  size_t n_, bytes_ = 0;
  char* base_ = nullptr;
  T* data_ = nullptr;
};

// `got` is `want` rounded to float, give or take: in units of the last place of `want`. 0 for NaN where NaN is due; infinite
// where the class (NaN, infinity) is wrong.
inline double ulps(float got, double want) {
  const double wrong = std::numeric_limits<double>::infinity();
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got) ? 0 : wrong;
  const float nearest = static_cast<float>(want);
  if (std::isinf(nearest) || std::isinf(got)) return nearest == got ? 0 : wrong;
  int exponent = 0;
  std::frexp(want, &exponent);
  return std::fabs(got - want) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

inline std::vector<float> random_floats(size_t n, uint32_t seed, float low = -1, float high = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> draw(low, high);
  std::vector<float> x(n);
  for (float& v : x) v = draw(random);
  return x;
}

// Same bits, NaN included.
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace ocior
