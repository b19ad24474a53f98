// GridSample: values of an image or volume at the places that a grid names, and AffineGrid, which makes such a grid
// (https://onnx.ai/onnx/operators/onnx__GridSample.html).
#include <algorithm>
#include <cmath>

#include "ops/evaluate.h"
#include "ops/loops.h"
#include "ops/microsoft/microsoft.h"
#include "ops/move.h"
#include "ops/nn/numeric.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

enum class SampleMode { kNearest, kLinear, kCubic };
enum class SamplePadding { kZeros, kBorder, kReflection };

// What nearest sampling may move.
constexpr TypeSet kMovable = kNumbers | kBools | kStrings | types(DType::kComplex64, DType::kComplex128);
constexpr int kMostSpatial = 5;  // a cubic sample there has 4^5 taps

struct SampleRules {
  SampleMode mode = SampleMode::kLinear;
  SamplePadding padding = SamplePadding::kZeros;
  bool align_corners = false;
};

// x mirrored at `low` and `high` until it lies between them.
template <class T>
T reflect(T x, T low, T high) {
  const T range = high - low;
  if (!(range > 0)) return low;
  const T over = x < low ? low - x : x > high ? x - high : 0;
  if (over == 0) return x;
  const T rest = std::fmod(over, range);
  const bool even = std::fmod(over, 2 * range) < range;
  return (x < low) == even ? low + rest : high - rest;
}

// The taps of one coordinate along one axis: input places (-1: outside, worth 0) and weights.
template <class T>
struct AxisSample {
  int count = 1;
  int64_t place[4];
  T weight[4];
};

// The input place that tap `at` reads.
int64_t padded_place(const SampleRules& rules, int64_t at, int64_t n) {
  if (at >= 0 && at < n) return at;
  if (rules.padding == SamplePadding::kZeros) return -1;
  if (rules.padding == SamplePadding::kBorder) return at < 0 ? 0 : n - 1;
  const double low = rules.align_corners ? 0 : -0.5;
  const double high = static_cast<double>(n) - 1 - low;
  return std::clamp<int64_t>(static_cast<int64_t>(reflect(static_cast<double>(at), low, high)), 0, n - 1);
}

template <class T>
AxisSample<T> axis_sample(const SampleRules& rules, T normalised, int64_t n) {
  const T size = static_cast<T>(n);
  T x = rules.align_corners ? (normalised + 1) / 2 * (size - 1) : ((normalised + 1) * size - 1) / 2;
  if (rules.mode == SampleMode::kNearest) x = std::nearbyint(x);
  const T low = rules.align_corners ? T(0) : T(-0.5), high = size - 1 - low;
  // A cubic sample near the border blends border values instead, as its taps are clamped one by one.
  const bool clamps = rules.padding == SamplePadding::kBorder && rules.mode != SampleMode::kCubic;
  if (clamps && (x < low || x > high)) x = std::clamp<T>(x, 0, size - 1);
  if (rules.padding == SamplePadding::kReflection && std::isfinite(x)) x = reflect(x, low, high);
  if (!(x >= -4)) x = -4;  // no tap of these is inside
  if (x > size + 4) x = size + 4;
  AxisSample<T> s;
  const T below = std::floor(x), r = x - below;
  const auto first = static_cast<int64_t>(below);
  if (rules.mode == SampleMode::kNearest) {
    s.place[0] = padded_place(rules, first, n), s.weight[0] = 1;
    return s;
  }
  if (rules.mode == SampleMode::kLinear) {
    s.count = 2;
    s.weight[0] = 1 - r, s.weight[1] = r;
  } else {
    s.count = 4;
    const T a = T(-0.75);
    const auto far = [a](T d) { return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a; };
    const auto near = [a](T d) { return ((a + 2) * d - (a + 3)) * d * d + 1; };
    s.weight[0] = far(r + 1), s.weight[1] = near(r), s.weight[2] = near(1 - r), s.weight[3] = far(2 - r);
  }
  for (int k = 0; k < s.count; ++k) s.place[k] = padded_place(rules, first + k - (s.count == 4), n);
  return s;
}

