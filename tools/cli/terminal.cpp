// See terminal.h.
#include "terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "interrupt.h"

namespace ocior::cli {
namespace {

constexpr size_t kMaxText = size_t{256} << 20;  // what the tokenizer takes

bool notes_shown = false;
int output_error = 0;

void keep_error() {
  if (output_error == 0) output_error = errno ? errno : EIO;
}

// Bytes of `fd` appended to `to`: their number, 0 at the end. Waits, but not beyond a signal.
Result<size_t> read_some(int fd, const std::string& name, std::string& to) {
  pollfd waits[2] = {{fd, POLLIN, 0}, {signal_fd(), POLLIN, 0}};
  while (true) {
    OCIOR_RETURN_IF_ERROR(interrupted());
    if (poll(waits, 2, -1) < 0 && errno != EINTR) return error(Code::kFail, "{}: {}", name, std::strerror(errno));
    if (!(waits[0].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL))) continue;
    char bytes[1 << 16];
    const ssize_t got = read(fd, bytes, sizeof bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return error(Code::kFail, "{}: cannot be read: {}", name, std::strerror(errno));
    to.append(bytes, static_cast<size_t>(got));
    return static_cast<size_t>(got);
  }
}

Result<int> open_text(const std::string& path, std::string_view remedy) {
  if (path == "-") return STDIN_FILENO;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return error(errno == ENOENT ? Code::kNoSuchFile : Code::kFail, "{}: {}; {}", path, std::strerror(errno), remedy);
  struct stat st;
  if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) return fd;
  close(fd);
  return error(Code::kInvalidArgument, "{}: is a folder; {}", path, remedy);
}

std::string name_of_input(const std::string& path) { return path == "-" ? "standard input" : path; }

}  // namespace

void print(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) keep_error();
}

void print_line(std::string_view line) {
  print(line);
  print("\n");
}

Status flush_output() {
  errno = 0;
  if (std::fflush(stdout) != 0) keep_error();
  if (output_error == 0) return {};
  return error(Code::kFail, "the results cannot be written to standard output: {}", std::strerror(output_error));
}

void warn(std::string_view text) { fmt::print(stderr, "ocior: {}\n", text); }

void log(LogLevel level, std::string_view text) {
  if (level >= LogLevel::kWarning || (notes_shown && level == LogLevel::kInfo)) warn(text);
}

void show_notes() { notes_shown = true; }

std::string one_line(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return out;
}

Progress::Progress() : terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (shown_) fmt::print(stderr, "\r\033[K");
}

void Progress::show(std::string_view text) {
  if (!terminal_) return;
  fmt::print(stderr, "\r\033[Kocior: {}", text);
  std::fflush(stderr);
  shown_ = true;
}

Result<std::string> read_text(const std::string& path, std::string_view remedy) {
  OCIOR_ASSIGN(const int fd, open_text(path, remedy));
  std::string text;
  Status status;
  while (true) {
    const auto got = read_some(fd, name_of_input(path), text);
    if (!got.ok()) status = got.status();
    else if (text.size() > kMaxText)
      status = error(Code::kInvalidArgument, "{}: is longer than 256 MiB; {}", name_of_input(path), remedy);
    else if (*got != 0) continue;
    break;
  }
  if (fd != STDIN_FILENO) close(fd);
  OCIOR_RETURN_IF_ERROR(std::move(status));
  return text;
}

Result<LineReader> LineReader::open(const std::string& path, std::string_view remedy) {
  LineReader out;
  OCIOR_ASSIGN(out.fd_, open_text(path, remedy));
  out.path_ = name_of_input(path);
  return out;
}

LineReader::LineReader(LineReader&& other) noexcept
    : path_(std::move(other.path_)),
      buffer_(std::move(other.buffer_)),
      fd_(std::exchange(other.fd_, -1)),
      at_(other.at_),
      ended_(other.ended_) {}

LineReader::~LineReader() {
  if (fd_ > STDIN_FILENO) close(fd_);
}

Result<bool> LineReader::next(std::string& line) {
  size_t seen = at_;
  while (true) {
    const size_t end = buffer_.find('\n', seen);
    if (end != std::string::npos || (ended_ && at_ < buffer_.size())) {
      line = buffer_.substr(at_, end == std::string::npos ? end : end - at_);
      at_ = end == std::string::npos ? buffer_.size() : end + 1;
      return true;
    }
    if (ended_) return false;
    buffer_.erase(0, at_);
    at_ = 0;
    seen = buffer_.size();
    OCIOR_ASSIGN(const size_t got, read_some(fd_, path_, buffer_));
    ended_ = got == 0;
    if (buffer_.size() > 2 * kMaxText)
      return error(Code::kInvalidArgument, "{}: a line is longer than 512 MiB; one line holds one question", path_);
  }
}

bool LineReader::ready() const {
  if (ended_ || buffer_.find('\n', at_) != std::string::npos) return true;
  pollfd wait{fd_, POLLIN, 0};
  return poll(&wait, 1, 0) > 0;
}

std::string byte_text(double bytes) {
  const char* units[] = {"bytes", "kB", "MB", "GB", "TB"};
  size_t unit = 0;
  while (bytes >= 1000 && unit + 1 < std::size(units)) bytes /= 1000, ++unit;
  return unit == 0 ? fmt::format("{:.0f} bytes", bytes) : fmt::format("{:.1f} {}", bytes, units[unit]);
}

}  // namespace ocior::cli
