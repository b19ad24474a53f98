#include "checkpoint/torch_file.h"

#include <array>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "checkpoint/json.h"
#include "checkpoint/pickle.h"
#include "checkpoint/zip.h"

namespace ocior::checkpoint {
namespace {

using pickle::Kind;
using pickle::Object;
using pickle::Pickle;
using pickle::Ref;

// A storage type or dtype object by its global's name; kUndefined for any other.
DType dtype_of_global(std::string_view name) {
  static constexpr std::pair<std::string_view, DType> kNames[] = {{"torch.FloatStorage", DType::kFloat},
                                                                  {"torch.DoubleStorage", DType::kDouble},
                                                                  {"torch.HalfStorage", DType::kFloat16},
                                                                  {"torch.BFloat16Storage", DType::kBFloat16},
                                                                  {"torch.LongStorage", DType::kInt64},
                                                                  {"torch.IntStorage", DType::kInt32},
                                                                  {"torch.ShortStorage", DType::kInt16},
                                                                  {"torch.CharStorage", DType::kInt8},
                                                                  {"torch.ByteStorage", DType::kUint8},
                                                                  {"torch.BoolStorage", DType::kBool},
                                                                  {"torch.ComplexFloatStorage", DType::kComplex64},
                                                                  {"torch.ComplexDoubleStorage", DType::kComplex128},
                                                                  {"torch.UntypedStorage", DType::kUint8},
                                                                  {"torch.storage.UntypedStorage", DType::kUint8},
                                                                  {"torch.storage._UntypedStorage", DType::kUint8},
                                                                  {"torch.float32", DType::kFloat},
                                                                  {"torch.float", DType::kFloat},
                                                                  {"torch.float64", DType::kDouble},
                                                                  {"torch.double", DType::kDouble},
                                                                  {"torch.float16", DType::kFloat16},
                                                                  {"torch.half", DType::kFloat16},
                                                                  {"torch.bfloat16", DType::kBFloat16},
                                                                  {"torch.int64", DType::kInt64},
                                                                  {"torch.long", DType::kInt64},
                                                                  {"torch.int32", DType::kInt32},
                                                                  {"torch.int", DType::kInt32},
                                                                  {"torch.int16", DType::kInt16},
                                                                  {"torch.short", DType::kInt16},
                                                                  {"torch.int8", DType::kInt8},
                                                                  {"torch.uint8", DType::kUint8},
                                                                  {"torch.uint16", DType::kUint16},
                                                                  {"torch.uint32", DType::kUint32},
                                                                  {"torch.uint64", DType::kUint64},
                                                                  {"torch.bool", DType::kBool},
                                                                  {"torch.float8_e4m3fn", DType::kFloat8E4M3FN},
                                                                  {"torch.float8_e5m2", DType::kFloat8E5M2}};
  for (const auto& [text, dtype] : kNames) {
    if (text == name) return dtype;
  }
  return DType::kUndefined;
}

constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor";
constexpr std::string_view kRebuildTensor2 = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kRebuildTensor3 = "torch._utils._rebuild_tensor_v3";
constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";

bool is_allowed(std::string_view name) {
  return name == kRebuildTensor || name == kRebuildTensor2 || name == kRebuildTensor3 || name == kRebuildParameter ||
         name == "torch.Size" || name == "torch.device" || dtype_of_global(name) != DType::kUndefined;
}

bool no_global(std::string_view) { return false; }

// What a persistent id says: ("storage", type, key, location, element count[, (view key, offset, size)]).
struct StorageId {
  DType dtype = DType::kUndefined;
  std::string_view key;
  int64_t elements = 0;
  std::string_view view_key;  // old files: a part of the storage `key` under a name of its own
  int64_t view_offset = 0, view_elements = 0;
};

struct Storages {
  std::unordered_map<std::string_view, std::span<const std::byte>> by_key;
  int64_t bytes = 0;  // of all of them
  bool big_endian = false;
};

class Reader {
 public:
  Reader(const Pickle& pickle, const std::string& file, std::shared_ptr<const MappedFile> mapped)
      : pickle_(pickle), file_(file), mapped_(std::move(mapped)) {}

  // The storages that the pickle names, in no order. Their byte counts are proved to fit 63 bits.
  Result<std::vector<StorageId>> storage_ids() const {
    std::vector<StorageId> ids;
    for (const Object& object : pickle_.objects) {
      if (object.kind != Kind::kPersistent) continue;
      OCIOR_ASSIGN(StorageId id, storage_id(object));
      ids.push_back(id);
    }
    return ids;
  }

