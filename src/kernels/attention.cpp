// Fused attention over strided heads. A task is a block of rows (queries of all heads that share one key/value head); it walks
// the keys in blocks with the running softmax of Milakov and Gimelshein (arXiv 1805.02867), as FlashAttention (arXiv 2205.14135)
// does. Scores are formed transposed, one vector lane per query: keys are read in place, the softmax needs no horizontal step,
// and the probabilities come out in the order that the second product reads. Compiled once per instruction set; leaf headers
// only.
#include "kernels/table.h"
#include "simd/math.h"

namespace ocior::OCIOR_ISA {

void transpose_f32(const float* in, int64_t ld_in, float* out, int64_t ld_out, int64_t m, int64_t n);

namespace {

constexpr int64_t kPanel = 2 * kLanes;                     // queries of a panel; value columns of a panel
constexpr int kTileRows = OCIOR_VEC_BYTES == 64 ? 12 : 6;  // tiles of kTileRows x 2 vectors fill the registers
constexpr int64_t kMaxRows = 64;                           // rows of a task
constexpr int64_t kMaxKeys = 256;                          // keys of a block: a panel of scores stays in L1

OCIOR_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
OCIOR_INLINE int64_t larger(int64_t a, int64_t b) { return a < b ? b : a; }
OCIOR_INLINE int64_t round_up(int64_t a, int64_t unit) { return (a + unit - 1) / unit * unit; }

// How the rows are cut; depends on the shapes alone.
struct Cut {
  int64_t group;  // query heads of a key/value head
  int64_t rows;   // group * q_len: row r is query r % q_len of head r / q_len
  int64_t block, blocks;
  int64_t keys, key_blocks;  // keys of a block
};

Cut cut(const AttentionArgs& a) {
  Cut c;
  c.group = a.kv_heads > 0 ? a.heads / a.kv_heads : 0;
  c.rows = c.group * a.q_len;
  const int64_t most = smaller(kMaxRows, round_up(larger(c.rows, 1), kPanel));
  c.blocks = (c.rows + most - 1) / most;
  c.block = c.blocks > 0 ? round_up((c.rows + c.blocks - 1) / c.blocks, kPanel) : kPanel;
  c.key_blocks = larger(1, (a.kv_len + kMaxKeys - 1) / kMaxKeys);
  c.keys = larger(1, (a.kv_len + c.key_blocks - 1) / c.key_blocks);
  return c;
}

// The scratch of a worker.
struct Scratch {
  float* queries;    // [block / kPanel, head_dim, kPanel]
  float* values;     // [v_dim / kPanel, keys, kPanel], zero beyond v_dim
  float* scores;     // [keys, kPanel]
  float* rows;       // [kPanel, keys]: additive bias and mask before transposition
  float* out;        // [block, v_dim rounded up]
  float* key_bias;   // [keys]
  float* largest;    // [block]
  float* sum;        // [block]
  float* factor;     // [kPanel]
  int32_t* visible;  // [block]: keys that a row may see
  size_t bytes;
};

Scratch layout(const AttentionArgs& a, const Cut& c, void* base) {
  const uintptr_t start = reinterpret_cast<uintptr_t>(base);
  uintptr_t at = start;
  const auto take = [&at](int64_t floats) {
    float* p = reinterpret_cast<float*>(at);
    at += static_cast<uintptr_t>(round_up(floats * 4, 64));
    return p;
  };
  const int64_t width = round_up(a.v_dim, kPanel);
  Scratch s;
  s.queries = take(c.block * a.head_dim);
  s.values = take(c.keys * width);
  s.scores = take(c.keys * kPanel);
  s.rows = take(a.mask ? c.keys * kPanel : 0);
  s.out = take(c.block * width);
  s.key_bias = take(c.keys);
  s.largest = take(c.block);
  s.sum = take(c.block);
  s.factor = take(kPanel);
  s.visible = reinterpret_cast<int32_t*>(take(c.block));
  s.bytes = at - start;
  return s;
}

// One tile of scores: kRows keys by kVecs vectors of queries.
struct ScoreTile {
  const float* keys;
  int64_t key_row, depth;
  const float* queries;  // [depth, kPanel]
  float* scores;         // [kRows, kPanel]; holds the additive bias on entry where `biased`
  float scale;
  const float* key_bias;  // [kRows] or null
  bool biased;
  const int32_t* visible;  // [kPanel] or null: key `first + row` is visible where first + row < visible
  int32_t first;
  float* largest;  // [kPanel]: raised to the tile's maxima
};

template <int kRows, int kVecs>
__attribute__((noinline)) void score_tile(const ScoreTile& t) {
  F32 sum[kRows][kVecs];
  OCIOR_UNROLL for (int i = 0; i < kRows; ++i) OCIOR_UNROLL for (int j = 0; j < kVecs; ++j) sum[i][j] = zero();
  // Three rows share an address register: the addressing modes give k, k + row and k + 2 rows.
  const float* key[(kRows + 2) / 3];
  OCIOR_UNROLL for (int g = 0; g < (kRows + 2) / 3; ++g) key[g] = t.keys + 3 * g * t.key_row;
  const float* q = t.queries;
  const int64_t row = t.key_row;
  for (int64_t d = t.depth; d > 0; --d) {
    F32 x[kVecs];
    OCIOR_UNROLL for (int j = 0; j < kVecs; ++j) x[j] = load(q + j * kLanes);
    q += kPanel;
    OCIOR_UNROLL for (int i = 0; i < kRows; ++i) {
      const F32 k = load_splat(key[i / 3] + (i % 3) * row);
      OCIOR_UNROLL for (int j = 0; j < kVecs; ++j) accumulate(sum[i][j], k, x[j]);
    }
    OCIOR_UNROLL for (int g = 0; g < (kRows + 2) / 3; ++g) key[g] += 1;
  }
  const F32 scale = splat(t.scale);
  OCIOR_UNROLL for (int j = 0; j < kVecs; ++j) {
    F32 largest = load(t.largest + j * kLanes);
    OCIOR_UNROLL for (int i = 0; i < kRows; ++i) {
      float* to = t.scores + i * kPanel + j * kLanes;
      F32 add = t.biased ? load(to) : zero();
      if (t.key_bias != nullptr) add = add + load_splat(t.key_bias + i);
      F32 s = fma(sum[i][j], scale, add);
      if (t.visible != nullptr) s = select(splat_int(t.first + i) < load_int(t.visible + j * kLanes), s, splat(-kInfinity));
      store(s, to);
      largest = max(s, largest);
    }
    store(largest, t.largest + j * kLanes);
  }
}

// One tile of the output: kRows queries by kPanel value columns.
struct ValueTile {
  const float* weights;  // [keys, kPanel], at the first of the queries
  const float* values;   // [keys, kPanel], row stride value_row
  int64_t value_row, keys;
  float* out;
  int64_t ld_out;
  const float* factor;  // [kRows]: what the sums so far are multiplied by; null: there are none
};

template <int kRows>
__attribute__((noinline)) void value_tile(const ValueTile& t) {
  F32 sum[kRows][2];
  OCIOR_UNROLL for (int i = 0; i < kRows; ++i) OCIOR_UNROLL for (int j = 0; j < 2; ++j) sum[i][j] =
      t.factor == nullptr ? zero() : load_splat(t.factor + i) * load(t.out + i * t.ld_out + j * kLanes);
  const float *p = t.weights, *v = t.values;
  const int64_t value_row = t.value_row;
  for (int64_t k = t.keys; k > 0; --k) {
    const F32 x0 = load(v), x1 = load(v + kLanes);
    v += value_row;
    OCIOR_UNROLL for (int i = 0; i < kRows; ++i) {
      const F32 w = load_splat(p + i);
      accumulate(sum[i][0], w, x0);
      accumulate(sum[i][1], w, x1);
    }
    p += kPanel;
  }
  OCIOR_UNROLL for (int i = 0; i < kRows; ++i) OCIOR_UNROLL for (int j = 0; j < 2; ++j)
      store(sum[i][j], t.out + i * t.ld_out + j * kLanes);
}

// kTiles.score[vectors - 1][rows - 1], kTiles.value[rows - 1]
struct Tiles {
  void (*score[2][kTileRows])(const ScoreTile&);
  void (*value[kTileRows])(const ValueTile&);
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
constexpr Tiles make_tiles(RowList<kRow...>) {
  return {{{&score_tile<kRow, 1>...}, {&score_tile<kRow, 2>...}}, {&value_tile<kRow>...}};
}
constexpr Tiles kTiles = make_tiles(MakeRows<kTileRows>::Type{});

// f(first, count) for n rows in tiles of nearly equal height, at most kTileRows.
template <class F>
OCIOR_INLINE void in_tiles(int64_t n, F f) {
  const uint32_t rows = static_cast<uint32_t>(n), tiles = (rows + kTileRows - 1) / kTileRows;
  if (tiles == 0) return;
  const uint32_t height = rows / tiles, higher = rows % tiles;
  int64_t first = 0;
  for (uint32_t i = 0; i < tiles; ++i) {
    const int64_t count = i < higher ? height + 1 : height;
    f(first, count);
    first += count;
  }
}

// A task: rows [row0, row0 + count) of the heads that share key/value head `kv_head`.
struct Task {
  const AttentionArgs& a;
  const Cut& c;
  const Scratch& s;
  int64_t batch, kv_head, row0, count;
  int64_t keys;  // keys of this batch entry
  bool bias_by_key, mask_by_key;
  bool values_in_place;  // few rows and whole panels: a copy of the values would not pay
};

// f(row, n, head, query): the stretches of rows [first, first + count) of the task that belong to one head.
template <class F>
OCIOR_INLINE void by_head(const Task& t, int64_t first, int64_t count, F f) {
  while (count > 0) {
    const int64_t row = t.row0 + first, head = row / t.a.q_len, query = row % t.a.q_len;
    const int64_t n = smaller(count, t.a.q_len - query);
    f(first, n, t.kv_head * t.c.group + head, query);
    first += n;
    count -= n;
  }
}

// Brings `n` rows of `width` floats near: hardware does not foresee strides of whole pages.
template <int kLocality>
OCIOR_INLINE void fetch(const float* p, int64_t row, int64_t n, int64_t width) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < width; c += 16) __builtin_prefetch(p + i * row + c, 0, kLocality);
}

// Queries transposed into panels, zero beyond the last; how many keys each row sees. Returns the most that any row sees.
int64_t begin_rows(const Task& t) {
  const AttentionArgs& a = t.a;
  int64_t most = 0;
  by_head(t, 0, t.count, [&](int64_t, int64_t n, int64_t head, int64_t query) {
    fetch<3>(a.q + t.batch * a.q_batch + head * a.q_head + query * a.q_row, a.q_row, n, a.head_dim);
  });
  for (int64_t panel = 0; panel < t.count; panel += kPanel) {
    const int64_t count = smaller(kPanel, t.count - panel);
    float* to = t.s.queries + panel * a.head_dim;
    if (count < kPanel) __builtin_memset(to, 0, static_cast<size_t>(kPanel * a.head_dim) * sizeof(float));
    by_head(t, panel, count, [&](int64_t row, int64_t n, int64_t head, int64_t query) {
      const float* q = a.q + t.batch * a.q_batch + head * a.q_head + query * a.q_row;
      transpose_f32(q, a.q_row, to + (row - panel), kPanel, a.head_dim, n);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t seen = a.causal ? larger(0, smaller(t.keys, query + i + a.kv_len - a.q_len + 1)) : t.keys;
        t.s.visible[row + i] = static_cast<int32_t>(seen);
        most = larger(most, seen);
      }
    });
  }
  for (int64_t i = t.count; i < t.c.block; ++i) t.s.visible[i] = 0;
  for (int64_t i = 0; i < t.c.block; ++i) {
    t.s.largest[i] = -kInfinity;
    t.s.sum[i] = 0;
  }
  return most;
}

