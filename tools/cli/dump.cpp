// `ocior dump`: the graph of a model after a stage of its load.
#include <memory>

#include "cli.h"
#include "model_source.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

struct DumpFlags {
  SessionFlags session;
  std::string model, stage = "simplify";
};

Status dump(const DumpFlags& flags) {
  SessionOptions options = flags.session.options();
  options.config["ocior.keep_stages"] = "1";
  OCIOR_ASSIGN(const LoadedModel loaded, load_model(flags.model, options));
  OCIOR_ASSIGN(const std::string text, loaded.session.dump(flags.stage));
  print(text);
  return {};
}

}  // namespace

void add_dump(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<DumpFlags>();
  CLI::App* command = app.add_subcommand("dump", "Print the graph of a model after a stage");
  command->add_option("MODEL", flags->model, "ONNX file or checkpoint folder")->required();
  command->add_option("--after", flags->stage, "import: as in the file; infer: with types and shapes; simplify: as it is run")
      ->check(CLI::IsMember({"import", "infer", "simplify"}))
      ->capture_default_str();
  flags->session.add_to(*command);
  command->footer("Example:\n  ocior dump --after=import model.onnx");
  command->callback([flags, &action] { action = [flags] { return dump(*flags); }; });
}

}  // namespace ocior::cli
