// A file that appears whole or not at all: written aside in the target's folder, fsynced, then renamed over the target.
// Used by every writer of models, checkpoints and caches. One owner, one thread at a time; unrelated files are independent.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "ocior/status.h"

namespace ocior {

// Until commit() succeeds the target is untouched; a destroyed or failed AtomicFile leaves nothing behind. A process killed by
// a signal may leave a hidden `.ocior-*.tmp` file. A target that is a symbolic link is replaced by a regular file.
class AtomicFile {
 public:
  // Creates the temporary file beside `path`. `mode` is the new file's permission, cut by the umask.
  // Errors: kNoSuchFile (folder missing), kInvalidArgument (empty path or a folder), kFail (no permission, read-only disk, …).
  static Result<AtomicFile> open(const std::string& path, mode_t mode = 0666);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();

  // Appends. Small pieces are buffered; an error (disk full, quota) removes the temporary file and repeats on later calls.
  Status write(std::span<const std::byte> bytes);
  Status write(std::string_view text) { return write(std::as_bytes(std::span(text))); }

  // Bytes written so far: the offset at which the next write() lands.
  int64_t size() const { return size_; }
  // Where the file will be after commit().
  const std::string& path() const { return path_; }

  // Flushes and fsyncs without renaming, so that several files can be made safe before the first appears. Nothing may be written
  // after.
  Status finish();
  // finish(), rename, fsync of the folder.
  Status commit();

 private:
  AtomicFile() = default;
  Status flush();
  Status write_through(std::span<const std::byte> bytes);
  Status fail(std::string_view doing, int error_number);
  void discard();

  std::string path_;
  std::string temp_;  // "" when nothing is on disk
  int fd_ = -1;
  int64_t size_ = 0;
  size_t used_ = 0;  // bytes waiting in buffer_
  std::unique_ptr<std::byte[]> buffer_;
  Status failed_;
};

}  // namespace ocior
