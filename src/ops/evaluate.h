// One operator on tensors, outside of any graph or session: shape inference and the reference. Constant folding, tests and the
// fuzzer use it. Stateless and thread-safe; what it returns owns its memory.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "ops/operator.h"

namespace ocior::ops {

// One input of infer_op: its type, and what else is known of it. A null type: omitted.
struct OpInput {
  const Type* type = nullptr;
  const Tensor* constant = nullptr;  // its value, when known
  const Dims* data = nullptr;        // its elements as dims, when known at least symbolically
};

struct InferredOutput {
  Type type;
  std::optional<Dims> data;  // elements of a small integer output, when known at least symbolically
};

// Infers the outputs of `op`. Dims that nothing is known of become symbols that begin with '?'.
Result<std::vector<InferredOutput>> infer_op(const graph::Op& op, std::span<const OpInput> inputs, int outputs);

inline constexpr size_t kEvaluateLimit = size_t{1} << 31;

// Runs the reference on `inputs` (null: omitted) and returns `outputs` tensors. Fails where the operator does, on inputs that are
// no CPU tensors, and when the outputs together would take more than `limit` bytes.
Result<std::vector<Tensor>> run_reference(const graph::Op& op, std::span<const Tensor* const> inputs, int outputs,
                                          size_t limit = kEvaluateLimit);

// The same with values of any kind in and out (kNone: omitted).
Result<std::vector<Value>> run_reference(const graph::Op& op, std::span<const Value> inputs, int outputs,
                                         size_t limit = kEvaluateLimit);

// The reference's view of a running step: lets run() of an operator, or an executor, fall back on reference().
class CpuRefContext final : public RefContext {
 public:
  explicit CpuRefContext(CpuContext& c);
  int inputs() const override { return c_.inputs(); }
  int outputs() const override { return c_.outputs(); }
  bool has(int i) const override { return c_.has(i); }
  const Tensor& in(int i) const override { return in_[static_cast<size_t>(i)]; }
  bool wants(int i) const override { return c_.wants(i); }
  Tensor& out(int i) override { return out_[static_cast<size_t>(i)]; }
  Status allocate(int i, DType dtype, Shape shape) override;
  Value value(int i) const override { return c_.value(i); }
  Status set_value(int i, Value value) override { return c_.set_value(i, std::move(value)); }

 private:
  CpuContext& c_;
  std::vector<Tensor> in_, out_;
};

// run() by means of reference(), for element types that have no faster way.
template <class T>
Status run_by_reference(const T& op, CpuContext& c) {
  CpuRefContext ref(c);
  return op.reference(ref);
}

}  // namespace ocior::ops
