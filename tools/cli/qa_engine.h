// Questions to answers: a session, its tokenizer, and the batching of windows between them. Used by `ask` and `chat`.
// Made once, then const; one thread at a time (the session spreads each run over its threads).
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ocior/session.h"
#include "text/qa.h"

namespace ocior::cli {

class QaEngine {
 public:
  // `model`: an ONNX file with the tokenizer's files beside it, a checkpoint folder, or "" for the model that comes with Ocior.
  // kInvalidArgument when the model's inputs and outputs are not those of question answering.
  static Result<QaEngine> open(const std::string& model, const SessionOptions& options);

  // Cuts one question into windows that the model takes.
  Result<text::PreparedQuestion> prepare(std::string_view question, std::string_view context, text::PrepareOptions options) const;

  // Called with the index of a question and its answers, best first.
  using Done = std::function<Status(size_t, std::vector<text::Answer>)>;

  // Runs the windows of all questions in batches of similar length; calls `done` in the order of the questions, as soon as may
  // be.
  Status answer(std::span<const text::PreparedQuestion> questions, const text::AnswerOptions& options, const Done& done,
                RunOptions* run) const;

 private:
  struct Input {
    enum class Role { kIds, kMask, kTypes, kPositions } role;
    std::string name;
    DType dtype;
  };

  QaEngine(Session session, text::Tokenizer tokenizer) : session_(std::move(session)), tokenizer_(std::move(tokenizer)) {}
  Status find_inputs();
  Status find_outputs();
  Result<std::vector<Value>> feed(const text::Batch& batch) const;
  Result<std::vector<std::vector<float>>> run(const text::Batch& batch, RunOptions* options) const;
  std::vector<std::vector<size_t>> batches(std::span<const size_t> lengths) const;

  Session session_;
  text::Tokenizer tokenizer_;
  std::vector<Input> inputs_;
  std::vector<std::string> outputs_;  // start logits, end logits
  int64_t rows_ = -1, length_ = -1;   // of a model that takes one shape only
  int64_t pad_id_ = 0;
};

}  // namespace ocior::cli
