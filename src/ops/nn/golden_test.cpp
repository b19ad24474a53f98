// The references and CPU paths of the neural-network operators against what the onnx package's evaluator computed
// (tests/data/ops/make_nn_golden.py), and the errors of wrong nodes.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "ops/evaluate.h"
#include "ops/harness.h"

namespace ocior::ops {
namespace {

using nlohmann::json;

Attributes attributes_of(const json& from) {
  Attributes out;
  for (const auto& [name, value] : from.items()) {
    if (value.is_number_integer()) out[name] = value.get<int64_t>();
    else if (value.is_number()) out[name] = value.get<float>();
    else out[name] = value.get<std::string>();
  }
  return out;
}

// An undefined tensor for null.
Tensor input_of(const json& spec) {
  if (spec.is_null()) return {};
  const auto shape = spec["shape"].get<Shape>();
  const DType dtype = spec.contains("ints") ? DType::kInt64 : spec.contains("above") ? DType::kBool : DType::kFloat;
  Tensor t = Tensor::allocate(dtype, shape).value();
  for (int64_t i = 0; i < t.count(); ++i) {
    const double wave = std::sin(0.7 * static_cast<double>(i) + (spec.contains("phase") ? spec["phase"].get<double>() : 0.3));
    if (dtype == DType::kInt64) t.as<int64_t>()[i] = spec["ints"][static_cast<size_t>(i)].get<int64_t>();
    else if (dtype == DType::kBool) t.as<bool>()[i] = wave > spec["above"].get<double>();
    else t.as<float>()[i] = static_cast<float>(spec.contains("positive") ? wave * wave + 0.1 : wave);
  }
  return t;
}

Tensor output_of(const json& spec) {
  Tensor t = Tensor::allocate(DType::kFloat, spec["shape"].get<Shape>()).value();
  for (int64_t i = 0; i < t.count(); ++i) {
    const json& v = spec["values"][static_cast<size_t>(i)];
    t.as<float>()[i] = v.is_string() ? -INFINITY : v.get<float>();
  }
  return t;
}

TEST(NnGolden, ReferenceAndRunAgreeWithOnnx) {
  std::ifstream file(OCIOR_SOURCE_DIR "/tests/data/ops/nn_golden.json");
  const json golden = json::parse(file, nullptr, false);
  ASSERT_FALSE(golden.is_discarded()) << "tests/data/ops/nn_golden.json is missing or broken";
  ASSERT_GT(golden["cases"].size(), 25u);
  for (const json& c : golden["cases"]) {
    SCOPED_TRACE(c["op"].get<std::string>() + " " + c["attributes"].dump() + " " + c["inputs"].dump());
    std::vector<Tensor> inputs, want;
    for (const json& spec : c["inputs"]) inputs.push_back(input_of(spec));
    for (const json& spec : c["outputs"]) want.push_back(output_of(spec));
    const auto op = make_operator("", c["op"].get<std::string>(), c["opset"].get<int>(), attributes_of(c["attributes"]),
                                  static_cast<int>(inputs.size()), static_cast<int>(want.size()));
    ASSERT_TRUE(op.ok()) << op.status().message();
    const auto reference = run_reference(**op, pointers(inputs), static_cast<int>(want.size()));
    ASSERT_TRUE(reference.ok()) << reference.status().message();
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_EQ(difference(want[i], (*reference)[i], 5e-6), "") << "output " << i << " of the reference";
    if (!(*op)->has_run()) continue;
    const auto run = run_cpu(**op, pointers(inputs), static_cast<int>(want.size()));
    ASSERT_TRUE(run.ok()) << run.status().message();
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_EQ(difference(want[i], (*run)[i], 5e-6), "") << "output " << i << " of the run";
  }
}

TEST(Softmax, BeforeOpset13IsOverAllAxesFromTheGivenOne) {
  const Tensor x = input_of({{"shape", {2, 3, 4}}, {"phase", 0.5}});
  const Tensor flat = x.reshaped({2, 12});
  const Tensor *const one[] = {&x}, *const two[] = {&flat};
  for (const char* name : {"Softmax", "LogSoftmax"}) {
    const auto old = run_reference(**make_operator("", name, 12, {}, 1, 1), one, 1);
    const auto now = run_reference(**make_operator("", name, 13, {}, 1, 1), two, 1);
    ASSERT_TRUE(old.ok() && now.ok());
    EXPECT_EQ(difference((*now)[0].reshaped({2, 3, 4}), (*old)[0], 1e-7), "");
  }
}

// The message of making or inferring an operator; empty when both succeed.
struct Wrong {
  std::string_view domain, op;
  int opset;
  Attributes attributes;
  std::vector<Shape> inputs;
  int outputs = 1;
};

std::string failure(const Wrong& w) {
  const auto op = make_operator(w.domain, w.op, w.opset, w.attributes, static_cast<int>(w.inputs.size()), w.outputs);
  if (!op.ok()) return op.status().message();
  std::vector<Type> types;
  for (const Shape& s : w.inputs) types.push_back(Type::tensor(DType::kFloat, Dims(s.begin(), s.end())));
  std::vector<OpInput> inputs;
  for (const Type& t : types) inputs.push_back({&t, nullptr, nullptr});
  const auto inferred = infer_op(**op, inputs, w.outputs);
  return inferred.ok() ? "" : inferred.status().message();
}

TEST(NnErrors, WrongNodesSayWhatIsWrong) {
  const Attributes heads{{"num_heads", int64_t{3}}};
  const std::pair<Wrong, std::string_view> cases[] = {
      {{"", "MatMul", 13, {}, {{2, 3}, {4, 5}}}, "inner dimensions 3 and 4"},
      {{"", "MatMul", 13, {}, {{}, {4, 5}}}, "rank 1 or more"},
      {{"", "MatMul", 13, {}, {{2, 2, 3}, {3, 3, 5}}}, "do not broadcast"},
      {{"", "Gemm", 13, {}, {{2, 3, 1}, {3, 4}}}, "needs matrices"},
      {{"", "Gemm", 13, {}, {{2, 3}, {3, 4}, {3}}}, "broadcast"},
      {{"", "Gemm", 13, {}, {{1, 3}, {3, 4}, {2, 4}}}, "broadcast"},
      {{"", "Gemm", 13, {{"gamma", 1.0f}}, {{2, 3}, {3, 4}}}, "unknown attribute 'gamma'"},
      {{"", "Softmax", 13, {{"axis", int64_t{3}}}, {{2, 3}}}, "out of range"},
      {{"", "LayerNormalization", 17, {}, {{2, 3}, {4}}}, "do not broadcast"},
      {{"", "LayerNormalization", 17, {}, {{1, 3}, {2, 3}}}, "does not broadcast to x"},
      {{"", "LayerNormalization", 17, {{"stash_type", int64_t{7}}}, {{2, 3}, {3}}}, "stash_type is 7"},
      {{"", "Gelu", 20, {{"approximate", std::string("erf")}}, {{3}}}, "expected 'none' or 'tanh'"},
      {{"", "BatchNormalization", 9, {}, {{2, 3}, {3}, {3}, {4}, {3}}}, "expected [3]"},
      {{"", "BatchNormalization", 15, {}, {{2, 3}, {3}, {3}, {3}, {3}}, 3}, "training_mode=0 gives 1 outputs"},
      {{"", "BatchNormalization", 6, {{"is_test", int64_t{1}}}, {{2, 3}, {3}, {3}, {3}, {3}}, 5}, "is_test is set"},
      {{"", "Attention", 23, {}, {{2, 3, 8}, {2, 3, 8}, {2, 3, 8}}}, "q_num_heads"},
      {{"", "Attention", 23, {}, {{2, 3, 4, 8}, {2, 2, 4, 8}, {2, 2, 4, 8}}}, "evenly"},
      {{"", "Attention", 23, {}, {{2, 4, 4, 8}, {2, 0, 4, 8}, {2, 0, 4, 8}}}, "evenly"},
      {{"", "Attention", 23, {}, {{2, 4, 4, 8}, {2, 4, 4, 7}, {2, 4, 4, 8}}}, "do not fit"},
      {{"", "Attention", 23, {}, {{2, 4, 4, 8}, {2, 4, 4, 8}, {2, 4, 4, 8}, {3, 4}}}, "attn_mask"},
      {{"", "RotaryEmbedding", 23, {}, {{2, 3, 4, 7}, {9, 3}, {9, 3}}}, "even size"},
      {{"", "RotaryEmbedding", 23, {}, {{2, 3, 4, 8}, {2, 4, 3}, {2, 4, 3}}}, "cache"},
      {{"", "If", 13, {}, {{1}}}, "both required"},
      {{kOcior, "Linear", 1, {{"activation", std::string("softer")}}, {{2, 3}, {3, 4}}}, "'softer' is unknown"},
      {{kOcior, "Linear", 1, {}, {{2, 3}, {4, 3}}}, "do not fit"},
      {{kOcior, "Linear", 1, {}, {{2, 3}, {3, 4}, {3}}}, "bias has shape [3]"},
      {{kOcior, "Linear", 1, {}, {{2, 3}, {3, 4}, {4}, {4}}}, "residual has shape [4]"},
      {{kOcior, "SkipLayerNorm", 1, {}, {{2, 3}, {2, 4}, {3}}}, "input 1 has shape"},
      {{kOcior, "FusedAttention", 1, {}, {{2, 3, 9}, {2, 3, 9}, {2, 3, 9}}}, "num_heads"},
      {{kOcior, "FusedAttention", 1, heads, {{2, 3, 10}, {2, 3, 9}, {2, 3, 9}}}, "no multiple of 3"},
      {{kOcior, "FusedAttention", 1, heads, {{2, 3, 9}, {2, 4, 9}, {2, 5, 9}}}, "do not fit"},
      {{kOcior, "FusedAttention", 1, heads, {{2, 3, 9}, {2, 4, 9}, {2, 4, 9}, {2, 1, 1, 5}}}, "does not broadcast"},
      {{kOcior, "FusedAttention", 1, {{"num_heads", int64_t{3}}, {"mask_fill", -10000.0f}}, {{2, 3, 9}, {2, 4, 9}, {2, 4, 9}}},
       "mask_fill"},
      {{kOcior, "FusedAttention", 1, {{"num_heads", int64_t{3}}, {"kv_heads", int64_t{2}}}, {{2, 3, 9}, {2, 4, 9}, {2, 4, 9}}},
       "evenly"},
  };
  for (const auto& [wrong, part] : cases) {
    const std::string message = failure(wrong);
    EXPECT_NE(message.find(part), std::string::npos) << wrong.op << ": expected '" << part << "' in: " << message;
  }
}

}  // namespace
}  // namespace ocior::ops
