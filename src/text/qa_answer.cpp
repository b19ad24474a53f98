// Logits to answers: the pipeline's way (per-window probabilities) and SQuAD's (sums of logits). See qa.h.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "text/qa.h"
#include "text/unicode.h"

namespace ocior::text {
namespace {

using Logits = std::span<const std::span<const float>>;

constexpr size_t kMaxTopK = 1'000'000;
constexpr double kNoNullScore = 1e6;

struct Candidate {
  size_t start, end;  // tokens of the window, both included
  float score;
};

// What start and end probabilities of a window are divided by: exp(x - max) / sum.
struct Scale {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
};

constexpr float kMaskedLogit = -10000.0F;

float masked(const Window& w, std::span<const float> logits, size_t i) { return w.p_mask[i] ? kMaskedLogit : logits[i]; }

float max_logit(const Window& w, std::span<const float> logits) {
  float max = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < w.size(); ++i) max = std::max(max, masked(w, logits, i));
  return max;
}

double sum_exp(const Window& w, std::span<const float> logits, float max) {
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i) sum += std::exp(masked(w, logits, i) - max);
  return sum;
}

std::vector<float> probabilities(const Window& w, std::span<const float> logits, Scale scale) {
  std::vector<float> out(w.size());
  for (size_t i = 0; i < w.size(); ++i) out[i] = std::exp(masked(w, logits, i) - scale.max) / scale.sum;
  return out;
}

std::vector<Scale> scales(const std::vector<Window>& windows, Logits logits, AnswerOptions::Normalize normalize) {
  std::vector<Scale> out;
  Scale all;
  for (size_t i = 0; i < windows.size(); ++i) {
    out.push_back({.max = max_logit(windows[i], logits[i])});
    all.max = std::max(all.max, out[i].max);
  }
  double total = 0;
  for (size_t i = 0; i < windows.size(); ++i) {
    if (normalize == AnswerOptions::Normalize::kGlobal) out[i].max = all.max;
    const double sum = sum_exp(windows[i], logits[i], out[i].max);
    out[i].sum = static_cast<float>(sum);
    total += sum;
  }
  if (normalize == AnswerOptions::Normalize::kGlobal) {
    for (Scale& s : out) s.sum = static_cast<float>(total);
  }
  return out;
}

// The k best spans of at most max_len tokens, best first; of equal scores the one with the lower start, then end. Spans that
// score 0 are left out, but for the first one if there is no other.
std::vector<Candidate> best_spans(const std::vector<float>& start, const std::vector<float>& end, size_t k, size_t max_len) {
  const auto better = [](const Candidate& a, const Candidate& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.start != b.start ? a.start < b.start : a.end < b.end;
  };
  std::vector<Candidate> heap;  // the worst one on top
  for (size_t s = 0; s < start.size(); ++s) {
    const size_t stop = max_len < end.size() - s ? s + max_len : end.size();
    for (size_t e = s; e < stop; ++e) {
      const Candidate c{s, e, start[s] * end[e]};
      if (c.score == 0 && !heap.empty()) continue;
      if (heap.size() == k) {
        if (!better(c, heap.front())) continue;
        std::pop_heap(heap.begin(), heap.end(), better);
        heap.pop_back();
      }
      heap.push_back(c);
      std::push_heap(heap.begin(), heap.end(), better);
    }
  }
  std::sort_heap(heap.begin(), heap.end(), better);
  if (heap.size() > 1 && heap.back().score == 0) heap.pop_back();
  return heap;
}

// The first and last token of word `word` within the window's context, if it has any.
std::optional<std::pair<size_t, size_t>> word_tokens(const Window& w, int32_t word) {
  const auto begin = w.word_ids.begin() + static_cast<ptrdiff_t>(w.context_begin),
             end = w.word_ids.begin() + static_cast<ptrdiff_t>(w.context_end);
  const auto [first, last] = std::equal_range(begin, end, word);  // word ids ascend within the context
  if (first == last) return std::nullopt;
  return std::pair(static_cast<size_t>(first - w.word_ids.begin()), static_cast<size_t>(last - w.word_ids.begin()) - 1);
}

// The characters of the context that tokens [c.start, c.end] cover.
Span characters(const Window& w, const Candidate& c, bool align_to_words) {
  if (align_to_words) {
    const auto first = word_tokens(w, w.word_ids[c.start]), last = word_tokens(w, w.word_ids[c.end]);
    if (first && last) return {w.offsets[first->first].begin, w.offsets[last->second].end};
  }
  return {w.offsets[c.start].begin, w.offsets[c.end].end};
}

