// Makes a Status from a format string (fmt syntax): error(Code::kInvalidGraph, "node '{}' ...", name).
#pragma once

#include <fmt/format.h>

#include "ocior/status.h"

namespace ocior {

template <class... Args>
Status error(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Status(code, fmt::format(format, std::forward<Args>(args)...));
}

// `status` with `prefix: ` before its message; ok stays ok.
inline Status with_context(Status status, std::string_view prefix) {
  return status.ok() ? status : Status(status.code(), fmt::format("{}: {}", prefix, status.message()));
}

}  // namespace ocior
