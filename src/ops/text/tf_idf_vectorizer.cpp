// TfIdfVectorizer: how often each n-gram of a pool occurs in a row of tokens, weighted.
#include <algorithm>
#include <map>

#include "ops/evaluate.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

// The n-grams of the pool as a tree. Tokens are numbered, so that strings and integers are alike; node 0 is the root.
class Grams {
 public:
  void add(std::span<const int64_t> tokens, int64_t column) {
    int64_t node = 0;
    for (const int64_t token : tokens) node = next_.try_emplace({node, token}, ++last_).first->second;
    columns_.try_emplace(node, column);
  }
  // The node that follows `node` by `token`, or -1.
  int64_t next(int64_t node, int64_t token) const {
    const auto found = next_.find({node, token});
    return found == next_.end() ? -1 : found->second;
  }
  // The output column of the n-gram that ends at `node`, or -1.
  int64_t column(int64_t node) const {
    const auto found = columns_.find(node);
    return found == columns_.end() ? -1 : found->second;
  }

 private:
  std::map<std::pair<int64_t, int64_t>, int64_t> next_;
  std::map<int64_t, int64_t> columns_;
  int64_t last_ = 0;
};

}  // namespace

struct TfIdfVectorizer {
  enum class Mode { kTf, kIdf, kTfIdf };
  static constexpr OpInfo info{.name = "TfIdfVectorizer", .since = 9};
  Mode mode = Mode::kTf;
  int64_t shortest = 1, longest = 1, skips = 0;
  int64_t columns = 0;
  bool of_strings = false;
  std::vector<float> weights;  // per output column; empty: 1
  std::map<std::string, int64_t, std::less<>> words;
  std::map<int64_t, int64_t> numbers;
  std::shared_ptr<const Grams> grams;

