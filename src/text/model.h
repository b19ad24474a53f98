// The model of tokenizer.json: it cuts one word into tokens of its vocabulary.
// Immutable after construction, shareable between threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace ocior::text {

struct ModelToken {
  uint32_t id;
  uint32_t begin;  // [begin, end) in code points of the word
  uint32_t end;
};

class Model {
 public:
  virtual ~Model() = default;
  // Appends the tokens of `word`, which is not empty, to `out`.
  virtual Status tokenize(std::u32string_view word, std::vector<ModelToken>& out) const = 0;
  virtual std::optional<uint32_t> token_to_id(std::string_view token) const = 0;
  // nullptr if no token has this id. Lives as long as the model.
  virtual const std::string* id_to_token(uint32_t id) const = 0;
  virtual size_t vocab_size() const = 0;
};

struct VocabEntry {
  std::string token;
  uint32_t id;
};

struct WordPieceOptions {
  std::string unk_token = "[UNK]";
  std::string continuing_subword_prefix = "##";
  uint64_t max_input_chars_per_word = 100;
};

// WordPiece: greedy longest match first. `vocab` in any order; of two entries with one token the later counts; tokens are UTF-8.
// Fails if two tokens share an id.
Result<std::unique_ptr<const Model>> make_word_piece(std::vector<VocabEntry> vocab, const WordPieceOptions& options);

}  // namespace ocior::text
