// The post-processors of tokenizer.json: they add special tokens around the encoded texts and join them.
// Immutable after construction, shareable between threads.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "text/encoding.h"

namespace ocior::text {

class PostProcessor {
 public:
  virtual ~PostProcessor() = default;
  // How many special tokens are added to one text or to a pair.
  virtual size_t added_tokens(bool pair) const = 0;
  // Turns the one or two encodings (or what a processor before this one made of them) into the parts to be joined.
  virtual Status process(std::vector<Encoding>& parts, bool add_special_tokens, bool with_tokens) const = 0;
};

struct SpecialToken {
  std::vector<uint32_t> ids;
  std::vector<std::string> tokens;  // as many as ids
};

// One piece of a template: text 0 or 1, or special tokens.
struct TemplatePiece {
  int sequence = -1;  // -1: `special`
  SpecialToken special;
  uint32_t type_id = 0;
};

using PostProcessorPtr = std::unique_ptr<const PostProcessor>;

// [CLS] A [SEP] and [CLS] A [SEP] B [SEP].
PostProcessorPtr make_bert_processing(SpecialToken cls, SpecialToken sep);
// `single` may use text 0 only.
PostProcessorPtr make_template_processing(std::vector<TemplatePiece> single, std::vector<TemplatePiece> pair);
PostProcessorPtr make_sequence(std::vector<PostProcessorPtr> parts);

}  // namespace ocior::text
