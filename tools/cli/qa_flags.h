// The options of question answering, shared by `ask` and `chat`, and how answers look.
#pragma once

#include <string>
#include <vector>

#include "cli.h"
#include "json_text.h"
#include "text/qa.h"

namespace ocior::cli {

struct QaFlags {
  SessionFlags session;
  std::string model, context, context_file, mode = "pipeline";
  text::PrepareOptions prepare;
  text::AnswerOptions answer;
  bool json = false;

  // All of them; `command` gets callbacks that check values.
  void add_to(CLI::App& command);
  text::AnswerOptions answer_options() const;
  bool has_context() const;
  // The text of --context or --context-file. Errors name the file.
  Result<std::string> read_context() const;

 private:
  CLI::Option* context_option_ = nullptr;
  CLI::Option* file_option_ = nullptr;
  CLI::Option* length_option_ = nullptr;
};

// Answers for people, one a line: "the Black Forest (score 0.9876)".
std::string answer_text(const std::vector<text::Answer>& answers);

// {"id", "answer", "start", "end", "score"}; for top_k > 1 {"id", "answers": [{"answer", …}, …]}.
std::string answer_json(const Json& id, const std::vector<text::Answer>& answers, size_t top_k);

// Says on standard error what was changed to make a question fit.
void warn_of_changes(const std::string& name, const text::PreparedQuestion& question, const text::PrepareOptions& options);

}  // namespace ocior::cli
