// LinearAttention (https://onnx.ai/onnx/operators/onnx__LinearAttention.html): a state per key/value head that every step decays,
// corrects and adds to, and that queries read. Steps follow one another; batches and heads do not depend on each other.
#include <cmath>

#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

enum Input { kQuery, kKey, kValue, kPast, kDecay, kBeta };
enum Output { kY, kPresent };

struct LinearExtents {
  int64_t batch, steps, dim, v_dim;
  bool decay_per_dim;  // else one decay per head
  bool beta_per_head;  // else one beta for all heads
};

}  // namespace

struct LinearAttention {
  static constexpr OpInfo info{.name = "LinearAttention", .since = 27, .min_inputs = 3, .max_inputs = 6, .max_outputs = 2};

  int64_t q_heads = 1, kv_heads = 1;
  float scale = 0;  // 0: 1 / sqrt(dim)
  bool decays = false, corrects = false;

  static LinearAttention parse(const NodeReader& node) {
    LinearAttention op{node.required_integer("q_num_heads"), node.required_integer("kv_num_heads"), node.number("scale", 0)};
    if (op.q_heads < 1 || op.kv_heads < 1 || op.q_heads > nn::kMostHeads || op.q_heads % op.kv_heads != 0) {
      node.fail("q_num_heads is {} and kv_num_heads is {}; expected a positive multiple of a positive number", op.q_heads,
                op.kv_heads);
      op.q_heads = op.kv_heads = 1;
    }
    const std::string rule = node.text("update_rule", "gated_delta");
    op.decays = rule == "gated" || rule == "gated_delta", op.corrects = rule == "delta" || rule == "gated_delta";
    if (!op.decays && !op.corrects && rule != "linear")
      node.fail("update_rule is '{}'; expected 'linear', 'gated', 'delta' or 'gated_delta'", rule);
    node.ignore("chunk_size");  // how another implementation may cut the steps
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kQuery, kKey, kValue, kDecay, kBeta}));
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kPast}, false));
    if (c.has(kDecay) != decays || c.has(kBeta) != corrects)
      return error(Code::kInvalidGraph, "decay is {} and beta is {} by update_rule", decays ? "required" : "not taken",
                   corrects ? "required" : "not taken");
    for (const int i : {kQuery, kKey, kValue, kDecay, kBeta})
      if (c.has(i) && c.shape(i) && c.shape(i)->size() != 3)
        return error(Code::kInvalidGraph, "input {} has shape {}; expected three axes", i, to_string(*c.shape(i)));
    const DType state = c.has(kPast) ? c.dtype(kPast) : c.dtype(kQuery);
    if (!c.shape(kQuery) || !c.shape(kKey) || !c.shape(kValue)) {
      c.set(kY, c.dtype(kQuery), std::nullopt);
      if (c.outputs() > kPresent) c.set(kPresent, state, std::nullopt);
      return {};
    }
    const Dims &q = *c.shape(kQuery), &k = *c.shape(kKey), &v = *c.shape(kValue);
    OCIOR_ASSIGN(const Dim dim, head_of(q, q_heads));
    OCIOR_ASSIGN(const Dim k_dim, head_of(k, kv_heads));
    OCIOR_ASSIGN(const Dim v_dim, head_of(v, kv_heads));
    if (!nn::may_equal(Dims{q[0], q[1], q[0], q[1], dim}, Dims{k[0], k[1], v[0], v[1], k_dim}))
      return error(Code::kInvalidArgument, "query {}, key {} and value {} do not fit {} and {} heads", to_string(q), to_string(k),
                   to_string(v), q_heads, kv_heads);
    const Dims present{q[0], Dim(kv_heads), dim, v_dim};
    OCIOR_RETURN_IF_ERROR(check_size(present));
    if (c.has(kPast) && c.shape(kPast) && !nn::may_equal(*c.shape(kPast), present))
      return error(Code::kInvalidArgument, "past_state has shape {}; expected {}", to_string(*c.shape(kPast)),
                   to_string(present));
    OCIOR_RETURN_IF_ERROR(check_gate(c, kDecay, q, dim * Dim(kv_heads)));
    OCIOR_RETURN_IF_ERROR(check_gate(c, kBeta, q, Dim(1)));
    c.set(kY, c.dtype(kQuery), Dims{q[0], q[1], v_dim * Dim(q_heads)});
    if (c.outputs() > kPresent) c.set(kPresent, state, present);
    return {};
  }

  Status reference(RefContext& c) const {
    const LinearExtents e = extents(c.in(kQuery).shape(), c.in(kValue).shape(), c.has(kDecay) ? c.in(kDecay).shape().back() : 0,
                                    c.has(kBeta) ? c.in(kBeta).shape().back() : 0);
    const auto read = [&](int i) { return c.has(i) ? nn::doubles(c.in(i)) : std::vector<double>(); };
    const std::vector<double> q = read(kQuery), k = read(kKey), v = read(kValue), decay = read(kDecay), beta = read(kBeta);
    if (c.out(kY).count() == 0 && !c.wants(kPresent)) return {};
    // The state may be larger than all inputs together, which is no reason to end the process.
    OCIOR_ASSIGN(Tensor held, Tensor::allocate(DType::kDouble, {e.batch, kv_heads, e.dim, e.v_dim}));
    const std::span<double> state(held.as<double>(), static_cast<size_t>(held.count()));
    std::fill(state.begin(), state.end(), 0);
    if (c.has(kPast)) std::ranges::copy(read(kPast), state.begin());
    std::vector<double> y(static_cast<size_t>(c.out(kY).count()));
    const double factor = factor_of<double>(e);
    std::vector<double> fresh(static_cast<size_t>(e.v_dim));
    for (int64_t b = 0; b < e.batch; ++b)
      for (int64_t t = 0; t < e.steps; ++t)
        for (int64_t h = 0; h < kv_heads; ++h) {
          double* const s = state.data() + (b * kv_heads + h) * e.dim * e.v_dim;
          const int64_t row = (b * e.steps + t) * kv_heads + h;
          const double* const key = k.data() + row * e.dim;
          for (int64_t d = 0; d < e.dim && decays; ++d) {
            const double g = std::exp(decay[static_cast<size_t>(e.decay_per_dim ? row * e.dim + d : row)]);
            for (int64_t m = 0; m < e.v_dim; ++m) s[d * e.v_dim + m] *= g;
          }
          for (int64_t m = 0; m < e.v_dim; ++m) {
            double& f = fresh[static_cast<size_t>(m)];
            f = v[static_cast<size_t>(row * e.v_dim + m)];
            if (!corrects) continue;
            for (int64_t d = 0; d < e.dim; ++d) f -= s[d * e.v_dim + m] * key[d];
            f *= beta[static_cast<size_t>(e.beta_per_head ? row : b * e.steps + t)];
          }
          for (int64_t d = 0; d < e.dim; ++d)
            for (int64_t m = 0; m < e.v_dim; ++m) s[d * e.v_dim + m] += key[d] * fresh[static_cast<size_t>(m)];
          for (int64_t i = h * group(); i < (h + 1) * group(); ++i) {
            const int64_t at = (b * e.steps + t) * q_heads + i;
            for (int64_t m = 0; m < e.v_dim; ++m) {
              double sum = 0;
              for (int64_t d = 0; d < e.dim; ++d) sum += q[static_cast<size_t>(at * e.dim + d)] * s[d * e.v_dim + m];
              y[static_cast<size_t>(at * e.v_dim + m)] = factor * sum;
            }
          }
        }
    nn::store(c.out(kY), y);
    if (c.wants(kPresent)) nn::store(c.out(kPresent), state);
    return {};
  }

  // A state, and two rows of values, for each batch and head.
  size_t scratch(const BindContext& c) const {
    if (!all_float(c)) return 0;
    const LinearExtents e = extents(c);
    return static_cast<size_t>(e.batch * kv_heads) * piece(e) * sizeof(float);
  }

  double work(const BindContext& c) const {
    const LinearExtents e = extents(c);
    return static_cast<double>(e.batch * e.steps) * static_cast<double>(5 * kv_heads + 2 * q_heads) *
           static_cast<double>(e.dim * e.v_dim);
  }

  Status run(CpuContext& c) const {
    if (!all_float(c)) return run_by_reference(*this, c);
    const LinearExtents e = extents(c);
    if (e.v_dim == 0) return {};
    c.team().parallel_for(e.batch * kv_heads, c.stop(), [&](int64_t i, int) { walk(c, e, i / kv_heads, i % kv_heads); });
    return {};
  }

  static std::vector<Sample> samples();

 private:
  int64_t group() const { return q_heads / kv_heads; }

  template <class T>
  T factor_of(const LinearExtents& e) const {
    return scale != 0 ? static_cast<T>(scale) : static_cast<T>(1 / std::sqrt(static_cast<double>(e.dim)));
  }

  static size_t piece(const LinearExtents& e) { return (static_cast<size_t>(e.dim * e.v_dim + 2 * e.v_dim) + 15) & ~size_t{15}; }

  LinearExtents extents(std::span<const int64_t> q, std::span<const int64_t> v, int64_t decay, int64_t beta) const {
    return {q[0], q[1], q[2] / q_heads, v[2] / kv_heads, decay != kv_heads, beta == kv_heads};
  }
  template <class Context>
  LinearExtents extents(const Context& c) const {
    return extents(c.in(kQuery).shape, c.in(kValue).shape, c.has(kDecay) ? c.in(kDecay).shape.back() : 0,
                   c.has(kBeta) ? c.in(kBeta).shape.back() : 0);
  }
  template <class Context>
  static bool all_float(const Context& c) {
    return c.in(kQuery).dtype == DType::kFloat && (!c.has(kPast) || c.in(kPast).dtype == DType::kFloat);
  }

  // A state of `present` dims can be held: its size is no input's and no output's when nobody wants it.
  static Status check_size(const Dims& present) {
    constexpr int64_t kMostElements = int64_t{1} << 40;
    int64_t product = 1;
    for (const Dim& d : present)
      if (!d.known()) return {};
      else if (__builtin_mul_overflow(product, d.value(), &product) || product > kMostElements)
        return error(Code::kInvalidArgument, "a state of shape {} is too large", to_string(present));
    return {};
  }
  static Result<Dim> head_of(const Dims& s, int64_t heads) {
    if (s[2].known() && s[2].value() % heads != 0)
      return error(Code::kInvalidArgument, "the last axis of {} is no multiple of {} heads", to_string(s), heads);
    return Dim::quotient(s[2], Dim(heads));
  }
  // decay or beta: [batch, steps, kv heads], or with a last axis of `other`.
  Status check_gate(const ShapeContext& c, int i, const Dims& q, const Dim& other) const {
    if (!c.has(i) || !c.shape(i)) return {};
    const Dims& s = *c.shape(i);
    if (nn::may_equal(Dims{s[0], s[1]}, Dims{q[0], q[1]}) && (nn::may_equal(s[2], Dim(kv_heads)) || nn::may_equal(s[2], other)))
      return {};
    return error(Code::kInvalidArgument, "{} has shape {}; expected [{}, {}, {} or {}]", i == kDecay ? "decay" : "beta",
                 to_string(s), q[0].text(), q[1].text(), kv_heads, other.text());
  }

  void walk(CpuContext& c, const LinearExtents& e, int64_t b, int64_t h) const;
};

