#include "plan/weights.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/memory_budget.h"

namespace ocior::plan {
namespace {

constexpr size_t kHeader = 4096;  // header page; data starts behind it
constexpr size_t kAlign = 64;
constexpr size_t kBigPage = size_t{2} << 20;
constexpr size_t kHashChunk = size_t{4} << 20;
constexpr uint64_t kMagic = 0x0001'6577'726f'6963;  // "ciorwe", version 1
constexpr uint64_t kSumStep = 0x9e3779b97f4a7c15;
constexpr uint64_t kCacheLimit = uint64_t{8} << 30;

// First bytes of a cache file. A file is trusted without reading it while the machine has not restarted since it was written
// (pages that a crash could have lost are then in memory or on disk); later its checksum is verified once and the boot id
// renewed.
struct Header {
  uint64_t magic, layout, bytes, checksum;
  char boot[40];
};

std::string boot_id() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(in, id);
  id.resize(39, ' ');
  return id;
}

// Hash of chunk hashes, so that all workers share one large input.
XXH128_hash_t hash_all(std::span<const std::byte> bytes, Team& team, const MappedFile* file = nullptr) {
  const auto chunks = static_cast<int64_t>((bytes.size() + kHashChunk - 1) / kHashChunk);
  std::vector<XXH128_hash_t> hashes(static_cast<size_t>(chunks));
  team.parallel_for(chunks, nullptr, [&](int64_t i, int) {
    const size_t at = static_cast<size_t>(i) * kHashChunk;
    const auto chunk = bytes.subspan(at, std::min(kHashChunk, bytes.size() - at));
    hashes[static_cast<size_t>(i)] = XXH3_128bits(chunk.data(), chunk.size());
    if (file) file->release(chunk);
  });
  return XXH3_128bits_withSeed(hashes.data(), hashes.size() * sizeof(XXH128_hash_t), bytes.size());
}

std::string hex_of(std::span<const std::byte> bytes, Team& team, const MappedFile* file = nullptr) {
  const XXH128_hash_t h = hash_all(bytes, team, file);
  return fmt::format("{:016x}{:016x}", h.high64, h.low64);
}

// A private folder of ours: made with mode 0700, and used only when it belongs to this user.
bool usable_folder(const std::string& folder) {
  if (folder.empty()) return false;
  std::error_code ignored;
  std::filesystem::path path = folder;
  if (!path.has_filename()) path = path.parent_path();
  std::filesystem::create_directories(path.parent_path(), ignored);
  mkdir(path.c_str(), 0700);
  struct stat st;
  if (stat(folder.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) return false;
  return st.st_uid == geteuid() && access(folder.c_str(), W_OK | X_OK) == 0;
}

}  // namespace

std::string cache_folder() {
  if (const char* dir = std::getenv("OCIOR_CACHE_DIR")) return dir;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg) return std::string(xdg) + "/ocior";
  if (const char* home = std::getenv("HOME"); home && *home) return std::string(home) + "/.cache/ocior";
  return "";
}

std::string content_hash(std::span<const std::byte> bytes, Team& team) { return hex_of(bytes, team); }

Result<std::string> content_hash(const std::string& path, const std::string& folder, Team& team) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0) return error(Code::kNoSuchFile, "{}: {}", path, std::strerror(errno));
  const std::string identity = fmt::format("{}:{}:{}:{}.{}:{}.{}", st.st_dev, st.st_ino, st.st_size, st.st_mtim.tv_sec,
                                           st.st_mtim.tv_nsec, st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
  const bool remember = usable_folder(folder);
  const std::string note = fmt::format("{}/{:016x}.id", folder, XXH3_64bits(identity.data(), identity.size()));
  if (remember) {
    std::ifstream in(note);
    std::string known, hash;
    if (std::getline(in, known) && std::getline(in, hash) && known == identity && hash.size() == 32) return hash;
  }
  OCIOR_ASSIGN(const auto file, MappedFile::open(path));
  std::string hash = hex_of(file->bytes(), team, file.get());
  if (remember) {
    // A file that changed in this very clock tick could change again unseen: only settled files are remembered.
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec - st.st_ctim.tv_sec >= 1) {
      const std::string text = identity + "\n" + hash + "\n";
      if (auto out = AtomicFile::open(note); out.ok() && out->write(std::as_bytes(std::span(text))).ok()) (void)out->commit();
    }
  }
  return hash;
}

