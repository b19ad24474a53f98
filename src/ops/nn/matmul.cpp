// MatMul: numpy.matmul (https://onnx.ai/onnx/operators/onnx__MatMul.html). A constant right matrix is packed once.
#include <array>

#include "ops/nn/gemm_driver.h"
#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

using nn::Plain;

// The shapes of one MatMul with 1-D operands promoted: batch of [m, k] * [k, n].
struct MatMulShape {
  int64_t batch = 1, m = 1, n = 1, k = 0;
  int64_t a_batch = 1, b_batch = 1;
};

MatMulShape matmul_shape(std::span<const int64_t> a, std::span<const int64_t> b, std::span<const int64_t> out) {
  MatMulShape s;
  const auto ra = static_cast<int64_t>(a.size()), rb = static_cast<int64_t>(b.size());
  s.k = a.back();
  if (ra > 1) s.m = a[a.size() - 2];
  if (rb > 1) s.n = b.back();
  s.a_batch = nn::extent(a, 0, std::max<int64_t>(0, ra - 2));
  s.b_batch = nn::extent(b, 0, std::max<int64_t>(0, rb - 2));
  s.batch = nn::extent(out, 0, static_cast<int64_t>(out.size()) - (ra > 1) - (rb > 1));
  if (s.b_batch == 1 && s.batch == s.a_batch) s.m *= s.batch, s.batch = s.a_batch = 1;  // one right matrix: all rows at once
  return s;
}

// The batch number within an operand of shape `shape` (its last two axes are a matrix) of product `index` of the broadcast batch.
int64_t operand_index(std::span<const int64_t> shape, std::span<const int64_t> batch_shape, int64_t index) {
  int64_t at = 0, step = 1;
  const auto axes = static_cast<int64_t>(shape.size()) - 2;
  for (int64_t from_end = 0; from_end < axes; ++from_end) {
    const int64_t dim = batch_shape[batch_shape.size() - 1 - static_cast<size_t>(from_end)];
    const int64_t own = shape[static_cast<size_t>(axes - 1 - from_end)];
    if (own != 1) at += index % dim * step;
    index /= dim;
    step *= own;
  }
  return at;
}

std::span<const int64_t> batch_axes(std::span<const int64_t> a, std::span<const int64_t> b, std::span<const int64_t> out) {
  return out.first(out.size() - (a.size() > 1) - (b.size() > 1));
}

class MatMulOperands final : public nn::BatchOperands {
 public:
  MatMulOperands(const TensorView& a, const TensorView& b, const TensorView& y, const MatMulShape& s)
      : a_(a), b_(b), y_(y), s_(s) {}
  void get(int64_t i, GemmArgs& args, Plain& plain) const override {
    const auto batch = batch_axes(a_.shape, b_.shape, y_.shape);
    args.a = a_.as<float>() + (s_.a_batch == 1 ? 0 : operand_index(a_.shape, batch, i)) * s_.m * s_.k;
    args.c = y_.as<float>() + i * s_.m * s_.n;
    args.lda = s_.k, args.ldc = s_.n;
    plain = {b_.as<float>() + (s_.b_batch == 1 ? 0 : operand_index(b_.shape, batch, i)) * s_.k * s_.n, s_.n, false};
  }

 private:
  const TensorView &a_, &b_, &y_;
  const MatMulShape& s_;
};

