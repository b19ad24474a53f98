// What an Einsum equation says, apart from any numbers: its labels, their
// extents, and in which order the operands are multiplied. Internal to Einsum;
// plain functions, thread-safe.
#pragma once

#include <bitset>
#include <optional>
#include <string_view>
#include <vector>

#include "ops/operator.h"

namespace ocior::ops::einsum {

// A label is a letter (0 to 51 in the order of ASCII) or an axis of the
// ellipsis (52 + its place from the right).
inline constexpr int kLetters = 52, kMostLabels = 128;
using Labels = std::vector<int>;
using LabelSet = std::bitset<kMostLabels>;
LabelSet set_of(const Labels& labels);

struct Equation {
  static constexpr int kEllipsis = -1;
  std::vector<Labels> terms;  // of the operands; kEllipsis stands for the axes that "..." covers
  std::optional<Labels> output;

  static Result<Equation> parse(std::string_view text, int operands);
};

// The equation for operands of known ranks: one label per axis.
struct Axes {
  std::vector<Labels> operands;
  Labels output;

  static Result<Axes> make(const Equation& equation, const std::vector<size_t>& ranks);
};

// The extent of every label; an axis of 1 goes with any extent. -1 where the
// label is not used.
Result<std::vector<int64_t>> extents(const Axes& axes, const std::vector<std::span<const int64_t>>& shapes);

// A product of two terms, or a sum over labels of one (b < 0). The result is
// the next term; what is not in `labels` is summed over.
struct Step {
  int a = 0, b = -1;
  Labels labels;
};
// Terms are numbered: the operands, then the results of the steps. `terms` are
// the operands' labels, without doubles. The last term, the result of the last
// step (or operand 0 when there are no steps), has labels of the output only.
std::vector<Step> order_of(std::vector<Labels> terms, const Labels& output, const std::vector<int64_t>& extent);

}  // namespace ocior::ops::einsum