// All steps of one key/value head.
void LinearAttention::walk(CpuContext& c, const LinearExtents& e, int64_t b, int64_t h) const {
  const KernelTable& kernels = c.kernels();
  const int64_t size = e.dim * e.v_dim, n = e.v_dim;
  float* const s = static_cast<float*>(c.scratch()) + static_cast<size_t>(b * kv_heads + h) * piece(e);
  float *const fresh = s + size, *const term = fresh + n;
  const int64_t at = (b * kv_heads + h) * size;
  if (c.has(kPast)) std::copy_n(c.in(kPast).as<float>() + at, size, s);
  else std::fill_n(s, size, 0.0f);
  // sum += weights S, over the rows of S.
  const auto accumulate = [&](const float* weights, float* sum) {
    for (int64_t d = 0; d < e.dim; ++d) {
      kernels.binary_f32(BinaryFn::kMul, s + d * n, 1, weights + d, 0, term, n);
      kernels.reduce_into_f32(ReduceFn::kSum, term, sum, n);
    }
  };
  const float factor = factor_of<float>(e);
  for (int64_t t = 0; t < e.steps && !(c.stop() && c.stop()->requested()); ++t) {
    const int64_t row = (b * e.steps + t) * kv_heads + h;
    const float* const key = c.in(kKey).as<float>() + row * e.dim;
    const float* const value = c.in(kValue).as<float>() + row * n;
    for (int64_t d = 0; d < e.dim && decays; ++d) {
      const float g = std::exp(c.in(kDecay).as<float>()[e.decay_per_dim ? row * e.dim + d : row]);
      kernels.binary_f32(BinaryFn::kMul, s + d * n, 1, &g, 0, s + d * n, n);
    }
    if (corrects) {
      std::fill_n(fresh, n, 0.0f);
      accumulate(key, fresh);
      kernels.binary_f32(BinaryFn::kSub, value, 1, fresh, 1, fresh, n);
      kernels.binary_f32(BinaryFn::kMul, fresh, 1, c.in(kBeta).as<float>() + (e.beta_per_head ? row : b * e.steps + t), 0, fresh,
                         n);
    } else {
      std::copy_n(value, n, fresh);
    }
    for (int64_t d = 0; d < e.dim; ++d) {
      kernels.binary_f32(BinaryFn::kMul, fresh, 1, key + d, 0, term, n);
      kernels.reduce_into_f32(ReduceFn::kSum, term, s + d * n, n);
    }
    for (int64_t i = h * group(); i < (h + 1) * group(); ++i) {
      const int64_t head = (b * e.steps + t) * q_heads + i;
      float* const y = c.out(kY).as<float>() + head * n;
      std::fill_n(y, n, 0.0f);
      accumulate(c.in(kQuery).as<float>() + head * e.dim, y);
      kernels.binary_f32(BinaryFn::kMul, y, 1, &factor, 0, y, n);
    }
  }
  if (c.wants(kPresent)) std::copy_n(s, size, c.out(kPresent).as<float>() + at);
}

