// The command line `ocior`: parses arguments, runs one subcommand, turns its Status into a message and an exit code.
#include <fmt/format.h>

#include <algorithm>
#include <clocale>
#include <csignal>
#include <exception>

#include "cli.h"
#include "interrupt.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

constexpr int kFailed = 1, kWrongUse = 2, kSignalled = 128;

void add_commands(CLI::App& app, Action& action) {
  add_ask(app, action);
  add_chat(app, action);
  add_convert(app, action);
  add_run(app, action);
  add_bench(app, action);
  add_info(app, action);
  add_explain(app, action);
  add_dump(app, action);
  add_tokenize(app, action);
  add_verify(app, action);
}

// CLI11 would take the text "[a, b]" for two values; a mark at its end hides it until the option takes it off.
constexpr char kMark = '\x01';

std::vector<std::string> marked(int count, char** arguments) {
  std::vector<std::string> out(arguments + 1, arguments + count);
  for (std::string& text : out) {
    if (text.starts_with('[') && text.ends_with(']')) text += kMark;
  }
  std::reverse(out.begin(), out.end());  // the order that CLI11's parse(vector) wants
  return out;
}

void take_off_marks(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands(nullptr)) {
    for (CLI::Option* option : command->get_options()) {
      if (option->get_items_expected_max() == 0) continue;
      option->transform([](std::string text) {
        if (text.ends_with(kMark)) text.pop_back();
        return text;
      });
    }
  }
}

// The subcommand whose options are wrong, for the hint.
std::string command_of(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? "" : " " + chosen.front()->get_name();
}

// CLI11 says no more than that a command is missing when there is one that it does not know.
std::string unknown_command(CLI::App& app, int count, char** arguments) {
  const std::string first = count > 1 ? arguments[1] : "";
  std::vector<std::string> known;
  for (const CLI::App* command : app.get_subcommands(nullptr)) known.push_back(command->get_name());
  if (first.empty() || first.starts_with('-') || std::find(known.begin(), known.end(), first) != known.end()) return "";
  return fmt::format("'{}' is no command; there are {}", first, fmt::join(known, ", "));
}

int wrong_use(const CLI::App& app, std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '.')) text.pop_back();
  warn(fmt::format("{}; see 'ocior{} --help'", one_line(text), command_of(app)));
  return kWrongUse;
}

// Messages of the library may have a second line, after the words of ONNX Runtime.
std::string sentence(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    if (const size_t begin = line.find_first_not_of(' '); begin != std::string_view::npos) {
      out += fmt::format("{}{}", out.empty() ? "" : " ", line.substr(begin));
    }
    at = end + 1;
  }
  return out;
}

int finish(Status status) {
  const Status written = flush_output();
  if (const int signal = caught_signal(); signal != 0 && !status.ok()) return kSignalled + signal;
  if (status.ok()) status = written;
  if (status.ok()) return 0;
  warn(sentence(status.message()));
  return kFailed;
}

int run(int count, char** arguments) {
  CLI::App app("Ocior runs ONNX models.", "ocior");
  app.set_version_flag("--version", fmt::format("ocior {}", version()), "Print the version and exit");
  app.footer(
      "Example:\n  ocior ask --context \"The river rises in the Black Forest.\" \"Where does the river rise?\"\n"
      "'ocior COMMAND --help' lists the options of a command.");
  app.require_subcommand(1);
  Action action;
  add_commands(app, action);
  take_off_marks(app);
  try {
    app.parse(marked(count, arguments));
  } catch (const CLI::Success& e) {  // --help, --version
    app.exit(e);
    return finish({});
  } catch (const CLI::ParseError& e) {
    const std::string unknown = unknown_command(app, count, arguments);
    return wrong_use(app, unknown.empty() ? e.what() : unknown);
  }
  return finish(action());
}

}  // namespace

CLI::Option* add_repeated(CLI::App& command, const std::string& name, std::vector<std::string>& values, const std::string& help) {
  return command.add_option(name, values, help)->allow_extra_args(false);
}

void SessionFlags::add_to(CLI::App& command) {
  command.add_flag_callback("-v,--verbose", show_notes, "Show notes of the library on standard error");
  command.add_option("--threads", threads, "Threads of a run; 0: every core the process may use")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  command.add_option("--precision", precision, "highest: as exact as fp32; high: about 16 bits; medium: bf16 products")
      ->check(CLI::IsMember({"highest", "high", "medium"}))
      ->capture_default_str();
  add_repeated(command, "--disable-pass", disabled_passes, "Leave out a pass that 'ocior explain' names; may be repeated");
  add_repeated(command, "--config", config, "A session option KEY=VALUE, such as ocior.cache=0; may be repeated")
      ->check([](const std::string& text) {
        return text.find('=') == std::string::npos ? "'" + text + "' is not KEY=VALUE" : std::string();
      });
}

SessionOptions SessionFlags::options() const {
  SessionOptions out;
  out.intra_op_num_threads = threads;
  out.disabled_passes = disabled_passes;
  out.config["ocior.precision"] = precision;
  if (reference) out.config["ocior.reference"] = "1";
  for (const std::string& entry : config) out.config[entry.substr(0, entry.find('='))] = entry.substr(entry.find('=') + 1);
  out.log = log;
  return out;
}

}  // namespace ocior::cli

int main(int count, char** arguments) {
  std::setlocale(LC_CTYPE, "C.UTF-8");
  ocior::cli::catch_signals();
  try {
    return ocior::cli::run(count, arguments);
  } catch (const std::bad_alloc&) {
    ocior::cli::warn("there is not enough memory");
  } catch (const std::exception& e) {
    ocior::cli::warn(fmt::format("unexpected: {}", e.what()));
  }
  return 1;
}
