// DeformConv: a convolution whose taps lie at learned offsets, between elements too
// (https://onnx.ai/onnx/operators/onnx__DeformConv.html; Zhu et al., "Deformable ConvNets v2", 2018).
#include <cmath>

#include "base/pool.h"
#include "ops/conv/window.h"
#include "ops/evaluate.h"
#include "ops/nn/gemm_driver.h"
#include "ops/nn/numeric.h"

namespace ocior::ops {
namespace {

constexpr int64_t kMaxDeformed = 8;  // spatial axes: a sample between elements has 2^axes neighbours

// The value at a place between the elements of one channel; elements outside are 0. read(offset) gives an element.
template <class Read>
double sample(const conv::Geometry& g, const double* place, const Read& read) {
  int64_t low[kMaxDeformed];
  double part[kMaxDeformed];
  for (int64_t i = 0; i < g.spatial; ++i) {
    if (!(place[i] > -1 && place[i] < static_cast<double>(g.axes[static_cast<size_t>(i)].in))) return 0;
    const double floor = std::floor(place[i]);
    low[i] = static_cast<int64_t>(floor), part[i] = place[i] - floor;
  }
  double sum = 0;
  for (int64_t corner = 0; corner < int64_t{1} << g.spatial; ++corner) {
    double weight = 1;
    int64_t offset = 0;
    bool inside = true;
    for (int64_t i = 0; i < g.spatial; ++i) {
      const bool high = corner >> i & 1;
      const int64_t at = low[i] + (high ? 1 : 0), in = g.axes[static_cast<size_t>(i)].in;
      weight *= high ? part[i] : 1 - part[i];
      inside = inside && at >= 0 && at < in;
      offset = offset * in + at;
    }
    if (inside && weight != 0) sum += weight * read(offset);
  }
  return sum;
}

// Where the taps of pixel p begin, before offsets.
template <class OffsetAt>
void place_of(const conv::Geometry& g, int64_t p, int64_t tap, const OffsetAt& offset, double* place) {
  for (int64_t i = g.spatial; i-- > 0;) {
    const conv::Axis& a = g.axes[static_cast<size_t>(i)];
    place[i] = static_cast<double>(a.place(p % a.out, tap % a.kernel)) + offset(i);
    p /= a.out, tap /= a.kernel;
  }
}

}  // namespace

struct DeformConv {
  static constexpr OpInfo info{.name = "DeformConv", .since = 19, .min_inputs = 3, .max_inputs = 5};

  conv::Window window;
  int64_t offset_group = 1;

  static DeformConv parse(const NodeReader& node) {
    DeformConv op{conv::Window::parse(node, false), node.integer("offset_group", 1)};
    if (op.offset_group < 1) node.fail("offset_group is {}; expected 1 or more", op.offset_group);
    return op;
  }

