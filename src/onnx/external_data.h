// Files beside a model that hold tensor payloads (onnx.proto, TensorProto.external_data). Used by the reader only, one per read.
// Guards against names and links that lead out of the model's folder, and against anything that is not a regular file.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "ocior/status.h"

namespace ocior::onnx {

class ExternalData {
 public:
  // Refuses every file: the model came from memory without a folder.
  ExternalData() = default;
  // `folder` is where names start; a file may really lie below it or below `second_root` ("" for none), both resolved here.
  // The second root serves folders of links: a model link and its data links that point into one store.
  ExternalData(std::string folder, const std::string& second_root);

  // The mapped file called `location`, a relative name without `..`. Each file is mapped once however often it is named.
  // Errors: kInvalidGraph (a name that is not allowed or leads outside), kNoSuchFile, kFail.
  Result<std::shared_ptr<const MappedFile>> open(const std::string& location);

  // All files opened so far.
  const std::vector<std::shared_ptr<const MappedFile>>& files() const { return files_; }

 private:
  Result<std::shared_ptr<const MappedFile>> open_new(const std::string& location);
  Status check_inside(int fd, const std::string& location) const;

  std::string folder_;
  std::vector<std::string> roots_;  // canonical, without a slash at the end ("" is the root folder)
  std::map<std::string, std::shared_ptr<const MappedFile>> by_name_;
  std::map<std::pair<dev_t, ino_t>, std::shared_ptr<const MappedFile>> by_inode_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
};

// The path that an open descriptor really has, links resolved; "" when the system cannot say.
std::string path_of_descriptor(int fd);

}  // namespace ocior::onnx
