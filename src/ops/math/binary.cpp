#include "ops/math/binary.h"

namespace ocior::ops {

OldBroadcast OldBroadcast::parse(const NodeReader& node, int until) {
  OldBroadcast out;
  if (node.opset() >= until) return out;
  out.old = true;
  node.ignore("consumed_inputs");
  out.broadcast = node.integer("broadcast", 0) != 0;
  if (node.has("axis")) out.axis = node.integer("axis", 0);
  return out;
}

namespace {

// Ones to add at the right of b's shape.
Result<int64_t> trailing_ones(const OldBroadcast& old, int64_t rank_a, int64_t rank_b) {
  if (!old.old || !old.broadcast || !old.axis) return int64_t{0};
  OCIOR_ASSIGN(const int64_t axis, resolve_axis(*old.axis, std::max<int64_t>(rank_a, 1)));
  if (axis + rank_b > rank_a)
    return error(Code::kInvalidGraph, "axis {} leaves no room for input 1 of rank {} in input 0 of rank {}", axis, rank_b,
                 rank_a);
  return rank_a - axis - rank_b;
}

}  // namespace

Result<Dims> OldBroadcast::aligned(const Dims& a, const Dims& b) const {
  OCIOR_ASSIGN(const int64_t ones, trailing_ones(*this, static_cast<int64_t>(a.size()), static_cast<int64_t>(b.size())));
  Dims out = b;
  out.resize(out.size() + static_cast<size_t>(ones), Dim(1));
  return out;
}

Result<FixedShape> OldBroadcast::aligned(std::span<const int64_t> a, std::span<const int64_t> b) const {
  OCIOR_ASSIGN(const int64_t ones, trailing_ones(*this, static_cast<int64_t>(a.size()), static_cast<int64_t>(b.size())));
  OCIOR_ASSIGN(FixedShape out, fixed_shape(b));
  if (out.rank + ones > kMaxRank) return error(Code::kNotImplemented, "tensors of rank {} are not supported", out.rank + ones);
  for (int64_t i = 0; i < ones; ++i) out.push(1);
  return out;
}

namespace {

// Both shapes, which must be equal: the number where one has it. Two unlike symbols leave the dimension unknown, so that no pass
// takes the output for one of the inputs before a run has compared them.
Result<Dims> equal_shapes(const BinarySpec& spec, ShapeContext& c, const Dims& a, const Dims& b) {
  bool equal = a.size() == b.size();
  Dims out;
  for (size_t i = 0; equal && i < a.size(); ++i) {
    equal = !a[i].known() || !b[i].known() || a[i] == b[i];
    out.push_back(a[i] == b[i] || a[i].known() ? a[i] : b[i].known() ? b[i] : c.fresh("equal"));
  }
  if (!equal)
    return error(Code::kInvalidArgument, "{}: shapes {} and {} differ and attribute 'broadcast' is not set", spec.name,
                 to_string(a), to_string(b));
  return out;
}

Status widened(const BinarySpec& spec, std::string_view a, std::string_view b) {
  return error(Code::kInvalidArgument,
               "{}: input 0 of shape {} would have to be broadcast to input 1's {}; before opset 7 only input 1 is broadcast",
               spec.name, a, b);
}

// Input 0's shape, to which input 1 is broadcast; `b` is aligned.
Result<Dims> shape_of_first(const BinarySpec& spec, ShapeContext& c, const Dims& a, const Dims& b) {
  OCIOR_ASSIGN(Dims out, broadcast(c, a, b));
  bool widens = out.size() != a.size();
  for (size_t i = 0; i < a.size() && !widens; ++i) {
    widens = a[i].known() && !(out[i] == a[i]) && out[i].known();
    if (!out[i].known()) out[i] = a[i];
  }
  if (widens) return widened(spec, to_string(a), to_string(b));
  return out;
}

}  // namespace

Status binary_infer(const BinarySpec& spec, const OldBroadcast& old, ShapeContext& c) {
  for (int i = 0; i < 2; ++i) OCIOR_RETURN_IF_ERROR(check_type(c, i, spec.types, spec.name));
  if (spec.kernel != BinaryFn::kPow) OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 1, spec.name));
  const DType out = spec.to_bool ? DType::kBool : c.dtype(0);
  if (!ranked(c, 0) || !ranked(c, 1)) {
    c.set(0, out, std::nullopt);
    return {};
  }
  OCIOR_ASSIGN(const Dims b, old.aligned(*c.shape(0), *c.shape(1)));
  OCIOR_ASSIGN(Dims shape, !old.old         ? broadcast(c, *c.shape(0), b)
                           : !old.broadcast ? equal_shapes(spec, c, *c.shape(0), b)
                                            : shape_of_first(spec, c, *c.shape(0), b));
  c.set(0, out, std::move(shape));
  if (spec.dims && carries_data(c.dtype(0))) combine_data(c, [&spec](std::span<const Dim> x) { return spec.dims(x[0], x[1]); });
  return {};
}

