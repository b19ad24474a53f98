#include "ops/harness.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "ops/evaluate.h"
#include "ops/move.h"
#include "ops/shape_data.h"

namespace ocior::ops {
namespace {

class HarnessPrepare final : public PrepareContext {
 public:
  HarnessPrepare(std::span<const Tensor* const> inputs, const std::vector<Type>& types, const CpuOptions& options)
      : inputs_(inputs), types_(types), options_(options), released_(inputs.size()) {}

  bool has(int i) const override { return i < static_cast<int>(inputs_.size()) && inputs_[static_cast<size_t>(i)]; }
  const Tensor* constant(int i) const override {
    const auto k = static_cast<size_t>(i);
    return has(i) && k < options_.constants.size() && options_.constants[k] ? inputs_[k] : nullptr;
  }
  const Type& in(int i) const override { return types_[static_cast<size_t>(i)]; }
  const KernelTable& kernels() const override { return *options_.kernels; }
  Precision precision() const override { return options_.precision; }
  const void* pack(std::string_view, size_t bytes, int64_t chunks, PackFunction fill, const void* context) override {
    auto made = Tensor::allocate(DType::kUint8, {static_cast<int64_t>(bytes)});
    if (!made.ok()) return nullptr;
    packs_.push_back({std::move(made).value(), chunks, fill, context});
    return packs_.back().bytes.data();
  }
  void release(int i) override { released_[static_cast<size_t>(i)] = true; }

  void fill() {
    for (Pack& p : packs_)
      for (int64_t i = 0; i < p.chunks; ++i) p.fill(p.context, p.bytes.data(), i);
  }
  bool released(size_t i) const { return released_[i]; }

 private:
  struct Pack {
    Tensor bytes;
    int64_t chunks;
    PackFunction fill;
    const void* context;
  };
  std::span<const Tensor* const> inputs_;
  const std::vector<Type>& types_;
  const CpuOptions& options_;
  std::vector<bool> released_;
  std::vector<Pack> packs_;
};

// Both what scratch() sees and what run() sees.
class HarnessRun final : public CpuContext {
 public:
  HarnessRun(std::span<const Tensor* const> inputs, int outputs)
      : tensors_(static_cast<size_t>(outputs)), in_(inputs.size()), out_(tensors_.size()) {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i]) in_[i] = {inputs[i]->dtype(), inputs[i]->shape(), const_cast<void*>(inputs[i]->data())};
    inputs_ = in_.data(), outputs_ = out_.data();
    input_count_ = static_cast<int>(in_.size()), output_count_ = outputs;
  }

  Status allocate(int i, std::span<const int64_t> shape) override {
    const auto k = static_cast<size_t>(i);
    OCIOR_ASSIGN(tensors_[k], Tensor::allocate(out_[k].dtype, Shape(shape.begin(), shape.end())));
    // Elements nobody writes must not look right by chance.
    if (out_[k].dtype != DType::kString) std::memset(tensors_[k].data(), 0xA5, tensors_[k].bytes());
    out_[k] = {out_[k].dtype, tensors_[k].shape(), tensors_[k].data()};
    return {};
  }
  Status plan_output(int i, const Type& type) {
    out_[static_cast<size_t>(i)].dtype = type.dtype;
    const auto shape = type.shape ? known_shape(*type.shape) : std::nullopt;
    return shape ? allocate(i, *shape) : Status();
  }
  Status write_over(int input) {
    const TensorView& x = in_[static_cast<size_t>(input)];
    if (x.dtype != out_[0].dtype || !std::ranges::equal(x.shape, out_[0].shape) || !tensors_[0].defined())
      return error(Code::kInvalidArgument, "output 0 is unlike input {}: it cannot be written in place", input);
    copy_elements(x.dtype, out_[0].data, 0, x.data, 0, x.count());
    in_[static_cast<size_t>(input)].data = out_[0].data;
    return {};
  }
  void hide(size_t input) { in_[input].data = nullptr; }
  void bind(const CpuOptions& options, Team& team, const Prepared* prepared, void* scratch) {
    kernels_ = options.kernels, precision_ = options.precision, team_ = &team, prepared_ = prepared, scratch_ = scratch;
  }
  std::vector<Tensor> take() { return std::move(tensors_); }

 private:
  std::vector<Tensor> tensors_;
  std::vector<TensorView> in_, out_;
};

class HarnessBind final : public BindContext {
 public:
  HarnessBind(const HarnessRun& run, const Prepared* prepared, const CpuOptions& options)
      : run_(run), prepared_(prepared), options_(options) {}
  bool has(int i) const override { return run_.has(i); }
  const TensorView& in(int i) const override { return run_.in(i); }
  const TensorView& out(int i) const override { return run_.out(i); }
  const KernelTable& kernels() const override { return *options_.kernels; }
  Precision precision() const override { return options_.precision; }
  const Prepared* prepared() const override { return prepared_; }
  int workers() const override { return options_.threads; }

