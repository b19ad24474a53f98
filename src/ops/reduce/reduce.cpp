#include "ops/reduce/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/evaluate.h"
#include "ops/loops.h"
#include "ops/typed.h"

namespace ocior::ops {

ReduceAxes ReduceAxes::parse(const ReduceSpec& spec, const NodeReader& node) {
  ReduceAxes out;
  out.keep = node.integer("keepdims", 1) != 0;
  out.input = node.opset() >= spec.axes_input_since;
  if (out.input) {
    out.none_means_none = node.integer("noop_with_empty_axes", 0) != 0;
    return out;
  }
  if (node.inputs() != 1)
    node.fail("the axes are an attribute before opset {}, got {} inputs", spec.axes_input_since, node.inputs());
  out.fixed = node.integers("axes");
  return out;
}

namespace {

// A bit per axis that goes. `axes`: as the model lists them; empty: all, or none.
Result<uint64_t> reduced_bits(std::span<const int64_t> axes, bool none_means_none, int64_t rank) {
  if (rank > kMaxRank)
    return error(Code::kNotImplemented, "tensors of rank {} are not supported; the limit is {}", rank, kMaxRank);
  if (axes.empty()) return none_means_none || rank == 0 ? uint64_t{0} : ~uint64_t{0} >> (64 - rank);
  uint64_t bits = 0;
  for (const int64_t axis : axes) {
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, rank));
    bits |= uint64_t{1} << a;
  }
  return bits;
}

template <class C>
Result<uint64_t> bits_in_run(const ReduceAxes& axes, C& c, int64_t rank) {
  FixedShape list;
  if (axes.input && c.has(1)) {
    OCIOR_ASSIGN(list, fixed_ints(c.in(1), "the list of axes"));
  } else {
    OCIOR_ASSIGN(list, fixed_shape(axes.fixed));
  }
  return reduced_bits(list, axes.none_means_none, rank);
}

// The output's shape; with `keep` reduced dimensions stay as 1.
FixedShape kept_shape(std::span<const int64_t> x, uint64_t reduced, bool keep) {
  FixedShape out;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!(reduced >> i & 1)) out.push(x[i]);
    else if (keep) out.push(1);
  }
  return out;
}

// The result on shape arithmetic: one group that is all of a small vector.
void follow(const ReduceSpec& spec, ShapeContext& c, uint64_t reduced) {
  if (!carries_data(c.dtype(0)) || rank(c, 0) != 1 || reduced != 1) return;
  const auto data = data_of(c, 0);
  if (!data || data->empty()) return;
  Dim out = (*data)[0];
  for (size_t i = 1; i < data->size(); ++i) {
    const Dim& d = (*data)[i];
    if (spec.kind == Reduction::kProd) out = out * d;
    else if (spec.kind == Reduction::kSum) out = out + d;
    else if (spec.kind == Reduction::kMax) out = Dim::max(out, d);
    else if (spec.kind == Reduction::kMin) out = Dim::min(out, d);
    else return;
  }
  if (spec.kind <= Reduction::kProd && spec.kind != Reduction::kMean) c.set_data(0, Dims{out});
}

}  // namespace

Status reduce_infer(const ReduceSpec& spec, const ReduceAxes& axes, ShapeContext& c) {
  OCIOR_RETURN_IF_ERROR(check_type(c, 0, spec.types, spec.name));
  OCIOR_RETURN_IF_ERROR(check_type(c, 1, kIndices, spec.name));
  c.set(0, c.dtype(0), std::nullopt);
  if (!ranked(c, 0)) return {};
  std::optional<std::vector<int64_t>> list = axes.fixed;
  if (axes.input && c.has(1)) list = ints_of(c, 1);
  if (!list) {
    const auto length = length_of(c, 1);
    if (axes.keep) c.set(0, c.dtype(0), fresh_dims(c, rank(c, 0), "reduce"));
    else if (length && *length > 0 && *length <= rank(c, 0)) c.set(0, c.dtype(0), fresh_dims(c, rank(c, 0) - *length, "reduce"));
    return {};
  }
  OCIOR_ASSIGN(const uint64_t reduced, reduced_bits(*list, axes.none_means_none, rank(c, 0)));
  Dims out;
  for (size_t i = 0; i < c.shape(0)->size(); ++i) {
    if (!(reduced >> i & 1)) out.push_back((*c.shape(0))[i]);
    else if (axes.keep) out.push_back(1);
  }
  c.set(0, c.dtype(0), std::move(out));
  follow(spec, c, reduced);
  return {};
}