// The taps of one grid place in a plane: f(offset, weight) for those inside.
template <class T, class F>
void each_tap(const SampleRules& rules, const T* grid, std::span<const int64_t> size, F&& f) {
  AxisSample<T> axes[kMostSpatial];
  const auto n = static_cast<int>(size.size());
  for (int i = 0; i < n; ++i) axes[i] = axis_sample(rules, grid[n - 1 - i], size[static_cast<size_t>(i)]);  // x comes first
  int k[kMostSpatial] = {};
  for (int i = 0; i >= 0;) {
    int64_t at = 0;
    T weight = 1;
    bool inside = true;
    for (int j = 0; j < n; ++j) {
      inside &= axes[j].place[k[j]] >= 0;
      at = at * size[static_cast<size_t>(j)] + axes[j].place[k[j]];
      weight *= axes[j].weight[k[j]];
    }
    if (inside) f(at, weight);
    for (i = n - 1; i >= 0 && ++k[i] == axes[i].count; --i) k[i] = 0;
  }
}

// What the loops need of the shapes.
struct SampleShape {
  int64_t batch, channels, plane, points, r;  // points: of one grid
  std::span<const int64_t> size;

  SampleShape(std::span<const int64_t> x, std::span<const int64_t> grid)
      : batch(x[0]),
        channels(x[1]),
        plane(nn::extent(x, 2, static_cast<int64_t>(x.size()))),
        points(nn::extent(grid, 1, static_cast<int64_t>(grid.size()) - 1)),
        r(static_cast<int64_t>(x.size()) - 2),
        size(x.subspan(2)) {}
};

// The taps of some places of a grid, computed once for all channels.
template <class T>
struct TapBlock {
  static constexpr int64_t kTaps = 1024;
  int64_t points = 0, first[kTaps + 1];  // point i has the taps [first[i], first[i + 1])
  int64_t at[kTaps];
  T weight[kTaps];
};

int64_t taps_per_point(const SampleRules& rules, int64_t r) {
  const int64_t bits = rules.mode == SampleMode::kCubic ? 2 * r : rules.mode == SampleMode::kLinear ? r : 0;
  return int64_t{1} << bits;
}

// y[n, c, point] for the points [begin, end) of batch n.
template <class T>
void sample_points(const SampleRules& rules, const SampleShape& s, int64_t n, int64_t begin, int64_t end, const T* x,
                   const T* grid, T* y) {
  TapBlock<T> block;
  const int64_t most = TapBlock<T>::kTaps / taps_per_point(rules, s.r);
  for (int64_t p = begin; p < end; p += block.points) {
    block.points = std::min(most, end - p);
    int64_t used = 0;
    for (int64_t i = 0; i < block.points; ++i) {
      block.first[i] = used;
      each_tap(rules, grid + (n * s.points + p + i) * s.r, s.size, [&](int64_t at, T weight) {
        block.at[used] = at;
        block.weight[used++] = weight;
      });
    }
    block.first[block.points] = used;
    for (int64_t c = 0; c < s.channels; ++c) {
      const T* const from = x + (n * s.channels + c) * s.plane;
      T* const to = y + (n * s.channels + c) * s.points + p;
      for (int64_t i = 0; i < block.points; ++i) {
        T sum = 0;
        for (int64_t k = block.first[i]; k < block.first[i + 1]; ++k) sum += block.weight[k] * from[block.at[k]];
        to[i] = sum;
      }
    }
  }
}

Status check_sizes(std::span<const int64_t> x, std::span<const int64_t> grid) {
  if (grid[0] != x[0]) return error(Code::kInvalidArgument, "the grid is for {} images, got {}", grid[0], x[0]);
  if (nn::extent(x, 2, static_cast<int64_t>(x.size())) == 0 && x[1] > 0 && element_count(grid) > 0)
    return error(Code::kInvalidArgument, "an input of shape {} has nothing to sample", to_string(x));
  return {};
}

}  // namespace

struct GridSample {
  static constexpr OpInfo info{.name = "GridSample", .since = 16, .min_inputs = 2, .max_inputs = 2};
  SampleRules rules;
  bool planar = false;  // opset < 20: images only

  static GridSample parse(const NodeReader& node) { return parse_as(node, node.opset() < 20); }

