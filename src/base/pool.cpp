// Workers, leases and the fork-join protocol; see pool.h.
//
// One worker, its words and who writes them:
//   taken   a Team owns the worker            (Teams, by exchange)
//   leased  spin for longer                   (the owner)
//   bell    number of the newest part         (the owner)
//   claimed number of the newest begun part   (worker or owner, by compare-exchange: a part that a sleeping or descheduled worker
//                                              has not begun is run by the owner instead)
//   done    number of the newest finished part (the worker)
//   parked  1 while the worker sleeps on it   (worker sets, whoever wakes it clears)
// team, index and the Team's loop are plain: the owner writes them before ringing, a worker reads them only after claiming, and
// the owner waits for done before it writes again.
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "base/resources.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ocior {

struct alignas(64) Worker {
  std::atomic<uint32_t> bell{0};
  std::atomic<uint32_t> parked{0};
  std::atomic<bool> leased{false};
  Team* team = nullptr;
  int index = 0;
  Worker* next = nullptr;
  bool started = false;  // owner only
  alignas(64) std::atomic<uint32_t> claimed{0};
  std::atomic<uint32_t> done{0};
  alignas(64) std::atomic<bool> taken{false};

  bool start(int number);
  void loop();
  void rest(uint32_t seen);
  void wake();
  bool claim(uint32_t part) {
    uint32_t before = part - 1;
    return claimed.load(std::memory_order_relaxed) == before &&
           claimed.compare_exchange_strong(before, part, std::memory_order_acquire);
  }
  void run(Team* t) { t->run_part(index); }
};

namespace {

constexpr int kMaxThreads = 1024;
constexpr int kPausesBeforeYield = 1500;                    // 20-40 us
constexpr int kPausesBeforeHelp = 40;                       // about 1 us: longer than a spinning worker needs to begin
constexpr auto kSpinLeased = std::chrono::milliseconds(2);  // a run that needs no worker for so long can afford to wake it
constexpr auto kSpinIdle = std::chrono::microseconds(50);

constinit Worker g_workers[kMaxThreads - 1];
constinit std::atomic<int> g_size{0};
constinit std::atomic<uint32_t> g_generation{0};
constinit std::atomic<bool> g_fork_handled{false};

// The loop that this thread works for, if any.
struct Inside {
  const Team* team = nullptr;
  int worker = 0;
};
constinit thread_local Inside t_inside;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins politely: pause first, then give the core to somebody else.
class Spinner {
 public:
  void once() { ++count_ < kPausesBeforeYield ? relax() : static_cast<void>(sched_yield()); }
  int count() const { return count_; }

 private:
  int count_ = 0;
};

// Rounding and denormal handling of the calling thread: workers take over the caller's, so results do not depend on the thread
// count.
uint64_t float_mode() {
#if defined(__x86_64__)
  return _mm_getcsr() & ~uint32_t{_MM_EXCEPT_MASK};
#elif defined(__aarch64__)
  uint64_t mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
#else
  return 0;
#endif
}

void set_float_mode(uint64_t mode) {
  if (mode == float_mode()) return;
#if defined(__x86_64__)
  _mm_setcsr(static_cast<uint32_t>(mode));
#elif defined(__aarch64__)
  asm volatile("msr fpcr, %0" ::"r"(mode));
#endif
}

// In the child of a fork only the forking thread lives: every worker is as before its start, and older Teams work alone.
void after_fork_in_child() {
  for (Worker& w : g_workers) {
    w.bell = w.parked = w.claimed = w.done = 0;
    w.leased = w.taken = w.started = false;
  }
  g_generation.fetch_add(1);
}

}  // namespace

int pool_size() {
  int size = g_size.load(std::memory_order_relaxed);
  if (size > 0) return size;
  size = std::clamp(available_cores(), 1, kMaxThreads);
  int unknown = 0;
  return g_size.compare_exchange_strong(unknown, size, std::memory_order_relaxed) ? size : unknown;
}

void set_pool_size(int threads) { g_size.store(std::clamp(threads, 0, kMaxThreads), std::memory_order_relaxed); }

