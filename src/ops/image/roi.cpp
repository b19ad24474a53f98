// RoiAlign and MaxRoiPool: each region of interest of a feature map becomes a grid of fixed size
// (https://onnx.ai/onnx/operators/onnx__RoiAlign.html). x is [n, c, h, w]; a region is x1, y1, x2, y2 in the scale of the image.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/evaluate.h"
#include "ops/loops.h"
#include "ops/nn/numeric.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

constexpr int64_t kMostCells = 1 << 20;    // of an output's side
constexpr int64_t kMostSamples = 1 << 12;  // along one side of a cell: regions are not larger than feature maps

// x [n, c, h, w], and regions [count, columns].
Status infer_regions(ShapeContext& c, int64_t columns, int64_t height, int64_t width, std::string_view name) {
  OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, name));
  OCIOR_RETURN_IF_ERROR(check_type(c, 1, kFloats, name));
  OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 1, name));
  if (ranked(c, 0) && rank(c, 0) != 4)
    return error(Code::kInvalidGraph, "{}: input 0 has rank {}; expected [n, c, h, w]", name, rank(c, 0));
  if (ranked(c, 1) && (rank(c, 1) != 2 || !nn::may_equal((*c.shape(1))[1], Dim(columns))))
    return error(Code::kInvalidGraph, "{}: the regions have shape {}; expected [count, {}]", name, to_string(*c.shape(1)),
                 columns);
  const Dim count = ranked(c, 1) ? (*c.shape(1))[0] : c.fresh("regions");
  const Dim channels = ranked(c, 0) ? (*c.shape(0))[1] : c.fresh("channels");
  Dims out{count, channels, height, width};
  c.set(0, c.dtype(0), std::move(out));
  return {};
}

// A sample of bilinear interpolation along one axis.
struct Between {
  int64_t low = 0, high = 0;
  double to_high = 0;
  bool inside = false;
};

Between between(double x, int64_t n) {
  if (!(x >= -1) || x > static_cast<double>(n)) return {};
  x = std::max(x, 0.0);
  const auto low = static_cast<int64_t>(x);
  if (low >= n - 1) return {n - 1, n - 1, 0, true};
  return {low, low + 1, x - static_cast<double>(low), true};
}

}  // namespace

struct RoiAlign {
  static constexpr OpInfo info{.name = "RoiAlign", .since = 10, .min_inputs = 3, .max_inputs = 3};
  bool max = false, half_pixel = false;
  int64_t height = 1, width = 1, samples_per_side = 0;  // 0: as many as the cell has pixels
  double scale = 1;

