// kbench: speed of the matrix products of the kernel tables on one core, as a share of the peak measured in the same process.
//   kbench --gemm 128:768:768,32:768:3072 [--isa avx2] [--hot|--cold] [--precision high] [--act gelu_erf] [--seconds 0.3]
// `hot` multiplies with one weight again and again, `cold` goes round 160 MB of weights (64 MB above 256 rows). CPU time of the
// thread, best of many.
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "peak.h"

namespace ocior::bench {
namespace {

struct Shape {
  int64_t m = 0, n = 0, k = 0;
};

struct Options {
  std::string isa, shapes = "128:768:768,128:3072:768,128:768:3072";
  Precision precision = Precision::kHighest;
  Activation act = Activation::kNone;
  bool hot = false, cold = false;
  double seconds = 0.3;
};

// Memory in huge pages where the system gives them, as the engine's weights are.
class Memory {
 public:
  explicit Memory(size_t bytes) : bytes_(bytes + kHuge) {
    base_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) throw std::bad_alloc();
    madvise(base_, bytes_, MADV_HUGEPAGE);
    memset(base_, 0, bytes_);
  }
  ~Memory() { munmap(base_, bytes_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  float* data() const { return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(base_) + kHuge - 1) / kHuge * kHuge); }

 private:
  static constexpr size_t kHuge = 2 << 20;
  size_t bytes_;
  void* base_;
};

std::vector<Shape> parse_shapes(const std::string& text) {
  std::vector<Shape> shapes;
  for (size_t at = 0; at < text.size();) {
    Shape s;
    int used = 0;
    if (sscanf(text.c_str() + at, "%ld:%ld:%ld%n", &s.m, &s.n, &s.k, &used) != 3 || s.m < 1 || s.n < 1 || s.k < 1)
      throw CLI::ValidationError("--gemm", "expected M:N:K[,M:N:K...] with positive numbers, got '" + text + "'");
    shapes.push_back(s);
    at += static_cast<size_t>(used) + 1;
  }
  return shapes;
}

const KernelTable* find_table(const std::string& name) {
  if (name.empty()) return &kernels();
  const KernelTables all = available_kernels();
  for (size_t i = 0; i < all.count; ++i)
    if (name == all.tables[i]->name) return all.tables[i];
  throw CLI::ValidationError("--isa", "this machine has no table '" + name + "'");
}

// Seconds of the fastest call and the median of the peaks taken between the calls, within the time allowed: the machine may be
// shared, and its clock changes.
struct Best {
  double seconds = 1e30, peak = 0;
};
template <class F>
Best fastest(const char* isa, double seconds, F run) {
  run();
  Best best;
  std::vector<double> peaks;
  const double start = thread_seconds();
  do {
    peaks.push_back(peak_gflops(isa, false));
    for (int i = 0; i < 3; ++i) {
      const double begin = thread_seconds();
      run();
      best.seconds = std::min(best.seconds, thread_seconds() - begin);
    }
  } while (thread_seconds() - start < seconds);
  std::sort(peaks.begin(), peaks.end());
  best.peak = peaks[peaks.size() / 2];
  return best;
}

void product(const KernelTable& table, const GemmArgs& args) {
  const GemmGrid grid = table.gemm_grid(args.m, args.n, args.k, args.precision);
  if (args.a_packed != nullptr) table.gemm_pack_a(args, 0, args.m);
  for (int64_t i = 0; i < grid.m_chunks; ++i)
    for (int64_t j = 0; j < grid.n_chunks; ++j) table.gemm_chunk(args, grid, i, j);
}

void measure(const KernelTable& table, const Options& options, const Shape& s) {
  const size_t size = table.gemm_b_bytes(s.n, s.k, options.precision), stride = (size + 4095) / 4096 * 4096;
  const size_t set = (s.m <= 256 ? 160u : 64u)
                     << 20;  // more than the last-level cache; a round with many rows would take seconds
  const size_t copies = options.cold ? std::max<size_t>(1, set / stride) : 1;
  const size_t a_size = table.gemm_a_bytes(s.m, s.n, s.k, options.precision);
  const Memory a(static_cast<size_t>(s.m * s.k) * 4), b(static_cast<size_t>(s.n * s.k) * 4),
      c(static_cast<size_t>(s.m * s.n) * 4);
  const Memory weights(stride * copies), packed(a_size + 1), bias(static_cast<size_t>(s.n) * 4);
  for (int64_t i = 0; i < s.m * s.k; ++i) a.data()[i] = static_cast<float>(i % 13) * 0.1f - 0.6f;
  for (int64_t i = 0; i < s.n * s.k; ++i) b.data()[i] = static_cast<float>(i % 11) * 0.1f - 0.5f;
  const auto weight = [&](size_t i) { return reinterpret_cast<char*>(weights.data()) + i * stride; };
  table.gemm_pack_b(b.data(), s.n, false, s.n, s.k, 0, s.n, options.precision, weight(0));
  for (size_t i = 1; i < copies; ++i) memcpy(weight(i), weight(0), size);

  GemmArgs args{.a = a.data(),
                .lda = s.k,
                .b = weight(0),
                .c = c.data(),
                .ldc = s.n,
                .m = s.m,
                .n = s.n,
                .k = s.k,
                .precision = options.precision};
  args.epilogue.bias = bias.data();
  args.epilogue.act = options.act;
  args.a_packed = a_size == 0 ? nullptr : packed.data();
  const double flops = 2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k) * 1e-9;
  const auto report = [&](const char* what, const Best& best, size_t products) {
    const double seconds = best.seconds / static_cast<double>(products), speed = flops / seconds;
    printf("  %5ld x %5ld x %5ld  %-4s %8.1f GFLOP/s  %5.1f %% of the fp32 peak %.1f  weights %5.1f GB/s\n", s.m, s.n, s.k, what,
           speed, 100 * speed / best.peak, best.peak, static_cast<double>(size) / seconds * 1e-9);
  };
  if (options.hot) report("hot", fastest(table.name, options.seconds, [&] { product(table, args); }), 1);
  if (!options.cold) return;
  const auto all = [&] {
    for (size_t i = 0; i < copies; ++i) {
      args.b = weight(i);
      product(table, args);
    }
  };
  report("cold", fastest(table.name, 2 * options.seconds, all), copies);
}

