#include "ops/evaluate.h"

#include "ops/move.h"
#include "ops/shape_data.h"

namespace ocior::ops {
namespace {

class EvaluateShapes final : public ShapeContext {
 public:
  EvaluateShapes(std::span<const OpInput> inputs, int outputs)
      : inputs_(inputs), outputs_(static_cast<size_t>(outputs)), data_(inputs.size()) {}

  int inputs() const override { return static_cast<int>(inputs_.size()); }
  int outputs() const override { return static_cast<int>(outputs_.size()); }
  bool has(int i) const override { return i < inputs() && at(i).type; }
  const Type& in(int i) const override { return *at(i).type; }
  const Tensor* constant(int i) const override { return i < inputs() ? at(i).constant : nullptr; }
  const Dims* data(int i) const override {
    if (i >= inputs()) return nullptr;
    if (at(i).data) return at(i).data;
    std::optional<Dims>& known = data_[static_cast<size_t>(i)];
    if (!known && at(i).constant) known = constant_data(*at(i).constant);
    return known ? &*known : nullptr;
  }
  void set(int i, Type type) override {
    if (i < outputs()) outputs_[static_cast<size_t>(i)].type = std::move(type);
  }
  void set_data(int i, Dims elements) override {
    if (i < outputs()) outputs_[static_cast<size_t>(i)].data = std::move(elements);
  }
  Dim fresh(std::string_view hint) override { return Dim::symbol(fmt::format("?{}{}", hint, fresh_++)); }

  std::vector<InferredOutput> take() { return std::move(outputs_); }

 private:
  const OpInput& at(int i) const { return inputs_[static_cast<size_t>(i)]; }

  std::span<const OpInput> inputs_;
  std::vector<InferredOutput> outputs_;
  mutable std::vector<std::optional<Dims>> data_;
  int fresh_ = 0;
};

class EvaluateReference final : public RefContext {
 public:
  EvaluateReference(std::span<const Value> inputs, int outputs, size_t limit)
      : inputs_(inputs), outputs_(static_cast<size_t>(outputs)), others_(outputs_.size()), left_(limit) {}

  int inputs() const override { return static_cast<int>(inputs_.size()); }
  int outputs() const override { return static_cast<int>(outputs_.size()); }
  bool has(int i) const override { return i < inputs() && inputs_[static_cast<size_t>(i)].kind() != Value::Kind::kNone; }
  const Tensor& in(int i) const override { return *inputs_[static_cast<size_t>(i)].get_tensor(); }
  bool wants(int i) const override { return i < outputs(); }
  Tensor& out(int i) override { return outputs_[static_cast<size_t>(i)]; }
  Status allocate(int i, DType dtype, Shape shape) override {
    Tensor& out = outputs_[static_cast<size_t>(i)];
    if (out.defined()) left_ += out.bytes();
    out = Tensor();
    OCIOR_ASSIGN(const int64_t count, checked_element_count(shape));
    const bool fits = static_cast<uint64_t>(count) <= left_;  // an element takes a quarter of a byte at least
    if (!fits || byte_count(dtype, count) > left_)
      return error(Code::kFail, "output {} would be {}{}: more than the limit for computing it ahead of a run", i, name_of(dtype),
                   to_string(shape));
    left_ -= byte_count(dtype, count);
    OCIOR_ASSIGN(out, Tensor::allocate(dtype, std::move(shape)));
    return {};
  }
  Value value(int i) const override { return i < inputs() ? inputs_[static_cast<size_t>(i)] : Value(); }
  Status set_value(int i, Value value) override {
    if (const Tensor* t = value.get_tensor()) outputs_[static_cast<size_t>(i)] = *t;
    else others_[static_cast<size_t>(i)] = std::move(value);
    return {};
  }

  // kNone for an output that nobody gave a value.
  std::vector<Value> take() {
    for (size_t i = 0; i < outputs_.size(); ++i)
      if (outputs_[i].defined()) others_[i] = Value(std::move(outputs_[i]));
    return std::move(others_);
  }

 private:
  std::span<const Value> inputs_;
  std::vector<Tensor> outputs_;
  std::vector<Value> others_;  // outputs that are no tensors
  size_t left_;
};

// The inputs with tensors made dense.
Result<std::vector<Value>> dense_inputs(std::span<const Value> inputs) {
  std::vector<Value> out(inputs.begin(), inputs.end());
  for (Value& v : out) {
    const Tensor* t = v.get_tensor();
    if (!t) continue;
    if (t->memory().kind == MemoryKind::kDevice)
      return error(Code::kInvalidArgument, "the reference runs on tensors in host memory only");
    if (t->dense()) continue;
    OCIOR_ASSIGN(Tensor dense, t->clone());
    v = Value(std::move(dense));
  }
  return out;
}

// Allocates the outputs whose shapes follow from the inputs' types. Nothing is inferred from sequences, optionals and maps, whose
// operators allocate for themselves.
Status allocate_outputs(const graph::Op& op, std::span<const Value> inputs, int outputs, EvaluateReference& context) {
  std::vector<Type> types(inputs.size());
  std::vector<OpInput> known(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].kind() == Value::Kind::kNone) continue;
    const Tensor* t = inputs[i].get_tensor();
    if (!t) return {};
    types[i] = Type::tensor(t->dtype(), Dims(t->shape().begin(), t->shape().end()));
    known[i] = {&types[i], t, nullptr};
  }
  OCIOR_ASSIGN(const std::vector<InferredOutput> inferred, infer_op(op, known, outputs));
  for (int i = 0; i < outputs; ++i) {
    const Type& type = inferred[static_cast<size_t>(i)].type;
    if (!type.is_tensor()) continue;
    if (auto shape = type.shape ? known_shape(*type.shape) : std::nullopt)
      OCIOR_RETURN_IF_ERROR(context.allocate(i, type.dtype, std::move(*shape)));
  }
  return {};
}

}  // namespace

