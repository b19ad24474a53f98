#include "ops/ml/tree_ensemble.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "ops/typed.h"

namespace ocior::ops::ml {

int32_t TreeEnsembleModel::walk(int32_t root, const double* row) const {
  int32_t at = root;
  while (!leaf(at)) {
    const TreeNode& n = nodes[static_cast<size_t>(at)];
    const double x = row[n.feature];
    const uint8_t outcome = x < n.value ? kLess : x == n.value ? kEqual : x > n.value ? kGreater : kUnordered;
    at = n.mask & outcome ? n.yes : n.no;
  }
  return at;
}

namespace {

void vote(Aggregate how, double& value, uint8_t& has, double weight) {
  if (how == Aggregate::kMin) value = has ? std::min(value, weight) : weight;
  else if (how == Aggregate::kMax) value = has ? std::max(value, weight) : weight;
  else value += weight;
  has = 1;
}

}  // namespace

void TreeEnsembleModel::add(int32_t at, double* value, uint8_t* has) const {
  const auto leaf = static_cast<size_t>(at);
  for (int32_t i = first_weight[leaf]; i < first_weight[leaf + 1]; ++i) {
    const LeafWeight& w = weights[static_cast<size_t>(i)];
    vote(aggregate, value[w.target], has[w.target], w.weight);
  }
}

void TreeEnsembleModel::merge(double* value, uint8_t* has, const double* other, const uint8_t* other_has) const {
  for (int64_t t = 0; t < targets; ++t)
    if (other_has[t]) vote(aggregate, value[t], has[t], other[t]);
}

void TreeEnsembleModel::finish(double* value, const uint8_t* has) const {
  for (int64_t t = 0; t < targets; ++t) {
    if (!has[t]) value[t] = 0;
    if (aggregate == Aggregate::kAverage) value[t] /= static_cast<double>(roots.size());
    if (static_cast<int64_t>(base.size()) == targets) value[t] += base[static_cast<size_t>(t)];
  }
  ml::transform(transform, {value, static_cast<size_t>(targets)});
}

Status TreeEnsembleModel::reference(RefContext& c, std::string_view op, Finish finish_row, const void* context) const {
  const Tensor& x = c.in(0);
  OCIOR_ASSIGN(const Matrix m, matrix_of(x.shape(), op));
  OCIOR_RETURN_IF_ERROR(check_columns(m.columns, op));
  std::vector<double> row(static_cast<size_t>(m.columns)), value(static_cast<size_t>(targets));
  std::vector<uint8_t> has(value.size());
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t k = 0; k < m.columns; ++k) row[static_cast<size_t>(k)] = get_double(x.dtype(), x.data(), r * m.columns + k);
    std::ranges::fill(value, 0);
    std::ranges::fill(has, 0);
    for (const int32_t root : roots) add(walk(root, row.data()), value.data(), has.data());
    finish_row(context, r, value.data(), has.data());
  }
  return {};
}

