// Tokenizers against cases that tests/text/make_tokenizer_cases.py took from the `tokenizers` package, and their errors by hand.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace ocior::text {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const std::string kModel = std::string(OCIOR_SOURCE_DIR) + "/models/qa";

std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

const json& base_file() {
  static const json file = json::parse(slurp(kModel + "/tokenizer.json"));
  return file;
}

// A tokenizer.json with a vocabulary of a few words.
json small_file() {
  static const json small = [] {
    json file = base_file();
    file["model"]["vocab"] = {{"[PAD]", 0}, {"[UNK]", 1}, {"[CLS]", 2}, {"[SEP]", 3}, {"[MASK]", 4},
                              {"a", 5},     {"##b", 6},   {"##bc", 7},  {"é", 8}};
    return file;
  }();
  return small;
}

void expect_equal(const json& want, const Encoding& got) {
  EXPECT_EQ(got.ids, want["ids"].get<std::vector<uint32_t>>());
  EXPECT_EQ(got.type_ids, want["type_ids"].get<std::vector<uint32_t>>());
  EXPECT_EQ(got.tokens, want["tokens"].get<std::vector<std::string>>());
  EXPECT_EQ(got.word_ids, want["word_ids"].get<std::vector<int32_t>>());
  EXPECT_EQ(got.special_tokens_mask, want["special"].get<std::vector<uint8_t>>());
  EXPECT_EQ(got.attention_mask, want["attention"].get<std::vector<uint8_t>>());
  EXPECT_EQ(got.sequence_ids(), want["sequence_ids"].get<std::vector<int32_t>>());
  ASSERT_EQ(got.offsets.size(), want["offsets"].size());
  for (size_t i = 0; i < got.offsets.size(); ++i)
    EXPECT_EQ(got.offsets[i], (Span{want["offsets"][i][0], want["offsets"][i][1]})) << i;
  ASSERT_EQ(got.overflowing.size(), want["overflowing"].size());
  for (size_t i = 0; i < got.overflowing.size(); ++i) expect_equal(want["overflowing"][i], got.overflowing[i]);
}

void check_request(const Tokenizer& tokenizer, const json& request, const json& want) {
  SCOPED_TRACE(request.dump());
  if (request.contains("decode")) {
    EXPECT_EQ(tokenizer.decode(request["decode"].get<std::vector<uint32_t>>(), request["skip"]), want.get<std::string>());
    return;
  }
  if (request.contains("batch")) {
    const auto texts = request["batch"].get<std::vector<std::string>>();
    std::vector<EncodeInput> inputs;
    for (const std::string& text : texts) inputs.push_back({text, std::nullopt});
    const auto got = tokenizer.encode_batch(inputs, tokenizer.options());
    ASSERT_EQ(got.ok(), want.is_array());
    for (size_t i = 0; got.ok() && i < got->size(); ++i) expect_equal(want[i], (*got)[i]);
    return;
  }
  const std::string text = request["text"];
  const std::string pair = request.value("pair", "");
  const auto got = request.contains("pair") ? tokenizer.encode(text, pair) : tokenizer.encode(text);
  ASSERT_EQ(got.ok(), !want.contains("error"));
  if (got.ok()) expect_equal(want, *got);
}

TEST(Tokenizer, EqualsTheReference) {
  const json cases = json::parse(slurp(std::string(OCIOR_SOURCE_DIR) + "/tests/text/tokenizer_cases.json"));
  ASSERT_GE(cases.size(), 12U);
  const json& base = base_file();
  for (const json& c : cases) {
    SCOPED_TRACE(c["name"].get<std::string>());
    json file = base;
    for (const auto& [key, value] : c["parts"].items()) {
      if (key == "model") {
        file["model"].update(value);
      } else {
        file[key] = value;
      }
    }
    const auto tokenizer = Tokenizer::from_json(file.dump());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    ASSERT_EQ(c["requests"].size(), c["answers"].size());
    for (size_t i = 0; i < c["requests"].size(); ++i) check_request(*tokenizer, c["requests"][i], c["answers"][i]);
  }
}

