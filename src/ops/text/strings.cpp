// Operators on strings: StringConcat, StringSplit, StringNormalizer and RegexFullMatch. Text is UTF-8; letter case is Unicode's,
// code point by code point, whatever the locale. Regular expressions are RE2's: linear time on any pattern and text.
#include <re2/re2.h>
#include <utf8proc.h>

#include <algorithm>
#include <set>

#include "ops/evaluate.h"
#include "ops/nn/numeric.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

std::span<const std::string> strings(const Tensor& t) { return t.span<std::string>(); }

// Upper or lower case. Bytes that are no UTF-8 stay as they are.
std::string with_case(const std::string& text, bool upper) {
  std::string out;
  out.reserve(text.size());
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (utf8proc_ssize_t at = 0, n = std::ssize(text); at < n;) {
    utf8proc_int32_t point = 0;
    const utf8proc_ssize_t length = utf8proc_iterate(bytes + at, n - at, &point);
    if (length <= 0) {
      out += text[static_cast<size_t>(at++)];
      continue;
    }
    utf8proc_uint8_t encoded[4];
    const auto size = utf8proc_encode_char(upper ? utf8proc_toupper(point) : utf8proc_tolower(point), encoded);
    out.append(reinterpret_cast<const char*>(encoded), static_cast<size_t>(size));
    at += length;
  }
  return out;
}

bool is_space(char ch) { return ch == ' ' || (ch >= '\t' && ch <= '\r'); }

}  // namespace

struct StringConcat {
  static constexpr OpInfo info{.name = "StringConcat", .since = 20, .min_inputs = 2, .max_inputs = 2};

  static StringConcat parse(const NodeReader&) { return {}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kStrings, "StringConcat"));
    OCIOR_RETURN_IF_ERROR(check_type(c, 1, kStrings, "StringConcat"));
    return infer_broadcast(c, DType::kString);
  }

  Status reference(RefContext& c) const {
    const auto x = strings(c.in(0)), y = strings(c.in(1));
    OCIOR_ASSIGN(const Shape shape, broadcast(c.in(0).shape(), c.in(1).shape()));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, DType::kString, shape));
    const std::vector<int64_t> xs = nn::broadcast_index(c.in(0).shape(), shape), ys = nn::broadcast_index(c.in(1).shape(), shape);
    const auto first = [&](size_t i) -> const std::string& { return x[static_cast<size_t>(xs[i])]; };
    const auto second = [&](size_t i) -> const std::string& { return y[static_cast<size_t>(ys[i])]; };
    size_t bytes = 0;
    for (size_t i = 0; i < xs.size(); ++i) {
      bytes += first(i).size() + second(i).size();
      if (bytes > kEvaluateLimit)  // broadcasting multiplies the text
        return error(Code::kInvalidArgument, "StringConcat: the result has more than {} bytes of text", kEvaluateLimit);
    }
    for (size_t i = 0; i < xs.size(); ++i) c.out(0).as<std::string>()[i] = first(i) + second(i);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const auto& [a, b] :
         {std::pair<Shape, Shape>{{3}, {3}}, {{2, 3}, {3}}, {{2, 1}, {1, 3}}, {{}, {2}}, {{0}, {1}}, {{}, {}}})
      out.push_back({.inputs = {{DType::kString, a}, {DType::kString, b}}});
    return out;
  }
};
OCIOR_OPERATOR(StringConcat)

struct StringSplit {
  static constexpr OpInfo info{.name = "StringSplit", .since = 20, .max_outputs = 2};
  std::string delimiter;     // empty: runs of white space
  int64_t most = INT64_MAX;  // splits

  static StringSplit parse(const NodeReader& node) {
    StringSplit op{.delimiter = node.text("delimiter", "")};
    if (node.has("maxsplit"))
      if (const int64_t most = node.integer("maxsplit", -1); most >= 0) op.most = most;
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kStrings, "StringSplit"));
    std::optional<Dims> pieces = c.shape(0);
    if (pieces) pieces->push_back(c.fresh("pieces"));
    c.set(0, DType::kString, std::move(pieces));
    c.set(1, DType::kInt64, c.shape(0));
    return {};
  }

  Status reference(RefContext& c) const {
    const auto x = strings(c.in(0));
    std::vector<std::vector<std::string_view>> pieces(x.size());
    size_t longest = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      pieces[i] = split(x[i]);
      longest = std::max(longest, pieces[i].size());
    }
    // Every row is as long as the longest, which no shape bounds.
    if (longest > 0 && x.size() > kEvaluateLimit / sizeof(std::string) / longest)
      return error(Code::kInvalidArgument, "StringSplit: {} strings of up to {} pieces would take more than {} bytes", x.size(),
                   longest, kEvaluateLimit);
    Shape shape = c.in(0).shape();
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 1, DType::kInt64, shape));
    shape.push_back(static_cast<int64_t>(longest));
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, DType::kString, shape));
    for (size_t i = 0; i < x.size(); ++i) {
      for (size_t k = 0; k < longest && c.wants(0); ++k)
        c.out(0).as<std::string>()[i * longest + k] = k < pieces[i].size() ? pieces[i][k] : std::string_view();
      if (c.wants(1)) c.out(1).as<int64_t>()[i] = std::ssize(pieces[i]);
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const Shape& shape : {Shape{3}, Shape{2, 2}, Shape{}, Shape{0}, Shape{0, 2}})
      for (const char* delimiter : {"", "s", ".", "no such"})
        out.push_back({.inputs = {{DType::kString, shape}},
                       .attributes = {{"delimiter", std::string(delimiter)}, {"maxsplit", int64_t{1}}},
                       .outputs = 2});
    return out;
  }

 private:
  std::vector<std::string_view> split(std::string_view text) const {
    std::vector<std::string_view> out;
    if (delimiter.empty()) {
      const auto skip = [&] {
        while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
      };
      for (skip(); !text.empty() && std::ssize(out) < most; skip()) {
        const auto end = static_cast<size_t>(std::find_if(text.begin(), text.end(), is_space) - text.begin());
        out.push_back(text.substr(0, end));
        text.remove_prefix(end);
      }
      if (!text.empty()) out.push_back(text);
      return out;
    }
    for (size_t at; std::ssize(out) < most && (at = text.find(delimiter)) != std::string_view::npos;) {
      out.push_back(text.substr(0, at));
      text.remove_prefix(at + delimiter.size());
    }
    out.push_back(text);
    return out;
  }
};
OCIOR_OPERATOR(StringSplit)

