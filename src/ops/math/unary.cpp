#include "ops/math/unary.h"

#include "ops/move.h"

namespace ocior::ops {

Status unary_infer(const UnarySpec& spec, ShapeContext& c) {
  OCIOR_RETURN_IF_ERROR(check_type(c, 0, spec.types, spec.name));
  c.set(0, spec.to_bool ? DType::kBool : c.dtype(0), c.shape(0));
  if (spec.dims && carries_data(c.dtype(0))) combine_data(c, [&spec](std::span<const Dim> x) { return spec.dims(x[0]); });
  return {};
}

namespace {

template <class C>
void compute(UnaryStrip<C> f, const UnaryParameters& parameters, DType x_type, const void* x, DType y_type, void* y,
             int64_t begin, int64_t end) {
  alignas(64) C in[kStrip], out[kStrip];
  for (int64_t at = begin; at < end; at += kStrip) {
    const int64_t n = std::min(kStrip, end - at);
    const C* values = load<C>(x_type, x, at, n, in);
    if (f) f(values, out, n, parameters);
    store<C>(y_type, y, at, n, f ? out : values);
  }
}

void compute(const UnarySpec& spec, const UnaryParameters& parameters, DType x_type, const void* x, DType y_type, void* y,
             int64_t begin, int64_t end) {
  switch (kind_of(x_type)) {
    case Kind::kReal: return compute<double>(spec.real, parameters, x_type, x, y_type, y, begin, end);
    case Kind::kSigned: return compute<int64_t>(spec.integer, parameters, x_type, x, y_type, y, begin, end);
    case Kind::kUnsigned: return compute<uint64_t>(spec.natural, parameters, x_type, x, y_type, y, begin, end);
  }
}

void run_half(UnaryFn fn, const UnaryParameters& parameters, CpuContext& c) {
  const bool half = c.in(0).dtype == DType::kFloat16;
  const KernelTable& k = c.kernels();
  const auto widen = half ? k.f16_to_f32 : k.bf16_to_f32;
  const auto narrow = half ? k.f32_to_f16 : k.f32_to_bf16;
  const auto* x = c.in(0).as<const uint16_t>();
  auto* y = c.out(0).as<uint16_t>();
  for_items(c, c.in(0).count(), 1, [&](int64_t begin, int64_t end) {
    alignas(64) float strip[kStrip];
    for (int64_t at = begin; at < end; at += kStrip) {
      const int64_t n = std::min(kStrip, end - at);
      widen(x + at, strip, n);
      k.unary_f32(fn, strip, strip, n, static_cast<float>(parameters.p), static_cast<float>(parameters.q));
      narrow(strip, y + at, n);
    }
  });
}

}  // namespace

Status unary_reference(const UnarySpec& spec, const UnaryParameters& parameters, RefContext& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  compute(spec, parameters, x.dtype(), x.data(), y.dtype(), y.data(), 0, x.count());
  return {};
}

Status unary_run(const UnarySpec& spec, const UnaryParameters& parameters, CpuContext& c) {
  const TensorView &x = c.in(0), &y = c.out(0);
  const bool half = x.dtype == DType::kFloat16 || x.dtype == DType::kBFloat16;
  if (spec.kernel && !spec.to_bool && half) {
    run_half(*spec.kernel, parameters, c);
  } else if (spec.kernel && !spec.to_bool && x.dtype == DType::kFloat) {
    const auto kernel = c.kernels().unary_f32;
    const auto* from = x.as<const float>();
    auto* to = y.as<float>();
    for_items(c, x.count(), 1, [&](int64_t begin, int64_t end) {
      kernel(*spec.kernel, from + begin, to + begin, end - begin, static_cast<float>(parameters.p),
             static_cast<float>(parameters.q));
    });
  } else {
    for_items(c, x.count(), 1,
              [&](int64_t begin, int64_t end) { compute(spec, parameters, x.dtype, x.data, y.dtype, y.data, begin, end); });
  }
  return {};
}

std::vector<Sample> unary_samples(Fill fill, std::initializer_list<DType> more, double tolerance) {
  std::vector<DType> dtypes = {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16};
  dtypes.insert(dtypes.end(), more);
  std::vector<Sample> out;
  for (const DType t : dtypes)
    for (const Shape& shape : {Shape{2, 3, 5}, Shape{}, Shape{0, 4}, Shape{67}, Shape{1}})
      out.push_back({.inputs = {{t, shape, fill}}, .tolerance = tolerance});
  out.push_back({.inputs = {{DType::kFloat, {301}, Fill::kSpecials}}, .tolerance = tolerance});
  out.push_back({.inputs = {{DType::kFloat, {3, 40001}, fill}}, .tolerance = tolerance});
  out.push_back({.inputs = {{DType::kFloat, {128, 3072}, fill}}, .bench = true, .tolerance = tolerance});
  return out;
}

}  // namespace ocior::ops
