// The stop word of a run: whether it was asked to end early, and why. Every step and every chunk of work polls one.
// Configure it (deadline, parent, flag) before other threads see it; after that any thread may request, any thread may poll.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace ocior {

class StopWord {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Reason : uint8_t {
    kNone,
    kTerminated,  // somebody asked: request(), or the watched flag
    kDeadline,    // the time is over
    kCancelled,   // nobody waits for the result any more (a client that disconnected)
  };

  StopWord() = default;
  StopWord(const StopWord&) = delete;
  StopWord& operator=(const StopWord&) = delete;

  // Stops by itself at `deadline`; Clock::time_point::max() means never.
  void set_deadline(Clock::time_point deadline) { deadline_ = deadline, update(); }
  // Stops with `parent`, for the parent's reason. The parent outlives this word.
  void set_parent(const StopWord* parent) { parent_ = parent, update(); }
  // Stops (kTerminated) while `flag` is true. The flag outlives this word.
  void watch(const std::atomic<bool>* flag) { flag_ = flag, update(); }

  // Asks the run to end. The first reason stays.
  void request(Reason reason = Reason::kTerminated) const {
    Reason none = Reason::kNone;
    reason_.compare_exchange_strong(none, reason, std::memory_order_relaxed);
  }

  // True once the run shall end; stays true. One relaxed load, plus a look at the clock when there is a deadline.
  bool requested() const { return reason() != Reason::kNone; }
  Reason reason() const {
    const Reason reason = reason_.load(std::memory_order_relaxed);
    return reason != Reason::kNone || !indirect_ ? reason : look();
  }

 private:
  void update() { indirect_ = parent_ || flag_ || deadline_ != Clock::time_point::max(); }

  Reason look() const {
    Reason found = Reason::kNone;
    if (flag_ && flag_->load(std::memory_order_relaxed)) found = Reason::kTerminated;
    if (found == Reason::kNone && parent_) found = parent_->reason();
    if (found == Reason::kNone && deadline_ != Clock::time_point::max() && Clock::now() >= deadline_) found = Reason::kDeadline;
    if (found == Reason::kNone) return found;
    request(found);
    return reason_.load(std::memory_order_relaxed);
  }

  mutable std::atomic<Reason> reason_{Reason::kNone};
  bool indirect_ = false;
  const StopWord* parent_ = nullptr;
  const std::atomic<bool>* flag_ = nullptr;
  Clock::time_point deadline_ = Clock::time_point::max();
};

}  // namespace ocior
