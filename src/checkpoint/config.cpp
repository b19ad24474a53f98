#include "checkpoint/config.h"

#include <array>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "checkpoint/json.h"

namespace ocior::checkpoint {
namespace {

using nlohmann::json;

struct FamilyDefaults {
  std::string_view model_type, prefix;  // prefix: of its class names
  int64_t hidden, embedding, layers, heads, intermediate, types;
  std::string_view activation_key;
};

// Defaults of BertConfig, DistilBertConfig and ElectraConfig in Hugging Face Transformers; embedding 0 means as hidden.
constexpr std::array<FamilyDefaults, 3> kFamilies = {{
    {"bert", "Bert", 768, 0, 12, 12, 3072, 2, "hidden_act"},
    {"distilbert", "DistilBert", 768, 0, 6, 12, 3072, 0, "activation"},
    {"electra", "Electra", 256, 128, 12, 4, 1024, 2, "hidden_act"},
}};

constexpr std::pair<std::string_view, Activation> kActivations[] = {
    {"gelu", Activation::kGelu},          {"gelu_python", Activation::kGelu},
    {"gelu_new", Activation::kGeluTanh},  {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"gelu_fast", Activation::kGeluTanh}, {"gelu_python_tanh", Activation::kGeluTanh},
    {"relu", Activation::kRelu},          {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},         {"tanh", Activation::kTanh}};

constexpr std::pair<std::string_view, Task> kTasks[] = {{"question-answering", Task::kQuestionAnswering},
                                                        {"text-classification", Task::kTextClassification},
                                                        {"sequence-classification", Task::kTextClassification},
                                                        {"token-classification", Task::kTokenClassification},
                                                        {"fill-mask", Task::kFillMask},
                                                        {"feature-extraction", Task::kFeatureExtraction},
                                                        {"pre-training", Task::kPreTraining}};

constexpr std::pair<std::string_view, Task> kHeads[] = {{"ForQuestionAnswering", Task::kQuestionAnswering},
                                                        {"ForSequenceClassification", Task::kTextClassification},
                                                        {"ForTokenClassification", Task::kTokenClassification},
                                                        {"ForMaskedLM", Task::kFillMask},
                                                        {"Model", Task::kFeatureExtraction}};

const FamilyDefaults& defaults(Family family) { return kFamilies[static_cast<size_t>(family)]; }

template <class Table>
std::string names_in(const Table& table) {
  std::string out;
  for (const auto& entry : table) out += fmt::format("{}{}", out.empty() ? "" : ", ", std::get<0>(entry));
  return out;
}

// Looks keys up in config.json and remembers the file for messages.
class Fields {
 public:
  Fields(const json& object, const std::string& file) : object_(object), file_(file) {}

