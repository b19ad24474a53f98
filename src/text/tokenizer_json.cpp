// Reads tokenizer.json into the parts of a tokenizer. Every member is read or refused by name; nothing is skipped.
// Reference: the serialization code of the `tokenizers` package (normalizers/, pre_tokenizers/, models/, processors/, decoders/).
#include "text/json_reader.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

namespace ocior::text {
namespace {

using Parts = Tokenizer::Parts;

constexpr size_t kMaxComponents = 256;  // parts of all sequences together, pieces of all templates together
constexpr size_t kMaxPattern = 1024;    // bytes of a Replace pattern: bounds the work for each position of a text

Status unsupported(const JsonNode& node, std::string_view member, std::string_view value, std::string_view supported) {
  return error(Code::kNotImplemented, "{}.{} \"{}\" is not supported; supported: {}", node.path(), member, shown(value),
               supported);
}

Result<std::string> string_at(const JsonNode& node, std::string_view key) {
  OCIOR_ASSIGN(const JsonNode member, node.get(key));
  return member.string();
}

Result<bool> bool_at(const JsonNode& node, std::string_view key) {
  OCIOR_ASSIGN(const JsonNode member, node.get(key));
  return member.boolean();
}

Result<uint64_t> integer_at(const JsonNode& node, std::string_view key) {
  OCIOR_ASSIGN(const JsonNode member, node.get(key));
  return member.integer();
}

Result<uint32_t> id_at(const JsonNode& node, std::string_view key) {
  OCIOR_ASSIGN(const JsonNode member, node.get(key));
  return member.id();
}

Result<std::u32string> chars_of(const JsonNode& node) {
  OCIOR_ASSIGN(const std::string utf8, node.string());
  if (utf8.empty() || utf8.size() > kMaxPattern)
    return error(Code::kInvalidArgument, "{} has {} bytes; expected 1 to {}", node.path(), utf8.size(), kMaxPattern);
  std::u32string out;
  OCIOR_RETURN_IF_ERROR(decode_utf8(utf8, out));
  return out;
}

class Reader {
 public:
  Result<std::shared_ptr<Parts>> read(const JsonNode& root, std::vector<VocabEntry> vocab) {
    OCIOR_RETURN_IF_ERROR(root.expect_only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                                            "post_processor", "decoder", "model"}));
    if (const auto version = root.find("version")) {
      OCIOR_ASSIGN(const std::string v, version->string());
      if (v != "1.0") return error(Code::kNotImplemented, "version \"{}\" is not supported; supported: 1.0", shown(v));
    }
    auto parts = std::make_shared<Parts>();
    OCIOR_ASSIGN(const JsonNode model_node, root.get("model"));
    OCIOR_ASSIGN(parts->model, model(model_node, std::move(vocab)));
    if (const auto node = root.find("normalizer")) {
      OCIOR_ASSIGN(parts->normalizer, normalizer(*node));
    }
    if (const auto node = root.find("pre_tokenizer")) {
      OCIOR_ASSIGN(parts->pre_tokenizer, pre_tokenizer(*node));
    }
    if (const auto node = root.find("post_processor")) {
      OCIOR_ASSIGN(parts->post_processor, post_processor(*node));
    }
    if (const auto node = root.find("decoder")) {
      OCIOR_ASSIGN(parts->decoder, decoder(*node));
    }
    if (const auto node = root.find("truncation")) {
      OCIOR_ASSIGN(parts->options.truncation, truncation(*node));
    }
    if (const auto node = root.find("padding")) {
      OCIOR_ASSIGN(parts->options.padding, padding(*node));
    }
    std::vector<AddedToken> added;
    if (const auto node = root.find("added_tokens")) {
      OCIOR_ASSIGN(added, added_tokens(*node));
    }
    OCIOR_ASSIGN(parts->added, AddedTokens::make(added, *parts->model, parts->normalizer.get()));
    return parts;
  }

 private:
  Status count(const JsonNode& node) {
    if (++components_ > kMaxComponents)
      return error(Code::kInvalidArgument, "{}: more than {} components", node.path(), kMaxComponents);
    return {};
  }

