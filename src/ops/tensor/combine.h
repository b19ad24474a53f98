// How ScatterND and ScatterElements bring an update together with the element that it meets.
#pragma once

#include <cstdint>
#include <type_traits>

#include "ops/operator.h"

namespace ocior::ops {

enum class Combine { kReplace, kAdd, kMul, kMax, kMin };

// Integers wrap; a NaN on either side stays.
template <class C>
C combined(Combine how, C a, C b) {
  switch (how) {
    case Combine::kAdd:
      if constexpr (std::is_floating_point_v<C>) return a + b;
      else return static_cast<C>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
    case Combine::kMul:
      if constexpr (std::is_floating_point_v<C>) return a * b;
      else return static_cast<C>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
    case Combine::kMax: return a != a || a > b ? a : b;
    case Combine::kMin: return a != a || a < b ? a : b;
    case Combine::kReplace: break;
  }
  return b;
}

// The attribute `reduction`, which opset 16 brought, and opset 18 the extremes.
inline Combine parse_combine(const NodeReader& node) {
  if (node.opset() < 16) return Combine::kReplace;
  const std::string how = node.text("reduction", "none");
  if (how == "add") return Combine::kAdd;
  if (how == "mul") return Combine::kMul;
  if (how == "max" && node.opset() >= 18) return Combine::kMax;
  if (how == "min" && node.opset() >= 18) return Combine::kMin;
  if (how != "none") node.fail("reduction is '{}'; expected none, add, mul or (since opset 18) max, min", how);
  return Combine::kReplace;
}

}  // namespace ocior::ops
