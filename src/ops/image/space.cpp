// DepthToSpace, SpaceToDepth and CenterCropPad: elements of images moved, not computed
// (https://onnx.ai/onnx/operators/onnx__DepthToSpace.html).
#include <algorithm>

#include "ops/evaluate.h"
#include "ops/loops.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

constexpr int64_t kMostBlock = 1 << 15;

// Blocks of b x b pixels against b * b times the channels. DCR: the block's place leads the channels; CRD: the channel does.
struct Blocks {
  int64_t b = 1;
  bool channel_first = false;

  static Blocks parse(const NodeReader& node, int mode_since) {
    Blocks out{node.required_integer("blocksize")};
    if (out.b < 1 || out.b > kMostBlock) node.fail("blocksize is {}; expected 1 to {}", out.b, kMostBlock);
    if (node.opset() < mode_since) return out;
    const std::string mode = node.text("mode", "DCR");
    if (mode != "DCR" && mode != "CRD") node.fail("mode is '{}'; expected DCR or CRD", mode);
    out.channel_first = mode == "CRD";
    return out;
  }

  // Copies between depth [n, c * b * b, h, w] and space [n, c, h * b, w * b]; `deep` is the depth side's shape.
  BoxCopy copy(std::span<const int64_t> deep, bool to_space, DType dtype, const void* x, void* y) const {
    const int64_t c = deep[1] / (b * b), h = deep[2], w = deep[3], plane = h * w;
    const int64_t channel = channel_first ? b * b * plane : plane, place = channel_first ? plane : c * plane;
    const int64_t extents[] = {deep[0], c, h, b, w, b};
    const int64_t in_depth[] = {c * b * b * plane, channel, w, b * place, 1, place};
    const int64_t in_space[] = {c * b * b * plane, b * b * plane, b * w * b, w * b, b, 1};
    BoxCopy out{.dtype = dtype, .destination = y, .source = x};
    for (int i = 0; i < 6; ++i) out.axis(extents[i], to_space ? in_space[i] : in_depth[i], to_space ? in_depth[i] : in_space[i]);
    return out;
  }

  // The place on the depth side of pixel (row, column) of channel k on the space side.
  int64_t deep_place(const Shape& space, int64_t n, int64_t k, int64_t row, int64_t column) const {
    const int64_t block = row % b * b + column % b;
    const int64_t channel = channel_first ? k * b * b + block : block * space[1] + k;
    return ((n * space[1] * b * b + channel) * (space[2] / b) + row / b) * (space[3] / b) + column / b;
  }

  // f(place on the space side, place on the depth side) for all elements.
  template <class F>
  void each(const Shape& space, F&& f) const {
    int64_t at = 0;
    for (int64_t n = 0; n < space[0]; ++n)
      for (int64_t k = 0; k < space[1]; ++k)
        for (int64_t row = 0; row < space[2]; ++row)
          for (int64_t column = 0; column < space[3]; ++column) f(at++, deep_place(space, n, k, row, column));
  }

  static std::vector<Sample> samples(bool to_space, int mode_opset) {
    std::vector<Sample> out;
    const auto add = [&](Shape x, int64_t b, const char* mode, DType t, int opset, bool bench = false) {
      Attributes a{{"blocksize", b}};
      if (mode) a["mode"] = std::string(mode);
      out.push_back(
          {.inputs = {{.dtype = t, .shape = std::move(x)}}, .attributes = std::move(a), .opset = opset, .bench = bench});
    };
    const Shape x = to_space ? Shape{2, 12, 3, 4} : Shape{2, 3, 6, 4};
    for (const char* mode : {"DCR", "CRD"})
      for (const DType t : {DType::kFloat, DType::kUint8, DType::kString, DType::kDouble}) add(x, 2, mode, t, mode_opset);
    add(x, 2, nullptr, DType::kFloat, 1);
    add(x, 1, nullptr, DType::kFloat16, 0);
    add(to_space ? Shape{0, 8, 3, 4} : Shape{0, 2, 6, 8}, 2, nullptr, DType::kFloat, 0);
    add(to_space ? Shape{1, 64, 100, 100} : Shape{1, 16, 200, 200}, 2, nullptr, DType::kFloat, 0, true);
    return out;
  }
};

