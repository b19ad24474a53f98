// ScatterND: the data with elements or slices replaced, or combined with updates, at tuples of indices.
#include <algorithm>

#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/tensor/combine.h"
#include "ops/tensor/indices.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

struct Operand {
  DType dtype;
  std::span<const int64_t> shape;
  const void* data;
};

}  // namespace

struct ScatterND {
  static constexpr OpInfo info{.name = "ScatterND", .since = 11, .min_inputs = 3, .max_inputs = 3, .in_place = 1};
  Combine how = Combine::kReplace;

  static ScatterND parse(const NodeReader& node) { return {parse_combine(node)}; }

  Status infer(ShapeContext& c) const {
    const TypeSet allowed = how == Combine::kReplace ? kAnyType : kNumbers | kBools;
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, allowed, "ScatterND"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, "ScatterND"));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 2, "ScatterND"));
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    const Tensor &x = c.in(0), &i = c.in(1), &u = c.in(2);
    return scatter({x.dtype(), x.shape(), x.data()}, {i.dtype(), i.shape(), i.data()}, {u.dtype(), u.shape(), u.data()},
                   c.out(0).data());
  }
  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &i = c.in(1), &u = c.in(2);
    return scatter({x.dtype, x.shape, x.data}, {i.dtype, i.shape, i.data}, {u.dtype, u.shape, u.data}, c.out(0).data);
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kInt32, DType::kInt64, DType::kUint64,
                          DType::kString, DType::kBool})
      for (const char* how : {"none", "add", "mul", "max", "min"}) {
        if ((t == DType::kString || t == DType::kBool) && std::string(how) != "none") continue;
        const auto add = [&](Shape x, Shape indices, std::vector<double> values, Shape updates) {
          out.push_back({.inputs = {{t, std::move(x), Fill::kSmallInts},
                                    {DType::kInt64, std::move(indices), Fill::kZeros, std::move(values)},
                                    {t, std::move(updates), Fill::kSmallInts}},
                         .attributes = {{"reduction", std::string(how)}}});
        };
        add({8}, {4, 1}, {4, 3, 1, -1}, {4});
        add({4, 3, 2}, {2, 1}, {0, 2}, {2, 3, 2});
        add({4, 3}, {2, 2, 2}, {0, 0, 1, 1, 3, -1, 3, 2}, {2, 2});
        add({4}, {0, 1}, {}, {0});
      }
    return out;
  }

 private:
  Status scatter(const Operand& x, const Operand& indices, const Operand& updates, void* y) const {
    if (indices.shape.empty()) return error(Code::kInvalidArgument, "ScatterND: the indices have rank 0; expected 1 or more");
    const int64_t last = indices.shape.back();
    if (last < 0 || last > static_cast<int64_t>(x.shape.size()))
      return error(Code::kInvalidArgument, "ScatterND: tuples of {} indices for data {}", last, to_string(x.shape));
    const auto tuple = static_cast<size_t>(last);
    const auto places = indices.shape.first(indices.shape.size() - 1), slice = x.shape.subspan(tuple);
    if (updates.shape.size() != places.size() + slice.size() || !std::ranges::equal(updates.shape.first(places.size()), places) ||
        !std::ranges::equal(updates.shape.subspan(places.size()), slice))
      return error(Code::kInvalidArgument, "ScatterND: updates {} do not fit indices {} into data {}", to_string(updates.shape),
                   to_string(indices.shape), to_string(x.shape));
    if (y != x.data) copy_elements(x.dtype, y, 0, x.data, 0, element_count(x.shape));
    const int64_t inner = element_count(slice);
    for (int64_t k = 0, n = element_count(places); k < n; ++k) {
      int64_t at = 0;
      for (size_t i = 0; i < tuple; ++i) {
        const int64_t which = k * last + static_cast<int64_t>(i);
        OCIOR_ASSIGN(const int64_t index,
                     resolve_index(get_int(indices.dtype, indices.data, which), x.shape[i], "ScatterND", which));
        at = at * x.shape[i] + index;
      }
      put(x.dtype, y, at * inner, updates.data, k * inner, inner);
    }
    return {};
  }

  void put(DType t, void* y, int64_t to, const void* updates, int64_t from, int64_t n) const {
    if (how == Combine::kReplace) return copy_elements(t, y, to, updates, from, n);
    visit_kind(kind_of(t), [&](auto zero) {
      using C = decltype(zero);
      for (int64_t i = 0; i < n; ++i) {
        C a, b;
        const C value = combined<C>(how, *load<C>(t, y, to + i, 1, &a), *load<C>(t, updates, from + i, 1, &b));
        store<C>(t, y, to + i, 1, &value);
      }
    });
  }
};
OCIOR_OPERATOR(ScatterND)

}  // namespace ocior::ops
