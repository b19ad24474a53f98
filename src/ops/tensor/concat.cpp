// Concat: inputs one after the other along an axis.
#include <algorithm>

#include "ops/loops.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct Concat {
  static constexpr OpInfo info{.name = "Concat", .max_inputs = kUnbounded};
  int64_t axis = 0;

  static Concat parse(const NodeReader& node) {
    return {node.opset() < 4 ? node.integer("axis", 1) : node.required_integer("axis")};
  }

  Status infer(ShapeContext& c) const {
    std::optional<Dims> out;
    Dim length = 0;
    for (int i = 0; i < c.inputs(); ++i) {
      if (!c.has(i)) return error(Code::kInvalidGraph, "Concat: input {} is omitted", i);
      OCIOR_RETURN_IF_ERROR(check_type(c, i, kAnyType, "Concat"));
      OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, i, "Concat"));
      if (!ranked(c, i)) return c.set(0, c.dtype(0), std::nullopt), Status();
      OCIOR_RETURN_IF_ERROR(merge(c, i, out, length));
    }
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, rank(c, 0)));
    (*out)[static_cast<size_t>(a)] = length;
    c.set(0, c.dtype(0), std::move(out));
    if (rank(c, 0) == 1) follow(c);
    return {};
  }

  Status reference(RefContext& c) const {
    Tensor& y = c.out(0);
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, y.rank()));
    const int64_t outer = element_count(std::span(y.shape()).first(static_cast<size_t>(a)));
    const int64_t row = outer ? y.count() / outer : 0;
    int64_t at = 0;
    for (int i = 0; i < c.inputs(); ++i) {
      const Tensor& x = c.in(i);
      const int64_t part = outer ? x.count() / outer : 0;
      for (int64_t o = 0; o < outer; ++o) copy_elements(x.dtype(), y.data(), o * row + at, x.data(), o * part, part);
      at += part;
    }
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& y = c.out(0);
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, y.rank()));
    const int64_t outer = element_count(y.shape.first(static_cast<size_t>(a)));
    const int64_t row = outer ? y.count() / outer : 0;
    int64_t at = 0;
    for (int i = 0; i < c.inputs(); ++i) {
      const TensorView& x = c.in(i);
      const int64_t part = outer ? x.count() / outer : 0;
      BoxCopy copy{.dtype = x.dtype, .destination = y.data, .source = x.data, .d = at};
      copy.axis(outer, row, part);
      copy.axis(part, 1, 1);
      if (part > 0) copy.run(c);
      at += part;
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t :
         {DType::kFloat, DType::kInt64, DType::kBool, DType::kString, DType::kFloat16, DType::kDouble, DType::kInt4}) {
      out.push_back({.inputs = {{t, {2, 3}}, {t, {2, 1}}, {t, {2, 0}}, {t, {2, 4}}}, .attributes = {{"axis", int64_t{-1}}}});
      out.push_back({.inputs = {{t, {2, 3, 2}}, {t, {1, 3, 2}}}, .attributes = {{"axis", int64_t{0}}}});
      out.push_back({.inputs = {{t, {2}}}, .attributes = {{"axis", int64_t{0}}}});
      out.push_back({.inputs = {{t, {0, 3}}, {t, {0, 3}}}, .attributes = {{"axis", int64_t{1}}}});
    }
    out.push_back({.inputs = {{DType::kFloat, {2, 3}}, {DType::kFloat, {2, 3}}}, .opset = 1});
    out.push_back({.inputs = {{DType::kFloat, {90, 300}}, {DType::kFloat, {90, 500}}}, .attributes = {{"axis", int64_t{1}}}});
    return out;
  }

 private:
  // Takes input i's shape into the output's: along the axis lengths add up, the others must agree.
  Status merge(ShapeContext& c, int i, std::optional<Dims>& out, Dim& length) const {
    const Dims& x = *c.shape(i);
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, static_cast<int64_t>(x.size())));
    length = length + x[static_cast<size_t>(a)];
    if (!out) return out = x, Status();
    if (x.size() != out->size())
      return error(Code::kInvalidArgument, "Concat: input {} has shape {}, but input 0 has rank {}", i, to_string(x),
                   out->size());
    for (size_t k = 0; k < x.size(); ++k) {
      if (k == static_cast<size_t>(a)) continue;
      Dim& d = (*out)[k];
      if (d.known() && x[k].known() && d.value() != x[k].value())
        return error(Code::kInvalidArgument, "Concat: input {} has shape {}; expected {} at dimension {}", i, to_string(x),
                     d.value(), k);
      if (x[k].known()) d = x[k];
    }
    return {};
  }

  static void follow(ShapeContext& c) {
    if (!carries_data(c.dtype(0))) return;
    Dims out;
    for (int i = 0; i < c.inputs(); ++i) {
      const auto data = data_of(c, i);
      if (!data || static_cast<int64_t>(out.size() + data->size()) > kMaxData) return;
      out.insert(out.end(), data->begin(), data->end());
    }
    c.set_data(0, std::move(out));
  }
};
OCIOR_OPERATOR(Concat)

}  // namespace ocior::ops
