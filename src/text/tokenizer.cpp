// Encoding and decoding with the parts of a tokenizer. See tokenizer.h.
#include "text/tokenizer.h"

#include <array>

#include "text/tokenizer_parts.h"
#include "text/unicode.h"

namespace ocior::text {
namespace {

using Parts = Tokenizer::Parts;

constexpr size_t kMaxText = size_t{1} << 28;  // bytes

// How long normalization may make a text of `size` code points.
size_t normalized_limit(size_t size) { return (size_t{1} << 20) + 32 * size; }

// Positions in bytes or UTF-16 units of every code point of a text; offsets in code points need none.
class OffsetMap {
 public:
  OffsetMap(std::u32string_view text, OffsetUnit unit) {
    if (unit == OffsetUnit::kCodePoint) return;
    starts_.reserve(text.size() + 1);
    uint32_t at = 0;
    for (char32_t c : text) {
      starts_.push_back(at);
      at += static_cast<uint32_t>(unit == OffsetUnit::kByte ? utf8_length(c) : utf16_length(c));
    }
    starts_.push_back(at);
  }

  Span operator()(Span s) const { return starts_.empty() ? s : Span{starts_[s.begin], starts_[s.end]}; }

 private:
  std::vector<uint32_t> starts_;
};

// Encodes one text up to, but not including, truncation and special tokens.
class SequenceEncoder {
 public:
  SequenceEncoder(const Parts& parts, const EncodeOptions& options, uint32_t type_id)
      : parts_(parts), options_(options), type_id_(type_id) {}

  Result<Encoding> encode(std::string_view utf8) {
    if (utf8.size() > kMaxText) {
      return error(Code::kInvalidArgument, "the text has {} bytes; at most {} can be encoded at once", utf8.size(), kMaxText);
    }
    std::u32string text;
    OCIOR_RETURN_IF_ERROR(decode_utf8(utf8, text));
    offsets_ = OffsetMap(text, options_.offset_unit);
    std::vector<AddedMatch> matches;
    parts_.added.split(text, false, matches);
    if (matches.size() == 1 && matches[0].index == AddedMatch::kNoToken) {
      OCIOR_RETURN_IF_ERROR(encode_plain(AlignedText(std::move(text), 0, normalized_limit(utf8.size()))));
      return std::move(out_);
    }
    for (const AddedMatch& m : matches) {
      AlignedText slice(text.substr(m.begin, m.end - m.begin), m.begin, normalized_limit(m.end - m.begin));
      if (m.index != AddedMatch::kNoToken) {
        add_token(slice, 0, static_cast<uint32_t>(slice.size()), m.index);
      } else {
        OCIOR_RETURN_IF_ERROR(encode_plain(std::move(slice)));
      }
    }
    return std::move(out_);
  }

 private:
  // A slice without raw added tokens: normalize, find the normalized ones, pre-tokenize what is left.
  Status encode_plain(AlignedText text) {
    if (parts_.normalizer) OCIOR_RETURN_IF_ERROR(parts_.normalizer->apply(text));
    std::vector<AddedMatch> matches;
    parts_.added.split(text.chars(), true, matches);
    reserve(text.size());
    std::vector<Piece> words;
    for (const AddedMatch& m : matches) {
      if (m.index != AddedMatch::kNoToken) {
        add_token(text, m.begin, m.end, m.index);
        continue;
      }
      words.clear();
      if (parts_.pre_tokenizer) {
        parts_.pre_tokenizer->split(text.chars(), {m.begin, m.end}, words);
      } else {
        words.push_back({m.begin, m.end});
      }
      for (const Piece& word : words) OCIOR_RETURN_IF_ERROR(add_word(text, word));
    }
    return {};
  }

  Status add_word(const AlignedText& text, Piece word) {
    tokens_.clear();
    const std::u32string_view chars(text.chars());
    OCIOR_RETURN_IF_ERROR(parts_.model->tokenize(chars.substr(word.begin, word.end - word.begin), tokens_));
    for (const ModelToken& t : tokens_) {
      push(t.id, {text.span(word.begin + t.begin).begin, text.span(word.begin + t.end - 1).end});
      if (options_.with_tokens) out_.tokens.push_back(*parts_.model->id_to_token(t.id));
    }
    ++word_;
    return {};
  }

  void add_token(const AlignedText& text, uint32_t begin, uint32_t end, uint32_t index) {
    push(parts_.added.id(index), {text.span(begin).begin, text.span(end - 1).end});
    if (options_.with_tokens) out_.tokens.push_back(to_utf8(std::u32string_view(text.chars()).substr(begin, end - begin)));
    ++word_;
  }

  void push(uint32_t id, Span span) {
    out_.ids.push_back(id);
    out_.type_ids.push_back(type_id_);
    out_.offsets.push_back(offsets_(span));
    out_.word_ids.push_back(word_);
    out_.special_tokens_mask.push_back(0);
    out_.attention_mask.push_back(1);
  }

  void reserve(size_t chars) {
    const size_t guess = out_.size() + chars / 4 + 8;
    out_.ids.reserve(guess);
    out_.type_ids.reserve(guess);
    out_.offsets.reserve(guess);
    out_.word_ids.reserve(guess);
    out_.special_tokens_mask.reserve(guess);
    out_.attention_mask.reserve(guess);
    if (options_.with_tokens) out_.tokens.reserve(guess);
  }

