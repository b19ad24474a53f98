// elt_bench: speed of the kernels that are not matrix products, on one core: attention as a share of the multiply-add peak, the
// others as a share of memcpy's speed over arrays of the same size. CPU time of the thread, best of many.
//   elt_bench [--attention 1:12:128:128:64,...] [--layer-norm 128:768,...] [--unary 128:3072,...] [--isa avx2] [--seconds 0.2]
#include <stdio.h>
#include <string.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "peak.h"

namespace ocior::bench {
namespace {

struct Options {
  std::string isa;
  std::string attention =
      "1:12:128:128:64,4:12:128:128:64,1:12:384:384:64,1:12:128:128:32,4:12:128:128:32,1:12:16:16:32,1:8:1024:1024:64,"
      "1:8:1:4096:64";
  std::string layer_norm = "128:768,128:384,16:768";
  std::string unary = "128:768,128:3072";
  bool causal = false;
  double seconds = 0.2;
};

using Floats = std::vector<float>;

Floats numbers(int64_t n) {
  Floats x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 2654435761u % 1000u) * 0.004f - 2.0f;
  return x;
}

// "2:3,4:5" with `count` numbers each.
std::vector<std::vector<int64_t>> parse(const std::string& text, size_t count) {
  std::vector<std::vector<int64_t>> lists(1);
  const char* at = text.c_str();
  while (*at != 0) {
    char* end = nullptr;
    const int64_t value = strtol(at, &end, 10);
    if (end == at || value < 1)
      throw CLI::ValidationError("shape", "expected positive numbers joined by ':' and ',', got '" + text + "'");
    lists.back().push_back(value);
    if (*end == ',') lists.emplace_back();
    at = *end == 0 ? end : end + 1;
  }
  for (const std::vector<int64_t>& list : lists)
    if (list.size() != count)
      throw CLI::ValidationError("shape", "expected " + std::to_string(count) + " numbers in each of '" + text + "'");
  return lists;
}

// Seconds of the fastest `run`, and the highest `limit` seen in between: clocks change, and the machine may be shared.
struct Best {
  double seconds = 1e30, limit = 0;
};
Best fastest(double seconds, const std::function<void()>& run, const std::function<double()>& limit) {
  run();
  const double once = thread_seconds();
  run();
  const int repeat = std::clamp(static_cast<int>(20e-6 / std::max(1e-9, thread_seconds() - once)), 1, 1000);
  Best best;
  const double start = thread_seconds();
  do {
    best.limit = std::max(best.limit, limit());
    for (int i = 0; i < 5; ++i) {
      const double begin = thread_seconds();
      for (int j = 0; j < repeat; ++j) run();
      best.seconds = std::min(best.seconds, (thread_seconds() - begin) / repeat);
    }
  } while (thread_seconds() - start < seconds);
  return best;
}

// GB/s of memcpy (read and written bytes) between two arrays of `bytes` bytes.
double copy_gbps(char* to, const char* from, size_t bytes) {
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double begin = thread_seconds();
    for (int j = 0; j < 4; ++j) {
      memcpy(to, from, bytes);
      __asm__ volatile("" ::"r"(to) : "memory");
    }
    best = std::max(best, 8.0 * static_cast<double>(bytes) / (thread_seconds() - begin) * 1e-9);
  }
  return best;
}

void report(const char* what, double bytes, int64_t elements, const Best& best) {
  const double speed = bytes / best.seconds * 1e-9;
  printf("  %-34s %9.1f us  %6.1f GB/s  %5.1f %% of memcpy's %.1f  %6.2f G elements/s\n", what, best.seconds * 1e6, speed,
         100 * speed / best.limit, best.limit, static_cast<double>(elements) / best.seconds * 1e-9);
}

