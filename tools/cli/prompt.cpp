// See prompt.h. libedit reads through our own function, so that a signal on any thread ends the wait for a key.
#include "prompt.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <optional>

#include "base/error.h"
#include "interrupt.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

constexpr int kHistory = 1000;  // lines kept

const char* prompt_text(EditLine*) { return "> "; }

// One byte of the terminal: 1, 0 at the end, -1 on a signal or an error.
int read_byte(unsigned char* byte) {
  pollfd waits[2] = {{STDIN_FILENO, POLLIN, 0}, {signal_fd(), POLLIN, 0}};
  while (true) {
    if (caught_signal()) return -1;
    if (poll(waits, 2, -1) < 0 && errno != EINTR) return -1;
    if (!(waits[0].revents & (POLLIN | POLLHUP | POLLERR))) continue;
    const ssize_t got = read(STDIN_FILENO, byte, 1);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    return static_cast<int>(got);
  }
}

// The next character, decoded from UTF-8; U+FFFD for what is none.
int read_character(EditLine*, wchar_t* out) {
  unsigned char byte = 0;
  if (const int got = read_byte(&byte); got <= 0) return got;
  const int more = byte < 0xc0 ? 0 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
  *out = more == 0 ? byte : byte & (0x3f >> more);
  if (more == 0 && byte >= 0x80) *out = 0xfffd;
  for (int i = 0; i < more; ++i) {
    if (const int got = read_byte(&byte); got <= 0) return got;
    *out = (*out << 6) | (byte & 0x3f);
  }
  if (*out > 0x10ffff) *out = 0xfffd;
  return 1;
}

}  // namespace

struct Prompt::Editor {
  EditLine* line = el_init("ocior", stdin, stdout, stderr);
  History* history = history_init();
  HistEvent event{};

  Editor() {
    history_(H_SETSIZE, kHistory);
    history_(H_SETUNIQUE, 1);
    el_set(line, EL_PROMPT, prompt_text);
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_HIST, ::history, history);
    el_source(line, nullptr);  // the user's ~/.editrc
    el_set(line, EL_GETCFN, read_character);
  }
  ~Editor() {
    history_end(history);
    el_end(line);
  }

  void history_(int operation, auto value) { ::history(history, &event, operation, value); }
};

struct Prompt::Pipe {
  LineReader lines;
};

Prompt::Prompt() {
  if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) editor_ = std::make_unique<Editor>();
}

Prompt::~Prompt() = default;

bool Prompt::edits() const { return editor_ != nullptr; }

Result<Prompt::Event> Prompt::next(std::string& line) {
  if (!editor_) {
    if (!pipe_) {
      OCIOR_ASSIGN(LineReader reader, LineReader::open("-", ""));
      pipe_ = std::make_unique<Pipe>(Pipe{std::move(reader)});
    }
    const auto more = pipe_->lines.next(line);
    if (caught_signal()) return Event::kCancelled;
    if (!more.ok()) return more.status();
    return *more ? Event::kLine : Event::kEnd;
  }
  int count = 0;
  // Before the prompt shows: el_gets changes the mode after it, and a Ctrl-D that comes between is lost.
  el_set(editor_->line, EL_PREP_TERM, 1);
  const char* text = el_gets(editor_->line, &count);
  if (caught_signal()) {
    el_reset(editor_->line);
    print("\n");
    return Event::kCancelled;
  }
  if (!text || count <= 0) return Event::kEnd;
  line.assign(text, static_cast<size_t>(count));
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
  if (!line.empty()) editor_->history_(H_ENTER, line.c_str());
  return Event::kLine;
}

}  // namespace ocior::cli
