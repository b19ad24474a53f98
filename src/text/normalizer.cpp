// What each normalizer does to a text. See normalizer.h.
#include "text/normalizer.h"

#include <algorithm>

namespace ocior::text {
namespace {

// Decomposes and orders `text`; every item's change says whether it begins a source code point (0) or continues it (1).
std::vector<Written> decomposed(const std::u32string& text, bool compatible) {
  std::vector<Written> out;
  out.reserve(text.size());
  std::vector<uint8_t> classes;
  classes.reserve(text.size());
  std::u32string one;
  for (char32_t c : text) {
    one.clear();
    decompose(c, compatible, one);
    for (size_t i = 0; i < one.size(); ++i) {
      out.push_back({one[i], i > 0 ? 1 : 0});
      classes.push_back(one[i] < 0x80 ? 0 : combining_class(one[i]));
    }
  }
  for (size_t begin = 0; begin < out.size();) {  // canonical order: stable sort of each run of non-starters
    if (classes[begin] == 0) {
      ++begin;
      continue;
    }
    size_t end = begin;
    while (end < out.size() && classes[end] != 0) ++end;
    if (end - begin > 1) {
      std::stable_sort(out.begin() + begin, out.begin() + end,
                       [](const Written& a, const Written& b) { return combining_class(a.c) < combining_class(b.c); });
    }
    begin = end;
  }
  return out;
}

// Canonical composition (Unicode, section 3.11, D117). A composite's change is the sum of what its parts consumed.
std::vector<Written> composed(const std::vector<Written>& in) {
  std::vector<Written> out;
  out.reserve(in.size());
  constexpr size_t kNone = static_cast<size_t>(-1);
  size_t starter = kNone;  // position in `out` of the last starter
  uint8_t last_class = 0;  // class of the last mark kept after it, 0 if none
  for (const Written& w : in) {
    const uint8_t cls = combining_class(w.c);
    if (starter != kNone && (last_class == 0 || last_class < cls)) {
      if (const char32_t composite = compose(out[starter].c, w.c)) {
        out[starter] = {composite, out[starter].change + w.change - 1};
        continue;
      }
    }
    if (cls == 0) {
      starter = out.size();
      last_class = 0;
    } else if (starter != kNone) {
      last_class = cls;
    }
    out.push_back(w);
  }
  return out;
}

void to_unicode_form(AlignedText& text, bool compatible, bool compose_after) {
  if (text.ascii()) return;
  if (!compose_after) {
    const CharTable& table = CharTable::get();
    const uint16_t changes = kHasClass | kHasCanonical | (compatible ? kHasCompatible : 0);
    if (std::none_of(text.chars().begin(), text.chars().end(), [&](char32_t c) { return table.flags(c) & changes; })) return;
  }
  const std::vector<Written> written = decomposed(text.chars(), compatible);
  text.rewrite(compose_after ? composed(written) : written);
}

void to_lower(AlignedText& text) {
  constexpr char32_t kDottedI = 0x130;  // the only one whose lower case is two code points
  if (text.chars().find(kDottedI) == std::u32string::npos) {
    text.map([](char32_t c) { return lower(c).first; });
    return;
  }
  std::vector<Written> written;
  for (char32_t c : text.chars()) {
    const Lowered l = lower(c);
    written.push_back({l.first, 0});
    if (l.second) written.push_back({l.second, 1});
  }
  text.rewrite(written);
}

void surround_han(AlignedText& text) {
  const CharTable& table = CharTable::get();
  const auto is_han = [&](char32_t c) { return table.flags(c) & kHan; };
  if (text.ascii() || std::none_of(text.chars().begin(), text.chars().end(), is_han)) return;
  std::vector<Written> written;
  written.reserve(text.size() * 3);
  for (char32_t c : text.chars()) {
    if (is_han(c)) {
      written.insert(written.end(), {{U' ', 0}, {c, 1}, {U' ', 1}});
    } else {
      written.push_back({c, 0});
    }
  }
  text.rewrite(written);
}

void drop_flagged(AlignedText& text, uint16_t flag) {
  if (text.ascii() && flag != kDropped) return;
  const CharTable& table = CharTable::get();
  text.filter([&](char32_t c) { return !(table.flags(c) & flag); });
}

Status too_large(std::string_view name, const AlignedText& text) {
  return error(Code::kInvalidArgument, "normalizer {} would make the text longer than {} code points; shorten the text", name,
               text.limit());
}

class Bert final : public Normalizer {
 public:
  explicit Bert(const BertOptions& options) : options_(options) {}

