// ReverseSequence: the first elements of each sequence of a batch in reverse order.
#include "ops/evaluate.h"
#include "ops/loops.h"
#include "ops/move.h"
#include "ops/nn/numeric.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct ReverseSequence {
  static constexpr OpInfo info{.name = "ReverseSequence", .since = 10, .min_inputs = 2, .max_inputs = 2};
  bool batch_first = false;  // axis 0 is the batch, axis 1 the time; else the other way round

  static ReverseSequence parse(const NodeReader& node) {
    const int64_t batch = node.integer("batch_axis", 1), time = node.integer("time_axis", 0);
    if (!(batch == 0 && time == 1) && !(batch == 1 && time == 0))
      node.fail("batch_axis is {} and time_axis is {}; expected 0 and 1, or 1 and 0", batch, time);
    return {batch == 0};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "ReverseSequence"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, type_bit(DType::kInt64), "ReverseSequence"));
    if (ranked(c, 0) && rank(c, 0) < 2)
      return error(Code::kInvalidArgument, "ReverseSequence: the input has shape {}; expected rank 2 or more",
                   to_string(*c.shape(0)));
    if (ranked(c, 1)) {
      const Dims& lengths = *c.shape(1);
      if (lengths.size() != 1 || (ranked(c, 0) && !nn::may_equal(lengths[0], (*c.shape(0))[batch_first ? 0 : 1])))
        return error(Code::kInvalidArgument, "ReverseSequence: the lengths have shape {}; expected one per batch element",
                     to_string(lengths));
    }
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_RETURN_IF_ERROR(check(x.shape(), c.in(1).as<int64_t>()));
    copy_rows(x.dtype(), x.shape(), x.data(), c.in(1).as<int64_t>(), c.out(0).data(), 0, x.shape()[0] * x.shape()[1]);
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    const auto* lengths = c.in(1).as<const int64_t>();
    OCIOR_RETURN_IF_ERROR(check(x.shape, lengths));
    const int64_t rows = x.shape[0] * x.shape[1];
    if (x.count() == 0) return {};
    const auto work = [&](int64_t begin, int64_t end) {
      copy_rows(x.dtype, x.shape, x.data, lengths, c.out(0).data, begin, end);
    };
    if (moves_as_bytes(x.dtype)) for_items(c, rows, x.count() / rows, work);
    else work(0, rows);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kString, DType::kBool, DType::kFloat16, DType::kComplex64})
      for (const int64_t batch : {0, 1}) {
        const Attributes attributes{{"batch_axis", batch}, {"time_axis", 1 - batch}};
        out.push_back({.inputs = {{t, {4, 4}}, {DType::kInt64, {4}, Fill::kZeros, {4, 0, 2, 1}}}, .attributes = attributes});
        out.push_back({.inputs = {{t, batch ? Shape{5, 3, 2} : Shape{3, 5, 2}}, {DType::kInt64, {3}, Fill::kZeros, {5, 1, 4}}},
                       .attributes = attributes});
        out.push_back({.inputs = {{t, batch ? Shape{5, 0} : Shape{0, 5}}, {DType::kInt64, {0}}}, .attributes = attributes});
      }
    out.push_back({.inputs = {{DType::kFloat, {60, 8, 200}}, {DType::kInt64, {8}, Fill::kPositive}}});
    return out;
  }

 private:
  Status check(std::span<const int64_t> x, const int64_t* lengths) const {
    for (int64_t b = 0, n = x[batch_first ? 0 : 1], most = x[batch_first ? 1 : 0]; b < n; ++b)
      if (lengths[b] < 0 || lengths[b] > most)
        return error(Code::kInvalidArgument, "ReverseSequence: length {} of sequence {}; expected 0 to {}", lengths[b], b, most);
    return {};
  }

  // Rows [begin, end) of the first two axes.
  void copy_rows(DType t, std::span<const int64_t> shape, const void* x, const int64_t* lengths, void* y, int64_t begin,
                 int64_t end) const {
    const int64_t inner = element_count(shape.subspan(2));
    for (int64_t row = begin; row < end; ++row) {
      const int64_t i = row / shape[1], j = row % shape[1], time = batch_first ? j : i;
      const int64_t length = lengths[batch_first ? i : j];
      const int64_t from = time < length ? length - 1 - time : time;
      copy_elements(t, y, row * inner, x, (batch_first ? i * shape[1] + from : from * shape[1] + j) * inner, inner);
    }
  }
};
OCIOR_OPERATOR(ReverseSequence)

}  // namespace ocior::ops
