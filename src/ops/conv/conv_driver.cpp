#include "ops/conv/conv_driver.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/pool.h"
#include "ops/conv/depthwise.h"
#include "ops/conv/pixels.h"
#include "ops/conv/plans.h"
#include "ops/nn/activation.h"
#include "ops/nn/gemm_driver.h"
#include "ops/nn/numeric.h"

namespace ocior::ops::conv {
namespace {

using nn::chunks_of;

enum class Way { kColumns, kRows, kDepthwise };

constexpr int64_t kBlockElements = 1 << 15;  // of the left operand that a strip meets at once
constexpr int64_t kLineFloats = 16;          // of a cache line
constexpr int64_t kPackElements = 1 << 17;   // of a chunk of packing

// A pointwise convolution has one long axis.
Geometry merged(const Geometry& g) {
  if (g.spatial == 1 || !is_pointwise(g)) return g;
  Geometry out{.batch = g.batch, .channels = g.channels, .out_channels = g.out_channels, .group = g.group, .spatial = 1};
  out.axes[0].in = out.axes[0].out = g.plane();
  return out;
}

// Rows lose columns of the last panel of channels and transpose both sides; columns lose those of the last panel of pixels.
bool prefers_rows(const KernelTable& kernels, const Geometry& g) {
  const int64_t panel = kernels.gemm_panel(Precision::kHighest), m = g.group_outputs(), pixels = g.pixels();
  if (pixels > 1024 || m < 8) return false;
  const int64_t by_rows = round_up(m, panel) * pixels + 2 * (pixels + m), by_columns = round_up(pixels, panel) * m;
  return by_rows < by_columns;
}

// ---- weights ----

// Row m of the left operand of `columns`: taps first, channels second, then the bias.
void copy_weight_row(const float* w, int64_t taps, int64_t channels, float* to) {
  for (int64_t t = 0; t < taps; ++t)
    for (int64_t c = 0; c < channels; ++c) *to++ = w[c * taps + t];
}

class Weights final : public Prepared {
 public:
  Way way = Way::kColumns;
  const KernelTable* kernels = nullptr;
  const float *w = nullptr, *bias = nullptr;
  int64_t group = 1, outputs = 0, channels = 0, taps = 0;  // of one group but for `group`
  Precision precision = Precision::kHighest;
  const void* packed = nullptr;

  int64_t depth() const { return taps * channels; }
  int64_t row() const { return depth() + (bias ? 1 : 0); }

  size_t panel_bytes() const { return kernels->gemm_b_bytes(outputs, depth(), precision); }
  int64_t columns_per_chunk() const {
    const int64_t panel = kernels->gemm_panel(precision);
    return panel * std::max<int64_t>(1, kPackElements / (panel * std::max<int64_t>(1, depth())));
  }

  // Chunks are rows of all groups.
  static void fill_columns(const void* context, void* destination, int64_t chunk) {
    const auto& f = *static_cast<const Weights*>(context);
    float* to = static_cast<float*>(destination) + chunk * f.row();
    copy_weight_row(f.w + chunk * f.depth(), f.taps, f.channels, to);
    if (f.bias) to[f.depth()] = f.bias[chunk];
  }

