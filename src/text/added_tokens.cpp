// Finding added tokens: the leftmost match, of several there the longest. See added_tokens.h.
#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"

namespace ocior::text {
namespace {

constexpr size_t kMaxContent = 1024;  // code points of one token: bounds the work for each position of a text

// Where the white space that ends text[0, end) begins, but not before `least`.
uint32_t space_before(std::u32string_view text, uint32_t end, uint32_t least) {
  const CharTable& table = CharTable::get();
  while (end > least && table.flags(text[end - 1]) & kSpace) --end;
  return end;
}

uint32_t space_after(std::u32string_view text, uint32_t begin) {
  const CharTable& table = CharTable::get();
  while (begin < text.size() && table.flags(text[begin]) & kSpace) ++begin;
  return begin;
}

bool stands_alone(std::u32string_view text, uint32_t begin, uint32_t end) {
  const CharTable& table = CharTable::get();
  return (begin == 0 || !(table.flags(text[begin - 1]) & kWord)) && (end == text.size() || !(table.flags(text[end]) & kWord));
}

// The longest key of `trie` that begins at text[begin]: its end, with `value` set; `begin` if there is none.
uint32_t longest_at(const Trie& trie, std::u32string_view text, uint32_t begin, uint32_t& value) {
  uint32_t node = Trie::kRoot, end = begin;
  for (uint32_t i = begin; i < text.size(); ++i) {
    node = trie.child(node, text[i]);
    if (node == Trie::kNone) break;
    if (trie.value(node) != Trie::kNone) {
      value = trie.value(node);
      end = i + 1;
    }
  }
  return end;
}

}  // namespace

Result<AddedTokens> AddedTokens::make(const std::vector<AddedToken>& tokens, const Model& model, const Normalizer* normalizer) {
  AddedTokens out;
  if (model.vocab_size() + tokens.size() >= AddedMatch::kNoToken) {
    return error(Code::kInvalidArgument, "added_tokens and the vocabulary hold {} entries; ids have 32 bits",
                 model.vocab_size() + tokens.size());
  }
  uint32_t next_id = static_cast<uint32_t>(model.vocab_size());
  for (const AddedToken& token : tokens) {
    if (token.content.empty()) continue;  // `tokenizers` ignores it too
    std::optional<uint32_t> id = out.token_to_id(token.content);
    if (!id) id = model.token_to_id(token.content);
    if (!id) id = next_id++;
    out.by_content_[token.content] = *id;
    if (token.special) out.special_.insert(token.content);
    const auto [at, is_new] = out.by_id_.try_emplace(*id, static_cast<uint32_t>(out.entries_.size()));
    if (is_new) {
      out.entries_.push_back({token, *id, token.content});
    } else {
      out.entries_[at->second].token = token;
    }
  }
  OCIOR_RETURN_IF_ERROR(out.build(normalizer));
  return out;
}

Status AddedTokens::build(const Normalizer* normalizer) {
  std::vector<std::pair<std::u32string, uint32_t>> raw, normalized;
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    std::u32string chars;
    OCIOR_RETURN_IF_ERROR(decode_utf8(entry.token.content, chars));
    entry.decoded = entry.token.content;
    if (entry.token.normalized && normalizer && chars.size() <= kMaxContent) {
      AlignedText text(std::move(chars), 0, kMaxContent * 32);
      OCIOR_RETURN_IF_ERROR(normalizer->apply(text));
      chars = text.chars();
      entry.decoded = to_utf8(chars);
    }
    if (chars.size() > kMaxContent) {
      return error(Code::kInvalidArgument, "added token \"{}\" has {} code points{}; expected at most {}",
                   shown(entry.token.content), chars.size(), entry.token.normalized ? " after normalization" : "", kMaxContent);
    }
    if (!chars.empty()) (entry.token.normalized ? normalized : raw).emplace_back(std::move(chars), i);
  }
  for (auto* keys : {&raw, &normalized}) {
    std::sort(keys->begin(), keys->end());
    keys->erase(std::unique(keys->begin(), keys->end(), [](const auto& a, const auto& b) { return a.first == b.first; }),
                keys->end());
  }
  raw_ = Trie::build({raw.begin(), raw.end()});
  normalized_ = Trie::build({normalized.begin(), normalized.end()});
  return {};
}

void AddedTokens::split(std::u32string_view text, bool normalized, std::vector<AddedMatch>& out) const {
  const Trie& trie = normalized ? normalized_ : raw_;
  const uint32_t size = static_cast<uint32_t>(text.size());
  uint32_t done = 0;  // up to here the text is in `out`
  for (uint32_t i = 0; !trie.empty() && i < size;) {
    uint32_t index = 0;
    uint32_t begin = i, end = longest_at(trie, text, i, index);
    if (end == begin) {
      ++i;
      continue;
    }
    i = end;  // also after a match that is refused below
    const AddedToken& token = entries_[index].token;
    if (token.single_word && !stands_alone(text, begin, end)) continue;
    if (token.lstrip) begin = std::max(space_before(text, begin, std::min(begin, done)), done);
    if (token.rstrip) end = space_after(text, end);
    if (done < begin) out.push_back({done, begin, AddedMatch::kNoToken});
    if (begin < end) out.push_back({begin, end, index});
    done = end;
  }
  if (done < size) out.push_back({done, size, AddedMatch::kNoToken});
}

const std::string* AddedTokens::id_to_token(uint32_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &entries_[it->second].decoded;
}

std::optional<uint32_t> AddedTokens::token_to_id(std::string_view token) const {
  const auto it = by_content_.find(token);
  if (it == by_content_.end()) return std::nullopt;
  return it->second;
}

}  // namespace ocior::text
