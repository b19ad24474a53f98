#include "run/executor.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "base/resources.h"
#include "ops/evaluate.h"

namespace ocior::run {

using plan::kNoSlot;
using plan::ShapePlan;

namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr double kParallelWork = 1e6;  // floating-point operations; less is done before a sleeping worker wakes

Status stopped(const StopWord& stop) {
  switch (stop.reason()) {
    case StopWord::Reason::kDeadline: return error(Code::kFail, "the run was stopped: its deadline passed");
    case StopWord::Reason::kCancelled: return error(Code::kFail, "the run was stopped: nobody waits for its result any more");
    default: return error(Code::kFail, "Exiting due to terminate flag being set to true.");
  }
}

size_t bytes_of(const TensorView& view) { return byte_count(view.dtype, view.count()); }

void* map_memory(size_t bytes) {
  if (bytes > available_memory()) return nullptr;
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  if (bytes >= kHugePage) madvise(p, bytes, MADV_HUGEPAGE);
  return p;
}

}  // namespace

Region::~Region() {
  for (const Chunk& c : chunks_) munmap(c.data, c.size);
}

void* Region::take(size_t bytes) {
  bytes = (std::max<size_t>(bytes, 1) + 63) / 64 * 64;
  for (Chunk& c : chunks_)
    if (c.size - c.used >= bytes) {
      void* p = c.data + c.used;
      c.used += bytes;
      return p;
    }
  const size_t size = std::max<size_t>((bytes + 4095) / 4096 * 4096, size_t{64} << 10);
  MemoryCharge charge;
  auto* data = charge.take(size) ? static_cast<std::byte*>(map_memory(size)) : nullptr;
  if (!data) return nullptr;
  chunks_.push_back({data, size, bytes, std::move(charge)});
  total_ += size;
  return data;
}

void Region::reset() {
  for (Chunk& c : chunks_) c.used = 0;
}

std::unique_ptr<RunContext> ContextPool::take() {
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto context = std::move(idle_.back());
      idle_.pop_back();
      return context;
    }
  }
  return std::make_unique<RunContext>(program_);
}

void ContextPool::give(std::unique_ptr<RunContext> context) {
  std::lock_guard lock(mutex_);
  idle_.push_back(std::move(context));
}

size_t ContextPool::workspace_bytes() const {
  std::lock_guard lock(mutex_);
  size_t total = 0;
  for (const auto& c : idle_) total += c->workspace_bytes();
  return total;
}

// The executor's side of what run() of an operator sees.
class RunContext::StepContext final : public ops::CpuContext {
 public:
  StepContext(RunContext& run, const plan::Step& step, std::span<OutputSlot> outputs, Team& team, const StopWord* stop,
              void* scratch, ops::SubgraphRunner* subgraphs)
      : run_(run), step_(step), program_outputs_(outputs) {
    inputs_ = run.step_inputs_.data();
    outputs_ = run.step_outputs_.data();
    input_count_ = static_cast<int>(step.inputs.size());
    output_count_ = static_cast<int>(step.outputs.size());
    scratch_ = scratch;
    team_ = &team;
    stop_ = stop;
    kernels_ = &run.program_.kernels();
    precision_ = run.program_.precision();
    prepared_ = step.prepared.get();
    subgraphs_ = subgraphs;
  }

  Value value(int i) const override {
    if (i >= inputs() || step_.inputs[static_cast<size_t>(i)] == kNoSlot) return {};
    return run_.value_of(step_.inputs[static_cast<size_t>(i)]);
  }

  Status set_value(int i, Value value) override {
    const int slot = i < outputs() ? step_.outputs[static_cast<size_t>(i)] : kNoSlot;
    if (slot == kNoSlot) return {};
    const graph::Type& type = run_.program_.slots()[static_cast<size_t>(slot)].type;
    if (value.kind() != type.kind || (type.is_tensor() && value.dtype() != type.dtype))
      return error(Code::kRuntimeException, "output {} is {}, but was planned as {}", i,
                   value.is_tensor() ? name_of(value.dtype()) : "no tensor or of another kind", type.text());
    if (!type.is_tensor()) {
      run_.others_[static_cast<size_t>(slot)] = std::move(value);
      return {};
    }
    Tensor t = *value.get_tensor();
    if (!t.dense()) {
      OCIOR_ASSIGN(t, t.clone());
    }
    Shape& kept = run_.dynamic_shapes_[static_cast<size_t>(slot)];
    kept = t.shape();
    run_.views_[static_cast<size_t>(slot)] = run_.step_outputs_[static_cast<size_t>(i)] = {t.dtype(), kept, t.data()};
    run_.held_.push_back(std::move(t));
    return {};
  }

