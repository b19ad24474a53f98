// The kernel tables that a test of kernels runs: all that this machine supports and the emulated ones. For *_test.cpp of this
// folder.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu.h"
#include "kernels/table.h"

#if OCIOR_EMULATES_avx512
namespace ocior::avx512_emulated {
extern const KernelTable kTable;
}
#endif
#if OCIOR_EMULATES_amx
namespace ocior::amx_emulated {
extern const KernelTable kTable;
}
#endif

namespace ocior {

// Every table once; names end in _emulated where the instructions are imitated. The emulated ones themselves need AVX2.
inline std::vector<const KernelTable*> tables_under_test() {
  const KernelTables real = available_kernels();
  std::vector<const KernelTable*> tables(real.tables, real.tables + real.count);
#if OCIOR_EMULATES_avx512
  if (detect_cpu().avx2) tables.push_back(&avx512_emulated::kTable);
#endif
#if OCIOR_EMULATES_amx
  if (detect_cpu().avx2) tables.push_back(&amx_emulated::kTable);
#endif
  return tables;
}

// For INSTANTIATE_TEST_SUITE_P: the table's name.
struct TableName {
  template <class Info>
  std::string operator()(const Info& info) const {
    return info.param->name;
  }
};

}  // namespace ocior
