// TreeEnsemble, TreeEnsembleRegressor and TreeEnsembleClassifier.
#include <algorithm>
#include <cmath>

#include "ops/ml/tree_ensemble.h"

namespace ocior::ops {
namespace {

// Where the scores of a regression go.
struct Scores {
  const ml::TreeEnsembleModel& model;
  DType dtype;
  void* y;

  static void finish(const void* context, int64_t row, double* value, uint8_t* has) {
    const auto& s = *static_cast<const Scores*>(context);
    const int64_t n = s.model.targets;
    s.model.finish(value, has);
    for (int64_t t = 0; t < n; ++t) {
      if (s.dtype == DType::kFloat) static_cast<float*>(s.y)[row * n + t] = static_cast<float>(value[t]);
      else set_double(s.dtype, s.y, row * n + t, value[t]);
    }
  }
};

// Small trees for samples: complete ones of a depth, with values and weights from a fixed sequence.
class Forest {
 public:
  explicit Forest(uint32_t seed) : state_(seed) {}
  double number() {
    state_ = state_ * 1664525 + 1013904223;
    return static_cast<double>(state_ >> 8) / (1 << 23) - 1;
  }
  int64_t pick(int64_t n) { return static_cast<int64_t>((number() + 1) / 2 * static_cast<double>(n)) % n; }

  // nodes_* and, under `prefix`, one or two weights per leaf.
  Attributes listed(const std::string& prefix, int trees, int depth, int64_t features, const std::vector<int64_t>& targets,
                    const std::vector<std::string>& modes, bool positive = false) {
    std::vector<int64_t> tree_ids, ids, feature_ids, yes, no, tracks, w_trees, w_nodes, w_ids;
    std::vector<float> values, weights;
    std::vector<std::string> node_modes;
    const int inner = (1 << depth) - 1, count = 2 * inner + 1;
    for (int t = 0; t < trees; ++t)
      for (int i = 0; i < count; ++i) {
        tree_ids.push_back(t), ids.push_back(i), feature_ids.push_back(pick(features)), tracks.push_back(pick(2));
        values.push_back(static_cast<float>(std::round(number() * 8) / 4));
        node_modes.push_back(i < inner ? modes[static_cast<size_t>(pick(static_cast<int64_t>(modes.size())))] : "LEAF");
        yes.push_back(i < inner ? 2 * i + 1 : 0), no.push_back(i < inner ? 2 * i + 2 : 0);
        for (int64_t k = i < inner ? 0 : 1 + pick(targets.size() > 1 ? 2 : 1); k > 0; --k) {
          w_trees.push_back(t), w_nodes.push_back(i);
          w_ids.push_back(targets[static_cast<size_t>(pick(static_cast<int64_t>(targets.size())))]);
          weights.push_back(static_cast<float>(positive ? std::fabs(number()) / trees : number()));
        }
      }
    return {{"nodes_treeids", tree_ids},       {"nodes_nodeids", ids},
            {"nodes_featureids", feature_ids}, {"nodes_values", values},
            {"nodes_modes", node_modes},       {"nodes_truenodeids", yes},
            {"nodes_falsenodeids", no},        {"nodes_missing_value_tracks_true", tracks},
            {prefix + "_treeids", w_trees},    {prefix + "_nodeids", w_nodes},
            {prefix + "_ids", w_ids},          {prefix + "_weights", weights}};
  }

 private:
  uint32_t state_;
};

const std::vector<std::string> kAllModes{"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"};
const std::vector<std::string> kOrderModes{"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"};
constexpr double kTolerance = 1e-6;

}  // namespace

struct TreeEnsembleRegressor {
  static constexpr OpInfo info{.name = "TreeEnsembleRegressor", .domain = ml::kMl};
  ml::TreeEnsembleModel model;