  Status allocate(int i, std::span<const int64_t> shape) override {
    const int slot = step_.outputs[static_cast<size_t>(i)];
    if (!run_.program_.slots()[static_cast<size_t>(slot)].type.is_tensor())
      return error(Code::kRuntimeException, "output {} was planned as {}, but is a tensor", i,
                   run_.program_.slots()[static_cast<size_t>(slot)].type.text());
    TensorView& view = run_.step_outputs_[static_cast<size_t>(i)];
    OCIOR_ASSIGN(const int64_t count, checked_element_count(shape));
    Shape& kept = run_.dynamic_shapes_[static_cast<size_t>(slot)];
    kept.assign(shape.begin(), shape.end());
    view.dtype = run_.program_.slots()[static_cast<size_t>(slot)].type.dtype;
    view.shape = kept;
    if (const int output = run_.program_.output_of(slot); output >= 0 && program_outputs_[static_cast<size_t>(output)].wanted) {
      OCIOR_ASSIGN(view.data, run_.output_memory(output, view.dtype, kept, program_outputs_));
    } else if (view.dtype == DType::kString) {
      OCIOR_ASSIGN(Tensor strings, Tensor::allocate(view.dtype, kept));
      view.data = strings.data();
      run_.held_.push_back(std::move(strings));
    } else {
      view.data = run_.region_.take(byte_count(view.dtype, count));
      if (!view.data)
        return error(Code::kFail, "out of memory: {} bytes for an output of shape {}{}", byte_count(view.dtype, count),
                     to_string(shape), MemoryBudget::explanation());
    }
    run_.views_[static_cast<size_t>(slot)] = view;
    return {};
  }

 private:
  RunContext& run_;
  const plan::Step& step_;
  std::span<OutputSlot> program_outputs_;
};

// Runs a branch or a body: the operator's own inputs are followed by the captures of its subgraphs.
class RunContext::Subgraphs final : public ops::SubgraphRunner {
 public:
  Subgraphs(RunContext& run, int step, Team& team, const StopWord* stop) : run_(run), step_(step), team_(team), stop_(stop) {}

  Status call(int subgraph, std::span<const Value> inputs, std::vector<Value>& outputs) override {
    const plan::Step& step = run_.program_.steps()[static_cast<size_t>(step_)];
    size_t captures = 0, before = 0;
    for (size_t i = 0; i < step.subprograms.size(); ++i) {
      const size_t n = step.op->subgraphs()[i]->captures().size();
      captures += n;
      if (i < static_cast<size_t>(subgraph)) before += n;
    }
    const size_t first = step.inputs.size() - captures + before;
    std::vector<Value> all(inputs.begin(), inputs.end());
    for (size_t i = 0; i < step.op->subgraphs()[static_cast<size_t>(subgraph)]->captures().size(); ++i)
      all.push_back(run_.value_of(step.inputs[first + i]));
    ContextPool& pool = *run_.subcontexts_[static_cast<size_t>(run_.first_subcontext_[static_cast<size_t>(step_)] + subgraph)];
    auto context = pool.take();
    std::vector<OutputSlot> slots(step.subprograms[static_cast<size_t>(subgraph)]->outputs().size());
    Status status = context->execute(all, slots, &team_, stop_);
    pool.give(std::move(context));
    OCIOR_RETURN_IF_ERROR(std::move(status));
    outputs.clear();
    for (const OutputSlot& s : slots) outputs.push_back(s.value());
    return {};
  }

 private:
  RunContext& run_;
  int step_;
  Team& team_;
  const StopWord* stop_;
};

RunContext::RunContext(const plan::Program& program)
    : program_(program),
      initial_views_(program.slots().size()),
      dynamic_shapes_(program.slots().size()),
      first_subcontext_(program.steps().size(), 0) {
  for (size_t i = 0; i < program.slots().size(); ++i)
    if (const Tensor& t = program.slots()[i].constant; t.defined())
      initial_views_[i] = {t.dtype(), t.shape(), const_cast<void*>(t.data())};
  size_t widest_in = 0, widest_out = 0;
  for (size_t i = 0; i < program.steps().size(); ++i) {
    const plan::Step& step = program.steps()[i];
    widest_in = std::max(widest_in, step.inputs.size());
    widest_out = std::max(widest_out, step.outputs.size());
    first_subcontext_[i] = static_cast<int>(subcontexts_.size());
    for (const auto& sub : step.subprograms) subcontexts_.push_back(std::make_unique<ContextPool>(*sub));
  }
  if (!std::ranges::all_of(program.slots(), [](const plan::Slot& s) { return s.type.is_tensor(); }))
    others_.resize(program.slots().size());
  step_inputs_.resize(widest_in);
  step_outputs_.resize(widest_out);
}