  static GridSample parse_as(const NodeReader& node, bool planar) {
    GridSample op;
    op.planar = planar;
    const std::string mode = node.text("mode", op.planar ? "bilinear" : "linear");
    if (mode == "nearest") op.rules.mode = SampleMode::kNearest;
    else if (mode == (op.planar ? "bicubic" : "cubic")) op.rules.mode = SampleMode::kCubic;
    else if (mode != (op.planar ? "bilinear" : "linear"))
      node.fail("mode is '{}'; expected {} at opset {}", mode,
                op.planar ? "bilinear, nearest or bicubic" : "linear, nearest or cubic", node.opset());
    const std::string padding = node.text("padding_mode", "zeros");
    if (padding == "border") op.rules.padding = SamplePadding::kBorder;
    else if (padding == "reflection") op.rules.padding = SamplePadding::kReflection;
    else if (padding != "zeros") node.fail("padding_mode is '{}'; expected zeros, border or reflection", padding);
    op.rules.align_corners = node.integer("align_corners", 0) != 0;
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, rules.mode == SampleMode::kNearest ? kMovable : kNumbers, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kFloats, info.name));
    c.set(0, c.dtype(0), std::nullopt);
    for (int i = 0; i < 2; ++i)
      if (ranked(c, i) && (rank(c, i) < 3 || rank(c, i) > kMostSpatial + 2 || (planar && rank(c, i) != 4)))
        return error(Code::kInvalidGraph, "GridSample: input {} has rank {}; expected {}", i, rank(c, i),
                     planar ? "4" : fmt::format("3 to {}", kMostSpatial + 2));
    if (!ranked(c, 0) || !ranked(c, 1)) return {};
    const Dims &x = *c.shape(0), &grid = *c.shape(1);
    if (x.size() != grid.size() || !nn::may_equal(grid.back(), Dim(rank(c, 0) - 2)) || !nn::may_equal(x[0], grid[0]))
      return error(Code::kInvalidGraph, "GridSample: a grid of shape {} does not fit an input of shape {}; expected [n, ..., {}]",
                   to_string(grid), to_string(x), x.size() - 2);
    Dims out{x[0].known() ? x[0] : grid[0].known() ? grid[0] : x[0], x[1]};
    out.insert(out.end(), grid.begin() + 1, grid.end() - 1);
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor &x = c.in(0), &grid = c.in(1);
    OCIOR_RETURN_IF_ERROR(check_sizes(x.shape(), grid.shape()));
    const SampleShape s(x.shape(), grid.shape());
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), output_shape(x.shape(), grid.shape())));
    if (rules.mode == SampleMode::kNearest) return move_nearest(c, s);
    const std::vector<double> values = nn::doubles(x), places = nn::doubles(grid);
    std::vector<double> y(static_cast<size_t>(c.out(0).count()));
    for (int64_t n = 0; n < s.batch; ++n) sample_points(rules, s, n, 0, s.points, values.data(), places.data(), y.data());
    store<double>(x.dtype(), c.out(0).data(), 0, c.out(0).count(), y.data());
    return {};
  }

  double work(const BindContext& c) const { return 20.0 * static_cast<double>(c.out(0).count()); }

  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &grid = c.in(1);
    const bool fast = x.dtype == DType::kFloat && grid.dtype == DType::kFloat && rules.mode != SampleMode::kNearest;
    if (!fast) return run_by_reference(*this, c);
    OCIOR_RETURN_IF_ERROR(check_sizes(x.shape, grid.shape));
    const SampleShape s(x.shape, grid.shape);
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, output_shape(x.shape, grid.shape)));
    for (int64_t n = 0; n < s.batch; ++n)
      for_items(c, s.points, 8 + 4 * s.channels, [&](int64_t begin, int64_t end) {
        sample_points(rules, s, n, begin, end, x.as<float>(), grid.as<float>(), c.out(0).as<float>());
      });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    using Text = std::string;
    const auto add = [&](Shape x, Shape grid, const char* mode, const char* padding, int64_t align, DType t = DType::kFloat,
                         int opset = 0) {
      const double tolerance = t == DType::kFloat16 ? 2e-3 : t == DType::kFloat ? 2e-5 : 1e-6;
      out.push_back({.inputs = {{.dtype = t, .shape = std::move(x)}, {.shape = std::move(grid), .fill = Fill::kNormal}},
                     .attributes = {{"mode", Text(mode)}, {"padding_mode", Text(padding)}, {"align_corners", align}},
                     .opset = opset,
                     .tolerance = tolerance});
    };
    for (const char* mode : {"nearest", "linear", "cubic"})
      for (const char* padding : {"zeros", "border", "reflection"})
        for (const int64_t align : {0, 1}) {
          add({2, 3, 4, 5}, {2, 6, 3, 2}, mode, padding, align);
          add({1, 2, 3, 4, 2}, {1, 2, 3, 2, 3}, mode, padding, align);
        }
    for (const DType t : {DType::kDouble, DType::kFloat16, DType::kInt32, DType::kUint8}) {
      add({1, 2, 4, 5}, {1, 3, 3, 2}, "nearest", "border", 0, t);
      if (is_floating(t)) add({1, 2, 4, 5}, {1, 3, 3, 2}, "linear", "zeros", 0, t);
    }
    add({1, 2, 4, 5}, {1, 3, 3, 2}, "nearest", "zeros", 0, DType::kString);
    add({1, 1, 1, 1}, {1, 2, 2, 2}, "linear", "reflection", 1);
    add({1, 3, 7}, {1, 5, 1}, "cubic", "border", 0);
    add({0, 2, 4, 5}, {0, 3, 3, 2}, "linear", "zeros", 0);
    for (const char* mode : {"bilinear", "bicubic", "nearest"})
      add({2, 3, 4, 5}, {2, 6, 3, 2}, mode, "zeros", 0, DType::kFloat, 16);
    out.push_back({.inputs = {{.shape = {1, 2, 5, 5}}, {.shape = {1, 9, 9, 2}, .fill = Fill::kSpecials}},
                   .attributes = {{"padding_mode", Text("border")}}});
    out.push_back({.inputs = {{.shape = {1, 32, 64, 64}}, {.shape = {1, 64, 64, 2}}}, .bench = true});
    return out;
  }

 private:
  static Shape output_shape(std::span<const int64_t> x, std::span<const int64_t> grid) {
    Shape out{x[0], x[1]};
    out.insert(out.end(), grid.begin() + 1, grid.end() - 1);
    return out;
  }

  // Elements of any type; the place is computed in the grid's own precision.
  Status move_nearest(RefContext& c, const SampleShape& s) const {
    if (c.in(1).dtype() == DType::kDouble) return move_nearest_as<double>(c, s);
    return move_nearest_as<float>(c, s);
  }

  template <class T>
  Status move_nearest_as(RefContext& c, const SampleShape& s) const {
    const Tensor& x = c.in(0);
    const std::vector<double> grid = nn::doubles(c.in(1));
    for (int64_t n = 0; n < s.batch; ++n)
      for (int64_t p = 0; p < s.points; ++p) {
        T at[kMostSpatial];
        for (int64_t i = 0; i < s.r; ++i) at[i] = static_cast<T>(grid[static_cast<size_t>((n * s.points + p) * s.r + i)]);
        int64_t from = -1;
        each_tap(rules, at, s.size, [&](int64_t offset, T) { from = offset; });
        for (int64_t k = 0; k < s.channels; ++k) {
          const int64_t plane = n * s.channels + k, to = plane * s.points + p;
          if (from >= 0) copy_elements(x.dtype(), c.out(0).data(), to, x.data(), plane * s.plane + from, 1);
          else clear_element(c.out(0), to);
        }
      }
    return {};
  }

  static void clear_element(Tensor& y, int64_t at) {
    if (y.dtype() == DType::kString) y.as<std::string>()[at].clear();
    else
      std::fill_n(y.as<std::byte>() + static_cast<size_t>(at) * element_size(y.dtype()), element_size(y.dtype()), std::byte{0});
  }
};
OCIOR_OPERATOR(GridSample)

