#include "checkpoint/encoder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "checkpoint/graph_builder.h"
#include "checkpoint/json.h"
#include "checkpoint/weights.h"

namespace ocior::checkpoint {
namespace {

using Value = GraphBuilder::Value;

// A size that a tensor must have and the config key that says so; size -1 accepts any.
struct Dim {
  int64_t size;
  std::string_view key;
};

// Where a family keeps the tensors of a layer, as Hugging Face Transformers names its modules.
struct LayerNames {
  std::string_view layers, query, key, value, attention_out, attention_norm, up, down, out_norm;
};
constexpr LayerNames kBertLayer = {"encoder.layer",        "attention.self.query",   "attention.self.key",
                                   "attention.self.value", "attention.output.dense", "attention.output.LayerNorm",
                                   "intermediate.dense",   "output.dense",           "output.LayerNorm"};
constexpr LayerNames kDistilBertLayer = {"transformer.layer", "attention.q_lin",   "attention.k_lin",
                                         "attention.v_lin",   "attention.out_lin", "sa_layer_norm",
                                         "ffn.lin1",          "ffn.lin2",          "output_layer_norm"};

// The head that predicts words: transform, activation, norm, then the word embeddings once more.
struct MaskedHead {
  std::string_view dense, norm, decoder;
  Activation activation;
};

std::string scope_of(std::string_view tensor) {
  std::string scope = "/" + std::string(tensor);
  std::replace(scope.begin(), scope.end(), '.', '/');
  return scope;
}

class EncoderBuilder {
 public:
  EncoderBuilder(const Config& config, const StateDict& tensors, const EncoderOptions& options)
      : c_(config),
        tensors_(tensors),
        options_(options),
        keys_(size_keys(config.family)),
        b_(options.opset, options.compute),
        hidden_{config.hidden, keys_.hidden} {}

  Result<EncoderGraph> build() {
    OCIOR_RETURN_IF_ERROR(find_base());
    inputs();
    OCIOR_ASSIGN(Value x, embeddings());
    const Value mask = attention_mask();
    context_ = fmt::format("config.json says \"{}\" = {}", keys_.layers, c_.layers);
    for (int64_t i = 0; i < c_.layers; ++i) {
      OCIOR_ASSIGN(x, layer(i, x, mask));
    }
    context_ = fmt::format("the task {} needs it; does the checkpoint belong to another task?", name_of(options_.task));
    OCIOR_RETURN_IF_ERROR(head(x));
    for (const TensorEntry& entry : tensors_.entries()) {
      if (!used_.contains(entry.name)) out_.unused.push_back(entry.name);
    }
    out_.graph = b_.take();
    out_.graph.name = c_.model_type;
    return std::move(out_);
  }

 private:
  // The encoder's tensors carry the family's name as a prefix unless the checkpoint is of the bare encoder.
  Status find_base() {
    for (const std::string& prefix : {c_.model_type + ".", std::string()}) {
      if (!tensors_.find(prefix + "embeddings.word_embeddings.weight")) continue;
      base_ = prefix;
      context_ = fmt::format("every {} model has it", c_.model_type);
      return {};
    }
    return error(Code::kInvalidArgument,
                 "the checkpoint holds no tensor `{}.embeddings.word_embeddings.weight` (with or without `{}.`), so it is no {} "
                 "model; its first tensor is `{}`",
                 c_.model_type, c_.model_type, c_.model_type,
                 tensors_.entries().empty() ? "none" : printable(tensors_.entries()[0].name));
  }

  std::string shape_text(const std::vector<Dim>& dims) const {
    std::string out;
    for (const Dim& dim : dims) {
      out += out.empty() ? "[" : ", ";
      out += dim.size < 0 ? std::string(dim.key) : fmt::format("{} = {}", dim.key, dim.size);
    }
    return out + "]";
  }

  // The tensor of the first name that exists, with its shape proved.
  Result<const TensorEntry*> find(std::initializer_list<std::string> names, const std::vector<Dim>& dims) {
    const TensorEntry* entry = nullptr;
    for (const std::string& name : names) {
      if (!entry) entry = tensors_.find(name);
    }
    if (!entry) return error(Code::kInvalidArgument, "the checkpoint lacks tensor `{}`; {}", *names.begin(), context_);
    bool fits = entry->shape.size() == dims.size();
    for (size_t i = 0; fits && i < dims.size(); ++i) fits = dims[i].size < 0 || dims[i].size == entry->shape[i];
    if (fits) return entry;
    return error(Code::kInvalidArgument, "{}: tensor `{}` has shape [{}], but config.json asks for {}", entry->file, entry->name,
                 fmt::join(entry->shape, ", "), shape_text(dims));
  }

