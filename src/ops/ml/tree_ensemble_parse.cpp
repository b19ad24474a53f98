// Reads and checks the attributes of tree ensembles.
#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "ops/ml/tree_ensemble.h"

namespace ocior::ops::ml {
namespace {

constexpr size_t kMostNodes = size_t{1} << 30;
constexpr int64_t kMostTargets = 1 << 20;
constexpr uint8_t kMember = 6;
// By the number of the mode: <=, <, >=, >, ==, !=.
constexpr uint8_t kMasks[] = {kLess | kEqual, kLess, kGreater | kEqual, kGreater, kEqual, kLess | kGreater | kUnordered};

// A comparison with `value`; a missing feature (NaN) leads to `yes` when it `tracks_true`.
TreeNode compare(uint8_t mask, double value, int32_t feature, bool tracks_true) {
  const uint8_t missing = tracks_true ? kUnordered : 0;
  // Nothing compares with NaN, so only != holds.
  if (std::isnan(value)) return {0, feature, 0, 0, static_cast<uint8_t>(mask & kUnordered ? 15 : missing)};
  return {value, feature, 0, 0, static_cast<uint8_t>(mask | missing)};
}

std::vector<double> numbers_of(const NodeReader& node, const std::string& name, const Tensor* t) {
  std::vector<double> out;
  if (!t) return out;
  if (t->rank() != 1 || !(kFloats & type_bit(t->dtype()))) {
    node.fail("attribute '{}' is {}{}; expected a list of floats", name, name_of(t->dtype()), to_string(t->shape()));
    return out;
  }
  for (int64_t i = 0; i < t->count(); ++i) out.push_back(get_double(t->dtype(), t->data(), i));
  return out;
}

// A list of floats or, since version 3, a tensor under the name with `_as_tensor`.
std::vector<double> reals(const NodeReader& node, const std::string& name) {
  const std::vector<float> listed = node.numbers(name);
  if (node.opset() >= 3 && node.has(name + "_as_tensor")) {
    if (!listed.empty()) node.fail("both {} and {}_as_tensor are given; expected one", name, name);
    return numbers_of(node, name + "_as_tensor", node.tensor(name + "_as_tensor"));
  }
  return {listed.begin(), listed.end()};
}

void same_length(const NodeReader& node, std::string_view name, size_t got, size_t want) {
  if (got != want) node.fail("{} has {} elements; expected {}, as the other lists of its kind", name, got, want);
}

int32_t feature_of(const NodeReader& node, int64_t id) {
  if (id >= 0 && id < INT32_MAX) return static_cast<int32_t>(id);
  node.fail("nodes_featureids has {}; expected 0 to {}", id, INT32_MAX - 1);
  return 0;
}

int64_t checked_targets(const NodeReader& node, std::string_view what, int64_t targets) {
  if (targets >= 1 && targets <= kMostTargets) return targets;
  node.fail("{} is {}; expected 1 to {}", what, targets, kMostTargets);
  return 1;
}

int32_t target_of(const NodeReader& node, std::string_view name, int64_t id, int64_t targets) {
  if (id >= 0 && id < targets) return static_cast<int32_t>(id);
  node.fail("{} has {}; expected 0 to {}", name, id, targets - 1);
  return 0;
}

// Indices of nodes by (tree, node id).
class NodeIds {
 public:
  NodeIds(const NodeReader& node, const std::vector<int64_t>& trees, const std::vector<int64_t>& ids) {
    for (size_t i = 0; i < ids.size(); ++i) entries_.push_back({{trees[i], ids[i]}, static_cast<int32_t>(i)});
    std::sort(entries_.begin(), entries_.end());
    for (size_t i = 1; i < entries_.size(); ++i)
      if (entries_[i].first == entries_[i - 1].first)
        node.fail("tree {} has two nodes {}", entries_[i].first.first, entries_[i].first.second);
  }
  // An error names what asked for a node that there is not.
  int32_t find(const NodeReader& node, std::string_view what, int64_t tree, int64_t id) const {
    const Entry want{{tree, id}, 0};
    const auto at = std::lower_bound(entries_.begin(), entries_.end(), want);
    if (at != entries_.end() && at->first == want.first) return at->second;
    node.fail("{} names node {} of tree {}, which does not exist", what, id, tree);
    return 0;
  }