  static TreeEnsembleRegressor parse(const NodeReader& node) {
    static constexpr std::string_view kNames[] = {"AVERAGE", "SUM", "MIN", "MAX"};
    TreeEnsembleRegressor op{ml::TreeEnsembleModel::parse_listed(node, "target", node.integer("n_targets", 0))};
    const std::string name = node.text("aggregate_function", "SUM");
    const auto* found = std::ranges::find(kNames, name);
    if (found == std::end(kNames)) node.fail("aggregate_function is '{}'; expected AVERAGE, SUM, MIN or MAX", name);
    else op.model.aggregate = static_cast<ml::Aggregate>(found - kNames);
    return op;
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, ml::kFeatures, info.name));
    OCIOR_ASSIGN(const ml::SymbolicMatrix m, ml::infer_matrix(c, info.name));
    OCIOR_RETURN_IF_ERROR(model.check_columns(m.columns, info.name));
    c.set(0, DType::kFloat, Dims{m.rows, model.targets});
    return {};
  }
  Status reference(RefContext& c) const {
    const Scores scores{model, DType::kFloat, c.out(0).data()};
    return model.reference(c, info.name, Scores::finish, &scores);
  }
  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const { return model.pack(c.in(0).dtype); }
  size_t scratch(const BindContext& c) const { return model.scratch(c); }
  double work(const BindContext& c) const { return model.work(c); }
  Status run(CpuContext& c) const {
    const Scores scores{model, DType::kFloat, c.out(0).data};
    return model.run(c, info.name, Scores::finish, &scores);
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    uint32_t seed = 1;
    for (const auto& modes : {kAllModes, kOrderModes})
      for (const char* aggregate : {"SUM", "AVERAGE", "MIN", "MAX"})
        for (const int64_t targets : {1, 3}) {
          std::vector<int64_t> ids{0, 1, 2};
          ids.resize(static_cast<size_t>(targets));
          Attributes attributes = Forest(seed++).listed("target", 37, 3, 5, ids, modes);
          attributes["n_targets"] = targets;
          attributes["aggregate_function"] = std::string(aggregate);
          if (seed % 2) attributes["base_values"] = std::vector<float>(static_cast<size_t>(targets), 0.5F);
          if (seed % 3 == 0) attributes["post_transform"] = std::string("LOGISTIC");
          for (const Shape& shape : {Shape{5}, Shape{0, 5}, Shape{1, 6}, Shape{3, 5}, Shape{9, 5}, Shape{130, 7}})
            out.push_back({.inputs = {{DType::kFloat, shape}}, .attributes = attributes, .tolerance = kTolerance});
          out.push_back(
              {.inputs = {{DType::kFloat, {1200, 5}, Fill::kSpecials}}, .attributes = attributes, .tolerance = kTolerance});
          for (const DType t : {DType::kDouble, DType::kInt64, DType::kInt32})
            out.push_back(
                {.inputs = {{t, {70, 5}, Fill::kSmallInts}}, .attributes = attributes, .opset = 1, .tolerance = kTolerance});
        }
    Attributes one = Forest(99).listed("target", 1, 0, 1, {0}, kAllModes);
    one["n_targets"] = int64_t{1};
    for (const Shape& shape : {Shape{2, 3}, Shape{20, 0}}) out.push_back({.inputs = {{DType::kFloat, shape}}, .attributes = one});
    Attributes large = Forest(100).listed("target", 100, 6, 20, {0}, {"BRANCH_LEQ"});
    large["n_targets"] = int64_t{1};
    out.push_back({.inputs = {{DType::kFloat, {1000, 20}}}, .attributes = large, .bench = true});
    return out;
  }
};
OCIOR_OPERATOR(TreeEnsembleRegressor)

struct TreeEnsemble {
  static constexpr OpInfo info{.name = "TreeEnsemble", .domain = ml::kMl, .since = 5};
  ml::TreeEnsembleModel model;

