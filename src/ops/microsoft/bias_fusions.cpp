// BiasSoftmax and BiasSplitGelu of com.microsoft: a bias added to what a softmax, or a gate by Gelu, then takes.
#include <cmath>

#include "ops/microsoft/microsoft.h"
#include "ops/nn/activation.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

// Softmax over the axes from `axis` on, taken as one, of data + bias. The bias has one row for every row of the data, but for a
// run of axes before `axis` where it has 1: those just before it (inner), or the first ones.
struct BiasSoftmax {
  static constexpr OpInfo info{.name = "BiasSoftmax", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 2};

  int64_t axis = 1;
  bool inner = true;

  static BiasSoftmax parse(const NodeReader& node) {
    return {node.integer("axis", 1), node.required_integer("is_inner_broadcast") != 0};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1}));
    OCIOR_RETURN_IF_ERROR(infer_unary(c));
    if (!c.shape(0)) return {};
    const Dims& x = *c.shape(0);
    OCIOR_ASSIGN(const int64_t lane, resolve_axis(axis, std::ssize(x)));
    if (!c.shape(1)) return {};
    const Dims& bias = *c.shape(1);
    if (bias.size() <= x.size()) {
      Dims full(x.size() - bias.size(), Dim(1));
      full.insert(full.end(), bias.begin(), bias.end());
      for (int64_t split = 0; split <= lane; ++split)
        if (fits(full, x, lane, split)) return {};
    }
    return error(Code::kInvalidArgument, "bias has shape {}; expected that of the data, {}, with 1 for {} before axis {}",
                 to_string(bias), to_string(x), inner ? "the last axes" : "the first axes", lane);
  }

  Status reference(RefContext& c) const {
    std::vector<double> x = nn::doubles(c.in(0));
    const std::vector<double> bias = nn::doubles(c.in(1));
    const std::vector<int64_t> from = nn::broadcast_index(c.in(1).shape(), c.in(0).shape());
    if (x.empty()) return {};
    const int64_t n = lane_of(c.in(0).shape());
    for (size_t i = 0; i < x.size(); ++i) x[i] += bias[static_cast<size_t>(from[i])];
    for (double* row = x.data(); row != x.data() + x.size(); row += n) {
      double max = -INFINITY, sum = 0;
      for (int64_t i = 0; i < n; ++i) max = std::fmax(max, row[i]);
      for (int64_t i = 0; i < n; ++i) sum += row[i] = std::exp(row[i] - max);
      for (int64_t i = 0; i < n; ++i) row[i] /= sum;
    }
    nn::store(c.out(0), x);
    return {};
  }

  static double work(const BindContext& c) { return 20.0 * static_cast<double>(c.in(0).count()); }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    if (c.in(0).count() == 0) return {};
    const int64_t n = lane_of(c.in(0).shape), rows = c.in(0).count() / n, biases = c.in(1).count() / n, shared = rows / biases;
    nn::parallel_rows(c, rows, n, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const float* const bias = c.in(1).as<float>() + (inner ? i / shared : i % biases) * n;
        float* const y = c.out(0).as<float>() + i * n;
        c.kernels().binary_f32(BinaryFn::kAdd, c.in(0).as<float>() + i * n, 1, bias, 1, y, n);
        c.kernels().softmax_f32(y, y, n);
      }
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&](Shape x, Shape bias, int64_t axis, int64_t inner, DType t = DType::kFloat) {
      out.push_back({.inputs = {{t, std::move(x), Fill::kNormal}, {t, std::move(bias), Fill::kNormal}},
                     .attributes = {{"axis", axis}, {"is_inner_broadcast", inner}},
                     .tolerance = t == DType::kFloat16 ? 2e-3 : 2e-6});
    };
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16}) {
      add({2, 3, 4, 5}, {2, 1, 1, 5}, 3, 1, t);
      add({2, 3, 4, 5}, {2, 3, 1, 5}, -1, 1, t);
      add({2, 3, 4, 5}, {1, 1, 4, 5}, 3, 0, t);
      add({2, 3, 4, 5}, {3, 4, 5}, 2, 0, t);
      add({2, 3, 4}, {2, 3, 4}, 0, 0, t);
    }
    add({0, 4}, {1, 4}, 1, 0);
    add({3, 0}, {1, 0}, 1, 0);
    return out;
  }

 private:
  // Whether the axes before `lane` are the data's before `split` and 1 behind it (inner), or the other way round.
  bool fits(const Dims& bias, const Dims& x, int64_t lane, int64_t split) const {
    for (int64_t i = 0; i < std::ssize(x); ++i) {
      const bool one = i < lane && (i < split) != inner;
      if (!nn::may_equal(bias[static_cast<size_t>(i)], one ? Dim(1) : x[static_cast<size_t>(i)])) return false;
    }
    return true;
  }
  int64_t lane_of(std::span<const int64_t> x) const {
    const auto rank = std::ssize(x);
    return nn::extent(x, axis < 0 ? axis + rank : axis, rank);
  }
};

