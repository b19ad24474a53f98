// Edits of a text that keep its alignment with the original. See aligned_text.h.
#include "text/aligned_text.h"

#include <algorithm>

namespace ocior::text {

void AlignedText::spell_out_spans() {
  if (!spans_.empty()) return;
  spans_.reserve(size());
  for (size_t i = 0; i < size(); ++i) spans_.push_back({base_ + static_cast<uint32_t>(i), base_ + static_cast<uint32_t>(i) + 1});
}

void AlignedText::crop(size_t begin, size_t end) {
  if (begin == 0 && end == size()) return;
  spell_out_spans();
  chars_ = chars_.substr(begin, end - begin);
  spans_ = std::vector<Span>(spans_.begin() + begin, spans_.begin() + end);
}

void AlignedText::rewrite(const std::vector<Written>& written) {
  if (chars_.empty()) return;
  spell_out_spans();
  std::u32string chars;
  std::vector<Span> spans;
  chars.reserve(written.size());
  spans.reserve(written.size());
  size_t next = 0;  // input code points used so far
  for (const Written& w : written) {
    const size_t source = w.change > 0 ? (next == 0 ? 0 : next - 1) : std::min(next, size() - 1);
    chars.push_back(w.c);
    spans.push_back(spans_[source]);
    if (w.change <= 0) next += 1 + static_cast<size_t>(-w.change);
  }
  assign(std::move(chars), std::move(spans));
}

void AlignedText::assign(std::u32string chars, std::vector<Span> spans) {
  chars_ = std::move(chars);
  spans_ = std::move(spans);
  ascii_ = std::all_of(chars_.begin(), chars_.end(), [](char32_t c) { return c < 0x80; });
}

}  // namespace ocior::text
