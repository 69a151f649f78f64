#ifndef QSWEEP_COMMON_BASE_MEMORY_LIMIT_H_
#define QSWEEP_COMMON_BASE_MEMORY_LIMIT_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qsweep {

// Sizes of memory as people write them.

// Bytes: "1500000000", or a number with B, KB to TB (1,000) or KiB to TiB
// (1,024) in any case, as "1.5GB" or "800 MiB". Nothing: it is no such size, or
// above 10^18.
std::optional<int64_t> ParseByteSize(absl::string_view text);

// What a program may use.
struct MemoryLimit {
  int64_t bytes = 0;  // 0: `percent` is meant
  int percent = 0;    // of what is free at the start; 0: most of it
};

// A ParseByteSize, or "40%" of what is free, 1 to 100. INVALID_ARGUMENT QS1004,
// field "memory".
absl::StatusOr<MemoryLimit> ParseMemoryLimit(absl::string_view text);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_MEMORY_LIMIT_H_
