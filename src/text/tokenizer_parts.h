// What a Tokenizer is made of; filled by the readers of tokenizer.json and vocab.txt. For src/text only.
#pragma once

#include "text/added_tokens.h"
#include "text/model.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace ocior::text {

struct WordPieceDecoder {
  std::string prefix = "##";
  bool cleanup = true;
};

struct Tokenizer::Parts {
  NormalizerPtr normalizer;       // may be null
  PreTokenizerPtr pre_tokenizer;  // may be null
  std::unique_ptr<const Model> model;
  PostProcessorPtr post_processor;  // may be null
  std::optional<WordPieceDecoder> decoder;
  AddedTokens added;
  EncodeOptions options;
  TokenizerConfig config;
  SpecialIds special_ids;
};

// Reads tokenizer.json. Errors name the path inside the file, not the file.
Result<std::shared_ptr<Tokenizer::Parts>> parse_tokenizer_json(std::string_view json);

// Builds BERT's pipeline over the lines of a vocab.txt; `added` are further tokens, in the order of their ids.
Result<std::shared_ptr<Tokenizer::Parts>> parse_vocab(std::string_view vocab, const VocabOptions& options,
                                                      const std::vector<AddedToken>& added);

// What tokenizer_config.json holds for us.
struct ConfigFile {
  VocabOptions vocab;
  TokenizerConfig config;
  std::vector<AddedToken> added;
  std::vector<std::string> unsupported;  // names of options that a vocab.txt tokenizer could not honour
};
Result<ConfigFile> parse_tokenizer_config(std::string_view json);

SpecialIds find_special_ids(const Tokenizer::Parts& parts, const VocabOptions& names);

}  // namespace ocior::text
