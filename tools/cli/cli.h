// What main.cpp and the subcommands share: how a subcommand registers itself, and the options that several of them have.
// Each subcommand is a file of its own; its options live in a struct that the parser fills and the action reads.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "ocior/ocior.h"

namespace ocior::cli {

// The work that the command line asks for; set by the callback of the subcommand, run by main() after parsing. Callbacks throw
// CLI::ValidationError for wrong use (exit code 2), actions return a Status for failures (exit code 1).
using Action = std::function<Status()>;

void add_ask(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_chat(CLI::App& app, Action& action);
void add_convert(CLI::App& app, Action& action);
void add_dump(CLI::App& app, Action& action);
void add_explain(CLI::App& app, Action& action);
void add_info(CLI::App& app, Action& action);
void add_run(CLI::App& app, Action& action);
void add_tokenize(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);

// How sessions are made: the options of every command that loads a model.
struct SessionFlags {
  int threads = 0;
  std::string precision = "highest";
  std::vector<std::string> disabled_passes;
  std::vector<std::string> config;
  bool reference = false;

  void add_to(CLI::App& command);
  SessionOptions options() const;
};

// An option that may be repeated, one value each time.
CLI::Option* add_repeated(CLI::App& command, const std::string& name, std::vector<std::string>& values, const std::string& help);

}  // namespace ocior::cli
