// Building and searching the flat prefix tree. See trie.h.
#include "text/trie.h"

#include <algorithm>

namespace ocior::text {

Trie Trie::build(const std::vector<Key>& keys) {
  struct Range {  // the keys below a node, all equal in their first `depth` code points
    size_t begin, end, depth;
  };
  Trie trie;
  trie.nodes_.clear();
  std::vector<Range> ranges{{0, keys.size(), 0}};  // ranges[i] belongs to node i: breadth first
  for (size_t i = 0; i < ranges.size(); ++i) {
    auto [begin, end, depth] = ranges[i];
    Node node{.edges = static_cast<uint32_t>(trie.edges_.size())};
    if (begin < end && keys[begin].first.size() == depth) node.value = keys[begin++].second;
    trie.nodes_.push_back(node);
    while (begin < end) {
      const char32_t c = keys[begin].first[depth];
      size_t stop = begin + 1;
      while (stop < end && keys[stop].first[depth] == c) ++stop;
      trie.edges_.push_back({c, static_cast<uint32_t>(ranges.size())});
      ranges.push_back({begin, stop, depth + 1});
      begin = stop;
    }
  }
  trie.nodes_.push_back({.edges = static_cast<uint32_t>(trie.edges_.size())});
  trie.add_direct_tables();
  return trie;
}

void Trie::add_direct_tables() {
  for (size_t i = 0; i + 1 < nodes_.size(); ++i) {
    const uint32_t begin = nodes_[i].edges, end = nodes_[i + 1].edges;
    if (end - begin < kManyEdges) continue;
    nodes_[i].direct = static_cast<uint32_t>(direct_.size());
    direct_.resize(direct_.size() + kDirect, kNone);
    for (uint32_t e = begin; e < end && edges_[e].c < kDirect; ++e) direct_[nodes_[i].direct + edges_[e].c] = edges_[e].to;
  }
}

uint32_t Trie::search(uint32_t begin, uint32_t end, char32_t c) const {
  constexpr uint32_t kFew = 8;
  if (end - begin <= kFew) {
    for (uint32_t e = begin; e < end; ++e) {
      if (edges_[e].c == c) return edges_[e].to;
    }
    return kNone;
  }
  const auto stop = edges_.begin() + end;
  const auto it = std::lower_bound(edges_.begin() + begin, stop, c, [](const Edge& edge, char32_t x) { return edge.c < x; });
  return it != stop && it->c == c ? it->to : kNone;
}

uint32_t Trie::walk(std::u32string_view text) const {
  uint32_t node = kRoot;
  for (size_t i = 0; i < text.size() && node != kNone; ++i) node = child(node, text[i]);
  return node;
}

}  // namespace ocior::text
