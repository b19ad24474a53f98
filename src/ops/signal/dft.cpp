// DFT and STFT: discrete Fourier transforms along an axis, and of windowed frames of a signal. The last axis of a tensor holds
// the real and the imaginary part, or the real part alone. All types are computed in double.
#include <algorithm>
#include <atomic>

#include "ops/evaluate.h"
#include "ops/loops.h"
#include "ops/nn/numeric.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/signal/fourier.h"

namespace ocior::ops {
namespace {

// The value of a scalar input (or one of one element) that is known, as a dim.
std::optional<Dim> scalar_of(ShapeContext& c, int i) {
  const auto data = data_of(c, i);
  return data && data->size() == 1 ? std::optional<Dim>((*data)[0]) : std::nullopt;
}

Status check_scalar(const ShapeContext& c, int i, TypeSet allowed, std::string_view op) {
  OCIOR_RETURN_IF_ERROR(check_type(c, i, allowed, op));
  if (c.has(i) && ranked(c, i))
    if (const auto n = known_product(*c.shape(i)); n && *n != 1)
      return error(Code::kInvalidArgument, "{}: input {} has shape {}; expected a scalar", op, i, to_string(*c.shape(i)));
  return {};
}

Status check_parts(const Dim& last, std::string_view op) {
  if (!last.known() || last.value() == 1 || last.value() == 2) return {};
  return error(Code::kInvalidArgument, "{}: the last dimension is {}; expected 1 (real) or 2 (real and imaginary part)", op,
               last.value());
}

Dim half_of(const Dim& n) { return Dim::quotient(n, 2) + 1; }

// Element i of n complex ones, `parts` numbers each.
ComplexNumber element(DType t, const void* x, int64_t i, int64_t parts) {
  return {get_double(t, x, i * parts), parts == 2 ? get_double(t, x, i * parts + 1) : 0};
}

// Memory of one transform for each worker, taken by whoever runs a chunk.
class Lanes {
 public:
  Lanes(const Fourier& plan, int workers) : plan_(plan), each_(static_cast<size_t>(plan.length() + plan.work())) {
    memory_.resize(each_ * static_cast<size_t>(workers));
  }
  ComplexNumber* at(int worker) { return memory_.data() + each_ * static_cast<size_t>(worker); }
  void run(int worker, bool inverse) { plan_.run(at(worker), at(worker) + plan_.length(), inverse); }

 private:
  const Fourier& plan_;
  size_t each_;
  std::vector<ComplexNumber> memory_;
};

// Calls f(row, worker) for all rows: over the team of a run, or here.
template <class F>
void each_row(CpuContext* c, int64_t rows, int64_t cost, F&& f) {
  const auto range = [&](int64_t begin, int64_t end, int worker) {
    for (int64_t row = begin; row < end; ++row) f(row, worker);
  };
  if (c) nn::parallel_rows(*c, rows, cost, range);
  else range(0, rows, 0);
}

}  // namespace

struct DFT {
  static constexpr OpInfo info{.name = "DFT", .since = 17, .max_inputs = 3};
  int64_t fixed_axis = -2;  // where no input names it
  bool inverse = false, onesided = false;

