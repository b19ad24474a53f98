// Reads what torch.save writes for a state dict: the zip format (torch/serialization.py, since 1.6) and the older stream of
// pickles. Nothing of the file is executed; see pickle.h. Called by load_state_dict; plain functions, thread-safe.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/mapped_file.h"
#include "checkpoint/state_dict.h"
#include "ocior/status.h"

namespace ocior::checkpoint {

// Reads `bytes`, called `file` in errors. They must outlive the StateDict unless `mapped` owns them. Entries of the dictionary
// that are no tensors are left out. Refused: globals other than those of a state dict (the error names the global), views that
// leave their storage or hold more elements than it, storages that the file lacks, quantised and sparse tensors, TorchScript.
Result<StateDict> read_torch_file(std::span<const std::byte> bytes, const std::string& file,
                                  std::shared_ptr<const MappedFile> mapped = nullptr);

}  // namespace ocior::checkpoint
