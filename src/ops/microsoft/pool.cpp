// NhwcMaxPool and MaxpoolWithMask of com.microsoft: the largest element of a window in images whose channels come last, and of
// the elements of a window that a mask shows.
#include <functional>
#include <limits>

#include "ops/microsoft/microsoft.h"
#include "ops/nn/pool.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

using nn::PoolAxis;
using nn::PoolWindow;

// Calls f(first, count, step) for every row of elements that the window at output place p covers in a plane.
template <class F>
void each_row(std::span<const PoolAxis> axes, int64_t p, F&& f) {
  int64_t place[kMaxRank], begin[kMaxRank], end[kMaxRank], tap[kMaxRank];
  for (size_t i = axes.size(); i-- > 0; p /= axes[i].out) {
    place[i] = p % axes[i].out;
    tap[i] = begin[i] = axes[i].first(place[i]), end[i] = axes[i].last(place[i]);
    if (begin[i] >= end[i]) return;
  }
  const size_t last = axes.size() - 1;
  for (;;) {
    int64_t at = 0;
    for (size_t i = 0; i < axes.size(); ++i) at = at * axes[i].in + axes[i].start(place[i]) + tap[i] * axes[i].dilation;
    f(at, end[last] - begin[last], axes[last].dilation);
    size_t i = last;
    while (i > 0 && ++tap[i - 1] == end[i - 1]) --i, tap[i] = begin[i];
    if (i == 0) return;
  }
}

int64_t outputs_of(std::span<const PoolAxis> axes) {
  int64_t n = 1;
  for (const PoolAxis& a : axes) n *= a.out;
  return n;
}

int64_t inputs_of(std::span<const PoolAxis> axes) {
  int64_t n = 1;
  for (const PoolAxis& a : axes) n *= a.in;
  return n;
}

std::vector<Sample> pool_samples(const std::function<void(Sample&, const Shape&)>& inputs) {
  using Ints = std::vector<int64_t>;
  std::vector<Sample> out;
  const auto add = [&](const Shape& x, Attributes attributes) {
    Sample s{.attributes = std::move(attributes)};
    inputs(s, x);
    out.push_back(std::move(s));
  };
  add({2, 3, 9}, {{"kernel_shape", Ints{2}}});
  add({1, 2, 5, 7}, {{"kernel_shape", Ints{3, 2}}, {"pads", Ints{1, 0, 1, 1}}, {"strides", Ints{2, 1}}});
  add({2, 2, 4, 5, 6}, {{"kernel_shape", Ints{2, 3, 2}}, {"pads", Ints{1, 1, 0, 0, 1, 1}}, {"strides", Ints{2, 1, 2}}});
  for (const char* mode : {"SAME_UPPER", "SAME_LOWER", "VALID"})
    add({1, 2, 5, 6}, {{"kernel_shape", Ints{3, 2}}, {"auto_pad", std::string(mode)}, {"strides", Ints{2, 2}}});
  add({0, 3, 5}, {{"kernel_shape", Ints{2}}});
  return out;
}

}  // namespace

struct NhwcMaxPool {
  static constexpr OpInfo info{.name = "NhwcMaxPool", .domain = kMicrosoft};

  PoolWindow window;