  static RoiAlign parse(const NodeReader& node) {
    RoiAlign op;
    const std::string mode = node.text("mode", "avg");
    if (mode != "avg" && mode != "max") node.fail("mode is '{}'; expected avg or max", mode);
    op.max = mode == "max";
    if (node.opset() >= 16) {
      const std::string places = node.text("coordinate_transformation_mode", "half_pixel");
      if (places != "half_pixel" && places != "output_half_pixel")
        node.fail("coordinate_transformation_mode is '{}'; expected half_pixel or output_half_pixel", places);
      op.half_pixel = places == "half_pixel";
    }
    op.height = node.integer("output_height", 1);
    op.width = node.integer("output_width", 1);
    op.samples_per_side = node.integer("sampling_ratio", 0);
    op.scale = node.number("spatial_scale", 1);
    if (!std::isfinite(op.scale)) node.fail("spatial_scale is {}; expected a finite number", op.scale);
    if (op.height < 1 || op.height > kMostCells || op.width < 1 || op.width > kMostCells)
      node.fail("the output is {} x {}; expected 1 to {}", op.height, op.width, kMostCells);
    if (op.samples_per_side < 0 || op.samples_per_side > kMostSamples)
      node.fail("sampling_ratio is {}; expected 0 to {}", op.samples_per_side, kMostSamples);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 2, type_bit(DType::kInt64), info.name));
    if (ranked(c, 2) && rank(c, 2) != 1)
      return error(Code::kInvalidGraph, "RoiAlign: batch_indices has rank {}; expected 1", rank(c, 2));
    if (ranked(c, 1) && ranked(c, 2) && rank(c, 1) == 2 && !nn::may_equal((*c.shape(1))[0], (*c.shape(2))[0]))
      return error(Code::kInvalidGraph, "RoiAlign: {} regions, but {} batch_indices", (*c.shape(1))[0].text(),
                   (*c.shape(2))[0].text());
    return infer_regions(c, 4, height, width, info.name);
  }

  Status reference(RefContext& c) const {
    const std::vector<double> x = nn::doubles(c.in(0)), rois = nn::doubles(c.in(1));
    OCIOR_RETURN_IF_ERROR(check(c.in(0).shape(), rois, c.in(2).span<int64_t>()));
    const auto count = static_cast<int64_t>(rois.size() / 4);
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, c.in(0).dtype(), output_shape(count, c.in(0).shape())));
    std::vector<double> y(static_cast<size_t>(c.out(0).count()));
    for (int64_t i = 0; i < count; ++i)
      align(c.in(0).shape(), x.data(), rois.data() + 4 * i, c.in(2).as<int64_t>()[i],
            y.data() + i * region_size(c.in(0).shape()));
    nn::store(c.out(0), y);
    return {};
  }

  double work(const BindContext& c) const { return 50.0 * static_cast<double>(c.out(0).count()); }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    const std::span<const float> given(c.in(1).as<float>(), static_cast<size_t>(c.in(1).count()));
    const std::vector<double> rois(given.begin(), given.end());
    const std::span<const int64_t> x = c.in(0).shape;
    OCIOR_RETURN_IF_ERROR(check(x, rois, {c.in(2).as<int64_t>(), static_cast<size_t>(c.in(2).count())}));
    const auto count = static_cast<int64_t>(rois.size() / 4);
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, output_shape(count, x)));
    for_items(c, count, 4 * region_size(x), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        align(x, c.in(0).as<float>(), rois.data() + 4 * i, c.in(2).as<int64_t>()[i], c.out(0).as<float>() + i * region_size(x));
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&](Attributes a, int opset = 0, DType t = DType::kFloat) {
      out.push_back({.inputs = {{.dtype = t, .shape = {2, 3, 9, 8}},
                                {.dtype = t, .shape = {3, 4}, .values = {0, 0, 5, 6, 2, 1, 12, 9, 4, 4, 3, 2}},
                                {.dtype = DType::kInt64, .shape = {3}, .values = {0, 1, 1}}},
                     .attributes = std::move(a),
                     .opset = opset,
                     .tolerance = t == DType::kFloat      ? 3e-6
                                  : t == DType::kBFloat16 ? 1e-2
                                                          : 1e-3});
    };
    for (const char* mode : {"avg", "max"})
      for (const char* places : {"half_pixel", "output_half_pixel"})
        for (const int64_t ratio : {0, 2})
          add({{"mode", std::string(mode)},
               {"coordinate_transformation_mode", std::string(places)},
               {"sampling_ratio", ratio},
               {"output_height", int64_t{3}},
               {"output_width", int64_t{2}},
               {"spatial_scale", 0.75f}});
    add({}, 10);
    for (const DType t : {DType::kDouble, DType::kFloat16, DType::kBFloat16}) add({{"output_height", int64_t{2}}}, 0, t);
    out.push_back({.inputs = {{.shape = {1, 2, 4, 4}}, {.shape = {0, 4}}, {.dtype = DType::kInt64, .shape = {0}}}});
    return out;
  }

 private:
  Shape output_shape(int64_t count, std::span<const int64_t> x) const { return {count, x[1], height, width}; }
  int64_t region_size(std::span<const int64_t> x) const { return x[1] * height * width; }

  // Start, size of a cell and samples in a cell along one side of a region.
  struct Side {
    double start, cell;
    int64_t samples;
  };
  Side side(double from, double to, int64_t cells) const {
    const double offset = half_pixel ? 0.5 : 0;
    const double start = from * scale - offset;
    double length = to * scale - offset - start;
    if (!half_pixel) length = std::max(length, 1.0);
    const double cell = length / static_cast<double>(cells);
    const double samples = cell > 0 ? std::min(std::ceil(cell), static_cast<double>(kMostSamples + 1)) : 0;
    return {start, cell, samples_per_side > 0 ? samples_per_side : static_cast<int64_t>(samples)};
  }

  Status check(std::span<const int64_t> x, const std::vector<double>& rois, std::span<const int64_t> batch) const {
    if (batch.size() * 4 != rois.size())
      return error(Code::kInvalidArgument, "RoiAlign: {} batch_indices for {} regions", batch.size(), rois.size() / 4);
    if (!batch.empty() && x[2] * x[3] == 0)
      return error(Code::kInvalidArgument, "RoiAlign: an input of shape {} has no pixels", to_string(x));
    for (size_t i = 0; i < batch.size(); ++i) {
      if (batch[i] < 0 || batch[i] >= x[0])
        return error(Code::kInvalidArgument, "RoiAlign: batch_indices[{}] is {}; expected 0 to {}", i, batch[i], x[0] - 1);
      const double* const r = rois.data() + 4 * i;
      const bool finite = std::isfinite(r[0]) && std::isfinite(r[1]) && std::isfinite(r[2]) && std::isfinite(r[3]);
      if (!finite || side(r[1], r[3], height).samples > kMostSamples || side(r[0], r[2], width).samples > kMostSamples)
        return error(Code::kInvalidArgument, "RoiAlign: region {} is ({}, {}) to ({}, {}); expected at most {} pixels for a cell",
                     i, r[0], r[1], r[2], r[3], kMostSamples);
    }
    return {};
  }

  // One region into y [c, height, width].
  template <class T>
  void align(std::span<const int64_t> shape, const T* x, const double* roi, int64_t batch, T* y) const {
    const int64_t channels = shape[1], rows = shape[2], columns = shape[3], cells = height * width;
    const Side v = side(roi[1], roi[3], height), h = side(roi[0], roi[2], width);
    x += batch * channels * rows * columns;
    const double count = static_cast<double>(std::max<int64_t>(1, v.samples * h.samples));
    const auto at = [](const Side& s, int64_t cell, int64_t sample) {
      const double within = (static_cast<double>(sample) + 0.5) * s.cell / static_cast<double>(s.samples);
      return s.start + static_cast<double>(cell) * s.cell + within;
    };
    for (int64_t cell = 0; cell < cells; ++cell) {
      for (int64_t c = 0; c < channels; ++c) y[c * cells + cell] = 0;
      for (int64_t i = 0; i < v.samples * h.samples; ++i) {
        const Between row = between(at(v, cell / width, i / h.samples), rows);
        const Between column = between(at(h, cell % width, i % h.samples), columns);
        take(row, column, columns, rows * columns, x, channels, i == 0, y + cell, cells);
      }
      for (int64_t c = 0; c < channels && !max; ++c) y[c * cells + cell] = static_cast<T>(y[c * cells + cell] / count);
    }
  }

  // One sample into each channel's cell: added, or with `max` the largest of the weighted corners.
  template <class T>
  void take(const Between& row, const Between& column, int64_t width_in, int64_t plane, const T* x, int64_t channels, bool first,
            T* y, int64_t step) const {
    const bool inside = row.inside && column.inside;
    if (!inside && !max) return;
    const T below = inside ? static_cast<T>(row.to_high) : T(0), right = static_cast<T>(column.to_high);
    const T above = inside ? 1 - below : T(0), left = 1 - right;
    const T *const upper = x + row.low * width_in, *const lower = x + row.high * width_in;
    for (int64_t c = 0; c < channels; ++c) {
      const T* const u = upper + c * plane;
      const T* const l = lower + c * plane;
      const T corners[4] = {above * left * u[column.low], above * right * u[column.high], below * left * l[column.low],
                            below * right * l[column.high]};
      T& to = y[c * step];
      if (!max) {
        to += corners[0] + corners[1] + corners[2] + corners[3];
      } else {
        const T best = *std::max_element(corners, corners + 4);
        to = first ? best : std::max(to, best);
      }
    }
  }
};
OCIOR_OPERATOR(RoiAlign)

