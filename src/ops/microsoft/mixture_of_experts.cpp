// MoE and QMoE of com.microsoft: each token goes through the k feed-forward networks (experts) that its router scores highest,
// and their results are added by weight. QMoE stores its matrices in 2, 4 or 8 bits. Computed by the reference.
#include <array>
#include <cmath>
#include <limits>

#include "ops/microsoft/microsoft.h"
#include "ops/nn/activation.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

enum class Gate { kNone, kSwiGlu, kGeGlu };

// One of the three matrices of every expert: inputs that hold it, and the bits of its elements (0: floats).
struct Layer {
  int weights, bias;
  int64_t bits = 0;
};

struct Mixture {
  int64_t k = 1;
  Activation act = Activation::kNone;
  bool squared = false;  // relu2
  Gate gate = Gate::kNone;
  int64_t fusion = 0;  // of a gate: 0 two matrices, 1 rows in turn, 2 one half after the other
  float alpha = 1, beta = 0, limit = std::numeric_limits<float>::infinity();
  bool normalize = false;

  static Mixture parse(const NodeReader& node) {
    Mixture op;
    op.k = node.integer("k", 1);
    if (op.k < 1 || op.k > INT32_MAX) node.fail("k is {}; expected 1 to the number of experts", op.k);
    for (const char* name : {"use_sparse_mixer", "swiglu_limit_after_activation"})
      if (node.integer(name, 0) != 0) node.fail("{} is not supported", name);
    op.fusion = node.integer("swiglu_fusion", 0);
    if (op.fusion < 0 || op.fusion > 2) node.fail("swiglu_fusion is {}; expected 0, 1 or 2", op.fusion);
    op.alpha = node.number("activation_alpha", 1), op.beta = node.number("activation_beta", 0);
    op.limit = node.number("swiglu_limit", op.limit);
    op.normalize = node.integer("normalize_routing_weights", 0) != 0;
    const std::string name = node.text("activation_type", "relu");
    if (name == "relu" || name == "relu2") op.act = Activation::kRelu, op.squared = name == "relu2";
    else if (name == "gelu") op.act = Activation::kGeluTanh;
    else if (name == "silu") op.act = Activation::kSilu;
    else if (name == "swiglu") op.gate = Gate::kSwiGlu;
    else if (name == "geglu") op.gate = Gate::kGeGlu;
    else if (name != "identity")
      node.fail("activation_type is '{}'; expected relu, relu2, gelu, silu, swiglu, geglu or identity", name);
    if (op.gate == Gate::kGeGlu && op.fusion == 0) node.fail("geglu needs swiglu_fusion 1 or 2, got 0");
    return op;
  }

  bool has_third() const { return gate == Gate::kSwiGlu && fusion == 0; }
  int64_t halves() const { return gate != Gate::kNone && fusion != 0 ? 2 : 1; }  // rows of fc1 for one of fc2's columns

  // Rows and columns of a layer: fc1, fc2 or fc3.
  struct Extent {
    Dim rows, columns;
  };
  Extent extent(int layer, const Dim& hidden, const Dim& inter) const {
    if (layer == 1) return {hidden, inter};
    return {layer == 0 ? inter * Dim(halves()) : inter, hidden};
  }