  // Reads the array `key` of a Sequence with `one` for each element.
  template <class Ptr, class One>
  Result<std::vector<Ptr>> sequence(const JsonNode& node, std::string_view key, One one) {
    OCIOR_RETURN_IF_ERROR(node.expect_only({"type", key}));
    OCIOR_ASSIGN(const JsonNode list, node.get(key));
    OCIOR_ASSIGN(const size_t n, list.array_size());
    std::vector<Ptr> out;
    for (size_t i = 0; i < n; ++i) {
      OCIOR_ASSIGN(Ptr part, one(list.element(i)));
      out.push_back(std::move(part));
    }
    return out;
  }

  Result<NormalizerPtr> normalizer(const JsonNode& node) {
    OCIOR_RETURN_IF_ERROR(count(node));
    OCIOR_ASSIGN(const std::string type, string_at(node, "type"));
    if (type == "Sequence") {
      OCIOR_ASSIGN(auto list, sequence<NormalizerPtr>(node, "normalizers", [&](const JsonNode& n) { return normalizer(n); }));
      return make_sequence(std::move(list));
    }
    if (type == "BertNormalizer") return bert_normalizer(node);
    if (type == "Strip") {
      OCIOR_RETURN_IF_ERROR(node.expect_only({"type", "strip_left", "strip_right"}));
      OCIOR_ASSIGN(const bool left, bool_at(node, "strip_left"));
      OCIOR_ASSIGN(const bool right, bool_at(node, "strip_right"));
      return make_strip(left, right);
    }
    if (type == "Prepend") {
      OCIOR_RETURN_IF_ERROR(node.expect_only({"type", "prepend"}));
      OCIOR_ASSIGN(const JsonNode text, node.get("prepend"));
      OCIOR_ASSIGN(std::u32string chars, chars_of(text));
      return make_prepend(std::move(chars));
    }
    if (type == "Replace") return replace(node);
    OCIOR_RETURN_IF_ERROR(node.expect_only({"type"}));
    if (type == "Lowercase") return make_lowercase();
    if (type == "StripAccents") return make_strip_accents();
    if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD")
      return make_unicode_form(type[2] == 'K', type.back() == 'C');
    return unsupported(node, "type", type,
                       "BertNormalizer, Lowercase, NFC, NFD, NFKC, NFKD, Prepend, Replace, Sequence, Strip, StripAccents");
  }

  static Result<NormalizerPtr> bert_normalizer(const JsonNode& node) {
    OCIOR_RETURN_IF_ERROR(node.expect_only({"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"}));
    BertOptions options;
    OCIOR_ASSIGN(options.clean_text, bool_at(node, "clean_text"));
    OCIOR_ASSIGN(options.handle_chinese_chars, bool_at(node, "handle_chinese_chars"));
    OCIOR_ASSIGN(options.lowercase, bool_at(node, "lowercase"));
    options.strip_accents = options.lowercase;
    if (const auto strip = node.find("strip_accents")) {
      OCIOR_ASSIGN(options.strip_accents, strip->boolean());
    }
    return make_bert_normalizer(options);
  }

  static Result<NormalizerPtr> replace(const JsonNode& node) {
    OCIOR_RETURN_IF_ERROR(node.expect_only({"type", "pattern", "content"}));
    OCIOR_ASSIGN(const JsonNode pattern, node.get("pattern"));
    OCIOR_RETURN_IF_ERROR(pattern.expect_only({"String"}));
    OCIOR_ASSIGN(const JsonNode text, pattern.get("String"));
    OCIOR_ASSIGN(std::u32string from, chars_of(text));
    OCIOR_ASSIGN(const std::string content, string_at(node, "content"));
    std::u32string to;
    OCIOR_RETURN_IF_ERROR(decode_utf8(content, to));
    return make_replace(std::move(from), std::move(to));
  }

