// Where: elements of input 1 where input 0 is true, else of input 2; all three broadcast.
#include "ops/loops.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

template <class T>
void select(const uint8_t* condition, int64_t step_c, const T* a, int64_t step_a, const T* b, int64_t step_b, T* y, int64_t n) {
  if (step_c == 0 && step_a == 1 && *condition) std::copy(a, a + n, y);
  else if (step_c == 0 && step_b == 1 && !*condition) std::copy(b, b + n, y);
  else if (step_c && step_a && step_b)
    for (int64_t i = 0; i < n; ++i) y[i] = condition[i] ? a[i] : b[i];
  else if (step_c && step_a)
    for (int64_t i = 0; i < n; ++i) y[i] = condition[i] ? a[i] : *b;
  else if (step_c && step_b)
    for (int64_t i = 0; i < n; ++i) y[i] = condition[i] ? *a : b[i];
  else
    for (int64_t i = 0; i < n; ++i) y[i] = condition[i * step_c] ? a[i * step_a] : b[i * step_b];
}

}  // namespace

struct Where {
  static constexpr OpInfo info{.name = "Where", .since = 9, .min_inputs = 3, .max_inputs = 3, .in_place = 6};

  static Where parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kBools, "Where"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kAnyType, "Where"));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 1, 2, "Where"));
    OCIOR_RETURN_IF_ERROR(infer_broadcast(c, c.dtype(1)));
    if (carries_data(c.dtype(1)))
      combine_data(c, [](std::span<const Dim> x) -> std::optional<Dim> {
        if (x[1] == x[2]) return x[1];
        if (!x[0].known()) return std::nullopt;
        return x[0].value() ? x[1] : x[2];
      });
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor &condition = c.in(0), &a = c.in(1), &b = c.in(2);
    Tensor& y = c.out(0);
    BroadcastLoop loop;
    OCIOR_RETURN_IF_ERROR(loop.plan(y.shape(), {condition.shape(), a.shape(), b.shape()}));
    loop.strips(0, loop.total(), INT64_MAX, [&](int64_t at, const auto& offset, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        const bool first = condition.as<uint8_t>()[offset[0] + i * loop.step(0)];
        if (first) copy_elements(y.dtype(), y.data(), at + i, a.data(), offset[1] + i * loop.step(1), 1);
        else copy_elements(y.dtype(), y.data(), at + i, b.data(), offset[2] + i * loop.step(2), 1);
      }
    });
    return {};
  }

  Status run(CpuContext& c) const {
    BroadcastLoop loop;
    OCIOR_RETURN_IF_ERROR(loop.plan(c.out(0).shape, {c.in(0).shape, c.in(1).shape, c.in(2).shape}));
    if (c.out(0).dtype == DType::kString) return pick<std::string>(c, loop), Status();
    switch (element_size(c.out(0).dtype)) {
      case 1: pick<uint8_t>(c, loop); break;
      case 2: pick<uint16_t>(c, loop); break;
      case 4: pick<uint32_t>(c, loop); break;
      case 8: pick<uint64_t>(c, loop); break;
      case 16: pick<std::array<uint64_t, 2>>(c, loop); break;
      default: return error(Code::kNotImplemented, "Where: elements of type {} are not supported", name_of(c.out(0).dtype));
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const Shape shapes[][3] = {{{2, 3}, {2, 3}, {2, 3}}, {{2, 3}, {}, {3}}, {{2, 1}, {3}, {2, 3}}, {{}, {2, 3}, {2, 3}},
                               {{1, 3}, {2, 1}, {}},     {{0}, {}, {}},     {{}, {}, {}}};
    for (const DType t :
         {DType::kFloat, DType::kInt64, DType::kBool, DType::kString, DType::kFloat16, DType::kDouble, DType::kInt32})
      for (const auto& s : shapes)
        out.push_back({.inputs = {{DType::kBool, s[0], Fill::kBools}, {t, s[1], Fill::kSmallInts}, {t, s[2], Fill::kSmallInts}}});
    out.push_back(
        {.inputs = {{DType::kBool, {1, 1, 100, 100}, Fill::kBools}, {DType::kFloat, {2, 4, 100, 100}}, {DType::kFloat, {}}}});
    return out;
  }

 private:
  template <class T>
  static void pick(CpuContext& c, const BroadcastLoop& loop) {
    const auto* condition = c.in(0).as<const uint8_t>();
    const auto *a = c.in(1).as<const T>(), *b = c.in(2).as<const T>();
    T* y = c.out(0).as<T>();
    for_items(c, loop.total(), 1, [&](int64_t begin, int64_t end) {
      loop.strips(begin, end, INT64_MAX, [&](int64_t at, const auto& offset, int64_t n) {
        select(condition + offset[0], loop.step(0), a + offset[1], loop.step(1), b + offset[2], loop.step(2), y + at, n);
      });
    });
  }
};
OCIOR_OPERATOR(Where)

}  // namespace ocior::ops
