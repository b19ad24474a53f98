// The public Session: stages 1 to 6 at load, 7 and 8 at run.
#include "ocior/session.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/mapped_file.h"
#include "onnx/import_graph.h"
#include "onnx/model.h"
#include "passes/pipeline.h"
#include "plan/program.h"
#include "run/executor.h"
#include "run/feeds.h"
#include "run/session_rep.h"

namespace ocior {
namespace {

constexpr int kPackerVersion = 1;  // raise when a packed form or a pass changes what the weight cache holds

const std::string kCpu = "CPUExecutionProvider";

ValueInfo describe(const graph::Type& type, const std::string& name) {
  ValueInfo info;
  info.name = name;
  info.kind = type.kind;
  info.dtype = type.dtype;
  if (type.element) info.element = std::make_shared<const ValueInfo>(describe(*type.element, ""));
  info.has_shape = type.shape.has_value();
  if (info.has_shape)
    for (const Dim& d : *type.shape) {
      Dimension out;
      if (d.known()) out.value = d.value();
      else if (const auto symbol = d.single_symbol(); !symbol || symbol->front() != '?') out.symbol = d.text();
      info.shape.push_back(std::move(out));
    }
  return info;
}

ModelMetadata metadata_of(const onnx::Model& model) {
  ModelMetadata m;
  m.producer_name = model.producer_name;
  m.producer_version = model.producer_version;
  m.domain = model.domain;
  m.description = model.doc;
  m.graph_name = model.graph.name;
  m.graph_description = model.graph.doc;
  m.version = model.model_version;
  m.ir_version = model.ir_version;
  m.opset_imports = model.opset_imports;
  m.custom.insert(model.metadata.begin(), model.metadata.end());
  return m;
}

// A config entry with a closed set of values.
Result<int> choice(const SessionOptions& options, const std::string& key, std::initializer_list<std::string_view> values,
                   int otherwise) {
  const auto it = options.config.find(key);
  if (it == options.config.end()) return otherwise;
  int i = 0;
  for (const std::string_view v : values) {
    if (it->second == v) return i;
    ++i;
  }
  return error(Code::kInvalidArgument, "session option {} is '{}'; expected one of {}", key, it->second, fmt::join(values, ", "));
}

Result<size_t> count_option(const SessionOptions& options, const std::string& key, size_t otherwise, size_t most) {
  const auto it = options.config.find(key);
  if (it == options.config.end()) return otherwise;
  size_t value = 0;
  for (const char c : it->second) {
    if (c < '0' || c > '9' || value > most)
      return error(Code::kInvalidArgument, "session option {} is '{}'; expected a number from 1 to {}", key, it->second, most);
    value = value * 10 + static_cast<size_t>(c - '0');
  }
  if (value < 1 || value > most)
    return error(Code::kInvalidArgument, "session option {} is '{}'; expected a number from 1 to {}", key, it->second, most);
  return value;
}

class Loader {
 public:
  explicit Loader(const SessionOptions& options) : options_(options), rep_(std::make_shared<SessionRep>()) {}

  Result<std::shared_ptr<SessionRep>> from_file(const std::string& path) {
    OCIOR_RETURN_IF_ERROR(read_options());
    const MemoryBudget::Scope scope(rep_->budget);
    OCIOR_ASSIGN(const onnx::Model model, onnx::read_file(path));
    // The cache knows the main file's content only, so a model with other files is packed anew by every session.
    if (program_options_.cache.folder.size() && model.files.size() <= 1) {
      Team team;  // loading is short and bound by memory: every core helps
      auto hash = plan::content_hash(path, program_options_.cache.folder, team);
      if (hash.ok()) program_options_.cache.name = cache_name(*hash);
    }
    return finish(model, path);
  }

  Result<std::shared_ptr<SessionRep>> from_bytes(std::span<const std::byte> bytes) {
    OCIOR_RETURN_IF_ERROR(read_options());
    const MemoryBudget::Scope scope(rep_->budget);
    OCIOR_ASSIGN(const onnx::Model model, onnx::read_bytes(bytes, nullptr));
    if (program_options_.cache.folder.size()) {
      Team team;  // loading is short and bound by memory: every core helps
      program_options_.cache.name = cache_name(plan::content_hash(bytes, team));
    }
    return finish(model, "the model");
  }

