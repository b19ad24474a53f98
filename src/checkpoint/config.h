// What config.json says about a model, in one vocabulary for every family. Called by the converter; plain values.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "ocior/status.h"

namespace ocior::checkpoint {

enum class Family { kBert, kDistilBert, kElectra };

enum class Task {
  kQuestionAnswering,
  kTextClassification,
  kTokenClassification,
  kFillMask,
  kFeatureExtraction,
  kPreTraining,  // ELECTRA's discriminator: was this token replaced?
};

enum class Activation { kGelu, kGeluTanh, kRelu, kSilu, kTanh };

// The sizes and choices of an encoder. Each size is at least 1; hidden is a multiple of heads.
struct Config {
  Family family = Family::kBert;
  std::string model_type;
  std::vector<std::string> architectures;
  int64_t vocab = 0, hidden = 0, embedding = 0, layers = 0, heads = 0, intermediate = 0, positions = 0;
  int64_t types = 0;  // token types; 0 for a family without them
  double layer_norm_eps = 1e-12;
  Activation activation = Activation::kGelu;
  int64_t pad_token_id = -1;  // -1 when the config gives none
  int64_t labels = -1;        // -1 when the config names none
  std::string id2label;       // JSON, "" when the config names none
  bool tie_word_embeddings = true;
};

// The config.json key of each size in the words of the family, for messages: sizes are named as the user wrote them.
struct SizeKeys {
  std::string_view hidden, embedding, layers, heads, intermediate;
};
SizeKeys size_keys(Family family);

// Reads the text of a config.json, called `file` in errors. Keys that a file leaves out have the family's defaults in
// Hugging Face Transformers. Errors name the key; model types and variants that are not supported are named with what is.
Result<Config> read_config(std::string_view text, const std::string& file);

// The task that `architecture` (a class name of config.json) was trained for, of the config's family.
Result<Task> task_of_architecture(const Config& config, const std::string& file);

// A task by the name that users write; aliases included. `name_of` gives the first of the names.
Result<Task> task_named(std::string_view name);
std::string_view name_of(Task task);

}  // namespace ocior::checkpoint
