#include "ops/conv/byte_conv.h"

#include <cstring>

#include "ops/conv/depthwise.h"
#include "ops/conv/pixels.h"
#include "ops/quant/integer_product.h"

namespace ocior::ops::conv {
namespace {

constexpr int64_t kStripBytes = 1 << 17;     // of a gathered strip
constexpr int64_t kMostPixels = 128;         // of a strip
constexpr int64_t kMostExactTaps = 256;      // products of 255 * 255 whose sum is exact in float
constexpr int64_t kSlack = 16;               // bytes that a copied piece may write behind its row
constexpr int64_t kStripOfDepthwise = 1024;  // elements

// One of bytes at `i`, or the only one.
int32_t byte_at(const quant::Operand& t, int64_t i) {
  return static_cast<int32_t>(get_int(t.dtype, t.data, element_count(t.shape) == 1 ? 0 : i));
}

// ---- weights ----

// The order of k: channel by channel, the taps of each; where both are several, pairs of channels (the last one with zeros when
// their number is odd), the taps of each, and both channels of the pair.
struct Order {
  int64_t channels, taps;

  bool paired() const { return channels > 1 && taps > 1; }
  int64_t k() const { return (paired() ? channels + channels % 2 : channels) * taps; }
  int64_t place(int64_t channel, int64_t tap) const {
    return paired() ? (channel / 2 * taps + tap) * 2 + channel % 2 : channel * taps + tap;
  }
};

int64_t row_of_weights(int64_t k) { return (k + 1) / 2 * 2 + 32; }  // rows of one place in all do not meet in L1

// Rows of widened weights, and behind them the sums of each.
class ByteWeights final : public Prepared {
 public:
  quant::Operand w, zero;  // zero.data: null where it is omitted
  int64_t rows = 0;
  Order order{};
  const void* packed = nullptr;

  static size_t sums_at(int64_t rows, int64_t k) {
    return nn::align64(static_cast<size_t>(rows * row_of_weights(k)) * sizeof(int16_t));
  }
  static size_t bytes(int64_t rows, int64_t k) { return sums_at(rows, k) + static_cast<size_t>(rows) * sizeof(int32_t); }
  static const int16_t* values(const void* packed) { return static_cast<const int16_t*>(packed); }
  static const int32_t* sums(const void* packed, int64_t rows, int64_t k) {
    return reinterpret_cast<const int32_t*>(static_cast<const std::byte*>(packed) + sums_at(rows, k));
  }
  // Row `row` of the form at `destination`.
  static void fill(const void* context, void* destination, int64_t row) {
    const auto& f = *static_cast<const ByteWeights*>(context);
    const int64_t ld = row_of_weights(f.order.k()), plain = f.order.channels * f.order.taps;
    int16_t* to = static_cast<int16_t*>(destination) + row * ld;
    std::fill_n(to, ld, int16_t{0});
    const auto* from = static_cast<const uint8_t*>(f.w.data) + row * plain;
    const int32_t zero = f.zero.data ? byte_at(f.zero, row) : 0;
    uint32_t sum = 0;
    for (int64_t c = 0; c < f.order.channels; ++c)
      for (int64_t t = 0; t < f.order.taps; ++t, ++from) {
        const int32_t v = (f.w.dtype == DType::kInt8 ? static_cast<int8_t>(*from) : *from) - zero;
        to[f.order.place(c, t)] = static_cast<int16_t>(v);
        sum += static_cast<uint32_t>(v);
      }
    const auto total = static_cast<int32_t>(sum);
    std::memcpy(static_cast<std::byte*>(destination) + sums_at(f.rows, f.order.k()) + static_cast<size_t>(row) * sizeof total,
                &total, sizeof total);
  }
};

// ---- columns ----

struct ColumnCut {
  Order order;
  int64_t m, k, pixels, strip, strips;
  bool pointwise;

