// See feeds.h.
#include "feeds.h"

#include <algorithm>

#include "base/error.h"
#include "terminal.h"
#include "values.h"

namespace ocior::cli {
namespace {

const ValueInfo* find(const Session& session, const std::string& name) {
  for (const auto infos : {session.inputs(), session.overridable_initializers()}) {
    const auto it = std::find_if(infos.begin(), infos.end(), [&](const ValueInfo& i) { return i.name == name; });
    if (it != infos.end()) return &*it;
  }
  return nullptr;
}

Result<const ValueInfo*> known_input(const Session& session, const std::string& name, const std::string& source) {
  if (const ValueInfo* info = find(session, name)) return info;
  std::vector<std::string> names;
  for (const ValueInfo& info : session.inputs()) names.push_back(info.name);
  return error(Code::kInvalidArgument, "{}: the model has no input '{}'; its inputs are {}", source, name,
               fmt::join(names, ", "));
}

Result<Json> read_json(const std::string& path) {
  OCIOR_ASSIGN(const std::string text, read_text(path, "name a .npy, .npz or .json file"));
  try {
    return Json::parse(text);
  } catch (const Json::exception&) {
    return error(Code::kInvalidArgument, "{}: is not JSON; it holds nested arrays of numbers", path);
  }
}

// All inputs from one file, {"name": nested arrays, …} or a .npz.
Result<NamedValues> read_all(const Session& session, const std::string& path) {
  if (path.ends_with(".npz")) return read_npz(path);
  OCIOR_ASSIGN(const Json json, read_json(path));
  if (!json.is_object())
    return error(Code::kInvalidArgument, "{}: is not an object; it holds {{\"input\": nested arrays, …}}", path);
  NamedValues out;
  for (const auto& [name, values] : json.items()) {
    OCIOR_ASSIGN(const ValueInfo* info, known_input(session, name, path));
    OCIOR_ASSIGN(Value value, value_from_json(values, info->dtype, name));
    out.emplace_back(name, std::move(value));
  }
  return out;
}

Result<Value> read_one(const ValueInfo& info, const std::string& path) {
  if (!path.ends_with(".json")) return read_npy(path);
  OCIOR_ASSIGN(const Json json, read_json(path));
  return value_from_json(json, info.dtype, info.name);
}

}  // namespace

void FeedFlags::add_files_to(CLI::App& command) {
  add_repeated(command, "--input", inputs, "An input as NAME=FILE.npy or NAME=FILE.json; may be repeated")
      ->check([](const std::string& text) {
        const size_t equals = text.find('=');
        return equals == 0 || equals == std::string::npos ? "'" + text + "' is not NAME=FILE" : std::string();
      });
  command.add_option("--inputs", file, "A .npz or .json file with inputs by name");
  command.add_flag("--random", random, "Make up the inputs that no file gives");
  command.add_option("--seed", seed, "Seed of made-up inputs")->capture_default_str();
}

void FeedFlags::add_dims_to(CLI::App& command) {
  add_repeated(command, "--dim", dims,
               "Size of an open dimension of made-up inputs, such as batch=4 or input_ids:1=128 (default: 1 for the first "
               "dimension, 16 for others); may be repeated");
}

Result<NamedValues> FeedFlags::read(const Session& session) const {
  for (const ValueInfo& info : session.inputs())
    if (info.kind != Value::Kind::kTensor)
      return error(Code::kNotImplemented, "input '{}' is {}, which the command line cannot give; use Python or C++", info.name,
                   info.type_string());
  NamedValues out;
  if (!file.empty()) {
    OCIOR_ASSIGN(out, read_all(session, file));
    for (const auto& [name, value] : out) OCIOR_RETURN_IF_ERROR(known_input(session, name, file).status());
  }
  for (const std::string& text : inputs) {
    const std::string name = text.substr(0, text.find('=')), path = text.substr(text.find('=') + 1);
    OCIOR_ASSIGN(const ValueInfo* info, known_input(session, name, "--input " + text));
    OCIOR_ASSIGN(Value value, read_one(*info, path));
    out.emplace_back(name, std::move(value));
  }
  OCIOR_ASSIGN(OpenDimensions open, OpenDimensions::parse(dims));
  std::mt19937_64 generator(seed);
  std::vector<ValueInfo> invented;
  for (const ValueInfo& info : session.inputs()) {
    if (std::any_of(out.begin(), out.end(), [&](const auto& given) { return given.first == info.name; })) continue;
    if (!random) {
      return error(Code::kInvalidArgument,
                   "input '{}' is missing; give it with --input {}=FILE.npy, or make values up with --random", info.name,
                   info.name);
    }
    OCIOR_ASSIGN(const auto shape, open.shape_of(info));
    OCIOR_ASSIGN(Value value, made_up(info, shape, generator));
    out.emplace_back(info.name, std::move(value));
    invented.push_back(info);
  }
  OCIOR_RETURN_IF_ERROR(open.all_used(invented));
  return out;
}

std::vector<Feed> feeds_of(const NamedValues& values) {
  std::vector<Feed> out;
  for (const auto& [name, value] : values) out.push_back({name, value});
  return out;
}

}  // namespace ocior::cli
