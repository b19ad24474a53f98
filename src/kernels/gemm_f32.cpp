// The fp32 matrix product: register tiles over packed panels of B, small and large M from the same panels. Compiled once per ISA.
// Blocking after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008): a slice of one panel stays in
// L1 while the rows of A pass by; here the packed B is the long-lived operand and A is read in place.
#include "kernels/gemm_f32.h"

#include "kernels/gemm_epilogue.h"

namespace ocior::OCIOR_ISA {
namespace {

constexpr int64_t kMaxRows = 192;  // rows of a chunk: bounds the partial sums on the stack
constexpr int64_t kDepth = 512;    // k of a panel's slice
constexpr int64_t kMaxPanels = 4;  // panels side by side when there are few rows

// One call of a register tile.
struct Tile {
  const float* a;
  int64_t lda;
  const float* b;
  int64_t b_panel;  // floats between two panels
  int64_t k;
  const float* in;  // earlier sums, row stride kPanel; null: zeros
  float* out;
  int64_t ld_out;
  const float* bias;  // null: out receives the bare sums
  float alpha;
  Activation act;  // a light one
  float lo, hi;    // of kRelu and kClip
  const float* residual;
  int64_t ld_residual;
  const char* ahead;  // what to bring near while computing, one line per kUnroll steps
  int64_t ahead_step;
};

constexpr int kUnroll = 4;

// The sums of kRows rows times kPanels panels.
template <int kRows, int kPanels>
struct Sums {
  static constexpr int kVecs = kTileVecs * kPanels;
  F32 v[kRows][kVecs];

  OCIOR_INLINE void start(const Tile& t) {
    OCIOR_UNROLL for (int i = 0; i < kRows; ++i) OCIOR_UNROLL for (int j = 0; j < kVecs; ++j) v[i][j] =
        t.in == nullptr ? zero() : load(t.in + i * kPanel + j * kLanes);
  }

  // Adds a[i * lda] * b[...] for one k.
  OCIOR_INLINE void step(const float* const (&a)[(kRows + 2) / 3], int64_t lda, int64_t k, const float* b, int64_t b_panel) {
    F32 row[kVecs];
    OCIOR_UNROLL for (int j = 0; j < kVecs; ++j) row[j] = load(b + (j / kTileVecs) * b_panel + (j % kTileVecs) * kLanes);
    OCIOR_UNROLL for (int i = 0; i < kRows; ++i) {
      const F32 x = load_splat(a[i / 3] + (i % 3) * lda + k);
      OCIOR_UNROLL for (int j = 0; j < kVecs; ++j) accumulate(v[i][j], x, row[j]);
    }
  }

