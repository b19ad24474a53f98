// The kernels' activations by name and by meaning. Internal to src/ops/nn.
#pragma once

#include <optional>
#include <string_view>

#include "kernels/table.h"

namespace ocior::ops::nn {

// The attribute value that means `a`: "gelu_erf".
std::string_view name_of(Activation a);
std::optional<Activation> activation_of(std::string_view name);
inline constexpr int kActivations = static_cast<int>(Activation::kClip) + 1;

// a(x) in double; p and q as Epilogue's lo and hi.
double apply(Activation a, double x, double p, double q);

}  // namespace ocior::ops::nn
