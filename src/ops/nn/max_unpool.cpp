// MaxUnpool: elements put back where MaxPool found them, zeros elsewhere (https://onnx.ai/onnx/operators/onnx__MaxUnpool.html).
#include "ops/evaluate.h"
#include "ops/nn/numeric.h"
#include "ops/nn/pool.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

// Inputs: x, the places (as of an output of the size that the window implies), and optionally the shape of a larger output.
struct MaxUnpool {
  static constexpr OpInfo info{.name = "MaxUnpool", .since = 9, .min_inputs = 2, .max_inputs = 3};
  nn::PoolWindow window;

  static MaxUnpool parse(const NodeReader& node) { return {nn::PoolWindow::parse(node, INT_MAX, INT_MAX, false)}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, info.name));
    for (const int i : {1, 2}) OCIOR_RETURN_IF_ERROR(check_type(c, i, type_bit(DType::kInt64), info.name));
    c.set(0, c.dtype(0), std::nullopt);
    if (ranked(c, 0) && rank(c, 0) != static_cast<int64_t>(window.axes()) + 2) return wrong_rank(rank(c, 0));
    if (ranked(c, 0) && ranked(c, 1) && (rank(c, 0) != rank(c, 1) || !nn::may_equal(*c.shape(0), *c.shape(1))))
      return error(Code::kInvalidGraph, "MaxUnpool: x has shape {}, but its indices {}", to_string(*c.shape(0)),
                   to_string(*c.shape(1)));
    Dims out;
    if (c.has(2)) {
      const auto given = data_of(c, 2);
      out = given ? *given : fresh_dims(c, static_cast<int64_t>(window.axes()) + 2, "unpool");
    } else if (ranked(c, 0)) {
      out = {(*c.shape(0))[0], (*c.shape(0))[1]};
      for (size_t i = 0; i < window.axes(); ++i) {
        const Dim& d = (*c.shape(0))[i + 2];
        if (!d.known()) {
          out.push_back((d - 1) * Dim(window.stride[i]) + Dim(constant_part(i)));
          continue;
        }
        OCIOR_ASSIGN(const int64_t size, unpooled(d.value(), i));
        out.push_back(size);
      }
    } else {
      return {};
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    if (x.rank() != static_cast<int64_t>(window.axes()) + 2) return wrong_rank(x.rank());
    Shape own{x.shape()[0], x.shape()[1]};
    for (size_t i = 0; i < window.axes(); ++i) {
      OCIOR_ASSIGN(const int64_t size, unpooled(x.shape()[i + 2], i));
      own.push_back(size);
    }
    OCIOR_ASSIGN(const int64_t places, checked_element_count(own));
    const Shape shape = c.has(2) ? Shape(to_ints(c.in(2))) : own;
    bool fits = shape.size() == own.size();
    for (size_t i = 0; fits && i < own.size(); ++i) fits = shape[i] >= own[i];
    if (!fits || !checked_element_count(shape).ok())
      return error(Code::kInvalidArgument, "MaxUnpool: output_shape is {}; expected at least {}", to_string(shape),
                   to_string(own));
    if (x.shape() != c.in(1).shape())
      return error(Code::kInvalidArgument, "MaxUnpool: x has shape {}, but its indices {}", to_string(x.shape()),
                   to_string(c.in(1).shape()));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), shape));
    std::fill_n(c.out(0).as<std::byte>(), c.out(0).bytes(), std::byte{0});
    const auto strides = dense_strides(shape);
    const int64_t* const index = c.in(1).as<int64_t>();
    for (int64_t i = 0, n = x.count(); i < n; ++i) {
      if (index[i] < 0 || index[i] >= places)
        return error(Code::kInvalidArgument, "MaxUnpool: index {} (element {} of the indices) is out of range; expected 0 to {}",
                     index[i], i, places - 1);
      int64_t rest = index[i], to = 0;
      for (size_t a = own.size(); a-- > 0; rest /= own[a]) to += rest % own[a] * strides[a];
      const size_t size = element_size(x.dtype());
      std::copy_n(x.as<std::byte>() + static_cast<size_t>(i) * size, size,
                  c.out(0).as<std::byte>() + static_cast<size_t>(to) * size);
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    using Ints = std::vector<int64_t>;
    const Attributes square{{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}};
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16}) {
      out.push_back({.inputs = {{.dtype = t, .shape = {1, 1, 2, 2}},
                                {.dtype = DType::kInt64, .shape = {1, 1, 2, 2}, .values = {5, 7, 13, 15}}},
                     .attributes = square,
                     .opset = 9});
      out.push_back({.inputs = {{.dtype = t, .shape = {1, 1, 2, 2}},
                                {.dtype = DType::kInt64, .shape = {1, 1, 2, 2}, .values = {5, 7, 13, 15}},
                                {.dtype = DType::kInt64, .shape = {4}, .values = {1, 1, 5, 5}}},
                     .attributes = square});
    }
    out.push_back({.inputs = {{.shape = {1, 2, 3}}, {.dtype = DType::kInt64, .shape = {1, 2, 3}, .values = {0, 2, 4, 5, 7, 9}}},
                   .attributes = {{"kernel_shape", Ints{3}}, {"strides", Ints{2}}, {"pads", Ints{1, 1}}}});
    out.push_back({.inputs = {{.shape = {0, 2, 3}}, {.dtype = DType::kInt64, .shape = {0, 2, 3}}},
                   .attributes = {{"kernel_shape", Ints{3}}}});
    return out;
  }

 private:
  // What axis i has beyond (n - 1) * stride.
  int64_t constant_part(size_t i) const { return window.kernel[i] - window.pads[i] - window.pads[i + window.axes()]; }

  Result<int64_t> unpooled(int64_t n, size_t i) const {
    const int64_t size = n > (int64_t{1} << 40) ? -1 : (n - 1) * window.stride[i] + constant_part(i);
    if (size >= 0) return size;
    return error(Code::kInvalidArgument,
                 "MaxUnpool: spatial dimension {} of {} cannot be unpooled with stride {} and pads {} and {}", i, n,
                 window.stride[i], window.pads[i], window.pads[i + window.axes()]);
  }

  Status wrong_rank(int64_t got) const {
    return error(Code::kInvalidGraph, "MaxUnpool: the input has rank {}; expected {}", got, window.axes() + 2);
  }
};
OCIOR_OPERATOR(MaxUnpool)

}  // namespace ocior::ops
