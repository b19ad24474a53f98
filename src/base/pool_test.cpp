// Thread pool: coverage of indexes, nesting, concurrent teams, stopping, forks, floating-point mode and quiet when idle.
#include "base/pool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/resources.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__SANITIZE_THREAD__)
#define OCIOR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OCIOR_TSAN 1
#endif
#endif

namespace ocior {
namespace {

using std::chrono::milliseconds;

class PoolTest : public ::testing::Test {
 protected:
  void SetUp() override { set_pool_size(4); }
  void TearDown() override { set_pool_size(0); }
};

// A team of exactly `size`: workers of an earlier team may need a moment to be idle again.
std::unique_ptr<Team> team_of(int size) {
  for (int i = 0; i < 10000; ++i) {
    auto team = std::make_unique<Team>(size);
    if (team->size() == size) return team;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return std::make_unique<Team>(1);
}

TEST_F(PoolTest, SizesAreWhatWasAskedAndAvailable) {
  EXPECT_EQ(pool_size(), 4);
  EXPECT_EQ(Team(1).size(), 1);
  EXPECT_EQ(team_of(3)->size(), 3);
  EXPECT_EQ(team_of(4)->size(), 4);
  EXPECT_LE(Team(100).size(), 4);
  set_pool_size(1);
  EXPECT_EQ(Team().size(), 1);
  set_pool_size(0);
  EXPECT_EQ(pool_size(), available_cores());
}

TEST_F(PoolTest, EveryIndexRunsOnce) {
  for (const int size : {1, 2, 3, 4}) {
    const auto team = team_of(size);
    for (const int64_t n : {0, 1, 2, 3, 4, 5, 7, 64, 1001}) {
      std::vector<std::atomic<int>> fixed(n), dynamic(n);
      const auto count = [&](std::vector<std::atomic<int>>& hits) {
        return [&, size](int64_t i, int worker) {
          ASSERT_GE(worker, 0);
          ASSERT_LT(worker, size);
          ++hits[i];
        };
      };
      team->parallel_for(n, nullptr, count(fixed));
      team->parallel_for_dynamic(n, nullptr, count(dynamic));
      for (int64_t i = 0; i < n; ++i) {
        ASSERT_EQ(fixed[i], 1) << "size " << size << " n " << n << " index " << i;
        ASSERT_EQ(dynamic[i], 1) << "size " << size << " n " << n << " index " << i;
      }
    }
    team->parallel_for(-5, nullptr, [](int64_t, int) { FAIL(); });
  }
}

TEST_F(PoolTest, WorkIsSharedAmongThreads) {
  const auto team = team_of(3);
  std::atomic<int> here{0};
  std::set<std::thread::id> ids;
  std::thread::id by_index[3];
  // Each index waits for the others: this ends only when three threads run at once.
  team->parallel_for(3, nullptr, [&](int64_t i, int) {
    ++here;
    while (here < 3) std::this_thread::yield();
    by_index[i] = std::this_thread::get_id();
  });
  ids.insert(std::begin(by_index), std::end(by_index));
  EXPECT_EQ(ids.size(), 3u);
  EXPECT_EQ(by_index[0], std::this_thread::get_id());
}

TEST_F(PoolTest, CallsWithTheSameWorkerNeverOverlap) {
  const auto team = team_of(4);
  std::vector<std::atomic<int>> busy(4);
  for (int round = 0; round < 200; ++round) {
    const auto fn = [&](int64_t, int worker) {
      ASSERT_EQ(busy[worker].fetch_add(1), 0);
      for (int spin = 0; spin < 50; ++spin) std::atomic_signal_fence(std::memory_order_seq_cst);
      busy[worker].fetch_sub(1);
    };
    team->parallel_for(37, nullptr, fn);
    team->parallel_for_dynamic(37, nullptr, fn);
  }
}

TEST_F(PoolTest, NestedLoopsRunInlineUnderTheOuterWorker) {
  const auto team = team_of(4);
  std::atomic<int> total{0};
  team->parallel_for(8, nullptr, [&](int64_t, int worker) {
    const auto thread = std::this_thread::get_id();
    team->parallel_for(5, nullptr, [&](int64_t, int inner) {
      EXPECT_EQ(inner, worker);
      EXPECT_EQ(std::this_thread::get_id(), thread);
      ++total;
    });
    Team other;
    EXPECT_EQ(other.size(), 1);
    other.parallel_for_dynamic(5, nullptr, [&](int64_t, int inner) {
      EXPECT_EQ(inner, 0);
      ++total;
    });
  });
  EXPECT_EQ(total, 80);
}

TEST_F(PoolTest, ManyThreadsLeaseAtOnce) {
  std::atomic<int64_t> total{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 300; ++round) {
        Team team(1 + round % 4);
        int64_t sums[4] = {};
        team.parallel_for(100, nullptr, [&](int64_t i, int worker) { sums[worker] += i; });
        team.parallel_for_dynamic(10, nullptr, [&](int64_t i, int worker) { sums[worker] += i; });
        total += sums[0] + sums[1] + sums[2] + sums[3];
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(total, 6 * 300 * (4950 + 45));
}

TEST_F(PoolTest, StopSkipsWhatHasNotBegun) {
  const auto team = team_of(3);
  StopWord stop;
  std::atomic<int> ran{0};
  team->parallel_for_dynamic(100000, &stop, [&](int64_t, int) {
    if (++ran == 10) stop.request();
  });
  EXPECT_GE(ran, 10);
  EXPECT_LT(ran, 100000);
  team->parallel_for(100, &stop, [&](int64_t, int) { FAIL(); });
  Team(1).parallel_for(100, &stop, [&](int64_t, int) { FAIL(); });
}

TEST_F(PoolTest, WorkersWakeAfterAPauseInsideAndOutsideALease) {
  for (int round = 0; round < 3; ++round) {
    const auto team = team_of(4);
    for (int i = 0; i < 3; ++i) {
      std::atomic<int> ran{0};
      team->parallel_for(4, nullptr, [&](int64_t, int) { ++ran; });
      EXPECT_EQ(ran, 4);
      std::this_thread::sleep_for(milliseconds(5));
    }
  }
}

TEST_F(PoolTest, IdleWorkersUseNoCpu) {
  team_of(4)->parallel_for(100, nullptr, [](int64_t, int) {});
  const auto used = [] {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
  };
  std::this_thread::sleep_for(milliseconds(20));
  const auto before = used();
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_LT(used() - before, 30000);  // microseconds in 300 ms
}

TEST_F(PoolTest, WorkersBlockSignalsAndHaveNames) {
  const auto team = team_of(2);
  std::atomic<int> here{0};
  team->parallel_for(2, nullptr, [&](int64_t i, int) {
    ++here;
    while (here < 2) std::this_thread::yield();
    if (i == 0) return;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    EXPECT_TRUE(sigismember(&blocked, SIGINT));
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    EXPECT_EQ(std::string(name).substr(0, 6), "ocior-");
  });
}

#if defined(__x86_64__)
TEST_F(PoolTest, WorkersTakeOverTheCallersFloatingPointMode) {
  const auto team = team_of(4);
  const unsigned before = _mm_getcsr();
  for (const bool flush : {true, false, true}) {
    _MM_SET_FLUSH_ZERO_MODE(flush ? _MM_FLUSH_ZERO_ON : _MM_FLUSH_ZERO_OFF);
    team->parallel_for(64, nullptr, [&](int64_t, int) {
      volatile float tiny = 1e-30f;
      volatile float product = tiny * 1e-10f;
      EXPECT_EQ(product == 0.0f, flush);
    });
  }
  _mm_setcsr(before);
}
#endif

#if !defined(OCIOR_TSAN)
TEST_F(PoolTest, AForkedChildBuildsItsOwnPool) {
  const auto team = team_of(4);
  team->parallel_for(100, nullptr, [](int64_t, int) {});
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(20);  // a hang is a failure
    std::atomic<int> sum{0};
    team->parallel_for(10, nullptr, [&](int64_t, int) { ++sum; });  // its workers did not survive
    {
      Team fresh(3);
      if (fresh.size() != 3) _exit(3);
      fresh.parallel_for(10, nullptr, [&](int64_t, int) { ++sum; });
    }
    _exit(sum == 20 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
  std::atomic<int> sum{0};
  team->parallel_for(10, nullptr, [&](int64_t, int) { ++sum; });
  EXPECT_EQ(sum, 10);
}
#endif

TEST(StopWordTest, GivesTheFirstReason) {
  StopWord plain;
  EXPECT_FALSE(plain.requested());
  plain.request(StopWord::Reason::kCancelled);
  plain.request(StopWord::Reason::kTerminated);
  EXPECT_EQ(plain.reason(), StopWord::Reason::kCancelled);

  StopWord late;
  late.set_deadline(StopWord::Clock::now() + milliseconds(30));
  EXPECT_FALSE(late.requested());
  std::this_thread::sleep_for(milliseconds(40));
  EXPECT_EQ(late.reason(), StopWord::Reason::kDeadline);

  StopWord parent, child;
  child.set_parent(&parent);
  EXPECT_FALSE(child.requested());
  parent.request(StopWord::Reason::kCancelled);
  EXPECT_EQ(child.reason(), StopWord::Reason::kCancelled);

  std::atomic<bool> flag{false};
  StopWord watching;
  watching.watch(&flag);
  EXPECT_FALSE(watching.requested());
  flag = true;
  EXPECT_EQ(watching.reason(), StopWord::Reason::kTerminated);
  flag = false;
  EXPECT_TRUE(watching.requested());
}

// A pretended /sys/fs/cgroup.
class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/ocior-cgroup-XXXXXX";
    root_ = mkdtemp(name);
  }
  void TearDown() override { ASSERT_EQ(std::system(("rm -rf '" + root_ + "'").c_str()), 0); }
  void put(const std::string& file, const std::string& text) {
    const std::string path = root_ + file;
    ASSERT_EQ(std::system(("mkdir -p \"$(dirname '" + path + "')\"").c_str()), 0);
    const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    close(fd);
  }
  std::string root_;
};

TEST_F(CgroupTest, ReadsVersion2AndTheTightestAncestor) {
  EXPECT_EQ(cgroup_cores("0::/a/b\n", root_), 0);
  put("/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_cores("0::/a/b\n", root_), 0);
  put("/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(cgroup_cores("0::/a/b\n", root_), 1.5);
  put("/cpu.max", "50000 100000\n");  // the container's own group when /a/b is the host's path
  EXPECT_EQ(cgroup_cores("0::/elsewhere\n", root_), 0.5);
  EXPECT_EQ(cgroup_cores("nonsense\n\n:\n", root_), 0);
}

TEST_F(CgroupTest, ReadsVersion1) {
  put("/cpu/g/cpu.cfs_quota_us", "-1\n");
  put("/cpu/g/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cores("4:memory:/g\n3:cpu,cpuacct:/g\n", root_), 0);
  put("/cpu/g/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(cgroup_cores("4:memory:/g\n3:cpu,cpuacct:/g\n", root_), 2.5);
  EXPECT_EQ(cgroup_cores("3:cpuacct:/g\n", root_), 0);
  put("/cpu/g/cpu.cfs_period_us", "0\n");
  EXPECT_EQ(cgroup_cores("3:cpu:/g\n", root_), 0);
}

TEST_F(CgroupTest, ReadsMemoryOfBothVersions) {
  EXPECT_EQ(cgroup_memory("0::/a/b\n", root_), 0);
  put("/a/b/memory.max", "max\n");
  EXPECT_EQ(cgroup_memory("0::/a/b\n", root_), 0);
  put("/a/memory.max", "1073741824\n");
  EXPECT_EQ(cgroup_memory("0::/a/b\n", root_), 1073741824.0);
  put("/memory/g/memory.limit_in_bytes", "4096\n");
  EXPECT_EQ(cgroup_memory("4:memory:/g\n", root_), 4096.0);
  EXPECT_GT(available_memory(), size_t{1} << 20);
}

}  // namespace
}  // namespace ocior
