// The matrix product on AMX tiles: bf16 products summed in fp32, with one, two or three bf16 parts per operand (medium, high,
// highest).
//
// A block of 32 rows and 32 columns lives in four tiles while k passes by. A is packed by tiles_pack_a into contiguous tiles
// [32 rows][k / 32][part][16 rows]; B is packed once (medium) or split from its fp32 panel per slice of k and panel, so that
// memory holds no more than fp32 weights. Between two slices the sums wait in a buffer on the stack; a slice of B's parts stays
// in L1 while the rows of A pass by from L2. The order of a sum depends on k and the number of parts alone.
#include "kernels/x86/amx_gemm.h"

#include "kernels/bf16_split.h"
#include "kernels/gemm_epilogue.h"
#include "kernels/gemm_f32.h"
#include "simd/amx.h"

namespace ocior::OCIOR_ISA {
namespace {

static_assert(kPanel == 32 && kLanes == 16, "a panel of B is two tiles wide");

constexpr int64_t kBlock = 32;             // rows of a block
constexpr int64_t kMaxRows = 256;          // rows of a chunk: bounds the sums on the stack
constexpr int64_t kPair = 2 * kTileBytes;  // two tiles side by side
constexpr int64_t kSumRow = kPanel * sizeof(float);

// Tiles of k in a slice: 24 KiB of B's parts, or 16 KiB where they are read in place.
constexpr int64_t slice_tiles(int parts) { return parts == 3 ? 4 : parts == 2 ? 6 : 8; }

int64_t k_tiles(int64_t k) { return (k + kTileK - 1) / kTileK; }

// Row tiles of a packed A: all rows in one tile, or two per block.
int64_t row_tiles(int64_t m) { return m <= 16 ? 1 : 2; }

// 32 rows of k from an fp32 panel (zeros from row `k` on) as kParts pairs of tiles: word (k / 2, n) of a tile holds k even and
// odd.
template <int kParts>
void split_b(const float* panel, int64_t k, char* to) {
  for (int64_t r = 0; r < 16; ++r)
    for (int64_t half = 0; half < 2; ++half) {
      const float* p = panel + 2 * r * kPanel + half * kLanes;
      const Split<kParts> even = split<kParts>(2 * r < k ? load(p) : zero()),
                          odd = split<kParts>(2 * r + 1 < k ? load(p + kPanel) : zero());
      OCIOR_UNROLL for (int part = 0; part < kParts; ++part) {
        const I32 word = shift_right_logical<16>(even.part[part]) | (odd.part[part] & splat_int(kHighHalf));
        store_int(word, reinterpret_cast<int32_t*>(to + part * kPair + half * kTileBytes + r * 64));
      }
    }
}

// One row of 32 values of A (those from `k` on are zero) into row r of kParts tiles, `stride` bytes apart.
template <int kParts>
OCIOR_INLINE void split_a(const float* a, int64_t k, int64_t stride, char* to) {
  typedef uint16_t Narrow __attribute__((vector_size(32)));
  for (int64_t half = 0; half < 2; ++half) {
    const int64_t left = k - half * kLanes;
    const F32 x = left >= kLanes ? load(a + half * kLanes) : left > 0 ? load(a + half * kLanes, left, 0) : zero();
    const Split<kParts> s = split<kParts>(x);
    OCIOR_UNROLL for (int part = 0; part < kParts; ++part) {
      const Narrow word = __builtin_convertvector((I32::U)shift_right_logical<16>(s.part[part]).v, Narrow);
      __builtin_memcpy(to + part * stride + half * 32, &word, sizeof word);
    }
  }
}

template <int kParts>
void pack_rows(const GemmArgs& args, int64_t m0, int64_t m1) {
  const int64_t tiles = row_tiles(args.m), block = tiles * 16, kts = k_tiles(args.k), part = tiles * kTileBytes;
  for (int64_t m = m0; m < round_up(m1, block); ++m) {
    char* row = static_cast<char*>(args.a_packed) + m / block * kts * kParts * part + m % block / 16 * kTileBytes + m % 16 * 64;
    for (int64_t kt = 0; kt < kts; ++kt) {
      const int64_t k0 = kt * kTileK;
      split_a<kParts>(m < args.m ? args.a + m * args.lda + k0 : nullptr, m < args.m ? args.k - k0 : 0, part,
                      row + kt * kParts * part);
    }
  }
}

// One slice of k for one block: what is multiplied, and where the sums wait.
struct Slice {
  const char* a;    // [tiles][part][row tile]
  const char* b;    // [tiles][part][2]
  int64_t b_panel;  // bytes to the next panel's b (two panels side by side)
  int64_t tiles;
  float* sums;  // [32][kPanel]; the next panel's follow
  bool first;
  const char* ahead;  // brought near meanwhile, `ahead_lines` lines per tile of k
  int64_t ahead_lines;
};

constexpr int64_t kSums = kBlock * kPanel;

// Sums are tiles 0 to 3, A 4 and 5, B 6 and 7 (and 5 with two panels, where A has one tile).
template <int kRowTiles>
struct Block {
  OCIOR_INLINE static void load_sums(const float* s) {
    tile_load<0>(s, kSumRow);
    tile_load<1>(s + 16, kSumRow);
    if constexpr (kRowTiles == 2) tile_load<2>(s + 16 * kPanel, kSumRow);
    if constexpr (kRowTiles == 2) tile_load<3>(s + 16 * kPanel + 16, kSumRow);
  }
  OCIOR_INLINE static void store_sums(float* s) {
    tile_store<0>(s, kSumRow);
    tile_store<1>(s + 16, kSumRow);
    if constexpr (kRowTiles == 2) tile_store<2>(s + 16 * kPanel, kSumRow);
    if constexpr (kRowTiles == 2) tile_store<3>(s + 16 * kPanel + 16, kSumRow);
  }
  OCIOR_INLINE static void load_a(const char* a) {
    tile_load<4>(a, 64);
    if constexpr (kRowTiles == 2) tile_load<5>(a + kTileBytes, 64);
  }
  OCIOR_INLINE static void load_b(const char* b) {
    tile_load<6>(b, 64);
    tile_load<7>(b + kTileBytes, 64);
  }
  OCIOR_INLINE static void multiply() {
    tile_multiply<0, 4, 6>();
    tile_multiply<1, 4, 7>();
    if constexpr (kRowTiles == 2) tile_multiply<2, 5, 6>();
    if constexpr (kRowTiles == 2) tile_multiply<3, 5, 7>();
  }
};

OCIOR_INLINE void zero_sums() {
  tile_zero<0>();
  tile_zero<1>();
  tile_zero<2>();
  tile_zero<3>();
}

// One or two row tiles times one panel. Of the products of the parts the smallest come first; those below 2^-24 are left out.
template <int kRowTiles, int kParts>
void multiply_block(const Slice& s, int64_t a_tile) {
  using B = Block<kRowTiles>;
  if (s.first) zero_sums();
  else B::load_sums(s.sums);
  const char *a = s.a, *b = s.b, *ahead = s.ahead;
  const int64_t part = a_tile * kTileBytes;
  for (int64_t t = 0; t < s.tiles; ++t) {
    for (int64_t i = 0; i < s.ahead_lines; ++i, ahead += 64) __builtin_prefetch(ahead, 0, 2);
    if constexpr (kParts == 1) {
      B::load_a(a), B::load_b(b), B::multiply();
    } else if constexpr (kParts == 2) {
      B::load_a(a + part), B::load_b(b), B::multiply();
      B::load_a(a), B::load_b(b + kPair), B::multiply();
      B::load_b(b), B::multiply();
    } else {
      B::load_a(a), B::load_b(b + 2 * kPair), B::multiply();
      B::load_a(a + part), B::load_b(b + kPair), B::multiply();
      B::load_a(a + 2 * part), B::load_b(b), B::multiply();
      B::load_a(a + part), B::multiply();
      B::load_a(a), B::load_b(b + kPair), B::multiply();
      B::load_b(b), B::multiply();
    }
    a += kParts * part;
    b += kParts * kPair;
  }
  B::store_sums(s.sums);
}

// Up to 16 rows times two panels in one pass: four streams of tiles keep the multiplier busy where there is one tile of A.
void multiply_two_panels(const Slice& s) {
  zero_sums();
  const char *a = s.a, *b = s.b;
  for (int64_t t = 0; t < s.tiles; ++t) {
    for (int64_t line = 0; line < kPair; line += 64) __builtin_prefetch(b + 2 * kPair + line, 0, 3);
    tile_load<4>(a, 64);
    tile_load<5>(b, 64);
    tile_multiply<0, 4, 5>();
    tile_load<6>(b + kTileBytes, 64);
    tile_multiply<1, 4, 6>();
    tile_load<7>(b + s.b_panel, 64);
    tile_multiply<2, 4, 7>();
    tile_load<5>(b + s.b_panel + kTileBytes, 64);
    tile_multiply<3, 4, 5>();
    a += kTileBytes;
    b += kPair;
  }
  tile_store<0>(s.sums, kSumRow);
  tile_store<1>(s.sums + 16, kSumRow);
  tile_store<2>(s.sums + kSums, kSumRow);
  tile_store<3>(s.sums + kSums + 16, kSumRow);
}

bool all_finite(const float* sums, int64_t cols) {
  const F32 low = load(sums), high = load(sums + kLanes);
  Mask bad = is_nan(low - low) & first(cols < kLanes ? cols : kLanes);
  if (cols > kLanes) bad = bad | (is_nan(high - high) & first(cols - kLanes));
  return !any(bad);
}

// Finished sums to C. With infinities, NaN or an overflow in play the parts' products can meet as inf - inf or inf * 0: such rows
// are computed again by the fp32 kernel where B has the fp32 form, so that a result is finite, infinite or NaN as fp32 arithmetic
// has it.
void finish_block(const GemmArgs& args, const float* sums, int64_t m0, int64_t rows, int64_t n0) {
  alignas(64) float padded[kPanel];
  const float* bias = panel_bias(args, n0, kPanel, padded);
  const int64_t cols = args.n - n0 < kPanel ? args.n - n0 : kPanel;
  int64_t done = 0;
  if (!tiles_store_b(args.n, args.k, args.precision)) {
    GemmArgs plain = args;
    plain.a_packed = nullptr;
    for (int64_t i = 0; i < rows; ++i) {
      if (all_finite(sums + i * kPanel, cols)) continue;
      finish(args, sums + done * kPanel, kPanel, bias, m0 + done, n0, i - done, cols);
      f32_block(plain, m0 + i, m0 + i + 1, n0, n0 + cols);
      done = i + 1;
    }
  }
  finish(args, sums + done * kPanel, kPanel, bias, m0 + done, n0, rows - done, cols);
}

// Rows [m0, m1) times the panel at column n, slice after slice of k.
template <int kParts>
void multiply_panel(const GemmArgs& args, int64_t m0, int64_t m1, int64_t n, float* sums) {
  const bool stored = tiles_store_b(args.n, args.k, args.precision);
  const int64_t kts = k_tiles(args.k), a_tile = row_tiles(args.m), blocks = (m1 - m0 + kBlock - 1) / kBlock;
  const int64_t a_step = kParts * a_tile * kTileBytes, b_step = kParts * kPair, most = slice_tiles(kParts);
  const char* a = static_cast<const char*>(args.a_packed) + m0 / 16 / a_tile * kts * a_step;
  alignas(64) char parts[slice_tiles(kParts) * kParts * kPair];
  for (int64_t t = 0; t < kts; t += most) {
    const int64_t tiles = kts - t < most ? kts - t : most, k0 = t * kTileK;
    const char* b = parts;
    const char* next;
    int64_t bytes;
    if (stored) {
      b = static_cast<const char*>(args.b) + (n / kPanel * kts + t) * kPair;
      next = b + tiles * kPair;
      bytes = tiles * kPair;
    } else {
      const float* panel = static_cast<const float*>(args.b) + n * args.k + k0 * kPanel;
      for (int64_t i = 0; i < tiles; ++i)
        split_b<kParts>(panel + i * kTileK * kPanel, args.k - k0 - i * kTileK, parts + i * b_step);
      next = reinterpret_cast<const char*>(panel + tiles * kTileK * kPanel);
      bytes = tiles * kTileK * kSumRow;
    }
    const int64_t lines = (bytes / 64 + blocks * tiles - 1) / (blocks * tiles);
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t row = m0 + i * kBlock, rows = m1 - row < kBlock ? m1 - row : kBlock;
      const Slice s = {a + (i * kts + t) * a_step, b, 0, tiles, sums + i * kSums, t == 0, next + i * tiles * lines * 64, lines};
      if (rows > 16) multiply_block<2, kParts>(s, a_tile);
      else multiply_block<1, kParts>(s, a_tile);
      if (t + tiles == kts) finish_block(args, s.sums, row, rows, n);
    }
  }
}

template <int kParts>
void multiply_rows(const GemmArgs& args, int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
  alignas(64) float sums[kMaxRows * kPanel];
  for (int64_t n = n0; n < n1; n += kPanel) multiply_panel<kParts>(args, m0, m1, n, sums);
}

// At most 16 rows, B stored as tiles: two panels at a time, k in one pass.
void multiply_few_rows(const GemmArgs& args, int64_t n0, int64_t n1) {
  alignas(64) float sums[2 * kSums];
  const int64_t kts = k_tiles(args.k);
  for (int64_t n = n0; n < n1; n += 2 * kPanel) {
    const char* b = static_cast<const char*>(args.b) + n / kPanel * kts * kPair;
    const Slice s = {static_cast<const char*>(args.a_packed), b, kts * kPair, kts, sums, true, b, 0};
    if (n + kPanel >= n1) {
      multiply_block<1, 1>(s, 1);
    } else {
      multiply_two_panels(s);
      finish_block(args, sums + kSums, 0, args.m, n + kPanel);
    }
    finish_block(args, sums, 0, args.m, n);
  }
}

}  // namespace