namespace {

// One group's result, taken element by element in double, int64 or uint64.
template <class C>
struct Accumulator {
  Reduction kind;
  C value = 0;
  int64_t count = 0;

  void take(C x) {
    switch (kind) {
      case Reduction::kSum:
      case Reduction::kMean:
      case Reduction::kLogSum: value = plus(value, x); break;
      case Reduction::kMax: value = count == 0 || x != x || x > value ? x : value; break;
      case Reduction::kMin: value = count == 0 || x != x || x < value ? x : value; break;
      case Reduction::kProd: value = count == 0 ? x : times(value, x); break;
      case Reduction::kL1: value = plus(value, x < 0 ? times(C(-1), x) : x); break;
      case Reduction::kL2:
      case Reduction::kSumSquare: value = plus(value, times(x, x)); break;
      case Reduction::kLogSumExp: break;  // has its own way
    }
    ++count;
  }

  C result() const {
    switch (kind) {
      case Reduction::kMean:
        if (count > 0) return value / static_cast<C>(count);
        return static_cast<C>(std::is_same_v<C, double> ? std::nan("") : 0.0);
      case Reduction::kProd: return count == 0 ? C(1) : value;
      case Reduction::kL2: return static_cast<C>(std::sqrt(static_cast<double>(value)));
      case Reduction::kLogSum: return static_cast<C>(std::log(static_cast<double>(value)));
      default: return value;
    }
  }

 private:
  static C plus(C a, C b) {
    if constexpr (std::is_same_v<C, double>) return a + b;
    else return static_cast<C>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  }
  static C times(C a, C b) {
    if constexpr (std::is_same_v<C, double>) return a * b;
    else return static_cast<C>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  }
};

// What Max and Min of no elements are: the least or the greatest value of the type.
double extreme(DType t, bool lowest) {
  const double infinity = std::numeric_limits<double>::infinity();
  if (is_floating(t)) return lowest ? -infinity : infinity;
  if (t == DType::kBool) return lowest ? 0 : 1;
  const bool without_sign = types(DType::kUint8, DType::kUint16, DType::kUint32, DType::kUint64) & type_bit(t);
  if (without_sign) return lowest ? 0 : std::ldexp(1.0, bits_of(t));
  return lowest ? -std::ldexp(1.0, bits_of(t) - 1) : std::ldexp(1.0, bits_of(t) - 1);  // store() saturates
}

// f(output index, x[i]) for all elements in order.
template <class C, class F>
Status each_element(const Tensor& x, const FixedShape& groups, F&& f) {
  BroadcastLoop loop;
  OCIOR_RETURN_IF_ERROR(loop.plan(x.shape(), {groups}));
  loop.strips(0, loop.total(), kStrip, [&](int64_t at, const auto& offset, int64_t n) {
    alignas(64) C buffer[kStrip];
    const C* values = load<C>(x.dtype(), x.data(), at, n, buffer);
    for (int64_t i = 0; i < n; ++i) f(static_cast<size_t>(offset[0] + i * loop.step(0)), values[i]);
  });
  return {};
}

// max + log(sum(exp(x - max))), as infinities allow.
Status log_sum_exp(const Tensor& x, const FixedShape& groups, Tensor& y) {
  const auto n = static_cast<size_t>(y.count());
  std::vector<double> largest(n, -std::numeric_limits<double>::infinity()), sum(n, 0);
  OCIOR_RETURN_IF_ERROR(
      each_element<double>(x, groups, [&](size_t i, double v) { largest[i] = v != v || v > largest[i] ? v : largest[i]; }));
  OCIOR_RETURN_IF_ERROR(each_element<double>(
      x, groups, [&](size_t i, double v) { sum[i] += std::isinf(largest[i]) ? v == largest[i] : std::exp(v - largest[i]); }));
  for (size_t i = 0; i < n; ++i) sum[i] = std::isinf(largest[i]) ? largest[i] : largest[i] + std::log(sum[i]);
  store<double>(y.dtype(), y.data(), 0, y.count(), sum.data());
  return {};
}

template <class C>
Status reduce_as(const ReduceSpec& spec, const Tensor& x, const FixedShape& groups, Tensor& y) {
  std::vector<Accumulator<C>> sums(static_cast<size_t>(y.count()), Accumulator<C>{spec.kind});
  OCIOR_RETURN_IF_ERROR(each_element<C>(x, groups, [&](size_t i, C v) { sums[i].take(v); }));
  const bool ordered = spec.kind == Reduction::kMax || spec.kind == Reduction::kMin;
  for (int64_t i = 0; i < y.count(); ++i) {
    const Accumulator<C>& a = sums[static_cast<size_t>(i)];
    const C result = a.result();
    const double none = extreme(y.dtype(), spec.kind == Reduction::kMax);
    if (ordered && a.count == 0) store<double>(y.dtype(), y.data(), i, 1, &none);
    else store<C>(y.dtype(), y.data(), i, 1, &result);
  }
  return {};
}

}  // namespace