  // Chunks are groups times columns_per_chunk() columns.
  static void fill_rows(const void* context, void* destination, int64_t chunk) {
    const auto& f = *static_cast<const Weights*>(context);
    const int64_t step = f.columns_per_chunk(), each = chunks_of(f.outputs, step), g = chunk / each;
    const int64_t begin = chunk % each * step, end = std::min(f.outputs, begin + step);
    const float* w = f.w + g * f.outputs * f.depth();
    auto* to = static_cast<std::byte*>(destination) + static_cast<size_t>(g) * f.panel_bytes();
    std::unique_ptr<float[]> ordered;
    if (f.taps > 1 && f.channels > 1) {  // only the rows of this chunk are written: the others cost no memory
      ordered.reset(new float[static_cast<size_t>(end * f.depth())]);
      for (int64_t m = begin; m < end; ++m)
        copy_weight_row(w + m * f.depth(), f.taps, f.channels, &ordered[static_cast<size_t>(m * f.depth())]);
      w = ordered.get();
    }
    f.kernels->gemm_pack_b(w, f.depth(), true, f.outputs, f.depth(), begin, end, f.precision, to);
  }
};

const Weights* weights_of(const Prepared* prepared) { return static_cast<const Weights*>(prepared); }

Way way_of(const Prepared* prepared, const Geometry& g) {
  if (prepared) return weights_of(prepared)->way;
  return depthwise_pays(g) ? Way::kDepthwise : Way::kColumns;
}

bool is_empty(const Geometry& g) { return g.batch * g.out_channels * g.pixels() == 0; }

// ---- runs ----

struct Operands {
  const float *x, *w, *bias;  // w and bias null where they are packed
  const float* residual;      // or null
  float* y;
};

// A residual comes before the activation, so that the product's own epilogue leaves the activation to add_and_activate().
Epilogue epilogue_of(const Operands& o, const Tail& tail) {
  return o.residual ? Epilogue{} : Epilogue{.act = tail.act, .lo = tail.lo, .hi = tail.hi};
}

std::optional<UnaryFn> unary_of(Activation act) {
  switch (act) {
    case Activation::kNone: break;
    case Activation::kRelu: return UnaryFn::kRelu;
    case Activation::kClip: return UnaryFn::kClip;
    case Activation::kGeluErf: return UnaryFn::kGeluErf;
    case Activation::kGeluTanh: return UnaryFn::kGeluTanh;
    case Activation::kTanh: return UnaryFn::kTanh;
    case Activation::kSigmoid: return UnaryFn::kSigmoid;
    case Activation::kSilu: return UnaryFn::kSilu;
    case Activation::kHardSwish: return UnaryFn::kHardSwish;
    case Activation::kHardSigmoid: return UnaryFn::kHardSigmoid;
    case Activation::kLeakyRelu: return UnaryFn::kLeakyRelu;
  }
  return std::nullopt;
}

// y = tail(y + residual) of n values; no residual: tail(y).
void add_and_activate(const KernelTable& kernels, const Tail& tail, const float* residual, float* y, int64_t n) {
  if (residual) kernels.binary_f32(BinaryFn::kAdd, y, 1, residual, 1, y, n);
  if (const auto unary = unary_of(tail.act)) kernels.unary_f32(*unary, y, y, n, tail.lo, tail.hi);
}

// One strip of the right operand of `columns`.
void gather_strip(const KernelTable& kernels, const Geometry& g, const float* x, int64_t begin, int64_t end, bool ones,
                  float* to) {
  const int64_t panel = kernels.gemm_panel(Precision::kHighest), taps = g.taps(), channels = g.group_channels();
  const int64_t plane = g.plane(), k = taps * channels + (ones ? 1 : 0);
  const int64_t step = g.axes[static_cast<size_t>(g.spatial - 1)].stride;
  RowPiece pieces[Pixels::kMost + 1];
  const int64_t whole = g.spatial == 1 && is_pointwise(g) ? (end - begin) / panel : 0;
  if (whole > 0) {  // channel by channel, each read as one stretch
    pieces[0] = {.n = panel, .hi = panel};
    for (int64_t c = 0; c < channels; ++c) {
      const float* from = x + c * plane + begin;
      if (c + 1 < channels)  // too short a stretch for the processor to foresee the next one
        for (int64_t i = 0; i < whole * panel; i += kLineFloats) __builtin_prefetch(from + plane + i);
      kernels.gather_rows_f32(from, panel, 1, pieces, 1, to + c * panel, panel * k, whole);
    }
    if (ones)
      for (int64_t i = 0; i < whole; ++i) std::fill_n(to + (i * k + k - 1) * panel, panel, 1.0f);
    begin += whole * panel, to += whole * panel * k;
  }
  for (int64_t p = begin; p < end; p += panel, to += panel * k) {
    const int64_t stop = std::min(end, p + panel);
    const Pixels pixels(g, p, stop);
    TapWalk walk(g);
    for (int64_t t = 0; t < taps; ++t, walk.next()) {
      int64_t count = pixels.pieces(walk.shift(), pieces);
      if (stop - p < panel) pieces[count++] = {.to = stop - p, .n = panel - (stop - p)};
      kernels.gather_rows_f32(x, plane, step, pieces, count, to + t * channels * panel, panel, channels);
    }
    if (ones) std::fill_n(to + (k - 1) * panel, panel, 1.0f);
  }
}

// Fewer rows at once, so that they stay in L2 beside the strip while its panels pass by.
GemmGrid finer(GemmGrid grid, int64_t m, int64_t k) {
  const int64_t rows = std::max<int64_t>(1, kBlockElements / std::max<int64_t>(1, k) / 32) * 32;
  if (rows >= grid.m_step) return grid;
  grid.m_step = rows;
  grid.m_chunks = chunks_of(m, rows);
  return grid;
}

void run_columns(CpuContext& c, const Geometry& g, const Operands& o, const Tail& tail) {
  const KernelTable& kernels = c.kernels();
  const Weights* weights = weights_of(c.prepared());
  const bool bias = c.has(2);
  const ColumnPlan plan(kernels, g, bias, weights != nullptr);
  const ColumnPlan::Memory memory = plan.carve(kernels, c.team().size(), c.scratch());
  const int64_t depth = g.taps() * g.group_channels();
  const float* left = memory.weights;
  if (weights) {
    left = static_cast<const float*>(weights->packed);
  } else {
    nn::parallel_rows(c, g.out_channels, plan.k, [&](int64_t begin, int64_t end, int) {
      for (int64_t m = begin; m < end; ++m) {
        copy_weight_row(o.w + m * depth, g.taps(), g.group_channels(), memory.weights + m * plan.k);
        if (bias) memory.weights[m * plan.k + depth] = o.bias[m];
      }
    });
  }
  const auto product = [&](int64_t group, bool last) {
    GemmArgs args;
    args.a = left + group * plan.m * plan.k, args.lda = plan.k, args.ldc = plan.pixels;
    args.m = plan.m, args.n = last ? plan.last : plan.strip, args.k = plan.k;
    args.epilogue = epilogue_of(o, tail);
    args.a_packed = plan.a_bytes[last] ? memory.a[last] : nullptr;
    return args;
  };
  for (int64_t group = 0; group < g.group; ++group) {
    for (const bool last : {false, true}) {
      const GemmArgs args = product(group, last);
      if (args.a_packed)
        c.team().parallel_for(chunks_of(plan.m, 32), c.stop(),
                              [&](int64_t i, int) { kernels.gemm_pack_a(args, i * 32, std::min(plan.m, i * 32 + 32)); });
    }
    c.team().parallel_for(g.batch * plan.strips, c.stop(), [&](int64_t task, int worker) {
      const int64_t image = task / plan.strips, strip = task % plan.strips, begin = strip * plan.strip;
      GemmArgs args = product(group, strip == plan.strips - 1);
      float* b = memory.strips + static_cast<size_t>(worker) * memory.strip_floats;
      gather_strip(kernels, g, o.x + (image * g.channels + group * g.group_channels()) * g.plane(), begin, begin + args.n, bias,
                   b);
      args.b = b;
      const int64_t at = (image * g.out_channels + group * plan.m) * plan.pixels + begin;
      args.c = o.y + at;
      if (o.residual) args.epilogue.residual = o.residual + at, args.epilogue.ld_residual = plan.pixels;
      const GemmGrid grid = finer(kernels.gemm_grid(args.m, args.n, args.k, args.precision), args.m, args.k);
      for (int64_t i = 0; i < grid.m_chunks; ++i)
        for (int64_t j = 0; j < grid.n_chunks; ++j) kernels.gemm_chunk(args, grid, i, j);
      for (int64_t m = 0; o.residual && m < plan.m; ++m)  // while the strip is near
        add_and_activate(kernels, tail, nullptr, args.c + m * args.ldc, args.n);
    });
  }
}

// Rows [begin, end) of the left operand of `rows`, from x with channels last.
void gather_pixels(const Geometry& g, const float* x, int64_t group, int64_t begin, int64_t end, float* to) {
  const int64_t taps = g.taps(), channels = g.group_channels();
  for (int64_t p = begin; p < end; ++p) {
    const Pixels pixel(g, p, p + 1);
    TapWalk walk(g);
    for (int64_t t = 0; t < taps; ++t, walk.next(), to += channels) {
      const int64_t at = pixel.element(walk.shift());
      if (at < 0) std::fill_n(to, channels, 0.0f);
      else std::copy_n(x + at * g.channels + group * channels, channels, to);
    }
  }
}

void run_rows(CpuContext& c, const Geometry& g, const Operands& o, const Tail& tail) {
  const KernelTable& kernels = c.kernels();
  const Weights& weights = *weights_of(c.prepared());
  const RowPlan plan(kernels, g, weights.precision);
  const RowPlan::Memory memory = plan.carve(g, c.scratch());
  const int64_t plane = g.plane();
  // out[n, m] = in[m, n]: rows of `out` in pieces.
  const auto transpose = [&](const float* in, float* out, int64_t m, int64_t n) {
    const int64_t step = round_up(nn::rows_per_chunk(m), 16);
    c.team().parallel_for(chunks_of(n, step), c.stop(), [&](int64_t i, int) {
      const int64_t begin = i * step;
      kernels.transpose_f32(in + begin, n, out + begin * m, m, std::min(n, begin + step) - begin, m);
    });
  };
  for (int64_t image = 0; image < g.batch && !(c.stop() && c.stop()->requested()); ++image) {
    transpose(o.x + image * g.channels * plane, memory.x, g.channels, plane);
    for (int64_t group = 0; group < g.group; ++group) {
      GemmArgs args;
      args.a = memory.x + group * plan.k, args.lda = g.channels;
      if (!plan.pointwise) {
        const int64_t step = nn::rows_per_chunk(plan.k);
        c.team().parallel_for(chunks_of(plan.pixels, step), c.stop(), [&](int64_t i, int) {
          gather_pixels(g, memory.x, group, i * step, std::min(plan.pixels, (i + 1) * step), memory.rows + i * step * plan.k);
        });
        args.a = memory.rows, args.lda = plan.k;
      }
      args.b = static_cast<const std::byte*>(weights.packed) + static_cast<size_t>(group) * weights.panel_bytes();
      args.c = memory.y + group * plan.m, args.ldc = g.out_channels;
      args.m = plan.pixels, args.n = plan.m, args.k = plan.k, args.precision = weights.precision;
      args.epilogue = epilogue_of(o, tail);
      if (o.bias) args.epilogue.bias = o.bias + group * plan.m;
      const GemmGrid grid = kernels.gemm_grid(args.m, args.n, args.k, args.precision);
      if (plan.a_bytes) {
        args.a_packed = memory.a;
        c.team().parallel_for(grid.m_chunks, c.stop(), [&](int64_t i, int) {
          kernels.gemm_pack_a(args, i * grid.m_step, std::min(args.m, (i + 1) * grid.m_step));
        });
      }
      c.team().parallel_for(grid.m_chunks * grid.n_chunks, c.stop(),
                            [&](int64_t i, int) { kernels.gemm_chunk(args, grid, i % grid.m_chunks, i / grid.m_chunks); });
    }
    const int64_t at = image * g.out_channels * plan.pixels;
    transpose(memory.y, o.y + at, plan.pixels, g.out_channels);
    if (!o.residual) continue;
    nn::parallel_rows(c, g.out_channels, plan.pixels, [&](int64_t begin, int64_t end, int) {
      const int64_t first = at + begin * plan.pixels;
      add_and_activate(kernels, tail, o.residual + first, o.y + first, (end - begin) * plan.pixels);
    });
  }
}

void run_depthwise(CpuContext& c, const Geometry& g, const Operands& o, const Tail& tail) {
  const DepthwisePlan plan(g);
  const Axis& w = g.axes[static_cast<size_t>(g.spatial - 1)];
  const Axis h = g.spatial == 2 ? g.axes[0] : Axis{};
  auto* const planes = static_cast<float*>(c.scratch());
  std::fill_n(planes, plan.plane * c.team().size(), 0.0f);
  const int64_t each = g.group_outputs(), pixels = g.pixels();
  const bool bounds = !o.residual && (tail.act == Activation::kRelu || tail.act == Activation::kClip);
  c.team().parallel_for(g.batch * g.channels, c.stop(), [&](int64_t i, int worker) {
    float* const plane = planes + worker * plan.plane;
    copy_plane(c.kernels(), g, plan, o.x + i * g.plane(), plane);
    DepthwiseArgs args{.x = plane,
                       .ldx = plan.cols,
                       .out_h = h.out,
                       .out_w = w.out,
                       .kernel_h = h.kernel,
                       .kernel_w = w.kernel,
                       .stride_h = h.stride,
                       .stride_w = w.stride,
                       .dilation_h = h.dilation,
                       .dilation_w = w.dilation};
    if (bounds) args.lo = tail.act == Activation::kRelu ? 0 : tail.lo;
    if (bounds && tail.act == Activation::kClip) args.hi = tail.hi;
    for (int64_t k = 0; k < each; ++k) {
      const int64_t m = i % g.channels * each + k;
      args.w = o.w + m * h.kernel * w.kernel;
      const int64_t at = (i * each + k) * pixels;
      args.y = o.y + at;
      args.bias = o.bias ? o.bias[m] : 0;
      c.kernels().depthwise_conv_f32(args, 0, h.out);
      if (!bounds) add_and_activate(c.kernels(), tail, o.residual ? o.residual + at : nullptr, args.y, pixels);
    }
  });
}

// A sum over no channels is the bias.
void run_bias(const KernelTable& kernels, const Geometry& g, const Operands& o, const Tail& tail) {
  const int64_t pixels = g.pixels();
  for (int64_t i = 0; i < g.batch * g.out_channels; ++i) {
    float* const y = o.y + i * pixels;
    std::fill_n(y, pixels, o.bias ? o.bias[i % g.out_channels] : 0);
    add_and_activate(kernels, tail, o.residual ? o.residual + i * pixels : nullptr, y, pixels);
  }
}

}  // namespace

Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c, const Window& window) {
  const Tensor* w = c.constant(1);
  const Tensor* bias = c.has(2) ? c.constant(2) : nullptr;
  const auto fits = [](const Tensor* t) { return t && t->dtype() == DType::kFloat && t->dense(); };
  if (!fits(w) || w->rank() < 3 || w->rank() > kMaxRank || (c.has(2) && !fits(bias)) || w->count() == 0)
    return std::unique_ptr<Prepared>();
  // Sizes that x does not tell are taken to be large.
  Shape x(static_cast<size_t>(w->rank()), 1 << 16);
  x[0] = 1, x[1] = w->shape()[1] * window.group;
  bool known = c.in(0).shape && c.in(0).shape->size() == x.size();
  for (size_t i = 2; i < x.size() && known; ++i) {
    known = (*c.in(0).shape)[i].known();
    if (known) x[i] = (*c.in(0).shape)[i].value();
  }
  auto weights = std::make_unique<Weights>();
  if (known) {
    OCIOR_ASSIGN(const Geometry g, window.geometry(x, w->shape()));
    if (depthwise_pays(g)) return std::unique_ptr<Prepared>();  // reads w as it is
    if (prefers_rows(c.kernels(), g)) weights->way = Way::kRows;
  } else if (w->shape()[1] == 1 && window.group > 1) {
    return std::unique_ptr<Prepared>();
  }
  Weights& f = *weights;
  f.kernels = &c.kernels();
  f.w = w->as<float>(), f.bias = bias ? bias->as<float>() : nullptr;
  f.group = window.group, f.outputs = w->shape()[0] / window.group, f.channels = w->shape()[1];
  f.taps = w->count() / (w->shape()[0] * f.channels);
  if (f.way == Way::kRows) {
    const int64_t pixels = element_count(x) / x[1];
    f.precision = nn::product_precision(c.precision(), pixels, f.outputs, f.depth());
    const std::string form =
        fmt::format("conv rows {} {} taps {}x{}x{}", nn::name_of(f.precision), f.taps, f.group, f.depth(), f.outputs);
    f.packed = c.pack(form, static_cast<size_t>(f.group) * f.panel_bytes(), f.group * chunks_of(f.outputs, f.columns_per_chunk()),
                      &Weights::fill_rows, &f);
  } else {
    const std::string form = fmt::format("conv columns {} taps {}x{}", f.taps, w->shape()[0], f.row());
    f.packed =
        c.pack(form, static_cast<size_t>(w->shape()[0] * f.row()) * sizeof(float), w->shape()[0], &Weights::fill_columns, &f);
    if (bias) c.release(2);
  }
  c.release(1);
  return std::unique_ptr<Prepared>(std::move(weights));
}

