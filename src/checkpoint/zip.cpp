#include "checkpoint/zip.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "checkpoint/json.h"

namespace ocior::checkpoint {
namespace {

constexpr uint32_t kEndMagic = 0x06054b50, kEnd64Magic = 0x06064b50, kEnd64LocatorMagic = 0x07064b50;
constexpr uint32_t kCentralMagic = 0x02014b50, kLocalMagic = 0x04034b50;
constexpr uint64_t kEndBytes = 22, kEnd64Bytes = 56, kEnd64LocatorBytes = 20, kCentralBytes = 46, kLocalBytes = 30;

// Little-endian fields at checked places.
class Bytes {
 public:
  explicit Bytes(std::span<const std::byte> bytes) : bytes_(bytes) {}

  uint64_t size() const { return bytes_.size(); }
  bool holds(uint64_t at, uint64_t count) const { return at <= size() && count <= size() - at; }
  template <class T>
  T get(uint64_t at) const {  // the caller has asked holds(at, sizeof(T))
    T value;
    std::memcpy(&value, bytes_.data() + at, sizeof value);
    return value;
  }
  std::string_view text(uint64_t at, uint64_t count) const { return {reinterpret_cast<const char*>(bytes_.data()) + at, count}; }
  std::span<const std::byte> part(uint64_t at, uint64_t count) const { return bytes_.subspan(at, count); }

