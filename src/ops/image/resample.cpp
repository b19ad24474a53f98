#include "ops/image/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/move.h"
#include "ops/nn/numeric.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops::image {
namespace {

// The input coordinate of output place o; the formulas are ONNX's, with the output's length before rounding. Dividing by the
// scale is one division of whole numbers, so that places on a pixel are found exactly there.
double coordinate(const ResampleRules& rules, const ResampleAxis& a, int64_t o) {
  const auto x = static_cast<double>(o), in = static_cast<double>(a.in);
  switch (rules.coordinates) {
    case Coordinates::kAsymmetric: return x * in / a.length;
    case Coordinates::kHalfPixel: return (x + 0.5) * in / a.length - 0.5;
    case Coordinates::kHalfPixelSymmetric:
      return in / 2 * (1 - static_cast<double>(a.out) / a.length) + (x + 0.5) * in / a.length - 0.5;
    case Coordinates::kPytorchHalfPixel: return a.out == 1 ? 0 : (x + 0.5) * in / a.length - 0.5;
    case Coordinates::kTfHalfPixelForNn: return (x + 0.5) * in / a.length;
    case Coordinates::kAlignCorners: return o == 0 ? 0 : x * (in - 1) / (a.length - 1);
    case Coordinates::kTfCropAndResize: break;
  }
  const double step = a.out == 1 ? 0.5 : o == 0 ? 0 : x / (a.length - 1);
  return a.begin * (in - 1) + step * (a.end - a.begin) * (in - 1);
}

int64_t nearest_place(const ResampleRules& rules, const ResampleAxis& a, double x) {
  const double below = std::floor(x);
  const bool up = x != below && [&] {
    switch (rules.nearest) {
      case Nearest::kRoundPreferFloor: return x - below > 0.5;
      case Nearest::kRoundPreferCeil: return x - below >= 0.5;
      case Nearest::kFloor: return false;
      case Nearest::kCeil: return true;
      case Nearest::kFloorOrCeilWhenSmaller: break;
    }
    return a.length < static_cast<double>(a.in);
  }();
  return static_cast<int64_t>(below) + up;
}

double kernel(const ResampleRules& rules, double x) {
  x = std::fabs(x);
  if (rules.mode == Interpolation::kLinear) return std::max(0.0, 1 - x);
  const double a = rules.cubic_a;
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

// Weights of the taps around x, the first of which is at `first`.
void weigh(const ResampleRules& rules, const Taps& t, double x, double stretch, int64_t first, double* weight) {
  double sum = 0;
  for (int64_t k = 0; k < t.count; ++k) {
    const int64_t at = first + k;
    const bool out = rules.exclude_outside && (at < 0 || at >= t.in);
    weight[k] = out ? 0 : kernel(rules, (static_cast<double>(at) - x) * stretch);
    sum += weight[k];
  }
  if ((!rules.antialias && !rules.exclude_outside) || sum == 0) return;
  for (int64_t k = 0; k < t.count; ++k) weight[k] /= sum;
}

Result<Taps> axis_taps(const ResampleRules& rules, const ResampleAxis& a) {
  Taps t{.in = a.in, .out = a.out};
  t.kept = a.kept(rules);
  if (t.kept) return t;
  if (a.in == 0) return error(Code::kInvalidArgument, "an axis without elements cannot become one of {}", a.out);
  const bool nearest = rules.mode == Interpolation::kNearest;
  const double stretch = rules.antialias ? std::min(a.length / static_cast<double>(a.in), 1.0)
                                         : 1;  // below 1: the kernel is wider than its taps' spacing
  const double reach = rules.mode == Interpolation::kCubic ? 2 : 1;
  if (stretch * static_cast<double>(a.in) < 0.25)
    return error(Code::kInvalidArgument, "an axis of {} elements cannot become one of {}", a.in, a.length);
  const int64_t start = nearest ? 0 : static_cast<int64_t>(std::floor(-reach / stretch)) + 1;
  t.count = nearest ? 1 : 2 - 2 * start;
  int64_t cells = 0;
  if (__builtin_mul_overflow(a.out, t.count, &cells) || cells > (int64_t{1} << 40))
    return error(Code::kInvalidArgument, "an axis of {} elements is too large to resample", a.out);
  t.index.resize(static_cast<size_t>(cells));
  t.weight.assign(static_cast<size_t>(cells), 1);
  if (rules.coordinates == Coordinates::kTfCropAndResize) t.outside.resize(static_cast<size_t>(a.out));
  const auto last = static_cast<double>(a.in - 1);
  for (int64_t o = 0; o < a.out; ++o) {
    const double exact = coordinate(rules, a, o);
    if (!t.outside.empty()) t.outside[static_cast<size_t>(o)] = !(exact >= 0 && exact <= last);
    // Beyond the edges by more than a tap's reach every tap is on the edge; this keeps the place in range.
    const double slack = static_cast<double>(t.count);
    const double x = exact >= -slack ? std::min(exact, last + slack) : -slack;
    const int64_t first = nearest ? nearest_place(rules, a, x) : static_cast<int64_t>(std::floor(x)) + start;
    const auto row = static_cast<size_t>(o * t.count);
    for (int64_t k = 0; k < t.count; ++k) t.index[row + static_cast<size_t>(k)] = std::clamp<int64_t>(first + k, 0, a.in - 1);
    if (!nearest) weigh(rules, t, x, stretch, first, t.weight.data() + row);
  }
  return t;
}

bool outside(const Taps& t, int64_t o) { return !t.outside.empty() && t.outside[static_cast<size_t>(o)]; }

// One axis of data of `shape` [outer, axis, inner].
std::vector<double> apply(const ResampleRules& rules, const Taps& t, const std::vector<double>& x, int64_t outer, int64_t inner) {
  std::vector<double> y(static_cast<size_t>(outer * t.out * inner));
  for (int64_t p = 0; p < outer; ++p)
    for (int64_t o = 0; o < t.out; ++o) {
      double* const to = y.data() + (p * t.out + o) * inner;
      if (outside(t, o)) {
        std::fill_n(to, inner, rules.extrapolation);
        continue;
      }
      for (int64_t k = 0; k < t.count; ++k) {
        const auto at = static_cast<size_t>(o * t.count + k);
        if (t.weight[at] == 0) continue;
        const double* const from = x.data() + (p * t.in + t.index[at]) * inner;
        for (int64_t i = 0; i < inner; ++i) to[i] += t.weight[at] * from[i];
      }
    }
  return y;
}

void gather_nearest(const ResampleRules& rules, const std::vector<Taps>& axes, const Tensor& x, Tensor& y) {
  const auto strides = dense_strides(x.shape());
  std::vector<int64_t> place(axes.size());
  for (int64_t n = 0, count = y.count(); n < count; ++n) {
    int64_t from = 0;
    bool out = false;
    for (size_t i = 0; i < axes.size(); ++i) {
      const Taps& t = axes[i];
      from += (t.kept ? place[i] : t.index[static_cast<size_t>(place[i])]) * strides[i];
      out |= outside(t, place[i]);
    }
    if (out && x.dtype() != DType::kString) store<double>(y.dtype(), y.data(), n, 1, &rules.extrapolation);
    else copy_elements(x.dtype(), y.data(), n, x.data(), from, 1);
    for (size_t i = axes.size(); i-- > 0;) {
      if (++place[i] < axes[i].out) break;
      place[i] = 0;
    }
  }
}

}  // namespace

Result<std::vector<Taps>> taps_of(const ResampleRules& rules, const std::vector<ResampleAxis>& axes) {
  std::vector<Taps> out;
  const bool none = std::any_of(axes.begin(), axes.end(), [](const ResampleAxis& a) { return a.out == 0; });
  for (const ResampleAxis& a : axes) {
    if (none) {  // an empty output needs no tables, however long its other axes are
      out.push_back({.in = a.in, .out = a.out});
      continue;
    }
    OCIOR_ASSIGN(Taps t, axis_taps(rules, a));
    out.push_back(std::move(t));
  }
  return out;
}

void resample_reference(const ResampleRules& rules, const std::vector<Taps>& axes, const Tensor& x, Tensor& y) {
  if (y.count() == 0) return;
  if (rules.mode == Interpolation::kNearest) return gather_nearest(rules, axes, x, y);
  std::vector<double> data = nn::doubles(x);
  int64_t outer = 1;
  for (size_t i = 0; i < axes.size(); ++i) {
    int64_t inner = 1;
    for (size_t k = i + 1; k < axes.size(); ++k) inner *= axes[k].in;
    if (!axes[i].kept) data = apply(rules, axes[i], data, outer, inner);
    outer *= axes[i].out;
  }
  if (!is_floating(y.dtype()))
    for (double& v : data) v = std::nearbyint(v);
  store<double>(y.dtype(), y.data(), 0, y.count(), data.data());
}

namespace {

// A tensor as [outer, h, w, inner], of which h and w change.
struct Planes {
  const Taps *h = nullptr, *w = nullptr;
  int64_t outer = 1, inner = 1;
};

// Whether one axis changes, or two neighbours.
bool as_planes(const std::vector<Taps>& axes, const Taps& one, Planes& p) {
  size_t first = axes.size(), last = 0, changed = 0;
  for (size_t i = 0; i < axes.size(); ++i)
    if (!axes[i].kept) first = std::min(first, i), last = i, ++changed;
  if (changed == 0 || changed > 2 || last - first > 1) return false;
  p.h = changed == 2 ? &axes[first] : &one;
  p.w = &axes[last];
  for (size_t i = 0; i < first; ++i) p.outer *= axes[i].out;
  for (size_t i = last + 1; i < axes.size(); ++i) p.inner *= axes[i].out;
  return true;
}

// Where a row of the input comes from, for row-wise work.
int64_t place(const Taps& t, int64_t o, int64_t k = 0) { return t.kept ? o : t.index[static_cast<size_t>(o * t.count + k)]; }

template <class T>
void nearest_rows(CpuContext& c, const Planes& p) {
  const T* const x = c.in(0).as<T>();
  T* const y = c.out(0).as<T>();
  const int64_t wide = p.w->out * p.inner, narrow = p.w->in * p.inner;
  const int64_t* const index = p.w->index.data();
  nn::parallel_rows(c, p.outer * p.h->out, wide, [&](int64_t begin, int64_t end, int) {
    const T* previous = nullptr;
    for (int64_t r = begin; r < end; ++r) {
      const T* const from = x + (r / p.h->out * p.h->in + place(*p.h, r % p.h->out)) * narrow;
      T* const to = y + r * wide;
      if (from == previous) {
        std::memcpy(to, to - wide, static_cast<size_t>(wide) * sizeof(T));
      } else if (p.inner == 1) {
        for (int64_t o = 0; o < wide; ++o) to[o] = from[index[o]];
      } else {
        for (int64_t o = 0; o < p.w->out; ++o)
          std::memcpy(to + o * p.inner, from + index[o] * p.inner, static_cast<size_t>(p.inner) * sizeof(T));
      }
      previous = from;
    }
  });
}

// y = a * u + b * v.
void mix(const float* a, float u, const float* b, float v, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] * u + b[i] * v;
}

// One row of the input, blended from the two that `h` says.
const float* blend(const Planes& p, const float* plane, int64_t row, float* buffer) {
  const int64_t narrow = p.w->in * p.inner;
  const float* const a = plane + place(*p.h, row) * narrow;
  if (p.h->kept || p.h->count == 1) return a;
  const auto at = static_cast<size_t>(row * 2);
  const auto u = static_cast<float>(p.h->weight[at]), v = static_cast<float>(p.h->weight[at + 1]);
  const float* const b = plane + place(*p.h, row, 1) * narrow;
  if (a == b && u + v == 1) return a;
  mix(a, u, b, v, buffer, narrow);
  return buffer;
}

void linear_rows(CpuContext& c, const ResampleRules& rules, const Planes& p) {
  const float* const x = c.in(0).as<float>();
  float* const y = c.out(0).as<float>();
  const int64_t wide = p.w->out * p.inner, narrow = p.w->in * p.inner;
  const auto extrapolation = static_cast<float>(rules.extrapolation);
  std::vector<float> buffers(static_cast<size_t>(c.team().size() * narrow)), weights(p.w->weight.begin(), p.w->weight.end());
  const int64_t* const index = p.w->index.data();
  const float* const weight = weights.data();
  nn::parallel_rows(c, p.outer * p.h->out, wide + narrow, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t r = begin; r < end; ++r) {
      float* const to = y + r * wide;
      if (outside(*p.h, r % p.h->out)) {
        std::fill_n(to, wide, extrapolation);
        continue;
      }
      const float* const from = blend(p, x + r / p.h->out * p.h->in * narrow, r % p.h->out, buffers.data() + worker * narrow);
      if (p.inner == 1) {
        for (int64_t o = 0; o < wide; ++o)
          to[o] = from[index[2 * o]] * weight[2 * o] + from[index[2 * o + 1]] * weight[2 * o + 1];
      } else {
        for (int64_t o = 0; o < p.w->out; ++o)
          mix(from + index[2 * o] * p.inner, weight[2 * o], from + index[2 * o + 1] * p.inner, weight[2 * o + 1],
              to + o * p.inner, p.inner);
      }
      for (int64_t o = 0; o < p.w->out && !p.w->outside.empty(); ++o)
        if (outside(*p.w, o)) std::fill_n(to + o * p.inner, p.inner, extrapolation);
    }
  });
}

}  // namespace

bool resample_run(const ResampleRules& rules, const std::vector<Taps>& axes, CpuContext& c) {
  const Taps one{.in = 1, .out = 1, .kept = true};
  Planes p;
  if (c.out(0).count() == 0 || !as_planes(axes, one, p)) return false;
  if (rules.mode == Interpolation::kLinear) {
    const bool pairs = p.w->count == 2 && (p.h->kept || p.h->count == 2);
    if (c.in(0).dtype != DType::kFloat || !pairs) return false;
    linear_rows(c, rules, p);
    return true;
  }
  if (rules.mode != Interpolation::kNearest || !p.h->outside.empty() || !p.w->outside.empty()) return false;
  switch (c.in(0).dtype == DType::kString ? 0 : bits_of(c.in(0).dtype)) {
    case 8: nearest_rows<uint8_t>(c, p); return true;
    case 16: nearest_rows<uint16_t>(c, p); return true;
    case 32: nearest_rows<uint32_t>(c, p); return true;
    case 64: nearest_rows<uint64_t>(c, p); return true;
    default: return false;
  }
}

}  // namespace ocior::ops::image
