// Attention (https://onnx.ai/onnx/operators/onnx__Attention.html): scaled dot products with masks, a key/value cache, grouped
// heads, causal and window bounds, a soft cap and the scores as an output. The kernel runs float32 without cap and scores; all
// else is the reference's. A query whose keys are all hidden gives 0. Long because the operator has nine inputs and outputs in
// many forms.
#include <cmath>
#include <cstring>

#include "ops/nn/attention_driver.h"
#include "ops/nn/gemm_driver.h"
#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

enum Input { kQ, kK, kV, kMask, kPastKey, kPastValue, kLengths };
enum Output { kY, kPresentKey, kPresentValue, kScores };

// The extents of one call, whether tensors have 3 axes (batch, rows, heads * dim) or 4 (batch, heads, rows, dim).
struct AttentionExtents {
  int64_t batch = 0, heads = 0, kv_heads = 0, rows = 0, new_keys = 0, past = 0, dim = 0, v_dim = 0;
  bool flat = false;
  int64_t keys() const { return past + new_keys; }
};

constexpr uint8_t kLater = 0;  // stands for a mask that the run will fill

// Element strides of one of q, k, v or y.
struct HeadStrides {
  int64_t batch, head, row;
};
HeadStrides strides_of(bool flat, int64_t heads, int64_t rows, int64_t dim) {
  return flat ? HeadStrides{rows * heads * dim, dim, heads * dim} : HeadStrides{heads * rows * dim, rows * dim, dim};
}

template <class Context>
std::span<const int64_t> shape_of(const Context& c, int i) {
  if constexpr (std::is_base_of_v<RefContext, Context>) return c.in(i).shape();
  else return c.in(i).shape;
}

}  // namespace

struct Attention {
  static constexpr OpInfo info{.name = "Attention", .since = 23, .min_inputs = 3, .max_inputs = 7, .max_outputs = 4};

  int64_t q_heads = 0, kv_heads = 0;  // 0: not given
  std::optional<float> scale;         // else 1 / sqrt(dim)
  float softcap = 0;
  bool causal = false;
  int64_t scores_mode = 0, left_window = -1, right_window = -1;

  static Attention parse(const NodeReader& node) {
    Attention op;
    op.q_heads = node.integer("q_num_heads", 0), op.kv_heads = node.integer("kv_num_heads", 0);
    if (op.q_heads < 0 || op.kv_heads < 0 || std::max(op.q_heads, op.kv_heads) > nn::kMostHeads)
      node.fail("q_num_heads and kv_num_heads must be positive, got {} and {}", op.q_heads, op.kv_heads);
    if (node.has("scale")) op.scale = node.number("scale", 1);
    op.softcap = node.number("softcap", 0);
    op.causal = node.integer("is_causal", 0) != 0;
    op.scores_mode = node.integer("qk_matmul_output_mode", 0);
    if (op.scores_mode < 0 || op.scores_mode > 3) node.fail("qk_matmul_output_mode is {}; expected 0 to 3", op.scores_mode);
    node.ignore("softmax_precision");  // a lower bound: both ways compute the softmax in float or better
    if (node.opset() >= 25)
      op.left_window = node.integer("left_window_size", -1), op.right_window = node.integer("right_window_size", -1);
    if (op.left_window < -1 || op.right_window < -1) node.fail("a window size is below -1");
    if (node.opset() < 24 && node.inputs() > 6) node.fail("input 6 (nonpad_kv_seqlen) exists since opset 24");
    return op;
  }

  Status infer(ShapeContext& c) const;
  Status reference(RefContext& c) const;
  size_t scratch(const BindContext& c) const { return is_fast(c) && c.out(kY).count() ? plan(c, nullptr).bytes : 0; }

  double work(const BindContext& c) const {
    const AttentionExtents e = extents(c);
    return 2.0 * static_cast<double>(e.batch * e.heads * e.rows) * static_cast<double>(e.keys()) *
           static_cast<double>(e.dim + e.v_dim);
  }