// The whole product in T (double, or uint64_t for integers of any sign: the low bits are the same).
template <class T, class Get, class Set>
void multiply_all(const Tensor& a, const Tensor& b, Tensor& y, Get get, Set set) {
  const MatMulShape s = matmul_shape(a.shape(), b.shape(), y.shape());
  const auto batch = batch_axes(a.shape(), b.shape(), y.shape());
  std::vector<T> bs(static_cast<size_t>(b.count())), row(static_cast<size_t>(s.n));
  for (size_t i = 0; i < bs.size(); ++i) bs[i] = get(b, static_cast<int64_t>(i));
  for (int64_t i = 0; i < s.batch * s.m; ++i) {
    const int64_t a_row = (s.a_batch == 1 ? 0 : operand_index(a.shape(), batch, i / s.m)) * s.m + i % s.m;
    const T* const matrix = bs.data() + (s.b_batch == 1 ? 0 : operand_index(b.shape(), batch, i / s.m)) * s.k * s.n;
    std::fill(row.begin(), row.end(), T(0));
    for (int64_t p = 0; p < s.k; ++p) {
      const T x = get(a, a_row * s.k + p);
      for (int64_t j = 0; j < s.n; ++j) row[static_cast<size_t>(j)] += x * matrix[p * s.n + j];
    }
    for (int64_t j = 0; j < s.n; ++j) set(y, i * s.n + j, row[static_cast<size_t>(j)]);
  }
}

}  // namespace

struct MatMul {
  static constexpr OpInfo info{.name = "MatMul", .min_inputs = 2, .max_inputs = 2};

  static MatMul parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_numbers(c));
    if (!c.shape(0) || !c.shape(1)) {
      c.set(0, c.dtype(0), std::nullopt);
      return {};
    }
    const Dims &a = *c.shape(0), &b = *c.shape(1);
    if (a.empty() || b.empty())
      return error(Code::kInvalidGraph, "MatMul needs operands of rank 1 or more, got {} and {}", to_string(a), to_string(b));
    const Dim ka = a.back(), kb = b.size() > 1 ? b[b.size() - 2] : b[0];
    if (ka.known() && kb.known() && ka.value() != kb.value())
      return error(Code::kInvalidArgument, "MatMul of {} and {}: the inner dimensions {} and {} differ", to_string(a),
                   to_string(b), ka.text(), kb.text());
    OCIOR_ASSIGN(Dims out, broadcast(c, Dims(a.begin(), a.end() - std::min<ptrdiff_t>(2, std::ssize(a))),
                                     Dims(b.begin(), b.end() - std::min<ptrdiff_t>(2, std::ssize(b)))));
    if (a.size() > 1) out.push_back(a[a.size() - 2]);
    if (b.size() > 1) out.push_back(b.back());
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    if (c.out(0).count() == 0) return {};
    if (is_floating(c.in(0).dtype()))
      multiply_all<double>(
          c.in(0), c.in(1), c.out(0), [](const Tensor& t, int64_t i) { return get_double(t.dtype(), t.data(), i); },
          [](Tensor& t, int64_t i, double v) { set_double(t.dtype(), t.data(), i, v); });
    else
      multiply_all<uint64_t>(
          c.in(0), c.in(1), c.out(0),
          [](const Tensor& t, int64_t i) { return static_cast<uint64_t>(get_int(t.dtype(), t.data(), i)); },
          [](Tensor& t, int64_t i, uint64_t v) { set_int(t.dtype(), t.data(), i, static_cast<int64_t>(v)); });
    return {};
  }

  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const {
    const Tensor* b = c.constant(1);
    if (!b || b->dtype() != DType::kFloat || !b->dense() || b->rank() == 0) return std::unique_ptr<Prepared>();
    const Shape& shape = b->shape();
    if (nn::extent(shape, 0, std::max<int64_t>(0, b->rank() - 2)) != 1) return std::unique_ptr<Prepared>();
    const int64_t n = shape.size() > 1 ? shape.back() : 1, k = shape.size() > 1 ? shape[shape.size() - 2] : shape[0];
    return nn::Weights::make(c, 1, {b->as<float>(), n, false}, nn::known_rows(c.in(0)), n, k);
  }

  size_t scratch(const BindContext& c) const {
    if (c.in(0).dtype != DType::kFloat || c.out(0).count() == 0) return 0;
    const MatMulShape s = matmul_shape(c.in(0).shape, c.in(1).shape, c.out(0).shape);
    return c.prepared() ? nn::packed_scratch(c.kernels(), c.prepared(), s.m, s.n, s.k)
                        : nn::plain_scratch(c.kernels(), c.workers(), s.batch, s.m, s.n, s.k);
  }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    if (c.out(0).count() == 0) return {};
    const TensorView &a = c.in(0), &b = c.in(1), &y = c.out(0);
    const MatMulShape s = matmul_shape(a.shape, b.shape, y.shape);
    const MatMulOperands operands(a, b, y, s);
    if (!c.prepared()) {
      nn::multiply_plain(c, s.batch, s.m, s.n, s.k, operands, c.scratch());
      return {};
    }
    GemmArgs args;
    args.m = s.m, args.n = s.n, args.k = s.k;
    args.a = a.as<float>(), args.lda = s.k, args.c = y.as<float>(), args.ldc = s.n;
    nn::multiply_packed(c, args, c.scratch());
    return {};
  }

  double work(const BindContext& c) const {
    return 2.0 * static_cast<double>(c.out(0).count()) * static_cast<double>(c.in(0).shape.back());
  }

  std::string describe(const Prepared* prepared) const { return nn::describe_product(prepared); }

  static std::vector<Sample> samples();
};

