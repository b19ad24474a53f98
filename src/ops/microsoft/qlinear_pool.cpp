// QLinearAveragePool, QLinearGlobalAveragePool, QLinearReduceMean and QLinearSoftmax of com.microsoft: means and softmaxes of
// bytes with one scale and zero point per tensor.
#include "ops/loops.h"
#include "ops/microsoft/qlinear.h"
#include "ops/nn/pool.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

using nn::PoolAxis;
using nn::PoolWindow;
using qlinear::Affine;

enum Input { kX, kXScale, kXZero, kYScale, kYZero };

Status check_operands(const ShapeContext& c, std::string_view op) {
  OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, kX, kXScale, kXZero, op));
  return qlinear::check_affine(c, kX, kYScale, kYZero, op);
}

struct Scales {
  Affine x, y;
  template <class C>
  static Result<Scales> read(const C& c, DType dtype, std::string_view op) {
    Scales out;
    OCIOR_ASSIGN(out.x, qlinear::read_affine(c, dtype, kXScale, kXZero, op));
    OCIOR_ASSIGN(out.y, qlinear::read_affine(c, dtype, kYScale, kYZero, op));
    return out;
  }
  // The byte of the mean of n bytes; n may be 0: NaN, the smallest byte.
  int64_t mean(int64_t sum, int64_t n) const {
    const float scale = x.scale / (y.scale * static_cast<float>(n));
    return y.byte(static_cast<float>(sum - n * x.zero) * scale);
  }
};

// The values of all bytes.
std::array<float, 256> values_of(const Affine& x) {
  std::array<float, 256> out;
  for (int i = 0; i < 256; ++i) out[static_cast<size_t>(i)] = x.value(x.dtype == DType::kInt8 ? static_cast<int8_t>(i) : i);
  return out;
}

// [n, spatial..., channels] as [n, channels, spatial...], and back.
template <class T>
std::vector<T> channels_second(std::span<const T> x) {
  std::vector<T> out(x.begin(), x.end());
  if (out.size() > 2) std::rotate(out.begin() + 1, out.end() - 1, out.end());
  return out;
}
Dims channels_last_of(Dims x) {
  if (x.size() > 2) std::rotate(x.begin() + 1, x.begin() + 2, x.end());
  return x;
}

std::vector<Sample> samples_of(const Shape& x, const Attributes& attributes) {
  std::vector<Sample> out;
  for (const DType t : {DType::kInt8, DType::kUint8})
    out.push_back(
        {.inputs = {{t, x}, {.values = {0.25}}, {.dtype = t, .values = {3}}, {.values = {0.125}}, {.dtype = t, .values = {5}}},
         .attributes = attributes});
  return out;
}
void append(std::vector<Sample>& to, std::vector<Sample> more) { to.insert(to.end(), more.begin(), more.end()); }

}  // namespace

// Sums are of float values in the order of the window, as ONNX Runtime's are: halves are frequent here, and another order rounds
// some of them the other way.
struct QLinearAveragePool {
  static constexpr OpInfo info{.name = "QLinearAveragePool", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 5};
  PoolWindow window;
  bool count_padding = false, channels_last = false;