std::string text_of(std::u32string_view context, Span span) {
  const size_t begin = std::min<size_t>(span.begin, context.size()), end = std::min<size_t>(span.end, context.size());
  return begin < end ? to_utf8(context.substr(begin, end - begin)) : std::string();
}

// Equal for answers that differ in case only. Both lower-case sigmas count as one, so that it does not depend on the letter's
// place.
std::string merge_key(std::string_view text) {
  std::u32string chars;
  if (!decode_utf8(text, chars).ok()) return std::string(text);
  chars = lower(chars);
  std::replace(chars.begin(), chars.end(), U'\u03C2', U'\u03C3');
  return to_utf8(chars);
}

class Pipeline {
 public:
  Pipeline(const PreparedQuestion& question, std::u32string_view context, const AnswerOptions& options)
      : question_(question), context_(context), options_(options) {}

  std::vector<Answer> run(Logits start_logits, Logits end_logits) {
    const std::vector<Window>& windows = question_.windows;
    const std::vector<Scale> start_scales = scales(windows, start_logits, options_.normalize);
    const std::vector<Scale> end_scales = scales(windows, end_logits, options_.normalize);
    const size_t k = options_.align_to_words ? 2 * options_.top_k + 10 : options_.top_k;
    double null_score = kNoNullScore;
    for (size_t i = 0; i < windows.size(); ++i) {
      const Window& w = windows[i];
      std::vector<float> start = probabilities(w, start_logits[i], start_scales[i]),
                         end = probabilities(w, end_logits[i], end_scales[i]);
      null_score = std::min(null_score, static_cast<double>(start[0] * end[0]));
      start[0] = end[0] = 0;
      for (const Candidate& c : best_spans(start, end, k, options_.max_answer_len)) {
        if (!w.p_mask[c.start] && !w.p_mask[c.end]) add(characters(w, c, options_.align_to_words), c.score);
      }
    }
    if (options_.handle_impossible_answer) answers_.push_back({.score = null_score});
    std::stable_sort(answers_.begin(), answers_.end(), [](const Answer& a, const Answer& b) { return a.score > b.score; });
    if (answers_.size() > options_.top_k) answers_.resize(options_.top_k);
    return std::move(answers_);
  }

 private:
  // A new answer, or more score for the one with the same text.
  void add(Span span, float score) {
    std::string text = text_of(context_, span);
    const auto [at, is_new] = known_.try_emplace(merge_key(text), answers_.size());
    if (is_new) {
      answers_.push_back({std::move(text), span.begin, span.end, score});
    } else {
      answers_[at->second].score += score;
    }
  }

  const PreparedQuestion& question_;
  std::u32string_view context_;
  const AnswerOptions& options_;
  std::vector<Answer> answers_;
  std::unordered_map<std::string, size_t> known_;
};

class Squad {
 public:
  Squad(const PreparedQuestion& question, std::u32string_view context, const AnswerOptions& options)
      : question_(question), context_(context), options_(options) {}

  std::vector<Answer> run(Logits start_logits, Logits end_logits) {
    const std::vector<size_t> owner = best_windows();
    std::vector<Scored> spans;
    double null_score = kNoNullScore;
    for (size_t i = 0; i < question_.windows.size(); ++i) {
      collect(question_.windows[i], i, owner, start_logits[i], end_logits[i], spans);
      null_score = std::min(null_score, static_cast<double>(start_logits[i][0]) + end_logits[i][0]);
    }
    if (options_.handle_impossible_answer) spans.push_back({{0, 0}, null_score, true});
    std::stable_sort(spans.begin(), spans.end(), [](const Scored& a, const Scored& b) { return a.score > b.score; });
    return rank(spans, null_score);
  }

 private:
  struct Scored {
    Span span;
    double score;
    bool null;
  };

  // For every token of the context the window in which it has most context on its poorer side (token_is_max_context).
  std::vector<size_t> best_windows() const {
    std::vector<size_t> owner;
    std::vector<double> best;
    for (size_t i = 0; i < question_.windows.size(); ++i) {
      const Window& w = question_.windows[i];
      const size_t length = w.context_end - w.context_begin, first = w.first_context_token;
      owner.resize(std::max(owner.size(), first + length), 0);
      best.resize(owner.size(), -1);
      for (size_t t = 0; t < length; ++t) {
        constexpr double kPerToken = 0.01;
        const double score = static_cast<double>(std::min(t, length - 1 - t)) + kPerToken * static_cast<double>(length);
        if (score <= best[first + t]) continue;
        best[first + t] = score;
        owner[first + t] = i;
      }
    }
    return owner;
  }

