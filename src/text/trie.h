// A read-only prefix tree over strings of code points, laid out in three flat arrays. For vocabularies and added tokens.
// Immutable after build(), shareable between threads. No hashing, so hostile keys cannot slow it down.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ocior::text {

class Trie {
 public:
  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  Trie() : nodes_(2) {}

  // Each key leads to its value (below kNone). Keys are sorted, distinct and not empty, and need not live on.
  using Key = std::pair<std::u32string_view, uint32_t>;
  static Trie build(const std::vector<Key>& keys);

  // The node reached from `node` by `c`, or kNone.
  uint32_t child(uint32_t node, char32_t c) const {
    const Node& n = nodes_[node];
    if (c < kDirect && n.direct != kNone) return direct_[n.direct + c];
    return search(n.edges, nodes_[node + 1].edges, c);
  }

  // The value of the key that ends at `node`, or kNone.
  uint32_t value(uint32_t node) const { return nodes_[node].value; }

  // The node reached from the root by `text`, or kNone.
  uint32_t walk(std::u32string_view text) const;

  bool empty() const { return edges_.empty(); }

 private:
  static constexpr uint32_t kDirect = 128;  // a node with many edges also has a table of its ASCII children
  static constexpr uint32_t kManyEdges = 32;

  struct Node {
    uint32_t edges = 0;  // its edges are edges_[edges .. nodes_[i + 1].edges)
    uint32_t value = kNone;
    uint32_t direct = kNone;
  };
  struct Edge {
    char32_t c;
    uint32_t to;
  };

  uint32_t search(uint32_t begin, uint32_t end, char32_t c) const;
  void add_direct_tables();

  std::vector<Node> nodes_;  // one more than there are nodes
  std::vector<Edge> edges_;  // sorted by code point within a node
  std::vector<uint32_t> direct_;
};

}  // namespace ocior::text
