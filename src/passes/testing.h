// For the tests of passes: graphs by hand, a run of them by the reference operators, and a simplification that is compared with
// the graph it came from. Header-only; included by *_test.cpp alone.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "ops/evaluate.h"
#include "ops/harness.h"
#include "passes/pass.h"
#include "passes/pipeline.h"

namespace ocior::passes::testing {

using graph::Attributes;

// A graph under construction. Every node is typed as it is added; a node that does not infer fails the test.
class Builder {
 public:
  graph::Graph graph;
  std::map<std::string, int64_t> symbols{{"b", 2}, {"s", 5}, {"t", 3}};  // what the symbols of input shapes stand for in a run

  ValueId input(const std::string& name, Dims dims, DType dtype = DType::kFloat) {
    const ValueId v = graph.add_value(name, graph::Type::tensor(dtype, std::move(dims)));
    graph.add_input(v);
    return v;
  }
  ValueId input_of_unknown_rank(const std::string& name, DType dtype = DType::kFloat) {
    const ValueId v = graph.add_value(name, graph::Type::tensor(dtype));
    graph.add_input(v);
    return v;
  }

  // A constant of `shape` whose elements are all `value`.
  ValueId full(double value, Shape shape = {}, DType dtype = DType::kFloat) {
    Tensor t = std::move(Tensor::allocate(dtype, std::move(shape))).value();
    for (int64_t i = 0; i < t.count(); ++i) set_double(dtype, t.data(), i, value);
    return constant(std::move(t));
  }
  // A constant of small random floats.
  ValueId weight(Shape shape, DType dtype = DType::kFloat) {
    Tensor t = std::move(Tensor::allocate(dtype, std::move(shape))).value();
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (int64_t i = 0; i < t.count(); ++i) set_double(dtype, t.data(), i, uniform(random_));
    return constant(std::move(t));
  }
  ValueId ints(std::vector<int64_t> values) {
    Tensor t = std::move(Tensor::allocate(DType::kInt64, {static_cast<int64_t>(values.size())})).value();
    std::copy(values.begin(), values.end(), t.as<int64_t>());
    return constant(std::move(t));
  }
  ValueId constant(Tensor t) {
    return graph.add_constant("c" + std::to_string(graph.value_count()), std::make_shared<const Tensor>(std::move(t)));
  }

  ValueId op(std::string_view name, std::vector<ValueId> inputs, Attributes attributes = {}, int opset = ops::kNewestOpset) {
    return many(name, std::move(inputs), 1, std::move(attributes), opset)[0];
  }
  std::vector<ValueId> many(std::string_view name, std::vector<ValueId> inputs, int outputs, Attributes attributes = {},
                            int opset = ops::kNewestOpset, std::string_view domain = "") {
    auto made = ops::make_operator(domain, name, opset, attributes, static_cast<int>(inputs.size()), outputs);
    EXPECT_TRUE(made.ok()) << made.status().message();
    const std::string node = std::string(name) + "_" + std::to_string(graph.node_count());
    std::vector<ValueId> out;
    for (int i = 0; i < outputs; ++i) out.push_back(graph.add_value(node + "/" + std::to_string(i), {}));
    const NodeId id = graph.add_node(node, std::move(made).value(), std::move(inputs), out);
    const Status status = graph::infer_node(graph, id);
    EXPECT_TRUE(status.ok()) << status.message();
    return out;
  }
  void output(ValueId v) { graph.add_output(v, "out" + std::to_string(graph.outputs().size())); }

  // Random values for the inputs: floats in [-2, 2], integers and bools of {0, 1}.
  std::vector<Tensor> feeds(uint64_t seed) const {
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<double> uniform(-2, 2);
    std::vector<Tensor> out;
    for (const ValueId in : graph.inputs()) {
      const graph::Type& type = graph.value(in).type;
      Shape shape;
      for (const Dim& d : type.shape.value_or(Dims{2, 4}))
        shape.push_back(d.known() ? d.value() : symbols.at(*d.single_symbol()));
      Tensor t = std::move(Tensor::allocate(type.dtype, std::move(shape))).value();
      for (int64_t i = 0; i < t.count(); ++i)
        set_double(type.dtype, t.data(), i, is_floating(type.dtype) ? uniform(random) : static_cast<double>(random() % 4 != 0));
      out.push_back(std::move(t));
    }
    return out;
  }

