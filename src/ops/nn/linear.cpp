// Linear (ai.ocior): y = act(alpha * x * w + bias) + residual, a product with constant weights and all that follows it in one
// pass. x[..., k], w[k, n] (or [n, k] with transpose_b), bias[n] or none, residual like y or none. Made by passes, for constant
// w.
#include <array>

#include "ops/nn/activation.h"
#include "ops/nn/gemm_driver.h"
#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct Linear {
  static constexpr OpInfo info{.name = "Linear", .domain = kOcior, .min_inputs = 2, .max_inputs = 4, .in_place = 1u << 3};

  Activation act = Activation::kNone;
  float act_p = 0, act_q = 0;  // as Epilogue's lo and hi
  float alpha = 1;
  bool transpose_b = false;

  static Linear parse(const NodeReader& node) {
    const std::string name = node.text("activation", "none");
    const auto act = nn::activation_of(name);
    if (!act) node.fail("activation '{}' is unknown", name);
    return {act.value_or(Activation::kNone), node.number("act_p", 0), node.number("act_q", 0), node.number("alpha", 1),
            node.integer("transpose_b", 0) != 0};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1, 2, 3}));
    std::optional<Dims> out = c.shape(0);
    if (out && out->empty()) return error(Code::kInvalidGraph, "Linear: x is a scalar");
    if (c.shape(1)) {
      const Dims& w = *c.shape(1);
      if (w.size() != 2) return error(Code::kInvalidGraph, "Linear: w has shape {}; expected a matrix", to_string(w));
      const Dim &k = w[transpose_b ? 1 : 0], &n = w[transpose_b ? 0 : 1];
      if (out && out->back().known() && k.known() && !(out->back() == k))
        return error(Code::kInvalidArgument, "Linear: x of shape {} and w of shape {} do not fit", to_string(*out), to_string(w));
      if (out) out->back() = n;
      OCIOR_RETURN_IF_ERROR(check_added(c, 2, Dims{n}));
    } else if (out) {
      out->back() = c.fresh("linear");
    }
    if (out) OCIOR_RETURN_IF_ERROR(check_added(c, 3, *out));
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const std::vector<double> x = nn::doubles(c.in(0)), w = nn::doubles(c.in(1));
    const std::vector<double> bias = c.has(2) ? nn::doubles(c.in(2)) : std::vector<double>();
    std::vector<double> y(static_cast<size_t>(c.out(0).count())), residual = c.has(3) ? nn::doubles(c.in(3)) : y;
    if (y.empty()) return {};
    const auto n = static_cast<size_t>(c.out(0).shape().back()), k = static_cast<size_t>(c.in(0).shape().back());
    for (size_t i = 0; i < y.size() / n; ++i)
      for (size_t j = 0; j < n; ++j) {
        double sum = 0;
        for (size_t p = 0; p < k; ++p) sum += x[i * k + p] * w[transpose_b ? j * k + p : p * n + j];
        y[i * n + j] = nn::apply(act, alpha * sum + (c.has(2) ? bias[j] : 0), act_p, act_q) + residual[i * n + j];
      }
    nn::store(c.out(0), y);
    return {};
  }

  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const {
    const Tensor* w = c.constant(1);
    if (!w || w->dtype() != DType::kFloat || !w->dense() || w->rank() != 2) return std::unique_ptr<Prepared>();
    const int64_t n = w->shape()[transpose_b ? 0 : 1], k = w->shape()[transpose_b ? 1 : 0];
    return nn::Weights::make(c, 1, {w->as<float>(), w->shape()[1], transpose_b}, nn::known_rows(c.in(0)), n, k);
  }

  size_t scratch(const BindContext& c) const {
    if (c.in(0).dtype != DType::kFloat || c.out(0).count() == 0) return 0;
    const auto [m, n, k] = extents(c);
    return c.prepared() ? nn::packed_scratch(c.kernels(), c.prepared(), m, n, k)
                        : nn::plain_scratch(c.kernels(), c.workers(), 1, m, n, k);
  }

  double work(const BindContext& c) const {
    return 2.0 * static_cast<double>(c.out(0).count()) * static_cast<double>(c.in(0).shape.back());
  }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    if (c.out(0).count() == 0) return {};
    const auto [m, n, k] = extents(c);
    GemmArgs args;
    args.a = c.in(0).as<float>(), args.lda = k, args.c = c.out(0).as<float>(), args.ldc = n;
    args.m = m, args.n = n, args.k = k;
    args.epilogue = {.bias = c.has(2) ? c.in(2).as<float>() : nullptr,
                     .residual = c.has(3) ? c.in(3).as<float>() : nullptr,
                     .ld_residual = n,
                     .act = act,
                     .lo = act_p,
                     .hi = act_q,
                     .alpha = alpha};
    if (c.prepared()) nn::multiply_packed(c, args, c.scratch());
    else nn::multiply_plain(c, args, {c.in(1).as<float>(), c.in(1).shape[1], transpose_b}, c.scratch());
    return {};
  }

  std::string describe(const Prepared* prepared) const { return nn::describe_product(prepared); }

  static std::vector<Sample> samples();

 private:
  // Rows (all leading axes), columns and depth of the product.
  template <class Context>
  static std::array<int64_t, 3> extents(const Context& c) {
    const auto y = c.out(0).shape;
    return {nn::extent(y, 0, std::ssize(y) - 1), y.back(), c.in(0).shape.back()};
  }

  static Status check_added(ShapeContext& c, int i, const Dims& want) {
    if (!c.has(i) || !c.shape(i)) return {};
    const Dims& got = *c.shape(i);
    if (nn::may_equal(got, want)) return {};
    return error(Code::kInvalidArgument, "Linear: {} has shape {}; expected {}", i == 2 ? "bias" : "residual", to_string(got),
                 to_string(want));
  }
};

