// The inputs of a run from the command line: files, or made-up values. Shared by `run` and `bench`.
#pragma once

#include <string>
#include <vector>

#include "cli.h"
#include "npy.h"

namespace ocior::cli {

struct FeedFlags {
  std::vector<std::string> inputs;  // NAME=FILE
  std::string file;                 // .npz or .json with all of them
  std::vector<std::string> dims;    // NAME=NUMBER
  bool random = false;
  uint64_t seed = 0;

  void add_files_to(CLI::App& command);
  void add_dims_to(CLI::App& command);
  // A value for every input of the session; what no file gives is made up if `random`. Errors name the input.
  Result<NamedValues> read(const Session& session) const;
};

std::vector<Feed> feeds_of(const NamedValues& values);

}  // namespace ocior::cli