  // Sets output 0. Inputs 0 and 1 are the tokens and the router's scores; `sizes` receives [experts, hidden, inter] when known.
  Status infer(ShapeContext& c, std::span<const Layer> layers, std::optional<std::array<Dim, 3>>& sizes) const {
    c.set(0, c.dtype(0), c.shape(0));
    if (!c.has(layers[1].weights)) return error(Code::kInvalidGraph, "fc2_experts_weights are missing");
    const Layer& third = layers[2];
    if (c.has(third.weights) != has_third())
      return error(Code::kNotImplemented,
                   "fc3_experts_weights are {}; expected them for swiglu with swiglu_fusion 0, and only there",
                   has_third() ? "missing" : "given");
    if (c.has(third.bias) && !has_third())
      return error(Code::kInvalidGraph, "fc3_experts_bias is given without fc3_experts_weights");
    if (!c.shape(0) || !c.shape(1) || !c.shape(layers[0].weights)) return {};
    const Dims &x = *c.shape(0), &router = *c.shape(1), &first = *c.shape(layers[0].weights);
    if ((x.size() != 2 && x.size() != 3) || router.size() != 2 || first.size() != 3)
      return error(Code::kInvalidArgument,
                   "input {}, router_probs {} and fc1_experts_weights {} do not fit; expected [(batch,) tokens, hidden], "
                   "[tokens, experts] "
                   "and [experts, inter, hidden]",
                   to_string(x), to_string(router), to_string(first));
    const Dim tokens = x.size() == 2 ? x[0] : x[0] * x[1];
    OCIOR_RETURN_IF_ERROR(check_input(c, 1, "router_probs", {tokens, first[0]}));
    if (router[1].known() && router[1].value() < k)
      return error(Code::kInvalidArgument, "k is {}, but there are {} experts", k, router[1].value());
    if (first[1].known() && first[1].value() % halves() != 0)
      return error(Code::kInvalidArgument, "fc1_experts_weights has shape {}; expected an even number of rows for a fused gate",
                   to_string(first));
    sizes = std::array<Dim, 3>{router[1], x.back(), Dim::quotient(first[1], Dim(halves()))};
    for (int i = 0; i < (has_third() ? 3 : 2); ++i) {
      const Layer& layer = layers[static_cast<size_t>(i)];
      const Extent e = extent(i, x.back(), (*sizes)[2]);
      const int64_t packed = layer.bits ? 8 / layer.bits : 1;
      if (e.columns.known() && e.columns.value() % packed != 0)
        return error(Code::kInvalidArgument, "a row of fc{}_experts_weights has {} elements; expected a multiple of {}", i + 1,
                     e.columns.value(), packed);
      OCIOR_RETURN_IF_ERROR(check_input(c, layer.weights, fmt::format("fc{}_experts_weights", i + 1),
                                        {router[1], e.rows, Dim::quotient(e.columns, Dim(packed))}));
      OCIOR_RETURN_IF_ERROR(check_input(c, layer.bias, fmt::format("fc{}_experts_bias", i + 1), {router[1], e.rows}));
    }
    return {};
  }

  // The experts of a token with the highest scores, the last of equal ones.
  std::vector<int64_t> chosen(const double* scores, int64_t experts) const {
    std::vector<int64_t> out(static_cast<size_t>(experts));
    for (size_t e = 0; e < out.size(); ++e) out[e] = experts - 1 - static_cast<int64_t>(e);
    const auto rank = [scores](int64_t e) { return std::isnan(scores[e]) ? -INFINITY : scores[e]; };
    std::stable_sort(out.begin(), out.end(), [&](int64_t a, int64_t b) { return rank(a) > rank(b); });
    out.resize(static_cast<size_t>(k));
    return out;
  }

  // The activation of a row of fc1 (and of fc3), as the input of fc2.
  std::vector<double> activated(const std::vector<double>& first, const std::vector<double>& third) const {
    const size_t n = first.size() / static_cast<size_t>(halves());
    std::vector<double> out(n);
    for (size_t i = 0; i < n; ++i) {
      if (gate == Gate::kNone) {
        const double v = nn::apply(act, first[i], 0, 0);
        out[i] = squared ? v * v : v;
        continue;
      }
      double g = first[fusion == 1 ? 2 * i : i], l = fusion == 0 ? third[i] : first[fusion == 1 ? 2 * i + 1 : n + i];
      if (gate == Gate::kGeGlu) {
        out[i] = nn::apply(Activation::kGeluTanh, g, 0, 0) * l;
        continue;
      }
      const auto most = static_cast<double>(limit);
      g = g > most ? most : g;
      l = l > most ? most : l < -most ? -most : l;
      out[i] = g / (1 + std::exp(-static_cast<double>(alpha) * g)) * (l + static_cast<double>(beta));
    }
    return out;
  }

