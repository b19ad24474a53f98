// Damaged and hostile tokenizer.json and vocab.txt files: each is used or refused with a sentence, never a crash or a hang.
// OCIOR_MUTANTS sets how many of each kind are tried (1000 without it); a failing one is named by its number.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>

#include "text/qa.h"
#include "text/tokenizer.h"

namespace ocior::text {
namespace {

using nlohmann::json;

uint32_t mutants() {
  const char* wanted = std::getenv("OCIOR_MUTANTS");
  return wanted && *wanted ? static_cast<uint32_t>(std::max(1, std::atoi(wanted))) : 1000;
}

std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

const std::string kModel = std::string(OCIOR_SOURCE_DIR) + "/models/qa";

// The model's file with every kind of part, and a vocabulary small enough to load thousands of times.
json seed_file() {
  json file = json::parse(slurp(kModel + "/tokenizer.json"));
  json vocab = json::object();
  uint32_t id = 0;
  for (const char* token :
       {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "un", "##aff", "##able", "a", "b", "##b", "é", "漢", ".", "##."})
    vocab[token] = id++;
  file["model"]["vocab"] = vocab;
  file["normalizer"] = {{"type", "Sequence"},
                        {"normalizers",
                         {file["normalizer"],
                          {{"type", "NFKC"}},
                          {{"type", "Replace"}, {"pattern", {{"String", "x"}}}, {"content", "yz"}},
                          {{"type", "Prepend"}, {"prepend", "q"}},
                          {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}}}}};
  file["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers",
                            {{{"type", "BertPreTokenizer"}},
                             {{"type", "Digits"}, {"individual_digits", true}},
                             {{"type", "Punctuation"}, {"behavior", "MergedWithNext"}}}}};
  file["truncation"] = {{"direction", "Left"}, {"max_length", 8}, {"stride", 2}, {"strategy", "LongestFirst"}};
  file["padding"] = {
      {"strategy", {{"Fixed", 12}}}, {"direction", "Left"}, {"pad_to_multiple_of", 4}, {"pad_id", 0}, {"pad_type_id", 0},
      {"pad_token", "[PAD]"}};
  return file;
}

// Whether the encoding is consistent; what a crash would otherwise hide.
void expect_consistent(const Encoding& e, size_t length) {
  const size_t n = e.size();
  ASSERT_TRUE(e.type_ids.size() == n && e.tokens.size() == n && e.offsets.size() == n && e.word_ids.size() == n &&
              e.special_tokens_mask.size() == n && e.attention_mask.size() == n && e.sequence_ids().size() == n);
  for (const Span& s : e.offsets) ASSERT_TRUE(s.begin <= s.end && s.end <= length) << s.begin << " " << s.end;
  for (const Encoding& o : e.overflowing) expect_consistent(o, length);
}

void use(const Tokenizer& tokenizer) {
  const std::string text = "The [MASK] unaffable 漢é\u0301 ab12. xx  \u0000 b", other = "a b a b a b a b the";
  for (const auto& pair : {std::optional<std::string_view>(), std::optional<std::string_view>(other)}) {
    const auto e = tokenizer.encode(text, pair);
    if (e.ok()) {
      expect_consistent(*e, std::max(text.size(), other.size()));
      (void)tokenizer.decode(e->ids, false);
    }
  }
  const auto question = prepare(tokenizer, other, text, {.max_seq_len = 16, .doc_stride = 3});
  if (!question.ok()) return;
  std::vector<std::vector<float>> logits;
  for (const Window& w : question->windows) logits.emplace_back(w.size(), 0.5F);
  const std::vector<std::span<const float>> views(logits.begin(), logits.end());
  (void)answer(*question, views, views, {.top_k = 3, .handle_impossible_answer = true});
}

void load_and_use(const std::string& text, bool vocab) {
  const auto tokenizer = vocab ? Tokenizer::from_vocab(text) : Tokenizer::from_json(text);
  if (tokenizer.ok()) {
    use(*tokenizer);
  } else {
    EXPECT_GT(tokenizer.status().message().size(), 15U);
    EXPECT_LT(tokenizer.status().message().size(), 1000U);
  }
}

// Damages bytes: flips, cuts, deletions, repetitions.
std::string damaged(const std::string& seed, std::mt19937& rng) {
  std::string out = seed;
  for (uint32_t i = 0, n = 1 + rng() % 4; i < n && !out.empty(); ++i) {
    const size_t at = rng() % out.size(), length = std::min<size_t>(1 + rng() % 40, out.size() - at);
    switch (rng() % 5) {
      case 0: out[at] = static_cast<char>(out[at] ^ (1 << rng() % 8)); break;
      case 1: out[at] = static_cast<char>(rng()); break;
      case 2: out.erase(at, length); break;
      case 3: out.insert(at, out.substr(rng() % out.size(), length)); break;
      default: out.resize(rng() % 3 ? out.size() : at); break;
    }
  }
  return out;
}