  Result<StateDict> tensors(const Storages& storages) const {
    const Object* dict = &pickle_.at(pickle_.root);
    if (dict->kind != Kind::kDict) return bad("it does not hold a dictionary of tensors; save model.state_dict()");
    StateDict out;
    int64_t budget = 0;  // tied weights share storages; a file that shares without measure is refused
    if (__builtin_mul_overflow(storages.bytes, 4, &budget)) budget = INT64_MAX;
    for (size_t i = 0; i + 1 < dict->items.size(); i += 2) {
      const Object& key = pickle_.at(dict->items[i]);
      const Object* value = tensor_call(dict->items[i + 1]);
      if (key.kind != Kind::kString || !value) continue;
      auto entry = tensor(*value, storages);
      if (!entry.ok())
        return error(entry.status().code(), "{}: tensor `{}` {}", file_, printable(key.text), entry.status().message());
      entry->name = std::string(key.text);
      budget -= entry->elements() * (bits_of(entry->dtype) / 8);  // tensor() has bounded it by the storage's size
      if (budget < 0) return bad("its tensors share their storages more often than any model does");
      OCIOR_RETURN_IF_ERROR(out.add(std::move(*entry)));
    }
    if (out.entries().empty()) return bad("its dictionary holds no tensors; save model.state_dict()");
    return out;
  }

 private:
  Status bad(std::string_view what) const { return error(Code::kInvalidArgument, "{}: {}", file_, what); }
  static Status wrong(std::string_view what) { return Status(Code::kInvalidArgument, std::string(what)); }

  // The call that rebuilds a tensor, looked up through parameters; nullptr for other values.
  const Object* tensor_call(Ref ref) const {
    const Object* object = &pickle_.at(ref);
    if (is_call(*object, kRebuildParameter) && !args(*object).empty()) object = &pickle_.at(args(*object)[0]);
    const bool tensor =
        is_call(*object, kRebuildTensor) || is_call(*object, kRebuildTensor2) || is_call(*object, kRebuildTensor3);
    return tensor ? object : nullptr;
  }
  bool is_call(const Object& object, std::string_view name) const {
    return object.kind == Kind::kCall && pickle_.at(object.items[0]).name == name;
  }
  const std::vector<Ref>& args(const Object& call) const { return pickle_.at(call.items[1]).items; }

  Result<StorageId> storage_id(const Object& object) const {
    const std::vector<Ref>& items = pickle_.at(object.items[0]).items;
    const auto kind = [&](size_t i) { return pickle_.at(items[i]).kind; };
    if (pickle_.at(object.items[0]).kind != Kind::kTuple || items.size() < 5 || items.size() > 6 || kind(0) != Kind::kString ||
        pickle_.at(items[0]).text != "storage") {
      return bad("it holds an object that is no tensor (a whole model?); save model.state_dict()");
    }
    StorageId id{.dtype = dtype_of_global(pickle_.at(items[1]).name),
                 .key = pickle_.at(items[2]).text,
                 .elements = pickle_.at(items[4]).integer};
    if (id.dtype == DType::kUndefined || kind(2) != Kind::kString || kind(4) != Kind::kInt || id.elements < 0 ||
        id.elements > INT64_MAX / 16) {
      return bad("a storage has no type, no key or an impossible size");
    }
    if (items.size() == 6 && kind(5) != Kind::kNone) OCIOR_RETURN_IF_ERROR(read_view(pickle_.at(items[5]), id));
    return id;
  }
  Status read_view(const Object& view, StorageId& id) const {
    if (view.kind != Kind::kTuple || view.items.size() != 3 || pickle_.at(view.items[0]).kind != Kind::kString)
      return bad("a storage view is malformed");
    id.view_key = pickle_.at(view.items[0]).text;
    id.view_offset = pickle_.at(view.items[1]).integer;
    id.view_elements = pickle_.at(view.items[2]).integer;
    if (id.view_offset < 0 || id.view_elements < 0 || id.view_offset > id.elements ||
        id.view_elements > id.elements - id.view_offset) {
      return bad("a storage view leaves its storage");
    }
    return {};
  }

  Result<std::span<const std::byte>> storage_bytes(const StorageId& id, const Storages& storages) const {
    const auto it = storages.by_key.find(id.key);
    const auto size = static_cast<size_t>(bits_of(id.dtype) / 8);
    if (it == storages.by_key.end())
      return error(Code::kInvalidArgument, "needs storage `{}`, which the file lacks", printable(id.key));
    const size_t needed = static_cast<size_t>(id.elements) * size;
    if (it->second.size() < needed) {
      return error(Code::kInvalidArgument, "needs {} bytes of storage `{}`, which has {}", needed, printable(id.key),
                   it->second.size());
    }
    if (id.view_key.empty()) return it->second.first(needed);
    return it->second.subspan(static_cast<size_t>(id.view_offset) * size, static_cast<size_t>(id.view_elements) * size);
  }

