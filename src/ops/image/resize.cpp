// Resize and Upsample: tensors resampled to other sizes (https://onnx.ai/onnx/operators/onnx__Resize.html).
#include <algorithm>
#include <cmath>

#include "ops/evaluate.h"
#include "ops/image/resample.h"
#include "ops/loops.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

using image::Coordinates;
using image::Interpolation;
using image::Nearest;
using image::ResampleAxis;
using image::ResampleRules;

enum class AspectRatio { kStretch, kNotLarger, kNotSmaller };

constexpr double kMostElements = 0x1p58;  // of a resized axis

template <class E, size_t N>
E choose(const NodeReader& node, const char* name, const char* otherwise, const std::pair<const char*, E> (&choices)[N]) {
  const std::string text = node.text(name, otherwise);
  std::string names;
  for (const auto& [key, value] : choices) {
    if (text == key) return value;
    names += (names.empty() ? "" : ", ") + std::string(key);
  }
  node.fail("{} is '{}'; expected one of {}", name, text, names);
  return choices[0].second;
}

// floor(size * scale) of the scale as stored: 10 * 0.7f is below 7, and gives 6.
Result<int64_t> scaled(int64_t size, float scale) {
  const double out = std::floor(static_cast<double>(size) * static_cast<double>(scale));
  if (!(scale > 0) || !(out < kMostElements))
    return error(Code::kInvalidArgument, "scale {} for a dimension of {}: expected a positive number that gives a valid size",
                 scale, size);
  return static_cast<int64_t>(out);
}

// The symbolic counterpart.
Result<Dim> scaled(ShapeContext& c, const Dim& size, float scale) {
  if (size.known()) {
    OCIOR_ASSIGN(const int64_t out, scaled(size.value(), scale));
    return Dim(out);
  }
  OCIOR_RETURN_IF_ERROR(scaled(1, scale).status());
  if (scale == std::floor(scale) && scale < 65536) return size * Dim(static_cast<int64_t>(scale));
  return c.fresh("resize");
}

