// Stage 7: known input shapes -> ShapePlan. Runs every operator's infer() with numbers, folds what only depends on shapes, and
// places activations in one workspace.
#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/resources.h"
#include "ops/evaluate.h"
#include "plan/program.h"

namespace ocior::plan {
namespace {

constexpr size_t kFoldBytes = size_t{64} << 10;  // larger values are computed by the run, not kept in the plan
constexpr size_t kAlign = 64;

size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

bool concrete(const graph::Type& type) {
  return type.is_tensor() && type.shape &&
         std::all_of(type.shape->begin(), type.shape->end(), [](const Dim& d) { return d.known(); });
}

}  // namespace

class Binder {
 public:
  Binder(const Program& program, int begin, const Program::Known& known, std::span<const int> readable)
      : program_(program),
        plan_(std::make_shared<ShapePlan>()),
        types_(program.slots_.size()),
        values_(program.slots_.size()),
        data_(program.slots_.size()),
        place_(program.slots_.size(), ShapePlan::kExternal) {
    plan_->begin = plan_->end = begin;
    for (size_t i = 0; i < program.slots_.size(); ++i) {
      const Slot& s = program.slots_[i];
      const TensorView& v = known.views[i];
      if (v.dtype != DType::kUndefined) types_[i] = graph::Type::tensor(v.dtype, Dims(v.shape.begin(), v.shape.end()));
      if (s.constant.defined() && !s.overridable && s.constant.data()) values_[i] = s.constant;
    }
    for (const int slot : readable) {
      const TensorView& v = known.views[static_cast<size_t>(slot)];
      values_[static_cast<size_t>(slot)] =
          Tensor::borrow(v.dtype, Shape(v.shape.begin(), v.shape.end()), v.data, byte_count(v.dtype, v.count()));
    }
  }

  Result<std::shared_ptr<const ShapePlan>> run() {
    const int steps = static_cast<int>(program_.steps_.size());
    for (int i = plan_->begin; i < steps; ++i) {
      OCIOR_ASSIGN(const bool go_on, bind_step(i));
      if (!go_on) break;
    }
    OCIOR_RETURN_IF_ERROR(place());
    return std::shared_ptr<const ShapePlan>(std::move(plan_));
  }

 private:
  class Shapes;
  class Types;

  // Shapes of step `i`; false when the segment ends here.
  Result<bool> bind_step(int i);
  Result<bool> fold(const Step& step);
  std::vector<int> needed_of(const std::vector<int>& asked) const;
  void add_active(int i, bool dynamic);
  void add_view(int slot, int64_t place);
  Status place();

  const Program& program_;
  std::shared_ptr<ShapePlan> plan_;
  std::vector<graph::Type> types_;                 // per slot, concrete; dtype kUndefined: unknown
  std::vector<Tensor> values_;                     // per slot, when known while binding
  std::vector<std::shared_ptr<const Dims>> data_;  // per slot, from set_data
  std::vector<int64_t> place_;                     // per slot
};

// infer()'s view of one step; remembers which unknown values were asked for.
class Binder::Shapes final : public graph::ShapeContext {
 public:
  Shapes(Binder& binder, const Step& step) : b_(binder), step_(step) {}
  std::vector<int> asked;

