// Session::explain: which passes fired or why not, and what each step runs on.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "run/session_rep.h"

namespace ocior {
namespace {

const char* name_of(Precision p) {
  switch (p) {
    case Precision::kHighest: return "highest";
    case Precision::kHigh: return "high";
    case Precision::kMedium: return "medium";
  }
  return "?";
}

nlohmann::json report(const SessionRep& rep) {
  nlohmann::json out;
  out["kernels"] = rep.program->kernels().name;
  out["kernel_notes"] = kernels_notes();
  out["precision"] = name_of(rep.program->precision());
  for (const auto& p : rep.passes.passes)
    out["passes"].push_back(
        {{"name", p.name}, {"enabled", p.enabled}, {"fired", p.fired}, {"milliseconds", p.milliseconds}, {"misses", p.misses}});
  for (const plan::Step& step : rep.program->steps()) {
    nlohmann::json s{
        {"name", step.name}, {"op", step.op->name()}, {"domain", step.op->domain()}, {"provider", rep.providers.front()}};
    s["kernel"] = step.op->info().view ? "none (view)" : rep.program->by_kernel(step) ? "cpu" : "reference";
    if (!step.outputs.empty() && step.outputs[0] != plan::kNoSlot)
      s["type"] = rep.program->slots()[static_cast<size_t>(step.outputs[0])].type.text();
    out["steps"].push_back(std::move(s));
  }
  out["weights"] = {{"bytes", rep.program->weights()->bytes()}, {"mapped", rep.program->weights()->mapped()}};
  return out;
}

}  // namespace

std::string Session::explain(bool json) const {
  const nlohmann::json r = report(*rep_);
  if (json) return r.dump(2);
  std::string out =
      fmt::format("kernels: {}   precision: {}\n", r["kernels"].get<std::string>(), r["precision"].get<std::string>());
  if (const auto notes = r["kernel_notes"].get<std::string>(); !notes.empty()) out += notes + "\n";
  out += "\npasses\n";
  for (const auto& p : rep_->passes.passes) {
    out +=
        fmt::format("  {:28} {:>5} fired {:8.2f} ms{}\n", p.name, p.fired, p.milliseconds, p.enabled ? "" : "  (switched off)");
    for (const auto& m : p.misses) out += "      " + m + "\n";
  }
  out += "\nsteps\n";
  for (const auto& s : r.value("steps", nlohmann::json::array()))
    out += fmt::format("  {:24} {:12} {:20} {}\n", s["op"].get<std::string>(), s["kernel"].get<std::string>(),
                       s.value("type", ""), s["name"].get<std::string>());
  out += fmt::format("\nweights: {} bytes{}\n", rep_->program->weights()->bytes(),
                     rep_->program->weights()->mapped() ? ", mapped from the cache" : "");
  return out;
}

}  // namespace ocior
