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

// Queries, keys and values by one product of rows (input 0, of n elements) with weights [n, columns of all three] (input 1) and a
// bias (input 2, which may be omitted).
struct Projection {
  std::vector<int64_t> widths;  // of all queries, keys and values; empty: a third each

  static Projection parse(const NodeReader& node, int64_t heads) {
    Projection op{node.integers("qkv_hidden_sizes")};
    if (op.widths.empty()) return op;
    bool good = op.widths.size() == 3 && op.widths[0] == op.widths[1];
    for (const int64_t w : op.widths) good = good && w > 0 && w <= INT32_MAX && w % heads == 0;
    if (!good)
      node.fail("qkv_hidden_sizes is [{}]; expected three multiples of {} heads, the first two alike", fmt::join(op.widths, ", "),
                heads);
    return op;
  }

  // Of one head.
  struct Sizes {
    Dim keys, values;
  };
  // Checks weights of two axes, and the bias, with ranked rows.
  Result<Sizes> infer(const ShapeContext& c, int64_t heads) const {
    const Dims &x = *c.shape(0), &w = *c.shape(1);
    if (widths.empty() && w[1].known() && w[1].value() % (3 * heads) != 0)
      return error(Code::kInvalidArgument, "the weights have {} columns; expected a multiple of 3 * {} heads", w[1].value(),
                   heads);
    const Dim keys = widths.empty() ? Dim::quotient(w[1], Dim(3 * heads)) : Dim(widths[0] / heads);
    const Dim values = widths.empty() ? keys : Dim(widths[2] / heads);
    OCIOR_RETURN_IF_ERROR(check_input(c, 1, "weights", {x.back(), (keys * Dim(2) + values) * Dim(heads)}));
    OCIOR_RETURN_IF_ERROR(check_input(c, 2, "bias", {w[1]}));
    return Sizes{keys, values};
  }

  struct Parts {
    Heads q, k, v;
  };
  Parts compute(RefContext& c, int64_t heads, int64_t batch, int64_t rows) const {
    const std::vector<double> x = nn::doubles(c.in(0)), w = nn::doubles(c.in(1)),
                              bias = c.has(2) ? nn::doubles(c.in(2)) : std::vector<double>();
    const int64_t n = c.in(0).shape().back(), columns = c.in(1).shape()[1], width = widths.empty() ? columns / 3 : widths[0];
    const auto part = [&](int64_t first, int64_t dim) {
      return gather_heads(batch, heads, rows, dim, [&](int64_t b, int64_t i, int64_t h, int64_t d) {
        const int64_t column = first + h * dim + d;
        double sum = bias.empty() ? 0 : bias[static_cast<size_t>(column)];
        for (int64_t p = 0; p < n; ++p)
          sum += x[static_cast<size_t>((b * rows + i) * n + p)] * w[static_cast<size_t>(p * columns + column)];
        return sum;
      });
    };
    return {part(0, width / heads), part(width, width / heads), part(2 * width, (columns - 2 * width) / heads)};
  }
};

}  // namespace ocior::ops
