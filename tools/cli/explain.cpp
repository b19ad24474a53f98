// `ocior explain`: which passes fired or why not, and what each step of a loaded model runs on.
#include <memory>

#include "cli.h"
#include "json_text.h"
#include "model_source.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

struct ExplainFlags {
  SessionFlags session;
  std::string model;
  bool json = false;
};

Status explain(const ExplainFlags& flags) {
  OCIOR_ASSIGN(const LoadedModel loaded, load_model(flags.model, flags.session.options()));
  const std::string text = loaded.session.explain(flags.json);
  if (!flags.json) print(text);
  else print_line(json_line(Json::parse(text)));
  return {};
}

}  // namespace

void add_explain(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<ExplainFlags>();
  CLI::App* command = app.add_subcommand("explain", "Show how a model runs: passes, kernels, precision");
  command->add_option("MODEL", flags->model, "ONNX file or checkpoint folder")->required();
  command->add_flag("--json", flags->json, "Print one JSON object");
  flags->session.add_to(*command);
  command->footer("Example:\n  ocior explain model.onnx");
  command->callback([flags, &action] { action = [flags] { return explain(*flags); }; });
}

}  // namespace ocior::cli
