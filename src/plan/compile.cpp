// Graph -> Program: slots, steps, prepared operators and the weight store.
#include <algorithm>
#include "base/hash.h"

#include "base/error.h"
#include "plan/program.h"

namespace ocior::plan {
namespace {

constexpr size_t kSmallConstant = 4096;  // bytes; smaller constants stay where they are

}  // namespace

class Compiler {
 public:
  Compiler(const graph::Graph& graph, const ProgramOptions& options, std::vector<std::string>& notes)
      : graph_(graph), notes_(notes) {
    program_ = std::shared_ptr<Program>(new Program());
    program_->options_ = options;
    program_->kernels_ = &kernels();
  }

  Result<std::shared_ptr<const Program>> run() {
    OCIOR_ASSIGN(const auto order, graph_.order());
    slot_of_.assign(graph_.value_count(), kNoSlot);
    for (const graph::ValueId id : graph_.inputs()) program_->inputs_.push_back(slot(id));
    for (const graph::ValueId id : graph_.captures()) program_->inputs_.push_back(slot(id));
    program_->steps_.reserve(order.size());
    for (const graph::NodeId id : order) OCIOR_RETURN_IF_ERROR(add_step(graph_.node(id)));
    for (const graph::ValueId id : graph_.outputs()) program_->outputs_.push_back(slot(id));
    OCIOR_RETURN_IF_ERROR(prepare());
    find_lifetimes();
    return std::shared_ptr<const Program>(std::move(program_));
  }

 private:
  class Preparing;

  int slot(graph::ValueId id) {
    if (id == graph::kNone) return kNoSlot;
    int& known = slot_of_[static_cast<size_t>(id)];
    if (known != kNoSlot) return known;
    const graph::ValueInfo& v = graph_.value(id);
    Slot s;
    s.name = v.name;
    s.type = v.type;
    s.overridable = v.overridable;
    if (v.constant) s.constant = *v.constant;
    program_->slots_.push_back(std::move(s));
    return known = static_cast<int>(program_->slots_.size()) - 1;
  }

  Status add_step(const graph::Node& node) {
    Step step;
    step.name = node.name;
    step.op = std::dynamic_pointer_cast<const ops::AnyOperator>(node.op);
    for (const graph::ValueId id : node.inputs) step.inputs.push_back(slot(id));
    for (const graph::ValueId id : node.outputs) step.outputs.push_back(slot(id));
    if (step.op->info().view && !step.inputs.empty() && step.inputs[0] != kNoSlot &&
        program_->slots_[static_cast<size_t>(step.inputs[0])].type.is_tensor())
      program_->slots_[static_cast<size_t>(step.outputs[0])].alias_of = step.inputs[0];
    for (const auto& sub : step.op->subgraphs()) {
      ProgramOptions options = program_->options_;
      options.cache = {};  // subgraphs are small; their weights stay in memory
      options.sources.clear();
      OCIOR_ASSIGN(auto program, Program::compile(*sub, options, notes_));
      step.subprograms.push_back(std::move(program));
    }
    program_->steps_.push_back(std::move(step));
    return {};
  }

  Status prepare();
  void keep_plain_constants();
  void find_lifetimes();

  const graph::Graph& graph_;
  std::vector<std::string>& notes_;
  std::shared_ptr<Program> program_;
  std::vector<int> slot_of_;        // per graph value
  std::vector<int> plain_readers_;  // per slot: steps that read the constant's plain bytes
};

class Compiler::Preparing final : public ops::PrepareContext {
 public:
  Preparing(Compiler& compiler, size_t step)
      : compiler_(compiler), program_(*compiler.program_), step_(program_.steps_[step]), index_(step) {}

  bool has(int i) const override {
    return i < static_cast<int>(step_.inputs.size()) && step_.inputs[static_cast<size_t>(i)] != kNoSlot;
  }
  const Tensor* constant(int i) const override {
    if (!has(i)) return nullptr;
    const Slot& s = slot(i);
    return s.constant.defined() && !s.overridable ? &s.constant : nullptr;
  }
  const graph::Type& in(int i) const override { return slot(i).type; }
  const KernelTable& kernels() const override { return *program_.kernels_; }
  Precision precision() const override { return program_.options_.precision; }

  const void* pack(std::string_view form, size_t bytes, int64_t chunks, ops::PackFunction fill, const void* context) override {
    return program_.weights_->add(fmt::format("{}.{}", index_, form), bytes, chunks, fill, context);
  }
  void release(int i) override {
    if (has(i)) --compiler_.plain_readers_[static_cast<size_t>(step_.inputs[static_cast<size_t>(i)])];
  }

 private:
  const Slot& slot(int i) const { return program_.slots_[static_cast<size_t>(step_.inputs[static_cast<size_t>(i)])]; }

