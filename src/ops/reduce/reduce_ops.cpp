// The ten reductions: what each sums, and what follows the sum.
#include "ops/reduce/reduce.h"

namespace ocior::ops {

struct ReduceSum : Reduce<ReduceSum> {
  static constexpr OpInfo info{.name = "ReduceSum", .max_inputs = 2};
  static constexpr ReduceSpec spec{"ReduceSum", Reduction::kSum, 13, kNumbers, ReduceFn::kSum};
};
OCIOR_OPERATOR(ReduceSum)

struct ReduceMean : Reduce<ReduceMean> {
  static constexpr OpInfo info{.name = "ReduceMean", .max_inputs = 2};
  static constexpr ReduceSpec spec{"ReduceMean", Reduction::kMean, 18, kNumbers, ReduceFn::kSum};
};
OCIOR_OPERATOR(ReduceMean)

struct ReduceMax : Reduce<ReduceMax> {
  static constexpr OpInfo info{.name = "ReduceMax", .max_inputs = 2};
  static constexpr ReduceSpec spec{"ReduceMax", Reduction::kMax, 18, kNumbers | kBools, ReduceFn::kMax};
};
OCIOR_OPERATOR(ReduceMax)

struct ReduceMin : Reduce<ReduceMin> {
  static constexpr OpInfo info{.name = "ReduceMin", .max_inputs = 2};
  static constexpr ReduceSpec spec{"ReduceMin", Reduction::kMin, 18, kNumbers | kBools, ReduceFn::kMin};
};
OCIOR_OPERATOR(ReduceMin)

struct ReduceProd : Reduce<ReduceProd> {
  static constexpr OpInfo info{.name = "ReduceProd", .max_inputs = 2};
  static constexpr ReduceSpec spec{"ReduceProd", Reduction::kProd};
};
OCIOR_OPERATOR(ReduceProd)

struct ReduceL1 : Reduce<ReduceL1> {
  static constexpr OpInfo info{.name = "ReduceL1", .max_inputs = 2};
  static constexpr ReduceSpec spec{"ReduceL1", Reduction::kL1, 18, kNumbers, ReduceFn::kSumAbs};
};
OCIOR_OPERATOR(ReduceL1)

struct ReduceL2 : Reduce<ReduceL2> {
  static constexpr OpInfo info{.name = "ReduceL2", .max_inputs = 2};
  static constexpr ReduceSpec spec{"ReduceL2", Reduction::kL2, 18, kNumbers, ReduceFn::kSumSquare};
};
OCIOR_OPERATOR(ReduceL2)

struct ReduceSumSquare : Reduce<ReduceSumSquare> {
  static constexpr OpInfo info{.name = "ReduceSumSquare", .max_inputs = 2};
  static constexpr ReduceSpec spec{"ReduceSumSquare", Reduction::kSumSquare, 18, kNumbers, ReduceFn::kSumSquare};
};
OCIOR_OPERATOR(ReduceSumSquare)

struct ReduceLogSum : Reduce<ReduceLogSum> {
  static constexpr OpInfo info{.name = "ReduceLogSum", .max_inputs = 2};
  static constexpr ReduceSpec spec{"ReduceLogSum", Reduction::kLogSum, 18, kNumbers, ReduceFn::kSum};
};
OCIOR_OPERATOR(ReduceLogSum)

struct ReduceLogSumExp : Reduce<ReduceLogSumExp> {
  static constexpr OpInfo info{.name = "ReduceLogSumExp", .max_inputs = 2};
  static constexpr ReduceSpec spec{"ReduceLogSumExp", Reduction::kLogSumExp};
};
OCIOR_OPERATOR(ReduceLogSumExp)

}  // namespace ocior::ops