  Status run(CpuContext& c) const;

  std::string describe(const Prepared*) const { return "attention kernel"; }

  static std::vector<Sample> samples();

 private:
  template <class Context>
  AttentionExtents extents(const Context& c) const {
    const auto q = shape_of(c, kQ), k = shape_of(c, kK), v = shape_of(c, kV);
    AttentionExtents e;
    e.flat = q.size() == 3;
    e.batch = q[0], e.heads = e.flat ? q_heads : q[1], e.kv_heads = e.flat ? kv_heads : k[1];
    e.rows = e.flat ? q[1] : q[2], e.new_keys = e.flat ? k[1] : k[2];
    e.dim = e.flat ? q[2] / e.heads : q[3], e.v_dim = e.flat ? v[2] / e.kv_heads : v[3];
    e.past = c.has(kPastKey) ? shape_of(c, kPastKey)[2] : 0;
    return e;
  }

  float scale_for(int64_t dim) const { return scale ? *scale : static_cast<float>(1 / std::sqrt(static_cast<double>(dim))); }
  bool windowed() const { return left_window >= 0 || right_window >= 0; }

  // Whether key j is within the causal and window bounds of a query at absolute position p.
  bool in_bounds(int64_t p, int64_t j) const {
    return !(causal && j > p) && !(left_window >= 0 && p - j > left_window) && !(right_window >= 0 && j - p > right_window);
  }

  // Bounds that the kernel's own causal rule does not cover become a mask.
  template <class Context>
  bool needs_bounds(const Context& c, const AttentionExtents& e) const {
    if (windowed()) return true;
    if (!causal) return false;
    return c.has(kLengths) ? e.rows != 1 : e.rows != e.new_keys;  // one query with a length sees all of its keys
  }

  template <class Context>
  bool is_fast(const Context& c) const {
    for (int i : {kQ, kK, kV, kPastKey, kPastValue})
      if (c.has(i) && c.in(i).dtype != DType::kFloat) return false;
    if (softcap > 0 || has_scores(c)) return false;
    return !c.has(kMask) || c.in(kMask).dtype == DType::kFloat || !needs_bounds(c, extents(c));
  }
  static bool has_scores(const CpuContext& c) { return c.wants(kScores); }
  static bool has_scores(const BindContext&) { return false; }  // may reserve scratch that the reference leaves unused

  struct Plan {
    AttentionArgs args;
    nn::AttentionMask mask;                    // view null: none
    float *keys = nullptr, *values = nullptr;  // past and new, where no output holds them
    uint8_t* bounds = nullptr;
    int32_t* lengths = nullptr;
    std::byte* kernel = nullptr;
    size_t bytes = 0;
  };
  template <class Context>
  Plan plan(const Context& c, void* base) const;

  void append(CpuContext& c, const AttentionExtents& e, int input, int past, int64_t dim, float* to) const;
  void fill_bounds(CpuContext& c, const AttentionExtents& e, uint8_t* bounds) const;
  const int32_t* fill_lengths(const CpuContext& c, const AttentionExtents& e, int32_t* lengths) const;
  void set_cache(CpuContext& c, const AttentionExtents& e, Plan& p) const;

  Result<Dims> four_axes(const ShapeContext& c, int i) const;
  Result<Dim> all_keys(ShapeContext& c, const Dims& k, const Dims& v) const;
  Status check_masks(const ShapeContext& c, const Dims& full) const;

  struct Operands;
  double bias(const RefContext& c, const AttentionExtents& e, int64_t b, int64_t h, int64_t i, int64_t j) const;
};

