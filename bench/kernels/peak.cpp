// Peaks by inline assembly, so that this file needs no special flags and the compiler cannot change what is measured.
#include "peak.h"

#include <stdint.h>
#include <string.h>
#include <time.h>

#include <algorithm>

namespace ocior::bench {
namespace {

constexpr int64_t kRounds = 100000;  // below a millisecond: short enough to be taken between the runs of a kernel

#if defined(__x86_64__)
#define TEN(op, reg)                                                                                                           \
  op " %%" reg "10, %%" reg "11, %%" reg "0\n" op " %%" reg "10, %%" reg "11, %%" reg "1\n" op " %%" reg "10, %%" reg          \
     "11, %%" reg "2\n" op " %%" reg "10, %%" reg "11, %%" reg "3\n" op " %%" reg "10, %%" reg "11, %%" reg "4\n" op " %%" reg \
     "10, %%" reg "11, %%" reg "5\n" op " %%" reg "10, %%" reg "11, %%" reg "6\n" op " %%" reg "10, %%" reg "11, %%" reg       \
     "7\n" op " %%" reg "10, %%" reg "11, %%" reg "8\n" op " %%" reg "10, %%" reg "11, %%" reg "9\n"
#define CLOBBERS                                                                                                               \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", \
      "xmm15", "cc"

// Each runs `rounds` times ten independent operations and gives the number of floating-point operations.
double run_avx2(int64_t rounds) {
  double flops = static_cast<double>(rounds) * 10 * 16;
  __asm__ volatile("vzeroall\n1:\n" TEN("vfmadd213ps", "ymm") "dec %0\njnz 1b\nvzeroupper" : "+r"(rounds)::CLOBBERS);
  return flops;
}
double run_avx512(int64_t rounds) {
  double flops = static_cast<double>(rounds) * 10 * 32;
  __asm__ volatile("vzeroall\n1:\n" TEN("vfmadd213ps", "zmm") "dec %0\njnz 1b\nvzeroupper" : "+r"(rounds)::CLOBBERS);
  return flops;
}
// Multiplications and additions alternate, as a product without fused multiply-add does.
double run_generic(int64_t rounds) {
  double flops = static_cast<double>(rounds) * 10 * 4;
#define PAIR(a, b) "mulps %%xmm10, %%xmm" #a "\naddps %%xmm11, %%xmm" #b "\n"
  __asm__ volatile("xorps %%xmm10, %%xmm10\nxorps %%xmm11, %%xmm11\n1:\n" PAIR(0, 1) PAIR(2, 3) PAIR(4, 5) PAIR(6, 7)
                       PAIR(8, 9) "dec %0\njnz 1b"
                   : "+r"(rounds)::CLOBBERS);
  return flops;
}
struct __attribute__((packed)) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};
double run_tiles(int64_t rounds) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) config.bytes[i] = 64, config.rows[i] = 16;
  const double flops = static_cast<double>(rounds) * 4 * 16 * 16 * 32 * 2;
  __asm__ volatile(
      "ldtilecfg %1\n1:\ntdpbf16ps %%tmm7, %%tmm6, %%tmm0\ntdpbf16ps %%tmm7, %%tmm6, %%tmm1\ntdpbf16ps %%tmm7, %%tmm6, %%tmm2\n"
      "tdpbf16ps %%tmm7, %%tmm6, %%tmm3\ndec %0\njnz 1b\ntilerelease"
      : "+r"(rounds)
      : "m"(config)
      : "cc");
  return flops;
}
#else
double run_generic(int64_t) { return 0; }
#endif

}  // namespace

double thread_seconds() {
  timespec t = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double peak_gflops(const char* isa, bool tiles) {
  auto run = run_generic;
#if defined(__x86_64__)
  if (strcmp(isa, "avx2") == 0) run = run_avx2;
  if (strcmp(isa, "avx512") == 0 || strcmp(isa, "amx") == 0) run = run_avx512;
  if (tiles) run = run_tiles;
#endif
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double start = thread_seconds(), flops = run(tiles ? kRounds / 16 : kRounds);
    best = std::max(best, flops / (thread_seconds() - start) * 1e-9);
  }
  return best;
}

double read_gbps(const float* data, size_t bytes) {
  double best = 0;
  for (int i = 0; i < 3; ++i) {
    const double start = thread_seconds();
    typedef float Vector __attribute__((vector_size(16)));
    Vector sum[8] = {};
    const Vector* p = reinterpret_cast<const Vector*>(data);
    for (size_t j = 0; j + 8 <= bytes / sizeof(Vector); j += 8)
      for (int s = 0; s < 8; ++s) sum[s] += p[j + s];
    for (int s = 1; s < 8; ++s) sum[0] += sum[s];
    __asm__ volatile("" ::"m"(sum[0]));
    best = std::max(best, static_cast<double>(bytes) / (thread_seconds() - start) * 1e-9);
  }
  return best;
}

}  // namespace ocior::bench