  Result<std::vector<int64_t>> integers(Ref ref) const {
    const Object* list = &pickle_.at(ref);
    if (is_call(*list, "torch.Size") && args(*list).size() == 1) list = &pickle_.at(args(*list)[0]);
    if ((list->kind != Kind::kTuple && list->kind != Kind::kList) || list->items.size() > kMaxRank)
      return wrong("has an impossible shape");
    std::vector<int64_t> out;
    for (const Ref item : list->items) {
      if (pickle_.at(item).kind != Kind::kInt) return wrong("has a shape or strides that are no integers");
      out.push_back(pickle_.at(item).integer);
    }
    return out;
  }

  // Messages continue "tensor `name` …".
  Result<TensorEntry> tensor(const Object& call, const Storages& storages) const {
    const std::vector<Ref>& given = args(call);
    if (given.size() < 4 || pickle_.at(given[0]).kind != Kind::kPersistent || pickle_.at(given[1]).kind != Kind::kInt) {
      return wrong("is rebuilt from something else than a storage");
    }
    OCIOR_ASSIGN(const StorageId id, storage_id(pickle_.at(given[0])));
    OCIOR_ASSIGN(const auto storage, storage_bytes(id, storages));
    TensorEntry entry{.dtype = id.dtype, .big_endian = storages.big_endian, .file = file_, .mapped = mapped_};
    if (is_call(call, kRebuildTensor3)) {
      if (given.size() < 7) return wrong("has no dtype");
      entry.dtype = dtype_of_global(pickle_.at(given[6]).name);
      if (entry.dtype == DType::kUndefined) return wrong("has an unknown dtype");
    }
    OCIOR_ASSIGN(entry.shape, integers(given[2]));
    OCIOR_ASSIGN(entry.strides, integers(given[3]));
    OCIOR_ASSIGN(const int64_t elements, checked_elements(entry.shape));
    const int64_t size = bits_of(entry.dtype) / 8, offset = pickle_.at(given[1]).integer;
    const int64_t room = static_cast<int64_t>(storage.size()) / size;
    if (offset < 0 || offset > room)
      return error(Code::kInvalidArgument, "begins at element {} of a storage of {}", offset, room);
    if (elements > room)
      return error(Code::kInvalidArgument, "has {} elements in a storage of {}; save it without expand()", elements, room);
    entry.data = storage.subspan(static_cast<size_t>(offset * size));
    return entry;
  }

