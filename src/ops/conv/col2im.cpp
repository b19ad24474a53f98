// Col2Im: adds up columns of overlapping blocks into an image, the inverse walk of a convolution's windows
// (https://onnx.ai/onnx/operators/onnx__Col2Im.html).
#include "base/pool.h"
#include "ops/conv/window.h"
#include "ops/evaluate.h"
#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct Col2Im {
  static constexpr OpInfo info{.name = "Col2Im", .since = 18, .min_inputs = 3, .max_inputs = 3};

  conv::Window window;

  static Col2Im parse(const NodeReader& node) {
    Col2Im op{conv::Window::parse(node, false)};
    if (node.has("group") || node.has("kernel_shape")) node.fail("group and kernel_shape are no attributes of Col2Im");
    return op;
  }

  Status infer(ShapeContext& c) const {
    constexpr TypeSet kTypes = kNumbers | kBools | types(DType::kComplex64, DType::kComplex128);
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kTypes, "Col2Im"));
    for (const int i : {1, 2}) OCIOR_RETURN_IF_ERROR(check_type(c, i, types(DType::kInt64), "Col2Im"));
    c.set(0, c.dtype(0), std::nullopt);
    if (ranked(c, 0) && rank(c, 0) != 3)
      return error(Code::kInvalidGraph, "Col2Im: input 0 has shape {}; expected [n, c * block, blocks]", to_string(*c.shape(0)));
    const auto image = data_of(c, 1);
    std::optional<int64_t> spatial = length_of(c, 1);
    if (image) spatial = std::ssize(*image);
    if (!spatial) return {};
    OCIOR_RETURN_IF_ERROR(check_spatial(*spatial));
    const auto block = ints_of(c, 2);
    Dims out{ranked(c, 0) ? (*c.shape(0))[0] : c.fresh("batch"), c.fresh("channels")};
    for (int64_t i = 0; i < *spatial; ++i) out.push_back(image ? (*image)[static_cast<size_t>(i)] : c.fresh("image"));
    const auto numbers = image ? known_shape(*image) : std::nullopt;
    if (numbers && block && ranked(c, 0)) {
      OCIOR_ASSIGN(const conv::Geometry g, geometry(*numbers, *block));
      const Dim &rows = (*c.shape(0))[1], &blocks = (*c.shape(0))[2];
      OCIOR_RETURN_IF_ERROR(
          check_columns(g, rows.known() ? rows.value() : g.taps(), blocks.known() ? blocks.value() : g.pixels()));
      out[1] = Dim::quotient(rows, g.taps());
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(const conv::Geometry g, geometry(to_ints(c.in(1)), to_ints(c.in(2))));
    const Tensor& x = c.in(0);
    OCIOR_RETURN_IF_ERROR(check_columns(g, x.shape()[1], x.shape()[2]));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), shape_of(g, x.shape())));
    Tensor& y = c.out(0);
    const auto planes = static_cast<size_t>(x.shape()[0] * (x.shape()[1] / g.taps()));
    switch (x.dtype()) {
      case DType::kFloat: add_up<double>(g, planes, x.as<float>(), y.as<float>()); break;
      case DType::kDouble: add_up<double>(g, planes, x.as<double>(), y.as<double>()); break;
      case DType::kComplex64: add_complex(g, planes, x.as<float>(), y.as<float>()); break;
      case DType::kComplex128: add_complex(g, planes, x.as<double>(), y.as<double>()); break;
      default: add_elements(g, planes, x, y);
    }
    return {};
  }

  // A worker adds up whole channels, in the order of the reference.
  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    OCIOR_ASSIGN(const FixedShape image, fixed_ints(c.in(1), "image_shape"));
    OCIOR_ASSIGN(const FixedShape block, fixed_ints(c.in(2), "block_shape"));
    OCIOR_ASSIGN(const conv::Geometry g, geometry(image, block));
    OCIOR_RETURN_IF_ERROR(check_columns(g, c.in(0).shape[1], c.in(0).shape[2]));
    FixedShape shape;
    shape.push(c.in(0).shape[0]), shape.push(c.in(0).shape[1] / g.taps());
    for (int64_t i = 0; i < image.rank; ++i) shape.push(image[i]);
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
    const int64_t plane = g.plane(), columns = g.taps() * g.pixels();
    const float* x = c.in(0).as<float>();
    float* y = c.out(0).as<float>();
    if (plane == 0) return {};
    c.team().parallel_for(shape[0] * shape[1], c.stop(), [&](int64_t i, int) {
      std::fill_n(y + i * plane, plane, 0.0f);
      conv::scatter_plane(g, x + i * columns, y + i * plane);
    });
    return {};
  }

  static std::vector<Sample> samples();

 private:
  Status check_spatial(int64_t spatial) const {
    if (spatial < 1 || spatial > conv::kMaxSpatial)
      return error(Code::kInvalidArgument, "Col2Im: image_shape has {} elements; expected 1 to {}", spatial, conv::kMaxSpatial);
    return window.check_rank(spatial);
  }

  // The convolution whose windows the columns are: from the image to blocks.
  Result<conv::Geometry> geometry(std::span<const int64_t> image, std::span<const int64_t> block) const {
    OCIOR_RETURN_IF_ERROR(check_spatial(std::ssize(image)));
    if (image.size() != block.size())
      return error(Code::kInvalidArgument, "Col2Im: image_shape {} and block_shape {} differ in length", to_string(image),
                   to_string(block));
    FixedShape x, w;
    for (FixedShape* s : {&x, &w}) s->push(1), s->push(1);
    for (size_t i = 0; i < image.size(); ++i) {
      if (image[i] < 0) return error(Code::kInvalidArgument, "Col2Im: image_shape is {}; expected no negative", to_string(image));
      x.push(image[i]), w.push(block[i]);
    }
    OCIOR_ASSIGN(conv::Geometry g, window.geometry(x, w));
    FixedShape blocks;
    for (int64_t i = 0; i < g.spatial; ++i) blocks.push(g.axes[static_cast<size_t>(i)].out);
    OCIOR_RETURN_IF_ERROR(checked_element_count(blocks).status());
    return g;
  }

  static Status check_columns(const conv::Geometry& g, int64_t rows, int64_t blocks) {
    if (rows % g.taps() != 0)
      return error(Code::kInvalidArgument,
                   "Col2Im: dimension 1 of the input is {}; expected a multiple of the block's {} elements", rows, g.taps());
    if (blocks != g.pixels())
      return error(Code::kInvalidArgument, "Col2Im: dimension 2 of the input is {}, but {} blocks fit the image", blocks,
                   g.pixels());
    return {};
  }

  static Shape shape_of(const conv::Geometry& g, const Shape& x) {
    Shape out{x[0], x[1] / g.taps()};
    for (int64_t i = 0; i < g.spatial; ++i) out.push_back(g.axes[static_cast<size_t>(i)].in);
    return out;
  }

  // Sums in S of planes of T.
  template <class S, class T>
  static void add_up(const conv::Geometry& g, size_t planes, const T* x, T* y) {
    const auto plane = static_cast<size_t>(g.plane()), columns = static_cast<size_t>(g.taps() * g.pixels());
    for (size_t i = 0; i < planes; ++i) {
      const std::vector<S> from(x + i * columns, x + (i + 1) * columns);
      std::vector<S> sums(plane);
      conv::scatter_plane(g, from.data(), sums.data());
      for (size_t k = 0; k < plane; ++k) y[i * plane + k] = static_cast<T>(sums[k]);
    }
  }

  // Real and imaginary parts by themselves.
  template <class T>
  static void add_complex(const conv::Geometry& g, size_t planes, const T* x, T* y) {
    const auto plane = static_cast<size_t>(g.plane()), columns = static_cast<size_t>(g.taps() * g.pixels());
    for (size_t part = 0; part < 2; ++part) {
      std::vector<T> from(planes * columns), to(planes * plane);
      for (size_t i = 0; i < from.size(); ++i) from[i] = x[2 * i + part];
      add_up<double>(g, planes, from.data(), to.data());
      for (size_t i = 0; i < to.size(); ++i) y[2 * i + part] = to[i];
    }
  }

  // Types without arithmetic of their own: narrow floats in double, integers modulo their width, bools by or.
  static void add_elements(const conv::Geometry& g, size_t planes, const Tensor& x, Tensor& y) {
    const DType t = x.dtype();
    const auto count = static_cast<size_t>(x.count());
    if (is_floating(t)) {
      const std::vector<double> from = nn::doubles(x);
      std::vector<double> to(static_cast<size_t>(y.count()));
      add_up<double>(g, planes, from.data(), to.data());
      return nn::store(y, to);
    }
    std::vector<uint64_t> from(count), to(static_cast<size_t>(y.count()));
    for (size_t i = 0; i < count; ++i) from[i] = static_cast<uint64_t>(get_int(t, x.data(), static_cast<int64_t>(i)));
    add_up<uint64_t>(g, planes, from.data(), to.data());
    for (size_t i = 0; i < to.size(); ++i)
      set_int(t, y.data(), static_cast<int64_t>(i), static_cast<int64_t>(t == DType::kBool ? to[i] != 0 : to[i]));
  }
};

