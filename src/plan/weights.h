// The weight store of one program: packed weights and plain constants in one region, either anonymous memory or a mapped cache
// file that every session and process with the same model shares. Filled once while a session loads, read-only afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "base/memory_budget.h"
#include "base/pool.h"
#include "ocior/status.h"
#include "ops/operator.h"
#include "tensor/tensor.h"

namespace ocior::plan {

// Where packed weights of a model may be kept. An empty folder: nowhere.
struct CacheKey {
  std::string folder;
  std::string name;  // file name: content hash, kernel table, precision, packer version, options
};

// The folder for cache files: OCIOR_CACHE_DIR, else XDG_CACHE_HOME/ocior, else HOME/.cache/ocior; "" when there is none.
std::string cache_folder();

// Content hash of a file as 32 hex digits, remembered in `folder` per (device, inode, size, mtime, ctime) so that a known file is
// not read.
Result<std::string> content_hash(const std::string& path, const std::string& folder, Team& team);
std::string content_hash(std::span<const std::byte> bytes, Team& team);

// Gives back the pages of source files whenever another `kStep` bytes of them have been used.
class SourcePages {
 public:
  explicit SourcePages(std::span<const std::shared_ptr<const MappedFile>> files) : files_(files) {}
  void used(size_t bytes);

 private:
  std::span<const std::shared_ptr<const MappedFile>> files_;
  size_t since_ = 0;
};

class WeightStore {
 public:
  // `reserve`: upper bound of the bytes that will be asked for (address space only).
  static Result<std::unique_ptr<WeightStore>> create(size_t reserve);
  ~WeightStore();
  WeightStore(const WeightStore&) = delete;
  WeightStore& operator=(const WeightStore&) = delete;

  // Address of `bytes` bytes that fill() will write in `chunks` pieces; null when the reserve is too small. 64-byte aligned.
  void* add(std::string_view form, size_t bytes, int64_t chunks, ops::PackFunction fill, const void* context);
  // A plain copy of a constant; the tensor is held until finish().
  void* add_plain(const Tensor& tensor);

  // Backs the region and fills it: from the cache when it holds exactly this layout, else by the pack functions, which also
  // writes the cache. Pages of `sources` (the files that constants were read from) are given back on the way. Trouble with the
  // cache becomes `note`, never an error.
  Status finish(const CacheKey& key, std::span<const std::shared_ptr<const MappedFile>> sources, Team& team, std::string& note);

  size_t bytes() const { return used_; }
  bool mapped() const { return mapped_; }

 private:
  struct Item {
    size_t offset, bytes;
    int64_t chunks;
    ops::PackFunction fill;
    const void* context;
    Tensor source;  // plain copies
  };

  WeightStore() = default;
  uint64_t layout_hash() const;
  bool map_cached(const std::string& path, Team& team, std::string& note);
  // Packs into a new file piece by piece; false (and a note) when it cannot be written, nothing is left then.
  bool write_file(const CacheKey& key, std::span<const std::shared_ptr<const MappedFile>> sources, Team& team, std::string& note);
  Status fill_memory(std::span<const std::shared_ptr<const MappedFile>> sources, Team& team);
  static void fill(const Item& item, std::byte* to, Team& team);

  std::byte* base_ = nullptr;  // start of the reserved region; the first page is the file's header
  MemoryCharge charge_;
  size_t reserved_ = 0;
  size_t used_ = 0;
  bool mapped_ = false;
  std::vector<Item> items_;
  std::string layout_;
};

// Removes the least recently used files until the folder holds at most `limit` bytes.
void trim_cache(const std::string& folder, uint64_t limit);

}  // namespace ocior::plan