  const Pickle& pickle_;
  const std::string& file_;
  std::shared_ptr<const MappedFile> mapped_;
};

Result<Pickle> read_pickle(std::span<const std::byte> bytes, const std::string& file, pickle::Allowed allowed) {
  auto pickle = pickle::read(bytes, allowed);
  if (!pickle.ok()) return with_context(pickle.status(), file);
  return pickle;
}

std::string_view text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// The folder inside the archive that holds data.pkl, with its slash.
Result<std::string> archive_prefix(const ZipEntries& entries, const std::string& file) {
  constexpr std::string_view kPickle = "/data.pkl";
  for (const auto& [name, contents] : entries) {
    if (name.ends_with("/constants.pkl")) {
      return error(Code::kInvalidArgument, "{}: is a TorchScript archive; save model.state_dict() instead", file);
    }
  }
  for (const auto& [name, contents] : entries) {
    const size_t slash = name.find('/');
    if (slash != std::string::npos && std::string_view(name).substr(slash) == kPickle) return name.substr(0, slash + 1);
  }
  return error(Code::kInvalidArgument, "{}: is a zip archive without data.pkl; it was not written by torch.save", file);
}

Result<StateDict> read_torch_zip(std::span<const std::byte> bytes, const std::string& file,
                                 std::shared_ptr<const MappedFile> mapped) {
  OCIOR_ASSIGN(const ZipEntries entries, read_zip(bytes, file));
  OCIOR_ASSIGN(const std::string prefix, archive_prefix(entries, file));
  OCIOR_ASSIGN(const Pickle pickle, read_pickle(entries.find(prefix + "data.pkl")->second, file, is_allowed));
  Storages storages;
  const std::string data_prefix = prefix + "data/";
  for (auto it = entries.lower_bound(data_prefix); it != entries.end() && it->first.starts_with(data_prefix); ++it) {
    storages.by_key.emplace(std::string_view(it->first).substr(data_prefix.size()), it->second);
    storages.bytes += static_cast<int64_t>(it->second.size());
  }
  if (const auto it = entries.find(prefix + "byteorder"); it != entries.end()) {
    const std::string_view order = text_of(it->second);
    if (order != "little" && order != "big")
      return error(Code::kInvalidArgument, "{}: has the unknown byte order \"{}\"", file, printable(order));
    storages.big_endian = order == "big";
  }
  return Reader(pickle, file, std::move(mapped)).tensors(storages);
}

// The storages that follow the pickles of the older format: for each key of the list, a 64-bit element count and the elements.
Result<Storages> read_legacy_storages(std::span<const std::byte> bytes, const Pickle& keys, const std::vector<StorageId>& ids,
                                      const std::string& file) {
  std::unordered_map<std::string_view, DType> dtypes;
  for (const StorageId& id : ids) dtypes.emplace(id.key, id.dtype);
  Storages out;
  if (keys.at(keys.root).kind != Kind::kList) return error(Code::kInvalidArgument, "{}: its list of storages is missing", file);
  for (const Ref ref : keys.at(keys.root).items) {
    const std::string_view key = keys.at(ref).text;
    const auto dtype = dtypes.find(key);
    int64_t count = 0, size = 0;
    if (dtype == dtypes.end())
      return error(Code::kInvalidArgument, "{}: storage `{}` belongs to no tensor", file, printable(key));
    if (bytes.size() < sizeof count)
      return error(Code::kInvalidArgument, "{}: is cut off before storage `{}`", file, printable(key));
    std::memcpy(&count, bytes.data(), sizeof count);
    bytes = bytes.subspan(sizeof count);
    if (count < 0 || __builtin_mul_overflow(count, bits_of(dtype->second) / 8, &size) ||
        size > static_cast<int64_t>(bytes.size())) {
      return error(Code::kInvalidArgument, "{}: storage `{}` claims {} elements, but {} bytes are left; is the file complete?",
                   file, printable(key), count, bytes.size());
    }
    out.by_key.emplace(key, bytes.first(static_cast<size_t>(size)));
    out.bytes += size;
    bytes = bytes.subspan(static_cast<size_t>(size));
  }
  return out;
}

// Whether a pickle of sys_info says that the writer was big-endian.
bool says_big_endian(const Pickle& info) {
  const Object& dict = info.at(info.root);
  if (dict.kind != Kind::kDict) return false;
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const Object& value = info.at(dict.items[i + 1]);
    if (info.at(dict.items[i]).text == "little_endian" && value.kind == Kind::kBool) return value.integer == 0;
  }
  return false;
}

bool is_magic(const Pickle& pickle) {
  constexpr std::string_view kMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";  // 0x1950a86a20f9469cfc6c
  return pickle.at(pickle.root).kind == Kind::kLong && pickle.at(pickle.root).text == kMagic;
}

// Magic number, protocol version, sys_info, the state dict, the storage keys, then the storages.
Result<StateDict> read_torch_legacy(std::span<const std::byte> bytes, const std::string& file,
                                    std::shared_ptr<const MappedFile> mapped) {
  const auto next = [&](pickle::Allowed allowed) -> Result<Pickle> {
    OCIOR_ASSIGN(Pickle pickle, read_pickle(bytes, file, allowed));
    bytes = bytes.subspan(pickle.bytes);
    return pickle;
  };
  OCIOR_ASSIGN(const Pickle magic, next(is_allowed));
  if (!is_magic(magic))
    return error(Code::kInvalidArgument, "{}: is a pickle, but not one of torch.save; save it again as safetensors", file);
  OCIOR_ASSIGN(const Pickle version, next(no_global));
  if (version.at(version.root).kind != Kind::kInt || version.at(version.root).integer != 1001) {
    return error(Code::kNotImplemented, "{}: has a torch file format other than 1001; save it again as safetensors", file);
  }
  OCIOR_ASSIGN(const Pickle info, next(no_global));
  OCIOR_ASSIGN(const Pickle dict, next(is_allowed));
  OCIOR_ASSIGN(const Pickle keys, next(no_global));
  const Reader reader(dict, file, std::move(mapped));
  OCIOR_ASSIGN(const std::vector<StorageId> ids, reader.storage_ids());
  OCIOR_ASSIGN(Storages storages, read_legacy_storages(bytes, keys, ids, file));
  storages.big_endian = says_big_endian(info);
  return reader.tensors(storages);
}

}  // namespace

Result<StateDict> read_torch_file(std::span<const std::byte> bytes, const std::string& file,
                                  std::shared_ptr<const MappedFile> mapped) {
  const std::string_view text = text_of(bytes);
  if (text.starts_with("PK")) return read_torch_zip(bytes, file, std::move(mapped));
  if (text.starts_with("\x80")) return read_torch_legacy(bytes, file, std::move(mapped));
  if (text.starts_with("version https://git-lfs")) {
    return error(Code::kInvalidArgument, "{}: is a Git LFS pointer, not the weights; fetch them with `git lfs pull`", file);
  }
  return error(Code::kInvalidArgument, "{}: is not a file of torch.save (neither zip nor pickle); is it complete?", file);
}

}  // namespace ocior::checkpoint
