// What Softmax and LogSoftmax share: they differ in one formula. Internal to src/ops/nn.
#pragma once

#include <array>
#include <cmath>

#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops::nn {

// outer * inner lanes of n elements, inner apart.
struct Lanes {
  int64_t outer = 1, n = 1, inner = 1;
};

// `flatten` (opset < 13): everything from `axis` on is one lane.
inline Lanes lanes_of(std::span<const int64_t> shape, int64_t axis, bool flatten) {
  const auto rank = static_cast<int64_t>(shape.size());
  if (axis < 0) axis += rank;
  if (flatten) return {extent(shape, 0, axis), extent(shape, axis, rank), 1};
  return {extent(shape, 0, axis), shape[static_cast<size_t>(axis)], extent(shape, axis + 1, rank)};
}

inline constexpr int64_t kLaneBlock = 16;  // strided lanes are turned into rows this many at a time

// The attributes of both.
struct SoftmaxAttributes {
  int64_t axis = -1;
  bool flatten = false;

  static SoftmaxAttributes parse(const NodeReader& node) {
    const bool old = node.opset() < 13;
    return {node.integer("axis", old ? 1 : -1), old};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_floats(c, {0}));
    if (c.shape(0)) OCIOR_RETURN_IF_ERROR(resolve_axis(axis, std::ssize(*c.shape(0))).status());
    return infer_unary(c);
  }

  // y = finish(x - max, exp(x - max), sum of exp(x - max)) of every lane. In 16 bits each step of the standard's function rounds.
  template <class Finish>
  Status reference(RefContext& c, Finish finish) const {
    const std::vector<double> x = doubles(c.in(0));
    if (x.empty()) return {};
    const DType dtype = c.in(0).dtype();
    const auto round = [dtype](double v) {
      if (bits_of(dtype) > 16) return v;
      uint16_t bits = 0;
      set_double(dtype, &bits, 0, v);
      return get_double(dtype, &bits, 0);
    };
    std::vector<double> y(x.size());
    const Lanes l = lanes_of(c.in(0).shape(), axis, flatten);
    for (int64_t lane = 0; lane < l.outer * l.inner; ++lane) {
      const auto at = [&](int64_t i) { return static_cast<size_t>((lane / l.inner * l.n + i) * l.inner + lane % l.inner); };
      double max = -INFINITY, sum = 0;
      for (int64_t i = 0; i < l.n; ++i) max = std::fmax(max, x[at(i)]);
      for (int64_t i = 0; i < l.n; ++i) sum += round(std::exp(round(x[at(i)] - max)));
      for (int64_t i = 0; i < l.n; ++i) {
        const double d = round(x[at(i)] - max);
        y[at(i)] = finish(d, round(std::exp(d)), round(sum));
      }
    }
    store(c.out(0), y);
    return {};
  }

  size_t scratch(const BindContext& c) const {
    if (c.in(0).count() == 0) return 0;
    const Lanes l = lanes_of(c.in(0).shape, axis, flatten);
    return l.inner == 1 ? 0 : static_cast<size_t>(c.workers()) * align64(static_cast<size_t>(kLaneBlock * l.n) * sizeof(float));
  }

  static double work(const BindContext& c) { return 20.0 * static_cast<double>(c.in(0).count()); }

  // `row` is the kernel of one contiguous lane.
  void run(CpuContext& c, void (*row)(const float*, float*, int64_t)) const {
    if (c.in(0).count() == 0) return;
    const Lanes l = lanes_of(c.in(0).shape, axis, flatten);
    const float* const x = c.in(0).as<float>();
    float* const y = c.out(0).as<float>();
    if (l.inner == 1) {
      parallel_rows(c, l.outer, l.n, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) row(x + i * l.n, y + i * l.n, l.n);
      });
      return;
    }
    const int64_t blocks = chunks_of(l.inner, kLaneBlock);
    c.team().parallel_for(l.outer * blocks, c.stop(), [&](int64_t i, int worker) {
      float* const rows = static_cast<float*>(c.scratch()) +
                          worker * static_cast<int64_t>(align64(kLaneBlock * l.n * sizeof(float)) / sizeof(float));
      const int64_t first = i % blocks * kLaneBlock, count = std::min(kLaneBlock, l.inner - first);
      const int64_t at = i / blocks * l.n * l.inner + first;
      c.kernels().transpose_f32(x + at, l.inner, rows, l.n, count, l.n);
      for (int64_t j = 0; j < count; ++j) row(rows + j * l.n, rows + j * l.n, l.n);
      c.kernels().transpose_f32(rows, l.n, y + at, l.inner, l.n, count);
    });
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&](Shape shape, std::optional<int64_t> axis = {}, int opset = 0, Fill fill = Fill::kNormal,
                         DType dtype = DType::kFloat) {
      Sample s{.inputs = {{.dtype = dtype, .shape = std::move(shape), .fill = fill}}, .opset = opset};
      if (axis) s.attributes["axis"] = *axis;
      s.tolerance = dtype == DType::kFloat16 ? 1e-3 : dtype == DType::kBFloat16 ? 8e-3 : 1e-6;
      out.push_back(std::move(s));
    };
    for (int64_t n : {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 1000}) add({3, n});
    add({5});
    add({0, 7});
    add({3, 0});
    for (int64_t axis : {0, 1, 2, -2}) add({3, 4, 5}, axis);
    add({2, 7, 33}, 1);
    add({2, 0, 33}, 1);
    add({40, 3}, 0);
    for (std::optional<int64_t> axis :
         {std::optional<int64_t>(), std::optional<int64_t>(0), std::optional<int64_t>(2), std::optional<int64_t>(-1)})
      add({2, 3, 4}, axis, 11);
    add({3, 21}, {}, 0, Fill::kMinusInf);
    add({3, 21}, {}, 0, Fill::kSpecials);
    add({2, 21, 5}, 1, 0, Fill::kSpecials);
    for (const DType dtype : {DType::kDouble, DType::kFloat16, DType::kBFloat16}) add({3, 9}, {}, 0, Fill::kNormal, dtype);
    add({12 * 128, 128});
    out.back().bench = true;
    add({1, 30522});
    out.back().bench = true;
    return out;
  }
};

}  // namespace ocior::ops::nn