std::vector<Sample> MatMul::samples() {
  std::vector<Sample> out;
  const auto add = [&](Shape a, Shape b, bool constant = false, DType dtype = DType::kFloat, bool bench = false) {
    Sample s{.inputs = {{.dtype = dtype, .shape = std::move(a)}, {.dtype = dtype, .shape = std::move(b), .constant = constant}}};
    if (!is_floating(dtype)) s.inputs[0].fill = s.inputs[1].fill = Fill::kSmallInts;
    s.bench = bench;
    s.tolerance = dtype == DType::kFloat16 ? 1e-3 : dtype == DType::kBFloat16 ? 8e-3 : 3e-6;
    out.push_back(std::move(s));
  };
  for (const bool constant : {false, true}) {
    for (const auto& [m, k, n] :
         {std::array<int64_t, 3>{1, 1, 1}, {2, 3, 4}, {5, 7, 3}, {17, 65, 49}, {1, 64, 100}, {33, 128, 97}, {3, 300, 1}})
      add({m, k}, {k, n}, constant);
    add({4}, {4}, constant);
    add({4}, {4, 5}, constant);
    add({3, 4}, {4}, constant);
    add({2, 3, 5, 4}, {4}, constant);
    add({2, 3, 5, 4}, {4, 6}, constant);
    add({5, 4}, {1, 1, 4, 6}, constant);
    add({0, 4}, {4, 6}, constant);
    add({3, 0}, {0, 6}, constant);
    add({3, 4}, {4, 0}, constant);
  }
  add({2, 3, 4}, {2, 4, 5});
  add({2, 1, 3, 4}, {1, 3, 4, 5});
  add({2, 1, 3, 4}, {3, 4, 5});
  add({4}, {2, 3, 4, 5});
  add({2, 3, 4}, {2, 4, 5}, true);
  add({0, 3, 4}, {0, 4, 5});
  add({40, 9, 33}, {40, 33, 18});
  add({2, 70, 40}, {4, 1, 40, 90});
  for (const DType dtype :
       {DType::kDouble, DType::kFloat16, DType::kBFloat16, DType::kInt32, DType::kInt64, DType::kUint32, DType::kUint64})
    add({2, 3, 4}, {4, 5}, false, dtype);
  add({128, 768}, {768, 768}, true, DType::kFloat, true);
  add({128, 768}, {768, 3072}, true, DType::kFloat, true);
  add({128, 3072}, {3072, 768}, true, DType::kFloat, true);
  add({1, 768}, {768, 768}, true, DType::kFloat, true);
  add({1, 12, 128, 64}, {1, 12, 64, 128}, false, DType::kFloat, true);
  return out;
}

OCIOR_OPERATOR(MatMul)

}  // namespace ocior::ops
