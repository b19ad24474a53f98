// The string operators: pieces, letter case, regular expressions, n-grams, and errors.
#include "ops/test_call.h"

namespace ocior::ops {
namespace {

Tensor texts(Shape shape, const std::vector<std::string>& values) { return tensor_of<std::string>(std::move(shape), values); }
Attributes with(const char* name, const char* value) { return {{name, std::string(value)}}; }

std::vector<std::string> split(const std::string& text, Attributes attributes) {
  const auto out = call("StringSplit", attributes, {texts({1}, {text})}, 2);
  return values_of<std::string>((*out)[0]);
}

TEST(StringSplit, FollowsItsDelimiter) {
  using Pieces = std::vector<std::string>;
  EXPECT_EQ(split(" a \t b\n", {}), (Pieces{"a", "b"}));
  EXPECT_EQ(split(" a  b c ", {{"maxsplit", int64_t{1}}}), (Pieces{"a", "b c "}));
  EXPECT_EQ(split("   ", {}), Pieces{});
  EXPECT_EQ(split("a,,b,", with("delimiter", ",")), (Pieces{"a", "", "b", ""}));
  EXPECT_EQ(split("", with("delimiter", ",")), (Pieces{""}));
  EXPECT_EQ(split("a--b---c", with("delimiter", "--")), (Pieces{"a", "b", "-c"}));
  EXPECT_EQ(split("a,b,c", {{"delimiter", std::string(",")}, {"maxsplit", int64_t{0}}}), (Pieces{"a,b,c"}));
}

TEST(StringSplit, PaddingIsBounded) {
  std::vector<std::string> x(100000);
  x[0] = std::string(1000000, ',');  // as many pieces for each of the others would be 10^11 strings
  EXPECT_NE(failure("StringSplit", with("delimiter", ","), {texts({100000}, x)}, 2).find("more than"), std::string::npos);
}

TEST(StringConcat, TextIsBounded) {
  const std::string large(1 << 20, 'x');
  EXPECT_NE(failure("StringConcat", {}, {texts({1}, {large}), texts({4096}, std::vector<std::string>(4096))}).find("more than"),
            std::string::npos);
}

TEST(StringNormalizer, CaseIsUnicodes) {
  const auto change = [](const char* how, const std::string& text) {
    return (*call("StringNormalizer", with("case_change_action", how), {texts({1}, {text})}))[0].as<std::string>()[0];
  };
  EXPECT_EQ(change("UPPER",
                   "stra\xC3\x9F"
                   "e \xC3\xA9\xD0\xB6"),
            "STRA\xE1\xBA\x9E"
            "E \xC3\x89\xD0\x96");
  EXPECT_EQ(change("LOWER", "\xC3\x89\xD0\x96 A"), "\xC3\xA9\xD0\xB6 a");
  EXPECT_EQ(change("UPPER", "a\xFF\xC3"), "A\xFF\xC3");  // no UTF-8: stays
}

TEST(StringNormalizer, WrongShapesAndActionsAreErrors) {
  failure("StringNormalizer", with("case_change_action", "TITLE"), {texts({1}, {"a"})});
  failure("StringNormalizer", {}, {texts({2, 1}, {"a", "b"})});
  failure("StringNormalizer", {}, {texts({}, {"a"})});
}

TEST(RegexFullMatch, HostilePatternsEndSoon) {
  const auto matches = [](const char* pattern, const std::string& text) {
    const auto out = call("RegexFullMatch", with("pattern", pattern), {texts({1}, {text})});
    return out.ok() && (*out)[0].as<bool>()[0];
  };
  EXPECT_TRUE(matches("[a-z]+\\.com", "example.com"));
  EXPECT_FALSE(matches("[a-z]+\\.com", "example.com."));
  EXPECT_FALSE(matches("(a|aa)+b", std::string(100000, 'a')));  // exponential for a backtracking matcher
  EXPECT_FALSE(matches("(x+x+)+y", std::string(100000, 'x')));
  failure("RegexFullMatch", with("pattern", "(a"), {texts({1}, {"a"})});
  failure("RegexFullMatch", with("pattern", "((a{100}){100}){100}"), {texts({1}, {"a"})});
  failure("RegexFullMatch", {}, {texts({1}, {"a"})});
}

Attributes vectorizer() {
  return {{"mode", std::string("TF")},
          {"min_gram_length", int64_t{1}},
          {"max_gram_length", int64_t{2}},
          {"max_skip_count", int64_t{0}},
          {"ngram_counts", std::vector<int64_t>{0, 2}},
          {"ngram_indexes", std::vector<int64_t>{0, 1, 2}},
          {"pool_int64s", std::vector<int64_t>{5, 6, 5, 6}}};
}

TEST(TfIdfVectorizer, WrongPoolsAreErrors) {
  const Tensor x = tensor_of<int64_t>({3}, {5, 6, 5});
  EXPECT_EQ(values_of<float>((*call("TfIdfVectorizer", vectorizer(), {x}))[0]), (std::vector<float>{2, 1, 1}));
  const auto wrong = [&](const char* name, AttributeValue value) {
    Attributes attributes = vectorizer();
    attributes[name] = std::move(value);
    failure("TfIdfVectorizer", attributes, {x});
  };
  wrong("mode", std::string("BM25"));
  wrong("min_gram_length", int64_t{0});
  wrong("max_gram_length", int64_t{0});
  wrong("max_skip_count", int64_t{-1});
  wrong("ngram_counts", std::vector<int64_t>{0, 9});
  wrong("ngram_counts", std::vector<int64_t>{0, 3});
  wrong("ngram_counts", std::vector<int64_t>{2, 0});
  wrong("ngram_counts", std::vector<int64_t>{-1, 2});
  wrong("ngram_indexes", std::vector<int64_t>{0, 1});
  wrong("ngram_indexes", std::vector<int64_t>{0, 1, -1});
  wrong("ngram_indexes", std::vector<int64_t>{0, 1, INT64_MAX});
  wrong("weights", std::vector<float>{1});
  wrong("pool_strings", std::vector<std::string>{"a"});
  failure("TfIdfVectorizer", vectorizer(), {texts({1}, {"a"})});
  failure("TfIdfVectorizer", vectorizer(), {tensor_of<int64_t>({}, {5})});
  Attributes far = vectorizer();
  far["max_skip_count"] = INT64_MAX;
  EXPECT_TRUE(call("TfIdfVectorizer", far, {x}).ok());
}

}  // namespace
}  // namespace ocior::ops
