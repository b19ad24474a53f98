// ConvTranspose: the adjoint of Conv (https://onnx.ai/onnx/operators/onnx__ConvTranspose.html). Here the geometry is that of the
// convolution that it is the adjoint of: its input is y, its output x.
#include "base/pool.h"
#include "ops/conv/window.h"
#include "ops/loops.h"
#include "ops/nn/gemm_driver.h"
#include "ops/nn/numeric.h"

namespace ocior::ops {

struct ConvTranspose {
  static constexpr OpInfo info{.name = "ConvTranspose", .min_inputs = 2, .max_inputs = 3};

  conv::Window window;
  std::vector<int64_t> output_padding, output_shape;

  static ConvTranspose parse(const NodeReader& node) {
    ConvTranspose op{conv::Window::parse(node), node.integers("output_padding"), node.integers("output_shape")};
    for (const auto& [name, list] : {std::pair{"output_padding", &op.output_padding}, {"output_shape", &op.output_shape}})
      for (const int64_t v : *list)
        if (v < 0 || v > conv::kMaxAttribute) node.fail("{} holds {}; expected 0 to {}", name, v, conv::kMaxAttribute);
    return op;
  }

  Status infer(ShapeContext& c) const {
    for (int i = 0; i < 3; ++i) OCIOR_RETURN_IF_ERROR(check_type(c, i, kFloats, "ConvTranspose"));
    for (int i = 1; i < 3; ++i) OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, i, "ConvTranspose"));
    c.set(0, c.dtype(0), std::nullopt);
    OCIOR_ASSIGN(const int64_t spatial, conv::spatial_rank(c, 0, 1, window));
    if (spatial < 0) return {};
    OCIOR_RETURN_IF_ERROR(check_lists(spatial));
    const Dim batch = ranked(c, 0) ? (*c.shape(0))[0] : c.fresh("batch");
    const Dim outputs = ranked(c, 1) ? (*c.shape(1))[1] * window.group : c.fresh("channels");
    OCIOR_RETURN_IF_ERROR(check_channels(c, outputs));
    OCIOR_ASSIGN(const Dims taps, conv::kernel_dims(c, 1, window, spatial));
    Dims out{batch, outputs};
    for (int64_t i = 0; i < spatial; ++i) {
      const Dim& k = taps[static_cast<size_t>(i)];
      const Dim in = ranked(c, 0) ? (*c.shape(0))[static_cast<size_t>(i + 2)] : c.fresh("conv");
      if (in.known() && k.known()) {
        OCIOR_ASSIGN(const conv::Axis a, axis(i, spatial, in.value(), k.value()));
        out.push_back(a.in);
      } else if (!output_shape.empty()) {
        out.push_back(wanted(i, spatial));
      } else if (is_same()) {
        out.push_back(in * window.stride(i));
      } else {
        const int64_t padding = is_valid() ? 0 : window.pad_before(i) + window.pad_after(i);
        out.push_back((in - 1) * window.stride(i) + (k - 1) * window.dilation(i) + 1 + extra(i) - padding);
      }
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    OCIOR_ASSIGN(const conv::Geometry g, geometry(c.in(0).shape(), c.in(1).shape()));
    const std::vector<double> x = nn::doubles(c.in(0)), w = nn::doubles(c.in(1));
    std::vector<double> y(static_cast<size_t>(c.out(0).count()));
    const int64_t taps = g.taps(), plane = g.plane(), pixels = g.pixels(), outputs = g.group_channels();
    if (c.has(2) && !y.empty()) {
      const std::vector<double> bias = nn::doubles(c.in(2));
      for (size_t i = 0; i < y.size(); ++i) y[i] = bias[i / static_cast<size_t>(plane) % bias.size()];
    }
    if (x.empty() || w.empty() || y.empty()) return nn::store(c.out(0), y), Status();
    conv::for_pixels(g, [&](int64_t p, std::span<const int64_t> offsets) {
      for (int64_t n = 0; n < g.batch; ++n)
        for (int64_t k = 0; k < g.out_channels; ++k)
          for (int64_t m = 0; m < outputs; ++m) {
            const double value = x[static_cast<size_t>((n * g.out_channels + k) * pixels + p)];
            double* to = y.data() + (n * g.channels + k / g.group_outputs() * outputs + m) * plane;
            for (int64_t t = 0; t < taps; ++t)
              if (const int64_t offset = offsets[static_cast<size_t>(t)]; offset >= 0)
                to[offset] += value * w[static_cast<size_t>((k * outputs + m) * taps + t)];
          }
    });
    nn::store(c.out(0), y);
    return {};
  }

