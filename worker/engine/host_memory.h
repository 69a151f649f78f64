#ifndef QSWEEP_WORKER_ENGINE_HOST_MEMORY_H_
#define QSWEEP_WORKER_ENGINE_HOST_MEMORY_H_

#include <cstdint>
#include <string>

#include "common/base/memory_limit.h"

namespace qsweep {

// Bytes that this process could use without swapping, and without being slowed
// down or killed for them: what the kernel says is available, or less where a
// control group of the process, or one above it that can be seen, has less room
// (version 2: memory.max and memory.high; version 1: memory.limit_in_bytes and
// the hierarchy's limit). Pages of files that were not used lately are room. 0
// where the kernel does not say. Any thread.
//
// root: before /proc and every path in it; other than "" in tests.
int64_t AvailableHostMemory(const std::string& root = "");

// What an engine may use of the host: the bytes of `limit`, its share of what
// is available, or four fifths of that.
int64_t HostMemoryBytes(const MemoryLimit& limit);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_HOST_MEMORY_H_
