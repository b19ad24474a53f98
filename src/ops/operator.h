// What an operator is: a struct with `info`, `parse`, `infer`, `reference`, `samples` and, where a faster way exists, `run` (with
// `prepare` and `scratch`). A concept checks it; all.inc lists it; AnyOperator erases its type for the rest of the engine.
// Operators are immutable after parse and used by many threads at once.
#pragma once

#include <climits>
#include <concepts>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "graph/op.h"
#include "kernels/table.h"
#include "ocior/status.h"
#include "tensor/tensor.h"

namespace ocior {
class Team;      // base/pool.h
class StopWord;  // base/stop.h
}  // namespace ocior

namespace ocior::ops {

using graph::Attributes;
using graph::AttributeValue;
using graph::RefContext;
using graph::ShapeContext;
using graph::Type;

inline constexpr std::string_view kOcior = "ai.ocior";  // domain of fused and internal operators
inline constexpr int kNewestOpset = 28;                 // of ai.onnx; later ones are read as this one
inline constexpr int kUnbounded = INT_MAX;

// What is fixed about an operator, whatever its attributes.
struct OpInfo {
  std::string_view name;
  std::string_view domain = "";
  int since = 1;  // first opset that has it
  int min_inputs = 1, max_inputs = 1;
  int min_outputs = 1, max_outputs = 1;
  bool pure = true;       // false: random or stateful; never folded, shared or reordered
  bool view = false;      // output 0 has the bytes of input 0: no work, only another shape
  unsigned in_place = 0;  // bit i: output 0 may be written over input i when shapes and dtypes are equal
  bool any_kind = false;  // takes sequences, optionals or maps; checks the kind of each input in infer()
};

// Reads the attributes of one node. A wrong kind or a missing required attribute becomes status(); what nobody read is unread().
class NodeReader {
 public:
  NodeReader(const OpInfo& info, int opset, const Attributes& attributes, int inputs, int outputs)
      : info_(info), opset_(opset), attributes_(attributes), inputs_(inputs), outputs_(outputs) {}

  int opset() const { return opset_; }
  int inputs() const { return inputs_; }
  int outputs() const { return outputs_; }
  bool has(std::string_view name) const;
  int64_t integer(std::string_view name, int64_t otherwise) const;
  int64_t required_integer(std::string_view name) const;
  float number(std::string_view name, float otherwise) const;
  std::string text(std::string_view name, std::string_view otherwise) const;
  std::vector<int64_t> integers(std::string_view name, std::vector<int64_t> otherwise = {}) const;
  std::vector<float> numbers(std::string_view name, std::vector<float> otherwise = {}) const;
  std::vector<std::string> texts(std::string_view name, std::vector<std::string> otherwise = {}) const;
  const Tensor* tensor(std::string_view name) const;  // null when absent
  const Type* type(std::string_view name) const;      // null when absent
  std::shared_ptr<graph::Graph> graph(std::string_view name) const;
  void ignore(std::string_view name) const;  // known and without effect here

  // For parse(): an error about this node's attributes ("axis: expected ...").
  template <class... Args>
  void fail(fmt::format_string<Args...> format, Args&&... args) const {
    if (status_.ok()) status_ = error(Code::kInvalidGraph, format, std::forward<Args>(args)...);
  }
  const Status& status() const { return status_; }
  std::vector<std::string> unread() const;

 private:
  const AttributeValue* find(std::string_view name) const;
  template <class T>
  const T* get(std::string_view name, std::string_view kind) const;