// The dims of q, k or v as [batch, heads, rows, dim].
Result<Dims> Attention::four_axes(const ShapeContext& c, int i) const {
  const Dims& s = *c.shape(i);
  if (s.size() != c.shape(kQ)->size()) return error(Code::kInvalidGraph, "q, k and v must all have three or all four axes");
  if (s.size() == 4) return s;
  const int64_t heads = i == kQ ? q_heads : kv_heads;
  if (s.size() != 3 || heads < 1)
    return error(Code::kInvalidGraph, "input {} of shape {}: expected four axes, or three with q_num_heads and kv_num_heads", i,
                 to_string(s));
  if (s[2].known() && s[2].value() % heads != 0)
    return error(Code::kInvalidArgument, "input {} of shape {}: its last axis is no multiple of {} heads", i, to_string(s),
                 heads);
  return Dims{s[0], Dim(heads), s[1], Dim::quotient(s[2], Dim(heads))};
}

// Keys with the past ones, which must fit k and v.
Result<Dim> Attention::all_keys(ShapeContext& c, const Dims& k, const Dims& v) const {
  Dim keys = c.has(kPastKey) ? c.fresh("attention_keys") : k[2];
  for (int i : {kPastKey, kPastValue}) {
    if (!c.has(i) || !c.shape(i)) continue;
    const Dims &past = *c.shape(i), &own = i == kPastKey ? k : v;
    if (past.size() != 4 || !nn::may_equal(Dims{past[0], past[1], past[3]}, Dims{own[0], own[1], own[3]}))
      return error(Code::kInvalidArgument, "input {} of shape {} does not fit {}", i, to_string(past), to_string(own));
    const Dim all = past[2] + k[2];
    if (!nn::may_equal(all, keys)) return error(Code::kInvalidArgument, "past_key and past_value have different lengths");
    keys = all;
  }
  if (keys.known() && keys.value() > nn::kMostKeys) return error(Code::kNotImplemented, "{} keys are too many", keys.value());
  return keys;
}

// attn_mask and nonpad_kv_seqlen fit scores of shape `full`.
Status Attention::check_masks(const ShapeContext& c, const Dims& full) const {
  if (c.has(kLengths)) {
    if (c.dtype(kLengths) != DType::kInt64)
      return error(Code::kInvalidGraph, "nonpad_kv_seqlen is {}; expected int64", name_of(c.dtype(kLengths)));
    if (c.shape(kLengths) && !nn::may_equal(*c.shape(kLengths), Dims{full[0]}))
      return error(Code::kInvalidArgument, "nonpad_kv_seqlen has shape {}; expected [{}]", to_string(*c.shape(kLengths)),
                   full[0].text());
  }
  if (!c.has(kMask)) return {};
  if (c.dtype(kMask) != DType::kBool) OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kMask}, false));
  if (!c.shape(kMask)) return {};
  const Dims& mask = *c.shape(kMask);
  const auto from_end = [](const Dims& d, size_t i) -> const Dim& { return d[d.size() - i]; };
  bool fits =
      !mask.empty() && mask.size() <= 4 && !(mask.back().known() && full[3].known() && mask.back().value() > full[3].value());
  for (size_t i = 2; fits && i <= mask.size(); ++i)
    fits = nn::may_equal(from_end(mask, i), from_end(full, i)) || from_end(mask, i) == Dim(1);
  if (fits) return {};
  return error(Code::kInvalidArgument, "attn_mask of shape {} does not broadcast to {}", to_string(mask), to_string(full));
}

