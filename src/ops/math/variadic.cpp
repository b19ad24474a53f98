// Max, Min, Sum and Mean of any number of inputs, broadcast since opset 8. NaN in any input gives NaN.
#include <cmath>

#include "ops/evaluate.h"
#include "ops/math/binary.h"
#include "ops/move.h"

namespace ocior::ops {
namespace {

struct MaxFormula {
  template <class C>
  static C apply(C a, C b) {
    return a != a || a > b ? a : b;
  }
};
struct MinFormula {
  template <class C>
  static C apply(C a, C b) {
    return a != a || a < b ? a : b;
  }
};
struct SumFormula {
  template <class C>
  static C apply(C a, C b) {
    return a + b;
  }
};

std::optional<Dim> larger(const Dim& a, const Dim& b) { return Dim::max(a, b); }
std::optional<Dim> smaller(const Dim& a, const Dim& b) { return Dim::min(a, b); }

constexpr BinarySpec spec_of(BinarySpec spec, BinaryFn kernel, std::optional<Dim> (*dims)(const Dim&, const Dim&)) {
  spec.kernel = kernel;
  spec.dims = dims;
  return spec;
}

// What the family shares; `mean` divides the sum by the number of inputs.
template <class T>
struct Variadic {
  static T parse(const NodeReader& node) {
    if (node.opset() < 6) node.ignore("consumed_inputs");
    return {};
  }

  Status infer(ShapeContext& c) const {
    for (int i = 0; i < c.inputs(); ++i) {
      OCIOR_RETURN_IF_ERROR(check_type(c, i, T::spec.types, T::info.name));
      OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, i, T::info.name));
    }
    OCIOR_RETURN_IF_ERROR(infer_broadcast(c, c.dtype(0)));
    if (T::spec.dims && carries_data(c.dtype(0)))
      combine_data(c, [](std::span<const Dim> x) {
        std::optional<Dim> out = x[0];
        for (size_t i = 1; i < x.size() && out; ++i) out = T::spec.dims(*out, x[i]);
        return out;
      });
    return {};
  }

  Status reference(RefContext& c) const {
    return visit_kind(kind_of(c.in(0).dtype()), [&](auto zero) { return accumulate<decltype(zero)>(c); });
  }

  // Output = in0 f in1, then output = output f in2 and so on.
  Status run(CpuContext& c) const {
    const TensorView& y = c.out(0);
    if (y.dtype != DType::kFloat) return run_by_reference(*static_cast<const T*>(this), c);
    if (c.inputs() == 1) OCIOR_RETURN_IF_ERROR(step(c, c.in(0), nullptr));
    for (int i = 1; i < c.inputs(); ++i) OCIOR_RETURN_IF_ERROR(i == 1 ? step(c, c.in(0), &c.in(1)) : step(c, y, &c.in(i)));
    if (!T::mean) return {};
    const auto kernel = c.kernels().binary_f32;
    const auto count = static_cast<float>(c.inputs());
    for_items(c, y.count(), 1, [&](int64_t begin, int64_t end) {
      float* part = y.as<float>() + begin;
      kernel(BinaryFn::kDiv, part, 1, &count, 0, part, end - begin);
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16, DType::kInt32, DType::kInt64,
                          DType::kUint64, DType::kInt8}) {
      if (!(T::spec.types & type_bit(t))) continue;
      out.push_back({.inputs = {{t, {2, 3}}}});
      out.push_back({.inputs = {{t, {2, 3}}, {t, {2, 3}}}});
      out.push_back({.inputs = {{t, {2, 3}}, {t, {3}}, {t, {2, 1}}, {t, {}}}});
      out.push_back({.inputs = {{t, {1, 3}}, {t, {4, 1}}, {t, {4, 3}}}});
      out.push_back({.inputs = {{t, {}}, {t, {0}}}});
    }
    out.push_back({.inputs = {{DType::kFloat, {91}, Fill::kSpecials}, {DType::kFloat, {91}}}});
    out.push_back({.inputs = {{DType::kFloat, {200, 300}}, {DType::kFloat, {300}}, {DType::kFloat, {200, 1}}}});
    out.push_back({.inputs = {{DType::kFloat, {5}}, {DType::kFloat, {5}}}, .opset = 1});
    out.push_back({.inputs = {{DType::kFloat, {128, 768}}, {DType::kFloat, {128, 768}}}, .bench = true});
    return out;
  }

