// Affinity and cgroup quota; see resources.h.
#include "base/resources.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>
#include <vector>

namespace ocior {
namespace {

int affinity_cores() {
  for (int cpus = 1024; cpus <= 1 << 16; cpus *= 2) {  // the kernel refuses a mask smaller than its own
    cpu_set_t* set = CPU_ALLOC(cpus);
    if (!set) return 1;
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    const int count = known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (known) return std::max(count, 1);
  }
  return 1;
}

// quota / period from cgroup v2's "max 100000" or "150000 100000"; 0 when absent or unlimited.
double quota_v2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  std::istringstream number(quota);
  double value = 0;
  return number >> value && value > 0 ? value / period : 0;
}

double quota_v1(const std::string& folder) {
  double quota = 0, period = 0;
  std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
  std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  return quota > 0 && period > 0 ? quota / period : 0;
}

// Bytes from one number in a file; 0 when absent or "max".
double bytes_in(const std::string& path) {
  double bytes = 0;
  return std::ifstream(path) >> bytes && bytes > 0 ? bytes : 0;
}
double memory_v2(const std::string& folder) { return bytes_in(folder + "/memory.max"); }
double memory_v1(const std::string& folder) { return bytes_in(folder + "/memory.limit_in_bytes"); }

// The smallest limit of `path` and its ancestors below `mount`. Inside a container `path` may not exist there; the mount's root
// is then the container's own group.
double smallest(const std::string& mount, std::string path, double (*limit)(const std::string&)) {
  double least = 0;
  for (;;) {
    const double here = limit(mount + path);
    if (here > 0) least = least > 0 ? std::min(least, here) : here;
    if (path.empty()) return least;
    const size_t slash = path.find_last_of('/');
    path.resize(slash == std::string::npos ? 0 : slash);
  }
}

bool lists(std::string_view controllers, std::string_view wanted) {
  while (!controllers.empty()) {
    const size_t comma = std::min(controllers.find(','), controllers.size());
    if (controllers.substr(0, comma) == wanted) return true;
    controllers.remove_prefix(std::min(comma + 1, controllers.size()));
  }
  return false;
}

// The least limit that the groups in `membership` or their ancestors set for one controller.
double least_limit(const std::string& membership, const std::string& mount, const std::string& controller,
                   double (*v1)(const std::string&), double (*v2)(const std::string&)) {
  double least = 0;
  const auto take = [&](double limit) {
    if (limit > 0) least = least > 0 ? std::min(least, limit) : limit;
  };
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {  // hierarchy:controllers:path
    const size_t first = line.find(':'), second = line.find(':', first == std::string::npos ? first : first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      take(smallest(mount, path, v2));
      take(smallest(mount + "/unified", path, v2));
    } else if (lists(controllers, controller)) {
      take(smallest(mount + "/" + controller, path, v1));
      take(smallest(mount + "/" + controllers, path, v1));
    }
  }
  return least;
}

std::string membership_of_this_process() {
  std::ifstream file("/proc/self/cgroup");
  return {std::istreambuf_iterator<char>(file), {}};
}

constexpr const char* kMount = "/sys/fs/cgroup";

}  // namespace

double cgroup_cores(const std::string& membership, const std::string& mount) {
  return least_limit(membership, mount, "cpu", quota_v1, quota_v2);
}

double cgroup_memory(const std::string& membership, const std::string& mount) {
  return least_limit(membership, mount, "memory", memory_v1, memory_v2);
}

size_t available_memory() {
  static const size_t bytes = [] {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const double physical = pages > 0 && page > 0 ? static_cast<double>(pages) * static_cast<double>(page) : 0x1p62;
    const double group = cgroup_memory(membership_of_this_process(), kMount);
    return static_cast<size_t>(group > 0 && group < physical ? group : physical);
  }();
  return bytes;
}

int available_cores() {
  const int cores = affinity_cores();
  const double quota = cgroup_cores(membership_of_this_process(), kMount);
  return quota > 0 && quota < cores ? std::max(1, static_cast<int>(std::ceil(quota))) : cores;
}

}  // namespace ocior