Status check_image(ShapeContext& c, std::string_view name) {
  c.set(0, c.dtype(0), std::nullopt);
  if (ranked(c, 0) && rank(c, 0) != 4)
    return error(Code::kInvalidGraph, "{}: the input has rank {}; expected [n, c, h, w]", name, rank(c, 0));
  return {};
}

// d / by, which must be exact where d is known.
Result<Dim> divided(const Dim& d, int64_t by, std::string_view name, std::string_view what) {
  if (d.known() && d.value() % by != 0)
    return error(Code::kInvalidGraph, "{}: the input has {} {}; expected a multiple of {}", name, d.value(), what, by);
  return Dim::quotient(d, by);
}

}  // namespace

struct DepthToSpace {
  static constexpr OpInfo info{.name = "DepthToSpace"};
  Blocks blocks;

  static DepthToSpace parse(const NodeReader& node) { return {Blocks::parse(node, 11)}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_image(c, info.name));
    if (!ranked(c, 0)) return {};
    const Dims& x = *c.shape(0);
    OCIOR_ASSIGN(const Dim channels, divided(x[1], blocks.b * blocks.b, info.name, "channels"));
    Dims out{x[0], channels, x[2] * Dim(blocks.b), x[3] * Dim(blocks.b)};
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    blocks.each(c.out(0).shape(),
                [&](int64_t space, int64_t depth) { copy_elements(x.dtype(), c.out(0).data(), space, x.data(), depth, 1); });
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    if (x.count() > 0) blocks.copy(x.shape, true, x.dtype, x.data, c.out(0).data).run(c);
    return {};
  }

  static std::vector<Sample> samples() { return Blocks::samples(true, 0); }
};
OCIOR_OPERATOR(DepthToSpace)

struct SpaceToDepth {
  static constexpr OpInfo info{.name = "SpaceToDepth"};
  Blocks blocks;

  static SpaceToDepth parse(const NodeReader& node) { return {Blocks::parse(node, 28)}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_image(c, info.name));
    if (!ranked(c, 0)) return {};
    const Dims& x = *c.shape(0);
    OCIOR_ASSIGN(const Dim h, divided(x[2], blocks.b, info.name, "rows"));
    OCIOR_ASSIGN(const Dim w, divided(x[3], blocks.b, info.name, "columns"));
    c.set(0, c.dtype(0), Dims{x[0], x[1] * Dim(blocks.b * blocks.b), h, w});
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    blocks.each(x.shape(),
                [&](int64_t space, int64_t depth) { copy_elements(x.dtype(), c.out(0).data(), depth, x.data(), space, 1); });
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    if (x.count() > 0) blocks.copy(c.out(0).shape, false, x.dtype, x.data, c.out(0).data).run(c);
    return {};
  }

  static std::vector<Sample> samples() { return Blocks::samples(false, 0); }
};
OCIOR_OPERATOR(SpaceToDepth)

// Each axis cut to a given length around its centre, or padded with zeros to it; an odd element too many is at the end.
struct CenterCropPad {
  static constexpr OpInfo info{.name = "CenterCropPad", .since = 18, .min_inputs = 2, .max_inputs = 2};
  std::vector<int64_t> axes;  // empty: all

