#include "ops/math/einsum_program.h"

#include <algorithm>

#include "ops/shapes.h"

namespace ocior::ops::einsum {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 48;  // of what is computed on the way

class Compiler {
 public:
  Compiler(const Axes& axes, const std::vector<std::span<const int64_t>>& shapes, std::vector<int64_t> extent,
           const KernelTable& kernels, int workers)
      : axes_(axes), kernels_(kernels), workers_(workers) {
    program_.extent = std::move(extent);
    for (size_t i = 0; i < shapes.size(); ++i) views_.push_back(operand(static_cast<int>(i), shapes[i]));
    for (const int label : axes.output)
      if (size(label) != 1) output_.push_back(label);
  }

  Result<Program> compile() {
    for (const int64_t n : program_.extent)
      if (n == 0) return program_.empty = true, std::move(program_);
    std::vector<Labels> terms;
    for (const View& v : views_) terms.push_back(v.labels);
    const std::vector<Step> steps = order_of(terms, output_, program_.extent);
    for (size_t i = 0; i < steps.size(); ++i) OCIOR_RETURN_IF_ERROR(add(steps[i], i + 1 == steps.size()));
    if (program_.operations.empty() || !program_.operations.back().to_output) program_.last = views_.back();
    return std::move(program_);
  }

 private:
  int64_t size(int label) const { return program_.extent[static_cast<size_t>(label)]; }

  // An operand without axes of 1; axes of one label are its diagonal.
  View operand(int i, std::span<const int64_t> shape) const {
    View out{.source = i};
    const auto strides = dense_strides(shape);
    for (size_t a = 0; a < shape.size(); ++a) {
      if (shape[a] == 1) continue;
      const int label = axes_.operands[static_cast<size_t>(i)][a];
      const auto found = std::ranges::find(out.labels, label);
      if (found != out.labels.end()) out.strides[static_cast<size_t>(found - out.labels.begin())] += strides[a];
      else out.labels.push_back(label), out.strides.push_back(strides[a]);
    }
    return out;
  }

  // Memory for a dense tensor of some labels.
  Result<View> dense(const Labels& labels) {
    View out{.offset = program_.elements, .labels = labels, .strides = std::vector<int64_t>(labels.size())};
    int64_t count = 1;
    for (size_t i = labels.size(); i-- > 0;) {
      out.strides[i] = count;
      if (__builtin_mul_overflow(count, size(labels[i]), &count) || count > kMostElements)
        return error(Code::kInvalidArgument, "Einsum: a result on the way would have more than {} elements", kMostElements);
    }
    program_.elements += nn::align64(static_cast<size_t>(count) * sizeof(float)) / sizeof(float);
    return out;
  }

  // The labels of `from` that are in `set`: those of the output in its order,
  // the others as they come.
  Labels pick(const Labels& from, const LabelSet& set) const {
    Labels out;
    for (const int label : output_)
      if (set[static_cast<size_t>(label)] && std::ranges::find(from, label) != from.end()) out.push_back(label);
    for (const int label : from)
      if (set[static_cast<size_t>(label)] && std::ranges::find(output_, label) == output_.end()) out.push_back(label);
    return out;
  }

  Walk walk(const Labels& labels, const View& a, const View& b) const {
    Walk out;
    for (const int label : labels) out.axis(size(label), a.stride(label), b.stride(label));
    return out;
  }

  Status add(const Step& step, bool last) {
    Program::Operation o{.kind = Program::Kind::kSum, .a = views_[static_cast<size_t>(step.a)]};
    const LabelSet kept = set_of(step.labels);
    Labels result;
    if (step.b < 0) {
      result = pick(o.a.labels, kept);
      o.outer = walk(result, o.a, o.b), o.inner = walk(pick(o.a.labels, ~kept), o.a, o.b);
    } else {
      o.b = views_[static_cast<size_t>(step.b)];
      OCIOR_RETURN_IF_ERROR(product(o, kept, result));
    }
    program_.work += 2.0 * static_cast<double>(o.outer.count()) * static_cast<double>(o.m * o.n) *
                     static_cast<double>(o.kind == Program::Kind::kProducts ? o.k : o.inner.count());
    o.to_output = last && result == output_;
    View made{.labels = result};
    if (!o.to_output) {
      OCIOR_ASSIGN(made, dense(result));
      o.result = made.offset;
    }
    program_.operations.push_back(std::move(o));
    views_.push_back(std::move(made));
    return {};
  }

