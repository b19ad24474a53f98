#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <system_error>

#include "base/error.h"

namespace ocior {
namespace {

Status not_opened(const std::string& path, int reason) {
  if (reason == ENOENT || reason == ENOTDIR)
    return error(Code::kNoSuchFile, "{}: there is no such file; check the path and the current folder", path);
  return error(Code::kFail, "{}: cannot open for reading: {}", path, std::generic_category().message(reason));
}

Status check_regular(const struct stat& info, const std::string& path) {
  if (S_ISREG(info.st_mode)) return {};
  return error(Code::kInvalidArgument, "{}: this is a {}, not a regular file; pass the path of a file", path,
               S_ISDIR(info.st_mode) ? "folder" : "device, pipe or socket");
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  struct stat info;
  if (path.find('\0') != std::string::npos) return not_opened(path, ENOENT);
  // Looked at before opening because opening alone can act on a device; looked at again on the descriptor in from_fd.
  if (stat(path.c_str(), &info) != 0) return not_opened(path, errno);
  OCIOR_RETURN_IF_ERROR(check_regular(info, path));
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return not_opened(path, errno);
  return from_fd(fd, path, /*keep_fd=*/true);
}

Result<std::shared_ptr<const MappedFile>> MappedFile::from_fd(int fd, const std::string& name, bool keep_fd) {
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->fd_ = fd;
  file->path_ = name;
  struct stat info;
  if (fstat(fd, &info) != 0) return not_opened(name, errno);
  OCIOR_RETURN_IF_ERROR(check_regular(info, name));
  if (info.st_size > 0) {
    const auto size = static_cast<size_t>(info.st_size);
    void* at = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED)
      return error(Code::kFail, "{}: cannot map {} bytes: {}", name, size, std::generic_category().message(errno));
    file->bytes_ = {static_cast<const std::byte*>(at), size};
  }
  if (!keep_fd) {
    ::close(fd);
    file->fd_ = -1;
  }
  return std::shared_ptr<const MappedFile>(std::move(file));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  if (fd_ >= 0) ::close(fd_);
}

void MappedFile::release(std::span<const std::byte> range) const {
  if (bytes_.empty()) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(bytes_.data());
  const auto last = first + bytes_.size();
  const auto from = std::max(first, reinterpret_cast<uintptr_t>(range.data()));
  const auto to = std::min(last, reinterpret_cast<uintptr_t>(range.data()) + range.size());
  const uintptr_t begin = (from + page - 1) / page * page;
  const uintptr_t end =
      to == last ? (to + page - 1) / page * page : to / page * page;  // the tail of the last page belongs to nobody
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace ocior
