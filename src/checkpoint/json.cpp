#include "checkpoint/json.h"

#include <unordered_set>
#include <vector>

#include "base/error.h"

namespace ocior::checkpoint {
namespace {

using nlohmann::json;

// Watches the parser: remembers the first fault and drops what lies too deep, so that hostile nesting costs no memory.
class Watch {
 public:
  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start: keys_.emplace_back(); break;
      case json::parse_event_t::object_end: keys_.pop_back(); break;
      case json::parse_event_t::key:
        if (!keys_.back().insert(parsed.get<std::string>()).second && fault_.empty()) {
          fault_ = fmt::format("has the key \"{}\" twice in one object", printable(parsed.get_ref<const std::string&>()));
        }
        break;
      default: break;
    }
    if (depth <= kMaxJsonDepth) return true;
    if (fault_.empty()) fault_ = fmt::format("is nested deeper than {} levels", kMaxJsonDepth);
    return false;
  }

  const std::string& fault() const { return fault_; }

 private:
  std::vector<std::unordered_set<std::string>> keys_;
  std::string fault_;
};

}  // namespace

Result<json> parse_json(std::string_view text, std::string_view file) {
  if (static_cast<int64_t>(text.size()) > kMaxJsonBytes) {
    return error(Code::kInvalidArgument, "{}: has {} bytes; JSON files of a checkpoint may have at most {}", file, text.size(),
                 kMaxJsonBytes);
  }
  Watch watch;
  try {
    json parsed = json::parse(text.begin(), text.end(),
                              [&watch](int depth, json::parse_event_t event, json& value) { return watch(depth, event, value); });
    if (!watch.fault().empty()) return error(Code::kInvalidArgument, "{}: {}; is the file damaged?", file, watch.fault());
    return parsed;
  } catch (const json::parse_error& e) {
    return error(Code::kInvalidArgument, "{}: is not valid JSON (byte {} of {}); is the download complete?", file, e.byte,
                 text.size());
  } catch (const std::exception& e) {
    return error(Code::kInvalidArgument, "{}: cannot be read as JSON: {}", file, printable(e.what()));
  }
}

std::string printable(std::string_view text) {
  constexpr size_t kMax = 120;
  std::string out(text.substr(0, kMax));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  if (text.size() > kMax) out += "...";
  return out;
}

}  // namespace ocior::checkpoint