  // weight(token, chosen experts) gives a weight for each of them; matrix(layer, expert) the elements of a matrix.
  template <class Weights, class Matrix>
  void mix(RefContext& c, std::span<const Layer> layers, Weights&& weights, Matrix&& matrix) const {
    const std::vector<double> x = nn::doubles(c.in(0)), scores = nn::doubles(c.in(1));
    const int64_t experts = c.in(1).shape()[1], hidden = c.in(0).shape().back();
    std::vector<double> y(x.size());
    struct Visit {
      int64_t token;
      double weight;
    };
    std::vector<std::vector<Visit>> visits(static_cast<size_t>(experts));
    for (int64_t t = 0; t < c.in(1).shape()[0]; ++t) {
      const std::vector<int64_t> to = chosen(scores.data() + t * experts, experts);
      const std::vector<double> w = weights(t, scores.data() + t * experts, to);
      for (size_t i = 0; i < to.size(); ++i) visits[static_cast<size_t>(to[i])].push_back({t, w[i]});
    }
    const auto product = [&](int layer, int64_t expert, const std::vector<double>& m, const double* row, size_t columns) {
      std::vector<double> out(columns == 0 ? 0 : m.size() / columns);
      const int bias = layers[static_cast<size_t>(layer)].bias;
      for (size_t i = 0; i < out.size(); ++i) {
        if (c.has(bias))
          out[i] = get_double(c.in(bias).dtype(), c.in(bias).data(), expert * std::ssize(out) + static_cast<int64_t>(i));
        for (size_t j = 0; j < columns; ++j) out[i] += m[i * columns + j] * row[j];
      }
      return out;
    };
    for (int64_t e = 0; e < experts; ++e) {
      const std::vector<Visit>& here = visits[static_cast<size_t>(e)];
      if (here.empty()) continue;
      const std::vector<double> first = matrix(0, e), second = matrix(1, e),
                                third = has_third() ? matrix(2, e) : std::vector<double>();
      for (const Visit& v : here) {
        const double* const row = x.data() + v.token * hidden;
        const auto columns = static_cast<size_t>(hidden);
        const std::vector<double> inner = activated(product(0, e, first, row, columns),
                                                    has_third() ? product(2, e, third, row, columns) : std::vector<double>());
        const std::vector<double> out = product(1, e, second, inner.data(), inner.size());
        for (size_t i = 0; i < out.size(); ++i) y[static_cast<size_t>(v.token * hidden) + i] += v.weight * out[i];
      }
    }
    nn::store(c.out(0), y);
  }
};

// exp(s - max) / sum over all of `scores`, at `to`.
std::vector<double> softmax_at(std::span<const double> scores, const std::vector<int64_t>& to) {
  double max = -INFINITY, sum = 0;
  for (const double s : scores) max = std::fmax(max, s);
  for (const double s : scores) sum += std::exp(s - max);
  std::vector<double> out;
  for (const int64_t e : to) out.push_back(std::exp(scores[static_cast<size_t>(e)] - max) / sum);
  return out;
}

void make_sum_one(std::vector<double>& weights) {
  double sum = 0;
  for (const double w : weights) sum += w;
  for (double& w : weights) w /= sum;
}

}  // namespace

struct MoE : Mixture {
  static constexpr OpInfo info{.name = "MoE", .domain = kMicrosoft, .min_inputs = 3, .max_inputs = 8};

  static MoE parse(const NodeReader& node) { return {Mixture::parse(node)}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1, 2, 3, 4, 5, 6, 7}));
    std::optional<std::array<Dim, 3>> sizes;
    return Mixture::infer(c, kLayers, sizes);
  }

  // Weights are those of a softmax over all experts.
  Status reference(RefContext& c) const {
    const auto experts = static_cast<size_t>(c.in(1).shape()[1]);
    mix(
        c, kLayers,
        [&](int64_t, const double* scores, const std::vector<int64_t>& to) {
          std::vector<double> w = softmax_at({scores, experts}, to);
          if (normalize) make_sum_one(w);
          return w;
        },
        [&](int layer, int64_t expert) {
          const Tensor& t = c.in(kLayers[layer].weights);
          const int64_t n = t.shape()[1] * t.shape()[2];
          std::vector<double> out(static_cast<size_t>(n));
          for (int64_t i = 0; i < n; ++i) out[static_cast<size_t>(i)] = get_double(t.dtype(), t.data(), expert * n + i);
          return out;
        });
    return {};
  }

  static std::vector<Sample> samples() {
    const SampleInput x{.shape = {2, 3, 6}}, router{.shape = {6, 4}}, none{.omitted = true}, second{.shape = {4, 6, 8}};
    std::vector<Sample> out;
    for (const char* name : {"relu", "relu2", "gelu", "silu", "identity"})
      out.push_back({.inputs = {x, router, {.shape = {4, 8, 6}}, {.shape = {4, 8}}, second, {.shape = {4, 6}}},
                     .attributes = {{"activation_type", std::string(name)}, {"k", int64_t{2}}}});
    for (const int64_t fusion : {1, 2})
      for (const char* name : {"swiglu", "geglu"})
        out.push_back(
            {.inputs = {x, router, {.shape = {4, 16, 6}}, none, second},
             .attributes = {{"activation_type", std::string(name)}, {"swiglu_fusion", fusion}, {"swiglu_limit", 0.5f}}});
    out.push_back({.inputs = {x, router, {.shape = {4, 8, 6}}, none, second, none, {.shape = {4, 8, 6}}, {.shape = {4, 8}}},
                   .attributes = {{"activation_type", std::string("swiglu")}, {"normalize_routing_weights", int64_t{1}}}});
    return out;
  }

 private:
  static constexpr Layer kLayers[] = {{2, 3}, {4, 5}, {6, 7}};
};

