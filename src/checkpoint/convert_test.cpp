#include "checkpoint/convert.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <set>

#include "checkpoint/config.h"
#include "checkpoint/encoder.h"
#include "checkpoint/test_support.h"

namespace ocior::checkpoint {
namespace {

namespace fs = std::filesystem;
using testing::read_text;
using testing::ScratchFolder;
using testing::write_text;

const std::string kData = OCIOR_SOURCE_DIR "/tests/data/checkpoints/";
constexpr const char* kFolders[] = {"tiny-distilbert-qa", "tiny-bert-mlm-zip", "tiny-electra-token-legacy",
                                    "tiny-bert-features-sharded"};

void copy_checkpoint(const std::string& name, const ScratchFolder& to) { fs::copy(kData + name, to.path()); }

// The message with which the checkpoint in `folder` is refused, "" when it converts.
std::string fault_of(const ScratchFolder& folder, const ConvertOptions& options = {}) {
  const auto got = convert_to_model(folder.path(), options);
  return got.ok() ? "" : got.status().message();
}

// Replaces `from`, which must be there, in a file.
void edit(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = read_text(path);
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  write_text(path, text.replace(at, from.size(), to));
}

// Every value is made once, before it is used, and nothing is left unused.
void expect_well_formed(const onnx::Graph& graph) {
  std::set<std::string> made, used;
  for (const auto& input : graph.inputs) made.insert(input.name);
  for (const auto& tensor : graph.initializers) {
    EXPECT_TRUE(made.insert(tensor.name).second) << tensor.name;
    int64_t bytes = bits_of(tensor.dtype) / 8;
    for (const int64_t d : tensor.dims) bytes *= d;
    EXPECT_EQ(static_cast<int64_t>(tensor.raw.size()), bytes) << tensor.name;
  }
  std::set<std::string> nodes;
  for (const auto& node : graph.nodes) {
    EXPECT_TRUE(nodes.insert(node.name).second) << node.name;
    for (const auto& input : node.inputs) {
      EXPECT_TRUE(made.contains(input)) << node.name << " uses " << input;
      used.insert(input);
    }
    for (const auto& output : node.outputs) EXPECT_TRUE(made.insert(output).second) << output;
  }
  for (const auto& output : graph.outputs) {
    EXPECT_TRUE(made.contains(output.name));
    used.insert(output.name);
  }
  for (const auto& name : made) EXPECT_TRUE(used.contains(name)) << name << " is unused";
}

TEST(Convert, MakesWellFormedGraphsForEveryOpset) {
  for (const char* name : kFolders) {
    for (int opset = 11; opset <= 23; ++opset) {
      for (const DType dtype : {DType::kFloat, DType::kFloat16}) {
        const auto model = convert_to_model(kData + name, {.opset = opset, .dtype = dtype});
        ASSERT_TRUE(model.ok()) << model.status().message();
        SCOPED_TRACE(std::string(name) + " opset " + std::to_string(opset));
        expect_well_formed(model->graph);
        EXPECT_EQ(model->opset_imports[0].second, opset);
        std::map<std::string, int> count;
        for (const auto& node : model->graph.nodes) ++count[node.op_type];
        EXPECT_EQ(count["LayerNormalization"] > 0, opset >= 17);
        EXPECT_EQ(count["Sqrt"] > 0, opset < 17);
        EXPECT_EQ(count["Gelu"] > 0, opset >= 20);
        EXPECT_EQ(count["Erf"] > 0, opset < 20);
      }
    }
  }
}

TEST(Convert, DescribesTheModel) {
  ConvertSummary summary;
  const auto model = convert_to_model(kData + "tiny-electra-token-legacy", {}, &summary);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(summary.model_type, "electra");
  EXPECT_EQ(summary.architecture, "ElectraForTokenClassification");
  EXPECT_EQ(summary.task, "token-classification");
  EXPECT_TRUE(summary.unused.empty());
  ASSERT_EQ(summary.inputs.size(), 3u);
  EXPECT_EQ(summary.inputs[0].name, "input_ids");
  EXPECT_EQ(summary.inputs[0].type.dtype, DType::kInt64);
  EXPECT_EQ(summary.inputs[0].type.shape[1].param, "sequence_length");
  ASSERT_EQ(summary.outputs.size(), 1u);
  EXPECT_EQ(summary.outputs[0].type.shape[2].value, 3);
  const std::map<std::string, std::string> metadata(model->metadata.begin(), model->metadata.end());
  EXPECT_EQ(metadata.at("model_type"), "electra");
  EXPECT_EQ(metadata.at("id2label"), R"({"0":"label 0","1":"label 1","2":"label 2"})");
  EXPECT_EQ(metadata.at("pad_token_id"), "0");
  EXPECT_EQ(metadata.at("converter"), "ocior");
  EXPECT_EQ(model->producer_name, "ocior");
}

// Another task than the checkpoint's own: the encoder is kept, the head is left over and named.
TEST(Convert, TakesTheTaskFromTheCaller) {
  ConvertSummary summary;
  ASSERT_TRUE(convert_to_model(kData + "tiny-distilbert-qa", {.task = "feature-extraction"}, &summary).ok());
  EXPECT_EQ(summary.unused, (std::vector<std::string>{"qa_outputs.weight", "qa_outputs.bias"}));
  const auto missing = convert_to_model(kData + "tiny-distilbert-qa", {.task = "sequence-classification"});
  EXPECT_NE(missing.status().message().find("lacks tensor `pre_classifier.weight`; the task text-classification needs it"),
            std::string::npos);
  EXPECT_NE(convert_to_model(kData + "tiny-distilbert-qa", {.task = "translation"})
                .status()
                .message()
                .find("there is no task \"translation\""),
            std::string::npos);
  EXPECT_NE(convert_to_model(kData + "tiny-distilbert-qa", {.opset = 10}).status().message().find("opset 10"), std::string::npos);
  EXPECT_NE(convert_to_model(kData + "tiny-distilbert-qa", {.dtype = DType::kInt8}).status().message().find("int8"),
            std::string::npos);
}

TEST(Convert, RefusesConfigsThatTheWeightsContradict) {
  const std::pair<std::pair<const char*, const char*>, const char*> cases[] = {
      {{"\"dim\": 4", "\"dim\": 6"}, "has shape [12, 4], but config.json asks for [vocab_size = 12, dim = 6]"},
      {{"\"dim\": 4", "\"dim\": 5"}, "\"dim\" is 5, which \"n_heads\" = 2 does not divide"},
      {{"\"n_layers\": 1", "\"n_layers\": 2"},
       "lacks tensor `distilbert.transformer.layer.1.attention.q_lin.weight`; config.json says \"n_layers\" = 2"},
      {{"\"n_layers\": 1", "\"n_layers\": 0"}, "\"n_layers\" is 0; expected a positive integer"},
      {{"\"n_layers\": 1", "\"n_layers\": 1e3"}, "\"n_layers\" is 1000.0; expected a positive integer"},
      {{"\"n_heads\": 2", "\"n_heads\": -2"}, "\"n_heads\" is -2"},
      {{"\"vocab_size\": 12", "\"vocab_size\": 99999999999999999999"}, "\"vocab_size\" is"},
      {{"\"hidden_dim\": 6", "\"hidden_dim\": 7"}, "has shape [6, 4], but config.json asks for [hidden_dim = 7, dim = 4]"},
      {{"\"gelu\"", "\"quick_gelu\""}, "\"activation\" is \"quick_gelu\"; supported are gelu,"},
      {{"\"distilbert\"", "\"t5\""}, "models of type \"t5\" are not supported; supported are bert, distilbert, electra"},
      {{"ForQuestionAnswering", "ForMultipleChoice"},
       "\"DistilBertForMultipleChoice\" is not supported; supported are DistilBertForQuestionAnswering,"},
      {{"\"pad_token_id\": 0", "\"position_embedding_type\": \"relative_key\""},
       "\"position_embedding_type\" is \"relative_key\""},
      {{"\"pad_token_id\": 0", "\"is_decoder\": true"}, "\"is_decoder\" is true"},
      {{"\"pad_token_id\": 0", "\"dim\": 4"}, "twice"},
      {{"{", "["}, "not valid JSON"},
  };
  for (const auto& [change, message] : cases) {
    ScratchFolder folder;
    copy_checkpoint("tiny-distilbert-qa", folder);
    edit(folder / "config.json", change.first, change.second);
    EXPECT_NE(fault_of(folder).find(message), std::string::npos) << change.second << " gives " << fault_of(folder);
  }
}

TEST(Convert, RefusesIncompleteFolders) {
  ScratchFolder folder;
  EXPECT_NE(fault_of(folder).find("config.json: there is no such file"), std::string::npos);
  EXPECT_NE(convert_to_model(folder / "absent", {}).status().message().find("is not a folder"), std::string::npos);
  copy_checkpoint("tiny-bert-features-sharded", folder);
  EXPECT_EQ(fault_of(folder), "");
  const std::string index = folder / "model.safetensors.index.json", shard = "model-00002-of-00002.safetensors";
  fs::rename(folder / shard, folder / "away");
  EXPECT_NE(fault_of(folder).find("the shard `" + shard + "` that model.safetensors.index.json names is missing"),
            std::string::npos);
  fs::copy_file(folder / "model-00001-of-00002.safetensors", folder / shard);
  EXPECT_NE(fault_of(folder).find("appears twice"), std::string::npos);
  fs::remove(folder / shard);
  fs::rename(folder / "away", folder / shard);
  edit(index, "bert.embeddings.word_embeddings.weight", "bert.embeddings.other");
  EXPECT_NE(fault_of(folder).find("promises tensor `bert.embeddings.other`"), std::string::npos);
  edit(index, "model-00001-of-00002.safetensors", "../model-00001-of-00002.safetensors");
  EXPECT_NE(fault_of(folder).find("shards are .safetensors or .bin files beside the index"), std::string::npos);
  write_text(index, "{}");
  EXPECT_NE(fault_of(folder).find("has no \"weight_map\""), std::string::npos);
  fs::remove(index);
  EXPECT_NE(fault_of(folder).find("holds no weights"), std::string::npos);
}

TEST(Convert, StopsWhenAskedTo) {
  ScratchFolder folder;
  int calls = 0;
  const ConvertOptions options{
      .progress = [&](const ConvertProgress& at) { return at.stage == "tensors" && at.total > 20 && ++calls < 3; }};
  const auto got = convert(kData + "tiny-distilbert-qa", folder / "m.onnx", options);
  EXPECT_EQ(got.status().code(), Code::kModelLoadCanceled);
  EXPECT_EQ(calls, 3);
  EXPECT_TRUE(folder.is_empty());
}

TEST(Convert, WritesTheModelAndTheTokenizer) {
  ScratchFolder from, to;
  copy_checkpoint("tiny-bert-mlm-zip", from);
  write_text(from / "vocab.txt", "[PAD]\n");
  write_text(from / "unrelated.txt", "");
  const auto got = convert(from.path(), to / "m.onnx", {.copy_tokenizer = true});
  ASSERT_TRUE(got.ok()) << got.status().message();
  EXPECT_EQ(got->tokenizer_files, std::vector<std::string>{"vocab.txt"});
  EXPECT_EQ(read_text(to / "vocab.txt"), "[PAD]\n");
  EXPECT_FALSE(fs::exists(to / "unrelated.txt"));
  EXPECT_EQ(got->bytes, static_cast<int64_t>(fs::file_size(to / "m.onnx")));
  EXPECT_GT(got->bytes, got->parameters * 4);
  const auto model = onnx::read_file(to / "m.onnx");
  ASSERT_TRUE(model.ok()) << model.status().message();
  expect_well_formed(model->graph);
  // Beside the checkpoint itself there is nothing to copy.
  ASSERT_TRUE(convert(from.path(), from / "m.onnx", {.copy_tokenizer = true}).ok());
  EXPECT_EQ(read_text(from / "vocab.txt"), "[PAD]\n");
}

// Tied word embeddings are stored once.
TEST(Convert, StoresTiedWeightsOnce) {
  ConvertSummary summary;
  const auto model = convert_to_model(kData + "tiny-bert-mlm-zip", {}, &summary);
  ASSERT_TRUE(model.ok()) << model.status().message();
  for (const auto& tensor : model->graph.initializers) EXPECT_NE(tensor.name, "cls.predictions.decoder.weight");
  EXPECT_TRUE(summary.unused.empty());
}

// A write that the system refuses half-way (a full disk looks the same) leaves nothing behind.
TEST(Convert, LeavesNothingOnAFullDisk) {
  ScratchFolder from, to;
  copy_checkpoint("tiny-bert-mlm-zip", from);
  write_text(from / "vocab.txt", "[PAD]\n");
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const auto got = convert(from.path(), to / "m.onnx", {.copy_tokenizer = true});
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_FALSE(got.ok());
  EXPECT_TRUE(to.is_empty());
  EXPECT_FALSE(convert(from.path(), to / "absent/m.onnx").ok());
}

TEST(Config, KnowsOldFiles) {
  const auto config =
      read_config(R"({"architectures": ["BertForMaskedLM"], "hidden_size": 12, "num_attention_heads": 3})", "config.json");
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->model_type, "bert");
  EXPECT_EQ(config->vocab, 30522);
  EXPECT_EQ(config->intermediate, 3072);
  EXPECT_EQ(*task_of_architecture(*config, "config.json"), Task::kFillMask);
  EXPECT_NE(read_config("{}", "config.json").status().message().find("no \"model_type\""), std::string::npos);
}

TEST(Config, BoundsNesting) {
  const std::string deep = R"({"model_type": "bert", "x": )" + std::string(1 << 20, '[') + std::string(1 << 20, ']') + "}";
  EXPECT_NE(read_config(deep, "config.json").status().message().find("nested deeper"), std::string::npos);
  const std::string large = "{\"x\": \"" + std::string(17 << 20, 'x') + "\"}";
  EXPECT_NE(read_config(large, "config.json").status().message().find("at most"), std::string::npos);
}

TEST(Convert, SurvivesMutatedConfigs) {
  for (const char* name : kFolders) {
    const std::string seed = read_text(kData + name + "/config.json");
    const auto tensors = load_state_dict(kData + name);
    ASSERT_TRUE(tensors.ok()) << tensors.status().message();
    int built = 0;
    for (int i = 0; i < testing::mutant_count(1000); ++i) {
      const auto config = read_config(testing::mutant(seed, static_cast<uint32_t>(i)), "config.json");
      if (!config.ok()) continue;
      const auto task = task_of_architecture(*config, "config.json");
      if (!task.ok()) continue;
      const auto graph = build_encoder(*config, *tensors, {.task = *task});
      if (!graph.ok()) continue;
      ++built;
      if (built % 50 == 1) expect_well_formed(graph->graph);
    }
    EXPECT_GT(built, 0) << name;
  }
}

TEST(Convert, SurvivesMutatedIndexFiles) {
  const std::string folder = kData + "tiny-bert-features-sharded", file = "model.safetensors.index.json";
  const std::string seed = read_text(folder + "/" + file);
  ASSERT_TRUE(load_sharded(folder, file, seed).ok());
  int refused = 0;
  const int count = testing::mutant_count(300);
  for (int i = 0; i < count; ++i) refused += !load_sharded(folder, file, testing::mutant(seed, static_cast<uint32_t>(i))).ok();
  EXPECT_GT(refused, count / 4);
}

}  // namespace
}  // namespace ocior::checkpoint
