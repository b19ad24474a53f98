// RotaryEmbedding (https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html): rotates pairs of each head by angles given as
// cosines and sines per position.
#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct RotaryEmbedding {
  static constexpr OpInfo info{.name = "RotaryEmbedding", .since = 23, .min_inputs = 3, .max_inputs = 4};

  int64_t heads = 0;         // of inputs with three axes
  int64_t rotated = 0;       // elements of a head that turn; 0: all
  bool interleaved = false;  // pairs are neighbours, else a half apart

  static RotaryEmbedding parse(const NodeReader& node) {
    RotaryEmbedding op{node.integer("num_heads", 0), node.integer("rotary_embedding_dim", 0),
                       node.integer("interleaved", 0) != 0};
    if (op.heads < 0 || op.heads > nn::kMostHeads) node.fail("num_heads is {}; expected 1 to {}", op.heads, nn::kMostHeads);
    if (op.rotated < 0 || op.rotated % 2 != 0) node.fail("rotary_embedding_dim is {}; expected an even number", op.rotated);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1, 2}));
    if (c.has(3) && c.dtype(3) != DType::kInt64)
      return error(Code::kInvalidGraph, "position_ids is {}; expected int64", name_of(c.dtype(3)));
    if (c.shape(0)) {
      const Dims& x = *c.shape(0);
      if (x.size() != 4 && !(x.size() == 3 && heads > 0))
        return error(Code::kInvalidGraph, "x has shape {}; expected four axes, or three with num_heads", to_string(x));
      const bool flat = x.size() == 3;
      const Dim dim = flat ? Dim::quotient(x[2], Dim(heads)) : x[3];
      if (dim.known() && (dim.value() % 2 != 0 || rotated > dim.value() || (flat && x[2].value() % heads != 0)))
        return error(Code::kInvalidArgument, "x of shape {} has no heads of an even size with {} elements to rotate",
                     to_string(x), rotated);
      const Dim half = rotated ? Dim(rotated / 2) : Dim::quotient(dim, Dim(2));
      for (int i : {1, 2}) OCIOR_RETURN_IF_ERROR(check_cache(c, i, x[0], flat ? x[1] : x[2], half));
    }
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    const std::vector<double> x = nn::doubles(c.in(0)), cosines = nn::doubles(c.in(1)), sines = nn::doubles(c.in(2));
    const Shape& shape = c.in(0).shape();
    if (x.empty()) return {};
    const bool flat = shape.size() == 3;
    const int64_t rows = shape[flat ? 1 : 2], count = flat ? heads : shape[1], dim = flat ? shape[2] / heads : shape[3];
    const int64_t turned = rotated ? rotated : dim, half = turned / 2;
    const std::vector<int64_t> ids = c.has(3) ? to_ints(c.in(3)) : std::vector<int64_t>();
    std::vector<double> y = x;
    for (int64_t b = 0; b < shape[0]; ++b)
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t position = c.has(3) ? ids[static_cast<size_t>(b * rows + i)] : b * rows + i;
        if (c.has(3) && (position < 0 || position >= c.in(1).shape()[0]))
          return error(Code::kInvalidArgument, "position {} is outside the caches, which hold {} positions", position,
                       c.in(1).shape()[0]);
        for (int64_t h = 0; h < count; ++h)
          for (int64_t j = 0; j < half; ++j) {
            const int64_t head = flat ? ((b * rows + i) * count + h) * dim : ((b * count + h) * rows + i) * dim;
            const auto first = static_cast<size_t>(head + (interleaved ? 2 * j : j)),
                       second = static_cast<size_t>(first) + static_cast<size_t>(interleaved ? 1 : half);
            const double cosine = cosines[static_cast<size_t>(position * half + j)],
                         sine = sines[static_cast<size_t>(position * half + j)];
            y[first] = cosine * x[first] - sine * x[second];
            y[second] = sine * x[first] + cosine * x[second];
          }
      }
    nn::store(c.out(0), y);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&](Shape x, Shape cache, bool ids, Attributes attributes = {}, DType dtype = DType::kFloat) {
      const bool flat = x.size() == 3;
      Sample s{.inputs = {{.dtype = dtype, .shape = x}, {.dtype = dtype, .shape = cache}, {.dtype = dtype, .shape = cache}},
               .attributes = std::move(attributes)};
      if (ids) {
        SampleInput positions{.dtype = DType::kInt64, .shape = {x[0], x[flat ? 1 : 2]}};
        for (int64_t i = 0; i < x[0] * x[flat ? 1 : 2]; ++i) positions.values.push_back(static_cast<double>((i * 7) % cache[0]));
        s.inputs.push_back(positions);
      }
      out.push_back(std::move(s));
    };
    for (int64_t interleaved : {0, 1}) {
      const Attributes plain{{"interleaved", interleaved}};
      Attributes flat = plain, part = plain;
      flat["num_heads"] = int64_t{3}, part["rotary_embedding_dim"] = int64_t{4};
      add({2, 3, 5, 8}, {2, 5, 4}, false, plain);
      add({2, 3, 5, 8}, {20, 4}, true, plain);
      add({2, 3, 5, 8}, {20, 2}, true, part);
      add({2, 5, 24}, {20, 4}, true, flat);
      add({2, 5, 24}, {2, 5, 4}, false, flat);
      add({2, 3, 5, 8}, {20, 4}, true, plain, DType::kFloat16);
    }
    add({0, 3, 5, 8}, {20, 4}, true);
    return out;
  }

 private:
  // A cache is [positions, half] with position ids, else [batch, rows, half].
  static Status check_cache(ShapeContext& c, int i, const Dim& batch, const Dim& rows, const Dim& half) {
    if (!c.shape(i)) return {};
    const Dims& cache = *c.shape(i);
    const Dims want = c.has(3) ? Dims{cache.empty() ? Dim(0) : cache[0], half} : Dims{batch, rows, half};
    if (!nn::may_equal(cache, want))
      return error(Code::kInvalidArgument, "the cache at input {} has shape {}; expected {}", i, to_string(cache),
                   to_string(want));
    if (!c.has(3) || !c.shape(3)) return {};
    const Dims& ids = *c.shape(3);
    if (nn::may_equal(ids, Dims{batch, rows})) return {};
    return error(Code::kInvalidArgument, "position_ids has shape {}; expected [{}, {}]", to_string(ids), batch.text(),
                 rows.text());
  }
};

OCIOR_OPERATOR(RotaryEmbedding)

}  // namespace ocior::ops