// Makes the thread, with all signals blocked so that the application's own threads handle them. False when the system refuses.
bool Worker::start(int number) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const auto entry = [](void* self) -> void* {
    static_cast<Worker*>(self)->loop();
    return nullptr;
  };
  started = pthread_create(&thread, nullptr, entry, this) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!started) return false;
  char name[16];
  std::snprintf(name, sizeof name, "ocior-%d", number);
  pthread_setname_np(thread, name);
  pthread_detach(thread);
  return true;
}

void Worker::loop() {
  for (uint32_t seen = 0;;) {
    rest(seen);
    seen = bell.load(std::memory_order_acquire);
    if (!claim(seen)) continue;
    run(team);
    done.store(seen, std::memory_order_release);
  }
}

// Returns when the bell shows another number than `seen`: spins for a while, then sleeps.
void Worker::rest(uint32_t seen) {
  while (bell.load(std::memory_order_acquire) == seen) {
    bool in_lease = false;
    const auto begin = std::chrono::steady_clock::now();
    for (Spinner spinner; bell.load(std::memory_order_acquire) == seen; spinner.once()) {
      if (spinner.count() < kPausesBeforeYield && spinner.count() % 64) continue;
      in_lease = leased.load(std::memory_order_relaxed);
      const auto limit = in_lease ? std::chrono::nanoseconds(kSpinLeased) : kSpinIdle;
      if (std::chrono::steady_clock::now() - begin >= limit) break;
    }
    parked.store(1);
    if (bell.load() == seen && leased.load() == in_lease) parked.wait(1);
    parked.store(0);
  }
}

void Worker::wake() {
  if (parked.load() == 0) return;
  parked.store(0);
  parked.notify_one();
}

Team::Team(int max_threads) : generation_(g_generation.load(std::memory_order_relaxed)) {
  const int limit = max_threads <= 0 ? pool_size() : std::min(max_threads, pool_size());
  if (limit == 1 || t_inside.team) return;
  if (!g_fork_handled.exchange(true)) pthread_atfork(nullptr, nullptr, after_fork_in_child);
  for (int i = 0; i < pool_size() - 1 && size_ < limit; ++i) {
    Worker& w = g_workers[i];
    if (w.taken.load(std::memory_order_relaxed) || w.taken.exchange(true, std::memory_order_acquire)) continue;
    if (!w.started && !w.start(i + 1)) {
      w.taken.store(false, std::memory_order_release);
      return;
    }
    w.team = this;
    w.index = size_++;
    w.next = workers_;
    workers_ = &w;
    w.leased.store(true);
    w.wake();
  }
}

Team::~Team() {
  if (generation_ != g_generation.load(std::memory_order_relaxed)) return;
  for (Worker* w = workers_; w;) {
    Worker* const next = w->next;
    w->leased.store(false);
    w->taken.store(false, std::memory_order_release);
    w = next;
  }
}

int Team::inline_worker(int64_t n) const {
  if (t_inside.team == this) return t_inside.worker;
  const bool alone = n == 1 || t_inside.team || generation_ != g_generation.load(std::memory_order_relaxed);
  return alone ? 0 : -1;
}

// Runs one part on the calling thread, as worker number `worker`.
void Team::run_part(int worker) {
  const int64_t share = n_ / parts_, rest = n_ % parts_;
  const int64_t begin = worker * share + std::min<int64_t>(worker, rest);
  t_inside = {this, worker};
  set_float_mode(float_mode_);
  part_(body_, begin, begin + share + (worker < rest), worker);
  t_inside = {};
}

void Team::fork_join(int64_t n, Part part, const void* body) {
  part_ = part;
  body_ = body;
  n_ = n;
  parts_ = static_cast<int>(std::min<int64_t>(n, size_));
  float_mode_ = float_mode();
  for (Worker* w = workers_; w; w = w->next) {
    if (w->index >= parts_) continue;
    w->bell.store(w->bell.load(std::memory_order_relaxed) + 1);
    w->wake();
  }
  run_part(0);
  Spinner spinner;
  for (Worker* w = workers_; w; w = w->next) {
    if (w->index >= parts_) continue;
    const uint32_t number = w->bell.load(std::memory_order_relaxed);
    for (; w->done.load(std::memory_order_acquire) != number; spinner.once()) {
      if (spinner.count() < kPausesBeforeHelp || !w->claim(number)) continue;
      run_part(w->index);
      break;
    }
  }
}

}  // namespace ocior