 private:
  std::span<const std::byte> bytes_;
};

struct Directory {
  uint64_t offset = 0, size = 0, count = 0;
};

Status damaged(const std::string& file, std::string_view what) {
  return error(Code::kInvalidArgument, "{}: {}; the archive is cut off or damaged", file, what);
}

Result<uint64_t> find_end(const Bytes& bytes, const std::string& file) {
  constexpr uint64_t kMaxComment = 65535;
  if (bytes.size() < kEndBytes) return damaged(file, "it is too short for a zip archive");
  const uint64_t last = bytes.size() - kEndBytes;
  const uint64_t first = last > kMaxComment ? last - kMaxComment : 0;
  for (uint64_t at = last + 1; at-- > first;) {
    if (bytes.get<uint32_t>(at) == kEndMagic && bytes.get<uint16_t>(at + 20) == last - at) return at;
  }
  return damaged(file, "it has no zip directory at its end");
}

Result<Directory> find_directory(const Bytes& bytes, const std::string& file) {
  OCIOR_ASSIGN(const uint64_t end, find_end(bytes, file));
  Directory dir{bytes.get<uint32_t>(end + 16), bytes.get<uint32_t>(end + 12), bytes.get<uint16_t>(end + 10)};
  uint64_t limit = end;
  if (end >= kEnd64LocatorBytes && bytes.get<uint32_t>(end - kEnd64LocatorBytes) == kEnd64LocatorMagic) {
    const uint64_t end64 = bytes.get<uint64_t>(end - kEnd64LocatorBytes + 8);
    if (!bytes.holds(end64, kEnd64Bytes) || bytes.get<uint32_t>(end64) != kEnd64Magic)
      return damaged(file, "its zip64 directory is missing");
    dir = {bytes.get<uint64_t>(end64 + 48), bytes.get<uint64_t>(end64 + 40), bytes.get<uint64_t>(end64 + 32)};
    limit = end64;
  }
  if (!bytes.holds(dir.offset, dir.size) || dir.offset + dir.size > limit)
    return damaged(file, "its zip directory lies outside of it");
  if (dir.count > dir.size / kCentralBytes) return damaged(file, "its zip directory claims more entries than it holds");
  return dir;
}

struct Entry {
  std::string name;
  uint64_t flags = 0, method = 0, packed = 0, size = 0, header = 0;
  uint64_t data = 0;  // where the contents begin, after the local header
};

// Replaces the fields that say "see zip64" by the 64-bit ones of the extra field (APPNOTE 4.5.3), which come in this order.
bool read_zip64(const Bytes& bytes, uint64_t at, uint64_t count, Entry& entry) {
  const uint64_t end = at + count;
  std::vector<uint64_t*> wanted;
  for (uint64_t* field : {&entry.size, &entry.packed, &entry.header}) {
    if (*field == 0xffffffff) wanted.push_back(field);
  }
  while (!wanted.empty() && end - at >= 4) {
    const uint64_t id = bytes.get<uint16_t>(at), size = bytes.get<uint16_t>(at + 2);
    at += 4;
    if (size > end - at) return false;
    if (id == 1) {
      if (size < wanted.size() * 8) return false;
      for (size_t i = 0; i < wanted.size(); ++i) *wanted[i] = bytes.get<uint64_t>(at + 8 * i);
      return true;
    }
    at += size;
  }
  return wanted.empty();
}

// Reads the central header at `at` and moves `at` behind it.
Result<Entry> read_central(const Bytes& bytes, uint64_t& at, uint64_t end, const std::string& file) {
  if (end - at < kCentralBytes || bytes.get<uint32_t>(at) != kCentralMagic)
    return damaged(file, "an entry of its zip directory is missing");
  const uint64_t name = bytes.get<uint16_t>(at + 28), extra = bytes.get<uint16_t>(at + 30),
                 comment = bytes.get<uint16_t>(at + 32);
  if (end - at - kCentralBytes < name + extra + comment) return damaged(file, "an entry of its zip directory is cut off");
  Entry entry{std::string(bytes.text(at + kCentralBytes, name)),
              bytes.get<uint16_t>(at + 8),
              bytes.get<uint16_t>(at + 10),
              bytes.get<uint32_t>(at + 20),
              bytes.get<uint32_t>(at + 24),
              bytes.get<uint32_t>(at + 42)};
  if (!read_zip64(bytes, at + kCentralBytes + name, extra, entry)) return damaged(file, "a zip64 field is missing");
  at += kCentralBytes + name + extra + comment;
  return entry;
}

Status locate(const Bytes& bytes, Entry& entry, const std::string& file) {
  const std::string shown = printable(entry.name);
  if (entry.flags & 1)
    return error(Code::kInvalidArgument, "{}: the entry `{}` is encrypted; save the checkpoint without a password", file, shown);
  if (entry.method != 0) {
    return error(Code::kInvalidArgument,
                 "{}: the entry `{}` is compressed, which torch.save never does; save the checkpoint again as safetensors", file,
                 shown);
  }
  if (!bytes.holds(entry.header, kLocalBytes) || bytes.get<uint32_t>(entry.header) != kLocalMagic) {
    return damaged(file, fmt::format("the entry `{}` is not where the directory says", shown));
  }
  const uint64_t name = bytes.get<uint16_t>(entry.header + 26), extra = bytes.get<uint16_t>(entry.header + 28);
  entry.data = entry.header + kLocalBytes + name + extra;
  if (!bytes.holds(entry.data, entry.size) || entry.packed != entry.size)
    return damaged(file, fmt::format("the entry `{}` is cut off", shown));
  if (bytes.text(entry.header + kLocalBytes, name) != entry.name) {
    return damaged(file, fmt::format("the entry `{}` has another name in its own header", shown));
  }
  return {};
}

// Entries may not share bytes with one another or with the directory.
Status check_disjoint(const std::vector<Entry>& entries, const Directory& dir, const std::string& file) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges{{dir.offset, dir.offset + dir.size}};
  for (const Entry& entry : entries) ranges.emplace_back(entry.header, entry.data + entry.size);
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) return damaged(file, "entries overlap");
  }
  return {};
}

}  // namespace

Result<ZipEntries> read_zip(std::span<const std::byte> raw, const std::string& file) {
  const Bytes bytes(raw);
  OCIOR_ASSIGN(const Directory dir, find_directory(bytes, file));
  std::vector<Entry> entries;
  uint64_t at = dir.offset;
  for (uint64_t i = 0; i < dir.count; ++i) {
    OCIOR_ASSIGN(Entry entry, read_central(bytes, at, dir.offset + dir.size, file));
    OCIOR_RETURN_IF_ERROR(locate(bytes, entry, file));
    entries.push_back(std::move(entry));
  }
  OCIOR_RETURN_IF_ERROR(check_disjoint(entries, dir, file));
  ZipEntries out;
  for (Entry& entry : entries) {
    const std::string shown = printable(entry.name);
    if (!out.emplace(std::move(entry.name), bytes.part(entry.data, entry.size)).second) {
      return damaged(file, fmt::format("it holds `{}` twice", shown));
    }
  }
  return out;
}

}  // namespace ocior::checkpoint