Status Attention::infer(ShapeContext& c) const {
  if (c.has(kPastKey) != c.has(kPastValue))
    return error(Code::kInvalidGraph, "past_key and past_value come together or not at all");
  if (c.has(kPastKey) && c.has(kLengths))
    return error(Code::kInvalidGraph, "nonpad_kv_seqlen cannot be combined with past_key and past_value");
  OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kQ, kK, kV, kPastKey, kPastValue}, false));
  if (!c.shape(kQ) || !c.shape(kK) || !c.shape(kV)) {
    for (int o = 0; o < c.outputs(); ++o) c.set(o, c.dtype(o == kPresentKey ? kK : o == kPresentValue ? kV : kQ), std::nullopt);
    return {};
  }
  OCIOR_ASSIGN(const Dims q, four_axes(c, kQ));
  OCIOR_ASSIGN(const Dims k, four_axes(c, kK));
  OCIOR_ASSIGN(const Dims v, four_axes(c, kV));
  if (!nn::may_equal(Dims{q[0], k[0], k[1], k[2], q[3]}, Dims{k[0], v[0], v[1], v[2], k[3]}))
    return error(Code::kInvalidArgument, "q {}, k {} and v {} do not fit", to_string(q), to_string(k), to_string(v));
  const bool known = q[1].known() && k[1].known();
  if (known && (k[1].value() < 1 || q[1].value() > nn::kMostHeads || q[1].value() % k[1].value() != 0))
    return error(Code::kInvalidArgument, "{} query heads do not share {} key heads evenly", q[1].value(), k[1].value());
  OCIOR_ASSIGN(const Dim keys, all_keys(c, k, v));
  OCIOR_RETURN_IF_ERROR(check_masks(c, Dims{q[0], q[1], q[2], keys}));
  const bool flat = c.shape(kQ)->size() == 3;
  c.set(kY, c.dtype(kQ), flat ? Dims{q[0], q[2], q[1] * v[3]} : Dims{q[0], q[1], q[2], v[3]});
  if (c.outputs() > kPresentKey) c.set(kPresentKey, c.dtype(kK), Dims{k[0], k[1], keys, k[3]});
  if (c.outputs() > kPresentValue) c.set(kPresentValue, c.dtype(kV), Dims{v[0], v[1], keys, v[3]});
  if (c.outputs() > kScores) c.set(kScores, c.dtype(kQ), Dims{q[0], q[1], q[2], keys});
  return {};
}

// What is added to the score of key j for row i: masks, bounds and lengths.
double Attention::bias(const RefContext& c, const AttentionExtents& e, int64_t b, int64_t h, int64_t i, int64_t j) const {
  int64_t before = e.past;  // keys before the first query's own position
  if (c.has(kLengths)) {
    const int64_t length = get_int(DType::kInt64, c.in(kLengths).data(), b);
    if (j >= length) return -INFINITY;
    before = length - e.rows;
  }
  if (!in_bounds(before + i, j)) return -INFINITY;
  if (!c.has(kMask)) return 0;
  const Tensor& mask = c.in(kMask);
  const TensorView view{mask.dtype(), mask.shape(), const_cast<void*>(mask.data())};
  const nn::AttentionMask m{&view, 0};
  if (j >= m.dim(3)) return -INFINITY;
  const int64_t at = b * m.stride(0) + h * m.stride(1) + i * m.stride(2) + j;
  if (m.is_bool()) return mask.as<bool>()[at] ? 0 : -INFINITY;
  return get_double(mask.dtype(), mask.data(), at);
}

// q, k, v in double, keys and values with the past before them.
struct Attention::Operands {
  Operands(const RefContext& c, const AttentionExtents& extents)
      : e(extents),
        q(nn::doubles(c.in(kQ))),
        k(with_past(c, kK, kPastKey, e.dim)),
        v(with_past(c, kV, kPastValue, e.v_dim)),
        q_strides(strides_of(e.flat, e.heads, e.rows, e.dim)) {}

  double query(int64_t b, int64_t h, int64_t i, int64_t d) const {
    return q[static_cast<size_t>(b * q_strides.batch + h * q_strides.head + i * q_strides.row + d)];
  }
  double key(int64_t b, int64_t g, int64_t j, int64_t d) const {
    return k[static_cast<size_t>(((b * e.kv_heads + g) * e.keys() + j) * e.dim + d)];
  }
  double value(int64_t b, int64_t g, int64_t j, int64_t d) const {
    return v[static_cast<size_t>(((b * e.kv_heads + g) * e.keys() + j) * e.v_dim + d)];
  }

