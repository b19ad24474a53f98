// JSON as the command line prints it: one object a line, members in the order in which they were added.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace ocior::cli {

using Json = nlohmann::ordered_json;

// Never throws: bytes that are not UTF-8 become U+FFFD.
inline std::string json_line(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace ocior::cli