 private:
  Status read_options() {
    if (*kernels_error()) return error(Code::kInvalidArgument, "{}", kernels_error());
    if (options_.intra_op_num_threads < 0)
      return error(Code::kInvalidArgument, "intra_op_num_threads is {}; expected 0 (all cores) or a positive number",
                   options_.intra_op_num_threads);
    OCIOR_ASSIGN(const int precision, choice(options_, "ocior.precision", {"highest", "high", "medium"}, 0));
    OCIOR_ASSIGN(const int cache, choice(options_, "ocior.cache", {"0", "1"}, 1));
    OCIOR_ASSIGN(const int reference, choice(options_, "ocior.reference", {"0", "1"}, 0));
    OCIOR_ASSIGN(keep_stages_, choice(options_, "ocior.keep_stages", {"0", "1"}, 0));
    OCIOR_ASSIGN(rep_->flush_denormals, choice(options_, "session.set_denormal_as_zero", {"0", "1"}, 0));
    OCIOR_ASSIGN(program_options_.plan_capacity, count_option(options_, "ocior.plan_cache", 64, 100000));
    OCIOR_ASSIGN(const size_t memory_limit, count_option(options_, "ocior.memory_limit", SIZE_MAX, SIZE_MAX / 16));
    if (memory_limit != SIZE_MAX) rep_->budget = std::make_shared<MemoryBudget>(memory_limit);
    constexpr std::string_view known[] = {"ocior.precision",  "ocior.cache",        "ocior.keep_stages",
                                          "ocior.plan_cache", "ocior.memory_limit", "ocior.reference"};
    for (const auto& [key, value] : options_.config)
      if (key.starts_with("ocior.") && std::ranges::find(known, key) == std::end(known))
        return error(Code::kInvalidArgument, "unknown session option '{}'; known: {}", key, fmt::join(known, ", "));
    program_options_.reference = reference != 0;
    program_options_.precision = static_cast<Precision>(precision);
    program_options_.threads = options_.intra_op_num_threads;
    if (cache && !reference) program_options_.cache.folder = plan::cache_folder();
    return choose_providers();
  }

  Status choose_providers() {
    bool cpu = options_.providers.empty();
    for (const ProviderRequest& p : options_.providers) {
      if (p.name == kCpu) cpu = true;
      else
        log(LogLevel::kWarning, fmt::format("{} is not available in this build; the next provider in the list is used", p.name));
    }
    if (!cpu) return error(Code::kInvalidArgument, "none of the providers asked for is available here; available: {}", kCpu);
    rep_->providers = {kCpu};
    return {};
  }

  // Everything that decides what the packed weights look like.
  std::string cache_name(const std::string& hash) const {
    std::string rest = fmt::format("{}-{}-{}-{}", kernels().name, static_cast<int>(program_options_.precision), kPackerVersion,
                                   static_cast<int>(options_.optimization));
    for (const auto& pass : options_.disabled_passes) rest += "-" + pass;
    for (const auto& [symbol, value] : options_.free_dimensions) rest += fmt::format("-{}={}", symbol, value);
    return fmt::format("{}-{:016x}.weights", hash, std::hash<std::string>{}(rest));
  }

  Result<std::shared_ptr<SessionRep>> finish(const onnx::Model& model, const std::string& name) {
    if (Status done = build(model); !done.ok())
      return done.message().starts_with(name) ? done : with_context(std::move(done), name);
    return std::move(rep_);
  }

  Status build(const onnx::Model& model) {
    rep_->metadata = metadata_of(model);
    OCIOR_ASSIGN(graph::Graph g, onnx::import_graph(model, {.free_dimensions = options_.free_dimensions}));
    keep("import", g);
    OCIOR_RETURN_IF_ERROR(graph::infer(g));
    keep("infer", g);
    describe_interface(g);
    // What the references compute is the model as it stands.
    const int level = program_options_.reference ? 0 : static_cast<int>(options_.optimization);
    passes::SimplifyOptions simplify{.level = level, .disabled = options_.disabled_passes};
    OCIOR_ASSIGN(rep_->passes, passes::simplify(g, simplify));
    keep("simplify", g);
    std::vector<std::string> notes;
    program_options_.sources = model.files;
    OCIOR_ASSIGN(rep_->program, plan::Program::compile(g, program_options_, notes));
    for (const std::string& note : notes) log(LogLevel::kInfo, note);
    if (*kernels_notes()) log(LogLevel::kVerbose, kernels_notes());
    rep_->contexts = std::make_unique<run::ContextPool>(*rep_->program);
    return {};
  }

