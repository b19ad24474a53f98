// JSON of untrusted files: strict, bounded in size and depth, no key twice in an object. Errors name the file.
// Used by the readers of src/checkpoint; plain functions, thread-safe.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "ocior/status.h"

namespace ocior::checkpoint {

inline constexpr int64_t kMaxJsonBytes = int64_t{16} << 20;
inline constexpr int kMaxJsonDepth = 64;

// Parses `text`, called `file` in errors. Refuses more than kMaxJsonBytes bytes, kMaxJsonDepth levels, and repeated keys.
Result<nlohmann::json> parse_json(std::string_view text, std::string_view file);

// `text` from a file, fit for a message: control bytes replaced, cut after 120 bytes.
std::string printable(std::string_view text);

}  // namespace ocior::checkpoint