  static DFT parse(const NodeReader& node) {
    DFT op{.inverse = node.integer("inverse", 0) != 0, .onesided = node.integer("onesided", 0) != 0};
    if (node.opset() < 20) {
      op.fixed_axis = node.integer("axis", 1);
      if (node.inputs() > 2) node.fail("DFT has {} inputs; before opset 20 expected 2 at most", node.inputs());
    }
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, "DFT"));
    OCIOR_RETURN_IF_ERROR(check_scalar(c, 1, kIndices, "DFT"));
    OCIOR_RETURN_IF_ERROR(check_scalar(c, 2, type_bit(DType::kInt64), "DFT"));
    if (!ranked(c, 0)) return c.set(0, c.dtype(0), std::nullopt), Status();
    Dims out = *c.shape(0);
    OCIOR_RETURN_IF_ERROR(check_input(out));
    const auto wanted = c.has(2) ? scalar_of(c, 2) : std::optional<Dim>(fixed_axis);
    out.back() = inverse && onesided ? 1 : 2;
    if (!wanted || !wanted->known()) {
      for (size_t i = 0; i + 1 < out.size() && (c.has(1) || onesided); ++i) out[i] = c.fresh("dft");  // else no axis changes
    } else {
      OCIOR_ASSIGN(const size_t at, place(wanted->value(), out.size()));
      std::optional<Dim> length = out[at];
      if (c.has(1)) length = scalar_of(c, 1);
      else if (inverse && onesided) length = (out[at] - 1) * 2;
      if (length && length->known()) OCIOR_RETURN_IF_ERROR(check_length(length->value()));
      if (!length) out[at] = c.fresh("dft");
      else out[at] = onesided && !inverse ? half_of(*length) : *length;
    }
    c.set(0, c.dtype(0), std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    const int64_t wanted = c.has(2) ? get_int(c.in(2).dtype(), c.in(2).data(), 0) : fixed_axis;
    OCIOR_ASSIGN(const Cut cut,
                 cut_at(x.shape(), wanted, c.has(1) ? std::optional(get_int(c.in(1).dtype(), c.in(1).data(), 0)) : std::nullopt));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), cut.shape));
    transform(nullptr, cut, x.dtype(), x.data(), c.out(0).data());
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    const int64_t wanted = c.has(2) ? get_int(c.in(2).dtype, c.in(2).data, 0) : fixed_axis;
    OCIOR_ASSIGN(const Cut cut,
                 cut_at(x.shape, wanted, c.has(1) ? std::optional(get_int(c.in(1).dtype, c.in(1).data, 0)) : std::nullopt));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, cut.shape));
    transform(&c, cut, x.dtype, x.data, c.out(0).data);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto add = [&](DType t, Shape shape, std::optional<double> length, double axis, int64_t inverse, int64_t onesided) {
      Sample s{.inputs = {{t, std::move(shape)},
                          {DType::kInt64, {}, Fill::kZeros, {length.value_or(1)}},
                          {DType::kInt64, {}, Fill::kZeros, {axis}}},
               .attributes = {{"inverse", inverse}, {"onesided", onesided}},
               .tolerance = t == DType::kFloat16    ? 1e-3
                            : t == DType::kBFloat16 ? 8e-3
                                                    : 1e-6};
      s.inputs[1].omitted = !length;
      out.push_back(std::move(s));
    };
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16})
      for (const int64_t inverse : {0, 1}) {
        for (const int64_t n : {1, 2, 7, 12, 17, 30, 34, 64, 121}) {
          add(t, {2, n, 2}, std::nullopt, -2, inverse, 0);
          add(t, {n, 3, 1}, std::nullopt, 0, inverse, 0);
        }
        add(t, {2, 8, 2}, 5, 1, inverse, 0);
        add(t, {2, 8, 3, 2}, 11, 1, inverse, 0);
        add(t, {0, 8, 2}, 5, 1, inverse, 0);
        for (const double n : {1, 8, 9, 23}) add(t, {2, 9, inverse ? 2 : 1}, n, -2, inverse, 1);
        add(t, {3, 9, 2, inverse ? 2 : 1}, std::nullopt, 1, inverse, 1);
      }
    out.push_back({.inputs = {{DType::kFloat, {2, 10, 3, 2}}, {DType::kInt32, {}, Fill::kZeros, {7}}},
                   .attributes = {{"axis", int64_t{-2}}},
                   .opset = 17});
    out.push_back({.inputs = {{DType::kFloat, {2, 10, 3, 1}}}, .opset = 19});
    out.push_back({.inputs = {{DType::kFloat, {64, 1000, 2}}}});
    out.push_back({.inputs = {{DType::kFloat, {256, 4096, 2}}}, .bench = true});
    return out;
  }

 private:
  static constexpr int64_t kLongest = int64_t{1} << 40;  // of a transform: twice its length stays far from overflow

  Status check_input(const Dims& x) const {
    if (x.size() < 2) return error(Code::kInvalidArgument, "DFT: the input has shape {}; expected rank 2 or more", to_string(x));
    OCIOR_RETURN_IF_ERROR(check_parts(x.back(), "DFT"));
    if (onesided && x.back().known() && x.back().value() != (inverse ? 2 : 1))
      return error(Code::kInvalidArgument, "DFT: a one-sided {} transform needs {} input, got shape {}",
                   inverse ? "inverse" : "forward", inverse ? "complex" : "real", to_string(x));
    return {};
  }
  static Status check_length(int64_t n) {
    if (n >= 1 && n <= kLongest) return {};
    return error(Code::kInvalidArgument, "DFT: the length of the transform is {}; expected 1 to {}", n, kLongest);
  }
  static Result<size_t> place(int64_t axis, size_t rank) {
    OCIOR_ASSIGN(const int64_t at, resolve_axis(axis, static_cast<int64_t>(rank)));
    if (at + 1 == static_cast<int64_t>(rank))
      return error(Code::kInvalidGraph, "DFT: axis {} is the one of real and imaginary parts; expected another", axis);
    return static_cast<size_t>(at);
  }

  struct Cut {
    int64_t outer, inner, given, length, made, parts;  // along the axis: of the input, of the transform, of the output
    FixedShape shape;
  };
  Result<Cut> cut_at(std::span<const int64_t> x, int64_t axis, std::optional<int64_t> length) const {
    OCIOR_RETURN_IF_ERROR(check_input(Dims(x.begin(), x.end())));
    OCIOR_ASSIGN(const size_t at, place(axis, x.size()));
    OCIOR_ASSIGN(const FixedShape shape, fixed_shape(x));
    Cut cut{element_count(x.first(at)), element_count(x.subspan(at + 1)) / x.back(), x[at], 0, 0, x.back(), shape};
    cut.length = length ? *length : inverse && onesided ? 2 * (std::min(cut.given, kLongest) - 1) : cut.given;
    OCIOR_RETURN_IF_ERROR(check_length(cut.length));
    cut.made = onesided && !inverse ? cut.length / 2 + 1 : cut.length;
    cut.shape[static_cast<int64_t>(at)] = cut.made;
    cut.shape[cut.shape.rank - 1] = inverse && onesided ? 1 : 2;
    return cut;
  }

  void transform(CpuContext* c, const Cut& cut, DType t, const void* x, void* y) const {
    const int64_t rows = cut.outer * cut.inner;
    if (rows == 0) return;  // before a plan of the length is made
    const Fourier plan(cut.length);
    Lanes lanes(plan, c ? c->team().size() : 1);
    const double scale = inverse ? 1 / static_cast<double>(cut.length) : 1;
    each_row(c, rows, 16 * cut.length, [&](int64_t row, int worker) {
      ComplexNumber* lane = lanes.at(worker);
      const int64_t from = row / cut.inner * cut.given * cut.inner + row % cut.inner;
      const int64_t to = row / cut.inner * cut.made * cut.inner + row % cut.inner;
      read(lane, cut, t, x, from);
      lanes.run(worker, inverse);
      for (int64_t k = 0; k < cut.made; ++k) {
        if (inverse && onesided) {
          set_double(t, y, to + k * cut.inner, lane[k].re * scale);
        } else {
          set_double(t, y, 2 * (to + k * cut.inner), lane[k].re * scale);
          set_double(t, y, 2 * (to + k * cut.inner) + 1, lane[k].im * scale);
        }
      }
    });
  }

  // One row, cut or filled up with zeros to the length of the transform; a one-sided spectrum with its mirror image, so that the
  // signal is real.
  void read(ComplexNumber* lane, const Cut& cut, DType t, const void* x, int64_t from) const {
    const int64_t used = std::min(cut.given, inverse && onesided ? cut.length / 2 + 1 : cut.length);
    for (int64_t i = 0; i < used; ++i) lane[i] = element(t, x, from + i * cut.inner, cut.parts);
    std::fill(lane + used, lane + cut.length, ComplexNumber{});
    if (!inverse || !onesided) return;
    for (int64_t i = 0; i <= cut.length / 2; ++i) {
      const int64_t mirror = (cut.length - i) % cut.length;
      if (mirror == i) lane[i].im = 0;
      else lane[mirror] = {lane[i].re, -lane[i].im};
    }
  }
};
OCIOR_OPERATOR(DFT)

