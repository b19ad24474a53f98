// Compress: the slices along an axis, or the elements in order, for which a condition holds. Sized by the run.
#include <algorithm>
#include <array>

#include "ops/evaluate.h"
#include "ops/loops.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct Compress {
  static constexpr OpInfo info{.name = "Compress", .since = 9, .min_inputs = 2, .max_inputs = 2};
  std::optional<int64_t> axis;  // nothing: over the flattened input

  static Compress parse(const NodeReader& node) {
    Compress op;
    if (node.has("axis")) op.axis = node.integer("axis", 0);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "Compress"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kBools, "Compress"));
    if (ranked(c, 1) && rank(c, 1) != 1)
      return error(Code::kInvalidArgument, "Compress: the condition has shape {}; expected rank 1", to_string(*c.shape(1)));
    if (!axis) return c.set(0, c.dtype(0), Dims{c.fresh("compress")}), Status();
    if (!ranked(c, 0)) return c.set(0, c.dtype(0), std::nullopt), Status();
    OCIOR_ASSIGN(const int64_t at, resolve_axis(*axis, rank(c, 0)));
    Dims out = *c.shape(0);
    out[static_cast<size_t>(at)] = c.fresh("compress");
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor &x = c.in(0), &condition = c.in(1);
    OCIOR_ASSIGN(const Cut cut, cut_at(x.shape()));
    const auto* keep = condition.as<const uint8_t>();
    std::vector<int64_t> kept;
    for (int64_t i = 0; i < condition.count(); ++i)
      if (keep[i]) kept.push_back(i);
    if (!kept.empty() && kept.back() >= cut.length) return beyond(kept.back(), cut.length);
    const auto picks = static_cast<int64_t>(kept.size());
    OCIOR_ASSIGN(const FixedShape shape, shape_with(x.shape(), cut, picks));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), shape));
    for (int64_t o = 0; o < cut.outer; ++o)
      for (int64_t i = 0; i < picks; ++i)
        copy_elements(x.dtype(), c.out(0).data(), (o * picks + i) * cut.inner, x.data(),
                      (o * cut.length + kept[static_cast<size_t>(i)]) * cut.inner, cut.inner);
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &condition = c.in(1);
    OCIOR_ASSIGN(const Cut cut, cut_at(x.shape));
    const auto* keep = condition.as<const uint8_t>();
    for (int64_t i = cut.length; i < condition.count(); ++i)
      if (keep[i]) return beyond(i, cut.length);
    // The condition in pieces, and how many are kept before each.
    const int64_t n = std::min(condition.count(), cut.length), piece = std::max<int64_t>(16, (n + kPieces - 1) / kPieces);
    const int64_t pieces = (n + piece - 1) / piece;
    std::array<int64_t, kPieces + 1> before{};
    for (int64_t p = 0; p < pieces; ++p) {
      int64_t kept = 0;
      for (int64_t i = p * piece; i < std::min(n, (p + 1) * piece); ++i) kept += keep[i] != 0;
      before[static_cast<size_t>(p) + 1] = before[static_cast<size_t>(p)] + kept;
    }
    const int64_t picks = before[static_cast<size_t>(pieces)];
    OCIOR_ASSIGN(const FixedShape shape, shape_with(x.shape, cut, picks));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, shape));
    if (picks == 0 || cut.outer == 0 || cut.inner == 0) return {};
    const auto work = [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const int64_t o = k / pieces, p = k % pieces, first = before[static_cast<size_t>(p)];
        copy_kept(c, keep, p * piece, before[static_cast<size_t>(p) + 1] - first, o * cut.length, o * picks + first, cut.inner);
      }
    };
    if (moves_as_bytes(x.dtype)) for_items(c, cut.outer * pieces, std::max<int64_t>(1, n / pieces) * cut.inner, work);
    else work(0, cut.outer * pieces);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t :
         {DType::kFloat, DType::kInt64, DType::kString, DType::kBool, DType::kFloat16, DType::kComplex128, DType::kInt4}) {
      const auto add = [&](Shape shape, Shape condition, std::vector<double> values, std::optional<int64_t> axis) {
        Sample s{.inputs = {{t, std::move(shape)}, {DType::kBool, std::move(condition), Fill::kBools, std::move(values)}}};
        if (axis) s.attributes["axis"] = *axis;
        out.push_back(std::move(s));
      };
      add({3, 2}, {3}, {0, 1, 1}, 0);
      add({3, 2}, {1}, {1}, -1);
      add({3, 2}, {5}, {0, 1, 0, 0, 1}, std::nullopt);
      add({3, 2}, {8}, {1, 1, 0, 0, 1, 1, 0, 0}, std::nullopt);
      add({3, 0}, {3}, {1, 0, 1}, 0);
      add({4, 5, 6}, {5}, {1, 1, 0, 1, 1}, 1);
      add({4, 5, 6}, {5}, {0, 0, 0, 0, 0}, 1);
      add({4}, {0}, {}, 0);
    }
    out.push_back({.inputs = {{DType::kFloat, {300, 400}}, {DType::kBool, {120000}, Fill::kBools}}});
    out.push_back({.inputs = {{DType::kFloat, {700, 100}}, {DType::kBool, {700}, Fill::kBools}},
                   .attributes = {{"axis", int64_t{0}}},
                   .opset = 9});
    out.push_back({.inputs = {{DType::kFloat, {2000, 1000}}, {DType::kBool, {2000000}, Fill::kBools}}, .bench = true});
    return out;
  }

 private:
  static constexpr int64_t kPieces = 64;

  struct Cut {
    int64_t axis, outer, length, inner;
  };
  Result<Cut> cut_at(std::span<const int64_t> shape) const {
    if (!axis) return Cut{-1, 1, element_count(shape), 1};
    OCIOR_ASSIGN(const int64_t a, resolve_axis(*axis, static_cast<int64_t>(shape.size())));
    const auto at = static_cast<size_t>(a);
    return Cut{a, element_count(shape.first(at)), shape[at], element_count(shape.subspan(at + 1))};
  }

  static Status beyond(int64_t i, int64_t length) {
    return error(Code::kInvalidArgument, "Compress: element {} of the condition is true, but there are only {} to choose from", i,
                 length);
  }

  static Result<FixedShape> shape_with(std::span<const int64_t> x, const Cut& cut, int64_t picks) {
    FixedShape out;
    if (cut.axis < 0) out.push(picks);
    else {
      OCIOR_ASSIGN(out, fixed_shape(x));
      out[cut.axis] = picks;
    }
    return out;
  }

  // The first `kept` elements after `at` that the condition keeps, of a row that begins at element `row`, to `to`.
  static void copy_kept(CpuContext& c, const uint8_t* keep, int64_t at, int64_t kept, int64_t row, int64_t to, int64_t inner) {
    const DType t = c.in(0).dtype;
    if (inner == 1 && moves_as_bytes(t) && element_size(t) == 4) {  // without a branch: a write that is not kept is written over
      const auto* x = c.in(0).as<const uint32_t>() + row;
      auto* y = c.out(0).as<uint32_t>() + to;
      for (int64_t written = 0; written < kept; ++at) {
        y[written] = x[at];
        written += keep[at] != 0;
      }
      return;
    }
    while (kept > 0) {
      while (!keep[at]) ++at;
      int64_t n = 1;
      while (n < kept && keep[at + n]) ++n;
      copy_elements(t, c.out(0).data, to * inner, c.in(0).data, (row + at) * inner, n * inner);
      at += n, to += n, kept -= n;
    }
  }
};
OCIOR_OPERATOR(Compress)

}  // namespace ocior::ops
