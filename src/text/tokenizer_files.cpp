// Reads the files of a model folder: tokenizer.json, vocab.txt, tokenizer_config.json. See tokenizer.h.
#include <filesystem>
#include <fstream>

#include "text/json_reader.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

namespace ocior::text {
namespace {

namespace fs = std::filesystem;
using Parts = Tokenizer::Parts;

constexpr uint64_t kMaxFile = uint64_t{128} << 20;
constexpr double kNoMaxLength = 1e15;  // model_max_length above this is Hugging Face's "unlimited"

bool is_file(const fs::path& path) {
  std::error_code ec;
  return fs::is_regular_file(path, ec);
}

Result<std::string> read_file(const fs::path& path) {
  std::error_code ec;
  const uint64_t size = fs::file_size(path, ec);
  if (ec) return error(Code::kNoSuchFile, "{}: {}", path.string(), ec.message());
  if (size > kMaxFile)
    return error(Code::kInvalidArgument, "{} has {} bytes; at most {} are read", path.string(), size, kMaxFile);
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) return error(Code::kFail, "{} cannot be read", path.string());
  return text;
}

// The line without white space at its end, as Rust's trim_end.
Result<std::string> trimmed(std::string_view line, size_t number) {
  std::u32string chars;
  OCIOR_RETURN_IF_ERROR(with_context(decode_utf8(line, chars), fmt::format("line {}", number)));
  while (!chars.empty() && CharTable::get().flags(chars.back()) & kSpace) chars.pop_back();
  return to_utf8(chars);
}

Result<std::vector<VocabEntry>> vocab_lines(std::string_view text) {
  std::vector<VocabEntry> out;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    OCIOR_ASSIGN(std::string token, trimmed(text.substr(0, end), out.size() + 1));
    out.push_back({std::move(token), static_cast<uint32_t>(out.size())});
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return out;
}

// A token in tokenizer_config.json is a string or an object with "content".
Status read_name(const JsonNode& root, std::string_view key, std::string& out) {
  auto node = root.find(key);
  if (!node) return {};
  if (node->value().is_object()) {
    OCIOR_ASSIGN(const JsonNode content, node->get("content"));
    node = content;
  }
  OCIOR_ASSIGN(out, node->string());
  return {};
}

Status read_flag(const JsonNode& root, std::string_view key, bool& out) {
  const auto node = root.find(key);
  if (!node) return {};
  OCIOR_ASSIGN(out, node->boolean());
  return {};
}

Status read_added(const JsonNode& root, std::vector<AddedToken>& out) {
  const auto node = root.find("added_tokens_decoder");
  if (!node) return {};
  OCIOR_RETURN_IF_ERROR(node->expect_object());
  std::map<uint64_t, AddedToken> by_id;
  for (const auto& [key, value] : node->value().items()) {
    constexpr size_t kDigits = 10;
    if (key.empty() || key.size() > kDigits || key.find_first_not_of("0123456789") != std::string::npos) {
      return error(Code::kInvalidArgument, "added_tokens_decoder: expected ids as keys, got \"{}\"", shown(key));
    }
    const JsonNode token(value, "added_tokens_decoder." + key);
    AddedToken added;
    OCIOR_RETURN_IF_ERROR(token.get("content").status());
    OCIOR_RETURN_IF_ERROR(read_name(token, "content", added.content));
    OCIOR_RETURN_IF_ERROR(read_flag(token, "single_word", added.single_word));
    OCIOR_RETURN_IF_ERROR(read_flag(token, "lstrip", added.lstrip));
    OCIOR_RETURN_IF_ERROR(read_flag(token, "rstrip", added.rstrip));
    OCIOR_RETURN_IF_ERROR(read_flag(token, "special", added.special));
    added.normalized = !added.special;
    OCIOR_RETURN_IF_ERROR(read_flag(token, "normalized", added.normalized));
    by_id[std::stoull(key)] = std::move(added);
  }
  for (auto& [id, token] : by_id) out.push_back(std::move(token));
  return {};
}

Status read_general(const JsonNode& root, TokenizerConfig& out) {
  if (const auto length = root.find("model_max_length")) {
    if (!length->value().is_number()) return length->expected("a number");
    const double value = length->value().get<double>();
    if (value >= 1 && value < kNoMaxLength) out.model_max_length = static_cast<uint64_t>(value);
  }
  if (const auto names = root.find("model_input_names")) {
    OCIOR_ASSIGN(const size_t n, names->array_size());
    for (size_t i = 0; i < n; ++i) {
      OCIOR_ASSIGN(std::string name, names->element(i).string());
      out.model_input_names.push_back(std::move(name));
    }
  }
  return {};
}

Result<TemplatePiece> special_piece(const Parts& parts, const std::string& token, uint32_t type_id) {
  const auto id = parts.model->token_to_id(token);
  if (!id) {
    return error(Code::kInvalidArgument, "the vocabulary lacks the token \"{}\"; name the model's own in tokenizer_config.json",
                 shown(token));
  }
  return TemplatePiece{-1, {{*id}, {token}}, type_id};
}

template <class T>
Result<T> in_file(Result<T> result, const std::string& name) {
  if (!result.ok()) return with_context(result.status(), name);
  return result;
}

}  // namespace