// Values of keys [key0, key0 + n) in column panels.
void pack_values(const Task& t, int64_t key0, int64_t n) {
  const AttentionArgs& a = t.a;
  const float* v = a.v + t.batch * a.v_batch + t.kv_head * a.v_head + key0 * a.v_row;
  for (int64_t column = 0; column < a.v_dim; column += kPanel) {
    const int64_t width = smaller(kPanel, a.v_dim - column);
    float* to = t.s.values + column * n;
    for (int64_t k = 0; k < n; ++k, to += kPanel) {
      const float* from = v + k * a.v_row + column;
      if (width == kPanel) {
        store(load(from), to);
        store(load(from + kLanes), to + kLanes);
      } else {
        const int64_t second = width > kLanes ? width - kLanes : 0;
        store(load(from, smaller(width, kLanes), 0), to);
        store(second ? load(from + kLanes, second, 0) : zero(), to + kLanes);
      }
    }
  }
}

// to[k] = bias[k] (0 without), -inf where the mask forbids.
void join_mask(const float* bias, const uint8_t* mask, int64_t n, float* to) {
  for (int64_t k = 0; k < n; ++k) {
    const float b = bias != nullptr ? bias[k] : 0;
    to[k] = mask == nullptr || mask[k] != 0 ? b : -kInfinity;
  }
}

