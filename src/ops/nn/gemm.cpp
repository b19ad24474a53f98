// Gemm: alpha * A' * B' + beta * C (https://onnx.ai/onnx/operators/onnx__Gemm.html). A constant B is packed once. FusedGemm of
// com.microsoft: the same and an activation behind it.
#include <cmath>

#include "ops/microsoft/microsoft.h"
#include "ops/nn/activation.h"
#include "ops/nn/gemm_driver.h"
#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct Gemm {
  static constexpr OpInfo info{.name = "Gemm", .min_inputs = 2, .max_inputs = 3};

  float alpha = 1, beta = 1;
  bool trans_a = false, trans_b = false;

  static Gemm parse(const NodeReader& node) {
    if (node.opset() < 7) node.ignore("broadcast");  // it only allowed what later versions always allow
    return {node.number("alpha", 1), node.number("beta", 1), node.integer("transA", 0) != 0, node.integer("transB", 0) != 0};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_numbers(c));
    Dims out(2);
    Dim k[2];
    for (int i : {0, 1}) {
      if (!c.shape(i)) {
        out[static_cast<size_t>(i)] = c.fresh(i == 0 ? "gemm_m" : "gemm_n");
        k[i] = c.fresh("gemm_k");
        continue;
      }
      const Dims& s = *c.shape(i);
      if (s.size() != 2) return error(Code::kInvalidGraph, "Gemm needs matrices, but input {} has shape {}", i, to_string(s));
      const bool swapped = (i == 0 ? trans_a : trans_b) != (i == 1);  // the outer dimension comes last
      out[static_cast<size_t>(i)] = s[swapped ? 1 : 0];
      k[i] = s[swapped ? 0 : 1];
    }
    if (k[0].known() && k[1].known() && !(k[0] == k[1]))
      return error(Code::kInvalidArgument, "Gemm: the inner dimensions {} of A and {} of B differ", k[0].text(), k[1].text());
    OCIOR_RETURN_IF_ERROR(check_c(c, out));
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    if (c.out(0).count() == 0) return {};
    return is_floating(c.in(0).dtype()) ? reference_in<double>(c) : reference_in<uint64_t>(c);
  }

  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const {
    const Tensor* b = c.constant(1);
    if (!b || b->dtype() != DType::kFloat || !b->dense() || b->rank() != 2) return std::unique_ptr<Prepared>();
    const int64_t n = b->shape()[trans_b ? 0 : 1], k = b->shape()[trans_b ? 1 : 0];
    const auto& a = c.in(0).shape;
    const Dim rows = a && a->size() == 2 ? (*a)[trans_a ? 1 : 0] : Dim::symbol("m");
    return nn::Weights::make(c, 1, {b->as<float>(), b->shape()[1], trans_b}, rows.known() ? rows.value() : -1, n, k);
  }

  size_t scratch(const BindContext& c) const {
    if (c.in(0).dtype != DType::kFloat || c.out(0).count() == 0) return 0;
    return layout(c, nullptr, c.workers(), c.has(2) ? c.in(2).count() : 0).bytes;
  }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    if (c.out(0).count() == 0) return {};
    const Layout at = layout(c, c.scratch(), c.team().size(), c.has(2) ? c.in(2).count() : 0);
    GemmArgs args;
    args.m = c.out(0).shape[0], args.n = c.out(0).shape[1], args.k = c.in(0).shape[trans_a ? 0 : 1];
    args.a = c.in(0).as<float>(), args.lda = c.in(0).shape[1];
    args.c = c.out(0).as<float>(), args.ldc = args.n;
    args.epilogue.alpha = alpha;
    if (trans_a) transpose_a(c, args, at.a);
    add_c(c, args, at.bias);
    if (c.prepared()) nn::multiply_packed(c, args, at.product);
    else nn::multiply_plain(c, args, {c.in(1).as<float>(), c.in(1).shape[1], trans_b}, at.product);
    return {};
  }

  double work(const BindContext& c) const {
    return 2.0 * static_cast<double>(c.out(0).count()) * static_cast<double>(c.in(0).shape[trans_a ? 0 : 1]);
  }

  std::string describe(const Prepared* prepared) const { return nn::describe_product(prepared); }

  static std::vector<Sample> samples();

 private:
  struct Layout {
    float *a = nullptr, *bias = nullptr;
    std::byte* product = nullptr;
    size_t bytes = 0;
  };
  template <class Context>
  Layout layout(const Context& c, void* base, int workers, int64_t c_count) const {
    const int64_t m = c.out(0).shape[0], n = c.out(0).shape[1], k = c.in(0).shape[trans_a ? 0 : 1];
    nn::Carver carver(base);
    Layout l;
    if (trans_a) l.a = carver.take<float>(static_cast<size_t>(m * k));
    if (c_count) l.bias = carver.take<float>(static_cast<size_t>(n));
    const size_t product = c.prepared() ? nn::packed_scratch(c.kernels(), c.prepared(), m, n, k)
                                        : nn::plain_scratch(c.kernels(), workers, 1, m, n, k);
    l.product = carver.take(product);
    l.bytes = carver.used();
    return l;
  }

  static Status check_c(ShapeContext& c, const Dims& out) {
    if (!c.has(2) || !c.shape(2)) return {};
    OCIOR_ASSIGN(const Dims both, broadcast(c, out, *c.shape(2)));
    bool grows = both.size() != 2;
    for (size_t i = 0; i < both.size() && !grows; ++i) grows = out[i].known() && both[i].known() && !(out[i] == both[i]);
    if (grows)
      return error(Code::kInvalidArgument, "Gemm: C of shape {} does not broadcast to {}", to_string(*c.shape(2)),
                   to_string(out));
    return {};
  }

  void transpose_a(CpuContext& c, GemmArgs& args, float* to) const {
    // Bands of A's columns become rows of A'.
    const GemmArgs plain = args;
    nn::parallel_rows(c, plain.m, plain.k, [&](int64_t begin, int64_t end, int) {
      c.kernels().transpose_f32(plain.a + begin, plain.lda, to + begin * plain.k, plain.k, end - begin, plain.k);
    });
    args.a = to, args.lda = plain.k;
  }

  // beta * C: a row of C becomes the bias, anything else is written to Y and added from there.
  void add_c(CpuContext& c, GemmArgs& args, float* bias) const {
    if (!c.has(2) || beta == 0) return;
    const TensorView& view = c.in(2);
    const float* const values = view.as<float>();
    const int64_t rows = view.rank() == 2 ? view.shape[0] : 1, columns = view.rank() >= 1 ? view.shape.back() : 1;
    if (rows == 1 && columns == args.n && beta == 1) {
      args.epilogue.bias = values;
    } else if (rows == 1) {
      c.kernels().binary_f32(BinaryFn::kMul, values, columns == 1 ? 0 : 1, &beta, 0, bias, args.n);
      args.epilogue.bias = bias;
    } else if (columns == args.n && beta == 1) {
      args.epilogue.residual = values, args.epilogue.ld_residual = args.n;
    } else {
      nn::parallel_rows(c, args.m, args.n, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
          c.kernels().binary_f32(BinaryFn::kMul, values + i * columns, columns == 1 ? 0 : 1, &beta, 0, args.c + i * args.n,
                                 args.n);
      });
      args.epilogue.residual = args.c, args.epilogue.ld_residual = args.n;
    }
  }

  // The sum of A' * B' at (i, j); integers wrap as two's complement does.
  template <class T>
  T product(const std::vector<T>& a, const std::vector<T>& b, int64_t m, int64_t n, int64_t k, int64_t i, int64_t j) const {
    T sum = 0;
    for (int64_t p = 0; p < k; ++p)
      sum += a[static_cast<size_t>(trans_a ? p * m + i : i * k + p)] * b[static_cast<size_t>(trans_b ? j * k + p : p * n + j)];
    return sum;
  }

  // alpha and beta are floats even for integer matrices: 1 is exact, other products truncate and stay in range.
  static uint64_t scaled(float factor, uint64_t value) {
    if (factor == 1) return value;
    const double product = static_cast<double>(factor) * static_cast<double>(static_cast<int64_t>(value));
    return std::isnan(product) ? 0 : static_cast<uint64_t>(static_cast<int64_t>(std::clamp(product, -9.2e18, 9.2e18)));
  }

  template <class T>
  Status reference_in(RefContext& c) const {
    const auto all = [](const Tensor& t) {
      if constexpr (std::is_same_v<T, double>) return nn::doubles(t);
      const auto ints = to_ints(t);
      return std::vector<T>(ints.begin(), ints.end());
    };
    const std::vector<T> a = all(c.in(0)), b = all(c.in(1)), added = c.has(2) && beta != 0 ? all(c.in(2)) : std::vector<T>();
    Tensor& y = c.out(0);
    const int64_t m = y.shape()[0], n = y.shape()[1], k = c.in(0).shape()[trans_a ? 0 : 1];
    const auto steps = added.empty() ? std::vector<int64_t>(2) : broadcast_strides(c.in(2).shape(), y.shape());
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        const T sum = product(a, b, m, n, k, i, j),
                plus = added.empty() ? T(0) : added[static_cast<size_t>(i * steps[0] + j * steps[1])];
        if constexpr (std::is_same_v<T, double>)
          set_double(y.dtype(), y.data(), i * n + j, alpha * sum + (added.empty() ? 0 : beta * plus));
        else set_int(y.dtype(), y.data(), i * n + j, static_cast<int64_t>(scaled(alpha, sum) + scaled(beta, plus)));
      }
    return {};
  }
};