  const OpInfo& info_;
  int opset_;
  const Attributes& attributes_;
  int inputs_, outputs_;
  mutable std::set<std::string, std::less<>> read_;
  mutable Status status_;
};

// What prepare() leaves for run(): packed weights and what was computed from them. Immutable, shared by all runs.
struct Prepared {
  virtual ~Prepared() = default;
};

// Fills chunk `chunk` of a packed form at `destination`. Called from several threads, each chunk once.
using PackFunction = void (*)(const void* context, void* destination, int64_t chunk);

// What prepare() sees, once per node when a session loads.
class PrepareContext {
 public:
  virtual ~PrepareContext() = default;
  virtual bool has(int i) const = 0;
  virtual const Tensor* constant(int i) const = 0;  // value of input i when fixed at load, else null
  virtual const Type& in(int i) const = 0;
  virtual const KernelTable& kernels() const = 0;
  virtual Precision precision() const = 0;
  // Asks for `bytes` bytes in the weight store holding a packed form of constant inputs, filled by `chunks` calls before the
  // first run (or found in the cache: `form` names what is packed, "gemm_b"). `context` must live in the Prepared that prepare()
  // returns.
  virtual const void* pack(std::string_view form, size_t bytes, int64_t chunks, PackFunction fill, const void* context) = 0;
  // Says that run() will not read constant input i: its plain bytes need not be kept.
  virtual void release(int i) = 0;
};

// What scratch() sees: the concrete types of one shape plan.
class BindContext {
 public:
  virtual ~BindContext() = default;
  virtual bool has(int i) const = 0;
  virtual const TensorView& in(int i) const = 0;  // data is null
  virtual const TensorView& out(int i) const = 0;
  virtual const KernelTable& kernels() const = 0;
  virtual Precision precision() const = 0;
  virtual const Prepared* prepared() const = 0;
  virtual int workers() const = 0;  // most threads that a run can have
};

// Runs a subgraph of the operator: captures are bound by the executor. Inputs may borrow their bytes, outputs own theirs.
class SubgraphRunner {
 public:
  virtual ~SubgraphRunner() = default;
  virtual Status call(int subgraph, std::span<const Value> inputs, std::vector<Value>& outputs) = 0;
};

// What run() sees: dense views, scratch, the run's workers. Plain data, filled by the executor; nothing but values of other kinds
// than tensors and outputs of unknown shape allocates.
class CpuContext {
 public:
  virtual ~CpuContext() = default;
  // (Re)allocates an output whose shape only the run knows; afterwards out(i) is valid.
  virtual Status allocate(int i, std::span<const int64_t> shape) = 0;
  // As those of RefContext; by default of tensors.
  virtual Value value(int i) const;
  virtual Status set_value(int i, Value value);

  int inputs() const { return input_count_; }
  int outputs() const { return output_count_; }
  bool has(int i) const { return i < input_count_ && inputs_[i].dtype != DType::kUndefined; }
  const TensorView& in(int i) const { return inputs_[i]; }
  bool wants(int i) const { return i < output_count_ && outputs_[i].dtype != DType::kUndefined; }
  const TensorView& out(int i) const { return outputs_[i]; }
  void* scratch() const { return scratch_; }
  Team& team() const { return *team_; }
  const StopWord* stop() const { return stop_; }
  const KernelTable& kernels() const { return *kernels_; }
  Precision precision() const { return precision_; }
  const Prepared* prepared() const { return prepared_; }
  SubgraphRunner* subgraphs() const { return subgraphs_; }

