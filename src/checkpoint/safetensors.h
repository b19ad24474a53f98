// Reads the safetensors format (https://github.com/huggingface/safetensors, "Format"): 8 bytes header length, JSON header, data.
// Called by load_state_dict; plain functions, thread-safe. The tensors are views of the caller's bytes.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/mapped_file.h"
#include "checkpoint/state_dict.h"
#include "ocior/status.h"

namespace ocior::checkpoint {

// The format's own limit on the header.
inline constexpr int64_t kMaxSafetensorsHeader = 100'000'000;

// Reads `bytes`, called `file` in errors. They must outlive the StateDict unless `mapped` owns them.
// Refused: a header that is too long, not JSON or says more than the format knows; repeated names; tensors that overlap, leave
// the file or leave gaps (the format forbids them); sizes that contradict shape and dtype.
Result<StateDict> read_safetensors(std::span<const std::byte> bytes, const std::string& file,
                                   std::shared_ptr<const MappedFile> mapped = nullptr);

}  // namespace ocior::checkpoint
