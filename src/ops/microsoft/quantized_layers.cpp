// QAttention and QEmbedLayerNormalization of com.microsoft: Attention and EmbedLayerNormalization with operands of bytes.
// Computed by the references of these on the numbers that the bytes stand for.
#include "ops/microsoft/qlinear.h"

namespace ocior::ops {
namespace {

constexpr TypeSet kFloatOrHalf = types(DType::kFloat, DType::kFloat16);

// The float operator underneath.
using Layer = std::shared_ptr<const AnyOperator>;

// Where an input of the layer comes from: an input, and, where it is of bytes, its scale and zero point.
struct Source {
  int input, scale = -1, zero = -1;
};

Layer make_layer(const NodeReader& node, std::string_view name, const Attributes& attributes, int inputs, int outputs) {
  auto made = make_operator(kMicrosoft, name, 1, attributes, inputs, outputs);
  if (!made.ok()) node.fail("{}", made.status().message());
  return made.ok() ? std::move(made).value() : nullptr;
}

bool given(const auto& c, const Source& s) { return s.input >= 0 && c.has(s.input); }

// infer(): what the layer says of the same shapes, when all are ranked; else outputs of unknown shape.
Status infer_layer(ShapeContext& c, const Layer& layer, std::span<const Source> sources, DType dtype,
                   std::span<const DType> outputs) {
  std::vector<Type> types(sources.size());
  std::vector<OpInput> inputs(sources.size());
  bool known = true;
  for (size_t i = 0; i < sources.size(); ++i) {
    const Source& s = sources[i];
    if (!given(c, s)) continue;
    known = known && ranked(c, s.input);
    types[i] = Type::tensor(s.scale >= 0 ? dtype : c.dtype(s.input), c.shape(s.input));
    inputs[i].type = &types[i];
  }
  if (!known) {
    for (int o = 0; o < c.outputs(); ++o) c.set(o, outputs[static_cast<size_t>(o)], std::nullopt);
    return {};
  }
  OCIOR_ASSIGN(const std::vector<InferredOutput> out, infer_op(*layer, inputs, c.outputs()));
  for (int o = 0; o < c.outputs(); ++o) c.set(o, outputs[static_cast<size_t>(o)], out[static_cast<size_t>(o)].type.shape);
  return {};
}

// The numbers of input s.input: scales and zero points are single, or one per index of the last axis.
Result<Tensor> dequantised(const RefContext& c, const Source& s, std::string_view op) {
  const Tensor &x = c.in(s.input), &scale = c.in(s.scale);
  const Tensor* zero = s.zero >= 0 && c.has(s.zero) ? &c.in(s.zero) : nullptr;
  const int64_t columns = x.shape().empty() ? 1 : x.shape().back();
  for (const Tensor* t : {&scale, zero})
    if (t && t->count() != 1 && t->count() != columns)
      return error(Code::kInvalidArgument, "{}: {} scales or zero points for input {} of {} columns; expected 1 or as many", op,
                   t->count(), s.input, columns);
  OCIOR_ASSIGN(Tensor y, Tensor::allocate(DType::kFloat, x.shape()));
  for (int64_t i = 0; i < x.count(); ++i) {
    const auto lane = [&](const Tensor& t) { return get_double(t.dtype(), t.data(), t.count() == 1 ? 0 : i % columns); };
    y.as<float>()[i] = static_cast<float>((get_double(x.dtype(), x.data(), i) - (zero ? lane(*zero) : 0)) * lane(scale));
  }
  return y;
}

Result<Tensor> as_float(const Tensor& t) {
  if (t.dtype() != DType::kFloat16) return t;
  OCIOR_ASSIGN(Tensor y, Tensor::allocate(DType::kFloat, t.shape()));
  nn::store(y, nn::doubles(t));
  return y;
}

Status run_layer(RefContext& c, const Layer& layer, std::span<const Source> sources, std::string_view op) {
  std::vector<Tensor> inputs(sources.size());
  std::vector<const Tensor*> pointers(sources.size());
  for (size_t i = 0; i < sources.size(); ++i) {
    const Source& s = sources[i];
    if (!given(c, s)) continue;
    if (s.scale >= 0) {
      OCIOR_ASSIGN(inputs[i], dequantised(c, s, op));
    } else {
      OCIOR_ASSIGN(inputs[i], as_float(c.in(s.input)));
    }
    pointers[i] = &inputs[i];
  }
  OCIOR_ASSIGN(const std::vector<Tensor> out, run_reference(*layer, pointers, c.outputs()));
  for (int o = 0; o < c.outputs(); ++o) {
    if (!c.wants(o)) continue;
    const Tensor& y = out[static_cast<size_t>(o)];
    OCIOR_RETURN_IF_ERROR(ensure_output(c, o, c.out(o).dtype(), y.shape()));
    nn::store(c.out(o), nn::doubles(y));
  }
  return {};
}

SampleInput one(double value) { return {.values = {value}}; }
SampleInput zero(DType t, double value) { return {.dtype = t, .values = {value}}; }

}  // namespace

struct QAttention {
  static constexpr OpInfo info{.name = "QAttention", .domain = kMicrosoft, .min_inputs = 5, .max_inputs = 9, .max_outputs = 2};
  enum Input { kX, kW, kBias, kXScale, kWScale, kMask, kXZero, kWZero, kPast };

  Layer attention;

