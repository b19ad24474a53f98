// Stage 8: a flat walk over a Program's steps, segment by segment. A RunContext is what one running thread needs; contexts are
// kept and reused, so that a run of known shapes allocates nothing but the outputs it hands out.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/memory_budget.h"
#include "base/pool.h"
#include "base/stop.h"
#include "plan/program.h"

namespace ocior::run {

// Memory that grows by chunks and is reused from the start at every run. Pointers stay valid until reset().
class Region {
 public:
  ~Region();
  void* take(size_t bytes);  // 64-byte aligned; null when memory runs out
  void reset();
  size_t bytes() const { return total_; }

 private:
  struct Chunk {
    std::byte* data;
    size_t size, used;
    MemoryCharge charge;
  };
  std::vector<Chunk> chunks_;
  size_t total_ = 0;
};

// One caller-visible output of a run: memory given by the caller, or allocated here.
struct OutputSlot {
  bool wanted = true;
  bool bound = false;  // `tensor` is the caller's; its shape must fit
  Tensor tensor;
  Value other;  // a result that is no tensor; shares the bytes of feeds that it was made of

  Value value() const { return tensor.defined() ? Value(tensor) : other; }
};

class ContextPool;

// Activation memory and views of one run at a time.
class RunContext {
 public:
  explicit RunContext(const plan::Program& program);
  ~RunContext();

  // Runs the program. `inputs` follow program.inputs() (kNone: the default of an overridable one); `outputs` follow
  // program.outputs(). `team` null: workers are leased here, as many as the work is worth.
  Status execute(std::span<const Value> inputs, std::span<OutputSlot> outputs, Team* team, const StopWord* stop);
  size_t workspace_bytes() const { return workspace_bytes_ + region_.bytes(); }

 private:
  class StepContext;
  class Subgraphs;

  Status run_all(std::span<const Value> inputs, std::span<OutputSlot> outputs, Team* team, const StopWord* stop);
  Value value_of(int slot) const;
  Status grow_workspace(const plan::ShapePlan& plan);
  Status with_producer(Status status, int slot) const;
  Result<std::shared_ptr<const plan::ShapePlan>> plan_of(size_t segment, int begin);
  void append_shape(const TensorView& view);
  void extend_key(const plan::ShapePlan& plan);
  Status take_inputs(std::span<const Value> inputs);
  Status run_segment(const plan::ShapePlan& plan, std::span<OutputSlot> outputs, Team& team, const StopWord* stop);
  Status place_views(const plan::ShapePlan& plan, std::span<OutputSlot> outputs);
  Status run_step(const plan::ShapePlan::Active& active, std::span<OutputSlot> outputs, Team& team, const StopWord* stop);
  Status finish_outputs(std::span<OutputSlot> outputs);
  Result<void*> output_memory(int index, DType dtype, std::span<const int64_t> shape, std::span<OutputSlot> outputs);

  const plan::Program& program_;
  std::byte* workspace_ = nullptr;
  size_t workspace_bytes_ = 0;
  MemoryCharge workspace_charge_;
  Region region_;
  std::vector<TensorView> views_;          // per slot
  std::vector<TensorView> initial_views_;  // per slot, constants only
  std::vector<Shape> dynamic_shapes_;      // per slot, for outputs sized by a step
  std::vector<Tensor> held_;               // inputs, string values and tensors that steps made, kept alive while running
  std::vector<Value> others_;              // per slot, of other kinds than tensors; empty when there are none
  std::vector<int64_t> key_;
  std::vector<int> readable_;
  std::vector<std::shared_ptr<const plan::ShapePlan>> last_plans_;  // of the last run, segment by segment
  std::vector<std::vector<int64_t>> last_keys_;
  std::vector<TensorView> step_inputs_, step_outputs_;
  std::vector<std::unique_ptr<ContextPool>> subcontexts_;  // per step with subgraphs and subgraph
  std::vector<int> first_subcontext_;                      // per step
};

// Contexts of one program, handed to running threads.
class ContextPool {
 public:
  explicit ContextPool(const plan::Program& program) : program_(program) {}
  std::unique_ptr<RunContext> take();
  void give(std::unique_ptr<RunContext> context);
  size_t workspace_bytes() const;

 private:
  const plan::Program& program_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<RunContext>> idle_;
};

}  // namespace ocior::run