Result<std::vector<InferredOutput>> infer_op(const graph::Op& op, std::span<const OpInput> inputs, int outputs) {
  EvaluateShapes shapes(inputs, outputs);
  OCIOR_RETURN_IF_ERROR(op.infer(shapes));
  std::vector<InferredOutput> out = shapes.take();
  for (const InferredOutput& o : out)
    if (const auto shape = o.type.is_tensor() && o.type.shape ? known_shape(*o.type.shape) : std::nullopt)
      OCIOR_RETURN_IF_ERROR(checked_element_count(*shape).status());
  return out;
}

Result<std::vector<Value>> run_reference(const graph::Op& op, std::span<const Value> inputs, int outputs, size_t limit) {
  OCIOR_ASSIGN(const std::vector<Value> dense, dense_inputs(inputs));
  if (!op.any_kind())
    for (size_t i = 0; i < dense.size(); ++i)
      if (dense[i].kind() != Value::Kind::kNone && !dense[i].is_tensor())
        return error(Code::kInvalidArgument, "{}: input {} is no tensor", op.name(), i);
  EvaluateReference context(dense, outputs, limit);
  OCIOR_RETURN_IF_ERROR(allocate_outputs(op, dense, outputs, context));
  OCIOR_RETURN_IF_ERROR(op.reference(context));
  std::vector<Value> out = context.take();
  for (size_t i = 0; i < out.size(); ++i)
    if (out[i].kind() == Value::Kind::kNone)
      return error(Code::kRuntimeException, "{}: the reference left output {} without a value", op.name(), i);
  return out;
}

Result<std::vector<Tensor>> run_reference(const graph::Op& op, std::span<const Tensor* const> inputs, int outputs, size_t limit) {
  std::vector<Value> values;
  for (const Tensor* t : inputs) values.push_back(t ? Value(*t) : Value());
  OCIOR_ASSIGN(const std::vector<Value> results, run_reference(op, values, outputs, limit));
  std::vector<Tensor> out;
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].is_tensor()) return error(Code::kNotImplemented, "{}: output {} is no tensor", op.name(), i);
    out.push_back(*results[i].get_tensor());
  }
  return out;
}

Value CpuContext::value(int i) const {
  if (!has(i)) return {};
  const TensorView& v = in(i);
  return Value(Tensor::borrow(v.dtype, Shape(v.shape.begin(), v.shape.end()), v.data, byte_count(v.dtype, v.count())));
}

Status CpuContext::set_value(int i, Value value) {
  if (!wants(i)) return {};
  const Tensor* t = value.get_tensor();
  if (!t || t->dtype() != out(i).dtype)
    return error(Code::kRuntimeException, "output {} is {}, but was planned as {}", i, t ? name_of(t->dtype()) : "no tensor",
                 name_of(out(i).dtype));
  OCIOR_RETURN_IF_ERROR(allocate(i, t->shape()));
  copy_elements(t->dtype(), out(i).data, 0, t->data(), 0, t->count());
  return {};
}

CpuRefContext::CpuRefContext(CpuContext& c)
    : c_(c), in_(static_cast<size_t>(c.inputs())), out_(static_cast<size_t>(c.outputs())) {
  const auto borrow = [](const TensorView& v) {
    return Tensor::borrow(v.dtype, Shape(v.shape.begin(), v.shape.end()), v.data, byte_count(v.dtype, v.count()));
  };
  for (int i = 0; i < c.inputs(); ++i)
    if (c.has(i)) in_[static_cast<size_t>(i)] = borrow(c.in(i));
  for (int i = 0; i < c.outputs(); ++i)
    if (c.wants(i)) out_[static_cast<size_t>(i)] = borrow(c.out(i));
}

Status CpuRefContext::allocate(int i, DType dtype, Shape shape) {
  if (dtype != c_.out(i).dtype)
    return error(Code::kRuntimeException, "output {} was planned as {}, but is {}", i, name_of(c_.out(i).dtype), name_of(dtype));
  OCIOR_RETURN_IF_ERROR(c_.allocate(i, shape));
  const TensorView& v = c_.out(i);
  out_[static_cast<size_t>(i)] = Tensor::borrow(v.dtype, std::move(shape), v.data, byte_count(v.dtype, v.count()));
  return {};
}

}  // namespace ocior::ops
