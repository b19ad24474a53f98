// DecoderMaskedMultiHeadAttention and PackedAttention of com.microsoft: one new query per sequence over a cache or over another
// sequence's keys, and the self attention of sequences that lie behind one another without padding. Computed by the reference.
#include "ops/microsoft/masked_attention.h"
#include "ops/shape_data.h"

namespace ocior::ops {

struct DecoderMaskedMultiHeadAttention : MaskedAttention {
  static constexpr OpInfo info{
      .name = "DecoderMaskedMultiHeadAttention", .domain = kMicrosoft, .max_inputs = 11, .max_outputs = 4};
  enum Input { kQ, kK, kV, kMask, kAdded, kPastKey, kPastValue, kPastLength, kBeams, kIndirection, kBias };

  bool in_place_cache = false;  // the past has room for the longest sequence, and the present is the past with one more row

  static DecoderMaskedMultiHeadAttention parse(const NodeReader& node) {
    if (node.outputs() > 3 || node.integer("output_qk", 0) != 0) node.fail("output 3 (qk) is not supported");
    return {MaskedAttention::parse(node), node.integer("past_present_share_buffer", 0) != 0};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kQ, kK, kV, kAdded, kPastKey, kPastValue, kBias}));
    OCIOR_RETURN_IF_ERROR(refuse_input(c, kBeams, "beam_width"));
    OCIOR_RETURN_IF_ERROR(refuse_input(c, kIndirection, "cache_indirection"));
    for (const int i : {kMask, kPastLength}) OCIOR_RETURN_IF_ERROR(check_type(c, i, type_bit(DType::kInt32), info.name));
    if (c.has(kPastKey) != c.has(kPastValue))
      return error(Code::kInvalidGraph, "past_key and past_value come together or not at all");
    if (c.has(kK) != c.has(kV)) return error(Code::kInvalidGraph, "key and value come together or not at all");
    for (const int i : {kQ, kK, kV, kPastKey, kPastValue})
      if (c.has(i) && !c.shape(i)) {
        for (int o = 0; o < c.outputs(); ++o) c.set(o, c.dtype(kQ), std::nullopt);
        return {};
      }
    const Dims& q = *c.shape(kQ);
    if (q.size() != 3 || !nn::may_equal(q[1], Dim(1)))
      return error(Code::kInvalidArgument, "query has shape {}; expected [batch, 1, hidden]", to_string(q));
    return c.has(kK) && c.shape(kK)->size() == 4 ? infer_cross(c, q) : infer_self(c, q);
  }

  Status reference(RefContext& c) const {
    const std::vector<double> bias = c.has(kBias) ? nn::doubles(c.in(kBias)) : std::vector<double>();
    const bool packed = !c.has(kK), cross = !packed && c.in(kK).rank() == 4;
    const int64_t batch = c.in(kQ).shape()[0], width = packed ? c.in(kQ).shape()[2] / 3 : c.in(kQ).shape()[2];
    // The part of `columns` columns from `first` on of every row, plus the bias from `offset` on.
    const auto take = [&](int input, int64_t first, int64_t columns, int64_t offset) {
      const Tensor& t = c.in(input);
      const int64_t dim = columns / heads, all = t.shape()[2];
      return gather_heads(batch, heads, 1, dim, [&](int64_t b, int64_t, int64_t h, int64_t d) {
        const int64_t column = h * dim + d;
        return get_double(t.dtype(), t.data(), b * all + first + column) +
               (bias.empty() ? 0 : bias[static_cast<size_t>(offset + column)]);
      });
    };
    const Heads q = take(kQ, 0, width, 0);
    Heads k, v;
    if (cross) {
      k = stored(c.in(kK)), v = stored(c.in(kV));
    } else {
      k = packed ? take(kQ, width, width, width) : take(kK, 0, width, width);
      v = packed ? take(kQ, 2 * width, width, 2 * width) : take(kV, 0, c.in(kV).shape()[2], 2 * width);
      if (c.has(kPastKey)) OCIOR_RETURN_IF_ERROR(extend(c, k, v));
    }
    if (c.has(kMask) && c.in(kMask).shape()[1] != k.rows)
      return error(Code::kInvalidArgument, "mask_index is for {} keys, got {}", c.in(kMask).shape()[1], k.rows);
    if (c.has(kAdded) && c.in(kAdded).shape()[3] != k.rows)
      return error(Code::kInvalidArgument, "attention_bias is for {} keys, got {}", c.in(kAdded).shape()[3], k.rows);
    const KeyMask mask = c.has(kMask) ? KeyMask(c.in(kMask), batch) : KeyMask();
    nn::store(c.out(0), compute(q, k, v, mask, c.has(kAdded) ? AddedScores(c.in(kAdded)) : AddedScores(), k.rows - 1));
    for (const int o : {1, 2})
      if (c.wants(o)) present(c, o, o == 1 ? k : v);
    return {};
  }

  static std::vector<Sample> samples() {
    const Attributes plain{{"num_heads", int64_t{2}}};
    const Attributes shared{{"num_heads", int64_t{2}}, {"past_present_share_buffer", int64_t{1}}};
    const SampleInput none{.omitted = true}, row{.shape = {2, 1, 8}}, cache{.shape = {2, 2, 5, 4}};
    const SampleInput length{DType::kInt32, {1}, Fill::kZeros, {3}};
    std::vector<Sample> out;
    out.push_back({.inputs = {row, row, row, none, none, cache, cache, length}, .attributes = shared, .outputs = 3});
    out.push_back({.inputs = {{.shape = {2, 1, 24}}, none, none, none, none, cache, cache}, .attributes = plain, .outputs = 3});
    out.push_back({.inputs = {row, row, {.shape = {2, 1, 12}}}, .attributes = plain, .outputs = 3});
    out.push_back({.inputs = {row, cache, cache, {DType::kInt32, {2, 5}, Fill::kBools}}, .attributes = plain});
    return out;
  }

 private:
  Status infer_cross(ShapeContext& c, const Dims& q) const {
    OCIOR_ASSIGN(const Dim dim, head_size(q[2], heads, "query"));
    const Dims& v = *c.shape(kV);
    if (c.has(kPastKey) || in_place_cache || c.outputs() > 1)
      return error(Code::kNotImplemented, "a cache beside keys and values of four axes (cross attention) is not supported");
    if (v.size() != 4) return error(Code::kInvalidArgument, "value has shape {}; expected four axes as key", to_string(v));
    OCIOR_RETURN_IF_ERROR(check_input(c, kK, "key", {q[0], Dim(heads), v[2], dim}));
    OCIOR_RETURN_IF_ERROR(check_input(c, kV, "value", {q[0], Dim(heads), v[2], v[3]}));
    OCIOR_RETURN_IF_ERROR(check_scores(c, q[0], v[2], (dim * Dim(2) + v[3]) * Dim(heads)));
    c.set(0, c.dtype(kQ), Dims{q[0], Dim(1), v[3] * Dim(heads)});
    return {};
  }

  Status infer_self(ShapeContext& c, const Dims& q) const {
    const bool packed = !c.has(kK);
    if (packed && q[2].known() && q[2].value() % (3 * heads) != 0)
      return error(Code::kInvalidArgument, "a packed query has {} columns; expected a multiple of 3 * {} heads", q[2].value(),
                   heads);
    Dim dim, v_dim;
    if (packed) {
      dim = v_dim = Dim::quotient(q[2], Dim(3 * heads));
    } else {
      OCIOR_ASSIGN(dim, head_size(q[2], heads, "query"));
      OCIOR_RETURN_IF_ERROR(check_input(c, kK, "key", q));
      if (c.shape(kV)->size() != 3)
        return error(Code::kInvalidArgument, "value has shape {}; expected [batch, 1, hidden]", to_string(*c.shape(kV)));
      OCIOR_RETURN_IF_ERROR(check_input(c, kV, "value", {q[0], Dim(1), c.shape(kV)->back()}));
      OCIOR_ASSIGN(v_dim, head_size(c.shape(kV)->back(), heads, "value"));
    }
    Dim past(0);
    if (c.has(kPastKey)) {
      if (c.shape(kPastKey)->size() == 4) past = (*c.shape(kPastKey))[2];
      OCIOR_RETURN_IF_ERROR(check_input(c, kPastKey, "past_key", {q[0], Dim(heads), past, dim}));
      OCIOR_RETURN_IF_ERROR(check_input(c, kPastValue, "past_value", {q[0], Dim(heads), past, v_dim}));
    }
    if (in_place_cache && !(c.has(kPastKey) && c.has(kPastLength)))
      return error(Code::kInvalidGraph, "past_present_share_buffer needs past_key, past_value and past_sequence_length");
    if (past.known() && past.value() >= nn::kMostKeys) return error(Code::kNotImplemented, "{} keys are too many", past.value());
    const Dim total = in_place_cache ? c.fresh("total") : past + Dim(1), kept = in_place_cache ? past : total;
    OCIOR_RETURN_IF_ERROR(check_scores(c, q[0], total, (dim * Dim(2) + v_dim) * Dim(heads)));
    c.set(0, c.dtype(kQ), Dims{q[0], Dim(1), v_dim * Dim(heads)});
    c.set(1, c.dtype(kQ), Dims{q[0], Dim(heads), kept, dim});
    c.set(2, c.dtype(kQ), Dims{q[0], Dim(heads), kept, v_dim});
    return {};
  }

  Status check_scores(const ShapeContext& c, const Dim& batch, const Dim& keys, const Dim& columns) const {
    OCIOR_RETURN_IF_ERROR(check_input(c, kMask, "mask_index", {batch, keys}));
    OCIOR_RETURN_IF_ERROR(AddedScores::check(c, kAdded, {batch, Dim(heads), Dim(1), keys}));
    return check_input(c, kBias, "bias", {columns});
  }

  static Heads stored(const Tensor& t) {
    const Shape& s = t.shape();
    Heads out(s[0], s[1], s[2], s[3]);
    out.values = nn::doubles(t);
    return out;
  }

  // Puts the past rows before k and v.
  Status extend(RefContext& c, Heads& k, Heads& v) const {
    int64_t rows = c.in(kPastKey).shape()[2];
    if (in_place_cache) {
      const Tensor& length = c.in(kPastLength);
      if (length.count() != 1)
        return error(Code::kInvalidArgument, "past_sequence_length has {} elements; expected one", length.count());
      const int64_t used = get_int(length.dtype(), length.data(), 0);
      if (used < 0 || used >= rows)
        return error(Code::kInvalidArgument, "past_sequence_length is {}; expected 0 to {}, the last row of the cache", used,
                     rows - 1);
      rows = used;
    }
    for (const auto& [input, fresh] : {std::pair{kPastKey, &k}, std::pair{kPastValue, &v}}) {
      const Heads past = stored(c.in(input)), one = std::move(*fresh);
      *fresh = gather_heads(one.batch, one.heads, rows + 1, one.dim, [&](int64_t b, int64_t i, int64_t h, int64_t d) {
        return i < rows ? past.row(b, h, i)[d] : one.row(b, h, 0)[d];
      });
    }
    return {};
  }

  void present(RefContext& c, int output, const Heads& all) const {
    if (!in_place_cache) return nn::store(c.out(output), all.values);
    Heads cache = stored(c.in(output == 1 ? kPastKey : kPastValue));
    for (int64_t b = 0; b < cache.batch; ++b)
      for (int64_t h = 0; h < cache.heads; ++h) std::copy_n(all.row(b, h, all.rows - 1), all.dim, cache.row(b, h, all.rows - 1));
    nn::store(c.out(output), cache.values);
  }
};

