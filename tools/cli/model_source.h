// From what the user names to a loaded model: an ONNX file, a checkpoint folder (converted once into the cache), or the model
// that comes with Ocior. Plain functions for the main thread.
#pragma once

#include <string>

#include "ocior/session.h"

namespace ocior::cli {

// The folder of the question answering model that comes with Ocior: OCIOR_MODEL_DIR, models/qa beside the build folder, or the
// installed one. kNoSuchFile, naming the places, when there is none.
Result<std::string> default_model();

struct LoadedModel {
  Session session;
  std::string folder;  // where the tokenizer's files are
};

// Loads an ONNX file, a folder with model.onnx, or a checkpoint folder. A checkpoint becomes an ONNX file in the cache folder
// (OCIOR_CACHE_DIR, else XDG_CACHE_HOME/ocior, else ~/.cache/ocior), named by its content; it is converted in memory, with a
// note, when that folder cannot be used.
Result<LoadedModel> load_model(const std::string& path, const SessionOptions& options);

}  // namespace ocior::cli