 private:
  std::mt19937_64 random_{7};
};

// Runs a graph by the references of its operators.
inline std::vector<Tensor> run(const graph::Graph& graph, const std::vector<Tensor>& inputs) {
  std::vector<Tensor> values(graph.value_count());
  for (size_t i = 0; i < values.size(); ++i)
    if (graph.value(static_cast<ValueId>(i)).constant) values[i] = *graph.value(static_cast<ValueId>(i)).constant;
  for (size_t i = 0; i < inputs.size(); ++i) values[static_cast<size_t>(graph.inputs()[i])] = inputs[i];
  const auto order = graph.order();
  EXPECT_TRUE(order.ok());
  for (const NodeId id : *order) {
    const Node& node = graph.node(id);
    std::vector<const Tensor*> in;
    for (const ValueId v : node.inputs) in.push_back(v == kNone ? nullptr : &values[static_cast<size_t>(v)]);
    auto out = ops::run_reference(*node.op, in, static_cast<int>(node.outputs.size()));
    EXPECT_TRUE(out.ok()) << node.name << ": " << out.status().message();
    if (!out.ok()) return {};
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != kNone) values[static_cast<size_t>(node.outputs[i])] = (*out)[i];
  }
  std::vector<Tensor> outputs;
  for (const ValueId v : graph.outputs()) outputs.push_back(values[static_cast<size_t>(v)]);
  return outputs;
}

// Options that leave only the named passes on.
inline SimplifyOptions only(std::vector<std::string> names) {
  graph::Graph empty;
  SimplifyOptions options;
  const auto report = simplify(empty);
  EXPECT_TRUE(report.ok());
  for (const auto& entry : report->passes)
    if (std::find(names.begin(), names.end(), entry.name) == names.end()) options.disabled.push_back(entry.name);
  return options;
}

// Simplifies b's graph and checks that it is consistent, computes what it computed, and that a second time changes nothing.
inline PassReport simplified(Builder& b, const SimplifyOptions& options = {}, double tolerance = 1e-5) {
  EXPECT_TRUE(graph::verify(b.graph).ok()) << graph::verify(b.graph).message();
  const std::vector<Tensor> inputs = b.feeds(11);
  const std::vector<Tensor> want = run(b.graph, inputs);
  auto report = simplify(b.graph, options);
  EXPECT_TRUE(report.ok()) << report.status().message();
  EXPECT_TRUE(graph::verify(b.graph).ok()) << graph::verify(b.graph).message();
  const std::vector<Tensor> got = run(b.graph, inputs);
  EXPECT_EQ(want.size(), got.size());
  for (size_t i = 0; i < want.size() && i < got.size(); ++i)
    EXPECT_EQ(ops::difference(want[i], got[i], tolerance), "") << "output " << i << "\n" << graph::print(b.graph);
  const auto again = simplify(b.graph, options);
  for (const auto& entry : again->passes) EXPECT_EQ(entry.fired, 0) << entry.name << " fires again\n" << graph::print(b.graph);
  return std::move(report).value();
}

// Live nodes of one operator.
inline int count(const graph::Graph& graph, std::string_view op, std::string_view domain = "") {
  int n = 0;
  for (NodeId i = 0; i < static_cast<NodeId>(graph.node_count()); ++i)
    n += !graph.node(i).dead && graph.node(i).op->name() == op && graph.node(i).op->domain() == domain;
  return n;
}
inline int count_all(const graph::Graph& graph) { return static_cast<int>(graph.order()->size()); }

// The node that makes output i.
inline const Node& maker(const graph::Graph& graph, size_t i = 0) { return graph.node(graph.value(graph.outputs()[i]).producer); }

inline const PassReport::Entry& entry(const PassReport& report, std::string_view pass) {
  for (const auto& e : report.passes)
    if (e.name == pass) return e;
  ADD_FAILURE() << "no pass " << pass;
  return report.passes[0];
}
inline int fired(const PassReport& report, std::string_view pass) { return entry(report, pass).fired; }

// Why `pass` left something alone; one line per reason.
inline std::string misses(const PassReport& report, std::string_view pass) {
  std::string out;
  for (const auto& m : entry(report, pass).misses) out += m + "\n";
  return out;
}

// `pass` did not fire, and said why.
inline void expect_miss(const PassReport& report, std::string_view pass, const std::string& reason, int line) {
  ::testing::ScopedTrace trace(__FILE__, line, "line of the test");
  EXPECT_EQ(fired(report, pass), 0);
  EXPECT_NE(misses(report, pass).find(reason), std::string::npos)
      << "expected '" << reason << "' among the misses of " << pass << ":\n"
      << misses(report, pass);
}
#define EXPECT_MISS(report, pass, reason) expect_miss(report, pass, reason, __LINE__)

}  // namespace ocior::passes::testing