// The same of images in com.microsoft, with the names that ai.onnx had at opset 16.
struct MicrosoftGridSample : GridSample {
  static constexpr OpInfo info{.name = "GridSample", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 2};

  static MicrosoftGridSample parse(const NodeReader& node) { return {parse_as(node, true)}; }
  static std::vector<Sample> samples() {
    std::vector<Sample> out = GridSample::samples();
    std::erase_if(out, [](const Sample& s) { return s.opset != 16; });
    return out;
  }
};
OCIOR_OPERATOR(MicrosoftGridSample)

// theta [n, r, r + 1] and size [n, c, ...r] to a grid [n, ...r, r]: each place of an image over [-1, 1] under the affine map
// theta.
struct AffineGrid {
  static constexpr OpInfo info{.name = "AffineGrid", .since = 20, .min_inputs = 2, .max_inputs = 2};
  bool align_corners = false;

  static AffineGrid parse(const NodeReader& node) { return {node.integer("align_corners", 0) != 0}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, info.name));
    if (ranked(c, 1) && rank(c, 1) != 1)
      return error(Code::kInvalidGraph, "AffineGrid: size has rank {}; expected a list of 4 or 5 elements", rank(c, 1));
    c.set(0, c.dtype(0), std::nullopt);
    std::optional<int64_t> r;
    if (const auto length = length_of(c, 1)) r = *length - 2;
    if (r && *r != 2 && *r != 3)
      return error(Code::kInvalidGraph, "AffineGrid: size has {} elements; expected 4 (an image) or 5 (a volume)", *r + 2);
    if (ranked(c, 0)) {
      const Dims& theta = *c.shape(0);
      if (theta.size() != 3 || (r && (!nn::may_equal(theta[1], Dim(*r)) || !nn::may_equal(theta[2], Dim(*r + 1)))))
        return error(Code::kInvalidGraph, "AffineGrid: theta has shape {}; expected [n, 2, 3] or [n, 3, 4], as size says",
                     to_string(theta));
      if (!r && theta[1].known()) r = theta[1].value();
    }
    const auto size = data_of(c, 1);
    if (!size && r != 2 && r != 3) return {};
    Dims out = size ? Dims{(*size)[0]} : fresh_dims(c, *r + 1, "grid");
    if (size) out.insert(out.end(), size->begin() + 2, size->end());
    out.push_back(size ? static_cast<int64_t>(size->size()) - 2 : *r);
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& theta = c.in(0);
    const std::vector<int64_t> size = to_ints(c.in(1));
    const auto r = static_cast<int64_t>(size.size()) - 2;
    if ((r != 2 && r != 3) || theta.shape() != Shape{size[0], r, r + 1})
      return error(Code::kInvalidArgument, "AffineGrid: theta of shape {} does not fit size {}; expected [n, r, r + 1]",
                   to_string(theta.shape()), to_string(size));
    Shape shape{size[0]};
    shape.insert(shape.end(), size.begin() + 2, size.end());
    shape.push_back(r);
    OCIOR_RETURN_IF_ERROR(checked_element_count(shape).status());
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, theta.dtype(), shape));
    const std::vector<double> map = nn::doubles(theta);
    std::vector<double> y(static_cast<size_t>(c.out(0).count()));
    const int64_t points = nn::extent(shape, 1, r + 1);
    for (int64_t i = 0; i < static_cast<int64_t>(y.size()) / r; ++i) {
      double place[4] = {1, 1, 1, 1};  // x, y (, z), 1
      int64_t rest = i % points;
      for (int64_t a = 0; a < r; ++a) {
        const int64_t n = shape[static_cast<size_t>(r - a)];
        place[a] = normalised(rest % n, n);
        rest /= n;
      }
      for (int64_t row = 0; row < r; ++row) {
        const double* const m = map.data() + (i / points * r + row) * (r + 1);
        double sum = 0;
        for (int64_t k = 0; k <= r; ++k) sum += m[k] * (k == r ? 1 : place[k]);
        y[static_cast<size_t>(i * r + row)] = sum;
      }
    }
    nn::store(c.out(0), y);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const int64_t align : {0, 1})
      for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16}) {
        const Attributes a{{"align_corners", align}};
        out.push_back(
            {.inputs = {{.dtype = t, .shape = {2, 2, 3}}, {.dtype = DType::kInt64, .shape = {4}, .values = {2, 3, 4, 5}}},
             .attributes = a});
        out.push_back(
            {.inputs = {{.dtype = t, .shape = {1, 3, 4}}, {.dtype = DType::kInt64, .shape = {5}, .values = {1, 1, 2, 1, 3}}},
             .attributes = a});
      }
    return out;
  }

 private:
  double normalised(int64_t i, int64_t n) const {
    if (align_corners) return n == 1 ? -1 : -1 + 2.0 * static_cast<double>(i) / static_cast<double>(n - 1);
    return -1 + (2.0 * static_cast<double>(i) + 1) / static_cast<double>(n);
  }
};
OCIOR_OPERATOR(AffineGrid)

}  // namespace ocior::ops
