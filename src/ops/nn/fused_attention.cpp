// FusedAttention (ai.ocior): softmax(scale * q k' + mask) v per head, as encoders and decoders export it, in one pass over the
// keys. Inputs: qkv[b, s, (h + 2 hkv) * d] holding q, k, v side by side (packed = 1), or q[b, sq, h * d], k[b, skv, hkv * d],
// v[b, skv, hkv * dv]; then an optional mask that broadcasts to [b, h, sq, skv]: bool (true: attend; a hidden key's score becomes
// mask_fill) or float (added). Output [b, sq, h * dv]. causal: key j is visible to query i when j <= i + skv - sq. A query
// without any key above -inf gives NaN, or 0 with zero_masked_rows. Keys of weight 0 need not be read. Made by passes.
#include <cmath>

#include "ops/nn/attention_driver.h"
#include "ops/nn/gemm_driver.h"
#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct FusedAttention {
  static constexpr OpInfo info{.name = "FusedAttention", .domain = kOcior, .min_inputs = 1, .max_inputs = 4};

  int64_t heads = 1, kv_heads = 1;
  float scale = 1, mask_fill = -INFINITY;
  bool packed = false, causal = false, zero_masked_rows = false;

  static FusedAttention parse(const NodeReader& node) {
    FusedAttention op;
    op.heads = node.required_integer("num_heads");
    op.kv_heads = node.integer("kv_heads", op.heads);
    if (op.heads < 1 || op.heads > nn::kMostHeads || op.kv_heads < 1 || op.heads % op.kv_heads != 0)
      node.fail("{} heads do not share {} key heads evenly", op.heads, op.kv_heads);
    op.scale = node.number("scale", 1);
    op.mask_fill = node.number("mask_fill", -INFINITY);
    if (!(op.mask_fill <= -1e30f)) node.fail("mask_fill is {}; expected -inf or a value of at most -1e30", op.mask_fill);
    op.packed = node.integer("packed", 0) != 0;
    op.causal = node.integer("causal", 0) != 0;
    op.zero_masked_rows = node.integer("zero_masked_rows", 0) != 0;
    if (node.inputs() < (op.packed ? 1 : 3) || node.inputs() > (op.packed ? 2 : 4))
      node.fail("packed={} takes {} inputs and a mask, got {}", op.packed ? 1 : 0, op.packed ? 1 : 3, node.inputs());
    return op;
  }

  int mask_input() const { return packed ? 1 : 3; }

  Status infer(ShapeContext& c) const {
    for (int i = 0; i < mask_input(); ++i) {
      if (!c.has(i)) return error(Code::kInvalidGraph, "FusedAttention: input {} is missing", i);
      if (c.shape(i) && c.shape(i)->size() != 3)
        return error(Code::kInvalidGraph, "FusedAttention: input {} has shape {}; expected three axes", i,
                     to_string(*c.shape(i)));
    }
    OCIOR_RETURN_IF_ERROR(packed ? nn::check_floats(c, {0}) : nn::check_floats(c, {0, 1, 2}));
    const int v = packed ? 0 : 2;
    const int64_t parts = packed ? heads + 2 * kv_heads : kv_heads;
    Dims out(3);
    for (size_t a = 0; a < 2; ++a) out[a] = c.shape(0) ? (*c.shape(0))[a] : c.fresh("attention");
    OCIOR_ASSIGN(const Dim v_dim, part(c, v, parts));
    out[2] = c.shape(v) ? Dim(heads) * v_dim : c.fresh("attention");
    OCIOR_RETURN_IF_ERROR(check(c, out));
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const;

  size_t scratch(const BindContext& c) const {
    if (!is_fast(c) || c.out(0).count() == 0) return 0;
    const nn::AttentionMask mask = mask_of(c);
    return nn::attention_bytes(c.kernels(), arguments(c), mask.view ? &mask : nullptr, c.workers());
  }

  double work(const BindContext& c) const {
    const AttentionArgs a = arguments(c);
    return 2.0 * static_cast<double>(a.batch * a.heads * a.q_len) * static_cast<double>(a.kv_len) *
           static_cast<double>(a.head_dim + a.v_dim);
  }

  Status run(CpuContext& c) const {
    if (!is_fast(c)) return run_by_reference(*this, c);
    if (c.out(0).count() == 0) return {};
    const nn::AttentionMask mask = mask_of(c);
    nn::run_attention(c, arguments(c), mask.view ? &mask : nullptr, c.scratch());
    return {};
  }

  std::string describe(const Prepared*) const { return "attention kernel"; }

  static std::vector<Sample> samples();

 private:
  // Float32, and no mask that is one value for all keys.
  template <class Context>
  bool is_fast(const Context& c) const {
    if (c.in(0).dtype != DType::kFloat) return false;
    const nn::AttentionMask mask = mask_of(c);
    return !mask.view || ((mask.is_bool() || mask.view->dtype == DType::kFloat) && mask.dim(3) == c.in(packed ? 0 : 1).shape[1]);
  }

  template <class Context>
  nn::AttentionMask mask_of(const Context& c) const {
    return {c.has(mask_input()) ? &c.in(mask_input()) : nullptr, mask_fill};
  }

  // The kernel's arguments but for the mask; data pointers are null at bind.
  template <class Context>
  AttentionArgs arguments(const Context& c) const {
    const TensorView &q = c.in(0), &k = c.in(packed ? 0 : 1), &v = c.in(packed ? 0 : 2), &y = c.out(0);
    AttentionArgs a;
    a.batch = q.shape[0], a.heads = heads, a.kv_heads = kv_heads;
    a.q_len = q.shape[1], a.kv_len = k.shape[1];
    a.head_dim = q.shape[2] / (packed ? heads + 2 * kv_heads : heads);
    a.v_dim = y.shape[2] / heads;
    a.q_row = q.shape[2], a.k_row = k.shape[2], a.v_row = v.shape[2], a.o_row = y.shape[2];
    a.q_head = a.k_head = a.head_dim, a.v_head = a.o_head = a.v_dim;
    a.q_batch = a.q_row * a.q_len, a.k_batch = a.k_row * a.kv_len, a.v_batch = a.v_row * a.kv_len, a.o_batch = a.o_row * a.q_len;
    if (q.data) {
      a.q = q.as<float>(), a.k = k.as<float>(), a.v = v.as<float>(), a.out = y.as<float>();
      if (packed) a.k += heads * a.head_dim, a.v += (heads + kv_heads) * a.head_dim;
    }
    a.scale = scale, a.causal = causal, a.zero_masked_rows = zero_masked_rows;
    a.precision = nn::product_precision(c.precision(), a.q_len, a.kv_len, a.head_dim);
    return a;
  }

  // The last axis of input i, divided into `parts`.
  static Result<Dim> part(ShapeContext& c, int i, int64_t parts) {
    if (!c.shape(i)) return Dim(0);
    const Dim& all = c.shape(i)->back();
    if (all.known() && all.value() % parts != 0)
      return error(Code::kInvalidArgument, "FusedAttention: the last axis of input {}, {}, is no multiple of {} heads", i,
                   all.value(), parts);
    return Dim::quotient(all, parts);
  }

  // Known dimensions agree: q with k, k with v, the mask with all.
  Status check(ShapeContext& c, const Dims& out) const {
    if (const auto& k = c.shape(packed ? 0 : 1); k && (*k)[1].known() && (*k)[1].value() > nn::kMostKeys)
      return error(Code::kNotImplemented, "FusedAttention: {} keys are too many", (*k)[1].value());
    if (!packed && c.shape(0) && c.shape(1) && c.shape(2)) {
      const Dims &q = *c.shape(0), &k = *c.shape(1), &v = *c.shape(2);
      OCIOR_ASSIGN(const Dim q_dim, part(c, 0, heads));
      OCIOR_ASSIGN(const Dim k_dim, part(c, 1, kv_heads));
      if (!nn::may_equal(Dims{q[0], k[0], k[1], q_dim}, Dims{k[0], v[0], v[1], k_dim}))
        return error(Code::kInvalidArgument, "FusedAttention: q {}, k {} and v {} do not fit for {} and {} heads", to_string(q),
                     to_string(k), to_string(v), heads, kv_heads);
    }
    const int m = mask_input();
    if (!c.has(m) || !c.shape(m)) return {};
    if (c.dtype(m) != DType::kBool && c.dtype(m) != c.dtype(0))
      return error(Code::kInvalidGraph, "FusedAttention: the mask is {}; expected bool or {}", name_of(c.dtype(m)),
                   name_of(c.dtype(0)));
    const Dims& mask = *c.shape(m);
    const Dims full{out[0], Dim(heads), out[1], c.shape(packed ? 0 : 1) ? (*c.shape(packed ? 0 : 1))[1] : Dim::symbol("keys")};
    bool fits = mask.size() <= 4;
    for (size_t from_end = 1; fits && from_end <= mask.size(); ++from_end)
      fits = nn::may_equal(mask[mask.size() - from_end], full[4 - from_end]) || mask[mask.size() - from_end] == Dim(1);
    if (fits) return {};
    return error(Code::kInvalidArgument, "FusedAttention: a mask of shape {} does not broadcast to {}", to_string(mask),
                 to_string(full));
  }
};