  int inputs() const override { return static_cast<int>(step_.inputs.size()); }
  int outputs() const override { return static_cast<int>(step_.outputs.size()); }
  bool has(int i) const override { return i < inputs() && slot(i) != kNoSlot; }
  const graph::Type& in(int i) const override { return b_.types_[static_cast<size_t>(slot(i))]; }
  const Tensor* constant(int i) const override {
    if (!has(i)) return nullptr;
    const Tensor& t = b_.values_[static_cast<size_t>(slot(i))];
    if (t.defined()) return &t;
    const_cast<Shapes*>(this)->asked.push_back(slot(i));
    return nullptr;
  }
  const Dims* data(int i) const override {
    if (!has(i)) return nullptr;
    auto& known = b_.data_[static_cast<size_t>(slot(i))];
    if (known) return known.get();
    const Tensor& t = b_.values_[static_cast<size_t>(slot(i))];
    if (!t.defined()) {
      const_cast<Shapes*>(this)->asked.push_back(slot(i));
      return nullptr;
    }
    if (is_floating(t.dtype()) || t.dtype() == DType::kString || t.count() > 1024) return nullptr;
    auto dims = std::make_shared<Dims>();
    for (int64_t k = 0; k < t.count(); ++k) dims->push_back(get_int(t.dtype(), t.data(), k));
    known = std::move(dims);
    return known.get();
  }
  void set(int i, graph::Type type) override {  // outputs that the node does not name are ignored
    if (i >= outputs()) return;
    if (const int s = step_.outputs[static_cast<size_t>(i)]; s != kNoSlot) b_.types_[static_cast<size_t>(s)] = std::move(type);
  }
  void set_data(int i, Dims elements) override {
    if (i >= outputs()) return;
    if (const int s = step_.outputs[static_cast<size_t>(i)]; s != kNoSlot && elements.size() <= 1024)
      b_.data_[static_cast<size_t>(s)] = std::make_shared<const Dims>(std::move(elements));
  }
  Dim fresh(std::string_view hint) override { return Dim::symbol(fmt::format("{}?", hint)); }

 private:
  int slot(int i) const { return step_.inputs[static_cast<size_t>(i)]; }
  Binder& b_;
  const Step& step_;
};

// scratch()'s and work()'s view of one step.
class Binder::Types final : public ops::BindContext {
 public:
  Types(const Binder& binder, const Step& step) : b_(binder), step_(step) {
    for (const int s : step.inputs) in_.push_back(view(s));
    for (const int s : step.outputs) out_.push_back(view(s));
  }
  bool has(int i) const override {
    return i < static_cast<int>(in_.size()) && in_[static_cast<size_t>(i)].dtype != DType::kUndefined;
  }
  const TensorView& in(int i) const override { return in_[static_cast<size_t>(i)]; }
  const TensorView& out(int i) const override { return out_[static_cast<size_t>(i)]; }
  const KernelTable& kernels() const override { return *b_.program_.kernels_; }
  Precision precision() const override { return b_.program_.options_.precision; }
  const ops::Prepared* prepared() const override { return step_.prepared.get(); }
  int workers() const override {
    const int limit = b_.program_.options_.threads;
    return limit > 0 ? std::min(limit, pool_size()) : pool_size();
  }