  static TreeEnsemble parse(const NodeReader& node) { return {ml::TreeEnsembleModel::parse_indexed(node)}; }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, types(DType::kFloat, DType::kDouble, DType::kFloat16), info.name));
    OCIOR_ASSIGN(const ml::SymbolicMatrix m, ml::infer_matrix(c, info.name));
    OCIOR_RETURN_IF_ERROR(model.check_columns(m.columns, info.name));
    c.set(0, c.dtype(0), Dims{m.rows, model.targets});
    return {};
  }
  Status reference(RefContext& c) const {
    const Scores scores{model, c.out(0).dtype(), c.out(0).data()};
    return model.reference(c, info.name, Scores::finish, &scores);
  }
  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const { return model.pack(c.in(0).dtype); }
  size_t scratch(const BindContext& c) const { return model.scratch(c); }
  double work(const BindContext& c) const { return model.work(c); }
  Status run(CpuContext& c) const {
    const Scores scores{model, c.out(0).dtype, c.out(0).data};
    return model.run(c, info.name, Scores::finish, &scores);
  }
  static std::vector<Sample> samples() {
    // Two trees: comparisons with leaves between them and member sets (one empty); and one that is a leaf.
    const float nan = std::nanf("");
    Attributes attributes{{"n_targets", int64_t{3}},
                          {"tree_roots", std::vector<int64_t>{0, 4}},
                          {"nodes_modes", Tensor::of<uint8_t>({5}, {0, 6, 6, 4, 1})},
                          {"nodes_featureids", std::vector<int64_t>{0, 1, 2, 0, 0}},
                          {"nodes_splits", Tensor::of<float>({5}, {1, nan, 0, 2, 0})},
                          {"nodes_truenodeids", std::vector<int64_t>{1, 0, 1, 2, 4}},
                          {"nodes_trueleafs", std::vector<int64_t>{0, 1, 1, 1, 1}},
                          {"nodes_falsenodeids", std::vector<int64_t>{2, 3, 3, 3, 4}},
                          {"nodes_falseleafs", std::vector<int64_t>{0, 0, 0, 1, 1}},
                          {"nodes_missing_value_tracks_true", std::vector<int64_t>{0, 1, 1, 0, 0}},
                          {"membership_values", Tensor::of<float>({5}, {-1, 2, 0, nan, nan})},
                          {"leaf_targetids", std::vector<int64_t>{0, 1, 2, 0, 1}},
                          {"leaf_weights", Tensor::of<float>({5}, {1, -2, 3, 4, .5F})}};
    std::vector<Sample> out;
    for (const int64_t aggregate : {0, 1, 2, 3})
      for (const int64_t transform : {0, 1, 2, 3}) {
        attributes["aggregate_function"] = aggregate;
        attributes["post_transform"] = transform;
        for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16})
          for (const Shape& shape : {Shape{0, 3}, Shape{2, 3}, Shape{100, 3}})
            out.push_back({.inputs = {{t, shape, Fill::kSmallInts}}, .attributes = attributes});
        out.push_back({.inputs = {{DType::kFloat, {100, 3}, Fill::kSpecials}}, .attributes = attributes});
      }
    return out;
  }
};
OCIOR_OPERATOR(TreeEnsemble)

// Labels and scores as ONNX Runtime gives them, which for two classes say more than the specification does.
struct TreeEnsembleClassifier {
  static constexpr OpInfo info{.name = "TreeEnsembleClassifier", .domain = ml::kMl, .max_outputs = 2};
  ml::TreeEnsembleModel model;
  ml::Labels labels;
  bool one_sided = false;     // two classes, and all weights are for one
  bool all_positive = false;  // no weight is negative

