// Tests of compiled programs: where values live (never over each other), what is folded or left to the next segment, and how many
// plans are kept.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "plan/program.h"

namespace ocior::plan {
namespace {

using graph::ValueId;

const Dim kB = Dim::symbol("b"), kS = Dim::symbol("s");

// A graph by hand.
struct Model {
  graph::Graph graph;

  ValueId input(const std::string& name, Dims dims, DType dtype = DType::kFloat) {
    const ValueId v = graph.add_value(name, graph::Type::tensor(dtype, std::move(dims)));
    graph.add_input(v);
    return v;
  }
  ValueId ints(std::vector<int64_t> values) {
    Tensor t = std::move(Tensor::allocate(DType::kInt64, {static_cast<int64_t>(values.size())})).value();
    std::copy(values.begin(), values.end(), t.as<int64_t>());
    return graph.add_constant("c", std::make_shared<const Tensor>(std::move(t)));
  }
  ValueId op(std::string_view name, std::vector<ValueId> inputs, graph::Attributes attributes = {}) {
    auto made = ops::make_operator("", name, ops::kNewestOpset, attributes, static_cast<int>(inputs.size()), 1);
    EXPECT_TRUE(made.ok()) << made.status().message();
    const ValueId out = graph.add_value(std::string(name) + std::to_string(graph.node_count()), {});
    const auto node = graph.add_node(graph.value(out).name, std::move(made).value(), std::move(inputs), {out});
    const Status status = graph::infer_node(graph, node);
    EXPECT_TRUE(status.ok()) << status.message();
    return out;
  }
  void output(ValueId v) { graph.add_output(v, "out"); }

  std::shared_ptr<const Program> compile(size_t plan_capacity = 64) const {
    std::vector<std::string> notes;
    auto program = Program::compile(graph, {.plan_capacity = plan_capacity}, notes);
    EXPECT_TRUE(program.ok()) << program.status().message();
    return std::move(program).value();
  }
};

// What the executor knows before the first segment.
struct BoundRun {
  const Program& program;
  std::vector<TensorView> views;
  std::vector<Tensor> inputs;
  std::vector<int64_t> key{0};

  BoundRun(const Program& p, std::vector<Tensor> in) : program(p), views(p.slots().size()), inputs(std::move(in)) {
    for (size_t i = 0; i < views.size(); ++i)
      if (const Tensor& t = p.slots()[i].constant; t.defined()) views[i] = {t.dtype(), t.shape(), const_cast<void*>(t.data())};
    for (size_t i = 0; i < inputs.size(); ++i) {
      views[static_cast<size_t>(p.inputs()[i])] = {inputs[i].dtype(), inputs[i].shape(), inputs[i].data()};
      key.insert(key.end(), inputs[i].shape().begin(), inputs[i].shape().end());
    }
  }
  std::shared_ptr<const ShapePlan> bind(int begin = 0, std::vector<int> readable = {}) {
    std::vector<int64_t> full = key;
    full.push_back(begin);
    full.push_back(static_cast<int64_t>(readable.size()));
    auto plan = program.bind(begin, full, {views}, readable);
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    return plan.ok() ? *plan : nullptr;
  }
};

Tensor floats(Shape shape) {
  Tensor t = std::move(Tensor::allocate(DType::kFloat, std::move(shape))).value();
  std::fill_n(t.as<float>(), t.count(), 1.0f);
  return t;
}

int64_t place_of(const ShapePlan& plan, int slot) {
  for (size_t k = 0; k < plan.slots.size(); ++k)
    if (plan.slots[k] == slot) return plan.offsets[k];
  ADD_FAILURE() << "slot " << slot << " has no place";
  return -99;
}
int64_t place_of(const Program& program, const ShapePlan& plan, size_t step) {
  return place_of(plan, program.steps()[step].outputs[0]);
}

// ---- Placement

class Sizes final : public ops::BindContext {
 public:
  Sizes(const Program& program, const Step& step, const std::map<int, TensorView>& views)
      : program_(program), step_(step), views_(views) {}
  bool has(int i) const override {
    return i < static_cast<int>(step_.inputs.size()) && step_.inputs[static_cast<size_t>(i)] != kNoSlot;
  }
  const TensorView& in(int i) const override { return views_.at(step_.inputs[static_cast<size_t>(i)]); }
  const TensorView& out(int i) const override { return views_.at(step_.outputs[static_cast<size_t>(i)]); }
  const KernelTable& kernels() const override { return program_.kernels(); }
  Precision precision() const override { return program_.precision(); }
  const ops::Prepared* prepared() const override { return step_.prepared.get(); }
  int workers() const override { return pool_size(); }

