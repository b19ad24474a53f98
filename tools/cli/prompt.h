// A line at a time from a person at a terminal, with editing and history, or from a pipe.
// One for a process, since libedit owns the terminal meanwhile; for the main thread.
#pragma once

#include <memory>
#include <string>

#include "ocior/status.h"

namespace ocior::cli {

class Prompt {
 public:
  enum class Event { kLine, kCancelled, kEnd };  // kCancelled: a signal came, and the line so far is gone

  // Reads standard input; edits when both it and standard output are terminals.
  Prompt();
  ~Prompt();
  Prompt(const Prompt&) = delete;
  Prompt& operator=(const Prompt&) = delete;

  bool edits() const;
  Result<Event> next(std::string& line);

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;
  struct Pipe;
  std::unique_ptr<Pipe> pipe_;
};

}  // namespace ocior::cli