Result<std::shared_ptr<Parts>> parse_vocab(std::string_view vocab, const VocabOptions& options,
                                           const std::vector<AddedToken>& added) {
  auto parts = std::make_shared<Parts>();
  OCIOR_ASSIGN(std::vector<VocabEntry> entries, vocab_lines(vocab));
  OCIOR_ASSIGN(parts->model, make_word_piece(std::move(entries), {.unk_token = options.unk_token}));
  parts->normalizer = make_bert_normalizer({.clean_text = true,
                                            .handle_chinese_chars = options.tokenize_chinese_chars,
                                            .strip_accents = options.strip_accents.value_or(options.do_lower_case),
                                            .lowercase = options.do_lower_case});
  parts->pre_tokenizer = make_bert_pre_tokenizer();
  OCIOR_ASSIGN(const TemplatePiece cls, special_piece(*parts, options.cls_token, 0));
  OCIOR_ASSIGN(const TemplatePiece sep, special_piece(*parts, options.sep_token, 0));
  OCIOR_ASSIGN(const TemplatePiece last, special_piece(*parts, options.sep_token, 1));
  const TemplatePiece first{0, {}, 0}, second{1, {}, 1};
  parts->post_processor = make_template_processing({cls, first, sep}, {cls, first, sep, second, last});
  parts->decoder = WordPieceDecoder{};
  std::vector<AddedToken> tokens;
  for (const std::string* name :
       {&options.unk_token, &options.sep_token, &options.pad_token, &options.cls_token, &options.mask_token}) {
    if (parts->model->token_to_id(*name)) tokens.push_back({.content = *name, .normalized = false, .special = true});
  }
  tokens.insert(tokens.end(), added.begin(), added.end());
  OCIOR_ASSIGN(parts->added, AddedTokens::make(tokens, *parts->model, parts->normalizer.get()));
  parts->special_ids = find_special_ids(*parts, options);
  return parts;
}

Result<ConfigFile> parse_tokenizer_config(std::string_view json) {
  OCIOR_ASSIGN(const nlohmann::json value, parse_json(json));
  const JsonNode root(value, "");
  OCIOR_RETURN_IF_ERROR(root.expect_object());
  ConfigFile out;
  OCIOR_RETURN_IF_ERROR(read_flag(root, "do_lower_case", out.vocab.do_lower_case));
  OCIOR_RETURN_IF_ERROR(read_flag(root, "tokenize_chinese_chars", out.vocab.tokenize_chinese_chars));
  if (const auto strip = root.find("strip_accents")) {
    OCIOR_ASSIGN(out.vocab.strip_accents, strip->boolean());
  }
  OCIOR_RETURN_IF_ERROR(read_name(root, "unk_token", out.vocab.unk_token));
  OCIOR_RETURN_IF_ERROR(read_name(root, "sep_token", out.vocab.sep_token));
  OCIOR_RETURN_IF_ERROR(read_name(root, "pad_token", out.vocab.pad_token));
  OCIOR_RETURN_IF_ERROR(read_name(root, "cls_token", out.vocab.cls_token));
  OCIOR_RETURN_IF_ERROR(read_name(root, "mask_token", out.vocab.mask_token));
  OCIOR_RETURN_IF_ERROR(read_general(root, out.config));
  OCIOR_RETURN_IF_ERROR(read_added(root, out.added));
  bool basic = true;
  OCIOR_RETURN_IF_ERROR(read_flag(root, "do_basic_tokenize", basic));
  if (!basic) out.unsupported.push_back("do_basic_tokenize false");
  if (const auto never = root.find("never_split"); never && !never->value().empty()) out.unsupported.push_back("never_split");
  return out;
}

SpecialIds find_special_ids(const Parts& parts, const VocabOptions& names) {
  const auto id = [&](const std::string& token) {
    const auto added = parts.added.token_to_id(token);
    return added ? added : parts.model->token_to_id(token);
  };
  return {id(names.unk_token), id(names.cls_token), id(names.sep_token), id(names.pad_token), id(names.mask_token)};
}

Result<Tokenizer> Tokenizer::from_json(std::string_view json, const std::string& name) {
  OCIOR_ASSIGN(const std::shared_ptr<Parts> parts, in_file(parse_tokenizer_json(json), name));
  parts->special_ids = find_special_ids(*parts, {});
  return Tokenizer(parts);
}

Result<Tokenizer> Tokenizer::from_vocab(std::string_view vocab, const VocabOptions& options, const std::string& name) {
  OCIOR_ASSIGN(const std::shared_ptr<Parts> parts, in_file(parse_vocab(vocab, options, {}), name));
  return Tokenizer(parts);
}

Result<Tokenizer> Tokenizer::from_folder(const std::string& folder) {
  const fs::path dir(folder), json_path = dir / "tokenizer.json", vocab_path = dir / "vocab.txt",
                              config_path = dir / "tokenizer_config.json";
  ConfigFile config;
  if (is_file(config_path)) {
    OCIOR_ASSIGN(const std::string text, read_file(config_path));
    OCIOR_ASSIGN(config, in_file(parse_tokenizer_config(text), config_path.string()));
  }
  std::shared_ptr<Parts> parts;
  if (is_file(json_path)) {
    OCIOR_ASSIGN(const std::string text, read_file(json_path));
    OCIOR_ASSIGN(parts, in_file(parse_tokenizer_json(text), json_path.string()));
    parts->special_ids = find_special_ids(*parts, config.vocab);
  } else if (is_file(vocab_path)) {
    if (!config.unsupported.empty()) {
      return error(Code::kNotImplemented, "{}: {} is not supported with a vocab.txt; save the tokenizer as tokenizer.json",
                   config_path.string(), config.unsupported[0]);
    }
    OCIOR_ASSIGN(const std::string text, read_file(vocab_path));
    OCIOR_ASSIGN(parts, in_file(parse_vocab(text, config.vocab, config.added), vocab_path.string()));
  } else {
    return error(Code::kNoSuchFile, "{} holds neither tokenizer.json nor vocab.txt; pass the folder that holds the tokenizer",
                 folder);
  }
  parts->config = std::move(config.config);
  return Tokenizer(parts);
}

}  // namespace ocior::text
