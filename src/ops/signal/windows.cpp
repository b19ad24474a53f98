// HannWindow, HammingWindow, BlackmanWindow and MelWeightMatrix: what a spectrogram is weighted with. Computed in double.
#include <cmath>
#include <numbers>

#include "ops/evaluate.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

DType output_type(const NodeReader& node) {
  const int64_t wanted = node.integer("output_datatype", 1);
  const bool number = wanted > 0 && wanted < kDTypeCount && (kNumbers & type_bit(static_cast<DType>(wanted)));
  if (!number) node.fail("output_datatype is {}; expected the number of a float or integer type", wanted);
  return number ? static_cast<DType>(wanted) : DType::kFloat;
}

Status check_scalar(const ShapeContext& c, int i, TypeSet allowed, std::string_view op) {
  OCIOR_RETURN_IF_ERROR(check_type(c, i, allowed, op));
  if (ranked(c, i))
    if (const auto n = known_product(*c.shape(i)); n && *n != 1)
      return error(Code::kInvalidArgument, "{}: input {} has shape {}; expected a scalar", op, i, to_string(*c.shape(i)));
  return {};
}

std::optional<Dim> scalar_of(ShapeContext& c, int i) {
  const auto data = data_of(c, i);
  return data && data->size() == 1 ? std::optional<Dim>((*data)[0]) : std::nullopt;
}

// A sum of cosines: a - b cos(t) + d cos(2 t), t going round once in the window.
struct Cosines {
  std::string_view name;
  double a, b, d;
};

Status check_size(std::string_view op, int64_t size) {
  if (size >= 0) return {};
  return error(Code::kInvalidArgument, "{}: the size is {}; expected 0 or more", op, size);
}

}  // namespace

template <class Self>
struct CosineWindow {
  DType type = DType::kFloat;
  bool periodic = true;

  static Self parse(const NodeReader& node) {
    Self op;
    op.type = output_type(node);
    op.periodic = node.integer("periodic", 1) != 0;
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_scalar(c, 0, kIndices, Self::cosines.name));
    const auto size = scalar_of(c, 0);
    if (size && size->known()) OCIOR_RETURN_IF_ERROR(check_size(Self::cosines.name, size->value()));
    c.set(0, type, Dims{size ? *size : c.fresh("window")});
    return {};
  }

  Status reference(RefContext& c) const {
    const int64_t size = get_int(c.in(0).dtype(), c.in(0).data(), 0);
    OCIOR_RETURN_IF_ERROR(check_size(Self::cosines.name, size));
    const int64_t shape[1] = {size};
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, type, shape));
    const double round = static_cast<double>(periodic || size == 1 ? size : size - 1);
    const auto& w = Self::cosines;
    for (int64_t i = 0; i < size; ++i) {
      const double t = 2 * std::numbers::pi * static_cast<double>(i) / round;
      const double v = periodic || size > 1 ? w.a - w.b * std::cos(t) + w.d * std::cos(2 * t) : 1;  // one element: the peak
      store<double>(type, c.out(0).data(), i, 1, &v);
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16, DType::kInt32, DType::kUint8})
      for (const double size : {0, 1, 2, 10, 33})
        for (const int64_t periodic : {0, 1})
          out.push_back({.inputs = {{DType::kInt32, {}, Fill::kZeros, {size}}},
                         .attributes = {{"periodic", periodic}, {"output_datatype", static_cast<int64_t>(t)}}});
    out.push_back({.inputs = {{DType::kInt64, {}, Fill::kZeros, {400}}}});
    return out;
  }
};

struct HannWindow : CosineWindow<HannWindow> {
  static constexpr OpInfo info{.name = "HannWindow", .since = 17};
  static constexpr Cosines cosines{"HannWindow", 0.5, 0.5, 0};
};
OCIOR_OPERATOR(HannWindow)

struct HammingWindow : CosineWindow<HammingWindow> {
  static constexpr OpInfo info{.name = "HammingWindow", .since = 17};
  static constexpr Cosines cosines{"HammingWindow", 25.0 / 46, 21.0 / 46, 0};
};
OCIOR_OPERATOR(HammingWindow)

struct BlackmanWindow : CosineWindow<BlackmanWindow> {
  static constexpr OpInfo info{.name = "BlackmanWindow", .since = 17};
  static constexpr Cosines cosines{"BlackmanWindow", 0.42, 0.5, 0.08};
};
OCIOR_OPERATOR(BlackmanWindow)

struct MelWeightMatrix {
  static constexpr OpInfo info{.name = "MelWeightMatrix", .since = 17, .min_inputs = 5, .max_inputs = 5};
  DType type = DType::kFloat;

