// How special tokens get around texts. See post_processor.h.
#include "text/post_processor.h"

namespace ocior::text {
namespace {

Encoding special_encoding(const SpecialToken& token, uint32_t type_id, bool with_tokens) {
  const size_t n = token.ids.size();
  Encoding out;
  out.ids = token.ids;
  out.type_ids.assign(n, type_id);
  if (with_tokens) out.tokens = token.tokens;
  out.offsets.assign(n, {});
  out.word_ids.assign(n, Encoding::kNoWord);
  out.special_tokens_mask.assign(n, 1);
  out.attention_mask.assign(n, 1);
  return out;
}

class BertProcessing final : public PostProcessor {
 public:
  BertProcessing(SpecialToken cls, SpecialToken sep) : cls_(std::move(cls)), sep_(std::move(sep)) {}

  size_t added_tokens(bool pair) const override { return pair ? 3 : 2; }

  Status process(std::vector<Encoding>& parts, bool add_special_tokens, bool with_tokens) const override {
    if (!add_special_tokens) return {};
    for (size_t i = 0; i < parts.size(); ++i) {
      for (Encoding& o : parts[i].overflowing) OCIOR_RETURN_IF_ERROR(surround(o, i == 0, with_tokens));
      OCIOR_RETURN_IF_ERROR(surround(parts[i], i == 0, with_tokens));
    }
    return {};
  }

 private:
  // Puts [CLS] before the first text and [SEP] after each; `e` keeps its windows.
  Status surround(Encoding& e, bool first, bool with_tokens) const {
    std::vector<Encoding> windows = std::move(e.overflowing);
    e.overflowing.clear();
    e.special_tokens_mask.assign(e.size(), 0);
    e.attention_mask.assign(e.size(), 1);
    e.sequence_ranges = {};
    e.sequence_ranges[first ? 0 : 1] = Encoding::Range{0, e.size()};
    std::vector<Encoding> parts;
    if (first) parts.push_back(special_encoding(cls_, 0, with_tokens));
    parts.push_back(std::move(e));
    parts.push_back(special_encoding(sep_, first ? 0 : 1, with_tokens));
    OCIOR_ASSIGN(e, join(std::move(parts)));
    e.overflowing = std::move(windows);
    return {};
  }

  SpecialToken cls_, sep_;
};

class TemplateProcessing final : public PostProcessor {
 public:
  TemplateProcessing(std::vector<TemplatePiece> single, std::vector<TemplatePiece> pair)
      : pieces_{std::move(single), std::move(pair)} {}

  size_t added_tokens(bool pair) const override {
    size_t n = 0;
    for (const TemplatePiece& p : pieces_[pair]) n += p.special.ids.size();
    return n;
  }

  Status process(std::vector<Encoding>& parts, bool add_special_tokens, bool with_tokens) const override {
    if (parts.size() != 1 && parts.size() != 2) {
      return error(Code::kInvalidArgument,
                   "post_processor: a TemplateProcessing got {} parts from the processor before it; it must come first",
                   parts.size());
    }
    std::vector<Encoding> out;
    for (const TemplatePiece& p : pieces_[parts.size() == 2]) {
      if (p.sequence < 0) {
        if (add_special_tokens) out.push_back(special_encoding(p.special, p.type_id, with_tokens));
        continue;
      }
      Encoding& e = parts[static_cast<size_t>(p.sequence)];
      e.type_ids.assign(e.size(), p.type_id);  // its windows keep 0 and 1, as in `tokenizers`
      e.sequence_ranges[static_cast<size_t>(p.sequence)] = Encoding::Range{0, e.size()};
      out.push_back(std::move(e));
    }
    parts = std::move(out);
    return {};
  }

 private:
  std::vector<TemplatePiece> pieces_[2];
};

class Sequence final : public PostProcessor {
 public:
  explicit Sequence(std::vector<PostProcessorPtr> parts) : parts_(std::move(parts)) {}

  size_t added_tokens(bool pair) const override {
    size_t n = 0;
    for (const PostProcessorPtr& p : parts_) n += p->added_tokens(pair);
    return n;
  }

  Status process(std::vector<Encoding>& parts, bool add_special_tokens, bool with_tokens) const override {
    for (const PostProcessorPtr& p : parts_) OCIOR_RETURN_IF_ERROR(p->process(parts, add_special_tokens, with_tokens));
    return {};
  }

 private:
  std::vector<PostProcessorPtr> parts_;
};

}  // namespace

PostProcessorPtr make_bert_processing(SpecialToken cls, SpecialToken sep) {
  return std::make_unique<BertProcessing>(std::move(cls), std::move(sep));
}
PostProcessorPtr make_template_processing(std::vector<TemplatePiece> single, std::vector<TemplatePiece> pair) {
  return std::make_unique<TemplateProcessing>(std::move(single), std::move(pair));
}
PostProcessorPtr make_sequence(std::vector<PostProcessorPtr> parts) { return std::make_unique<Sequence>(std::move(parts)); }

}  // namespace ocior::text
