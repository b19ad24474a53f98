// CPUID, XGETBV and the AMX permission. Plain code, compiled once with baseline flags.
#include "kernels/cpu.h"

#include <stdint.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace ocior {
namespace {

#if defined(__x86_64__)
struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d) == 0) return {};
  return r;
}

bool bit(uint32_t word, int index) { return ((word >> index) & 1) != 0; }

// XCR0: the register states that the operating system saves.
uint64_t saved_states() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}
#endif

}  // namespace

// Bits: Intel SDM vol. 2A, CPUID; XCR0 bits: vol. 1, 13.3.
CpuFeatures detect_cpu() {
  CpuFeatures features;
#if defined(__x86_64__)
  constexpr uint64_t kYmm = 0x6, kZmm = 0xe6, kTiles = 0x60000;
  const Registers base = cpuid(1, 0), wide = cpuid(7, 0), more = cpuid(7, 1);
  const bool osxsave = bit(base.c, 27);
  const uint64_t states = osxsave ? saved_states() : 0;
  const bool fma = bit(base.c, 12), f16c = bit(base.c, 29), avx = bit(base.c, 28);
  features.avx2 = (states & kYmm) == kYmm && avx && fma && f16c && bit(wide.b, 5) && bit(wide.b, 8);
  const bool f = bit(wide.b, 16), dq = bit(wide.b, 17), bw = bit(wide.b, 30), vl = bit(wide.b, 31);
  features.avx512 = features.avx2 && (states & kZmm) == kZmm && f && dq && bw && vl;
  const bool vnni = bit(wide.c, 11), amx_bf16 = bit(wide.d, 22), amx_tile = bit(wide.d, 24), avx512_bf16 = bit(more.a, 5);
  features.amx = features.avx512 && (states & kTiles) == kTiles && vnni && amx_bf16 && amx_tile && avx512_bf16;
#endif
  return features;
}

bool request_amx() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
#else
  return false;
#endif
}

}  // namespace ocior
