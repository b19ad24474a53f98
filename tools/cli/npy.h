// NumPy's files: .npy holds one array, .npz is a zip archive of them (NumPy Enhancement Proposal 1, formats 1.0 to 3.0).
// Plain functions. Files are untrusted: shapes are checked against the bytes that are there.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ocior/value.h"

namespace ocior::cli {

using NamedValues = std::vector<std::pair<std::string, Value>>;

// One array: bool, integers, floats, complex numbers, text (U, S), bfloat16 as ml_dtypes writes it (V2); any byte and index
// order. kInvalidArgument for anything else, or when the data is shorter than the shape says.
Result<Value> read_npy(const std::string& path);

// The arrays of an archive that is not compressed, by name.
Result<NamedValues> read_npz(const std::string& path);

// Writes an archive that numpy.load reads, whole or not at all. bfloat16 is widened to float32; other types without a NumPy
// equivalent are kNotImplemented.
Status write_npz(const std::string& path, const NamedValues& values);

}  // namespace ocior::cli
