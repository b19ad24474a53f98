// Memory whose neighbours may not be touched, and the error measures of the kernel tests. For *_test.cpp of this folder.
#pragma once

#include <math.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <new>
#include <random>
#include <vector>

namespace ocior {

// Guarded stretches that are free again, by size: tests take thousands, and the system is slow to make them.
inline std::vector<void*>& spare_pages(size_t bytes) {
  static std::map<size_t, std::vector<void*>> spare;
  return spare[bytes];
}

// `bytes` bytes whose first and last pages are inaccessible. The content is arbitrary.
inline void* take_pages(size_t bytes, size_t page) {
  std::vector<void*>& spare = spare_pages(bytes);
  if (!spare.empty()) {
    void* pages = spare.back();
    spare.pop_back();
    return pages;
  }
  void* pages = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const size_t body = bytes - 2 * page;
  if (pages == MAP_FAILED || (body != 0 && mprotect(static_cast<char*>(pages) + page, body, PROT_READ | PROT_WRITE) != 0))
    throw std::bad_alloc();
  return pages;
}

// n values between two inaccessible pages: the last one (or the first, `at_start`) touches its page, so an access out of bounds
// on that side ends the test.
template <class T>
class Guarded {
 public:
  explicit Guarded(size_t n, bool at_start = false) : n_(n) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    bytes_ = (n * sizeof(T) + page - 1) / page * page + 2 * page;
    base_ = static_cast<char*>(take_pages(bytes_, page));
    data_ = reinterpret_cast<T*>(at_start ? base_ + page : base_ + bytes_ - page - n * sizeof(T));
  }
  explicit Guarded(const std::vector<T>& values, bool at_start = false) : Guarded(values.size(), at_start) {
    std::copy(values.begin(), values.end(), data_);
  }
  ~Guarded() { spare_pages(bytes_).push_back(base_); }
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
