#include "checkpoint/convert.h"

#include <algorithm>
#include <filesystem>
#include <new>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "checkpoint/config.h"
#include "checkpoint/encoder.h"
#include "checkpoint/graph_builder.h"
#include "checkpoint/json.h"
#include "checkpoint/state_dict.h"

namespace ocior::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kConverterVersion = "0.1.0";
constexpr const char* kTokenizerFiles[] = {"tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json",
                                           "added_tokens.json"};

std::string join(const std::string& folder, std::string_view file) { return (fs::path(folder) / file).string(); }

// The IR version that came with an opset (the table in ONNX's docs/Versioning.md).
int64_t ir_version_of(int opset) {
  if (opset <= 11) return 6;
  if (opset <= 14) return 7;
  if (opset <= 18) return 8;
  if (opset <= 20) return 9;
  return opset <= 22 ? 10 : 11;
}

Status check_options(const ConvertOptions& options) {
  if (options.opset < kMinOpset || options.opset > kMaxOpset) {
    return error(Code::kInvalidArgument, "opset {} cannot be written; choose {} to {}", options.opset, kMinOpset, kMaxOpset);
  }
  if (options.dtype == DType::kFloat || options.dtype == DType::kFloat16) return {};
  return error(Code::kInvalidArgument, "models of dtype {} cannot be written; choose float (fp32) or float16 (fp16)",
               name_of(options.dtype));
}

Result<Config> load_config(const std::string& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    return error(Code::kNoSuchFile, "{}: is not a folder; pass a checkpoint folder with config.json and the weights", folder);
  }
  OCIOR_ASSIGN(const auto file, MappedFile::open(join(folder, "config.json")));
  return read_config({reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()}, "config.json");
}

std::vector<std::string> tokenizer_files(const std::string& folder) {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const char* name : kTokenizerFiles) {
    if (fs::is_regular_file(join(folder, name), ignored)) found.push_back(name);
  }
  return found;
}

std::vector<std::pair<std::string, std::string>> metadata_of(const Config& config, Task task) {
  std::vector<std::pair<std::string, std::string>> out{{"converter", "ocior"},
                                                       {"converter_version", std::string(kConverterVersion)},
                                                       {"model_type", config.model_type},
                                                       {"task", std::string(name_of(task))},
                                                       {"architectures", nlohmann::json(config.architectures).dump()},
                                                       {"max_position_embeddings", std::to_string(config.positions)}};
  const bool classifies = task == Task::kTextClassification || task == Task::kTokenClassification;
  if (classifies && !config.id2label.empty()) out.emplace_back("id2label", config.id2label);
  if (config.pad_token_id >= 0) out.emplace_back("pad_token_id", std::to_string(config.pad_token_id));
  return out;
}

Result<onnx::Model> build_model(const std::string& folder, const ConvertOptions& options, ConvertSummary& summary) {
  OCIOR_RETURN_IF_ERROR(check_options(options));
  OCIOR_ASSIGN(const Config config, load_config(folder));
  OCIOR_ASSIGN(const Task task, options.task.empty() ? task_of_architecture(config, "config.json") : task_named(options.task));
  OCIOR_ASSIGN(const StateDict tensors, load_state_dict(folder));
  EncoderOptions encoder{options.opset, options.dtype, task, {}};
  if (options.progress) {
    encoder.progress = [&](int64_t done, int64_t total) { return options.progress({"tensors", done, total}); };
  }
  OCIOR_ASSIGN(EncoderGraph built, build_encoder(config, tensors, encoder));
  summary = {config.model_type,
             config.architectures.empty() ? "" : config.architectures[0],
             std::string(name_of(task)),
             options.opset,
             options.dtype,
             built.graph.inputs,
             built.graph.outputs,
             built.parameters,
             0,
             std::move(built.unused),
             tokenizer_files(folder)};
  onnx::Model model{
      .ir_version = ir_version_of(options.opset), .producer_name = "ocior", .producer_version = std::string(kConverterVersion)};
  model.opset_imports = {{"", options.opset}};
  model.metadata = metadata_of(config, task);
  model.graph = std::move(built.graph);
  model.storage.assign(built.files.begin(), built.files.end());
  model.files = std::move(built.files);
  return model;
}

// Copies of the tokenizer's files that wait under temporary names until the model is written.
Result<std::vector<AtomicFile>> prepare_tokenizer(const std::string& folder, const std::string& out_path,
                                                  const std::vector<std::string>& names) {
  std::vector<AtomicFile> copies;
  const fs::path target = fs::path(out_path).parent_path();
  std::error_code ignored;
  for (const std::string& name : names) {
    const fs::path to = target / name;
    if (fs::equivalent(join(folder, name), to, ignored)) continue;
    OCIOR_ASSIGN(const auto from, MappedFile::open(join(folder, name)));
    OCIOR_ASSIGN(AtomicFile copy, AtomicFile::open(to.string()));
    OCIOR_RETURN_IF_ERROR(copy.write(from->bytes()));
    OCIOR_RETURN_IF_ERROR(copy.finish());
    copies.push_back(std::move(copy));
  }
  return copies;
}

// The size of the model's files. The tensors are in a file of their own when the model's is too small to hold them.
int64_t written_bytes(const onnx::Model& model, const std::string& out_path) {
  std::error_code failed;
  uintmax_t payload = 0;
  for (const onnx::Tensor& tensor : model.graph.initializers) payload += tensor.raw.size();
  uintmax_t bytes = fs::file_size(out_path, failed);
  if (!failed && bytes < payload) bytes += fs::file_size(out_path + ".data", failed);
  return failed ? 0 : static_cast<int64_t>(bytes);
}

Result<ConvertSummary> convert_and_write(const std::string& folder, const std::string& out_path, const ConvertOptions& options) {
  ConvertSummary summary;
  OCIOR_ASSIGN(const onnx::Model model, build_model(folder, options, summary));
  if (options.progress && !options.progress({"write", 0, 1}))
    return Status(Code::kModelLoadCanceled, "the conversion was cancelled");
  std::vector<AtomicFile> tokenizer;
  if (options.copy_tokenizer) {
    OCIOR_ASSIGN(tokenizer, prepare_tokenizer(folder, out_path, summary.tokenizer_files));
  }
  OCIOR_RETURN_IF_ERROR(onnx::write_file(model, out_path));
  for (AtomicFile& file : tokenizer) OCIOR_RETURN_IF_ERROR(file.commit());
  summary.bytes = written_bytes(model, out_path);
  return summary;
}

// Runs `work` and turns what the standard library throws (no memory, broken paths) into a Status.
template <class Work>
auto guarded(const std::string& folder, Work work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return error(Code::kFail, "{}: there is not enough memory to convert this checkpoint", folder);
  } catch (const std::exception& e) {
    return error(Code::kFail, "{}: cannot be converted: {}", folder, printable(e.what()));
  }
}

}  // namespace

Result<onnx::Model> convert_to_model(const std::string& folder, const ConvertOptions& options, ConvertSummary* summary) {
  ConvertSummary unasked;
  return guarded(folder, [&] { return build_model(folder, options, summary ? *summary : unasked); });
}

Result<ConvertSummary> convert(const std::string& folder, const std::string& out_path, const ConvertOptions& options) {
  return guarded(folder, [&] { return convert_and_write(folder, out_path, options); });
}

}  // namespace ocior::checkpoint
