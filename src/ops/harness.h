// Runs one operator by its CPU path, as the executor would: prepare, pack, scratch, run. For tests, the fuzzer and benchmarks;
// the engine itself does not use it. Thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/pool.h"
#include "ops/operator.h"

namespace ocior::ops {

struct CpuOptions {
  const KernelTable* kernels = nullptr;  // null: the process's table
  Precision precision = Precision::kHighest;
  int threads = 1;
  std::vector<bool> constants = {};  // input i is fixed at load; shorter: the rest is not
  int in_place = -1;                 // output 0 is written over a copy of this input
  bool hide_values = false;          // infer sees no values: outputs are sized by the run wherever values decide
};

// Infers, prepares and runs `op`; an operator without run() fails with kNotImplemented.
Result<std::vector<Tensor>> run_cpu(const AnyOperator& op, std::span<const Tensor* const> inputs, int outputs,
                                    const CpuOptions& options = {});

// The inputs of a sample, filled from `seed`; omitted ones are undefined tensors.
Result<std::vector<Tensor>> make_inputs(const Sample& sample, uint64_t seed);
// Makes the operator of a sample.
Result<std::shared_ptr<const AnyOperator>> make_sample(const OpEntry& entry, const Sample& sample);
// Pointers to tensors; null for undefined ones.
std::vector<const Tensor*> pointers(const std::vector<Tensor>& tensors);

// Empty when `got` is `want`: equal shapes and types; integers, bools and strings equal; floats of the same class (NaN, infinity
// with its sign) and within tolerance times the largest finite |want|, or one unit of the last place of a narrow type. Else what
// differs first.
std::string difference(const Tensor& want, const Tensor& got, double tolerance);

}  // namespace ocior::ops
