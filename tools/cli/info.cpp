// `ocior info`: what an ONNX file holds, read without running or even understanding its operators.
#include <map>
#include <memory>

#include "base/error.h"
#include "base/mapped_file.h"
#include "cli.h"
#include "model_text.h"
#include "onnx/model.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

struct Contents {
  std::map<std::string, int64_t> operators;                    // "Gelu", "com.microsoft.Attention"
  std::map<std::string, std::pair<int64_t, int64_t>> weights;  // dtype -> elements, bytes
  int64_t parameters = 0, bytes = 0;
};

void count(const onnx::Tensor& tensor, Contents& out) {
  int64_t elements = 1;
  for (const int64_t d : tensor.dims) elements = d == 0 ? 0 : elements;
  for (const int64_t d : tensor.dims) elements *= elements == 0 ? 0 : d;  // checked against the payload by the reader
  auto& [known, bytes] = out.weights[std::string(name_of(tensor.dtype))];
  known += elements;
  bytes += static_cast<int64_t>(tensor.raw.size());
  out.parameters += elements;
  out.bytes += static_cast<int64_t>(tensor.raw.size());
}

void count(const onnx::Graph& graph, Contents& out);

void count(const std::vector<onnx::Node>& nodes, Contents& out) {
  for (const onnx::Node& node : nodes) {
    ++out.operators[node.domain.empty() ? node.op_type : node.domain + "." + node.op_type];
    for (const onnx::Attribute& attribute : node.attributes)
      for (const auto& graph : attribute.graphs) count(*graph, out);  // the reader limits the depth
  }
}

void count(const onnx::Graph& graph, Contents& out) {
  count(graph.nodes, out);
  for (const onnx::Tensor& tensor : graph.initializers) count(tensor, out);
  for (const onnx::SparseTensor& tensor : graph.sparse_initializers) count(tensor.values, out);
}

// Inputs without the initializers that old models also list as inputs.
std::vector<onnx::ValueInfo> real_inputs(const onnx::Graph& graph) {
  std::vector<onnx::ValueInfo> out;
  std::map<std::string_view, bool> weights;
  for (const onnx::Tensor& tensor : graph.initializers) weights[tensor.name] = true;
  for (const onnx::ValueInfo& input : graph.inputs)
    if (!weights.count(input.name)) out.push_back(input);
  return out;
}

int64_t file_bytes(const onnx::Model& model) {
  int64_t out = 0;
  for (const auto& file : model.files) out += static_cast<int64_t>(file->bytes().size());
  return out;
}

Json as_json(const std::string& path, const onnx::Model& m, const Contents& c) {
  Json out{{"model", path},
           {"bytes", file_bytes(m)},
           {"ir_version", m.ir_version},
           {"opsets", Json::object()},
           {"producer", m.producer_name},
           {"producer_version", m.producer_version},
           {"graph", m.graph.name},
           {"inputs", Json::array()},
           {"outputs", Json::array()}};
  for (const auto& [domain, version] : m.opset_imports) out["opsets"][domain.empty() ? "ai.onnx" : domain] = version;
  for (const auto& v : real_inputs(m.graph)) out["inputs"].push_back(value_json(v));
  for (const auto& v : m.graph.outputs) out["outputs"].push_back(value_json(v));
  out["operators"] = c.operators;
  out["parameters"] = c.parameters;
  out["weights"] = Json::object();
  for (const auto& [dtype, size] : c.weights) out["weights"][dtype] = {{"elements", size.first}, {"bytes", size.second}};
  out["metadata"] = Json::object();
  for (const auto& [key, value] : m.metadata) out["metadata"][key] = value;
  return out;
}

void print_text(const std::string& path, const onnx::Model& m, const Contents& c) {
  std::string opsets;
  for (const auto& [domain, version] : m.opset_imports) {
    opsets += fmt::format("{}{} {}", opsets.empty() ? "" : ", ", domain.empty() ? "ai.onnx" : one_line(domain), version);
  }
  print_line(
      fmt::format("{}: {}, IR version {}, opset {}", path, byte_text(static_cast<double>(file_bytes(m))), m.ir_version, opsets));
  if (!m.producer_name.empty())
    print_line(fmt::format("  made by   {} {}", one_line(m.producer_name), one_line(m.producer_version)));
  for (const auto& v : real_inputs(m.graph)) print_line("  input     " + value_text(v));
  for (const auto& v : m.graph.outputs) print_line("  output    " + value_text(v));
  print_line(fmt::format("  weights   {} parameters, {}", c.parameters, byte_text(static_cast<double>(c.bytes))));
  for (const auto& [dtype, size] : c.weights)
    print_line(fmt::format("            {:10} {:>12}  {}", dtype, size.first, byte_text(static_cast<double>(size.second))));
  int64_t nodes = 0;
  for (const auto& [name, number] : c.operators) nodes += number;
  print_line(fmt::format("  operators {} nodes", nodes));
  for (const auto& [name, number] : c.operators) print_line(fmt::format("            {:24} {:>6}", one_line(name), number));
  for (const auto& [key, value] : m.metadata) print_line(fmt::format("  metadata  {} = {}", one_line(key), one_line(value)));
}

Status info(const std::string& path, bool json) {
  OCIOR_ASSIGN(const onnx::Model model, onnx::read_file(path));
  Contents contents;
  count(model.graph, contents);
  for (const onnx::Function& function : model.functions) count(function.nodes, contents);
  if (json) print_line(json_line(as_json(path, model, contents)));
  else print_text(path, model, contents);
  return {};
}

struct InfoFlags {
  std::string model;
  bool json = false;
};

}  // namespace

void add_info(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<InfoFlags>();
  CLI::App* command = app.add_subcommand("info", "Show what an ONNX file holds");
  command->add_option("MODEL", flags->model, "ONNX file")->required();
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->footer(
      "Inputs, outputs, opsets, operators and their number, parameters, size and metadata. Nothing is run.\nExample:\n  ocior "
      "info model.onnx");
  command->callback([flags, &action] { action = [flags] { return info(flags->model, flags->json); }; });
}

}  // namespace ocior::cli
