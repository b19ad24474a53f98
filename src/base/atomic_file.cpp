#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace ocior {
namespace {

constexpr size_t kBufferBytes = size_t{256} << 10;
constexpr size_t kMaxWrite = size_t{1} << 30;  // Linux cuts a single write() at 2 GiB

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Short and without the target's name, so that it fits wherever the target does.
std::string temp_name() {
  static std::atomic<uint32_t> counter{std::random_device{}()};
  return fmt::format(".ocior-{}-{:08x}.tmp", getpid(), counter.fetch_add(0x9e3779b9));
}

std::string hint_for(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT: return "; free some disk space or write elsewhere";
    case EFBIG: return "; the file-size limit (ulimit -f) or the file system is too small for it";
    case EACCES:
    case EPERM:
    case EROFS: return "; write to a folder that you may write to";
    default: return "";
  }
}

}  // namespace

Result<AtomicFile> AtomicFile::open(const std::string& path, mode_t mode) {
  if (path.empty() || path.find('\0') != std::string::npos)
    return error(Code::kInvalidArgument, "cannot write a file without a name; pass the path of the file to write");
  struct stat info;
  if (path.back() == '/' || (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)))
    return error(Code::kInvalidArgument, "{}: cannot write: it is a folder; pass the path of a file", path);
  const std::string folder = folder_of(path);
  AtomicFile file;
  file.path_ = path;
  for (int attempt = 0; attempt < 100; ++attempt) {
    file.temp_ = folder + "/" + temp_name();
    file.fd_ = ::open(file.temp_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (file.fd_ >= 0 || errno != EEXIST) break;
  }
  if (file.fd_ < 0) {
    const int reason = errno;
    file.temp_.clear();
    if (reason == ENOENT)
      return error(Code::kNoSuchFile, "{}: cannot write: the folder '{}' does not exist; create it", path, folder);
    return file.fail("create a file", reason);
  }
  file.buffer_ = std::make_unique_for_overwrite<std::byte[]>(kBufferBytes);
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept { *this = std::move(other); }

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  if (this == &other) return *this;
  discard();
  path_ = std::move(other.path_);
  temp_ = std::exchange(other.temp_, {});
  fd_ = std::exchange(other.fd_, -1);
  size_ = other.size_;
  used_ = std::exchange(other.used_, 0);
  buffer_ = std::move(other.buffer_);
  failed_ = std::move(other.failed_);
  return *this;
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (!temp_.empty()) ::unlink(std::exchange(temp_, {}).c_str());
}

Status AtomicFile::fail(std::string_view doing, int error_number) {
  failed_ = error(Code::kFail, "{}: cannot {}: {}{}", path_, doing, std::generic_category().message(error_number),
                  hint_for(error_number));
  discard();
  return failed_;
}

Status AtomicFile::write_through(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), std::min(bytes.size(), kMaxWrite));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(fmt::format("write byte {}", size_), n < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status AtomicFile::flush() { return write_through({buffer_.get(), std::exchange(used_, 0)}); }

Status AtomicFile::write(std::span<const std::byte> bytes) {
  if (!failed_.ok()) return failed_;
  if (fd_ < 0) return error(Code::kFail, "{}: written to after it was finished", path_);
  if (used_ + bytes.size() > kBufferBytes) OCIOR_RETURN_IF_ERROR(flush());
  if (bytes.size() >= kBufferBytes) {
    OCIOR_RETURN_IF_ERROR(write_through(bytes));
  } else if (!bytes.empty()) {
    std::memcpy(buffer_.get() + used_, bytes.data(), bytes.size());
    used_ += bytes.size();
  }
  size_ += static_cast<int64_t>(bytes.size());
  return {};
}

Status AtomicFile::finish() {
  if (!failed_.ok()) return failed_;
  if (fd_ < 0) return {};
  OCIOR_RETURN_IF_ERROR(flush());
  if (::fsync(fd_) != 0 && errno != EINVAL && errno != EROFS)
    return fail("bring it to the disk", errno);                                                // EINVAL: nothing to sync to
  if (::close(std::exchange(fd_, -1)) != 0 && errno != EINTR) return fail("close it", errno);  // NFS reports a full disk here
  buffer_.reset();
  return {};
}

Status AtomicFile::commit() {
  OCIOR_RETURN_IF_ERROR(finish());
  if (temp_.empty()) return {};
  if (::rename(temp_.c_str(), path_.c_str()) != 0) return fail("put it in place", errno);
  temp_.clear();
  // The rename has happened: a folder that cannot be synced (no read permission, some network disks) is no failure.
  const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    (void)::fsync(folder);
    ::close(folder);
  }
  return {};
}

}  // namespace ocior
