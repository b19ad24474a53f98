// MultiHeadAttention and Attention of com.microsoft: self and cross attention of whole heads with masks, a bias and a cache. The
// first takes queries, keys and values (apart or packed), the second projects them itself. Computed by the reference.
#include "ops/microsoft/masked_attention.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct MultiHeadAttention : MaskedAttention {
  static constexpr OpInfo info{.name = "MultiHeadAttention", .domain = kMicrosoft, .max_inputs = 10, .max_outputs = 4};
  enum Input { kQ, kK, kV, kBias, kMask, kAdded, kPastKey, kPastValue, kPastLength, kIndirection };

  static MultiHeadAttention parse(const NodeReader& node) {
    if (node.outputs() > 3) node.fail("output 3 (qk) is not supported");
    return {MaskedAttention::parse(node)};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kQ, kK, kV, kBias, kAdded, kPastKey, kPastValue}));
    OCIOR_RETURN_IF_ERROR(refuse_input(c, kPastLength, "past_sequence_length"));
    OCIOR_RETURN_IF_ERROR(refuse_input(c, kIndirection, "cache_indirection"));
    if (c.has(kPastKey) != c.has(kPastValue))
      return error(Code::kInvalidGraph, "past_key and past_value come together or not at all");
    for (const int i : {kQ, kK, kV, kPastKey, kPastValue})
      if (c.has(i) && !c.shape(i)) {
        for (int o = 0; o < c.outputs(); ++o) c.set(o, c.dtype(kQ), std::nullopt);
        return {};
      }
    OCIOR_ASSIGN(const Form f, form(c));
    const Dims scores{f.batch, Dim(heads), f.rows, f.past + f.keys};
    if (scores[3].known() && scores[3].value() > nn::kMostKeys)
      return error(Code::kNotImplemented, "{} keys are too many", scores[3].value());
    OCIOR_RETURN_IF_ERROR(KeyMask::check(c, kMask, "key_padding_mask", scores, false));
    OCIOR_RETURN_IF_ERROR(AddedScores::check(c, kAdded, scores));
    OCIOR_RETURN_IF_ERROR(check_input(c, kBias, "bias", {(f.dim * Dim(2) + f.v_dim) * Dim(heads)}));
    OCIOR_RETURN_IF_ERROR(check_input(c, kPastKey, "past_key", {f.batch, Dim(heads), f.past, f.dim}));
    OCIOR_RETURN_IF_ERROR(check_input(c, kPastValue, "past_value", {f.batch, Dim(heads), f.past, f.v_dim}));
    c.set(0, c.dtype(kQ), Dims{f.batch, f.rows, f.v_dim * Dim(heads)});
    c.set(1, c.dtype(kQ), Dims{f.batch, Dim(heads), scores[3], f.dim});
    c.set(2, c.dtype(kQ), Dims{f.batch, Dim(heads), scores[3], f.v_dim});
    return {};
  }

  Status reference(RefContext& c) const {
    const std::vector<double> bias = c.has(kBias) ? nn::doubles(c.in(kBias)) : std::vector<double>();
    const bool packed = !c.has(kK), packed_kv = c.has(kK) && !c.has(kV);
    const int64_t width = packed ? 0 : c.in(kQ).shape()[2];
    // One of q, k and v from the input that holds it; `part` of `parts` in a packed one.
    const auto take = [&](int input, int64_t part, int64_t parts, int64_t offset) {
      const Tensor& t = c.in(input);
      const Shape& s = t.shape();
      const std::vector<double> x = nn::doubles(t);
      if (s.size() == 4)
        return gather_heads(s[0], s[1], s[2], s[3], [&](int64_t b, int64_t i, int64_t h, int64_t d) {
          return x[static_cast<size_t>(((b * s[1] + h) * s[2] + i) * s[3] + d)];
        });
      const int64_t dim = s.size() == 5 ? s[4] : s[2] / heads;
      return gather_heads(s[0], heads, s[1], dim, [&](int64_t b, int64_t i, int64_t h, int64_t d) {
        const int64_t head = (b * s[1] + i) * heads + h;
        const double added = bias.empty() ? 0 : bias[static_cast<size_t>(offset + h * dim + d)];
        return x[static_cast<size_t>((s.size() == 5 ? head * parts + part : head) * dim + d)] + added;
      });
    };
    const Heads q = take(kQ, 0, 3, 0);
    const Heads fresh_k = packed ? take(kQ, 1, 3, 0) : packed_kv ? take(kK, 0, 2, 0) : take(kK, 0, 1, width);
    const Heads fresh_v = packed ? take(kQ, 2, 3, 0) : packed_kv ? take(kK, 1, 2, 0) : take(kV, 0, 1, 2 * width);
    const Heads k = joined(c.has(kPastKey) ? take(kPastKey, 0, 1, 0) : Heads(), fresh_k);
    const Heads v = joined(c.has(kPastValue) ? take(kPastValue, 0, 1, 0) : Heads(), fresh_v);
    const KeyMask mask = c.has(kMask) ? KeyMask(c.in(kMask), q.batch) : KeyMask();
    const AddedScores added = c.has(kAdded) ? AddedScores(c.in(kAdded)) : AddedScores();
    nn::store(c.out(0), compute(q, k, v, mask, added, k.rows - fresh_k.rows));
    if (c.wants(1)) nn::store(c.out(1), k.values);
    if (c.wants(2)) nn::store(c.out(2), v.values);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const Attributes heads{{"num_heads", int64_t{2}}};
    out.push_back({.inputs = {{.shape = {2, 3, 8}}, {.shape = {2, 5, 8}}, {.shape = {2, 5, 12}}, {.shape = {28}}},
                   .attributes = heads,
                   .outputs = 3});
    out.push_back(
        {.inputs = {{.shape = {2, 3, 2, 3, 4}}}, .attributes = {{"num_heads", int64_t{2}}, {"unidirectional", int64_t{1}}}});
    out.push_back({.inputs = {{.shape = {2, 3, 8}}, {.shape = {2, 5, 2, 2, 4}}}, .attributes = heads});
    out.push_back({.inputs = {{.shape = {2, 3, 8}}, {.shape = {2, 2, 5, 4}}, {.shape = {2, 2, 5, 4}}}, .attributes = heads});
    return out;
  }

 private:
  struct Form {
    Dim batch, rows, dim, keys, v_dim, past;
  };

  Result<Form> form(const ShapeContext& c) const {
    const Dims& q = *c.shape(kQ);
    const Dim past = c.has(kPastKey) && c.shape(kPastKey)->size() == 4 ? (*c.shape(kPastKey))[2] : Dim(0);
    if (q.size() == 5 && !c.has(kK) && !c.has(kV) && !c.has(kBias) && nn::may_equal(Dims{q[2], q[3]}, Dims{Dim(heads), Dim(3)}))
      return Form{q[0], q[1], q[4], q[1], q[4], past};
    if (q.size() != 3 || !c.has(kK)) return unknown_form(c);
    OCIOR_ASSIGN(const Dim dim, head_size(q[2], heads, "query"));
    const Dims& k = *c.shape(kK);
    if (k.size() == 5 && !c.has(kV) && !c.has(kBias) &&
        nn::may_equal(Dims{k[0], k[2], k[3], k[4]}, Dims{q[0], Dim(heads), Dim(2), dim}))
      return Form{q[0], q[1], dim, k[1], dim, past};
    if (!c.has(kV)) return unknown_form(c);
    const Dims& v = *c.shape(kV);
    if (k.size() == 4 && v.size() == 4 && !c.has(kPastKey) && !c.has(kBias) &&
        nn::may_equal(Dims{k[0], k[1], k[3], v[0], v[1], v[2]}, Dims{q[0], Dim(heads), dim, k[0], k[1], k[2]}))
      return Form{q[0], q[1], dim, k[2], v[3], Dim(0)};
    if (k.size() != 3 || v.size() != 3 || !nn::may_equal(Dims{k[0], k[2], v[0], v[1]}, Dims{q[0], q[2], k[0], k[1]}))
      return unknown_form(c);
    OCIOR_ASSIGN(const Dim v_dim, head_size(v[2], heads, "value"));
    return Form{q[0], q[1], dim, k[1], v_dim, past};
  }

  Status unknown_form(const ShapeContext& c) const {
    const auto text = [&](int i) { return c.has(i) ? to_string(*c.shape(i)) : std::string("none"); };
    return error(
        Code::kNotImplemented,
        "query {}, key {} and value {} with {} heads{} are no supported form; expected three axes each, packed queries, keys "
        "and values of five, or keys and values of four, the last two forms without bias",
        text(kQ), text(kK), text(kV), heads, c.has(kBias) ? " and a bias" : "");
  }
};

