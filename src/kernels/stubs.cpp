// Kernels of the list that have no implementation yet. Whoever implements one deletes its line here; an empty file is removed.
#include "kernels/table.h"

namespace ocior::OCIOR_ISA {

// attention.cpp
#if !__has_include("kernels/attention.cpp")
int64_t attention_tasks(const AttentionArgs&) { return 0; }
size_t attention_scratch(const AttentionArgs&) { return 0; }
void attention(const AttentionArgs&, int64_t, int64_t, void*) {}
#endif

#if !__has_include("kernels/layer_norm.cpp")
void layer_norm(const LayerNormArgs&, int64_t, int64_t) {}
#endif
#if !__has_include("kernels/softmax.cpp")
void softmax_f32(const float*, float*, int64_t) {}
void log_softmax_f32(const float*, float*, int64_t) {}
#endif
#if !__has_include("kernels/unary.cpp")
void unary_f32(UnaryFn, const float*, float*, int64_t, float, float) {}
#endif
#if !__has_include("kernels/binary.cpp")
void binary_f32(BinaryFn, const float*, int64_t, const float*, int64_t, float*, int64_t) {}
#endif
#if !__has_include("kernels/reduce.cpp")
float reduce_f32(ReduceFn, const float*, int64_t) { return 0; }
void reduce_into_f32(ReduceFn, const float*, float*, int64_t) {}
#endif
#if !__has_include("kernels/convert.cpp")
void f16_to_f32(const uint16_t*, float*, int64_t) {}
void f32_to_f16(const float*, uint16_t*, int64_t) {}
void bf16_to_f32(const uint16_t*, float*, int64_t) {}
void f32_to_bf16(const float*, uint16_t*, int64_t) {}
#endif
#if !__has_include("kernels/transpose.cpp")
void transpose_f32(const float*, int64_t, float*, int64_t, int64_t, int64_t) {}
#endif

}  // namespace ocior::OCIOR_ISA
