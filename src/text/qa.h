// Extractive question answering before and after the model: texts to windows of tokens, logits to answers. Knows nothing of the
// engine. This is the API of the text layer for question answering. Functions without state; call them from any thread.
// Reference: the question-answering pipeline of Hugging Face transformers 5.2.0 and, for kSquad, its SQuAD metrics. Differences:
// where the pipeline panics or answers by chance, we report (question_truncated, stride_clamped, errors) or take the lowest token
// index.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/tokenizer.h"

namespace ocior::text {

struct PrepareOptions {
  std::optional<uint64_t> max_seq_len;  // tokens of a window with special tokens; none: 384 or model_max_len, whichever is less
  std::optional<uint64_t>
      doc_stride;  // context tokens shared by neighbouring windows; none: max_seq_len / 2 or 128, whichever is less
  uint64_t max_question_len = 64;         // a question is cut to this many tokens if its windows would otherwise not work
  std::optional<uint64_t> model_max_len;  // what the model can take; none: as the tokenizer's config says
};

// One input of the model: [CLS] question [SEP] part of the context [SEP], not padded. All vectors have one entry per token.
struct Window {
  std::vector<int64_t> ids;
  std::vector<int64_t> attention_mask;  // all 1
  std::vector<int64_t> type_ids;
  std::vector<Span> offsets;      // in code points of the token's own text
  std::vector<int32_t> word_ids;  // Encoding::kNoWord for special tokens
  std::vector<uint8_t> p_mask;    // 0 where an answer may begin or end: context and [CLS]
  size_t context_begin = 0;       // the window's tokens [context_begin, context_end) are context
  size_t context_end = 0;
  size_t first_context_token = 0;  // the index of the first of them in the whole context

  size_t size() const { return ids.size(); }
};

struct PreparedQuestion {
  std::string context;
  std::vector<Window> windows;      // at least one
  bool question_truncated = false;  // the question was cut to max_question_len tokens
  bool stride_clamped = false;      // doc_stride was lowered to the tokens left for the context, less one
};

// Cuts question and context into windows. kInvalidArgument if either is empty or not UTF-8, if max_seq_len exceeds what the model
// takes, if doc_stride exceeds max_seq_len, or if not one token of context fits.
Result<PreparedQuestion> prepare(const Tokenizer& tokenizer, std::string_view question, std::string_view context,
                                 const PrepareOptions& options = {});

struct AnswerOptions {
  enum class Mode {
    kPipeline,  // probabilities per window, equal answers merged by adding their scores
    kSquad,     // sums of logits, comparable between windows; token_is_max_context; scores are a softmax over the n_best
  };
  enum class Normalize {
    kWindow,  // as transformers: a softmax per window, so that merged scores may exceed 1
    kGlobal,  // one softmax over all windows: scores are at most 1 and comparable between windows
  };

  size_t top_k = 1;                       // at most this many answers; at least 1
  size_t max_answer_len = 15;             // tokens; at least 1
  bool handle_impossible_answer = false;  // the empty answer competes
  bool align_to_words = true;             // widen to whole words (kPipeline)
  Mode mode = Mode::kPipeline;
  Normalize normalize = Normalize::kWindow;  // kPipeline
  size_t n_best = 20;                        // kSquad: candidates per window and at last
  double null_threshold = 0;                 // kSquad: the empty answer wins if it beats the best span by more than this
};

struct Answer {
  std::string answer;  // context[start:end]
  size_t start = 0;    // in code points of the context
  size_t end = 0;
  double score = 0;
};

// The best answers, best first; fewer than top_k if there are fewer. Row i of the logits belongs to window i and has at least as
// many entries as it has tokens (what lies behind is padding). Of equal scores the lower start token, then end token, comes
// first; spans whose probability is 0 are left out while there is another. kInvalidArgument if a size is wrong, an option is out
// of range, or a logit is NaN or +infinity.
Result<std::vector<Answer>> answer(const PreparedQuestion& question, std::span<const std::span<const float>> start_logits,
                                   std::span<const std::span<const float>> end_logits, const AnswerOptions& options = {});

// Groups rows of the given lengths into batches so that padded tokens (rows x longest row) stay within `max_tokens` (but for a
// single row that is longer) and at most an eighth of a row is padding. Returns indices into `lengths`; every index occurs once;
// longest rows first.
std::vector<std::vector<size_t>> plan_batches(std::span<const size_t> lengths, size_t max_tokens);

// Windows side by side as model inputs of shape [rows, length], padded at the end with `pad_id`, mask 0 and type 0.
struct Batch {
  size_t rows = 0;
  size_t length = 0;
  std::vector<int64_t> ids, attention_mask, type_ids;  // row-major
};
Batch make_batch(std::span<const Window* const> windows, int64_t pad_id);

}  // namespace ocior::text
