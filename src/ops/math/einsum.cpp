// Einsum: sums of products by labels of axes
// (https://onnx.ai/onnx/operators/onnx__Einsum.html). Operands are multiplied
// two at a time; for floats each of these is a batch of matrix products, of the
// operands in place where their strides allow it.
#include <algorithm>
#include <array>

#include "ops/evaluate.h"
#include "ops/loops.h"
#include "ops/math/einsum_program.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

using einsum::Axes;
using einsum::Labels;
using einsum::Program;
using einsum::Step;
using einsum::View;

// The reference's terms: dense values by labels.
template <class T>
struct Term {
  Labels labels;
  std::vector<T> values;
};

}  // namespace

struct Einsum {
  static constexpr OpInfo info{.name = "Einsum", .since = 12, .max_inputs = kUnbounded};
  einsum::Equation equation;

  static Einsum parse(const NodeReader& node) {
    if (!node.has("equation")) node.fail("equation is missing; expected terms of letters");
    auto equation = einsum::Equation::parse(node.text("equation", ""), node.inputs());
    if (equation.ok()) return {std::move(equation).value()};
    node.fail("{}", equation.status().message());
    return {};
  }

  Status infer(ShapeContext& c) const {
    std::vector<size_t> ranks;
    for (int i = 0; i < c.inputs(); ++i) {
      OCIOR_RETURN_IF_ERROR(check_type(c, i, kNumbers, "Einsum"));
      OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, i, "Einsum"));
      if (!c.has(i)) return error(Code::kInvalidGraph, "Einsum: input {} is omitted", i);
      if (ranked(c, i)) ranks.push_back(c.shape(i)->size());
    }
    if (std::ssize(ranks) != c.inputs()) return c.set(0, c.dtype(0), std::nullopt), Status();
    OCIOR_ASSIGN(const Axes axes, Axes::make(equation, ranks));
    std::vector<Dims> extent(einsum::kMostLabels, Dims{1});
    for (int i = 0; i < c.inputs(); ++i)
      for (size_t a = 0; a < ranks[static_cast<size_t>(i)]; ++a) {
        Dims& known = extent[static_cast<size_t>(axes.operands[static_cast<size_t>(i)][a])];
        OCIOR_ASSIGN(known, broadcast(c, known, Dims{(*c.shape(i))[a]}));
      }
    Dims out;
    for (const int label : axes.output) out.push_back(extent[static_cast<size_t>(label)][0]);
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    std::vector<std::span<const int64_t>> shapes;
    for (int i = 0; i < c.inputs(); ++i) shapes.emplace_back(c.in(i).shape());
    OCIOR_ASSIGN(const Axes axes, axes_of(shapes));
    OCIOR_ASSIGN(const std::vector<int64_t> extent, einsum::extents(axes, shapes));
    return is_floating(c.in(0).dtype()) ? evaluate<double>(c, axes, extent) : evaluate<uint64_t>(c, axes, extent);
  }

  size_t scratch(const BindContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return 0;
    std::vector<std::span<const int64_t>> shapes;
    for (size_t i = 0; i < equation.terms.size(); ++i) shapes.push_back(c.in(static_cast<int>(i)).shape);
    const auto program = compile(shapes, c.kernels(), c.workers());
    return program.ok() ? program->bytes() : 0;
  }

  double work(const BindContext& c) const {
    std::vector<std::span<const int64_t>> shapes;
    for (size_t i = 0; i < equation.terms.size(); ++i) shapes.push_back(c.in(static_cast<int>(i)).shape);
    const auto program = compile(shapes, c.kernels(), c.workers());
    return program.ok() ? program->work : 0;
  }

  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    std::vector<std::span<const int64_t>> shapes;
    for (int i = 0; i < c.inputs(); ++i) shapes.push_back(c.in(i).shape);
    OCIOR_ASSIGN(const Program program, compile(shapes, c.kernels(), c.team().size()));
    float* y = c.out(0).as<float>();
    if (program.empty) return std::fill_n(y, c.out(0).count(), 0.0f), Status();
    auto* memory = static_cast<float*>(c.scratch());
    for (const Program::Operation& o : program.operations) {
      if (o.copy_a) copy(c, program, *o.copy_a, memory + o.a.offset, o.a.labels);
      if (o.copy_b) copy(c, program, *o.copy_b, memory + o.b.offset, o.b.labels);
      compute(c, program, o, o.to_output ? y : memory + o.result);
    }
    if (program.last) {
      OCIOR_ASSIGN(const Axes axes, axes_of(shapes));
      Labels labels;
      for (const int label : axes.output)
        if (program.extent[static_cast<size_t>(label)] != 1) labels.push_back(label);
      copy(c, program, *program.last, y, labels);
    }
    return {};
  }

  static std::vector<Sample> samples();

 private:
  Result<Axes> axes_of(const std::vector<std::span<const int64_t>>& shapes) const {
    std::vector<size_t> ranks;
    for (const auto& shape : shapes) ranks.push_back(shape.size());
    return Axes::make(equation, ranks);
  }

  Result<Program> compile(const std::vector<std::span<const int64_t>>& shapes, const KernelTable& kernels, int workers) const {
    OCIOR_ASSIGN(const Axes axes, axes_of(shapes));
    OCIOR_ASSIGN(std::vector<int64_t> extent, einsum::extents(axes, shapes));
    return einsum::compile(axes, shapes, std::move(extent), kernels, workers);
  }

  static const float* data(CpuContext& c, const View& v) {
    return v.source < 0 ? static_cast<const float*>(c.scratch()) + v.offset : c.in(v.source).as<const float>();
  }

  // A view as a dense tensor of `labels`; what the view lacks is repeated.
  static void copy(CpuContext& c, const Program& p, const View& from, float* to, const Labels& labels) {
    einsum::Walk axes;
    int64_t stride = 1;
    for (const int label : labels) stride *= p.extent[static_cast<size_t>(label)];
    for (const int label : labels) {
      const int64_t n = p.extent[static_cast<size_t>(label)];
      stride /= n;
      axes.axis(n, from.stride(label), stride);
    }
    const auto dense = std::ranges::find(axes.a, 1);
    if (dense != axes.a.end() && dense + 1 != axes.a.end())
      return transpose(c, std::move(axes), static_cast<size_t>(dense - axes.a.begin()), data(c, from), to);
    BoxCopy box{.dtype = DType::kFloat, .destination = to, .source = data(c, from)};
    for (size_t i = 0; i < axes.extent.size(); ++i) box.axis(axes.extent[i], axes.b[i], axes.a[i]);
    box.run(c);
  }

  // A copy whose axis `dense` is dense in the source and whose last axis is in the destination: transpositions of these two.
  static void transpose(CpuContext& c, einsum::Walk outer, size_t dense, const float* from, float* to) {
    const int64_t m = outer.extent[dense], m_step = outer.b[dense], n = outer.extent.back(), n_step = outer.a.back();
    for (const size_t axis : {outer.extent.size() - 1, dense})
      for (auto* list : {&outer.extent, &outer.a, &outer.b}) list->erase(list->begin() + static_cast<ptrdiff_t>(axis));
    const int64_t band = std::max<int64_t>(16, kChunk / n / 16 * 16), bands = (m + band - 1) / band;
    for_items(c, outer.count() * bands, std::min(band, m) * n, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const auto [source, destination] = outer.at(item / bands);
        const int64_t row = item % bands * band;
        c.kernels().transpose_f32(from + source + row, n_step, to + destination + row * m_step, m_step, std::min(band, m - row),
                                  n);
      }
    });
  }

  class Operands final : public nn::BatchOperands {
   public:
    Operands(const Program::Operation& o, const float* a, const float* b, float* y) : o_(o), a_(a), b_(b), y_(y) {}
    void get(int64_t i, GemmArgs& args, nn::Plain& plain) const override {
      const auto [a, b] = o_.outer.at(i);
      args.a = a_ + a, args.lda = o_.lda;
      args.c = y_ + i * o_.m * o_.n, args.ldc = o_.n;
      plain = o_.plain;
      plain.data = b_ + b;
    }

   private:
    const Program::Operation& o_;
    const float *a_, *b_;
    float* y_;
  };

  static void compute(CpuContext& c, const Program& p, const Program::Operation& o, float* y) {
    const float* a = data(c, o.a);
    if (o.kind == Program::Kind::kProducts) {
      auto* rest = static_cast<std::byte*>(c.scratch()) + nn::align64(p.elements * sizeof(float));
      return nn::multiply_plain(c, o.batch, o.m, o.n, o.k, Operands(o, a, data(c, o.b), y), rest);
    }
    const float* b = o.kind == Program::Kind::kDots ? data(c, o.b) : nullptr;
    for_items(c, o.outer.count(), o.inner.count(), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto [x, z] = o.outer.at(i);
        const double sum = b ? o.inner.sum(x, z, 0, [&](int64_t s, int64_t t) { return static_cast<double>(a[s]) * b[t]; })
                             : o.inner.sum(x, z, 0, [&](int64_t s, int64_t) { return static_cast<double>(a[s]); });
        y[i] = static_cast<float>(sum);
      }
    });
  }

  // Strides of a dense term along `labels`; 0 for those it lacks.
  static std::vector<int64_t> strides_of(const Labels& own, const Labels& labels, const std::vector<int64_t>& extent) {
    std::vector<int64_t> out(labels.size(), 0);
    for (size_t i = 0; i < labels.size(); ++i) {
      const auto at = std::ranges::find(own, labels[i]);
      if (at == own.end()) continue;
      out[i] = 1;
      for (auto after = at + 1; after != own.end(); ++after) out[i] *= extent[static_cast<size_t>(*after)];
    }
    return out;
  }

  // Calls f(offsets) for all indexes of `labels`, the last fastest.
  template <size_t N, class F>
  static void walk(const Labels& labels, const std::vector<int64_t>& extent, const std::array<std::vector<int64_t>, N>& strides,
                   F&& f) {
    std::vector<int64_t> index(labels.size(), 0);
    std::array<int64_t, N> at{};
    int64_t count = 1;
    for (const int label : labels) count *= extent[static_cast<size_t>(label)];
    for (int64_t n = 0; n < count; ++n) {
      f(at);
      for (size_t a = labels.size(); a-- > 0;) {
        for (size_t k = 0; k < N; ++k) at[k] += strides[k][a];
        if (++index[a] < extent[static_cast<size_t>(labels[a])]) break;
        for (size_t k = 0; k < N; ++k) at[k] -= index[a] * strides[k][a];
        index[a] = 0;
      }
    }
  }

  template <class T>
  static Result<std::vector<T>> zeros(const Labels& labels, const std::vector<int64_t>& extent) {
    Shape shape;
    for (const int label : labels) shape.push_back(extent[static_cast<size_t>(label)]);
    const auto count = checked_element_count(shape);
    if (!count.ok() || *count > static_cast<int64_t>(kEvaluateLimit / sizeof(T)))
      return error(Code::kInvalidArgument,
                   "Einsum: a result on the way of shape {} would take more "
                   "than {} bytes",
                   to_string(shape), kEvaluateLimit);
    return std::vector<T>(static_cast<size_t>(*count), T(0));
  }

  // Operand i with one axis per label, without those of 1.
  template <class T>
  static Result<Term<T>> load_term(const Tensor& x, const Labels& axes, const std::vector<int64_t>& extent) {
    Term<T> out;
    std::array<std::vector<int64_t>, 1> strides;
    const auto dense = dense_strides(x.shape());
    for (size_t a = 0; a < axes.size(); ++a) {
      if (x.shape()[a] == 1) continue;
      const auto found = std::ranges::find(out.labels, axes[a]);
      if (found != out.labels.end()) strides[0][static_cast<size_t>(found - out.labels.begin())] += dense[a];
      else out.labels.push_back(axes[a]), strides[0].push_back(dense[a]);
    }
    OCIOR_ASSIGN(out.values, zeros<T>(out.labels, extent));
    size_t next = 0;
    walk(out.labels, extent, strides, [&](const auto& at) {
      if constexpr (std::is_same_v<T, double>) out.values[next++] = get_double(x.dtype(), x.data(), at[0]);
      else out.values[next++] = static_cast<uint64_t>(get_int(x.dtype(), x.data(), at[0]));
    });
    return out;
  }

  template <class T>
  static Result<Term<T>> multiply(const Term<T>& a, const Term<T>* b, const Labels& labels, const std::vector<int64_t>& extent) {
    Term<T> out{labels, {}};
    OCIOR_ASSIGN(out.values, zeros<T>(labels, extent));
    Labels all = a.labels;
    for (size_t i = 0; b && i < b->labels.size(); ++i)
      if (std::ranges::find(all, b->labels[i]) == all.end()) all.push_back(b->labels[i]);
    const std::array strides{strides_of(a.labels, all, extent), strides_of(b ? b->labels : Labels{}, all, extent),
                             strides_of(labels, all, extent)};
    walk(all, extent, strides, [&](const auto& at) {
      const T y = b ? b->values[static_cast<size_t>(at[1])] : T(1);
      out.values[static_cast<size_t>(at[2])] += a.values[static_cast<size_t>(at[0])] * y;
    });
    return out;
  }

  template <class T>
  Status evaluate(RefContext& c, const Axes& axes, const std::vector<int64_t>& extent) const {
    std::vector<Term<T>> terms;
    std::vector<Labels> labels;
    for (int i = 0; i < c.inputs(); ++i) {
      OCIOR_ASSIGN(Term<T> term, load_term<T>(c.in(i), axes.operands[static_cast<size_t>(i)], extent));
      labels.push_back(term.labels);
      terms.push_back(std::move(term));
    }
    for (const Step& step : einsum::order_of(labels, axes.output, extent)) {
      const Term<T>* b = step.b < 0 ? nullptr : &terms[static_cast<size_t>(step.b)];
      OCIOR_ASSIGN(Term<T> made, multiply(terms[static_cast<size_t>(step.a)], b, step.labels, extent));
      terms.push_back(std::move(made));
    }
    const std::array strides{strides_of(terms.back().labels, axes.output, extent)};
    Tensor& y = c.out(0);
    int64_t next = 0;
    walk(axes.output, extent, strides, [&](const auto& at) {
      const T v = terms.back().values[static_cast<size_t>(at[0])];
      if constexpr (std::is_same_v<T, double>) set_double(y.dtype(), y.data(), next++, v);
      else set_int(y.dtype(), y.data(), next++, static_cast<int64_t>(v));
    });
    return {};
  }
};

