// A bound on the bytes that the tensors, workspaces and weights of one session hold together. A thread works for one budget at a
// time (Scope) or for none; what it allocates is charged there until it is freed, by whichever thread. Thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

namespace ocior {

class MemoryBudget {
 public:
  explicit MemoryBudget(size_t limit) : limit_(limit) {}
  bool take(size_t bytes);  // false: the limit would be passed, and nothing was taken
  void give(size_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  size_t used() const { return used_.load(std::memory_order_relaxed); }
  size_t limit() const { return limit_; }

  // The budget that this thread works for; null: none.
  static const std::shared_ptr<MemoryBudget>& current();
  // What an error says after the bytes it names: the budget's limit and use, when this thread works for one.
  static std::string explanation();

  // This thread works for `budget` (null: as before) until the scope ends.
  class Scope {
   public:
    explicit Scope(const std::shared_ptr<MemoryBudget>& budget);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    std::shared_ptr<MemoryBudget> before_;
  };

 private:
  const size_t limit_;
  std::atomic<size_t> used_{0};
};

// Bytes taken from the budget of the thread that asked, given back at the end of its life.
class MemoryCharge {
 public:
  MemoryCharge() = default;
  MemoryCharge(MemoryCharge&& other) noexcept : budget_(std::move(other.budget_)), bytes_(std::exchange(other.bytes_, 0)) {}
  MemoryCharge& operator=(MemoryCharge&& other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MemoryCharge() { release(); }
  bool take(size_t bytes);  // instead of what was held before; false: nothing is held
  void release();

 private:
  std::shared_ptr<MemoryBudget> budget_;
  size_t bytes_ = 0;
};

}  // namespace ocior
