#include "onnx/external_data.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "base/error.h"
#include "onnx/quote.h"

namespace ocior::onnx {
namespace {

// Lexical rules, checked before the file system is asked anything.
Status check_name(const std::string& location) {
  const char* wrong = nullptr;
  if (location.empty()) wrong = "is empty";
  else if (location.find('\0') != std::string::npos) wrong = "holds a zero byte";
  else if (location.front() == '/') wrong = "is an absolute path";
  else if (location.find('\\') != std::string::npos) wrong = "holds a backslash";
  for (size_t at = 0; !wrong && at <= location.size();) {
    const size_t end = std::min(location.find('/', at), location.size());
    if (std::string_view(location).substr(at, end - at) == "..") wrong = "leads upwards by '..'";
    at = end + 1;
  }
  if (!wrong) return {};
  return error(Code::kInvalidGraph, "external data location {} {}; expected a file name relative to the model's folder",
               quoted(location), wrong);
}

std::string canonical(const std::string& path) {
  char* found = realpath(path.c_str(), nullptr);
  if (!found) return "";
  std::string out = found;
  free(found);
  return out;
}

Status not_opened(const std::string& location, int reason) {
  if (reason == ENOENT || reason == ENOTDIR)
    return error(Code::kNoSuchFile, "external data file {} does not exist; put it beside the model", quoted(location));
  return error(Code::kFail, "external data file {} cannot be opened: {}", quoted(location),
               std::generic_category().message(reason));
}

Status not_regular(const std::string& location) {
  return error(Code::kInvalidGraph, "external data location {} is a folder, device or pipe; expected a regular file",
               quoted(location));
}

}  // namespace

std::string path_of_descriptor(int fd) {
  std::string target(PATH_MAX, '\0');
  const ssize_t n = readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), target.data(), target.size());
  if (n <= 0 || n >= PATH_MAX) return "";
  target.resize(static_cast<size_t>(n));
  return target;
}

ExternalData::ExternalData(std::string folder, const std::string& second_root) : folder_(std::move(folder)) {
  for (const std::string& root : {folder_, second_root}) {
    std::string path = root.empty() ? "" : canonical(root);
    if (path.empty()) continue;
    if (path == "/") path.clear();
    roots_.push_back(std::move(path));
  }
}

Result<std::shared_ptr<const MappedFile>> ExternalData::open(const std::string& location) {
  if (const auto known = by_name_.find(location); known != by_name_.end()) return known->second;
  OCIOR_RETURN_IF_ERROR(check_name(location));
  if (folder_.empty())
    return error(Code::kInvalidGraph,
                 "the payload lies in the external data file {}, which a model read from memory may not open; "
                 "read the model by its path or name the folder of its data",
                 quoted(location));
  OCIOR_ASSIGN(auto file, open_new(location));
  by_name_[location] = file;
  return file;
}

Result<std::shared_ptr<const MappedFile>> ExternalData::open_new(const std::string& location) {
  const std::string path = folder_ + "/" + location;
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return not_opened(location, errno);  // opening a device could already act on it
  if (!S_ISREG(info.st_mode)) return not_regular(location);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return not_opened(location, errno);
  Status status = check_inside(fd, location);
  if (status.ok() && (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))) status = not_regular(location);
  const std::pair inode(info.st_dev, info.st_ino);
  const auto known = by_inode_.find(inode);
  if (!status.ok() || known != by_inode_.end()) {
    ::close(fd);
    if (!status.ok()) return status;
    return known->second;
  }
  OCIOR_ASSIGN(auto file, MappedFile::from_fd(fd, path, /*keep_fd=*/false));
  by_inode_[inode] = file;
  files_.push_back(file);
  return file;
}

// Asks where the opened file really is, so that no link can be swapped between the check and the use.
Status ExternalData::check_inside(int fd, const std::string& location) const {
  const std::string real = path_of_descriptor(fd);
  if (real.empty())
    return error(Code::kFail,
                 "external data file {}: cannot find out where it really lies (is /proc mounted?), so it is not used",
                 quoted(location));
  for (const std::string& root : roots_)
    if (real.size() > root.size() + 1 && real.starts_with(root) && real[root.size()] == '/') return {};
  return error(Code::kInvalidGraph,
               "external data location {} is a link that leads out of the model's folder; copy the file there", quoted(location));
}

}  // namespace ocior::onnx