  std::vector<double> with_past(const RefContext& c, int input, int past_input, int64_t dim) const {
    const std::vector<double> fresh = nn::doubles(c.in(input)),
                              past = e.past ? nn::doubles(c.in(past_input)) : std::vector<double>();
    const HeadStrides s = strides_of(e.flat, e.kv_heads, e.new_keys, dim);
    std::vector<double> out;
    out.reserve(fresh.size() + past.size());
    for (int64_t b = 0; b < e.batch; ++b)
      for (int64_t g = 0; g < e.kv_heads; ++g) {
        for (int64_t at = 0; at < e.past * dim; ++at)
          out.push_back(past[static_cast<size_t>((b * e.kv_heads + g) * e.past * dim + at)]);
        for (int64_t j = 0; j < e.new_keys; ++j)
          for (int64_t d = 0; d < dim; ++d) out.push_back(fresh[static_cast<size_t>(b * s.batch + g * s.head + j * s.row + d)]);
      }
    return out;
  }

  AttentionExtents e;
  std::vector<double> q, k, v;
  HeadStrides q_strides;
};

Status Attention::reference(RefContext& c) const {
  const AttentionExtents e = extents(c);
  const Operands in(c, e);
  if (c.wants(kPresentKey)) nn::store(c.out(kPresentKey), in.k);
  if (c.wants(kPresentValue)) nn::store(c.out(kPresentValue), in.v);
  if (c.out(kY).count() == 0 && !c.wants(kScores)) return {};
  const HeadStrides ys = strides_of(e.flat, e.heads, e.rows, e.v_dim);
  const double factor = scale ? static_cast<double>(*scale) : 1 / std::sqrt(static_cast<double>(e.dim));
  std::vector<double> y(static_cast<size_t>(c.out(kY).count())), p(static_cast<size_t>(e.keys())), scores;
  for (int64_t b = 0; b < e.batch; ++b)
    for (int64_t h = 0; h < e.heads; ++h)
      for (int64_t i = 0; i < e.rows; ++i) {
        const int64_t g = h / (e.heads / e.kv_heads);
        double max = -INFINITY, sum = 0;
        bool hidden = true;
        for (int64_t j = 0; j < e.keys(); ++j) {
          double s = 0;
          for (int64_t d = 0; d < e.dim; ++d) s += in.query(b, h, i, d) * in.key(b, g, j, d);
          s *= factor;
          if (scores_mode == 0) scores.push_back(s);
          if (softcap > 0) s = softcap * std::tanh(s / softcap);
          if (scores_mode == 1) scores.push_back(s);
          const double added = bias(c, e, b, h, i, j);
          hidden = hidden && added == -INFINITY;
          s = added == -INFINITY ? added : s + added;
          if (scores_mode == 2) scores.push_back(s);
          p[static_cast<size_t>(j)] = s;
          max = s > max || std::isnan(s) ? s : max;
        }
        for (double& s : p) sum += s = hidden ? 0 : std::exp(s - max);
        for (double& s : p) s = hidden ? 0 : s / sum;
        if (scores_mode == 3) scores.insert(scores.end(), p.begin(), p.end());
        double* const out = y.data() + b * ys.batch + h * ys.head + i * ys.row;
        for (int64_t j = 0; j < e.keys(); ++j)
          for (int64_t d = 0; d < e.v_dim && p[static_cast<size_t>(j)] != 0; ++d)
            out[d] += p[static_cast<size_t>(j)] * in.value(b, g, j, d);
      }
  nn::store(c.out(kY), y);
  if (c.wants(kScores)) nn::store(c.out(kScores), scores);
  return {};
}

