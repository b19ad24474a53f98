// Ensembles of decision trees: parsed and checked from the attributes of either encoding, walked node by node (the reference) or
// in a packed form, blocks of rows or trees at a time. Immutable after parse; a model can neither loop nor read outside.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ops/ml/scores.h"

namespace ocior::ops::ml {

enum class Aggregate { kAverage, kSum, kMin, kMax };  // numbered as TreeEnsemble's attribute

// Outcomes of comparing a feature with a node's value.
inline constexpr uint8_t kLess = 1, kEqual = 2, kGreater = 4, kUnordered = 8;

struct TreeNode {
  double value = 0;  // never NaN
  int32_t feature = 0;
  int32_t yes = 0, no = 0;  // children; both the node itself for a leaf
  uint8_t mask = 0;         // outcomes that lead to `yes`
};
struct LeafWeight {
  int32_t target = 0;
  double weight = 0;
};

struct TreeEnsembleModel {
  std::vector<TreeNode> nodes;
  std::vector<int32_t> roots;
  std::vector<int32_t> first_weight;  // weights of node i: [first_weight[i], first_weight[i + 1])
  std::vector<LeafWeight> weights;
  std::vector<double> base;      // per target, or empty
  std::vector<int32_t> used;     // the features that nodes look at, ascending
  std::vector<uint8_t> reached;  // nodes that a root leads to
  int64_t targets = 1;
  Aggregate aggregate = Aggregate::kSum;
  PostTransform transform = PostTransform::kNone;

  // The nodes_* attributes of TreeEnsembleClassifier and TreeEnsembleRegressor with their weights, `prefix` being "class" or
  // "target". Errors are left in `node`.
  static TreeEnsembleModel parse_listed(const NodeReader& node, const std::string& prefix, int64_t targets);
  // The attributes of TreeEnsemble.
  static TreeEnsembleModel parse_indexed(const NodeReader& node);

  bool leaf(int32_t at) const { return nodes[static_cast<size_t>(at)].yes == at; }
  // An error when rows of so many features lack one that a node looks at.
  Status check_columns(const Dim& columns, std::string_view op) const;
  // The leaf of one tree for a row.
  int32_t walk(int32_t root, const double* row) const;
  // Adds a leaf's weights to the scores of one row, [targets] each.
  void add(int32_t leaf, double* value, uint8_t* has) const;
  void merge(double* value, uint8_t* has, const double* other, const uint8_t* other_has) const;
  // Aggregated and transformed scores of one row, without votes 0.
  void finish(double* value, const uint8_t* has) const;

  // Called once per row with its scores before finish().
  using Finish = void (*)(const void* context, int64_t row, double* value, uint8_t* has);
  Status reference(RefContext& c, std::string_view op, Finish finish, const void* context) const;
  Result<std::unique_ptr<Prepared>> pack(DType input) const;
  size_t scratch(const BindContext& c) const;
  double work(const BindContext& c) const;
  Status run(CpuContext& c, std::string_view op, Finish finish, const void* context) const;

 private:
  void fold_member_sets(const NodeReader& node, const std::vector<uint8_t>& modes, const std::vector<double>& members);
  // Finds cycles, features and what is reached.
  void check(const NodeReader& node);
};

}  // namespace ocior::ops::ml
