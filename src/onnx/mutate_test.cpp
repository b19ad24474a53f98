// Deterministic damage to small models: whatever the bytes, reading ends with a Model or an error, in bounded memory and time.
// OCIOR_MUTANTS sets how many mutants are tried (4000 without it); a failing one is named by its number.
#include <sys/resource.h>

#include <random>

#include "onnx/testing.h"

namespace ocior::onnx {
namespace {

// What reading may add to the process at most; half of it is what a sanitizer keeps back of freed memory.
constexpr int64_t kMemoryBound = int64_t{512} << 20;

class Mutator {
 public:
  Mutator(const std::vector<std::string>& seeds, uint32_t number) : seeds_(seeds), random_(number) {}

  std::string make() {
    std::string bytes = seeds_[below(seeds_.size())];
    for (size_t i = 0, rounds = 1 + below(4); i < rounds && !bytes.empty(); ++i) damage(bytes);
    return bytes;
  }

 private:
  size_t below(size_t n) { return n ? random_() % n : 0; }

  void damage(std::string& bytes) {
    const size_t at = below(bytes.size());
    switch (below(7)) {
      case 0: bytes.resize(at); break;
      case 1: bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8))); break;
      case 2: bytes[at] = static_cast<char>(random_()); break;
      case 3: {  // splice a piece of another seed over or into this one
        const std::string& other = seeds_[below(seeds_.size())];
        const size_t from = below(other.size());
        bytes.replace(at, below(2) ? below(bytes.size() - at) : 0, other, from, below(other.size() - from));
        break;
      }
      case 4: {  // a length or count far too large
        static const std::string kHuge[] = {"\x7f",
                                            "\xff\xff\x03",
                                            "\xff\xff\xff\xff\x07",
                                            "\xff\xff\xff\xff\x0f",
                                            "\x80\x80\x80\x80\x10",
                                            "\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
                                            "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"};
        bytes.replace(at, 1, kHuge[below(std::size(kHuge))]);
        break;
      }
      case 5: bytes.erase(at, 1 + below(8)); break;
      case 6: bytes.insert(at, bytes, below(bytes.size()), 1 + below(64)); break;
    }
  }

  const std::vector<std::string>& seeds_;
  std::mt19937 random_;
};

int64_t peak_bytes() {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} << 10;
}

TEST(Mutate, EveryMutantIsReadOrRefused) {
  std::vector<std::string> seeds;
  for (const char* name :
       {"every_field.onnx", "typed_data.onnx", "raw_data.onnx", "control_flow.onnx", "external.onnx", "old_ir.onnx"}) {
    seeds.push_back(slurp(data_file(name)));
    ASSERT_FALSE(seeds.back().empty()) << name;
  }
  const char* wanted = getenv("OCIOR_MUTANTS");
  const uint32_t count = wanted ? static_cast<uint32_t>(atoi(wanted)) : 4000;
  const int64_t before = peak_bytes();
  uint32_t good = 0;
  for (uint32_t number = 0; number < count; ++number) {
    const std::string bytes = Mutator(seeds, number).make();
    const auto model = read_text(bytes, data_file(""));
    if (!model.ok()) {
      EXPECT_GT(model.status().message().size(), 20u) << "mutant " << number;
      EXPECT_LT(model.status().message().size(), 2000u) << "mutant " << number;
      continue;
    }
    ++good;
    const auto written = write_bytes(*model);  // what was read can be written and is then read as the same
    ASSERT_TRUE(written.ok()) << "mutant " << number << ": " << written.status().message();
    const auto again = read_text(*written);
    ASSERT_TRUE(again.ok()) << "mutant " << number << ": " << again.status().message();
    EXPECT_TRUE(same(*model, *again)) << "mutant " << number;
  }
  EXPECT_GT(good, count / 50);  // not all damage is fatal, or the mutants test too little
  EXPECT_LT(good, count - count / 4);
  EXPECT_LT(peak_bytes() - before, kMemoryBound);
}

// The densest bombs: the fewest bytes per allocated object.
TEST(Mutate, BombsStayInProportion) {
  const auto bomb = [](const std::string& piece, const std::string& open) {
    std::string body;
    while (body.size() < 200000) body += piece;
    std::string out;
    protozero::pbf_writer(out).add_message(
        7, open.empty() ? body : [&] {
          std::string graph;
          protozero::pbf_writer(graph).add_message(static_cast<uint32_t>(open[0]), body);
          return graph;
        }());
    return out;
  };
  const int64_t before = peak_bytes();
  for (const std::string& bytes :
       {bomb(std::string("\x0a\x03\x22\x01x", 5), ""), bomb(std::string("\x6a\0", 2), ""), bomb(std::string("\x5a\0", 2), ""),
        bomb(std::string("\x0a\0", 2), "\x01"), bomb(std::string("\x32\0", 2), "\x05"), bomb(std::string("\x08\x01", 2), "\x05")})
    (void)read_text(bytes).ok();
  EXPECT_LT(peak_bytes() - before, kMemoryBound);
}

}  // namespace
}  // namespace ocior::onnx