 private:
  TensorView view(int slot) {
    if (slot == kNoSlot) return {};
    const graph::Type& type = b_.types_[static_cast<size_t>(slot)];
    if (!concrete(type)) return {};
    shapes_.emplace_back();
    for (const Dim& d : *type.shape) shapes_.back().push_back(d.value());
    return {type.dtype, shapes_.back(), nullptr};
  }
  const Binder& b_;
  const Step& step_;
  std::list<Shape> shapes_;
  std::vector<TensorView> in_, out_;
};

Result<bool> Binder::bind_step(int i) {
  const Step& step = program_.steps_[static_cast<size_t>(i)];
  plan_->end = i + 1;
  // What a branch or body gives, or what lies in a sequence, is known when the step has run.
  if (!step.op->subgraphs().empty() || program_.has_other_kinds(step)) {
    add_active(i, true);
    return false;
  }
  Shapes shapes(*this, step);
  OCIOR_RETURN_IF_ERROR(with_context(step.op->infer(shapes), fmt::format("node '{}' ({})", step.name, step.op->name())));
  bool known = true;
  for (const int out : step.outputs) {
    if (out == kNoSlot) continue;
    graph::Type& type = types_[static_cast<size_t>(out)];
    if (type.dtype == DType::kUndefined) type.dtype = program_.slots_[static_cast<size_t>(out)].type.dtype;
    known &= concrete(type);
    if (!concrete(type)) continue;
    for (const Dim& d : *type.shape)
      if (d.value() < 0)
        return error(Code::kInvalidArgument, "node '{}' ({}): its output '{}' would have the shape {}", step.name,
                     step.op->name(), program_.slots_[static_cast<size_t>(out)].name, to_string(*type.shape));
  }
  if (!known) {
    if (!shapes.asked.empty()) {  // the next segment begins with this step and may read what it asked for
      for (const int out : step.outputs)
        if (out != kNoSlot) types_[static_cast<size_t>(out)] = {};
      plan_->end = i;
      plan_->needed = needed_of(shapes.asked);
      return false;
    }
    add_active(i, true);
    return false;
  }
  for (const int out : step.outputs) {
    if (out == kNoSlot) continue;
    Shape numbers;
    for (const Dim& d : *types_[static_cast<size_t>(out)].shape) numbers.push_back(d.value());
    const auto count = checked_element_count(numbers);
    if (!count.ok()) return with_context(count.status(), fmt::format("node '{}' ({})", step.name, step.op->name()));
    if (const size_t bytes = byte_count(types_[static_cast<size_t>(out)].dtype, *count); bytes > available_memory())
      return error(Code::kFail, "node '{}' ({}): out of memory: its output '{}' of shape {} would take {} bytes; there are {}",
                   step.name, step.op->name(), program_.slots_[static_cast<size_t>(out)].name, to_string(numbers), bytes,
                   available_memory());
  }
  OCIOR_ASSIGN(const bool folded, fold(step));
  if (folded) return true;
  if (step.op->info().view && step.inputs[0] != kNoSlot) {
    add_view(step.outputs[0], ShapePlan::kView);
    return true;
  }
  add_active(i, false);
  return true;
}

// What a step must read to know its shapes, out of all that it asked for: integers say sizes, and few of them.
std::vector<int> Binder::needed_of(const std::vector<int>& asked) const {
  constexpr int64_t kFew = 64;
  const auto count = [&](int slot) {
    int64_t n = 1;
    for (const Dim& d : *types_[static_cast<size_t>(slot)].shape) n *= d.value();
    return n;
  };
  std::vector<int> few, rest;
  for (const int slot : asked) {
    if (!concrete(types_[static_cast<size_t>(slot)]) || std::find(few.begin(), few.end(), slot) != few.end()) continue;
    const DType t = types_[static_cast<size_t>(slot)].dtype;
    (!is_floating(t) && t != DType::kString && count(slot) <= kFew ? few : rest).push_back(slot);
  }
  return few.empty() ? rest : few;
}

// Values that shapes alone decide become constants of the plan.
Result<bool> Binder::fold(const Step& step) {
  if (!step.op->pure()) return false;
  size_t bytes = 0;
  bool from_data = true, from_inputs = true;
  for (const int out : step.outputs) {
    if (out == kNoSlot) continue;
    const graph::Type& type = types_[static_cast<size_t>(out)];
    if (type.dtype == DType::kString) return false;
    int64_t count = 1;
    for (const Dim& d : *type.shape) count *= d.value();
    bytes += byte_count(type.dtype, count);
    const auto& data = data_[static_cast<size_t>(out)];
    from_data = from_data && data && static_cast<int64_t>(data->size()) == count && !is_floating(type.dtype) &&
                std::all_of(data->begin(), data->end(), [](const Dim& d) { return d.known(); });
  }
  std::vector<const Tensor*> inputs;
  for (const int in : step.inputs) {
    inputs.push_back(in == kNoSlot ? nullptr : &values_[static_cast<size_t>(in)]);
    from_inputs = from_inputs && (in == kNoSlot || (inputs.back()->defined() && inputs.back()->bytes() <= kFoldBytes));
  }
  if (bytes > kFoldBytes || (!from_data && !from_inputs)) return false;
  std::vector<Tensor> results;
  if (from_data) {
    for (const int out : step.outputs) {
      if (out == kNoSlot) {
        results.emplace_back();
        continue;
      }
      const graph::Type& type = types_[static_cast<size_t>(out)];
      Shape shape;
      for (const Dim& d : *type.shape) shape.push_back(d.value());
      OCIOR_ASSIGN(Tensor t, Tensor::allocate(type.dtype, std::move(shape)));
      const Dims& data = *data_[static_cast<size_t>(out)];
      for (size_t k = 0; k < data.size(); ++k) set_int(type.dtype, t.data(), static_cast<int64_t>(k), data[k].value());
      results.push_back(std::move(t));
    }
  } else {
    auto got = ops::run_reference(*step.op, inputs, static_cast<int>(step.outputs.size()));
    if (!got.ok()) return with_context(got.status(), fmt::format("node '{}' ({})", step.name, step.op->name()));
    results = std::move(got).value();
  }
  for (size_t k = 0; k < step.outputs.size(); ++k) {
    if (step.outputs[k] == kNoSlot) continue;
    values_[static_cast<size_t>(step.outputs[k])] = results[k];
    add_view(step.outputs[k], ShapePlan::kFolded);
    plan_->views.back().data = results[k].data();
    plan_->folded.push_back(std::move(results[k]));
  }
  return true;
}

void Binder::add_view(int slot, int64_t place) {
  const graph::Type& type = types_[static_cast<size_t>(slot)];
  TensorView view;
  if (concrete(type)) {
    view.dtype = type.dtype;
    Shape shape;
    for (const Dim& d : *type.shape) shape.push_back(d.value());
    plan_->shapes.push_back(std::move(shape));  // spans are set at the end, when the vector has stopped growing
  } else {
    plan_->shapes.emplace_back();
  }
  place_[static_cast<size_t>(slot)] = place;
  plan_->slots.push_back(slot);
  plan_->views.push_back(view);
}

void Binder::add_active(int i, bool dynamic) {
  const Step& step = program_.steps_[static_cast<size_t>(i)];
  plan_->active.push_back({i, 0, dynamic});
  for (const int out : step.outputs)
    if (out != kNoSlot && !dynamic) add_view(out, 0);
}

// Linear scan over the active steps with a best-fit free list; scratch lives for one step.
Status Binder::place() {
  struct Block {
    size_t offset, bytes;
  };
  std::vector<Block> free;
  std::map<int, std::vector<std::pair<int, Block>>> dying;  // step after which a root's block is free
  size_t top = 0;
  const auto take = [&](size_t bytes) {
    size_t best = free.size();
    for (size_t k = 0; k < free.size(); ++k)
      if (free[k].bytes >= bytes && (best == free.size() || free[k].bytes < free[best].bytes)) best = k;
    if (best < free.size()) {
      const Block b{free[best].offset, bytes};
      free[best].offset += bytes;
      free[best].bytes -= bytes;
      if (free[best].bytes == 0) free.erase(free.begin() + static_cast<int64_t>(best));
      return b;
    }
    if (!free.empty() && free.back().offset + free.back().bytes == top) {  // grow the last free block
      const Block b{free.back().offset, bytes};
      free.pop_back();
      top = b.offset + bytes;
      return b;
    }
    const Block b{top, bytes};
    if (__builtin_add_overflow(top, bytes, &top)) top = SIZE_MAX;  // no memory has that many: the run says so
    return b;
  };
  const auto give = [&](Block b) {
    if (b.bytes == 0) return;
    auto at = std::lower_bound(free.begin(), free.end(), b, [](const Block& x, const Block& y) { return x.offset < y.offset; });
    at = free.insert(at, b);
    if (at + 1 != free.end() && at->offset + at->bytes == (at + 1)->offset) {
      at->bytes += (at + 1)->bytes;
      free.erase(at + 1);
    }
    if (at != free.begin() && (at - 1)->offset + (at - 1)->bytes == at->offset) {
      (at - 1)->bytes += at->bytes;
      free.erase(at);
    }
  };
  // Blocks of roots whose last reader is `step` or before it (a folded or view step is no active one).
  const auto give_dead = [&](int step, std::span<const int> reused) {
    while (!dying.empty() && dying.begin()->first <= step) {
      for (const auto& [slot, block] : dying.begin()->second)
        if (std::find(reused.begin(), reused.end(), slot) == reused.end()) give(block);
      dying.erase(dying.begin());
    }
  };
  std::vector<size_t> bytes_of(program_.slots_.size(), 0);
  for (size_t k = 0; k < plan_->slots.size(); ++k)
    if (plan_->views[k].dtype != DType::kUndefined)
      bytes_of[static_cast<size_t>(plan_->slots[k])] =
          aligned(byte_count(plan_->views[k].dtype, element_count(plan_->shapes[k])));
  std::vector<Block> block_of(program_.slots_.size(), Block{0, 0});

  for (ShapePlan::Active& a : plan_->active) {
    const Step& step = program_.steps_[static_cast<size_t>(a.step)];
    const Types types(*this, step);
    if (!a.dynamic) plan_->work += step.op->work(types);
    give_dead(a.step - 1, {});
    std::vector<int> reused;
    if (!a.dynamic)
      for (const int out : step.outputs) {
        if (out == kNoSlot) continue;
        int64_t& place = place_[static_cast<size_t>(out)];
        const int last = program_.slots_[static_cast<size_t>(out)].last_step;
        if (program_.output_of(out) >= 0) {
          place = ShapePlan::kExternal;
          continue;
        }
        if (last >= plan_->end) {
          place = ShapePlan::kRegion;
          continue;
        }
        const size_t bytes = bytes_of[static_cast<size_t>(out)];
        Block block{0, 0};
        bool in_place = false;
        for (size_t k = 0; k < step.inputs.size() && out == step.outputs[0] && !in_place; ++k) {
          if (program_.options_.reference || !(step.op->info().in_place >> k & 1) || step.inputs[k] == kNoSlot) continue;
          const int in = program_.root(step.inputs[k]);
          const auto uses = std::count_if(step.inputs.begin(), step.inputs.end(),
                                          [&](int s) { return s != kNoSlot && program_.root(s) == in; });
          if (place_[static_cast<size_t>(in)] < 0 || block_of[static_cast<size_t>(in)].bytes != bytes || bytes == 0 ||
              uses != 1 || program_.slots_[static_cast<size_t>(in)].last_step != a.step ||
              types_[static_cast<size_t>(step.inputs[k])].dtype != types_[static_cast<size_t>(out)].dtype ||
              *types_[static_cast<size_t>(step.inputs[k])].shape != *types_[static_cast<size_t>(out)].shape)
            continue;
          block = block_of[static_cast<size_t>(in)];
          reused.push_back(in);
          in_place = true;
        }
        if (!in_place) block = take(bytes);
        block_of[static_cast<size_t>(out)] = block;
        place = static_cast<int64_t>(block.offset);
        dying[last].push_back({out, block});
      }
    if (const size_t scratch = a.dynamic || !program_.by_kernel(step) ? 0 : aligned(step.op->scratch(types)); scratch > 0) {
      if (scratch > available_memory())
        return error(Code::kFail, "node '{}' ({}): out of memory: it would work in {} bytes; there are {}", step.name,
                     step.op->name(), scratch, available_memory());
      const Block b = take(scratch);
      a.scratch = b.offset;
      give(b);  // free again for the next step's outputs, which are placed after this one's
    }
    give_dead(a.step, reused);
  }
  plan_->workspace = top;
  for (size_t k = 0; k < plan_->slots.size(); ++k) {
    plan_->views[k].shape = plan_->shapes[k];
    plan_->offsets.push_back(place_[static_cast<size_t>(plan_->slots[k])]);
  }
  return {};
}

Result<std::shared_ptr<const ShapePlan>> Program::bind(int begin, const std::vector<int64_t>& key, const Known& known,
                                                       std::span<const int> readable) const {
  {
    std::lock_guard lock(mutex_);
    if (const auto it = plans_.find(key); it != plans_.end()) {
      recent_.splice(recent_.begin(), recent_, it->second);
      hits_.fetch_add(1, std::memory_order_relaxed);
      return it->second->second;
    }
  }
  misses_.fetch_add(1, std::memory_order_relaxed);
  OCIOR_ASSIGN(auto plan, Binder(*this, begin, known, readable).run());
  std::lock_guard lock(mutex_);
  if (plans_.count(key)) return plan;  // another thread was faster
  recent_.emplace_front(key, plan);
  plans_[key] = recent_.begin();
  if (recent_.size() > options_.plan_capacity) {
    plans_.erase(recent_.back().first);
    recent_.pop_back();
  }
  return plan;
}

}  // namespace ocior::plan
