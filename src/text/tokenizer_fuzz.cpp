// libFuzzer: the bytes are a tokenizer.json (first byte even) or a vocab.txt, then a zero byte, then a text to encode and answer
// from.
#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/qa.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ocior::text;
  if (size < 2) return 0;
  const std::string_view all(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t end = std::min(all.find('\0'), all.size());
  const std::string_view text = all.substr(std::min(end + 1, all.size()));
  const auto tokenizer = data[0] % 2 ? Tokenizer::from_vocab(all.substr(0, end)) : Tokenizer::from_json(all.substr(0, end));
  if (!tokenizer.ok()) return 0;
  const auto encoding = tokenizer->encode(text, text.substr(text.size() / 2));
  if (encoding.ok()) (void)tokenizer->decode(encoding->ids);
  const auto question = prepare(*tokenizer, text.substr(0, text.size() / 4), text, {.max_seq_len = 32, .doc_stride = 4});
  if (!question.ok()) return 0;
  std::vector<std::vector<float>> logits;
  for (const Window& w : question->windows) logits.emplace_back(w.size(), static_cast<float>(data[0]));
  const std::vector<std::span<const float>> views(logits.begin(), logits.end());
  (void)answer(*question, views, views, {.top_k = 2, .handle_impossible_answer = true});
  return 0;
}
