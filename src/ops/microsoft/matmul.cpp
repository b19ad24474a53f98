// FusedMatMul and MatMulNBits of com.microsoft: a product with transposed operands and a factor, and a product with weights in
// blocks of 2, 4 or 8 bits with a scale each.
#include <cmath>

#include "ops/microsoft/microsoft.h"
#include "ops/nn/gemm_driver.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct FusedMatMul {
  static constexpr OpInfo info{.name = "FusedMatMul", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 2};

  float alpha = 1;
  bool transposed[2] = {};  // the last two axes are swapped
  bool batched[2] = {};     // the first axis belongs behind the batch axes

  static FusedMatMul parse(const NodeReader& node) {
    const auto flag = [&](const char* name) { return node.integer(name, 0) != 0; };
    return {node.number("alpha", 1), {flag("transA"), flag("transB")}, {flag("transBatchA"), flag("transBatchB")}};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1}));
    if (!c.shape(0) || !c.shape(1)) {
      c.set(0, c.dtype(0), std::nullopt);
      return {};
    }
    Dims operand[2];
    for (const int i : {0, 1}) {
      operand[i] = *c.shape(i);
      if (operand[i].size() < 2)
        return error(Code::kInvalidGraph, "input {} has shape {}; expected two axes or more", i, to_string(operand[i]));
      const std::vector<size_t> order = axes(operand[i].size(), i);
      Dims turned;
      for (const size_t axis : order) turned.push_back(operand[i][axis]);
      operand[i] = std::move(turned);
    }
    const Dims &a = operand[0], &b = operand[1];
    if (!nn::may_equal(a.back(), b[b.size() - 2]))
      return error(Code::kInvalidArgument, "the product of {} and {}: the inner dimensions differ", to_string(a), to_string(b));
    OCIOR_ASSIGN(Dims out, broadcast(c, Dims(a.begin(), a.end() - 2), Dims(b.begin(), b.end() - 2)));
    out.push_back(a[a.size() - 2]), out.push_back(b.back());
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Matrices a = matrices(c.in(0), 0), b = matrices(c.in(1), 1);
    const Shape& shape = c.out(0).shape();
    const Shape batch(shape.begin(), shape.end() - 2);
    const std::vector<int64_t> a_at = nn::broadcast_index(a.batch, batch), b_at = nn::broadcast_index(b.batch, batch);
    std::vector<double> y;
    for (size_t i = 0; i < a_at.size(); ++i) {
      const double *const x = a.values.data() + a_at[i] * a.rows * a.columns, *const w =
                                                                                  b.values.data() + b_at[i] * b.rows * b.columns;
      for (int64_t r = 0; r < a.rows; ++r)
        for (int64_t j = 0; j < b.columns; ++j) {
          double sum = 0;
          for (int64_t p = 0; p < a.columns; ++p) sum += x[r * a.columns + p] * w[p * b.columns + j];
          y.push_back(static_cast<double>(alpha) * sum);
        }
    }
    nn::store(c.out(0), y);
    return {};
  }

  size_t scratch(const BindContext& c) const {
    if (!is_fast(c)) return 0;
    const Product p = product(c);
    return nn::plain_scratch(c.kernels(), c.workers(), p.batch, p.m, p.n, p.k);
  }

  double work(const BindContext& c) const {
    const auto a = c.in(0).shape;
    const size_t inner = axes(a.size(), 0).back();
    return 2.0 * static_cast<double>(c.out(0).count()) * static_cast<double>(a[inner]);
  }

  Status run(CpuContext& c) const {
    if (!is_fast(c)) return c.out(0).count() == 0 ? Status() : run_by_reference(*this, c);
    const Product p = product(c);
    class Operands final : public nn::BatchOperands {
     public:
      Operands(const CpuContext& c, const FusedMatMul& op, const Product& p) : c_(c), op_(op), p_(p) {}
      void get(int64_t i, GemmArgs& args, nn::Plain& plain) const override {
        args.a = c_.in(0).as<float>() + i * p_.m * p_.k, args.lda = p_.k;
        args.c = c_.out(0).as<float>() + i * p_.m * p_.n, args.ldc = p_.n;
        args.epilogue.alpha = op_.alpha;
        plain = {c_.in(1).as<float>() + (p_.shared ? 0 : i * p_.n * p_.k), op_.transposed[1] ? p_.k : p_.n, op_.transposed[1]};
      }

     private:
      const CpuContext& c_;
      const FusedMatMul& op_;
      const Product& p_;
    };
    nn::multiply_plain(c, p.batch, p.m, p.n, p.k, Operands(c, *this, p), c.scratch());
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&](Shape a, Shape b, Attributes attributes = {}, DType dtype = DType::kFloat) {
      out.push_back({.inputs = {{.dtype = dtype, .shape = std::move(a)}, {.dtype = dtype, .shape = std::move(b)}},
                     .attributes = std::move(attributes),
                     .tolerance = dtype == DType::kFloat16 ? 2e-3 : 3e-6});
    };
    const auto one = [](const char* name) { return Attributes{{name, int64_t{1}}, {"alpha", 0.5f}}; };
    add({3, 4}, {4, 5});
    add({2, 3, 4}, {4, 5}, {{"alpha", 0.25f}});
    add({2, 3, 4}, {5, 4}, one("transB"));
    add({2, 3, 4}, {2, 5, 4}, one("transB"));
    add({2, 4, 3}, {2, 4, 5}, one("transA"));
    add({3, 2, 4}, {2, 4, 5}, one("transBatchA"));
    add({2, 3, 4}, {4, 2, 5}, one("transBatchB"));
    add({4, 2, 6, 3}, {2, 6, 4, 5}, {{"transA", int64_t{1}}, {"transBatchA", int64_t{1}}});
    add({2, 1, 3, 4}, {5, 4, 6});
    add({3, 0}, {0, 5});
    add({0, 4}, {4, 5});
    for (const DType dtype : {DType::kDouble, DType::kFloat16}) add({2, 3, 4}, {2, 5, 4}, one("transB"), dtype);
    return out;
  }

 private:
  struct Matrices {
    std::vector<double> values;  // all matrices, turned
    Shape batch;
    int64_t rows, columns;
  };
  struct Product {
    int64_t batch = 1, m, n, k;
    bool shared;  // one right matrix for all
  };

  // The axes of operand i in the order in which the product reads them.
  std::vector<size_t> axes(size_t rank, int i) const {
    std::vector<size_t> order;
    for (size_t axis = 0; axis < rank; ++axis) order.push_back(axis);
    if (batched[i]) std::rotate(order.begin(), order.begin() + 1, order.end() - 1);
    if (transposed[i]) std::swap(order[rank - 1], order[rank - 2]);
    return order;
  }

  Matrices matrices(const Tensor& t, int i) const {
    const std::vector<size_t> order = axes(t.shape().size(), i);
    const std::vector<int64_t> strides = dense_strides(t.shape());
    const std::vector<double> given = nn::doubles(t);
    Shape shape;
    for (const size_t axis : order) shape.push_back(t.shape()[axis]);
    Matrices m{{}, Shape(shape.begin(), shape.end() - 2), shape[shape.size() - 2], shape.back()};
    for (int64_t at = 0; at < t.count(); ++at) {
      int64_t rest = at, from = 0;
      for (size_t axis = shape.size(); axis-- > 0; rest /= shape[axis]) from += rest % shape[axis] * strides[order[axis]];
      m.values.push_back(given[static_cast<size_t>(from)]);
    }
    return m;
  }

  // Whether operands are dense matrices in order, with one right matrix or as many as left ones.
  template <class Context>
  bool is_fast(const Context& c) const {
    if (c.in(0).dtype != DType::kFloat || c.out(0).count() == 0 || transposed[0] || batched[0] || batched[1]) return false;
    const auto a = c.in(0).shape, b = c.in(1).shape;
    return b.size() == 2 || (a.size() == b.size() && std::equal(a.begin(), a.end() - 2, b.begin()));
  }
  template <class Context>
  Product product(const Context& c) const {
    const auto a = c.in(0).shape, b = c.in(1).shape;
    Product p{nn::extent(a, 0, std::ssize(a) - 2), a[a.size() - 2], transposed[1] ? b[b.size() - 2] : b.back(), a.back(),
              b.size() == 2};
    if (p.shared) p.m *= p.batch, p.batch = 1;
    return p;
  }
};