  // Adds the tensor to the graph under the first of its names.
  Result<Value> weight(std::initializer_list<std::string> names, const std::vector<Dim>& dims, bool transposed = false) {
    OCIOR_ASSIGN(const TensorEntry* entry, find(names, dims));
    OCIOR_ASSIGN(onnx::Tensor tensor, to_initializer(*entry, *names.begin(), b_.compute(), transposed));
    if (!tensor.owned && entry->mapped) keep(entry->mapped);
    out_.parameters += entry->elements();
    OCIOR_RETURN_IF_ERROR(use(*entry));
    return b_.weight(std::move(tensor));
  }
  void keep(const std::shared_ptr<const MappedFile>& file) {
    if (std::find(out_.files.begin(), out_.files.end(), file) == out_.files.end()) out_.files.push_back(file);
  }
  Status use(const TensorEntry& entry) {
    used_.insert(entry.name);
    const auto done = static_cast<int64_t>(used_.size()), total = static_cast<int64_t>(tensors_.entries().size());
    if (!options_.progress || options_.progress(done, total)) return {};
    return Status(Code::kModelLoadCanceled, "the conversion was cancelled");
  }

  Result<Value> linear(const std::string& name, const Value& x, Dim out, Dim in) {
    OCIOR_ASSIGN(const Value weights, weight({name + ".weight"}, {out, in}, /*transposed=*/true));
    OCIOR_ASSIGN(const Value bias, weight({name + ".bias"}, {out}));
    const std::string scope = scope_of(name);
    return b_.node(scope + "/Add", "Add", {b_.node(scope + "/MatMul", "MatMul", {x, weights}), bias});
  }
  // TensorFlow's names for scale and bias are gamma and beta; old conversions kept them.
  Result<Value> norm(const std::string& name, const Value& x, Dim size) {
    OCIOR_ASSIGN(const Value scale, weight({name + ".weight", name + ".gamma"}, {size}));
    OCIOR_ASSIGN(const Value bias, weight({name + ".bias", name + ".beta"}, {size}));
    return b_.layer_norm(scope_of(name), x, scale, bias, c_.layer_norm_eps);
  }

  void inputs() {
    b_.input("input_ids", DType::kInt64, {"batch_size", "sequence_length"});
    b_.input("attention_mask", DType::kInt64, {"batch_size", "sequence_length"});
    if (c_.types > 0) b_.input("token_type_ids", DType::kInt64, {"batch_size", "sequence_length"});
  }

  Result<Value> embeddings() {
    const std::string name = base_ + "embeddings";
    const std::string scope = scope_of(name);
    const Dim width{c_.embedding, keys_.embedding};
    words_name_ = name + ".word_embeddings.weight";
    OCIOR_ASSIGN(words_, weight({words_name_}, {{c_.vocab, "vocab_size"}, width}));
    OCIOR_ASSIGN(const Value table,
                 weight({name + ".position_embeddings.weight"}, {{c_.positions, "max_position_embeddings"}, width}));
    Value x = b_.gather(scope + "/word_embeddings/Gather", words_, "input_ids", 0);
    if (c_.types > 0) {
      OCIOR_ASSIGN(const Value types, weight({name + ".token_type_embeddings.weight"}, {{c_.types, "type_vocab_size"}, width}));
      x = b_.node(scope + "/Add_1", "Add", {x, b_.gather(scope + "/token_type_embeddings/Gather", types, "token_type_ids", 0)});
    }
    x = b_.node(scope + "/Add", "Add", {x, positions(scope, table)});
    OCIOR_ASSIGN(x, norm(name + ".LayerNorm", x, width));
    if (c_.embedding == c_.hidden) return x;
    return linear(base_ + "embeddings_project", x, hidden_, width);
  }

  // The first rows of the position table, as many as the sequence is long.
  Value positions(const std::string& scope, const Value& table) {
    const Value shape = b_.node(scope + "/Shape", "Shape", {"input_ids"});
    const Value length = b_.gather(scope + "/Gather", shape, b_.integers("sequence_axis", {1}), 0);
    return b_.node(scope + "/position_embeddings/Slice", "Slice",
                   {table, b_.integers("slice_start", {0}), length, b_.integers("slice_axis", {0})});
  }

  // 0 where attention is allowed, else a number so low that its softmax is 0; float16 takes one that stays finite next to a
  // score.
  Value attention_mask() {
    const double lowest = b_.compute() == DType::kFloat ? static_cast<double>(std::numeric_limits<float>::lowest()) : -10000.0;
    const Value wide = b_.unsqueeze("/attention_mask/Unsqueeze", "attention_mask", {1, 2});
    const Value numbers = b_.cast("/attention_mask/Cast", wide, b_.compute());
    const Value masked = b_.node("/attention_mask/Sub", "Sub", {b_.number("one", 1), numbers});
    return b_.node("/attention_mask/Mul", "Mul", {masked, b_.number("mask_value", lowest)});
  }

