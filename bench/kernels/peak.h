// The speed limits of the running core, measured in this process just before the kernels are. Single-threaded.
#pragma once

#include "kernels/table.h"

namespace ocior::bench {

// CPU seconds of the calling thread: time that another program had the core does not count.
double thread_seconds();

// Multiply-adds of a table's widest unit in GFLOP/s (2 per multiply-add): fp32, or bf16 tiles for `tiles` (amx only).
double peak_gflops(const char* isa, bool tiles);

// GB/s of reading `bytes` bytes again and again with one core.
double read_gbps(const float* data, size_t bytes);

}  // namespace ocior::bench