// Heads inside one [batch, rows, 3 * heads * dim] product, as fused encoders have them; where there are fewer queries than keys,
// keys and values in caches [batch, heads, keys, dim].
void attention(const KernelTable& table, const Options& options, const std::vector<int64_t>& s) {
  const int64_t batch = s[0], heads = s[1], q = s[2], kv = s[3], d = s[4], row = 3 * heads * d;
  const Floats qkv = numbers(batch * std::max(q, kv) * row), bias(static_cast<size_t>(batch * kv));
  Floats out(static_cast<size_t>(batch * q * heads * d));
  AttentionArgs a;
  a.q = qkv.data(), a.k = qkv.data() + heads * d, a.v = qkv.data() + 2 * heads * d, a.out = out.data(), a.bias = bias.data();
  a.batch = batch, a.heads = a.kv_heads = heads, a.q_len = q, a.kv_len = kv, a.head_dim = a.v_dim = d;
  a.q_batch = a.k_batch = a.v_batch = std::max(q, kv) * row, a.q_head = a.k_head = a.v_head = d,
  a.q_row = a.k_row = a.v_row = row;
  a.o_batch = q * heads * d, a.o_head = d, a.o_row = heads * d, a.bias_batch = kv;
  if (q < kv)
    a.k_batch = a.v_batch = heads * kv * d, a.k_head = a.v_head = kv * d, a.k_row = a.v_row = d,
    a.v = a.k + batch * heads * kv * d;
  a.scale = 0.1f;
  a.causal = options.causal;
  const size_t scratch_bytes = table.attention_scratch(a);
  void* scratch = operator new(scratch_bytes, std::align_val_t(64));
  const Best best = fastest(
      options.seconds, [&] { table.attention(a, 0, table.attention_tasks(a), scratch); },
      [&] { return peak_gflops(table.name, false); });
  operator delete(scratch, std::align_val_t(64));
  const double flops = 4e-9 * static_cast<double>(batch * heads * q) * static_cast<double>(kv * d) * (options.causal ? 0.5 : 1);
  printf("  batch %2ld heads %2ld q %4ld kv %4ld d %3ld %9.1f us  %7.1f GFLOP/s  %5.1f %% of the fp32 peak %.1f  (%ld tasks)\n",
         batch, heads, q, kv, d, best.seconds * 1e6, flops / best.seconds, 100 * flops / best.seconds / best.limit, best.limit,
         table.attention_tasks(a));
}

void layer_norm(const KernelTable& table, const Options& options, const std::vector<int64_t>& s) {
  const int64_t rows = s[0], n = s[1];
  const Floats x = numbers(rows * n), skip = numbers(rows * n), gamma = numbers(n), beta = numbers(n);
  Floats y(x.size());
  LayerNormArgs a;
  a.x = x.data(), a.gamma = gamma.data(), a.beta = beta.data(), a.y = y.data(), a.n = n, a.epsilon = 1e-12f;
  const size_t bytes = y.size() * sizeof(float);
  const auto copy = [&] { return copy_gbps(reinterpret_cast<char*>(y.data()), reinterpret_cast<const char*>(x.data()), bytes); };
  char name[64];
  for (const bool with_skip : {false, true}) {
    a.skip = with_skip ? skip.data() : nullptr, a.bias = with_skip ? beta.data() : nullptr;
    snprintf(name, sizeof name, "%s %ld x %ld", with_skip ? "skip + bias + layer_norm" : "layer_norm", rows, n);
    report(name, static_cast<double>(bytes) * (with_skip ? 3 : 2), rows * n,
           fastest(
               options.seconds, [&] { table.layer_norm(a, 0, rows); }, copy));
  }
}