// The additive part that depends on key and query, transposed into the scores of one panel. False: there is none.
bool begin_scores(const Task& t, int64_t panel, int64_t count, int64_t key0, int64_t n) {
  const AttentionArgs& a = t.a;
  const bool bias = a.bias != nullptr && !t.bias_by_key, mask = a.mask != nullptr && !t.mask_by_key;
  if (!bias && !mask) return false;
  by_head(t, panel, count, [&](int64_t row, int64_t rows, int64_t head, int64_t query) {
    const int64_t lane = row - panel;
    const float* b = bias ? a.bias + t.batch * a.bias_batch + head * a.bias_head + query * a.bias_row + key0 : nullptr;
    if (!mask) return transpose_f32(b, a.bias_row, t.s.scores + lane, kPanel, n, rows);
    const uint8_t* m = a.mask + t.batch * a.mask_batch + head * a.mask_head + query * a.mask_row + key0;
    for (int64_t i = 0; i < rows; ++i) join_mask(bias ? b + i * a.bias_row : nullptr, m + i * a.mask_row, n, t.s.rows + i * n);
    transpose_f32(t.s.rows, n, t.s.scores + lane, kPanel, n, rows);
  });
  for (int64_t lane = count; lane < kPanel; ++lane)
    for (int64_t k = 0; k < n; ++k) t.s.scores[k * kPanel + lane] = 0;
  return true;
}

