// The directory of a zip archive of stored (uncompressed) entries, as torch.save writes it (PKWARE APPNOTE 6.3, zip64 included).
// Called by torch_file.cpp; plain functions, thread-safe. Entries are views of the caller's bytes.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

#include "ocior/status.h"

namespace ocior::checkpoint {

// Name → contents, sorted by name.
using ZipEntries = std::map<std::string, std::span<const std::byte>, std::less<>>;

// Reads the central directory of `bytes`, called `file` in errors. Refused: compressed or encrypted entries, repeated names,
// entries that leave the file or overlap one another or the directory (so an archive never holds more than its own size), split
// archives.
Result<ZipEntries> read_zip(std::span<const std::byte> bytes, const std::string& file);

}  // namespace ocior::checkpoint
