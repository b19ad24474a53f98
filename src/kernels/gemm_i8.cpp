// The product of 8-bit matrices, exact in 32 bits that wrap around: pairs of 16-bit numbers are multiplied and added at once, so
// that nothing saturates. A is widened and centred once, B stays in bytes and is widened on its way into the registers. Compiled
// once per ISA; integers give the same bits in every order.
#include "kernels/table.h"
#include "simd/vec.h"

namespace ocior::OCIOR_ISA {
namespace {

// Rows and vectors of the largest register tile, as those of the fp32 product.
#if OCIOR_VEC_BYTES == 64
constexpr int kTileRows = 12, kTileRegisters = 24;
#else
constexpr int kTileRows = 6, kTileRegisters = 12;
#endif
constexpr int kTileVecs = 2;
constexpr int64_t kPanel = kTileVecs * kLanes;
constexpr int64_t kMostRows = 96;  // whose sums of one panel wait on the stack
constexpr int64_t kDepth = 1024;   // k of a panel's slice, which stays in L1
constexpr int kMostPanels = 4;     // side by side when there are few rows

constexpr int64_t even(int64_t k) { return k + (k & 1); }

// Twice kLanes numbers of 16 bits, and as many bytes.
typedef int16_t Pairs __attribute__((vector_size(OCIOR_VEC_BYTES)));
typedef int8_t Bytes __attribute__((vector_size(OCIOR_VEC_BYTES / 2)));

OCIOR_INLINE Pairs load_wide(const int8_t* p) {
  Bytes b;
  __builtin_memcpy(&b, p, sizeof b);
#if OCIOR_VEC_512
  return (Pairs)_mm512_cvtepi8_epi16((__m256i)b);
#elif OCIOR_VEC_256
  return (Pairs)_mm256_cvtepi8_epi16((__m128i)b);
#else
  return __builtin_convertvector(b, Pairs);
#endif
}

OCIOR_INLINE Pairs splat_pair(const int16_t* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return (Pairs)splat_int(pair).v;
}

// sum + a[2 i] * b[2 i] + a[2 i + 1] * b[2 i + 1] in every lane i.
OCIOR_INLINE I32 add_products(I32 sum, Pairs a, Pairs b) {
#if OCIOR_VEC_512 && defined(__AVX512VNNI__)
  return {(I32::V)_mm512_dpwssd_epi32((__m512i)sum.v, (__m512i)a, (__m512i)b)};
#elif OCIOR_VEC_512
  return sum + I32{(I32::V)_mm512_madd_epi16((__m512i)a, (__m512i)b)};
#elif OCIOR_VEC_256
  return sum + I32{(I32::V)_mm256_madd_epi16((__m256i)a, (__m256i)b)};
#elif defined(__SSE2__) && !defined(OCIOR_EMULATE)
  return sum + I32{(I32::V)_mm_madd_epi16((__m128i)a, (__m128i)b)};
#else
  const I32 x = {(I32::V)a}, y = {(I32::V)b};
  const auto low = [](I32 v) __attribute__((always_inline)) { return shift_right<16>(shift_left<16>(v)); };
  return sum + I32{low(x).v * low(y).v} + I32{shift_right<16>(x).v * shift_right<16>(y).v};
#endif
}

// One call of a register tile.
struct Tile {
  const int16_t* a;
  int64_t lda;
  const int8_t* b;
  const int64_t* places;  // of every pair of rows from b on; null: one behind the other
  int64_t b_panel;        // bytes between two panels
  int64_t pairs;          // of k
  bool more;              // c holds earlier sums
  int32_t* c;
  int64_t ldc;
};

template <bool kScattered, int kRows, int kPanels>
__attribute__((noinline)) void run_tile(const Tile& t) {
  constexpr int kVecs = kTileVecs * kPanels;
  I32 sums[kRows][kVecs];
  OCIOR_UNROLL for (int i = 0; i < kRows; ++i) OCIOR_UNROLL for (int j = 0; j < kVecs; ++j) sums[i][j] =
      t.more ? load_int(t.c + i * t.ldc + j * kLanes) : I32{};
  // Groups of three rows share an address register: the addressing modes give a, a + lda and a + 2 lda.
  const int16_t* a[(kRows + 2) / 3];
  OCIOR_UNROLL for (int g = 0; g < (kRows + 2) / 3; ++g) a[g] = t.a + 3 * g * t.lda;
  const int8_t* b = t.b;
  const int64_t lda = t.lda, b_panel = t.b_panel;
  for (int64_t k = 0; k < t.pairs; ++k, b += kScattered ? 0 : 2 * kPanel) {
    const int8_t* pair = kScattered ? b + t.places[k] : b;
    Pairs row[kVecs];
    OCIOR_UNROLL for (int j = 0; j < kVecs; ++j) row[j] =
        load_wide(pair + (j / kTileVecs) * b_panel + (j % kTileVecs) * 2 * kLanes);
    OCIOR_UNROLL for (int i = 0; i < kRows; ++i) {
      const Pairs x = splat_pair(a[i / 3] + (i % 3) * lda + 2 * k);
      OCIOR_UNROLL for (int j = 0; j < kVecs; ++j) sums[i][j] = add_products(sums[i][j], x, row[j]);
    }
  }
  OCIOR_UNROLL for (int i = 0; i < kRows; ++i) OCIOR_UNROLL for (int j = 0; j < kVecs; ++j)
      store_int(sums[i][j], t.c + i * t.ldc + j * kLanes);
}

using TileFn = void (*)(const Tile&);

// How many panels a tile of `rows` rows can take side by side.
constexpr int panels_for(int rows) {
  const int fit = kTileRegisters / (rows * kTileVecs);
  return fit < 1 ? 1 : fit > kMostPanels ? kMostPanels : fit;
}

template <bool kScattered, int kPanels, int kRows>
constexpr TileFn tile_or_null() {
  if constexpr (kPanels <= panels_for(kRows)) return &run_tile<kScattered, kRows, kPanels>;
  else return nullptr;
}

// kTiles<scattered>.fn[panels - 1][rows - 1]
struct TileTable {
  TileFn fn[kMostPanels][kTileRows];
};
template <int... kRow>
struct RowList {};
template <int kCount, int... kRow>
struct MakeRows : MakeRows<kCount - 1, kCount, kRow...> {};
template <int... kRow>
struct MakeRows<0, kRow...> {
  using Type = RowList<kRow...>;
};
template <bool kScattered, int... kRow>
constexpr TileTable make_tiles(RowList<kRow...>) {
  return {{{tile_or_null<kScattered, 1, kRow>()...},
           {tile_or_null<kScattered, 2, kRow>()...},
           {tile_or_null<kScattered, 3, kRow>()...},
           {tile_or_null<kScattered, 4, kRow>()...}}};
}
template <bool kScattered>
constexpr TileTable kTiles = make_tiles<kScattered>(MakeRows<kTileRows>::Type{});

// The sums of `rows` rows, from args.a on, times `panels` panels that begin at b, into c.
void multiply_panels(const ByteGemmArgs& args, const int16_t* a, int64_t rows, const int8_t* b, int64_t panels, int32_t* c,
                     int64_t ldc) {
  const int64_t blocks = (rows + kTileRows - 1) / kTileRows, least = rows / blocks, longer = rows % blocks;
  const bool scattered = args.pairs != nullptr;
  const TileTable& tiles = scattered ? kTiles<true> : kTiles<false>;
  Tile tile = {};
  tile.lda = args.lda, tile.ldc = ldc;
  tile.b_panel = scattered ? 2 * kPanel : even(args.k) * kPanel;
  int64_t k = 0;
  do {
    const int64_t depth = args.k - k < kDepth ? args.k - k : kDepth;
    tile.b = scattered ? b : b + k * kPanel;
    tile.places = scattered ? args.pairs + k / 2 : nullptr;
    tile.pairs = even(depth) / 2;
    tile.more = k > 0;
    for (int64_t block = 0, row = 0; block < blocks; ++block) {
      const int64_t count = least + (block < longer ? 1 : 0);
      tile.a = a + row * args.lda + k;
      tile.c = c + row * ldc;
      tiles.fn[panels - 1][count - 1](tile);
      row += count;
    }
    k += depth;
  } while (k < args.k);
}

// c - a_sums * b_zero; the zero points count as often as the sum of a row says.
void take_zeros(const int32_t* a_sums, const int32_t* b_zero, int32_t* c, int64_t ldc, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    const uint32_t sum = static_cast<uint32_t>(a_sums[i]);
    for (int64_t j = 0; j < columns; ++j)
      c[i * ldc + j] = static_cast<int32_t>(static_cast<uint32_t>(c[i * ldc + j]) - sum * static_cast<uint32_t>(b_zero[j]));
  }
}

template <class T>
uint32_t widen(const T* from, int16_t zero, int64_t k, int16_t* to) {
  uint32_t sum = 0;
  for (int64_t i = 0; i < k; ++i) {
    to[i] = static_cast<int16_t>(static_cast<int16_t>(from[i]) - zero);
    sum += static_cast<uint32_t>(static_cast<int32_t>(to[i]));
  }
  return sum;
}

// The pair of rows of B at b that a panel's columns meet; `last`: there is only one.
OCIOR_INLINE void interleave(const uint8_t* b, int64_t ldb, bool last, uint8_t flip, int64_t columns, int8_t* to) {
  for (int64_t j = 0; j < columns; ++j) {
    to[2 * j] = static_cast<int8_t>(b[j] ^ flip);
    to[2 * j + 1] = last ? int8_t{0} : static_cast<int8_t>(b[ldb + j] ^ flip);
  }
}
OCIOR_INLINE void interleave_whole(const uint8_t* b, int64_t ldb, uint8_t flip, int8_t* to) {
#if defined(__SSE2__)
  OCIOR_UNROLL for (int64_t j = 0; j < kPanel; j += kPanel < 16 ? 8 : 16) {
    __m128i low, high, pairs[2];
    if constexpr (kPanel < 16)
      low = _mm_loadl_epi64((const __m128i*)(b + j)), high = _mm_loadl_epi64((const __m128i*)(b + ldb + j));
    else low = _mm_loadu_si128((const __m128i*)(b + j)), high = _mm_loadu_si128((const __m128i*)(b + ldb + j));
    const __m128i change = _mm_set1_epi8(static_cast<char>(flip));
    pairs[0] = _mm_xor_si128(_mm_unpacklo_epi8(low, high), change);
    pairs[1] = _mm_xor_si128(_mm_unpackhi_epi8(low, high), change);
    __builtin_memcpy(to + 2 * j, pairs, kPanel < 16 ? 16 : 32);
  }
#else
  interleave(b, ldb, false, flip, kPanel, to);
#endif
}

// The same of columns of a transposed B: each holds its pair in a row.
OCIOR_INLINE void copy_pairs(const uint8_t* b, int64_t ldb, bool last, uint8_t flip, int64_t columns, int8_t* to) {
  for (int64_t j = 0; j < columns; ++j) {
    to[2 * j] = static_cast<int8_t>(b[j * ldb] ^ flip);
    to[2 * j + 1] = last ? int8_t{0} : static_cast<int8_t>(b[j * ldb + 1] ^ flip);
  }
}

}  // namespace