int main_or_throw(int argc, char** argv) {
  CLI::App app("Speed of the kernels on one core, against the peak measured in the same process");
  Options options;
  const std::map<std::string, Precision> precisions{
      {"highest", Precision::kHighest}, {"high", Precision::kHigh}, {"medium", Precision::kMedium}};
  const std::map<std::string, Activation> activations{{"none", Activation::kNone},
                                                      {"relu", Activation::kRelu},
                                                      {"gelu_erf", Activation::kGeluErf},
                                                      {"gelu_tanh", Activation::kGeluTanh}};
  app.add_option("--gemm", options.shapes, "Products: M:N:K[,M:N:K...]");
  app.add_option("--isa", options.isa, "Kernel table (default: the process's)");
  app.add_option("--precision", options.precision, "highest, high or medium")->transform(CLI::CheckedTransformer(precisions));
  app.add_option("--act", options.act, "Activation of the epilogue")->transform(CLI::CheckedTransformer(activations));
  app.add_option("--seconds", options.seconds, "Time for each figure");
  app.add_flag("--hot", options.hot, "One weight only");
  app.add_flag("--cold", options.cold, "160 MB of weights in turn only");
  CLI11_PARSE(app, argc, argv);
  if (!options.hot && !options.cold) options.hot = options.cold = true;
  const KernelTable& table = *find_table(options.isa);
  const std::vector<Shape> shapes = parse_shapes(options.shapes);
  const bool tiles = strcmp(table.name, "amx") == 0;
  printf("table %s: fp32 peak %.1f GFLOP/s", table.name, peak_gflops(table.name, false));
  if (tiles) printf(", bf16 tiles %.1f", peak_gflops(table.name, true));
  const Memory big(160u << 20);
  printf(", reading 160 MB at %.1f GB/s\n", read_gbps(big.data(), 160u << 20));
  for (const Shape& shape : shapes) measure(table, options, shape);
  return 0;
}

}  // namespace
}  // namespace ocior::bench

int main(int argc, char** argv) {
  try {
    return ocior::bench::main_or_throw(argc, argv);
  } catch (const CLI::Error& e) {
    fprintf(stderr, "kbench: %s\n", e.what());
  } catch (const std::exception& e) {
    fprintf(stderr, "kbench: %s\n", e.what());
  }
  return 2;
}
