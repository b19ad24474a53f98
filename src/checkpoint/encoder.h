// Builds the ONNX graph of a BERT, DistilBERT or ELECTRA encoder with one task's head from a checkpoint's tensors.
// Called by convert.cpp; one owner, one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/state_dict.h"
#include "ocior/status.h"
#include "onnx/model.h"

namespace ocior::checkpoint {

struct EncoderOptions {
  int opset = 17;
  DType compute = DType::kFloat;  // or kFloat16
  Task task = Task::kFeatureExtraction;
  std::function<bool(int64_t done, int64_t total)> progress;  // tensors converted; false cancels; may be empty
};

struct EncoderGraph {
  onnx::Graph graph;
  std::vector<std::shared_ptr<const MappedFile>> files;  // that initializers point into
  int64_t parameters = 0;                                // elements of the tensors used
  std::vector<std::string> unused;                       // tensors of the checkpoint that the task does not need
};

// Inputs: int64 input_ids, attention_mask and, for families with token types, token_type_ids, each [batch_size, sequence_length].
// Outputs, float: start_logits and end_logits, or logits, or last_hidden_state (and pooler_output where the checkpoint has a
// pooler). Errors: a tensor that is missing or has another shape than the config says (both are named); kModelLoadCanceled when
// cancelled.
Result<EncoderGraph> build_encoder(const Config& config, const StateDict& tensors, const EncoderOptions& options);

}  // namespace ocior::checkpoint
