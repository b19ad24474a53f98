// Tests of AtomicFile and MappedFile on real files in a temporary folder.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/mapped_file.h"

namespace ocior {
namespace {

namespace fs = std::filesystem;

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "ocior-files-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  void put(const std::string& name, const std::string& text) const { std::ofstream(at(name), std::ios::binary) << text; }
  std::string get(const std::string& name) const {
    std::ifstream in(at(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(folder_)) out.push_back(entry.path().filename());
    std::sort(out.begin(), out.end());
    return out;
  }

  fs::path folder_;
};

using Names = std::vector<std::string>;

TEST_F(Files, CommitReplacesTheTargetOnlyAtTheEnd) {
  put("a", "old");
  auto file = AtomicFile::open(at("a"));
  ASSERT_TRUE(file.ok()) << file.status().message();
  std::string expected;
  for (int i = 0; i < 3000; ++i) {  // crosses the buffer, with pieces larger than it
    const std::string piece(i == 1500 ? 600000 : i, static_cast<char>('a' + i % 26));
    ASSERT_TRUE(file->write(piece).ok());
    expected += piece;
  }
  EXPECT_EQ(file->size(), static_cast<int64_t>(expected.size()));
  EXPECT_EQ(get("a"), "old");
  ASSERT_TRUE(file->finish().ok());
  EXPECT_EQ(get("a"), "old");
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(get("a"), expected);
  EXPECT_EQ(names(), Names{"a"});
  EXPECT_TRUE(file->commit().ok());
  EXPECT_FALSE(file->write("more").ok());
}

TEST_F(Files, DroppedOrMovedFileLeavesNothing) {
  {
    auto file = AtomicFile::open(at("a"));
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->write("text").ok());
    EXPECT_EQ(names().size(), 1u);
    AtomicFile moved = std::move(*file);
    ASSERT_TRUE(moved.write("more").ok());
    auto second = AtomicFile::open(at("b"));
    ASSERT_TRUE(second.ok());
    moved = std::move(*second);
    EXPECT_EQ(names().size(), 1u);
  }
  EXPECT_EQ(names(), Names{});
}

TEST_F(Files, PermissionFollowsModeAndUmask) {
  const mode_t old = umask(022);
  for (const mode_t mode : {0666, 0600}) {
    auto file = AtomicFile::open(at("m"), mode);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->commit().ok());
    struct stat info;
    ASSERT_EQ(stat(at("m").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, mode & ~022u);
  }
  umask(old);
}

TEST_F(Files, BadTargets) {
  EXPECT_EQ(AtomicFile::open("").status().code(), Code::kInvalidArgument);
  EXPECT_EQ(AtomicFile::open(folder_.string()).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(AtomicFile::open(at("none/")).status().code(), Code::kInvalidArgument);
  const auto missing = AtomicFile::open(at("none/a"));
  EXPECT_EQ(missing.status().code(), Code::kNoSuchFile);
  EXPECT_NE(missing.status().message().find("does not exist"), std::string::npos);
  const auto below_file = (put("f", "x"), AtomicFile::open(at("f/a")));
  EXPECT_FALSE(below_file.ok());
}

// The file-size limit stands in for a full disk: write() fails half way in the same manner.
TEST_F(Files, FullDiskIsOneErrorAndLeavesNothing) {
  put("a", "old");
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small { 1 << 20, before.rlim_max };
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  Status status;
  std::string first;
  {
    auto file = AtomicFile::open(at("a"));
    const std::string piece(1000, 'x');
    for (int i = 0; file.ok() && status.ok() && i < 5000; ++i) status = file->write(piece);
    first = status.message();
    if (file.ok()) status = file->commit();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_EQ(status.code(), Code::kFail);
  EXPECT_EQ(status.message(), first);
  EXPECT_NE(first.find("cannot write byte"), std::string::npos) << first;
  EXPECT_EQ(names(), Names{"a"});
  EXPECT_EQ(get("a"), "old");
}

TEST_F(Files, MapsWholeFileAndOutlivesItsName) {
  std::string text(100000, 'q');
  text.back() = 'z';
  put("a", text);
  const auto file = MappedFile::open(at("a"));
  ASSERT_TRUE(file.ok()) << file.status().message();
  const auto bytes = (*file)->bytes();
  fs::remove(at("a"));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), text);
  EXPECT_GE((*file)->fd(), 0);
  EXPECT_EQ((*file)->path(), at("a"));
}

size_t resident_pages(std::span<const std::byte> bytes) {
  std::ifstream maps("/proc/self/smaps");
  std::string line;
  const auto want = reinterpret_cast<uintptr_t>(bytes.data());
  for (bool inside = false; std::getline(maps, line);) {
    uintptr_t from = 0, to = 0;
    if (sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) inside = from == want;
    size_t kib = 0;
    if (inside && sscanf(line.c_str(), "Rss: %zu kB", &kib) == 1) return kib / 4;
  }
  return 0;
}

TEST_F(Files, ReleaseGivesPagesBack) {
  put("a", std::string(64 * 4096 + 10, 'q'));
  const auto file = MappedFile::open(at("a"));
  ASSERT_TRUE(file.ok());
  const auto bytes = (*file)->bytes();
  size_t sum = 0;
  for (const std::byte b : bytes) sum += static_cast<size_t>(b);
  if (resident_pages(bytes) == 0) GTEST_SKIP() << "no /proc/self/smaps";
  EXPECT_GE(resident_pages(bytes), 65u);
  (*file)->release();
  EXPECT_EQ(resident_pages(bytes), 0u);
  size_t again = 0;
  for (const std::byte b : bytes) again += static_cast<size_t>(b);
  EXPECT_EQ(sum, again);
  (*file)->release(bytes.subspan(1, 4095));  // no whole page
  EXPECT_GE(resident_pages(bytes), 65u);
  (*file)->release({bytes.data() - 4096, 4096});  // before the file
  const std::byte other{};
  (*file)->release({&other, 1});  // elsewhere
  EXPECT_GE(resident_pages(bytes), 65u);
}

TEST_F(Files, EmptyMissingAndStrangeFiles) {
  put("empty", "");
  const auto empty = MappedFile::open(at("empty"));
  ASSERT_TRUE(empty.ok());
  EXPECT_TRUE((*empty)->bytes().empty());
  (*empty)->release();
  EXPECT_EQ(MappedFile::open(at("none")).status().code(), Code::kNoSuchFile);
  EXPECT_EQ(MappedFile::open(at("empty/x")).status().code(), Code::kNoSuchFile);
  EXPECT_EQ(MappedFile::open(std::string("a\0b", 3)).status().code(), Code::kNoSuchFile);
  EXPECT_EQ(MappedFile::open(folder_.string()).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(MappedFile::open("/dev/null").status().code(), Code::kInvalidArgument);
  ASSERT_EQ(mkfifo(at("pipe").c_str(), 0600), 0);
  EXPECT_EQ(MappedFile::open(at("pipe")).status().code(), Code::kInvalidArgument);  // and does not hang
}

}  // namespace
}  // namespace ocior
