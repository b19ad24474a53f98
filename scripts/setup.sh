#!/usr/bin/env bash
# Functions that ocior and check share: install Debian packages, configure and build. Sourced by bash with $root set.
# Everything they say goes to stderr; they return non-zero after a full sentence.
: "${root:?is the checkout}"

say() { echo "ocior: $*" >&2; }

# install_packages LIST...: installs the Debian packages named in the files that are missing; nothing to do needs neither root nor network.
install_packages() {
  command -v dpkg-query >/dev/null || { say "this is not a Debian system, so packages are not installed; needed are those in $*"; return 0; }
  local wanted missing sudo=""
  wanted=$(sed 's/#.*//' "$@")
  # shellcheck disable=SC2086  # a list of names
  missing=$(for p in $wanted; do dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null | grep -q '^installed' || echo "$p"; done)
  missing=${missing//$'\n'/ }
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    sudo="sudo"
    command -v sudo >/dev/null || { say "these packages are missing and installing them needs root: apt-get install $missing"; return 1; }
  fi
  say "installing $missing"
  local apt="$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600"
  local log; log=$(mktemp)
  # shellcheck disable=SC2086
  if ! $apt install -y --no-install-recommends $missing >"$log" 2>&1; then
    if ! { $apt update && $apt install -y --no-install-recommends $missing; } >"$log" 2>&1; then
      tail -n 15 "$log" >&2
      say "apt-get could not install $missing (its last words are above); install them and try again"
      rm -f "$log"
      return 1
    fi
  fi
  rm -f "$log"
}

# Number of compilers to run at once: one a core, but 1.5 GiB of memory for each.
jobs_here() {
  local cores memory
  cores=$(nproc)
  memory=$(awk '/^MemAvailable:/ { print int($2 / 1572864) }' /proc/meminfo 2>/dev/null || echo "$cores")
  [ "$memory" -ge 1 ] || memory=1
  echo $((cores < memory ? cores : memory))
}

# configure DIR OPTION...: runs cmake for a build folder, afresh when the folder came from elsewhere.
configure() {
  local dir=$1; shift
  local fresh=() launcher=()
  if [ -e "$dir/CMakeCache.txt" ] && ! grep -qxF "CMAKE_CACHEFILE_DIR:INTERNAL=$dir" "$dir/CMakeCache.txt"; then fresh=(--fresh); fi
  if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  cmake "${fresh[@]}" -S "$root" -B "$dir" -G Ninja "${launcher[@]}" "$@"
}

# progress LABEL: passes ninja's output on to stdout and shows "LABEL 12/140" on stderr when that is a terminal.
progress() {
  local line
  while IFS= read -r line; do
    printf '%s\n' "$line"
    if [ -t 2 ] && [[ $line =~ ^\[([0-9]+/[0-9]+)\] ]]; then printf '\r\033[K%s %s' "$1" "${BASH_REMATCH[1]}" >&2; fi
  done
  if [ -t 2 ]; then printf '\r\033[K' >&2; fi
}
