// What the convolutions share: their attributes, the sizes that follow from them, and the plain sum that they mean. Values;
// thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "ops/shape_data.h"

namespace ocior::ops::conv {

inline constexpr int64_t kMaxSpatial = kMaxRank - 2;
inline constexpr int64_t kMaxAttribute = INT32_MAX;  // of strides, dilations and pads: keeps products of sizes in range

enum class AutoPad { kNotSet, kSameUpper, kSameLower, kValid };

// One spatial axis of a concrete convolution. Output place o meets input place o * stride - before + tap * dilation.
struct Axis {
  int64_t in = 1, out = 1, kernel = 1, stride = 1, dilation = 1, before = 0;
  int64_t place(int64_t o, int64_t tap) const { return o * stride - before + tap * dilation; }
};

// A concrete convolution: x [batch, channels, in...], w [out_channels, channels / group, kernel...].
struct Geometry {
  int64_t batch = 0, channels = 0, out_channels = 0, group = 1, spatial = 0;
  std::array<Axis, kMaxSpatial> axes;

  int64_t group_channels() const { return channels / group; }
  int64_t group_outputs() const { return out_channels / group; }
  int64_t plane() const { return product(&Axis::in); }    // elements of a channel of x
  int64_t pixels() const { return product(&Axis::out); }  // elements of a channel of y
  int64_t taps() const { return product(&Axis::kernel); }

 private:
  int64_t product(int64_t Axis::*member) const {
    int64_t n = 1;
    for (int64_t i = 0; i < spatial; ++i) n *= axes[static_cast<size_t>(i)].*member;
    return n;
  }
};

// The attributes of Conv, ConvInteger, QLinearConv, DeformConv and ConvTranspose. Empty lists: the default for every axis.
struct Window {
  AutoPad auto_pad = AutoPad::kNotSet;
  int64_t group = 1;
  std::vector<int64_t> kernel, strides, dilations, pads;

  static Window parse(const NodeReader& node, bool has_auto_pad = true);

  // Fails unless lists fit `spatial` axes.
  Status check_rank(int64_t spatial) const;
  int64_t stride(int64_t axis) const { return strides.empty() ? 1 : strides[static_cast<size_t>(axis)]; }
  int64_t dilation(int64_t axis) const { return dilations.empty() ? 1 : dilations[static_cast<size_t>(axis)]; }
  int64_t pad_before(int64_t axis) const { return pads.empty() ? 0 : pads[static_cast<size_t>(axis)]; }
  int64_t pad_after(int64_t axis) const { return pads.empty() ? 0 : pads[pads.size() / 2 + static_cast<size_t>(axis)]; }

  // The sizes along one axis, of `in` elements and a kernel of `kernel`.
  Result<Axis> axis(int64_t i, int64_t in, int64_t kernel) const;
  // The concrete convolution of x and w; their shapes passed infer().
  Result<Geometry> geometry(std::span<const int64_t> x, std::span<const int64_t> w) const;

