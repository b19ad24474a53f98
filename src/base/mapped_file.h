// A regular file mapped read-only into memory. Used by the readers of models, external data, checkpoints and caches.
// Immutable and shareable between threads. The bytes need no alignment beyond the page's at offset 0.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "ocior/status.h"

namespace ocior {

// The mapping is MAP_PRIVATE and read-only. The kernel raises SIGBUS when a page is touched that another process has cut off the
// file meanwhile; whoever keeps bytes for longer than a load therefore copies them (or maps files that only Ocior writes).
class MappedFile {
 public:
  // Errors: kNoSuchFile (missing), kInvalidArgument (folder, pipe, device), kFail (no permission, no memory).
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  // Takes ownership of `fd`, open for reading, at all events. `name` is for messages. The descriptor is closed after mapping
  // unless `keep_fd`: models with one file per tensor would exhaust the process's descriptors.
  static Result<std::shared_ptr<const MappedFile>> from_fd(int fd, const std::string& name, bool keep_fd);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::string& path() const { return path_; }
  // For fstat (identity, later changes); -1 when not kept.
  int fd() const { return fd_; }

  // Gives back the physical pages that lie entirely inside `range`; they are read again when next touched.
  // A range outside the file is cut to it.
  void release(std::span<const std::byte> range) const;
  void release() const { release(bytes_); }

 private:
  MappedFile() = default;

  std::string path_;
  std::span<const std::byte> bytes_;
  int fd_ = -1;
};

}  // namespace ocior
