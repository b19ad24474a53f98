// What commands print and read: results on standard output, the rest on standard error, text from files and standard input.
// For the main thread only.
#pragma once

#include <string>
#include <string_view>

#include "ocior/session.h"
#include "ocior/status.h"

namespace ocior::cli {

// Appends to standard output. A write that fails (disk full) shows in flush_output().
void print(std::string_view text);
void print_line(std::string_view line);
// Everything printed has been taken by the system, or why not.
Status flush_output();

// "ocior: text" on standard error.
void warn(std::string_view text);

// Shows the library's warnings and errors; its notes too after show_notes().
void log(LogLevel level, std::string_view text);
void show_notes();

// `text` in one line, without characters that command a terminal.
std::string one_line(std::string_view text);

// One changing line on standard error, only when that is a terminal; gone when it ends.
class Progress {
 public:
  Progress();
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void show(std::string_view text);

 private:
  bool terminal_;
  bool shown_ = false;
};

// The text of a file of at most 256 MiB, or of standard input for "-". Errors name the file and end with `remedy`.
Result<std::string> read_text(const std::string& path, std::string_view remedy);

// Lines of a file, or of standard input for "-".
class LineReader {
 public:
  static Result<LineReader> open(const std::string& path, std::string_view remedy);
  LineReader(LineReader&& other) noexcept;
  LineReader& operator=(LineReader&&) = delete;
  ~LineReader();

  // The next line without its end; false at the end of the file.
  Result<bool> next(std::string& line);
  // Whether the next line could be read without waiting for whoever writes them.
  bool ready() const;

 private:
  LineReader() = default;

  std::string path_, buffer_;
  int fd_ = -1;
  size_t at_ = 0;
  bool ended_ = false;
};

// "12.3 MB"
std::string byte_text(double bytes);

}  // namespace ocior::cli
