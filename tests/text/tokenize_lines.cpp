// Encodes JSON lines for tokenizer_diff.py: `tokenize_lines FOLDER_OR_JSON` reads {"text", "pair", "add_special", "truncation"}
// or
// {"decode": [ids], "skip"} from standard input and prints what the tokenizer makes of each; `--time FILE` prints MB a second of
// processor time instead.
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "text/tokenizer.h"

namespace {

using nlohmann::json;
using namespace ocior;
using namespace ocior::text;

Result<Tokenizer> load(const std::string& path) {
  if (!path.ends_with(".json")) return Tokenizer::from_folder(path);
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  return Tokenizer::from_json(text, path);
}

json to_json(const Encoding& e) {
  json offsets = json::array(), overflowing = json::array();
  for (const Span& s : e.offsets) offsets.push_back({s.begin, s.end});
  for (const Encoding& o : e.overflowing) overflowing.push_back(to_json(o));
  return {{"ids", e.ids},
          {"type_ids", e.type_ids},
          {"tokens", e.tokens},
          {"offsets", offsets},
          {"word_ids", e.word_ids},
          {"special", e.special_tokens_mask},
          {"attention", e.attention_mask},
          {"sequence_ids", e.sequence_ids()},
          {"overflowing", overflowing}};
}

Truncation truncation_of(const json& t) {
  const std::string strategy = t["strategy"];
  return {.max_length = t["max_length"],
          .stride = t["stride"],
          .strategy = strategy == "longest_first" ? Truncation::Strategy::kLongestFirst
                      : strategy == "only_first"  ? Truncation::Strategy::kOnlyFirst
                                                  : Truncation::Strategy::kOnlySecond,
          .direction = t["direction"] == "left" ? Direction::kLeft : Direction::kRight};
}

json encode_line(const Tokenizer& tokenizer, const json& line) {
  if (line.contains("decode")) return tokenizer.decode(line["decode"].get<std::vector<uint32_t>>(), line["skip"]);
  EncodeOptions options = tokenizer.options();
  options.add_special_tokens = line.value("add_special", true);
  if (line.contains("truncation")) options.truncation = truncation_of(line["truncation"]);
  if (line.contains("batch")) {
    const auto texts = line["batch"].get<std::vector<std::string>>();
    std::vector<EncodeInput> inputs;
    for (const std::string& text : texts) inputs.push_back({text, std::nullopt});
    const auto all = tokenizer.encode_batch(inputs, options);
    if (!all.ok()) return {{"error", all.status().message()}};
    json out = json::array();
    for (const Encoding& e : *all) out.push_back(to_json(e));
    return out;
  }
  const std::string text = line["text"];
  std::optional<std::string> pair;
  if (line.contains("pair")) pair = line["pair"].get<std::string>();
  const auto encoding = tokenizer.encode(text, pair, options);
  if (!encoding.ok()) return {{"error", encoding.status().message()}};
  return to_json(*encoding);
}

void time_file(const Tokenizer& tokenizer, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  EncodeOptions options;
  options.with_tokens = false;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const std::clock_t start = std::clock();
    const auto encoding = tokenizer.encode(text, std::nullopt, options);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    std::printf("%.1f MB/s, %zu tokens\n", static_cast<double>(text.size()) / 1e6 / seconds,
                encoding.ok() ? encoding->size() : 0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 4) return std::fprintf(stderr, "usage: tokenize_lines FOLDER_OR_JSON [--time FILE] < lines\n"), 2;
  const std::clock_t start = std::clock();
  const auto tokenizer = load(argv[1]);
  if (!tokenizer.ok()) return std::fprintf(stderr, "%s\n", tokenizer.status().message().c_str()), 1;
  if (argc == 4) {
    std::printf("loaded in %.1f ms of processor time\n", 1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
    return time_file(*tokenizer, argv[3]), 0;
  }
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);) std::cout << encode_line(*tokenizer, json::parse(line)).dump() << '\n';
}