  const Parts& parts_;
  const EncodeOptions& options_;
  uint32_t type_id_;
  int32_t word_ = 0;
  OffsetMap offsets_{{}, OffsetUnit::kCodePoint};
  std::vector<ModelToken> tokens_;
  Encoding out_;
};

Status truncate_for(const Parts& parts, std::vector<Encoding>& texts, const EncodeOptions& options) {
  if (!options.truncation) return {};
  const bool pair = texts.size() == 2;
  const size_t added = options.add_special_tokens && parts.post_processor ? parts.post_processor->added_tokens(pair) : 0;
  Truncation truncation = *options.truncation;
  if (truncation.max_length < added) {
    return error(Code::kInvalidArgument, "truncation max_length {} leaves no room for {} special tokens; raise it",
                 truncation.max_length, added);
  }
  truncation.max_length -= added;
  return truncate(texts[0], pair ? &texts[1] : nullptr, truncation);
}

Result<Encoding> post_process(const Parts& parts, std::vector<Encoding> texts, const EncodeOptions& options) {
  if (texts.size() == 1 && !parts.post_processor) return std::move(texts[0]);
  for (size_t i = 0; i < texts.size(); ++i) {
    texts[i].sequence_ranges[i] = Encoding::Range{0, texts[i].size()};
    if (!parts.post_processor) continue;
    for (Encoding& o : texts[i].overflowing) o.sequence_ranges[i] = Encoding::Range{0, o.size()};
    texts[i].type_ids.assign(texts[i].size(), static_cast<uint32_t>(i));
  }
  if (parts.post_processor) {
    OCIOR_RETURN_IF_ERROR(parts.post_processor->process(texts, options.add_special_tokens, options.with_tokens));
  }
  return join(std::move(texts));
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  size_t copied = 0;
  for (size_t at; (at = text.find(from, copied)) != std::string::npos; copied = at + from.size()) {
    out.append(text, copied, at - copied);
    out += to;
  }
  if (copied == 0) return;
  out.append(text, copied);
  text = std::move(out);
}

// Joins punctuation and English contractions to the word before, as the WordPiece decoder of `tokenizers` does for each token.
void clean_up(std::string& token) {
  if (token.find(' ') == std::string::npos) return;
  constexpr std::array<std::array<std::string_view, 2>, 11> kRules = {{{" .", "."},
                                                                       {" ?", "?"},
                                                                       {" !", "!"},
                                                                       {" ,", ","},
                                                                       {" ' ", "'"},
                                                                       {" n't", "n't"},
                                                                       {" 'm", "'m"},
                                                                       {" do not", " don't"},
                                                                       {" 's", "'s"},
                                                                       {" 've", "'ve"},
                                                                       {" 're", "'re"}}};
  for (const auto& [from, to] : kRules) replace_all(token, from, to);
}

}  // namespace

const EncodeOptions& Tokenizer::options() const { return parts_->options; }
const TokenizerConfig& Tokenizer::config() const { return parts_->config; }
const SpecialIds& Tokenizer::special_ids() const { return parts_->special_ids; }
size_t Tokenizer::vocab_size() const { return parts_->model->vocab_size(); }

Result<Encoding> Tokenizer::encode(std::string_view text, std::optional<std::string_view> pair) const {
  return encode(text, pair, parts_->options);
}

Result<Encoding> Tokenizer::encode(std::string_view text, std::optional<std::string_view> pair,
                                   const EncodeOptions& options) const {
  std::vector<Encoding> texts;
  OCIOR_ASSIGN(Encoding first, SequenceEncoder(*parts_, options, 0).encode(text));
  texts.push_back(std::move(first));
  if (pair) {
    OCIOR_ASSIGN(Encoding second, SequenceEncoder(*parts_, options, 1).encode(*pair));
    texts.push_back(std::move(second));
  }
  OCIOR_RETURN_IF_ERROR(truncate_for(*parts_, texts, options));
  OCIOR_ASSIGN(Encoding out, post_process(*parts_, std::move(texts), options));
  if (options.padding) OCIOR_RETURN_IF_ERROR(pad(std::span(&out, 1), *options.padding, options.with_tokens));
  return out;
}

Result<std::vector<Encoding>> Tokenizer::encode_batch(std::span<const EncodeInput> inputs, const EncodeOptions& options) const {
  std::vector<Encoding> out;
  out.reserve(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    Result<Encoding> one = encode(inputs[i].text, inputs[i].pair, options);
    if (!one.ok()) return with_context(one.status(), fmt::format("input {} of the batch", i));
    out.push_back(std::move(one).value());
  }
  if (options.padding) OCIOR_RETURN_IF_ERROR(pad(out, *options.padding, options.with_tokens));
  return out;
}

std::string Tokenizer::decode(std::span<const uint32_t> ids, bool skip_special_tokens) const {
  std::string out;
  bool first = true;
  for (uint32_t id : ids) {
    const std::string* found = parts_->added.id_to_token(id);
    if (!found) found = parts_->model->id_to_token(id);
    if (!found || (skip_special_tokens && parts_->added.is_special(*found))) continue;
    std::string token = *found;
    if (!parts_->decoder) {
      if (!first) token.insert(0, " ");
    } else {
      const WordPieceDecoder& decoder = *parts_->decoder;
      if (!first) {
        if (token.starts_with(decoder.prefix)) {
          token.erase(0, decoder.prefix.size());
        } else {
          token.insert(0, " ");
        }
      }
      if (decoder.cleanup) clean_up(token);
    }
    out += token;
    first = false;
  }
  return out;
}

std::optional<uint32_t> Tokenizer::token_to_id(std::string_view token) const {
  if (const auto id = parts_->added.token_to_id(token)) return id;
  return parts_->model->token_to_id(token);
}

std::optional<std::string> Tokenizer::id_to_token(uint32_t id) const {
  const std::string* token = parts_->added.id_to_token(id);
  if (!token) token = parts_->model->id_to_token(id);
  if (!token) return std::nullopt;
  return *token;
}

}  // namespace ocior::text
