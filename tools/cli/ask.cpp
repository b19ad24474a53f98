// `ocior ask`: answers to questions about a text, or to a file of questions.
#include <memory>
#include <optional>

#include "base/error.h"
#include "cli.h"
#include "interrupt.h"
#include "qa_engine.h"
#include "qa_flags.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

constexpr size_t kBlockQuestions = 1024;          // questions of a batch file that are sorted by length together
constexpr size_t kBlockBytes = size_t{32} << 20;  // or fewer, when they are long

struct AskFlags {
  QaFlags qa;
  std::vector<std::string> questions;
  std::string batch;
  CLI::Option* batch_option = nullptr;
};

// A question with the place that errors name and the id that answers carry.
struct Item {
  std::string place, question, context;
  Json id;
};

// One line of a batch file.
Result<Item> parse_item(const std::string& line, const std::string& place, size_t number) {
  Json parsed;
  try {
    parsed = Json::parse(line);
  } catch (const Json::exception& e) {
    return error(Code::kInvalidArgument, "{}: is not JSON; a line is {{\"id\": …, \"question\": \"…\", \"context\": \"…\"}}",
                 place);
  }
  const auto text = [&](const char* key) -> const std::string* {
    const auto it = parsed.is_object() ? parsed.find(key) : parsed.end();
    return it != parsed.end() && it->is_string() ? it->get_ptr<const std::string*>() : nullptr;
  };
  const std::string *question = text("question"), *context = text("context");
  if (!question || !context) {
    return error(Code::kInvalidArgument, "{}: has no {}; a line is {{\"id\": …, \"question\": \"…\", \"context\": \"…\"}}", place,
                 question ? "\"context\" with a text" : "\"question\" with a text");
  }
  Item item{place, *question, *context, number};
  if (const auto id = parsed.find("id"); id != parsed.end()) item.id = *id;
  if (item.id.is_structured())
    return error(Code::kInvalidArgument, "{}: its \"id\" is an array or object; make it a string or a number", place);
  return item;
}

// Cuts, runs and prints questions in their order.
class Asker {
 public:
  Asker(const QaEngine& engine, const QaFlags& flags) : engine_(engine), flags_(flags), options_(flags.answer_options()) {}

  Status ask(const std::vector<Item>& items) {
    std::vector<text::PreparedQuestion> prepared;
    Status unusable;
    for (const Item& item : items) {
      OCIOR_RETURN_IF_ERROR(interrupted());
      auto one = engine_.prepare(item.question, item.context, flags_.prepare);
      if (!one.ok()) {
        unusable = with_context(one.status(), item.place);
        break;  // the questions before it are answered
      }
      warn_of_changes(item.place, *one, flags_.prepare);
      prepared.push_back(std::move(*one));
    }
    Status status = engine_.answer(
        prepared, options_,
        [&](size_t i, std::vector<text::Answer> answers) {
          print(flags_.json ? answer_json(items[i].id, answers, options_.top_k) : answer_text(answers));
          ++answered_;
          return Status();
        },
        &run_options());
    OCIOR_RETURN_IF_ERROR(std::move(status));
    return unusable;
  }

  size_t answered() const { return answered_; }

 private:
  const QaEngine& engine_;
  const QaFlags& flags_;
  const text::AnswerOptions options_;
  size_t answered_ = 0;
};

Status ask_batch(const QaEngine& engine, const AskFlags& flags, LineReader lines) {
  const std::string name = flags.batch == "-" ? "standard input" : flags.batch;
  Asker asker(engine, flags.qa);
  Progress progress;
  std::string line;
  size_t number = 0;
  for (bool more = true; more;) {
    std::vector<Item> block;
    Status wrong;
    for (size_t bytes = 0; block.size() < kBlockQuestions && bytes < kBlockBytes && (block.empty() || lines.ready());
         bytes += line.size()) {
      OCIOR_ASSIGN(more, lines.next(line));
      if (!more) break;
      ++number;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      auto item = parse_item(line, fmt::format("{}:{}", name, number), number);
      if (!item.ok()) {
        wrong = item.status();
        break;
      }
      block.push_back(std::move(*item));
    }
    OCIOR_RETURN_IF_ERROR(asker.ask(block));
    OCIOR_RETURN_IF_ERROR(std::move(wrong));
    OCIOR_RETURN_IF_ERROR(flush_output());
    progress.show(fmt::format("{} questions answered", asker.answered()));
  }
  if (asker.answered() == 0) return error(Code::kInvalidArgument, "{}: holds no question; pass one JSON object a line", name);
  return {};
}

Status ask_questions(const QaEngine& engine, const AskFlags& flags, const std::string& context) {
  std::vector<Item> items;
  for (const std::string& question : flags.questions) {
    const size_t number = items.size() + 1;
    items.push_back(
        {flags.questions.size() == 1 ? "the question" : fmt::format("question {}", number), question, context, number});
  }
  return Asker(engine, flags.qa).ask(items);
}

// What the user wrote is read before the model, which takes longer.
Status ask(const AskFlags& flags) {
  std::optional<LineReader> lines;
  std::string context;
  if (flags.batch_option->count()) {
    OCIOR_ASSIGN(LineReader opened, LineReader::open(flags.batch, "name a file with one JSON object a line"));
    lines.emplace(std::move(opened));
  } else {
    OCIOR_ASSIGN(context, flags.qa.read_context());
    if (context.find_first_not_of(" \t\r\n") == std::string::npos) {
      return error(Code::kInvalidArgument, "the context is empty; pass the text that holds the answer");
    }
  }
  OCIOR_ASSIGN(const QaEngine engine, QaEngine::open(flags.qa.model, flags.qa.session.options()));
  return lines ? ask_batch(engine, flags, std::move(*lines)) : ask_questions(engine, flags, context);
}

void check_use(const AskFlags& flags) {
  if (flags.batch_option->count()) {
    if (flags.qa.has_context() || !flags.questions.empty())
      throw CLI::ValidationError("--batch", "has questions and contexts of its own; leave the others out");
    return;
  }
  if (!flags.qa.has_context())
    throw CLI::ValidationError("ask", "needs a text with --context or --context-file, or questions with --batch");
  if (flags.questions.empty()) throw CLI::ValidationError("ask", "needs a question after the options");
}

}  // namespace

void add_ask(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<AskFlags>();
  CLI::App* command = app.add_subcommand("ask", "Answer questions about a text");
  command->add_option("QUESTION", flags->questions, "Questions, each an argument");
  flags->batch_option = command->add_option("--batch", flags->batch,
                                            "A file of JSON lines {\"id\", \"question\", \"context\"}; - reads standard input");
  flags->qa.add_to(*command);
  command->footer(
      "Prints an answer and its score for each question, in their order. With --json start and end count Unicode code points of "
      "the\n"
      "context, and id is that of the line, else its number.\n"
      "Examples:\n"
      "  ocior ask --context \"The river rises in the Black Forest.\" \"Where does the river rise?\"\n"
      "  ocior ask --batch questions.jsonl --json > answers.jsonl");
  command->callback([flags, &action] {
    check_use(*flags);
    action = [flags] { return ask(*flags); };
  });
}

}  // namespace ocior::cli
