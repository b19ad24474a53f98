// The normalizers of tokenizer.json: each edits a text in place and keeps it aligned with the original.
// Immutable after construction, shareable between threads.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "text/aligned_text.h"

namespace ocior::text {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // Fails only if the text would become larger than text.limit().
  virtual Status apply(AlignedText& text) const = 0;
};

struct BertOptions {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};

using NormalizerPtr = std::unique_ptr<const Normalizer>;

NormalizerPtr make_bert_normalizer(const BertOptions& options);
NormalizerPtr make_lowercase();
NormalizerPtr make_strip_accents();
NormalizerPtr make_strip(bool left, bool right);
NormalizerPtr make_prepend(std::u32string text);                             // not empty
NormalizerPtr make_replace(std::u32string pattern, std::u32string content);  // pattern not empty
// NFD, NFKD (compatible), NFC (composed), NFKC (both).
NormalizerPtr make_unicode_form(bool compatible, bool composed);
NormalizerPtr make_sequence(std::vector<NormalizerPtr> parts);

}  // namespace ocior::text
