// RandomNormal, RandomUniform, their Like forms, Bernoulli and Multinomial. A number is a function of a key and its position
// (SplitMix64): with a seed every run gives the same ones, without a seed every run has a key of its own. Thread-safe.
#include <atomic>
#include <bit>
#include <cmath>
#include <numbers>
#include <random>

#include "ops/evaluate.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

uint64_t mixed(uint64_t v) {
  v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9u;
  v = (v ^ v >> 27) * 0x94D049BB133111EBu;
  return v ^ v >> 31;
}

// A key that no other run of this process has, and other processes have by chance only.
uint64_t own_key() {
  static const uint64_t process = [] {
    std::random_device device;
    return uint64_t{device()} << 32 | device();
  }();
  static std::atomic<uint64_t> runs{0};
  return mixed(process + mixed(runs.fetch_add(1, std::memory_order_relaxed) + 1));
}

class Numbers {
 public:
  explicit Numbers(const std::optional<float>& seed)
      : key_(seed ? mixed(std::bit_cast<uint32_t>(*seed) + uint64_t{0x5EED00000000}) : own_key()) {}
  // Uniform in [0, 1), with 53 bits.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // Of the standard normal distribution (Box and Muller).
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }

 private:
  uint64_t next() { return mixed(key_ += 0x9E3779B97F4A7C15u); }
  uint64_t key_;
};

std::optional<float> seed_of(const NodeReader& node) {
  return node.has("seed") ? std::optional<float>(node.number("seed", 0)) : std::nullopt;
}

// The attribute dtype, or nothing where the type of the input holds.
std::optional<DType> type_of(const NodeReader& node, TypeSet allowed) {
  if (!node.has("dtype")) return std::nullopt;
  const int64_t wanted = node.integer("dtype", 1);
  if (wanted > 0 && wanted < kDTypeCount && (allowed & type_bit(static_cast<DType>(wanted)))) return static_cast<DType>(wanted);
  node.fail("dtype is {} ({}); expected the number of a type that the operator makes", wanted,
            wanted > 0 && wanted < kDTypeCount ? name_of(static_cast<DType>(wanted)) : "no type");
  return std::nullopt;
}

// The two distributions of Random* and Random*Like.
struct Distribution {
  bool normal = false;
  float first = 0, second = 1;  // mean and scale, or low and high
  std::optional<float> seed;

  static Distribution parse(const NodeReader& node, bool normal) {
    return {normal, node.number(normal ? "mean" : "low", 0), node.number(normal ? "scale" : "high", 1), seed_of(node)};
  }

  void fill(Tensor& y) const {
    Numbers numbers(seed);
    const double a = first, b = second;
    for (int64_t i = 0, n = y.count(); i < n; ++i) {
      double v = normal ? a + b * numbers.normal() : a + (b - a) * numbers.uniform();
      if (!normal && y.dtype() == DType::kFloat && static_cast<float>(v) >= second && second > first)
        v = std::nextafter(second, first);  // what rounds up to the bound is not below it
      set_double(y.dtype(), y.data(), i, v);
    }
  }
};

// What both forms have: the distribution, and filling the output.
struct RandomFill {
  Distribution distribution;

  Status reference(RefContext& c) const {
    distribution.fill(c.out(0));
    return {};
  }
};

}  // namespace

template <class Self>
struct RandomShape : RandomFill {
  DType type = DType::kFloat;
  Shape shape;

  static Self parse(const NodeReader& node) {
    Self op;
    op.distribution = Distribution::parse(node, Self::kNormal);
    op.type = type_of(node, kFloats).value_or(DType::kFloat);
    op.shape = node.integers("shape");
    if (!node.has("shape")) node.fail("shape is missing; expected the dimensions of the output");
    if (!checked_element_count(op.shape).ok()) node.fail("shape is {}; expected dimensions of 0 or more", to_string(op.shape));
    return op;
  }
  Status infer(ShapeContext& c) const {
    c.set(0, type, Dims(shape.begin(), shape.end()));
    return {};
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16})
      for (const Shape& shape : {Shape{2, 3}, Shape{0}, Shape{1}})
        out.push_back({.inputs = {}, .attributes = {{"shape", shape}, {"dtype", static_cast<int64_t>(t)}, {"seed", 1.5f}}});
    return out;
  }
};

template <class Self>
struct RandomLike : RandomFill {
  std::optional<DType> type;

  static Self parse(const NodeReader& node) {
    Self op;
    op.distribution = Distribution::parse(node, Self::kNormal);
    op.type = type_of(node, kFloats);
    return op;
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, type ? kAnyType : kFloats, Self::info.name));
    c.set(0, type.value_or(c.dtype(0)), c.shape(0));
    return {};
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16})
      for (const Shape& shape : {Shape{2, 3}, Shape{0}, Shape{}}) out.push_back({.inputs = {{t, shape}}});
    out.push_back({.inputs = {{DType::kString, {4}}}, .attributes = {{"dtype", int64_t{1}}}});
    return out;
  }
};

