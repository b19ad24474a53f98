// What a Session and an IoBinding hold. Internal to the engine.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ocior/session.h"
#include "passes/pipeline.h"
#include "plan/program.h"
#include "run/executor.h"

namespace ocior {

struct SessionRep {
  ModelMetadata metadata;
  std::vector<ValueInfo> inputs, outputs, overridable;
  std::vector<ValueInfo> program_inputs;  // in the program's order: inputs and overridable initializers
  std::vector<std::string> providers;
  int flush_denormals = 0;
  std::shared_ptr<MemoryBudget> budget;  // of everything below and of the runs; null: no limit
  passes::PassReport passes;
  std::vector<std::pair<std::string, std::string>> stages;  // name, text; kept on demand
  std::shared_ptr<const plan::Program> program;
  std::unique_ptr<run::ContextPool> contexts;
};

struct BindingRep {
  std::shared_ptr<const SessionRep> session;
  std::vector<std::pair<std::string, Value>> inputs;
  std::vector<std::string> output_names;
  std::vector<Value> bound;  // kNone: allocated by the run
  std::vector<Value> results;
};

}  // namespace ocior
