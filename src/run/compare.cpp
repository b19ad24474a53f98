#include "run/compare.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "tensor/tensor.h"

namespace ocior::run {
namespace {

std::string kind_text(const Value& v) {
  switch (v.kind()) {
    case Value::Kind::kNone: return "nothing";
    case Value::Kind::kTensor: return fmt::format("tensor({}) {}", name_of(v.dtype()), to_string(v.shape()));
    case Value::Kind::kSequence: return fmt::format("a sequence of {}", v.elements().size());
    case Value::Kind::kMap: return "a map";
    case Value::Kind::kOptional: return v.elements().empty() ? "an empty optional" : "an optional";
  }
  return "?";
}

Difference other_kind(const Value& want, const Value& got) {
  return {.equal = false, .largest = HUGE_VAL, .where = "", .got = kind_text(got), .want = kind_text(want)};
}

std::string index_text(int64_t flat, std::span<const int64_t> shape) {
  Shape index(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    index[i] = flat % shape[i];
    flat /= shape[i];
  }
  return to_string(index);
}

Difference compare_strings(const Value& want, const Value& got) {
  const auto w = want.string_data(), g = got.string_data();
  for (size_t i = 0; i < w.size(); ++i)
    if (w[i] != g[i])
      return {.equal = false,
              .largest = HUGE_VAL,
              .where = index_text(static_cast<int64_t>(i), want.shape()),
              .got = fmt::format("'{}'", g[i]),
              .want = fmt::format("'{}'", w[i])};
  return {};
}

double relative_of(DType dtype, const Tolerance& tolerance) {
  if (dtype == DType::kFloat16) return std::max(tolerance.relative, 0x1p-9);
  if (dtype == DType::kBFloat16) return std::max(tolerance.relative, 0x1p-6);
  return tolerance.relative;
}

// `dtype` and `parts`: complex numbers are compared as two floats each.
Difference compare_floats(const Value& want, const Value& got, DType dtype, int64_t parts, const Tolerance& tolerance) {
  const double relative = relative_of(dtype, tolerance);
  Difference out;
  double worst = 0;
  for (int64_t i = 0; i < want.element_count() * parts; ++i) {
    const double w = get_double(dtype, want.data(), i), g = get_double(dtype, got.data(), i);
    if (w == g || (std::isnan(w) && std::isnan(g))) continue;
    const double apart = std::isfinite(w) && std::isfinite(g) ? std::fabs(w - g) : HUGE_VAL;
    const double allowed = tolerance.absolute + relative * std::fabs(w);
    const bool good = std::isfinite(apart) && apart <= allowed;
    const double excess = good ? (allowed > 0 ? apart / allowed : 0) : std::isfinite(apart) ? 2 + apart : HUGE_VAL;
    if (excess <= worst) continue;
    worst = excess;
    out = {.equal = good,
           .largest = apart,
           .where = index_text(i / parts, want.shape()),
           .got = fmt::format("{:.9g}", g),
           .want = fmt::format("{:.9g}", w)};
  }
  return out;
}

Difference compare_integers(const Value& want, const Value& got, const Tolerance& tolerance) {
  const DType dtype = want.dtype();
  Difference out;
  for (int64_t i = 0; i < want.element_count(); ++i) {
    const int64_t w = get_int(dtype, want.data(), i), g = get_int(dtype, got.data(), i);
    if (w == g) continue;
    const double apart = std::fabs(static_cast<double>(w) - static_cast<double>(g));
    if (!out.equal && apart <= out.largest) continue;
    out = {.equal = dtype != DType::kBool && apart <= std::floor(tolerance.absolute),
           .largest = apart,
           .where = index_text(i, want.shape()),
           .got = dtype == DType::kUint64 ? std::to_string(static_cast<uint64_t>(g)) : std::to_string(g),
           .want = dtype == DType::kUint64 ? std::to_string(static_cast<uint64_t>(w)) : std::to_string(w)};
  }
  return out;
}

Difference compare_tensors(const Value& want, const Value& got, const Tolerance& tolerance) {
  if (want.dtype() != got.dtype() || !std::ranges::equal(want.shape(), got.shape())) return other_kind(want, got);
  const DType dtype = want.dtype();
  if (dtype == DType::kString) return compare_strings(want, got);
  if (dtype == DType::kComplex64) return compare_floats(want, got, DType::kFloat, 2, tolerance);
  if (dtype == DType::kComplex128) return compare_floats(want, got, DType::kDouble, 2, tolerance);
  if (is_floating(dtype)) return compare_floats(want, got, dtype, 1, tolerance);
  return compare_integers(want, got, tolerance);
}

}  // namespace

std::string Difference::text() const {
  if (!equal && where.empty()) return fmt::format("got {}, expected {}", got, want);
  if (where.empty()) return "the same";
  return fmt::format("largest difference {:.3g} at {}: got {}, expected {}", largest, where, got, want);
}

Difference compare(const Value& want, const Value& got, const Tolerance& tolerance) {
  if (want.kind() != got.kind() || want.elements().size() != got.elements().size()) return other_kind(want, got);
  if (want.is_tensor()) return compare_tensors(want, got, tolerance);
  Difference out;
  for (size_t i = 0; i < want.elements().size(); ++i) {
    Difference d = compare(want.elements()[i], got.elements()[i], tolerance);
    if (d.equal ? !out.equal || d.largest <= out.largest : !out.equal && d.largest <= out.largest) continue;
    d.where = fmt::format("element {} {}", i, d.where);
    out = std::move(d);
  }
  return out;
}

}  // namespace ocior::run