Result<std::unique_ptr<WeightStore>> WeightStore::create(size_t reserve) {
  auto store = std::unique_ptr<WeightStore>(new WeightStore());
  store->reserved_ = (reserve + kHeader + 2 * kBigPage - 1) / kBigPage * kBigPage;
  void* p = mmap(nullptr, store->reserved_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return error(Code::kFail, "out of address space: {} bytes for the model's weights", store->reserved_);
  store->base_ = static_cast<std::byte*>(p);
  return store;
}

WeightStore::~WeightStore() {
  if (base_) munmap(base_, reserved_);
}

void* WeightStore::add(std::string_view form, size_t bytes, int64_t chunks, ops::PackFunction fill, const void* context) {
  const size_t offset = (kHeader + used_ + kAlign - 1) / kAlign * kAlign - kHeader;
  if (bytes > reserved_ - kHeader || offset > reserved_ - kHeader - bytes) return nullptr;
  items_.push_back({offset, bytes, chunks, fill, context, {}});
  used_ = offset + bytes;
  layout_ += fmt::format("{}:{};", form, bytes);
  return base_ + kHeader + offset;
}

void* WeightStore::add_plain(const Tensor& tensor) {
  const size_t bytes = tensor.bytes();
  constexpr size_t kChunk = size_t{1} << 20;
  void* address = add("plain", bytes, static_cast<int64_t>((bytes + kChunk - 1) / kChunk), nullptr, nullptr);
  if (address) items_.back().source = tensor;
  return address;
}

uint64_t WeightStore::layout_hash() const { return XXH3_64bits(layout_.data(), layout_.size()); }

void SourcePages::used(size_t bytes) {
  constexpr size_t kStep = size_t{32} << 20;
  since_ += bytes;
  if (since_ < kStep) return;
  since_ = 0;
  for (const auto& file : files_) file->release();
}

void WeightStore::fill(const Item& item, std::byte* to, Team& team) {
  const size_t step =
      item.chunks > 0 ? (item.bytes + static_cast<size_t>(item.chunks) - 1) / static_cast<size_t>(item.chunks) : 0;
  team.parallel_for_dynamic(item.chunks, nullptr, [&](int64_t chunk, int) {
    if (item.fill) return item.fill(item.context, to, chunk);
    const size_t at = std::min(item.bytes, static_cast<size_t>(chunk) * step);
    std::memcpy(to + at, static_cast<const std::byte*>(item.source.data()) + at, std::min(step, item.bytes - at));
  });
}

bool WeightStore::map_cached(const std::string& path, Team& team, std::string& note) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return false;
  struct stat st;
  Header header;
  const bool good = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 022) == 0 &&
                    static_cast<size_t>(st.st_size) == kHeader + used_ && pread(fd, &header, sizeof header, 0) == sizeof header &&
                    header.magic == kMagic && header.layout == layout_hash() && header.bytes == used_;
  if (!good) {
    note = path + ": not a cache file of this layout; it is written again";
    close(fd);
    return false;
  }
  if (mmap(base_, kHeader + used_, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
    close(fd);
    note = fmt::format("{}: cannot be mapped: {}", path, std::strerror(errno));
    return false;
  }
  if (boot_id() != std::string_view(header.boot, 39)) {
    uint64_t sum = 0;
    for (const Item& item : items_) sum = sum * kSumStep + hash_all({base_ + kHeader + item.offset, item.bytes}, team).low64;
    if (sum != header.checksum) {
      note = path + ": its checksum is wrong; it is written again";
      close(fd);
      return false;
    }
    std::memcpy(header.boot, boot_id().data(), 39);
    if (pwrite(fd, &header, sizeof header, 0) != sizeof header) note = path + ": cannot be renewed";
  }
  futimens(fd, nullptr);  // recently used
  close(fd);
  return true;
}

namespace {

// All of `bytes` at `offset`; large ones by all workers. False with errno set.
bool write_all(int fd, std::span<const std::byte> bytes, size_t offset, Team& team) {
  const auto pieces = static_cast<int64_t>((bytes.size() + kHashChunk - 1) / kHashChunk);
  std::atomic<int> trouble{0};  // errno belongs to the thread that saw it
  team.parallel_for(pieces, nullptr, [&](int64_t i, int) {
    size_t at = static_cast<size_t>(i) * kHashChunk;
    const size_t end = std::min(bytes.size(), at + kHashChunk);
    while (at < end) {
      const ssize_t n = pwrite(fd, bytes.data() + at, end - at, static_cast<off_t>(offset + at));
      if (n > 0) at += static_cast<size_t>(n);
      else if (n == 0 || errno != EINTR) return trouble.store(n == 0 ? ENOSPC : errno);
    }
  });
  errno = trouble;
  return trouble == 0;
}

}  // namespace