std::vector<Sample> Gemm::samples() {
  std::vector<Sample> out;
  const auto add = [&](Shape a, Shape b, std::optional<Shape> c, Attributes attributes = {}, bool constant = true,
                       DType dtype = DType::kFloat, bool bench = false) {
    Sample s{.inputs = {{.dtype = dtype, .shape = std::move(a)}, {.dtype = dtype, .shape = std::move(b), .constant = constant}},
             .attributes = std::move(attributes),
             .bench = bench,
             .tolerance = dtype == DType::kFloat16 ? 1e-3 : 3e-6};
    if (c) s.inputs.push_back({.dtype = dtype, .shape = std::move(*c), .constant = constant});
    if (!is_floating(dtype))
      for (auto& in : s.inputs) in.fill = Fill::kSmallInts;
    out.push_back(std::move(s));
  };
  const Attributes ta{{"transA", int64_t{1}}}, tb{{"transB", int64_t{1}}}, scaled{{"alpha", 0.5f}, {"beta", -2.0f}};
  const Attributes both{{"transA", int64_t{1}}, {"transB", int64_t{1}}, {"alpha", 0.25f}}, no_c{{"beta", 0.0f}};
  for (const bool constant : {false, true}) {
    for (const Shape& c : {Shape{7}, Shape{1, 7}, Shape{5, 7}, Shape{5, 1}, Shape{1}, Shape{}, Shape{1, 1}}) {
      add({5, 9}, {9, 7}, c, {}, constant);
      add({5, 9}, {9, 7}, c, scaled, constant);
    }
    add({5, 9}, {9, 7}, std::nullopt, scaled, constant);
    add({9, 5}, {9, 7}, Shape{7}, ta, constant);
    add({5, 9}, {7, 9}, Shape{7}, tb, constant);
    add({9, 5}, {7, 9}, Shape{5, 1}, both, constant);
    add({5, 9}, {9, 7}, Shape{7}, no_c, constant);
    add({70, 33}, {33, 100}, Shape{100}, {}, constant);
    add({33, 70}, {100, 33}, Shape{70, 100}, both, constant);
    add({0, 9}, {9, 7}, Shape{7}, {}, constant);
    add({5, 0}, {0, 7}, Shape{7}, {}, constant);
    add({5, 9}, {9, 0}, std::nullopt, {}, constant);
  }
  for (const DType dtype : {DType::kDouble, DType::kFloat16, DType::kInt32, DType::kInt64, DType::kUint32, DType::kUint64})
    add({3, 4}, {5, 4}, Shape{5}, tb, false, dtype);
  add({128, 768}, {3072, 768}, Shape{3072}, tb, true, DType::kFloat, true);
  add({1, 768}, {768, 768}, Shape{768}, {}, true, DType::kFloat, true);
  return out;
}