template <class Context>
Attention::Plan Attention::plan(const Context& c, void* base) const {
  const AttentionExtents e = extents(c);
  const auto batch = static_cast<size_t>(e.batch);
  nn::Carver carver(base);
  Plan p;
  AttentionArgs& a = p.args;
  a.batch = e.batch, a.heads = e.heads, a.kv_heads = e.kv_heads;
  a.q_len = e.rows, a.kv_len = e.keys(), a.head_dim = e.dim, a.v_dim = e.v_dim;
  a.scale = scale_for(e.dim), a.zero_masked_rows = true;
  a.precision = nn::product_precision(c.precision(), e.rows, e.keys(), e.dim);
  const auto set = [](const HeadStrides& s, int64_t& by_batch, int64_t& by_head, int64_t& by_row) {
    by_batch = s.batch, by_head = s.head, by_row = s.row;
  };
  const bool flat_keys = e.flat && !c.has(kPastKey);
  set(strides_of(e.flat, e.heads, e.rows, e.dim), a.q_batch, a.q_head, a.q_row);
  set(strides_of(flat_keys, e.kv_heads, e.keys(), e.dim), a.k_batch, a.k_head, a.k_row);
  set(strides_of(flat_keys, e.kv_heads, e.keys(), e.v_dim), a.v_batch, a.v_head, a.v_row);
  set(strides_of(e.flat, e.heads, e.rows, e.v_dim), a.o_batch, a.o_head, a.o_row);
  if (c.has(kMask)) p.mask = {&c.in(kMask), -INFINITY};
  if (needs_bounds(c, e)) {
    p.bounds = carver.take<uint8_t>((c.has(kLengths) ? batch : 1) * static_cast<size_t>(e.rows * e.keys()));
    a.mask = &kLater;
    a.mask_batch = c.has(kLengths) ? e.rows * e.keys() : 0, a.mask_row = e.keys();
  } else {
    a.causal = causal && !c.has(kLengths);
  }
  p.lengths = carver.take<int32_t>(batch);
  if (c.has(kPastKey)) {
    const auto rows = batch * static_cast<size_t>(e.kv_heads * e.keys());
    p.keys = carver.take<float>(rows * static_cast<size_t>(e.dim));
    p.values = carver.take<float>(rows * static_cast<size_t>(e.v_dim));
  }
  p.kernel = carver.take(0);
  p.bytes = carver.used();
  if constexpr (std::is_base_of_v<BindContext, Context>)
    p.bytes += nn::attention_bytes(c.kernels(), a, p.mask.view ? &p.mask : nullptr, c.workers());
  return p;
}

// Writes the past rows of input `past`, then the new ones of `input`, per head: [batch, kv_heads, keys, dim].
void Attention::append(CpuContext& c, const AttentionExtents& e, int input, int past, int64_t dim, float* to) const {
  const HeadStrides s = strides_of(e.flat, e.kv_heads, e.new_keys, dim);
  const float* const fresh = c.in(input).as<float>();
  const float* const old = e.past ? c.in(past).as<float>() : nullptr;
  const auto bytes = static_cast<size_t>(dim) * sizeof(float);
  nn::parallel_rows(c, e.batch * e.kv_heads, e.keys() * dim, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      float* const head = to + i * e.keys() * dim;
      if (old) std::memcpy(head, old + i * e.past * dim, static_cast<size_t>(e.past) * bytes);
      const float* const from = fresh + i / e.kv_heads * s.batch + i % e.kv_heads * s.head;
      for (int64_t j = 0; j < e.new_keys; ++j) std::memcpy(head + (e.past + j) * dim, from + j * s.row, bytes);
    }
  });
}

void Attention::fill_bounds(CpuContext& c, const AttentionExtents& e, uint8_t* bounds) const {
  const int64_t batches = c.has(kLengths) ? e.batch : 1, keys = e.keys();
  nn::parallel_rows(c, batches * e.rows, keys, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t before = c.has(kLengths) ? c.in(kLengths).as<int64_t>()[r / e.rows] - e.rows : e.past;
      for (int64_t j = 0; j < keys; ++j) bounds[r * keys + j] = in_bounds(before + r % e.rows, j);
    }
  });
}

