// Errors as values. Status says what went wrong in a full sentence; Result<T> is a value or a Status.
// Used by every layer and part of the public API; depends on the standard library only. Thread-safe as plain values.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>

namespace ocior {

#pragma GCC visibility push(default)

// The numbers are ONNX Runtime's OrtErrorCode, so that bindings translate by a cast.
enum class Code : int {
  kOk = 0,
  kFail = 1,
  kInvalidArgument = 2,
  kNoSuchFile = 3,
  kNoModel = 4,
  kEngineError = 5,
  kRuntimeException = 6,
  kInvalidProtobuf = 7,
  kModelLoaded = 8,
  kNotImplemented = 9,
  kInvalidGraph = 10,
  kEpFail = 11,
  kModelLoadCanceled = 12,
  kModelRequiresCompilation = 13,
  kNotFound = 14,
};

// What happened: a code and a sentence that names the thing, what was expected, what came, and what to do.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  explicit operator bool() const { return ok(); }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

// A value of type T or the Status that explains its absence.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                                  // NOLINT: implicit on purpose
  Result(Status status) : status_(std::move(status)) { assert(!status_.ok()); }  // NOLINT: implicit on purpose

  bool ok() const { return value_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Status& status() const { return status_; }

  T& value() & {
    assert(value_);
    return *value_;
  }
  const T& value() const& {
    assert(value_);
    return *value_;
  }
  T&& value() && {
    assert(value_);
    return std::move(*value_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::optional<T> value_;
  Status status_;
};

#pragma GCC visibility pop

}  // namespace ocior

// Returns from the enclosing function when `expr` (a Status) is not ok.
#define OCIOR_RETURN_IF_ERROR(expr)                                                        \
  do {                                                                                     \
    if (::ocior::Status ocior_status_ = (expr); !ocior_status_.ok()) return ocior_status_; \
  } while (0)

#define OCIOR_CONCAT_INNER_(a, b) a##b
#define OCIOR_CONCAT_(a, b) OCIOR_CONCAT_INNER_(a, b)
// OCIOR_ASSIGN(auto x, f()): x becomes the value of f() (a Result), or the enclosing function returns its Status.
#define OCIOR_ASSIGN(lhs, expr) OCIOR_ASSIGN_IMPL_(OCIOR_CONCAT_(ocior_result_, __LINE__), lhs, expr)
#define OCIOR_ASSIGN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                       \
  if (!tmp.ok()) return tmp.status();      \
  lhs = std::move(tmp).value()
