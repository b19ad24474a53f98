// Table look-ups over unicode_tables.inc and UTF-8. See unicode.h.
#include "text/unicode.h"

#include <algorithm>
#include <iterator>

namespace ocior::text {
namespace {

struct FlagRun {
  char32_t first;
  uint16_t flags;
};
struct Mapping {
  char32_t from, first, second;
};
struct Decomposition {
  char32_t from;
  uint16_t start;
  uint8_t length;
};
struct CombiningClass {
  char32_t first, last;
  uint8_t value;
};
struct Composition {
  char32_t a, b, composite;
};

#include "text/unicode_tables.inc"

// Hangul syllables (Unicode, section 3.12): S = base + (L * 21 + V) * 28 + T.
constexpr char32_t kSBase = 0xAC00, kLBase = 0x1100, kVBase = 0x1161, kTBase = 0x11A7;
constexpr char32_t kLCount = 19, kVCount = 21, kTCount = 28, kSCount = kLCount * kVCount * kTCount;

char32_t compose_hangul(char32_t a, char32_t b) {
  if (a - kLBase < kLCount && b - kVBase < kVCount) return kSBase + ((a - kLBase) * kVCount + (b - kVBase)) * kTCount;
  if (a - kSBase < kSCount && (a - kSBase) % kTCount == 0 && b > kTBase && b - kTBase < kTCount) return a + (b - kTBase);
  return 0;
}

bool append_mapped(const Decomposition* begin, const Decomposition* end, const char32_t* pool, char32_t c, std::u32string& out) {
  const auto* it = std::lower_bound(begin, end, c, [](const Decomposition& d, char32_t x) { return d.from < x; });
  if (it == end || it->from != c) return false;
  out.append(pool + it->start, it->length);
  return true;
}

// Length of the sequence that starts with `lead`, its payload bits and the smallest code point it may encode; length 0 if none.
struct Lead {
  int length;
  char32_t bits, least;
};
Lead lead_of(unsigned char lead) {
  if (lead < 0x80) return {1, lead, 0};
  if (lead >= 0xC2 && lead < 0xE0) return {2, lead & 0x1Fu, 0x80};
  if (lead >= 0xE0 && lead < 0xF0) return {3, lead & 0x0Fu, 0x800};
  if (lead >= 0xF0 && lead < 0xF5) return {4, lead & 0x07u, 0x10000};
  return {0, 0, 0};
}

}  // namespace

CharTable::CharTable() {
  for (size_t i = 0; i < std::size(kFlagRuns); ++i) {
    const size_t end = i + 1 < std::size(kFlagRuns) ? std::min<size_t>(kFlagRuns[i + 1].first, kBmp) : kBmp;
    for (size_t c = kFlagRuns[i].first; c < end; ++c) bmp_[c] = kFlagRuns[i].flags;
  }
}

const CharTable& CharTable::get() {
  static const CharTable table;
  return table;
}

uint16_t CharTable::astral(char32_t c) {
  if (c > 0x10FFFF) return 0;
  const auto* it =
      std::upper_bound(std::begin(kFlagRuns), std::end(kFlagRuns), c, [](char32_t x, const FlagRun& r) { return x < r.first; });
  return (it - 1)->flags;
}

Status decode_utf8(std::string_view text, std::u32string& out) {
  out.reserve(out.size() + text.size());
  for (size_t i = 0; i < text.size();) {
    const Lead lead = lead_of(static_cast<unsigned char>(text[i]));
    char32_t c = lead.bits;
    bool good = lead.length > 0 && text.size() - i >= static_cast<size_t>(lead.length);
    for (int k = 1; good && k < lead.length; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      good = (byte & 0xC0) == 0x80;
      c = c << 6 | (byte & 0x3Fu);
    }
    if (!good || c < lead.least || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) {
      return error(Code::kInvalidArgument,
                   "the text is not valid UTF-8 at byte {} (0x{:02X}); pass UTF-8, or replace bad bytes first", i,
                   static_cast<unsigned char>(text[i]));
    }
    out.push_back(c);
    i += lead.length;
  }
  return {};
}

void append_utf8(char32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

std::string to_utf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char32_t c : text) append_utf8(c, out);
  return out;
}

std::string_view shown(std::string_view text, size_t longest) {
  if (text.size() <= longest) return text;
  size_t end = longest;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

Lowered lower(char32_t c) {
  if (c < 0x80) return {c >= 'A' && c <= 'Z' ? c + 32 : c, 0};
  const auto* it =
      std::lower_bound(std::begin(kLower), std::end(kLower), c, [](const Mapping& m, char32_t x) { return m.from < x; });
  if (it == std::end(kLower) || it->from != c) return {c, 0};
  return {it->first, it->second};
}

std::u32string lower(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (char32_t c : text) {
    const Lowered l = lower(c);
    out += l.first;
    if (l.second) out += l.second;
  }
  return out;
}

void decompose(char32_t c, bool compatible, std::u32string& out) {
  if (c - kSBase < kSCount) {
    const char32_t s = c - kSBase;
    out += kLBase + s / (kVCount * kTCount);
    out += kVBase + s / kTCount % kVCount;
    if (s % kTCount) out += kTBase + s % kTCount;
    return;
  }
  if (c < 0x80) {
    out += c;
    return;
  }
  if (compatible && append_mapped(std::begin(kCompatible), std::end(kCompatible), kCompatiblePool, c, out)) return;
  if (!append_mapped(std::begin(kCanonical), std::end(kCanonical), kCanonicalPool, c, out)) out += c;
}

uint8_t combining_class(char32_t c) {
  const auto* it = std::upper_bound(std::begin(kClasses), std::end(kClasses), c,
                                    [](char32_t x, const CombiningClass& k) { return x < k.first; });
  return it != std::begin(kClasses) && c <= (it - 1)->last ? (it - 1)->value : 0;
}

char32_t compose(char32_t a, char32_t b) {
  if (const char32_t syllable = compose_hangul(a, b)) return syllable;
  const auto* it =
      std::lower_bound(std::begin(kCompositions), std::end(kCompositions), Composition{a, b, 0},
                       [](const Composition& x, const Composition& y) { return x.a != y.a ? x.a < y.a : x.b < y.b; });
  return it != std::end(kCompositions) && it->a == a && it->b == b ? it->composite : 0;
}

}  // namespace ocior::text
