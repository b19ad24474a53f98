// `ocior tokenize`: the tokens of texts, as a model would get them.
#include <memory>

#include "base/error.h"
#include "cli.h"
#include "json_text.h"
#include "model_source.h"
#include "terminal.h"
#include "text/tokenizer.h"

namespace ocior::cli {
namespace {

struct TokenizeFlags {
  std::string model;
  std::vector<std::string> texts;
  bool json = false;
};

std::string as_json(const text::Encoding& e) {
  Json out{{"ids", e.ids}, {"tokens", e.tokens}, {"type_ids", e.type_ids}, {"offsets", Json::array()}};
  for (const text::Span& span : e.offsets) out["offsets"].push_back({span.begin, span.end});
  return json_line(out);
}

std::string as_text(const text::Encoding& e) {
  std::string out;
  for (size_t i = 0; i < e.size(); ++i) {
    out += fmt::format("{:>7}  {:<20} {}:{}\n", e.ids[i], one_line(e.tokens[i]), e.offsets[i].begin, e.offsets[i].end);
  }
  return out;
}

Status tokenize(const TokenizeFlags& flags) {
  std::string folder = flags.model;
  if (folder.empty()) {
    OCIOR_ASSIGN(folder, default_model());
  }
  OCIOR_ASSIGN(const text::Tokenizer tokenizer, text::Tokenizer::from_folder(folder));
  for (const std::string& text : flags.texts) {
    OCIOR_ASSIGN(const text::Encoding encoding, tokenizer.encode(text));
    print_line(flags.json ? as_json(encoding) : as_text(encoding));
  }
  return {};
}

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* command = app.add_subcommand("tokenize", "Show the tokens of a text");
  command->add_option("TEXT", flags->texts, "Texts, each an argument")->required();
  command->add_option("--model", flags->model,
                      "Folder with tokenizer.json or vocab.txt; default: that of the model that comes with Ocior");
  command->add_flag("--json", flags->json, "Print one JSON object for each text");
  command->footer(
      "Prints id, token and its place in the text, in code points.\nExample:\n  ocior tokenize \"Where does the river rise?\"");
  command->callback([flags, &action] { action = [flags] { return tokenize(*flags); }; });
}

}  // namespace ocior::cli