namespace {

constexpr int kLanes = 8;                    // walks that advance together: they hide each other's latency
constexpr int64_t kTileRows = 64;            // rows whose features lie together: kTileRows of one feature, then of the next
constexpr int64_t kBlockRows = 256;          // rows that a tree is taken over at a time, in tiles
constexpr int64_t kMostBlockUsed = 1024;     // features, and
constexpr int64_t kMostBlockTargets = 1024;  // targets of a block; with more, rows go one by one
constexpr int64_t kTasks = 16;               // pieces that work on few rows is cut into, by groups of trees
constexpr int64_t kGroupTrees = 16;          // trees of such a group, at least

// The next node is left + (goes left ? 0 : delta); a leaf has left = itself and delta = 0.
template <class T>
struct PlainNode {  // x <= value goes left; for features without NaN
  T value;
  int32_t feature, left, delta;
  bool goes_left(T x) const { return x <= value; }
};
struct WideNode {  // any comparison
  double value;
  int32_t feature, left, delta;
  uint32_t mask;
  bool goes_left(double x) const {
    const uint32_t outcome = static_cast<uint32_t>(x < value) * kLess | static_cast<uint32_t>(x == value) * kEqual |
                             static_cast<uint32_t>(x > value) * kGreater | static_cast<uint32_t>(x != x) * kUnordered;
    return (outcome & mask) != 0;
  }
};

struct PackedTrees final : Prepared {
  std::vector<PlainNode<float>> floats;    // for float and float16 inputs, when all nodes have that form
  std::vector<PlainNode<double>> doubles;  // for the others
  std::vector<WideNode> wide;
  std::vector<int32_t> roots;
  std::vector<int32_t> original;  // number of a node in the model
  bool summed = false;            // one target, and weights are summed: a leaf's value is the sum of its weights
};

bool computes_in_float(DType t) { return t == DType::kFloat || t == DType::kFloat16; }

// Turns a comparison into x <= value, perhaps with the children exchanged. False when it has no such form. NaN is out of
// question.
template <class T>
bool as_less_equal(const TreeNode& n, T& value, bool& exchanged) {
  const T infinity = std::numeric_limits<T>::infinity();
  // The largest T that is at most, or below, the node's value: x <= v and x < v hold for the T up to there.
  const T nearest = static_cast<T>(n.value);
  const T at_most = static_cast<double>(nearest) > n.value ? std::nextafter(nearest, -infinity) : nearest;
  const bool exact = static_cast<double>(at_most) == n.value;
  const T below = !exact                 ? at_most
                  : at_most == -infinity ? std::numeric_limits<T>::quiet_NaN()  // nothing is below; no x is <= NaN
                                         : std::nextafter(at_most, -infinity);
  exchanged = false;
  switch (n.mask & (kLess | kEqual | kGreater)) {
    case 0: value = std::numeric_limits<T>::quiet_NaN(); return true;
    case kLess: value = below; return true;
    case kLess | kEqual: value = at_most; return true;
    case kGreater:
      value = at_most;
      exchanged = true;
      return true;
    case kGreater | kEqual:
      value = below;
      exchanged = true;
      return true;
    case kLess | kEqual | kGreater: value = infinity; return true;
    default: return false;
  }
}

class Packer {
 public:
  explicit Packer(const TreeEnsembleModel& model) : m_(model), place_(model.nodes.size(), -1) {}

  std::unique_ptr<PackedTrees> pack(DType input) {
    auto p = std::make_unique<PackedTrees>();
    p->summed = summed_ = m_.targets == 1 && (m_.aggregate == Aggregate::kSum || m_.aggregate == Aggregate::kAverage);
    order();
    for (const int32_t root : m_.roots) p->roots.push_back(place(root));
    for (const int32_t at : original_) {
      const TreeNode& n = m_.nodes[static_cast<size_t>(at)];
      const int32_t left = place(n.yes);
      p->wide.push_back({m_.leaf(at) ? sum_of(at) : n.value, feature(n), left, place(n.no) - left, n.mask});
    }
    if (computes_in_float(input)) plain(p->floats);
    else plain(p->doubles);
    p->original = std::move(original_);
    return p;
  }

 private:
  // Numbers the reached nodes depth first, so that a walk stays close.
  void order() {
    std::vector<int32_t> stack;
    for (const int32_t root : m_.roots) {
      stack.push_back(root);
      while (!stack.empty()) {
        const int32_t at = stack.back();
        stack.pop_back();
        if (place_[static_cast<size_t>(at)] >= 0) continue;
        place_[static_cast<size_t>(at)] = static_cast<int32_t>(original_.size());
        original_.push_back(at);
        if (m_.leaf(at)) continue;
        stack.push_back(m_.nodes[static_cast<size_t>(at)].no);
        stack.push_back(m_.nodes[static_cast<size_t>(at)].yes);
      }
    }
  }
  int32_t feature(const TreeNode& n) const {
    return static_cast<int32_t>(std::ranges::lower_bound(m_.used, n.feature) - m_.used.begin());
  }
  int32_t place(int32_t at) const { return place_[static_cast<size_t>(at)]; }
  double sum_of(int32_t leaf) const {
    double sum = 0;
    uint8_t has = 0;
    if (summed_) m_.add(leaf, &sum, &has);
    return sum;
  }
  // Leaves `out` empty when a node has another form or a sum does not fit T.
  template <class T>
  void plain(std::vector<PlainNode<T>>& out) const {
    for (const int32_t at : original_) {
      const TreeNode& n = m_.nodes[static_cast<size_t>(at)];
      if (m_.leaf(at)) {
        const double sum = sum_of(at);
        if (static_cast<double>(static_cast<T>(sum)) != sum) return out.clear();
        out.push_back({static_cast<T>(sum), 0, place(at), 0});
        continue;
      }
      PlainNode<T> made{0, feature(n), 0, 0};
      bool exchanged = false;
      if (!as_less_equal(n, made.value, exchanged)) return out.clear();
      const int32_t yes = place(n.yes), no = place(n.no);
      made.left = exchanged ? no : yes;
      made.delta = (exchanged ? yes : no) - made.left;
      out.push_back(made);
    }
  }

