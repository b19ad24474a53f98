// Untrusted JSON: parsing with a bounded depth, and typed access whose errors name the path of the value. For src/text only.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/model.h"

namespace ocior::text {

// Parses `text`, which may nest at most 64 deep. If `vocab` is given, the members of the object model.vocab, which are many, go
// there (token and id, in file order) instead of into the result.
Result<nlohmann::json> parse_json(std::string_view text, std::vector<VocabEntry>* vocab = nullptr);

// A value inside a parsed file. Lives as long as the file.
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  const nlohmann::json& value() const { return *value_; }

  Result<JsonNode> get(std::string_view key) const;          // a member that must be there
  std::optional<JsonNode> find(std::string_view key) const;  // a member, or nothing if absent or null
  JsonNode element(size_t i) const;                          // of an array, i < size
  Status expect_object() const;
  Status expect_only(std::initializer_list<std::string_view> keys) const;  // an object without other keys

  Result<size_t> array_size() const;
  Result<std::string> string() const;
  Result<bool> boolean() const;
  Result<uint64_t> integer() const;  // 0 .. 2^64-1
  Result<uint32_t> id() const;       // 0 .. 2^32-1

  // The error "PATH: expected WHAT, got <value>".
  Status expected(std::string_view what) const;

 private:
  std::string member_path(std::string_view key) const;

  const nlohmann::json* value_;
  std::string path_;
};

}  // namespace ocior::text
