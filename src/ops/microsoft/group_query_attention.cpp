// GroupQueryAttention of com.microsoft: causal attention whose key heads serve several query heads, with a cache that the new
// keys are written into behind the valid ones of each row, and rotation by position. Computed by the reference.
#include "ops/microsoft/heads.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct GroupQueryAttention {
  static constexpr OpInfo info{
      .name = "GroupQueryAttention", .domain = kMicrosoft, .min_inputs = 1, .max_inputs = 16, .max_outputs = 4};
  enum Input { kQ, kK, kV, kPastKey, kPastValue, kLengths, kTotal, kCosines, kSines, kPositions, kAdded };

  int64_t heads = 1, kv_heads = 1, window = -1;
  std::optional<float> scale;  // else 1 / sqrt(dim)
  float softcap = 0;
  bool rotary = false, interleaved = false;

  static GroupQueryAttention parse(const NodeReader& node) {
    GroupQueryAttention op{node.required_integer("num_heads"), node.required_integer("kv_num_heads"),
                           node.integer("local_window_size", -1)};
    if (op.heads < 1 || op.kv_heads < 1 || op.heads > nn::kMostHeads || op.heads % op.kv_heads != 0) {
      node.fail("num_heads is {} and kv_num_heads is {}; expected a positive multiple of a positive number", op.heads,
                op.kv_heads);
      op.heads = op.kv_heads = 1;
    }
    if (const float given = node.number("scale", 0); given != 0) op.scale = given;
    op.softcap = node.number("softcap", 0);
    op.rotary = node.integer("do_rotary", 0) != 0, op.interleaved = node.integer("rotary_interleaved", 0) != 0;
    for (const auto& [name, plain] : {std::pair{"smooth_softmax", 0},
                                      {"qk_output", 0},
                                      {"sliding_window_cache", 0},
                                      {"causal", 1},
                                      {"kv_cache_bit_width", 0}})
      if (const int64_t given = node.integer(name, plain); given != plain && !(given < 0 && plain == 0))
        node.fail("{} = {} is not supported", name, given);
    for (const char* name : {"k_quant_type", "v_quant_type"})
      if (const std::string given = node.text(name, "NONE"); given != "NONE") node.fail("{} '{}' is not supported", name, given);
    node.ignore("qk_norm_epsilon");  // of inputs that infer() refuses
    if (node.outputs() > 3) node.fail("output 3 (output_qk) is not supported");
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kQ, kK, kV, kPastKey, kPastValue, kCosines, kSines, kAdded}));
    OCIOR_RETURN_IF_ERROR(refuse_input(c, kPositions, "position_ids"));
    for (int i = kAdded + 1; i < c.inputs(); ++i)
      OCIOR_RETURN_IF_ERROR(refuse_input(c, i, "head_sink, a scale or a norm weight"));
    for (const int i : {kLengths, kTotal})
      if (!c.has(i) || c.dtype(i) != DType::kInt32)
        return error(Code::kInvalidGraph, "seqlens_k and total_sequence_length are required as int32");
    if (c.has(kK) != c.has(kV) || c.has(kPastKey) != c.has(kPastValue))
      return error(Code::kInvalidGraph, "keys and values come together or not at all, in the cache too");
    if (rotary && (!c.has(kCosines) || !c.has(kSines)))
      return error(Code::kInvalidGraph, "do_rotary needs cos_cache and sin_cache");
    for (const int i : {kQ, kK, kPastKey, kCosines, kLengths})
      if (c.has(i) && !c.shape(i)) {
        for (int o = 0; o < c.outputs(); ++o) c.set(o, c.dtype(kQ), std::nullopt);
        return {};
      }
    const Dims& q = *c.shape(kQ);
    if (q.size() != 3) return error(Code::kInvalidGraph, "query has shape {}; expected three axes", to_string(q));
    const int64_t parts = c.has(kK) ? heads : heads + 2 * kv_heads;
    if (q[2].known() && (q[2].value() < parts || q[2].value() % parts != 0))
      return error(Code::kInvalidArgument, "query has {} elements in a row; expected a multiple of {} heads", q[2].value(),
                   parts);
    const Dim dim = Dim::quotient(q[2], Dim(parts));
    for (const int i : {kK, kV}) OCIOR_RETURN_IF_ERROR(check_input(c, i, "key or value", {q[0], q[1], dim * Dim(kv_heads)}));
    Dim past(0);
    if (c.has(kPastKey) && c.shape(kPastKey)->size() == 4) past = (*c.shape(kPastKey))[2];
    for (const int i : {kPastKey, kPastValue})
      OCIOR_RETURN_IF_ERROR(check_input(c, i, "past_key or past_value", {q[0], Dim(kv_heads), past, dim}));
    const Dims& lengths = *c.shape(kLengths);
    if (!nn::may_equal(lengths, Dims{q[0]}) && !nn::may_equal(lengths, Dims{q[0], Dim(1)}))
      return error(Code::kInvalidArgument, "seqlens_k has shape {}; expected [{}]", to_string(lengths), q[0].text());
    if (c.shape(kTotal))
      for (const Dim& d : *c.shape(kTotal))
        if (!nn::may_equal(d, Dim(1)))
          return error(Code::kInvalidArgument, "total_sequence_length has shape {}; expected one element",
                       to_string(*c.shape(kTotal)));
    if (rotary) {
      const Dims& cosines = *c.shape(kCosines);
      if (cosines.size() != 2 || (cosines[1].known() && dim.known() && cosines[1].value() > dim.value() / 2))
        return error(Code::kInvalidArgument, "cos_cache has shape {}; expected two axes, the last at most half of {}",
                     to_string(cosines), dim.text());
      OCIOR_RETURN_IF_ERROR(check_input(c, kSines, "sin_cache", cosines));
    }
    Dim keys = c.fresh("gqa_keys"), total = c.fresh("gqa_total");
    if (const Tensor* t = c.constant(kTotal); t && t->count() == 1) {
      total = Dim(get_int(DType::kInt32, t->data(), 0));
      OCIOR_RETURN_IF_ERROR(check_total(total.value(), q[1]));
      if (past.known()) keys = Dim(std::max(past.value(), total.value()));
    }
    if (c.has(kAdded)) OCIOR_RETURN_IF_ERROR(AddedScores::check(c, kAdded, {q[0], Dim(heads), q[1], total}));
    c.set(0, c.dtype(kQ), Dims{q[0], q[1], dim * Dim(heads)});
    for (const int i : {1, 2}) c.set(i, c.dtype(kQ), Dims{q[0], Dim(kv_heads), keys, dim});
    return {};
  }

  Status reference(RefContext& c) const {
    const Shape& s = c.in(kQ).shape();
    const bool packed = !c.has(kK);
    const int64_t batch = s[0], rows = s[1], dim = s[2] / (packed ? heads + 2 * kv_heads : heads);
    if (c.in(kTotal).count() != 1) return error(Code::kInvalidArgument, "total_sequence_length has no value");
    const int64_t total = get_int(DType::kInt32, c.in(kTotal).data(), 0);
    OCIOR_RETURN_IF_ERROR(check_total(total, Dim(rows)));
    const int64_t past = c.has(kPastKey) ? c.in(kPastKey).shape()[2] : 0, capacity = std::max(past, total);
    if (total > past + rows)
      return error(Code::kInvalidArgument, "total_sequence_length is {}; expected at most {} cached keys and {} new ones", total,
                   past, rows);
    std::vector<int64_t> before;  // valid keys of each row that came earlier
    for (const int64_t last : to_ints(c.in(kLengths))) {
      const int64_t earlier = rows == total ? 0 : last + 1 - rows;
      if (last < 0 || last >= total || earlier < 0 || earlier > past || earlier + rows > capacity)
        return error(Code::kInvalidArgument, "seqlens_k has {}; expected {} to {}", last, rows == total ? 0 : rows - 1,
                     total - 1);
      before.push_back(earlier);
    }
    const auto take = [&](int input, int64_t count, int64_t first, int64_t width) {
      const std::vector<double> x = nn::doubles(c.in(input));
      return gather_heads(batch, count, rows, dim, [&](int64_t b, int64_t i, int64_t h, int64_t d) {
        return x[static_cast<size_t>(((b * rows + i) * width + first + h) * dim + d)];
      });
    };
    const int64_t width = heads + 2 * kv_heads;
    Heads q = packed ? take(kQ, heads, 0, width) : take(kQ, heads, 0, heads);
    Heads k = packed ? take(kQ, kv_heads, heads, width) : take(kK, kv_heads, 0, kv_heads);
    const Heads v = packed ? take(kQ, kv_heads, heads + kv_heads, width) : take(kV, kv_heads, 0, kv_heads);
    if (rotary) {
      OCIOR_RETURN_IF_ERROR(rotate(c, q, before));
      OCIOR_RETURN_IF_ERROR(rotate(c, k, before));
    }
    const Heads keys = cached(c, kPastKey, k, before, capacity), values = cached(c, kPastValue, v, before, capacity);
    const AddedScores added = c.has(kAdded) ? AddedScores(c.in(kAdded)) : AddedScores();
    if (!added.values.empty() && (added.rows != rows || added.keys != total))
      return error(Code::kInvalidArgument, "attention_bias has {} rows of {} keys; expected {} of {}", added.rows, added.keys,
                   rows, total);
    const double factor = scale ? static_cast<double>(*scale) : 1 / std::sqrt(static_cast<double>(dim));
    const double cap = softcap;
    nn::store(c.out(0), attend(q, keys, values, factor, [&](int64_t b, int64_t h, int64_t i, int64_t j, double score) -> double {
                const int64_t position = before[static_cast<size_t>(b)] + i;
                if (j > position || (window >= 0 && position - j >= window)) return -INFINITY;
                if (cap > 0) score = cap * std::tanh(score / cap);
                return score + (j < added.keys ? added.at(b, h, i, j) : 0);
              }));
    for (const auto& [output, present] : {std::pair{1, &keys}, std::pair{2, &values}}) {
      if (!c.wants(output)) continue;
      OCIOR_RETURN_IF_ERROR(c.allocate(output, c.in(kQ).dtype(), {batch, kv_heads, capacity, dim}));
      nn::store(c.out(output), present->values);
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const Attributes heads{{"num_heads", int64_t{4}}, {"kv_num_heads", int64_t{2}}};
    Attributes rotating = heads;
    rotating["do_rotary"] = int64_t{1};
    const auto ints = [](Shape shape, std::vector<double> values) {
      return SampleInput{.dtype = DType::kInt32, .shape = std::move(shape), .values = std::move(values)};
    };
    out.push_back({.inputs = {{.shape = {2, 3, 32}},
                              {.shape = {2, 3, 16}},
                              {.shape = {2, 3, 16}},
                              {.omitted = true},
                              {.omitted = true},
                              ints({2}, {2, 2}),
                              ints({}, {3})},
                   .attributes = heads,
                   .outputs = 3});
    out.push_back({.inputs = {{.shape = {2, 1, 64}},
                              {.omitted = true},
                              {.omitted = true},
                              {.shape = {2, 2, 5, 8}},
                              {.shape = {2, 2, 5, 8}},
                              ints({2}, {5, 3}),
                              ints({1}, {6}),
                              {.shape = {10, 4}},
                              {.shape = {10, 4}}},
                   .attributes = rotating,
                   .outputs = 3});
    return out;
  }

 private:
  static Status check_total(int64_t total, const Dim& rows) {
    if (total >= 0 && (!rows.known() || total >= rows.value())) return {};
    return error(Code::kInvalidArgument, "total_sequence_length is {}; expected at least the {} new ones", total, rows.text());
  }

  // Turns every row by its position: the valid keys before it.
  Status rotate(const RefContext& c, Heads& x, const std::vector<int64_t>& before) const {
    const std::vector<double> cosines = nn::doubles(c.in(kCosines)), sines = nn::doubles(c.in(kSines));
    const int64_t positions = c.in(kCosines).shape()[0], half = c.in(kCosines).shape()[1];
    for (int64_t b = 0; b < x.batch; ++b) {
      const int64_t first = before[static_cast<size_t>(b)];
      if (first + x.rows > positions)
        return error(Code::kInvalidArgument, "positions up to {} are outside the caches, which hold {}", first + x.rows - 1,
                     positions);
      for (int64_t h = 0; h < x.heads; ++h)
        for (int64_t i = 0; i < x.rows; ++i)
          rotate_pairs(x.row(b, h, i), cosines.data() + (first + i) * half, sines.data() + (first + i) * half, half, interleaved);
    }
    return {};
  }

  // The cache with the new rows written behind the valid ones; what was never written is 0.
  static Heads cached(const RefContext& c, int input, const Heads& fresh, const std::vector<int64_t>& before, int64_t capacity) {
    const std::vector<double> past = c.has(input) ? nn::doubles(c.in(input)) : std::vector<double>();
    const int64_t rows = c.has(input) ? c.in(input).shape()[2] : 0;
    return gather_heads(fresh.batch, fresh.heads, capacity, fresh.dim, [&](int64_t b, int64_t i, int64_t h, int64_t d) {
      const int64_t first = before[static_cast<size_t>(b)];
      if (i >= first && i < first + fresh.rows) return fresh.row(b, h, i - first)[d];
      return i < rows ? past[static_cast<size_t>(((b * fresh.heads + h) * rows + i) * fresh.dim + d)] : 0;
    });
  }
};

OCIOR_OPERATOR(GroupQueryAttention)

}  // namespace ocior::ops