  const TreeEnsembleModel& m_;
  std::vector<int32_t> place_, original_;
  bool summed_ = false;
};

// How a run is cut: blocks of rows, and groups of trees when there are few blocks. Depends on sizes only.
struct Cut {
  int64_t block_rows, blocks, groups, group_trees;
  size_t features, scores;  // elements of one block's features and scores
};
Cut cut_of(const TreeEnsembleModel& m, int64_t rows) {
  Cut cut{};
  const auto used = static_cast<int64_t>(m.used.size()), trees = static_cast<int64_t>(m.roots.size());
  cut.block_rows = rows >= kLanes / 2 && used <= kMostBlockUsed && m.targets <= kMostBlockTargets ? kBlockRows : 1;
  cut.blocks = nn::chunks_of(rows, cut.block_rows);
  const int64_t groups = cut.blocks >= kTasks || cut.blocks == 0 ? 1 : kTasks / cut.blocks;
  cut.group_trees = std::max(kGroupTrees, nn::chunks_of(trees, groups));
  cut.groups = nn::chunks_of(trees, cut.group_trees);
  cut.features = static_cast<size_t>(cut.block_rows * std::max<int64_t>(1, used));
  cut.scores = static_cast<size_t>(cut.block_rows * m.targets);
  return cut;
}
// Scores are kept per worker when one task does all trees of a block, else per task.
int64_t score_places(const Cut& cut, int workers) { return cut.groups == 1 ? workers : cut.blocks * cut.groups; }

struct Scratch {
  std::byte* features;
  double* values;
  uint8_t* has;
  size_t total;
};
Scratch carve(void* base, const Cut& cut, size_t element, int workers) {
  nn::Carver carver(base);
  const auto places = static_cast<size_t>(score_places(cut, workers));
  auto* features = carver.take(static_cast<size_t>(workers) * nn::align64(cut.features * element));
  auto* values = carver.take<double>(places * cut.scores);
  auto* has = carver.take<uint8_t>(places * cut.scores);
  return {features, values, has, carver.used()};
}

// One block of rows through some trees.
template <class T>
class Block {
 public:
  Block(const TreeEnsembleModel& m, const PackedTrees& p, T* x, double* values, uint8_t* has)
      : m_(m), p_(p), x_(x), values_(values), has_(has) {}

  template <int64_t kRows>
  void run(const TensorView& x, int64_t columns, int64_t first, int64_t rows, int64_t begin, int64_t end) {
    const bool missing = fill<kRows>(x, columns, first, rows);
    std::fill_n(values_, rows * m_.targets, 0.0);
    std::memset(has_, p_.summed, static_cast<size_t>(rows * m_.targets));
    const auto& plain = plain_nodes();
    if (!plain.empty() && !missing) walk<kRows>(plain.data(), rows, begin, end);
    else walk<kRows>(p_.wide.data(), rows, begin, end);
  }

 private:
  const auto& plain_nodes() const {
    if constexpr (std::is_same_v<T, float>) return p_.floats;
    else return p_.doubles;
  }

