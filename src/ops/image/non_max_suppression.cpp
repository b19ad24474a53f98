// NonMaxSuppression: the boxes of each class that overlap no better one too much
// (https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html). boxes [n, count, 4], scores [n, classes, count]; the result
// lists [image, class, box] in order of image, class and falling score.
#include <algorithm>

#include "ops/shape_data.h"

namespace ocior::ops {
namespace {

// Corners with low <= high.
struct Box {
  float x0, y0, x1, y1;
  float area() const { return (x1 - x0) * (y1 - y0); }
};

Box read_box(const float* b, bool by_center) {
  if (by_center) return {b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2};
  return {std::min(b[1], b[3]), std::min(b[0], b[2]), std::max(b[1], b[3]), std::max(b[0], b[2])};
}

// Whether the intersection is more than `threshold` of the union.
bool overlap(const Box& a, const Box& b, float threshold) {
  const float w = std::min(a.x1, b.x1) - std::max(a.x0, b.x0), h = std::min(a.y1, b.y1) - std::max(a.y0, b.y0);
  if (!(w > 0) || !(h > 0) || !(a.area() > 0) || !(b.area() > 0)) return false;
  const float common = w * h, all = a.area() + b.area() - common;
  return common > 0 && all > 0 && common / all > threshold;
}

}  // namespace

struct NonMaxSuppression {
  static constexpr OpInfo info{.name = "NonMaxSuppression", .since = 10, .min_inputs = 2, .max_inputs = 5};
  bool by_center = false;

  static NonMaxSuppression parse(const NodeReader& node) {
    const int64_t kind = node.integer("center_point_box", 0);
    if (kind != 0 && kind != 1) node.fail("center_point_box is {}; expected 0 or 1", kind);
    return {kind == 1};
  }

  Status infer(ShapeContext& c) const {
    for (const int i : {0, 1, 3, 4}) OCIOR_RETURN_IF_ERROR(check_type(c, i, type_bit(DType::kFloat), info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 2, type_bit(DType::kInt64), info.name));
    for (const int i : {0, 1})
      if (ranked(c, i) && rank(c, i) != 3)
        return error(Code::kInvalidGraph, "NonMaxSuppression: input {} has rank {}; expected 3", i, rank(c, i));
    c.set(0, DType::kInt64, Dims{c.fresh("selected"), 3});
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor &boxes = c.in(0), &scores = c.in(1);
    const Shape &b = boxes.shape(), &s = scores.shape();
    if (b.size() != 3 || s.size() != 3 || b[2] != 4 || s[0] != b[0] || s[2] != b[1])
      return error(Code::kInvalidArgument,
                   "NonMaxSuppression: boxes {} and scores {} do not fit; expected [n, count, 4] and [n, classes, count]",
                   to_string(b), to_string(s));
    for (const int i : {2, 3, 4})
      if (c.has(i) && c.in(i).count() > 1)
        return error(Code::kInvalidArgument, "NonMaxSuppression: input {} has {} elements; expected one", i, c.in(i).count());
    const auto given = [&](int i) { return c.has(i) && c.in(i).count() == 1; };
    const int64_t most = given(2) ? *c.in(2).as<int64_t>() : 0;
    const float overlap_limit = given(3) ? *c.in(3).as<float>() : 0;
    if (!(overlap_limit >= 0 && overlap_limit <= 1))
      return error(Code::kInvalidArgument, "NonMaxSuppression: iou_threshold is {}; expected 0 to 1", overlap_limit);
    const float* const score_limit = given(4) ? c.in(4).as<float>() : nullptr;

    std::vector<int64_t> selected;
    for (int64_t n = 0; n < s[0] && most > 0; ++n)
      for (int64_t k = 0; k < s[1]; ++k)
        select(boxes.as<float>() + n * b[1] * 4, scores.as<float>() + (n * s[1] + k) * s[2], s[2], most, overlap_limit,
               score_limit, [&](int64_t box) {
                 selected.insert(selected.end(), {n, k, box});
               });
    const int64_t rows = static_cast<int64_t>(selected.size()) / 3;
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, DType::kInt64, Shape{rows, 3}));
    std::copy(selected.begin(), selected.end(), c.out(0).as<int64_t>());
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const std::vector<double> boxes = {0, 0,  1, 1,  0, 0.1,  1, 1.1,  0, -0.1, 1, 0.9,
                                       0, 10, 1, 11, 1, 11.1, 0, 10.1, 0, 100,  1, 101};
    const std::vector<double> scores = {0.9, 0.75, 0.6, 0.95, 0.5, 0.3, 0.1, 0.2, 0.2, 0.8, 0.5, 0.5};
    const auto number = [](DType t, double v) { return SampleInput{.dtype = t, .shape = {1}, .values = {v}}; };
    for (const int64_t center : {0, 1})
      for (const double most : {0.0, 2.0, 9.0})
        for (const int opset : {10, 11})
          out.push_back({.inputs = {{.shape = {1, 6, 4}, .values = boxes},
                                    {.shape = {1, 2, 6}, .values = scores},
                                    number(DType::kInt64, most),
                                    number(DType::kFloat, 0.5),
                                    number(DType::kFloat, 0.4)},
                         .attributes = {{"center_point_box", center}},
                         .opset = opset});
    out.push_back(
        {.inputs = {{.shape = {2, 30, 4}}, {.shape = {2, 3, 30}}, number(DType::kInt64, 5), number(DType::kFloat, 0.3)}});
    out.push_back({.inputs = {{.shape = {1, 6, 4}}, {.shape = {1, 2, 6}}}});
    out.push_back({.inputs = {{.shape = {1, 0, 4}}, {.shape = {1, 2, 0}}, number(DType::kInt64, 5)}});
    return out;
  }

 private:
  // f(box) for the boxes of one class that stay. A score that is no number selects nothing.
  template <class F>
  void select(const float* boxes, const float* scores, int64_t count, int64_t most, float overlap_limit, const float* score_limit,
              F&& f) const {
    std::vector<int64_t> order;
    for (int64_t i = 0; i < count; ++i)
      if (scores[i] == scores[i] && (!score_limit || scores[i] > *score_limit)) order.push_back(i);
    std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t k) { return scores[i] > scores[k]; });
    std::vector<Box> kept;
    for (const int64_t i : order) {
      if (static_cast<int64_t>(kept.size()) >= most) return;
      const Box box = read_box(boxes + 4 * i, by_center);
      if (std::any_of(kept.begin(), kept.end(), [&](const Box& k) { return overlap(box, k, overlap_limit); })) continue;
      kept.push_back(box);
      f(i);
    }
  }
};
OCIOR_OPERATOR(NonMaxSuppression)

}  // namespace ocior::ops
