#include "checkpoint/pickle.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "checkpoint/json.h"

namespace ocior::checkpoint::pickle {
namespace {

constexpr std::string_view kOrderedDict = "collections.OrderedDict";

// Opcode bytes of Lib/pickle.py. What is not listed here is refused.
enum Op : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNoneOp = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobalOp = 'c',
  kDictOp = 'd',
  kEmptyDict = '}',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kListOp = 'l',
  kEmptyList = ']',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTupleOp = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, Allowed allowed)
      : bytes_(bytes.first(std::min(bytes.size(), kMaxBytes))), allowed_(allowed) {
    out_.objects.resize(3);  // None, False and True are made once
    out_.objects[kFalse] = {Kind::kBool, 0};
    out_.objects[kTrue] = {Kind::kBool, 1};
  }

  Result<Pickle> run() {
    while (!done_) {
      if (at_ >= bytes_.size()) return cut_off();
      OCIOR_RETURN_IF_ERROR(step(static_cast<uint8_t>(bytes_[at_++])));
    }
    out_.bytes = at_;
    return std::move(out_);
  }

 private:
  static constexpr Ref kNoneRef = 0, kFalse = 1, kTrue = 2;

  Status cut_off() const {
    return error(Code::kInvalidArgument, "the pickle is cut off after {} bytes; the file is incomplete or damaged",
                 bytes_.size());
  }
  Status malformed(std::string_view what) const {
    return error(Code::kInvalidArgument, "the pickle is malformed near byte {}: {}", at_, what);
  }

  static Status too_large() {
    return error(Code::kInvalidArgument, "the pickle holds more than {} objects; no state dict needs so many", kMaxObjects);
  }

