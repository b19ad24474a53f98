// Windows over a question and a context, and batches of windows. See qa.h.
#include <algorithm>
#include <numeric>

#include "text/qa.h"

namespace ocior::text {
namespace {

constexpr uint64_t kDefaultMaxSeqLen = 384, kDefaultStride = 128;

struct Lengths {
  uint64_t max_seq_len, stride;
};

Result<Lengths> lengths_of(const Tokenizer& tokenizer, const PrepareOptions& options) {
  const auto model_max = options.model_max_len ? options.model_max_len : tokenizer.config().model_max_length;
  Lengths out{};
  out.max_seq_len = options.max_seq_len.value_or(std::min(kDefaultMaxSeqLen, model_max.value_or(kDefaultMaxSeqLen)));
  if (model_max && out.max_seq_len > *model_max) {
    return error(Code::kInvalidArgument, "max_seq_len is {}, but the model takes at most {} tokens; lower max_seq_len",
                 out.max_seq_len, *model_max);
  }
  out.stride = options.doc_stride.value_or(std::min(out.max_seq_len / 2, kDefaultStride));
  if (out.stride > out.max_seq_len) {
    return error(Code::kInvalidArgument, "doc_stride is {}, more than max_seq_len {}; lower doc_stride", out.stride,
                 out.max_seq_len);
  }
  return out;
}

// Cuts windows from the encoding of question and context together.
class WindowMaker {
 public:
  WindowMaker(const Encoding& all, std::optional<uint32_t> cls) : all_(all), cls_(cls) {}

  Status make(const Lengths& lengths, const PrepareOptions& options, PreparedQuestion& out) {
    if (!all_.sequence_ranges[0] || !all_.sequence_ranges[1] || all_.sequence_ranges[0]->end > all_.sequence_ranges[1]->begin) {
      return error(Code::kNotImplemented,
                   "the tokenizer's post_processor does not put the question before the context; question answering needs that");
    }
    question_ = *all_.sequence_ranges[0];
    context_ = *all_.sequence_ranges[1];
    const uint64_t context = context_.end - context_.begin, question = question_.end - question_.begin;
    const uint64_t specials = all_.size() - context - question;
    uint64_t stride = lengths.stride;
    const auto room = [&](uint64_t kept) {
      return lengths.max_seq_len > specials + kept ? lengths.max_seq_len - specials - kept : 0;
    };
    uint64_t available = room(question);
    if (context > available && available <= stride && question > options.max_question_len) {
      question_.end = question_.begin + options.max_question_len;
      cut_ = question - options.max_question_len;
      available = room(options.max_question_len);
      out.question_truncated = true;
    }
    if (context > 0 && available == 0) {
      return error(Code::kInvalidArgument,
                   "max_seq_len {} leaves no room for the context beside {} special tokens and {} tokens of the question; raise "
                   "max_seq_len or "
                   "lower max_question_len",
                   lengths.max_seq_len, specials, question - cut_);
    }
    if (context > available && stride >= available) {
      stride = available - 1;
      out.stride_clamped = true;
    }
    return cut(available, stride, out);
  }

 private:
  Status cut(uint64_t available, uint64_t stride, PreparedQuestion& out) const {
    const uint64_t context = context_.end - context_.begin, step = available > stride ? available - stride : 1;
    const uint64_t count = context > available ? (context - available + step - 1) / step + 1 : 1;
    if (count > kMaxTokens / (all_.size() - context + available + 1)) {
      return error(Code::kInvalidArgument,
                   "question and context need {} windows, which hold more than {} tokens; lower doc_stride", count, kMaxTokens);
    }
    for (uint64_t i = 0; i < count; ++i) out.windows.push_back(window(i * step, std::min(i * step + available, context)));
    return {};
  }

  // The window over context tokens [begin, end).
  Window window(size_t begin, size_t end) const {
    Window w;
    append(w, 0, question_.end);
    append(w, question_.end + cut_, context_.begin);
    w.context_begin = w.size();
    append(w, context_.begin + begin, context_.begin + end);
    w.context_end = w.size();
    append(w, context_.end, all_.size());
    w.first_context_token = begin;
    w.attention_mask.assign(w.size(), 1);
    w.p_mask.assign(w.size(), 1);
    for (size_t i = 0; i < w.size(); ++i) {
      if ((i >= w.context_begin && i < w.context_end) || (cls_ && w.ids[i] == *cls_)) w.p_mask[i] = 0;
    }
    return w;
  }

  void append(Window& w, size_t begin, size_t end) const {
    const auto add = [&](auto& to, const auto& from) {
      to.insert(to.end(), from.begin() + static_cast<ptrdiff_t>(begin), from.begin() + static_cast<ptrdiff_t>(end));
    };
    add(w.ids, all_.ids);
    add(w.type_ids, all_.type_ids);
    add(w.offsets, all_.offsets);
    add(w.word_ids, all_.word_ids);
  }

  const Encoding& all_;
  std::optional<uint32_t> cls_;
  Encoding::Range question_, context_;  // tokens of all_; the question ends where it is cut
  size_t cut_ = 0;                      // tokens of the question that are left out
};

}  // namespace

Result<PreparedQuestion> prepare(const Tokenizer& tokenizer, std::string_view question, std::string_view context,
                                 const PrepareOptions& options) {
  if (question.empty()) return error(Code::kInvalidArgument, "the question is empty; pass a question");
  if (context.empty()) return error(Code::kInvalidArgument, "the context is empty; pass the text that holds the answer");
  OCIOR_ASSIGN(const Lengths lengths, lengths_of(tokenizer, options));
  OCIOR_ASSIGN(const Encoding all, tokenizer.encode(question, context, EncodeOptions{.with_tokens = false}));
  PreparedQuestion out;
  OCIOR_RETURN_IF_ERROR(WindowMaker(all, tokenizer.special_ids().cls).make(lengths, options, out));
  out.context = context;
  return out;
}

std::vector<std::vector<size_t>> plan_batches(std::span<const size_t> lengths, size_t max_tokens) {
  constexpr size_t kWaste = 8;  // a row may be shorter than the longest of its batch by this fraction
  std::vector<size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lengths[a] > lengths[b]; });
  std::vector<std::vector<size_t>> out;
  for (size_t i : order) {
    const size_t longest = out.empty() ? 0 : lengths[out.back()[0]];
    if (out.empty() || lengths[i] < longest - longest / kWaste ||
        out.back().size() + 1 > max_tokens / std::max<size_t>(longest, 1)) {
      out.emplace_back();
    }
    out.back().push_back(i);
  }
  return out;
}

Batch make_batch(std::span<const Window* const> windows, int64_t pad_id) {
  Batch out{.rows = windows.size()};
  for (const Window* w : windows) out.length = std::max(out.length, w->size());
  out.ids.assign(out.rows * out.length, pad_id);
  out.attention_mask.assign(out.rows * out.length, 0);
  out.type_ids.assign(out.rows * out.length, 0);
  for (size_t r = 0; r < out.rows; ++r) {
    const auto at = static_cast<ptrdiff_t>(r * out.length);
    std::copy(windows[r]->ids.begin(), windows[r]->ids.end(), out.ids.begin() + at);
    std::copy(windows[r]->attention_mask.begin(), windows[r]->attention_mask.end(), out.attention_mask.begin() + at);
    std::copy(windows[r]->type_ids.begin(), windows[r]->type_ids.end(), out.type_ids.begin() + at);
  }
  return out;
}

}  // namespace ocior::text
