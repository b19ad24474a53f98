// WordPiece by walking a prefix tree: linear in the word but for the steps back after a failed longer match. See model.h.
#include <algorithm>

#include "text/model.h"
#include "text/trie.h"
#include "text/unicode.h"

namespace ocior::text {
namespace {

class WordPiece final : public Model {
 public:
  static Result<std::unique_ptr<const Model>> make(std::vector<VocabEntry> vocab, const WordPieceOptions& options) {
    auto model = std::unique_ptr<WordPiece>(new WordPiece());
    model->options_ = options;
    OCIOR_RETURN_IF_ERROR(model->take(std::move(vocab)));
    std::u32string prefix;
    OCIOR_RETURN_IF_ERROR(decode_utf8(options.continuing_subword_prefix, prefix));
    model->continuation_ = model->trie_.walk(prefix);
    model->unk_ = model->token_to_id(options.unk_token);
    return std::unique_ptr<const Model>(std::move(model));
  }

  Status tokenize(std::u32string_view word, std::vector<ModelToken>& out) const override {
    if (word.size() > options_.max_input_chars_per_word) return unknown(word, out);
    const size_t before = out.size();
    for (size_t start = 0; start < word.size();) {
      uint32_t node = start == 0 ? Trie::kRoot : continuation_;
      uint32_t best = Trie::kNone;
      size_t best_end = start;
      for (size_t i = start; i < word.size() && node != Trie::kNone; ++i) {
        node = trie_.child(node, word[i]);
        if (node != Trie::kNone && trie_.value(node) != Trie::kNone) {
          best = trie_.value(node);
          best_end = i + 1;
        }
      }
      if (best == Trie::kNone) {
        out.resize(before);
        return unknown(word, out);
      }
      out.push_back({vocab_[best].id, static_cast<uint32_t>(start), static_cast<uint32_t>(best_end)});
      start = best_end;
    }
    return {};
  }

  std::optional<uint32_t> token_to_id(std::string_view token) const override {
    std::u32string chars;
    if (token.empty() || !decode_utf8(token, chars).ok()) return std::nullopt;
    const uint32_t node = trie_.walk(chars);
    if (node == Trie::kNone || trie_.value(node) == Trie::kNone) return std::nullopt;
    return vocab_[trie_.value(node)].id;
  }

  const std::string* id_to_token(uint32_t id) const override {
    if (id < vocab_.size() && vocab_[id].id == id) return &vocab_[id].token;
    const auto it = std::lower_bound(vocab_.begin(), vocab_.end(), id, [](const VocabEntry& e, uint32_t x) { return e.id < x; });
    return it != vocab_.end() && it->id == id ? &it->token : nullptr;
  }

  size_t vocab_size() const override { return vocab_.size(); }

 private:
  WordPiece() = default;

  // Sorts the vocabulary by id and builds the prefix tree.
  Status take(std::vector<VocabEntry> vocab) {
    std::u32string arena;
    std::vector<Trie::Key> keys;  // first with positions in `vocab` as values, then with positions in vocab_
    OCIOR_RETURN_IF_ERROR(decode_tokens(vocab, arena, keys));
    std::sort(keys.begin(), keys.end());
    const auto last_of_equals = [&](size_t i) { return i + 1 == keys.size() || keys[i].first != keys[i + 1].first; };
    size_t kept = 0;
    for (size_t i = 0; i < keys.size(); ++i) {
      if (last_of_equals(i)) keys[kept++] = keys[i];  // the later entry counts
    }
    keys.resize(kept);

    std::vector<uint32_t> order;  // positions in `vocab` by ascending id
    order.reserve(kept);
    for (const Trie::Key& key : keys) order.push_back(key.second);
    std::sort(order.begin(), order.end(), [&](uint32_t x, uint32_t y) { return vocab[x].id < vocab[y].id; });
    std::vector<uint32_t> rank(vocab.size());
    vocab_.reserve(kept);
    for (uint32_t position : order) {
      rank[position] = static_cast<uint32_t>(vocab_.size());
      if (!vocab_.empty() && vocab_.back().id == vocab[position].id) {
        return error(Code::kInvalidArgument, "the vocabulary gives id {} to both \"{}\" and \"{}\"; ids must be distinct",
                     vocab[position].id, shown(vocab_.back().token), shown(vocab[position].token));
      }
      vocab_.push_back(std::move(vocab[position]));
    }
    for (Trie::Key& key : keys) key.second = rank[key.second];
    if (!keys.empty() && keys[0].first.empty()) keys.erase(keys.begin());  // has an id, but is in no word
    trie_ = Trie::build(keys);
    return {};
  }

  // Views of all tokens as code points, which `arena` holds.
  static Status decode_tokens(const std::vector<VocabEntry>& vocab, std::u32string& arena, std::vector<Trie::Key>& keys) {
    size_t bytes = 0;
    for (const VocabEntry& entry : vocab) bytes += entry.token.size();
    arena.reserve(bytes);  // enough, so that the views stay good
    keys.reserve(vocab.size());
    for (size_t i = 0; i < vocab.size(); ++i) {
      const size_t begin = arena.size();
      if (Status s = decode_utf8(vocab[i].token, arena); !s.ok()) {
        return with_context(s, fmt::format("vocabulary entry with id {}", vocab[i].id));
      }
      keys.emplace_back(std::u32string_view(arena).substr(begin), static_cast<uint32_t>(i));
    }
    return {};
  }

  Status unknown(std::u32string_view word, std::vector<ModelToken>& out) const {
    if (!unk_) {
      return error(Code::kInvalidArgument,
                   "the text has a word without tokens, and unk_token \"{}\" is not in the vocabulary; add it there",
                   shown(options_.unk_token));
    }
    out.push_back({*unk_, 0, static_cast<uint32_t>(word.size())});
    return {};
  }

  WordPieceOptions options_;
  std::vector<VocabEntry> vocab_;  // by ascending id
  Trie trie_;                      // values are positions in vocab_
  uint32_t continuation_ = Trie::kNone;
  std::optional<uint32_t> unk_;
};

}  // namespace

Result<std::unique_ptr<const Model>> make_word_piece(std::vector<VocabEntry> vocab, const WordPieceOptions& options) {
  return WordPiece::make(std::move(vocab), options);
}

}  // namespace ocior::text