  Result<Value> attention(const std::string& name, const LayerNames& names, const Value& x, const Value& mask) {
    const std::string scope = scope_of(name) + "/attention";
    const auto heads = [&](std::string_view part, std::vector<int64_t> order) -> Result<Value> {
      const std::string full = fmt::format("{}.{}", name, part);
      OCIOR_ASSIGN(const Value flat, linear(full, x, hidden_, hidden_));
      const Value split = b_.node(scope_of(full) + "/Reshape", "Reshape",
                                  {flat, b_.integers("split_heads", {0, 0, c_.heads, c_.hidden / c_.heads})});
      return b_.transpose(scope_of(full) + "/Transpose", split, std::move(order));
    };
    OCIOR_ASSIGN(const Value q, heads(names.query, {0, 2, 1, 3}));
    OCIOR_ASSIGN(const Value k, heads(names.key, {0, 2, 3, 1}));
    OCIOR_ASSIGN(const Value v, heads(names.value, {0, 2, 1, 3}));
    const double root = std::sqrt(static_cast<double>(c_.hidden / c_.heads));
    const Value scores =
        b_.node(scope + "/Div", "Div", {b_.node(scope + "/MatMul", "MatMul", {q, k}), b_.number("sqrt_head_size", root)});
    const Value weights = b_.softmax(scope + "/Softmax", b_.node(scope + "/Add", "Add", {scores, mask}));
    const Value context = b_.transpose(scope + "/Transpose", b_.node(scope + "/MatMul_1", "MatMul", {weights, v}), {0, 2, 1, 3});
    const Value joined = b_.node(scope + "/Reshape", "Reshape", {context, b_.integers("join_heads", {0, 0, c_.hidden})});
    return linear(fmt::format("{}.{}", name, names.attention_out), joined, hidden_, hidden_);
  }

  Result<Value> layer(int64_t index, const Value& x, const Value& mask) {
    const LayerNames& names = c_.family == Family::kDistilBert ? kDistilBertLayer : kBertLayer;
    const std::string name = fmt::format("{}{}.{}", base_, names.layers, index);
    const std::string scope = scope_of(name);
    const Dim inner{c_.intermediate, keys_.intermediate};
    OCIOR_ASSIGN(Value attended, attention(name, names, x, mask));
    OCIOR_ASSIGN(attended,
                 norm(fmt::format("{}.{}", name, names.attention_norm), b_.node(scope + "/Add", "Add", {attended, x}), hidden_));
    OCIOR_ASSIGN(Value y, linear(fmt::format("{}.{}", name, names.up), attended, inner, hidden_));
    y = b_.activation(scope + "/activation", c_.activation, y);
    OCIOR_ASSIGN(y, linear(fmt::format("{}.{}", name, names.down), y, hidden_, inner));
    return norm(fmt::format("{}.{}", name, names.out_norm), b_.node(scope + "/Add_1", "Add", {y, attended}), hidden_);
  }

  Status head(const Value& x) {
    switch (options_.task) {
      case Task::kQuestionAnswering: return question_answering(x);
      case Task::kTextClassification: return text_classification(x);
      case Task::kTokenClassification: return token_classification(x);
      case Task::kFillMask: return fill_mask(x);
      case Task::kFeatureExtraction: return feature_extraction(x);
      case Task::kPreTraining: break;
    }
    return discriminator(x);
  }

  Status question_answering(const Value& x) {
    OCIOR_ASSIGN(const Value logits, linear("qa_outputs", x, {2, "start and end"}, hidden_));
    const std::vector<Value> parts = b_.split_in_two("/qa_outputs/Split", logits);
    const std::pair<const char*, const char*> names[] = {{"/start/Squeeze", "start_logits"}, {"/end/Squeeze", "end_logits"}};
    for (size_t i = 0; i < 2; ++i) {
      Value squeezed = b_.squeeze(names[i].first, parts[i], -1);
      b_.output(squeezed, names[i].second, {"batch_size", "sequence_length"});
    }
    return {};
  }

  Value first_token(const Value& x) { return b_.gather("/first_token/Gather", x, b_.integer("first_token", 0), 1); }

  Result<Value> pooled(const Value& x) {
    OCIOR_ASSIGN(const Value dense, linear(base_ + "pooler.dense", first_token(x), hidden_, hidden_));
    return b_.activation(scope_of(base_ + "pooler"), Activation::kTanh, dense);
  }

  // The label count that the config names, or whatever the classifier has.
  Dim labels() const { return {c_.labels, "id2label"}; }
  std::string label_count(const std::string& classifier) const {
    return std::to_string(tensors_.find(classifier + ".weight")->shape[0]);
  }

