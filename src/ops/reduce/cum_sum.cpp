// CumSum and CumProd: running sums and products along an axis, from either end, with or without the element itself.
#include "ops/loops.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

// What both share: T gives `info` and `combine`, whose neutral element is `start`.
template <class T>
struct Cumulative {
  bool exclusive = false, reverse = false;

  static T parse(const NodeReader& node) {
    T op;
    op.exclusive = node.integer("exclusive", 0) != 0;
    op.reverse = node.integer("reverse", 0) != 0;
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kNumbers, T::info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, T::info.name));
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const Cut cut, cut_at(x.shape(), c.in(1).dtype(), c.in(1).data(), c.in(1).count()));
    visit_kind(kind_of(x.dtype()), [&](auto zero) {
      accumulate<decltype(zero)>(x.dtype(), x.data(), c.out(0).data(), cut, 0, cut.outer * cut.inner);
    });
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_ASSIGN(const Cut cut, cut_at(x.shape, c.in(1).dtype, c.in(1).data, c.in(1).count()));
    for_items(c, cut.outer * cut.inner, cut.length, [&](int64_t begin, int64_t end) {
      visit_kind(kind_of(x.dtype),
                 [&](auto zero) { accumulate<decltype(zero)>(x.dtype, x.data, c.out(0).data, cut, begin, end); });
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kInt32, DType::kInt64, DType::kUint64})
      for (const int64_t exclusive : {0, 1})
        for (const int64_t reverse : {0, 1})
          for (const double axis : {0, 1, -1})
            out.push_back({.inputs = {{t, {3, 4, 5}}, {DType::kInt64, {}, Fill::kZeros, {axis}}},
                           .attributes = {{"exclusive", exclusive}, {"reverse", reverse}}});
    out.push_back({.inputs = {{DType::kFloat, {0, 3}}, {DType::kInt32, {1}, Fill::kZeros, {0}}}});
    out.push_back({.inputs = {{DType::kInt64, {300, 400}}, {DType::kInt32, {}, Fill::kZeros, {1}}}});
    return out;
  }

 private:
  struct Cut {
    int64_t outer, length, inner;
  };
  static Result<Cut> cut_at(std::span<const int64_t> x, DType t, const void* axis, int64_t count) {
    if (count != 1)
      return error(Code::kInvalidArgument, "{}: input 1 (the axis) must hold one number, got {}", T::info.name, count);
    OCIOR_ASSIGN(const int64_t a, resolve_axis(get_int(t, axis, 0), static_cast<int64_t>(x.size())));
    const auto at = static_cast<size_t>(a);
    return Cut{element_count(x.first(at)), x[at], element_count(x.subspan(at + 1))};
  }

  template <class C>
  void accumulate(DType t, const void* x, void* y, const Cut& cut, int64_t begin, int64_t end) const {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t base = row / cut.inner * cut.length * cut.inner + row % cut.inner;
      C total = T::start;
      for (int64_t i = 0; i < cut.length; ++i) {
        const int64_t at = base + (reverse ? cut.length - 1 - i : i) * cut.inner;
        C buffer;
        const C value = *load<C>(t, x, at, 1, &buffer), before = total;
        if constexpr (std::is_same_v<C, double>) total = T::combine(total, value);
        else total = static_cast<C>(T::combine(static_cast<uint64_t>(total), static_cast<uint64_t>(value)));
        store<C>(t, y, at, 1, exclusive ? &before : &total);
      }
    }
  }
};

}  // namespace

struct CumSum : Cumulative<CumSum> {
  static constexpr OpInfo info{.name = "CumSum", .since = 11, .min_inputs = 2, .max_inputs = 2};
  static constexpr int start = 0;
  template <class C>
  static C combine(C a, C b) {
    return a + b;
  }
};
OCIOR_OPERATOR(CumSum)

struct CumProd : Cumulative<CumProd> {
  static constexpr OpInfo info{.name = "CumProd", .since = 26, .min_inputs = 2, .max_inputs = 2};
  static constexpr int start = 1;
  template <class C>
  static C combine(C a, C b) {
    return a * b;
  }
};
OCIOR_OPERATOR(CumProd)

}  // namespace ocior::ops