struct PackedAttention : MaskedAttention {
  static constexpr OpInfo info{.name = "PackedAttention", .domain = kMicrosoft, .min_inputs = 5, .max_inputs = 6};
  enum Input { kX, kW, kBias, kOffsets, kStarts, kAdded };

  Projection projection;

  static PackedAttention parse(const NodeReader& node) {
    PackedAttention op{MaskedAttention::parse(node), {}};
    op.projection = Projection::parse(node, op.heads);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kX, kW, kBias, kAdded}));
    for (const int i : {kOffsets, kStarts}) OCIOR_RETURN_IF_ERROR(check_type(c, i, type_bit(DType::kInt32), info.name));
    if (!c.shape(kX) || !c.shape(kW) || !c.shape(kOffsets)) {
      c.set(0, c.dtype(kX), std::nullopt);
      return {};
    }
    const Dims &x = *c.shape(kX), &w = *c.shape(kW), &offsets = *c.shape(kOffsets);
    if (x.size() != 2 || w.size() != 2 || !nn::may_equal(x[1], w[0]))
      return error(Code::kInvalidArgument, "input {} and weights {} do not fit; expected [tokens, n] and [n, 3 * hidden]",
                   to_string(x), to_string(w));
    OCIOR_ASSIGN(const auto sizes, projection.infer(c, heads));
    if (offsets.size() != 2)
      return error(Code::kInvalidArgument, "token_offset has shape {}; expected [batch, rows]", to_string(offsets));
    OCIOR_RETURN_IF_ERROR(check_input(c, kStarts, "cumulative_sequence_length", {offsets[0] + Dim(1)}));
    OCIOR_RETURN_IF_ERROR(AddedScores::check(c, kAdded, {offsets[0], Dim(heads), offsets[1], offsets[1]}));
    c.set(0, c.dtype(kX), Dims{x[0], sizes.values * Dim(heads)});
    return {};
  }

  Status reference(RefContext& c) const {
    const int64_t tokens = c.in(kX).shape()[0];
    const std::vector<int64_t> starts = to_ints(c.in(kStarts));
    OCIOR_RETURN_IF_ERROR(check_starts(starts, tokens, c.in(kOffsets).shape()[1]));
    std::vector<int64_t> sequence(static_cast<size_t>(tokens));
    for (size_t b = 0; b + 1 < starts.size(); ++b)
      std::fill(sequence.begin() + starts[b], sequence.begin() + starts[b + 1], static_cast<int64_t>(b));
    const auto [q, k, v] = projection.compute(c, heads, 1, tokens);
    const AddedScores added = c.has(kAdded) ? AddedScores(c.in(kAdded)) : AddedScores();
    const double factor = scale ? static_cast<double>(*scale) : 1 / std::sqrt(static_cast<double>(q.dim));
    nn::store(c.out(0), attend(q, k, v, factor, [&](int64_t, int64_t h, int64_t i, int64_t j, double s) -> double {
                const int64_t b = sequence[static_cast<size_t>(i)], start = starts[static_cast<size_t>(b)];
                return b == sequence[static_cast<size_t>(j)] ? s + added.at(b, h, i - start, j - start) : -INFINITY;
              }));
    return {};
  }

  static std::vector<Sample> samples() {
    const SampleInput offsets{DType::kInt32, {3, 4}, Fill::kZeros, {0, 4, 5, 8, 9, 10, 11, 1, 2, 3, 6, 7}},
        starts{DType::kInt32, {4}, Fill::kZeros, {0, 1, 3, 7}};
    std::vector<Sample> out;
    out.push_back({.inputs = {{.shape = {7, 5}}, {.shape = {5, 24}}, {.shape = {24}}, offsets, starts},
                   .attributes = {{"num_heads", int64_t{2}}}});
    out.push_back({.inputs = {{.shape = {7, 5}}, {.shape = {5, 28}}, {.shape = {28}}, offsets, starts, {.shape = {1, 2, 4, 4}}},
                   .attributes = {{"num_heads", int64_t{2}}, {"qkv_hidden_sizes", std::vector<int64_t>{8, 8, 12}}}});
    return out;
  }

 private:
  static Status check_starts(const std::vector<int64_t>& starts, int64_t tokens, int64_t most) {
    bool good = starts.front() == 0 && starts.back() == tokens;
    for (size_t i = 1; i < starts.size(); ++i) good = good && starts[i] >= starts[i - 1] && starts[i] - starts[i - 1] <= most;
    if (good) return {};
    return error(Code::kInvalidArgument,
                 "cumulative_sequence_length is [{}]; expected it to grow from 0 to {} tokens by at most {} for each sequence",
                 fmt::join(starts, ", "), tokens, most);
  }
};

OCIOR_OPERATOR(DecoderMaskedMultiHeadAttention)
OCIOR_OPERATOR(PackedAttention)

}  // namespace ocior::ops