  static CenterCropPad parse(const NodeReader& node) { return {node.integers("axes")}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, info.name));
    c.set(0, c.dtype(0), std::nullopt);
    if (!ranked(c, 0)) return {};
    OCIOR_ASSIGN(const std::vector<int64_t> which, which_axes(rank(c, 0)));
    Dims out = *c.shape(0);
    const auto sizes = data_of(c, 1);
    if (sizes && sizes->size() != which.size()) return wrong_count(sizes->size(), which.size());
    for (size_t i = 0; i < which.size(); ++i) {
      Dim& d = out[static_cast<size_t>(which[i])];
      d = sizes ? (*sizes)[i] : c.fresh("crop");
      if (d.known() && d.value() < 0)
        return error(Code::kInvalidArgument, "CenterCropPad: axis {} would become {}", which[i], d.value());
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const Shape shape, output_shape(x.shape(), to_ints(c.in(1))));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), shape));
    OCIOR_ASSIGN(const Tensor zero, zero_of(x.dtype()));
    const auto strides = dense_strides(x.shape());
    Shape place(shape.size());
    for (int64_t n = 0, count = element_count(shape); n < count; ++n) {
      int64_t from = 0;
      bool inside = true;
      for (size_t i = 0; i < shape.size(); ++i) {
        const int64_t at = place[i] + first(x.shape()[i], shape[i]) - first(shape[i], x.shape()[i]);
        inside &= at >= 0 && at < x.shape()[i];
        from += at * strides[i];
      }
      copy_elements(x.dtype(), c.out(0).data(), n, inside ? x.data() : zero.data(), inside ? from : 0, 1);
      for (size_t i = shape.size(); i-- > 0;) {
        if (++place[i] < shape[i]) break;
        place[i] = 0;
      }
    }
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    if (!moves_as_bytes(x.dtype) || x.dtype == DType::kString || x.rank() > kMaxRank) return run_by_reference(*this, c);
    OCIOR_ASSIGN(const Shape shape, output_shape(x.shape, to_ints(c.in(1))));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
    void* const y = c.out(0).data;
    const std::byte zero[16] = {};
    for_items(c, element_count(shape), 1,
              [&](int64_t begin, int64_t end) { fill_elements(x.dtype, y, begin, zero, 0, end - begin); });
    if (element_count(shape) == 0 || x.count() == 0) return {};
    BoxCopy copy{.dtype = x.dtype, .destination = y, .source = x.data};
    const auto from = dense_strides(x.shape), to = dense_strides(shape);
    for (size_t i = 0; i < shape.size(); ++i) {
      copy.s += first(x.shape[i], shape[i]) * from[i], copy.d += first(shape[i], x.shape[i]) * to[i];
      copy.axis(std::min(x.shape[i], shape[i]), to[i], from[i]);
    }
    copy.run(c);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&](DType t, Shape x, std::vector<double> sizes, std::vector<int64_t> axes = {}) {
      const auto n = static_cast<int64_t>(sizes.size());
      Sample s{
          .inputs = {{.dtype = t, .shape = std::move(x)}, {.dtype = DType::kInt64, .shape = {n}, .values = std::move(sizes)}}};
      if (!axes.empty()) s.attributes["axes"] = std::move(axes);
      out.push_back(std::move(s));
    };
    for (const DType t : {DType::kFloat, DType::kInt8, DType::kString, DType::kBool, DType::kDouble}) {
      add(t, {20, 10, 3}, {10, 7, 3});
      add(t, {5, 4, 3}, {8, 7, 3});
      add(t, {5, 4, 3}, {2, 9}, {0, 1});
      add(t, {5, 4, 3}, {2, 9}, {-1, 0});
    }
    add(DType::kFloat, {4}, {0});
    add(DType::kFloat, {0}, {4});
    out.push_back({.inputs = {{.shape = {7}}, {.dtype = DType::kInt32, .shape = {1}, .values = {4}}}});
    return out;
  }

 private:
  // Where the centre of `inner` elements begins in `outer`; 0 when it is the larger.
  static int64_t first(int64_t outer, int64_t inner) { return outer > inner ? (outer - inner) / 2 : 0; }

  static Status wrong_count(size_t got, size_t expected) {
    return error(Code::kInvalidArgument, "CenterCropPad: shape has {} elements; expected {}, one for each axis", got, expected);
  }

  static Result<Tensor> zero_of(DType t) {
    OCIOR_ASSIGN(Tensor zero, Tensor::allocate(t, {}));
    if (t != DType::kString) std::fill_n(zero.as<std::byte>(), zero.bytes(), std::byte{0});
    return zero;
  }

  Result<std::vector<int64_t>> which_axes(int64_t r) const {
    std::vector<int64_t> out;
    for (int64_t i = 0; axes.empty() && i < r; ++i) out.push_back(i);
    for (const int64_t axis : axes) {
      OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, r));
      if (std::find(out.begin(), out.end(), a) != out.end()) return error(Code::kInvalidGraph, "axes name axis {} twice", a);
      out.push_back(a);
    }
    return out;
  }

  Result<Shape> output_shape(std::span<const int64_t> x, const std::vector<int64_t>& sizes) const {
    OCIOR_ASSIGN(const std::vector<int64_t> which, which_axes(static_cast<int64_t>(x.size())));
    if (sizes.size() != which.size()) return wrong_count(sizes.size(), which.size());
    Shape out(x.begin(), x.end());
    for (size_t i = 0; i < which.size(); ++i) out[static_cast<size_t>(which[i])] = sizes[i];
    OCIOR_RETURN_IF_ERROR(checked_element_count(out).status());
    return out;
  }
};
OCIOR_OPERATOR(CenterCropPad)

}  // namespace ocior::ops