  // nullptr for a key that is absent or null.
  const json* find(std::string_view key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  Status wrong(std::string_view key, std::string_view expected) const {
    const json* value = find(key);
    const std::string got = value ? value->dump(-1, ' ', false, json::error_handler_t::replace) : "nothing";
    return error(Code::kInvalidArgument, "{}: \"{}\" is {}; expected {}", file_, key, printable(got), expected);
  }
  // The first of `keys` that is there, or `fallback`.
  Result<int64_t> size(std::initializer_list<std::string_view> keys, int64_t fallback) const {
    constexpr int64_t kMax = int64_t{1} << 31;
    for (const std::string_view key : keys) {
      const json* value = find(key);
      if (!value) continue;
      if (!value->is_number_integer() || *value < 1 || *value > kMax) return wrong(key, "a positive integer");
      return value->get<int64_t>();
    }
    return fallback;
  }
  Result<std::string> text(std::string_view key, std::string_view fallback) const {
    const json* value = find(key);
    if (!value) return std::string(fallback);
    if (!value->is_string()) return wrong(key, "a text");
    return value->get<std::string>();
  }
  Result<bool> truth(std::string_view key, bool fallback) const {
    const json* value = find(key);
    if (!value) return fallback;
    if (!value->is_boolean()) return wrong(key, "true or false");
    return value->get<bool>();
  }

 private:
  const json& object_;
  const std::string& file_;
};

Status read_family(const Fields& fields, const std::string& file, Config& config) {
  OCIOR_ASSIGN(config.model_type, fields.text("model_type", ""));
  if (const json* list = fields.find("architectures")) {
    if (!list->is_array()) return fields.wrong("architectures", "a list of class names");
    for (const json& name : *list) {
      if (!name.is_string()) return fields.wrong("architectures", "a list of class names");
      config.architectures.push_back(name.get<std::string>());
    }
  }
  for (size_t i = 0; i < kFamilies.size(); ++i) {
    // Configs from before model_type existed are known by their class.
    const bool by_class =
        config.model_type.empty() && !config.architectures.empty() && config.architectures[0].starts_with(kFamilies[i].prefix);
    if (config.model_type != kFamilies[i].model_type && !by_class) continue;
    config.family = static_cast<Family>(i);
    config.model_type = kFamilies[i].model_type;
    return {};
  }
  std::string known;
  for (const FamilyDefaults& family : kFamilies) known += fmt::format("{}{}", known.empty() ? "" : ", ", family.model_type);
  if (config.model_type.empty()) return error(Code::kNotImplemented, "{}: has no \"model_type\"; supported are {}", file, known);
  return error(Code::kNotImplemented, "{}: models of type \"{}\" are not supported; supported are {}", file,
               printable(config.model_type), known);
}

Status read_sizes(const Fields& fields, const std::string& file, Config& config) {
  const FamilyDefaults& base = defaults(config.family);
  const SizeKeys keys = size_keys(config.family);
  OCIOR_ASSIGN(config.vocab, fields.size({"vocab_size"}, 30522));
  OCIOR_ASSIGN(config.hidden, fields.size({keys.hidden, "hidden_size"}, base.hidden));
  OCIOR_ASSIGN(config.layers, fields.size({keys.layers, "num_hidden_layers"}, base.layers));
  OCIOR_ASSIGN(config.heads, fields.size({keys.heads, "num_attention_heads"}, base.heads));
  OCIOR_ASSIGN(config.intermediate, fields.size({keys.intermediate}, base.intermediate));
  OCIOR_ASSIGN(config.positions, fields.size({"max_position_embeddings"}, 512));
  config.embedding = config.hidden;
  if (base.embedding) {
    OCIOR_ASSIGN(config.embedding, fields.size({keys.embedding}, base.embedding));
  }
  if (base.types) {
    OCIOR_ASSIGN(config.types, fields.size({"type_vocab_size"}, base.types));
  }
  if (config.hidden % config.heads == 0) return {};
  return error(Code::kInvalidArgument, "{}: \"{}\" is {}, which \"{}\" = {} does not divide", file, keys.hidden, config.hidden,
               keys.heads, config.heads);
}

// Choices that change the graph in ways that are not built here.
Status check_variant(const Fields& fields, const std::string& file) {
  OCIOR_ASSIGN(const std::string position, fields.text("position_embedding_type", "absolute"));
  if (position != "absolute") {
    return error(Code::kNotImplemented, "{}: \"position_embedding_type\" is \"{}\"; only \"absolute\" is supported", file,
                 printable(position));
  }
  for (const std::string_view key : {"is_decoder", "add_cross_attention"}) {
    OCIOR_ASSIGN(const bool on, fields.truth(key, false));
    if (on) return error(Code::kNotImplemented, "{}: \"{}\" is true; only encoders are supported", file, key);
  }
  return {};
}

Status read_activation(const Fields& fields, const std::string& file, Config& config) {
  const std::string_view key = defaults(config.family).activation_key;
  OCIOR_ASSIGN(const std::string name, fields.text(key, "gelu"));
  for (const auto& [known, activation] : kActivations) {
    if (known != name) continue;
    config.activation = activation;
    return {};
  }
  return error(Code::kNotImplemented, "{}: \"{}\" is \"{}\"; supported are {}", file, key, printable(name),
               names_in(kActivations));
}

Status read_labels(const Fields& fields, Config& config) {
  if (const json* labels = fields.find("id2label")) {
    if (!labels->is_object()) return fields.wrong("id2label", "an object from numbers to names");
    config.labels = static_cast<int64_t>(labels->size());
    config.id2label = labels->dump(-1, ' ', false, json::error_handler_t::replace);
  } else {
    OCIOR_ASSIGN(config.labels, fields.size({"num_labels"}, -1));
  }
  if (const json* pad = fields.find("pad_token_id")) {
    if (!pad->is_number_integer()) return fields.wrong("pad_token_id", "an integer");
    config.pad_token_id = pad->get<int64_t>();
  }
  OCIOR_ASSIGN(config.tie_word_embeddings, fields.truth("tie_word_embeddings", true));
  return {};
}

Status read_eps(const Fields& fields, Config& config) {
  const json* eps = config.family == Family::kDistilBert ? nullptr : fields.find("layer_norm_eps");
  if (!eps) return {};
  if (!eps->is_number() || !(eps->get<double>() >= 0) || !std::isfinite(eps->get<double>()))
    return fields.wrong("layer_norm_eps", "a small positive number");
  config.layer_norm_eps = eps->get<double>();
  return {};
}

}  // namespace

SizeKeys size_keys(Family family) {
  if (family == Family::kDistilBert) return {"dim", "dim", "n_layers", "n_heads", "hidden_dim"};
  const std::string_view embedding = family == Family::kElectra ? "embedding_size" : "hidden_size";
  return {"hidden_size", embedding, "num_hidden_layers", "num_attention_heads", "intermediate_size"};
}

Result<Config> read_config(std::string_view text, const std::string& file) {
  OCIOR_ASSIGN(const json object, parse_json(text, file));
  if (!object.is_object()) return error(Code::kInvalidArgument, "{}: is not a JSON object", file);
  const Fields fields(object, file);
  Config config;
  OCIOR_RETURN_IF_ERROR(read_family(fields, file, config));
  OCIOR_RETURN_IF_ERROR(read_sizes(fields, file, config));
  OCIOR_RETURN_IF_ERROR(check_variant(fields, file));
  OCIOR_RETURN_IF_ERROR(read_activation(fields, file, config));
  OCIOR_RETURN_IF_ERROR(read_eps(fields, config));
  OCIOR_RETURN_IF_ERROR(read_labels(fields, config));
  return config;
}

Result<Task> task_of_architecture(const Config& config, const std::string& file) {
  const std::string_view prefix = defaults(config.family).prefix;
  if (config.architectures.empty()) {
    return error(Code::kInvalidArgument, "{}: names no architecture; choose a task: {}", file, names_in(kTasks));
  }
  const std::string& name = config.architectures[0];
  if (name.starts_with(prefix)) {
    const std::string_view head = std::string_view(name).substr(prefix.size());
    for (const auto& [known, task] : kHeads) {
      if (known == head) return task;
    }
    if (head == "ForPreTraining") return config.family == Family::kElectra ? Task::kPreTraining : Task::kFillMask;
  }
  std::string known;
  for (const auto& [head, task] : kHeads) known += fmt::format("{}{}, ", prefix, head);
  return error(Code::kNotImplemented,
               "{}: the architecture \"{}\" is not supported; supported are {}{}ForPreTraining. Or choose a task: {}", file,
               printable(name), known, prefix, names_in(kTasks));
}

Result<Task> task_named(std::string_view name) {
  for (const auto& [known, task] : kTasks) {
    if (known == name) return task;
  }
  return error(Code::kInvalidArgument, "there is no task \"{}\"; choose one of {}", printable(name), names_in(kTasks));
}

std::string_view name_of(Task task) {
  for (const auto& [name, known] : kTasks) {
    if (known == task) return name;
  }
  return "";
}

}  // namespace ocior::checkpoint