  // Place of the first of `labels` in the output.
  ptrdiff_t first_place(const Labels& labels) const {
    ptrdiff_t out = std::ssize(output_);
    for (const int label : labels) out = std::min(out, std::ranges::find(output_, label) - output_.begin());
    return out;
  }

  Status product(Program::Operation& o, const LabelSet& kept, Labels& result) {
    const LabelSet a = set_of(o.a.labels), b = set_of(o.b.labels);
    if (first_place(pick(o.b.labels, kept & ~a)) < first_place(pick(o.a.labels, kept & ~b))) return swapped(o, kept, result);
    const Labels batch = pick(o.a.labels, a & b & kept), m = pick(o.a.labels, a & ~b), n = pick(o.b.labels, b & ~a);
    Labels k;  // in the order of the right operand, which is read in more ways
    for (const int label : o.a.labels)
      if (b[static_cast<size_t>(label)] && !kept[static_cast<size_t>(label)]) k.push_back(label);
    result = batch;
    result.insert(result.end(), m.begin(), m.end());
    result.insert(result.end(), n.begin(), n.end());
    if (m.empty() && n.empty()) {
      o.kind = Program::Kind::kDots;
      o.outer = walk(batch, o.a, o.b), o.inner = walk(k, o.a, o.b);
      return {};
    }
    o.kind = Program::Kind::kProducts;
    if (!read_left(o, m, k)) OCIOR_RETURN_IF_ERROR(copy(o.a, o.copy_a, batch, m, k));
    if (!read_right(o, k, n)) OCIOR_RETURN_IF_ERROR(copy(o.b, o.copy_b, batch, k, n));
    read_left(o, m, k), read_right(o, k, n);
    o.outer = walk(batch, o.a, o.b);
    o.batch = o.outer.count();
    if (o.batch == 1) o.outer = {};
    program_.products = std::max(program_.products, nn::plain_scratch(kernels_, workers_, o.batch, o.m, o.n, o.k));
    return {};
  }
  Status swapped(Program::Operation& o, const LabelSet& kept, Labels& result) {
    std::swap(o.a, o.b);
    return product(o, kept, result);
  }

  // Whether the kernels can read a view as [m, k]: rows of one stride, dense
  // along k.
  bool read_left(Program::Operation& o, const Labels& m, const Labels& k) const {
    const Walk rows = walk(m, o.a, {}), columns = walk(k, o.a, {});
    const auto row = rows.single(columns.count()), column = columns.single(1);
    if (!row || !column || *column != 1) return false;
    o.m = rows.count(), o.k = columns.count(), o.lda = *row;
    return true;
  }
  // The same as [k, n], or as its transpose.
  bool read_right(Program::Operation& o, const Labels& k, const Labels& n) const {
    const Walk rows = walk(k, o.b, {}), columns = walk(n, o.b, {});
    const auto column = columns.single(1), row = rows.single(columns.count());
    if (!row || !column) return false;
    if (*column == 1) o.plain = {nullptr, *row, false};
    else if (*row == 1 || k.empty()) o.plain = {nullptr, *column, true};
    else return false;
    o.n = columns.count();
    return true;
  }

  Status copy(View& view, std::optional<View>& from, const Labels& batch, const Labels& rows, const Labels& columns) {
    Labels labels = batch;
    labels.insert(labels.end(), rows.begin(), rows.end());
    labels.insert(labels.end(), columns.begin(), columns.end());
    from = std::move(view);
    OCIOR_ASSIGN(view, dense(labels));
    return {};
  }

  const Axes& axes_;
  const KernelTable& kernels_;
  int workers_;
  Program program_;
  std::vector<View> views_;
  Labels output_;  // without labels of extent 1
};

}  // namespace

Result<Program> compile(const Axes& axes, const std::vector<std::span<const int64_t>>& shapes, std::vector<int64_t> extent,
                        const KernelTable& kernels, int workers) {
  return Compiler(axes, shapes, std::move(extent), kernels, workers).compile();
}

}  // namespace ocior::ops::einsum