namespace {

struct Operands {
  DType a_type, b_type, y_type;
  const void *a, *b;
  void* y;
};

// Elements [begin, end) of the output in the type that the inputs are computed in.
template <class C>
void compute(BinaryStrip<C> f, const Operands& o, const BroadcastLoop& loop, int64_t begin, int64_t end) {
  alignas(64) C a[kStrip], b[kStrip], y[kStrip];
  loop.strips(begin, end, kStrip, [&](int64_t at, const auto& offset, int64_t n) {
    const C* x0 = load<C>(o.a_type, o.a, offset[0], loop.step(0) ? n : 1, a);
    const C* x1 = load<C>(o.b_type, o.b, offset[1], loop.step(1) ? n : 1, b);
    f(x0, loop.step(0), x1, loop.step(1), y, n);
    store<C>(o.y_type, o.y, at, n, y);
  });
}

void compute(const BinarySpec& spec, const Operands& o, const BroadcastLoop& loop, int64_t begin, int64_t end) {
  const Kind kind = is_floating(o.b_type) ? Kind::kReal : kind_of(o.a_type);  // Pow may mix them
  switch (kind) {
    case Kind::kReal: return compute<double>(spec.real, o, loop, begin, end);
    case Kind::kSigned: return compute<int64_t>(spec.integer, o, loop, begin, end);
    case Kind::kUnsigned: return compute<uint64_t>(spec.natural, o, loop, begin, end);
  }
}

Status check_divisor(const BinarySpec& spec, DType dtype, const void* b, int64_t n) {
  if (!spec.divides || is_floating(dtype)) return {};
  alignas(64) int64_t buffer[kStrip];
  for (int64_t at = 0; at < n; at += kStrip) {
    const int64_t length = std::min(kStrip, n - at);
    const int64_t* x = load<int64_t>(dtype, b, at, length, buffer);
    for (int64_t i = 0; i < length; ++i)
      if (x[i] == 0) return error(Code::kInvalidArgument, "{}: division by zero: element {} of input 1 is 0", spec.name, at + i);
  }
  return {};
}

Status plan_loop(const BinarySpec& spec, const OldBroadcast& old, std::span<const int64_t> a, std::span<const int64_t> b,
                 std::span<const int64_t> y, BroadcastLoop& loop) {
  OCIOR_ASSIGN(const FixedShape aligned, old.aligned(a, b));
  if (old.old && !old.broadcast && !std::ranges::equal(a, b))
    return error(Code::kInvalidArgument, "{}: shapes {} and {} differ and attribute 'broadcast' is not set", spec.name,
                 to_string(a), to_string(b));
  if (old.old && old.broadcast && !std::ranges::equal(a, y)) return widened(spec, to_string(a), to_string(b));
  return loop.plan(y, {a, aligned});
}

void run_float(BinaryFn fn, CpuContext& c, const BroadcastLoop& loop) {
  const auto kernel = c.kernels().binary_f32;
  const auto *a = c.in(0).as<const float>(), *b = c.in(1).as<const float>();
  float* y = c.out(0).as<float>();
  for_items(c, loop.total(), 1, [&](int64_t begin, int64_t end) {
    loop.strips(begin, end, INT64_MAX, [&](int64_t at, const auto& offset, int64_t n) {
      kernel(fn, a + offset[0], loop.step(0), b + offset[1], loop.step(1), y + at, n);
    });
  });
}

// float16 and bfloat16 through the float kernel.
void run_half(BinaryFn fn, CpuContext& c, const BroadcastLoop& loop) {
  const bool half = c.in(0).dtype == DType::kFloat16;
  const auto widen = half ? c.kernels().f16_to_f32 : c.kernels().bf16_to_f32;
  const auto narrow = half ? c.kernels().f32_to_f16 : c.kernels().f32_to_bf16;
  const auto kernel = c.kernels().binary_f32;
  const auto *a = c.in(0).as<const uint16_t>(), *b = c.in(1).as<const uint16_t>();
  auto* y = c.out(0).as<uint16_t>();
  for_items(c, loop.total(), 1, [&](int64_t begin, int64_t end) {
    alignas(64) float wide_a[kStrip], wide_b[kStrip], wide_y[kStrip];
    loop.strips(begin, end, kStrip, [&](int64_t at, const auto& offset, int64_t n) {
      widen(a + offset[0], wide_a, loop.step(0) ? n : 1);
      widen(b + offset[1], wide_b, loop.step(1) ? n : 1);
      kernel(fn, wide_a, loop.step(0), wide_b, loop.step(1), wide_y, n);
      narrow(wide_y, y + at, n);
    });
  });
}

template <class T>
void run_test(TestStrip<T> test, CpuContext& c, const BroadcastLoop& loop) {
  const auto *a = c.in(0).as<const T>(), *b = c.in(1).as<const T>();
  auto* y = c.out(0).as<uint8_t>();
  for_items(c, loop.total(), 1, [&](int64_t begin, int64_t end) {
    loop.strips(begin, end, INT64_MAX, [&](int64_t at, const auto& offset, int64_t n) {
      test(a + offset[0], loop.step(0), b + offset[1], loop.step(1), y + at, n);
    });
  });
}

// Whether there is a faster way of this comparison; takes it.
bool run_test(const TestStrips& tests, CpuContext& c, const BroadcastLoop& loop) {
  switch (c.in(0).dtype) {
    case DType::kFloat: return tests.f32 ? run_test(tests.f32, c, loop), true : false;
    case DType::kInt32: return tests.i32 ? run_test(tests.i32, c, loop), true : false;
    case DType::kInt64: return tests.i64 ? run_test(tests.i64, c, loop), true : false;
    case DType::kBool: return tests.u8 ? run_test(tests.u8, c, loop), true : false;
    default: return false;
  }
}

}  // namespace

