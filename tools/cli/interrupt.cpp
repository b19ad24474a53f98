// See interrupt.h. The handler stores into lock-free atomics and writes one byte to a pipe: all that a handler may do.
#include "interrupt.h"

#include <fcntl.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>

namespace ocior::cli {
namespace {

std::atomic<int> signal_number{0};
int wake[2] = {-1, -1};

static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

extern "C" void on_signal(int number) {
  const int saved = errno;
  signal_number.store(number, std::memory_order_relaxed);
  run_options().terminate();
  [[maybe_unused]] const auto written = write(wake[1], "", 1);
  errno = saved;
}

}  // namespace

RunOptions& run_options() {
  static RunOptions options;
  return options;
}

void catch_signals(bool again) {
  run_options();  // made before a handler reads it
  if (wake[0] < 0 && pipe2(wake, O_CLOEXEC | O_NONBLOCK) != 0) return;
  signal(SIGXFSZ, SIG_IGN);  // a file that grows too large is an error of write() instead
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = again ? 0 : SA_RESETHAND;
  sigaction(SIGINT, &action, nullptr);
  action.sa_flags = SA_RESETHAND;
  sigaction(SIGTERM, &action, nullptr);
}

int caught_signal() { return signal_number.load(std::memory_order_relaxed); }

void forget_signal() {
  char bytes[16];
  while (read(wake[0], bytes, sizeof bytes) > 0) continue;
  signal_number.store(0, std::memory_order_relaxed);
  run_options().clear();
}

int signal_fd() { return wake[0]; }

Status interrupted() { return caught_signal() ? Status(Code::kModelLoadCanceled, "interrupted") : Status(); }

}  // namespace ocior::cli
