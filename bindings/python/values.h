// Python objects <-> Values. All functions want the GIL and raise Python exceptions.
#pragma once

#include <nanobind/nanobind.h>

#include <deque>
#include <string>

#include "ocior/ocior.h"

namespace ocior::python {

// Raises the exception class of the status's code.
[[noreturn]] void raise(const Status& status);
// The exception classes by status code, with ONNX Runtime's names; made by add_errors.
void add_errors(nanobind::module_& m);

template <class T>
T unwrap(Result<T> result) {
  if (!result.ok()) raise(result.status());
  return std::move(result).value();
}

// What Python gives for the input `want`: an array, a list of values for a sequence, a dict for a map; None or the element itself
// for an optional. `keep` receives what must stay alive while the Value lives.
Value value_of(nanobind::handle object, const ValueInfo& want, std::deque<nanobind::object>& keep);
// The reverse.
nanobind::object object_of(const Value& value);

// An array (anything with the buffer protocol or DLPack, a list, or a NumPy array of ml_dtypes' types or of strings) as a tensor
// that borrows its memory where it can; `keep` receives what must stay alive. `name` is for errors.
Value tensor_of(nanobind::handle object, const std::string& name, std::deque<nanobind::object>& keep);

// A tensor as a NumPy array over its memory. Types that NumPy lacks become those of the package ml_dtypes, sub-byte ones unpacked
// to one element a byte.
nanobind::object array_of(const Value& tensor);

}  // namespace ocior::python