Status reduce_reference(const ReduceSpec& spec, const ReduceAxes& axes, RefContext& c) {
  const Tensor& x = c.in(0);
  OCIOR_ASSIGN(const uint64_t reduced, bits_in_run(axes, c, x.rank()));
  OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), kept_shape(x.shape(), reduced, axes.keep)));
  const FixedShape groups = kept_shape(x.shape(), reduced, true);
  if (spec.kind == Reduction::kLogSumExp) return log_sum_exp(x, groups, c.out(0));
  return visit_kind(kind_of(x.dtype()), [&](auto zero) { return reduce_as<decltype(zero)>(spec, x, groups, c.out(0)); });
}

namespace {

// The input's axes, merged where neighbours share their fate.
struct Layout {
  int rank = 0;
  int64_t extent[kMaxRank], stride[kMaxRank];
  bool reduced[kMaxRank];
  int64_t groups = 1, members = 1;  // of the outer axes, without the last

  Layout(std::span<const int64_t> x, uint64_t bits) {
    for (size_t i = 0; i < x.size(); ++i) {
      if (x[i] == 1) continue;
      const bool gone = bits >> i & 1;
      if (rank > 0 && reduced[rank - 1] == gone) {
        extent[rank - 1] *= x[i];
      } else {
        extent[rank] = x[i];
        reduced[rank++] = gone;
      }
    }
    int64_t step = 1;
    for (int i = rank; i-- > 0;) {
      stride[i] = step;
      step *= extent[i];
      if (i + 1 < rank) (reduced[i] ? members : groups) *= extent[i];
    }
  }

  // Offset of number `k` among the outer axes that are (not) reduced.
  int64_t offset(int64_t k, bool gone) const {
    int64_t at = 0;
    for (int i = rank - 2; i >= 0; --i) {
      if (reduced[i] != gone) continue;
      at += k % extent[i] * stride[i];
      k /= extent[i];
    }
    return at;
  }
};

float neutral(ReduceFn fn) {
  if (fn == ReduceFn::kMax) return -std::numeric_limits<float>::infinity();
  return fn == ReduceFn::kMin ? std::numeric_limits<float>::infinity() : 0;
}

// The function that joins partial results: sums of squares and of magnitudes are sums by then.
ReduceFn joining(ReduceFn fn) { return fn == ReduceFn::kMax || fn == ReduceFn::kMin ? fn : ReduceFn::kSum; }

constexpr int64_t kPiece = 65536;  // elements of one long run that one thread takes
constexpr int64_t kPieces = 256;
constexpr int64_t kColumns = 1024;  // columns that are summed side by side

// One run, cut into pieces that depend on its length only.
float reduce_long(ReduceFn fn, CpuContext& c, const float* x, int64_t n) {
  float partial[kPieces];
  const int64_t length = std::max(kPiece, (n / kPieces + 64) / 64 * 64), pieces = (n + length - 1) / length;
  c.team().parallel_for(pieces, c.stop(), [&](int64_t i, int) {
    partial[i] = c.kernels().reduce_f32(fn, x + i * length, std::min(length, n - i * length));
  });
  return pieces == 1 ? partial[0] : c.kernels().reduce_f32(joining(fn), partial, pieces);
}

// The last axis is reduced: every group is `members` runs.
void reduce_rows(ReduceFn fn, CpuContext& c, const Layout& l, const float* x, float* y) {
  const int64_t n = l.extent[l.rank - 1];
  if (l.groups == 1 && l.members == 1 && n > kPiece) {
    y[0] = reduce_long(fn, c, x, n);
    return;
  }
  const KernelTable& k = c.kernels();
  for_items(c, l.groups, l.members * n, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      const float* from = x + l.offset(g, false);
      y[g] = k.reduce_f32(fn, from, n);
      for (int64_t m = 1; m < l.members; ++m) {
        const float part = k.reduce_f32(fn, from + l.offset(m, true), n);
        k.reduce_into_f32(joining(fn), &part, y + g, 1);
      }
    }
  });
}

