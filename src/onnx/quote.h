// Names from untrusted files, made fit for error messages. Used in this folder; pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ocior::onnx {

// 'name' with control bytes as '?', cut after 100 bytes.
std::string quoted(std::string_view name);
// "[2, 3]", cut after 16 dimensions.
std::string shape_text(std::span<const int64_t> dims);

}  // namespace ocior::onnx