TEST(Tokenizer, OffsetsComeInThreeUnits) {
  const auto tokenizer = Tokenizer::from_folder(kModel);
  ASSERT_TRUE(tokenizer.ok());
  const std::string text = "é 👍 ok";  // 2, 1, 4, 1, 2 bytes
  const auto last = [&](OffsetUnit unit) {
    const auto e = tokenizer->encode(text, std::nullopt, {.add_special_tokens = false, .offset_unit = unit});
    EXPECT_TRUE(e.ok());
    return e.ok() ? e->offsets.back() : Span{};
  };
  EXPECT_EQ(last(OffsetUnit::kCodePoint), (Span{4, 6}));
  EXPECT_EQ(last(OffsetUnit::kByte), (Span{8, 10}));
  EXPECT_EQ(last(OffsetUnit::kUtf16), (Span{5, 7}));
}

TEST(Tokenizer, LoadsTheModelFolder) {
  const auto tokenizer = Tokenizer::from_folder(kModel);
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_EQ(tokenizer->vocab_size(), 30522U);
  EXPECT_EQ(tokenizer->config().model_max_length, 512U);
  EXPECT_EQ(tokenizer->config().model_input_names, (std::vector<std::string>{"input_ids", "attention_mask"}));
  EXPECT_EQ(tokenizer->special_ids().cls, 101U);
  EXPECT_EQ(tokenizer->special_ids().pad, 0U);
  EXPECT_EQ(tokenizer->token_to_id("hello"), 7592U);
  EXPECT_EQ(tokenizer->id_to_token(7592), "hello");
  EXPECT_EQ(tokenizer->id_to_token(30522), std::nullopt);
  const auto without = tokenizer->encode("hello", std::nullopt, {.with_tokens = false});
  EXPECT_TRUE(without.ok() && without->tokens.empty() && without->size() == 3);
}

TEST(Tokenizer, VocabTxtEqualsTokenizerJson) {
  const auto from_json = Tokenizer::from_folder(kModel);
  const auto from_vocab = Tokenizer::from_vocab(slurp(kModel + "/vocab.txt"));
  ASSERT_TRUE(from_json.ok() && from_vocab.ok());
  const auto a = from_json->encode("Héllo, [MASK] wörld!", "unaffable 漢字"),
             b = from_vocab->encode("Héllo, [MASK] wörld!", "unaffable 漢字");
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->ids, b->ids);
  EXPECT_EQ(a->offsets, b->offsets);
  EXPECT_EQ(a->type_ids, b->type_ids);
}

// A folder that is gone at the end of the test.
class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("ocior_tokenizer_" + std::to_string(::getpid()))) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path_ / name, std::ios::binary) << text; }
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

TEST(Tokenizer, VocabFolderReadsTheConfig) {
  const Folder folder;
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).status().code(), Code::kNoSuchFile);
  folder.write("vocab.txt", "<pad>\r\n<unk>\n<s>\n</s>\nA\na\nb \n");
  folder.write("tokenizer_config.json",
               R"({"do_lower_case": false, "unk_token": "<unk>", "cls_token": {"content": "<s>", "lstrip": true},
      "sep_token": "</s>", "pad_token": "<pad>", "model_max_length": 1000000000000000019884624838656,
      "added_tokens_decoder": {"7": {"content": "new", "special": false}}})");
  const auto tokenizer = Tokenizer::from_folder(folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  const auto e = tokenizer->encode("A a b x new");
  ASSERT_TRUE(e.ok());
  EXPECT_EQ(e->ids, (std::vector<uint32_t>{2, 4, 5, 6, 1, 7, 3}));
  EXPECT_EQ(tokenizer->config().model_max_length, std::nullopt);
  EXPECT_EQ(tokenizer->special_ids().mask, std::nullopt);

  folder.write("tokenizer_config.json",
               R"({"never_split": ["x"], "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"})");
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).status().code(), Code::kNotImplemented);
  folder.write("tokenizer_config.json", "{}");
  EXPECT_NE(Tokenizer::from_folder(folder.path()).status().message().find("lacks the token \"[CLS]\""), std::string::npos);
  folder.write("tokenizer_config.json", R"({"do_lower_case": "yes"})");
  EXPECT_NE(Tokenizer::from_folder(folder.path()).status().message().find("do_lower_case: expected true or false, got \"yes\""),
            std::string::npos);
  folder.write("vocab.txt", "[CLS]\n\xff\n");
  folder.write("tokenizer_config.json", "{}");
  EXPECT_NE(Tokenizer::from_folder(folder.path()).status().message().find("line 2: the text is not valid UTF-8"),
            std::string::npos);
}

