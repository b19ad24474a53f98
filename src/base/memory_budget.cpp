#include "base/memory_budget.h"

#include <fmt/format.h>

namespace ocior {
namespace {

std::shared_ptr<MemoryBudget>& of_this_thread() {
  thread_local std::shared_ptr<MemoryBudget> budget;
  return budget;
}

}  // namespace

bool MemoryBudget::take(size_t bytes) {
  size_t used = used_.load(std::memory_order_relaxed);
  do {
    if (bytes > limit_ || used > limit_ - bytes) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  return true;
}

const std::shared_ptr<MemoryBudget>& MemoryBudget::current() { return of_this_thread(); }

std::string MemoryBudget::explanation() {
  const auto& budget = of_this_thread();
  if (!budget) return "";
  return fmt::format("; the session holds {} bytes and its option ocior.memory_limit is {}", budget->used(), budget->limit());
}

MemoryBudget::Scope::Scope(const std::shared_ptr<MemoryBudget>& budget) : before_(of_this_thread()) {
  if (budget) of_this_thread() = budget;
}

MemoryBudget::Scope::~Scope() { of_this_thread() = std::move(before_); }

bool MemoryCharge::take(size_t bytes) {
  release();
  const auto& budget = MemoryBudget::current();
  if (!budget) return true;
  if (!budget->take(bytes)) return false;
  budget_ = budget;
  bytes_ = bytes;
  return true;
}

void MemoryCharge::release() {
  if (budget_) budget_->give(bytes_);
  budget_.reset();
  bytes_ = 0;
}

}  // namespace ocior