bool WeightStore::write_file(const CacheKey& key, std::span<const std::shared_ptr<const MappedFile>> sources, Team& team,
                             std::string& note) {
  const std::string path = key.folder + "/" + key.name,
                    temporary = fmt::format("{}/.{}.{}.{}", key.folder, key.name, getpid(), static_cast<const void*>(this));
  const auto give_up = [&](int fd) {
    note = fmt::format("{}: {}; packed weights are not cached", key.folder, std::strerror(errno));
    if (fd >= 0) close(fd);
    unlink(temporary.c_str());
    return false;
  };
  const int fd = open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return give_up(fd);
  // Written through a buffer that stays in the processor's cache: a mapping of the new file would have every page zeroed first
  // (measured on DistilBERT: 1.4 s against 0.4 s).
  size_t largest = 0;
  for (const Item& item : items_)
    if (item.fill) largest = std::max(largest, item.bytes);
  std::unique_ptr<std::byte, decltype(&std::free)> buffer(
      static_cast<std::byte*>(std::aligned_alloc(kAlign, (largest + kAlign) / kAlign * kAlign)), &std::free);
  if (!buffer) return give_up(fd);
  SourcePages pages(sources);
  uint64_t sum = 0;
  for (const Item& item : items_) {
    if (item.fill) fill(item, buffer.get(), team);
    const std::span<const std::byte> bytes(item.fill ? buffer.get() : static_cast<const std::byte*>(item.source.data()),
                                           item.bytes);
    sum = sum * kSumStep + hash_all(bytes, team).low64;
    if (!write_all(fd, bytes, kHeader + item.offset, team)) return give_up(fd);
    pages.used(item.bytes);
  }
  Header header{kMagic, layout_hash(), used_, sum, {}};
  std::memcpy(header.boot, boot_id().data(), 39);
  if (ftruncate(fd, static_cast<off_t>(kHeader + used_)) != 0 || pwrite(fd, &header, sizeof header, 0) != sizeof header)
    return give_up(fd);
  if (mmap(base_, kHeader + used_, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) return give_up(fd);
  close(fd);
  // The mapping stays good even when the name cannot be given.
  if (rename(temporary.c_str(), path.c_str()) != 0) give_up(-1);
  return true;
}

Status WeightStore::fill_memory(std::span<const std::shared_ptr<const MappedFile>> sources, Team& team) {
  if (mmap(base_, kHeader + used_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
    return error(Code::kFail, "out of memory: {} bytes for the model's weights", used_);
  madvise(base_, kHeader + used_, MADV_HUGEPAGE);
  SourcePages pages(sources);
  for (const Item& item : items_) {
    fill(item, base_ + kHeader + item.offset, team);
    pages.used(item.bytes);
  }
  mprotect(base_, kHeader + used_, PROT_READ);
  return {};
}

Status WeightStore::finish(const CacheKey& key, std::span<const std::shared_ptr<const MappedFile>> sources, Team& team,
                           std::string& note) {
  const bool wanted = !key.folder.empty() && !key.name.empty() && used_ > 0;
  const bool cache = wanted && usable_folder(key.folder);
  if (!charge_.take(used_))
    return error(Code::kFail, "out of memory: {} bytes for the model's weights{}", used_, MemoryBudget::explanation());
  if (wanted && !cache) note = key.folder + ": not usable as a cache folder; packed weights are not cached";
  mapped_ = cache && map_cached(key.folder + "/" + key.name, team, note);
  if (cache && !mapped_) {
    trim_cache(key.folder, kCacheLimit > used_ ? kCacheLimit - used_ : 0);
    mapped_ = write_file(key, sources, team, note);
  }
  const Status filled = mapped_ ? Status() : fill_memory(sources, team);
  for (const auto& file : sources) file->release();
  items_.clear();
  return filled;
}

void trim_cache(const std::string& folder, uint64_t limit) {
  namespace fs = std::filesystem;
  struct Entry {
    fs::path path;
    fs::file_time_type used;
    uint64_t bytes;
  };
  std::vector<Entry> entries;
  uint64_t total = 0;
  std::error_code ec;
  for (fs::directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
    std::error_code bad;
    const uint64_t bytes = it->is_regular_file(bad) ? it->file_size(bad) : 0;
    const auto used = it->last_write_time(bad);
    if (bad) continue;
    // Files that a killed process left half-written go after a day.
    const bool stale =
        it->path().filename().string().starts_with(".") && fs::file_time_type::clock::now() - used > std::chrono::hours(24);
    if (stale) fs::remove(it->path(), bad);
    else if (it->path().extension() == ".weights") entries.push_back({it->path(), used, bytes}), total += bytes;
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (const Entry& e : entries) {
    if (total <= limit) break;
    if (fs::remove(e.path, ec)) total -= e.bytes;
  }
}

}  // namespace ocior::plan
