// RNN, GRU and LSTM (https://onnx.ai/onnx/operators/onnx__LSTM.html): one layer of recurrent cells in one or both directions.
#include "ops/nn/recurrent.h"

namespace ocior::ops {
namespace {

using nn::CellKind;

struct SampleShape {
  int64_t steps = 4, batch = 3, input = 5, hidden = 6;
  unsigned with = 0;  // bit i: input 3 + i is given
  bool constant = true;
  int outputs = 2;
  int opset = 0;
  DType dtype = DType::kFloat;
};

Sample sample_of(CellKind kind, const SampleShape& s, Attributes attributes) {
  const int64_t gates = kind == CellKind::kRnn ? 1 : kind == CellKind::kGru ? 3 : 4;
  const auto direction = attributes.find("direction");
  const bool both = direction != attributes.end() && std::get<std::string>(direction->second) == "bidirectional";
  const int64_t directions = both ? 2 : 1;
  const bool batch_first = attributes.count("layout") != 0;
  attributes["hidden_size"] = s.hidden;
  const Shape state = batch_first ? Shape{s.batch, directions, s.hidden} : Shape{directions, s.batch, s.hidden};
  const auto given = [&](int i) { return (s.with >> i & 1) != 0; };
  Sample out{
      .inputs = {{.dtype = s.dtype, .shape = batch_first ? Shape{s.batch, s.steps, s.input} : Shape{s.steps, s.batch, s.input}},
                 {.dtype = s.dtype, .shape = {directions, gates * s.hidden, s.input}, .constant = s.constant},
                 {.dtype = s.dtype, .shape = {directions, gates * s.hidden, s.hidden}, .constant = s.constant},
                 {.dtype = s.dtype, .shape = {directions, 2 * gates * s.hidden}, .omitted = !given(0)},
                 {.dtype = DType::kInt32, .shape = {s.batch}, .omitted = !given(1)},
                 {.dtype = s.dtype, .shape = state, .omitted = !given(2)}},
      .attributes = std::move(attributes),
      .opset = s.opset,
      .outputs = s.outputs,
      .tolerance = is_floating(s.dtype) && bits_of(s.dtype) < 32 ? 1e-2 : 5e-6};
  for (int64_t b = 0; b < s.batch; ++b) out.inputs[4].values.push_back(static_cast<double>((b * 3 + 1) % (s.steps + 1)));
  if (kind == CellKind::kLstm) {
    out.inputs.push_back({.dtype = s.dtype, .shape = state, .omitted = !given(3)});
    out.inputs.push_back({.dtype = s.dtype, .shape = {directions, 3 * s.hidden}, .omitted = !given(4)});
  }
  return out;
}

std::vector<Sample> samples_of(CellKind kind) {
  const bool lstm = kind == CellKind::kLstm;
  const int functions = static_cast<int>(kind) + 1;
  std::vector<Sample> out;
  const auto add = [&](SampleShape s, const Attributes& attributes = {}) {
    if (lstm && s.outputs == 2) s.outputs = 3;
    out.push_back(sample_of(kind, s, attributes));
  };
  const auto with = [](Attributes a, const Attributes& more) {
    a.insert(more.begin(), more.end());
    return a;
  };
  std::vector<Attributes> forms{{}};
  if (lstm) forms.push_back({{"input_forget", int64_t{1}}});
  if (kind == CellKind::kGru) forms.push_back({{"linear_before_reset", int64_t{1}}});
  for (const Attributes& form : forms)
    for (const char* direction : {"forward", "reverse", "bidirectional"})
      for (const bool batch_first : {false, true}) {
        Attributes a = with(form, {{"direction", std::string(direction)}});
        if (batch_first) a["layout"] = int64_t{1};
        for (const unsigned given : {0u, 1u, 7u, 15u, 31u})
          if (lstm || given < 8) add({.with = given, .constant = given != 7}, a);
        add({.steps = 3, .batch = 37, .input = 9, .hidden = 11, .with = 7}, a);
      }
  for (const char* name : {"Relu", "tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid",
                           "Elu", "Softsign", "Softplus"}) {
    const std::vector<std::string> names(static_cast<size_t>(functions), name);
    add({.with = 1}, {{"activations", names}});
    add({.with = 1}, {{"activations", names},
                      {"activation_alpha", std::vector<float>{0.3f, 0.7f, 0.4f}},
                      {"activation_beta", std::vector<float>{0.1f, 0.6f}},
                      {"clip", 0.5f}});
  }
  add({.with = 1}, {{"clip", 0.2f}});
  add({.opset = 13});
  add({.opset = 7});
  add({.opset = 1}, {{"output_sequence", int64_t{1}}});
  add({.outputs = 1});
  add({.steps = 0, .with = 4});
  add({.batch = 0});
  add({.steps = 1, .batch = 1, .input = 1, .hidden = 1, .with = 31u & (lstm ? 31u : 7u)});
  for (const bool constant : {true, false}) {
    add({.steps = 2, .batch = 2, .input = 64, .hidden = 300, .with = 1, .constant = constant});
    out.back().tolerance = 5e-5;  // sums of hundreds of states, fed back
  }
  for (const DType dtype : {DType::kDouble, DType::kFloat16, DType::kBFloat16}) add({.with = 1, .dtype = dtype});
  add({.steps = 50, .batch = 1, .input = 128, .hidden = 256, .with = 1}, {{"direction", std::string("bidirectional")}});
  out.back().bench = true;
  return out;
}

}  // namespace

struct GRU : nn::Recurrent {
  static constexpr OpInfo info{.name = "GRU", .min_inputs = 3, .max_inputs = 6, .min_outputs = 0, .max_outputs = 2};
  static GRU parse(const NodeReader& node) { return {Recurrent::parse(node, CellKind::kGru)}; }
  static std::vector<Sample> samples() { return samples_of(CellKind::kGru); }
};

struct LSTM : nn::Recurrent {
  static constexpr OpInfo info{.name = "LSTM", .min_inputs = 3, .max_inputs = 8, .min_outputs = 0, .max_outputs = 3};
  static LSTM parse(const NodeReader& node) { return {Recurrent::parse(node, CellKind::kLstm)}; }
  static std::vector<Sample> samples() { return samples_of(CellKind::kLstm); }
};

struct RNN : nn::Recurrent {
  static constexpr OpInfo info{.name = "RNN", .min_inputs = 3, .max_inputs = 6, .min_outputs = 0, .max_outputs = 2};
  static RNN parse(const NodeReader& node) { return {Recurrent::parse(node, CellKind::kRnn)}; }
  static std::vector<Sample> samples() { return samples_of(CellKind::kRnn); }
};

OCIOR_OPERATOR(GRU)
OCIOR_OPERATOR(LSTM)
OCIOR_OPERATOR(RNN)

}  // namespace ocior::ops