std::string load_error(const json& file) {
  const auto tokenizer = Tokenizer::from_json(file.dump());
  return tokenizer.ok() ? "ok" : tokenizer.status().message();
}

json with(const std::string& pointer, const json& value) {
  json file = small_file();
  file[json::json_pointer(pointer)] = value;
  return file;
}

TEST(Tokenizer, NamesWhatIsNotSupported) {
  EXPECT_EQ(load_error(small_file()), "ok");
  EXPECT_EQ(load_error(with("/model/type", "BPE")), "tokenizer.json: model.type \"BPE\" is not supported; supported: WordPiece");
  EXPECT_EQ(load_error(with("/normalizer", {{"type", "Precompiled"}})).substr(0, 63),
            "tokenizer.json: normalizer.type \"Precompiled\" is not supported;");
  EXPECT_EQ(load_error(with("/pre_tokenizer/type", "ByteLevel")),
            "tokenizer.json: pre_tokenizer.type \"ByteLevel\" is not supported; supported: BertPreTokenizer, Digits, "
            "Punctuation, Sequence, "
            "Whitespace, WhitespaceSplit");
  EXPECT_EQ(load_error(with("/post_processor/type", "RobertaProcessing")),
            "tokenizer.json: post_processor.type \"RobertaProcessing\" is not supported; supported: BertProcessing, Sequence, "
            "TemplateProcessing");
  EXPECT_EQ(load_error(with("/decoder/type", "Metaspace")),
            "tokenizer.json: decoder.type \"Metaspace\" is not supported; supported: WordPiece");
  EXPECT_EQ(load_error(with("/normalizer/fold", true)).substr(0, 49), "tokenizer.json: normalizer.fold is not supported;");
  EXPECT_EQ(load_error(with("/normalizer", {{"type", "Replace"}, {"pattern", {{"Regex", "a+"}}}, {"content", ""}})),
            "tokenizer.json: normalizer.pattern.Regex is not supported; supported here: String");
  EXPECT_EQ(load_error(with("/version", "2.0")), "tokenizer.json: version \"2.0\" is not supported; supported: 1.0");
  EXPECT_EQ(load_error(with("/speed", 9)).substr(0, 39), "tokenizer.json: speed is not supported;");
}

TEST(Tokenizer, NamesWhatIsMalformed) {
  EXPECT_EQ(load_error(with("/model/vocab/a", -1)),
            "tokenizer.json: model.vocab: \"a\" has the id -1; expected a number from 0 to 4294967295");
  EXPECT_EQ(load_error(with("/model/vocab/a", 4294967296)),
            "tokenizer.json: model.vocab: \"a\" has id 4294967296; ids have 32 bits");
  EXPECT_EQ(load_error(with("/model/vocab/a", json::array())), "tokenizer.json: model.vocab: \"a\" has no number as its id");
  EXPECT_EQ(load_error(with("/model/vocab/a", 6)),
            "tokenizer.json: model: the vocabulary gives id 6 to both \"##b\" and \"a\"; ids must be distinct");
  EXPECT_EQ(load_error(with("/model/vocab", 3)), "tokenizer.json: model.vocab: expected an object, got 3");
  EXPECT_EQ(load_error(with("/model/max_input_chars_per_word", -1)),
            "tokenizer.json: model.max_input_chars_per_word: expected a whole number that is not negative, got -1");
  EXPECT_EQ(load_error(with("/added_tokens/0/special", nullptr)),
            "tokenizer.json: added_tokens[0].special: expected true or false, got null");
  EXPECT_EQ(load_error(with("/post_processor/special_tokens/[CLS]/ids", {1, 2})),
            "tokenizer.json: post_processor.special_tokens.[CLS] has 2 ids and 1 tokens; expected as many of both, at most 256");
  EXPECT_EQ(load_error(with("/post_processor/single/1/Sequence/id", "B")),
            "tokenizer.json: post_processor.single[1].Sequence.id \"B\" is not supported; supported: A");
  json missing = small_file();
  missing.erase("model");
  EXPECT_EQ(load_error(missing), "tokenizer.json: model is missing");
  json no_special = small_file();
  no_special["post_processor"]["special_tokens"].erase("[SEP]");
  EXPECT_EQ(load_error(no_special), "tokenizer.json: post_processor.special_tokens.[SEP] is missing");
  EXPECT_EQ(Tokenizer::from_json("", "f.json").status().message().substr(0, 32), "f.json: not valid JSON at byte 1");
  EXPECT_EQ(Tokenizer::from_json(std::string(100000, '[')).status().message(), "tokenizer.json: values nest more than 64 deep");
  EXPECT_EQ(load_error(json::array()), "tokenizer.json: expected an object, got array");
}

