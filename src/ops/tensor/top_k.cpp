// TopK: the k largest or smallest elements along an axis, sorted, and where they are. Equal elements keep their order; NaN counts
// as larger than every number; -0 equals 0.
#include <algorithm>
#include <bit>

#include "ops/evaluate.h"
#include "ops/loops.h"
#include "ops/move.h"
#include "ops/nn/numeric.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

// Whether x comes before y: better, or as good and earlier.
template <class C>
bool precedes(bool largest, C x, int64_t i, C y, int64_t j) {
  const bool x_nan = x != x, y_nan = y != y;
  if (x_nan || y_nan) return x_nan != y_nan ? x_nan == largest : i < j;
  return x == y ? i < j : largest ? x > y : x < y;
}

// Numbers of 32 bits that are in the order of the values, the largest for NaN.
uint32_t ordered(float v) {
  if (v != v) return UINT32_MAX;
  const auto bits = std::bit_cast<uint32_t>(v + 0.0f);  // -0 becomes 0
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
uint32_t ordered(uint32_t v) { return v; }
uint32_t ordered(int32_t v) { return static_cast<uint32_t>(v) ^ 0x80000000u; }

// Reads of the types that order in 32 bits.
struct Half {
  uint16_t bits;
  operator float() const { return half_to_float(bits); }  // NOLINT: a number
};
struct BFloat {
  uint16_t bits;
  operator float() const { return bfloat16_to_float(bits); }  // NOLINT: a number
};
template <class T>
uint32_t ordered_of(T v) {
  if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat>) return ordered(static_cast<float>(v));
  else if constexpr (std::is_unsigned_v<T>) return ordered(static_cast<uint32_t>(v));
  else if constexpr (std::is_integral_v<T>) return ordered(static_cast<int32_t>(v));
  else return ordered(v);
}

// Calls f with a value of the type, for types that order in 32 bits; false for others.
template <class F>
bool visit_narrow(DType t, F&& f) {
  switch (t) {
    case DType::kFloat: return f(float{}), true;
    case DType::kFloat16: return f(Half{}), true;
    case DType::kBFloat16: return f(BFloat{}), true;
    case DType::kInt8: return f(int8_t{}), true;
    case DType::kInt16: return f(int16_t{}), true;
    case DType::kInt32: return f(int32_t{}), true;
    case DType::kUint8: return f(uint8_t{}), true;
    case DType::kUint16: return f(uint16_t{}), true;
    case DType::kUint32: return f(uint32_t{}), true;
    default: return false;
  }
}

// Whether one of kBlock elements side by side may be better than `bar`; NaN on either side always may.
constexpr int64_t kBlock = 32;
template <class T>
bool any_better(const T* x, T bar, bool largest) {
  int any = 0;
  if (largest)
    for (int64_t i = 0; i < kBlock; ++i) any |= !(x[i] <= bar);
  else
    for (int64_t i = 0; i < kBlock; ++i) any |= !(x[i] >= bar);
  return any != 0;
}

// The k best of n elements, `step` apart. A key is the order of the value and, below it, how early it stands: no two are equal,
// and the larger one is the better. Candidates gather until there are `room` of them, then only the k best stay; an element no
// better than the worst of those is passed by.
template <class T>
void select(const T* x, int64_t n, int64_t step, int64_t k, bool largest, uint64_t* keys, int64_t room, T* values,
            int64_t* indices, int64_t out_step) {
  const uint32_t flip = largest ? 0 : UINT32_MAX;
  const auto better = [](uint64_t a, uint64_t b) { return a > b; };
  int64_t held = 0;
  uint32_t bar = 0;
  bool barred = false;
  T worst{};
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_arithmetic_v<T>)
      while (barred && step == 1 && i + kBlock < n && !any_better(x + i, worst, largest)) i += kBlock;
    const uint32_t order = ordered_of(x[i * step]) ^ flip;
    if (barred && order <= bar) continue;
    keys[held++] = uint64_t{order} << 32 | static_cast<uint32_t>(~i);
    if (held < room || i + 1 == n) continue;
    std::nth_element(keys, keys + k - 1, keys + held, better);
    held = k, barred = true;
    bar = static_cast<uint32_t>(keys[k - 1] >> 32);
    worst = x[static_cast<int64_t>(~static_cast<uint32_t>(keys[k - 1])) * step];
  }
  if (held > k) std::nth_element(keys, keys + k - 1, keys + held, better);
  std::sort(keys, keys + k, better);
  for (int64_t i = 0; i < k; ++i) {
    const auto at = static_cast<int64_t>(~static_cast<uint32_t>(keys[i]));
    values[i * out_step] = x[at * step];
    indices[i * out_step] = at;
  }
}

}  // namespace