  static TreeEnsembleClassifier parse(const NodeReader& node) {
    TreeEnsembleClassifier op;
    op.labels = ml::Labels::parse(node, "classlabels_int64s", "classlabels_strings");
    op.model = ml::TreeEnsembleModel::parse_listed(node, "class", op.labels.count());
    const auto& weights = op.model.weights;
    op.one_sided = op.labels.count() == 2 && !weights.empty() &&
                   std::ranges::all_of(weights, [&](const ml::LeafWeight& w) { return w.target == weights[0].target; });
    op.all_positive = std::ranges::none_of(weights, [](const ml::LeafWeight& w) { return w.weight < 0; });
    return op;
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, ml::kFeatures, info.name));
    OCIOR_ASSIGN(const ml::SymbolicMatrix m, ml::infer_matrix(c, info.name));
    OCIOR_RETURN_IF_ERROR(model.check_columns(m.columns, info.name));
    c.set(0, labels.dtype(), Dims{m.rows});
    c.set(1, DType::kFloat, Dims{m.rows, model.targets});
    return {};
  }
  Status reference(RefContext& c) const {
    const Place place{*this, c.wants(0) ? c.out(0).data() : nullptr, c.wants(1) ? c.out(1).as<float>() : nullptr};
    return model.reference(c, info.name, Place::finish, &place);
  }
  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const { return model.pack(c.in(0).dtype); }
  size_t scratch(const BindContext& c) const { return model.scratch(c); }
  double work(const BindContext& c) const { return model.work(c); }
  Status run(CpuContext& c) const {
    const Place place{*this, c.wants(0) ? c.out(0).data : nullptr, c.wants(1) ? c.out(1).as<float>() : nullptr};
    return model.run(c, info.name, Place::finish, &place);
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    uint32_t seed = 1;
    const std::vector<std::vector<int64_t>> classes{{0}, {1}, {0, 1}, {0, 1, 2}};
    for (const auto& ids : classes)
      for (const bool positive : {false, true})
        for (const char* transform : {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"}) {
          Attributes attributes = Forest(seed++).listed("class", 20, 3, 5, ids, kAllModes, positive);
          if (ids.size() == 3) attributes["classlabels_strings"] = std::vector<std::string>{"a", "b", "c"};
          else attributes["classlabels_int64s"] = std::vector<int64_t>{0, 1};
          attributes["post_transform"] = std::string(transform);
          if (seed % 2)
            attributes["base_values"] = std::vector<float>(std::max<size_t>(ids.size(), seed % 4 == 1 ? 2 : 1), 0.25F);
          for (const Shape& shape : {Shape{5}, Shape{0, 5}, Shape{3, 5}, Shape{130, 5}})
            out.push_back({.inputs = {{DType::kFloat, shape}}, .attributes = attributes, .outputs = 2});
          for (const DType t : {DType::kDouble, DType::kInt64, DType::kInt32})
            out.push_back({.inputs = {{t, {70, 5}, Fill::kSmallInts}}, .attributes = attributes, .opset = 1, .outputs = 2});
        }
    Attributes one = Forest(99).listed("class", 5, 2, 5, {0}, kAllModes);
    one["classlabels_strings"] = std::vector<std::string>{"only"};
    out.push_back({.inputs = {{DType::kFloat, {20, 5}}}, .attributes = one, .outputs = 2});
    return out;
  }

 private:
  struct Place {
    const TreeEnsembleClassifier& op;
    void* y;
    float* z;
    static void finish(const void* context, int64_t row, double* value, uint8_t* has) {
      const auto& p = *static_cast<const Place*>(context);
      p.op.finish(p.y, p.z, row, value, has);
    }
  };

  void finish(void* y, float* z, int64_t row, double* value, uint8_t* has) const {
    const int64_t n = model.targets;
    bool pair = false;
    if (n == 2) {
      pair = decide(y, row, value, has);
    } else {
      for (size_t t = 0; t < model.base.size(); ++t) value[t] += model.base[t], has[t] = 1;
      if (y && n == 1) labels.put_sign(y, row, value[0] > 0);
      else if (y) labels.put(y, row, top(value, has));
    }
    if (!z) return;
    if (pair) ml::transform_pair(model.transform, one_sided && all_positive, value);
    else ml::transform(model.transform, {value, static_cast<size_t>(n)});
    for (int64_t t = 0; t < n; ++t) z[row * n + t] = static_cast<float>(value[t]);
  }
  // The first class with the highest score among those with votes.
  int64_t top(const double* value, const uint8_t* has) const {
    int64_t best = -1;
    for (int64_t t = 0; t < model.targets; ++t)
      if (has[t] && (best < 0 || value[t] > value[best])) best = t;
    return std::max<int64_t>(best, 0);
  }
  // Two classes: base values count for classes with votes, the second class wins by a threshold, and a score of the first class
  // alone is that of the second. True when value[0] stands for both.
  bool decide(void* y, int64_t row, double* value, const uint8_t* has) const {
    for (size_t t = 0; t < model.base.size(); ++t)
      if (has[t]) value[t] += model.base[t];
    const double score = has[1] ? value[1] : value[0];
    if (y) labels.put(y, row, score > (one_sided && all_positive ? 0.5 : 0.0));
    return !has[1] && model.base.size() < 2;
  }
};
OCIOR_OPERATOR(TreeEnsembleClassifier)

}  // namespace ocior::ops
