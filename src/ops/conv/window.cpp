#include "ops/conv/window.h"

#include <algorithm>

#include "ops/nn/numeric.h"

namespace ocior::ops::conv {
namespace {

void check_list(const NodeReader& node, std::string_view name, const std::vector<int64_t>& list, int64_t least) {
  if (list.size() > static_cast<size_t>(2 * kMaxSpatial))
    node.fail("{} has {} elements; at most {} spatial axes are supported", name, list.size(), kMaxSpatial);
  for (const int64_t v : list)
    if (v < least || v > kMaxAttribute) node.fail("{} holds {}; expected {} to {}", name, v, least, kMaxAttribute);
}

// Spatial axes: the dims behind batch and channels.
std::string shapes_text(const ShapeContext& c, int x, int w) {
  return fmt::format("x of shape {} and w of shape {}", to_string(*c.shape(x)), to_string(*c.shape(w)));
}

}  // namespace

Window Window::parse(const NodeReader& node, bool has_auto_pad) {
  Window window;
  const std::string auto_pad = has_auto_pad ? node.text("auto_pad", "NOTSET") : "NOTSET";
  if (auto_pad == "SAME_UPPER") window.auto_pad = AutoPad::kSameUpper;
  else if (auto_pad == "SAME_LOWER") window.auto_pad = AutoPad::kSameLower;
  else if (auto_pad == "VALID") window.auto_pad = AutoPad::kValid;
  else if (auto_pad != "NOTSET") node.fail("auto_pad is '{}'; expected NOTSET, SAME_UPPER, SAME_LOWER or VALID", auto_pad);
  window.group = node.integer("group", 1);
  if (window.group < 1) node.fail("group is {}; expected 1 or more", window.group);
  window.kernel = node.integers("kernel_shape");
  window.strides = node.integers("strides");
  window.dilations = node.integers("dilations");
  window.pads = node.integers("pads");
  check_list(node, "kernel_shape", window.kernel, 1);
  check_list(node, "strides", window.strides, 1);
  check_list(node, "dilations", window.dilations, 1);
  check_list(node, "pads", window.pads, 0);
  if (window.pads.size() % 2 != 0) node.fail("pads has {} elements; expected two for each spatial axis", window.pads.size());
  return window;
}

Status Window::check_rank(int64_t spatial) const {
  const auto check = [spatial](const char* name, const std::vector<int64_t>& list, int64_t each) {
    if (list.empty() || std::ssize(list) == each * spatial) return Status();
    return error(Code::kInvalidGraph, "{} has {} elements; expected {} for {} spatial axes", name, list.size(), each * spatial,
                 spatial);
  };
  OCIOR_RETURN_IF_ERROR(check("kernel_shape", kernel, 1));
  OCIOR_RETURN_IF_ERROR(check("strides", strides, 1));
  OCIOR_RETURN_IF_ERROR(check("dilations", dilations, 1));
  return check("pads", pads, 2);
}

Result<Axis> Window::axis(int64_t i, int64_t in, int64_t taps) const {
  Axis a{.in = in, .kernel = taps, .stride = stride(i), .dilation = dilation(i)};
  int64_t reach, padded;  // input elements that one output sees; input elements with padding
  bool overflow = taps < 1 || __builtin_mul_overflow(taps - 1, a.dilation, &reach) || __builtin_add_overflow(reach, 1, &reach);
  if (taps < 1)
    return error(Code::kInvalidArgument, "the kernel has {} elements along spatial axis {}; expected 1 or more", taps, i);
  int64_t after = 0;
  if (auto_pad == AutoPad::kNotSet) {
    a.before = pad_before(i), after = pad_after(i);
  } else if (auto_pad != AutoPad::kValid && !overflow && in > 0) {
    const int64_t out = (in - 1) / a.stride + 1;
    int64_t needed;
    overflow = overflow || __builtin_add_overflow((out - 1) * a.stride - in, reach, &needed);  // (out - 1) * stride < in
    needed = overflow ? 0 : std::max<int64_t>(0, needed);
    a.before = auto_pad == AutoPad::kSameLower ? needed - needed / 2 : needed / 2;
    after = needed - a.before;
  }
  overflow = overflow || __builtin_add_overflow(in, a.before, &padded) || __builtin_add_overflow(padded, after, &padded);
  if (overflow || padded > INT64_MAX / 4)
    return error(Code::kInvalidArgument, "a kernel of {} with dilation {} on {} elements is too large along spatial axis {}",
                 taps, a.dilation, in, i);
  if (padded < reach && in > 0)
    return error(Code::kInvalidArgument, "the kernel reaches over {} elements along spatial axis {}, but the padded input has {}",
                 reach, i, padded);
  a.out = padded < reach ? 0 : (padded - reach) / a.stride + 1;
  return a;
}

Result<Geometry> Window::geometry(std::span<const int64_t> x, std::span<const int64_t> w) const {
  Geometry g{.batch = x[0], .channels = x[1], .out_channels = w[0], .group = group, .spatial = std::ssize(x) - 2};
  for (size_t i = 0; i + 2 < x.size(); ++i) {
    OCIOR_ASSIGN(g.axes[i], axis(static_cast<int64_t>(i), x[i + 2], w[i + 2]));
  }
  OCIOR_RETURN_IF_ERROR(checked_element_count(x.subspan(2)).status());
  OCIOR_RETURN_IF_ERROR(checked_element_count(w.subspan(2)).status());
  return g;
}

Result<int64_t> spatial_rank(const ShapeContext& c, int x, int w, const Window& window) {
  int64_t spatial = -1;
  for (const int i : {x, w}) {
    if (!ranked(c, i)) continue;
    const int64_t found = rank(c, i) - 2;
    if (found < 1 || found > kMaxSpatial)
      return error(Code::kInvalidGraph, "input {} has rank {}; expected 3 to {}: batch, channels and spatial axes", i, found + 2,
                   kMaxRank);
    if (spatial >= 0 && found != spatial) return error(Code::kInvalidArgument, "{} differ in rank", shapes_text(c, x, w));
    spatial = found;
  }
  if (spatial >= 0) OCIOR_RETURN_IF_ERROR(window.check_rank(spatial));
  return spatial;
}

Result<Dims> kernel_dims(ShapeContext& c, int w, const Window& window, int64_t spatial) {
  Dims out;
  for (int64_t i = 0; i < spatial; ++i) {
    const Dim* held = ranked(c, w) ? &(*c.shape(w))[static_cast<size_t>(i + 2)] : nullptr;
    if (window.kernel.empty()) {
      out.push_back(held ? *held : c.fresh("kernel"));
      continue;
    }
    const int64_t told = window.kernel[static_cast<size_t>(i)];
    if (held && held->known() && held->value() != told)
      return error(Code::kInvalidArgument, "kernel_shape holds {} for spatial axis {}, but w has shape {}", told, i,
                   to_string(*c.shape(w)));
    out.push_back(told);
  }
  return out;
}

Result<std::optional<Dims>> Window::infer(ShapeContext& c, int x, int w, int bias) const {
  OCIOR_ASSIGN(const int64_t spatial, spatial_rank(c, x, w, *this));
  if (spatial < 0) return std::optional<Dims>();
  const Dim batch = ranked(c, x) ? (*c.shape(x))[0] : c.fresh("batch");
  const Dim outputs = ranked(c, w) ? (*c.shape(w))[0] : c.fresh("channels");
  if (outputs.known() && outputs.value() % group != 0)
    return error(Code::kInvalidArgument, "w of shape {} has output channels that group {} does not divide",
                 to_string(*c.shape(w)), group);
  if (ranked(c, x) && ranked(c, w)) {
    const Dim &channels = (*c.shape(x))[1], &part = (*c.shape(w))[1];
    int64_t want;
    if (channels.known() && part.known() && (__builtin_mul_overflow(part.value(), group, &want) || want != channels.value()))
      return error(Code::kInvalidArgument, "{} do not fit for group {}; expected w's dimension 1 times group to be x's channels",
                   shapes_text(c, x, w), group);
  }
  if (bias >= 0 && c.has(bias) && ranked(c, bias)) {
    const Dims& b = *c.shape(bias);
    if (b.size() != 1 || !nn::may_equal(b[0], outputs))
      return error(Code::kInvalidArgument, "the bias has shape {}; expected [{}]", to_string(b), outputs.text());
  }
  OCIOR_ASSIGN(const Dims taps, kernel_dims(c, w, *this, spatial));
  Dims out{batch, outputs};
  for (int64_t i = 0; i < spatial; ++i) {
    const Dim& k = taps[static_cast<size_t>(i)];
    if (!ranked(c, x)) {
      out.push_back(c.fresh("conv"));
      continue;
    }
    const Dim& in = (*c.shape(x))[static_cast<size_t>(i + 2)];
    if (in.known() && k.known()) {
      OCIOR_ASSIGN(const Axis a, axis(i, in.value(), k.value()));
      out.push_back(a.out);
    } else if (auto_pad == AutoPad::kSameUpper || auto_pad == AutoPad::kSameLower) {
      out.push_back(Dim::quotient(in + (stride(i) - 1), stride(i)));
    } else {
      const int64_t padding = auto_pad == AutoPad::kValid ? 0 : pad_before(i) + pad_after(i);
      out.push_back(Dim::quotient(in + padding - (k - 1) * dilation(i) - 1, stride(i)) + 1);
    }
  }
  return std::optional<Dims>(std::move(out));
}

}  // namespace ocior::ops::conv