// x + bias in two halves of its last axis: left * Gelu(right).
struct BiasSplitGelu {
  static constexpr OpInfo info{.name = "BiasSplitGelu", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 2};

  static BiasSplitGelu parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1}));
    std::optional<Dims> out = c.shape(0);
    if (out) {
      if (out->size() != 3 || (out->back().known() && out->back().value() % 2 != 0))
        return error(Code::kInvalidArgument, "X has shape {}; expected [batch, size, an even number]", to_string(*out));
      OCIOR_RETURN_IF_ERROR(check_input(c, 1, "bias", {out->back()}));
      out->back() = Dim::quotient(out->back(), Dim(2));
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const std::vector<double> x = nn::doubles(c.in(0)), bias = nn::doubles(c.in(1));
    std::vector<double> y(static_cast<size_t>(c.out(0).count()));
    const size_t half = bias.size() / 2;
    for (size_t i = 0; i < y.size(); ++i) {
      const size_t row = i / half * 2 * half, j = i % half;
      y[i] = (x[row + j] + bias[j]) * nn::apply(Activation::kGeluErf, x[row + half + j] + bias[half + j], 0, 0);
    }
    nn::store(c.out(0), y);
    return {};
  }

  static double work(const BindContext& c) { return 20.0 * static_cast<double>(c.in(0).count()); }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    if (c.out(0).count() == 0) return {};
    const int64_t half = c.out(0).shape.back();
    const float* const bias = c.in(1).as<float>();
    nn::parallel_rows(c, c.out(0).count() / half, half, [&](int64_t begin, int64_t end, int) {
      constexpr int64_t kStrip = 512;
      float left[kStrip];
      for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < half; j += kStrip) {
          const int64_t n = std::min(kStrip, half - j);
          const float* const x = c.in(0).as<float>() + i * 2 * half + j;
          float* const y = c.out(0).as<float>() + i * half + j;
          c.kernels().binary_f32(BinaryFn::kAdd, x + half, 1, bias + half + j, 1, y, n);
          c.kernels().unary_f32(UnaryFn::kGeluErf, y, y, n, 0, 0);
          c.kernels().binary_f32(BinaryFn::kAdd, x, 1, bias + j, 1, left, n);
          c.kernels().binary_f32(BinaryFn::kMul, left, 1, y, 1, y, n);
        }
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16})
      for (const Shape& x : {Shape{2, 3, 10}, Shape{1, 2, 1400}, Shape{0, 3, 4}, Shape{2, 3, 0}})
        out.push_back({.inputs = {{t, x, Fill::kNormal}, {t, {x.back()}}}, .tolerance = t == DType::kFloat16 ? 2e-3 : 1e-6});
    return out;
  }
};

OCIOR_OPERATOR(BiasSoftmax)
OCIOR_OPERATOR(BiasSplitGelu)

}  // namespace ocior::ops
