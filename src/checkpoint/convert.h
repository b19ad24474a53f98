// A checkpoint folder of Hugging Face Transformers becomes an ONNX model, without Python and without running anything of the
// checkpoint. Called by the command line, the bindings and tests; plain functions, thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ocior/dtype.h"
#include "ocior/status.h"
#include "onnx/model.h"

namespace ocior::checkpoint {

struct ConvertProgress {
  std::string_view stage;       // "tensors", then "write"
  int64_t done = 0, total = 0;  // tensors converted, of those in the checkpoint; 0 of 1 before writing
};

struct ConvertOptions {
  int opset = 17;  // 11 to 23
  // "" takes the task of config.json's architecture; otherwise question-answering, text-classification (sequence-classification),
  // token-classification, fill-mask, feature-extraction, or pre-training (ELECTRA's discriminator).
  std::string task;
  // kFloat or kFloat16: weights and computation. Inputs stay int64 and outputs float.
  DType dtype = DType::kFloat;
  bool copy_tokenizer = false;                           // copy the tokenizer's files beside the model
  std::function<bool(const ConvertProgress&)> progress;  // false cancels; may be empty
};

struct ConvertSummary {
  std::string model_type, architecture, task;
  int opset = 0;
  DType dtype = DType::kFloat;
  std::vector<onnx::ValueInfo> inputs, outputs;
  int64_t parameters = 0;                    // elements of the tensors in the model
  int64_t bytes = 0;                         // of the files written; 0 when none were
  std::vector<std::string> unused;           // tensors of the checkpoint that the model does not need
  std::vector<std::string> tokenizer_files;  // file names found in the folder
};

// Converts `folder` (config.json and weights, see load_state_dict) in memory. The model keeps the checkpoint's files mapped where
// its weights are theirs unchanged. Families: bert, distilbert, electra. Errors: a missing or damaged file, an unsupported
// architecture, a tensor that is missing or of another shape than config.json says; kModelLoadCanceled when `progress` said so.
Result<onnx::Model> convert_to_model(const std::string& folder, const ConvertOptions& options, ConvertSummary* summary = nullptr);

// The same, written to `out_path` (and `out_path`.data above 2 GiB). On failure nothing is left behind.
Result<ConvertSummary> convert(const std::string& folder, const std::string& out_path, const ConvertOptions& options = {});

}  // namespace ocior::checkpoint