  ColumnCut(const KernelTable& kernels, const Geometry& g)
      : order{g.group_channels(), g.taps()}, m(g.group_outputs()), k(order.k()), pixels(g.pixels()), pointwise(is_pointwise(g)) {
    const int64_t panel = kernels.gemm_i8_panel();
    strip =
        std::min(std::clamp(kStripBytes / std::max<int64_t>(1, k) / panel * panel, panel, kMostPixels), round_up(pixels, panel));
    strips = nn::chunks_of(pixels, strip);
  }
};

// A worker's memory.
struct ColumnMemory {
  uint8_t* gathered;  // [k, strip + kSlack]
  int8_t* packed;
  int32_t *zeros, *sums;  // [strip]; [kRows, strip]

  static ColumnMemory carve(nn::Carver& carver, const KernelTable& kernels, const ColumnCut& cut) {
    ColumnMemory m;
    m.gathered = carver.take<uint8_t>(cut.pointwise ? 0 : static_cast<size_t>(cut.k * (cut.strip + kSlack)));
    m.packed = carver.take<int8_t>(kernels.gemm_i8_b_bytes(cut.strip, cut.k));
    m.zeros = carver.take<int32_t>(static_cast<size_t>(cut.strip));
    m.sums = carver.take<int32_t>(static_cast<size_t>(std::min(cut.m, quant::kRows) * cut.strip));
    return m;
  }
};

// n bytes, by 16 where they may be read and written beyond the end.
void copy_piece(const uint8_t* from, const uint8_t* end, uint8_t* to, int64_t n) {
  if (end - from < n + kSlack) {
    std::memcpy(to, from, static_cast<size_t>(n));
    return;
  }
  for (int64_t i = 0; i < n; i += kSlack) std::memcpy(to + i, from + i, kSlack);
}

// The elements of x that pixels [begin, end) meet, `pad` in the padding: row c * taps + t of `to` holds channel c under tap t,
// rows ld apart. `x_end`: behind the last byte of the input. A piece may write behind its end what a later one replaces, or into
// slack.
void gather(const Geometry& g, const uint8_t* x, const uint8_t* x_end, int64_t begin, int64_t end, uint8_t pad, uint8_t* to,
            int64_t ld) {
  const Order order{g.group_channels(), g.taps()};
  const int64_t taps = order.taps, channels = order.channels, plane = g.plane();
  for (int64_t t = 0; t < taps && order.paired() && channels % 2; ++t)
    std::memset(to + order.place(channels, t) * ld, 0, static_cast<size_t>(end - begin));
  const int64_t step = g.axes[static_cast<size_t>(g.spatial - 1)].stride;
  RowPiece pieces[Pixels::kMost];
  for (int64_t p = begin; p < end; p += Pixels::kMost) {
    const Pixels pixels(g, p, std::min(end, p + Pixels::kMost));
    TapWalk walk(g);
    for (int64_t t = 0; t < taps; ++t, walk.next()) {
      const int64_t count = pixels.pieces(walk.shift(), pieces);
      for (int64_t c = 0; c < channels; ++c) {
        const uint8_t* from = x + c * plane;
        uint8_t* row = to + order.place(c, t) * ld + (p - begin);
        for (int64_t i = 0; i < count; ++i) {
          const RowPiece& piece = pieces[i];
          uint8_t* out = row + piece.to;
          std::memset(out, pad, static_cast<size_t>(piece.lo));
          if (step == 1) {
            if (piece.hi > piece.lo) copy_piece(from + piece.from + piece.lo, x_end, out + piece.lo, piece.hi - piece.lo);
          } else {
            for (int64_t j = piece.lo; j < piece.hi; ++j) out[j] = from[piece.from + j * step];
          }
          std::memset(out + piece.hi, pad, static_cast<size_t>(piece.n - piece.hi));
        }
      }
    }
  }
}

struct Operands {
  const uint8_t *x, *x_end;
  DType x_type;
  int32_t x_zero;
  const void* weights;  // as ByteWeights has them
};

void run_columns(CpuContext& c, const Geometry& g, const Operands& o, const ByteSums& sink, void* scratch) {
  const KernelTable& kernels = c.kernels();
  const ColumnCut cut(kernels, g);
  nn::Carver counter;
  ColumnMemory::carve(counter, kernels, cut);
  const uint8_t flip = quant::flip_of(o.x_type);
  const int64_t ld = row_of_weights(cut.k), plane = g.plane();
  c.team().parallel_for(g.batch * g.group * cut.strips, c.stop(), [&](int64_t task, int worker) {
    nn::Carver carver(static_cast<std::byte*>(scratch) + static_cast<size_t>(worker) * counter.used());
    const ColumnMemory memory = ColumnMemory::carve(carver, kernels, cut);
    const int64_t image = task / (g.group * cut.strips), group = task / cut.strips % g.group;
    const int64_t begin = task % cut.strips * cut.strip, n = std::min(cut.strip, cut.pixels - begin);
    const uint8_t* x = o.x + (image * g.channels + group * g.group_channels()) * plane;
    if (cut.pointwise) {
      kernels.gemm_i8_pack_b(x + begin, plane, false, flip, n, cut.k, 0, n, memory.packed);
    } else {
      gather(g, x, o.x_end, begin, begin + n, static_cast<uint8_t>(o.x_zero), memory.gathered, cut.strip + kSlack);
      kernels.gemm_i8_pack_b(memory.gathered, cut.strip + kSlack, false, flip, n, cut.k, 0, n, memory.packed);
    }
    const int32_t zero = o.x_zero - quant::centre_of(o.x_type);
    std::fill_n(memory.zeros, n, zero);
    for (int64_t m = 0; m < cut.m; m += quant::kRows) {
      if (c.stop() && c.stop()->requested()) return;
      const int64_t row = group * cut.m + m;
      ByteGemmArgs args;
      args.a = ByteWeights::values(o.weights) + row * ld, args.lda = ld;
      args.a_sums = ByteWeights::sums(o.weights, g.out_channels, cut.k) + row;
      args.b = memory.packed, args.b_zero = zero ? memory.zeros : nullptr;
      args.c = memory.sums, args.ldc = n;
      args.m = std::min(quant::kRows, cut.m - m), args.k = cut.k;
      kernels.gemm_i8(args, 0, n);
      for (int64_t i = 0; i < args.m; ++i) sink.take(image, row + i, begin, memory.sums + i * n, n);
    }
  });
}

// ---- in place ----

// Strides of 1: pairs of channels are interleaved inside their padding once, and every tap of a run of pixels is a stretch of
// that. The pixels of a row are followed by those that the window meets when it leaves the row, whose sums are passed over.
bool in_place(const Geometry& g) {
  const Axis& w = g.axes[static_cast<size_t>(g.spatial - 1)];
  for (int64_t i = 0; i < g.spatial; ++i)
    if (g.axes[static_cast<size_t>(i)].stride != 1) return false;
  return Order{g.group_channels(), g.taps()}.paired() && g.spatial <= 2 && has_modest_padding(g) &&
         2 * (w.kernel - 1) * w.dilation <= w.out;
}

struct InPlaceCut {
  Axis h, w;
  int64_t rows, columns;  // of a padded plane
  int64_t pairs, taps;    // of channels
  int64_t m, k;
  int64_t pixels, strip, strips;  // with those between the rows
  int64_t plane, group;           // bytes of an interleaved pair, with what may be read and written behind it; of a group

