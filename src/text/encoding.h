// What encoding a text yields, and the truncation, padding and joining of such results. Part of the API of the text layer.
// Plain values; every vector of an Encoding but `overflowing` has one entry per token.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "text/aligned_text.h"

namespace ocior::text {

struct Encoding {
  // A range of tokens.
  struct Range {
    size_t begin = 0;
    size_t end = 0;
  };

  std::vector<uint32_t> ids;
  std::vector<uint32_t> type_ids;
  std::vector<std::string> tokens;  // empty if EncodeOptions::with_tokens was false
  std::vector<Span> offsets;  // in the unit of EncodeOptions::offset_unit of the token's own sequence; {0, 0} for special tokens
  std::vector<int32_t> word_ids;  // index of the word in its sequence, kNoWord for special tokens
  std::vector<uint8_t> special_tokens_mask;
  std::vector<uint8_t> attention_mask;
  std::vector<Encoding> overflowing;                    // the other windows after truncation
  std::array<std::optional<Range>, 2> sequence_ranges;  // tokens of the first and the second text

  static constexpr int32_t kNoWord = -1;
  static constexpr int32_t kNoSequence = -1;

  size_t size() const { return ids.size(); }

  // For each token the sequence it belongs to (0 or 1), or kNoSequence. Without ranges every token belongs to 0, as in
  // `tokenizers`.
  std::vector<int32_t> sequence_ids() const;

  // Copies tokens [begin, end) without overflow and ranges.
  Encoding slice(size_t begin, size_t end) const;
};

enum class Direction { kLeft, kRight };

struct Truncation {
  enum class Strategy { kLongestFirst, kOnlyFirst, kOnlySecond };
  uint64_t max_length = 512;  // with special tokens
  uint64_t stride = 0;        // tokens shared by neighbouring windows
  Strategy strategy = Strategy::kLongestFirst;
  Direction direction = Direction::kRight;  // kRight cuts the end off
};

struct Padding {
  std::optional<uint64_t> fixed;  // pad to this length; none: to the longest of the batch
  std::optional<uint64_t> multiple_of;
  Direction direction = Direction::kRight;  // kRight adds at the end
  uint32_t id = 0;
  uint32_t type_id = 0;
  std::string token = "[PAD]";
};

// More tokens than this are never made by windows or padding: an error instead.
inline constexpr uint64_t kMaxTokens = uint64_t{1} << 25;

// Shortens `first` and `second` (nullptr for one text) to max_length tokens in all; what is cut off becomes `overflowing`.
Status truncate(Encoding& first, Encoding* second, const Truncation& truncation);

// Joins parts one after another; overflowing windows are combined as `tokenizers` does: every window of a part with every window
// of the rest.
Result<Encoding> join(std::vector<Encoding> parts);

// Pads all encodings and their overflow to one length. `with_tokens` says whether they carry `tokens`.
Status pad(std::span<Encoding> encodings, const Padding& padding, bool with_tokens);

}  // namespace ocior::text