Status FusedAttention::reference(RefContext& c) const {
  if (c.out(0).count() == 0) return {};
  const Tensor &k_in = c.in(packed ? 0 : 1), &v_in = c.in(packed ? 0 : 2);
  const std::vector<double> q = nn::doubles(c.in(0)), k = nn::doubles(k_in), v = nn::doubles(v_in);
  const int64_t batch = c.in(0).shape()[0], rows = c.in(0).shape()[1], keys = k_in.shape()[1];
  const int64_t q_row = c.in(0).shape()[2], k_row = k_in.shape()[2], v_row = v_in.shape()[2], y_row = c.out(0).shape()[2];
  const int64_t dim = q_row / (packed ? heads + 2 * kv_heads : heads), v_dim = y_row / heads;
  const int64_t k_at = packed ? heads * dim : 0, v_at = packed ? (heads + kv_heads) * dim : 0;
  const Tensor* mask = c.has(mask_input()) ? &c.in(mask_input()) : nullptr;
  const auto mask_strides = broadcast_strides(mask ? std::span<const int64_t>(mask->shape()) : std::span<const int64_t>(),
                                              std::array<int64_t, 4>{batch, heads, rows, keys});
  std::vector<double> y(static_cast<size_t>(c.out(0).count())), score(static_cast<size_t>(keys));
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t g = h / (heads / kv_heads);  // the key head of this head
        double max = -INFINITY, sum = 0;
        for (int64_t j = 0; j < keys; ++j) {
          double s = 0;
          for (int64_t d = 0; d < dim; ++d)
            s += q[static_cast<size_t>((b * rows + i) * q_row + h * dim + d)] *
                 k[static_cast<size_t>((b * keys + j) * k_row + k_at + g * dim + d)];
          s *= scale;
          if (mask) {
            const int64_t at = b * mask_strides[0] + h * mask_strides[1] + i * mask_strides[2] + j * mask_strides[3];
            if (mask->dtype() != DType::kBool) s += get_double(mask->dtype(), mask->data(), at);
            else if (!mask->as<bool>()[at]) s = mask_fill;
          }
          if (causal && j > i + keys - rows) s = -INFINITY;
          score[static_cast<size_t>(j)] = s;
          max = s > max || std::isnan(s) ? s : max;
        }
        for (double& s : score) sum += s = std::exp(s - max);
        double* const to = y.data() + (b * rows + i) * y_row + h * v_dim;
        for (int64_t j = 0; j < keys && !(zero_masked_rows && max == -INFINITY); ++j)
          for (int64_t d = 0; d < v_dim && score[static_cast<size_t>(j)] != 0; ++d)
            to[d] += score[static_cast<size_t>(j)] / sum * v[static_cast<size_t>((b * keys + j) * v_row + v_at + g * v_dim + d)];
      }
  nn::store(c.out(0), y);
  return {};
}

