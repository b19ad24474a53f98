// How many cores and how much memory this process may use: CPU affinity, physical memory and cgroup limits (v1 and v2). Reads
// /proc and /sys; any thread.
#pragma once

#include <cstddef>
#include <string>

namespace ocior {

// min(cores in the affinity mask, CPU quota of the process's cgroup and its ancestors rounded up), at least 1.
int available_cores();

// The CPU quota in cores of the cgroups listed in `membership` (the text of /proc/self/cgroup), or of any of their ancestors,
// as found under `mount` (normally /sys/fs/cgroup). 0 means no limit.
double cgroup_cores(const std::string& membership, const std::string& mount);

// Bytes that this process can hold at most: min(physical memory, memory limit of its cgroup and their ancestors). Asking for more
// ends in a kill where the kernel overcommits, so it is refused before. Read once.
size_t available_memory();
// The memory limit in bytes, found as cgroup_cores does. 0 means no limit.
double cgroup_memory(const std::string& membership, const std::string& mount);

}  // namespace ocior