  Result<PreTokenizerPtr> pre_tokenizer(const JsonNode& node) {
    OCIOR_RETURN_IF_ERROR(count(node));
    OCIOR_ASSIGN(const std::string type, string_at(node, "type"));
    if (type == "Sequence") {
      OCIOR_ASSIGN(auto list,
                   sequence<PreTokenizerPtr>(node, "pretokenizers", [&](const JsonNode& n) { return pre_tokenizer(n); }));
      return make_sequence(std::move(list));
    }
    if (type == "Punctuation") {
      OCIOR_RETURN_IF_ERROR(node.expect_only({"type", "behavior"}));
      const auto behavior = node.find("behavior");
      if (!behavior) return make_punctuation(Delimiter::kIsolated);
      OCIOR_ASSIGN(const std::string name, behavior->string());
      OCIOR_ASSIGN(const Delimiter delimiter, delimiter_of(node, name));
      return make_punctuation(delimiter);
    }
    if (type == "Digits") {
      OCIOR_RETURN_IF_ERROR(node.expect_only({"type", "individual_digits"}));
      OCIOR_ASSIGN(const bool individual, bool_at(node, "individual_digits"));
      return make_digits(individual);
    }
    OCIOR_RETURN_IF_ERROR(node.expect_only({"type"}));
    if (type == "BertPreTokenizer") return make_bert_pre_tokenizer();
    if (type == "Whitespace") return make_whitespace();
    if (type == "WhitespaceSplit") return make_whitespace_split();
    return unsupported(node, "type", type, "BertPreTokenizer, Digits, Punctuation, Sequence, Whitespace, WhitespaceSplit");
  }

