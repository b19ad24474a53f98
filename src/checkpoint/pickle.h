// A pickle reader that runs nothing: opcodes build plain data, and a call of a global becomes a kCall object that only names it.
// Knows the opcodes that torch.save writes for a state dict (protocols 2 to 5; Python's Lib/pickletools.py describes them).
// Called by torch_file.cpp; plain functions, thread-safe. Strings are views of the caller's bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ocior/status.h"

namespace ocior::checkpoint::pickle {

using Ref = uint32_t;  // index into Pickle::objects

enum class Kind : uint8_t {
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kBytes,
  kTuple,
  kList,
  kDict,
  kGlobal,
  kLong,        // an integer beyond 64 bits; text holds its little-endian bytes
  kCall,        // items: the global and the tuple of arguments
  kPersistent,  // items: the persistent id
};

struct Object {
  Kind kind = Kind::kNone;
  int64_t integer = 0;  // kInt, kBool
  double real = 0;
  std::string_view text;   // kString, kBytes, kLong
  std::string name;        // kGlobal: "module.name"
  std::vector<Ref> items;  // kTuple, kList; kDict: key, value, key, value, …
};

struct Pickle {
  std::vector<Object> objects;
  Ref root = 0;
  size_t bytes = 0;  // how long the pickle was, STOP included

  const Object& at(Ref ref) const { return objects[ref]; }
};

inline constexpr size_t kMaxBytes = size_t{32} << 20;
inline constexpr size_t kMaxObjects = size_t{1} << 20;

// Whether a pickle may name this global ("module.name"). collections.OrderedDict is always known: calling it makes a kDict.
using Allowed = bool (*)(std::string_view name);

// Reads one pickle from the start of `bytes`. Errors do not name the file; the caller adds it. Objects, stack, marks and memo are
// each bounded by kMaxObjects and by the bytes read; there is no recursion.
Result<Pickle> read(std::span<const std::byte> bytes, Allowed allowed);

}  // namespace ocior::checkpoint::pickle
