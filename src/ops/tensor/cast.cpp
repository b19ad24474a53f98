// Cast and CastLike: element types.
#include "ops/tensor/cast.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/loops.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

bool is_float8(DType t) { return t >= DType::kFloat8E4M3FN && t <= DType::kFloat8E5M2FNUZ; }
bool is_complex(DType t) { return t == DType::kComplex64 || t == DType::kComplex128; }

// The shortest text that reads back as the same value of the type.
std::string text_of(DType t, const void* data, int64_t i) {
  if (t == DType::kBool) return get_int(t, data, i) ? "True" : "False";
  if (t == DType::kUint64) return fmt::format("{}", static_cast<const uint64_t*>(data)[i]);
  if (!is_floating(t)) return fmt::format("{}", get_int(t, data, i));
  const double v = get_double(t, data, i);
  if (std::isnan(v)) return "NaN";
  if (std::isinf(v)) return v > 0 ? "INF" : "-INF";
  return t == DType::kDouble ? fmt::format("{}", v) : fmt::format("{}", static_cast<float>(v));
}

std::string lower(std::string s) {
  for (char& ch : s)
    if (ch >= 'A' && ch <= 'Z') ch = static_cast<char>(ch - 'A' + 'a');
  return s;
}

Result<double> number_of(const std::string& raw, int64_t i) {
  const size_t first = raw.find_first_not_of(" \t\r\n+");
  const std::string s = first == std::string::npos ? "" : lower(raw.substr(first, raw.find_last_not_of(" \t\r\n") + 1 - first));
  if (s == "inf" || s == "infinity") return std::numeric_limits<double>::infinity();
  if (s == "-inf" || s == "-infinity") return -std::numeric_limits<double>::infinity();
  if (s == "nan") return std::nan("");
  double v = 0;
  const auto [end, code] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (s.empty() || end != s.data() + s.size() || (code != std::errc() && code != std::errc::result_out_of_range))
    return error(Code::kInvalidArgument, "Cast: element {} is \"{}\", which is no number", i, raw.substr(0, 64));
  return v;
}

Status from_strings(const std::string* x, DType to, void* y, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    int64_t whole = 0;
    const std::string& s = x[i];
    const auto [stop, code] = std::from_chars(s.data(), s.data() + s.size(), whole);
    const bool integer = !s.empty() && code == std::errc() && stop == s.data() + s.size();
    if (integer && !is_floating(to)) {
      set_int(to, y, i, whole);
    } else {
      OCIOR_ASSIGN(const double v, number_of(s, i));
      store<double>(to, y, i, 1, &v);
    }
  }
  return {};
}

// float8 without saturation: what rounds beyond the largest value becomes infinity, or NaN where the format has none.
void to_float8(DType to, uint8_t* y, int64_t i, double v) {
  set_double(to, y, i, v);
  uint8_t largest = 0;
  set_double(to, &largest, 0, 1e9);
  const double top = get_double(to, &largest, 0);
  uint8_t below = static_cast<uint8_t>(largest - 1);
  const double half_step = (top - get_double(to, &below, 0)) / 2;
  if (std::isnan(v) || std::fabs(v) < top + half_step) return;
  const bool tie_stays = std::fabs(v) == top + half_step && largest % 2 == 0;
  if (tie_stays) return;
  const uint8_t sign = std::signbit(v) ? 0x80 : 0;
  if (to == DType::kFloat8E5M2) y[i] = sign | 0x7C;
  else y[i] = to == DType::kFloat8E4M3FN ? (sign | 0x7F) : 0x80;
}

// A power of two: the exponent plus 127. Zero and what is too small becomes 2^-127, what is too large 2^127, or both NaN when not
// saturated.
uint8_t power_of_two(const CastRules& rules, double v) {
  constexpr int kNan = 255, kLargest = 254, kBias = 127;
  if (!(v >= 0)) return kNan;
  if (v < 0x1p-127) return rules.saturate ? 0 : kNan;
  if (v >= 0x1p128) return rules.saturate ? kLargest : kNan;
  const int exponent = std::ilogb(v);
  const double fraction = std::ldexp(v, -exponent);  // in [1, 2)
  const bool up =
      rules.rounding == PowerRounding::kUp ? fraction > 1 : rules.rounding == PowerRounding::kNearest && fraction >= 1.5;
  const int code = exponent + up + kBias;
  return static_cast<uint8_t>(code <= kLargest ? code : rules.saturate ? kLargest : kNan);
}

