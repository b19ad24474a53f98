// What the attentions of com.microsoft whose queries, keys and values have as many heads share: attributes, masks of keys, the
// computation.
#pragma once

#include "ops/microsoft/heads.h"
#include "ops/shapes.h"

namespace ocior::ops {

// A mask of keys: the lengths of rows, begins behind them, or a mask of [batch, keys] or [batch, rows, keys].
struct KeyMask {
  std::vector<int64_t> values;
  Shape shape;
  int64_t batch = 0;

  KeyMask() = default;
  KeyMask(const Tensor& t, int64_t of_batch) : values(to_ints(t)), shape(t.shape()), batch(of_batch) {}

  bool hides(int64_t b, int64_t i, int64_t j) const {
    if (values.empty()) return false;
    if (shape.size() == 1) {
      const bool starts = shape[0] == 2 * batch && batch > 0;
      return j >= values[static_cast<size_t>(b)] || (starts && j < values[static_cast<size_t>(batch + b)]);
    }
    const int64_t row = shape.size() == 2 ? b : b * shape[1] + i;
    return values[static_cast<size_t>(row * shape.back() + j)] == 0;
  }

  static Status check(const ShapeContext& c, int input, std::string_view name, const Dims& scores, bool starts) {
    if (!c.has(input)) return {};
    if (c.dtype(input) != DType::kInt32)
      return error(Code::kInvalidGraph, "{} is {}; expected int32", name, name_of(c.dtype(input)));
    if (!c.shape(input)) return {};
    const Dims& s = *c.shape(input);
    const Dim &batch = scores[0], &rows = scores[2], &keys = scores[3];
    if (nn::may_equal(s, Dims{batch}) || nn::may_equal(s, Dims{batch, keys}) || nn::may_equal(s, Dims{batch, rows, keys}))
      return {};
    if (starts && nn::may_equal(s, Dims{batch * Dim(2)})) return {};
    return error(Code::kNotImplemented,
                 "{} of shape {} is not supported; expected [batch], [batch, keys] or [batch, rows, keys] of {}", name,
                 to_string(s), to_string(scores));
  }
};

// The attributes and the computation.
struct MaskedAttention {
  int64_t heads = 1;
  float mask_value = -10000;
  std::optional<float> scale;  // else 1 / sqrt(dim)
  bool causal = false;

  static MaskedAttention parse(const NodeReader& node) {
    MaskedAttention op;
    op.heads = node.required_integer("num_heads");
    if (op.heads < 1 || op.heads > nn::kMostHeads) {
      node.fail("num_heads is {}; expected 1 to {}", op.heads, nn::kMostHeads);
      op.heads = 1;
    }
    op.mask_value = node.number("mask_filter_value", -10000);
    if (const float given = node.number("scale", 0); given != 0) op.scale = given;
    op.causal = node.integer("unidirectional", 0) != 0;
    return op;
  }

  // `past`: keys before the first query's own.
  std::vector<double> compute(const Heads& q, const Heads& k, const Heads& v, const KeyMask& mask, const AddedScores& bias,
                              int64_t past) const {
    const double factor = scale ? static_cast<double>(*scale) : 1 / std::sqrt(static_cast<double>(q.dim));
    return attend(q, k, v, factor, [&](int64_t b, int64_t h, int64_t i, int64_t j, double s) -> double {
      if (causal && j > past + i) return -INFINITY;
      return s + bias.at(b, h, i, j) + (mask.hides(b, i, j) ? static_cast<double>(mask_value) : 0);
    });
  }
};

// The size of each of `heads` heads that `width` elements hold.
inline Result<Dim> head_size(const Dim& width, int64_t heads, std::string_view name) {
  if (width.known() && width.value() % heads != 0)
    return error(Code::kInvalidArgument, "{} has {} elements; expected a multiple of {} heads", name, width.value(), heads);
  return Dim::quotient(width, Dim(heads));
}

}  // namespace ocior::ops