  size_t scratch(const BindContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return 0;
    const auto g = geometry(c.in(0).shape, c.in(1).shape);
    return g.ok() && !is_empty(*g) ? Memory(*g, c.kernels(), c.workers(), nullptr).bytes : 0;
  }

  double work(const BindContext& c) const {
    const auto inputs = static_cast<double>(std::max<int64_t>(1, c.in(1).shape[0]));
    return 2.0 * static_cast<double>(c.in(0).count()) * static_cast<double>(c.in(1).count()) / inputs;
  }

  // For every image and group: cols[m and tap, pixel] = wᵀ x, then every channel adds its taps up.
  Status run(CpuContext& c) const {
    if (c.in(0).dtype != DType::kFloat) return run_by_reference(*this, c);
    OCIOR_ASSIGN(const conv::Geometry g, geometry(c.in(0).shape, c.in(1).shape));
    const float* bias = c.has(2) ? c.in(2).as<float>() : nullptr;
    float* y = c.out(0).as<float>();
    const int64_t plane = g.plane(), pixels = g.pixels(), taps = g.taps();
    if (is_empty(g)) {
      for (int64_t i = 0, n = c.out(0).count(); i < n; ++i) y[i] = bias ? bias[i / plane % g.channels] : 0;
      return {};
    }
    const Memory memory(g, c.kernels(), c.team().size(), c.scratch());
    const int64_t inputs = g.group_outputs(), outputs = g.group_channels(), rows = outputs * taps;
    for (int64_t group = 0; group < g.group; ++group) {
      const float* w = c.in(1).as<float>() + group * inputs * rows;
      const int64_t step = nn::rows_per_chunk(inputs);
      c.team().parallel_for(nn::chunks_of(rows, step), c.stop(), [&](int64_t i, int) {
        const int64_t begin = i * step;
        c.kernels().transpose_f32(w + begin, rows, memory.weights + begin * inputs, inputs, std::min(rows, begin + step) - begin,
                                  inputs);
      });
      for (int64_t image = 0; image < g.batch && !(c.stop() && c.stop()->requested()); ++image) {
        GemmArgs args;
        args.a = memory.weights, args.lda = inputs, args.c = memory.cols, args.ldc = pixels;
        args.m = rows, args.n = pixels, args.k = inputs;
        const float* x = c.in(0).as<float>() + (image * g.out_channels + group * inputs) * pixels;
        nn::multiply_plain(c, args, {x, pixels, false}, memory.product);
        c.team().parallel_for(outputs, c.stop(), [&](int64_t m, int) {
          const int64_t channel = group * outputs + m;
          float* to = y + (image * g.channels + channel) * plane;
          std::fill_n(to, plane, bias ? bias[channel] : 0.0f);
          conv::scatter_plane(g, memory.cols + m * taps * pixels, to);
        });
      }
    }
    return {};
  }

  static std::vector<Sample> samples();

 private:
  struct Memory {
    float *weights, *cols;
    std::byte* product;
    size_t bytes;

    Memory(const conv::Geometry& g, const KernelTable& kernels, int workers, void* base) : weights(), cols(), product(), bytes() {
      const int64_t inputs = g.group_outputs(), rows = g.group_channels() * g.taps(), pixels = g.pixels();
      size_t count;
      if (__builtin_mul_overflow(rows, pixels, &count) || count > SIZE_MAX / 16) {
        bytes = SIZE_MAX / 2;  // more than any machine has: the run is refused
        return;
      }
      nn::Carver carver(base);
      weights = carver.take<float>(static_cast<size_t>(rows * inputs));
      cols = carver.take<float>(count);
      product = carver.take(nn::plain_scratch(kernels, workers, 1, rows, pixels, inputs));
      bytes = carver.used();
    }
  };