struct RandomNormal : RandomShape<RandomNormal> {
  static constexpr OpInfo info{.name = "RandomNormal", .min_inputs = 0, .max_inputs = 0, .pure = false};
  static constexpr bool kNormal = true;
};
OCIOR_OPERATOR(RandomNormal)

struct RandomUniform : RandomShape<RandomUniform> {
  static constexpr OpInfo info{.name = "RandomUniform", .min_inputs = 0, .max_inputs = 0, .pure = false};
  static constexpr bool kNormal = false;
};
OCIOR_OPERATOR(RandomUniform)

struct RandomNormalLike : RandomLike<RandomNormalLike> {
  static constexpr OpInfo info{.name = "RandomNormalLike", .pure = false};
  static constexpr bool kNormal = true;
};
OCIOR_OPERATOR(RandomNormalLike)

struct RandomUniformLike : RandomLike<RandomUniformLike> {
  static constexpr OpInfo info{.name = "RandomUniformLike", .pure = false};
  static constexpr bool kNormal = false;
};
OCIOR_OPERATOR(RandomUniformLike)

struct Bernoulli {
  static constexpr OpInfo info{.name = "Bernoulli", .since = 15, .pure = false};
  std::optional<DType> type;
  std::optional<float> seed;

  static Bernoulli parse(const NodeReader& node) { return {type_of(node, kNumbers | kBools), seed_of(node)}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, "Bernoulli"));
    c.set(0, type.value_or(c.dtype(0)), c.shape(0));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& p = c.in(0);
    Numbers numbers(seed);
    for (int64_t i = 0, n = p.count(); i < n; ++i) {
      const double v = numbers.uniform() < get_double(p.dtype(), p.data(), i) ? 1 : 0;
      store<double>(c.out(0).dtype(), c.out(0).data(), i, 1, &v);
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16})
      for (const DType to : {DType::kFloat, DType::kBool, DType::kInt64, DType::kUint8})
        out.push_back({.inputs = {{t, {3, 4}, Fill::kBools}}, .attributes = {{"dtype", static_cast<int64_t>(to)}}});
    out.push_back({.inputs = {{DType::kFloat, {0}}}, .attributes = {{"seed", 0.0f}}});
    return out;
  }
};
OCIOR_OPERATOR(Bernoulli)

struct Multinomial {
  static constexpr OpInfo info{.name = "Multinomial", .since = 7, .pure = false};
  DType type = DType::kInt32;
  int64_t draws = 1;
  std::optional<float> seed;

  static Multinomial parse(const NodeReader& node) {
    Multinomial op{type_of(node, kIndices).value_or(DType::kInt32), node.integer("sample_size", 1), seed_of(node)};
    if (op.draws < 1) node.fail("sample_size is {}; expected 1 or more", op.draws);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kFloats, "Multinomial"));
    if (ranked(c, 0) && rank(c, 0) != 2)
      return error(Code::kInvalidArgument, "Multinomial: the input has shape {}; expected [batch, classes]",
                   to_string(*c.shape(0)));
    c.set(0, type, Dims{ranked(c, 0) ? (*c.shape(0))[0] : c.fresh("batch"), draws});
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    const int64_t rows = x.shape()[0], classes = x.shape()[1];
    Numbers numbers(seed);
    std::vector<double> sums(static_cast<size_t>(classes));  // of the probabilities, not normalised
    for (int64_t row = 0; row < rows; ++row) {
      double largest = -std::numeric_limits<double>::infinity(), total = 0;
      for (int64_t i = 0; i < classes; ++i) largest = std::max(largest, get_double(x.dtype(), x.data(), row * classes + i));
      for (int64_t i = 0; i < classes; ++i) {
        total += std::exp(get_double(x.dtype(), x.data(), row * classes + i) - largest);
        sums[static_cast<size_t>(i)] = total;
      }
      if (!(total > 0) || !std::isfinite(total))
        return error(Code::kInvalidArgument, "Multinomial: row {} of the log-probabilities gives no distribution over {} classes",
                     row, classes);
      for (int64_t i = 0; i < draws; ++i) {
        const auto found = std::upper_bound(sums.begin(), sums.end(), numbers.uniform() * total) - sums.begin();
        set_int(type, c.out(0).data(), row * draws + i, std::min<int64_t>(found, classes - 1));
      }
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kBFloat16})
      for (const DType to : {DType::kInt32, DType::kInt64})
        out.push_back({.inputs = {{t, {3, 5}, Fill::kNormal}},
                       .attributes = {{"dtype", static_cast<int64_t>(to)}, {"sample_size", int64_t{4}}}});
    out.push_back({.inputs = {{DType::kFloat, {0, 5}}}});
    return out;
  }
};
OCIOR_OPERATOR(Multinomial)

}  // namespace ocior::ops