 private:
  using Entry = std::pair<std::pair<int64_t, int64_t>, int32_t>;
  std::vector<Entry> entries_;
};

uint8_t mask_of(const NodeReader& node, const std::string& mode) {
  static constexpr std::string_view kModes[] = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"};
  const auto* found = std::ranges::find(kModes, mode);
  if (found != std::end(kModes)) return kMasks[found - kModes];
  node.fail("nodes_modes has '{}'; expected BRANCH_LEQ, BRANCH_LT, BRANCH_GTE, BRANCH_GT, BRANCH_EQ, BRANCH_NEQ or LEAF", mode);
  return 0;
}

}  // namespace

TreeEnsembleModel TreeEnsembleModel::parse_listed(const NodeReader& node, const std::string& prefix, int64_t targets) {
  TreeEnsembleModel m;
  m.targets = checked_targets(node, "the number of outputs per row", targets);
  m.transform = parse_post_transform(node);
  m.base = reals(node, "base_values");
  node.ignore("nodes_hitrates");
  if (node.opset() >= 3) node.ignore("nodes_hitrates_as_tensor");

  const auto trees = node.integers("nodes_treeids"), ids = node.integers("nodes_nodeids"),
             features = node.integers("nodes_featureids"), yes = node.integers("nodes_truenodeids"),
             no = node.integers("nodes_falsenodeids"), tracks = node.integers("nodes_missing_value_tracks_true");
  const auto modes = node.texts("nodes_modes");
  const auto values = reals(node, "nodes_values");
  const size_t n = modes.size();
  if (n == 0 || n > kMostNodes) node.fail("there are {} nodes; expected 1 to {}", n, kMostNodes);
  same_length(node, "nodes_treeids", trees.size(), n);
  same_length(node, "nodes_nodeids", ids.size(), n);
  same_length(node, "nodes_featureids", features.size(), n);
  same_length(node, "nodes_truenodeids", yes.size(), n);
  same_length(node, "nodes_falsenodeids", no.size(), n);
  same_length(node, "nodes_values", values.size(), n);
  if (!tracks.empty()) same_length(node, "nodes_missing_value_tracks_true", tracks.size(), n);
  const auto of_trees = node.integers(prefix + "_treeids"), of_nodes = node.integers(prefix + "_nodeids"),
             outputs = node.integers(prefix + "_ids");
  const auto weights = reals(node, prefix + "_weights");
  same_length(node, prefix + "_treeids", of_trees.size(), weights.size());
  same_length(node, prefix + "_nodeids", of_nodes.size(), weights.size());
  same_length(node, prefix + "_ids", outputs.size(), weights.size());
  if (weights.size() > kMostNodes) node.fail("there are {} weights; expected at most {}", weights.size(), kMostNodes);
  if (!node.status().ok()) return m;

  const NodeIds index(node, trees, ids);
  std::unordered_set<int64_t> seen;
  for (size_t i = 0; i < n && node.status().ok(); ++i) {
    const auto self = static_cast<int32_t>(i);
    if (seen.insert(trees[i]).second) m.roots.push_back(self);  // the first node that a tree lists
    if (modes[i] == "LEAF") {
      m.nodes.push_back({0, 0, self, self, 0});
      continue;
    }
    TreeNode made = compare(mask_of(node, modes[i]), values[i], feature_of(node, features[i]), !tracks.empty() && tracks[i] == 1);
    made.yes = index.find(node, "nodes_truenodeids", trees[i], yes[i]);
    made.no = index.find(node, "nodes_falsenodeids", trees[i], no[i]);
    if (made.yes == self || made.no == self) node.fail("node {} of tree {} is its own child", ids[i], trees[i]);
    m.nodes.push_back(made);
  }
  if (!node.status().ok()) return m;

  std::vector<std::pair<int32_t, LeafWeight>> by_node;
  for (size_t i = 0; i < weights.size(); ++i) {
    const int32_t at = index.find(node, prefix + "_nodeids", of_trees[i], of_nodes[i]);
    if (!node.status().ok()) return m;
    if (m.leaf(at)) by_node.push_back({at, {target_of(node, prefix + "_ids", outputs[i], m.targets), weights[i]}});
  }
  std::stable_sort(by_node.begin(), by_node.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [at, weight] : by_node) {
    while (m.first_weight.size() <= static_cast<size_t>(at)) m.first_weight.push_back(static_cast<int32_t>(m.weights.size()));
    m.weights.push_back(weight);
  }
  m.first_weight.resize(n + 1, static_cast<int32_t>(m.weights.size()));
  m.check(node);
  return m;
}

TreeEnsembleModel TreeEnsembleModel::parse_indexed(const NodeReader& node) {
  TreeEnsembleModel m;
  m.targets = checked_targets(node, "n_targets", node.integer("n_targets", 0));
  const int64_t aggregate = node.integer("aggregate_function", 1), transform = node.integer("post_transform", 0);
  if (aggregate < 0 || aggregate > 3) node.fail("aggregate_function is {}; expected 0 to 3", aggregate);
  if (transform < 0 || transform > 4) node.fail("post_transform is {}; expected 0 to 4", transform);
  node.ignore("nodes_hitrates");
  const auto roots = node.integers("tree_roots"), features = node.integers("nodes_featureids"),
             yes = node.integers("nodes_truenodeids"), no = node.integers("nodes_falsenodeids"),
             yes_leaf = node.integers("nodes_trueleafs"), no_leaf = node.integers("nodes_falseleafs"),
             tracks = node.integers("nodes_missing_value_tracks_true"), outputs = node.integers("leaf_targetids");
  const auto splits = numbers_of(node, "nodes_splits", node.tensor("nodes_splits"));
  const auto weights = numbers_of(node, "leaf_weights", node.tensor("leaf_weights"));
  const auto members = numbers_of(node, "membership_values", node.tensor("membership_values"));
  const Tensor* mode_tensor = node.tensor("nodes_modes");
  if (!mode_tensor || mode_tensor->dtype() != DType::kUint8) node.fail("nodes_modes must be a tensor of type uint8");
  if (!node.status().ok()) return m;
  m.aggregate = static_cast<Aggregate>(aggregate);
  m.transform = static_cast<PostTransform>(transform);
  const std::vector<uint8_t> modes(mode_tensor->as<uint8_t>(), mode_tensor->as<uint8_t>() + mode_tensor->count());
  const size_t n = modes.size(), leaves = weights.size();
  if (n == 0 || n > kMostNodes || leaves > kMostNodes - n || members.size() > kMostNodes - n - leaves)
    node.fail("there are {} nodes, {} leaves and {} set members; expected at least one node and at most {} together", n, leaves,
              members.size(), kMostNodes);
  same_length(node, "nodes_splits", splits.size(), n);
  same_length(node, "nodes_featureids", features.size(), n);
  same_length(node, "nodes_truenodeids", yes.size(), n);
  same_length(node, "nodes_falsenodeids", no.size(), n);
  same_length(node, "nodes_trueleafs", yes_leaf.size(), n);
  same_length(node, "nodes_falseleafs", no_leaf.size(), n);
  if (!tracks.empty()) same_length(node, "nodes_missing_value_tracks_true", tracks.size(), n);
  same_length(node, "leaf_targetids", outputs.size(), leaves);
  if (roots.empty()) node.fail("tree_roots is empty; expected one root per tree");
  const auto place = [&](std::string_view what, int64_t at, size_t count) {
    if (at < 0 || at >= static_cast<int64_t>(count))
      node.fail("{} has {}; expected 0 to {}", what, at, static_cast<int64_t>(count) - 1);
    return static_cast<int32_t>(at);
  };
  for (size_t i = 0; i < n && node.status().ok(); ++i) {
    if (modes[i] > kMember) node.fail("nodes_modes has {}; expected 0 to {}", modes[i], kMember);
    const uint8_t mask = modes[i] < kMember ? kMasks[modes[i]] : 0;
    TreeNode made =
        compare(mask, modes[i] < kMember ? splits[i] : 0, feature_of(node, features[i]), !tracks.empty() && tracks[i] == 1);
    const auto offset = static_cast<int32_t>(n);  // leaves lie behind the nodes
    made.yes = yes_leaf[i] ? offset + place("nodes_truenodeids", yes[i], leaves) : place("nodes_truenodeids", yes[i], n);
    made.no = no_leaf[i] ? offset + place("nodes_falsenodeids", no[i], leaves) : place("nodes_falsenodeids", no[i], n);
    if (made.yes == static_cast<int32_t>(i) || made.no == static_cast<int32_t>(i)) node.fail("node {} is its own child", i);
    m.nodes.push_back(made);
  }
  for (const int64_t root : roots) m.roots.push_back(place("tree_roots", root, n));
  if (!node.status().ok()) return m;
  m.first_weight.assign(n, 0);
  for (size_t i = 0; i < leaves; ++i) {
    const auto self = static_cast<int32_t>(n + i);
    m.nodes.push_back({0, 0, self, self, 0});
    m.first_weight.push_back(static_cast<int32_t>(i));
    m.weights.push_back({target_of(node, "leaf_targetids", outputs[i], m.targets), weights[i]});
  }
  m.fold_member_sets(node, modes, members);
  m.first_weight.resize(m.nodes.size() + 1, static_cast<int32_t>(leaves));
  m.check(node);
  return m;
}

// A node that asks for membership becomes a chain of nodes that ask for equality. The sets are separated by NaN.
void TreeEnsembleModel::fold_member_sets(const NodeReader& node, const std::vector<uint8_t>& modes,
                                         const std::vector<double>& members) {
  const auto sets = std::ranges::count(modes, kMember),
             ends = std::ranges::count_if(members, [](double v) { return std::isnan(v); });
  if (sets != ends || (!members.empty() && !std::isnan(members.back())))
    return node.fail("membership_values has {} sets that NaN ends for {} nodes of mode BRANCH_MEMBER", ends, sets);
  size_t next = 0;
  for (size_t i = 0; i < modes.size(); ++i) {
    if (modes[i] != kMember) continue;
    auto at = static_cast<int32_t>(i);
    const TreeNode set = nodes[i];
    for (bool first = true; !std::isnan(members[next]); ++next, first = false) {
      if (!first) {
        const auto more = static_cast<int32_t>(nodes.size());
        nodes[static_cast<size_t>(at)].no = more;
        nodes.push_back({0, set.feature, set.yes, set.no, 0});
        at = more;
      }
      nodes[static_cast<size_t>(at)].value = members[next];
      nodes[static_cast<size_t>(at)].mask |= kEqual;
    }
    ++next;
  }
}

void TreeEnsembleModel::check(const NodeReader& node) {
  if (!node.status().ok()) return;
  if (!base.empty() && static_cast<int64_t>(base.size()) != targets && !(targets == 2 && base.size() == 1))
    return node.fail("base_values has {} elements; expected {} or none", base.size(), targets);
  // Depth first; a child that is still open closes a cycle. Trees may share children.
  enum : uint8_t { kNew, kOpen, kDone };
  reached.assign(nodes.size(), kNew);
  std::vector<int32_t> stack;
  for (const int32_t root : roots) {
    if (reached[static_cast<size_t>(root)] == kNew) stack.push_back(root);
    while (!stack.empty()) {
      const int32_t at = stack.back();
      uint8_t& state = reached[static_cast<size_t>(at)];
      if (state != kNew || leaf(at)) {
        state = kDone;
        stack.pop_back();
        continue;
      }
      state = kOpen;
      const TreeNode& n = nodes[static_cast<size_t>(at)];
      used.push_back(n.feature);
      for (const int32_t child : {n.no, n.yes}) {
        const uint8_t found = reached[static_cast<size_t>(child)];
        if (found == kOpen) return node.fail("the tree has a cycle: node {} leads back to node {}", at, child);
        if (found == kNew) stack.push_back(child);
      }
    }
  }
  std::sort(used.begin(), used.end());
  used.erase(std::unique(used.begin(), used.end()), used.end());
}

Status TreeEnsembleModel::check_columns(const Dim& columns, std::string_view op) const {
  if (!columns.known() || used.empty() || columns.value() > used.back()) return {};
  return error(Code::kInvalidArgument, "{}: the input has {} features per row, but a node looks at feature {}", op,
               columns.value(), used.back());
}

}  // namespace ocior::ops::ml
