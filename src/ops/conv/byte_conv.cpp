#include "ops/conv/byte_conv.h"

#include <cstring>

#include "ops/conv/depthwise.h"
#include "ops/conv/pixels.h"
#include "ops/quant/integer_product.h"

namespace ocior::ops::conv {
namespace {

constexpr int64_t kStripBytes = 1 << 17;  // of a gathered strip
constexpr int64_t kMostPixels = 128;      // of a strip
constexpr int64_t kMostExactTaps = 256;   // products of 255 * 255 whose sum is exact in float
constexpr int64_t kSlack = 16;            // bytes that a copied piece may write behind its row
constexpr int64_t kStripOfDepthwise = 1024;

// One of bytes at `i`, or the only one.
int32_t byte_at(const quant::Operand& t, int64_t i) {
  return static_cast<int32_t>(get_int(t.dtype, t.data, element_count(t.shape) == 1 ? 0 : i));
}

// ---- weights ----

int64_t row_of_weights(int64_t k) { return (k + 1) / 2 * 2 + 32; }  // rows of one place in all do not meet in L1

// Rows of widened weights, and behind them the sums of each.
class ByteWeights final : public Prepared {
 public:
  const KernelTable* kernels = nullptr;
  quant::Operand w, zero;  // zero.data: null where it is omitted
  int64_t rows = 0, k = 0;
  const void* packed = nullptr;

  static size_t bytes(int64_t rows, int64_t k) {
    return nn::align64(static_cast<size_t>(rows * row_of_weights(k)) * sizeof(int16_t)) +
           static_cast<size_t>(rows) * sizeof(int32_t);
  }
  static const int16_t* values(const void* packed) { return static_cast<const int16_t*>(packed); }
  static const int32_t* sums(const void* packed, int64_t rows, int64_t k) {
    return reinterpret_cast<const int32_t*>(static_cast<const std::byte*>(packed) +
                                            nn::align64(static_cast<size_t>(rows * row_of_weights(k)) * sizeof(int16_t)));
  }
  // Row `row` of the form at `destination`.
  static void fill(const void* context, void* destination, int64_t row) {
    const auto& f = *static_cast<const ByteWeights*>(context);
    const int64_t ld = row_of_weights(f.k);
    int16_t* to = static_cast<int16_t*>(destination) + row * ld;
    int32_t* sum = const_cast<int32_t*>(sums(destination, f.rows, f.k)) + row;
    f.kernels->gemm_i8_pack_row(static_cast<const uint8_t*>(f.w.data) + row * f.k, f.w.dtype == DType::kInt8,
                                f.zero.data ? byte_at(f.zero, row) : 0, f.k, to, sum);
    std::fill(to + (f.k + 1) / 2 * 2, to + ld, int16_t{0});
  }
};

// ---- columns ----

struct ColumnCut {
  int64_t m, k, pixels, strip, strips;
  bool pointwise;

  ColumnCut(const KernelTable& kernels, const Geometry& g)
      : m(g.group_outputs()), k(g.group_channels() * g.taps()), pixels(g.pixels()), pointwise(is_pointwise(g)) {
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
  const int64_t taps = g.taps(), channels = g.group_channels(), plane = g.plane();
  const int64_t step = g.axes[static_cast<size_t>(g.spatial - 1)].stride;
  RowPiece pieces[Pixels::kMost];
  for (int64_t p = begin; p < end; p += Pixels::kMost) {
    const Pixels pixels(g, p, std::min(end, p + Pixels::kMost));
    TapWalk walk(g);
    for (int64_t t = 0; t < taps; ++t, walk.next()) {
      const int64_t count = pixels.pieces(walk.shift(), pieces);
      for (int64_t c = 0; c < channels; ++c) {
        const uint8_t* from = x + c * plane;
        uint8_t* row = to + (c * taps + t) * ld + (p - begin);
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

template <class T>
void centred(const T* x, int32_t zero, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(static_cast<int32_t>(x[i]) - zero);
}
void centred(DType t, const void* x, int64_t from, int32_t zero, int64_t n, float* to) {
  if (t == DType::kInt8) centred(static_cast<const int8_t*>(x) + from, zero, n, to);
  else centred(static_cast<const uint8_t*>(x) + from, zero, n, to);
}

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
    centred(o.x_type, o.x, i * g.plane(), o.x_zero, g.plane(), memory.x);
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
      centred(weights.dtype, weights.data, m * taps, w_zero ? byte_at(quant::Operand(*w_zero), m) : 0, taps, memory.w);
      c.kernels().depthwise_conv_f32(args, 0, h.out);
      for (int64_t p = 0; p < pixels; p += kStripOfDepthwise) {
        const int64_t n = std::min(kStripOfDepthwise, pixels - p);
        for (int64_t j = 0; j < n; ++j) memory.sums[j] = static_cast<int32_t>(memory.y[p + j]);
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
  weights->kernels = &c.kernels();
  weights->w = quant::Operand(*w);
  if (zero) weights->zero = quant::Operand(*zero);
  weights->rows = rows, weights->k = w->count() / rows;
  const std::string form =
      fmt::format("conv bytes {}x{}{}{}", rows, weights->k, w->dtype() == DType::kInt8 ? "" : " u8", zero ? " centred" : "");
  weights->packed = c.pack(form, ByteWeights::bytes(rows, weights->k), rows, &ByteWeights::fill, weights.get());
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
  const ColumnCut cut(c.kernels(), g);
  ColumnMemory::carve(carver, c.kernels(), cut);
  return carver.used() * workers + (c.prepared() ? 0 : nn::align64(ByteWeights::bytes(g.out_channels, cut.k)));
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
    plain.kernels = &c.kernels(), plain.w = quant::Operand(w), plain.rows = g.out_channels,
    plain.k = g.group_channels() * g.taps();
    if (w_zero) plain.zero = quant::Operand(*w_zero);
    nn::parallel_rows(c, plain.rows, plain.k, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) ByteWeights::fill(&plain, scratch, row);
    });
    o.weights = scratch;
    scratch = static_cast<std::byte*>(scratch) + nn::align64(ByteWeights::bytes(plain.rows, plain.k));
  }
  run_columns(c, g, o, sums, scratch);
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
      uint64_t r[kBlock];
      for (int64_t k = 0; k < kBlock; ++k) std::memcpy(&r[k], in + (i + k) * columns + j, sizeof r[k]);
      // Swaps what lies across the diagonal: bytes of neighbours, then pairs, then halves.
      const auto swap = [&r](int64_t a, int64_t b, int shift, uint64_t mask) {
        const uint64_t t = ((r[a] >> shift) ^ r[b]) & mask;
        r[b] ^= t, r[a] ^= t << shift;
      };
      for (int64_t k = 0; k < kBlock; k += 2) swap(k, k + 1, 8, 0x00ff00ff00ff00ffu);
      for (const int64_t k : {0, 1, 4, 5}) swap(k, k + 2, 16, 0x0000ffff0000ffffu);
      for (int64_t k = 0; k < 4; ++k) swap(k, k + 4, 32, 0x00000000ffffffffu);
      for (int64_t k = 0; k < kBlock; ++k) std::memcpy(out + (j + k) * ld_out + i, &r[k], sizeof r[k]);
    }
  plain(0, whole_rows, whole_columns, columns);
  plain(whole_rows, rows, 0, columns);
}

}  // namespace ocior::ops::conv