  static QAttention parse(const NodeReader& node) {
    Attributes attributes{{"num_heads", node.required_integer("num_heads")}};
    for (const char* name : {"unidirectional", "do_rotary", "past_present_share_buffer"})
      if (node.has(name)) attributes[name] = node.integer(name, 0);
    for (const char* name : {"mask_filter_value", "scale"})
      if (node.has(name)) attributes[name] = node.number(name, 0);
    return {make_layer(node, "Attention", attributes, 5, node.outputs())};
  }

  Status infer(ShapeContext& c) const {
    for (const int i : {kX, kW}) OCIOR_RETURN_IF_ERROR(check_type(c, i, qlinear::kBytes, info.name));
    OCIOR_RETURN_IF_ERROR(check_type(c, kBias, kFloatOrHalf, info.name));
    for (const int i : {kXScale, kWScale, kPast})
      if (c.has(i)) OCIOR_RETURN_IF_ERROR(check_same_type(c, kBias, i, info.name));
    if (c.has(kXZero)) OCIOR_RETURN_IF_ERROR(check_same_type(c, kX, kXZero, info.name));
    if (c.has(kWZero)) OCIOR_RETURN_IF_ERROR(check_same_type(c, kW, kWZero, info.name));
    for (const int i : {kXScale, kXZero}) OCIOR_RETURN_IF_ERROR(qlinear::check_single(c, i, info.name));
    for (const int i : {kWScale, kWZero}) OCIOR_RETURN_IF_ERROR(quant::check_lanes(c, i, kW, false, info.name));
    const DType dtype = c.dtype(kBias);
    return infer_layer(c, attention, kSources, dtype, std::array{dtype, dtype});
  }

  Status reference(RefContext& c) const { return run_layer(c, attention, kSources, info.name); }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kUint8, DType::kInt8})
      for (const int outputs : {1, 2})
        out.push_back({.inputs = {{t, {2, 3, 8}},
                                  {DType::kInt8, {8, 24}},
                                  {.shape = {24}},
                                  one(0.1),
                                  {DType::kFloat, outputs == 1 ? Shape{24} : Shape{}, Fill::kPositive},
                                  {.omitted = true},
                                  zero(t, 3),
                                  zero(DType::kInt8, 1)},
                       .attributes = {{"num_heads", int64_t{2}}},
                       .outputs = outputs});
    return out;
  }

 private:
  static constexpr Source kSources[] = {{kX, kXScale, kXZero}, {kW, kWScale, kWZero}, {kBias}, {kMask}, {kPast}};
};
OCIOR_OPERATOR(QAttention)

struct QEmbedLayerNormalization {
  static constexpr OpInfo info{.name = "QEmbedLayerNormalization",
                               .domain = kMicrosoft,
                               .min_inputs = 1,
                               .max_inputs = 18,
                               .min_outputs = 2,
                               .max_outputs = 2};
  enum Input { kIds, kSegments, kWords, kPositions, kSegmentTable, kGamma, kBeta, kMask, kScales, kZeros = 13 };

  Layer layer;

  static QEmbedLayerNormalization parse(const NodeReader& node) {
    return {make_layer(node, "EmbedLayerNormalization", {{"epsilon", node.number("epsilon", 1e-12f)}}, 8, 2)};
  }

  Status infer(ShapeContext& c) const {
    const bool segments = c.has(kSegments);
    for (const int i : {int{kSegments}, int{kSegmentTable}, kScales + 2, kZeros + 2})
      if (c.has(i) != segments)
        return error(Code::kInvalidGraph,
                     "{}: segment_ids, segment_embedding, its scale and its zero point come together or not at all", info.name);
    for (int k = 0; k < 5; ++k) {  // the tables, gamma and beta
      if (k == 2 && !segments) continue;
      const int table = kWords + k;
      OCIOR_RETURN_IF_ERROR(qlinear::check_given(c, {kZeros + k}, info.name));
      OCIOR_RETURN_IF_ERROR(qlinear::check_affine(c, table, kScales + k, kZeros + k, info.name));
      OCIOR_RETURN_IF_ERROR(check_same_type(c, kWords, table, info.name));
    }
    return infer_layer(c, layer, kSources, DType::kFloat, std::array{DType::kFloat, DType::kInt32});
  }

  Status reference(RefContext& c) const { return run_layer(c, layer, kSources, info.name); }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const bool segments : {true, false}) {
      const DType t = DType::kUint8;
      Sample s{.outputs = 2};
      s.inputs = {{DType::kInt32, {2, 3}, Fill::kBools},
                  {DType::kInt32, {2, 3}, Fill::kBools},
                  {t, {4, 8}},
                  {t, {3, 8}},
                  {t, {2, 8}},
                  {t, {8}},
                  {t, {8}},
                  {.omitted = true}};
      for (int k = 0; k < 5; ++k) s.inputs.push_back(one(0.1));
      for (int k = 0; k < 5; ++k) s.inputs.push_back(zero(t, 3));
      for (const int i : {int{kSegments}, int{kSegmentTable}, kScales + 2, kZeros + 2})
        s.inputs[static_cast<size_t>(i)].omitted = !segments;
      out.push_back(std::move(s));
    }
    return out;
  }

 private:
  static constexpr Source kSources[] = {{kIds},
                                        {kSegments},
                                        {kWords, kScales, kZeros},
                                        {kPositions, kScales + 1, kZeros + 1},
                                        {kSegmentTable, kScales + 2, kZeros + 2},
                                        {kGamma, kScales + 3, kZeros + 3},
                                        {kBeta, kScales + 4, kZeros + 4},
                                        {kMask}};
};
OCIOR_OPERATOR(QEmbedLayerNormalization)

}  // namespace ocior::ops