struct QMoE : Mixture {
  static constexpr OpInfo info{.name = "QMoE", .domain = kMicrosoft, .min_inputs = 3, .max_inputs = 21};
  static constexpr int kRouterWeights = 14;

  int64_t bits[3] = {4, 4, 4};
  int64_t block = 0;  // 0: a row has one scale

  static QMoE parse(const NodeReader& node) {
    QMoE op{Mixture::parse(node)};
    const int64_t all = node.integer("expert_weight_bits", 4);
    for (int i = 0; i < 3; ++i) {
      op.bits[i] = node.integer(fmt::format("fc{}_expert_weight_bits", i + 1), i == 2 && op.halves() == 2 ? op.bits[0] : all);
      if (op.bits[i] != 2 && op.bits[i] != 4 && op.bits[i] != 8) {
        node.fail("the weights of fc{} have {} bits; expected 2, 4 or 8", i + 1, op.bits[i]);
        op.bits[i] = 4;
      }
    }
    op.block = node.integer("block_size", 0);
    if (op.block != 0 && (op.block < 16 || op.block > 1 << 20 || (op.block & (op.block - 1)) != 0))
      node.fail("block_size is {}; expected a power of two from 16 on", op.block);
    if (const std::string type = node.text("quant_type", "int"); type != "int")
      node.fail("quant_type is '{}'; expected 'int'", type);
    if (const int64_t v = node.integer("weights_prepacked", -1); v != -1 && v != 0)
      node.fail("weights_prepacked is {}; expected -1 or 0, weights as the schema shapes them", v);
    node.ignore("accuracy_level");  // a lower bound of the precision; floats are multiplied here
    return op;
  }