  Status infer(ShapeContext& c) const {
    for (int i = 0; i < 5; ++i) {
      OCIOR_RETURN_IF_ERROR(check_type(c, i, kFloats, "DeformConv"));
      OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, i, "DeformConv"));
    }
    OCIOR_ASSIGN(std::optional<Dims> shape, window.infer(c, 0, 1, 3));
    if (shape && std::ssize(*shape) - 2 > kMaxDeformed)
      return error(Code::kNotImplemented, "DeformConv: {} spatial axes are not supported; the limit is {}", shape->size() - 2,
                   kMaxDeformed);
    if (ranked(c, 0) && (*c.shape(0))[1].known() && (*c.shape(0))[1].value() % offset_group != 0)
      return error(Code::kInvalidArgument, "DeformConv: x of shape {} has channels that offset_group {} does not divide",
                   to_string(*c.shape(0)), offset_group);
    if (shape) {
      const int64_t spatial = std::ssize(*shape) - 2;
      OCIOR_ASSIGN(const Dims kernel, conv::kernel_dims(c, 1, window, spatial));
      int64_t count = offset_group;
      bool overflow = false;
      for (const Dim& k : kernel)
        if (k.known()) overflow = overflow || __builtin_mul_overflow(count, k.value(), &count);
        else count = 0;  // unknown
      if (overflow || count > INT64_MAX / kMaxDeformed)
        return error(Code::kInvalidArgument, "DeformConv: offset_group {} is too large", offset_group);
      OCIOR_RETURN_IF_ERROR(check_map(c, 2, *shape, count * spatial));
      OCIOR_RETURN_IF_ERROR(check_map(c, 4, *shape, count));
    }
    c.set(0, c.dtype(0), std::move(shape));
    return {};
  }

  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(const conv::Geometry g, window.geometry(c.in(0).shape(), c.in(1).shape()));
    const std::vector<double> x = nn::doubles(c.in(0)), w = nn::doubles(c.in(1)), offsets = nn::doubles(c.in(2));
    const std::vector<double> bias = c.has(3) ? nn::doubles(c.in(3)) : std::vector<double>();
    const std::vector<double> mask = c.has(4) ? nn::doubles(c.in(4)) : std::vector<double>();
    std::vector<double> y(static_cast<size_t>(c.out(0).count()));
    const int64_t pixels = g.pixels(), taps = g.taps(), plane = g.plane(), inputs = g.group_channels();
    for (size_t i = 0; i < y.size(); ++i) {
      const auto p = static_cast<int64_t>(i) % pixels, m = static_cast<int64_t>(i) / pixels % g.out_channels;
      const int64_t n = static_cast<int64_t>(i) / pixels / g.out_channels;
      y[i] = bias.empty() ? 0 : bias[static_cast<size_t>(m)];
      for (int64_t k = 0; k < inputs; ++k) {
        const int64_t channel = m / g.group_outputs() * inputs + k;
        for (int64_t t = 0; t < taps; ++t) {
          const double* from = x.data() + (n * g.channels + channel) * plane;
          const double value = tap_value(g, n, channel, t, p, offsets.data(), mask.empty() ? nullptr : mask.data(),
                                         [from](int64_t at) { return from[at]; });
          y[i] += value * w[static_cast<size_t>((m * inputs + k) * taps + t)];
        }
      }
    }
    nn::store(c.out(0), y);
    return {};
  }

  size_t scratch(const BindContext& c) const {
    if (c.in(0).dtype != DType::kFloat || c.out(0).count() == 0) return 0;
    const auto g = window.geometry(c.in(0).shape, c.in(1).shape);
    if (!g.ok()) return 0;
    const int64_t k = g->group_channels() * g->taps();
    size_t count;
    if (__builtin_mul_overflow(k, g->pixels(), &count) || count > SIZE_MAX / 16) return SIZE_MAX / 2;  // the run is refused
    return nn::align64(count * sizeof(float)) +
           nn::plain_scratch(c.kernels(), c.workers(), 1, g->group_outputs(), g->pixels(), k);
  }

  double work(const BindContext& c) const {
    const auto outputs = static_cast<double>(std::max<int64_t>(1, c.in(1).shape[0]));
    return 4.0 * static_cast<double>(c.out(0).count()) * static_cast<double>(c.in(1).count()) / outputs;
  }

  // For every image and group: the sampled columns, then y = w * columns.
  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    if (c.out(0).count() == 0) return {};
    OCIOR_ASSIGN(const conv::Geometry g, window.geometry(c.in(0).shape, c.in(1).shape));
    const int64_t pixels = g.pixels(), taps = g.taps(), plane = g.plane(), inputs = g.group_channels(),
                  outputs = g.group_outputs();
    auto* const cols = static_cast<float*>(c.scratch());
    const size_t cols_bytes = nn::align64(static_cast<size_t>(inputs * taps * pixels) * sizeof(float));
    const float* mask = c.has(4) ? c.in(4).as<float>() : nullptr;
    for (int64_t i = 0; i < g.batch * g.group && !(c.stop() && c.stop()->requested()); ++i) {
      const int64_t n = i / g.group, group = i % g.group;
      nn::parallel_rows(c, inputs * taps, 8 * pixels, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
          const int64_t channel = group * inputs + row / taps;
          const float* from = c.in(0).as<float>() + (n * g.channels + channel) * plane;
          for (int64_t p = 0; p < pixels; ++p)
            cols[row * pixels + p] = static_cast<float>(tap_value(g, n, channel, row % taps, p, c.in(2).as<float>(), mask,
                                                                  [from](int64_t at) { return static_cast<double>(from[at]); }));
        }
      });
      float* const y = c.out(0).as<float>() + (n * g.out_channels + group * outputs) * pixels;
      GemmArgs args;
      args.a = c.in(1).as<float>() + group * outputs * inputs * taps, args.lda = inputs * taps;
      args.c = y, args.ldc = pixels, args.m = outputs, args.n = pixels, args.k = inputs * taps;
      nn::multiply_plain(c, args, {cols, pixels, false}, static_cast<std::byte*>(c.scratch()) + cols_bytes);
      if (!c.has(3)) continue;
      const float* bias = c.in(3).as<float>() + group * outputs;
      nn::parallel_rows(c, outputs, pixels, [&](int64_t begin, int64_t end, int) {
        for (int64_t m = begin; m < end; ++m)
          c.kernels().binary_f32(BinaryFn::kAdd, y + m * pixels, 1, bias + m, 0, y + m * pixels, pixels);
      });
    }
    return {};
  }

  static std::vector<Sample> samples();

 private:
  // Fails unless input i is [batch, count, output's spatial dims]; count 0: not known.
  static Status check_map(ShapeContext& c, int i, const Dims& y, int64_t count) {
    if (!c.has(i) || !ranked(c, i)) return {};
    Dims want = y;
    want[1] = count == 0 ? c.fresh("offsets") : Dim(count);
    if (nn::may_equal(*c.shape(i), want)) return {};
    return error(Code::kInvalidArgument, "DeformConv: input {} has shape {}; expected {}", i, to_string(*c.shape(i)),
                 to_string(want));
  }

  // Tap t of pixel p in one channel of image n: the sample, times its mask.
  template <class T, class Read>
  double tap_value(const conv::Geometry& g, int64_t n, int64_t channel, int64_t t, int64_t p, const T* offsets, const T* mask,
                   const Read& read) const {
    const int64_t pixels = g.pixels(), taps = g.taps();
    const int64_t map = (n * offset_group + channel / (g.channels / offset_group)) * taps + t;
    double place[kMaxDeformed];
    place_of(
        g, p, t, [&](int64_t i) { return static_cast<double>(offsets[(map * g.spatial + i) * pixels + p]); }, place);
    const double value = sample(g, place, read);
    return mask ? value * static_cast<double>(mask[map * pixels + p]) : value;
  }
};