  static NhwcMaxPool parse(const NodeReader& node) { return {PoolWindow::parse(node, 1, 1)}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, types(DType::kInt8, DType::kUint8), info.name));
    std::optional<Dims> out;
    if (c.shape(0)) {
      Dims x = *c.shape(0);
      if (x.size() != window.axes() + 2)
        return error(Code::kInvalidArgument, "x has shape {}; expected [n, {} spatial axes, channels]", to_string(x),
                     window.axes());
      std::rotate(x.begin() + 1, x.end() - 1, x.end());
      OCIOR_ASSIGN(out, window.infer(c, x));
      std::rotate(out->begin() + 1, out->begin() + 2, out->end());
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    if (c.out(0).count() == 0) return {};
    OCIOR_ASSIGN(const auto axes, plan(c.in(0).shape()));
    const int64_t rows = c.in(0).shape()[0] * outputs_of(axes);
    pool(c.in(0).dtype(), c.in(0).data(), c.out(0).data(), axes, c.in(0).shape().back(), 0, rows);
    return {};
  }

  double work(const BindContext& c) const { return window.work(c); }

  Status run(CpuContext& c) const {
    if (c.out(0).count() == 0) return {};
    OCIOR_ASSIGN(const auto axes, plan(c.in(0).shape));
    const int64_t channels = c.in(0).shape.back();
    nn::parallel_rows(c, c.in(0).shape[0] * outputs_of(axes), 4 * channels, [&](int64_t begin, int64_t end, int) {
      pool(c.in(0).dtype, c.in(0).data, c.out(0).data, axes, channels, begin, end);
    });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kInt8, DType::kUint8}) {
      std::vector<Sample> some = pool_samples([&](Sample& s, const Shape& x) {
        s.inputs = {{t, x, Fill::kSmallInts}};
        s.attributes["dilations"] = std::vector<int64_t>(x.size() - 2, s.attributes.contains("auto_pad") ? 1 : 2);
        s.attributes["ceil_mode"] = int64_t{1};
        std::rotate(s.inputs[0].shape.begin() + 1, s.inputs[0].shape.begin() + 2, s.inputs[0].shape.end());
      });
      out.insert(out.end(), some.begin(), some.end());
    }
    return out;
  }

 private:
  Result<std::vector<PoolAxis>> plan(const Shape& x) const { return plan(std::span<const int64_t>(x)); }
  Result<std::vector<PoolAxis>> plan(std::span<const int64_t> x) const {
    Shape planes(x.begin(), x.end());
    std::rotate(planes.begin() + 1, planes.end() - 1, planes.end());
    return window.plan(planes);
  }

  // Rows of channels [begin, end) of the output.
  static void pool(DType t, const void* x, void* y, const std::vector<PoolAxis>& axes, int64_t channels, int64_t begin,
                   int64_t end) {
    if (t == DType::kInt8) pool_as(static_cast<const int8_t*>(x), static_cast<int8_t*>(y), axes, channels, begin, end);
    else pool_as(static_cast<const uint8_t*>(x), static_cast<uint8_t*>(y), axes, channels, begin, end);
  }
  template <class T>
  static void pool_as(const T* x, T* y, const std::vector<PoolAxis>& axes, int64_t channels, int64_t begin, int64_t end) {
    const int64_t outputs = outputs_of(axes), inputs = inputs_of(axes);
    for (int64_t i = begin; i < end; ++i) {
      const T* const image = x + i / outputs * inputs * channels;
      T* const to = y + i * channels;
      std::fill_n(to, channels, std::numeric_limits<T>::min());
      each_row(axes, i % outputs, [&](int64_t first, int64_t count, int64_t step) {
        for (int64_t k = 0; k < count; ++k) {
          const T* const from = image + (first + k * step) * channels;
          for (int64_t j = 0; j < channels; ++j) to[j] = std::max(to[j], from[j]);
        }
      });
    }
  }
};

// A masked element (0 in M, one plane for all) ends its row of the window; the first element of a plane is never masked, unless
// the plane is a vector. So ONNX Runtime's CPU has it; the schema says nothing of it.
struct MaxpoolWithMask {
  static constexpr OpInfo info{.name = "MaxpoolWithMask", .domain = kMicrosoft, .min_inputs = 2, .max_inputs = 2};

  PoolWindow window;

  static MaxpoolWithMask parse(const NodeReader& node) {
    if (const int64_t v = node.integer("storage_order", 0); v != 0) node.fail("storage_order is {}; expected 0", v);
    return {PoolWindow::parse(node, kNewestOpset + 1, kNewestOpset + 1)};
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, type_bit(DType::kFloat), info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, type_bit(DType::kInt32), info.name));
    if (window.axes() > 3) return error(Code::kNotImplemented, "{} axes are not supported; expected 1 to 3", window.axes());
    std::optional<Dims> out;
    if (c.shape(0)) {
      const Dims& x = *c.shape(0);
      OCIOR_ASSIGN(out, window.infer(c, x));
      if (c.shape(1)) {
        const Dims& m = *c.shape(1);
        bool fits = m.size() == x.size() && nn::may_equal(m[0], Dim(1)) && nn::may_equal(m[1], Dim(1));
        for (size_t i = 2; i < m.size() && fits; ++i) fits = nn::may_equal(m[i], x[i]);
        if (!fits)
          return error(Code::kNotImplemented,
                       "M of shape {} is not supported; expected that of X, {}, with 1 for its first two axes", to_string(m),
                       to_string(x));
      }
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    if (c.out(0).count() == 0) return {};
    OCIOR_ASSIGN(const auto axes, window.plan(c.in(0).shape()));
    const int64_t planes = c.in(0).shape()[0] * c.in(0).shape()[1], kept = axes.size() == 1 ? -1 : 0;
    const auto* const shown = c.in(1).as<int32_t>();
    const int64_t outputs = outputs_of(axes), inputs = inputs_of(axes);
    for (int64_t i = 0; i < planes * outputs; ++i) {
      const float* const x = c.in(0).as<float>() + i / outputs * inputs;
      float best = std::numeric_limits<float>::lowest();
      each_row(axes, i % outputs, [&](int64_t at, int64_t count, int64_t step) {
        for (; count > 0 && (at == kept || shown[at] != 0); --count, at += step) best = x[at] > best ? x[at] : best;
      });
      c.out(0).as<float>()[i] = best;
    }
    return {};
  }

  static std::vector<Sample> samples() {
    return pool_samples([](Sample& s, const Shape& x) {
      Shape mask = x;
      mask[0] = mask[1] = 1;
      s.inputs = {{.shape = x}, {DType::kInt32, mask, Fill::kBools}};
    });
  }
};

OCIOR_OPERATOR(MaxpoolWithMask)
OCIOR_OPERATOR(NhwcMaxPool)

}  // namespace ocior::ops
