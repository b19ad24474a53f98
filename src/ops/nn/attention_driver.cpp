#include "ops/nn/attention_driver.h"

#include <cmath>
#include <cstring>

#include "ops/nn/numeric.h"

namespace ocior::ops::nn {
namespace {

constexpr float kMasked = -1e30f;  // a bias at or below it leaves a key no weight beside one above it

struct Pieces {
  int32_t* lengths = nullptr;
  float* bias = nullptr;  // a bool mask with a finite fill, as numbers
  std::byte* workers = nullptr;
  size_t per_worker = 0, bytes = 0;
};

int64_t count(const AttentionMask& mask) { return mask.dim(0) * mask.dim(1) * mask.dim(2) * mask.dim(3); }
bool becomes_bias(const AttentionMask& mask) { return mask.is_bool() && std::isfinite(mask.fill); }

Pieces pieces(const KernelTable& kernels, AttentionArgs args, const AttentionMask* mask, int workers, void* base) {
  static constexpr uint8_t kSome = 0;  // the kernel's scratch depends on whether there is a mask
  static constexpr float kSomeBias = 0;
  if (mask && mask->is_bool() && !becomes_bias(*mask)) args.mask = &kSome;
  else if (mask) args.bias = &kSomeBias;
  Carver carver(base);
  Pieces p;
  if (mask) p.lengths = carver.take<int32_t>(static_cast<size_t>(args.batch));
  if (mask && becomes_bias(*mask)) p.bias = carver.take<float>(static_cast<size_t>(count(*mask)));
  p.per_worker = align64(kernels.attention_scratch(args));
  p.workers = carver.take(p.per_worker * static_cast<size_t>(workers));
  p.bytes = carver.used();
  return p;
}

// What one row of a mask says of `n` keys.
struct KeyRow {
  int64_t first = -1, end = 0;  // the first visible key, and behind the last; first = -1: none is
  bool plain = true;            // nothing before `end` is masked or biased
};

template <class Visible, class Plain>
KeyRow scan(int64_t n, Visible visible, Plain plain) {
  KeyRow r;
  for (int64_t j = 0; j < n && r.first < 0; ++j)
    if (visible(j)) r.first = j;
  for (r.end = n; r.end > 0 && r.first >= 0 && !visible(r.end - 1);) --r.end;
  if (r.first < 0) r.end = 0;
  for (int64_t j = 0; j < r.end && r.plain; ++j) r.plain = plain(j);
  return r;
}

KeyRow scan(const AttentionMask& mask, int64_t row, int64_t n) {
  if (mask.is_bool()) {
    const auto* m = mask.view->as<uint8_t>() + row * mask.dim(3);
    const auto visible = [m](int64_t j) { return m[j] != 0; };
    return scan(n, visible, visible);
  }
  const auto* b = mask.view->as<float>() + row * mask.dim(3);
  return scan(
      n, [b](int64_t j) { return !(b[j] <= kMasked); }, [b](int64_t j) { return b[j] == 0; });
}

// Key lengths from a mask that is the same for all heads and query rows. Returns whether anything before a length is masked or
// biased.
bool find_lengths(const AttentionArgs& args, const AttentionMask& mask, int32_t* lengths) {
  const bool minus_inf = mask.is_bool() && !std::isfinite(mask.fill);
  bool needed = false;
  KeyRow row;
  for (int64_t b = 0; b < args.batch; ++b) {
    const int64_t keys =
        std::min(mask.dim(3), args.kv_lengths ? std::clamp<int64_t>(args.kv_lengths[b], 0, args.kv_len) : args.kv_len);
    if (b == 0 || mask.dim(0) != 1 || args.kv_lengths) row = scan(mask, mask.dim(0) == 1 ? 0 : b, keys);
    // With a finite mask value, a query that sees none but masked keys spreads its weight over them: then all have to stay.
    const int64_t seen_by_all = args.causal ? args.kv_len - args.q_len : args.kv_len;
    const bool trims = minus_inf || (row.first >= 0 && row.first <= seen_by_all);
    lengths[b] = static_cast<int32_t>(trims ? row.end : keys);
    needed |= !row.plain || !trims;
  }
  return needed;
}

void fill_bias(CpuContext& c, const AttentionMask& mask, float* bias) {
  const auto* m = mask.view->as<uint8_t>();
  const float fill = mask.fill;
  parallel_rows(c, count(mask), 1, [=](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) bias[i] = m[i] ? 0 : fill;
  });
}

void set_mask(CpuContext& c, AttentionArgs& args, const AttentionMask& mask, const Pieces& p) {
  const float* bias = mask.is_bool() ? nullptr : mask.view->as<float>();
  if (becomes_bias(mask)) fill_bias(c, mask, p.bias), bias = p.bias;
  if (bias) {
    args.bias = bias;
    args.bias_batch = mask.stride(0), args.bias_head = mask.stride(1), args.bias_row = mask.stride(2);
  } else {
    args.mask = mask.view->as<uint8_t>();
    args.mask_batch = mask.stride(0), args.mask_head = mask.stride(1), args.mask_row = mask.stride(2);
  }
}

void zero_output(const AttentionArgs& args) {
  for (int64_t b = 0; b < args.batch; ++b)
    for (int64_t h = 0; h < args.heads; ++h)
      for (int64_t i = 0; i < args.q_len; ++i)
        std::memset(args.out + b * args.o_batch + h * args.o_head + i * args.o_row, 0,
                    static_cast<size_t>(args.v_dim) * sizeof(float));
}

}  // namespace

size_t attention_bytes(const KernelTable& kernels, const AttentionArgs& args, const AttentionMask* mask, int workers) {
  return pieces(kernels, args, mask, workers, nullptr).bytes;
}

void run_attention(CpuContext& c, AttentionArgs args, const AttentionMask* mask, void* scratch) {
  if (args.batch == 0 || args.heads == 0 || args.q_len == 0 || args.v_dim == 0) return;
  if (args.kv_len == 0) return zero_output(args);
  const Pieces p = pieces(c.kernels(), args, mask, c.team().size(), scratch);
  if (mask) {
    const bool same_for_all_rows = mask->dim(1) == 1 && mask->dim(2) == 1;
    if (!same_for_all_rows) {
      set_mask(c, args, *mask, p);
    } else {
      if (find_lengths(args, *mask, p.lengths)) set_mask(c, args, *mask, p);
      const bool all = std::all_of(p.lengths, p.lengths + args.batch, [&](int32_t n) { return n == args.kv_len; });
      args.kv_lengths = all ? nullptr : p.lengths;
    }
  }
  const auto task = [&](int64_t i, int worker) {
    c.kernels().attention(args, i, i + 1, p.workers + static_cast<size_t>(worker) * p.per_worker);
  };
  const int64_t tasks = c.kernels().attention_tasks(args);
  if (args.kv_lengths || args.causal) c.team().parallel_for_dynamic(tasks, c.stop(), task);  // of different lengths
  else c.team().parallel_for(tasks, c.stop(), task);
}

}  // namespace ocior::ops::nn
