// GatherBlockQuantized of com.microsoft: Gather of rows whose elements are stored in few bits, with a scale (and a zero point)
// for each block along one axis. An index out of range gives zeros.
#include <cmath>

#include "ops/microsoft/microsoft.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct GatherBlockQuantized {
  static constexpr OpInfo info{.name = "GatherBlockQuantized", .domain = kMicrosoft, .min_inputs = 3, .max_inputs = 4};
  enum Input { kData, kPicks, kScales, kZeroPoints };

  int64_t gather_axis = 0, quantize_axis = 1, block = 128, bits = 4;

  static GatherBlockQuantized parse(const NodeReader& node) {
    GatherBlockQuantized op{node.integer("gather_axis", 0), node.integer("quantize_axis", 1), node.integer("block_size", 128),
                            node.integer("bits", 4)};
    if (op.bits != 2 && op.bits != 4 && op.bits != 8) node.fail("bits is {}; expected 2, 4 or 8", op.bits);
    if (op.block != 0 && (op.block < 16 || op.block > 1 << 30 || (op.block & (op.block - 1)) != 0))
      node.fail("block_size is {}; expected a power of two from 16 on, or 0 for floats of 8 or 4 bits", op.block);
    return op;
  }

  Status infer(ShapeContext& c) const {
    const DType t = c.dtype(kData);
    OCIOR_RETURN_IF_ERROR(check_type(c, kData, kSmallFloats | types(DType::kInt4, DType::kUint4, DType::kUint8), info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, kPicks, kIndices, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, kScales, types(DType::kFloat, DType::kFloat16, DType::kBFloat16), info.name));
    if (c.has(kZeroPoints) && is_small_float(t))
      return error(Code::kInvalidGraph, "zero_points are given, but {} data has none", name_of(t));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, kData, kZeroPoints, info.name));
    if (block == 0 && !is_small_float(t))
      return error(Code::kInvalidGraph, "block_size is 0, which {} data does not allow; expected a power of two from 16 on",
                   name_of(t));
    c.set(0, c.dtype(kScales), std::nullopt);
    if (!c.shape(kData)) return {};
    Dims data = *c.shape(kData);
    if (data.size() > kMaxRank)
      return error(Code::kNotImplemented, "data of {} axes is not supported; expected {} at most", data.size(), kMaxRank);
    OCIOR_ASSIGN(const int64_t gather, resolve_axis(gather_axis, std::ssize(data), "gather_axis"));
    OCIOR_ASSIGN(const int64_t quantize, resolve_axis(quantize_axis, std::ssize(data), "quantize_axis"));
    if (t == DType::kUint8) {
      if (gather != 0) return error(Code::kInvalidGraph, "gather_axis is {}; expected 0 for uint8 data", gather);
      if (bits < 8 && quantize + 1 != std::ssize(data))
        return error(Code::kNotImplemented, "quantize_axis is {}; expected the last of {} axes for elements packed in bytes",
                     quantize, data.size());
      if (bits < 8 && quantize == gather)
        return error(Code::kInvalidGraph, "gather_axis and quantize_axis are both {}; expected two axes for packed data", gather);
      data.back() = data.back() * Dim(8 / bits);
    }
    OCIOR_RETURN_IF_ERROR(check_scales(c, data, static_cast<size_t>(quantize)));
    if (!c.shape(kPicks)) return {};
    Dims out(data.begin(), data.begin() + gather);
    out.insert(out.end(), c.shape(kPicks)->begin(), c.shape(kPicks)->end());
    out.insert(out.end(), data.begin() + gather + 1, data.end());
    c.set(0, c.dtype(kScales), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    if (c.out(0).count() == 0) return {};
    const auto view = [](const Tensor& t) { return Part{t.dtype(), t.shape(), t.data()}; };
    const Plan plan(*this, view(c.in(kData)), view(c.in(kPicks)), view(c.in(kScales)),
                    c.has(kZeroPoints) ? view(c.in(kZeroPoints)) : Part());
    for (int64_t row = 0; row < plan.rows(); ++row) plan.fill(row, c.out(0).dtype(), c.out(0).data());
    return {};
  }

  Status run(CpuContext& c) const {
    if (c.out(0).count() == 0) return {};
    const auto view = [](const TensorView& t) { return Part{t.dtype, t.shape, t.data}; };
    const Plan plan(*this, view(c.in(kData)), view(c.in(kPicks)), view(c.in(kScales)),
                    c.has(kZeroPoints) ? view(c.in(kZeroPoints)) : Part());
    nn::parallel_rows(c, plan.rows(), 8 * plan.inner, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) plan.fill(row, c.out(0).dtype, c.out(0).data);
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&](DType t, Shape data, Shape scales, std::optional<Shape> points, int64_t gather, int64_t quantize,
                         int64_t block, int64_t bits, DType result = DType::kFloat) {
      const Fill fill = is_small_float(t) ? Fill::kUniform : Fill::kSmallInts;
      Sample s{.inputs = {{t, std::move(data), fill},
                          {DType::kInt64, {2, 3}, Fill::kZeros, {0, -1, 2, 1, -3, 900}},
                          {result, std::move(scales)}},
               .attributes = {{"gather_axis", gather}, {"quantize_axis", quantize}, {"block_size", block}, {"bits", bits}},
               .tolerance = result == DType::kFloat ? 1e-6 : 1e-2};
      if (points) s.inputs.push_back({t, std::move(*points), fill});
      out.push_back(std::move(s));
    };
    for (const DType result : {DType::kFloat, DType::kFloat16, DType::kBFloat16}) {
      add(DType::kUint8, {5, 24}, {5, 3}, Shape{5, 2}, 0, 1, 16, 4, result);
      add(DType::kUint8, {5, 24}, {5, 3}, std::nullopt, 0, -1, 16, 4, result);
    }
    add(DType::kUint8, {5, 2, 8}, {5, 2, 2}, Shape{5, 2, 1}, 0, 2, 16, 2);
    add(DType::kUint8, {5, 20, 3}, {5, 2, 3}, Shape{5, 2, 3}, 0, 1, 16, 8);
    for (const DType t : {DType::kInt4, DType::kUint4}) {
      add(t, {5, 20}, {5, 2}, Shape{5, 2}, 0, 1, 16, 4);
      add(t, {20, 5}, {2, 5}, std::nullopt, 1, 0, 16, 4);
      add(t, {20, 5}, {2, 5}, std::nullopt, 0, 0, 16, 4);
    }
    add(DType::kFloat8E4M3FN, {5, 20}, {1, 2}, std::nullopt, 0, 1, 16, 4);
    add(DType::kFloat8E4M3FN, {5, 20}, {5, 1}, std::nullopt, 0, 1, 0, 4);
    add(DType::kUint8, {0, 24}, {0, 3}, std::nullopt, 0, 1, 16, 4);
    return out;
  }

 private:
  static constexpr TypeSet kSmallFloats =
      types(DType::kFloat8E4M3FN, DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2, DType::kFloat8E5M2FNUZ, DType::kFloat4E2M1);
  static bool is_small_float(DType t) { return (kSmallFloats & type_bit(t)) != 0; }

  Status check_scales(const ShapeContext& c, const Dims& data, size_t quantize) const {
    if (!c.shape(kScales)) return {};
    const Dims& scales = *c.shape(kScales);
    bool fits = scales.size() == data.size();
    for (size_t i = 0; i < data.size() && fits; ++i) {
      if (i != quantize) fits = nn::may_equal(scales[i], data[i]) || (is_small_float(c.dtype(kData)) && scales[i] == Dim(1));
      else if (block == 0) fits = nn::may_equal(scales[i], Dim(1));
      else fits = !data[i].known() || nn::may_equal(scales[i], Dim(nn::chunks_of(data[i].value(), block)));
    }
    if (!fits)
      return error(Code::kInvalidArgument,
                   "scales have shape {}; expected that of the data, {}, with one element for {} on axis {}", to_string(scales),
                   to_string(data), block == 0 ? "all" : fmt::format("each {}", block), quantize);
    Dims points = scales;
    if (c.dtype(kData) == DType::kUint8 && bits < 8)
      points.back() = Dim::quotient(points.back() + Dim(8 / bits - 1), Dim(8 / bits));
    return check_input(c, kZeroPoints, "zero_points", points);
  }

  struct Part {
    DType dtype = DType::kUndefined;
    std::span<const int64_t> shape;
    const void* data = nullptr;
  };

  // A run of inner elements of the output for each of outer places before the gathered axis and each index.
  struct Plan {
    Part data, indices, scales, points;
    int64_t packed = 0;  // bits of an element of uint8 data
    int64_t quantize, block, outer, length, inner, picks;
    int64_t extent[kMaxRank], step[kMaxRank];  // axes of the data, and what a place on each moves in the scales

    Plan(const GatherBlockQuantized& op, Part d, Part i, Part s, Part z) : data(d), indices(i), scales(s), points(z) {
      const auto rank = std::ssize(d.shape);
      const int64_t gather = op.gather_axis < 0 ? op.gather_axis + rank : op.gather_axis;
      quantize = op.quantize_axis < 0 ? op.quantize_axis + rank : op.quantize_axis;
      packed = d.dtype == DType::kUint8 ? op.bits : 0;
      for (int64_t a = rank, below = 1; a-- > 0;) {
        extent[a] = d.shape[static_cast<size_t>(a)] * (packed && a == rank - 1 ? 8 / packed : 1);
        step[a] = s.shape[static_cast<size_t>(a)] == 1 ? 0 : below;
        below *= s.shape[static_cast<size_t>(a)];
      }
      block = op.block ? op.block : std::max<int64_t>(1, extent[quantize]);
      const std::span<const int64_t> shape(extent, d.shape.size());
      outer = nn::extent(shape, 0, gather), length = extent[gather], inner = nn::extent(shape, gather + 1, rank);
      picks = element_count(i.shape);
    }

    int64_t rows() const { return inner == 0 ? 0 : outer * picks; }

    void fill(int64_t row, DType t, void* y) const {
      const int64_t given = get_int(indices.dtype, indices.data, row % picks), at = given < 0 ? given + length : given;
      for (int64_t j = 0; j < inner; ++j)
        set_double(t, y, row * inner + j, at < 0 || at >= length ? 0 : value((row / picks * length + at) * inner + j));
    }

    double value(int64_t element) const {
      int64_t scale = 0, rest = element;
      for (int64_t a = std::ssize(data.shape); a-- > 0; rest /= extent[a])
        scale += rest % extent[a] / (a == quantize ? block : 1) * step[a];
      const double factor = get_double(scales.dtype, scales.data, scale);
      if (!packed) {
        const double zero = points.data ? get_double(points.dtype, points.data, scale) : 0;
        return (get_double(data.dtype, data.data, element) - zero) * factor;
      }
      double zero = static_cast<double>(int64_t{1} << (packed - 1));
      if (points.data) {
        const int64_t columns = scales.shape.back();
        zero = part(points.data, scale / columns * points.shape.back(), scale % columns);
      }
      return (part(data.data, 0, element) - zero) * factor;
    }

    // Element i of those that begin at byte `first`.
    double part(const void* bytes, int64_t first, int64_t i) const {
      const uint8_t byte = static_cast<const uint8_t*>(bytes)[first + i * packed / 8];
      return byte >> (i * packed % 8) & ((1 << packed) - 1);
    }
  };
};

OCIOR_OPERATOR(GatherBlockQuantized)

}  // namespace ocior::ops
