// RotaryEmbedding of com.microsoft: rotates pairs of each head by the angles of its position. Positions are given per element, or
// as the first one of every row.
#include "ops/microsoft/heads.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct MicrosoftRotaryEmbedding {
  static constexpr OpInfo info{.name = "RotaryEmbedding", .domain = kMicrosoft, .min_inputs = 4, .max_inputs = 4};
  enum Input { kX, kPositions, kCosines, kSines };

  int64_t heads = 0;    // of inputs with three axes; 0: as many as the caches' width says
  int64_t rotated = 0;  // elements of a head that turn; 0: all
  bool interleaved = false;

  static MicrosoftRotaryEmbedding parse(const NodeReader& node) {
    MicrosoftRotaryEmbedding op{node.integer("num_heads", 0), node.integer("rotary_embedding_dim", 0),
                                node.integer("interleaved", 0) != 0};
    if (op.heads < 0 || op.heads > nn::kMostHeads) node.fail("num_heads is {}; expected 0 to {}", op.heads, nn::kMostHeads);
    if (op.rotated < 0 || op.rotated % 2 != 0) node.fail("rotary_embedding_dim is {}; expected an even number", op.rotated);
    if (op.rotated > 0 && op.heads == 0) node.fail("rotary_embedding_dim needs num_heads");
    if (node.integer("is_packed_batching", 0) != 0) node.fail("is_packed_batching is not supported");
    if (node.number("scale", 1) != 1) node.fail("a scale other than 1 is not supported");
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kX, kCosines, kSines}));
    if (c.dtype(kPositions) != DType::kInt64)
      return error(Code::kInvalidGraph, "position_ids is {}; expected int64", name_of(c.dtype(kPositions)));
    if (c.shape(kX) && c.shape(kCosines)) {
      const Dims &x = *c.shape(kX), &cosines = *c.shape(kCosines);
      if ((x.size() != 3 && x.size() != 4) || cosines.size() != 2)
        return error(Code::kInvalidGraph, "x has shape {} and cos_cache {}; expected three or four axes, and two", to_string(x),
                     to_string(cosines));
      OCIOR_RETURN_IF_ERROR(check_input(c, kSines, "sin_cache", cosines));
      const Dim &batch = x[0], &rows = x[x.size() == 3 ? 1 : 2];
      if (c.shape(kPositions) && !nn::may_equal(*c.shape(kPositions), Dims{Dim(1)}) &&
          !nn::may_equal(*c.shape(kPositions), Dims{batch, rows}))
        return error(Code::kInvalidArgument, "position_ids has shape {}; expected [1] or [{}, {}]",
                     to_string(*c.shape(kPositions)), batch.text(), rows.text());
      if (x.back().known() && cosines[1].known()) {
        const int64_t dim = x.size() == 4 ? x[3].value() : head_dim(x[2].value(), cosines[1].value());
        if (dim < 1 || (x.size() == 3 && x[2].value() % dim != 0) || cosines[1].value() * 2 != (rotated ? rotated : dim) ||
            rotated > dim)
          return error(Code::kInvalidArgument,
                       "x of shape {} with {} heads and {} rotated elements does not fit caches of shape {}", to_string(x), heads,
                       rotated, to_string(cosines));
      }
    }
    c.set(0, c.in(kX));
    return {};
  }

  Status reference(RefContext& c) const {
    std::vector<double> x = nn::doubles(c.in(kX));
    const std::vector<double> cosines = nn::doubles(c.in(kCosines)), sines = nn::doubles(c.in(kSines));
    const std::vector<int64_t> ids = to_ints(c.in(kPositions));
    const Shape &shape = c.in(kX).shape(), &cache = c.in(kCosines).shape();
    const bool flat = shape.size() == 3;
    const int64_t half = cache[1], rows = shape[flat ? 1 : 2], dim = flat ? head_dim(shape[2], half) : shape[3];
    const int64_t count = x.empty() ? 0 : static_cast<int64_t>(x.size()) / dim,
                  own_heads = flat ? shape[2] / std::max<int64_t>(1, dim) : shape[1];
    for (int64_t head = 0; head < count; ++head) {
      // Heads follow one another as [batch, row, head], or as [batch, head, row].
      const int64_t b = head / (rows * own_heads), i = flat ? head / own_heads % rows : head % rows;
      const int64_t position = c.in(kPositions).shape().size() == 1 ? ids[0] : ids[static_cast<size_t>(b * rows + i)];
      const bool offset = c.in(kPositions).shape().size() == 1;
      if (position < 0 || position > cache[0] || position + (offset ? i : 0) >= cache[0])
        return error(Code::kInvalidArgument, "position {} is outside the caches, which hold {} positions", position, cache[0]);
      const int64_t at = (position + (offset ? i : 0)) * half;
      rotate_pairs(x.data() + head * dim, cosines.data() + at, sines.data() + at, half, interleaved);
    }
    nn::store(c.out(0), x);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const int64_t interleaved : {0, 1})
      for (const bool flat : {false, true})
        out.push_back({.inputs = {{.shape = flat ? Shape{2, 3, 16} : Shape{2, 2, 3, 8}},
                                  {.dtype = DType::kInt64, .shape = {2, 3}, .values = {0, 1, 2, 4, 3, 9}},
                                  {.shape = {10, 4}},
                                  {.shape = {10, 4}}},
                       .attributes = {{"interleaved", interleaved}}});
    out.push_back({.inputs = {{.shape = {2, 3, 16}},
                              {.dtype = DType::kInt64, .shape = {1}, .values = {5}},
                              {.shape = {10, 2}},
                              {.shape = {10, 2}}},
                   .attributes = {{"num_heads", int64_t{2}}, {"rotary_embedding_dim", int64_t{4}}}});
    return out;
  }

 private:
  int64_t head_dim(int64_t width, int64_t half) const {
    if (heads > 0) return width % heads == 0 ? width / heads : 0;
    return half > INT32_MAX ? 0 : 2 * half;
  }
};

OCIOR_OPERATOR(MicrosoftRotaryEmbedding)

}  // namespace ocior::ops
