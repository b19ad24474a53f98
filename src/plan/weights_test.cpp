// Tests of the weight store: a cache hit gives the same bytes, files that are not ours are written again, and a disk in trouble
// is a note.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "plan/weights.h"

namespace ocior::plan {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

constexpr size_t kHeader = 4096, kPacked = 300'000, kPlain = 3'000'001;  // bytes

// What the pack function writes: 10 chunks of a sequence that only `seed` decides.
struct Pattern {
  uint32_t seed = 1;
  mutable std::atomic<int> fills{0};

  static void fill(const void* context, void* destination, int64_t chunk) {
    const auto* self = static_cast<const Pattern*>(context);
    ++self->fills;
    const size_t piece = kPacked / 10, at = static_cast<size_t>(chunk) * piece;
    for (size_t i = at; i < at + piece; ++i) static_cast<uint8_t*>(destination)[i] = byte(self->seed, i);
  }
  static uint8_t byte(uint32_t seed, size_t i) { return static_cast<uint8_t>((i * 2654435761u + seed) >> 7); }
};

// One session's load of two packed weights and a plain one.
struct Load {
  Status status;
  std::string note;
  bool mapped = false, right = false;
  int fills = 0;
};

Load load(const CacheKey& key, uint32_t seed = 1, std::string_view form = "gemm_b") {
  Load out;
  Pattern one{seed}, two{seed + 1};
  Tensor plain = std::move(Tensor::allocate(DType::kUint8, {kPlain})).value();
  for (size_t i = 0; i < kPlain; ++i) plain.as<uint8_t>()[i] = Pattern::byte(seed + 2, i);
  auto store = std::move(WeightStore::create(8 << 20)).value();
  const auto* a = static_cast<const uint8_t*>(store->add(form, kPacked, 10, Pattern::fill, &one));
  const auto* p = static_cast<const uint8_t*>(store->add_plain(plain));
  const auto* b = static_cast<const uint8_t*>(store->add("gemm_b", kPacked, 10, Pattern::fill, &two));
  Team team;
  out.status = store->finish(key, {}, team, out.note);
  out.mapped = store->mapped();
  out.fills = one.fills + two.fills;
  out.right = std::memcmp(p, plain.data(), kPlain) == 0;
  for (size_t i = 0; i < kPacked && out.right; ++i)
    out.right = a[i] == Pattern::byte(seed, i) && b[i] == Pattern::byte(seed + 1, i);
  return out;
}

class WeightCache : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "ocior-weights-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    key_ = {folder_.string(), "model.weights"};
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string file() const { return (folder_ / "model.weights").string(); }
  Names names(const fs::path& folder) const {
    Names out;
    for (const auto& entry : fs::directory_iterator(folder)) out.push_back(entry.path().filename());
    std::sort(out.begin(), out.end());
    return out;
  }
  void overwrite(size_t at, const std::string& bytes) const {
    std::fstream f(file(), std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(static_cast<std::streamoff>(at));
    f << bytes;
  }
  // Whatever was done to the file, a load packs again, says why, and leaves a file that the next load takes.
  void expect_written_again(const std::string& what, const std::string& reason = "it is written again") const {
    const Load again = load(key_);
    EXPECT_TRUE(again.status.ok() && again.right && again.mapped) << what;
    EXPECT_EQ(again.fills, 20) << what;
    EXPECT_NE(again.note.find(reason), std::string::npos) << what << ": " << again.note;
    const Load hit = load(key_);
    EXPECT_TRUE(hit.right && hit.mapped && hit.fills == 0) << what;
    EXPECT_EQ(hit.note, "") << what;
    EXPECT_EQ(names(folder_), Names{"model.weights"}) << what;
  }

  fs::path folder_;
  CacheKey key_;
};

TEST(WeightStore, WithoutACacheIsMemory) {
  const Load l = load({});
  EXPECT_TRUE(l.status.ok() && l.right);
  EXPECT_FALSE(l.mapped);
  EXPECT_EQ(l.note, "");
}

TEST(WeightStore, AddressesAreAlignedAndTheReserveIsALimit) {
  auto store = std::move(WeightStore::create(1 << 20)).value();
  Pattern p;
  const auto* a = static_cast<std::byte*>(store->add("a", 100, 1, Pattern::fill, &p));
  const auto* b = static_cast<std::byte*>(store->add("b", 100, 1, Pattern::fill, &p));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % 64, 0u);
  EXPECT_EQ(b - a, 128);
  EXPECT_EQ(store->bytes(), 228u);
  EXPECT_EQ(store->add("c", size_t{1} << 40, 1, Pattern::fill, &p), nullptr);
  EXPECT_EQ(store->add("c", SIZE_MAX, 1, Pattern::fill, &p), nullptr);
  EXPECT_EQ(store->bytes(), 228u);
}

