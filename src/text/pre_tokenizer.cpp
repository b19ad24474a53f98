// How each pre-tokenizer cuts. See pre_tokenizer.h.
#include "text/pre_tokenizer.h"

#include "text/unicode.h"

namespace ocior::text {
namespace {

// Cuts at the code points that carry `flag` and joins, keeps or removes them as `behavior` says.
class FlagSplit final : public PreTokenizer {
 public:
  FlagSplit(uint16_t flag, Delimiter behavior) : flag_(flag), behavior_(behavior) {}

  void split(std::u32string_view text, Piece piece, std::vector<Piece>& out) const override {
    const CharTable& table = CharTable::get();
    bool open = false;      // whether out.back() may still grow
    bool previous = false;  // whether the code point before is a delimiter
    for (uint32_t i = piece.begin; i < piece.end; ++i) {
      const bool delimiter = table.flags(text[i]) & flag_;
      if (delimiter && behavior_ == Delimiter::kRemoved) {
        open = false;
        continue;
      }
      if (open && joins(previous, delimiter)) {
        out.back().end = i + 1;
      } else {
        out.push_back({i, i + 1});
      }
      open = true;
      previous = delimiter;
    }
  }

 private:
  bool joins(bool previous, bool delimiter) const {
    switch (behavior_) {
      case Delimiter::kMergedWithPrevious: return !previous;
      case Delimiter::kMergedWithNext: return !delimiter;
      case Delimiter::kContiguous: return previous == delimiter;
      default: return !previous && !delimiter;
    }
  }

  uint16_t flag_;
  Delimiter behavior_;
};

class Bert final : public PreTokenizer {
 public:
  void split(std::u32string_view text, Piece piece, std::vector<Piece>& out) const override {
    const CharTable& table = CharTable::get();
    bool open = false;
    for (uint32_t i = piece.begin; i < piece.end; ++i) {
      const uint16_t flags = table.flags(text[i]);
      if (flags & kSpace) {
        open = false;
      } else if (flags & kPunctuation) {
        out.push_back({i, i + 1});
        open = false;
      } else if (open) {
        out.back().end = i + 1;
      } else {
        out.push_back({i, i + 1});
        open = true;
      }
    }
  }
};

class Whitespace final : public PreTokenizer {
 public:
  void split(std::u32string_view text, Piece piece, std::vector<Piece>& out) const override {
    const CharTable& table = CharTable::get();
    uint16_t before = kSpace;
    for (uint32_t i = piece.begin; i < piece.end; ++i) {
      const uint16_t kind = table.flags(text[i]) & (kWord | kSpace);  // never both
      if (kind != kSpace) {
        if (kind == before) {
          out.back().end = i + 1;
        } else {
          out.push_back({i, i + 1});
        }
      }
      before = kind;
    }
  }
};

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(std::vector<PreTokenizerPtr> parts) : parts_(std::move(parts)) {}

  void split(std::u32string_view text, Piece piece, std::vector<Piece>& out) const override {
    std::vector<Piece> now{piece}, next;
    for (const PreTokenizerPtr& part : parts_) {
      next.clear();
      for (Piece p : now) part->split(text, p, next);
      now.swap(next);
    }
    out.insert(out.end(), now.begin(), now.end());
  }

 private:
  std::vector<PreTokenizerPtr> parts_;
};

}  // namespace

PreTokenizerPtr make_bert_pre_tokenizer() { return std::make_unique<Bert>(); }
PreTokenizerPtr make_whitespace() { return std::make_unique<Whitespace>(); }
PreTokenizerPtr make_whitespace_split() { return std::make_unique<FlagSplit>(kSpace, Delimiter::kRemoved); }
PreTokenizerPtr make_punctuation(Delimiter behavior) { return std::make_unique<FlagSplit>(kPunctuation, behavior); }
PreTokenizerPtr make_digits(bool individual) {
  return std::make_unique<FlagSplit>(kNumeric, individual ? Delimiter::kIsolated : Delimiter::kContiguous);
}
PreTokenizerPtr make_sequence(std::vector<PreTokenizerPtr> parts) { return std::make_unique<Sequence>(std::move(parts)); }

}  // namespace ocior::text
