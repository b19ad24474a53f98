// The process's thread pool. A run leases idle workers (Team), spreads loops over them, and gives them back at its end.
// Workers spin only while leased (and a moment after), so an idle process uses no CPU. Nothing here allocates or throws.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/stop.h"

namespace ocior {

// Threads that one run may use at most, its caller included: set_pool_size's number, else available_cores().
int pool_size();
// Changes that number from now on (0: what the machine allows; at most 1024). Teams that exist keep their workers.
void set_pool_size(int threads);

struct Worker;

// A lease of idle workers, made, used and destroyed by one thread (worker 0). A Team made inside a loop of another Team, or after
// a fork by a Team's owner, works alone.
class Team {
 public:
  // Leases up to max_threads - 1 workers (0: pool_size() - 1) without waiting for any; alone when none is idle. Leasing wakes
  // sleeping workers, which costs microseconds of system time each: a run with little work should ask for 1 thread.
  explicit Team(int max_threads = 0);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // Workers, the caller included; fn's `worker` is below it.
  int size() const { return size_; }

  // Calls fn(int64_t index, int worker) once for every index of [0, n) and returns when all are done. Contiguous ranges of about
  // n / size() indexes belong to one worker; no two calls with the same `worker` overlap. Once `stop` (may be null) is requested,
  // indexes that have not begun are skipped. Calls from inside fn run inline. fn must not throw.
  template <class F>
  void parallel_for(int64_t n, const StopWord* stop, F&& fn) {
    const auto range = [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) {
        if (stop && stop->requested()) return;
        fn(i, worker);
      }
    };
    spread(n, range);
  }

  // The same, but each worker takes the next index when it is free: for tasks of very different length.
  template <class F>
  void parallel_for_dynamic(int64_t n, const StopWord* stop, F&& fn) {
    alignas(64) std::atomic<int64_t> next{0};
    const auto drain = [&](int64_t, int64_t, int worker) {
      while (!(stop && stop->requested())) {
        const int64_t i = next.fetch_add(1, std::memory_order_relaxed);
        if (i >= n) return;
        fn(i, worker);
      }
    };
    spread(n, drain);
  }

 private:
  friend struct Worker;
  using Part = void (*)(const void* body, int64_t begin, int64_t end, int worker);

  template <class Body>
  void spread(int64_t n, const Body& body) {
    if (n <= 0) return;
    const int inline_as = size_ == 1 ? 0 : inline_worker(n);
    if (inline_as >= 0) return body(0, n, inline_as);
    fork_join(
        n, [](const void* b, int64_t begin, int64_t end, int worker) { (*static_cast<const Body*>(b))(begin, end, worker); },
        &body);
  }

  // The worker number under which a loop of n runs on the calling thread alone, or -1 when it shall be spread.
  int inline_worker(int64_t n) const;
  void fork_join(int64_t n, Part part, const void* body);
  void run_part(int worker);

  int size_ = 1;
  uint32_t generation_ = 0;    // of the process: a fork makes the leased workers unreachable
  Worker* workers_ = nullptr;  // linked list of size_ - 1
  // The loop in progress.
  Part part_ = nullptr;
  const void* body_ = nullptr;
  int64_t n_ = 0;
  int parts_ = 0;
  uint64_t float_mode_ = 0;
};

}  // namespace ocior