std::vector<Sample> FusedAttention::samples() {
  std::vector<Sample> out;
  struct Case {
    int64_t b = 1, sq = 1, skv = 1, h = 1, hkv = 1, d = 8, dv = 8;
    bool packed = false;
    Attributes more = {};
    SampleInput mask = {.omitted = true};
    DType dtype = DType::kFloat;
    bool bench = false;
  };
  const auto add = [&](Case k) {
    Sample s;
    k.more["num_heads"] = k.h;
    if (k.hkv != k.h) k.more["kv_heads"] = k.hkv;
    k.more.try_emplace("scale", static_cast<float>(1 / std::sqrt(static_cast<double>(k.d))));
    if (k.packed) {
      k.more["packed"] = int64_t{1};
      s.inputs = {{.dtype = k.dtype, .shape = {k.b, k.sq, (k.h + 2 * k.hkv) * k.d}, .fill = Fill::kNormal}};
    } else {
      s.inputs = {{.dtype = k.dtype, .shape = {k.b, k.sq, k.h * k.d}, .fill = Fill::kNormal},
                  {.dtype = k.dtype, .shape = {k.b, k.skv, k.hkv * k.d}, .fill = Fill::kNormal},
                  {.dtype = k.dtype, .shape = {k.b, k.skv, k.hkv * k.dv}, .fill = Fill::kNormal}};
    }
    if (!k.mask.omitted) s.inputs.push_back(k.mask);
    s.attributes = std::move(k.more);
    s.bench = k.bench;
    s.tolerance = k.dtype == DType::kFloat16 ? 1e-3 : 3e-6;
    out.push_back(std::move(s));
  };
  // Padding masks [b, 1, 1, n] for n keys: `lengths` visible keys at the front of each row, as bools or as numbers.
  const auto padding = [](DType dtype, std::vector<int64_t> lengths, int64_t n, double hidden) {
    SampleInput mask{.dtype = dtype, .shape = {std::ssize(lengths), 1, 1, n}};
    for (const int64_t length : lengths)
      for (int64_t j = 0; j < n; ++j) mask.values.push_back(dtype == DType::kBool ? j < length : j < length ? 0.0 : hidden);
    return mask;
  };
  const double lowest = -3.4028234663852886e38;
  const Attributes finite{{"mask_fill", static_cast<float>(lowest)}}, causal{{"causal", int64_t{1}}},
      zeros{{"zero_masked_rows", int64_t{1}}};
  const Attributes causal_finite{{"causal", int64_t{1}}, {"mask_fill", static_cast<float>(lowest)}};

  for (const int64_t s : {1, 2, 7, 16, 33, 70})
    add({.b = 2, .sq = s, .skv = s, .h = 3, .hkv = 3, .d = 16, .dv = 16, .packed = true});
  for (const int64_t d : {1, 5, 32, 40, 64, 96, 128}) add({.b = 1, .sq = 9, .skv = 21, .h = 2, .hkv = 2, .d = d, .dv = d});
  add({.b = 2, .sq = 5, .skv = 300, .h = 2, .hkv = 2, .d = 32, .dv = 24});
  add({.b = 2, .sq = 130, .skv = 130, .h = 1, .hkv = 1, .d = 64, .dv = 64});
  add({.b = 2, .sq = 6, .skv = 11, .h = 6, .hkv = 2, .d = 16, .dv = 8});
  add({.b = 2, .sq = 6, .h = 4, .hkv = 1, .d = 16, .packed = true});
  add({.b = 0, .sq = 6, .h = 4, .hkv = 4, .packed = true});
  add({.b = 2, .sq = 0, .h = 4, .hkv = 4, .packed = true});
  add({.b = 2, .sq = 3, .skv = 0, .h = 2, .hkv = 2});
  add({.b = 2, .sq = 3, .skv = 4, .h = 2, .hkv = 2, .d = 0, .dv = 8});
  for (const Attributes& more : {Attributes{}, finite, zeros, causal, causal_finite}) {
    add({.b = 3,
         .sq = 13,
         .h = 2,
         .hkv = 2,
         .d = 16,
         .packed = true,
         .more = more,
         .mask = padding(DType::kBool, {13, 4, 1}, 13, 0)});
    add({.b = 3,
         .sq = 13,
         .h = 2,
         .hkv = 2,
         .d = 16,
         .packed = true,
         .more = more,
         .mask = padding(DType::kBool, {13, 0, 5}, 13, 0)});
    add({.b = 3,
         .sq = 13,
         .h = 2,
         .hkv = 2,
         .d = 16,
         .packed = true,
         .more = more,
         .mask = padding(DType::kFloat, {13, 4, 1}, 13, lowest)});
    add({.b = 3,
         .sq = 13,
         .h = 2,
         .hkv = 2,
         .d = 16,
         .packed = true,
         .more = more,
         .mask = padding(DType::kFloat, {7, 0, 1}, 13, lowest)});
    add({.b = 3,
         .sq = 13,
         .h = 2,
         .hkv = 2,
         .d = 16,
         .packed = true,
         .more = more,
         .mask = padding(DType::kFloat, {7, 0, 1}, 13, -INFINITY)});
    add({.b = 3,
         .sq = 13,
         .h = 2,
         .hkv = 2,
         .d = 16,
         .packed = true,
         .more = more,
         .mask = padding(DType::kFloat, {7, 13, 1}, 13, -10000)});
    for (const Shape& shape : {Shape{3, 1, 1, 13}, Shape{1, 1, 1, 13}, Shape{3, 1, 13, 13}, Shape{3, 2, 13, 13}, Shape{13, 13},
                               Shape{2, 1, 13}, Shape{13}, Shape{3, 1, 13, 1}}) {
      add({.b = 3,
           .sq = 13,
           .h = 2,
           .hkv = 2,
           .d = 16,
           .packed = true,
           .more = more,
           .mask = {.dtype = DType::kBool, .shape = shape, .fill = Fill::kBools}});
      add({.b = 3, .sq = 13, .h = 2, .hkv = 2, .d = 16, .packed = true, .more = more, .mask = {.shape = shape}});
    }
    add({.b = 2,
         .sq = 9,
         .skv = 40,
         .h = 2,
         .hkv = 1,
         .d = 16,
         .dv = 16,
         .more = more,
         .mask = {.shape = {2, 1, 1, 40}, .fill = Fill::kMinusInf}});
    add({.b = 2,
         .sq = 40,
         .skv = 9,
         .h = 2,
         .hkv = 1,
         .d = 16,
         .dv = 16,
         .more = more,
         .mask = {.dtype = DType::kBool, .shape = {2, 1, 1, 9}, .fill = Fill::kBools}});
    add({.b = 2, .sq = 9, .skv = 40, .h = 2, .hkv = 1, .d = 16, .dv = 16, .more = more});
    add({.b = 2, .sq = 40, .skv = 9, .h = 2, .hkv = 1, .d = 16, .dv = 16, .more = more});
  }
  add({.b = 1,
       .sq = 5,
       .h = 2,
       .hkv = 2,
       .packed = true,
       .mask = {.dtype = DType::kFloat16, .shape = {1, 1, 1, 5}},
       .dtype = DType::kFloat16});
  add({.b = 1, .sq = 5, .h = 2, .hkv = 2, .packed = true, .dtype = DType::kDouble});
  add({.b = 1,
       .sq = 128,
       .h = 12,
       .hkv = 12,
       .d = 64,
       .packed = true,
       .mask = padding(DType::kBool, {128}, 128, 0),
       .bench = true});
  add({.b = 8,
       .sq = 128,
       .h = 12,
       .hkv = 12,
       .d = 32,
       .packed = true,
       .mask = padding(DType::kBool, {128, 20, 60, 9, 128, 90, 30, 11}, 128, 0),
       .bench = true});
  add({.b = 1, .sq = 512, .h = 12, .hkv = 12, .d = 64, .packed = true, .bench = true});
  return out;
}

OCIOR_OPERATOR(FusedAttention)

}  // namespace ocior::ops