  Status infer(ShapeContext& c) const {
    const auto layers = all_layers();
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {0, 1, 4, 7, 10, kRouterWeights}));
    OCIOR_RETURN_IF_ERROR(nn::check_floats(c, {3, 6, 9}, false));
    for (int i = kRouterWeights + 1; i < info.max_inputs; ++i)
      OCIOR_RETURN_IF_ERROR(refuse_input(c, i, "a scale of float formats"));
    for (const int i : {2, 5, 8, 11, 12, 13}) OCIOR_RETURN_IF_ERROR(check_type(c, i, type_bit(DType::kUint8), info.name));
    std::optional<std::array<Dim, 3>> sizes;
    OCIOR_RETURN_IF_ERROR(Mixture::infer(c, layers, sizes));
    if (c.shape(1)) OCIOR_RETURN_IF_ERROR(check_input(c, kRouterWeights, "router_weights", *c.shape(1)));
    for (int i = 0; i < 3; ++i) {
      const bool used = i < 2 || has_third();
      if (used != c.has(scales(i)))
        return error(Code::kInvalidGraph, "fc{}_scales are {}", i + 1, used ? "missing" : "given without fc3_experts_weights");
      if (!used && c.has(points(i))) return error(Code::kInvalidGraph, "fc3_zero_points are given without fc3_experts_weights");
      if (used && sizes) OCIOR_RETURN_IF_ERROR(check_scales(c, i, *sizes));
    }
    return {};
  }

  // Weights are those of a softmax over the chosen experts, or what router_weights hold.
  Status reference(RefContext& c) const {
    const std::vector<double> given = c.has(kRouterWeights) ? nn::doubles(c.in(kRouterWeights)) : std::vector<double>();
    const int64_t experts = c.in(1).shape()[1];
    mix(
        c, all_layers(),
        [&](int64_t token, const double* scores, const std::vector<int64_t>& to) {
          std::vector<double> w;
          for (const int64_t e : to) w.push_back(given.empty() ? scores[e] : given[static_cast<size_t>(token * experts + e)]);
          if (given.empty()) {
            std::vector<int64_t> all(w.size());
            for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
            return softmax_at(w, all);
          }
          if (normalize) make_sum_one(w);
          return w;
        },
        [&](int layer, int64_t expert) { return matrix(c, layer, expert); });
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    const auto bytes = [](Shape s) { return SampleInput{DType::kUint8, std::move(s), Fill::kSmallInts}; };
    const SampleInput x{.shape = {3, 32}}, router{.shape = {3, 4}}, none{.omitted = true};
    for (const int64_t bits : {2, 4, 8}) {
      out.push_back({.inputs = {x,
                                router,
                                bytes({4, 16, 4 * bits}),
                                {.shape = {4, 16}},
                                {.shape = {4, 16}},
                                bytes({4, 32, 2 * bits}),
                                {.shape = {4, 32}}},
                     .attributes = {{"k", int64_t{2}}, {"expert_weight_bits", bits}}});
      out.push_back({.inputs = {x,
                                router,
                                bytes({4, 32, 4 * bits}),
                                {.shape = {4, 32, 2}},
                                none,
                                bytes({4, 32, 2 * bits}),
                                {.shape = {4, 32, 1}},
                                none,
                                none,
                                none,
                                none,
                                bytes({4, 32, 1 + (bits == 8)}),
                                bytes({4, 32, 1}),
                                none,
                                {.shape = {3, 4}, .fill = Fill::kPositive}},
                     .attributes = {{"k", int64_t{2}},
                                    {"expert_weight_bits", bits},
                                    {"block_size", int64_t{16}},
                                    {"activation_type", std::string("swiglu")},
                                    {"swiglu_fusion", int64_t{1}},
                                    {"normalize_routing_weights", int64_t{1}}}});
    }
    return out;
  }

 private:
  static int scales(int layer) { return 3 + 3 * layer; }
  static int points(int layer) { return 11 + layer; }
  std::array<Layer, 3> all_layers() const { return {Layer{2, 4, bits[0]}, Layer{5, 7, bits[1]}, Layer{8, 10, bits[2]}}; }

  Status check_scales(const ShapeContext& c, int layer, const std::array<Dim, 3>& sizes) const {
    const Extent e = extent(layer, sizes[1], sizes[2]);
    const int64_t packed = 8 / bits[layer];
    const auto bytes = [&](const Dim& n) { return Dim::quotient(n + Dim(packed - 1), Dim(packed)); };
    if (block != 0 && e.columns.known() && e.columns.value() % block != 0)
      return error(Code::kInvalidArgument, "a row of fc{}_experts_weights has {} elements; expected a multiple of block_size {}",
                   layer + 1, e.columns.value(), block);
    const Dim blocks = block == 0 ? Dim(1) : Dim::quotient(e.columns, Dim(block));
    Dims scale{sizes[0], e.rows}, zero{sizes[0]};
    if (block == 0) zero.push_back(bytes(e.rows));
    else scale.push_back(blocks), zero.push_back(e.rows), zero.push_back(bytes(blocks));
    OCIOR_RETURN_IF_ERROR(check_input(c, scales(layer), fmt::format("fc{}_scales", layer + 1), scale));
    return check_input(c, points(layer), fmt::format("fc{}_zero_points", layer + 1), zero);
  }

  std::vector<double> matrix(RefContext& c, int layer, int64_t expert) const {
    const Tensor& t = c.in(all_layers()[static_cast<size_t>(layer)].weights);
    const int64_t b = bits[layer], rows = t.shape()[1], row_bytes = t.shape()[2], columns = row_bytes * 8 / b;
    const int64_t each = block == 0 ? std::max<int64_t>(1, columns) : block, blocks = block == 0 ? 1 : columns / block;
    // Element i of those from byte `first` on, lowest bits first.
    const auto part = [b](const Tensor& from, int64_t first, int64_t i) {
      return static_cast<double>(from.as<uint8_t>()[first + i * b / 8] >> (i * b % 8) & ((1 << b) - 1));
    };
    std::vector<double> out;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < columns; ++j) {
        const int64_t row = expert * rows + r;
        double zero = static_cast<double>(int64_t{1} << (b - 1));
        if (c.has(points(layer))) {
          const Tensor& z = c.in(points(layer));
          zero = block == 0 ? part(z, expert * z.shape()[1], r) : part(z, row * z.shape()[2], j / each);
        }
        const Tensor& s = c.in(scales(layer));
        out.push_back((part(t, row * row_bytes, j) - zero) * get_double(s.dtype(), s.data(), row * blocks + j / each));
      }
    return out;
  }
};

OCIOR_OPERATOR(MoE)
OCIOR_OPERATOR(QMoE)

}  // namespace ocior::ops
