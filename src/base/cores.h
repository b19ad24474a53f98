// How many cores this process may use: CPU affinity and cgroup quota (v1 and v2). Reads /proc and /sys; any thread.
#pragma once

#include <string>

namespace ocior {

// min(cores in the affinity mask, CPU quota of the process's cgroup and its ancestors rounded up), at least 1.
int available_cores();

// The CPU quota in cores of the cgroups listed in `membership` (the text of /proc/self/cgroup), or of any of their ancestors,
// as found under `mount` (normally /sys/fs/cgroup). 0 means no limit.
double cgroup_cores(const std::string& membership, const std::string& mount);

}  // namespace ocior