  static MelWeightMatrix parse(const NodeReader& node) { return {output_type(node)}; }

  Status infer(ShapeContext& c) const {
    for (int i = 0; i < 5; ++i) OCIOR_RETURN_IF_ERROR(check_scalar(c, i, i < 3 ? kIndices : kFloats, "MelWeightMatrix"));
    const auto bands = scalar_of(c, 0), length = scalar_of(c, 1);
    if (bands && length && bands->known() && length->known()) OCIOR_RETURN_IF_ERROR(check_sizes(bands->value(), length->value()));
    c.set(0, type, Dims{length ? Dim::quotient(*length, 2) + 1 : c.fresh("bins"), bands ? *bands : c.fresh("bands")});
    return {};
  }

  Status reference(RefContext& c) const {
    const auto integer = [&](int i) { return get_int(c.in(i).dtype(), c.in(i).data(), 0); };
    const auto hertz = [&](int i) { return get_double(c.in(i).dtype(), c.in(i).data(), 0); };
    const int64_t bands = integer(0), length = integer(1), rate = integer(2);
    OCIOR_RETURN_IF_ERROR(check_sizes(bands, length));
    if (rate < 1) return error(Code::kInvalidArgument, "MelWeightMatrix: the sample rate is {}; expected 1 or more", rate);
    const double low = mel(hertz(3)), high = mel(hertz(4)), step = (high - low) / static_cast<double>(bands + 2);
    const int64_t bins = length / 2 + 1;
    const int64_t shape[2] = {bins, bands};
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, type, shape));
    const double zero = 0;
    for (int64_t i = 0; i < bins * bands; ++i) store<double>(type, c.out(0).data(), i, 1, &zero);

    // The bin of an edge of a band: of the spectrum's, or one past it for the upper edge of the last.
    const auto edge = [&](int64_t i) -> Result<int64_t> {
      const double f = 700 * std::expm1((low + static_cast<double>(i) * step) / kMel);
      const double bin = std::floor(static_cast<double>(length + 1) * f / static_cast<double>(rate));
      if (!(bin >= 0 && bin <= static_cast<double>(bins)))
        return error(Code::kInvalidArgument,
                     "MelWeightMatrix: bands from {} to {} Hz at a sample rate of {} reach beyond the {} bins of a DFT of {}",
                     hertz(3), hertz(4), rate, bins, length);
      return static_cast<int64_t>(bin);
    };
    const auto put = [&](int64_t bin, int64_t band, double v) {
      store<double>(type, c.out(0).data(), bin * bands + band, 1, &v);
    };
    for (int64_t band = 0; band < bands; ++band) {
      OCIOR_ASSIGN(const int64_t lower, edge(band));
      OCIOR_ASSIGN(const int64_t centre, edge(band + 1));
      OCIOR_ASSIGN(const int64_t upper, edge(band + 2));
      const int64_t last = std::min(centre, bins - 1);
      if (lower == centre && centre < bins) put(centre, band, 1);
      for (int64_t i = lower; i <= last && lower < centre; ++i)
        put(i, band, static_cast<double>(i - lower) / static_cast<double>(centre - lower));
      for (int64_t i = centre; i < std::min(upper, bins); ++i)
        put(i, band, static_cast<double>(upper - i) / static_cast<double>(upper - centre));
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kInt64})
      for (const auto& [bands, length] : {std::pair<double, double>{8, 16}, {40, 512}, {0, 16}, {3, 1}})
        out.push_back({.inputs = {{DType::kInt64, {}, Fill::kZeros, {bands}},
                                  {DType::kInt64, {}, Fill::kZeros, {length}},
                                  {DType::kInt64, {}, Fill::kZeros, {8192}},
                                  {DType::kFloat, {}, Fill::kZeros, {0}},
                                  {DType::kFloat, {}, Fill::kZeros, {4096}}},
                       .attributes = {{"output_datatype", static_cast<int64_t>(t)}}});
    return out;
  }

 private:
  static constexpr double kMel = 2595 / std::numbers::ln10;
  static double mel(double hertz) { return kMel * std::log1p(hertz / 700); }

  static Status check_sizes(int64_t bands, int64_t length) {
    constexpr int64_t kMost = int64_t{1} << 40;  // sums of sizes stay in range
    if (bands >= 0 && bands <= kMost && length >= 1 && length <= kMost) return {};
    return error(Code::kInvalidArgument, "MelWeightMatrix: {} bands of a DFT of {}; expected 0 or more, and 1 or more", bands,
                 length);
  }
};
OCIOR_OPERATOR(MelWeightMatrix)

}  // namespace ocior::ops