  InPlaceCut(const KernelTable& kernels, const Geometry& g)
      : h(g.spatial == 2 ? g.axes[0] : Axis{}), w(g.axes[static_cast<size_t>(g.spatial - 1)]) {
    const auto reach = [](const Axis& a) { return a.out + (a.kernel - 1) * a.dilation; };
    const Order order{g.group_channels(), g.taps()};
    rows = reach(h), columns = reach(w), pairs = (order.channels + 1) / 2, taps = order.taps;
    m = g.group_outputs(), k = order.k();
    pixels = (h.out - 1) * columns + w.out;
    const int64_t panel = kernels.gemm_i8_panel();
    strip = std::min(round_up(kMostPixels, panel), round_up(pixels, panel)), strips = nn::chunks_of(pixels, strip);
    plane = round_up(rows * columns * 2 + 2 * panel, 64), group = pairs * plane;
  }

  struct Shared {
    uint8_t* x;  // of one image
    int64_t* places;
  };
  Shared carve_shared(nn::Carver& carver, const Geometry& g) const {
    Shared s;
    s.x = carver.take<uint8_t>(static_cast<size_t>(g.group * group));
    s.places = carver.take<int64_t>(static_cast<size_t>(pairs * taps));
    return s;
  }
  struct Worker {
    int32_t *zeros, *sums;  // [strip]; [kRows, strip]
  };
  Worker carve_worker(nn::Carver& carver) const {
    Worker s;
    s.zeros = carver.take<int32_t>(static_cast<size_t>(strip));
    s.sums = carver.take<int32_t>(static_cast<size_t>(std::min(m, quant::kRows) * strip));
    return s;
  }

