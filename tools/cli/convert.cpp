// `ocior convert`: a checkpoint folder of Hugging Face Transformers becomes an ONNX file.
#include <memory>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "cli.h"
#include "interrupt.h"
#include "json_text.h"
#include "model_text.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

struct ConvertFlags {
  std::string folder, output, dtype = "fp32";
  checkpoint::ConvertOptions options;
  bool json = false;
};

Json values_json(const std::vector<onnx::ValueInfo>& values) {
  Json out = Json::array();
  for (const onnx::ValueInfo& v : values) out.push_back(value_json(v));
  return out;
}

void report(const ConvertFlags& flags, const checkpoint::ConvertSummary& s) {
  if (flags.json) {
    const Json out{{"output", flags.output},
                   {"model_type", s.model_type},
                   {"architecture", s.architecture},
                   {"task", s.task},
                   {"opset", s.opset},
                   {"dtype", flags.dtype},
                   {"inputs", values_json(s.inputs)},
                   {"outputs", values_json(s.outputs)},
                   {"parameters", s.parameters},
                   {"bytes", s.bytes},
                   {"unused", s.unused},
                   {"tokenizer_files", flags.options.copy_tokenizer ? s.tokenizer_files : std::vector<std::string>()}};
    return print_line(json_line(out));
  }
  print_line(fmt::format("{}: {} for {}, opset {}, {}, {} parameters, {}", flags.output,
                         s.architecture.empty() ? s.model_type : s.architecture, s.task, s.opset, flags.dtype, s.parameters,
                         byte_text(static_cast<double>(s.bytes))));
  for (const onnx::ValueInfo& v : s.inputs) print_line("  input   " + value_text(v));
  for (const onnx::ValueInfo& v : s.outputs) print_line("  output  " + value_text(v));
  if (!s.unused.empty()) print_line(fmt::format("  not needed: {}", fmt::join(s.unused, ", ")));
  if (flags.options.copy_tokenizer) print_line(fmt::format("  beside it: {}", fmt::join(s.tokenizer_files, ", ")));
}

Status convert(const ConvertFlags& flags) {
  checkpoint::ConvertOptions options = flags.options;
  options.dtype = flags.dtype == "fp16" ? DType::kFloat16 : DType::kFloat;
  Result<checkpoint::ConvertSummary> summary = [&] {
    Progress progress;
    options.progress = [&](const checkpoint::ConvertProgress& p) {
      progress.show(p.stage == "write" ? "writing " + flags.output : fmt::format("converting tensor {} of {}", p.done, p.total));
      return caught_signal() == 0;
    };
    return checkpoint::convert(flags.folder, flags.output, options);
  }();
  if (!summary.ok()) return summary.status();
  report(flags, *summary);
  return {};
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<ConvertFlags>();
  CLI::App* command = app.add_subcommand("convert", "Convert a Hugging Face checkpoint to ONNX");
  command->add_option("DIR", flags->folder, "Folder with config.json and model.safetensors or pytorch_model.bin")->required();
  command->add_option("-o,--output", flags->output, "The ONNX file to write")->required();
  command->add_option("--opset", flags->options.opset, "Opset of the model, 11 to 23")->capture_default_str();
  command->add_option("--task", flags->options.task,
                      "Head of the model, such as question-answering; default: what config.json says");
  command->add_option("--dtype", flags->dtype, "Type of weights and computation")
      ->check(CLI::IsMember({"fp32", "fp16"}))
      ->capture_default_str();
  command->add_flag("--with-tokenizer", flags->options.copy_tokenizer,
                    "Copy the tokenizer's files beside the model, where 'ocior ask --model' looks");
  command->add_flag("--json", flags->json, "Print what was done as a JSON object");
  command->footer("The file appears whole or not at all.\nExample:\n  ocior convert models/qa -o model.onnx");
  command->callback([flags, &action] { action = [flags] { return convert(*flags); }; });
}

}  // namespace ocior::cli
