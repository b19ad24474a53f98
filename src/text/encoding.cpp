// Windows, joining and padding of encodings. See encoding.h.
#include "text/encoding.h"

#include <algorithm>
#include <utility>

namespace ocior::text {
namespace {

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

template <class T>
std::vector<T> part(const std::vector<T>& v, size_t begin, size_t end) {
  if (v.empty()) return {};  // tokens that were not asked for
  return {v.begin() + static_cast<ptrdiff_t>(begin), v.begin() + static_cast<ptrdiff_t>(end)};
}

Status too_many() {
  return error(Code::kInvalidArgument, "the windows would hold more than {} tokens; use a smaller stride or a shorter text",
               kMaxTokens);
}

// The token ranges of the windows of `length` tokens, each at most `max` long and sharing `stride` with its neighbour.
std::vector<Encoding::Range> windows(size_t length, size_t max, size_t stride, Direction direction) {
  std::vector<Encoding::Range> out;
  const size_t step = max - stride;
  for (size_t i = 0;; i += step) {
    const size_t stop = std::min(i + max, length);
    out.push_back(direction == Direction::kRight ? Encoding::Range{i, stop} : Encoding::Range{length - stop, length - i});
    if (stop == length) return out;
  }
}

Status cut(Encoding& encoding, uint64_t max, const Truncation& truncation) {
  const size_t length = encoding.size();
  if (max >= length) return {};
  if (max == 0) {
    Encoding empty;
    empty.overflowing.push_back(std::exchange(encoding, {}));
    encoding = std::move(empty);
    return {};
  }
  if (truncation.stride >= max) {
    return error(Code::kInvalidArgument,
                 "truncation stride {} must be less than the {} tokens left for the text (max_length without special tokens and "
                 "the other text)",
                 truncation.stride, max);
  }
  const uint64_t step = max - truncation.stride;
  if ((length - max + step - 1) / step + 1 > kMaxTokens / max) return too_many();
  const std::vector<Encoding::Range> ranges = windows(length, max, truncation.stride, truncation.direction);
  Encoding out = encoding.slice(ranges[0].begin, ranges[0].end);
  out.overflowing.reserve(ranges.size() - 1);
  for (size_t i = 1; i < ranges.size(); ++i) out.overflowing.push_back(encoding.slice(ranges[i].begin, ranges[i].end));
  encoding = std::move(out);
  return {};
}

Status cut_longest_first(Encoding& first, Encoding* second, const Truncation& truncation) {
  if (!second) return cut(first, truncation.max_length, truncation);
  uint64_t shorter = first.size(), longer = second->size();
  const bool swapped = shorter > longer;
  if (swapped) std::swap(shorter, longer);
  longer = shorter > truncation.max_length ? shorter : std::max(shorter, truncation.max_length - shorter);
  if (shorter + longer > truncation.max_length) {
    shorter = truncation.max_length / 2;
    longer = shorter + truncation.max_length % 2;
  }
  if (swapped) std::swap(shorter, longer);
  OCIOR_RETURN_IF_ERROR(cut(first, shorter, truncation));
  return cut(*second, longer, truncation);
}

// Tokens of an encoding and of all its windows.
uint64_t all_tokens(const Encoding& encoding) {
  uint64_t n = encoding.size();
  for (const Encoding& o : encoding.overflowing) n += all_tokens(o);
  return n;
}

// Appends `b` to `a`, windows included.
void merge(Encoding& a, const Encoding& b) {
  std::vector<Encoding> overflowing;
  const auto add = [&](const Encoding& left, const Encoding& right) {
    overflowing.push_back(left);
    merge(overflowing.back(), right);
  };
  for (const Encoding& o : a.overflowing) {
    add(o, b);
    for (const Encoding& p : b.overflowing) add(o, p);
  }
  for (const Encoding& p : b.overflowing) add(a, p);  // with a's own windows, which nest
  const size_t before = a.size();
  for (size_t i = 0; i < 2; ++i) {
    if (b.sequence_ranges[i]) a.sequence_ranges[i] = {before + b.sequence_ranges[i]->begin, before + b.sequence_ranges[i]->end};
  }
  append(a.ids, b.ids);
  append(a.type_ids, b.type_ids);
  append(a.tokens, b.tokens);
  append(a.offsets, b.offsets);
  append(a.word_ids, b.word_ids);
  append(a.special_tokens_mask, b.special_tokens_mask);
  append(a.attention_mask, b.attention_mask);
  a.overflowing = std::move(overflowing);
}

template <class T>
void pad_vector(std::vector<T>& v, size_t count, const T& value, Direction direction) {
  v.insert(direction == Direction::kLeft ? v.begin() : v.end(), count, value);
}

void pad_one(Encoding& e, size_t length, const Padding& p, bool with_tokens) {
  for (Encoding& o : e.overflowing) pad_one(o, length, p, with_tokens);
  if (e.size() >= length) return;
  const size_t count = length - e.size();
  if (with_tokens) pad_vector(e.tokens, count, p.token, p.direction);
  pad_vector(e.ids, count, p.id, p.direction);
  pad_vector(e.type_ids, count, p.type_id, p.direction);
  pad_vector(e.offsets, count, Span{}, p.direction);
  pad_vector(e.word_ids, count, Encoding::kNoWord, p.direction);
  pad_vector(e.special_tokens_mask, count, uint8_t{1}, p.direction);
  pad_vector(e.attention_mask, count, uint8_t{0}, p.direction);
  if (p.direction == Direction::kRight) return;
  for (auto& range : e.sequence_ranges) {
    if (range) range = {range->begin + count, range->end + count};
  }
}

uint64_t count_encodings(const Encoding& e) {
  uint64_t n = 1;
  for (const Encoding& o : e.overflowing) n += count_encodings(o);
  return n;
}

}  // namespace

std::vector<int32_t> Encoding::sequence_ids() const {
  std::vector<int32_t> out(size(), kNoSequence);
  const int count =
      std::max(1, static_cast<int>(sequence_ranges[0].has_value()) + static_cast<int>(sequence_ranges[1].has_value()));
  for (int i = 0; i < count; ++i) {
    const Range range = sequence_ranges[i].value_or(Range{0, size()});
    std::fill(out.begin() + static_cast<ptrdiff_t>(range.begin), out.begin() + static_cast<ptrdiff_t>(range.end), i);
  }
  return out;
}

Encoding Encoding::slice(size_t begin, size_t end) const {
  Encoding out;
  out.ids = part(ids, begin, end);
  out.type_ids = part(type_ids, begin, end);
  out.tokens = part(tokens, begin, end);
  out.offsets = part(offsets, begin, end);
  out.word_ids = part(word_ids, begin, end);
  out.special_tokens_mask = part(special_tokens_mask, begin, end);
  out.attention_mask = part(attention_mask, begin, end);
  return out;
}

Status truncate(Encoding& first, Encoding* second, const Truncation& truncation) {
  if (truncation.max_length == 0) {
    OCIOR_RETURN_IF_ERROR(cut(first, 0, truncation));
    return second ? cut(*second, 0, truncation) : Status();
  }
  const uint64_t total = first.size() + (second ? second->size() : 0);
  if (total <= truncation.max_length) return {};
  if (truncation.strategy == Truncation::Strategy::kLongestFirst) return cut_longest_first(first, second, truncation);
  const bool only_second = truncation.strategy == Truncation::Strategy::kOnlySecond;
  if (only_second && !second) {
    return error(Code::kInvalidArgument,
                 "truncation strategy OnlySecond needs a second text, and none was given; use LongestFirst or OnlyFirst");
  }
  Encoding& target = only_second ? *second : first;
  const uint64_t to_remove = total - truncation.max_length;
  if (target.size() <= to_remove) {
    return error(Code::kInvalidArgument,
                 "truncation strategy {} cannot reach {} tokens: the text it cuts has {}, and {} are too many; raise max_length",
                 only_second ? "OnlySecond" : "OnlyFirst", truncation.max_length, target.size(), to_remove);
  }
  return cut(target, target.size() - to_remove, truncation);
}

Result<Encoding> join(std::vector<Encoding> parts) {
  uint64_t windows = 1, tokens = 0;
  for (const Encoding& p : parts) {
    if (__builtin_mul_overflow(windows, count_encodings(p), &windows) || windows > kMaxTokens) return too_many();
    for (const Encoding& o : p.overflowing) tokens = std::max<uint64_t>(tokens, o.size());
    tokens += p.size();
  }
  constexpr uint64_t kNested = 3;  // when both texts have windows, the combinations are listed flat and nested below either side
  if (windows > 1 && tokens > kMaxTokens / kNested / windows) return too_many();
  if (parts.empty()) return Encoding{};
  Encoding out = std::move(parts[0]);
  for (size_t i = 1; i < parts.size(); ++i) merge(out, parts[i]);
  return out;
}

Status pad(std::span<Encoding> encodings, const Padding& padding, bool with_tokens) {
  uint64_t length = padding.fixed.value_or(0), count = 0, have = 0;
  for (const Encoding& e : encodings) {
    if (!padding.fixed) length = std::max<uint64_t>(length, e.size());
    count += count_encodings(e);
    have += all_tokens(e);
  }
  const uint64_t multiple = padding.multiple_of.value_or(0);
  if (multiple > 0 && length % multiple > 0 && __builtin_add_overflow(length, multiple - length % multiple, &length))
    length = UINT64_MAX;
  if (count > 0 && length > (kMaxTokens + have) / count) {
    return error(Code::kInvalidArgument, "padding {} encodings to {} tokens each would make more than {} tokens; pad to less",
                 count, length, kMaxTokens);
  }
  for (Encoding& e : encodings) pad_one(e, length, padding, with_tokens);
  return {};
}

}  // namespace ocior::text