  void describe_interface(const graph::Graph& g) {
    for (const graph::ValueId id : g.inputs()) {
      const graph::ValueInfo& v = g.value(id);
      (v.overridable ? rep_->overridable : rep_->inputs).push_back(describe(v.type, v.name));
      rep_->program_inputs.push_back(describe(v.type, v.name));
    }
    for (size_t i = 0; i < g.outputs().size(); ++i)
      rep_->outputs.push_back(describe(g.value(g.outputs()[i]).type, g.output_names()[i]));
  }

  void keep(const char* stage, const graph::Graph& g) {
    if (keep_stages_) rep_->stages.emplace_back(stage, graph::print(g));
  }

  void log(LogLevel level, std::string_view text) const {
    if (options_.log) options_.log(level, text);
  }

  const SessionOptions& options_;
  std::shared_ptr<SessionRep> rep_;
  plan::ProgramOptions program_options_;
  int keep_stages_ = 0;
};

// Flush-to-zero and denormals-are-zero for the duration of a run, the caller's mode afterwards.
class FloatMode {
 public:
  explicit FloatMode(bool flush) : flush_(flush) {
#if defined(__x86_64__)
    if (flush_) {
      saved_ = __builtin_ia32_stmxcsr();
      __builtin_ia32_ldmxcsr(saved_ | 0x8040);
    }
#endif
  }
  ~FloatMode() {
#if defined(__x86_64__)
    if (flush_) __builtin_ia32_ldmxcsr(saved_);
#endif
  }

 private:
  bool flush_;
  unsigned saved_ = 0;
};

bool overlap(const Tensor& a, const Tensor& b) {
  const auto* x = static_cast<const std::byte*>(a.data());
  const auto* y = static_cast<const std::byte*>(b.data());
  return a.bytes() > 0 && b.bytes() > 0 && x < y + b.bytes() && y < x + a.bytes();
}

template <class Names>
std::string list_of(const Names& infos) {
  std::string out;
  for (const ValueInfo& v : infos) out += (out.empty() ? "'" : ", '") + v.name + "'";
  return out.empty() ? "none" : out;
}

int index_of(std::span<const ValueInfo> infos, std::string_view name) {
  for (size_t i = 0; i < infos.size(); ++i)
    if (infos[i].name == name) return static_cast<int>(i);
  return -1;
}

// Feeds -> values in the program's order; kNone: the default of an overridable initializer.
Status place_feeds(const SessionRep& rep, std::span<const Feed> feeds, std::vector<Value>& inputs) {
  inputs.assign(rep.program->inputs().size(), Value());
  for (const Feed& feed : feeds) {
    const int i = index_of(rep.program_inputs, feed.name);
    if (i < 0)
      return error(Code::kInvalidArgument, "Invalid input name: {}\nThe model's inputs are {}.", feed.name, list_of(rep.inputs));
    Value& input = inputs[static_cast<size_t>(i)];
    if (input.kind() != Value::Kind::kNone) return error(Code::kInvalidArgument, "input '{}' is given twice", feed.name);
    input = run::as_declared(rep.program_inputs[static_cast<size_t>(i)], feed.value);
    OCIOR_RETURN_IF_ERROR(run::check_feed(rep.program_inputs[static_cast<size_t>(i)], input));
  }
  for (size_t i = 0; i < rep.program_inputs.size(); ++i)
    if (inputs[i].kind() == Value::Kind::kNone && index_of(rep.overridable, rep.program_inputs[i].name) < 0)
      return error(Code::kInvalidArgument, "Missing Input: {}\nIt is a {}; the model's inputs are {}.",
                   rep.program_inputs[i].name, rep.program_inputs[i].type_string(), list_of(rep.inputs));
  return {};
}

Status execute(const SessionRep& rep, std::span<const Value> inputs, std::span<run::OutputSlot> outputs, RunOptions* options) {
  const MemoryBudget::Scope scope(rep.budget);
  StopWord stop;
  if (options) {
    stop.watch(&options->stop_word());
    stop.set_deadline(options->deadline());
  }
  // A bound output that shares bytes with an input is written aside and copied at the end.
  std::vector<std::pair<size_t, Tensor>> aside;
  for (size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i].bound && std::ranges::any_of(inputs, [&](const Value& v) {
          return v.is_tensor() && overlap(*v.get_tensor(), outputs[i].tensor);
        })) {
      aside.emplace_back(i, outputs[i].tensor);
      OCIOR_ASSIGN(outputs[i].tensor, Tensor::allocate(outputs[i].tensor.dtype(), outputs[i].tensor.shape()));
    }
  auto context = rep.contexts->take();
  Status status;
  {
    const FloatMode mode(rep.flush_denormals != 0);
    status = context->execute(inputs, outputs, nullptr, options ? &stop : nullptr);
  }
  rep.contexts->give(std::move(context));
  OCIOR_RETURN_IF_ERROR(std::move(status));
  for (auto& [i, target] : aside) {
    std::memcpy(target.data(), outputs[i].tensor.data(), target.bytes());
    outputs[i].tensor = target;
  }
  for (run::OutputSlot& out : outputs) {
    if (out.other.kind() == Value::Kind::kNone) continue;
    OCIOR_ASSIGN(out.other, run::copy_of(out.other));
  }
  return {};
}

}  // namespace