// Visible keys of each batch, from nonpad_kv_seqlen and from a mask that ends early; null when all are.
const int32_t* Attention::fill_lengths(const CpuContext& c, const AttentionExtents& e, int32_t* lengths) const {
  int64_t most = e.keys();
  if (c.has(kMask)) most = std::min(most, c.in(kMask).shape.back());
  if (!c.has(kLengths) && most == e.keys()) return nullptr;
  for (int64_t b = 0; b < e.batch; ++b)
    lengths[b] = static_cast<int32_t>(c.has(kLengths) ? std::clamp<int64_t>(c.in(kLengths).as<int64_t>()[b], 0, most) : most);
  return lengths;
}

// Where the kernel finds keys and values, and the present outputs.
void Attention::set_cache(CpuContext& c, const AttentionExtents& e, Plan& p) const {
  if (c.wants(kPresentKey)) p.keys = c.out(kPresentKey).as<float>();
  if (c.wants(kPresentValue)) p.values = c.out(kPresentValue).as<float>();
  if (p.keys) append(c, e, kK, kPastKey, e.dim, p.keys);
  if (p.values) append(c, e, kV, kPastValue, e.v_dim, p.values);
  p.args.k = c.has(kPastKey) ? p.keys : c.in(kK).as<float>();
  p.args.v = c.has(kPastKey) ? p.values : c.in(kV).as<float>();
}

Status Attention::run(CpuContext& c) const {
  if (!is_fast(c)) return run_by_reference(*this, c);
  const AttentionExtents e = extents(c);
  Plan p = plan(c, c.scratch());
  set_cache(c, e, p);
  if (c.out(kY).count() == 0) return {};
  p.args.q = c.in(kQ).as<float>(), p.args.out = c.out(kY).as<float>();
  p.args.kv_lengths = fill_lengths(c, e, p.lengths);
  if (p.bounds) fill_bounds(c, e, p.bounds), p.args.mask = p.bounds;
  nn::run_attention(c, p.args, p.mask.view ? &p.mask : nullptr, p.kernel);
  return {};
}

