#include "ops/nn/activation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ocior::ops::nn {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double clip(double x, double lo, double hi) { return std::isnan(x) ? x : std::fmin(std::fmax(x, lo), hi); }
double hard_sigmoid(double x, double alpha, double beta) { return clip(alpha * x + beta, 0, 1); }

}  // namespace

std::string_view name_of(Activation a) {
  switch (a) {
    case Activation::kNone: return "none";
    case Activation::kRelu: return "relu";
    case Activation::kGeluErf: return "gelu_erf";
    case Activation::kGeluTanh: return "gelu_tanh";
    case Activation::kTanh: return "tanh";
    case Activation::kSigmoid: return "sigmoid";
    case Activation::kSilu: return "silu";
    case Activation::kHardSwish: return "hard_swish";
    case Activation::kHardSigmoid: return "hard_sigmoid";
    case Activation::kLeakyRelu: return "leaky_relu";
    case Activation::kClip: return "clip";
  }
  return "";
}

std::optional<Activation> activation_of(std::string_view name) {
  for (int i = 0; i < kActivations; ++i)
    if (name_of(static_cast<Activation>(i)) == name) return static_cast<Activation>(i);
  return std::nullopt;
}

double apply(Activation a, double x, double p, double q) {
  switch (a) {
    case Activation::kNone: return x;
    case Activation::kRelu: return std::isnan(x) ? x : std::fmax(x, 0);
    case Activation::kGeluErf: return 0.5 * x * (1 + std::erf(x * std::numbers::sqrt2 / 2));
    case Activation::kGeluTanh: {
      const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return 0.5 * x * (1 + std::tanh(inner));
    }
    case Activation::kTanh: return std::tanh(x);
    case Activation::kSigmoid: return sigmoid(x);
    case Activation::kSilu: return x * sigmoid(x);
    case Activation::kHardSwish: return x * hard_sigmoid(x, 1.0 / 6, 0.5);
    case Activation::kHardSigmoid: return hard_sigmoid(x, p, q);
    case Activation::kLeakyRelu: return x < 0 ? p * x : x;
    case Activation::kClip: return clip(x, p, q);
  }
  return x;
}

}  // namespace ocior::ops::nn
