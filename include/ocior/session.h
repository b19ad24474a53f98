// Sessions: load a model once, run it from any number of threads.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ocior/status.h"
#include "ocior/value.h"

namespace ocior {

struct SessionRep;  // src/run/session_rep.h
struct BindingRep;

#pragma GCC visibility push(default)

// One dimension of a declared shape: a number, or a symbol ("batch"), or unknown (value -1 and no symbol).
struct Dimension {
  int64_t value = -1;
  std::string symbol;
};

// Name and type of a model's input, output or initializer.
struct ValueInfo {
  std::string name;
  Value::Kind kind = Value::Kind::kTensor;
  DType dtype = DType::kUndefined;  // of a tensor's elements, of a map's keys
  bool has_shape = false;
  std::vector<Dimension> shape;
  std::shared_ptr<const ValueInfo> element;  // of a sequence or an optional; the values of a map
  std::string type_string() const;           // ONNX Runtime's words: "tensor(float)", "seq(tensor(int64))"
};

struct ModelMetadata {
  std::string producer_name, producer_version, domain, description, graph_name, graph_description;
  int64_t version = 0, ir_version = 0;
  std::vector<std::pair<std::string, int64_t>> opset_imports;
  std::map<std::string, std::string> custom;
};

enum class LogLevel : int { kVerbose = 0, kInfo = 1, kWarning = 2, kError = 3, kFatal = 4 };

enum class OptimizationLevel : int { kDisabled = 0, kBasic = 1, kExtended = 2, kAll = 99 };

struct ProviderRequest {
  std::string name;  // "CPUExecutionProvider", "CUDAExecutionProvider", …
  std::map<std::string, std::string> options;
};

// How a session is made. Keys of `config`: `ocior.precision` (highest, high, medium), `ocior.cache` (0, 1), `ocior.plan_cache`
// (number of shape plans kept), `ocior.memory_limit` (bytes), `session.set_denormal_as_zero` (0, 1); docs/options.md lists all.
struct SessionOptions {
  int intra_op_num_threads = 0;  // 0: every core the process may use
  OptimizationLevel optimization = OptimizationLevel::kAll;
  std::vector<std::string> disabled_passes;  // names as `ocior explain` prints them
  std::map<std::string, std::string> config;
  std::map<std::string, int64_t> free_dimensions;       // symbol -> value, fixed for the session
  std::vector<ProviderRequest> providers;               // empty: the CPU
  std::function<void(LogLevel, std::string_view)> log;  // called from the thread that loads or runs; null: silent
};

// How one run goes. May be shared with another thread that calls terminate().
class RunOptions {
 public:
  void terminate() { stop_.store(true, std::memory_order_relaxed); }
  void clear() { stop_.store(false, std::memory_order_relaxed); }
  bool terminated() const { return stop_.load(std::memory_order_relaxed); }
  void set_deadline(std::chrono::steady_clock::time_point t) { deadline_ = t; }
  std::chrono::steady_clock::time_point deadline() const { return deadline_; }
  const std::atomic<bool>& stop_word() const { return stop_; }
  std::map<std::string, std::string> config;

 private:
  std::atomic<bool> stop_{false};
  std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::time_point::max();
};

struct Feed {
  std::string_view name;
  Value value;
};

class Session;

// Inputs and outputs bound by name for repeated runs. Not thread-safe; one per running thread.
class IoBinding {
 public:
  explicit IoBinding(const Session& session);
  ~IoBinding();
  IoBinding(IoBinding&&) noexcept;
  IoBinding& operator=(IoBinding&&) noexcept;

  Status bind_input(std::string_view name, Value value);
  // Results are written into `value`'s memory; its dtype and shape must be what the run computes.
  Status bind_output(std::string_view name, Value value);
  // Results are allocated by the session in `memory`.
  Status bind_output(std::string_view name, MemoryInfo memory);
  void clear_inputs();
  void clear_outputs();
  // Outputs of the last run, in the order in which they were bound.
  std::span<const Value> outputs() const;
  std::span<const std::string> output_names() const;

 private:
  friend class Session;
  std::unique_ptr<BindingRep> rep_;
};

// A loaded model. Immutable after load; run() may be called by any number of threads at once. Outputs outlive the session.
class Session {
 public:
  // Reads `path`. Errors name the file, node or field.
  static Result<Session> load(const std::string& path, const SessionOptions& options = {});
  // The same from memory; the bytes are not needed afterwards.
  static Result<Session> load(std::span<const std::byte> bytes, const SessionOptions& options = {});

  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  std::span<const ValueInfo> inputs() const;
  std::span<const ValueInfo> outputs() const;
  std::span<const ValueInfo> overridable_initializers() const;
  const ModelMetadata& metadata() const;
  std::span<const std::string> providers() const;

  // Runs the model. `feeds` holds every input once; `output_names` empty means all outputs in the model's order.
  // Errors: unknown, missing or doubled names, wrong dtype, rank or dimension (each named with expected and got), a failed node,
  // termination.
  Result<std::vector<Value>> run(std::span<const Feed> feeds, std::span<const std::string> output_names = {},
                                 RunOptions* options = nullptr) const;
  Status run(IoBinding& binding, RunOptions* options = nullptr) const;

  // Reports as text or JSON: the fusions that fired or why not, kernels and precision per node, memory of each shape plan.
  std::string explain(bool json = false) const;
  // The graph after a stage: "import", "infer", "simplify", "plan". Unknown stages are an error that lists them.
  Result<std::string> dump(std::string_view stage) const;

  struct MemoryStats {
    size_t weights = 0;         // bytes of packed and plain constants
    size_t weights_mapped = 0;  // of these, in the shared cache file
    size_t workspaces = 0;      // bytes of activation memory held
    int64_t shape_plans = 0;    // plans in the cache
    int64_t plan_hits = 0, plan_misses = 0;
  };
  MemoryStats memory_stats() const;

 private:
  friend class IoBinding;
  explicit Session(std::shared_ptr<SessionRep> rep);
  std::shared_ptr<SessionRep> rep_;
};

// "0.1.0"
std::string_view version();

// Providers compiled into this library, best first.
std::span<const std::string> available_providers();

#pragma GCC visibility pop

}  // namespace ocior