  // One pair of channels at x; `second`: there are two.
  void interleave(const KernelTable& kernels, const uint8_t* x, bool second, uint8_t flip, uint8_t pad, uint8_t* to) const {
    for (int64_t row = 0; row < rows; ++row, to += 2 * columns) {
      const int64_t from = row - h.before;
      if (from < 0 || from >= h.in) {
        std::memset(to, pad, static_cast<size_t>(2 * columns));
        continue;
      }
      std::memset(to, pad, static_cast<size_t>(2 * w.before));
      kernels.gemm_i8_pack_b(x + from * w.in, h.in * w.in, false, flip, w.in, second ? 2 : 1, 0, w.in,
                             reinterpret_cast<int8_t*>(to + 2 * w.before));
      std::memset(to + 2 * (w.before + w.in), pad, static_cast<size_t>(2 * (columns - w.before - w.in)));
    }
  }
};

void run_in_place(CpuContext& c, const Geometry& g, const Operands& o, const ByteSums& sink, void* scratch) {
  const KernelTable& kernels = c.kernels();
  const InPlaceCut cut(kernels, g);
  nn::Carver carver(scratch);
  const InPlaceCut::Shared shared = cut.carve_shared(carver, g);
  auto* const workers = carver.take(0);
  nn::Carver counter;
  cut.carve_worker(counter);
  int64_t* place = shared.places;
  for (int64_t pair = 0; pair < cut.pairs; ++pair)
    for (int64_t t = 0; t < cut.taps; ++t)
      *place++ = pair * cut.plane + 2 * (t / cut.w.kernel * cut.h.dilation * cut.columns + t % cut.w.kernel * cut.w.dilation);
  const uint8_t flip = quant::flip_of(o.x_type);
  const int32_t zero = o.x_zero - quant::centre_of(o.x_type);
  const auto pad = static_cast<uint8_t>(static_cast<uint8_t>(o.x_zero) ^ flip);
  const int64_t ld = row_of_weights(cut.k);
  for (int64_t image = 0; image < g.batch && !(c.stop() && c.stop()->requested()); ++image) {
    const uint8_t* x = o.x + image * g.channels * g.plane();
    c.team().parallel_for(g.group * cut.pairs, c.stop(), [&](int64_t task, int) {
      const int64_t group = task / cut.pairs, channel = 2 * (task % cut.pairs);
      cut.interleave(kernels, x + (group * g.group_channels() + channel) * g.plane(), channel + 1 < g.group_channels(), flip, pad,
                     shared.x + task * cut.plane);
    });
    c.team().parallel_for(g.group * cut.strips, c.stop(), [&](int64_t task, int worker) {
      nn::Carver mine(workers + static_cast<size_t>(worker) * counter.used());
      const InPlaceCut::Worker memory = cut.carve_worker(mine);
      const int64_t group = task / cut.strips, begin = task % cut.strips * cut.strip, n = std::min(cut.strip, cut.pixels - begin);
      std::fill_n(memory.zeros, n, zero);
      for (int64_t first = 0; first < cut.m; first += quant::kRows) {
        if (c.stop() && c.stop()->requested()) return;
        const int64_t row = group * cut.m + first;
        ByteGemmArgs args;
        args.a = ByteWeights::values(o.weights) + row * ld, args.lda = ld;
        args.a_sums = ByteWeights::sums(o.weights, g.out_channels, cut.k) + row;
        args.b = reinterpret_cast<const int8_t*>(shared.x + group * cut.group + 2 * begin), args.pairs = shared.places;
        args.b_zero = zero ? memory.zeros : nullptr;
        args.c = memory.sums, args.ldc = n;
        args.m = std::min(quant::kRows, cut.m - first), args.k = cut.k;
        kernels.gemm_i8(args, 0, n);
        for (int64_t i = 0; i < args.m; ++i)
          for (int64_t p = begin; p < begin + n;) {
            const int64_t y = p / cut.columns, at = p % cut.columns;
            const int64_t some = std::min(begin + n - p, cut.w.out - at);
            if (some > 0) sink.take(image, row + i, y * cut.w.out + at, memory.sums + i * n + (p - begin), some);
            p = std::min(begin + n, (y + 1) * cut.columns);
          }
      }
    });
  }
}

// ---- depthwise ----

bool by_channels(const Geometry& g) { return depthwise_pays(g) && g.taps() <= kMostExactTaps; }

// A worker's memory.
struct DepthwiseMemory {
  float *plane, *x, *y, *w;
  int32_t* sums;