TEST_F(WeightCache, AHitGivesTheSameBytesWithoutPacking) {
  const Load first = load(key_);
  EXPECT_TRUE(first.status.ok() && first.right && first.mapped);
  EXPECT_EQ(first.fills, 20);
  EXPECT_EQ(first.note, "");
  struct stat st;
  ASSERT_EQ(stat(file().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  const Load second = load(key_);
  EXPECT_TRUE(second.status.ok() && second.right && second.mapped);
  EXPECT_EQ(second.fills, 0);
  EXPECT_EQ(second.note, "");
  EXPECT_EQ(names(folder_), Names{"model.weights"});
}

TEST_F(WeightCache, AHitMakesTheFileRecent) {
  load(key_);
  const auto now = fs::file_time_type::clock::now();
  fs::last_write_time(file(), now - std::chrono::hours(100));
  EXPECT_EQ(load(key_).fills, 0);
  EXPECT_GT(fs::last_write_time(file()), now - std::chrono::hours(1));
}

TEST_F(WeightCache, AnotherLayoutIsWrittenAgain) {
  load(key_);
  const Load other = load(key_, 1, "another_form");
  EXPECT_EQ(other.fills, 20);
  EXPECT_TRUE(other.right && other.mapped);
  EXPECT_NE(other.note.find("not a cache file of this layout"), std::string::npos);
}

TEST_F(WeightCache, DamagedHeadersAndLengthsAreWrittenAgain) {
  const size_t size = (load(key_), fs::file_size(file()));
  for (const size_t length : {size_t{0}, size_t{10}, kHeader, size - 1, size + 1}) {
    fs::resize_file(file(), length);
    expect_written_again("length " + std::to_string(length));
  }
  for (const size_t at : {0, 8, 16}) {  // magic, layout, bytes
    overwrite(at, "\x77");
    expect_written_again("header byte " + std::to_string(at));
  }
  std::ofstream(file(), std::ios::binary) << std::string(size, '\xee');
  expect_written_again("garbage");
}

TEST_F(WeightCache, AfterARestartTheChecksumDecides) {
  load(key_);
  const size_t boot = 32;
  overwrite(boot, std::string(39, '0'));
  const Load hit = load(key_);
  EXPECT_EQ(hit.fills, 0);
  EXPECT_TRUE(hit.right && hit.mapped);
  std::ifstream in(file(), std::ios::binary);
  std::string head(80, 0);
  in.read(head.data(), 80);
  EXPECT_NE(head.substr(boot, 39), std::string(39, '0')) << "the boot id was not renewed";

  for (const size_t at : {kHeader, kHeader + kPacked + 1000, kHeader + kPacked + kPlain + 5000}) {
    overwrite(boot, std::string(39, '0'));
    char old = 0;
    std::ifstream f(file(), std::ios::binary);
    f.seekg(static_cast<std::streamoff>(at));
    f.get(old);
    overwrite(at, std::string(1, static_cast<char>(old ^ 1)));
    expect_written_again("body byte " + std::to_string(at), "its checksum is wrong");
  }
}

TEST_F(WeightCache, FilesOfOthersAreWrittenAgain) {
  load(key_);
  ASSERT_EQ(chmod(file().c_str(), 0666), 0);
  expect_written_again("writable by everyone");
  if (geteuid() != 0) GTEST_SKIP() << "only root gives files away";
  ASSERT_EQ(chown(file().c_str(), 12345, 12345), 0);
  expect_written_again("owned by another user");
}

TEST_F(WeightCache, LinksAreNotFollowed) {
  load(key_);
  const fs::path elsewhere = folder_ / "elsewhere";
  fs::rename(file(), elsewhere);
  fs::create_symlink(elsewhere, file());
  const auto before = fs::last_write_time(elsewhere);
  const Load l = load(key_);
  EXPECT_TRUE(l.right && l.mapped);
  EXPECT_EQ(l.fills, 20);
  EXPECT_FALSE(fs::is_symlink(file()));
  EXPECT_EQ(fs::last_write_time(elsewhere), before);
}

TEST_F(WeightCache, AFolderInPlaceOfTheFileIsANote) {
  fs::create_directory(file());
  const Load l = load(key_);
  EXPECT_TRUE(l.status.ok() && l.right);
  EXPECT_NE(l.note.find("not cached"), std::string::npos) << l.note;
  EXPECT_EQ(names(folder_), Names{"model.weights"});
}

TEST_F(WeightCache, UnusableFoldersAreANote) {
  std::ofstream(folder_ / "file") << "x";
  for (const std::string& folder :
       {(folder_ / "file").string(), (folder_ / "file/below").string(), std::string("/proc/self/fd")}) {
    const Load l = load({folder, "model.weights"});
    EXPECT_TRUE(l.status.ok() && l.right) << folder;
    EXPECT_FALSE(l.mapped) << folder;
    EXPECT_EQ(l.note.find(folder + ": "), 0u) << l.note;
    EXPECT_NE(l.note.find("packed weights are not cached"), std::string::npos) << l.note;
  }
}

TEST_F(WeightCache, ReadOnlyFoldersAreANote) {
  if (geteuid() == 0) GTEST_SKIP() << "root writes everywhere";
  ASSERT_EQ(chmod(folder_.c_str(), 0500), 0);
  const Load l = load(key_);
  chmod(folder_.c_str(), 0700);
  EXPECT_TRUE(l.status.ok() && l.right && !l.mapped);
  EXPECT_NE(l.note.find("not usable as a cache folder"), std::string::npos) << l.note;
}

TEST_F(WeightCache, MissingFoldersAreMadePrivate) {
  const fs::path deep = folder_ / "a" / "b";
  EXPECT_TRUE(load({deep.string() + "/", "model.weights"}).mapped);
  EXPECT_EQ(fs::status(deep).permissions(), fs::perms::owner_all);
}

TEST_F(WeightCache, AFullDiskFallsBackToMemoryAndLeavesNothing) {
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  struct rlimit old, small;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  small = old;
  small.rlim_cur = 200'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Load l = load(key_);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  signal(SIGXFSZ, old_handler);
  EXPECT_TRUE(l.status.ok() && l.right);
  EXPECT_FALSE(l.mapped);
  EXPECT_NE(l.note.find(std::strerror(EFBIG)), std::string::npos) << l.note;
  EXPECT_EQ(names(folder_), Names{});
}

TEST_F(WeightCache, ThreadsMayCreateTheSameFileAtOnce) {
  std::vector<Load> loads(4);
  std::vector<std::thread> threads;
  for (Load& l : loads) threads.emplace_back([&] { l = load(key_); });
  for (std::thread& t : threads) t.join();
  for (const Load& l : loads) EXPECT_TRUE(l.status.ok() && l.right && l.mapped) << l.note;
  EXPECT_EQ(names(folder_), Names{"model.weights"});
  EXPECT_EQ(load(key_).fills, 0);
}

TEST_F(WeightCache, TrimRemovesTheLeastRecentlyUsed) {
  const auto now = fs::file_time_type::clock::now();
  const auto put = [&](const std::string& name, int hours_ago, size_t bytes = 1000) {
    std::ofstream(folder_ / name) << std::string(bytes, 'x');
    fs::last_write_time(folder_ / name, now - std::chrono::hours(hours_ago));
  };
  put("newest.weights", 1);
  put("oldest.weights", 30);
  put("middle.weights", 10);
  put("hash.id", 100);
  put(".abandoned.weights.1.2", 30);
  put(".writing.weights.1.2", 1);
  trim_cache(folder_.string(), 3000);
  EXPECT_EQ(names(folder_), (Names{".writing.weights.1.2", "hash.id", "middle.weights", "newest.weights", "oldest.weights"}));
  trim_cache(folder_.string(), 2999);
  EXPECT_EQ(names(folder_), (Names{".writing.weights.1.2", "hash.id", "middle.weights", "newest.weights"}));
  trim_cache(folder_.string(), 999);
  EXPECT_EQ(names(folder_), (Names{".writing.weights.1.2", "hash.id"}));
  trim_cache((folder_ / "missing").string(), 0);
}

TEST_F(WeightCache, ContentHashFollowsTheContent) {
  Team team;
  const std::string a = (folder_ / "a").string(), b = (folder_ / "b").string(), notes = (folder_ / "notes").string();
  std::ofstream(a) << "the same";
  std::ofstream(b) << "the same";
  const std::string hash = *content_hash(a, notes, team);
  EXPECT_EQ(hash.size(), 32u);
  EXPECT_EQ(*content_hash(b, notes, team), hash);
  EXPECT_EQ(*content_hash(a, "", team), hash);
  std::ofstream(a) << "the sane";
  EXPECT_NE(*content_hash(a, notes, team), hash);
  EXPECT_EQ(content_hash((folder_ / "missing").string(), notes, team).status().code(), Code::kNoSuchFile);
}

}  // namespace
}  // namespace ocior::plan