  Status text_classification(const Value& x) {
    Value y;
    std::string classifier = "classifier";
    if (c_.family == Family::kBert) {
      OCIOR_ASSIGN(y, pooled(x));
    } else {
      const bool electra = c_.family == Family::kElectra;
      const std::string dense = electra ? "classifier.dense" : "pre_classifier";
      OCIOR_ASSIGN(y, linear(dense, first_token(x), hidden_, hidden_));
      y = b_.activation(scope_of(dense) + "/activation", electra ? Activation::kGelu : Activation::kRelu, y);
      if (electra) classifier = "classifier.out_proj";
    }
    OCIOR_ASSIGN(y, linear(classifier, y, labels(), hidden_));
    b_.output(y, "logits", {"batch_size", label_count(classifier)});
    return {};
  }

  Status token_classification(const Value& x) {
    OCIOR_ASSIGN(Value y, linear("classifier", x, labels(), hidden_));
    b_.output(y, "logits", {"batch_size", "sequence_length", label_count("classifier")});
    return {};
  }

  MaskedHead masked_head() const {
    switch (c_.family) {
      case Family::kBert:
        return {"cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder",
                c_.activation};
      case Family::kDistilBert: return {"vocab_transform", "vocab_layer_norm", "vocab_projector", c_.activation};
      case Family::kElectra: break;
    }
    return {"generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head", Activation::kGelu};
  }

  Status fill_mask(const Value& x) {
    const MaskedHead head = masked_head();
    const Dim width{c_.embedding, keys_.embedding};
    OCIOR_ASSIGN(Value y, linear(std::string(head.dense), x, width, hidden_));
    y = b_.activation(scope_of(head.dense) + "/activation", head.activation, y);
    OCIOR_ASSIGN(y, norm(std::string(head.norm), y, width));
    const std::string decoder(head.decoder), scope = scope_of(decoder);
    OCIOR_ASSIGN(const Value matrix, decoder_matrix(decoder, width));
    y = b_.node(scope + "/MatMul", "MatMul", {y, matrix});
    OCIOR_ASSIGN(const Value bias, weight({decoder + ".bias", "cls.predictions.bias"}, {{c_.vocab, "vocab_size"}}));
    if (const TensorEntry* twin = tensors_.find("cls.predictions.bias")) used_.insert(twin->name);
    y = b_.node(scope + "/Add", "Add", {y, bias});
    b_.output(y, "logits", {"batch_size", "sequence_length", std::to_string(c_.vocab)});
    return {};
  }

  // The word embeddings again where they are tied: one initializer, transposed in the graph. A checkpoint whose decoder has
  // values of its own keeps them, whatever the config says.
  Result<Value> decoder_matrix(const std::string& decoder, Dim width) {
    const TensorEntry* own = tensors_.find(decoder + ".weight");
    const bool tied = own ? same_values(*own, *tensors_.find(words_name_)) : c_.tie_word_embeddings;
    if (!tied) return weight({decoder + ".weight"}, {{c_.vocab, "vocab_size"}, width}, /*transposed=*/true);
    if (own) used_.insert(own->name);
    return b_.transpose(scope_of(decoder) + "/Transpose", words_, {1, 0});
  }

  Status feature_extraction(const Value& x) {
    Value last = x;
    b_.output(last, "last_hidden_state", {"batch_size", "sequence_length", std::to_string(c_.hidden)});
    if (c_.family != Family::kBert || !tensors_.find(base_ + "pooler.dense.weight")) return {};
    OCIOR_ASSIGN(Value y, pooled(last));
    b_.output(y, "pooler_output", {"batch_size", std::to_string(c_.hidden)});
    return {};
  }

  Status discriminator(const Value& x) {
    if (c_.family != Family::kElectra)
      return error(Code::kNotImplemented, "the task {} is for electra models only", name_of(options_.task));
    OCIOR_ASSIGN(Value y, linear("discriminator_predictions.dense", x, hidden_, hidden_));
    y = b_.activation("/discriminator_predictions/activation", c_.activation, y);
    OCIOR_ASSIGN(y, linear("discriminator_predictions.dense_prediction", y, {1, "one logit"}, hidden_));
    y = b_.squeeze("/discriminator_predictions/Squeeze", y, -1);
    b_.output(y, "logits", {"batch_size", "sequence_length"});
    return {};
  }

  const Config& c_;
  const StateDict& tensors_;
  const EncoderOptions& options_;
  const SizeKeys keys_;
  GraphBuilder b_;
  const Dim hidden_;
  std::string base_, words_name_;
  std::string context_;  // why the tensors of the current part are needed, for messages
  Value words_;
  std::unordered_set<std::string> used_;
  EncoderGraph out_;
};

}  // namespace

Result<EncoderGraph> build_encoder(const Config& config, const StateDict& tensors, const EncoderOptions& options) {
  return EncoderBuilder(config, tensors, options).build();
}

}  // namespace ocior::checkpoint