  static DepthwiseMemory carve(nn::Carver& carver, const Geometry& g, const DepthwisePlan& plan) {
    DepthwiseMemory m;
    m.plane = carver.take<float>(static_cast<size_t>(plan.plane));
    m.x = carver.take<float>(static_cast<size_t>(g.plane()));
    m.y = carver.take<float>(static_cast<size_t>(g.pixels()));
    m.w = carver.take<float>(static_cast<size_t>(g.taps()));
    m.sums = carver.take<int32_t>(static_cast<size_t>(kStripOfDepthwise));
    return m;
  }
};

void run_by_channels(CpuContext& c, const Geometry& g, const Operands& o, const TensorView& weights, const TensorView* w_zero,
                     const ByteSums& sink, void* scratch) {
  const DepthwisePlan plan(g);
  const Axis& w = g.axes[static_cast<size_t>(g.spatial - 1)];
  const Axis h = g.spatial == 2 ? g.axes[0] : Axis{};
  nn::Carver counter;
  DepthwiseMemory::carve(counter, g, plan);
  const auto memory_of = [&](int64_t worker) {
    nn::Carver carver(static_cast<std::byte*>(scratch) + static_cast<size_t>(worker) * counter.used());
    return DepthwiseMemory::carve(carver, g, plan);
  };
  for (int64_t worker = 0; worker < c.team().size(); ++worker) std::fill_n(memory_of(worker).plane, plan.plane, 0.0f);
  const int64_t each = g.group_outputs(), pixels = g.pixels(), taps = g.taps();
  c.team().parallel_for(g.batch * g.channels, c.stop(), [&](int64_t i, int worker) {
    const DepthwiseMemory memory = memory_of(worker);
    c.kernels().bytes_to_f32(o.x + i * g.plane(), o.x_type == DType::kInt8, o.x_zero, memory.x, g.plane());
    copy_plane(c.kernels(), g, plan, memory.x, memory.plane);
    const DepthwiseArgs args{.x = memory.plane,
                             .ldx = plan.cols,
                             .w = memory.w,
                             .y = memory.y,
                             .out_h = h.out,
                             .out_w = w.out,
                             .kernel_h = h.kernel,
                             .kernel_w = w.kernel,
                             .stride_h = h.stride,
                             .stride_w = w.stride,
                             .dilation_h = h.dilation,
                             .dilation_w = w.dilation};
    for (int64_t m = i % g.channels * each; m < (i % g.channels + 1) * each; ++m) {
      c.kernels().bytes_to_f32(weights.as<uint8_t>() + m * taps, weights.dtype == DType::kInt8,
                               w_zero ? byte_at(quant::Operand(*w_zero), m) : 0, memory.w, taps);
      c.kernels().depthwise_conv_f32(args, 0, h.out);
      for (int64_t p = 0; p < pixels; p += kStripOfDepthwise) {
        const int64_t n = std::min(kStripOfDepthwise, pixels - p);
        c.kernels().f32_to_i32(memory.y + p, memory.sums, n);
        sink.take(i / g.channels, m, p, memory.sums, n);
      }
    }
  });
}

bool is_empty(const Geometry& g) { return g.batch * g.out_channels * g.pixels() == 0; }

}  // namespace

Result<std::unique_ptr<Prepared>> prepare_bytes(PrepareContext& c, const ByteInputs& inputs, const Window& window) {
  const Tensor* w = c.constant(inputs.w);
  const Tensor* zero = c.has(inputs.w_zero) ? c.constant(inputs.w_zero) : nullptr;
  const auto fits = [](const Tensor* t) {
    return t && t->dense() && (t->dtype() == DType::kInt8 || t->dtype() == DType::kUint8);
  };
  if (!fits(w) || w->rank() < 3 || w->count() == 0 || (c.has(inputs.w_zero) && !fits(zero))) return std::unique_ptr<Prepared>();
  const int64_t rows = w->shape()[0];
  if (zero && zero->count() != 1 && zero->count() != rows) return std::unique_ptr<Prepared>();
  if (w->shape()[1] == 1 && window.group > 1) return std::unique_ptr<Prepared>();  // reads w as it is
  auto weights = std::make_unique<ByteWeights>();
  weights->w = quant::Operand(*w);
  if (zero) weights->zero = quant::Operand(*zero);
  weights->rows = rows, weights->order = {w->shape()[1], w->count() / rows / w->shape()[1]};
  const int64_t k = weights->order.k();
  const std::string form = fmt::format("conv bytes {}x{} taps {}{}{}", rows, k, weights->order.taps,
                                       w->dtype() == DType::kInt8 ? "" : " u8", zero ? " centred" : "");
  weights->packed = c.pack(form, ByteWeights::bytes(rows, k), rows, &ByteWeights::fill, weights.get());
  if (!weights->packed) return std::unique_ptr<Prepared>();
  c.release(inputs.w);
  return std::unique_ptr<Prepared>(std::move(weights));
}

size_t byte_scratch(const BindContext& c, const Geometry& g) {
  if (is_empty(g)) return 0;
  const auto workers = static_cast<size_t>(std::max(1, c.workers()));
  nn::Carver carver;
  if (!c.prepared() && by_channels(g)) {
    DepthwiseMemory::carve(carver, g, DepthwisePlan(g));
    return carver.used() * workers;
  }
  const Order order{g.group_channels(), g.taps()};
  const size_t weights = c.prepared() ? 0 : nn::align64(ByteWeights::bytes(g.out_channels, order.k()));
  if (in_place(g)) {
    const InPlaceCut cut(c.kernels(), g);
    cut.carve_shared(carver, g);
    nn::Carver worker;
    cut.carve_worker(worker);
    return weights + carver.used() + worker.used() * workers;
  }
  ColumnMemory::carve(carver, c.kernels(), ColumnCut(c.kernels(), g));
  return weights + carver.used() * workers;
}

Status run_bytes(CpuContext& c, const ByteInputs& inputs, const Geometry& g, const uint8_t* x, const ByteSums& sums,
                 void* scratch) {
  const TensorView* x_zero = c.has(inputs.x_zero) ? &c.in(inputs.x_zero) : nullptr;
  const TensorView* w_zero = c.has(inputs.w_zero) ? &c.in(inputs.w_zero) : nullptr;
  if (x_zero && x_zero->count() != 1)
    return error(Code::kInvalidArgument, "input {} has {} zero points; expected 1", inputs.x_zero, x_zero->count());
  if (w_zero && w_zero->count() != 1 && w_zero->count() != g.out_channels)
    return error(Code::kInvalidArgument, "input {} has {} zero points; expected 1 or {}", inputs.w_zero, w_zero->count(),
                 g.out_channels);
  if (is_empty(g)) return {};
  Operands o{.x = x,
             .x_end = x + g.batch * g.channels * g.plane(),
             .x_type = c.in(inputs.x).dtype,
             .x_zero = x_zero ? byte_at(quant::Operand(*x_zero), 0) : 0,
             .weights = nullptr};
  const TensorView& w = c.in(inputs.w);
  const auto* prepared = static_cast<const ByteWeights*>(c.prepared());
  if (!prepared && by_channels(g)) {
    run_by_channels(c, g, o, w, w_zero, sums, scratch);
    return {};
  }
  if (prepared) {
    o.weights = prepared->packed;
  } else {
    ByteWeights plain;
    plain.w = quant::Operand(w), plain.rows = g.out_channels, plain.order = {g.group_channels(), g.taps()};
    if (w_zero) plain.zero = quant::Operand(*w_zero);
    const int64_t k = plain.order.k();
    nn::parallel_rows(c, plain.rows, k, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) ByteWeights::fill(&plain, scratch, row);
    });
    o.weights = scratch;
    scratch = static_cast<std::byte*>(scratch) + nn::align64(ByteWeights::bytes(plain.rows, k));
  }
  if (in_place(g)) run_in_place(c, g, o, sums, scratch);
  else run_columns(c, g, o, sums, scratch);
  return {};
}

