// Rfft and Irfft of com.microsoft: Fourier transforms of real signals over the last 1 to 3 axes, which keep half of the last one,
// and their inverses. The last axis of a spectrum holds the real and the imaginary part. Computed in double.
#include "ops/microsoft/microsoft.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/signal/fourier.h"

namespace ocior::ops {
namespace {

constexpr int64_t kLongest = int64_t{1} << 40;  // of an axis: twice its length stays far from overflow

struct RealFourier {
  int64_t axes = 1;  // of the signal

  static RealFourier parse(const NodeReader& node, int64_t axes) {
    if (const int64_t v = node.integer("onesided", 1); v != 1) node.fail("onesided is {}; expected 1", v);
    if (const int64_t v = node.integer("normalized", 0); v != 0) node.fail("normalized is {}; expected 0", v);
    if (axes < 1 || axes > 3) node.fail("signal_ndim is {}; expected 1 to 3", axes);
    return {std::clamp<int64_t>(axes, 1, 3)};
  }

  // Fails unless x has `more` axes beside those of the signal, and those have elements.
  Status check(const Dims& x, int64_t more, int64_t least) const {
    bool fits = std::ssize(x) >= axes + more;
    for (int64_t i = 0; i < axes && fits; ++i) {
      const Dim& d = x[x.size() - static_cast<size_t>(more + i) - 1];
      fits = !d.known() || (d.value() >= (i == 0 ? least : 1) && d.value() <= kLongest);
    }
    if (fits) return {};
    return error(Code::kInvalidArgument, "X has shape {}; expected signals of {} axes in it, each with elements{}", to_string(x),
                 axes, least > 1 ? ", and a last axis of 2 behind at least two bins" : "");
  }

  // The transform along one axis of `length`, with `inner` elements behind it.
  static void along(std::vector<ComplexNumber>& x, int64_t length, int64_t inner, bool inverse) {
    const Fourier plan(length);
    std::vector<ComplexNumber> lane(static_cast<size_t>(length)), work(static_cast<size_t>(plan.work()));
    for (int64_t row = 0; row < std::ssize(x) / length; ++row) {
      ComplexNumber* const from = x.data() + row / inner * length * inner + row % inner;
      for (int64_t i = 0; i < length; ++i) lane[static_cast<size_t>(i)] = from[i * inner];
      plan.run(lane.data(), work.data(), inverse);
      for (int64_t i = 0; i < length; ++i) from[i * inner] = lane[static_cast<size_t>(i)];
    }
  }

  // The axes of the signal before its last one; `shape` is that of x.
  void along_outer(std::vector<ComplexNumber>& x, std::span<const int64_t> shape, bool inverse) const {
    const auto rank = std::ssize(shape);
    for (int64_t a = rank - axes; a < rank - 1; ++a)
      along(x, shape[static_cast<size_t>(a)], nn::extent(shape, a + 1, rank), inverse);
  }

  static std::vector<Sample> samples(bool inverse) {
    std::vector<Sample> out;
    const auto add = [&](Shape x, int64_t axes, DType t = DType::kFloat) {
      if (inverse) x.back() = x.back() / 2 + 1, x.push_back(2);
      out.push_back({.inputs = {{t, std::move(x)}},
                     .attributes = {{"signal_ndim", axes}},
                     .tolerance = t == DType::kFloat16 ? 2e-3 : 1e-6});
    };
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16}) {
      add({8}, 1, t);
      add({2, 3, 14}, 1, t);
      add({2, 3, 6}, 2, t);
      add({2, 3, 5, 4}, 3, t);
    }
    add({2, 2}, 1);
    add({0, 8}, 1);
    return out;
  }
};

}  // namespace

struct Rfft : RealFourier {
  static constexpr OpInfo info{.name = "Rfft", .domain = kMicrosoft};

  static Rfft parse(const NodeReader& node) { return {RealFourier::parse(node, node.integer("signal_ndim", 1))}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, info.name));
    std::optional<Dims> out = c.shape(0);
    if (out) {
      OCIOR_RETURN_IF_ERROR(check(*out, 0, 1));
      out->back() = Dim::quotient(out->back(), Dim(2)) + Dim(1);
      out->push_back(Dim(2));
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const std::vector<double> x = nn::doubles(c.in(0));
    if (x.empty()) return {};
    const Shape& shape = c.in(0).shape();
    const int64_t n = shape.back(), bins = n / 2 + 1;
    std::vector<ComplexNumber> z(x.size());
    for (size_t i = 0; i < x.size(); ++i) z[i].re = x[i];
    along(z, n, 1, false);
    along_outer(z, shape, false);
    std::vector<double> y;
    for (size_t i = 0; i < z.size(); ++i)
      if (static_cast<int64_t>(i) % n < bins) y.push_back(z[i].re), y.push_back(z[i].im);
    nn::store(c.out(0), y);
    return {};
  }

  static std::vector<Sample> samples() { return RealFourier::samples(false); }
};

struct Irfft : RealFourier {
  static constexpr OpInfo info{.name = "Irfft", .domain = kMicrosoft};

  static Irfft parse(const NodeReader& node) { return {RealFourier::parse(node, node.required_integer("signal_ndim"))}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, info.name));
    std::optional<Dims> out = c.shape(0);
    if (out) {
      OCIOR_RETURN_IF_ERROR(check(*out, 1, 2));
      if (!nn::may_equal(out->back(), Dim(2)))
        return error(Code::kInvalidArgument, "X has shape {}; expected a last axis of 2", to_string(*out));
      out->pop_back();
      out->back() = (out->back() - Dim(1)) * Dim(2);
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const std::vector<double> x = nn::doubles(c.in(0));
    if (x.empty()) return {};
    Shape shape = c.in(0).shape();
    shape.pop_back();
    const int64_t bins = shape.back(), n = 2 * (bins - 1);
    std::vector<ComplexNumber> half(x.size() / 2), z;
    for (size_t i = 0; i < half.size(); ++i) half[i] = {x[2 * i], x[2 * i + 1]};
    along_outer(half, shape, true);
    // Each spectrum with its mirror image, so that the signal is real; the ends have no imaginary part.
    for (int64_t row = 0; row < std::ssize(half) / bins; ++row) {
      const ComplexNumber* const from = half.data() + row * bins;
      for (int64_t i = 0; i < n; ++i) {
        const ComplexNumber& v = from[i < bins ? i : n - i];
        z.push_back({v.re, i == 0 || i == bins - 1 ? 0 : i < bins ? v.im : -v.im});
      }
    }
    along(z, n, 1, true);
    const auto rank = std::ssize(shape);
    const double scale = static_cast<double>(n) * static_cast<double>(nn::extent(shape, rank - axes, rank - 1));
    std::vector<double> y(z.size());
    for (size_t i = 0; i < y.size(); ++i) y[i] = z[i].re / scale;
    nn::store(c.out(0), y);
    return {};
  }

  static std::vector<Sample> samples() { return RealFourier::samples(true); }
};

OCIOR_OPERATOR(Irfft)
OCIOR_OPERATOR(Rfft)

}  // namespace ocior::ops
