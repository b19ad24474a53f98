// Stage 6: an immutable, shareable Program: steps in order over numbered slots, packed weights, and a bounded cache of shape
// plans. Any number of threads may bind and run one Program at once.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/graph.h"
#include "ops/operator.h"
#include "plan/weights.h"

namespace ocior::plan {

inline constexpr int kNoSlot = -1;

// Where a value of the program lives during a run.
struct Slot {
  std::string name;
  graph::Type type;  // symbolic
  Tensor constant;   // defined for constants (and for defaults of overridable inputs); data null: only packed forms are left
  bool overridable = false;
  int alias_of = kNoSlot;  // output of a view operator: the slot whose bytes it has
  int last_step = -1;      // last step that reads it (or an alias of it); steps.size() for program outputs
};

class Program;

struct Step {
  std::string name;
  std::shared_ptr<const ops::AnyOperator> op;
  std::vector<int> inputs, outputs;  // slots; kNoSlot: omitted
  std::unique_ptr<const ops::Prepared> prepared;
  std::vector<std::shared_ptr<const Program>> subprograms;
};

// One stretch of steps with known shapes: everything that depends on input shapes but not on their values.
struct ShapePlan {
  int begin = 0, end = 0;  // steps [begin, end)
  struct Active {
    int step;
    size_t scratch;  // offset in the workspace
    bool dynamic;    // outputs are sized by the step itself
  };
  std::vector<Active> active;     // steps that have work (views and folded ones have none)
  std::vector<int> slots;         // slots that this plan gives a view to
  std::vector<TensorView> views;  // for `slots`: dtype and shape; data only where it is a constant of this plan
  std::vector<int64_t> offsets;   // for `slots`: place in the workspace; kExternal: output, input or region; kView: alias
  std::vector<Shape> shapes;      // what views' spans point into
  std::vector<Tensor> folded;     // values computed while binding
  std::vector<int> needed;        // slots whose values the next segment's shapes depend on
  size_t workspace = 0;
  double work = 0;  // floating-point operations, about

  static constexpr int64_t kExternal = -1;
  static constexpr int64_t kView = -2;
  static constexpr int64_t kFolded = -3;
  static constexpr int64_t kRegion = -4;  // lives beyond this segment
};

struct ProgramOptions {
  Precision precision = Precision::kHighest;
  int threads = 0;  // most workers of one run; 0: all
  CacheKey cache;   // empty folder: packed weights stay in anonymous memory
  size_t plan_capacity = 64;
  bool reference = false;  // steps run by their operators' references, without kernels, packing and reuse in place
  std::vector<std::shared_ptr<const MappedFile>> sources;  // the model's files, whose pages are given back while packing
};

class Program {
 public:
  // Orders the graph, prepares every operator and fills the weight store. `notes` receives what a log would tell.
  static Result<std::shared_ptr<const Program>> compile(const graph::Graph& graph, const ProgramOptions& options,
                                                        std::vector<std::string>& notes);

  std::span<const Slot> slots() const { return slots_; }
  std::span<const Step> steps() const { return steps_; }
  std::span<const int> inputs() const { return inputs_; }  // graph inputs, then captures
  std::span<const int> outputs() const { return outputs_; }
  // The slot whose bytes `slot` has: itself, or what it is a view of.
  int root(int slot) const;
  // Which output's memory a step writes when it produces slot `root`; -1: none.
  int output_of(int root) const { return output_of_[static_cast<size_t>(root)]; }
  const KernelTable& kernels() const { return *kernels_; }
  // Whether the step reads or gives sequences, optionals or maps. Those have no place in the plan: the run holds them.
  bool has_other_kinds(const Step& step) const;
  Precision precision() const { return options_.precision; }
  // Whether the step has a faster way than its operator's reference, and is to take it.
  bool by_kernel(const Step& step) const { return !options_.reference && step.op->has_run(); }
  int threads() const { return options_.threads; }
  const WeightStore* weights() const { return weights_.get(); }

  // What is known when a segment is bound: concrete views of live slots, and values of those whose bytes may be read.
  struct Known {
    std::span<const TensorView> views;  // per slot; dtype kUndefined: not known yet
  };

  // Stage 7: the plan for the steps from `begin` on. `key` identifies it: begin, then what the shapes depend on (binding_key).
  Result<std::shared_ptr<const ShapePlan>> bind(int begin, const std::vector<int64_t>& key, const Known& known,
                                                std::span<const int> readable) const;

  int64_t plan_count() const;
  int64_t plan_hits() const { return hits_.load(std::memory_order_relaxed); }
  int64_t plan_misses() const { return misses_.load(std::memory_order_relaxed); }

 private:
  friend class Compiler;
  friend class Binder;
  Program() = default;

  std::vector<Slot> slots_;
  std::vector<Step> steps_;
  std::vector<int> inputs_, outputs_;
  std::vector<int> output_of_;  // per slot
  std::unique_ptr<WeightStore> weights_;
  const KernelTable* kernels_ = nullptr;
  ProgramOptions options_;

  struct KeyHash {
    size_t operator()(const std::vector<int64_t>& key) const;
  };
  using Entry = std::pair<std::vector<int64_t>, std::shared_ptr<const ShapePlan>>;
  mutable std::mutex mutex_;
  mutable std::list<Entry> recent_;  // most recently used first
  mutable std::unordered_map<std::vector<int64_t>, std::list<Entry>::iterator, KeyHash> plans_;
  mutable std::atomic<int64_t> hits_{0}, misses_{0};
};

}  // namespace ocior::plan