std::vector<Sample> Linear::samples() {
  std::vector<Sample> out;
  const auto add = [&](Shape x, int64_t n, bool bias, bool residual, Attributes attributes = {}, bool constant = true,
                       DType dtype = DType::kFloat) {
    const bool transposed = attributes.count("transpose_b") != 0;
    const int64_t k = x.back();
    Shape y = x;
    y.back() = n;
    out.push_back({.inputs = {{.dtype = dtype, .shape = std::move(x)},
                              {.dtype = dtype, .shape = transposed ? Shape{n, k} : Shape{k, n}, .constant = constant},
                              {.dtype = dtype, .shape = {n}, .constant = true, .omitted = !bias},
                              {.dtype = dtype, .shape = std::move(y), .omitted = !residual}},
                   .attributes = std::move(attributes),
                   .tolerance = dtype == DType::kFloat16 ? 1e-3 : 3e-6});
  };
  const Attributes transposed{{"transpose_b", int64_t{1}}};
  for (const bool constant : {true, false}) {
    add({1, 1}, 1, true, true, {}, constant);
    add({2, 3, 17}, 9, true, true, {}, constant);
    add({2, 3, 17}, 9, true, false, transposed, constant);
    add({33, 65}, 101, false, true, {{"alpha", 0.125f}}, constant);
    add({65}, 49, true, true, {}, constant);
    add({1, 300}, 129, true, true, transposed, constant);
    add({0, 5}, 7, true, true, {}, constant);
    add({3, 0}, 7, true, true, {{"activation", std::string("gelu_erf")}}, constant);
    add({3, 5}, 0, true, true, {}, constant);
    add({3, 0}, 0, false, false, {}, constant);
  }
  for (int a = 0; a < nn::kActivations; ++a) {
    Attributes attributes{
        {"activation", std::string(nn::name_of(static_cast<Activation>(a)))}, {"act_p", 0.25f}, {"act_q", 0.5f}};
    add({7, 20}, 37, true, false, attributes);
    add({2, 4, 20}, 37, true, true, attributes);
  }
  for (const DType dtype : {DType::kDouble, DType::kFloat16})
    add({3, 9}, 5, true, true, {{"activation", std::string("relu")}}, true, dtype);
  for (const auto& [m, k, n] :
       {std::array<int64_t, 3>{128, 768, 768}, {128, 768, 3072}, {128, 3072, 768}, {1, 768, 768}, {16, 768, 768}}) {
    add({m, k}, n, true, true);
    out.back().bench = true;
  }
  add({128, 768}, 3072, true, false, {{"activation", std::string("gelu_erf")}});
  out.back().bench = true;
  return out;
}

OCIOR_OPERATOR(Linear)

}  // namespace ocior::ops
