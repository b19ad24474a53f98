// TensorScatter: a cache with new entries written along its sequence axis, at an index per batch element.
#include <algorithm>

#include "ops/evaluate.h"
#include "ops/move.h"
#include "ops/nn/numeric.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct TensorScatter {
  static constexpr OpInfo info{.name = "TensorScatter", .since = 24, .min_inputs = 2, .max_inputs = 3, .in_place = 1};
  int64_t axis = -2;
  bool circular = false;

  static TensorScatter parse(const NodeReader& node) {
    const std::string mode = node.text("mode", "linear");
    if (mode != "linear" && mode != "circular") node.fail("mode is '{}'; expected linear or circular", mode);
    return {node.integer("axis", -2), mode == "circular"};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "TensorScatter"));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 1, "TensorScatter"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 2, type_bit(DType::kInt64), "TensorScatter"));
    if (ranked(c, 0) && ranked(c, 1)) OCIOR_RETURN_IF_ERROR(check_shapes(*c.shape(0), *c.shape(1)).status());
    if (c.has(2) && ranked(c, 2)) {
      const Dims& writes = *c.shape(2);
      if (writes.size() != 1 || (ranked(c, 0) && !nn::may_equal(writes[0], (*c.shape(0))[0])))
        return error(Code::kInvalidArgument, "TensorScatter: the write indices have shape {}; expected one per batch element",
                     to_string(writes));
    }
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    const Tensor &x = c.in(0), &u = c.in(1);
    OCIOR_ASSIGN(const int64_t at,
                 check_shapes(Dims(x.shape().begin(), x.shape().end()), Dims(u.shape().begin(), u.shape().end())));
    OCIOR_RETURN_IF_ERROR(check_writes(c.has(2) ? c.in(2).as<int64_t>() : nullptr, x.shape(), u.shape(), at));
    copy_elements(x.dtype(), c.out(0).data(), 0, x.data(), 0, x.count());
    const auto a = static_cast<size_t>(at);
    const int64_t most = x.shape()[a], length = u.shape()[a], inner = nn::extent(x.shape(), at + 1, x.rank());
    const int64_t rows = nn::extent(x.shape(), 1, at);
    for (int64_t row = 0, n = x.shape()[0] * rows; row < n; ++row)
      for (int64_t i = 0; i < length; ++i) {
        const int64_t to = (first(c.has(2) ? c.in(2).as<int64_t>() : nullptr, row / rows, most) + i) % most;
        copy_elements(x.dtype(), c.out(0).data(), (row * most + to) * inner, u.data(), (row * length + i) * inner, inner);
      }
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &u = c.in(1), &y = c.out(0);
    OCIOR_ASSIGN(const int64_t at, check_shapes(Dims(x.shape.begin(), x.shape.end()), Dims(u.shape.begin(), u.shape.end())));
    const auto* writes = c.has(2) ? c.in(2).as<const int64_t>() : nullptr;
    OCIOR_RETURN_IF_ERROR(check_writes(writes, x.shape, u.shape, at));
    if (y.data != x.data) {
      BoxCopy copy{.dtype = x.dtype, .destination = y.data, .source = x.data};
      copy.axis(x.count(), 1, 1);
      copy.run(c);
    }
    if (u.count() == 0) return {};
    const auto a = static_cast<size_t>(at);
    const int64_t most = x.shape[a], length = u.shape[a], inner = nn::extent(x.shape, at + 1, x.rank());
    const int64_t rows = nn::extent(x.shape, 1, at);
    for (int64_t b = 0; b < x.shape[0]; ++b) {
      const int64_t to = first(writes, b, most), straight = std::min(length, most - to);
      write(c, b * rows, rows, most, length, inner, to, 0, straight);
      if (straight < length) write(c, b * rows, rows, most, length, inner, 0, straight, length - straight);
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kString, DType::kFloat16, DType::kInt4, DType::kComplex128})
      for (const char* mode : {"linear", "circular"}) {
        const auto add = [&](Shape cache, Shape update, std::vector<double> writes, int64_t axis) {
          Sample s{.inputs = {{t, cache}, {t, std::move(update)}}, .attributes = {{"mode", std::string(mode)}, {"axis", axis}}};
          if (!writes.empty()) s.inputs.push_back({DType::kInt64, {cache[0]}, Fill::kZeros, std::move(writes)});
          out.push_back(std::move(s));
        };
        add({2, 3, 5, 4}, {2, 3, 2, 4}, {1, 3}, -2);
        add({2, 5}, {2, 5}, {}, 1);
        add({2, 5, 3}, {2, 0, 3}, {0, 5}, 1);
        add({2, 5, 3}, {2, 1, 3}, {4, 0}, 1);
        if (std::string(mode) == "circular") add({2, 4, 3}, {2, 3, 3}, {11, -1}, 1);
      }
    return out;
  }

 private:
  Result<int64_t> check_shapes(const Dims& cache, const Dims& update) const {
    const auto rank = static_cast<int64_t>(cache.size());
    OCIOR_ASSIGN(const int64_t at, resolve_axis(axis, rank));
    if (at == 0) return error(Code::kInvalidGraph, "TensorScatter: axis is {}, the batch; expected another axis", axis);
    bool fits = cache.size() == update.size();
    for (size_t i = 0; fits && i < cache.size(); ++i) {
      if (!cache[i].known() || !update[i].known()) continue;
      fits = static_cast<int64_t>(i) == at ? update[i].value() <= cache[i].value() : update[i] == cache[i];
    }
    if (!fits)
      return error(Code::kInvalidArgument, "TensorScatter: an update {} does not fit a cache {} along axis {}", to_string(update),
                   to_string(cache), at);
    return at;
  }

  Status check_writes(const int64_t* writes, std::span<const int64_t> cache, std::span<const int64_t> update, int64_t at) const {
    if (circular || !writes) return {};
    const auto a = static_cast<size_t>(at);
    for (int64_t b = 0; b < cache[0]; ++b)
      if (writes[b] < 0 || writes[b] > cache[a] - update[a])
        return error(Code::kInvalidArgument,
                     "TensorScatter: write index {} of batch element {}; expected 0 to {}, so that {} entries fit {}", writes[b],
                     b, cache[a] - update[a], update[a], cache[a]);
    return {};
  }

  // Where the entries of batch element b begin, in [0, most), or `most` where there is nothing to write.
  int64_t first(const int64_t* writes, int64_t b, int64_t most) const {
    if (!writes) return 0;
    return circular ? (writes[b] % most + most) % most : writes[b];
  }

  // Entries [from, from + n) of the update of some rows, to [to, to + n) of the cache.
  static void write(CpuContext& c, int64_t row, int64_t rows, int64_t most, int64_t length, int64_t inner, int64_t to,
                    int64_t from, int64_t n) {
    BoxCopy copy{.dtype = c.in(0).dtype,
                 .destination = c.out(0).data,
                 .source = c.in(1).data,
                 .d = (row * most + to) * inner,
                 .s = (row * length + from) * inner};
    copy.axis(rows, most * inner, length * inner);
    copy.axis(n * inner, 1, 1);
    copy.run(c);
  }
};
OCIOR_OPERATOR(TensorScatter)

}  // namespace ocior::ops
