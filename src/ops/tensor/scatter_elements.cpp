// ScatterElements, and Scatter, its older name: the data with single elements replaced, or combined with updates, at indices
// along an axis.
#include <algorithm>
#include <array>

#include "ops/evaluate.h"
#include "ops/loops.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/tensor/combine.h"
#include "ops/tensor/indices.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

constexpr int64_t kBlock = 128;  // columns that are scattered together, their places on the stack

// Errors unless the three shapes belong together; the axis in [0, rank).
Result<int64_t> check_shapes(int64_t axis, const Dims& x, const Dims& indices, const Dims& updates, std::string_view op) {
  if (x.empty() || x.size() != indices.size() || x.size() != updates.size())
    return error(Code::kInvalidArgument, "{}: data {}, indices {} and updates {} must have one rank, 1 or more", op, to_string(x),
                 to_string(indices), to_string(updates));
  OCIOR_ASSIGN(const int64_t at, resolve_axis(axis, static_cast<int64_t>(x.size())));
  for (size_t i = 0; i < x.size(); ++i) {
    const Dim &d = x[i], &n = indices[i], &u = updates[i];
    if (n.known() && u.known() && n.value() != u.value())
      return error(Code::kInvalidArgument, "{}: indices {} and updates {} must have one shape", op, to_string(indices),
                   to_string(updates));
    if (static_cast<int64_t>(i) != at && d.known() && n.known() && n.value() > d.value())
      return error(Code::kInvalidArgument, "{}: indices {} reach beyond data {} in dimension {}", op, to_string(indices),
                   to_string(x), i);
  }
  return at;
}

// A scatter of known shapes: columns are the positions of the indices but for the axis, `inner` of them side by side.
struct Plan {
  int64_t axis = 0, length = 0, extent = 0, stride = 0;  // along the axis: of the indices, of the data, the data's stride
  int64_t outer = 0, inner = 0, blocks = 0;
  FixedShape indices, strides;

  static Result<Plan> make(int64_t axis, std::span<const int64_t> x, std::span<const int64_t> indices,
                           std::span<const int64_t> updates, std::string_view op) {
    Plan p;
    OCIOR_ASSIGN(p.axis, check_shapes(axis, Dims(x.begin(), x.end()), Dims(indices.begin(), indices.end()),
                                      Dims(updates.begin(), updates.end()), op));
    OCIOR_ASSIGN(p.indices, fixed_shape(indices));
    OCIOR_ASSIGN(p.strides, fixed_shape(x));
    int64_t step = 1;
    for (size_t i = x.size(); i-- > 0; step *= x[i]) p.strides[static_cast<int64_t>(i)] = step;
    const auto at = static_cast<size_t>(p.axis);
    p.length = indices[at], p.extent = x[at], p.stride = p.strides[p.axis];
    p.outer = element_count(indices.first(at)), p.inner = element_count(indices.subspan(at + 1));
    p.blocks = (p.inner + kBlock - 1) / kBlock;
    return p;
  }

  // Where in the data the columns [first, first + n) of row `o` begin.
  void places(int64_t o, int64_t first, int64_t n, int64_t* out) const {
    FixedShape index;
    index.rank = indices.rank;
    int64_t rest = first, at = 0;
    for (int64_t a = indices.rank; a-- > 0;) {
      if (a == axis) {
        rest = o, index[a] = 0;
        continue;
      }
      index[a] = rest % indices[a];
      rest /= indices[a];
      at += index[a] * strides[a];
    }
    for (int64_t i = 0; i < n; ++i) {
      out[i] = at;
      for (int64_t a = indices.rank; a-- > axis + 1;) {
        at += strides[a];
        if (++index[a] < indices[a]) break;
        at -= indices[a] * strides[a];
        index[a] = 0;
      }
    }
  }
};

template <class I>
Status check_indices(const I* indices, int64_t n, int64_t extent, std::string_view op) {
  for (int64_t i = 0; i < n; ++i)
    if (indices[i] < -extent || indices[i] >= extent) return resolve_index(indices[i], extent, op, i).status();
  return {};
}

// put(place in the data, place in the updates) for every index of a block of columns, in order along the axis.
template <class I, class F>
void scatter_block(const Plan& p, const I* indices, int64_t block, F&& put) {
  const int64_t o = block / p.blocks, first = block % p.blocks * kBlock, n = std::min(kBlock, p.inner - first);
  std::array<int64_t, kBlock> place;
  p.places(o, first, n, place.data());
  for (int64_t k = 0; k < p.length; ++k) {
    const int64_t from = (o * p.length + k) * p.inner + first;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = indices[from + i];
      put(place[static_cast<size_t>(i)] + (at < 0 ? at + p.extent : at) * p.stride, from + i);
    }
  }
}

