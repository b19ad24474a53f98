// The tensors of a checkpoint by name, whatever file they came from. Entries are views into mapped files that they keep alive.
// Filled by safetensors.cpp and torch_file.cpp, read by the converter. Immutable once loaded, then thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "ocior/dtype.h"
#include "ocior/status.h"

namespace ocior::checkpoint {

inline constexpr size_t kMaxRank = 32;

// One tensor: element (i, j, …) lies at data[(i * strides[0] + j * strides[1] + …) * element size].
struct TensorEntry {
  std::string name;
  DType dtype = DType::kUndefined;
  std::vector<int64_t> shape;                // all >= 0, at most kMaxRank of them
  std::vector<int64_t> strides;              // in elements, all >= 0
  std::span<const std::byte> data;           // from element (0, 0, …); StateDict::add proves that every element lies inside
  bool big_endian = false;                   // elements are stored most significant byte first
  std::string file;                          // file name, for messages
  std::shared_ptr<const MappedFile> mapped;  // keeps data alive; null when the bytes are the caller's

  int64_t elements() const;
  bool contiguous() const;  // row-major without gaps
};

// Row-major strides of `shape` (dimensions >= 0 whose product fits int64).
std::vector<int64_t> dense_strides(const std::vector<int64_t>& shape);

// The number of elements of `shape`, or an error when a dimension is negative, the rank too high or the product too large.
Result<int64_t> checked_elements(const std::vector<int64_t>& shape);

class StateDict {
 public:
  // Adds a tensor after proving its shape, strides and name sound and every element inside `data`.
  Status add(TensorEntry entry);
  // Moves every tensor of `other` in; a name that both hold is an error.
  Status merge(StateDict other);

  // nullptr when there is none of that name.
  const TensorEntry* find(std::string_view name) const;
  const std::vector<TensorEntry>& entries() const { return entries_; }  // in the file's order

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };
  std::vector<TensorEntry> entries_;
  std::unordered_map<std::string, size_t, Hash, std::equal_to<>> index_;
};

// Loads the weights of a checkpoint folder: model.safetensors, model.safetensors.index.json with its shards, pytorch_model.bin or
// pytorch_model.bin.index.json with its shards, whichever is found first. Shards are plain file names inside the folder.
Result<StateDict> load_state_dict(const std::string& folder);

// Loads the shards that `index_text`, the text of folder/index_file, names, and proves that each holds what the index promises.
Result<StateDict> load_sharded(const std::string& folder, const std::string& index_file, std::string_view index_text);

}  // namespace ocior::checkpoint