// The last axis stays: rows are joined element by element.
void reduce_columns(ReduceFn fn, CpuContext& c, const Layout& l, const float* x, float* y) {
  const int64_t n = l.extent[l.rank - 1], blocks = (n + kColumns - 1) / kColumns;
  const KernelTable& k = c.kernels();
  for_items(c, l.groups * blocks, l.members * std::min(n, kColumns), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t column = item % blocks * kColumns, width = std::min(kColumns, n - column);
      const float* from = x + l.offset(item / blocks, false) + column;
      float* to = y + item / blocks * n + column;
      std::fill(to, to + width, neutral(fn));
      for (int64_t m = 0; m < l.members; ++m) k.reduce_into_f32(fn, from + l.offset(m, true), to, width);
    }
  });
}

void finish(Reduction kind, float* y, int64_t n, int64_t members) {
  switch (kind) {
    case Reduction::kMean:
      for (int64_t i = 0; i < n; ++i) y[i] /= static_cast<float>(members);
      break;
    case Reduction::kL2:
      for (int64_t i = 0; i < n; ++i) y[i] = std::sqrt(y[i]);
      break;
    case Reduction::kLogSum:
      for (int64_t i = 0; i < n; ++i) y[i] = std::log(y[i]);
      break;
    default: break;
  }
}

constexpr int64_t kHalfRun = 4096;  // longest run of 16-bit floats that is widened on the stack

// float16 and bfloat16 where the last axis is reduced.
void reduce_half_rows(const ReduceSpec& spec, CpuContext& c, const Layout& l) {
  const KernelTable& k = c.kernels();
  const bool half = c.in(0).dtype == DType::kFloat16;
  const auto widen = half ? k.f16_to_f32 : k.bf16_to_f32;
  const auto narrow = half ? k.f32_to_f16 : k.f32_to_bf16;
  const auto* x = c.in(0).as<const uint16_t>();
  auto* y = c.out(0).as<uint16_t>();
  const int64_t n = l.extent[l.rank - 1];
  for_items(c, l.groups, l.members * n, [&](int64_t begin, int64_t end) {
    alignas(64) float row[kHalfRun];
    for (int64_t g = begin; g < end; ++g) {
      float total = 0;
      for (int64_t m = 0; m < l.members; ++m) {
        widen(x + l.offset(g, false) + l.offset(m, true), row, n);
        const float part = k.reduce_f32(*spec.kernel, row, n);
        if (m == 0) total = part;
        else k.reduce_into_f32(joining(*spec.kernel), &part, &total, 1);
      }
      finish(spec.kind, &total, 1, l.members * n);
      narrow(&total, y + g, 1);
    }
  });
}

}  // namespace