struct MicrosoftAttention : MaskedAttention {
  static constexpr OpInfo info{.name = "Attention", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 7, .max_outputs = 2};
  enum Input { kX, kW, kBias, kMask, kPast, kAdded, kPastLength };

  Projection projection;

  static MicrosoftAttention parse(const NodeReader& node) {
    MicrosoftAttention op{MaskedAttention::parse(node), {}};
    op.projection = Projection::parse(node, op.heads);
    for (const char* name : {"do_rotary", "past_present_share_buffer", "rotary_embedding_dim"})
      if (node.integer(name, 0) != 0) node.fail("{} is not supported", name);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kX, kW, kBias, kPast, kAdded}));
    OCIOR_RETURN_IF_ERROR(refuse_input(c, kPastLength, "past_sequence_length"));
    if (!c.shape(kX) || !c.shape(kW) || (c.has(kPast) && !c.shape(kPast))) {
      for (int o = 0; o < c.outputs(); ++o) c.set(o, c.dtype(kX), std::nullopt);
      return {};
    }
    const Dims &x = *c.shape(kX), &w = *c.shape(kW);
    if (x.size() != 3 || w.size() != 2 || !nn::may_equal(x[2], w[0]))
      return error(Code::kInvalidArgument, "input {} and weights {} do not fit; expected [batch, rows, n] and [n, 3 * hidden]",
                   to_string(x), to_string(w));
    OCIOR_ASSIGN(const auto sizes, projection.infer(c, heads));
    const auto& [dim, v_dim] = sizes;
    Dim past(0);
    if (c.has(kPast) || c.outputs() > 1) {
      if (!nn::may_equal(dim, v_dim))
        return error(Code::kInvalidArgument, "a cache needs keys and values of one size, got {} and {}", dim.text(),
                     v_dim.text());
    }
    if (c.has(kPast)) {
      if (c.shape(kPast)->size() == 5) past = (*c.shape(kPast))[3];
      OCIOR_RETURN_IF_ERROR(check_input(c, kPast, "past", {Dim(2), x[0], Dim(heads), past, dim}));
    }
    const Dims scores{x[0], Dim(heads), x[1], past + x[1]};
    if (scores[3].known() && scores[3].value() > nn::kMostKeys)
      return error(Code::kNotImplemented, "{} keys are too many", scores[3].value());
    OCIOR_RETURN_IF_ERROR(KeyMask::check(c, kMask, "mask_index", scores, true));
    OCIOR_RETURN_IF_ERROR(AddedScores::check(c, kAdded, scores));
    c.set(0, c.dtype(kX), Dims{x[0], x[1], v_dim * Dim(heads)});
    c.set(1, c.dtype(kX), Dims{Dim(2), x[0], Dim(heads), scores[3], dim});
    return {};
  }

  Status reference(RefContext& c) const {
    const Shape& s = c.in(kX).shape();
    const auto [q, new_k, new_v] = projection.compute(c, heads, s[0], s[1]);
    const auto cached = [&](int64_t part, const Heads& fresh) {
      if (!c.has(kPast)) return fresh;
      const Tensor& t = c.in(kPast);
      const Shape& p = t.shape();
      const Heads past = gather_heads(p[1], p[2], p[3], p[4], [&](int64_t b, int64_t i, int64_t h, int64_t d) {
        return get_double(t.dtype(), t.data(), (((part * p[1] + b) * p[2] + h) * p[3] + i) * p[4] + d);
      });
      return joined(past, fresh);
    };
    const Heads k = cached(0, new_k), v = cached(1, new_v);
    const KeyMask mask = c.has(kMask) ? KeyMask(c.in(kMask), q.batch) : KeyMask();
    const AddedScores added = c.has(kAdded) ? AddedScores(c.in(kAdded)) : AddedScores();
    nn::store(c.out(0), compute(q, k, v, mask, added, k.rows - q.rows));
    if (c.wants(1)) {
      std::vector<double> present = k.values;
      present.insert(present.end(), v.values.begin(), v.values.end());
      nn::store(c.out(1), present);
    }
    return {};
  }

  static std::vector<Sample> samples() {
    const Attributes heads{{"num_heads", int64_t{2}}};
    std::vector<Sample> out;
    out.push_back({.inputs = {{.shape = {2, 3, 5}}, {.shape = {5, 24}}, {.shape = {24}}}, .attributes = heads, .outputs = 2});
    out.push_back({.inputs = {{.shape = {2, 3, 5}}, {.shape = {5, 28}}},
                   .attributes = {{"num_heads", int64_t{2}}, {"qkv_hidden_sizes", std::vector<int64_t>{8, 8, 12}}}});
    return out;
  }
};

OCIOR_OPERATOR(MicrosoftAttention)
OCIOR_OPERATOR(MultiHeadAttention)

}  // namespace ocior::ops