  static QLinearAveragePool parse(const NodeReader& node) {
    QLinearAveragePool op{PoolWindow::parse(node, 1, kUnbounded)};
    op.count_padding = node.integer("count_include_pad", 0) != 0;
    op.channels_last = node.integer("channels_last", 0) != 0;
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_operands(c, info.name));
    c.set(0, c.dtype(kX), std::nullopt);
    if (!ranked(c, kX)) return {};
    const Dims& x = *c.shape(kX);
    OCIOR_ASSIGN(Dims y, window.infer(c, channels_last ? Dims(channels_second<Dim>(x)) : x));
    c.set(0, c.dtype(kX), channels_last ? channels_last_of(std::move(y)) : std::move(y));
    return {};
  }

  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(const Pool pool, make(c, c.in(kX).shape(), c.out(0).dtype()));
    const int64_t n = c.out(0).count();
    Place place;
    for (int64_t i = 0; i < n; ++i)
      c.out(0).as<uint8_t>()[i] = pool.element(static_cast<const uint8_t*>(c.in(kX).data()), i, place);
    return {};
  }

  double work(const BindContext& c) const { return window.work(c); }

  Status run(CpuContext& c) const {
    OCIOR_ASSIGN(const Pool pool, make(c, c.in(kX).shape, c.out(0).dtype));
    const auto* x = static_cast<const uint8_t*>(c.in(kX).data);
    auto* y = static_cast<uint8_t*>(c.out(0).data);
    int64_t cost = 1;
    for (const int64_t k : window.kernel) cost = std::min(kChunk, cost * k);
    for_items(c, c.out(0).count(), cost, [&](int64_t begin, int64_t end) {
      Place place;
      for (int64_t i = begin; i < end; ++i) y[i] = pool.element(x, i, place);
    });
    return {};
  }

  static std::vector<Sample> samples() {
    using Ints = std::vector<int64_t>;
    std::vector<Sample> out;
    const Attributes square{{"kernel_shape", Ints{3, 3}}, {"pads", Ints{1, 1, 1, 1}}, {"strides", Ints{2, 1}}};
    append(out, samples_of({2, 3, 9, 8}, square));
    for (const char* more : {"ceil_mode", "count_include_pad", "channels_last"}) {
      Attributes attributes = square;
      attributes[more] = int64_t{1};
      append(out, samples_of({2, 9, 8, 5}, attributes));
    }
    append(out, samples_of({2, 3, 9}, {{"kernel_shape", Ints{2}}, {"auto_pad", std::string("SAME_UPPER")}}));
    append(out, samples_of({1, 2, 4, 5, 6}, {{"kernel_shape", Ints{2, 3, 1}}}));
    append(out, samples_of({0, 2, 4}, {{"kernel_shape", Ints{2}}}));
    append(out, samples_of({8, 16, 30, 31}, square));
    return out;
  }

 private:
  using Place = std::array<int64_t, kMaxRank>;

  struct Pool {
    Scales scales;
    std::array<float, 256> values;
    std::vector<PoolAxis> axes;
    int64_t channels = 1, in_plane = 1, out_plane = 1;
    bool count_padding = false, channels_last = false;

    // Byte i of the output. `place`: memory.
    uint8_t element(const uint8_t* x, int64_t i, Place& place) const {
      const int64_t plane = channels_last ? i / channels / out_plane * channels + i % channels : i / out_plane;
      int64_t rest = channels_last ? i / channels % out_plane : i % out_plane;
      for (size_t a = axes.size(); a-- > 0; rest /= axes[a].out) place[a] = rest % axes[a].out;
      const int64_t step = channels_last ? channels : 1;
      const uint8_t* base = x + (channels_last ? plane / channels * in_plane * channels + plane % channels : plane * in_plane);
      double inside = 1, all = 1;  // a window's elements in the input, and with padding
      for (size_t a = 0; a < axes.size(); ++a) {
        inside *= static_cast<double>(std::max<int64_t>(0, axes[a].last(place[a]) - axes[a].first(place[a])));
        all *= static_cast<double>(axes[a].kernel);
      }
      const float sum = inside > 0 ? sum_of(base, 0, 0, step, place, 0.0f) : 0.0f;
      const double n = count_padding ? all : inside;
      return static_cast<uint8_t>(scales.y.byte_of_sum((n > 0 ? sum / static_cast<float>(n) : 0.0f) / scales.y.scale));
    }

   private:
    float sum_of(const uint8_t* x, size_t a, int64_t at, int64_t step, const Place& place, float sum) const {
      const PoolAxis& axis = axes[a];
      const int64_t start = axis.start(place[a]);
      for (int64_t k = axis.first(place[a]); k < axis.last(place[a]); ++k) {
        const int64_t here = at * axis.in + start + k * axis.dilation;
        sum = a + 1 == axes.size() ? sum + values[x[here * step]] : sum_of(x, a + 1, here, step, place, sum);
      }
      return sum;
    }
  };

  template <class C>
  Result<Pool> make(const C& c, std::span<const int64_t> x, DType dtype) const {
    const Shape planes = channels_last ? Shape(channels_second(x)) : Shape(x.begin(), x.end());
    Pool pool{.count_padding = count_padding, .channels_last = channels_last};
    OCIOR_ASSIGN(pool.scales, Scales::read(c, dtype, info.name));
    OCIOR_ASSIGN(pool.axes, window.plan(planes));
    pool.values = values_of(pool.scales.x);
    pool.channels = std::max<int64_t>(1, planes[1]);
    for (const PoolAxis& a : pool.axes) pool.in_plane *= a.in, pool.out_plane *= a.out;
    return pool;
  }
};
OCIOR_OPERATOR(QLinearAveragePool)

struct QLinearGlobalAveragePool {
  static constexpr OpInfo info{.name = "QLinearGlobalAveragePool", .domain = kMicrosoft, .min_inputs = 5, .max_inputs = 5};
  bool channels_last = false;

