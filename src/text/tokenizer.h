// Tokenizers as Hugging Face saves them, with the results of the `tokenizers` package 0.23.3: ids, tokens, offsets, words and
// windows. This is the API of the text layer for tokens. A Tokenizer is immutable; copies share their parts and any thread may
// use them. Differences: a part that is not supported, a stride that cannot work and a text that is not UTF-8 are errors, never a
// panic.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/encoding.h"
#include "text/model.h"

namespace ocior::text {

// What offsets count. Spans are half open in every unit.
enum class OffsetUnit { kCodePoint, kByte, kUtf16 };

struct EncodeOptions {
  bool add_special_tokens = true;
  bool with_tokens = true;  // fill Encoding::tokens
  OffsetUnit offset_unit = OffsetUnit::kCodePoint;
  std::optional<Truncation> truncation;
  std::optional<Padding> padding;  // encode() pads the one encoding, encode_batch() all to one length
};

// One text, or a pair.
struct EncodeInput {
  std::string_view text;
  std::optional<std::string_view> pair;
};

// What tokenizer_config.json says beside how to tokenize.
struct TokenizerConfig {
  std::optional<uint64_t> model_max_length;    // none if absent or the "very large" placeholder
  std::vector<std::string> model_input_names;  // empty if absent
};

// Ids of the tokens that models give a meaning to; named in tokenizer_config.json, else "[CLS]" and so on where they exist.
struct SpecialIds {
  std::optional<uint32_t> unk, cls, sep, pad, mask;
};

struct VocabOptions {
  bool do_lower_case = true;
  std::optional<bool> strip_accents;  // none: as do_lower_case
  bool tokenize_chinese_chars = true;
  std::string unk_token = "[UNK]", sep_token = "[SEP]", pad_token = "[PAD]", cls_token = "[CLS]", mask_token = "[MASK]";
};

class Tokenizer {
 public:
  // Reads tokenizer.json of a folder, else vocab.txt with the options of tokenizer_config.json.
  // kNoSuchFile if neither is there; kInvalidArgument if one is malformed; kNotImplemented for a part that is not supported.
  static Result<Tokenizer> from_folder(const std::string& folder);

  // Reads the text of a tokenizer.json; `name` stands for it in errors.
  static Result<Tokenizer> from_json(std::string_view json, const std::string& name = "tokenizer.json");

  // A BERT tokenizer from the text of a vocab.txt: one token a line, the line number is its id. `name` stands for it in errors.
  static Result<Tokenizer> from_vocab(std::string_view vocab, const VocabOptions& options = {},
                                      const std::string& name = "vocab.txt");

  // What the file asks for: its truncation and padding, with special tokens.
  const EncodeOptions& options() const;
  const TokenizerConfig& config() const;
  const SpecialIds& special_ids() const;

  // Encodes a text or a pair; strict UTF-8 of at most 256 MiB each, else kInvalidArgument. Without options: options().
  Result<Encoding> encode(std::string_view text, std::optional<std::string_view> pair = std::nullopt) const;
  Result<Encoding> encode(std::string_view text, std::optional<std::string_view> pair, const EncodeOptions& options) const;
  Result<std::vector<Encoding>> encode_batch(std::span<const EncodeInput> inputs, const EncodeOptions& options) const;

  // Joins the tokens of `ids` to a text; unknown ids are left out.
  std::string decode(std::span<const uint32_t> ids, bool skip_special_tokens = true) const;

  std::optional<uint32_t> token_to_id(std::string_view token) const;
  std::optional<std::string> id_to_token(uint32_t id) const;
  size_t vocab_size() const;  // of the model; added tokens may have higher ids

  struct Parts;

 private:
  explicit Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}
  std::shared_ptr<const Parts> parts_;
};

}  // namespace ocior::text