  std::vector<size_t> best_indices(std::span<const float> logits, size_t size) const {
    std::vector<size_t> out(size);
    for (size_t i = 0; i < size; ++i) out[i] = i;
    std::stable_sort(out.begin(), out.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
    out.resize(std::min(size, options_.n_best));
    return out;
  }

  void collect(const Window& w, size_t index, const std::vector<size_t>& owner, std::span<const float> start,
               std::span<const float> end, std::vector<Scored>& out) const {
    const auto in_context = [&](size_t t) { return t >= w.context_begin && t < w.context_end; };
    const std::vector<size_t> ends = best_indices(end, w.size());
    for (size_t s : best_indices(start, w.size())) {
      if (!in_context(s) || owner[w.first_context_token + s - w.context_begin] != index) continue;
      for (size_t e : ends) {
        if (!in_context(e) || e < s || e - s >= options_.max_answer_len) continue;
        out.push_back({{w.offsets[s].begin, w.offsets[e].end}, static_cast<double>(start[s]) + end[e], false});
      }
    }
  }

  // The n best different texts with a softmax over their scores; the prediction comes first.
  std::vector<Answer> rank(const std::vector<Scored>& spans, double null_score) const {
    std::vector<Answer> best;
    std::unordered_set<std::string> seen;
    for (const Scored& s : spans) {
      if (best.size() >= options_.n_best) break;
      std::string text = s.null ? std::string() : text_of(context_, s.span);
      if (!seen.insert(text).second && !s.null) continue;
      best.push_back({std::move(text), s.span.begin, s.span.end, s.score});
    }
    if (options_.handle_impossible_answer && !seen.contains("")) best.push_back({.score = null_score});
    const auto span = std::find_if(best.begin(), best.end(), [](const Answer& a) { return !a.answer.empty(); });
    auto chosen = best.begin();
    if (options_.handle_impossible_answer && span != best.end()) {
      const auto null = std::find_if(best.begin(), best.end(), [](const Answer& a) { return a.answer.empty(); });
      chosen = null_score - span->score > options_.null_threshold ? null : span;
    }
    if (chosen != best.end()) std::rotate(best.begin(), chosen, chosen + 1);
    softmax(best);
    if (best.size() > options_.top_k) best.resize(options_.top_k);
    return best;
  }

  static void softmax(std::vector<Answer>& answers) {
    double max = -std::numeric_limits<double>::infinity(), sum = 0;
    for (const Answer& a : answers) max = std::max(max, a.score);
    if (std::isinf(max)) max = 0;  // all spans impossible: all scores become 0
    for (Answer& a : answers) sum += a.score = std::exp(a.score - max);
    if (sum == 0) return;
    for (Answer& a : answers) a.score /= sum;
  }

  const PreparedQuestion& question_;
  std::u32string_view context_;
  const AnswerOptions& options_;
};

Status check(const PreparedQuestion& question, Logits logits, std::string_view name) {
  if (logits.size() != question.windows.size()) {
    return error(Code::kInvalidArgument, "{} has {} rows; expected one for each of the {} windows", name, logits.size(),
                 question.windows.size());
  }
  for (size_t i = 0; i < logits.size(); ++i) {
    const size_t n = question.windows[i].size();
    if (n == 0 || logits[i].size() < n) {
      return error(Code::kInvalidArgument, "row {} of {} has {} entries; its window has {} tokens", i, name, logits[i].size(), n);
    }
    for (size_t t = 0; t < n; ++t) {
      if (std::isnan(logits[i][t]) || logits[i][t] == std::numeric_limits<float>::infinity()) {
        return error(Code::kInvalidArgument, "{} of window {}, token {} is {}; the model's output cannot be used", name, i, t,
                     logits[i][t]);
      }
    }
  }
  return {};
}

}  // namespace

Result<std::vector<Answer>> answer(const PreparedQuestion& question, Logits start_logits, Logits end_logits,
                                   const AnswerOptions& options) {
  if (options.top_k < 1 || options.top_k > kMaxTopK) {
    return error(Code::kInvalidArgument, "top_k is {}; expected 1 to {}", options.top_k, kMaxTopK);
  }
  if (options.max_answer_len < 1) return error(Code::kInvalidArgument, "max_answer_len is 0; expected at least 1 token");
  OCIOR_RETURN_IF_ERROR(check(question, start_logits, "start_logits"));
  OCIOR_RETURN_IF_ERROR(check(question, end_logits, "end_logits"));
  std::u32string context;
  OCIOR_RETURN_IF_ERROR(decode_utf8(question.context, context));
  if (options.mode == AnswerOptions::Mode::kSquad) return Squad(question, context, options).run(start_logits, end_logits);
  return Pipeline(question, context, options).run(start_logits, end_logits);
}

}  // namespace ocior::text