bool tiles_store_b(int64_t n, int64_t k, Precision precision) {
  return precision == Precision::kMedium && k >= 64 && static_cast<double>(n) * static_cast<double>(k) >= 262144;
}

int tiles_parts(int64_t m, int64_t n, int64_t k, Precision precision) {
  if (tiles_store_b(n, k, precision)) return 1;
  const int parts = precision == Precision::kMedium ? 1 : precision == Precision::kHigh ? 2 : 3;
  const int64_t least_rows = parts == 1 ? 8 : parts == 2 ? 16 : 32;
  const bool large = k >= 64 && static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) >= 262144;
  return large && m >= least_rows ? parts : 0;
}

size_t tiles_b_bytes(int64_t n, int64_t k) {
  return static_cast<size_t>((n + kPanel - 1) / kPanel) * static_cast<size_t>(k_tiles(k) * kPair);
}

void tiles_pack_b(const float* b, int64_t ldb, bool transposed, int64_t n, int64_t k, int64_t n0, int64_t n1, void* packed) {
  alignas(64) float rows[kTileK * kPanel];
  const int64_t kts = k_tiles(k);
  for (int64_t p = n0; p < n1; p += kPanel)
    for (int64_t t = 0; t < kts; ++t) {
      const int64_t k0 = t * kTileK, depth = k - k0 < kTileK ? k - k0 : kTileK, cols = n - p < kPanel ? n - p : kPanel;
      f32_pack_b(b + (transposed ? p * ldb + k0 : k0 * ldb + p), ldb, transposed, cols, depth, 0, cols, rows);
      split_b<1>(rows, depth, static_cast<char*>(packed) + (p / kPanel * kts + t) * kPair);
    }
}

