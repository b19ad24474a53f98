// Patterns are formulas over values. The matcher owns commutativity, bracketing (x*y*z in any order), shared subexpressions,
// constants within the precision of their type, and that no interior value has a reader outside of the match.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "passes/pass.h"

namespace ocior::passes {

class Pat {
 public:
  enum class Kind { kAny, kSplat, kAnySplat, kOp, kOr };
  Kind kind = Kind::kAny;
  std::string_view name;  // of the capture, or of the operator
  double value = 0;       // kSplat
  std::vector<Pat> in;
};

inline Pat any(std::string_view name) { return {Pat::Kind::kAny, name, 0, {}}; }
// A constant whose elements all have one value; Match::number(name) tells it.
inline Pat number(std::string_view name) { return {Pat::Kind::kAnySplat, name, 0, {}}; }
inline Pat splat(double value) { return {Pat::Kind::kSplat, {}, value, {}}; }
inline Pat op(std::string_view name, std::vector<Pat> in) { return {Pat::Kind::kOp, name, 0, std::move(in)}; }
inline Pat operator|(Pat a, Pat b) { return {Pat::Kind::kOr, {}, 0, {std::move(a), std::move(b)}}; }
inline Pat operator+(Pat a, Pat b) { return op("Add", {std::move(a), std::move(b)}); }
inline Pat operator-(Pat a, Pat b) { return op("Sub", {std::move(a), std::move(b)}); }
inline Pat operator*(Pat a, Pat b) { return op("Mul", {std::move(a), std::move(b)}); }
inline Pat operator/(Pat a, Pat b) { return op("Div", {std::move(a), std::move(b)}); }
inline Pat operator+(Pat a, double b) { return std::move(a) + splat(b); }
inline Pat operator*(Pat a, double b) { return std::move(a) * splat(b); }
inline Pat operator/(Pat a, double b) { return std::move(a) / splat(b); }

struct Match {
  std::map<std::string_view, ValueId> values;
  std::map<std::string_view, double> numbers;
  std::vector<NodeId> interior;  // nodes of the match, the root included
  ValueId at(std::string_view name) const { return values.at(name); }
  double number(std::string_view name) const { return numbers.at(name); }
};

// Matches `pattern` against the value `root`; on failure `why` (may be null) names the deepest place that did not fit.
std::optional<Match> match(const Rewriter& r, const Pat& pattern, ValueId root, std::string* why);

// A rewrite by formula: where `pattern` matches and `unless` has no objection, `replace` gives the value to use instead (kNone:
// leave it).
struct Rewrite {
  std::string_view root;  // operator of the pattern's root
  Pat (*pattern)();
  std::string (*unless)(const Rewriter& r, const Match& m);  // "" to go on, or the reason
  ValueId (*replace)(Rewriter& r, const Match& m);
  // A root alone is no near miss when its kind is everywhere: then misses are told only below this operator.
  std::string_view near_miss = {};
};

// Applies one rewrite everywhere.
Status apply(Rewriter& r, const Rewrite& rewrite);

}  // namespace ocior::passes