struct StringNormalizer {
  enum class Case { kNone, kLower, kUpper };
  static constexpr OpInfo info{.name = "StringNormalizer", .since = 10};
  Case change = Case::kNone;
  bool case_sensitive = false;
  std::set<std::string, std::less<>> stopwords;  // in lower case unless case_sensitive

  static StringNormalizer parse(const NodeReader& node) {
    StringNormalizer op;
    const std::string change = node.text("case_change_action", "NONE");
    if (change == "LOWER") op.change = Case::kLower;
    else if (change == "UPPER") op.change = Case::kUpper;
    else if (change != "NONE") node.fail("case_change_action is '{}'; expected NONE, LOWER or UPPER", change);
    op.case_sensitive = node.integer("is_case_sensitive", 0) != 0;
    node.ignore("locale");  // case follows Unicode everywhere
    for (const std::string& word : node.texts("stopwords"))
      op.stopwords.insert(op.case_sensitive ? word : with_case(word, false));
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kStrings, "StringNormalizer"));
    if (!ranked(c, 0)) return c.set(0, DType::kString, std::nullopt), Status();
    const Dims& x = *c.shape(0);
    const bool row = x.size() == 2 && (!x[0].known() || x[0].value() == 1);
    if (x.size() != 1 && !row)
      return error(Code::kInvalidArgument, "StringNormalizer: the input has shape {}; expected [C] or [1, C]", to_string(x));
    Dims out(x.size(), Dim(1));
    out.back() = stopwords.empty() && x.back().known() && x.back().value() > 0 ? x.back() : c.fresh("words");
    c.set(0, DType::kString, std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    std::vector<std::string> kept;
    for (const std::string& word : strings(x)) {
      if (!stopwords.empty() && stopwords.contains(case_sensitive ? word : with_case(word, false))) continue;
      kept.push_back(change == Case::kNone ? word : with_case(word, change == Case::kUpper));
    }
    if (kept.empty()) kept.emplace_back();  // the specification asks for one empty string
    Shape shape(x.shape().size(), 1);
    shape.back() = std::ssize(kept);
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, DType::kString, shape));
    std::ranges::move(kept, c.out(0).as<std::string>());
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const char* change : {"NONE", "LOWER", "UPPER"})
      for (const Shape& shape : {Shape{5}, Shape{1, 4}, Shape{0}, Shape{1, 0}})
        for (const int64_t sensitive : {0, 1})
          out.push_back({.inputs = {{DType::kString, shape, Fill::kSmallInts}},
                         .attributes = {{"case_change_action", std::string(change)},
                                        {"is_case_sensitive", sensitive},
                                        {"stopwords", std::vector<std::string>{"S1", "s2", "s-3"}},
                                        {"locale", std::string("en_US")}}});
    out.push_back({.inputs = {{DType::kString, {3}}}});
    return out;
  }
};
OCIOR_OPERATOR(StringNormalizer)

struct RegexFullMatch {
  static constexpr OpInfo info{.name = "RegexFullMatch", .since = 20};
  std::shared_ptr<const RE2> pattern;

  static RegexFullMatch parse(const NodeReader& node) {
    if (!node.has("pattern")) node.fail("pattern is missing; expected a regular expression");
    RE2::Options options;
    options.set_log_errors(false);
    const std::string text = node.text("pattern", "");
    RegexFullMatch op{std::make_shared<const RE2>(text, options)};
    if (!op.pattern->ok()) node.fail("pattern is '{}', which RE2 does not take: {}", text.substr(0, 256), op.pattern->error());
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kStrings, "RegexFullMatch"));
    c.set(0, DType::kBool, c.shape(0));
    return {};
  }

  Status reference(RefContext& c) const {
    const auto x = strings(c.in(0));
    for (size_t i = 0; i < x.size(); ++i) c.out(0).as<uint8_t>()[i] = RE2::FullMatch(x[i], *pattern);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const char* pattern : {"s-?[0-9.]+", "(s|-)*1", "", "(a+)+b"})
      for (const Shape& shape : {Shape{7}, Shape{2, 3}, Shape{}, Shape{0}})
        out.push_back({.inputs = {{DType::kString, shape, Fill::kSmallInts}}, .attributes = {{"pattern", std::string(pattern)}}});
    return out;
  }
};
OCIOR_OPERATOR(RegexFullMatch)

}  // namespace ocior::ops
