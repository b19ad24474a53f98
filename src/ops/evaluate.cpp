#include "ops/evaluate.h"

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
  EvaluateReference(std::span<const Tensor* const> inputs, int outputs, size_t limit)
      : inputs_(inputs), outputs_(static_cast<size_t>(outputs)), left_(limit) {}

  int inputs() const override { return static_cast<int>(inputs_.size()); }
  int outputs() const override { return static_cast<int>(outputs_.size()); }
  bool has(int i) const override { return i < inputs() && inputs_[static_cast<size_t>(i)]; }
  const Tensor& in(int i) const override { return *inputs_[static_cast<size_t>(i)]; }
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

  std::vector<Tensor> take() { return std::move(outputs_); }

 private:
  std::span<const Tensor* const> inputs_;
  std::vector<Tensor> outputs_;
  size_t left_;
};

// The inputs as dense tensors; gathers strided ones into `storage`.
Result<std::vector<const Tensor*>> dense_inputs(std::span<const Tensor* const> inputs, std::vector<Tensor>& storage) {
  std::vector<const Tensor*> out(inputs.begin(), inputs.end());
  storage.reserve(inputs.size());
  for (const Tensor*& t : out) {
    if (!t) continue;
    if (t->memory().kind == MemoryKind::kDevice)
      return error(Code::kInvalidArgument, "the reference runs on tensors in host memory only");
    if (t->dense()) continue;
    OCIOR_ASSIGN(Tensor dense, t->clone());
    storage.push_back(std::move(dense));
    t = &storage.back();
  }
  return out;
}

}  // namespace

Result<std::vector<InferredOutput>> infer_op(const graph::Op& op, std::span<const OpInput> inputs, int outputs) {
  EvaluateShapes shapes(inputs, outputs);
  OCIOR_RETURN_IF_ERROR(op.infer(shapes));
  return shapes.take();
}

Result<std::vector<Tensor>> run_reference(const graph::Op& op, std::span<const Tensor* const> inputs, int outputs, size_t limit) {
  std::vector<Tensor> storage;
  OCIOR_ASSIGN(const std::vector<const Tensor*> dense, dense_inputs(inputs, storage));
  std::vector<Type> types(dense.size());
  std::vector<OpInput> known(dense.size());
  for (size_t i = 0; i < dense.size(); ++i) {
    if (!dense[i]) continue;
    types[i] = Type::tensor(dense[i]->dtype(), Dims(dense[i]->shape().begin(), dense[i]->shape().end()));
    known[i] = {&types[i], dense[i], nullptr};
  }
  OCIOR_ASSIGN(const std::vector<InferredOutput> inferred, infer_op(op, known, outputs));

  EvaluateReference context(dense, outputs, limit);
  for (int i = 0; i < outputs; ++i) {
    const Type& type = inferred[static_cast<size_t>(i)].type;
    if (!type.is_tensor()) return error(Code::kNotImplemented, "{}: output {} is no tensor", op.name(), i);
    if (auto shape = type.shape ? known_shape(*type.shape) : std::nullopt)
      OCIOR_RETURN_IF_ERROR(context.allocate(i, type.dtype, std::move(*shape)));
  }
  OCIOR_RETURN_IF_ERROR(op.reference(context));
  for (int i = 0; i < outputs; ++i)
    if (!context.out(i).defined())
      return error(Code::kRuntimeException, "{}: the reference left output {} without a value", op.name(), i);
  return context.take();
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
