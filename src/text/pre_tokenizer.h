// The pre-tokenizers of tokenizer.json: they cut a normalized text into the words that the model sees.
// Immutable after construction, shareable between threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace ocior::text {

// [begin, end) in code points of a normalized text; never empty.
struct Piece {
  uint32_t begin;
  uint32_t end;
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Appends the parts of text[piece] that remain, in order, to `out`.
  virtual void split(std::u32string_view text, Piece piece, std::vector<Piece>& out) const = 0;
};

// What happens to a delimiter (SplitDelimiterBehavior of `tokenizers`).
enum class Delimiter { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

using PreTokenizerPtr = std::unique_ptr<const PreTokenizer>;

PreTokenizerPtr make_bert_pre_tokenizer();
PreTokenizerPtr make_whitespace();  // runs of \w and runs of what is neither \w nor \s
PreTokenizerPtr make_whitespace_split();
PreTokenizerPtr make_punctuation(Delimiter behavior);
PreTokenizerPtr make_digits(bool individual);
PreTokenizerPtr make_sequence(std::vector<PreTokenizerPtr> parts);

}  // namespace ocior::text
