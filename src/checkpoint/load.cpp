// Finds the weights of a checkpoint folder and reads them, shard by shard. Declared in state_dict.h.
#include <filesystem>
#include <set>

#include "base/error.h"
#include "checkpoint/json.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/state_dict.h"
#include "checkpoint/torch_file.h"

namespace ocior::checkpoint {
namespace {

namespace fs = std::filesystem;

std::string join(const std::string& folder, const std::string& file) { return (fs::path(folder) / file).string(); }

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

Result<StateDict> load_weights(const std::string& folder, const std::string& file) {
  OCIOR_ASSIGN(auto mapped, MappedFile::open(join(folder, file)));
  if (file.ends_with(".safetensors")) return read_safetensors(mapped->bytes(), file, mapped);
  return read_torch_file(mapped->bytes(), file, mapped);
}

// Shards lie beside their index: a name with a folder in it could point anywhere.
Status check_shard_name(const std::string& name, const std::string& index_file) {
  const bool known = name.ends_with(".safetensors") || name.ends_with(".bin");
  if (known && name.find('/') == std::string::npos && name.find('\\') == std::string::npos &&
      name.find('\0') == std::string::npos)
    return {};
  return error(Code::kInvalidArgument, "{}: names the shard `{}`; shards are .safetensors or .bin files beside the index",
               index_file, printable(name));
}

Status check_promises(const nlohmann::json& map, const StateDict& tensors, const std::string& index_file) {
  for (const auto& [name, file] : map.items()) {
    const TensorEntry* entry = tensors.find(name);
    if (!entry || entry->file != file.get_ref<const std::string&>()) {
      return error(Code::kInvalidArgument, "{}: promises tensor `{}` in `{}`, which does not hold it; fetch the shards again",
                   index_file, printable(name), printable(file.get_ref<const std::string&>()));
    }
  }
  return {};
}

}  // namespace

Result<StateDict> load_sharded(const std::string& folder, const std::string& index_file, std::string_view index_text) {
  OCIOR_ASSIGN(const nlohmann::json index, parse_json(index_text, index_file));
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object() || map->empty()) {
    return error(Code::kInvalidArgument, "{}: has no \"weight_map\" from tensor names to files", index_file);
  }
  std::set<std::string> files;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string())
      return error(Code::kInvalidArgument, "{}: \"weight_map\" gives `{}` no file name", index_file, printable(name));
    files.insert(file.get<std::string>());
  }
  StateDict out;
  for (const std::string& file : files) {
    OCIOR_RETURN_IF_ERROR(check_shard_name(file, index_file));
    if (!exists(join(folder, file))) {
      return error(Code::kNoSuchFile, "{}: the shard `{}` that {} names is missing; fetch the checkpoint again", folder,
                   printable(file), index_file);
    }
    OCIOR_ASSIGN(StateDict shard, load_weights(folder, file));
    OCIOR_RETURN_IF_ERROR(out.merge(std::move(shard)));
  }
  OCIOR_RETURN_IF_ERROR(check_promises(*map, out, index_file));
  return out;
}

Result<StateDict> load_state_dict(const std::string& folder) {
  for (const std::string file : {"model.safetensors", "pytorch_model.bin"}) {
    const std::string index = file + ".index.json";
    if (exists(join(folder, file))) return load_weights(folder, file);
    if (!exists(join(folder, index))) continue;
    OCIOR_ASSIGN(const auto mapped, MappedFile::open(join(folder, index)));
    const std::string text(reinterpret_cast<const char*>(mapped->bytes().data()),
                           std::min(mapped->bytes().size(), static_cast<size_t>(kMaxJsonBytes) + 1));
    return load_sharded(folder, index, text);
  }
  return error(
      Code::kNoSuchFile,
      "{}: holds no weights; expected model.safetensors, pytorch_model.bin or one of them with .index.json and its shards",
      folder);
}

}  // namespace ocior::checkpoint