  // The features that nodes look at, tile by tile and feature by feature; whether one is missing. Lanes without a row get zeros.
  template <int64_t kRows>
  bool fill(const TensorView& x, int64_t columns, int64_t first, int64_t rows) {
    bool missing = false;
    for (int64_t tile = 0; tile < rows; tile += kRows) {
      const int64_t n = std::min(kRows, rows - tile), padded = std::min(kRows, (n + kLanes - 1) / kLanes * kLanes);
      for (size_t k = 0; k < m_.used.size(); ++k) {
        T* to = tile_at<kRows>(tile) + static_cast<int64_t>(k) * kRows;
        for (int64_t r = 0; r < n; ++r) {
          to[r] = get(x, (first + tile + r) * columns + m_.used[k]);
          missing |= to[r] != to[r];
        }
        for (int64_t r = n; r < padded; ++r) to[r] = 0;
      }
      if (m_.used.empty()) std::fill_n(tile_at<kRows>(tile), kRows, T{0});  // leaves look at feature 0 and do not care
    }
    return missing;
  }
  // Where the tile that starts at row `row` lies.
  template <int64_t kRows>
  T* tile_at(int64_t row) const {
    return x_ + row * std::max<int64_t>(1, static_cast<int64_t>(m_.used.size()));
  }
  static T get(const TensorView& x, int64_t i) {
    if constexpr (std::is_same_v<T, float>)
      return x.dtype == DType::kFloat ? x.as<float>()[i] : half_to_float(x.as<uint16_t>()[i]);
    else return x.dtype == DType::kDouble ? x.as<double>()[i] : get_double(x.dtype, x.data, i);
  }

  template <int64_t kRows, class Node>
  static int32_t step(const Node* nodes, const T* x, int32_t& at, int lane) {
    const Node& n = nodes[at];
    const bool left = n.goes_left(x[n.feature * kRows + (kRows > 1 ? lane : 0)]);
    const int32_t next = n.left + (n.delta & (static_cast<int32_t>(left) - 1));
    return next ^ std::exchange(at, next);
  }
  // All lanes, written out so that their places stay in registers; what has moved.
  template <int64_t kRows, class Node, int... kLane>
  static int32_t step(const Node* nodes, const T* x, int32_t (&at)[kLanes], std::integer_sequence<int, kLane...>) {
    return (step<kRows>(nodes, x, at[kLane], kLane) | ...);
  }
  // Advances all lanes until each is at a leaf. Without branches on data: their order is random.
  template <int64_t kRows, class Node>
  static void descend(const Node* nodes, const T* x, int32_t (&at)[kLanes]) {
    int32_t moved = 0;
    do {
      moved = step<kRows>(nodes, x, at, std::make_integer_sequence<int, kLanes>());
    } while (moved != 0);
  }

  template <int64_t kRows, class Node>
  void walk(const Node* nodes, int64_t rows, int64_t begin, int64_t end) {
    int32_t at[kLanes];
    if constexpr (kRows > 1) {  // lanes are rows
      for (int64_t tree = begin; tree < end; ++tree)
        for (int64_t r = 0; r < rows; r += kLanes) {
          std::fill_n(at, kLanes, p_.roots[static_cast<size_t>(tree)]);
          descend<kRows>(nodes, tile_at<kRows>(r / kRows * kRows) + r % kRows, at);
          const int64_t n = std::min<int64_t>(kLanes, rows - r);
          for (int64_t lane = 0; lane < n; ++lane) add(nodes, at[lane], r + lane);
        }
    } else {  // lanes are trees
      for (int64_t tree = begin; tree < end; tree += kLanes) {
        const int64_t n = std::min<int64_t>(kLanes, end - tree);
        for (int64_t lane = 0; lane < kLanes; ++lane) at[lane] = p_.roots[static_cast<size_t>(tree + std::min(lane, n - 1))];
        descend<kRows>(nodes, x_, at);
        for (int64_t lane = 0; lane < n; ++lane) add(nodes, at[lane], 0);
      }
    }
  }

  template <class Node>
  void add(const Node* nodes, int32_t at, int64_t row) {
    if (p_.summed) values_[row] += static_cast<double>(nodes[at].value);
    else m_.add(p_.original[static_cast<size_t>(at)], values_ + row * m_.targets, has_ + row * m_.targets);
  }