  static QLinearGlobalAveragePool parse(const NodeReader& node) { return {node.integer("channels_last", 0) != 0}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_operands(c, info.name));
    c.set(0, c.dtype(kX), std::nullopt);
    if (!ranked(c, kX)) return {};
    Dims y = *c.shape(kX);
    if (y.size() < 3) return error(Code::kInvalidGraph, "{}: the input has rank {}; expected at least 3", info.name, y.size());
    const ptrdiff_t first = channels_last ? 1 : 2;
    std::fill(y.begin() + first, y.begin() + first + std::ssize(y) - 2, Dim(1));
    c.set(0, c.dtype(kX), std::move(y));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(kX);
    OCIOR_ASSIGN(const Planes p, make(c, x.shape(), x.dtype()));
    for (int64_t i = 0; i < p.count; ++i) {
      int64_t sum = 0;
      for (int64_t k = 0; k < p.pixels; ++k) sum += get_int(x.dtype(), x.data(), p.first(i) + k * p.step);
      set_int(x.dtype(), c.out(0).data(), i, p.scales.mean(sum, p.pixels));
    }
    return {};
  }

  double work(const BindContext& c) const { return static_cast<double>(c.in(kX).count()); }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(kX);
    OCIOR_ASSIGN(const Planes p, make(c, x.shape, x.dtype));
    const int sign = x.dtype == DType::kInt8 ? 0x80 : 0;  // int8 bits as a number from 0, 128 too large
    const auto* bytes = static_cast<const uint8_t*>(x.data);
    auto* y = static_cast<uint8_t*>(c.out(0).data);
    for_items(c, p.count, p.pixels, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const uint8_t* from = bytes + p.first(i);
        int64_t sum = 0;
        for (int64_t k = 0; k < p.pixels; ++k) sum += from[k * p.step] ^ sign;
        y[i] = static_cast<uint8_t>(p.scales.mean(sum - sign * p.pixels, p.pixels));
      }
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const int64_t last : {0, 1})
      for (const Shape& x : {Shape{2, 3, 4, 5}, Shape{2, 7, 3}, Shape{1, 2, 3, 4, 5}, Shape{0, 3, 4}, Shape{4, 300, 7, 9}})
        append(out, samples_of(x, {{"channels_last", last}}));
    return out;
  }

 private:
  struct Planes {
    Scales scales;
    int64_t count = 0, channels = 1, pixels = 0, step = 1;
    // The first element of plane i.
    int64_t first(int64_t i) const { return step > 1 ? i / channels * pixels * channels + i % channels : i * pixels; }
  };
  template <class C>
  Result<Planes> make(const C& c, std::span<const int64_t> x, DType dtype) const {
    Planes p;
    OCIOR_ASSIGN(p.scales, Scales::read(c, dtype, info.name));
    p.channels = std::max<int64_t>(1, channels_last ? x.back() : x[1]);
    p.count = x[0] * (channels_last ? x.back() : x[1]);
    p.pixels = element_count(channels_last ? x.subspan(1, x.size() - 2) : x.subspan(2));
    p.step = channels_last ? p.channels : 1;
    return p;
  }
};
OCIOR_OPERATOR(QLinearGlobalAveragePool)

struct QLinearReduceMean {
  static constexpr OpInfo info{.name = "QLinearReduceMean", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 5};
  std::vector<int64_t> axes;  // empty: all
  bool keep = true;

  static QLinearReduceMean parse(const NodeReader& node) { return {node.integers("axes"), node.integer("keepdims", 1) != 0}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_operands(c, info.name));
    c.set(0, c.dtype(kX), std::nullopt);
    if (!ranked(c, kX)) return {};
    OCIOR_ASSIGN(const std::vector<bool> gone, reduced(rank(c, kX)));
    Dims y;
    for (size_t i = 0; i < gone.size(); ++i)
      if (!gone[i] || keep) y.push_back(gone[i] ? Dim(1) : (*c.shape(kX))[i]);
    c.set(0, c.dtype(kX), std::move(y));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(kX);
    OCIOR_ASSIGN(const Scales scales, Scales::read(c, x.dtype(), info.name));
    OCIOR_ASSIGN(const std::vector<bool> gone, reduced(x.rank()));
    Shape y = x.shape();
    for (size_t i = 0; i < y.size(); ++i)
      if (gone[i]) y[i] = 1;
    const std::vector<int64_t> to = nn::broadcast_index(y, x.shape());
    std::vector<int64_t> sums(static_cast<size_t>(c.out(0).count()));
    for (size_t i = 0; i < to.size(); ++i)
      sums[static_cast<size_t>(to[i])] += get_int(x.dtype(), x.data(), static_cast<int64_t>(i));
    const int64_t n = sums.empty() ? 0 : static_cast<int64_t>(to.size() / sums.size());
    for (size_t i = 0; i < sums.size(); ++i)
      set_int(x.dtype(), c.out(0).data(), static_cast<int64_t>(i), scales.mean(sums[i], n));
    return {};
  }

  static std::vector<Sample> samples() {
    using Ints = std::vector<int64_t>;
    std::vector<Sample> out;
    append(out, samples_of({2, 3, 4}, {}));
    append(out, samples_of({2, 3, 4}, {{"axes", Ints{-1}}, {"keepdims", int64_t{0}}}));
    append(out, samples_of({2, 3, 4}, {{"axes", Ints{0, 2}}}));
    append(out, samples_of({2, 0}, {{"axes", Ints{0}}}));
    return out;
  }

 private:
  Result<std::vector<bool>> reduced(int64_t rank) const {
    std::vector<bool> out(static_cast<size_t>(rank), axes.empty());
    OCIOR_ASSIGN(const std::vector<int64_t> resolved, resolve_axes(axes, rank));
    for (const int64_t a : resolved) out[static_cast<size_t>(a)] = true;
    return out;
  }
};
OCIOR_OPERATOR(QLinearReduceMean)