// y = A dequantised(B)^T + bias. B[n, blocks, bytes of a block]: elements from the low bits of each byte on.
struct MatMulNBits {
  static constexpr OpInfo info{.name = "MatMulNBits", .domain = kMicrosoft, .min_inputs = 3, .max_inputs = 6};
  enum Input { kA, kB, kScales, kZeroPoints, kGroups, kBias };

  int64_t k = 1, n = 1, bits = 4, block = 32;

  static MatMulNBits parse(const NodeReader& node) {
    MatMulNBits op{node.required_integer("K"), node.required_integer("N"), node.integer("bits", 4),
                   node.required_integer("block_size")};
    if (op.bits != 2 && op.bits != 4 && op.bits != 8) node.fail("bits is {}; expected 2, 4 or 8", op.bits);
    if (op.block < 16 || op.block > 1 << 20 || (op.block & (op.block - 1)) != 0)
      node.fail("block_size is {}; expected a power of two from 16 on", op.block);
    if (op.k < 1 || op.n < 1 || op.k > INT32_MAX || op.n > INT32_MAX)
      node.fail("K is {} and N is {}; expected 1 to 2^31 - 1", op.k, op.n);
    node.ignore("accuracy_level");  // a lower bound of the precision; floats are multiplied here
    node.ignore("weight_prepacked");
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {kA, kScales, kBias}));
    OCIOR_RETURN_IF_ERROR(refuse_input(c, kGroups, "g_idx"));
    if (!c.has(kScales)) return error(Code::kInvalidGraph, "scales are required");
    if (c.dtype(kB) != DType::kUint8) return error(Code::kInvalidGraph, "B is {}; expected uint8", name_of(c.dtype(kB)));
    OCIOR_RETURN_IF_ERROR(check_input(c, kB, "B", {Dim(n), Dim(blocks()), Dim(block * bits / 8)}));
    OCIOR_RETURN_IF_ERROR(check_flat(c, kScales, "scales", n, blocks()));
    if (c.has(kZeroPoints)) {
      const bool packed = c.dtype(kZeroPoints) == DType::kUint8;
      if (!packed && c.dtype(kZeroPoints) != c.dtype(kA))
        return error(Code::kInvalidGraph, "zero_points is {}; expected uint8 or A's type", name_of(c.dtype(kZeroPoints)));
      OCIOR_RETURN_IF_ERROR(check_flat(c, kZeroPoints, "zero_points", n, packed ? packed_points() : blocks()));
    }
    OCIOR_RETURN_IF_ERROR(check_input(c, kBias, "bias", {Dim(n)}));
    std::optional<Dims> out = c.shape(kA);
    if (out) {
      if (out->empty() || !nn::may_equal(out->back(), Dim(k)))
        return error(Code::kInvalidArgument, "A has shape {}; expected a last axis of K = {}", to_string(*out), k);
      out->back() = Dim(n);
    }
    c.set(0, c.dtype(kA), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const std::vector<double> a = nn::doubles(c.in(kA)), scales = nn::doubles(c.in(kScales)),
                              bias = c.has(kBias) ? nn::doubles(c.in(kBias)) : std::vector<double>(),
                              points = c.has(kZeroPoints) ? nn::doubles(c.in(kZeroPoints)) : std::vector<double>();
    const bool packed = c.has(kZeroPoints) && c.in(kZeroPoints).dtype() == DType::kUint8;
    const auto* const bytes = c.in(kB).as<uint8_t>();
    const auto rows = static_cast<int64_t>(a.size()) / k;
    std::vector<double> y(static_cast<size_t>(rows * n)), w(static_cast<size_t>(k));
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t p = 0; p < k; ++p) {
        const int64_t group = p / block;
        double zero = static_cast<double>(int64_t{1} << (bits - 1));
        if (packed) zero = element(c.in(kZeroPoints).as<uint8_t>() + j * packed_points(), group);
        else if (!points.empty()) zero = points[static_cast<size_t>(j * blocks() + group)];
        const double q = element(bytes + (j * blocks() + group) * (block * bits / 8), p % block);
        w[static_cast<size_t>(p)] = (q - zero) * scales[static_cast<size_t>(j * blocks() + group)];
      }
      for (int64_t i = 0; i < rows; ++i) {
        double sum = bias.empty() ? 0 : bias[static_cast<size_t>(j)];
        for (int64_t p = 0; p < k; ++p) sum += a[static_cast<size_t>(i * k + p)] * w[static_cast<size_t>(p)];
        y[static_cast<size_t>(i * n + j)] = sum;
      }
    }
    nn::store(c.out(0), y);
    return {};
  }

  double work(const BindContext& c) const { return 2.0 * static_cast<double>(c.out(0).count()) * static_cast<double>(k); }

  size_t scratch(const BindContext& c) const {
    if (c.in(kA).dtype != DType::kFloat || c.out(0).count() == 0) return 0;
    return piece(c.kernels(), c.in(kA).count() / k).bytes * static_cast<size_t>(c.workers());
  }

  // Each worker turns a few columns into floats, packs them and multiplies, so that the float form stays in its cache.
  Status run(CpuContext& c) const {
    if (c.in(kA).dtype != DType::kFloat) return run_by_reference(*this, c);
    if (c.out(0).count() == 0) return {};
    const KernelTable& kernels = c.kernels();
    const int64_t rows = c.in(kA).count() / k;
    const Piece sizes = piece(kernels, rows);
    c.team().parallel_for(nn::chunks_of(n, kColumns), c.stop(), [&](int64_t chunk, int worker) {
      std::byte* const base = static_cast<std::byte*>(c.scratch()) + static_cast<size_t>(worker) * sizes.bytes;
      auto* const plain = reinterpret_cast<float*>(base);
      const int64_t first = chunk * kColumns, columns = std::min(kColumns, n - first);
      for (int64_t j = 0; j < columns; ++j) expand(c, first + j, plain + j * k);
      kernels.gemm_pack_b(plain, k, true, columns, k, 0, columns, Precision::kHighest, base + sizes.packed);
      GemmArgs args;
      args.a = c.in(kA).as<float>(), args.lda = k, args.b = base + sizes.packed, args.c = c.out(0).as<float>() + first,
      args.ldc = n;
      args.m = rows, args.n = columns, args.k = k;
      args.epilogue.bias = c.has(kBias) ? c.in(kBias).as<float>() + first : nullptr;
      if (kernels.gemm_a_bytes(rows, columns, k, args.precision)) {
        args.a_packed = base + sizes.left;
        kernels.gemm_pack_a(args, 0, rows);
      }
      const GemmGrid grid = kernels.gemm_grid(rows, columns, k, args.precision);
      for (int64_t j = 0; j < grid.n_chunks; ++j)
        for (int64_t i = 0; i < grid.m_chunks; ++i) kernels.gemm_chunk(args, grid, i, j);
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const int64_t bits : {2, 4, 8})
      for (const int64_t k : {16, 70, 128})
        for (const int form : {0, 1, 2}) {
          constexpr int64_t kN = 70, kBlock = 32;
          const int64_t blocks = (k + kBlock - 1) / kBlock;
          Sample s{.inputs = {{.shape = {2, 3, k}},
                              {.dtype = DType::kUint8, .shape = {kN, blocks, kBlock * bits / 8}, .constant = true},
                              {.shape = form == 0 ? Shape{kN * blocks} : Shape{kN, blocks}, .constant = true}},
                   .attributes = {{"K", k}, {"N", kN}, {"bits", bits}, {"block_size", kBlock}},
                   .tolerance = 3e-6};
          for (int64_t i = 0; i < kN * blocks * kBlock * bits / 8; ++i)
            s.inputs[1].values.push_back(static_cast<double>(i * 37 % 256));
          if (form) {
            const int64_t packed = (blocks * bits + 7) / 8;
            s.inputs.push_back(form == 1 ? SampleInput{.dtype = DType::kUint8, .shape = {kN, packed}}
                                         : SampleInput{.shape = {kN * blocks}});
            s.inputs.push_back({.omitted = true});
            s.inputs.push_back({.shape = {kN}});
          }
          out.push_back(std::move(s));
        }
    return out;
  }

 private:
  static constexpr int64_t kColumns = 64;

  struct Piece {
    size_t packed, left, bytes;  // where the packed form and the packed left operand begin, and the end
  };
  Piece piece(const KernelTable& kernels, int64_t rows) const {
    const size_t packed = nn::align64(static_cast<size_t>(kColumns * k) * sizeof(float));
    const size_t left = packed + nn::align64(kernels.gemm_b_bytes(kColumns, k, Precision::kHighest));
    return {packed, left, left + nn::align64(kernels.gemm_a_bytes(rows, kColumns, k, Precision::kHighest))};
  }

  int64_t blocks() const { return (k + block - 1) / block; }
  int64_t packed_points() const { return (blocks() * bits + 7) / 8; }

  int element(const uint8_t* bytes, int64_t i) const {
    const int64_t per_byte = 8 / bits;
    return bytes[i / per_byte] >> (i % per_byte * bits) & ((1 << bits) - 1);
  }

  // Column j of the weights as floats.
  void expand(const CpuContext& c, int64_t j, float* to) const {
    const bool given = c.has(kZeroPoints), packed = given && c.in(kZeroPoints).dtype == DType::kUint8;
    for (int64_t g = 0; g < blocks(); ++g) {
      float zero = static_cast<float>(1 << (bits - 1));
      if (packed) zero = static_cast<float>(element(c.in(kZeroPoints).as<uint8_t>() + j * packed_points(), g));
      else if (given) zero = c.in(kZeroPoints).as<float>()[j * blocks() + g];
      const float scale = c.in(kScales).as<float>()[j * blocks() + g];
      const uint8_t* const bytes = c.in(kB).as<uint8_t>() + (j * blocks() + g) * (block * bits / 8);
      const int64_t end = std::min(block, k - g * block);
      for (int64_t i = 0; i < end; ++i) to[g * block + i] = (static_cast<float>(element(bytes, i)) - zero) * scale;
    }
  }

  // [n, each] or the same flat.
  static Status check_flat(const ShapeContext& c, int i, std::string_view name, int64_t n, int64_t each) {
    if (c.shape(i) && nn::may_equal(*c.shape(i), Dims{Dim(n * each)})) return {};
    return check_input(c, i, name, {Dim(n), Dim(each)});
  }
};

OCIOR_OPERATOR(FusedMatMul)
OCIOR_OPERATOR(MatMulNBits)

}  // namespace ocior::ops