std::string encode_error(const json& file, std::string_view text, std::optional<std::string_view> pair = std::nullopt) {
  const auto tokenizer = Tokenizer::from_json(file.dump());
  if (!tokenizer.ok()) return "load: " + tokenizer.status().message();
  const auto e = tokenizer->encode(text, pair);
  return e.ok() ? "ok" : e.status().message();
}

json truncation(uint64_t max_length, uint64_t stride, const char* strategy = "LongestFirst") {
  return {{"direction", "Right"}, {"max_length", max_length}, {"stride", stride}, {"strategy", strategy}};
}

TEST(Tokenizer, RefusesWhatCannotBeEncoded) {
  EXPECT_EQ(encode_error(small_file(), "ab\x80"),
            "the text is not valid UTF-8 at byte 2 (0x80); pass UTF-8, or replace bad bytes first");
  for (const char* bad : {"\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\xff"}) {
    EXPECT_NE(encode_error(small_file(), bad).find("not valid UTF-8 at byte 0"), std::string::npos);
  }
  json no_unk = small_file();
  no_unk["model"]["unk_token"] = "<unk>";
  EXPECT_EQ(encode_error(no_unk, "ab"), "ok");
  EXPECT_NE(encode_error(no_unk, "q").find("unk_token \"<unk>\" is not in the vocabulary"), std::string::npos);
  EXPECT_EQ(encode_error(with("/truncation", truncation(1, 0)), "a"),
            "truncation max_length 1 leaves no room for 2 special tokens; raise it");
  EXPECT_NE(encode_error(with("/truncation", truncation(6, 4)), "a a a a a a a")
                .find("truncation stride 4 must be less than the 4 tokens left"),
            std::string::npos);
  EXPECT_NE(encode_error(with("/truncation", truncation(4, 0, "OnlySecond")), "a a a a").find("needs a second text"),
            std::string::npos);
  EXPECT_NE(encode_error(with("/truncation", truncation(5, 0, "OnlyFirst")), "a", "a a a a a").find("cannot reach"),
            std::string::npos);
}

TEST(Tokenizer, BoundsWhatAFileCanAskFor) {
  json huge = with("/padding", {{"strategy", {{"Fixed", uint64_t{1} << 60}}},
                                {"direction", "Right"},
                                {"pad_id", 0},
                                {"pad_type_id", 0},
                                {"pad_token", "p"}});
  EXPECT_NE(encode_error(huge, "a").find("pad to less"), std::string::npos);
  huge["padding"]["strategy"] = "BatchLongest";
  huge["padding"]["pad_to_multiple_of"] = UINT64_MAX;
  EXPECT_NE(encode_error(huge, "a").find("pad to less"), std::string::npos);
  std::string text;
  for (int i = 0; i < 20000; ++i) text += "a ";
  EXPECT_NE(encode_error(with("/truncation", truncation(9002, 8999)), text).find("use a smaller stride"), std::string::npos);
  EXPECT_NE(encode_error(with("/truncation", truncation(43, 19)), text, text).find("use a smaller stride"), std::string::npos);
  const json doubling = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  EXPECT_NE(encode_error(with("/normalizer", {{"type", "Sequence"}, {"normalizers", std::vector<json>(40, doubling)}}), text)
                .find("shorten the text"),
            std::string::npos);
  EXPECT_NE(load_error(with("/normalizer", {{"type", "Sequence"}, {"normalizers", std::vector<json>(300, {{"type", "NFC"}})}}))
                .find("more than 256"),
            std::string::npos);
}

}  // namespace
}  // namespace ocior::text