std::string ValueInfo::type_string() const {
  switch (kind) {
    case Value::Kind::kTensor: return fmt::format("tensor({})", name_of(dtype));
    case Value::Kind::kSequence: return fmt::format("seq({})", element ? element->type_string() : "?");
    case Value::Kind::kMap: return fmt::format("map({},{})", name_of(dtype), element ? element->type_string() : "?");
    case Value::Kind::kOptional: return fmt::format("optional({})", element ? element->type_string() : "?");
    case Value::Kind::kNone: break;
  }
  return "?";
}

Session::Session(std::shared_ptr<SessionRep> rep) : rep_(std::move(rep)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Result<Session> Session::load(const std::string& path, const SessionOptions& options) {
  OCIOR_ASSIGN(auto rep, Loader(options).from_file(path));
  return Session(std::move(rep));
}

Result<Session> Session::load(std::span<const std::byte> bytes, const SessionOptions& options) {
  OCIOR_ASSIGN(auto rep, Loader(options).from_bytes(bytes));
  return Session(std::move(rep));
}

std::span<const ValueInfo> Session::inputs() const { return rep_->inputs; }
std::span<const ValueInfo> Session::outputs() const { return rep_->outputs; }
std::span<const ValueInfo> Session::overridable_initializers() const { return rep_->overridable; }
const ModelMetadata& Session::metadata() const { return rep_->metadata; }
std::span<const std::string> Session::providers() const { return rep_->providers; }

Result<std::vector<Value>> Session::run(std::span<const Feed> feeds, std::span<const std::string> output_names,
                                        RunOptions* options) const {
  std::vector<Value> inputs;
  OCIOR_RETURN_IF_ERROR(place_feeds(*rep_, feeds, inputs));
  std::vector<run::OutputSlot> slots(rep_->outputs.size());
  std::vector<size_t> order;
  for (run::OutputSlot& s : slots) s.wanted = output_names.empty();
  for (size_t i = 0; output_names.empty() && i < slots.size(); ++i) order.push_back(i);
  for (const std::string& name : output_names) {
    const int i = index_of(rep_->outputs, name);
    if (i < 0)
      return error(Code::kInvalidArgument, "Invalid output name: {}\nThe model's outputs are {}.", name, list_of(rep_->outputs));
    slots[static_cast<size_t>(i)].wanted = true;
    order.push_back(static_cast<size_t>(i));
  }
  OCIOR_RETURN_IF_ERROR(execute(*rep_, inputs, slots, options));
  std::vector<Value> values;
  values.reserve(order.size());
  for (const size_t i : order) values.push_back(slots[i].value());
  return values;
}

Status Session::run(IoBinding& binding, RunOptions* options) const {
  BindingRep& b = *binding.rep_;
  std::vector<Feed> feeds;
  for (const auto& [name, value] : b.inputs) feeds.push_back({name, value});
  std::vector<Value> inputs;
  OCIOR_RETURN_IF_ERROR(place_feeds(*rep_, feeds, inputs));
  if (b.output_names.empty()) return error(Code::kInvalidArgument, "no output is bound; call bind_output for at least one");
  std::vector<run::OutputSlot> slots(rep_->outputs.size());
  for (run::OutputSlot& s : slots) s.wanted = false;
  for (size_t i = 0; i < b.output_names.size(); ++i) {
    run::OutputSlot& s = slots[static_cast<size_t>(index_of(rep_->outputs, b.output_names[i]))];
    s.wanted = true;
    if (b.bound[i].is_tensor()) {
      s.bound = true;
      s.tensor = *b.bound[i].get_tensor();
    }
  }
  OCIOR_RETURN_IF_ERROR(execute(*rep_, inputs, slots, options));
  b.results.clear();
  for (const std::string& name : b.output_names)
    b.results.push_back(slots[static_cast<size_t>(index_of(rep_->outputs, name))].value());
  return {};
}

Session::MemoryStats Session::memory_stats() const {
  MemoryStats m;
  m.weights = rep_->program->weights()->bytes();
  m.weights_mapped = rep_->program->weights()->mapped() ? m.weights : 0;
  m.workspaces = rep_->contexts->workspace_bytes();
  m.shape_plans = rep_->program->plan_count();
  m.plan_hits = rep_->program->plan_hits();
  m.plan_misses = rep_->program->plan_misses();
  return m;
}

Result<std::string> Session::dump(std::string_view stage) const {
  std::string known;
  for (const auto& [name, text] : rep_->stages) {
    if (name == stage) return text;
    known += (known.empty() ? "" : ", ") + name;
  }
  if (rep_->stages.empty())
    return error(Code::kInvalidArgument, "the session keeps no stages; create it with the option ocior.keep_stages=1");
  return error(Code::kInvalidArgument, "unknown stage '{}'; expected one of {}", stage, known);
}

IoBinding::IoBinding(const Session& session) : rep_(std::make_unique<BindingRep>()) { rep_->session = session.rep_; }
IoBinding::~IoBinding() = default;
IoBinding::IoBinding(IoBinding&&) noexcept = default;
IoBinding& IoBinding::operator=(IoBinding&&) noexcept = default;

Status IoBinding::bind_input(std::string_view name, Value value) {
  if (index_of(rep_->session->program_inputs, name) < 0)
    return error(Code::kInvalidArgument, "Invalid input name: {}\nThe model's inputs are {}.", name,
                 list_of(rep_->session->inputs));
  for (auto& [bound, old] : rep_->inputs)
    if (bound == name) {
      old = std::move(value);
      return {};
    }
  rep_->inputs.emplace_back(name, std::move(value));
  return {};
}

Status IoBinding::bind_output(std::string_view name, Value value) {
  if (index_of(rep_->session->outputs, name) < 0)
    return error(Code::kInvalidArgument, "Invalid output name: {}\nThe model's outputs are {}.", name,
                 list_of(rep_->session->outputs));
  for (size_t i = 0; i < rep_->output_names.size(); ++i)
    if (rep_->output_names[i] == name) {
      rep_->bound[i] = std::move(value);
      return {};
    }
  rep_->output_names.emplace_back(name);
  rep_->bound.push_back(std::move(value));
  return {};
}

Status IoBinding::bind_output(std::string_view name, MemoryInfo memory) {
  if (memory.kind != MemoryKind::kCpu)
    return error(Code::kNotImplemented, "output '{}': only CPU memory is available in this build", name);
  return bind_output(name, Value());
}

void IoBinding::clear_inputs() { rep_->inputs.clear(); }
void IoBinding::clear_outputs() {
  rep_->output_names.clear();
  rep_->bound.clear();
  rep_->results.clear();
}
std::span<const Value> IoBinding::outputs() const { return rep_->results; }
std::span<const std::string> IoBinding::output_names() const { return rep_->output_names; }

std::string_view version() { return OCIOR_VERSION; }

std::span<const std::string> available_providers() {
  static const std::vector<std::string> all = {kCpu};
  return all;
}

}  // namespace ocior