RunContext::~RunContext() {
  if (workspace_) munmap(workspace_, workspace_bytes_);
}

// The error with the node that gives the value in front.
Status RunContext::with_producer(Status status, int slot) const {
  const int root = program_.root(slot);
  for (const plan::Step& step : program_.steps())
    if (std::ranges::find(step.outputs, root) != step.outputs.end())
      return with_context(std::move(status), fmt::format("node '{}' ({})", step.name, step.op->name()));
  return status;
}

Status RunContext::grow_workspace(const ShapePlan& plan) {
  if (plan.workspace <= workspace_bytes_) return {};
  const size_t bytes =
      plan.workspace < SIZE_MAX - kHugePage ? (plan.workspace + kHugePage - 1) / kHugePage * kHugePage : SIZE_MAX;
  if (workspace_) munmap(workspace_, workspace_bytes_);
  workspace_bytes_ = 0;
  workspace_ = workspace_charge_.take(bytes) ? static_cast<std::byte*>(map_memory(bytes)) : nullptr;
  if (!workspace_) {
    int largest = -1;
    for (size_t k = 0; k < plan.slots.size(); ++k)
      if (plan.offsets[k] >= 0 && (largest < 0 || bytes_of(plan.views[k]) > bytes_of(plan.views[static_cast<size_t>(largest)])))
        largest = static_cast<int>(k);
    Status status = error(Code::kFail, "out of memory: {} bytes for the activations of these input shapes{}", bytes,
                          MemoryBudget::explanation());
    if (largest < 0) return status;
    const int slot = plan.slots[static_cast<size_t>(largest)];
    return with_producer(
        error(Code::kFail, "{}; the largest is '{}' of shape {}", status.message(),
              program_.slots()[static_cast<size_t>(slot)].name, to_string(plan.views[static_cast<size_t>(largest)].shape)),
        slot);
  }
  workspace_bytes_ = bytes;
  return {};
}

Status RunContext::take_inputs(std::span<const Value> inputs) {
  held_.clear();
  views_ = initial_views_;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto slot = static_cast<size_t>(program_.inputs()[i]);
    if (const Value::Kind planned = program_.slots()[slot].type.kind; inputs[i].kind() != planned) {
      if (inputs[i].kind() == Value::Kind::kNone && program_.slots()[slot].overridable) continue;
      return error(Code::kRuntimeException, "input '{}' is of another kind than {}", program_.slots()[slot].name,
                   program_.slots()[slot].type.text());
    }
    const Tensor* given = inputs[i].get_tensor();
    if (!given) {
      others_[slot] = inputs[i];
      continue;
    }
    Tensor t = *given;
    if (!t.dense()) {
      OCIOR_ASSIGN(t, t.clone());
    }
    held_.push_back(std::move(t));  // its shape stays where it is when held_ grows
    views_[slot] = {held_.back().dtype(), held_.back().shape(), held_.back().data()};
  }
  return {};
}

// A tensor is borrowed.
Value RunContext::value_of(int slot) const {
  if (!program_.slots()[static_cast<size_t>(slot)].type.is_tensor()) return others_[static_cast<size_t>(slot)];
  const TensorView& v = views_[static_cast<size_t>(slot)];
  return Value(Tensor::borrow(v.dtype, Shape(v.shape.begin(), v.shape.end()), v.data, byte_count(v.dtype, v.count())));
}

Status RunContext::execute(std::span<const Value> inputs, std::span<OutputSlot> outputs, Team* team, const StopWord* stop) {
  Status status = run_all(inputs, outputs, team, stop);
  std::ranges::fill(others_, Value());  // they may be large, and the next run makes its own
  return status;
}

Status RunContext::run_all(std::span<const Value> inputs, std::span<OutputSlot> outputs, Team* team, const StopWord* stop) {
  OCIOR_RETURN_IF_ERROR(take_inputs(inputs));
  region_.reset();
  readable_.clear();
  key_.assign(1, 0);
  for (const int slot : program_.inputs()) append_shape(views_[static_cast<size_t>(slot)]);
  std::optional<Team> own;
  const int steps = static_cast<int>(program_.steps().size());
  int begin = 0;
  for (size_t segment = 0; begin < steps; ++segment) {
    OCIOR_ASSIGN(const auto plan, plan_of(segment, begin));
    if (!team && (!own || (own->size() == 1 && plan->work >= kParallelWork)))
      own.emplace(plan->work >= kParallelWork ? program_.threads() : 1);
    OCIOR_RETURN_IF_ERROR(run_segment(*plan, outputs, team ? *team : *own, stop));
    if (plan->end == begin && plan->needed.empty()) return error(Code::kFail, "internal: a segment of the run made no progress");
    begin = plan->end;
    extend_key(*plan);
  }
  return finish_outputs(outputs);
}

