// Helpers of this folder's tests and fuzzers: files of the repository, hand-made archives and pickles, mutants. Never part of the
// library.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/state_dict.h"
#include "checkpoint/weights.h"

namespace ocior::checkpoint::testing {

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

// A copy without room behind its end, so that a sanitizer sees a read of one byte too many.
inline std::vector<std::byte> exact_copy(std::string_view text) {
  const auto bytes = bytes_of(text);
  return {bytes.begin(), bytes.end()};
}

inline std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_text(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

// `value` as little-endian bytes.
template <class T>
std::string le(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

// A string literal with its zero bytes.
template <size_t N>
std::string raw(const char (&text)[N]) {
  return {text, N - 1};
}

struct ZipFault {
  uint16_t method = 0, flags = 0;
  int32_t header_shift = 0;  // added to each entry's place in the directory
};

// A stored zip archive.
inline std::string make_zip(const std::vector<std::pair<std::string, std::string>>& entries, const ZipFault& fault = {}) {
  std::string out, directory;
  for (const auto& [name, data] : entries) {
    const auto at = static_cast<uint32_t>(static_cast<int32_t>(out.size()) + fault.header_shift);
    const auto size = static_cast<uint32_t>(data.size());
    const std::string common = le<uint16_t>(20) + le(fault.flags) + le(fault.method) + le<uint32_t>(0) + le<uint32_t>(0) +
                               le(size) + le(size) + le(static_cast<uint16_t>(name.size())) + le<uint16_t>(0);
    out += "PK\3\4" + common + name + data;
    directory += "PK\1\2" + le<uint16_t>(20) + common + le<uint16_t>(0) + le<uint16_t>(0) + le<uint16_t>(0) + le<uint32_t>(0) +
                 le(at) + name;
  }
  const auto count = static_cast<uint16_t>(entries.size());
  return out + directory + "PK\5\6" + le<uint32_t>(0) + le(count) + le(count) + le(static_cast<uint32_t>(directory.size())) +
         le(static_cast<uint32_t>(out.size())) + le<uint16_t>(0);
}

// Reads every element of every tensor, as a sanitizer must see it done, and makes initializers of those that can be.
inline void touch_all(const StateDict& tensors) {
  for (const TensorEntry& entry : tensors.entries()) {
    const auto size = static_cast<size_t>(bits_of(entry.dtype) / 8);
    int64_t last = 0;
    for (size_t i = 0; i < entry.shape.size(); ++i) last += (entry.shape[i] - 1) * entry.strides[i];
    if (entry.elements() > 0) {
      volatile std::byte seen = entry.data[static_cast<size_t>(last) * size + size - 1];
      seen = entry.data[0];
      (void)seen;
    }
    (void)to_initializer(entry, entry.name, DType::kFloat, entry.shape.size() == 2);
    (void)to_initializer(entry, entry.name, DType::kFloat16, false);
  }
}

// How many mutants a test makes: OCIOR_MUTANTS, by default `few`.
inline int mutant_count(int few) {
  const char* text = std::getenv("OCIOR_MUTANTS");
  return text && *text ? std::max(1, std::atoi(text)) : few;
}

// A damaged copy of `seed`: the same for the same `number`. Half of the damage hits the first or last 600 bytes, where formats
// keep their structure.
inline std::string mutant(const std::string& seed, uint32_t number) {
  std::mt19937 rng(number);
  std::string out = seed;
  const auto place = [&](size_t room) {
    if (room == 0) return size_t{0};
    const size_t edge = std::min<size_t>(room, 600);
    switch (rng() % 4) {
      case 0: return rng() % edge;
      case 1: return room - 1 - rng() % edge;
      default: return rng() % room;
    }
  };
  static const std::string kIntegers[] = {raw("\xff\xff\xff\xff"),
                                          raw("\0\0\0\0"),
                                          raw("\xff\xff\xff\x7f"),
                                          raw("\0\0\0\x80"),
                                          raw("\xff\xff\xff\xff\xff\xff\xff\x7f"),
                                          raw("\xff\xff\xff\xff\xff\xff\xff\xff"),
                                          raw("\1\0\0\0")};
  for (uint32_t rounds = 1 + rng() % 4; rounds > 0; --rounds) {
    const size_t at = place(out.size());
    switch (rng() % 8) {
      case 0:
      case 1:
        if (!out.empty()) out[at] = static_cast<char>(out[at] ^ (1 << rng() % 8));
        break;
      case 2:
        if (!out.empty()) out[at] = static_cast<char>(rng());
        break;
      case 3: out.resize(at); break;
      case 4: out.insert(at, 1 + rng() % 8, static_cast<char>(rng())); break;
      case 5: out.erase(at, 1 + rng() % 8); break;
      case 6: out.insert(place(out.size()), out.substr(at, 1 + rng() % 64)); break;
      default: {
        const std::string& integer = kIntegers[rng() % std::size(kIntegers)];
        out.replace(at, std::min(integer.size(), out.size() - at), integer);
      }
    }
  }
  return out;
}

// A folder that goes away with the test.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "ocior-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  bool is_empty() const { return std::filesystem::is_empty(path_); }

 private:
  std::string path_;
};

}  // namespace ocior::checkpoint::testing
