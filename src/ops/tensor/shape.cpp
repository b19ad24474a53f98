// Shape and Size: the dimensions of the input, and their product.
#include <algorithm>

#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

// Dimensions [start, end) of the input; both may be negative and are clamped to the rank (opset 15).
struct ShapeOp {
  static constexpr OpInfo info{.name = "Shape"};
  int64_t start = 0, end = INT64_MAX;

  static ShapeOp parse(const NodeReader& node) {
    ShapeOp op;
    if (node.opset() < 15) return op;
    op.start = node.integer("start", 0);
    op.end = node.integer("end", INT64_MAX);
    return op;
  }

  Status infer(ShapeContext& c) const {
    if (!ranked(c, 0)) {
      c.set(0, DType::kInt64, Dims{c.fresh("rank")});
      return {};
    }
    const auto [from, to] = range(rank(c, 0));
    c.set(0, DType::kInt64, Dims{to - from});
    c.set_data(0, Dims(c.shape(0)->begin() + from, c.shape(0)->begin() + to));
    return {};
  }
  Status reference(RefContext& c) const {
    const Shape& shape = c.in(0).shape();
    const auto [from, to] = range(c.in(0).rank());
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, DType::kInt64, Shape{to - from}));
    std::copy(shape.begin() + from, shape.begin() + to, c.out(0).as<int64_t>());
    return {};
  }
  Status run(CpuContext& c) const {
    const auto [from, to] = range(c.in(0).rank());
    const int64_t length = to - from;
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, {&length, 1}));
    std::copy(c.in(0).shape.begin() + from, c.in(0).shape.begin() + to, c.out(0).as<int64_t>());
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const Shape& shape : {Shape{2, 3, 4}, Shape{}, Shape{0, 5}}) out.push_back({.inputs = {{DType::kFloat, shape}}});
    for (const auto& [start, end] : {std::pair{1, 2}, {-2, -1}, {-9, 9}, {2, 1}, {3, 9}})
      out.push_back({.inputs = {{DType::kInt8, {2, 3, 4}}}, .attributes = {{"start", int64_t{start}}, {"end", int64_t{end}}}});
    out.push_back({.inputs = {{DType::kString, {2}}}, .opset = 1});
    return out;
  }

 private:
  std::pair<int64_t, int64_t> range(int64_t rank) const {
    const auto at = [rank](int64_t i) { return std::clamp<int64_t>(i < 0 ? std::max(i, -rank) + rank : i, 0, rank); };
    return {at(start), std::max(at(start), at(end))};
  }
};
OCIOR_OPERATOR(ShapeOp)

struct Size {
  static constexpr OpInfo info{.name = "Size"};

  static Size parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    c.set(0, DType::kInt64, Dims{});
    if (!ranked(c, 0)) return {};
    Dim count = 1;
    for (const Dim& d : *c.shape(0)) count = count * d;
    c.set_data(0, Dims{count});
    return {};
  }
  Status reference(RefContext& c) const {
    c.out(0).as<int64_t>()[0] = c.in(0).count();
    return {};
  }
  Status run(CpuContext& c) const {
    c.out(0).as<int64_t>()[0] = c.in(0).count();
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const Shape& shape : {Shape{2, 3, 4}, Shape{}, Shape{0, 5}}) out.push_back({.inputs = {{DType::kFloat, shape}}});
    return out;
  }
};
OCIOR_OPERATOR(Size)

}  // namespace ocior::ops