  // The output's shape of inputs `x` and `w` (and `bias`, when >= 0); unknown where they are. Fails where they do not fit.
  Result<std::optional<Dims>> infer(ShapeContext& c, int x, int w, int bias) const;
};

// Rank, channels and bias of a convolution: what infer() of all of them checks first. w_in and w_out are the axes of w that hold
// input and output channels; `spatial` receives the number of spatial axes, or -1 when no input tells.
Result<int64_t> spatial_rank(const ShapeContext& c, int x, int w, const Window& window);
// The kernel's size along every axis, from the attribute or from w; a fresh dim where neither tells.
Result<Dims> kernel_dims(ShapeContext& c, int w, const Window& window, int64_t spatial);

// Calls f(p, offsets) for every output pixel p: offsets[tap] is the place in a channel of x, or -1 in the padding.
template <class F>
void for_pixels(const Geometry& g, F&& f) {
  const int64_t taps = g.taps();
  std::vector<int64_t> offsets(static_cast<size_t>(taps));
  std::vector<int64_t> at(static_cast<size_t>(g.spatial)), tap(static_cast<size_t>(g.spatial));
  const auto next = [&g](std::vector<int64_t>& index, int64_t Axis::*extent) {
    for (size_t i = index.size(); i-- > 0;) {
      if (++index[i] < g.axes[i].*extent) return;
      index[i] = 0;
    }
  };
  for (int64_t p = 0, pixels = g.pixels(); p < pixels; ++p, next(at, &Axis::out)) {
    for (int64_t t = 0; t < taps; ++t, next(tap, &Axis::kernel)) {
      int64_t offset = 0;
      for (size_t i = 0; i < at.size() && offset >= 0; ++i) {
        const int64_t place = g.axes[i].place(at[i], tap[i]);
        offset = place < 0 || place >= g.axes[i].in ? -1 : offset * g.axes[i].in + place;
      }
      offsets[static_cast<size_t>(t)] = offset;
    }
    f(p, std::span<const int64_t>(offsets));
  }
}

// The sums of a convolution in T, without bias: y[n, m, p] = sum of x * w over the channels of m's group and all taps inside x.
template <class T>
std::vector<T> convolve(const Geometry& g, const std::vector<T>& x, const std::vector<T>& w) {
  const int64_t taps = g.taps(), plane = g.plane(), pixels = g.pixels(), inputs = g.group_channels();
  std::vector<T> y(static_cast<size_t>(g.batch * g.out_channels * pixels));
  if (y.empty() || x.empty() || w.empty()) return y;
  for_pixels(g, [&](int64_t p, std::span<const int64_t> offsets) {
    for (int64_t n = 0; n < g.batch; ++n)
      for (int64_t m = 0; m < g.out_channels; ++m) {
        T sum = 0;
        for (int64_t c = 0; c < inputs; ++c) {
          const T* from = x.data() + (n * g.channels + m / g.group_outputs() * inputs + c) * plane;
          const T* weight = w.data() + (m * inputs + c) * taps;
          for (int64_t t = 0; t < taps; ++t)
            if (const int64_t offset = offsets[static_cast<size_t>(t)]; offset >= 0) sum += from[offset] * weight[t];
        }
        y[static_cast<size_t>((n * g.out_channels + m) * pixels + p)] = sum;
      }
  });
  return y;
}

// Adds the products of one channel of a transposed convolution, cols [taps, pixels], to the plane that the taps meet: the inverse
// of gathering. Always in the same order; nothing allocates.
template <class T>
void scatter_plane(const Geometry& g, const T* cols, T* plane) {
  const Axis& w = g.axes[static_cast<size_t>(g.spatial - 1)];
  const int64_t taps = g.taps(), rows = g.pixels() / std::max<int64_t>(1, w.out);
  for (int64_t t = 0; t < taps; ++t) {
    const int64_t shift = t % w.kernel * w.dilation - w.before;  // of element 0 of a row
    const int64_t lo = shift >= 0 ? 0 : std::min(w.out, (-shift + w.stride - 1) / w.stride);
    const int64_t hi = shift >= w.in ? 0 : std::min(w.out, (w.in - shift + w.stride - 1) / w.stride);
    for (int64_t row = 0; row < rows; ++row, cols += w.out) {
      int64_t offset = 0, step = 1, at = row, tap = t / w.kernel;
      for (int64_t i = g.spatial - 1; i-- > 0 && offset >= 0;) {
        const Axis& a = g.axes[static_cast<size_t>(i)];
        const int64_t place = a.place(at % a.out, tap % a.kernel);
        offset = place < 0 || place >= a.in ? -1 : offset + place * step;
        step *= a.in, at /= a.out, tap /= a.kernel;
      }
      if (offset < 0) continue;
      T* to = plane + offset * w.in;
      for (int64_t i = lo; i < hi; ++i) to[i * w.stride + shift] += cols[i];
    }
  }
}

}  // namespace ocior::ops::conv