size_t tiles_a_bytes(int64_t m, int64_t k, int parts) {
  return static_cast<size_t>(round_up(m, row_tiles(m) * 16) / 16) * static_cast<size_t>(k_tiles(k)) *
         static_cast<size_t>(parts * kTileBytes);
}

void tiles_pack_a(const GemmArgs& args, int parts, int64_t m0, int64_t m1) {
  if (parts == 1) pack_rows<1>(args, m0, m1);
  else if (parts == 2) pack_rows<2>(args, m0, m1);
  else pack_rows<3>(args, m0, m1);
}

GemmGrid tiles_grid(int64_t m, int64_t n, int64_t k, int parts) {
  const int64_t work = (parts == 1 ? 24 : parts == 2 ? 16 : 12) << 20;  // 0.03 to 0.1 ms
  return cut(m, n, k, kBlock, kMaxRows, m <= 16 ? 2 * kPanel : kPanel, work);
}

void tiles_block(const GemmArgs& args, int parts, int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
  tiles_begin();
  if (args.m <= 16 && tiles_store_b(args.n, args.k, args.precision)) multiply_few_rows(args, n0, n1);
  else if (parts == 1) multiply_rows<1>(args, m0, m1, n0, n1);
  else if (parts == 2) multiply_rows<2>(args, m0, m1, n0, n1);
  else multiply_rows<3>(args, m0, m1, n0, n1);
  tiles_end();
}

}  // namespace ocior::OCIOR_ISA
