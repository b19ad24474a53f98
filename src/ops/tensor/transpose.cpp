// Transpose: the axes in another order. Axes that stay side by side are one; what remains is copied in runs, or as 2-D
// transpositions.
#include <algorithm>

#include "ops/loops.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

// out[m, n] = in[n, m] transposed, in squares that stay in the first-level cache.
template <class T>
void transpose_block(const T* in, int64_t ld_in, T* out, int64_t ld_out, int64_t m, int64_t n) {
  constexpr int64_t kSide = 16;
  for (int64_t i0 = 0; i0 < m; i0 += kSide)
    for (int64_t j0 = 0; j0 < n; j0 += kSide)
      for (int64_t i = i0; i < std::min(m, i0 + kSide); ++i)
        for (int64_t j = j0; j < std::min(n, j0 + kSide); ++j) out[i * ld_out + j] = in[j * ld_in + i];
}

// Input extents and strides in the order of the output's axes, merged.
struct Axes {
  int rank = 0;
  int64_t extent[kMaxRank], in_stride[kMaxRank], out_stride[kMaxRank];
};

}  // namespace

struct Transpose {
  static constexpr OpInfo info{.name = "Transpose"};
  std::vector<int64_t> perm;  // empty: reversed

  static Transpose parse(const NodeReader& node) { return {node.integers("perm")}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "Transpose"));
    if (!ranked(c, 0)) return c.set(0, c.dtype(0), std::nullopt), Status();
    OCIOR_RETURN_IF_ERROR(check(rank(c, 0)));
    const Dims& x = *c.shape(0);
    Dims out;
    for (size_t i = 0; i < x.size(); ++i) out.push_back(x[source(i, x.size())]);
    c.set(0, c.dtype(0), std::move(out));
    if (rank(c, 0) < 2) pass_data(c);
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_RETURN_IF_ERROR(check(x.rank()));
    const auto strides = dense_strides(x.shape());
    const Shape& to = c.out(0).shape();
    Shape index(to.size(), 0);
    for (int64_t i = 0, n = x.count(); i < n; ++i) {
      int64_t from = 0;
      for (size_t a = 0; a < index.size(); ++a) from += index[a] * strides[source(a, index.size())];
      copy_elements(x.dtype(), c.out(0).data(), i, x.data(), from, 1);
      for (size_t a = index.size(); a-- > 0;) {
        if (++index[a] < to[a]) break;
        index[a] = 0;
      }
    }
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_RETURN_IF_ERROR(check(x.rank()));
    OCIOR_ASSIGN(const FixedShape shape, fixed_shape(x.shape));
    if (x.count() == 0) return {};
    const Axes axes = merged(shape);
    const int last = axes.rank - 1;
    if (axes.rank < 2 || axes.in_stride[last] == 1 || !moves_as_bytes(x.dtype)) return copy_runs(c, axes), Status();
    switch (element_size(x.dtype)) {
      case 1: squares<uint8_t>(c, axes, &transpose_block<uint8_t>); break;
      case 2: squares<uint16_t>(c, axes, &transpose_block<uint16_t>); break;
      case 4: squares<float>(c, axes, c.kernels().transpose_f32); break;
      case 8: squares<uint64_t>(c, axes, &transpose_block<uint64_t>); break;
      default: copy_runs(c, axes);
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kBool, DType::kString, DType::kFloat16, DType::kInt32,
                          DType::kComplex128, DType::kInt4}) {
      out.push_back({.inputs = {{t, {2, 3, 4}}}});
      for (const auto& perm :
           {std::vector<int64_t>{0, 2, 1, 3}, {0, 2, 3, 1}, {3, 1, 0, 2}, {0, 1, 2, 3}, {1, 0, 2, 3}, {2, 3, 0, 1}})
        out.push_back({.inputs = {{t, {2, 5, 3, 7}}}, .attributes = {{"perm", perm}}});
      out.push_back({.inputs = {{t, {}}}});
      out.push_back({.inputs = {{t, {0, 3}}}});
      out.push_back({.inputs = {{t, {1, 9, 1}}}});
      out.push_back({.inputs = {{t, {37, 21}}}});
    }
    const std::vector<int64_t> heads = {0, 2, 1, 3}, keys = {0, 2, 3, 1};
    out.push_back({.inputs = {{DType::kFloat, {2, 50, 12, 64}}}, .attributes = {{"perm", heads}}});
    out.push_back({.inputs = {{DType::kFloat, {2, 50, 12, 64}}}, .attributes = {{"perm", keys}}});
    out.push_back({.inputs = {{DType::kFloat, {700, 301}}}});
    out.push_back({.inputs = {{DType::kFloat, {1, 128, 12, 64}}}, .attributes = {{"perm", heads}}, .bench = true});
    out.push_back({.inputs = {{DType::kFloat, {1, 128, 12, 64}}}, .attributes = {{"perm", keys}}, .bench = true});
    return out;
  }

 private:
  size_t source(size_t i, size_t rank) const { return perm.empty() ? rank - 1 - i : static_cast<size_t>(perm[i]); }

  Status check(int64_t rank) const {
    if (perm.empty()) return {};
    if (static_cast<int64_t>(perm.size()) != rank)
      return error(Code::kInvalidGraph, "Transpose: perm {} is for rank {}, the input has rank {}", to_string(perm), perm.size(),
                   rank);
    for (int64_t i = 0; i < rank; ++i)
      if (std::find(perm.begin(), perm.end(), i) == perm.end())
        return error(Code::kInvalidGraph, "Transpose: perm {} does not name axis {}", to_string(perm), i);
    return {};
  }

  Axes merged(const FixedShape& x) const {
    const auto rank = static_cast<size_t>(x.rank);
    int64_t stride[kMaxRank], step = 1;
    for (int64_t a = x.rank; a-- > 0;) {
      stride[a] = step;
      step *= x[a];
    }
    Axes out;
    for (size_t i = 0; i < rank; ++i) {
      const auto a = static_cast<int64_t>(source(i, rank));
      if (x[a] == 1) continue;
      if (out.rank > 0 && out.in_stride[out.rank - 1] == stride[a] * x[a]) {
        out.extent[out.rank - 1] *= x[a];
        out.in_stride[out.rank - 1] = stride[a];
      } else {
        out.extent[out.rank] = x[a];
        out.in_stride[out.rank++] = stride[a];
      }
    }
    int64_t dense = 1;
    for (int i = out.rank; i-- > 0;) {
      out.out_stride[i] = dense;
      dense *= out.extent[i];
    }
    return out;
  }

  static void copy_runs(CpuContext& c, const Axes& axes) {
    BoxCopy copy{.dtype = c.in(0).dtype, .destination = c.out(0).data, .source = c.in(0).data};
    for (int i = 0; i < axes.rank; ++i) copy.axis(axes.extent[i], axes.out_stride[i], axes.in_stride[i]);
    copy.run(c);
  }

  // The output's last axis against the axis that is dense in the input; the rest is an outer loop. One item: a band of rows of a
  // square.
  template <class T, class F>
  static void squares(CpuContext& c, const Axes& axes, F transpose) {
    const int last = axes.rank - 1;
    int dense = 0;
    for (int i = 0; i < last; ++i)
      if (axes.in_stride[i] == 1) dense = i;
    const int64_t m = axes.extent[dense], n = axes.extent[last];
    const int64_t band = std::max<int64_t>(16, kChunk / n / 16 * 16), bands = (m + band - 1) / band;
    int64_t outer = 1;
    for (int i = 0; i < last; ++i)
      if (i != dense) outer *= axes.extent[i];
    const T* in = c.in(0).as<const T>();
    T* out = c.out(0).as<T>();
    for_items(c, outer * bands, std::min(band, m) * n, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        int64_t from = 0, to = 0, rest = item / bands;
        for (int i = last - 1; i >= 0; --i) {
          if (i == dense) continue;
          from += rest % axes.extent[i] * axes.in_stride[i];
          to += rest % axes.extent[i] * axes.out_stride[i];
          rest /= axes.extent[i];
        }
        const int64_t row = item % bands * band;
        transpose(in + from + row, axes.in_stride[last], out + to + row * axes.out_stride[dense], axes.out_stride[dense],
                  std::min(band, m - row), n);
      }
    });
  }
};
OCIOR_OPERATOR(Transpose)

}  // namespace ocior::ops