  Status apply(AlignedText& text) const override {
    if (options_.clean_text) {
      drop_flagged(text, kDropped);
      const CharTable& table = CharTable::get();
      text.map([&](char32_t c) { return table.flags(c) & kSpace ? U' ' : c; });
    }
    if (options_.handle_chinese_chars) surround_han(text);
    if (options_.strip_accents) {
      to_unicode_form(text, false, false);
      drop_flagged(text, kMn);
    }
    if (options_.lowercase) to_lower(text);
    return {};
  }

 private:
  BertOptions options_;
};

class Lowercase final : public Normalizer {
 public:
  Status apply(AlignedText& text) const override {
    to_lower(text);
    return {};
  }
};

class StripAccents final : public Normalizer {
 public:
  Status apply(AlignedText& text) const override {
    drop_flagged(text, kMark);
    return {};
  }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  Status apply(AlignedText& text) const override {
    const CharTable& table = CharTable::get();
    size_t begin = 0, end = text.size();
    while (left_ && begin < end && table.flags(text.chars()[begin]) & kSpace) ++begin;
    while (right_ && begin < end && table.flags(text.chars()[end - 1]) & kSpace) --end;
    text.crop(begin, end);
    return {};
  }

 private:
  bool left_, right_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::u32string prefix) : prefix_(std::move(prefix)) {}

  Status apply(AlignedText& text) const override {
    if (text.size() == 0) return {};
    if (prefix_.size() + text.size() > text.limit()) return too_large("Prepend", text);
    std::vector<Span> spans(prefix_.size(), text.span(0));
    for (size_t i = 0; i < text.size(); ++i) spans.push_back(text.span(i));
    text.assign(prefix_ + text.chars(), std::move(spans));
    return {};
  }

 private:
  std::u32string prefix_;
};

class Replace final : public Normalizer {
 public:
  Replace(std::u32string pattern, std::u32string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}

  Status apply(AlignedText& text) const override {
    const std::u32string& chars = text.chars();
    size_t match = chars.find(pattern_);
    if (match == std::u32string::npos) return {};
    std::u32string out;
    std::vector<Span> spans;
    size_t copied = 0;
    while (true) {
      const size_t stop = std::min(match, chars.size());
      out.append(chars, copied, stop - copied);
      for (size_t i = copied; i < stop; ++i) spans.push_back(text.span(i));
      if (match == std::u32string::npos) break;
      copied = match + pattern_.size();
      if (out.size() + content_.size() + (chars.size() - copied) > text.limit()) return too_large("Replace", text);
      out += content_;
      spans.insert(spans.end(), content_.size(), text.span(copied - 1));  // as tokenizers does: the match's last code point
      match = chars.find(pattern_, copied);
    }
    text.assign(std::move(out), std::move(spans));
    return {};
  }

 private:
  std::u32string pattern_, content_;
};

class UnicodeForm final : public Normalizer {
 public:
  UnicodeForm(bool compatible, bool composed) : compatible_(compatible), composed_(composed) {}

  Status apply(AlignedText& text) const override {
    constexpr size_t kLongest = 18;  // code points in the longest decomposition, U+FDFA's
    if (text.size() > text.limit() / kLongest) return too_large("NFD, NFKD, NFC or NFKC", text);
    to_unicode_form(text, compatible_, composed_);
    return {};
  }

 private:
  bool compatible_, composed_;
};

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<NormalizerPtr> parts) : parts_(std::move(parts)) {}

  Status apply(AlignedText& text) const override {
    for (const NormalizerPtr& part : parts_) OCIOR_RETURN_IF_ERROR(part->apply(text));
    return {};
  }

 private:
  std::vector<NormalizerPtr> parts_;
};

}  // namespace

NormalizerPtr make_bert_normalizer(const BertOptions& options) { return std::make_unique<Bert>(options); }
NormalizerPtr make_lowercase() { return std::make_unique<Lowercase>(); }
NormalizerPtr make_strip_accents() { return std::make_unique<StripAccents>(); }
NormalizerPtr make_strip(bool left, bool right) { return std::make_unique<Strip>(left, right); }
NormalizerPtr make_prepend(std::u32string text) { return std::make_unique<Prepend>(std::move(text)); }
NormalizerPtr make_replace(std::u32string pattern, std::u32string content) {
  return std::make_unique<Replace>(std::move(pattern), std::move(content));
}
NormalizerPtr make_unicode_form(bool compatible, bool composed) { return std::make_unique<UnicodeForm>(compatible, composed); }
NormalizerPtr make_sequence(std::vector<NormalizerPtr> parts) { return std::make_unique<Sequence>(std::move(parts)); }

}  // namespace ocior::text