// The plan of the last run is looked at without a lock.
Result<std::shared_ptr<const ShapePlan>> RunContext::plan_of(size_t segment, int begin) {
  if (segment >= last_plans_.size()) {
    last_plans_.resize(segment + 1);
    last_keys_.resize(segment + 1);
  }
  if (!last_plans_[segment] || last_keys_[segment] != key_) {
    OCIOR_ASSIGN(last_plans_[segment], program_.bind(begin, key_, {views_}, readable_));
    last_keys_[segment] = key_;
  }
  return last_plans_[segment];
}

void RunContext::append_shape(const TensorView& view) {
  key_.push_back(static_cast<int64_t>(view.shape.size()));
  key_.insert(key_.end(), view.shape.begin(), view.shape.end());
}

// What the next segment's shapes depend on: the sizes that this one found out, and the values it asked for.
void RunContext::extend_key(const ShapePlan& plan) {
  key_.push_back(plan.end);
  if (!plan.active.empty() && plan.active.back().dynamic)
    for (const int out : program_.steps()[static_cast<size_t>(plan.active.back().step)].outputs)
      if (out != kNoSlot) append_shape(views_[static_cast<size_t>(out)]);
  for (const int slot : plan.needed) {
    const TensorView& v = views_[static_cast<size_t>(slot)];
    readable_.push_back(slot);
    for (int64_t i = 0; i < v.count(); ++i)
      key_.push_back(is_floating(v.dtype) ? std::bit_cast<int64_t>(get_double(v.dtype, v.data, i)) : get_int(v.dtype, v.data, i));
  }
}

Result<void*> RunContext::output_memory(int index, DType dtype, std::span<const int64_t> shape, std::span<OutputSlot> outputs) {
  OutputSlot& out = outputs[static_cast<size_t>(index)];
  if (out.bound) {
    const int slot = program_.outputs()[static_cast<size_t>(index)];
    // A view of the produced bytes may have another shape than the producer's; finish_outputs checks the final one.
    if (out.tensor.dtype() != dtype || (program_.root(slot) == slot && !std::ranges::equal(out.tensor.shape(), shape)) ||
        out.tensor.count() != element_count(shape))
      return error(Code::kInvalidArgument, "output '{}' is bound to a {} tensor of shape {}, but the run gives {} {}",
                   program_.slots()[static_cast<size_t>(slot)].name, name_of(out.tensor.dtype()), to_string(out.tensor.shape()),
                   name_of(dtype), to_string(shape));
    return out.tensor.data();
  }
  OCIOR_ASSIGN(out.tensor, Tensor::allocate(dtype, Shape(shape.begin(), shape.end())));
  return out.tensor.data();
}

Status RunContext::place_views(const ShapePlan& plan, std::span<OutputSlot> outputs) {
  OCIOR_RETURN_IF_ERROR(grow_workspace(plan));
  for (size_t k = 0; k < plan.slots.size(); ++k) {
    const int slot = plan.slots[k];
    TensorView& view = views_[static_cast<size_t>(slot)];
    view = plan.views[k];
    const int64_t offset = plan.offsets[k];
    if (view.dtype == DType::kString && offset != ShapePlan::kView && offset != ShapePlan::kFolded &&
        program_.output_of(slot) < 0) {
      auto strings = Tensor::allocate(view.dtype, Shape(view.shape.begin(), view.shape.end()));
      if (!strings.ok()) return with_producer(strings.status(), slot);
      view.data = strings->data();
      held_.push_back(std::move(strings).value());
    } else if (offset >= 0) {
      view.data = workspace_ + offset;
    } else if (offset == ShapePlan::kView) {
      view.data = views_[static_cast<size_t>(program_.slots()[static_cast<size_t>(slot)].alias_of)].data;
    } else if (offset == ShapePlan::kExternal && outputs[static_cast<size_t>(program_.output_of(slot))].wanted) {
      auto memory = output_memory(program_.output_of(slot), view.dtype, view.shape, outputs);
      if (!memory.ok()) return with_producer(memory.status(), slot);
      view.data = *memory;
    } else if (offset != ShapePlan::kFolded) {
      view.data = region_.take(bytes_of(view));
      if (!view.data)
        return with_producer(error(Code::kFail, "out of memory: {} bytes for a value of shape {}{}", bytes_of(view),
                                   to_string(view.shape), MemoryBudget::explanation()),
                             slot);
    }
  }
  return {};
}