// The running softmax: the scores of `vectors` vectors of queries become weights relative to the new maxima; s.factor, what the
// sums so far must be multiplied by.
void weigh(const Task& t, int64_t panel, int64_t n, const float* before, int vectors) {
  for (int64_t lane = 0; lane < vectors * kLanes; lane += kLanes) {
    const F32 now = load(t.s.largest + panel + lane);
    const F32 top = select(now == splat(-kInfinity), zero(), now);  // so that masked scores weigh 0 while nothing else is known
    const F32 factor = exp_nonpositive(load(before + lane) - top);
    store(factor, t.s.factor + lane);
    F32 even = zero(), odd = zero();
    float* s = t.s.scores + lane;
    int64_t k = 0;
    for (; k + 2 <= n; k += 2, s += 2 * kPanel) {
      const F32 e = exp_nonpositive(load(s) - top), f = exp_nonpositive(load(s + kPanel) - top);
      store(e, s);
      store(f, s + kPanel);
      even = even + e;
      odd = odd + f;
    }
    if (k < n) {
      const F32 e = exp_nonpositive(load(s) - top);
      store(e, s);
      even = even + e;
    }
    float* sum = t.s.sum + panel + lane;
    store(fma(load(sum), factor, even + odd), sum);
  }
}

// Keys [key0, key0 + packed) for one panel of rows, as far as any of them sees.
void panel_block(const Task& t, int64_t panel, int64_t key0, int64_t packed, const float* key_bias) {
  const AttentionArgs& a = t.a;
  const int64_t count = smaller(kPanel, t.count - panel);
  int64_t n = 0;
  for (int64_t i = 0; i < count; ++i) n = larger(n, smaller(packed, t.s.visible[panel + i] - key0));
  if (n == 0) return;
  alignas(64) float before[kPanel];
  __builtin_memcpy(before, t.s.largest + panel, sizeof before);
  const float* k = a.k + t.batch * a.k_batch + t.kv_head * a.k_head + key0 * a.k_row;
  const float* v = a.v + t.batch * a.v_batch + t.kv_head * a.v_head + key0 * a.v_row;
  const bool biased = begin_scores(t, panel, count, key0, n);
  const int vectors = count > kLanes ? 2 : 1;
  in_tiles(n, [&](int64_t first, int64_t rows) {
    const bool diagonal = a.causal && (t.c.group > 1 || key0 + first + rows > t.s.visible[panel]);
    const ScoreTile tile = {k + first * a.k_row,
                            a.k_row,
                            a.head_dim,
                            t.s.queries + panel * a.head_dim,
                            t.s.scores + first * kPanel,
                            a.scale,
                            key_bias != nullptr ? key_bias + first : nullptr,
                            biased,
                            diagonal ? t.s.visible + panel : nullptr,
                            static_cast<int32_t>(key0 + first),
                            t.s.largest + panel};
    kTiles.score[vectors - 1][rows - 1](tile);
  });
  weigh(t, panel, n, before, vectors);
  const int64_t width = round_up(a.v_dim, kPanel);
  for (int64_t column = 0; column < width; column += kPanel)
    in_tiles(count, [&](int64_t first, int64_t rows) {
      const float* values = t.values_in_place ? v + column : t.s.values + column * packed;
      kTiles.value[rows - 1](ValueTile{t.s.scores + first, values, t.values_in_place ? a.v_row : kPanel, n,
                                       t.s.out + (panel + first) * width + column, width,
                                       key0 == 0 ? nullptr : t.s.factor + first});
    });
}