std::vector<Sample> LinearAttention::samples() {
  std::vector<Sample> out;
  struct Case {
    const char* rule = "gated_delta";
    int64_t q_heads = 4, kv_heads = 2, steps = 5;
    bool past = false, decay_per_dim = false, beta_per_head = true;
    float scale = 0;
    DType dtype = DType::kFloat, state = DType::kFloat;
  };
  const auto add = [&](const Case& k) {
    constexpr int64_t kBatch = 2, kDim = 6, kVDim = 5;
    const bool decays = std::string_view(k.rule).starts_with("gated"), corrects = std::string_view(k.rule).ends_with("delta");
    const auto rows = [&](int64_t last) { return SampleInput{.dtype = k.dtype, .shape = {kBatch, k.steps, last}}; };
    Sample s{.inputs = {rows(k.q_heads * kDim),
                        rows(k.kv_heads * kDim),
                        rows(k.kv_heads * kVDim),
                        {.dtype = k.state, .shape = {kBatch, k.kv_heads, kDim, kVDim}, .omitted = !k.past},
                        rows(k.decay_per_dim ? k.kv_heads * kDim : k.kv_heads),
                        rows(k.beta_per_head ? k.kv_heads : 1)},
             .attributes = {{"q_num_heads", k.q_heads}, {"kv_num_heads", k.kv_heads}, {"update_rule", std::string(k.rule)}},
             .outputs = 2,
             .tolerance = k.dtype == DType::kFloat ? 5e-6 : 1e-2};
    s.inputs[4].omitted = !decays, s.inputs[5].omitted = !corrects;
    if (k.scale != 0) s.attributes["scale"] = k.scale;
    out.push_back(std::move(s));
  };
  for (const char* rule : {"linear", "gated", "delta", "gated_delta"})
    for (const bool past : {false, true})
      for (const bool per_dim : {false, true})
        add({.rule = rule, .past = past, .decay_per_dim = per_dim, .beta_per_head = !per_dim});
  add({.kv_heads = 1, .scale = 0.3f});
  add({.q_heads = 2, .steps = 1, .past = true});
  add({.steps = 0, .past = true});
  add({.past = true, .dtype = DType::kFloat16});
  add({.past = true, .dtype = DType::kBFloat16, .state = DType::kBFloat16});
  return out;
}

OCIOR_OPERATOR(LinearAttention)

}  // namespace ocior::ops