Status RunContext::run_segment(const ShapePlan& plan, std::span<OutputSlot> outputs, Team& team, const StopWord* stop) {
  OCIOR_RETURN_IF_ERROR(place_views(plan, outputs));
  for (const ShapePlan::Active& active : plan.active) {
    if (stop && stop->requested()) return stopped(*stop);
    OCIOR_RETURN_IF_ERROR(run_step(active, outputs, team, stop));
  }
  return stop && stop->requested() ? stopped(*stop) : Status();
}

Status RunContext::run_step(const ShapePlan::Active& active, std::span<OutputSlot> outputs, Team& team, const StopWord* stop) {
  const plan::Step& step = program_.steps()[static_cast<size_t>(active.step)];
  for (size_t i = 0; i < step.inputs.size(); ++i)
    step_inputs_[i] = step.inputs[i] == kNoSlot ? TensorView{} : views_[static_cast<size_t>(step.inputs[i])];
  for (size_t i = 0; i < step.outputs.size(); ++i) {
    step_outputs_[i] = step.outputs[i] == kNoSlot ? TensorView{} : views_[static_cast<size_t>(step.outputs[i])];
    if (active.dynamic && step.outputs[i] != kNoSlot)
      step_outputs_[i] = {program_.slots()[static_cast<size_t>(step.outputs[i])].type.dtype, {}, nullptr};
  }
  Subgraphs subgraphs(*this, active.step, team, stop);
  StepContext context(*this, step, outputs, team, stop, workspace_ + active.scratch,
                      step.subprograms.empty() ? nullptr : &subgraphs);
  Status status;
  if (program_.by_kernel(step)) {
    status = step.op->run(context);
  } else {
    ops::CpuRefContext reference(context);
    status = step.op->reference(reference);
  }
  if (status.ok()) return status;
  if (stop && stop->requested()) return stopped(*stop);
  return Status(status.code(), fmt::format("node '{}' ({}): {}", step.name, step.op->name(), status.message()));
}

// Outputs that no step wrote in place (an input, a constant, a second name of the same bytes) are copied; views get their own
// shape.
Status RunContext::finish_outputs(std::span<OutputSlot> outputs) {
  for (size_t k = 0; k < outputs.size(); ++k) {
    OutputSlot& out = outputs[k];
    if (!out.wanted) continue;
    const int slot = program_.outputs()[k];
    if (!program_.slots()[static_cast<size_t>(slot)].type.is_tensor()) {
      if (out.bound)
        return error(Code::kInvalidArgument, "output '{}' is {}; it cannot be bound to a tensor",
                     program_.slots()[static_cast<size_t>(slot)].name, program_.slots()[static_cast<size_t>(slot)].type.text());
      out.other = others_[static_cast<size_t>(slot)];
      continue;
    }
    const TensorView& view = views_[static_cast<size_t>(slot)];
    if (out.bound && (out.tensor.dtype() != view.dtype || !std::ranges::equal(out.tensor.shape(), view.shape)))
      return error(Code::kInvalidArgument, "output '{}' is bound to a {} tensor of shape {}, but the run gives {} {}",
                   program_.slots()[static_cast<size_t>(slot)].name, name_of(out.tensor.dtype()), to_string(out.tensor.shape()),
                   name_of(view.dtype), to_string(view.shape));
    if (out.tensor.defined() && out.tensor.data() == view.data &&
        program_.output_of(program_.root(slot)) == static_cast<int>(k)) {
      if (!std::ranges::equal(out.tensor.shape(), view.shape))
        out.tensor = out.tensor.reshaped(Shape(view.shape.begin(), view.shape.end()));
      continue;
    }
    const Tensor source =
        Tensor::borrow(view.dtype, Shape(view.shape.begin(), view.shape.end()), view.data, byte_count(view.dtype, view.count()));
    if (!out.bound) {
      OCIOR_ASSIGN(out.tensor, source.clone());
    } else if (view.dtype == DType::kString) {
      for (int64_t i = 0; i < view.count(); ++i) out.tensor.as<std::string>()[i] = source.as<std::string>()[i];
    } else if (view.count() > 0) {
      std::memmove(out.tensor.data(), view.data, source.bytes());
    }
  }
  return {};
}

}  // namespace ocior::run
