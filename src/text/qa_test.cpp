// Question answering against cases that tests/text/make_qa_cases.py computed with numpy, and its edges by hand.
#include "text/qa.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

namespace ocior::text {
namespace {

using nlohmann::json;

const std::string kModel = std::string(OCIOR_SOURCE_DIR) + "/models/qa";

const Tokenizer& tokenizer() {
  static const Result<Tokenizer> loaded = Tokenizer::from_folder(kModel);
  if (!loaded.ok()) throw std::runtime_error(loaded.status().message());
  return *loaded;
}

// Logits of every window, with views of them.
struct Logits {
  std::vector<std::vector<float>> rows;
  std::vector<std::span<const float>> views() const { return {rows.begin(), rows.end()}; }
};

Logits all_equal(const PreparedQuestion& q, float value) {
  Logits out;
  for (const Window& w : q.windows) out.rows.emplace_back(w.size(), value);
  return out;
}

PreparedQuestion prepared(std::string_view question, std::string_view context, const PrepareOptions& options = {}) {
  Result<PreparedQuestion> out = prepare(tokenizer(), question, context, options);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? std::move(out).value() : PreparedQuestion{};
}

std::vector<Answer> answers(const PreparedQuestion& q, const Logits& start, const Logits& end,
                            const AnswerOptions& options = {}) {
  const auto out = answer(q, start.views(), end.views(), options);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? *out : std::vector<Answer>{};
}

AnswerOptions options_of(const json& run) {
  const json& o = run["options"];
  AnswerOptions out;
  out.mode = run["mode"] == "squad" ? AnswerOptions::Mode::kSquad : AnswerOptions::Mode::kPipeline;
  out.top_k = o.value("top_k", out.top_k);
  out.max_answer_len = o.value("max_answer_len", out.max_answer_len);
  out.handle_impossible_answer = o.value("handle_impossible_answer", false);
  out.align_to_words = o.value("align_to_words", true);
  out.n_best = o.value("n_best", out.n_best);
  out.null_threshold = o.value("null_threshold", 0.0);
  return out;
}

TEST(Qa, EqualsTheReference) {
  std::ifstream file(std::string(OCIOR_SOURCE_DIR) + "/tests/text/qa_cases.json");
  ASSERT_TRUE(file.good());
  const json cases = json::parse(file);
  ASSERT_GE(cases.size(), 30U);
  for (const json& c : cases) {
    SCOPED_TRACE(c["question"].get<std::string>() + " " + std::to_string(c["max_seq_len"].get<int>()));
    const PreparedQuestion q = prepared(c["question"].get<std::string>(), c["context"].get<std::string>(),
                                        {.max_seq_len = c["max_seq_len"], .doc_stride = c["doc_stride"]});
    ASSERT_EQ(q.windows.size(), c["windows"].size());
    EXPECT_FALSE(q.question_truncated || q.stride_clamped);
    for (size_t i = 0; i < q.windows.size(); ++i) {
      const json& w = c["windows"][i];
      EXPECT_EQ(q.windows[i].ids, w["ids"].get<std::vector<int64_t>>());
      EXPECT_EQ(q.windows[i].type_ids, w["type_ids"].get<std::vector<int64_t>>());
      EXPECT_EQ(q.windows[i].word_ids, w["word_ids"].get<std::vector<int32_t>>());
      EXPECT_EQ(q.windows[i].p_mask, w["p_mask"].get<std::vector<uint8_t>>());
      ASSERT_EQ(q.windows[i].offsets.size(), w["offsets"].size());
      for (size_t t = 0; t < w["offsets"].size(); ++t)
        EXPECT_EQ(q.windows[i].offsets[t], (Span{w["offsets"][t][0], w["offsets"][t][1]}));
    }
    const Logits start{c["start"].get<std::vector<std::vector<float>>>()}, end{c["end"].get<std::vector<std::vector<float>>>()};
    for (const json& run : c["runs"]) {
      SCOPED_TRACE(run["mode"].get<std::string>() + run["options"].dump());
      const std::vector<Answer> got = answers(q, start, end, options_of(run));
      ASSERT_EQ(got.size(), run["answers"].size());
      for (size_t i = 0; i < got.size(); ++i) {
        const json& want = run["answers"][i];
        EXPECT_EQ(got[i].answer, want["answer"].get<std::string>()) << i;
        EXPECT_EQ(got[i].start, want["start"].get<size_t>()) << i;
        EXPECT_EQ(got[i].end, want["end"].get<size_t>()) << i;
        EXPECT_NEAR(got[i].score, want["score"].get<double>(), 1e-6) << i;
      }
    }
  }
}

TEST(Qa, AllMassOnClsGivesTheEmptyAnswer) {
  const PreparedQuestion q = prepared("Who?", "Nobody knows.");
  Logits logits = all_equal(q, 0);
  logits.rows[0][0] = 900;
  const auto one = answers(q, logits, logits);
  ASSERT_EQ(one.size(), 1U);
  EXPECT_EQ(one[0].answer, "");
  EXPECT_EQ(one[0].end, 0U);
  EXPECT_EQ(one[0].score, 0);
  const auto with_null = answers(q, logits, logits, {.handle_impossible_answer = true});
  EXPECT_EQ(with_null[0].answer, "");
  EXPECT_EQ(with_null[0].score, 1);
}

TEST(Qa, TiesGoToTheLowestTokens) {
  const PreparedQuestion q = prepared("Who?", "Ann met Bob and Cid.");
  const Logits logits = all_equal(q, 1);
  const auto got = answers(q, logits, logits, {.top_k = 3, .align_to_words = false});
  ASSERT_EQ(got.size(), 3U);
  EXPECT_EQ(got[0].answer, "Ann");
  EXPECT_EQ(got[1].answer, "Ann met");
  EXPECT_EQ(got[2].answer, "Ann met Bob");
}

TEST(Qa, EqualTextsInTwoWindowsAddUp) {
  std::string context;
  for (int i = 0; i < 40; ++i) context += i == 20 ? "Zebra " : "the ";
  const PreparedQuestion q = prepared("What?", context, {.max_seq_len = 29, .doc_stride = 12});
  ASSERT_EQ(q.windows.size(), 3U);
  Logits logits = all_equal(q, 0);
  size_t hits = 0;
  for (size_t w = 0; w < q.windows.size(); ++w) {
    for (size_t t = q.windows[w].context_begin; t < q.windows[w].context_end; ++t) {
      if (q.windows[w].offsets[t].begin == 80) logits.rows[w][t] = 20, ++hits;
    }
  }
  ASSERT_EQ(hits, 2U);
  const auto pipeline = answers(q, logits, logits);
  EXPECT_EQ(pipeline[0].answer, "Zebra");
  EXPECT_NEAR(pipeline[0].score, 2, 1e-3);
  const auto global = answers(q, logits, logits, {.normalize = AnswerOptions::Normalize::kGlobal});
  EXPECT_EQ(global[0].answer, "Zebra");
  EXPECT_LE(global[0].score, 1);
  EXPECT_NEAR(global[0].score, 0.5, 1e-3);  // each window holds half of either mass
}

TEST(Qa, LongQuestionsAndStridesAreCutAndReported) {
  std::string question, context;
  for (int i = 0; i < 100; ++i) question += "why ";
  for (int i = 0; i < 300; ++i) context += "word ";
  const PreparedQuestion cut = prepared(question, context, {.max_seq_len = 100, .doc_stride = 20, .max_question_len = 40});
  EXPECT_TRUE(cut.question_truncated);
  EXPECT_FALSE(cut.stride_clamped);
  EXPECT_EQ(cut.windows[0].size(), 100U);
  EXPECT_EQ(cut.windows[0].context_begin, 42U);  // [CLS], 40 tokens, [SEP]
  EXPECT_EQ(cut.windows[1].first_context_token, 37U);
  EXPECT_EQ(cut.windows.back().first_context_token + cut.windows.back().context_end - cut.windows.back().context_begin, 300U);

  const PreparedQuestion clamped = prepared("why", context, {.max_seq_len = 20, .doc_stride = 16});
  EXPECT_TRUE(clamped.stride_clamped);
  EXPECT_FALSE(clamped.question_truncated);
  EXPECT_EQ(clamped.windows[1].first_context_token, 1U);

  EXPECT_FALSE(prepared(question, "short").question_truncated) << "what fits is left alone";
  const auto none = prepare(tokenizer(), question, context, {.max_seq_len = 60, .max_question_len = 64});
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.status().message().find("raise max_seq_len"), std::string::npos) << none.status().message();
}

TEST(Qa, PreparedWindowsFitExactly) {
  std::string context;
  for (int i = 0; i < 20; ++i) context += "word ";
  EXPECT_EQ(prepared("why", context, {.max_seq_len = 24, .doc_stride = 5}).windows.size(), 1U);  // 1 + 3 + 20
  EXPECT_EQ(prepared("why", context, {.max_seq_len = 23, .doc_stride = 5}).windows.size(), 2U);
  EXPECT_EQ(prepared("why", context, {.max_seq_len = 14, .doc_stride = 5}).windows.size(), 3U);  // 0-10, 5-15, 10-20
}

TEST(Qa, RefusesWhatCannotWork) {
  const auto message = [](std::string_view question, std::string_view context, const PrepareOptions& options) {
    const auto out = prepare(tokenizer(), question, context, options);
    return out.ok() ? std::string("ok") : out.status().message();
  };
  EXPECT_EQ(message("", "c", {}), "the question is empty; pass a question");
  EXPECT_EQ(message("q", "", {}), "the context is empty; pass the text that holds the answer");
  EXPECT_EQ(message("q", "c", {.max_seq_len = 513}),
            "max_seq_len is 513, but the model takes at most 512 tokens; lower max_seq_len");
  EXPECT_EQ(message("q", "c", {.max_seq_len = 20, .doc_stride = 21}),
            "doc_stride is 21, more than max_seq_len 20; lower doc_stride");
  EXPECT_NE(message("q\xff", "c", {}).find("not valid UTF-8 at byte 1"), std::string::npos);
  EXPECT_EQ(message("q", " \n ", {}), "ok");
  EXPECT_EQ(message("q", "c", {.max_seq_len = 0, .doc_stride = 0}).find("max_seq_len 0 leaves no room"), 0U);

  const PreparedQuestion q = prepared("q", "one two");
  Logits good = all_equal(q, 0), bad = good;
  const auto failure = [&](const Logits& start, const AnswerOptions& options) {
    const auto out = answer(q, start.views(), good.views(), options);
    return out.ok() ? std::string("ok") : out.status().message();
  };
  EXPECT_EQ(failure(good, {.top_k = 0}), "top_k is 0; expected 1 to 1000000");
  EXPECT_EQ(failure(good, {.max_answer_len = 0}), "max_answer_len is 0; expected at least 1 token");
  bad.rows[0][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(failure(bad, {}), "start_logits of window 0, token 2 is nan; the model's output cannot be used");
  bad.rows[0].pop_back();
  EXPECT_EQ(failure(bad, {}), "row 0 of start_logits has 5 entries; its window has 6 tokens");
  bad.rows.clear();
  EXPECT_EQ(failure(bad, {}), "start_logits has 0 rows; expected one for each of the 1 windows");
}

TEST(Qa, WhitespaceContextHasNoAnswer) {
  const PreparedQuestion q = prepared("Who?", "   ");
  ASSERT_EQ(q.windows.size(), 1U);
  const Logits logits = all_equal(q, 1);
  for (const auto mode : {AnswerOptions::Mode::kPipeline, AnswerOptions::Mode::kSquad}) {
    for (const Answer& a : answers(q, logits, logits, {.top_k = 5, .mode = mode})) EXPECT_EQ(a.answer, "");
  }
}

TEST(Qa, PaddedLogitsAreReadUpToTheWindow) {
  const PreparedQuestion q = prepared("Who?", "Ann met Bob.");
  Logits logits = all_equal(q, 0);
  logits.rows[0][q.windows[0].context_begin] = 5;
  const auto plain = answers(q, logits, logits);
  logits.rows[0].resize(64, 100);
  const auto padded = answers(q, logits, logits);
  EXPECT_EQ(plain[0].answer, padded[0].answer);
  EXPECT_EQ(plain[0].score, padded[0].score);
}

TEST(Qa, MinusInfinityIsALogit) {
  const PreparedQuestion q = prepared("Who?", "Ann met Bob.");
  const Logits logits = all_equal(q, -std::numeric_limits<float>::infinity());
  for (const auto mode : {AnswerOptions::Mode::kPipeline, AnswerOptions::Mode::kSquad}) {
    for (const Answer& a : answers(q, logits, logits, {.top_k = 5, .handle_impossible_answer = true, .mode = mode})) {
      EXPECT_TRUE(a.score >= 0 && a.score <= 1) << a.score;
    }
  }
}

TEST(PlanBatches, GroupsByLengthWithinTheBudget) {
  std::vector<size_t> lengths;
  for (size_t i = 0; i < 500; ++i) lengths.push_back(1 + i * 7919 % 384);
  lengths.push_back(5000);
  const auto plan = plan_batches(lengths, 2048);
  std::vector<int> seen(lengths.size());
  size_t real = 0, padded = 0;
  for (const auto& batch : plan) {
    ASSERT_FALSE(batch.empty());
    size_t longest = 0;
    for (size_t i : batch) ++seen[i], longest = std::max(longest, lengths[i]), real += lengths[i];
    EXPECT_TRUE(batch.size() == 1 || longest * batch.size() <= 2048);
    padded += longest * batch.size();
  }
  EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
  EXPECT_LT(padded, real + real / 8);
  EXPECT_EQ(plan[0], std::vector<size_t>{500});
  EXPECT_TRUE(plan_batches({}, 100).empty());
  EXPECT_EQ(plan_batches(std::vector<size_t>{0, 0}, 0).size(), 2U);
}

TEST(MakeBatch, PadsRows) {
  const PreparedQuestion a = prepared("Who?", "Ann."), b = prepared("Who?", "Ann met Bob.");
  const Window* rows[] = {&a.windows[0], &b.windows[0]};
  const Batch batch = make_batch(rows, 7);
  EXPECT_EQ(batch.rows, 2U);
  EXPECT_EQ(batch.length, b.windows[0].size());
  EXPECT_EQ(batch.ids[batch.length - 1], 7);
  EXPECT_EQ(batch.attention_mask[batch.length - 1], 0);
  EXPECT_EQ(std::accumulate(batch.attention_mask.begin(), batch.attention_mask.end(), int64_t{0}),
            static_cast<int64_t>(a.windows[0].size() + b.windows[0].size()));
  EXPECT_TRUE(
      std::equal(b.windows[0].ids.begin(), b.windows[0].ids.end(), batch.ids.begin() + static_cast<ptrdiff_t>(batch.length)));
}

}  // namespace
}  // namespace ocior::text