std::vector<float> to_floats(const Tensor& t) {
  std::vector<float> out(static_cast<size_t>(t.count()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(get_double(t.dtype(), t.data(), static_cast<int64_t>(i)));
  return out;
}
std::vector<float> to_floats(const TensorView& t) {
  std::vector<float> out(static_cast<size_t>(t.count()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(get_double(t.dtype, t.data, static_cast<int64_t>(i)));
  return out;
}

Status check_length(std::string_view what, size_t got, size_t expected) {
  if (got == expected) return {};
  return error(Code::kInvalidArgument, "{} has {} elements; expected {}", what, got, expected);
}

// Numbers are resampled in any mode; everything else only moves.
Status check_resample(const ShapeContext& c, const ResampleRules& rules, std::string_view name) {
  if (rules.mode == Interpolation::kNearest) return check_type(c, 0, kAnyType, name);
  return check_type(c, 0, kNumbers, name);
}

template <class Op>
Status reference_of(const Op& op, RefContext& c) {
  OCIOR_ASSIGN(const auto axes, op.plan(c, c.in(0).shape()));
  Shape shape;
  for (const ResampleAxis& a : axes) shape.push_back(a.out);
  OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, c.in(0).dtype(), shape));
  OCIOR_ASSIGN(const auto taps, image::taps_of(op.rules, axes));
  image::resample_reference(op.rules, taps, c.in(0), c.out(0));
  return {};
}

// Sizes and weights are known in the run only, so that is where their tables are made; they are small beside the output.
template <class Op>
Status run_of(const Op& op, CpuContext& c) {
  OCIOR_ASSIGN(const auto axes, op.plan(c, c.in(0).shape));
  FixedShape shape;
  OCIOR_RETURN_IF_ERROR(fixed_shape(c.in(0).shape).status());
  for (const ResampleAxis& a : axes) shape.push(a.out);
  OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
  OCIOR_ASSIGN(const auto taps, image::taps_of(op.rules, axes));
  if (image::resample_run(op.rules, taps, c)) return {};
  return run_by_reference(op, c);
}

double resize_work(const BindContext& c) { return 6.0 * static_cast<double>(c.in(0).count() + c.out(0).count()); }

}  // namespace

struct Resize {
  static constexpr OpInfo info{.name = "Resize", .since = 10, .max_inputs = 4};
  ResampleRules rules;
  AspectRatio aspect = AspectRatio::kStretch;
  std::vector<int64_t> axes;  // empty: all
  bool roi_first = true;      // inputs are x, roi, scales, sizes; before opset 11: x, scales

  static Resize parse(const NodeReader& node) {
    Resize op;
    const int opset = node.opset();
    if (opset < 11) {
      op.roi_first = false;
      if (node.inputs() != 2) node.fail("expected 2 inputs before opset 11, got {}", node.inputs());
      op.rules.mode = choose<Interpolation>(node, "mode", "nearest",
                                            {{"nearest", Interpolation::kNearest}, {"linear", Interpolation::kLinear}});
      op.rules.nearest = Nearest::kFloorOrCeilWhenSmaller;
      return op;
    }
    op.rules.mode = choose<Interpolation>(
        node, "mode", "nearest",
        {{"nearest", Interpolation::kNearest}, {"linear", Interpolation::kLinear}, {"cubic", Interpolation::kCubic}});
    op.rules.coordinates = choose<Coordinates>(node, "coordinate_transformation_mode", "half_pixel",
                                               {{"half_pixel", Coordinates::kHalfPixel},
                                                {"half_pixel_symmetric", Coordinates::kHalfPixelSymmetric},
                                                {"pytorch_half_pixel", Coordinates::kPytorchHalfPixel},
                                                {"tf_half_pixel_for_nn", Coordinates::kTfHalfPixelForNn},
                                                {"align_corners", Coordinates::kAlignCorners},
                                                {"asymmetric", Coordinates::kAsymmetric},
                                                {"tf_crop_and_resize", Coordinates::kTfCropAndResize}});
    if (op.rules.coordinates == Coordinates::kTfHalfPixelForNn && opset >= 13)
      node.fail("coordinate_transformation_mode 'tf_half_pixel_for_nn' is gone since opset 13, got opset {}", opset);
    if (op.rules.coordinates == Coordinates::kHalfPixelSymmetric && opset < 19)
      node.fail("coordinate_transformation_mode 'half_pixel_symmetric' exists since opset 19, got opset {}", opset);
    op.rules.nearest = choose<Nearest>(node, "nearest_mode", "round_prefer_floor",
                                       {{"round_prefer_floor", Nearest::kRoundPreferFloor},
                                        {"round_prefer_ceil", Nearest::kRoundPreferCeil},
                                        {"floor", Nearest::kFloor},
                                        {"ceil", Nearest::kCeil}});
    op.rules.cubic_a = node.number("cubic_coeff_a", -0.75f);
    op.rules.extrapolation = node.number("extrapolation_value", 0);
    op.rules.exclude_outside = node.integer("exclude_outside", 0) != 0;
    if (opset < 18) return op;
    op.rules.antialias = node.integer("antialias", 0) != 0 && op.rules.mode != Interpolation::kNearest;
    op.aspect = choose<AspectRatio>(
        node, "keep_aspect_ratio_policy", "stretch",
        {{"stretch", AspectRatio::kStretch}, {"not_larger", AspectRatio::kNotLarger}, {"not_smaller", AspectRatio::kNotSmaller}});
    op.axes = node.integers("axes");
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_resample(c, rules, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, scales_input(), kFloats, info.name));
    if (roi_first) OCIOR_RETURN_IF_ERROR(check_type(c, 1, kFloats, info.name));
    if (roi_first) OCIOR_RETURN_IF_ERROR(check_type(c, 3, kIndices, info.name));
    c.set(0, c.dtype(0), std::nullopt);
    if (!ranked(c, 0)) return {};
    const int64_t r = rank(c, 0);
    OCIOR_ASSIGN(const std::vector<size_t> which, which_axes(r));
    Dims out = *c.shape(0);
    const std::optional<Dims> sizes = sizes_given(c) ? data_of(c, 3) : std::nullopt;
    const Tensor* scales = sizes_given(c) || !c.has(scales_input()) ? nullptr : c.constant(scales_input());
    if (sizes) {
      OCIOR_RETURN_IF_ERROR(check_length("sizes", sizes->size(), which.size()));
      OCIOR_RETURN_IF_ERROR(infer_sizes(c, which, *sizes, out));
    } else if (scales) {
      const std::vector<float> values = to_floats(*scales);
      OCIOR_RETURN_IF_ERROR(check_length("scales", values.size(), which.size()));
      for (size_t i = 0; i < which.size(); ++i) {
        OCIOR_ASSIGN(out[which[i]], scaled(c, out[which[i]], values[i]));
      }
    } else {
      for (const size_t i : which) out[i] = c.fresh("resize");
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const { return reference_of(*this, c); }
  double work(const BindContext& c) const { return resize_work(c); }
  Status run(CpuContext& c) const { return run_of(*this, c); }

  // How each axis of an input of shape x changes; C: of a run.
  template <class C>
  Result<std::vector<ResampleAxis>> plan(C& c, std::span<const int64_t> x) const {
    OCIOR_ASSIGN(const std::vector<size_t> which, which_axes(static_cast<int64_t>(x.size())));
    std::vector<ResampleAxis> out;
    for (const int64_t d : x) out.push_back({.in = d, .out = d, .length = static_cast<double>(d)});
    const bool sized = roi_first && c.has(3) && c.in(3).count() > 0;
    const bool scaled_by = c.has(scales_input()) && c.in(scales_input()).count() > 0;
    if (sized == scaled_by && !which.empty())
      return error(Code::kInvalidArgument, "expected either scales or sizes, got {}", sized ? "both" : "neither");
    if (sized) OCIOR_RETURN_IF_ERROR(by_sizes(which, to_ints(c.in(3)), out));
    if (scaled_by) OCIOR_RETURN_IF_ERROR(by_scales(which, to_floats(c.in(scales_input())), out));
    if (rules.coordinates == Coordinates::kTfCropAndResize) {
      if (!c.has(1)) return error(Code::kInvalidArgument, "tf_crop_and_resize needs input 1, the region of interest");
      const std::vector<float> roi = to_floats(c.in(1));
      OCIOR_RETURN_IF_ERROR(check_length("roi", roi.size(), 2 * which.size()));
      for (size_t i = 0; i < which.size(); ++i) out[which[i]].begin = roi[i], out[which[i]].end = roi[i + which.size()];
    }
    return out;
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto floats = [](std::vector<double> v) {
      const auto n = static_cast<int64_t>(v.size());
      return n ? SampleInput{.shape = {n}, .values = std::move(v)} : SampleInput{.omitted = true};
    };
    const auto add = [&](Shape x, std::vector<double> scales, std::vector<double> sizes, Attributes a, DType t = DType::kFloat,
                         std::vector<double> roi = {}, int opset = 0, bool bench = false) {
      const auto n = static_cast<int64_t>(sizes.size());
      Sample s{.inputs = {{.dtype = t, .shape = std::move(x)}, floats(std::move(roi)), floats(std::move(scales))},
               .attributes = std::move(a),
               .opset = opset,
               .bench = bench,
               .tolerance = t == DType::kFloat16 ? 1e-3 : 2e-6};
      if (n) s.inputs.push_back({.dtype = DType::kInt64, .shape = {n}, .values = std::move(sizes)});
      out.push_back(std::move(s));
    };
    using Text = std::string;
    for (const char* mode : {"nearest", "linear", "cubic"})
      for (const char* place : {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"}) {
        const Attributes a{{"mode", Text(mode)}, {"coordinate_transformation_mode", Text(place)}};
        add({1, 2, 5, 6}, {1, 1, 1.7, 0.6}, {}, a);
        add({1, 2, 5, 6}, {}, {1, 2, 7, 1}, a);
      }
    for (const char* nearest : {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"})
      for (const DType t : {DType::kFloat, DType::kUint8, DType::kString, DType::kInt64, DType::kFloat16, DType::kBool})
        add({2, 4, 3}, {1, 0.6, 2}, {}, {{"nearest_mode", Text(nearest)}}, t);
    for (const char* mode : {"linear", "cubic"})
      for (const int64_t exclude : {0, 1})
        for (const DType t : {DType::kFloat, DType::kInt8, DType::kDouble, DType::kFloat16})
          add({1, 1, 9, 6}, {}, {1, 1, 4, 8}, {{"mode", Text(mode)}, {"antialias", int64_t{1}}, {"exclude_outside", exclude}}, t);
    const Attributes crop{
        {"mode", Text("linear")}, {"coordinate_transformation_mode", Text("tf_crop_and_resize")}, {"extrapolation_value", 7.5f}};
    add({1, 2, 4, 5}, {}, {1, 2, 3, 3}, crop, DType::kFloat, {0, 0, 0.4, 0.6, 1, 1, 1.2, 1.7});
    Attributes nearest_crop = crop;
    nearest_crop["mode"] = Text("nearest");
    add({1, 2, 4, 5}, {}, {1, 2, 3, 3}, nearest_crop, DType::kInt32, {0, 0, 0.4, 0.6, 1, 1, 1.2, 1.7});
    for (const char* policy : {"not_larger", "not_smaller"})
      add({1, 2, 4, 6}, {}, {7, 8},
          {{"keep_aspect_ratio_policy", Text(policy)}, {"axes", std::vector<int64_t>{-1, 2}}, {"mode", Text("linear")}});
    add({2, 30, 31, 5}, {2, 2}, {}, {{"axes", std::vector<int64_t>{1, 2}}, {"mode", Text("linear")}});
    add({2, 30, 31, 5}, {2, 2}, {}, {{"axes", std::vector<int64_t>{1, 2}}});
    add({40, 33, 35}, {1, 2, 2}, {}, {{"mode", Text("linear")}});
    add({40, 33, 35}, {1, 2, 2}, {}, {});
    add({3, 4, 5}, {2, 1, 3}, {}, {{"mode", Text("linear")}});
    add({3, 0, 5}, {2, 1, 3}, {}, {});
    add({7}, {3}, {}, {{"mode", Text("linear")}, {"coordinate_transformation_mode", Text("tf_half_pixel_for_nn")}}, DType::kFloat,
        {0, 1}, 11);
    for (const char* mode : {"nearest", "linear"})
      for (const double s : {0.6, 1.5})
        out.push_back({.inputs = {{.shape = {2, 5, 5}}, {.shape = {3}, .values = {1, s, s}}},
                       .attributes = {{"mode", Text(mode)}},
                       .opset = 10,
                       .tolerance = 2e-6});
    for (const char* mode : {"nearest", "linear"})
      add({1, 64, 100, 100}, {1, 1, 2, 2}, {}, {{"mode", Text(mode)}}, DType::kFloat, {}, 0, true);
    return out;
  }

 private:
  int scales_input() const { return roi_first ? 2 : 1; }

  // Sizes decide unless they are known to be an empty list.
  bool sizes_given(const ShapeContext& c) const { return roi_first && c.has(3) && length_of(c, 3) != std::optional<int64_t>(0); }

  Result<std::vector<size_t>> which_axes(int64_t r) const {
    std::vector<size_t> out;
    std::vector<bool> seen(static_cast<size_t>(r));
    for (int64_t i = 0; axes.empty() && i < r; ++i) out.push_back(static_cast<size_t>(i));
    for (const int64_t axis : axes) {
      OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, r));
      if (seen[static_cast<size_t>(a)]) return error(Code::kInvalidGraph, "axes name axis {} twice", a);
      seen[static_cast<size_t>(a)] = true;
      out.push_back(static_cast<size_t>(a));
    }
    return out;
  }

  Status infer_sizes(ShapeContext& c, const std::vector<size_t>& which, const Dims& sizes, Dims& out) const {
    const auto numbers = known_shape(sizes);
    std::vector<ResampleAxis> axes_now;
    for (const Dim& d : out) axes_now.push_back({.in = d.known() ? d.value() : -1, .out = d.known() ? d.value() : -1});
    const bool all_known = numbers && std::all_of(which.begin(), which.end(), [&](size_t i) { return out[i].known(); });
    if (all_known) OCIOR_RETURN_IF_ERROR(by_sizes(which, *numbers, axes_now));
    for (size_t i = 0; i < which.size(); ++i) {
      if (all_known) out[which[i]] = axes_now[which[i]].out;
      else out[which[i]] = aspect == AspectRatio::kStretch ? sizes[i] : c.fresh("resize");
    }
    return {};
  }

  Status by_sizes(const std::vector<size_t>& which, const std::vector<int64_t>& sizes, std::vector<ResampleAxis>& out) const {
    OCIOR_RETURN_IF_ERROR(check_length("sizes", sizes.size(), which.size()));
    double common = aspect == AspectRatio::kNotLarger ? INFINITY : 0;
    for (size_t i = 0; i < which.size(); ++i) {
      ResampleAxis& a = out[which[i]];
      if (sizes[i] < 0 || static_cast<double>(sizes[i]) > kMostElements)
        return error(Code::kInvalidArgument, "sizes has element {}; expected a dimension", sizes[i]);
      if (a.in == 0 && sizes[i] > 0)
        return error(Code::kInvalidArgument, "axis {} has no elements and cannot become {}", which[i], sizes[i]);
      a.out = sizes[i];
      a.length = static_cast<double>(a.out);
      const double scale = a.in == 0 ? 1 : a.length / static_cast<double>(a.in);
      common = aspect == AspectRatio::kNotLarger ? std::min(common, scale) : std::max(common, scale);
    }
    if (aspect == AspectRatio::kStretch) return {};
    for (const size_t i : which) {
      out[i].length = common * static_cast<double>(out[i].in);
      const double size = std::floor(out[i].length + 0.5);
      if (!(size < kMostElements)) return error(Code::kInvalidArgument, "axis {} would have {} elements", i, size);
      out[i].out = static_cast<int64_t>(size);
    }
    return {};
  }

  static Status by_scales(const std::vector<size_t>& which, const std::vector<float>& scales, std::vector<ResampleAxis>& out) {
    OCIOR_RETURN_IF_ERROR(check_length("scales", scales.size(), which.size()));
    for (size_t i = 0; i < which.size(); ++i) {
      ResampleAxis& a = out[which[i]];
      OCIOR_ASSIGN(a.out, scaled(a.in, scales[i]));
      a.length = static_cast<double>(scales[i]) * static_cast<double>(a.in);
    }
    return {};
  }
};
OCIOR_OPERATOR(Resize)

// Resize's predecessor: places are divided by the scale, nearest ones rounded down. Since opset 10 Resize takes its place.
struct Upsample {
  static constexpr OpInfo info{.name = "Upsample", .max_inputs = 2};
  ResampleRules rules;
  std::optional<std::vector<float>> fixed;  // scales before opset 9

  static Upsample parse(const NodeReader& node) {
    Upsample op;
    op.rules.mode = choose<Interpolation>(
        node, "mode", "nearest",
        {{"nearest", Interpolation::kNearest}, {"linear", Interpolation::kLinear}, {"bilinear", Interpolation::kLinear}});
    if (node.opset() >= 9) {
      if (node.inputs() != 2) node.fail("expected 2 inputs since opset 9, got {}", node.inputs());
      return op;
    }
    if (node.inputs() != 1) node.fail("scales are attributes before opset 9, got {} inputs", node.inputs());
    op.fixed = node.opset() >= 7 ? node.numbers("scales")
                                 : std::vector<float>{1, 1, node.number("height_scale", 0), node.number("width_scale", 0)};
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_resample(c, rules, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kFloats, info.name));
    c.set(0, c.dtype(0), std::nullopt);
    if (!ranked(c, 0)) return {};
    Dims out = *c.shape(0);
    const Tensor* t = fixed ? nullptr : c.constant(1);
    if (!fixed && !t) return c.set(0, c.dtype(0), fresh_dims(c, rank(c, 0), "upsample")), Status();
    const std::vector<float> scales = fixed ? *fixed : to_floats(*t);
    OCIOR_RETURN_IF_ERROR(check_length("scales", scales.size(), out.size()));
    for (size_t i = 0; i < out.size(); ++i) {
      OCIOR_ASSIGN(out[i], scaled(c, out[i], scales[i]));
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const { return reference_of(*this, c); }
  double work(const BindContext& c) const { return resize_work(c); }
  Status run(CpuContext& c) const { return run_of(*this, c); }

  template <class C>
  Result<std::vector<ResampleAxis>> plan(C& c, std::span<const int64_t> x) const {
    const std::vector<float> scales = fixed ? *fixed : to_floats(c.in(1));
    OCIOR_RETURN_IF_ERROR(check_length("scales", scales.size(), x.size()));
    std::vector<ResampleAxis> out;
    for (size_t i = 0; i < x.size(); ++i) {
      OCIOR_ASSIGN(const int64_t size, scaled(x[i], scales[i]));
      out.push_back({.in = x[i], .out = size, .length = static_cast<double>(scales[i]) * static_cast<double>(x[i])});
    }
    return out;
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const char* mode : {"nearest", "linear"}) {
      const Attributes a{{"mode", std::string(mode)}};
      for (const DType t : {DType::kFloat, DType::kInt32, DType::kFloat16})
        out.push_back({.inputs = {{.dtype = t, .shape = {1, 2, 3, 4}}, {.shape = {4}, .values = {1, 1, 2, 1.7}}},
                       .attributes = a,
                       .opset = 9,
                       .tolerance = t == DType::kFloat16 ? 1e-3 : 2e-6});
      Attributes listed = a, named = a;
      listed["scales"] = std::vector<float>{1, 2, 3};
      named["height_scale"] = 2.0f, named["width_scale"] = 1.5f;
      out.push_back({.inputs = {{.shape = {2, 3, 4}}}, .attributes = listed, .opset = 7, .tolerance = 2e-6});
      out.push_back({.inputs = {{.shape = {1, 2, 3, 4}}}, .attributes = named, .opset = 1, .tolerance = 2e-6});
    }
    return out;
  }
};
OCIOR_OPERATOR(Upsample)

}  // namespace ocior::ops
