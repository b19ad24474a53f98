// The choice of the kernel table, made once per process at the first call. Plain code, compiled once with baseline flags;
// thread-safe.
#include <stdlib.h>

#include <string>
#include <vector>

#include "kernels/cpu.h"
#include "kernels/table.h"

namespace ocior {

namespace generic {
extern const KernelTable kTable;
}
#if OCIOR_HAS_avx2
namespace avx2 {
extern const KernelTable kTable;
}
#endif
#if OCIOR_HAS_avx512
namespace avx512 {
extern const KernelTable kTable;
}
#endif
#if OCIOR_HAS_amx
namespace amx {
extern const KernelTable kTable;
}
#endif

namespace {

enum class Need { kNothing, kAvx2, kAvx512, kAmx };

struct Candidate {
  const char* name;
  const KernelTable* table;  // null: not part of this build
  Need need;
};

// Narrowest first.
const Candidate kCandidates[] = {
    {"generic", &generic::kTable, Need::kNothing},
#if OCIOR_HAS_avx2
    {"avx2", &avx2::kTable, Need::kAvx2},
#elif defined(__x86_64__)
    {"avx2", nullptr, Need::kAvx2},
#endif
#if OCIOR_HAS_avx512
    {"avx512", &avx512::kTable, Need::kAvx512},
#elif defined(__x86_64__)
    {"avx512", nullptr, Need::kAvx512},
#endif
#if OCIOR_HAS_amx
    {"amx", &amx::kTable, Need::kAmx},
#elif defined(__x86_64__)
    {"amx", nullptr, Need::kAmx},
#endif
};

// Empty when the machine can run the table, else why not. Asks for the AMX permission where everything else is there.
std::string obstacle(const Candidate& candidate, const CpuFeatures& cpu) {
  if (candidate.table == nullptr) return "not part of this build (OCIOR_MAX_ISA)";
  const bool has = candidate.need == Need::kNothing || (candidate.need == Need::kAvx2 && cpu.avx2) ||
                   (candidate.need == Need::kAvx512 && cpu.avx512) || (candidate.need == Need::kAmx && cpu.amx);
  if (!has) return "not supported by this processor or its operating system";
  if (candidate.need == Need::kAmx && !request_amx())
    return "the operating system refused the AMX permission (old kernel, seccomp filter or small alternate signal stack)";
  return "";
}

std::vector<const KernelTable*> find_available() {
  std::vector<const KernelTable*> tables;
  for (const Candidate& candidate : kCandidates)
    if (obstacle(candidate, detect_cpu()).empty()) tables.push_back(candidate.table);
  return tables;
}

struct Choice {
  const KernelTable* table = &generic::kTable;
  std::string error, notes;
};

// The sentence for a wish that cannot be met; `why` is empty for a name that is none of ours.
std::string unmet_wish(const std::string& wish, const std::string& why) {
  std::string names;
  for (const Candidate& candidate : kCandidates) names += std::string(names.empty() ? "" : ", ") + candidate.name;
  std::string text = "environment variable OCIOR_ISA asks for the kernel table '" + wish + "': ";
  text += why.empty() ? "no such table" : why;
  return text + "; the tables are " + names + "; set OCIOR_ISA to one that this machine supports or unset it";
}

Choice choose() {
  const char* env = getenv("OCIOR_ISA");
  const std::string wish = env == nullptr ? "" : env;
  const CpuFeatures cpu = detect_cpu();
  Choice choice;
  bool known = wish.empty();
  for (const Candidate& candidate : kCandidates) {
    const bool above_wish = known && !wish.empty();
    const std::string why = above_wish ? "not used because OCIOR_ISA=" + wish : obstacle(candidate, cpu);
    if (why.empty()) choice.table = candidate.table;
    if (!why.empty()) choice.notes += std::string(candidate.name) + ": " + why + "\n";
    if (wish != candidate.name) continue;
    known = true;
    if (!why.empty()) choice.error = unmet_wish(wish, why);
  }
  if (!known) choice.error = unmet_wish(wish, "");
  return choice;
}

const Choice& choice() {
  static const Choice made = choose();
  return made;
}

}  // namespace

const KernelTable& kernels() { return *choice().table; }

KernelTables available_kernels() {
  static const std::vector<const KernelTable*> tables = find_available();
  return {tables.data(), tables.size()};
}

const char* kernels_error() { return choice().error.c_str(); }

const char* kernels_notes() { return choice().notes.c_str(); }

}  // namespace ocior