json hostile_value(std::mt19937& rng) {
  switch (rng() % 12) {
    case 0: return nullptr;
    case 1: return -1;
    case 2: return UINT64_MAX;
    case 3: return 4294967295U;
    case 4: return 1e300;
    case 5: return "";
    case 6: return std::string(3000, 'x');
    case 7: return json::array();
    case 8: return json::object();
    case 9: return rng() % 2 == 0;
    case 10: return static_cast<uint32_t>(rng() % 20);
    default: {
      static const char* const kWords[] = {"Sequence", "NFD", "Whitespace", "Left",         "OnlySecond", "OnlyFirst",
                                           "A",        "B",   "[CLS]",      "BatchLongest", "Contiguous"};
      return kWords[rng() % std::size(kWords)];
    }
  }
}

// Replaces, removes, duplicates or wraps random members anywhere in the file.
json rewritten(json file, std::mt19937& rng) {
  for (uint32_t i = 0, n = 1 + rng() % 3; i < n; ++i) {
    json* at = &file;
    while (at->is_structured() && !at->empty() && (at == &file || rng() % 4)) {
      auto it = at->begin();
      std::advance(it, rng() % at->size());
      at = &*it;
    }
    switch (rng() % 4) {
      case 0: *at = json::array({*at, *at}); break;
      case 1: *at = {{"type", "Sequence"}, {rng() % 2 ? "normalizers" : "processors", json::array({*at, *at})}}; break;
      default: *at = hostile_value(rng); break;
    }
  }
  return file;
}

TEST(Mutation, DamagedTokenizerJson) {
  const std::string seed = seed_file().dump(1);
  ASSERT_TRUE(Tokenizer::from_json(seed).ok()) << Tokenizer::from_json(seed).status().message();
  for (uint32_t i = 0, n = mutants(); i < n; ++i) {
    SCOPED_TRACE(i);
    std::mt19937 rng(i);
    load_and_use(damaged(seed, rng), false);
  }
}

TEST(Mutation, HostileTokenizerJson) {
  const json seed = seed_file();
  uint32_t good = 0;
  for (uint32_t i = 0, n = mutants(); i < n; ++i) {
    SCOPED_TRACE(i);
    std::mt19937 rng(i);
    const std::string text = rewritten(seed, rng).dump();
    load_and_use(text, false);
    good += Tokenizer::from_json(text).ok();
  }
  EXPECT_GT(good, mutants() / 50);  // or the mutants test too little
  EXPECT_LT(good, mutants() - mutants() / 4);
}

TEST(Mutation, DamagedVocabTxt) {
  const std::string seed = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nun\n##aff\n##able\na\nb\n##b\n漢\n.\n\n \nthe\n";
  ASSERT_TRUE(Tokenizer::from_vocab(seed).ok());
  for (uint32_t i = 0, n = mutants(); i < n; ++i) {
    SCOPED_TRACE(i);
    std::mt19937 rng(i);
    load_and_use(damaged(seed, rng), true);
  }
}

TEST(Mutation, TruncatedTokenizerJson) {
  const std::string seed = seed_file().dump();
  for (size_t i = 0; i < seed.size(); i += 7) EXPECT_FALSE(Tokenizer::from_json(seed.substr(0, i)).ok()) << i;
}

// Inputs whose cost must stay linear: long keys that share prefixes, many repeats, long runs of marks, words that almost match.
TEST(Mutation, HostileSizesStayFast) {
  json file = seed_file();
  file["truncation"] = file["padding"] = nullptr;
  file["normalizer"] = {{"type", "NFC"}};
  file["model"]["max_input_chars_per_word"] = UINT64_MAX;
  for (int i = 1; i < 300; ++i) file["model"]["vocab"][std::string(static_cast<size_t>(i) * 10, 'z')] = 100 + i;
  file["added_tokens"] = json::array();
  for (int i = 0; i < 300; ++i) {
    file["added_tokens"].push_back({{"id", i},
                                    {"content", std::string(static_cast<size_t>(i) + 1, 'k') + "!"},
                                    {"single_word", true},
                                    {"lstrip", true},
                                    {"rstrip", true},
                                    {"normalized", false},
                                    {"special", false}});
  }
  const auto tokenizer = Tokenizer::from_json(file.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  std::string marks = "a";
  for (int i = 0; i < 50000; ++i) marks += i % 2 ? "\u0301" : "\u0316";
  for (const std::string& text : {std::string(100000, 'z'), std::string(100000, 'k'), std::string(200000, ' '), marks}) {
    EXPECT_TRUE(tokenizer->encode(text).ok());
  }
}

}  // namespace
}  // namespace ocior::text