// Columns never meet, so blocks of them may run side by side.
template <class I, class F>
void scatter_all(CpuContext& c, const Plan& p, const F& put) {
  const auto* indices = c.in(1).as<const I>();
  for_items(c, p.outer * p.blocks, p.length * std::min(kBlock, p.inner), [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) scatter_block(p, indices, block, put);
  });
}

template <class I, class T>
void replace_all(CpuContext& c, const Plan& p) {
  T* y = c.out(0).as<T>();
  const T* updates = c.in(2).as<const T>();
  scatter_all<I>(c, p, [=](int64_t to, int64_t from) { y[to] = updates[from]; });
}

template <class I, Combine how>
void combine_floats(CpuContext& c, const Plan& p) {
  float* y = c.out(0).as<float>();
  const float* updates = c.in(2).as<const float>();
  scatter_all<I>(c, p, [=](int64_t to, int64_t from) { y[to] = combined(how, y[to], updates[from]); });
}

struct Bytes16 {
  uint64_t low, high;
};

}  // namespace

// What both names share.
struct ScatterAlong {
  int64_t axis = 0;
  Combine how = Combine::kReplace;

  Status infer(ShapeContext& c, std::string_view op) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, how == Combine::kReplace ? kAnyType : kNumbers | kBools, op));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, op));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 2, op));
    if (ranked(c, 0) && ranked(c, 1) && ranked(c, 2))
      OCIOR_RETURN_IF_ERROR(check_shapes(axis, *c.shape(0), *c.shape(1), *c.shape(2), op).status());
    return infer_unary(c);
  }

  Status reference(RefContext& c, std::string_view op) const {
    const Tensor &x = c.in(0), &indices = c.in(1), &updates = c.in(2);
    OCIOR_ASSIGN(const Plan p, Plan::make(axis, x.shape(), indices.shape(), updates.shape(), op));
    void* y = c.out(0).data();
    if (y != x.data()) copy_elements(x.dtype(), y, 0, x.data(), 0, x.count());
    Shape index(indices.shape().size(), 0);
    for (int64_t i = 0, n = indices.count(); i < n; ++i) {
      OCIOR_ASSIGN(const int64_t at, resolve_index(get_int(indices.dtype(), indices.data(), i), p.extent, op, i));
      int64_t to = at * p.stride;
      for (size_t a = 0; a < index.size(); ++a)
        if (static_cast<int64_t>(a) != p.axis) to += index[a] * p.strides[static_cast<int64_t>(a)];
      put(x.dtype(), y, to, updates.data(), i);
      for (size_t a = index.size(); a-- > 0;) {
        if (++index[a] < indices.shape()[a]) break;
        index[a] = 0;
      }
    }
    return {};
  }

  Status run(CpuContext& c, std::string_view op) const {
    return c.in(1).dtype == DType::kInt32 ? run_with<int32_t>(c, op) : run_with<int64_t>(c, op);
  }

 private:
  template <class I>
  Status run_with(CpuContext& c, std::string_view op) const {
    const TensorView &x = c.in(0), &indices = c.in(1), &updates = c.in(2), &y = c.out(0);
    OCIOR_ASSIGN(const Plan p, Plan::make(axis, x.shape, indices.shape, updates.shape, op));
    OCIOR_RETURN_IF_ERROR(check_indices(indices.as<const I>(), indices.count(), p.extent, op));
    if (y.data != x.data) {
      BoxCopy copy{.dtype = x.dtype, .destination = y.data, .source = x.data};
      copy.axis(x.count(), 1, 1);
      copy.run(c);
    }
    if (indices.count() == 0) return {};
    if (how != Combine::kReplace && x.dtype == DType::kFloat) {
      switch (how) {
        case Combine::kAdd: return combine_floats<I, Combine::kAdd>(c, p), Status();
        case Combine::kMul: return combine_floats<I, Combine::kMul>(c, p), Status();
        case Combine::kMax: return combine_floats<I, Combine::kMax>(c, p), Status();
        default: return combine_floats<I, Combine::kMin>(c, p), Status();
      }
    }
    const auto any = [&, t = x.dtype](int64_t to, int64_t from) { put(t, y.data, to, updates.data, from); };
    if (!moves_as_bytes(x.dtype)) {  // packed elements share bytes: one thread
      for (int64_t block = 0; block < p.outer * p.blocks; ++block) scatter_block(p, indices.as<const I>(), block, any);
      return {};
    }
    if (how != Combine::kReplace) return scatter_all<I>(c, p, any), Status();
    switch (element_size(x.dtype)) {
      case 1: return replace_all<I, uint8_t>(c, p), Status();
      case 2: return replace_all<I, uint16_t>(c, p), Status();
      case 4: return replace_all<I, uint32_t>(c, p), Status();
      case 8: return replace_all<I, uint64_t>(c, p), Status();
      default: return replace_all<I, Bytes16>(c, p), Status();
    }
  }

  void put(DType t, void* y, int64_t to, const void* updates, int64_t from) const {
    if (how == Combine::kReplace) return copy_elements(t, y, to, updates, from, 1);
    visit_kind(kind_of(t), [&](auto zero) {
      using C = decltype(zero);
      C a, b;
      const C value = combined<C>(how, *load<C>(t, y, to, 1, &a), *load<C>(t, updates, from, 1, &b));
      store<C>(t, y, to, 1, &value);
    });
  }
};