struct FusedGemm : Gemm {
  static constexpr OpInfo info{.name = "FusedGemm", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 3};

  struct Tail {
    std::string_view name;
    std::string_view numbers;  // the attributes that it needs: (a)lpha, (b)eta, (g)amma
    double (*apply)(double x, double alpha, double beta, double gamma);
    std::optional<UnaryFn> kernel;  // with alpha and beta as its parameters
  };

  const Tail* tail = kTails;
  float tail_alpha = 0, tail_beta = 0, tail_gamma = 0;

  static FusedGemm parse(const NodeReader& node) {
    FusedGemm op{Gemm::parse(node)};
    const std::string name = node.text("activation", "");
    op.tail = std::find_if(std::begin(kTails), std::end(kTails), [&](const Tail& t) { return t.name == name; });
    if (op.tail == std::end(kTails)) {
      node.fail("activation '{}' is not supported", name);
      op.tail = kTails;
    }
    for (const auto& [letter, attribute, to] : {std::tuple{'a', "activation_alpha", &op.tail_alpha},
                                                {'b', "activation_beta", &op.tail_beta},
                                                {'g', "activation_gamma", &op.tail_gamma}}) {
      if (!node.has(attribute) && op.tail->numbers.find(letter) != std::string_view::npos)
        node.fail("activation '{}' needs the attribute '{}'", name, attribute);
      *to = node.number(attribute, 0);
    }
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1, 2}));
    return Gemm::infer(c);
  }

  Status reference(RefContext& c) const {
    OCIOR_RETURN_IF_ERROR(Gemm::reference(c));
    std::vector<double> y = nn::doubles(c.out(0));
    for (double& v : y) v = finish(v);
    nn::store(c.out(0), y);
    return {};
  }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    OCIOR_RETURN_IF_ERROR(Gemm::run(c));
    float* const y = c.out(0).as<float>();
    nn::parallel_rows(c, c.out(0).count(), 1, [&](int64_t begin, int64_t end, int) {
      if (tail->kernel) c.kernels().unary_f32(*tail->kernel, y + begin, y + begin, end - begin, tail_alpha, tail_beta);
      for (int64_t i = begin; i < end && !tail->kernel; ++i) y[i] = static_cast<float>(finish(static_cast<double>(y[i])));
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const Tail& t : kTails)
      for (const DType dtype : {DType::kFloat, DType::kDouble, DType::kFloat16})
        out.push_back({.inputs = {{dtype, {5, 9}}, {.dtype = dtype, .shape = {7, 9}, .constant = true}, {dtype, {7}}},
                       .attributes = {{"activation", std::string(t.name)},
                                      {"activation_alpha", 0.3f},
                                      {"activation_beta", 0.4f},
                                      {"activation_gamma", 1.2f},
                                      {"transB", int64_t{1}}},
                       .tolerance = dtype == DType::kFloat16 ? 2e-3 : 3e-6});
    return out;
  }

 private:
  static double softplus(double x) { return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x))); }
  template <Activation A>
  static double plain(double x, double a, double b, double) {
    return nn::apply(A, x, a, b);
  }
  double finish(double x) const { return std::isnan(x) ? x : tail->apply(x, tail_alpha, tail_beta, tail_gamma); }

  static constexpr Tail kTails[] = {
      {"Relu", "", plain<Activation::kRelu>, UnaryFn::kRelu},
      {"Tanh", "", plain<Activation::kTanh>, UnaryFn::kTanh},
      {"Sigmoid", "", plain<Activation::kSigmoid>, UnaryFn::kSigmoid},
      {"LeakyRelu", "a", plain<Activation::kLeakyRelu>, UnaryFn::kLeakyRelu},
      {"HardSigmoid", "ab", plain<Activation::kHardSigmoid>, UnaryFn::kHardSigmoid},
      {"Softplus", "", [](double x, double, double, double) { return softplus(x); }, UnaryFn::kSoftplus},
      {"ParametricSoftplus", "ab", [](double x, double a, double b, double) { return a * softplus(b * x); }},
      {"ScaledTanh", "ab", [](double x, double a, double b, double) { return a * std::tanh(b * x); }},
      {"Softsign", "", [](double x, double, double, double) { return x / (1 + std::fabs(x)); }},
      {"Elu", "a", [](double x, double a, double, double) { return x < 0 ? a * std::expm1(x) : x; }, UnaryFn::kElu},
      {"Selu", "ag", [](double x, double a, double, double g) { return g * (x < 0 ? a * std::expm1(x) : x); }},
      {"Celu", "a", [](double x, double a, double, double) { return x < 0 ? a * std::expm1(x / a) : x; }},
      {"ThresholdedRelu", "a", [](double x, double a, double, double) { return x > a ? x : 0; }},
  };
};

OCIOR_OPERATOR(FusedGemm)
OCIOR_OPERATOR(Gemm)

}  // namespace ocior::ops