void transpose_bytes(const uint8_t* in, int64_t rows, int64_t columns, uint8_t* out, int64_t ld_out) {
  constexpr int64_t kBlock = 8;
  const auto plain = [&](int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
    for (int64_t i = i0; i < i1; ++i)
      for (int64_t j = j0; j < j1; ++j) out[j * ld_out + i] = in[i * columns + j];
  };
  const int64_t whole_rows = rows / kBlock * kBlock, whole_columns = columns / kBlock * kBlock;
  for (int64_t i = 0; i < whole_rows; i += kBlock)
    for (int64_t j = 0; j < whole_columns; j += kBlock) {
      const auto row = [&](int64_t k) {
        uint64_t bytes;
        std::memcpy(&bytes, in + (i + k) * columns + j, sizeof bytes);
        return bytes;
      };
      uint64_t r[kBlock] = {row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)};
      // Swaps what lies across the diagonal: bytes of neighbours, then pairs, then halves. Written out, so that all stays in
      // registers.
      const auto swap = [](uint64_t& low, uint64_t& high, int shift, uint64_t mask) {
        const uint64_t t = ((low >> shift) ^ high) & mask;
        high ^= t, low ^= t << shift;
      };
      constexpr uint64_t kBytes = 0x00ff00ff00ff00ffu, kPairs = 0x0000ffff0000ffffu, kHalves = 0x00000000ffffffffu;
      swap(r[0], r[1], 8, kBytes), swap(r[2], r[3], 8, kBytes), swap(r[4], r[5], 8, kBytes), swap(r[6], r[7], 8, kBytes);
      swap(r[0], r[2], 16, kPairs), swap(r[1], r[3], 16, kPairs), swap(r[4], r[6], 16, kPairs), swap(r[5], r[7], 16, kPairs);
      swap(r[0], r[4], 32, kHalves), swap(r[1], r[5], 32, kHalves), swap(r[2], r[6], 32, kHalves), swap(r[3], r[7], 32, kHalves);
      for (int64_t k = 0; k < kBlock; ++k) std::memcpy(out + (j + k) * ld_out + i, &r[k], sizeof r[k]);
    }
  plain(0, whole_rows, whole_columns, columns);
  plain(whole_rows, rows, 0, columns);
}

}  // namespace ocior::ops::conv