size_t scratch(const BindContext& c, const Window& window) {
  const auto made = window.geometry(c.in(0).shape, c.in(1).shape);
  if (!made.ok() || is_empty(*made)) return 0;
  const Geometry g = merged(*made);
  switch (way_of(c.prepared(), g)) {
    case Way::kDepthwise: return static_cast<size_t>(DepthwisePlan(g).plane * c.workers()) * sizeof(float);
    case Way::kRows: return RowPlan(c.kernels(), g, weights_of(c.prepared())->precision).carve(g, nullptr).bytes;
    case Way::kColumns: break;
  }
  return ColumnPlan(c.kernels(), g, c.has(2), c.prepared()).carve(c.kernels(), c.workers(), nullptr).bytes;
}

Status run(CpuContext& c, const Window& window, const Tail& tail) {
  OCIOR_ASSIGN(const Geometry given, window.geometry(c.in(0).shape, c.in(1).shape));
  if (is_empty(given)) return {};
  const Geometry g = merged(given);
  const auto optional = [&c](int i) { return c.has(i) ? c.in(i).as<float>() : nullptr; };
  const Operands o{c.in(0).as<float>(), c.in(1).as<float>(), optional(2), optional(3), c.out(0).as<float>()};
  if (g.channels == 0) return run_bias(c.kernels(), g, o, tail), Status();
  switch (way_of(c.prepared(), g)) {
    case Way::kDepthwise: run_depthwise(c, g, o, tail); break;
    case Way::kRows: run_rows(c, g, o, tail); break;
    case Way::kColumns: run_columns(c, g, o, tail); break;
  }
  return {};
}

std::string describe(const Prepared* prepared) {
  if (!prepared) return "weights read as they are, or packed by each run";
  const Weights& w = *weights_of(prepared);
  return w.way == Way::kRows ? fmt::format("packed weights, pixels as rows, {}", nn::name_of(w.precision))
                             : std::string("packed weights, pixels as columns, highest");
}

}  // namespace ocior::ops::conv