std::vector<Sample> DeformConv::samples() {
  using Ints = std::vector<int64_t>;
  std::vector<Sample> out;
  const auto add = [&out](Shape x, Shape w, Shape y, Attributes attributes, bool bias, bool mask, DType dtype = DType::kFloat) {
    const auto groups = attributes.count("offset_group") ? std::get<int64_t>(attributes.at("offset_group")) : 1;
    const int64_t outputs = w[0], taps = element_count(std::span<const int64_t>(w).subspan(2)), spatial = std::ssize(w) - 2;
    Shape offsets = y, masks = y;
    offsets[1] = groups * taps * spatial, masks[1] = groups * taps;
    out.push_back({.inputs = {{.dtype = dtype, .shape = std::move(x)},
                              {.dtype = dtype, .shape = std::move(w)},
                              {.dtype = dtype, .shape = std::move(offsets), .fill = Fill::kNormal},
                              {.dtype = dtype, .shape = {outputs}, .omitted = !bias},
                              {.dtype = dtype, .shape = std::move(masks), .omitted = !mask}},
                   .attributes = std::move(attributes),
                   .tolerance = dtype == DType::kFloat    ? 1e-5
                                : dtype == DType::kDouble ? 1e-14
                                                          : 1e-2});
  };
  for (const bool bias : {false, true})
    for (const bool mask : {false, true}) {
      add({1, 1, 3, 3}, {1, 1, 2, 2}, {1, 1, 4, 4}, {{"pads", Ints{1, 1, 1, 1}}}, bias, mask);
      add({2, 4, 6, 7}, {6, 2, 3, 2}, {2, 6, 4, 3},
          {{"group", int64_t{2}}, {"offset_group", int64_t{2}}, {"strides", Ints{1, 2}}}, bias, mask);
      add({1, 3, 9}, {2, 3, 3}, {1, 2, 5}, {{"dilations", Ints{2}}}, bias, mask);
      add({1, 2, 3, 4, 4}, {2, 2, 2, 2, 2}, {1, 2, 2, 3, 3}, {{"kernel_shape", Ints{2, 2, 2}}}, bias, mask);
    }
  add({0, 1, 3, 3}, {1, 1, 2, 2}, {0, 1, 2, 2}, {}, true, true);
  for (const DType dtype : {DType::kDouble, DType::kFloat16, DType::kBFloat16})
    add({1, 2, 4, 4}, {3, 2, 2, 2}, {1, 3, 3, 3}, {}, true, true, dtype);
  return out;
}

OCIOR_OPERATOR(DeformConv)

}  // namespace ocior::ops
