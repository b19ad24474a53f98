// What this processor and this operating system let us run. Plain code (compiled once, baseline flags); used by table_select.cpp.
// Thread-safe; the answers never change within a process.
#pragma once

namespace ocior {

// Instruction sets that both the processor has and the operating system saves on a task switch.
struct CpuFeatures {
  bool avx2 = false;    // AVX2, FMA, F16C, BMI2
  bool avx512 = false;  // and AVX-512 F, BW, DQ, VL
  bool amx = false;     // and AMX-TILE, AMX-BF16, AVX512_BF16, AVX512_VNNI; the tile data still needs request_amx()
};

// Features of the running processor (CPUID and XGETBV); all false on other architectures.
CpuFeatures detect_cpu();

// Asks the kernel for the use of AMX tile data by this process (arch_prctl ARCH_REQ_XCOMP_PERM), once; the answer is remembered.
// False where the kernel is too old, a seccomp filter forbids it or a thread's alternate signal stack is too small for the state.
bool request_amx();

}  // namespace ocior
