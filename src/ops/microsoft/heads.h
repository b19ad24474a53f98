// What the attentions of com.microsoft share: queries, keys and values as heads in double, and the softmax of their products.
#pragma once

#include <cmath>

#include "ops/microsoft/microsoft.h"

namespace ocior::ops {

// [batch, heads, rows, dim].
struct Heads {
  int64_t batch = 0, heads = 0, rows = 0, dim = 0;
  std::vector<double> values;

  Heads() = default;
  Heads(int64_t b, int64_t n, int64_t r, int64_t d)
      : batch(b), heads(n), rows(r), dim(d), values(static_cast<size_t>(b * n * r * d)) {}

  double* row(int64_t b, int64_t h, int64_t i) { return values.data() + ((b * heads + h) * rows + i) * dim; }
  const double* row(int64_t b, int64_t h, int64_t i) const { return values.data() + ((b * heads + h) * rows + i) * dim; }
};

// Heads from element (b, row, head, d) = at(b, row, head, d).
template <class At>
Heads gather_heads(int64_t batch, int64_t heads, int64_t rows, int64_t dim, At&& at) {
  Heads out(batch, heads, rows, dim);
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t d = 0; d < dim; ++d) out.row(b, h, i)[d] = at(b, i, h, d);
  return out;
}

// The first `before` rows of `past`, and then those of `fresh`; `past` may be empty.
inline Heads joined(const Heads& past, const Heads& fresh) {
  if (past.values.empty()) return fresh;
  return gather_heads(fresh.batch, fresh.heads, past.rows + fresh.rows, fresh.dim,
                      [&](int64_t b, int64_t i, int64_t h, int64_t d) {
                        return i < past.rows ? past.row(b, h, i)[d] : fresh.row(b, h, i - past.rows)[d];
                      });
}

// softmax(change(b, h, i, j, scale * q k)) v as [batch, rows, heads * dim]. A row of nothing but -inf gives 0.
template <class Change>
std::vector<double> attend(const Heads& q, const Heads& k, const Heads& v, double scale, Change&& change) {
  std::vector<double> y(static_cast<size_t>(q.batch * q.rows * q.heads * v.dim)), p(static_cast<size_t>(k.rows));
  for (int64_t b = 0; b < q.batch; ++b)
    for (int64_t h = 0; h < q.heads; ++h)
      for (int64_t i = 0; i < q.rows; ++i) {
        const int64_t g = h / (q.heads / k.heads);
        double max = -INFINITY, sum = 0;
        for (int64_t j = 0; j < k.rows; ++j) {
          double s = 0;
          for (int64_t d = 0; d < q.dim; ++d) s += q.row(b, h, i)[d] * k.row(b, g, j)[d];
          s = change(b, h, i, j, s * scale);
          max = s > max || std::isnan(s) ? s : max;
          p[static_cast<size_t>(j)] = s;
        }
        if (max == -INFINITY) continue;
        for (double& s : p) sum += s = std::exp(s - max);
        double* const out = y.data() + ((b * q.rows + i) * q.heads + h) * v.dim;
        for (int64_t j = 0; j < k.rows; ++j)
          for (int64_t d = 0; d < v.dim && p[static_cast<size_t>(j)] != 0; ++d)
            out[d] += p[static_cast<size_t>(j)] / sum * v.row(b, g, j)[d];
      }
  return y;
}

// Turns pairs of the first 2 * half elements of x by the angles of one position.
inline void rotate_pairs(double* x, const double* cosines, const double* sines, int64_t half, bool interleaved) {
  for (int64_t j = 0; j < half; ++j) {
    double &a = x[interleaved ? 2 * j : j], &b = x[interleaved ? 2 * j + 1 : j + half];
    const double first = a * cosines[j] - b * sines[j];
    b = b * cosines[j] + a * sines[j];
    a = first;
  }
}

// What an attention bias of shape [batch or 1, heads or 1, rows, keys] adds.
struct AddedScores {
  std::vector<double> values;
  int64_t batch = 1, heads = 1, rows = 0, keys = 0;

  AddedScores() = default;
  explicit AddedScores(const Tensor& t)
      : values(nn::doubles(t)), batch(t.shape()[0]), heads(t.shape()[1]), rows(t.shape()[2]), keys(t.shape()[3]) {}
  double at(int64_t b, int64_t h, int64_t i, int64_t j) const {
    if (values.empty()) return 0;
    return values[static_cast<size_t>((((batch == 1 ? 0 : b) * heads + (heads == 1 ? 0 : h)) * rows + i) * keys + j)];
  }
  static Status check(const ShapeContext& c, int input, const Dims& scores) {
    if (!c.has(input) || !c.shape(input)) return {};
    const Dims& s = *c.shape(input);
    bool fits = s.size() == 4;
    for (size_t i = 0; i < 4 && fits; ++i) fits = nn::may_equal(s[i], scores[i]) || (i < 2 && s[i] == Dim(1));
    if (fits) return {};
    return error(Code::kInvalidArgument, "attention_bias has shape {}; expected {} or 1 for its first axes", to_string(s),
                 to_string(scores));
  }
};

}  // namespace ocior::ops
