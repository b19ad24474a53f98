// How the CPU's attention kernel is driven: masks that only say which keys are padding become key lengths, others go in with
// strides; tasks are spread over the run's workers. Internal to src/ops/nn; thread-safe.
#pragma once

#include "ops/operator.h"

namespace ocior::ops::nn {

// A mask that broadcasts to [batch, heads, rows, keys]: bool (true: attend) or float (added to the scores). Its last axis may be
// shorter than the keys when args.kv_lengths hides the rest. `fill`: the score of a key that a bool mask hides, -inf or a finite
// lowest value.
struct AttentionMask {
  const TensorView* view = nullptr;
  float fill = 0;

  bool is_bool() const { return view->dtype == DType::kBool; }
  // Axis 0 to 3 of the mask as four-dimensional.
  int64_t dim(int axis) const {
    const int64_t own = axis - 4 + view->rank();
    return own < 0 ? 1 : view->shape[static_cast<size_t>(own)];
  }
  // Elements between neighbours along an axis; 0 where it broadcasts.
  int64_t stride(int axis) const {
    if (dim(axis) == 1) return 0;
    int64_t s = 1;
    for (int a = axis + 1; a < 4; ++a) s *= dim(a);
    return s;
  }
};

// Scratch for run_attention. args.mask, for a mask beside `mask`, need not point to its values yet; `mask`: null without one.
size_t attention_bytes(const KernelTable& kernels, const AttentionArgs& args, const AttentionMask* mask, int workers);

// Fills args' mask, bias and key lengths from `mask` (or leaves them, when null) and runs it. args.kv_lengths, where given, bound
// the lengths found in the mask. args.mask may be given beside a float mask. Without keys the output is 0.
void run_attention(CpuContext& c, AttentionArgs args, const AttentionMask* mask, void* scratch);

}  // namespace ocior::ops::nn