Status binary_reference(const BinarySpec& spec, const OldBroadcast& old, RefContext& c) {
  const Tensor &a = c.in(0), &b = c.in(1);
  Tensor& y = c.out(0);
  BroadcastLoop loop;
  OCIOR_RETURN_IF_ERROR(plan_loop(spec, old, a.shape(), b.shape(), y.shape(), loop));
  if (loop.total() > 0) OCIOR_RETURN_IF_ERROR(check_divisor(spec, b.dtype(), b.data(), b.count()));
  compute(spec, {a.dtype(), b.dtype(), y.dtype(), a.data(), b.data(), y.data()}, loop, 0, loop.total());
  return {};
}

Status binary_run(const BinarySpec& spec, const OldBroadcast& old, CpuContext& c) {
  const TensorView &a = c.in(0), &b = c.in(1), &y = c.out(0);
  BroadcastLoop loop;
  OCIOR_RETURN_IF_ERROR(plan_loop(spec, old, a.shape, b.shape, y.shape, loop));
  if (loop.total() > 0) OCIOR_RETURN_IF_ERROR(check_divisor(spec, b.dtype, b.data, b.count()));
  if (spec.to_bool && run_test(spec.tests, c, loop)) return {};
  const bool alike = a.dtype == b.dtype && a.dtype == y.dtype;
  if (spec.kernel && alike && a.dtype == DType::kFloat) {
    run_float(*spec.kernel, c, loop);
  } else if (spec.kernel && alike && (a.dtype == DType::kFloat16 || a.dtype == DType::kBFloat16)) {
    run_half(*spec.kernel, c, loop);
  } else {
    const Operands o{a.dtype, b.dtype, y.dtype, a.data, b.data, y.data};
    for_items(c, loop.total(), 1, [&](int64_t begin, int64_t end) { compute(spec, o, loop, begin, end); });
  }
  return {};
}

std::vector<Sample> binary_samples(std::initializer_list<DType> dtypes, Fill fill_a, Fill fill_b) {
  const std::pair<Shape, Shape> shapes[] = {{{2, 3, 4}, {2, 3, 4}},
                                            {{2, 3, 4}, {4}},
                                            {{2, 3, 4}, {}},
                                            {{}, {}},
                                            {{4}, {2, 3, 4}},
                                            {{2, 1, 4}, {3, 1}},
                                            {{0, 3}, {3}},
                                            {{1}, {1, 1, 1}},
                                            {{5, 1, 7, 1}, {1, 6, 1, 3}},
                                            {{3, 0}, {1, 1}},
                                            {{17}, {17}}};
  std::vector<Sample> out;
  for (const DType t : dtypes)
    for (const auto& [a, b] : shapes) out.push_back({.inputs = {{t, a, fill_a}, {t, b, fill_b}}});
  const DType first = *dtypes.begin();
  out.push_back({.inputs = {{first, {129, 700}, fill_a}, {first, {129, 700}, fill_b}}});
  out.push_back({.inputs = {{first, {129, 700}, fill_a}, {first, {129, 1}, fill_b}}});
  out.push_back(
      {.inputs = {{first, {2, 3}, fill_a}, {first, {3}, fill_b}}, .attributes = {{"broadcast", int64_t{1}}}, .opset = 6});
  out.push_back({.inputs = {{first, {2, 3, 4}, fill_a}, {first, {3}, fill_b}},
                 .attributes = {{"broadcast", int64_t{1}}, {"axis", int64_t{1}}},
                 .opset = 6});
  out.push_back({.inputs = {{first, {128, 768}, fill_a}, {first, {768}, fill_b}}, .bench = true});
  return out;
}

}  // namespace ocior::ops