// Whether set_double() does not already do what the rules ask for this type.
bool needs_rules(const CastRules& rules, DType to) {
  return to == DType::kFloat8E8M0 || to == DType::kFloat4E2M1 || (is_float8(to) && !rules.saturate);
}

void store_by_rules(const CastRules& rules, DType to, void* y, int64_t i, double v) {
  if (to == DType::kFloat8E8M0) static_cast<uint8_t*>(y)[i] = power_of_two(rules, v);
  else if (is_float8(to)) to_float8(to, static_cast<uint8_t*>(y), i, v);
  else set_double(to, y, i, std::isnan(v) ? -0.0 : v);  // float4e2m1 has no NaN: the official cases expect -0
}

}  // namespace

bool can_cast(DType from, DType to) {
  return !is_complex(from) && !is_complex(to) && from != DType::kUndefined && to != DType::kUndefined;
}

Status cast_elements(const CastRules& rules, DType from, const void* x, DType to, void* y, int64_t begin, int64_t end) {
  if (from == to) return copy_elements(to, y, begin, x, begin, end - begin), Status();
  if (from == DType::kString) return from_strings(static_cast<const std::string*>(x), to, y, begin, end);
  if (to == DType::kString) {
    for (int64_t i = begin; i < end; ++i) static_cast<std::string*>(y)[i] = text_of(from, x, i);
    return {};
  }
  if (needs_rules(rules, to)) {
    for (int64_t i = begin; i < end; ++i) store_by_rules(rules, to, y, i, get_double(from, x, i));
    return {};
  }
  visit_kind(kind_of(from), [&](auto zero) {
    using C = decltype(zero);
    alignas(64) C buffer[kStrip];
    for (int64_t at = begin; at < end; at += kStrip) {
      const int64_t n = std::min(kStrip, end - at);
      store<C>(to, y, at, n, load<C>(from, x, at, n, buffer));
    }
  });
  return {};
}

namespace {

// The kernel between float and a 16-bit float, when there is one; null else.
using Widen = void (*)(const uint16_t*, float*, int64_t);
using Narrow = void (*)(const float*, uint16_t*, int64_t);
Widen widening(const KernelTable& k, DType from, DType to) {
  if (to != DType::kFloat) return nullptr;
  return from == DType::kFloat16 ? k.f16_to_f32 : from == DType::kBFloat16 ? k.bf16_to_f32 : nullptr;
}
Narrow narrowing(const KernelTable& k, DType from, DType to) {
  if (from != DType::kFloat) return nullptr;
  return to == DType::kFloat16 ? k.f32_to_f16 : to == DType::kBFloat16 ? k.f32_to_bf16 : nullptr;
}

Status cast_infer(ShapeContext& c, DType to) {
  OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "Cast"));
  if (c.dtype(0) != DType::kUndefined && !can_cast(c.dtype(0), to))
    return error(Code::kNotImplemented, "Cast: from {} to {} is not supported", name_of(c.dtype(0)), name_of(to));
  c.set(0, to, c.shape(0));
  if (carries_data(to) && to != DType::kBool && carries_data(c.dtype(0))) pass_data(c);
  return {};
}

Status cast_reference(const CastRules& rules, RefContext& c, DType to) {
  return cast_elements(rules, c.in(0).dtype(), c.in(0).data(), to, c.out(0).data(), 0, c.in(0).count());
}

Status cast_run(const CastRules& rules, CpuContext& c) {
  const TensorView &x = c.in(0), &y = c.out(0);
  const int64_t n = x.count();
  if (x.dtype == DType::kString || y.dtype == DType::kString || !moves_as_bytes(y.dtype))
    return cast_elements(rules, x.dtype, x.data, y.dtype, y.data, 0, n);
  const Widen widen = widening(c.kernels(), x.dtype, y.dtype);
  const Narrow narrow = narrowing(c.kernels(), x.dtype, y.dtype);
  for_items(c, n, 1, [&](int64_t begin, int64_t end) {
    if (widen) widen(x.as<const uint16_t>() + begin, y.as<float>() + begin, end - begin);
    else if (narrow) narrow(x.as<const float>() + begin, y.as<uint16_t>() + begin, end - begin);
    else (void)cast_elements(rules, x.dtype, x.data, y.dtype, y.data, begin, end);  // fails on strings only
  });
  return {};
}

CastRules rules_of(const NodeReader& node) {
  CastRules rules;
  if (node.opset() >= 19) rules.saturate = node.integer("saturate", 1) != 0;
  if (node.opset() < 24) return rules;
  const std::string mode = node.text("round_mode", "up");
  if (mode == "down") rules.rounding = PowerRounding::kDown;
  else if (mode == "nearest") rules.rounding = PowerRounding::kNearest;
  else if (mode != "up") node.fail("round_mode is '{}'; expected up, down or nearest", mode);
  return rules;
}

}  // namespace