 protected:
  const TensorView* inputs_ = nullptr;
  const TensorView* outputs_ = nullptr;
  int input_count_ = 0, output_count_ = 0;
  void* scratch_ = nullptr;
  Team* team_ = nullptr;
  const StopWord* stop_ = nullptr;
  const KernelTable* kernels_ = nullptr;
  Precision precision_ = Precision::kHighest;
  const Prepared* prepared_ = nullptr;
  SubgraphRunner* subgraphs_ = nullptr;
};

// One case that feeds the conformance sweep, the differential fuzzer and the benchmark.
enum class Fill { kUniform, kNormal, kPositive, kSmallInts, kBools, kMinusInf, kSpecials, kZeros };
struct SampleInput {
  DType dtype = DType::kFloat;
  Shape shape;
  Fill fill = Fill::kUniform;  // floats: uniform in [-1, 1]
  std::vector<double> values;  // instead of fill, when not empty
  bool constant = false;       // fed as an initializer
  bool omitted = false;
};
struct Sample {
  std::vector<SampleInput> inputs;
  Attributes attributes = {};
  int opset = 0;  // 0: the newest
  int outputs = 1;
  bool bench = false;
  double tolerance = 1e-6;  // of max |want|, for floats; integers are equal
};

// The operator as the engine sees it.
class AnyOperator : public graph::Op {
 public:
  virtual const OpInfo& info() const = 0;
  virtual bool has_run() const = 0;
  virtual Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const = 0;  // null: nothing to prepare
  virtual size_t scratch(const BindContext& c) const = 0;                          // bytes, 64-byte aligned, for one run
  virtual double work(const BindContext& c) const = 0;                             // floating-point operations of one run, about
  virtual Status run(CpuContext& c) const = 0;
  virtual std::string describe(const Prepared* prepared) const = 0;  // for explain: what run() does; may be empty
  std::string_view name() const final { return info().name; }
  std::string_view domain() const final { return info().domain; }
  bool pure() const final { return info().pure; }
  bool any_kind() const final { return info().any_kind; }
};

template <class T>
concept Operator = requires(const T op, const NodeReader& node, ShapeContext& shapes, RefContext& ref) {
  { T::info } -> std::convertible_to<const OpInfo&>;
  { T::parse(node) } -> std::same_as<T>;
  { op.infer(shapes) } -> std::same_as<Status>;
  { op.reference(ref) } -> std::same_as<Status>;
  { T::samples() } -> std::same_as<std::vector<Sample>>;
};
template <class T>
concept HasRun = requires(const T op, CpuContext& c) {
  { op.run(c) } -> std::same_as<Status>;
};
template <class T>
concept HasPrepare = requires(const T op, PrepareContext& c) {
  { op.prepare(c) } -> std::same_as<Result<std::unique_ptr<Prepared>>>;
};
template <class T>
concept HasScratch = requires(const T op, const BindContext& c) {
  { op.scratch(c) } -> std::same_as<size_t>;
};
template <class T>
concept HasWork = requires(const T op, const BindContext& c) {
  { op.work(c) } -> std::same_as<double>;
};
template <class T>
concept HasDescribe = requires(const T op, const Prepared* p) {
  { op.describe(p) } -> std::same_as<std::string>;
};
template <class T>
concept HasSubgraphs = requires(const T op) {
  { op.subgraphs() } -> std::convertible_to<std::span<const std::shared_ptr<graph::Graph>>>;
};

// A line of the registry: everything needed to make the operator.
struct OpEntry {
  const OpInfo* info;
  Result<std::shared_ptr<const AnyOperator>> (*make)(int opset, const Attributes& attributes, int inputs, int outputs);
  std::vector<Sample> (*samples)();
  bool has_run;
};

// All operators, in the manifest's order.
std::span<const OpEntry> all_operators();
// Null when there is none of that name in that domain.
const OpEntry* find_operator(std::string_view domain, std::string_view name);

// Makes an operator from attributes, for import and for passes. Errors: unknown operator (the nearest names are listed), opset
// before `since`, input or output counts, wrong or unread attributes; each names the operator, not the node.
Result<std::shared_ptr<const AnyOperator>> make_operator(std::string_view domain, std::string_view name, int opset,
                                                         const Attributes& attributes, int inputs, int outputs);

template <Operator T>
class OperatorOf final : public AnyOperator {
 public:
  OperatorOf(T op, int opset, Attributes attributes) : op_(std::move(op)), opset_(opset), attributes_(std::move(attributes)) {}
  const T& op() const { return op_; }
  const OpInfo& info() const override { return T::info; }
  int opset() const override { return opset_; }
  const Attributes& attributes() const override { return attributes_; }
  Status infer(ShapeContext& c) const override { return op_.infer(c); }
  Status reference(RefContext& c) const override { return op_.reference(c); }
  bool has_run() const override { return HasRun<T>; }
  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const override {
    if constexpr (HasPrepare<T>) return op_.prepare(c);
    return std::unique_ptr<Prepared>();
  }
  size_t scratch(const BindContext& c) const override {
    if constexpr (HasScratch<T>) return op_.scratch(c);
    return 0;
  }
  double work(const BindContext& c) const override {
    if constexpr (HasWork<T>) return op_.work(c);
    return 4.0 * static_cast<double>(c.out(0).count());
  }
  Status run(CpuContext& c) const override {
    if constexpr (HasRun<T>) return op_.run(c);
    return error(Code::kNotImplemented, "{} has no CPU kernel", T::info.name);
  }
  std::string describe(const Prepared* prepared) const override {
    if constexpr (HasDescribe<T>) return op_.describe(prepared);
    return {};
  }
  std::span<const std::shared_ptr<graph::Graph>> subgraphs() const override {
    if constexpr (HasSubgraphs<T>) return op_.subgraphs();
    return {};
  }

 private:
  T op_;
  int opset_;
  Attributes attributes_;
};

// The operator struct behind a graph's op, or null when it is of another type: `as<Softmax>(*node.op)`.
template <Operator T>
const T* as(const graph::Op& op) {
  const auto* typed = dynamic_cast<const OperatorOf<T>*>(&op);
  return typed ? &typed->op() : nullptr;
}

Status check_parsed(const OpInfo& info, const NodeReader& reader);

template <Operator T>
Result<std::shared_ptr<const AnyOperator>> make_operator_of(int opset, const Attributes& attributes, int inputs, int outputs) {
  const NodeReader reader(T::info, opset, attributes, inputs, outputs);
  T op = T::parse(reader);
  OCIOR_RETURN_IF_ERROR(check_parsed(T::info, reader));
  return std::shared_ptr<const AnyOperator>(std::make_shared<OperatorOf<T>>(std::move(op), opset, attributes));
}

template <Operator T>
OpEntry entry_of() {
  return {&T::info, &make_operator_of<T>, &T::samples, HasRun<T>};
}

// Each operator file ends with OCIOR_OPERATOR(Name): it defines the function that all.inc's line declares.
#define OCIOR_OPERATOR(Name)     \
  static_assert(Operator<Name>); \
  OpEntry ocior_entry_##Name() { return entry_of<Name>(); }

}  // namespace ocior::ops