// Of the softmax with the meaning of opset `opset`: over one axis, or before 13 over all axes from one on.
struct QLinearSoftmax {
  static constexpr OpInfo info{.name = "QLinearSoftmax", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 5};
  int64_t axis = -1;
  bool flattens = false;

  static QLinearSoftmax parse(const NodeReader& node) {
    const int64_t opset = node.required_integer("opset");
    if (opset < 1 || opset > kNewestOpset) node.fail("opset is {}; expected 1 to {}", opset, kNewestOpset);
    return {node.integer("axis", -1), opset < 13};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_operands(c, info.name));
    if (ranked(c, kX)) OCIOR_RETURN_IF_ERROR(resolve_axis(axis, rank(c, kX)).status());
    return infer_unary(c);
  }

  Status reference(RefContext& c) const {
    const auto* x = static_cast<const uint8_t*>(c.in(kX).data());
    OCIOR_ASSIGN(const Lines l, make(c, c.in(kX).shape(), c.in(kX).dtype()));
    for (int64_t i = 0; i < l.outer * l.inner; ++i) l.line(x, c.out(0).as<uint8_t>(), i);
    return {};
  }

  Status run(CpuContext& c) const {
    const auto* x = static_cast<const uint8_t*>(c.in(kX).data);
    auto* y = static_cast<uint8_t*>(c.out(0).data);
    OCIOR_ASSIGN(const Lines l, make(c, c.in(kX).shape, c.in(kX).dtype));
    for_items(c, l.outer * l.inner, 2 * l.length, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) l.line(x, y, i);
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const int64_t opset : {11, 13})
      for (const int64_t axis : {0, 1, -1}) append(out, samples_of({3, 4, 5}, {{"opset", opset}, {"axis", axis}}));
    append(out, samples_of({3, 0}, {{"opset", int64_t{13}}}));
    append(out, samples_of({64, 1000}, {{"opset", int64_t{13}}}));
    return out;
  }

 private:
  struct Lines {
    Scales scales;
    std::array<double, 256> power;  // exp of minus so many of x's scales
    int64_t outer = 1, length = 1, inner = 1;

    void line(const uint8_t* x, uint8_t* y, int64_t i) const {
      const int64_t first = i / inner * length * inner + i % inner;
      const auto at = [&](int64_t k) { return static_cast<int>(x[first + k * inner]) ^ sign(); };
      int most = 0;
      for (int64_t k = 0; k < length; ++k) most = std::max(most, at(k));
      double sum = 0;
      for (int64_t k = 0; k < length; ++k) sum += power[static_cast<size_t>(most - at(k))];
      for (int64_t k = 0; k < length; ++k) {
        const double share = power[static_cast<size_t>(most - at(k))] / sum;
        y[first + k * inner] = static_cast<uint8_t>(scales.y.byte(static_cast<float>(share) / scales.y.scale));
      }
    }
    int sign() const { return scales.x.dtype == DType::kInt8 ? 0x80 : 0; }
  };

  template <class C>
  Result<Lines> make(const C& c, std::span<const int64_t> x, DType dtype) const {
    Lines l;
    OCIOR_ASSIGN(l.scales, Scales::read(c, dtype, info.name));
    OCIOR_ASSIGN(const int64_t a, resolve_axis(axis, static_cast<int64_t>(x.size())));
    l.outer = element_count(x.first(static_cast<size_t>(a)));
    l.length = flattens ? element_count(x.subspan(static_cast<size_t>(a))) : x[static_cast<size_t>(a)];
    l.inner = flattens ? 1 : element_count(x.subspan(static_cast<size_t>(a) + 1));
    for (size_t i = 0; i < l.power.size(); ++i)
      l.power[i] = std::exp(-static_cast<double>(i) * static_cast<double>(l.scales.x.scale));
    return l;
  }
};
OCIOR_OPERATOR(QLinearSoftmax)

}  // namespace ocior::ops
