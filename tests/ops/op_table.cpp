// Prints what the engine's operators are, one line each, separated by tabs: domain, name, first opset, "kernel" or "reference",
// and the element types that its samples cover. scripts/conformance.py makes docs/conformance.md of it.
#include <cstdio>
#include <set>
#include <string>

#include "ops/operator.h"

int main() {
  using namespace ocior;
  for (const ops::OpEntry& entry : ops::all_operators()) {
    std::set<std::string> types;
    for (const ops::Sample& sample : entry.samples())
      for (const ops::SampleInput& input : sample.inputs)
        if (!input.omitted) types.insert(std::string(name_of(input.dtype)));
    std::string listed;
    for (const std::string& type : types) listed += (listed.empty() ? "" : " ") + type;
    std::printf("%s\t%s\t%d\t%s\t%s\n", std::string(entry.info->domain).c_str(), std::string(entry.info->name).c_str(),
                entry.info->since, entry.has_run ? "kernel" : "reference", listed.c_str());
  }
}