  // Little-endian unsigned integer of `count` <= 8 bytes.
  Result<uint64_t> number(size_t count) {
    if (bytes_.size() - at_ < count) return cut_off();
    uint64_t value = 0;
    std::memcpy(&value, bytes_.data() + at_, count);
    at_ += count;
    return value;
  }
  Result<std::string_view> counted(size_t count_bytes) {
    OCIOR_ASSIGN(const uint64_t count, number(count_bytes));
    if (bytes_.size() - at_ < count) return cut_off();
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + at_, count);
    at_ += count;
    return text;
  }
  Result<std::string_view> line() {
    const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + at_, bytes_.size() - at_);
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) return cut_off();
    at_ += end + 1;
    return rest.substr(0, end);
  }

  Status push(Object object) {
    if (out_.objects.size() >= kMaxObjects) return too_large();
    out_.objects.push_back(std::move(object));
    return push_ref(static_cast<Ref>(out_.objects.size() - 1));
  }
  Status push_ref(Ref ref) {
    if (stack_.size() >= kMaxObjects) return too_large();
    stack_.push_back(ref);
    return {};
  }
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  // Takes the top `count` values, none of them from below the last mark.
  Result<std::vector<Ref>> take(size_t count) {
    if (stack_.size() - floor() < count) return malformed("it takes a value from an empty stack");
    std::vector<Ref> items(stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return items;
  }
  Result<Ref> pop() {
    if (stack_.size() == floor()) return malformed("it takes a value from an empty stack");
    const Ref ref = stack_.back();
    stack_.pop_back();
    return ref;
  }
  Result<std::vector<Ref>> take_to_mark() {
    if (marks_.empty()) return malformed("it looks for a mark that was never set");
    OCIOR_ASSIGN(std::vector<Ref> items, take(stack_.size() - marks_.back()));
    marks_.pop_back();
    return items;
  }
  Object& object(Ref ref) { return out_.objects[ref]; }

  Status push_text(Kind kind, size_t count_bytes) {
    OCIOR_ASSIGN(const std::string_view text, counted(count_bytes));
    return push({.kind = kind, .text = text});
  }
  Status push_int(int64_t value) { return push({.kind = Kind::kInt, .integer = value}); }
  Status push_unsigned(size_t count) {
    OCIOR_ASSIGN(const uint64_t value, number(count));
    return push_int(static_cast<int64_t>(value));
  }
  Status push_signed32() {
    OCIOR_ASSIGN(const uint64_t value, number(4));
    return push_int(static_cast<int32_t>(value));
  }
  Status push_long(size_t count_bytes) {
    OCIOR_ASSIGN(const std::string_view text, counted(count_bytes));
    if (text.size() > 8) return push({.kind = Kind::kLong, .text = text});
    uint64_t value = !text.empty() && (text.back() & 0x80) ? ~uint64_t{0} : 0;  // sign extension
    std::memcpy(&value, text.data(), text.size());
    return push_int(static_cast<int64_t>(value));
  }
  Status push_float() {
    OCIOR_ASSIGN(const uint64_t bits, number(8));
    return push({.kind = Kind::kFloat, .real = std::bit_cast<double>(__builtin_bswap64(bits))});
  }
  Status push_tuple(size_t count) {
    OCIOR_ASSIGN(std::vector<Ref> items, take(count));
    return push({.kind = Kind::kTuple, .items = std::move(items)});
  }
  Status push_marked(Kind kind) {
    OCIOR_ASSIGN(std::vector<Ref> items, take_to_mark());
    if (kind == Kind::kDict && items.size() % 2) return malformed("a dictionary has a key without a value");
    return push({.kind = kind, .items = std::move(items)});
  }
  Status push_global(std::string_view module, std::string_view name) {
    std::string full = fmt::format("{}.{}", printable(module), printable(name));
    if (full != kOrderedDict && !allowed_(full)) {
      return error(Code::kInvalidArgument,
                   "the pickle wants to call `{}`; only tensors are read from checkpoints. Save it again as safetensors.", full);
    }
    return push({.kind = Kind::kGlobal, .name = std::move(full)});
  }
  Status global() {
    OCIOR_ASSIGN(const std::string_view module, line());
    OCIOR_ASSIGN(const std::string_view name, line());
    return push_global(module, name);
  }
  Status stack_global() {
    OCIOR_ASSIGN(const std::vector<Ref> names, take(2));
    if (object(names[0]).kind != Kind::kString || object(names[1]).kind != Kind::kString)
      return malformed("a global has no name");
    return push_global(object(names[0]).text, object(names[1]).text);
  }

  // The argument of OrderedDict(): nothing, or a list of pairs as Python 2 wrote it.
  Status ordered_dict(Ref args) {
    Object dict{.kind = Kind::kDict};
    const std::vector<Ref>& given = object(args).items;
    if (given.empty()) return push(std::move(dict));
    const Object& pairs = object(given[0]);
    if (given.size() != 1 || pairs.kind != Kind::kList) return malformed("an OrderedDict is made of something else than pairs");
    copied_ += pairs.items.size();  // the same list may be named again and again; the sum stays within the file's size
    if (copied_ > bytes_.size()) return malformed("it copies one list too often");
    for (const Ref pair : pairs.items) {
      if ((object(pair).kind != Kind::kList && object(pair).kind != Kind::kTuple) || object(pair).items.size() != 2) {
        return malformed("an OrderedDict is made of something else than pairs");
      }
      dict.items.insert(dict.items.end(), object(pair).items.begin(), object(pair).items.end());
    }
    return push(std::move(dict));
  }
  Status reduce() {
    OCIOR_ASSIGN(std::vector<Ref> call, take(2));
    if (object(call[0]).kind != Kind::kGlobal || object(call[1]).kind != Kind::kTuple)
      return malformed("it calls something that is no global");
    if (object(call[0]).name == kOrderedDict) return ordered_dict(call[1]);
    return push({.kind = Kind::kCall, .items = std::move(call)});
  }
  Status persistent() {
    OCIOR_ASSIGN(std::vector<Ref> id, take(1));
    return push({.kind = Kind::kPersistent, .items = std::move(id)});
  }

  Status add_to(Kind kind, std::vector<Ref> items) {
    if (stack_.size() == floor() || object(stack_.back()).kind != kind) return malformed("it fills a container that is none");
    if (kind == Kind::kDict && items.size() % 2) return malformed("a dictionary has a key without a value");
    std::vector<Ref>& into = object(stack_.back()).items;
    into.insert(into.end(), items.begin(), items.end());
    return {};
  }
  Status add(Kind kind, size_t count) {
    OCIOR_ASSIGN(std::vector<Ref> items, take(count));
    return add_to(kind, std::move(items));
  }
  Status add_marked(Kind kind) {
    OCIOR_ASSIGN(std::vector<Ref> items, take_to_mark());
    return add_to(kind, std::move(items));
  }

  Status put(uint64_t slot) {
    if (stack_.size() == floor()) return malformed("it remembers a value from an empty stack");
    if (memo_.size() >= kMaxObjects) return too_large();
    memo_[slot] = stack_.back();
    return {};
  }
  Status put_numbered(size_t count) {
    OCIOR_ASSIGN(const uint64_t slot, number(count));
    return put(slot);
  }
  Status get(size_t count) {
    OCIOR_ASSIGN(const uint64_t slot, number(count));
    const auto it = memo_.find(slot);
    if (it == memo_.end()) return malformed(fmt::format("it recalls value {}, which it never remembered", slot));
    return push_ref(it->second);
  }

  Status skip(size_t count) { return number(count).status(); }
  Status drop() { return pop().status(); }
  Status drop_marked() { return take_to_mark().status(); }
  Status duplicate() {
    if (stack_.size() == floor()) return malformed("it copies a value from an empty stack");
    return push_ref(stack_.back());
  }
  Status mark() {
    if (marks_.size() >= kMaxObjects) return too_large();
    marks_.push_back(stack_.size());
    return {};
  }
  Status protocol() {
    OCIOR_ASSIGN(const uint64_t version, number(1));
    if (version >= 2 && version <= 5) return {};
    return error(Code::kNotImplemented, "the pickle has protocol {}; torch.save writes 2 to 5", version);
  }
  Status stop() {
    if (stack_.size() != 1 || !marks_.empty()) return malformed("it stops with more or less than one value");
    out_.root = stack_.back();
    done_ = true;
    return {};
  }

  Status step(uint8_t op) {
    switch (op) {
      case kProto: return protocol();
      case kFrame: return skip(8);
      case kStop: return stop();
      case kMark: return mark();
      case kPop: return drop();
      case kPopMark: return drop_marked();
      case kDup: return duplicate();
      case kNoneOp: return push_ref(kNoneRef);
      case kNewTrue: return push_ref(kTrue);
      case kNewFalse: return push_ref(kFalse);
      case kBinInt: return push_signed32();
      case kBinInt1: return push_unsigned(1);
      case kBinInt2: return push_unsigned(2);
      case kLong1: return push_long(1);
      case kLong4: return push_long(4);
      case kBinFloat: return push_float();
      case kShortBinUnicode:
      case kShortBinString: return push_text(Kind::kString, 1);
      case kBinUnicode:
      case kBinString: return push_text(Kind::kString, 4);
      case kBinUnicode8: return push_text(Kind::kString, 8);
      case kShortBinBytes: return push_text(Kind::kBytes, 1);
      case kBinBytes: return push_text(Kind::kBytes, 4);
      case kBinBytes8: return push_text(Kind::kBytes, 8);
      case kEmptyTuple: return push({.kind = Kind::kTuple});
      case kTuple1: return push_tuple(1);
      case kTuple2: return push_tuple(2);
      case kTuple3: return push_tuple(3);
      case kTupleOp: return push_marked(Kind::kTuple);
      case kEmptyList: return push({.kind = Kind::kList});
      case kListOp: return push_marked(Kind::kList);
      case kEmptyDict: return push({.kind = Kind::kDict});
      case kDictOp: return push_marked(Kind::kDict);
      case kAppend: return add(Kind::kList, 1);
      case kAppends: return add_marked(Kind::kList);
      case kSetItem: return add(Kind::kDict, 2);
      case kSetItems: return add_marked(Kind::kDict);
      case kBinGet: return get(1);
      case kLongBinGet: return get(4);
      case kBinPut: return put_numbered(1);
      case kLongBinPut: return put_numbered(4);
      case kMemoize: return put(memo_.size());
      case kGlobalOp: return global();
      case kStackGlobal: return stack_global();
      case kReduce: return reduce();
      case kBuild: return drop();  // attributes of an object (a state dict's _metadata) are not tensors
      case kBinPersId: return persistent();
      default: return malformed(fmt::format("opcode 0x{:02x} is none that a state dict needs", op));
    }
  }

  std::span<const std::byte> bytes_;
  Allowed allowed_;
  size_t at_ = 0;
  bool done_ = false;
  size_t copied_ = 0;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, Ref> memo_;
  Pickle out_;
};

}  // namespace

Result<Pickle> read(std::span<const std::byte> bytes, Allowed allowed) { return Machine(bytes, allowed).run(); }

}  // namespace ocior::checkpoint::pickle
