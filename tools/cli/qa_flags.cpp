// See qa_flags.h.
#include "qa_flags.h"

#include "base/error.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

constexpr size_t kSquadAnswerTokens = 30;  // what the SQuAD script of transformers takes; the pipeline takes 15

// A text of one word with a slash or a suffix, such as notes/today or article.txt.
bool looks_like_file(const std::string& text) {
  if (text.empty() || text.size() > 4096 || text.find_first_of(" \t\r\n") != std::string::npos) return false;
  const size_t dot = text.rfind('.');
  const bool suffix = dot != std::string::npos && dot + 1 < text.size() && text.size() - dot <= 6;
  return suffix || text.find('/') != std::string::npos;
}

Json answer_object(const text::Answer& a) {
  return {{"answer", a.answer}, {"start", a.start}, {"end", a.end}, {"score", a.score}};
}

}  // namespace

void QaFlags::add_to(CLI::App& command) {
  context_option_ = command.add_option("--context", context, "The text that holds the answers; - reads it from standard input");
  file_option_ = command.add_option("--context-file", context_file, "A file with that text")->excludes(context_option_);
  command.add_option("--model", model,
                     "Checkpoint folder or ONNX file with its tokenizer beside it; default: the model that comes with Ocior");
  command.add_option("--top-k", answer.top_k, "Number of answers")->check(CLI::Range(1, 1000))->capture_default_str();
  length_option_ =
      command
          .add_option("--max-answer-len", answer.max_answer_len, "Longest answer in tokens (default: 15; 30 with --mode squad)")
          ->check(CLI::Range(1, 1000000));
  command.add_option("--max-seq-len", prepare.max_seq_len, "Tokens of a window with its question (default: 384)")
      ->check(CLI::Range(1, 1000000));
  command.add_option("--doc-stride", prepare.doc_stride, "Tokens that neighbouring windows share (default: 128)")
      ->check(CLI::Range(0, 1000000));
  command
      .add_option("--mode", mode,
                  "pipeline: scores are probabilities within a window; squad: sums of logits, as SQuAD's metrics take them")
      ->check(CLI::IsMember({"pipeline", "squad"}))
      ->capture_default_str();
  command.add_flag("--no-answer", answer.handle_impossible_answer, "Let \"there is no answer\" compete; it is the empty answer");
  command.add_flag("--json", json, "Print one JSON object a line");
  session.add_to(command);
}

text::AnswerOptions QaFlags::answer_options() const {
  text::AnswerOptions out = answer;
  if (mode == "squad") {
    out.mode = text::AnswerOptions::Mode::kSquad;
    if (length_option_->count() == 0) out.max_answer_len = kSquadAnswerTokens;
  }
  return out;
}

bool QaFlags::has_context() const { return context_option_->count() + file_option_->count() > 0; }

Result<std::string> QaFlags::read_context() const {
  constexpr std::string_view kRemedy = "name a text file, or pass the text itself with --context";
  if (file_option_->count()) return read_text(context_file, kRemedy);
  if (context == "-") return read_text("-", kRemedy);
  if (looks_like_file(context)) {
    return error(Code::kInvalidArgument,
                 "--context takes the text itself, but '{}' looks like the name of a file; pass the file with --context-file",
                 context);
  }
  return context;
}

std::string answer_text(const std::vector<text::Answer>& answers) {
  std::string out;
  for (const text::Answer& a : answers) {
    out += fmt::format("{} (score {:.4f})\n", a.answer.empty() ? "(no answer)" : one_line(a.answer), a.score);
  }
  return out;
}

std::string answer_json(const Json& id, const std::vector<text::Answer>& answers, size_t top_k) {
  Json out{{"id", id}};
  if (top_k == 1) {
    out.update(answer_object(answers.empty() ? text::Answer{} : answers.front()));
  } else {
    out["answers"] = Json::array();
    for (const text::Answer& a : answers) out["answers"].push_back(answer_object(a));
  }
  return json_line(out) + "\n";
}

void warn_of_changes(const std::string& name, const text::PreparedQuestion& question, const text::PrepareOptions& options) {
  if (question.question_truncated)
    warn(fmt::format("{}: it is too long and was cut to {} tokens", name, options.max_question_len));
  if (question.stride_clamped)
    warn(fmt::format("{}: windows share fewer tokens than asked, since so few are left beside the question", name));
}

}  // namespace ocior::cli
