// Tile: the input, repeated along each axis.
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct Tile {
  static constexpr OpInfo info{.name = "Tile", .min_inputs = 2, .max_inputs = 3};
  bool one_axis = false;  // opset < 6: input 1 counts the tiles, input 2 is the axis

  static Tile parse(const NodeReader& node) {
    const bool old = node.opset() < 6;
    if (node.inputs() != (old ? 3 : 2))
      node.fail("expected {} inputs at opset {}, got {}", old ? 3 : 2, node.opset(), node.inputs());
    return {old};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "Tile"));
    c.set(0, c.dtype(0), std::nullopt);
    if (!ranked(c, 0)) return {};
    auto repeats = data_of(c, 1);
    if (one_axis && repeats) {
      const auto axis = ints_of(c, 2);
      if (!axis || axis->size() != 1 || repeats->size() != 1) repeats.reset();
      else {
        OCIOR_ASSIGN(const int64_t a, resolve_axis((*axis)[0], rank(c, 0)));
        Dims all(static_cast<size_t>(rank(c, 0)), Dim(1));
        all[static_cast<size_t>(a)] = (*repeats)[0];
        repeats = std::move(all);
      }
    }
    Dims out = *c.shape(0);
    if (repeats && repeats->size() != out.size())
      return error(Code::kInvalidArgument, "Tile: {} repeats for an input of rank {}", repeats->size(), out.size());
    for (size_t i = 0; i < out.size(); ++i) {
      if (repeats && (*repeats)[i].known() && (*repeats)[i].value() < 0)
        return error(Code::kInvalidArgument, "Tile: repeat {} is {}; expected 0 or more", i, (*repeats)[i].value());
      out[i] = repeats ? out[i] * (*repeats)[i] : c.fresh("tile");
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  // Output element (i...) is input element (i mod shape...).
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const FixedShape repeats, repeats_of(c, x.rank()));
    OCIOR_ASSIGN(const FixedShape shape, output_shape(x.shape(), repeats));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), shape));
    const auto strides = dense_strides(x.shape());
    FixedShape place = shape;
    for (int64_t i = 0; i < place.rank; ++i) place[i] = 0;
    for (int64_t k = 0, n = element_count(shape); k < n; ++k) {
      int64_t from = 0;
      for (int64_t i = 0; i < place.rank; ++i)
        from += place[i] % x.shape()[static_cast<size_t>(i)] * strides[static_cast<size_t>(i)];
      copy_elements(x.dtype(), c.out(0).data(), k, x.data(), from, 1);
      for (int64_t i = place.rank; i-- > 0;) {
        if (++place[i] < shape[i]) break;
        place[i] = 0;
      }
    }
    return {};
  }

  // Each axis becomes two: the tile (source stride 0) and the place in it.
  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_ASSIGN(const FixedShape repeats, repeats_of(c, x.rank()));
    OCIOR_ASSIGN(const FixedShape shape, output_shape(x.shape, repeats));
    if (2 * shape.rank > BoxCopy::kAxes) return error(Code::kNotImplemented, "Tile of rank {} is not supported", shape.rank);
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
    if (element_count(shape) == 0) return {};
    BoxCopy copy{.dtype = x.dtype, .destination = c.out(0).data, .source = x.data};
    int64_t in = x.count(), out = element_count(shape);
    for (int64_t i = 0; i < shape.rank; ++i) {
      const int64_t length = x.shape[static_cast<size_t>(i)];
      in /= length, out /= shape[i];
      copy.axis(repeats[i], out * length, 0);
      copy.axis(length, out, in);
    }
    copy.run(c);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&out](DType t, Shape x, std::vector<double> repeats) {
      const auto n = static_cast<int64_t>(repeats.size());
      out.push_back({.inputs = {{t, std::move(x)}, {DType::kInt64, {n}, Fill::kZeros, std::move(repeats)}}});
    };
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kBool, DType::kString, DType::kFloat16}) {
      add(t, {2, 3}, {2, 2});
      add(t, {2, 3, 1}, {1, 3, 4});
      add(t, {2, 3}, {0, 2});
      add(t, {}, {});
      add(t, {0, 2}, {3, 1});
    }
    add(DType::kFloat, {1, 200}, {300, 1});
    out.push_back(
        {.inputs = {{DType::kFloat, {2, 3}}, {DType::kInt64, {1}, Fill::kZeros, {3}}, {DType::kInt64, {1}, Fill::kZeros, {1}}},
         .opset = 1});
    return out;
  }

 private:
  template <class C>
  Result<FixedShape> repeats_of(C& c, int64_t rank) const {
    OCIOR_ASSIGN(FixedShape list, fixed_ints(c.in(1), "Tile's repeats"));
    if (one_axis) {
      OCIOR_ASSIGN(const FixedShape axis, fixed_ints(c.in(2), "Tile's axis"));
      if (axis.rank != 1 || list.rank != 1)
        return error(Code::kInvalidArgument, "Tile: expected one number of tiles and one axis");
      OCIOR_ASSIGN(const int64_t a, resolve_axis(axis[0], rank));
      const int64_t tiles = list[0];
      list.rank = 0;
      for (int64_t i = 0; i < rank; ++i) list.push(i == a ? tiles : 1);
    }
    if (list.rank != rank) return error(Code::kInvalidArgument, "Tile: {} repeats for an input of rank {}", list.rank, rank);
    return list;
  }

  static Result<FixedShape> output_shape(std::span<const int64_t> x, const FixedShape& repeats) {
    OCIOR_ASSIGN(FixedShape out, fixed_shape(x));
    for (int64_t i = 0; i < out.rank; ++i)
      if (repeats[i] < 0 || __builtin_mul_overflow(out[i], repeats[i], &out[i]))
        return error(Code::kInvalidArgument, "Tile: {} repeats of {} are no dimension", repeats[i], x[static_cast<size_t>(i)]);
    OCIOR_RETURN_IF_ERROR(checked_element_count(out).status());
    return out;
  }
};
OCIOR_OPERATOR(Tile)

}  // namespace ocior::ops