int64_t gemm_i8_panel() { return kPanel; }

size_t gemm_i8_b_bytes(int64_t n, int64_t k) {
  return static_cast<size_t>((n + kPanel - 1) / kPanel * kPanel) * static_cast<size_t>(even(k));
}

void gemm_i8_pack_b(const uint8_t* b, int64_t ldb, bool transposed, uint8_t flip, int64_t n, int64_t k, int64_t n0, int64_t n1,
                    int8_t* packed) {
  constexpr int64_t kAtOnce = 64 / kPanel > 0 ? 64 / kPanel : 1;  // panels that a cache line of B fills
  const int64_t panel_bytes = even(k) * kPanel;
  for (int64_t p = n0; p < n1; p += kAtOnce * kPanel) {
    const int64_t end = n - p < kAtOnce * kPanel ? n : p + kAtOnce * kPanel;
    for (int64_t t = 0; t < k; t += 2) {
      for (int64_t j = p; j < end; j += kPanel) {
        int8_t* to = packed + j / kPanel * panel_bytes + t * kPanel;
        const int64_t columns = end - j < kPanel ? end - j : kPanel;
        if (columns < kPanel) __builtin_memset(to, 0, static_cast<size_t>(2 * kPanel));
        const bool last = t + 1 == k;
        if (transposed) copy_pairs(b + j * ldb + t, ldb, last, flip, columns, to);
        else if (columns == kPanel && !last) interleave_whole(b + t * ldb + j, ldb, flip, to);
        else interleave(b + t * ldb + j, ldb, last, flip, columns, to);
      }
    }
  }
}

