#include "checkpoint/state_dict.h"

#include "base/error.h"
#include "checkpoint/json.h"

namespace ocior::checkpoint {
namespace {

std::string text_of(const std::vector<int64_t>& dims) { return fmt::format("[{}]", fmt::join(dims, ", ")); }

// The byte size of a view from its first to its last element, or an error.
Result<int64_t> span_bytes(const TensorEntry& entry) {
  OCIOR_ASSIGN(const int64_t elements, checked_elements(entry.shape));
  if (entry.strides.size() != entry.shape.size()) {
    return error(Code::kInvalidArgument, "has {} dimensions but {} strides", entry.shape.size(), entry.strides.size());
  }
  const int bits = bits_of(entry.dtype);
  if (bits < 8)
    return error(Code::kNotImplemented, "has element type {}, which is not read from checkpoints", name_of(entry.dtype));
  int64_t last = 0;
  for (size_t i = 0; i < entry.shape.size(); ++i) {
    int64_t step = 0;
    if (entry.strides[i] < 0) return error(Code::kInvalidArgument, "has a negative stride ({})", entry.strides[i]);
    if (elements == 0) continue;
    if (__builtin_mul_overflow(entry.shape[i] - 1, entry.strides[i], &step) || __builtin_add_overflow(last, step, &last)) {
      return error(Code::kInvalidArgument, "has strides {} that reach beyond any file", text_of(entry.strides));
    }
  }
  int64_t bytes = 0;
  if (elements > 0 && (__builtin_add_overflow(last, 1, &bytes) || __builtin_mul_overflow(bytes, bits / 8, &bytes))) {
    return error(Code::kInvalidArgument, "has strides {} that reach beyond any file", text_of(entry.strides));
  }
  return bytes;
}

}  // namespace

int64_t TensorEntry::elements() const {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

bool TensorEntry::contiguous() const {
  int64_t expected = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

std::vector<int64_t> dense_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = step;
    step *= shape[i];
  }
  return strides;
}

Result<int64_t> checked_elements(const std::vector<int64_t>& shape) {
  if (shape.size() > kMaxRank)
    return error(Code::kInvalidArgument, "has {} dimensions; at most {} are read", shape.size(), kMaxRank);
  int64_t n = 1;
  bool empty = false;
  for (const int64_t d : shape) {
    if (d < 0) return error(Code::kInvalidArgument, "has a negative dimension in its shape {}", text_of(shape));
    if (d == 0) empty = true;
    // Zeros are left out of the product so that every partial product, whatever its order, is proved to fit.
    if (d > 0 && __builtin_mul_overflow(n, d, &n)) {
      return error(Code::kInvalidArgument, "has the shape {}, whose element count does not fit 64 bits", text_of(shape));
    }
  }
  return empty ? 0 : n;
}

Status StateDict::add(TensorEntry entry) {
  const std::string where = fmt::format("{}: tensor `{}`", entry.file, printable(entry.name));
  auto bytes = span_bytes(entry);
  if (!bytes.ok()) return Status(bytes.status().code(), fmt::format("{} {}", where, bytes.status().message()));
  if (*bytes > static_cast<int64_t>(entry.data.size())) {
    return error(Code::kInvalidArgument, "{} with shape {} and strides {} needs {} bytes, but its storage has {} from there on",
                 where, text_of(entry.shape), text_of(entry.strides), *bytes, entry.data.size());
  }
  if (!index_.emplace(entry.name, entries_.size()).second) return error(Code::kInvalidArgument, "{} appears twice", where);
  entries_.push_back(std::move(entry));
  return {};
}

Status StateDict::merge(StateDict other) {
  for (TensorEntry& entry : other.entries_) OCIOR_RETURN_IF_ERROR(add(std::move(entry)));
  return {};
}

const TensorEntry* StateDict::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &entries_[it->second];
}

}  // namespace ocior::checkpoint
