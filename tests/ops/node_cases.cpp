// Runs single-node models whose inputs and expected outputs are initializers (ops_vs_onnx.py writes them): every node by its
// reference and by its CPU path on every kernel table. Prints a line per file: its name, a tab, then "ok", "unknown <why>" or
// "wrong <why>".
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "onnx/import_graph.h"
#include "onnx/model.h"
#include "ops/evaluate.h"
#include "ops/harness.h"

namespace ocior {
namespace {

constexpr std::string_view kExpected = "expected_";

using Values = std::map<graph::ValueId, Tensor>;
using Runner = Result<std::vector<Tensor>> (*)(const ops::AnyOperator& op, std::span<const Tensor* const> inputs, int outputs,
                                               const KernelTable* table);

Result<std::vector<Tensor>> by_reference(const ops::AnyOperator& op, std::span<const Tensor* const> inputs, int outputs,
                                         const KernelTable*) {
  return ops::run_reference(op, inputs, outputs);
}

Result<std::vector<Tensor>> by_kernels(const ops::AnyOperator& op, std::span<const Tensor* const> inputs, int outputs,
                                       const KernelTable* table) {
  if (!op.has_run()) return ops::run_reference(op, inputs, outputs);
  return ops::run_cpu(op, inputs, outputs, {.kernels = table, .hide_values = true});
}

// Every node in order; the values of the graph afterwards.
Result<Values> evaluate(const graph::Graph& graph, Runner run, const KernelTable* table) {
  Values values;
  for (size_t i = 0; i < graph.value_count(); ++i)
    if (const auto& constant = graph.value(static_cast<graph::ValueId>(i)).constant)
      values[static_cast<graph::ValueId>(i)] = *constant;
  OCIOR_ASSIGN(const auto order, graph.order());
  for (const graph::NodeId id : order) {
    const graph::Node& node = graph.node(id);
    std::vector<const Tensor*> inputs;
    for (const graph::ValueId v : node.inputs) inputs.push_back(v == graph::kNone ? nullptr : &values.at(v));
    const auto* op = dynamic_cast<const ops::AnyOperator*>(node.op.get());
    if (!op) return error(Code::kFail, "an operator of unknown kind");
    OCIOR_ASSIGN(auto outputs, run(*op, inputs, static_cast<int>(node.outputs.size()), table));
    for (size_t k = 0; k < outputs.size(); ++k)
      if (node.outputs[k] != graph::kNone) values[node.outputs[k]] = std::move(outputs[k]);
  }
  return values;
}

// Empty, or what differs between the graph's outputs and the expected constants; those of a rounded case have four digits.
std::string compare(const graph::Graph& graph, const Values& values, bool rounded) {
  std::map<std::string, const Tensor*> expected;
  for (size_t i = 0; i < graph.value_count(); ++i) {
    const graph::ValueInfo& v = graph.value(static_cast<graph::ValueId>(i));
    if (v.constant && v.name.starts_with(kExpected)) expected[v.name.substr(kExpected.size())] = v.constant.get();
  }
  if (expected.empty()) return "no expected outputs";
  for (const graph::ValueId id : graph.outputs()) {
    const auto want = expected.find(graph.value(id).name);
    if (want == expected.end()) return "no expected value of '" + graph.value(id).name + "'";
    const DType t = want->second->dtype();
    const bool exact = t == DType::kFloat || t == DType::kDouble;
    const double tolerance = exact ? (rounded ? 2e-4 : 2e-6) : t == DType::kBFloat16 ? 1e-2 : 2e-3;
    if (std::string d = ops::difference(*want->second, values.at(id), tolerance); !d.empty()) return d;
  }
  return "";
}

std::string check(const graph::Graph& graph, Runner run, const KernelTable* table, const std::string& how, bool rounded) {
  const auto values = evaluate(graph, run, table);
  if (!values.ok()) return how + ": " + values.status().message();
  const std::string d = compare(graph, *values, rounded);
  return d.empty() ? "" : how + ": " + d;
}

std::string run_file(const std::string& path) {
  const auto model = onnx::read_file(path);
  if (!model.ok()) return "unknown " + model.status().message();
  auto graph = onnx::import_graph(*model);
  if (!graph.ok()) return "unknown " + graph.status().message();
  const bool rounded = path.ends_with(".rounded.onnx");
  std::string wrong = check(*graph, &by_reference, nullptr, "reference", rounded);
  const KernelTables tables = available_kernels();
  for (size_t i = 0; i < tables.count && wrong.empty(); ++i)
    wrong = check(*graph, &by_kernels, tables.tables[i], tables.tables[i]->name, rounded);
  return wrong.empty() ? "ok" : "wrong " + wrong;
}

}  // namespace
}  // namespace ocior

int main(int count, char** paths) {
  for (int i = 1; i < count; ++i) {
    std::string line = ocior::run_file(paths[i]);
    for (char& c : line)
      if (c == '\n') c = ' ';
    std::printf("%s\t%s\n", paths[i], line.c_str());
    std::fflush(stdout);
  }
  return 0;
}
