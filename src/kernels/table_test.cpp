// The choice of the kernel table.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/test_tables.h"

namespace ocior {
namespace {

TEST(KernelTable, EveryTableIsCompleteAndNamed) {
  for (const KernelTable* table : tables_under_test()) {
    EXPECT_GT(strlen(table->name), 0u);
#define KERNEL(name, ...) EXPECT_NE(table->name, nullptr) << table->name << " lacks " #name;
#include "kernels/kernel_list.inc"
#undef KERNEL
  }
}

TEST(KernelTable, GenericComesFirstAndTheChoiceIsAvailable) {
  const KernelTables all = available_kernels();
  ASSERT_GE(all.count, 1u);
  EXPECT_STREQ(all.tables[0]->name, "generic");
  bool found = false;
  for (size_t i = 0; i < all.count; ++i) found |= all.tables[i] == &kernels();
  EXPECT_TRUE(found);
}

TEST(KernelTable, WithoutAWishTheWidestIsUsedAndNothingIsWrong) {
  if (getenv("OCIOR_ISA") != nullptr) GTEST_SKIP() << "OCIOR_ISA is set";
  const KernelTables all = available_kernels();
  EXPECT_EQ(&kernels(), all.tables[all.count - 1]);
  EXPECT_STREQ(kernels_error(), "");
}

// The choice is made once per process, so each wish needs a process of its own.
void expect_in_child(const char* wish, const char* table, const char* error_part, const char* notes_part) {
  const auto child = [&] {
    setenv("OCIOR_ISA", wish, 1);
    const bool right = strcmp(kernels().name, table) == 0 && strstr(kernels_error(), error_part) != nullptr &&
                       (*error_part != 0 || *kernels_error() == 0) && strstr(kernels_notes(), notes_part) != nullptr;
    if (!right) fprintf(stderr, "table '%s', error '%s', notes '%s'\n", kernels().name, kernels_error(), kernels_notes());
    exit(right ? 0 : 1);
  };
  EXPECT_EXIT(child(), testing::ExitedWithCode(0), "") << wish;
}

TEST(KernelTableDeathTest, AWishIsMetOrExplained) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";  // a fresh process: this one has chosen already
  const KernelTables all = available_kernels();
  const char* widest = all.tables[all.count - 1]->name;
  expect_in_child("generic", "generic", "", strcmp(widest, "generic") == 0 ? "" : "not used because OCIOR_ISA=generic");
  expect_in_child(widest, widest, "", "");
  expect_in_child("", widest, "", "");
  expect_in_child("sse9", widest, "OCIOR_ISA asks for the kernel table 'sse9': no such table; the tables are generic", "");
  if (strcmp(widest, "amx") != 0) expect_in_child("amx", widest, "OCIOR_ISA asks for the kernel table 'amx': not", "amx: ");
}

}  // namespace
}  // namespace ocior
