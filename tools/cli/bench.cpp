// `ocior bench`: how long a model takes to load and to run, and what memory it holds.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "cli.h"
#include "feeds.h"
#include "interrupt.h"
#include "json_text.h"
#include "model_source.h"
#include "model_text.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kFewestRuns = 10, kMostRuns = 1000000;

struct BenchFlags {
  SessionFlags session;
  FeedFlags feeds;
  std::string model;
  double seconds = 3;
  bool json = false;
};

struct Report {
  double load_cold = 0, load_warm = 0, first_run = 0;  // milliseconds, as all times
  std::vector<double> times;                           // sorted
  double elapsed = 0;
  int64_t peak_rss = 0;
  Session::MemoryStats memory;
  NamedValues inputs;

  double quantile(double q) const {
    return times[std::min(times.size() - 1, static_cast<size_t>(std::ceil(q * static_cast<double>(times.size()))) - 1)];
  }
  double mean() const { return std::accumulate(times.begin(), times.end(), 0.0) / static_cast<double>(times.size()); }
  double per_second() const { return 1000 * static_cast<double>(times.size()) / elapsed; }
};

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// The largest resident memory since reset_peak(), where the kernel can reset it; else since the process began.
int64_t peak_rss() {
  std::ifstream in("/proc/self/status");
  for (std::string word; in >> word;) {
    int64_t kilobytes = 0;
    if (word == "VmHWM:" && in >> kilobytes) return kilobytes * 1024;
  }
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

Result<double> time_load(const BenchFlags& flags, bool cache) {
  SessionOptions options = flags.session.options();
  if (!cache) options.config["ocior.cache"] = "0";
  const auto start = Clock::now();
  OCIOR_RETURN_IF_ERROR(load_model(flags.model, options).status());
  return milliseconds_since(start);
}

Status time_runs(const BenchFlags& flags, const Session& session, Report& out) {
  const auto feeds = feeds_of(out.inputs);
  const auto one = [&]() -> Result<double> {
    const auto start = Clock::now();
    OCIOR_RETURN_IF_ERROR(session.run(feeds, {}, &run_options()).status());
    return milliseconds_since(start);
  };
  OCIOR_ASSIGN(out.first_run, one());
  const auto warm = Clock::now();
  do OCIOR_RETURN_IF_ERROR(one().status());
  while (milliseconds_since(warm) < 100 * flags.seconds);  // a tenth of the time
  Progress progress;
  progress.show("measuring");
  const auto start = Clock::now();
  while (out.times.size() < kMostRuns && (out.times.size() < kFewestRuns || milliseconds_since(start) < 1000 * flags.seconds)) {
    OCIOR_ASSIGN(const double time, one());
    out.times.push_back(time);
  }
  out.elapsed = milliseconds_since(start);
  std::sort(out.times.begin(), out.times.end());
  return {};
}

Json as_json(const BenchFlags& flags, const Report& r) {
  Json shapes = Json::object();
  for (const auto& [name, value] : r.inputs) shapes[name] = std::vector<int64_t>(value.shape().begin(), value.shape().end());
  return {{"model", flags.model},
          {"threads", flags.session.threads},
          {"precision", flags.session.precision},
          {"inputs", shapes},
          {"load_cold_ms", r.load_cold},
          {"load_warm_ms", r.load_warm},
          {"first_run_ms", r.first_run},
          {"runs", r.times.size()},
          {"min_ms", r.times.front()},
          {"median_ms", r.quantile(0.5)},
          {"p90_ms", r.quantile(0.9)},
          {"p99_ms", r.quantile(0.99)},
          {"max_ms", r.times.back()},
          {"mean_ms", r.mean()},
          {"runs_per_second", r.per_second()},
          {"peak_rss_bytes", r.peak_rss},
          {"weights_bytes", r.memory.weights},
          {"weights_mapped_bytes", r.memory.weights_mapped},
          {"workspace_bytes", r.memory.workspaces}};
}

void print_text(const BenchFlags& flags, const Report& r) {
  std::string shapes;
  for (const auto& [name, value] : r.inputs) shapes += fmt::format("  {} {}", one_line(name), shape_text(value.shape()));
  const auto bytes = [](auto n) { return byte_text(static_cast<double>(n)); };
  print_line(fmt::format("{}: {} threads, precision {}, inputs{}", flags.model,
                         flags.session.threads ? std::to_string(flags.session.threads) : "all", flags.session.precision,
                         shapes.empty() ? " none" : shapes));
  print_line(fmt::format("  load     {:.1f} ms without the cache, {:.1f} ms with it, first run {:.2f} ms", r.load_cold,
                         r.load_warm, r.first_run));
  print_line(fmt::format("  run      median {:.3f} ms, min {:.3f}, mean {:.3f}, p90 {:.3f}, p99 {:.3f}, max {:.3f} of {} runs",
                         r.quantile(0.5), r.times.front(), r.mean(), r.quantile(0.9), r.quantile(0.99), r.times.back(),
                         r.times.size()));
  print_line(fmt::format("  rate     {:.1f} runs per second", r.per_second()));
  print_line(fmt::format("  memory   peak {}, weights {} ({} shared through the cache), workspace {}", bytes(r.peak_rss),
                         bytes(r.memory.weights), bytes(r.memory.weights_mapped), bytes(r.memory.workspaces)));
}

// The first load may fill the cache; the second is the warm one, and the peak memory is that of a process that only loads and
// runs.
Status bench(const BenchFlags& flags) {
  Report report;
  OCIOR_RETURN_IF_ERROR(time_load(flags, true).status());
  OCIOR_ASSIGN(report.load_cold, time_load(flags, false));
  reset_peak();
  const auto start = Clock::now();
  OCIOR_ASSIGN(const LoadedModel loaded, load_model(flags.model, flags.session.options()));
  report.load_warm = milliseconds_since(start);
  OCIOR_ASSIGN(report.inputs, flags.feeds.read(loaded.session));
  OCIOR_RETURN_IF_ERROR(time_runs(flags, loaded.session, report));
  report.peak_rss = peak_rss();
  report.memory = loaded.session.memory_stats();
  if (flags.json) print_line(json_line(as_json(flags, report)));
  else print_text(flags, report);
  return {};
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<BenchFlags>();
  flags->feeds.random = true;
  CLI::App* command = app.add_subcommand("bench", "Measure how long a model takes");
  command->add_option("MODEL", flags->model, "ONNX file or checkpoint folder")->required();
  flags->feeds.add_dims_to(*command);
  command->add_option("--seconds", flags->seconds, "How long to measure, after a tenth of it to warm up")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print one JSON object");
  flags->session.add_to(*command);
  command->footer(
      "Inputs are made up, as 'ocior run --random' does.\nExample:\n  ocior bench model.onnx --dim batch=1 --dim sequence=128 "
      "--threads 2");
  command->callback([flags, &action] { action = [flags] { return bench(*flags); }; });
}

}  // namespace ocior::cli