struct ScatterElements {
  static constexpr OpInfo info{.name = "ScatterElements", .since = 11, .min_inputs = 3, .max_inputs = 3, .in_place = 1};
  ScatterAlong along;

  static ScatterElements parse(const NodeReader& node) { return {{node.integer("axis", 0), parse_combine(node)}}; }
  Status infer(ShapeContext& c) const { return along.infer(c, info.name); }
  Status reference(RefContext& c) const { return along.reference(c, info.name); }
  Status run(CpuContext& c) const { return along.run(c, info.name); }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kInt8, DType::kInt32, DType::kInt64,
                          DType::kUint64, DType::kString, DType::kBool, DType::kComplex128, DType::kInt4})
      for (const char* how : {"none", "add", "mul", "max", "min"}) {
        const bool number = (kNumbers | kBools) & type_bit(t);
        if (!number && std::string(how) != "none") continue;
        const auto add = [&](Shape x, DType index, Shape indices, std::vector<double> values, int64_t axis) {
          out.push_back({.inputs = {{t, std::move(x), Fill::kSmallInts},
                                    {index, indices, Fill::kZeros, std::move(values)},
                                    {t, indices, Fill::kSmallInts}},
                         .attributes = {{"axis", axis}, {"reduction", std::string(how)}}});
        };
        add({8}, DType::kInt64, {5}, {4, 3, 1, -1, 3}, 0);
        add({3, 4}, DType::kInt32, {2, 3}, {0, 1, 2, -3, 2, 0}, 0);
        add({3, 4}, DType::kInt64, {2, 3}, {0, 3, -1, 1, 1, 2}, -1);
        add({2, 3, 4}, DType::kInt64, {2, 2, 3}, {0, 1, 2, 2, 0, 0, 1, 1, 1, -1, -2, -3}, 1);
        add({4}, DType::kInt64, {0}, {}, 0);
      }
    for (const char* how : {"none", "add"})
      out.push_back(
          {.inputs = {{DType::kFloat, {300, 200}}, {DType::kInt64, {250, 200}, Fill::kPositive}, {DType::kFloat, {250, 200}}},
           .attributes = {{"axis", int64_t{0}}, {"reduction", std::string(how)}}});
    out.push_back({.inputs = {{DType::kFloat, {5, 40, 300}},
                              {DType::kInt32, {5, 40, 200}, Fill::kSmallInts},
                              {DType::kFloat, {5, 40, 200}}},
                   .attributes = {{"axis", int64_t{1}}},
                   .opset = 13});
    out.push_back(
        {.inputs = {{DType::kFloat, {1000, 1000}}, {DType::kInt64, {1000, 1000}, Fill::kPositive}, {DType::kFloat, {1000, 1000}}},
         .attributes = {{"axis", int64_t{1}}},
         .bench = true});
    return out;
  }
};
OCIOR_OPERATOR(ScatterElements)

struct Scatter {
  static constexpr OpInfo info{.name = "Scatter", .since = 9, .min_inputs = 3, .max_inputs = 3, .in_place = 1};
  ScatterAlong along;

  static Scatter parse(const NodeReader& node) { return {{node.integer("axis", 0)}}; }
  Status infer(ShapeContext& c) const { return along.infer(c, info.name); }
  Status reference(RefContext& c) const { return along.reference(c, info.name); }
  Status run(CpuContext& c) const { return along.run(c, info.name); }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kString})
      out.push_back(
          {.inputs = {{t, {3, 3}}, {DType::kInt64, {2, 3}, Fill::kZeros, {1, 0, 2, 0, 2, 1}}, {t, {2, 3}}}, .opset = 9});
    return out;
  }
};
OCIOR_OPERATOR(Scatter)

}  // namespace ocior::ops
