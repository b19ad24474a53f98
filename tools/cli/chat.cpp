// `ocior chat`: a prompt that keeps a text and answers questions about it.
#include <csignal>
#include <memory>

#include "base/error.h"
#include "cli.h"
#include "interrupt.h"
#include "prompt.h"
#include "qa_engine.h"
#include "qa_flags.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

constexpr std::string_view kHelp =
    "A line is a question about the text. Commands:\n"
    "  /context TEXT   ask about this text from now on\n"
    "  /context @FILE  ask about the text of a file\n"
    "  /context        show the text\n"
    "  /help           show this\n"
    "  /quit           end, as Ctrl-D does\n";

class Chat {
 public:
  Chat(const QaEngine& engine, const QaFlags& flags, std::string context)
      : engine_(engine), flags_(flags), options_(flags.answer_options()), context_(std::move(context)) {}

  // Until the end of the input. Lines that failed have said so; a pipe makes them a failure at the end.
  Status talk() {
    Prompt prompt;
    if (prompt.edits()) print_line("Ask about the text; /help shows the commands, Ctrl-D ends.");
    std::string line;
    while (!ended_) {
      OCIOR_RETURN_IF_ERROR(flush_output());
      OCIOR_ASSIGN(const Prompt::Event event, prompt.next(line));
      if (event == Prompt::Event::kEnd) break;
      const Status status = event == Prompt::Event::kLine ? handle(line) : Status();
      if (caught_signal() == SIGTERM || (caught_signal() && !prompt.edits())) return interrupted();
      if (caught_signal()) {
        forget_signal();
      } else if (!status.ok()) {
        OCIOR_RETURN_IF_ERROR(flush_output());
        warn(status.message());
        ++failures_;
      }
    }
    if (prompt.edits() && !ended_) print("\n");
    if (prompt.edits() || failures_ == 0) return {};
    return error(Code::kFail, "{} of the lines could not be handled", failures_);
  }

 private:
  Status handle(std::string_view line) {
    const size_t begin = line.find_first_not_of(" \t\r"), end = line.find_last_not_of(" \t\r");
    if (begin == std::string_view::npos) return {};
    line = line.substr(begin, end - begin + 1);
    return line.front() == '/' ? command(line) : question(line);
  }

  Status command(std::string_view line) {
    const size_t space = line.find_first_of(" \t");
    const std::string_view name = line.substr(0, space);
    const size_t begin = space == std::string_view::npos ? space : line.find_first_not_of(" \t", space);
    const std::string_view rest = begin == std::string_view::npos ? "" : line.substr(begin);
    if (name == "/context") return set_context(std::string(rest));
    if (name == "/help") print(kHelp);
    else if (name == "/quit") ended_ = true;
    else return error(Code::kInvalidArgument, "unknown command '{}'; there are /context, /help and /quit", one_line(name));
    return {};
  }

  Status set_context(const std::string& text) {
    if (text.empty()) {
      print_line(context_.empty() ? "There is no text yet." : one_line(context_));
      return {};
    }
    if (text.front() != '@') {
      context_ = text;
      return {};
    }
    OCIOR_ASSIGN(context_, read_text(text.substr(1), "name a text file after /context @"));
    return {};
  }

  Status question(std::string_view text) {
    if (context_.empty())
      return error(Code::kInvalidArgument, "there is no text to ask about; give one with /context TEXT or /context @FILE");
    OCIOR_ASSIGN(const auto prepared, engine_.prepare(text, context_, flags_.prepare));
    warn_of_changes("the question", prepared, flags_.prepare);
    const auto show = [&](size_t, const std::vector<text::Answer>& answers) {
      print(flags_.json ? answer_json(++asked_, answers, options_.top_k) : answer_text(answers));
      return Status();
    };
    return engine_.answer({&prepared, 1}, options_, show, &run_options());
  }

  const QaEngine& engine_;
  const QaFlags& flags_;
  const text::AnswerOptions options_;
  std::string context_;
  size_t asked_ = 0, failures_ = 0;
  bool ended_ = false;
};

Status chat(const QaFlags& flags) {
  std::string context;
  if (flags.has_context()) {
    OCIOR_ASSIGN(context, flags.read_context());
  }
  OCIOR_ASSIGN(const QaEngine engine, QaEngine::open(flags.model, flags.session.options()));
  OCIOR_RETURN_IF_ERROR(interrupted());
  catch_signals(true);
  return Chat(engine, flags, std::move(context)).talk();
}

// Standard input is where the questions come from.
void check_use(const QaFlags& flags) {
  if (flags.context == "-" || flags.context_file == "-")
    throw CLI::ValidationError("chat", "reads questions from standard input, so the text must come from elsewhere");
}

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<QaFlags>();
  CLI::App* command = app.add_subcommand("chat", "Ask questions about a text at a prompt");
  flags->add_to(*command);
  command->footer(
      "Keeps the text and answers a question a line; /help lists the commands. Ctrl-C drops the line, Ctrl-D ends.\n"
      "Example:\n  ocior chat --context-file article.txt");
  command->callback([flags, &action] {
    check_use(*flags);
    action = [flags] { return chat(*flags); };
  });
}

}  // namespace ocior::cli