  Compiler& compiler_;
  Program& program_;
  const Step& step_;
  size_t index_;
};

Status Compiler::prepare() {
  Program& p = *program_;
  size_t constants = 0;
  for (const Slot& s : p.slots_)
    if (s.constant.defined()) constants += s.constant.bytes();
  plain_readers_.assign(p.slots_.size(), 0);
  for (const Step& step : p.steps_)
    for (const int in : step.inputs)
      if (in != kNoSlot) ++plain_readers_[static_cast<size_t>(in)];
  for (const int out : p.outputs_) ++plain_readers_[static_cast<size_t>(out)];

  size_t reserve;
  if (__builtin_mul_overflow(constants, size_t{4}, &reserve))
    return error(Code::kFail, "the model's constants are larger than the address space");
  OCIOR_ASSIGN(p.weights_, WeightStore::create(reserve + ((p.steps_.size() + 1) << 20)));
  for (size_t i = 0; i < p.steps_.size() && !p.options_.reference; ++i) {
    Preparing context(*this, i);
    auto prepared = p.steps_[i].op->prepare(context);
    if (!prepared.ok())
      return with_context(prepared.status(), fmt::format("node '{}' ({})", p.steps_[i].name, p.steps_[i].op->name()));
    p.steps_[i].prepared = std::move(prepared).value();
  }
  keep_plain_constants();
  Team team;  // every core the process may use: packing is short and bound by memory
  std::string note;
  OCIOR_RETURN_IF_ERROR(p.weights_->finish(p.options_.cache, p.options_.sources, team, note));
  p.options_.sources.clear();
  if (!note.empty()) notes_.push_back(std::move(note));
  return {};
}

// Large constants that a step reads as they are move into the store; those that only live on in packed form are dropped.
void Compiler::keep_plain_constants() {
  for (size_t i = 0; i < program_->slots_.size(); ++i) {
    Slot& s = program_->slots_[i];
    if (!s.constant.defined() || s.constant.bytes() < kSmallConstant || s.constant.dtype() == DType::kString) continue;
    if (plain_readers_[i] <= 0) {
      s.constant =
          Tensor::borrow(s.constant.dtype(), s.constant.shape(), nullptr, s.constant.bytes());  // its type is still asked for
      continue;
    }
    if (void* address = program_->weights_->add_plain(s.constant))
      s.constant = Tensor::borrow(s.constant.dtype(), s.constant.shape(), address, s.constant.bytes());
  }
}

void Compiler::find_lifetimes() {
  auto& slots = program_->slots_;
  const auto touch = [&](int slot, int step) {
    for (; slot != kNoSlot; slot = slots[static_cast<size_t>(slot)].alias_of)
      slots[static_cast<size_t>(slot)].last_step = std::max(slots[static_cast<size_t>(slot)].last_step, step);
  };
  for (size_t i = 0; i < program_->steps_.size(); ++i) {
    for (const int in : program_->steps_[i].inputs) touch(in, static_cast<int>(i));
    for (const int out : program_->steps_[i].outputs) touch(out, static_cast<int>(i));
  }
  for (const int out : program_->outputs_) touch(out, static_cast<int>(program_->steps_.size()));
  std::vector<bool> produced(slots.size(), false);
  for (const Step& step : program_->steps_)
    for (const int out : step.outputs)
      if (out != kNoSlot) produced[static_cast<size_t>(out)] = true;
  program_->output_of_.assign(slots.size(), -1);
  for (size_t k = 0; k < program_->outputs_.size(); ++k)
    if (const int r = program_->root(program_->outputs_[k]); produced[static_cast<size_t>(r)])
      program_->output_of_[static_cast<size_t>(r)] = static_cast<int>(k);
}

bool Program::has_other_kinds(const Step& step) const {
  const auto other = [&](int slot) { return slot != kNoSlot && !slots_[static_cast<size_t>(slot)].type.is_tensor(); };
  return std::ranges::any_of(step.inputs, other) || std::ranges::any_of(step.outputs, other);
}

int Program::root(int slot) const {
  while (slots_[static_cast<size_t>(slot)].alias_of != kNoSlot) slot = slots_[static_cast<size_t>(slot)].alias_of;
  return slot;
}

Result<std::shared_ptr<const Program>> Program::compile(const graph::Graph& graph, const ProgramOptions& options,
                                                        std::vector<std::string>& notes) {
  return Compiler(graph, options, notes).run();
}

size_t Program::KeyHash::operator()(const std::vector<int64_t>& key) const {
  return XXH3_64bits(key.data(), key.size() * sizeof(int64_t));
}

int64_t Program::plan_count() const {
  std::lock_guard lock(mutex_);
  return static_cast<int64_t>(recent_.size());
}

}  // namespace ocior::plan
