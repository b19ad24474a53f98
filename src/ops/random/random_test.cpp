// Random operators: moments, bounds, what a seed means, and errors.
#include <gtest/gtest.h>

#include <cmath>

#include "ops/evaluate.h"

namespace ocior::ops {
namespace {

std::vector<float> draw(std::string_view name, const Attributes& attributes, const Tensor* input = nullptr) {
  const auto op = make_operator("", name, kNewestOpset, attributes, input ? 1 : 0, 1);
  EXPECT_TRUE(op.ok()) << op.status().message();
  const Tensor* const inputs[] = {input};
  const auto out = run_reference(**op, std::span(inputs, input ? 1 : 0), 1);
  EXPECT_TRUE(out.ok()) << out.status().message();
  std::vector<float> values;
  for (int64_t i = 0; i < (*out)[0].count(); ++i)
    values.push_back(static_cast<float>(get_double((*out)[0].dtype(), (*out)[0].data(), i)));
  return values;
}

std::pair<double, double> moments(const std::vector<float>& x) {
  double mean = 0, square = 0;
  for (const float v : x) mean += v, square += static_cast<double>(v) * v;
  mean /= static_cast<double>(x.size());
  return {mean, std::sqrt(square / static_cast<double>(x.size()) - mean * mean)};
}

const Shape kMany{100000};

TEST(Random, NormalHasItsMoments) {
  const auto [mean, deviation] = moments(draw("RandomNormal", {{"shape", kMany}, {"mean", 3.0f}, {"scale", 2.0f}}));
  EXPECT_NEAR(mean, 3, 0.05);
  EXPECT_NEAR(deviation, 2, 0.05);
}

TEST(Random, UniformStaysBelowItsBound) {
  const auto x = draw("RandomUniform", {{"shape", kMany}, {"low", -1.0f}, {"high", 3.0f}});
  for (const float v : x) EXPECT_TRUE(v >= -1 && v < 3) << v;
  const auto [mean, deviation] = moments(x);
  EXPECT_NEAR(mean, 1, 0.05);
  EXPECT_NEAR(deviation, 4 / std::sqrt(12.0), 0.05);
}

TEST(Random, ASeedRepeatsAndItsAbsenceDoesNot) {
  const Attributes seeded{{"shape", Shape{50}}, {"seed", 7.0f}}, other{{"shape", Shape{50}}, {"seed", 8.0f}};
  EXPECT_EQ(draw("RandomNormal", seeded), draw("RandomNormal", seeded));
  EXPECT_NE(draw("RandomNormal", seeded), draw("RandomNormal", other));
  EXPECT_NE(draw("RandomNormal", {{"shape", Shape{50}}}), draw("RandomNormal", {{"shape", Shape{50}}}));
}

TEST(Random, BernoulliFollowsItsProbabilities) {
  auto p = Tensor::allocate(DType::kFloat, {100000});
  for (int64_t i = 0; i < p->count(); ++i) p->as<float>()[i] = i % 2 ? 0.25f : 1;
  const auto x = draw("Bernoulli", {}, &*p);
  double odd = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (i % 2) odd += x[i];
    else EXPECT_EQ(x[i], 1);
  }
  EXPECT_NEAR(odd / 50000, 0.25, 0.02);
}

TEST(Random, MultinomialFollowsItsLogProbabilities) {
  const Tensor logs = Tensor::of<float>({1, 3}, {std::log(1.0f), std::log(6.0f), std::log(3.0f)});
  double counts[3] = {};
  for (const float v : draw("Multinomial", {{"sample_size", int64_t{100000}}}, &logs)) ++counts[static_cast<int>(v)];
  EXPECT_NEAR(counts[0] / 1e5, 0.1, 0.01);
  EXPECT_NEAR(counts[1] / 1e5, 0.6, 0.01);
  EXPECT_NEAR(counts[2] / 1e5, 0.3, 0.01);
}

TEST(Random, WrongAttributesAreErrors) {
  EXPECT_FALSE(make_operator("", "RandomNormal", kNewestOpset, {{"shape", Shape{-1}}}, 0, 1).ok());
  EXPECT_FALSE(make_operator("", "RandomNormal", kNewestOpset, {}, 0, 1).ok());
  EXPECT_FALSE(make_operator("", "RandomUniform", kNewestOpset, {{"shape", Shape{2}}, {"dtype", int64_t{7}}}, 0, 1).ok());
  EXPECT_FALSE(make_operator("", "RandomUniform", kNewestOpset, {{"shape", Shape{2}}, {"dtype", int64_t{-9}}}, 0, 1).ok());
  EXPECT_FALSE(make_operator("", "Multinomial", kNewestOpset, {{"sample_size", int64_t{0}}}, 1, 1).ok());
  const Tensor nan = Tensor::of<float>({1, 2}, {std::nanf(""), 0.0f});
  const auto op = make_operator("", "Multinomial", kNewestOpset, {}, 1, 1);
  const Tensor* const inputs[] = {&nan};
  EXPECT_FALSE(run_reference(**op, inputs, 1).ok());
}

}  // namespace
}  // namespace ocior::ops