 private:
  const Program& program_;
  const Step& step_;
  const std::map<int, TensorView>& views_;
};

// A stretch of the workspace and the steps during which it is in use.
struct Interval {
  int slot;  // -1: scratch
  size_t begin, end;
  int first, last;
  bool over_its_input = false;
};

std::vector<Interval> intervals(const Program& program, const ShapePlan& plan, const std::vector<TensorView>& before) {
  std::map<int, TensorView> views;
  for (size_t i = 0; i < before.size(); ++i) views[static_cast<int>(i)] = before[i];
  for (size_t k = 0; k < plan.slots.size(); ++k) views[plan.slots[k]] = plan.views[k];
  std::vector<Interval> out;
  for (const ShapePlan::Active& a : plan.active) {
    const Step& step = program.steps()[static_cast<size_t>(a.step)];
    if (const size_t scratch = step.op->scratch(Sizes(program, step, views)); scratch > 0)
      out.push_back({-1, a.scratch, a.scratch + scratch, a.step, a.step});
    const int slot = step.outputs[0];
    const int64_t offset = place_of(plan, slot);
    if (offset < 0) continue;
    const size_t at = static_cast<size_t>(offset), bytes = byte_count(views[slot].dtype, views[slot].count());
    out.push_back(
        {slot, at, at + bytes, a.step, program.slots()[static_cast<size_t>(slot)].last_step, step.op->info().in_place != 0});
  }
  return out;
}

void expect_no_overlap(const Program& program, const ShapePlan& plan, const std::vector<TensorView>& before, unsigned seed) {
  const auto all = intervals(program, plan, before);
  for (const Interval& x : all) {
    EXPECT_LE(x.end, plan.workspace) << "seed " << seed;
    EXPECT_EQ(x.begin % 64, 0u);
    for (const Interval& y : all) {
      if (&x == &y || x.end <= y.begin || y.end <= x.begin || x.last < y.first || y.last < x.first) continue;
      const Interval &older = x.first < y.first ? x : y, &newer = x.first < y.first ? y : x;
      const bool in_place = newer.over_its_input && older.slot >= 0 && older.last == newer.first && older.begin == newer.begin &&
                            older.end == newer.end;
      EXPECT_TRUE(in_place) << "seed " << seed << ": slots " << x.slot << " (steps " << x.first << "-" << x.last << ") and "
                            << y.slot << " (steps " << y.first << "-" << y.last << ") share bytes";
    }
  }
}

Model random_model(unsigned seed) {
  std::mt19937 random(seed);
  Model m;
  std::vector<ValueId> square{m.input("x", {kB, 24, 24}), m.input("y", {kB, 24, 24})};
  const auto pick = [&] { return square[random() % square.size()]; };
  for (int i = 0; i < 30; ++i) {
    ValueId v;
    switch (random() % 9) {
      case 0: v = m.op("Relu", {pick()}); break;
      case 1: v = m.op("Neg", {pick()}); break;
      case 2: v = m.op("Add", {pick(), pick()}); break;
      case 3: v = m.op("MatMul", {pick(), pick()}); break;
      case 4: v = m.op("Softmax", {pick()}); break;
      case 5: v = m.op("Transpose", {pick()}, {{"perm", std::vector<int64_t>{0, 2, 1}}}); break;
      case 6: v = m.op("Reshape", {m.op("Relu", {m.op("Reshape", {pick(), m.ints({0, 576})})}), m.ints({0, 24, 24})}); break;
      case 7: v = m.op("Add", {pick(), m.op("ReduceMean", {pick(), m.ints({1})})}); break;
      default: v = m.op("Reshape", {m.op("Exp", {pick()}), m.op("Shape", {pick()})}); break;
    }
    square.push_back(v);
  }
  for (int i = 0; i < 3; ++i) m.output(m.op("Identity", {pick()}));
  m.output(m.op("Neg", {square.back()}));
  return m;
}

TEST(Placement, LiveValuesNeverOverlapInRandomGraphs) {
  for (unsigned seed = 0; seed < 150; ++seed) {
    const auto program = random_model(seed).compile();
    for (const int64_t batch : {1, 3}) {
      BoundRun run(*program, {floats({batch, 24, 24}), floats({batch, 24, 24})});
      const auto plan = run.bind();
      ASSERT_NE(plan, nullptr);
      EXPECT_EQ(plan->end, static_cast<int>(program->steps().size()));
      expect_no_overlap(*program, *plan, run.views, seed);
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(Placement, ElementwiseChainsRunInPlace) {
  Model m;
  m.output(m.op("Neg", {m.op("Exp", {m.op("Relu", {m.op("Neg", {m.input("x", {kB, 100})})})})}));
  const auto program = m.compile();
  BoundRun run(*program, {floats({7, 100})});
  const auto plan = run.bind();
  ASSERT_NE(program->steps()[1].op->info().in_place, 0u);
  EXPECT_EQ(plan->workspace, 2816u);  // 7 * 100 * 4, rounded to 64
  for (size_t step = 0; step < 3; ++step) EXPECT_EQ(place_of(*program, *plan, step), 0);
  EXPECT_EQ(place_of(*program, *plan, 3), ShapePlan::kExternal);
}

TEST(Placement, ValuesReadLaterAreNotOverwritten) {
  Model m;
  const ValueId a = m.op("Neg", {m.input("x", {kB, 100})}), b = m.op("Relu", {a});
  m.output(m.op("Add", {a, b}));
  const auto program = m.compile();
  BoundRun run(*program, {floats({7, 100})});
  const auto plan = run.bind();
  EXPECT_NE(place_of(*program, *plan, 0), place_of(*program, *plan, 1));
  EXPECT_EQ(plan->workspace, 2 * 2816u);
}

TEST(Placement, ViewsShareTheirBytesAndKeepThemAlive) {
  Model m;
  const ValueId a = m.op("Exp", {m.input("x", {kB, 100})}), view = m.op("Reshape", {a, m.ints({0, 10, 10})});
  const ValueId other = m.op("MatMul", {view, view});
  m.output(m.op("Add", {other, view}));
  const auto program = m.compile();
  BoundRun run(*program, {floats({7, 100})});
  const auto plan = run.bind();
  EXPECT_EQ(place_of(*program, *plan, 1), ShapePlan::kView);
  EXPECT_NE(place_of(*program, *plan, 0), place_of(*program, *plan, 2));
}

TEST(Placement, BytesWhoseLastReaderIsFoldedAreUsedAgain) {
  Model m;
  const ValueId x = m.input("x", {kB, 1000});
  const ValueId a = m.op("Exp", {x});
  m.output(m.op("ReduceMax", {a}));
  const ValueId shape = m.op("Shape", {a});  // after the last step that works on it
  const ValueId b = m.op("Softmax", {x});
  m.output(m.op("Reshape", {m.op("MatMul", {m.op("Transpose", {b}), b}),
                            m.op("Concat", {m.ints({-1}), m.op("Gather", {shape, m.ints({1})})}, {{"axis", int64_t{0}}})}));
  const auto program = m.compile();
  BoundRun run(*program, {floats({4, 1000})});
  const auto plan = run.bind();
  EXPECT_EQ(place_of(*program, *plan, 0), 0);
  EXPECT_EQ(place_of(*program, *plan, 3), 0) << "the bytes of the Exp were not given back";
  expect_no_overlap(*program, *plan, run.views, 0);
}

TEST(Placement, ProgramOutputsAreExternal) {
  Model m;
  const ValueId a = m.op("Exp", {m.input("x", {kB, 100})});
  m.output(m.op("Reshape", {a, m.ints({-1})}));
  m.output(m.op("Neg", {a}));
  const auto program = m.compile();
  BoundRun run(*program, {floats({7, 100})});
  const auto plan = run.bind();
  EXPECT_EQ(place_of(*program, *plan, 0), ShapePlan::kExternal);
  EXPECT_EQ(plan->workspace, 0u);
}

// ---- Folding and segments

TEST(Binding, ShapeIslandsAreFolded) {
  Model m;
  const ValueId x = m.input("x", {kB, kS, 12});
  const ValueId shape = m.op("Shape", {x});
  const ValueId b = m.op("Gather", {shape, m.ints({0})}), s = m.op("Gather", {shape, m.ints({1})});
  const ValueId target = m.op("Concat", {m.op("Mul", {b, s}), m.ints({3, 4})}, {{"axis", int64_t{0}}});
  m.output(m.op("Relu", {m.op("Reshape", {x, target})}));
  const auto program = m.compile();
  BoundRun run(*program, {floats({2, 5, 12})});
  const auto plan = run.bind();
  ASSERT_EQ(plan->active.size(), 1u);
  EXPECT_EQ(program->steps()[static_cast<size_t>(plan->active[0].step)].op->name(), "Relu");
  EXPECT_EQ(plan->folded.size(), 5u);
  EXPECT_EQ(plan->workspace, 0u);
  EXPECT_TRUE(plan->needed.empty());
  const int out = program->steps().back().outputs[0];
  EXPECT_EQ(plan->slots.back(), out);
  EXPECT_EQ(to_string(plan->views.back().shape), "[10, 3, 4]");
}

TEST(Binding, AValueThatDecidesAShapeEndsTheSegment) {
  Model m;
  const ValueId x = m.input("x", {kB, 12}), target = m.input("target", {3}, DType::kInt64);
  const ValueId y = m.op("Neg", {x});
  m.output(m.op("Relu", {m.op("Reshape", {y, m.op("Add", {target, m.ints({0, 0, 1})})})}));
  const auto program = m.compile();
  BoundRun run(*program, {floats({2, 12}), Tensor::of<int64_t>({3}, {4, 2, 2})});
  const auto first = run.bind();
  ASSERT_EQ(first->needed.size(), 1u);
  EXPECT_EQ(program->slots()[static_cast<size_t>(first->needed[0])].name,
            program->slots()[static_cast<size_t>(program->steps()[1].outputs[0])].name);
  EXPECT_EQ(program->steps()[static_cast<size_t>(first->end)].op->name(), "Reshape");
  for (size_t step = 0; step < 2; ++step)
    EXPECT_EQ(place_of(*program, *first, step), ShapePlan::kRegion) << "values of the next segment outlive the workspace";

  const Tensor sum = Tensor::of<int64_t>({3}, {4, 2, 3}), negated = floats({2, 12});
  run.views[static_cast<size_t>(first->needed[0])] = {DType::kInt64, sum.shape(), const_cast<void*>(sum.data())};
  run.views[static_cast<size_t>(program->steps()[0].outputs[0])] = {DType::kFloat, negated.shape(),
                                                                    const_cast<void*>(negated.data())};
  const auto second = run.bind(first->end, first->needed);
  EXPECT_EQ(second->end, static_cast<int>(program->steps().size()));
  EXPECT_TRUE(second->needed.empty());
  EXPECT_EQ(to_string(second->views.back().shape), "[4, 2, 3]");
}

TEST(Binding, AStepThatSizesItsOutputsEndsTheSegment) {
  Model m;
  m.output(m.op("Neg", {m.op("NonZero", {m.op("Relu", {m.input("x", {kB, 12})})})}));
  const auto program = m.compile();
  BoundRun run(*program, {floats({2, 12})});
  const auto plan = run.bind();
  EXPECT_EQ(plan->end, 2);
  EXPECT_TRUE(plan->needed.empty());
  EXPECT_TRUE(plan->active.back().dynamic);
}

TEST(Binding, ShapesThatDoNotFitAreErrorsThatNameTheNode) {
  Model m;
  m.output(m.op("Add", {m.input("x", {kB, 4}), m.input("y", {kS, 4})}));
  const auto program = m.compile();
  BoundRun run(*program, {floats({2, 4}), floats({3, 4})});
  const auto plan = program->bind(0, {1}, {run.views}, {});
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().message().find("node 'Add0' (Add): "), 0u) << plan.status().message();
  EXPECT_EQ(program->plan_count(), 0);
}

// ---- The bounded cache of plans

TEST(Plans, LeastRecentlyUsedGoFirst) {
  Model m;
  m.output(m.op("Relu", {m.input("x", {kB, 4})}));
  const auto program = m.compile(3);
  const auto bind = [&](int64_t batch) { return BoundRun(*program, {floats({batch, 4})}).bind(); };
  const auto one = bind(1);
  bind(2);
  bind(3);
  EXPECT_EQ(program->plan_count(), 3);
  EXPECT_EQ(bind(1), one);  // now the most recent
  EXPECT_EQ(program->plan_hits(), 1);
  bind(4);  // 2 goes
  EXPECT_EQ(program->plan_count(), 3);
  EXPECT_EQ(bind(1), one);
  EXPECT_EQ(program->plan_misses(), 4);
  bind(2);
  EXPECT_EQ(program->plan_misses(), 5);
  for (int64_t batch = 10; batch < 60; ++batch) bind(batch);
  EXPECT_EQ(program->plan_count(), 3);
  EXPECT_EQ(one->views.back().shape[0], 1) << "a plan in use outlives its place in the cache";
}

TEST(Plans, ACapacityOfNoneKeepsNone) {
  Model m;
  m.output(m.op("Relu", {m.input("x", {kB, 4})}));
  const auto program = m.compile(0);
  EXPECT_NE(BoundRun(*program, {floats({2, 4})}).bind(), nullptr);
  EXPECT_EQ(program->plan_count(), 0);
}

}  // namespace
}  // namespace ocior::plan
