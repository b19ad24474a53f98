// Trilu: the upper or lower triangle of the last two axes; the rest becomes 0.
#include <algorithm>
#include <cstring>

#include "ops/loops.h"
#include "ops/microsoft/microsoft.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct Trilu {
  static constexpr OpInfo info{.name = "Trilu", .since = 14, .max_inputs = 2, .in_place = 1};
  bool upper = true;

  static Trilu parse(const NodeReader& node) { return {node.integer("upper", 1) != 0}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kNumbers | kBools, "Trilu"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, type_bit(DType::kInt64), "Trilu"));
    if (ranked(c, 0) && rank(c, 0) < 2)
      return error(Code::kInvalidArgument, "Trilu: the input has rank {}; expected 2 or more", rank(c, 0));
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const int64_t k, c.has(1) ? shift(c.in(1).dtype(), c.in(1).data(), c.in(1).count()) : Result<int64_t>(0));
    if (x.rank() < 2) return error(Code::kInvalidArgument, "Trilu: the input has rank {}; expected 2 or more", x.rank());
    const int64_t rows = x.shape()[x.shape().size() - 2], columns = x.shape().back();
    for (int64_t i = 0, n = x.count(); i < n; ++i) {
      const int64_t row = i / columns % rows, column = i % columns;
      const bool keep = upper ? column >= row + k : column <= row + k;
      if (keep) copy_elements(x.dtype(), c.out(0).data(), i, x.data(), i, 1);
      else set_int(x.dtype(), c.out(0).data(), i, 0);
    }
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    OCIOR_ASSIGN(const int64_t k, c.has(1) ? shift(c.in(1).dtype, c.in(1).data, c.in(1).count()) : Result<int64_t>(0));
    if (x.rank() < 2) return error(Code::kInvalidArgument, "Trilu: the input has rank {}; expected 2 or more", x.rank());
    const int64_t rows = x.shape[x.shape.size() - 2], columns = x.shape.back();
    if (x.count() == 0) return {};
    const auto size = static_cast<int64_t>(element_size(x.dtype));
    for_items(c, x.count() / columns, columns, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t row = r % rows,
                      edge = std::clamp<int64_t>(upper ? row + k : row + k + 1, 0, columns);  // first kept, or first dropped
        const std::byte* from = x.as<const std::byte>() + r * columns * size;
        std::byte* to = c.out(0).as<std::byte>() + r * columns * size;
        if (upper) std::memset(to, 0, static_cast<size_t>(edge * size));
        else std::memset(to + edge * size, 0, static_cast<size_t>((columns - edge) * size));
        const int64_t first = upper ? edge : 0, kept = upper ? columns - edge : edge;
        if (to != from) std::memcpy(to + first * size, from + first * size, static_cast<size_t>(kept * size));
      }
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kBool, DType::kFloat16, DType::kUint8})
      for (const int64_t upper : {0, 1}) {
        for (const double k : {0.0, 1.0, -1.0, 7.0, -9.0, -2e18, 2e18})
          out.push_back({.inputs = {{t, {2, 4, 5}, Fill::kSmallInts}, {DType::kInt64, {}, Fill::kZeros, {k}}},
                         .attributes = {{"upper", upper}}});
        out.push_back({.inputs = {{t, {5, 4}, Fill::kSmallInts}}, .attributes = {{"upper", upper}}});
        out.push_back({.inputs = {{t, {0, 4}}}, .attributes = {{"upper", upper}}});
      }
    out.push_back({.inputs = {{DType::kFloat, {300, 300}}}});
    return out;
  }

 private:
  static Result<int64_t> shift(DType t, const void* data, int64_t count) {
    if (count != 1) return error(Code::kInvalidArgument, "Trilu: input 1 (k) must hold one number, got {}", count);
    return std::clamp<int64_t>(get_int(t, data, 0), -(int64_t{1} << 60), int64_t{1} << 60);
  }
};
OCIOR_OPERATOR(Trilu)

// The same in com.microsoft.
struct MicrosoftTrilu : Trilu {
  static constexpr OpInfo info{.name = "Trilu", .domain = kMicrosoft, .max_inputs = 2, .in_place = 1};
  static MicrosoftTrilu parse(const NodeReader& node) { return {Trilu::parse(node)}; }
};
OCIOR_OPERATOR(MicrosoftTrilu)

}  // namespace ocior::ops