struct TopK {
  static constexpr OpInfo info{.name = "TopK", .min_inputs = 1, .max_inputs = 2, .min_outputs = 1, .max_outputs = 2};
  int64_t axis = -1;
  bool largest = true;
  std::optional<int64_t> fixed_k;  // of opset 1, where it is an attribute

  static TopK parse(const NodeReader& node) {
    TopK op{.axis = node.integer("axis", -1)};
    if (node.opset() >= 11) {
      op.largest = node.integer("largest", 1) != 0;
      node.ignore("sorted");  // sorted results are right in any order
    }
    if (node.opset() < 10) op.fixed_k = node.required_integer("k");
    if (node.inputs() != (op.fixed_k ? 1 : 2)) node.fail("TopK has {} inputs; expected {}", node.inputs(), op.fixed_k ? 1 : 2);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kNumbers, "TopK"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, type_bit(DType::kInt64), "TopK"));
    if (!fixed_k && ranked(c, 1) && (rank(c, 1) != 1 || length_of(c, 1).value_or(1) != 1))
      return error(Code::kInvalidArgument, "TopK: K has shape {}; expected [1]", to_string(*c.shape(1)));
    if (!ranked(c, 0)) {
      c.set(0, c.dtype(0), std::nullopt);
      c.set(1, DType::kInt64, std::nullopt);
      return {};
    }
    Dims out = *c.shape(0);
    OCIOR_ASSIGN(const int64_t at, resolve_axis(axis, rank(c, 0)));
    Dim& place = out[static_cast<size_t>(at)];
    const auto data = fixed_k ? std::optional<Dims>(Dims{*fixed_k}) : data_of(c, 1);
    const Dim k = data && data->size() == 1 ? (*data)[0] : c.fresh("k");
    if (k.known()) OCIOR_RETURN_IF_ERROR(check_k(k.value(), place.known() ? place.value() : INT64_MAX));
    place = k;
    c.set(0, c.dtype(0), out);
    c.set(1, DType::kInt64, std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const Cut cut, cut_at(x.shape(), fixed_k ? *fixed_k : c.in(1).as<int64_t>()[0]));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), cut.shape));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 1, DType::kInt64, cut.shape));
    std::vector<int64_t> order(static_cast<size_t>(cut.length));
    visit_kind(kind_of(x.dtype()), [&](auto zero) {
      using C = decltype(zero);
      std::vector<C> row(order.size());
      for (int64_t r = 0; r < cut.outer * cut.inner; ++r) {
        const int64_t from = r / cut.inner * cut.length * cut.inner + r % cut.inner;
        const int64_t to = r / cut.inner * cut.k * cut.inner + r % cut.inner;
        for (size_t i = 0; i < row.size(); ++i) {
          C value;
          row[i] = *load<C>(x.dtype(), x.data(), from + static_cast<int64_t>(i) * cut.inner, 1, &value);
          order[i] = static_cast<int64_t>(i);
        }
        std::partial_sort(order.begin(), order.begin() + cut.k, order.end(), [&](int64_t i, int64_t j) {
          return precedes(largest, row[static_cast<size_t>(i)], i, row[static_cast<size_t>(j)], j);
        });
        for (int64_t i = 0; i < cut.k; ++i) {
          const int64_t at = order[static_cast<size_t>(i)];
          if (c.wants(0)) copy_elements(x.dtype(), c.out(0).data(), to + i * cut.inner, x.data(), from + at * cut.inner, 1);
          if (c.wants(1)) c.out(1).as<int64_t>()[to + i * cut.inner] = at;
        }
      }
    });
    return {};
  }

  // Keys of one row for each worker that can have one.
  size_t scratch(const BindContext& c) const {
    const auto cut = cut_at(c.in(0).shape, 0);
    if (!cut.ok() || !visit_narrow(c.in(0).dtype, [](auto) {})) return 0;
    const int64_t workers = std::min<int64_t>(c.workers(), cut->outer * cut->inner);
    return static_cast<size_t>(workers) * nn::align64(static_cast<size_t>(cut->length) * sizeof(uint64_t));
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_ASSIGN(const Cut cut, cut_at(x.shape, fixed_k ? *fixed_k : c.in(1).as<const int64_t>()[0]));
    if (cut.length > UINT32_MAX || !c.wants(0) || !c.wants(1)) return run_by_reference(*this, c);
    if (!visit_narrow(x.dtype, [](auto) {})) return run_by_reference(*this, c);
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, cut.shape));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 1, cut.shape));
    const int64_t rows = cut.outer * cut.inner;
    if (cut.k == 0 || rows == 0) return {};
    visit_narrow(x.dtype, [&](auto zero) {
      using T = decltype(zero);
      const size_t each = nn::align64(static_cast<size_t>(cut.length) * sizeof(uint64_t)) / sizeof(uint64_t);
      const int64_t room = cut.k > cut.length / 3 ? cut.length : std::min(cut.length, std::max<int64_t>(2 * cut.k, 64));
      nn::parallel_rows(c, rows, 2 * cut.length, [&](int64_t begin, int64_t end, int worker) {
        auto* keys = static_cast<uint64_t*>(c.scratch()) + static_cast<size_t>(worker) * each;
        for (int64_t r = begin; r < end; ++r) {
          const int64_t from = r / cut.inner * cut.length * cut.inner + r % cut.inner;
          const int64_t to = r / cut.inner * cut.k * cut.inner + r % cut.inner;
          select(x.as<const T>() + from, cut.length, cut.inner, cut.k, largest, keys, room, c.out(0).as<T>() + to,
                 c.out(1).as<int64_t>() + to, cut.inner);
        }
      });
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16, DType::kInt8, DType::kInt16,
                          DType::kInt32, DType::kInt64, DType::kUint8, DType::kUint16, DType::kUint32, DType::kUint64})
      for (const int64_t largest : {0, 1}) {
        const auto add = [&](Shape shape, double k, int64_t axis, Fill fill = Fill::kSmallInts) {
          out.push_back({.inputs = {{t, std::move(shape), fill}, {DType::kInt64, {1}, Fill::kZeros, {k}}},
                         .attributes = {{"axis", axis}, {"largest", largest}},
                         .outputs = 2});
        };
        add({3, 7, 4}, 3, 1);
        add({3, 9}, 9, -1);
        add({4, 500}, 5, 1);
        add({4, 500}, 5, 1, Fill::kUniform);
        add({300}, 0, 0);
        add({2, 0}, 0, 1);
        add({0, 5}, 2, 1);
        add({60, 3}, 20, 0, Fill::kSpecials);
      }
    out.push_back({.inputs = {{DType::kFloat, {3, 9}}}, .attributes = {{"k", int64_t{2}}}, .opset = 1, .outputs = 2});
    out.push_back({.inputs = {{DType::kFloat, {300, 400}}, {DType::kInt64, {1}, Fill::kZeros, {10}}}, .opset = 10, .outputs = 2});
    out.push_back({.inputs = {{DType::kFloat, {64, 50000}, Fill::kNormal}, {DType::kInt64, {1}, Fill::kZeros, {50}}},
                   .outputs = 2,
                   .bench = true});
    return out;
  }

 private:
  static Status check_k(int64_t k, int64_t length) {
    if (k >= 0 && k <= length) return {};
    return error(Code::kInvalidArgument, "TopK: k is {}; expected 0 to {}", k, length);
  }

  struct Cut {
    int64_t outer, length, inner, k;
    FixedShape shape;
  };
  Result<Cut> cut_at(std::span<const int64_t> x, int64_t k) const {
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, static_cast<int64_t>(x.size())));
    const auto at = static_cast<size_t>(a);
    OCIOR_RETURN_IF_ERROR(check_k(k, x[at]));
    OCIOR_ASSIGN(FixedShape shape, fixed_shape(x));
    shape[a] = k;
    return Cut{element_count(x.first(at)), x[at], element_count(x.subspan(at + 1)), k, shape};
  }
};
OCIOR_OPERATOR(TopK)

}  // namespace ocior::ops