  static Result<Delimiter> delimiter_of(const JsonNode& node, std::string_view name) {
    if (name == "Removed") return Delimiter::kRemoved;
    if (name == "Isolated") return Delimiter::kIsolated;
    if (name == "MergedWithPrevious") return Delimiter::kMergedWithPrevious;
    if (name == "MergedWithNext") return Delimiter::kMergedWithNext;
    if (name == "Contiguous") return Delimiter::kContiguous;
    return unsupported(node, "behavior", name, "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
  }

  static Result<std::unique_ptr<const Model>> model(const JsonNode& node, std::vector<VocabEntry> vocab) {
    if (const auto type = node.find("type")) {  // old files of WordPiece models lack it
      OCIOR_ASSIGN(const std::string name, type->string());
      if (name != "WordPiece") return unsupported(node, "type", name, "WordPiece");
    }
    OCIOR_RETURN_IF_ERROR(
        node.expect_only({"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"}));
    WordPieceOptions options;
    OCIOR_ASSIGN(options.unk_token, string_at(node, "unk_token"));
    OCIOR_ASSIGN(options.continuing_subword_prefix, string_at(node, "continuing_subword_prefix"));
    OCIOR_ASSIGN(options.max_input_chars_per_word, integer_at(node, "max_input_chars_per_word"));
    OCIOR_ASSIGN(const JsonNode members, node.get("vocab"));
    OCIOR_RETURN_IF_ERROR(members.expect_object());
    Result<std::unique_ptr<const Model>> model = make_word_piece(std::move(vocab), options);
    if (!model.ok()) return with_context(model.status(), "model");
    return model;
  }

  Result<PostProcessorPtr> post_processor(const JsonNode& node) {
    OCIOR_RETURN_IF_ERROR(count(node));
    OCIOR_ASSIGN(const std::string type, string_at(node, "type"));
    if (type == "Sequence") {
      OCIOR_ASSIGN(auto list,
                   sequence<PostProcessorPtr>(node, "processors", [&](const JsonNode& n) { return post_processor(n); }));
      return make_sequence(std::move(list));
    }
    if (type == "BertProcessing") {
      OCIOR_RETURN_IF_ERROR(node.expect_only({"type", "sep", "cls"}));
      OCIOR_ASSIGN(SpecialToken sep, token_and_id(node, "sep"));
      OCIOR_ASSIGN(SpecialToken cls, token_and_id(node, "cls"));
      return make_bert_processing(std::move(cls), std::move(sep));
    }
    if (type != "TemplateProcessing") return unsupported(node, "type", type, "BertProcessing, Sequence, TemplateProcessing");
    OCIOR_RETURN_IF_ERROR(node.expect_only({"type", "single", "pair", "special_tokens"}));
    OCIOR_ASSIGN(auto single, template_pieces(node, "single", false));
    OCIOR_ASSIGN(auto pair, template_pieces(node, "pair", true));
    return make_template_processing(std::move(single), std::move(pair));
  }

  static Result<SpecialToken> token_and_id(const JsonNode& node, std::string_view key) {
    OCIOR_ASSIGN(const JsonNode member, node.get(key));
    OCIOR_ASSIGN(const size_t n, member.array_size());
    if (n != 2) return member.expected("a token and its id");
    OCIOR_ASSIGN(std::string token, member.element(0).string());
    OCIOR_ASSIGN(const uint32_t id, member.element(1).id());
    return SpecialToken{{id}, {std::move(token)}};
  }

  Result<std::vector<TemplatePiece>> template_pieces(const JsonNode& node, std::string_view key, bool pair) {
    OCIOR_ASSIGN(const JsonNode specials, node.get("special_tokens"));
    OCIOR_ASSIGN(const JsonNode list, node.get(key));
    OCIOR_ASSIGN(const size_t n, list.array_size());
    std::vector<TemplatePiece> out;
    bool used[2] = {};
    for (size_t i = 0; i < n; ++i) {
      const JsonNode element = list.element(i);
      OCIOR_RETURN_IF_ERROR(count(element));
      OCIOR_RETURN_IF_ERROR(element.expect_only({"Sequence", "SpecialToken"}));
      const bool is_text = element.find("Sequence").has_value();
      OCIOR_ASSIGN(const JsonNode piece, element.get(is_text ? "Sequence" : "SpecialToken"));
      OCIOR_RETURN_IF_ERROR(piece.expect_only({"id", "type_id"}));
      OCIOR_ASSIGN(const std::string id, string_at(piece, "id"));
      TemplatePiece out_piece;
      OCIOR_ASSIGN(out_piece.type_id, id_at(piece, "type_id"));
      if (is_text) {
        if (id != "A" && (id != "B" || !pair)) return unsupported(piece, "id", id, pair ? "A, B" : "A");
        out_piece.sequence = id == "A" ? 0 : 1;
        if (std::exchange(used[out_piece.sequence], true)) {
          return error(Code::kNotImplemented, "{}: using sequence {} twice is not supported", piece.path(), id);
        }
      } else {
        OCIOR_ASSIGN(out_piece.special, special_token(specials, id));
      }
      out.push_back(std::move(out_piece));
    }
    return out;
  }

  static Result<SpecialToken> special_token(const JsonNode& specials, const std::string& name) {
    OCIOR_ASSIGN(const JsonNode node, specials.get(name));
    OCIOR_RETURN_IF_ERROR(node.expect_only({"id", "ids", "tokens"}));
    OCIOR_ASSIGN(const JsonNode ids, node.get("ids"));
    OCIOR_ASSIGN(const JsonNode tokens, node.get("tokens"));
    OCIOR_ASSIGN(const size_t n, ids.array_size());
    OCIOR_ASSIGN(const size_t names, tokens.array_size());
    if (n != names || n > kMaxComponents) {
      return error(Code::kInvalidArgument, "{} has {} ids and {} tokens; expected as many of both, at most {}", node.path(), n,
                   names, kMaxComponents);
    }
    SpecialToken out;
    for (size_t i = 0; i < n; ++i) {
      OCIOR_ASSIGN(const uint32_t id, ids.element(i).id());
      OCIOR_ASSIGN(std::string token, tokens.element(i).string());
      out.ids.push_back(id);
      out.tokens.push_back(std::move(token));
    }
    return out;
  }

  static Result<WordPieceDecoder> decoder(const JsonNode& node) {
    OCIOR_ASSIGN(const std::string type, string_at(node, "type"));
    if (type != "WordPiece") return unsupported(node, "type", type, "WordPiece");
    OCIOR_RETURN_IF_ERROR(node.expect_only({"type", "prefix", "cleanup"}));
    WordPieceDecoder out;
    OCIOR_ASSIGN(out.prefix, string_at(node, "prefix"));
    OCIOR_ASSIGN(out.cleanup, bool_at(node, "cleanup"));
    return out;
  }

  static Result<Direction> direction_of(const JsonNode& node) {
    OCIOR_ASSIGN(const std::string name, string_at(node, "direction"));
    if (name == "Left") return Direction::kLeft;
    if (name == "Right") return Direction::kRight;
    return unsupported(node, "direction", name, "Left, Right");
  }

  static Result<Truncation> truncation(const JsonNode& node) {
    OCIOR_RETURN_IF_ERROR(node.expect_only({"direction", "max_length", "strategy", "stride"}));
    Truncation out;
    if (node.find("direction")) {
      OCIOR_ASSIGN(out.direction, direction_of(node));
    }
    OCIOR_ASSIGN(out.max_length, integer_at(node, "max_length"));
    OCIOR_ASSIGN(out.stride, integer_at(node, "stride"));
    OCIOR_ASSIGN(const std::string strategy, string_at(node, "strategy"));
    if (strategy == "LongestFirst") {
      out.strategy = Truncation::Strategy::kLongestFirst;
    } else if (strategy == "OnlyFirst") {
      out.strategy = Truncation::Strategy::kOnlyFirst;
    } else if (strategy == "OnlySecond") {
      out.strategy = Truncation::Strategy::kOnlySecond;
    } else {
      return unsupported(node, "strategy", strategy, "LongestFirst, OnlyFirst, OnlySecond");
    }
    return out;
  }

  static Result<Padding> padding(const JsonNode& node) {
    OCIOR_RETURN_IF_ERROR(
        node.expect_only({"strategy", "direction", "pad_to_multiple_of", "pad_id", "pad_type_id", "pad_token"}));
    Padding out;
    OCIOR_ASSIGN(const JsonNode strategy, node.get("strategy"));
    if (strategy.value().is_object()) {
      OCIOR_RETURN_IF_ERROR(strategy.expect_only({"Fixed"}));
      OCIOR_ASSIGN(out.fixed, integer_at(strategy, "Fixed"));
    } else if (strategy.value() != "BatchLongest") {
      return strategy.expected("\"BatchLongest\" or {\"Fixed\": length}");
    }
    OCIOR_ASSIGN(out.direction, direction_of(node));
    if (const auto multiple = node.find("pad_to_multiple_of")) {
      OCIOR_ASSIGN(out.multiple_of, multiple->integer());
    }
    OCIOR_ASSIGN(out.id, id_at(node, "pad_id"));
    OCIOR_ASSIGN(out.type_id, id_at(node, "pad_type_id"));
    OCIOR_ASSIGN(out.token, string_at(node, "pad_token"));
    return out;
  }

  static Result<std::vector<AddedToken>> added_tokens(const JsonNode& node) {
    OCIOR_ASSIGN(const size_t n, node.array_size());
    std::vector<AddedToken> out;
    for (size_t i = 0; i < n; ++i) {
      const JsonNode token = node.element(i);
      OCIOR_RETURN_IF_ERROR(token.expect_only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
      OCIOR_RETURN_IF_ERROR(id_at(token, "id").status());
      AddedToken added;
      OCIOR_ASSIGN(added.content, string_at(token, "content"));
      OCIOR_ASSIGN(added.single_word, bool_at(token, "single_word"));
      OCIOR_ASSIGN(added.lstrip, bool_at(token, "lstrip"));
      OCIOR_ASSIGN(added.rstrip, bool_at(token, "rstrip"));
      OCIOR_ASSIGN(added.normalized, bool_at(token, "normalized"));
      OCIOR_ASSIGN(added.special, bool_at(token, "special"));
      out.push_back(std::move(added));
    }
    return out;
  }

  size_t components_ = 0;
};

}  // namespace

Result<std::shared_ptr<Parts>> parse_tokenizer_json(std::string_view json) {
  std::vector<VocabEntry> vocab;
  OCIOR_ASSIGN(const nlohmann::json root, parse_json(json, &vocab));
  return Reader().read(JsonNode(root, ""), std::move(vocab));
}

}  // namespace ocior::text