// To the type of attribute `to` (a name before opset 6).
struct Cast {
  static constexpr OpInfo info{.name = "Cast"};
  DType to = DType::kUndefined;
  CastRules rules;

  static Cast parse(const NodeReader& node) {
    Cast op;
    if (node.opset() < 6) {
      op.to = dtype_of(lower(node.text("to", "")));
    } else {
      const int64_t number = node.required_integer("to");
      if (number > 0 && number < kDTypeCount) op.to = static_cast<DType>(number);
    }
    if (op.to == DType::kUndefined && node.status().ok()) node.fail("attribute 'to' names no element type");
    op.rules = rules_of(node);
    return op;
  }

  Status infer(ShapeContext& c) const { return cast_infer(c, to); }
  Status reference(RefContext& c) const { return cast_reference(rules, c, to); }
  Status run(CpuContext& c) const { return cast_run(rules, c); }

  static std::vector<Sample> samples() {
    const DType all[] = {DType::kFloat,      DType::kDouble,         DType::kFloat16,        DType::kBFloat16,
                         DType::kInt8,       DType::kInt16,          DType::kInt32,          DType::kInt64,
                         DType::kUint8,      DType::kUint16,         DType::kUint32,         DType::kUint64,
                         DType::kBool,       DType::kInt4,           DType::kUint4,          DType::kFloat8E4M3FN,
                         DType::kFloat8E5M2, DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2FNUZ, DType::kFloat4E2M1};
    std::vector<Sample> out;
    for (const DType from : all)
      for (const DType to : all)
        out.push_back({.inputs = {{from, {7, 3}, from == DType::kBool ? Fill::kBools : Fill::kSmallInts}},
                       .attributes = {{"to", static_cast<int64_t>(to)}}});
    const auto add = [&out](SampleInput x, DType to) {
      out.push_back({.inputs = {std::move(x)}, .attributes = {{"to", static_cast<int64_t>(to)}}});
    };
    for (const DType to :
         {DType::kInt32, DType::kBool, DType::kDouble, DType::kFloat16, DType::kBFloat16, DType::kString, DType::kUint8})
      add({DType::kFloat, {301}, Fill::kSpecials}, to);
    for (const DType from : {DType::kFloat, DType::kFloat16, DType::kInt64})
      add({from, {200, 301}}, from == DType::kFloat ? DType::kFloat16 : DType::kFloat);
    add({DType::kFloat, {}}, DType::kInt64);
    add({DType::kFloat, {0}}, DType::kInt64);
    out.push_back({.inputs = {{DType::kFloat, {3}}}, .attributes = {{"to", std::string("DOUBLE")}}, .opset = 1});
    out.push_back({.inputs = {{DType::kFloat, {4}, Fill::kZeros, {1e6, -1e6, 460, 3}}},
                   .attributes = {{"to", static_cast<int64_t>(DType::kFloat8E4M3FN)}, {"saturate", int64_t{0}}}});
    for (const char* mode : {"up", "down", "nearest"})
      out.push_back({.inputs = {{DType::kFloat, {7}, Fill::kZeros, {0, 0.124, 1.1, 1.5, 8, 3e38, 1e-40}}},
                     .attributes = {{"to", static_cast<int64_t>(DType::kFloat8E8M0)}, {"round_mode", std::string(mode)}}});
    return out;
  }
};
OCIOR_OPERATOR(Cast)

// To the type of input 1, whose values do not matter.
struct CastLike {
  static constexpr OpInfo info{.name = "CastLike", .since = 15, .min_inputs = 2, .max_inputs = 2};
  CastRules rules;

  static CastLike parse(const NodeReader& node) { return {rules_of(node)}; }
  Status infer(ShapeContext& c) const { return cast_infer(c, c.dtype(1)); }
  Status reference(RefContext& c) const { return cast_reference(rules, c, c.in(1).dtype()); }
  Status run(CpuContext& c) const { return cast_run(rules, c); }

  static std::vector<Sample> samples() {
    return {{.inputs = {{DType::kFloat, {3, 4}}, {DType::kInt64, {}}}},
            {.inputs = {{DType::kInt64, {3}}, {DType::kFloat16, {2}}}}};
  }
};
OCIOR_OPERATOR(CastLike)

}  // namespace ocior::ops