 private:
  const HarnessRun& run_;
  const Prepared* prepared_;
  const CpuOptions& options_;
};

bool constant_input(const CpuOptions& options, size_t i) { return i < options.constants.size() && options.constants[i]; }

Result<std::vector<Type>> output_types(const AnyOperator& op, std::span<const Tensor* const> inputs,
                                       const std::vector<Type>& types, int outputs, const CpuOptions& options) {
  std::vector<OpInput> known(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i]) known[i] = {&types[i], options.hide_values && !constant_input(options, i) ? nullptr : inputs[i], nullptr};
  OCIOR_ASSIGN(auto inferred, infer_op(op, known, outputs));
  std::vector<Type> out;
  for (auto& o : inferred) out.push_back(std::move(o.type));
  return out;
}

}  // namespace

Result<std::vector<Tensor>> run_cpu(const AnyOperator& op, std::span<const Tensor* const> inputs, int outputs,
                                    const CpuOptions& given) {
  CpuOptions options = given;
  if (!options.kernels) options.kernels = &ocior::kernels();
  std::vector<Type> types(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i]) types[i] = Type::tensor(inputs[i]->dtype(), Dims(inputs[i]->shape().begin(), inputs[i]->shape().end()));
  OCIOR_ASSIGN(const std::vector<Type> out_types, output_types(op, inputs, types, outputs, options));

  HarnessPrepare prepare(inputs, types, options);
  OCIOR_ASSIGN(const std::unique_ptr<Prepared> prepared, op.prepare(prepare));
  prepare.fill();

  HarnessRun run(inputs, outputs);
  for (int i = 0; i < outputs; ++i) OCIOR_RETURN_IF_ERROR(run.plan_output(i, out_types[static_cast<size_t>(i)]));
  if (options.in_place >= 0) OCIOR_RETURN_IF_ERROR(run.write_over(options.in_place));
  for (size_t i = 0; i < inputs.size(); ++i)
    if (prepare.released(i)) run.hide(i);
  const size_t bytes = op.scratch(HarnessBind(run, prepared.get(), options));
  OCIOR_ASSIGN(Tensor scratch, Tensor::allocate(DType::kUint8, {static_cast<int64_t>(bytes)}));
  Team team(options.threads);
  run.bind(options, team, prepared.get(), bytes ? scratch.data() : nullptr);
  OCIOR_RETURN_IF_ERROR(op.run(run));
  auto out = run.take();
  for (size_t i = 0; i < out.size(); ++i)
    if (!out[i].defined()) return error(Code::kRuntimeException, "{}: the run left output {} without a value", op.name(), i);
  return out;
}

namespace {

bool is_unsigned(DType t) {
  return types(DType::kUint8, DType::kUint16, DType::kUint32, DType::kUint64, DType::kUint4, DType::kUint2) & type_bit(t);
}

double draw(Fill fill, DType dtype, std::mt19937_64& random) {
  const auto uniform = [&](double lo, double hi) { return std::uniform_real_distribution<double>(lo, hi)(random); };
  const auto integer = [&](int lo, int hi) { return static_cast<double>(std::uniform_int_distribution<int>(lo, hi)(random)); };
  const bool real = is_floating(dtype);
  const double inf = std::numeric_limits<double>::infinity();
  switch (fill) {
    case Fill::kUniform: return real ? uniform(-1, 1) : integer(is_unsigned(dtype) ? 0 : -20, 20);
    case Fill::kNormal: return real ? std::normal_distribution<double>()(random) : integer(is_unsigned(dtype) ? 0 : -20, 20);
    case Fill::kPositive: return real ? uniform(0.01, 2) : integer(1, 20);
    case Fill::kSmallInts: return integer(is_unsigned(dtype) ? 0 : -4, 4);
    case Fill::kBools: return integer(0, 1);
    case Fill::kMinusInf: return real && integer(0, 3) == 0 ? -inf : uniform(-1, 1);
    case Fill::kZeros: return 0;
    case Fill::kSpecials: break;
  }
  static constexpr double kSpecial[] = {0.0,  -0.0, 1,    -1,  1e-40, -1e-40, 1e30, -1e30, 88.5,
                                        -104, 0.5,  -0.5, 1.5, 2.5,   -2.5,   1e-8, 65504, -3.25};
  const auto k = static_cast<size_t>(integer(0, 21));
  if (k < 18) return real ? kSpecial[k] : integer(0, 127);
  return !real ? integer(0, 127) : k == 18 ? inf : k == 19 ? -inf : std::nan("");
}

}  // namespace