 private:
  // One input at a time into a row of C for the whole output: the obvious way.
  template <class C>
  Status accumulate(RefContext& c) const {
    Tensor& y = c.out(0);
    const int64_t total = y.count();
    std::vector<C> sum(static_cast<size_t>(total));
    for (int i = 0; i < c.inputs(); ++i) {
      const Tensor& x = c.in(i);
      BroadcastLoop loop;
      OCIOR_RETURN_IF_ERROR(loop.plan(y.shape(), {x.shape()}));
      loop.strips(0, total, kStrip, [&](int64_t at, const auto& offset, int64_t n) {
        C buffer[kStrip];
        const C* values = load<C>(x.dtype(), x.data(), offset[0], loop.step(0) ? n : 1, buffer);
        for (int64_t k = 0; k < n; ++k) {
          C& s = sum[static_cast<size_t>(at + k)];
          s = i == 0 ? values[k * loop.step(0)] : T::combine(s, values[k * loop.step(0)]);
        }
      });
    }
    if (T::mean)
      for (C& s : sum) s = s / static_cast<C>(c.inputs());
    store<C>(y.dtype(), y.data(), 0, total, sum.data());
    return {};
  }

  // Output = a f b, or a broadcast when b is null.
  Status step(CpuContext& c, const TensorView& a, const TensorView* b) const {
    const TensorView& y = c.out(0);
    BroadcastLoop loop;
    OCIOR_RETURN_IF_ERROR(b ? loop.plan(y.shape, {a.shape, b->shape}) : loop.plan(y.shape, {a.shape}));
    const auto kernel = c.kernels().binary_f32;
    for_items(c, loop.total(), 1, [&](int64_t begin, int64_t end) {
      loop.strips(begin, end, INT64_MAX, [&](int64_t at, const auto& offset, int64_t n) {
        float* out = y.as<float>() + at;
        const float* x = a.as<const float>() + offset[0];
        if (b) kernel(*T::spec.kernel, x, loop.step(0), b->as<const float>() + offset[1], loop.step(1), out, n);
        else if (loop.step(0)) std::copy(x, x + n, out);
        else std::fill(out, out + n, *x);
      });
    });
    return {};
  }
};

}  // namespace

struct Max : Variadic<Max> {
  static constexpr OpInfo info{.name = "Max", .max_inputs = kUnbounded};
  static constexpr BinarySpec spec = spec_of(binary_spec<MaxFormula>("Max", kNumbers), BinaryFn::kMax, &larger);
  static constexpr bool mean = false;
  template <class C>
  static C combine(C a, C b) {
    return MaxFormula::apply(a, b);
  }
};
OCIOR_OPERATOR(Max)

struct Min : Variadic<Min> {
  static constexpr OpInfo info{.name = "Min", .max_inputs = kUnbounded};
  static constexpr BinarySpec spec = spec_of(binary_spec<MinFormula>("Min", kNumbers), BinaryFn::kMin, &smaller);
  static constexpr bool mean = false;
  template <class C>
  static C combine(C a, C b) {
    return MinFormula::apply(a, b);
  }
};
OCIOR_OPERATOR(Min)

struct Sum : Variadic<Sum> {
  static constexpr OpInfo info{.name = "Sum", .max_inputs = kUnbounded};
  static constexpr BinarySpec spec = spec_of(binary_spec<SumFormula>("Sum", kFloats), BinaryFn::kAdd, nullptr);
  static constexpr bool mean = false;
  template <class C>
  static C combine(C a, C b) {
    return a + b;
  }
};
OCIOR_OPERATOR(Sum)

struct Mean : Variadic<Mean> {
  static constexpr OpInfo info{.name = "Mean", .max_inputs = kUnbounded};
  static constexpr BinarySpec spec = spec_of(binary_spec<SumFormula>("Mean", kFloats), BinaryFn::kAdd, nullptr);
  static constexpr bool mean = true;
  template <class C>
  static C combine(C a, C b) {
    return a + b;
  }
};
OCIOR_OPERATOR(Mean)

}  // namespace ocior::ops
