// The table of operators, built from all.inc on first use.
#include <algorithm>
#include <map>

#include "ops/operator.h"

namespace ocior::ops {

#define OP(Name) OpEntry ocior_entry_##Name();
#include "ops/all.inc"
#undef OP

namespace {

struct Registry {
  std::vector<OpEntry> entries;
  std::map<std::pair<std::string_view, std::string_view>, const OpEntry*> by_name;

  Registry() {
    entries = {
#define OP(Name) ocior_entry_##Name(),
#include "ops/all.inc"
#undef OP
    };
    for (const OpEntry& e : entries) by_name[{e.info->domain, e.info->name}] = &e;
  }
};

const Registry& registry() {
  static const Registry r;
  return r;
}

std::string arity(int min, int max) {
  if (max == kUnbounded) return fmt::format("at least {}", min);
  return min == max ? fmt::format("{}", min) : fmt::format("{} to {}", min, max);
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j)
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)}));
  }
  return row.back();
}

std::string nearest(std::string_view domain, std::string_view name) {
  if (name.size() > 64) return "";
  std::string_view best;
  size_t best_distance = 3;  // farther names are no help
  for (const OpEntry& e : registry().entries)
    if (e.info->domain == domain)
      if (const size_t d = edit_distance(name, e.info->name); d < best_distance) best = e.info->name, best_distance = d;
  return best.empty() ? "" : fmt::format(" Did you mean '{}'?", best);
}

std::string full_name(std::string_view domain, std::string_view name) {
  return domain.empty() ? std::string(name) : fmt::format("{}:{}", domain, name);
}

}  // namespace

std::span<const OpEntry> all_operators() { return registry().entries; }

const OpEntry* find_operator(std::string_view domain, std::string_view name) {
  const auto it = registry().by_name.find({domain, name});
  return it == registry().by_name.end() ? nullptr : it->second;
}

Status check_parsed(const OpInfo& info, const NodeReader& reader) {
  OCIOR_RETURN_IF_ERROR(with_context(reader.status(), full_name(info.domain, info.name)));
  if (const auto unread = reader.unread(); !unread.empty())
    return error(Code::kInvalidGraph, "{}: unknown attribute '{}' at opset {}; remove it or check the operator's version",
                 full_name(info.domain, info.name), fmt::join(unread, "', '"), reader.opset());
  return {};
}

Result<std::shared_ptr<const AnyOperator>> make_operator(std::string_view domain, std::string_view name, int opset,
                                                         const Attributes& attributes, int inputs, int outputs) {
  const OpEntry* entry = find_operator(domain, name);
  if (!entry)
    return error(Code::kNotImplemented, "no operator '{}' is known for opset {}.{}", full_name(domain, name), opset,
                 nearest(domain, name));
  const OpInfo& info = *entry->info;
  if (opset < info.since)
    return error(Code::kInvalidGraph, "{} exists since opset {}, but the model imports opset {}", full_name(domain, name),
                 info.since, opset);
  if (inputs < info.min_inputs || inputs > info.max_inputs)
    return error(Code::kInvalidGraph, "{} takes {} inputs, got {}", full_name(domain, name),
                 arity(info.min_inputs, info.max_inputs), inputs);
  if (outputs < info.min_outputs || outputs > info.max_outputs)
    return error(Code::kInvalidGraph, "{} gives {} outputs, but {} are named", full_name(domain, name),
                 arity(info.min_outputs, info.max_outputs), outputs);
  return entry->make(opset, attributes, inputs, outputs);
}

bool NodeReader::has(std::string_view name) const { return attributes_.find(std::string(name)) != attributes_.end(); }

const AttributeValue* NodeReader::find(std::string_view name) const {
  const auto it = attributes_.find(std::string(name));
  if (it == attributes_.end()) return nullptr;
  read_.emplace(name);
  return &it->second;
}

template <class T>
const T* NodeReader::get(std::string_view name, std::string_view kind) const {
  const AttributeValue* value = find(name);
  if (!value) return nullptr;
  if (const T* typed = std::get_if<T>(value)) return typed;
  fail("attribute '{}' must be {}", name, kind);
  return nullptr;
}

int64_t NodeReader::integer(std::string_view name, int64_t otherwise) const {
  const auto* v = get<int64_t>(name, "an integer");
  return v ? *v : otherwise;
}

int64_t NodeReader::required_integer(std::string_view name) const {
  if (!has(name)) fail("attribute '{}' is required", name);
  return integer(name, 0);
}

float NodeReader::number(std::string_view name, float otherwise) const {
  const auto* v = get<float>(name, "a float");
  return v ? *v : otherwise;
}

std::string NodeReader::text(std::string_view name, std::string_view otherwise) const {
  const auto* v = get<std::string>(name, "a string");
  return v ? *v : std::string(otherwise);
}

std::vector<int64_t> NodeReader::integers(std::string_view name, std::vector<int64_t> otherwise) const {
  const auto* v = get<std::vector<int64_t>>(name, "a list of integers");
  return v ? *v : std::move(otherwise);
}

std::vector<float> NodeReader::numbers(std::string_view name, std::vector<float> otherwise) const {
  const auto* v = get<std::vector<float>>(name, "a list of floats");
  return v ? *v : std::move(otherwise);
}

std::vector<std::string> NodeReader::texts(std::string_view name, std::vector<std::string> otherwise) const {
  const auto* v = get<std::vector<std::string>>(name, "a list of strings");
  return v ? *v : std::move(otherwise);
}

const Tensor* NodeReader::tensor(std::string_view name) const { return get<Tensor>(name, "a tensor"); }

const Type* NodeReader::type(std::string_view name) const { return get<Type>(name, "a type"); }

std::shared_ptr<graph::Graph> NodeReader::graph(std::string_view name) const {
  const auto* v = get<std::shared_ptr<graph::Graph>>(name, "a graph");
  return v ? *v : nullptr;
}

void NodeReader::ignore(std::string_view name) const { find(name); }

std::vector<std::string> NodeReader::unread() const {
  std::vector<std::string> out;
  for (const auto& [name, value] : attributes_)
    if (!read_.count(name)) out.push_back(name);
  return out;
}

}  // namespace ocior::ops