  bool is_same() const { return window.auto_pad == conv::AutoPad::kSameUpper || window.auto_pad == conv::AutoPad::kSameLower; }
  bool is_valid() const { return window.auto_pad == conv::AutoPad::kValid; }
  int64_t extra(int64_t i) const { return output_padding.empty() ? 0 : output_padding[static_cast<size_t>(i)]; }
  // output_shape may begin with batch and channels.
  int64_t wanted(int64_t i, int64_t spatial) const {
    return output_shape[output_shape.size() - static_cast<size_t>(spatial - i)];
  }
  static bool is_empty(const conv::Geometry& g) {
    return g.batch == 0 || g.out_channels == 0 || g.channels == 0 || g.pixels() == 0 || g.plane() == 0;
  }

  Status check_lists(int64_t spatial) const {
    if (!output_padding.empty() && std::ssize(output_padding) != spatial)
      return error(Code::kInvalidGraph, "output_padding has {} elements for {} spatial axes", output_padding.size(), spatial);
    if (!output_shape.empty() && std::ssize(output_shape) != spatial && std::ssize(output_shape) != spatial + 2)
      return error(Code::kInvalidGraph, "output_shape has {} elements for {} spatial axes", output_shape.size(), spatial);
    return {};
  }

  Status check_channels(ShapeContext& c, const Dim& outputs) const {
    const Dim inputs = ranked(c, 1) ? (*c.shape(1))[0] : Dim(window.group);
    if (inputs.known() && inputs.value() % window.group != 0)
      return error(Code::kInvalidArgument, "w of shape {} has input channels that group {} does not divide",
                   to_string(*c.shape(1)), window.group);
    int64_t product;
    if (ranked(c, 1) && (*c.shape(1))[1].known() && __builtin_mul_overflow((*c.shape(1))[1].value(), window.group, &product))
      return error(Code::kInvalidArgument, "w of shape {} has too many channels for group {}", to_string(*c.shape(1)),
                   window.group);
    if (ranked(c, 0) && ranked(c, 1) && !nn::may_equal((*c.shape(0))[1], inputs))
      return error(Code::kInvalidArgument, "x of shape {} and w of shape {} differ in input channels", to_string(*c.shape(0)),
                   to_string(*c.shape(1)));
    if (c.has(2) && ranked(c, 2) && (c.shape(2)->size() != 1 || !nn::may_equal((*c.shape(2))[0], outputs)))
      return error(Code::kInvalidArgument, "the bias has shape {}; expected [{}]", to_string(*c.shape(2)), outputs.text());
    return {};
  }

  // The axis of the convolution: .in is the length along y, .out along x.
  Result<conv::Axis> axis(int64_t i, int64_t spatial, int64_t in, int64_t kernel) const {
    conv::Axis a{.out = in, .kernel = kernel, .stride = window.stride(i), .dilation = window.dilation(i)};
    if (kernel < 1)
      return error(Code::kInvalidArgument, "the kernel has {} elements along spatial axis {}; expected 1 or more", kernel, i);
    int64_t reach, full;  // of a kernel; of all outputs without padding
    bool overflow = __builtin_mul_overflow(kernel - 1, a.dilation, &reach) ||
                    __builtin_mul_overflow(std::max<int64_t>(in, 1) - 1, a.stride, &full) ||
                    __builtin_add_overflow(full, reach, &full) || __builtin_add_overflow(full, 1 + extra(i), &full) ||
                    __builtin_mul_overflow(in, a.stride, &a.in) || full > INT64_MAX / 4;
    if (overflow) return error(Code::kInvalidArgument, "the output along spatial axis {} of {} elements is too long", i, in);
    if (in == 0) full = 0;
    if (!output_shape.empty() || is_same()) {
      if (!output_shape.empty()) a.in = wanted(i, spatial);
      const int64_t total = std::max<int64_t>(0, full - a.in);
      a.before = window.auto_pad == conv::AutoPad::kSameUpper ? total / 2 : total - total / 2;
      return a;
    }
    a.before = is_valid() ? 0 : window.pad_before(i);
    a.in = full - a.before - (is_valid() ? 0 : window.pad_after(i));
    if (a.in < 0 && in > 0)
      return error(Code::kInvalidArgument, "pads {} and {} leave nothing of {} elements along spatial axis {}",
                   window.pad_before(i), window.pad_after(i), full, i);
    a.in = std::max<int64_t>(0, a.in);
    return a;
  }