  const TreeEnsembleModel& m_;
  const PackedTrees& p_;
  T* x_;
  double* values_;
  uint8_t* has_;
};

template <class T>
void run_trees(const TreeEnsembleModel& m, const PackedTrees& p, CpuContext& c, const Matrix& size,
               TreeEnsembleModel::Finish finish, const void* context) {
  const Cut cut = cut_of(m, size.rows);
  const Scratch s = carve(c.scratch(), cut, sizeof(T), c.team().size());
  const auto rows_of = [&](int64_t block) { return std::min(cut.block_rows, size.rows - block * cut.block_rows); };
  const auto finish_block = [&](int64_t block, double* values, uint8_t* has) {
    for (int64_t r = 0; r < rows_of(block); ++r)
      finish(context, block * cut.block_rows + r, values + r * m.targets, has + r * m.targets);
  };
  c.team().parallel_for(cut.blocks * cut.groups, c.stop(), [&](int64_t task, int worker) {
    const int64_t block = task / cut.groups, begin = task % cut.groups * cut.group_trees;
    const int64_t end = std::min(begin + cut.group_trees, static_cast<int64_t>(m.roots.size()));
    const size_t place = static_cast<size_t>(cut.groups == 1 ? worker : task) * cut.scores;
    auto* x = reinterpret_cast<T*>(s.features + static_cast<size_t>(worker) * nn::align64(cut.features * sizeof(T)));
    Block<T> b(m, p, x, s.values + place, s.has + place);
    const int64_t first = block * cut.block_rows, rows = rows_of(block);
    if (cut.block_rows > 1) b.template run<kTileRows>(c.in(0), size.columns, first, rows, begin, end);
    else b.template run<1>(c.in(0), size.columns, first, rows, begin, end);
    if (cut.groups == 1) finish_block(block, s.values + place, s.has + place);
  });
  if (cut.groups == 1) return;
  c.team().parallel_for(cut.blocks, c.stop(), [&](int64_t block, int) {
    const size_t place = static_cast<size_t>(block * cut.groups) * cut.scores;
    for (size_t g = 1; g < static_cast<size_t>(cut.groups); ++g)
      for (size_t r = 0; r < static_cast<size_t>(rows_of(block)); ++r) {
        const size_t to = place + r * static_cast<size_t>(m.targets), from = to + g * cut.scores;
        m.merge(s.values + to, s.has + to, s.values + from, s.has + from);
      }
    finish_block(block, s.values + place, s.has + place);
  });
}

}  // namespace

Result<std::unique_ptr<Prepared>> TreeEnsembleModel::pack(DType input) const {
  return std::unique_ptr<Prepared>(Packer(*this).pack(input));
}

size_t TreeEnsembleModel::scratch(const BindContext& c) const {
  const auto size = matrix_of(c.in(0).shape, "");
  const size_t element = computes_in_float(c.in(0).dtype) ? sizeof(float) : sizeof(double);
  return size.ok() ? carve(nullptr, cut_of(*this, size->rows), element, c.workers()).total : 0;
}

double TreeEnsembleModel::work(const BindContext& c) const {
  const auto size = matrix_of(c.in(0).shape, "");
  const double depth = 1 + std::log2(1 + static_cast<double>(nodes.size()) / static_cast<double>(roots.size()));
  return size.ok() ? 8 * depth * static_cast<double>(size->rows) * static_cast<double>(roots.size()) : 0;
}

Status TreeEnsembleModel::run(CpuContext& c, std::string_view op, Finish finish_row, const void* context) const {
  OCIOR_ASSIGN(const Matrix size, matrix_of(c.in(0).shape, op));
  OCIOR_RETURN_IF_ERROR(check_columns(size.columns, op));
  const auto& packed = static_cast<const PackedTrees&>(*c.prepared());
  if (computes_in_float(c.in(0).dtype)) run_trees<float>(*this, packed, c, size, finish_row, context);
  else run_trees<double>(*this, packed, c, size, finish_row, context);
  return {};
}

}  // namespace ocior::ops::ml