std::vector<Sample> Col2Im::samples() {
  using Ints = std::vector<int64_t>;
  std::vector<Sample> out;
  const auto add = [&out](DType dtype, Shape x, std::vector<double> image, std::vector<double> block,
                          Attributes attributes = {}) {
    const auto axes = static_cast<int64_t>(image.size());
    const bool whole = !is_floating(dtype) && dtype != DType::kComplex64 && dtype != DType::kComplex128;
    out.push_back({.inputs = {{.dtype = dtype, .shape = std::move(x), .fill = whole ? Fill::kBools : Fill::kUniform},
                              {.dtype = DType::kInt64, .shape = {axes}, .values = std::move(image)},
                              {.dtype = DType::kInt64, .shape = {axes}, .values = std::move(block)}},
                   .attributes = std::move(attributes),
                   .tolerance = dtype == DType::kDouble || dtype == DType::kFloat ? 1e-6 : 1e-2});
  };
  for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16, DType::kInt8, DType::kInt16,
                        DType::kInt32, DType::kInt64, DType::kUint8, DType::kUint16, DType::kUint32, DType::kUint64, DType::kBool,
                        DType::kComplex64, DType::kComplex128})
    add(t, {2, 12, 4}, {4, 5}, {2, 3}, {{"strides", Ints{2, 2}}});
  add(DType::kFloat, {1, 5, 5}, {5, 5}, {1, 5});
  add(DType::kFloat, {1, 9, 4}, {5, 5}, {3, 3}, {{"strides", Ints{2, 2}}});
  add(DType::kFloat, {1, 15, 49}, {5, 5}, {3, 5}, {{"pads", Ints{1, 2, 3, 4}}, {"strides", Ints{1, 1}}});
  add(DType::kFloat, {1, 4, 5}, {6, 6}, {2, 2}, {{"dilations", Ints{1, 5}}});
  add(DType::kFloat, {1, 10, 12}, {3, 4, 5}, {1, 1, 5});
  add(DType::kFloat, {2, 3, 7}, {9}, {3});
  add(DType::kFloat, {0, 9, 9}, {5, 5}, {3, 3});
  return out;
}

OCIOR_OPERATOR(Col2Im)

}  // namespace ocior::ops
