// A SAX handler that builds nlohmann values with a bounded depth, and JsonNode. See json_reader.h.
#include "text/json_reader.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "text/unicode.h"

namespace ocior::text {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDepth = 64;

class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(std::vector<VocabEntry>* vocab) : vocab_(vocab) {}

  bool null() override { return scalar(nullptr); }
  bool boolean(bool v) override { return scalar(v); }
  bool number_integer(number_integer_t v) override { return scalar(v); }
  bool number_unsigned(number_unsigned_t v) override {
    if (!in_vocab_) return scalar(v);
    if (v > UINT32_MAX) return fail(fmt::format("model.vocab: \"{}\" has id {}; ids have 32 bits", shown(key_), v));
    vocab_->push_back({std::move(key_), static_cast<uint32_t>(v)});
    return true;
  }
  bool number_float(number_float_t v, const string_t&) override { return scalar(v); }
  bool string(string_t& v) override { return scalar(std::move(v)); }
  bool binary(binary_t&) override { return fail("binary values are not JSON"); }
  bool key(string_t& k) override {
    key_ = std::move(k);
    return true;
  }
  bool start_object(size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    std::string what = e.what();  // "[json.exception.parse_error.101] parse error at ...: syntax error ..."
    if (const size_t colon = what.find(": "); colon != std::string::npos) what.erase(0, colon + 2);
    return fail(fmt::format("not valid JSON at byte {}: {}", position, shown(what, 300)));
  }

  Json root;
  std::string message;

 private:
  bool fail(std::string text) {
    message = std::move(text);
    return false;
  }

  Json* place(Json value) {
    if (stack_.empty()) return &(root = std::move(value));
    Json& parent = *stack_.back();
    if (parent.is_array()) return &parent.get_ref<Json::array_t&>().emplace_back(std::move(value));
    return &(parent.get_ref<Json::object_t&>()[key_] = std::move(value));
  }

  bool scalar(Json value) {
    if (in_vocab_)
      return fail(fmt::format("model.vocab: \"{}\" has the id {}; expected a number from 0 to 4294967295", shown(key_),
                              shown(value.dump())));
    place(std::move(value));
    return true;
  }

  bool open(Json value) {
    if (in_vocab_) return fail(fmt::format("model.vocab: \"{}\" has no number as its id", shown(key_)));
    if (stack_.size() >= kMaxDepth) return fail(fmt::format("values nest more than {} deep", kMaxDepth));
    const bool object = value.is_object();
    if (vocab_ && object && stack_.size() == 2 && keys_[1] == "model" && key_ == "vocab") {
      in_vocab_ = true;
      vocab_->clear();  // a repeated key: the last one counts
    }
    keys_.push_back(key_);
    stack_.push_back(place(std::move(value)));
    return true;
  }

  bool close() {
    in_vocab_ = false;
    stack_.pop_back();
    keys_.pop_back();
    return true;
  }

  std::vector<VocabEntry>* vocab_;
  std::vector<Json*> stack_;       // the open containers; a container grows only while it is the innermost, so pointers stay good
  std::vector<std::string> keys_;  // the key of each open container in its parent
  std::string key_;
  bool in_vocab_ = false;
};

}  // namespace

Result<Json> parse_json(std::string_view text, std::vector<VocabEntry>* vocab) {
  Builder builder(vocab);
  try {
    if (!Json::sax_parse(text.begin(), text.end(), &builder)) return error(Code::kInvalidArgument, "{}", builder.message);
  } catch (const std::exception& e) {  // allocation, or a value that nlohmann cannot hold
    return error(Code::kInvalidArgument, "the JSON cannot be read: {}", e.what());
  }
  return std::move(builder.root);
}

Result<JsonNode> JsonNode::get(std::string_view key) const {
  OCIOR_RETURN_IF_ERROR(expect_object());
  const auto it = value_->find(key);
  if (it == value_->end()) return error(Code::kInvalidArgument, "{} is missing", member_path(key));
  return JsonNode(*it, member_path(key));
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  if (!value_->is_object()) return std::nullopt;
  const auto it = value_->find(key);
  if (it == value_->end() || it->is_null()) return std::nullopt;
  return JsonNode(*it, member_path(key));
}

std::string JsonNode::member_path(std::string_view key) const {
  return path_.empty() ? std::string(shown(key)) : fmt::format("{}.{}", path_, shown(key));
}

JsonNode JsonNode::element(size_t i) const { return JsonNode((*value_)[i], fmt::format("{}[{}]", path_, i)); }

Status JsonNode::expect_object() const { return value_->is_object() ? Status() : expected("an object"); }

Status JsonNode::expect_only(std::initializer_list<std::string_view> keys) const {
  OCIOR_RETURN_IF_ERROR(expect_object());
  for (const auto& [key, value] : value_->items()) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      return error(Code::kNotImplemented, "{}{}{} is not supported; supported here: {}", path_, path_.empty() ? "" : ".",
                   shown(key), fmt::join(keys, ", "));
    }
  }
  return {};
}

Result<size_t> JsonNode::array_size() const {
  if (!value_->is_array()) return expected("an array");
  return value_->size();
}

Result<std::string> JsonNode::string() const {
  if (!value_->is_string()) return expected("a string");
  return value_->get<std::string>();
}

Result<bool> JsonNode::boolean() const {
  if (!value_->is_boolean()) return expected("true or false");
  return value_->get<bool>();
}

Result<uint64_t> JsonNode::integer() const {
  if (!value_->is_number_unsigned()) return expected("a whole number that is not negative");
  return value_->get<uint64_t>();
}

Result<uint32_t> JsonNode::id() const {
  if (!value_->is_number_unsigned() || value_->get<uint64_t>() > UINT32_MAX) return expected("a number from 0 to 4294967295");
  return static_cast<uint32_t>(value_->get<uint64_t>());
}

Status JsonNode::expected(std::string_view what) const {
  constexpr size_t kShown = 60;
  std::string shown = value_->is_structured() ? std::string(value_->type_name()) : value_->dump(-1, ' ', true);
  if (shown.size() > kShown) shown = shown.substr(0, kShown) + "...";
  return error(Code::kInvalidArgument, "{}{}expected {}, got {}", path_, path_.empty() ? "" : ": ", what, shown);
}

}  // namespace ocior::text