Result<std::vector<Tensor>> make_inputs(const Sample& sample, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Tensor> out;
  for (const SampleInput& input : sample.inputs) {
    out.emplace_back();
    if (input.omitted) continue;
    OCIOR_ASSIGN(Tensor t, Tensor::allocate(input.dtype, input.shape));
    const int64_t n = t.count();
    if (!input.values.empty() && static_cast<int64_t>(input.values.size()) != n)
      return error(Code::kInvalidArgument, "a sample input of shape {} lists {} values", to_string(input.shape),
                   input.values.size());
    for (int64_t i = 0; i < n; ++i) {
      const double v = input.values.empty() ? draw(input.fill, input.dtype, random) : input.values[static_cast<size_t>(i)];
      if (input.dtype == DType::kString) t.as<std::string>()[i] = fmt::format("s{}", v);
      else if (input.dtype == DType::kComplex64)
        t.as<float>()[2 * i] = static_cast<float>(v), t.as<float>()[2 * i + 1] = static_cast<float>(i);
      else if (input.dtype == DType::kComplex128) t.as<double>()[2 * i] = v, t.as<double>()[2 * i + 1] = static_cast<double>(i);
      else if (is_floating(input.dtype)) set_double(input.dtype, t.data(), i, v);
      else set_int(input.dtype, t.data(), i, static_cast<int64_t>(v));
    }
    out.back() = std::move(t);
  }
  return out;
}

Result<std::shared_ptr<const AnyOperator>> make_sample(const OpEntry& entry, const Sample& sample) {
  const int opset = sample.opset ? sample.opset : kNewestOpset;
  return make_operator(entry.info->domain, entry.info->name, opset, sample.attributes, static_cast<int>(sample.inputs.size()),
                       sample.outputs);
}

std::vector<const Tensor*> pointers(const std::vector<Tensor>& tensors) {
  std::vector<const Tensor*> out;
  for (const Tensor& t : tensors) out.push_back(t.defined() ? &t : nullptr);
  return out;
}

namespace {

// The distance between neighbouring values of a float type around v.
double spacing(DType t, double v) {
  const int bits = t == DType::kFloat16 ? 10 : t == DType::kBFloat16 ? 7 : t == DType::kFloat ? 23 : t == DType::kDouble ? 52 : 2;
  const double smallest = t == DType::kFloat16    ? 0x1p-24
                          : t == DType::kBFloat16 ? 0x1p-133
                          : t == DType::kFloat    ? 0x1p-149
                                                  : 0x1p-1074;
  return v == 0 ? smallest : std::max(smallest, std::ldexp(1.0, std::ilogb(v) - bits));
}

std::string float_difference(const Tensor& want, const Tensor& got, double tolerance) {
  double largest = 0;
  const int64_t n = want.count();
  for (int64_t i = 0; i < n; ++i)
    if (const double w = std::fabs(get_double(want.dtype(), want.data(), i)); std::isfinite(w)) largest = std::max(largest, w);
  for (int64_t i = 0; i < n; ++i) {
    const double w = get_double(want.dtype(), want.data(), i), g = get_double(got.dtype(), got.data(), i);
    if (std::isnan(w) && std::isnan(g)) continue;
    if (w == g) continue;
    const bool finite = std::isfinite(w) && std::isfinite(g);
    if (finite && std::fabs(w - g) <= std::max(tolerance * largest, spacing(want.dtype(), w))) continue;
    return fmt::format("element {}: expected {}, got {} (difference {:.3g}, largest {:.3g})", i, w, g, w - g, largest);
  }
  return "";
}

}  // namespace

std::string difference(const Tensor& want, const Tensor& got, double tolerance) {
  if (want.dtype() != got.dtype()) return fmt::format("expected {}, got {}", name_of(want.dtype()), name_of(got.dtype()));
  if (want.shape() != got.shape())
    return fmt::format("expected shape {}, got {}", to_string(want.shape()), to_string(got.shape()));
  if (is_floating(want.dtype())) return float_difference(want, got, tolerance);
  const int64_t n = want.count();
  if (want.dtype() == DType::kString) {
    for (int64_t i = 0; i < n; ++i)
      if (want.as<std::string>()[i] != got.as<std::string>()[i])
        return fmt::format("element {}: expected '{}', got '{}'", i, want.as<std::string>()[i], got.as<std::string>()[i]);
    return "";
  }
  if (want.dtype() == DType::kComplex64 || want.dtype() == DType::kComplex128)
    return std::memcmp(want.data(), got.data(), want.bytes()) == 0 ? "" : "complex elements differ";
  for (int64_t i = 0; i < n; ++i)
    if (const int64_t w = get_int(want.dtype(), want.data(), i), g = get_int(got.dtype(), got.data(), i); w != g)
      return fmt::format("element {}: expected {}, got {}", i, w, g);
  return "";
}

}  // namespace ocior::ops