std::vector<Sample> Attention::samples() {
  std::vector<Sample> out;
  struct Case {
    Shape q, k, v;
    Attributes more = {};
    SampleInput mask = {.omitted = true};
    int64_t past = 0;  // rows of past_key and past_value
    std::vector<double> lengths = {};
    int outputs = 1;
    DType dtype = DType::kFloat;
  };
  const auto add = [&](const Case& k) {
    const bool flat = k.q.size() == 3;
    const int64_t kv_heads = flat ? std::get<int64_t>(k.more.at("kv_num_heads")) : k.k[1];
    const auto past = [&](const Shape& s) { return Shape{s[0], kv_heads, k.past, flat ? s[2] / kv_heads : s[3]}; };
    Sample s;
    for (const Shape& shape : {k.q, k.k, k.v}) s.inputs.push_back({.dtype = k.dtype, .shape = shape, .fill = Fill::kNormal});
    s.inputs.push_back(k.mask);
    for (const Shape& shape : {k.k, k.v})
      s.inputs.push_back({.dtype = k.dtype, .shape = k.past ? past(shape) : Shape(), .fill = Fill::kNormal, .omitted = !k.past});
    if (!k.lengths.empty()) s.inputs.push_back({.dtype = DType::kInt64, .shape = {std::ssize(k.lengths)}, .values = k.lengths});
    s.attributes = k.more;
    s.outputs = k.outputs;
    s.tolerance = bits_of(k.dtype) == 16 ? 8e-3 : 3e-6;
    out.push_back(std::move(s));
  };
  const Shape q4{2, 4, 5, 8}, k4{2, 2, 7, 8}, v4{2, 2, 7, 6}, q3{2, 5, 32}, k3{2, 7, 16}, v3{2, 7, 12}, s4{2, 2, 5, 8};
  const auto bools = [](Shape shape) {
    return SampleInput{.dtype = DType::kBool, .shape = std::move(shape), .fill = Fill::kBools};
  };
  const auto floats = [](Shape shape, Fill fill = Fill::kUniform) {
    return SampleInput{.shape = std::move(shape), .fill = fill};
  };
  const auto one = [](const char* name, int64_t value) { return Attributes{{name, value}}; };
  const Attributes heads{{"q_num_heads", int64_t{4}}, {"kv_num_heads", int64_t{2}}};
  Attributes heads_causal = heads;
  heads_causal["is_causal"] = int64_t{1};

  add({.q = s4, .k = s4, .v = s4});
  add({.q = q4, .k = k4, .v = v4, .outputs = 3});
  add({.q = q3, .k = k3, .v = v3, .more = heads, .outputs = 3});
  add({.q = q3, .k = k3, .v = v3, .more = heads_causal, .past = 3, .outputs = 3});
  add({.q = q3, .k = k3, .v = v3, .more = heads, .past = 3});
  for (const Shape& q : {q4, s4}) {
    const bool square = q == s4;
    const Shape &k = square ? s4 : k4, &v = square ? s4 : v4;
    for (int64_t past : {0, 4}) add({.q = q, .k = k, .v = v, .more = one("is_causal", 1), .past = past, .outputs = past ? 3 : 1});
    add({.q = q, .k = k, .v = v, .more = one("is_causal", 1), .mask = bools({5, k[2]})});
    add({.q = q, .k = k, .v = v, .more = one("is_causal", 1), .mask = floats({5, k[2]})});
    add({.q = q, .k = k, .v = v, .more = one("left_window_size", 2)});
    add({.q = q,
         .k = k,
         .v = v,
         .more = {{"left_window_size", int64_t{1}}, {"right_window_size", int64_t{1}}},
         .mask = floats({5, k[2]})});
    add({.q = q, .k = k, .v = v, .more = one("is_causal", 1), .lengths = {static_cast<double>(k[2]), 2}});
    add({.q = q, .k = k, .v = v, .lengths = {0, 3}});
  }
  add({.q = {2, 4, 1, 8}, .k = k4, .v = v4, .more = one("is_causal", 1), .lengths = {7, 2}});
  for (const Shape& shape :
       {Shape{5, 7}, Shape{4, 5, 7}, Shape{2, 4, 5, 7}, Shape{2, 1, 1, 7}, Shape{1, 1, 5, 7}, Shape{5, 4}, Shape{2, 1, 1, 4}}) {
    add({.q = q4, .k = k4, .v = v4, .mask = bools(shape)});
    add({.q = q4, .k = k4, .v = v4, .mask = floats(shape)});
    add({.q = q4, .k = k4, .v = v4, .mask = floats(shape, Fill::kMinusInf)});
  }
  add({.q = q4, .k = k4, .v = v4, .mask = {.dtype = DType::kBool, .shape = {5, 7}, .fill = Fill::kZeros}});
  for (int64_t mode = 0; mode < 4; ++mode) {
    Attributes more{{"qk_matmul_output_mode", mode}, {"softcap", 2.0f}, {"scale", 0.5f}};
    add({.q = q4, .k = k4, .v = v4, .more = more, .mask = bools({5, 7}), .outputs = 4});
    more.erase("softcap");
    add({.q = q4, .k = k4, .v = v4, .more = more, .mask = floats({5, 9}), .past = 2, .outputs = 4});
  }
  add({.q = {2, 4, 0, 8}, .k = k4, .v = v4});
  add({.q = {0, 4, 5, 8}, .k = {0, 2, 7, 8}, .v = {0, 2, 7, 6}, .outputs = 3});
  add({.q = q4, .k = {2, 2, 0, 8}, .v = {2, 2, 0, 6}});
  for (const DType dtype : {DType::kDouble, DType::kFloat16, DType::kBFloat16})
    add({.q = q4, .k = k4, .v = v4, .outputs = 3, .dtype = dtype});
  add({.q = {1, 12, 128, 64}, .k = {1, 12, 128, 64}, .v = {1, 12, 128, 64}});
  out.back().bench = true;
  return out;
}

OCIOR_OPERATOR(Attention)

}  // namespace ocior::ops
