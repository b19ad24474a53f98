// For tests: one operator called on tensors, by its reference and, where it has one, by run(), which must agree; and the error's
// sentence where it fails.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ops/evaluate.h"
#include "ops/harness.h"

namespace ocior::ops {

template <class T>
Tensor tensor_of(Shape shape, const std::vector<T>& values) {
  DType dtype = DType::kString;
  if constexpr (!std::is_same_v<T, std::string>) dtype = dtype_for<T>();
  Tensor t = Tensor::allocate(dtype, std::move(shape)).value();
  std::copy(values.begin(), values.end(), t.template as<T>());
  return t;
}

inline Result<std::vector<Tensor>> call(std::string_view name, const Attributes& attributes, const std::vector<Tensor>& inputs,
                                        int outputs = 1, int opset = kNewestOpset) {
  OCIOR_ASSIGN(const auto op, make_operator("", name, opset, attributes, static_cast<int>(inputs.size()), outputs));
  auto want = run_reference(*op, pointers(inputs), outputs);
  if (!op->has_run()) return want;
  const auto got = run_cpu(*op, pointers(inputs), outputs, {.hide_values = true});
  EXPECT_EQ(want.ok(), got.ok()) << name << ": " << want.status().message() << " / " << got.status().message();
  for (size_t i = 0; want.ok() && got.ok() && i < want->size(); ++i) EXPECT_EQ(difference((*want)[i], (*got)[i], 1e-5), "");
  return want;
}

// The error of a call that must fail.
inline std::string failure(std::string_view name, const Attributes& attributes, const std::vector<Tensor>& inputs,
                           int outputs = 1, int opset = kNewestOpset) {
  const auto out = call(name, attributes, inputs, outputs, opset);
  EXPECT_FALSE(out.ok()) << name << " should have failed";
  return out.ok() ? "" : out.status().message();
}

template <class T>
std::vector<T> values_of(const Tensor& t) {
  return {t.as<T>(), t.as<T>() + t.count()};
}

}  // namespace ocior::ops
