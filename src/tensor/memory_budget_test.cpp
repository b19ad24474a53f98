#include "base/memory_budget.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <thread>
#include <vector>

#include "tensor/tensor.h"

namespace ocior {
namespace {

TEST(MemoryBudget, TakesUpToItsLimitAndNoMore) {
  MemoryBudget budget(100);
  EXPECT_TRUE(budget.take(60));
  EXPECT_FALSE(budget.take(41));
  EXPECT_FALSE(budget.take(SIZE_MAX));
  EXPECT_EQ(budget.used(), 60u);
  EXPECT_TRUE(budget.take(40));
  budget.give(100);
  EXPECT_EQ(budget.used(), 0u);
}

TEST(MemoryBudget, IsTheThreadsForAScope) {
  const auto outer = std::make_shared<MemoryBudget>(10), inner = std::make_shared<MemoryBudget>(20);
  EXPECT_EQ(MemoryBudget::current(), nullptr);
  EXPECT_EQ(MemoryBudget::explanation(), "");
  {
    const MemoryBudget::Scope first(outer);
    {
      const MemoryBudget::Scope second(inner);
      EXPECT_EQ(MemoryBudget::current(), inner);
      const MemoryBudget::Scope third(nullptr);
      EXPECT_EQ(MemoryBudget::current(), inner);
    }
    EXPECT_EQ(MemoryBudget::current(), outer);
    std::thread([] { EXPECT_EQ(MemoryBudget::current(), nullptr); }).join();
    EXPECT_NE(MemoryBudget::explanation().find("ocior.memory_limit is 10"), std::string::npos);
  }
  EXPECT_EQ(MemoryBudget::current(), nullptr);
}

TEST(MemoryBudget, ChargesAreGivenBackOnce) {
  const auto budget = std::make_shared<MemoryBudget>(100);
  const MemoryBudget::Scope scope(budget);
  {
    MemoryCharge a;
    EXPECT_TRUE(a.take(70));
    EXPECT_FALSE(MemoryCharge().take(31));
    MemoryCharge b(std::move(a));
    EXPECT_EQ(budget->used(), 70u);
    EXPECT_TRUE(b.take(90));  // instead of the 70
    EXPECT_EQ(budget->used(), 90u);
    EXPECT_FALSE(b.take(101));
    EXPECT_EQ(budget->used(), 0u);
  }
  EXPECT_EQ(budget->used(), 0u);
}

TEST(MemoryBudget, TensorsAreChargedUntilTheyAreFreedAnywhere) {
  const auto budget = std::make_shared<MemoryBudget>(4096);
  std::vector<Tensor> kept;
  {
    const MemoryBudget::Scope scope(budget);
    auto floats = Tensor::allocate(DType::kFloat, {512});
    ASSERT_TRUE(floats.ok());
    kept.push_back(std::move(floats).value());
    auto strings = Tensor::allocate(DType::kString, {2, 3});
    ASSERT_TRUE(strings.ok());
    static_cast<std::string*>(strings->data())[5] = std::string(100, 'x');
    kept.push_back(std::move(strings).value());
    EXPECT_EQ(budget->used(), 2048 + 6 * sizeof(std::string));
    const auto refused = Tensor::allocate(DType::kFloat, {1000});
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.status().message().find("out of memory: 4000 bytes for a float tensor of shape [1000]"), std::string::npos)
        << refused.status().message();
  }
  std::thread([&kept] { kept.clear(); }).join();
  EXPECT_EQ(budget->used(), 0u);
}

}  // namespace
}  // namespace ocior
