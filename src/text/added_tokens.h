// Tokens of tokenizer.json that are found in the text before the model sees it, such as [MASK].
// Immutable after construction, shareable between threads.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "text/model.h"
#include "text/normalizer.h"
#include "text/trie.h"

namespace ocior::text {

struct AddedToken {
  std::string content;
  bool single_word = false;  // matches only where no \w stands next to it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = true;    // looked for in the normalized text, in its own normalized form
  bool special = false;      // skipped by decode on request
};

// A part of a text: an added token, or what lies between.
struct AddedMatch {
  static constexpr uint32_t kNoToken = 0xFFFFFFFF;
  uint32_t begin;
  uint32_t end;
  uint32_t index;  // into AddedTokens, or kNoToken
};

class AddedTokens {
 public:
  AddedTokens() = default;

  // As `tokenizers` does, a token of the model's vocabulary has its id there and every other one the next free id. Of two tokens
  // that look the same after normalization the first is found (`tokenizers` finds either, by chance).
  static Result<AddedTokens> make(const std::vector<AddedToken>& tokens, const Model& model, const Normalizer* normalizer);

  // Cuts a text that is not normalized (or, with `normalized`, one that is) at the tokens to be looked for in it.
  void split(std::u32string_view text, bool normalized, std::vector<AddedMatch>& out) const;

  uint32_t id(uint32_t index) const { return entries_[index].id; }
  // The token's form for decoding, or nullptr.
  const std::string* id_to_token(uint32_t id) const;
  std::optional<uint32_t> token_to_id(std::string_view token) const;
  bool is_special(const std::string& token) const { return special_.contains(token); }
  size_t size() const { return by_content_.size(); }

 private:
  struct Entry {
    AddedToken token;
    uint32_t id;
    std::string decoded;  // what decoding shows: the normalized form if it differs
  };

  Status build(const Normalizer* normalizer);

  std::vector<Entry> entries_;
  std::map<uint32_t, uint32_t> by_id_;                       // id -> index
  std::map<std::string, uint32_t, std::less<>> by_content_;  // content -> id
  std::unordered_set<std::string> special_;
  Trie raw_, normalized_;  // values are indices
};

}  // namespace ocior::text
