// xxHash (XXH3), compiled into its users so that no shared library is needed. For content hashes and cache keys; not
// cryptographic.
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>