  static TfIdfVectorizer parse(const NodeReader& node) {
    TfIdfVectorizer op;
    const std::string mode = node.text("mode", "");
    if (mode == "TF") op.mode = Mode::kTf;
    else if (mode == "IDF") op.mode = Mode::kIdf;
    else if (mode == "TFIDF") op.mode = Mode::kTfIdf;
    else node.fail("mode is '{}'; expected TF, IDF or TFIDF", mode);
    op.shortest = node.required_integer("min_gram_length");
    op.longest = node.required_integer("max_gram_length");
    op.skips = node.required_integer("max_skip_count");
    if (op.shortest < 1 || op.longest < op.shortest || op.skips < 0)
      node.fail("min_gram_length is {}, max_gram_length {} and max_skip_count {}; expected 1 <= min <= max and no negative count",
                op.shortest, op.longest, op.skips);
    op.read_pool(node);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, of_strings ? kStrings : kIndices, "TfIdfVectorizer"));
    if (!ranked(c, 0)) return c.set(0, DType::kFloat, std::nullopt), Status();
    Dims out = *c.shape(0);
    if (out.size() != 1 && out.size() != 2)
      return error(Code::kInvalidArgument, "TfIdfVectorizer: the input has shape {}; expected [C] or [N, C]", to_string(out));
    out.back() = columns;
    c.set(0, DType::kFloat, std::move(out));
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    const int64_t length = x.shape().back(), rows = x.rank() == 2 ? x.shape()[0] : 1;
    float* y = c.out(0).as<float>();
    std::fill_n(y, rows * columns, 0.0f);
    std::vector<int64_t> tokens(static_cast<size_t>(length));
    for (int64_t row = 0; row < rows; ++row, y += columns) {
      for (int64_t i = 0; i < length; ++i) tokens[static_cast<size_t>(i)] = token(x, row * length + i);
      count(tokens, y);
      for (int64_t i = 0; i < columns && mode != Mode::kTf; ++i) {
        const float weight = weights.empty() ? 1 : weights[static_cast<size_t>(i)];
        y[i] = mode == Mode::kIdf ? (y[i] > 0 ? weight : 0) : y[i] * weight;
      }
    }
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const char* mode : {"TF", "IDF", "TFIDF"})
      for (const int64_t skips : {0, 1, 5})
        for (const std::pair<int64_t, int64_t>& lengths : {std::pair<int64_t, int64_t>{1, 1}, {1, 2}, {2, 2}, {2, 9}}) {
          const auto add = [&](DType t, Shape shape, bool weighted) {
            Sample s{.inputs = {{t, std::move(shape), Fill::kSmallInts}},
                     .attributes = {{"mode", std::string(mode)},
                                    {"min_gram_length", lengths.first},
                                    {"max_gram_length", lengths.second},
                                    {"max_skip_count", skips},
                                    {"ngram_counts", std::vector<int64_t>{0, 3}},
                                    {"ngram_indexes", std::vector<int64_t>{1, 0, 4, 3, 2}}}};
            if (t == DType::kString)
              s.attributes["pool_strings"] = std::vector<std::string>{"s1", "s-2", "s0", "s1", "s0", "s3", "s3"};
            else s.attributes["pool_int64s"] = std::vector<int64_t>{1, -2, 0, 1, 0, 3, 3};
            if (weighted) s.attributes["weights"] = std::vector<float>{1, 2, 0.5f, 3, 4};
            out.push_back(std::move(s));
          };
          add(DType::kInt64, {12}, false);
          add(DType::kInt32, {3, 7}, true);
          add(DType::kString, {2, 9}, true);
          add(DType::kInt64, {0}, false);
          add(DType::kInt64, {2, 0}, false);
        }
    return out;
  }

 private:
  // The pool: all n-grams of one token, then of two, ...; ngram_counts says where each length begins.
  void read_pool(const NodeReader& node) {
    const std::vector<int64_t> begins = node.integers("ngram_counts"), indexes = node.integers("ngram_indexes");
    const std::vector<int64_t> integers = node.integers("pool_int64s");
    const std::vector<std::string> texts = node.texts("pool_strings");
    weights = node.numbers("weights");
    of_strings = node.has("pool_strings");
    if (of_strings == node.has("pool_int64s")) return node.fail("expected one of pool_strings and pool_int64s");
    if (begins.empty() || indexes.empty()) return node.fail("expected ngram_counts and ngram_indexes");
    std::vector<int64_t> tokens;
    for (const std::string& text : texts) tokens.push_back(words.try_emplace(text, std::ssize(words)).first->second);
    for (const int64_t integer : integers) tokens.push_back(numbers.try_emplace(integer, std::ssize(numbers)).first->second);
    for (const int64_t index : indexes) {
      if (index < 0 || index >= kMostColumns) return node.fail("ngram_indexes has {}; expected 0 to {}", index, kMostColumns - 1);
      columns = std::max(columns, index + 1);
    }
    if (!weights.empty() && std::ssize(weights) < columns)
      return node.fail("weights has {} elements; expected one for each of the {} columns of the output", weights.size(), columns);

    auto made = std::make_shared<Grams>();
    size_t gram = 0;
    for (size_t i = 0; i < begins.size(); ++i) {
      const int64_t begin = begins[i], end = i + 1 < begins.size() ? begins[i + 1] : std::ssize(tokens);
      const auto length = static_cast<int64_t>(i) + 1;
      if (begin < 0 || begin > end || end > std::ssize(tokens) || (end - begin) % length != 0)
        return node.fail("ngram_counts says that the n-grams of {} tokens are elements {} to {} of a pool of {}", length, begin,
                         end, tokens.size());
      for (int64_t at = begin; at < end; at += length, ++gram) {
        if (gram >= indexes.size())
          return node.fail("ngram_indexes has {} elements, but the pool has more n-grams", indexes.size());
        if (length < shortest || length > longest) continue;
        made->add(std::span(tokens).subspan(static_cast<size_t>(at), static_cast<size_t>(length)), indexes[gram]);
      }
    }
    grams = std::move(made);
  }

  // The number of a token, or -1 when the pool does not have it.
  int64_t token(const Tensor& x, int64_t i) const {
    if (of_strings) {
      const auto found = words.find(x.as<std::string>()[i]);
      return found == words.end() ? -1 : found->second;
    }
    const auto found = numbers.find(get_int(x.dtype(), x.data(), i));
    return found == numbers.end() ? -1 : found->second;
  }

  // Adds the n-grams of a row, with every distance of their tokens; those of one token have none, and count once.
  void count(std::span<const int64_t> tokens, float* y) const {
    const auto n = std::ssize(tokens);
    int64_t least = shortest;
    for (int64_t distance = 1; distance - 1 <= skips && distance <= std::max<int64_t>(1, n); ++distance) {
      for (int64_t begin = 0; begin < n; ++begin) {
        int64_t node = 0, length = 1;
        for (int64_t at = begin; at < n && length <= longest; at += distance, ++length) {
          node = grams->next(node, tokens[static_cast<size_t>(at)]);
          if (node < 0) break;
          const int64_t column = length >= least ? grams->column(node) : -1;
          if (column >= 0) ++y[column];
        }
      }
      if (least == 1 && ++least > longest) break;
    }
  }

  static constexpr int64_t kMostColumns = int64_t{1} << 31;
};
OCIOR_OPERATOR(TfIdfVectorizer)

}  // namespace ocior::ops