Status reduce_run(const ReduceSpec& spec, const ReduceAxes& axes, CpuContext& c) {
  const TensorView& x = c.in(0);
  OCIOR_ASSIGN(const uint64_t reduced, bits_in_run(axes, c, x.rank()));
  OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, kept_shape(x.shape, reduced, axes.keep)));
  const int64_t count = x.count();
  const Layout layout(x.shape, reduced);
  const bool rows = count > 0 && layout.rank > 0 && layout.reduced[layout.rank - 1];
  const bool half = x.dtype == DType::kFloat16 || x.dtype == DType::kBFloat16;
  if (half && spec.kernel && rows && layout.extent[layout.rank - 1] <= kHalfRun)
    return reduce_half_rows(spec, c, layout), Status();
  if (x.dtype != DType::kFloat || !spec.kernel || count == 0 || layout.rank == 0) {
    CpuRefContext ref(c);
    return reduce_reference(spec, axes, ref);
  }
  float* y = c.out(0).as<float>();
  if (rows) reduce_rows(*spec.kernel, c, layout, x.as<const float>(), y);
  else reduce_columns(*spec.kernel, c, layout, x.as<const float>(), y);
  const int64_t outputs = c.out(0).count();
  finish(spec.kind, y, outputs, count / outputs);
  return {};
}

std::vector<Sample> reduce_samples(const ReduceSpec& spec) {
  std::vector<Sample> out;
  const bool attribute = spec.axes_input_since > 13;
  const auto add = [&](DType t, const Shape& shape, const std::vector<int64_t>& axes, int64_t keep, Fill fill = Fill::kPositive,
                       double tolerance = 2e-6) {
    SampleInput list{DType::kInt64, {static_cast<int64_t>(axes.size())}, Fill::kZeros, {axes.begin(), axes.end()}};
    out.push_back({.inputs = {{t, shape, fill}, list}, .attributes = {{"keepdims", keep}}, .tolerance = tolerance});
  };
  for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16, DType::kInt32, DType::kInt64,
                        DType::kUint64, DType::kInt8}) {
    for (const int64_t keep : {0, 1}) {
      add(t, {2, 3, 4}, {1}, keep);
      add(t, {2, 3, 4}, {-1}, keep);
      add(t, {2, 3, 4}, {0, 2}, keep);
      add(t, {2, 3, 4}, {}, keep);
    }
    add(t, {}, {}, 0);
    add(t, {2, 0, 4}, {1}, 1);
    add(t, {0}, {0}, 0);
    add(t, {3, 0}, {0}, 1);
    out.push_back({.inputs = {{t, {2, 3}, Fill::kPositive}}, .attributes = {{"noop_with_empty_axes", int64_t{1}}}});
  }
  const Fill fill =
      spec.kind == Reduction::kLogSum ? Fill::kPositive : Fill::kNormal;  // near 1 a logarithm loses what the sum rounded
  add(DType::kFloat, {5, 130, 64}, {2}, 1, fill, 1e-5);
  add(DType::kFloat, {5, 130, 64}, {1}, 0, fill, 1e-5);
  add(DType::kFloat, {4, 5, 6, 7}, {1, 3}, 0, fill, 1e-5);
  add(DType::kFloat, {4, 5, 6, 7}, {0, 2}, 0, fill, 1e-5);
  if (spec.kind != Reduction::kProd) add(DType::kFloat, {300, 700}, {0, 1}, 0, Fill::kPositive, 1e-5);
  if (spec.kind != Reduction::kProd) add(DType::kFloat, {40, 3000}, {0}, 0, Fill::kPositive, 1e-5);
  if (spec.types & kBools) add(DType::kBool, {3, 4}, {1}, 0, Fill::kBools);
  const int old = attribute ? 13 : 11;
  out.push_back({.inputs = {{DType::kFloat, {2, 3, 4}, Fill::kPositive}},
                 .attributes = {{"axes", std::vector<int64_t>{0, -1}}},
                 .opset = old,
                 .tolerance = 2e-6});
  out.push_back({.inputs = {{DType::kFloat, {2, 3}, Fill::kPositive}}, .opset = 1, .tolerance = 2e-6});
  const SampleInput last{DType::kInt64, {1}, Fill::kZeros, {-1}};
  out.push_back({.inputs = {{DType::kFloat, {128, 768}}, last}, .bench = true});
  return out;
}

}  // namespace ocior::ops