// out = sums / weights, or what a row without visible keys gets.
void finish(const Task& t) {
  const AttentionArgs& a = t.a;
  const int64_t width = round_up(a.v_dim, kPanel);
  by_head(t, 0, t.count, [&](int64_t row, int64_t n, int64_t head, int64_t query) {
    for (int64_t i = 0; i < n; ++i) {
      float* to = a.out + t.batch * a.o_batch + head * a.o_head + (query + i) * a.o_row;
      const float sum = t.s.sum[row + i];
      const bool none = sum == 0;
      const F32 scale = splat(none ? (a.zero_masked_rows || a.kv_len == 0 ? 0 : __builtin_nanf("")) : 1 / sum);
      const float* from = t.s.out + (row + i) * width;
      int64_t c = 0;
      for (; c + kLanes <= a.v_dim; c += kLanes) store((none ? zero() : load(from + c)) * scale, to + c);
      if (c < a.v_dim) store((none ? zero() : load(from + c)) * scale, to + c, a.v_dim - c);
    }
  });
}

void run_task(const Task& t) {
  const AttentionArgs& a = t.a;
  const int64_t end = begin_rows(t);
  for (int64_t key0 = 0; key0 < end; key0 += t.c.keys) {
    const int64_t n = smaller(t.c.keys, end - key0);
    fetch<2>(a.v + t.batch * a.v_batch + t.kv_head * a.v_head + key0 * a.v_row, a.v_row, n, a.v_dim);
    fetch<2>(a.k + t.batch * a.k_batch + t.kv_head * a.k_head + key0 * a.k_row, a.k_row, n, a.head_dim);
    if (!t.values_in_place) pack_values(t, key0, n);
    const float* key_bias = nullptr;
    if (t.bias_by_key || t.mask_by_key) {
      const int64_t head = t.kv_head * t.c.group;
      join_mask(t.bias_by_key ? a.bias + t.batch * a.bias_batch + head * a.bias_head + key0 : nullptr,
                t.mask_by_key ? a.mask + t.batch * a.mask_batch + head * a.mask_head + key0 : nullptr, n, t.s.key_bias);
      key_bias = t.s.key_bias;
    }
    for (int64_t panel = 0; panel < t.count; panel += kPanel) panel_block(t, panel, key0, n, key_bias);
  }
  finish(t);
}

}  // namespace

int64_t attention_tasks(const AttentionArgs& args) { return args.batch * args.kv_heads * cut(args).blocks; }

size_t attention_scratch(const AttentionArgs& args) { return layout(args, cut(args), nullptr).bytes; }

void attention(const AttentionArgs& args, int64_t begin, int64_t end, void* scratch) {
  const Cut c = cut(args);
  const Scratch s = layout(args, c, scratch);
  const bool one_head = c.group == 1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t block = task % c.blocks, kv_head = task / c.blocks % args.kv_heads, batch = task / c.blocks / args.kv_heads;
    const int64_t row0 = block * c.block, count = smaller(c.block, c.rows - row0);
    const int64_t keys = args.kv_lengths != nullptr ? larger(0, smaller(args.kv_len, args.kv_lengths[batch])) : args.kv_len;
    run_task(Task{args, c, s, batch, kv_head, row0, count, keys,
                  args.bias != nullptr && args.bias_row == 0 && (one_head || args.bias_head == 0),
                  args.mask != nullptr && args.mask_row == 0 && (one_head || args.mask_head == 0),
                  count <= kTileRows && args.v_dim % kPanel == 0});
  }
}

}  // namespace ocior::OCIOR_ISA