void gemm_i8_pack_row(const void* a, bool is_signed, int32_t zero, int64_t k, int16_t* to, int32_t* sum) {
  const auto centre = static_cast<int16_t>(zero);
  *sum = static_cast<int32_t>(is_signed ? widen(static_cast<const int8_t*>(a), centre, k, to)
                                        : widen(static_cast<const uint8_t*>(a), centre, k, to));
  if (k & 1) to[k] = 0;
}

void gemm_i8(const ByteGemmArgs& args, int64_t n0, int64_t n1) {
  alignas(64) int32_t partial[kMostRows * kPanel];
  static_assert(kMostRows * kPanel >= kTileRegisters * kLanes, "a tile of several panels fits as well");
  for (int64_t m = 0; m < args.m; m += kMostRows) {
    const int64_t rows = args.m - m < kMostRows ? args.m - m : kMostRows;
    const int64_t most = rows <= kTileRows ? panels_for(static_cast<int>(rows)) : 1;
    for (int64_t n = n0; n < n1;) {
      const int64_t left = (n1 - n + kPanel - 1) / kPanel, panels = left < most ? left : most, width = panels * kPanel;
      const int64_t columns = n1 - n < width ? n1 - n : width;
      int32_t* c = args.c + m * args.ldc + (n - n0);
      const bool whole = columns == width;
      multiply_panels(args, args.a + m * args.lda, rows, args.b + n * (args.pairs ? 2 : even(args.k)), panels,
                      whole ? c : partial, whole ? args.ldc : width);
      for (int64_t i = 0; i < rows && !whole; ++i)
        __builtin_memcpy(c + i * args.ldc, partial + i * width, static_cast<size_t>(columns) * sizeof(int32_t));
      if (args.b_zero != nullptr) take_zeros(args.a_sums + m, args.b_zero + (n - n0), c, args.ldc, rows, columns);
      n += width;
    }
  }
}

}  // namespace ocior::OCIOR_ISA
