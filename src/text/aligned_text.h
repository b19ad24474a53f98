// A text under normalization that remembers which part of the original every code point came from.
// For normalizers and the tokenizer; a plain value, owned by one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/unicode.h"

namespace ocior::text {

// [begin, end) in code points of the original text.
struct Span {
  uint32_t begin = 0;
  uint32_t end = 0;
  bool operator==(const Span&) const = default;
};

// One code point written by a normalizer. `change` says what became of the input (as in NormalizedString::transform of
// `tokenizers`): 0 replaces one input code point, 1 adds one more (it takes the span of the one before), -n replaces one and
// swallows n after it.
struct Written {
  char32_t c;
  int change;
};

class AlignedText {
 public:
  // A slice of the original that begins at its code point `base`. `limit` bounds how long normalization may make it.
  AlignedText(std::u32string chars, uint32_t base, size_t limit) : chars_(std::move(chars)), base_(base), limit_(limit) {
    for (char32_t c : chars_) ascii_ &= c < 0x80;
  }

  const std::u32string& chars() const { return chars_; }
  size_t size() const { return chars_.size(); }
  bool ascii() const { return ascii_; }  // true only if every code point is below U+0080
  size_t limit() const { return limit_; }
  Span span(size_t i) const {
    if (spans_.empty()) return {base_ + static_cast<uint32_t>(i), base_ + static_cast<uint32_t>(i) + 1};
    return spans_[i];
  }

  // Replaces every code point by map(c).
  template <class F>
  void map(F map_one) {
    for (char32_t& c : chars_) c = map_one(c);
  }

  // Keeps the code points for which keep(c).
  template <class F>
  void filter(F keep) {
    size_t i = 0;
    while (i < size() && keep(chars_[i])) ++i;
    if (i == size()) return;
    spell_out_spans();
    size_t out = i;
    for (; i < size(); ++i) {
      if (!keep(chars_[i])) continue;
      chars_[out] = chars_[i];
      spans_[out++] = spans_[i];
    }
    chars_.resize(out);
    spans_.resize(out);
  }

  // Keeps [begin, end).
  void crop(size_t begin, size_t end);

  // Replaces the whole text by `written`, whose changes account for every input code point.
  void rewrite(const std::vector<Written>& written);

  // Replaces the whole text and its spans (of equal length).
  void assign(std::u32string chars, std::vector<Span> spans);

 private:
  void spell_out_spans();

  std::u32string chars_;
  std::vector<Span> spans_;  // empty while code point i is original code point base_ + i
  uint32_t base_;
  size_t limit_;
  bool ascii_ = true;
};

}  // namespace ocior::text