// The largest element of each cell; a region's corners are rounded to pixels. Regions are [batch, x1, y1, x2, y2].
struct MaxRoiPool {
  static constexpr OpInfo info{.name = "MaxRoiPool", .min_inputs = 2, .max_inputs = 2};
  int64_t height = 1, width = 1;
  double scale = 1;

  static MaxRoiPool parse(const NodeReader& node) {
    MaxRoiPool op;
    const std::vector<int64_t> shape = node.integers("pooled_shape");
    const bool right = shape.size() == 2 && shape[0] > 0 && shape[1] > 0 && shape[0] <= kMostCells && shape[1] <= kMostCells;
    if (right) op.height = shape[0], op.width = shape[1];
    else node.fail("pooled_shape is {}; expected two numbers, 1 to {}", to_string(shape), kMostCells);
    op.scale = node.number("spatial_scale", 1);
    if (!std::isfinite(op.scale)) node.fail("spatial_scale is {}; expected a finite number", op.scale);
    return op;
  }

  Status infer(ShapeContext& c) const { return infer_regions(c, 5, height, width, info.name); }

  Status reference(RefContext& c) const {
    const Shape& shape = c.in(0).shape();
    const std::vector<double> x = nn::doubles(c.in(0)), rois = nn::doubles(c.in(1));
    const auto count = static_cast<int64_t>(rois.size() / 5);
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, c.in(0).dtype(), Shape{count, shape[1], height, width}));
    std::vector<double> y(static_cast<size_t>(c.out(0).count()));
    for (int64_t i = 0; i < count; ++i) {
      const double* const roi = rois.data() + 5 * i;
      if (!(roi[0] >= 0 && roi[0] < static_cast<double>(shape[0])))
        return error(Code::kInvalidArgument, "MaxRoiPool: region {} is of image {}; expected 0 to {}", i, roi[0], shape[0] - 1);
      pool(shape, x.data() + static_cast<int64_t>(roi[0]) * shape[1] * shape[2] * shape[3], roi,
           y.data() + i * shape[1] * height * width);
    }
    nn::store(c.out(0), y);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16})
      for (const float scale : {1.0f, 0.5f})
        out.push_back({.inputs = {{.dtype = t, .shape = {2, 3, 7, 8}},
                                  {.dtype = t, .shape = {3, 5}, .values = {0, 1, 1, 6, 5, 1, 0, 2, 20, 9, 1, 3, 3, 3, 3}}},
                       .attributes = {{"pooled_shape", std::vector<int64_t>{2, 3}}, {"spatial_scale", scale}}});
    return out;
  }

 private:
  // Pixels [first, last) of cell i along one side.
  std::pair<int64_t, int64_t> pixels(double from, double to, int64_t i, int64_t cells, int64_t n) const {
    const double start = std::round(from * scale), length = std::max(std::round(to * scale) - start + 1, 1.0);
    const double cell = length / static_cast<double>(cells);
    const auto pixel = [&](double x) {  // NaN falls to the first
      return x > 0 ? static_cast<int64_t>(std::min(x, static_cast<double>(n))) : int64_t{0};
    };
    return {pixel(std::floor(static_cast<double>(i) * cell) + start),
            pixel(std::ceil(static_cast<double>(i + 1) * cell) + start)};
  }

  void pool(const Shape& shape, const double* x, const double* roi, double* y) const {
    for (int64_t row = 0; row < height; ++row) {
      const auto [top, bottom] = pixels(roi[2], roi[4], row, height, shape[2]);
      for (int64_t column = 0; column < width; ++column) {
        const auto [left, right] = pixels(roi[1], roi[3], column, width, shape[3]);
        for (int64_t c = 0; c < shape[1]; ++c) {
          double best = -std::numeric_limits<double>::infinity();
          for (int64_t i = top; i < bottom; ++i)
            for (int64_t k = left; k < right; ++k) best = std::max(best, x[(c * shape[2] + i) * shape[3] + k]);
          y[(c * height + row) * width + column] = top < bottom && left < right ? best : 0;
        }
      }
    }
  }
};
OCIOR_OPERATOR(MaxRoiPool)

}  // namespace ocior::ops