std::vector<Sample> Einsum::samples() {
  std::vector<Sample> out;
  const auto add = [&](const char* equation, std::vector<Shape> shapes, DType t = DType::kFloat) {
    Sample s{.attributes = {{"equation", std::string(equation)}},
             .tolerance = t == DType::kFloat16    ? 2e-3
                          : t == DType::kBFloat16 ? 1e-2
                                                  : 3e-6};
    for (Shape& shape : shapes) s.inputs.push_back({t, std::move(shape), is_floating(t) ? Fill::kUniform : Fill::kSmallInts});
    out.push_back(std::move(s));
  };
  for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16, DType::kInt8, DType::kInt32,
                        DType::kInt64, DType::kUint64, DType::kUint8}) {
    add("ij->ji", {{3, 4}}, t);
    add("bij, bjk -> bik", {{5, 2, 3}, {5, 3, 4}}, t);
    add("...ii->...i", {{3, 5, 5}}, t);
    add("i,i", {{5}, {5}}, t);
    add("ij->i", {{3, 4}}, t);
  }
  for (const char* equation : {"ij,jk", "ij,jk->ik", "ij,jk->ki", "ji,jk->ik", "ij,kj->ik", "ij,kj->ijk", "ik,jk->"})
    add(equation, {{6, 6}, {6, 6}});
  add("bhid,bhjd->bhij", {{2, 3, 10, 8}, {2, 3, 11, 8}});
  add("bhij,bhjd->bihd", {{2, 3, 10, 11}, {2, 3, 11, 8}});
  add("bihd,bjhd->bhij", {{2, 10, 3, 8}, {2, 11, 3, 8}});
  add("bhwc,hkc->bhwk", {{2, 5, 6, 8}, {5, 7, 8}});
  add("bhwc,wkc->bhwk", {{2, 5, 6, 8}, {6, 7, 8}});
  add("abc,cd,de->abe", {{3, 4, 5}, {5, 6}, {6, 7}});
  add("ab,bc,cd,ad->", {{3, 4}, {4, 5}, {5, 6}, {3, 6}});
  add("i,j,k->kij", {{3}, {4}, {5}});
  add("...ij,...jk->...ik", {{2, 1, 3, 4}, {5, 4, 6}});
  add("i...->...", {{3, 4, 5}});
  add("b...i,b...j", {{3, 4, 5}, {3, 4, 6}});
  add("ij,ij->ij", {{30, 40}, {30, 40}});
  add("ij,ij->ji", {{30, 40}, {30, 40}});
  add("ij,j->ij", {{30, 40}, {40}});
  add("ij,ik->i", {{3, 4}, {3, 5}});
  add("iji,j->ij", {{3, 4, 3}, {4}});
  add("ii", {{7, 7}});
  add("iAb,bA->iA", {{3, 1, 4}, {4, 5}});
  add("ij,jk->ik", {{1, 4}, {4, 1}});
  add("ij,jk->ik", {{3, 0}, {0, 4}});
  add("ij,jk->ik", {{0, 3}, {3, 4}});
  add(",ij->ij", {{}, {3, 4}});
  add("->", {{}});
  add("i->i", {{1}});
  add("ij,jk->ik", {{150, 70}, {70, 130}});
  add("bmk,bkn->bmn", {{40, 9, 33}, {40, 33, 18}});
  add("bhid,bhjd->bhij", {{8, 12, 128, 64}, {8, 12, 128, 64}});
  out.back().bench = true;
  return out;
}

OCIOR_OPERATOR(Einsum)

}  // namespace ocior::ops