  Result<conv::Geometry> geometry(std::span<const int64_t> x, std::span<const int64_t> w) const {
    conv::Geometry g{.batch = x[0],
                     .channels = w[1] * window.group,
                     .out_channels = x[1],
                     .group = window.group,
                     .spatial = std::ssize(x) - 2};
    Shape y;
    for (size_t i = 0; i + 2 < x.size(); ++i) {
      OCIOR_ASSIGN(g.axes[i], axis(static_cast<int64_t>(i), g.spatial, x[i + 2], w[i + 2]));
      y.push_back(g.axes[i].in);
    }
    for (const std::span<const int64_t> s : {x.subspan(2), w.subspan(2), std::span<const int64_t>(y)})
      OCIOR_RETURN_IF_ERROR(checked_element_count(s).status());
    return g;
  }
};

std::vector<Sample> ConvTranspose::samples() {
  using Ints = std::vector<int64_t>;
  std::vector<Sample> out;
  const auto add = [&out](Shape x, Shape w, Attributes attributes = {}, bool bias = true, DType dtype = DType::kFloat) {
    const auto group = attributes.count("group") ? std::get<int64_t>(attributes.at("group")) : 1;
    const int64_t outputs = w[1] * group;
    out.push_back({.inputs = {{.dtype = dtype, .shape = std::move(x)},
                              {.dtype = dtype, .shape = std::move(w), .constant = bias},
                              {.dtype = dtype, .shape = {outputs}, .omitted = !bias}},
                   .attributes = std::move(attributes),
                   .tolerance = dtype == DType::kFloat    ? 3e-6
                                : dtype == DType::kDouble ? 1e-14
                                                          : 1e-2});
  };
  for (const bool bias : {true, false}) {
    add({1, 1, 1}, {1, 1, 1}, {}, bias);
    add({2, 3, 9}, {3, 4, 3}, {{"strides", Ints{2}}, {"pads", Ints{1, 0}}}, bias);
    add({2, 3, 4, 5}, {3, 4, 3, 3}, {}, bias);
    add({2, 6, 4, 5}, {6, 4, 3, 2}, {{"strides", Ints{2, 3}}, {"group", int64_t{3}}, {"output_padding", Ints{1, 2}}}, bias);
    add({1, 3, 4, 5}, {3, 2, 3, 2}, {{"dilations", Ints{2, 3}}, {"pads", Ints{1, 2, 0, 1}}, {"kernel_shape", Ints{3, 2}}}, bias);
    for (const char* pad : {"SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"}) {
      add({1, 3, 4, 5}, {3, 2, 3, 4}, {{"auto_pad", std::string(pad)}, {"strides", Ints{2, 3}}}, bias);
      add({1, 3, 4, 5}, {3, 2, 3, 3}, {{"auto_pad", std::string(pad)}, {"output_shape", Ints{9, 8}}, {"strides", Ints{3, 2}}},
          bias);
    }
    add({1, 2, 3, 4, 5}, {2, 3, 2, 2, 3}, {{"strides", Ints{1, 2, 2}}, {"pads", Ints{1, 0, 1, 0, 1, 1}}}, bias);
    add({1, 40, 12, 11}, {40, 30, 4, 4}, {{"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}}, bias);
    add({0, 3, 4}, {3, 2, 3}, {}, bias);
    add({1, 0, 4}, {0, 2, 3}, {}, bias);
    add({1, 3, 0}, {3, 2, 3}, {{"output_shape", Ints{5}}}, bias);
  }
  add({1, 2, 3, 3}, {2, 2, 3, 3}, {{"output_shape", Ints{1, 2, 10, 8}}, {"strides", Ints{3, 2}}});
  out.back().opset = 1;
  for (const DType dtype : {DType::kDouble, DType::kFloat16, DType::kBFloat16})
    add({1, 2, 3, 4}, {2, 3, 2, 2}, {{"strides", Ints{2, 1}}}, true, dtype);
  return out;
}

OCIOR_OPERATOR(ConvTranspose)

}  // namespace ocior::ops