  OCIOR_INLINE void finish(const Tile& t) {
    OCIOR_UNROLL for (int i = 0; i < kRows; ++i) OCIOR_UNROLL for (int j = 0; j < kVecs; ++j) {
      F32 y = v[i][j];
      if (t.bias != nullptr) y = fma(y, splat(t.alpha), load(t.bias + j * kLanes));
      if (t.act == Activation::kHardSwish) y = hard_swish(y);
      else if (t.act != Activation::kNone) y = min(splat(t.hi), max(splat(t.lo), y));
      if (t.residual != nullptr) y = y + load(t.residual + i * t.ld_residual + j * kLanes);
      store(y, t.out + i * t.ld_out + j * kLanes);
    }
  }
};

template <int kRows, int kPanels>
__attribute__((noinline)) void run_tile(const Tile& t) {
  Sums<kRows, kPanels> sums;
  sums.start(t);
  // Groups of three rows share an address register: the addressing modes give a, a + lda and a + 2 lda.
  const float* a[(kRows + 2) / 3];
  OCIOR_UNROLL for (int g = 0; g < (kRows + 2) / 3; ++g) a[g] = t.a + 3 * g * t.lda;
  const float* b = t.b;
  const char* ahead = t.ahead;
  const int64_t lda = t.lda, b_panel = t.b_panel, ahead_step = t.ahead_step;
  int64_t k = 0;
  for (; k + kUnroll <= t.k; k += kUnroll) {
    __builtin_prefetch(ahead, 0, 2);
    ahead += ahead_step;
    OCIOR_UNROLL for (int u = 0; u < kUnroll; ++u) sums.step(a, lda, u, b + u * kPanel, b_panel);
    b += kUnroll * kPanel;
    OCIOR_UNROLL for (int g = 0; g < (kRows + 2) / 3; ++g) a[g] += kUnroll;
  }
  for (int64_t rest = 0; k + rest < t.k; ++rest) sums.step(a, lda, rest, b + rest * kPanel, b_panel);
  sums.finish(t);
}

using TileFn = void (*)(const Tile&);

// How many panels a tile of `rows` rows can take side by side.
constexpr int panels_for(int rows) {
  const int fit = kTileRegisters / (rows * kTileVecs);
  return fit < 1 ? 1 : fit > kMaxPanels ? kMaxPanels : fit;
}

template <int kPanels, int kRows>
constexpr TileFn tile_or_null() {
  if constexpr (kRows * kPanels * kTileVecs <= kTileRegisters) return &run_tile<kRows, kPanels>;
  else return nullptr;
}

// kTiles[panels - 1][rows - 1]
struct TileTable {
  TileFn fn[kMaxPanels][kTileRows];
};
template <int... kRow>
struct RowList {};
template <int kCount, int... kRow>
struct MakeRows : MakeRows<kCount - 1, kCount, kRow...> {};
template <int... kRow>
struct MakeRows<0, kRow...> {
  using Type = RowList<kRow...>;
};
template <int... kRow>
constexpr TileTable make_tiles(RowList<kRow...>) {
  return {
      {{tile_or_null<1, kRow>()...}, {tile_or_null<2, kRow>()...}, {tile_or_null<3, kRow>()...}, {tile_or_null<4, kRow>()...}}};
}
constexpr TileTable kTiles = make_tiles(MakeRows<kTileRows>::Type{});

// The part of the work that all tiles of one panel group share.
struct Group {
  const float* bias;  // readable for all columns of the group
  int64_t n0, cols;   // cols: columns that exist
  int64_t panels;
};

// One register tile of the last slice: straight into C, or through a buffer where columns are missing or the activation is
// costly.
void last_tile(const GemmArgs& args, const Group& group, Tile& tile, int64_t m0, int64_t rows) {
  const Epilogue& e = args.epilogue;
  const TileFn fn = kTiles.fn[group.panels - 1][rows - 1];
  const int64_t width = group.panels * kPanel;
  if (group.cols == width && is_light(e)) {
    tile.out = args.c + m0 * args.ldc + group.n0;
    tile.ld_out = args.ldc;
    tile.bias = group.bias;
    tile.alpha = e.alpha;
    tile.act = e.act;
    tile.lo = e.act == Activation::kClip ? e.lo : 0;
    tile.hi = e.act == Activation::kClip ? e.hi : __builtin_inff();
    tile.residual = e.residual == nullptr ? nullptr : e.residual + m0 * e.ld_residual + group.n0;
    tile.ld_residual = e.ld_residual;
    return fn(tile);
  }
  alignas(64) float sums[kTileRegisters * kLanes];
  tile.out = sums;
  tile.ld_out = width;
  tile.bias = nullptr;
  tile.act = Activation::kNone;
  tile.residual = nullptr;
  fn(tile);
  finish(args, sums, width, group.bias, m0, group.n0, rows, group.cols);
}

// Rows [m0, m1) times one panel, in slices of kDepth: the sums wait in `partial` between two slices.
void panel_by_slices(const GemmArgs& args, const Group& group, const float* a, int64_t lda, const float* b, int64_t m0,
                     int64_t m1, float* partial) {
  const int64_t rows = m1 - m0, blocks = (rows + kTileRows - 1) / kTileRows;
  const int64_t slices = args.k <= kDepth ? 1 : (args.k + kDepth - 1) / kDepth;
  const int64_t depth = round_up((args.k + slices - 1) / slices, kUnroll);
  const int64_t least = rows / blocks, longer = rows % blocks;  // rows of a block; blocks with one more
  int64_t k0 = 0;
  do {
    const int64_t k = args.k - k0 < depth ? args.k - k0 : depth;
    const bool last = k0 + k == args.k;
    const float* slice = b + k0 * kPanel;
    // Every row block fetches its share of the next slice, one line per kUnroll steps at most.
    const int64_t share = round_up(k * kPanel * 4 / blocks, 64);
    Tile tile = {};
    tile.lda = lda, tile.b = slice, tile.k = k, tile.ld_out = kPanel, tile.alpha = 1;
    tile.ahead = reinterpret_cast<const char*>(slice + k * kPanel);
    tile.ahead_step = k < kUnroll ? 0 : share / (k / kUnroll);
    int64_t row = 0;
    for (int64_t block = 0; block < blocks; ++block, tile.ahead += share) {
      const int64_t count = least + (block < longer ? 1 : 0);
      float* waiting = partial + row * kPanel;
      tile.a = a + row * lda + k0;
      tile.in = k0 == 0 ? nullptr : waiting;
      tile.out = waiting;
      if (last) last_tile(args, group, tile, m0 + row, count);
      else kTiles.fn[0][count - 1](tile);
      row += count;
    }
    k0 += k;
  } while (k0 < args.k);
}

// Up to kTileRows rows times columns [n0, n1), several panels side by side: B is read once, as fast as memory gives it.
void few_rows(const GemmArgs& args, const float* a, int64_t lda, const float* b, int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
  constexpr int64_t kDistance = 2048;  // bytes fetched ahead of use in the first panel's stream
  const int64_t rows = m1 - m0, most = panels_for(static_cast<int>(rows));
  alignas(64) float padded[kMaxPanels * kPanel];
  while (n0 < n1) {
    const int64_t left = (n1 - n0 + kPanel - 1) / kPanel, panels = left < most ? left : most, width = panels * kPanel;
    const Group group = {panel_bias(args, n0, width, padded), n0, n1 - n0 < width ? n1 - n0 : width, panels};
    const float* first = b + n0 * args.k;
    Tile tile = {};
    tile.a = a, tile.lda = lda, tile.b = first, tile.b_panel = args.k * kPanel, tile.k = args.k, tile.alpha = 1;
    tile.ahead = reinterpret_cast<const char*>(first) + kDistance;
    tile.ahead_step = kUnroll * kPanel * 4;
    last_tile(args, group, tile, m0, rows);
    n0 += width;
  }
}

}  // namespace

size_t f32_b_bytes(int64_t n, int64_t k) {
  return static_cast<size_t>(round_up(n, kPanel)) * static_cast<size_t>(k) * sizeof(float);
}

void transpose_f32(const float* in, int64_t ld_in, float* out, int64_t ld_out, int64_t m, int64_t n);  // transpose.cpp

void f32_pack_b(const float* b, int64_t ldb, bool transposed, int64_t n, int64_t k, int64_t n0, int64_t n1, float* packed) {
  if (k == 0) return;  // nothing is stored, and `packed` may be null
  for (int64_t p = n0; p < n1; p += kPanel) {
    float* to = packed + p * k;
    const int64_t cols = n - p < kPanel ? n - p : kPanel;
    if (cols < kPanel) __builtin_memset(to, 0, static_cast<size_t>(kPanel * k) * sizeof(float));
    if (transposed) {
      transpose_f32(b + p * ldb, ldb, to, kPanel, k, cols);
      continue;
    }
    for (int64_t i = 0; i < k; ++i) __builtin_memcpy(to + i * kPanel, b + i * ldb + p, static_cast<size_t>(cols) * sizeof(float));
  }
}

// A is read in place unless its rows would fall on the same few L1 sets (kTileRows rows at a stride near a multiple of 2 KiB) and
// it is read often enough to pay for a copy. The copy has the same form with rows one cache line longer.
size_t f32_a_bytes(int64_t m, int64_t n, int64_t k) {
  const bool collides = kTileRows > 8 && k * 4 % 2048 == 0;
  if (!collides || m <= 3 * kTileRows || n < 8 * kPanel) return 0;
  return static_cast<size_t>(m) * static_cast<size_t>(k + 16) * sizeof(float);
}

void f32_pack_a(const GemmArgs& args, int64_t m0, int64_t m1) {
  float* to = static_cast<float*>(args.a_packed);
  for (int64_t i = m0; i < m1; ++i)
    __builtin_memcpy(to + i * (args.k + 16), args.a + i * args.lda, static_cast<size_t>(args.k) * sizeof(float));
}

GemmGrid cut(int64_t m, int64_t n, int64_t k, int64_t row_unit, int64_t max_rows, int64_t column_unit, int64_t work) {
  if (m <= 0 || n <= 0) return GemmGrid{row_unit, column_unit, 0, 0};
  const int64_t depth = k < 1 ? 1 : k;
  int64_t rows = work / depth / column_unit / row_unit * row_unit;  // so that one column unit is no more than `work`
  rows = rows < row_unit ? row_unit : rows > max_rows ? max_rows : rows;
  const int64_t m_chunks = (m + rows - 1) / rows, m_step = round_up((m + m_chunks - 1) / m_chunks, row_unit);
  const int64_t real_rows = m < m_step ? m : m_step;
  int64_t cols = work / depth / real_rows / column_unit;
  cols = (cols < 1 ? 1 : cols) * column_unit;
  const int64_t n_chunks = (n + cols - 1) / cols, n_step = round_up((n + n_chunks - 1) / n_chunks, column_unit);
  return GemmGrid{m_step, n_step, (m + m_step - 1) / m_step, (n + n_step - 1) / n_step};
}

GemmGrid f32_grid(int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kWork = OCIOR_VEC_BYTES == 64 ? 12 << 20 : OCIOR_VEC_BYTES == 32 ? 6 << 20 : 2 << 20;  // 0.1 to 0.3 ms
  return cut(m, n, k, kTileRows, kMaxRows / kTileRows * kTileRows, kPanel, kWork);
}

void f32_block(const GemmArgs& args, int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
  const float* b = static_cast<const float*>(args.b);
  const int64_t lda = args.a_packed == nullptr ? args.lda : args.k + 16;
  const float* a = (args.a_packed == nullptr ? args.a : static_cast<const float*>(args.a_packed)) + m0 * lda;
  if (m1 - m0 <= kTileRows) return few_rows(args, a, lda, b, m0, m1, n0, n1);
  alignas(64) float partial[kMaxRows * kPanel];
  alignas(64) float padded[kPanel];
  for (int64_t n = n0; n < n1; n += kPanel) {
    const Group group = {panel_bias(args, n, kPanel, padded), n, n1 - n < kPanel ? n1 - n : kPanel, 1};
    panel_by_slices(args, group, a, lda, b + n * args.k, m0, m1, partial);
  }
}

}  // namespace ocior::OCIOR_ISA