void element_wise(const KernelTable& table, const Options& options, const std::vector<int64_t>& s) {
  const int64_t rows = s[0], columns = s[1], n = rows * columns;
  const Floats x = numbers(n), b = numbers(n);
  Floats y(x.size());
  std::vector<uint16_t> half(x.size());
  const double bytes = static_cast<double>(n) * 4;
  const auto copy = [&] {
    return copy_gbps(reinterpret_cast<char*>(y.data()), reinterpret_cast<const char*>(x.data()), y.size() * 4);
  };
  const auto run = [&](const char* name, double traffic, const std::function<void()>& f) {
    char text[64];
    snprintf(text, sizeof text, "%s %ld x %ld", name, rows, columns);
    report(text, traffic, n, fastest(options.seconds, f, copy));
  };
  const auto unary = [&](const char* name, UnaryFn fn) {
    run(name, 2 * bytes, [&, fn] { table.unary_f32(fn, x.data(), y.data(), n, 0, 1); });
  };
  unary("relu", UnaryFn::kRelu), unary("clip", UnaryFn::kClip), unary("sqrt", UnaryFn::kSqrt), unary("exp", UnaryFn::kExp);
  unary("log", UnaryFn::kLog), unary("erf", UnaryFn::kErf), unary("tanh", UnaryFn::kTanh), unary("sigmoid", UnaryFn::kSigmoid);
  unary("gelu_erf", UnaryFn::kGeluErf), unary("gelu_tanh", UnaryFn::kGeluTanh), unary("silu", UnaryFn::kSilu),
      unary("sin", UnaryFn::kSin);
  const auto binary = [&](const char* name, BinaryFn fn, int64_t step) {
    run(name, (step ? 3 : 2) * bytes, [&, fn, step] { table.binary_f32(fn, x.data(), 1, b.data(), step, y.data(), n); });
  };
  binary("add", BinaryFn::kAdd, 1), binary("add scalar", BinaryFn::kAdd, 0), binary("max", BinaryFn::kMax, 1);
  binary("div", BinaryFn::kDiv, 1), binary("pow", BinaryFn::kPow, 1);
  volatile float sink = 0;
  run("reduce sum", bytes, [&] { sink = table.reduce_f32(ReduceFn::kSum, x.data(), n); });
  run("reduce max", bytes, [&] { sink = table.reduce_f32(ReduceFn::kMax, x.data(), n); });
  const auto each_row = [&](void (*row)(const float*, float*, int64_t)) {
    for (int64_t r = 0; r < rows; ++r) row(x.data() + r * columns, y.data() + r * columns, columns);
  };
  run("softmax", 2 * bytes, [&] { each_row(table.softmax_f32); });
  run("log_softmax", 2 * bytes, [&] { each_row(table.log_softmax_f32); });
  run("f32 to f16", 1.5 * bytes, [&] { table.f32_to_f16(x.data(), half.data(), n); });
  run("f16 to f32", 1.5 * bytes, [&] { table.f16_to_f32(half.data(), y.data(), n); });
  run("f32 to bf16", 1.5 * bytes, [&] { table.f32_to_bf16(x.data(), half.data(), n); });
  run("bf16 to f32", 1.5 * bytes, [&] { table.bf16_to_f32(half.data(), y.data(), n); });
  run("transpose", 2 * bytes, [&] { table.transpose_f32(x.data(), columns, y.data(), rows, columns, rows); });
}

const KernelTable& find_table(const std::string& name) {
  if (name.empty()) return kernels();
  const KernelTables all = available_kernels();
  for (size_t i = 0; i < all.count; ++i)
    if (name == all.tables[i]->name) return *all.tables[i];
  throw CLI::ValidationError("--isa", "this machine has no table '" + name + "'");
}

int main_or_throw(int argc, char** argv) {
  CLI::App app("Speed of the element-wise, normalising and attention kernels on one core");
  Options options;
  const auto* attention_option =
      app.add_option("--attention", options.attention, "Shapes: batch:heads:queries:keys:head_dim[,...]")->expected(0, 1);
  const auto* norm_option = app.add_option("--layer-norm", options.layer_norm, "Shapes: rows:columns[,...]")->expected(0, 1);
  const auto* unary_option = app.add_option("--unary", options.unary, "Shapes: rows:columns[,...]")->expected(0, 1);
  app.add_option("--isa", options.isa, "Kernel table (default: the process's)");
  app.add_option("--seconds", options.seconds, "Time for each figure");
  app.add_flag("--causal", options.causal, "Causal attention (half the operations are counted)");
  const Options defaults = options;
  CLI11_PARSE(app, argc, argv);
  const bool all = attention_option->count() + norm_option->count() + unary_option->count() == 0;
  const auto shapes = [](const std::string& given, const std::string& usual, size_t count) {
    return parse(given.empty() ? usual : given, count);
  };
  const KernelTable& table = find_table(options.isa);
  printf("table %s: fp32 peak %.1f GFLOP/s\n", table.name, peak_gflops(table.name, false));
  if (all || attention_option->count() != 0)
    for (const auto& s : shapes(options.attention, defaults.attention, 5)) attention(table, options, s);
  if (all || norm_option->count() != 0)
    for (const auto& s : shapes(options.layer_norm, defaults.layer_norm, 2)) layer_norm(table, options, s);
  if (all || unary_option->count() != 0)
    for (const auto& s : shapes(options.unary, defaults.unary, 2)) element_wise(table, options, s);
  return 0;
}

}  // namespace
}  // namespace ocior::bench

int main(int argc, char** argv) {
  try {
    return ocior::bench::main_or_throw(argc, argv);
  } catch (const CLI::Error& e) {
    fprintf(stderr, "elt_bench: %s\n", e.what());
  } catch (const std::exception& e) {
    fprintf(stderr, "elt_bench: %s\n", e.what());
  }
  return 2;
}