struct STFT {
  static constexpr OpInfo info{.name = "STFT", .since = 17, .min_inputs = 2, .max_inputs = 4};
  bool onesided = true;

  static STFT parse(const NodeReader& node) { return {node.integer("onesided", 1) != 0}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, "STFT"));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, 0, 2, "STFT"));
    OCIOR_RETURN_IF_ERROR(check_scalar(c, 1, kIndices, "STFT"));
    OCIOR_RETURN_IF_ERROR(check_scalar(c, 3, kIndices, "STFT"));
    if (ranked(c, 0)) OCIOR_RETURN_IF_ERROR(check_signal(*c.shape(0)));
    if (c.has(2) && ranked(c, 2) && rank(c, 2) != 1)
      return error(Code::kInvalidArgument, "STFT: the window has shape {}; expected rank 1", to_string(*c.shape(2)));
    const Dim batch = ranked(c, 0) ? (*c.shape(0))[0] : c.fresh("batch");
    const auto step = scalar_of(c, 1);
    std::optional<Dim> length, signal;
    if (ranked(c, 0)) signal = (*c.shape(0))[1];
    if (c.has(3)) length = scalar_of(c, 3);
    if (!length && c.has(2) && ranked(c, 2)) length = (*c.shape(2))[0];
    if (!length && !c.has(3) && !c.has(2)) length = signal;
    Dim frames = c.fresh("frames");
    if (length && signal && step && length->known() && signal->known() && step->known()) {
      OCIOR_RETURN_IF_ERROR(check_sizes(signal->value(), step->value(), length->value()));
      frames = (signal->value() - length->value()) / step->value() + 1;
    }
    const Dim bins = !length ? c.fresh("bins") : onesided ? half_of(*length) : *length;
    c.set(0, c.dtype(0), Dims{batch, frames, bins, 2});
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    const Tensor* window = c.has(2) ? &c.in(2) : nullptr;
    OCIOR_ASSIGN(const Frames f, frames_of(x.shape(), get_int(c.in(1).dtype(), c.in(1).data(), 0),
                                           window ? std::optional(window->count()) : std::nullopt,
                                           c.has(3) ? std::optional(get_int(c.in(3).dtype(), c.in(3).data(), 0)) : std::nullopt));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), f.shape));
    transform(nullptr, f, x.dtype(), x.data(), window ? window->data() : nullptr, c.out(0).data());
    return {};
  }

  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    const TensorView* window = c.has(2) ? &c.in(2) : nullptr;
    OCIOR_ASSIGN(const Frames f, frames_of(x.shape, get_int(c.in(1).dtype, c.in(1).data, 0),
                                           window ? std::optional(window->count()) : std::nullopt,
                                           c.has(3) ? std::optional(get_int(c.in(3).dtype, c.in(3).data, 0)) : std::nullopt));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, f.shape));
    transform(&c, f, x.dtype, x.data, window ? window->data : nullptr, c.out(0).data);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16})
      for (const auto& [parts, onesided] : {std::pair<int64_t, int64_t>{1, 1}, {1, 0}, {2, 0}})
        for (const bool windowed : {false, true})
          for (const double length : {16.0, 11.0}) {
            Sample s{.inputs = {{t, {2, 50, parts}},
                                {DType::kInt64, {}, Fill::kZeros, {7}},
                                {t, {static_cast<int64_t>(length)}, Fill::kPositive},
                                {DType::kInt64, {}, Fill::kZeros, {length}}},
                     .attributes = {{"onesided", onesided}},
                     .tolerance = t == DType::kFloat16    ? 1e-3
                                  : t == DType::kBFloat16 ? 8e-3
                                                          : 1e-6};
            s.inputs[2].omitted = !windowed;
            out.push_back(s);
            s.inputs[3].omitted = true;
            out.push_back(std::move(s));
          }
    out.push_back({.inputs = {{DType::kFloat, {1, 160000, 1}}, {DType::kInt64, {}, Fill::kZeros, {160}}, {DType::kFloat, {400}}},
                   .bench = true});
    return out;
  }

 private:
  Status check_signal(const Dims& x) const {
    if (x.size() != 3) return error(Code::kInvalidArgument, "STFT: the signal has shape {}; expected rank 3", to_string(x));
    OCIOR_RETURN_IF_ERROR(check_parts(x[2], "STFT"));
    if (onesided && x[2].known() && x[2].value() == 2)
      return error(Code::kInvalidArgument, "STFT: a one-sided transform needs a real signal, got shape {}", to_string(x));
    return {};
  }
  static Status check_sizes(int64_t signal, int64_t step, int64_t length) {
    if (step < 1) return error(Code::kInvalidArgument, "STFT: the frame step is {}; expected 1 or more", step);
    if (length < 1 || length > signal)
      return error(Code::kInvalidArgument, "STFT: the frame length is {}; expected 1 to {}, the length of the signal", length,
                   signal);
    return {};
  }

  struct Frames {
    int64_t count, length, step, bins, signal, parts;
    FixedShape shape;
  };
  Result<Frames> frames_of(std::span<const int64_t> x, int64_t step, std::optional<int64_t> window,
                           std::optional<int64_t> length) const {
    OCIOR_RETURN_IF_ERROR(check_signal(Dims(x.begin(), x.end())));
    if (window && length && *window != *length)
      return error(Code::kInvalidArgument, "STFT: the window has {} elements and the frame length is {}; expected equal numbers",
                   *window, *length);
    const int64_t n = length ? *length : window ? *window : x[1];
    OCIOR_RETURN_IF_ERROR(check_sizes(x[1], step, n));
    Frames f{(x[1] - n) / step + 1, n, step, onesided ? n / 2 + 1 : n, x[1], x[2], {}};
    for (const int64_t d : {x[0], f.count, f.bins, int64_t{2}}) f.shape.push(d);
    return f;
  }

  static void transform(CpuContext* c, const Frames& f, DType t, const void* x, const void* window, void* y) {
    const int64_t rows = f.shape[0] * f.count;
    if (rows == 0) return;
    const Fourier plan(f.length);
    Lanes lanes(plan, c ? c->team().size() : 1);
    each_row(c, rows, 16 * f.length, [&](int64_t row, int worker) {
      ComplexNumber* lane = lanes.at(worker);
      const int64_t from = row / f.count * f.signal + row % f.count * f.step;
      for (int64_t i = 0; i < f.length; ++i) {
        const double weight = window ? get_double(t, window, i) : 1;
        const ComplexNumber v = element(t, x, from + i, f.parts);
        lane[i] = {v.re * weight, v.im * weight};
      }
      lanes.run(worker, false);
      for (int64_t k = 0; k < f.bins; ++k) {
        set_double(t, y, 2 * (row * f.bins + k), lane[k].re);
        set_double(t, y, 2 * (row * f.bins + k) + 1, lane[k].im);
      }
    });
  }
};
OCIOR_OPERATOR(STFT)

}  // namespace ocior::ops
