// Code points: strict UTF-8, the character classes and case and normalization tables of the `tokenizers` package
// (unicode_tables.inc). For src/text only. Stateless and thread-safe; the one table that is expanded at first use never changes
// afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace ocior::text {

// What `tokenizers` says about a code point. The values are those of scripts/make_unicode_tables.py.
enum CharFlag : uint16_t {
  kSpace = 1 << 0,        // White_Space
  kDropped = 1 << 1,      // removed by BertNormalizer.clean_text: control, format, unassigned, private use, U+FFFD
  kPunctuation = 1 << 2,  // ASCII punctuation or general category P*
  kMn = 1 << 3,           // nonspacing mark, removed by BertNormalizer.strip_accents
  kMark = 1 << 4,         // any mark, removed by StripAccents
  kNumeric = 1 << 5,      // Nd, Nl, No
  kWord = 1 << 6,         // \w
  kHan = 1 << 7,          // surrounded with spaces by BertNormalizer.handle_chinese_chars
  kHasLower = 1 << 8,
  kHasCanonical = 1 << 9,
  kHasCompatible = 1 << 10,
  kHasClass = 1 << 11,  // canonical combining class is not 0
};

class CharTable {
 public:
  static const CharTable& get();

  // The CharFlags of `c`; 0 above U+10FFFF.
  uint16_t flags(char32_t c) const { return c < kBmp ? bmp_[c] : astral(c); }

 private:
  static constexpr size_t kBmp = 0x10000;
  CharTable();
  static uint16_t astral(char32_t c);
  uint16_t bmp_[kBmp];
};

// Decodes strict UTF-8 (no surrogates, no overlong forms) onto the end of `out`. The error names the first bad byte.
Status decode_utf8(std::string_view text, std::u32string& out);

// Appends the UTF-8 form of `c`, a scalar value.
void append_utf8(char32_t c, std::string& out);
std::string to_utf8(std::u32string_view text);

// At most the first `longest` bytes of `text`, whole code points, for messages.
std::string_view shown(std::string_view text, size_t longest = 80);

// Bytes of the UTF-8 form of `c` and 16-bit units of its UTF-16 form.
inline size_t utf8_length(char32_t c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }
inline size_t utf16_length(char32_t c) { return c < 0x10000 ? 1 : 2; }

// The context-free lower-case form of `c`: one code point, or two for U+0130. A second code point of 0 means none.
struct Lowered {
  char32_t first;
  char32_t second;
};
Lowered lower(char32_t c);
std::u32string lower(std::u32string_view text);

// The full canonical or (with `compatible`) compatibility decomposition of `c`, appended to `out`.
void decompose(char32_t c, bool compatible, std::u32string& out);

// A number that orders like the canonical combining class; 0 for starters.
uint8_t combining_class(char32_t c);

// The primary composite of `a` followed by `b`, or 0.
char32_t compose(char32_t a, char32_t b);

}  // namespace ocior::text
