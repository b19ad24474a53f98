// Says what a file that is no ONNX model probably is, for error messages. Pure function.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace ocior::onnx {

// "this is a … ; do …" for formats that people pass by mistake, "" when the bytes say nothing. Looks at the first bytes only.
std::string_view describe_foreign(std::span<const std::byte> bytes);

}  // namespace ocior::onnx
