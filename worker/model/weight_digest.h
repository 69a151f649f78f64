#ifndef QSWEEP_WORKER_MODEL_WEIGHT_DIGEST_H_
#define QSWEEP_WORKER_MODEL_WEIGHT_DIGEST_H_

#include <string>

#include "absl/status/statusor.h"

#include "common/base/digest.h"
#include "common/base/stopped.h"

namespace qsweep {

// SHA-256 of a file. With a cache_dir, which is made when missing, the answer
// is remembered there by path, size, modification time and inode, so that a
// file that was not touched is not read again; a cache that cannot be written
// costs only time. Safe beside other processes on the same cache. NOT_FOUND
// QS3001; CANCELLED.
absl::StatusOr<Digest> CachedDigestOfFile(const std::string& path,
                                          const std::string& cache_dir,
                                          const Stopped& stopped);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_WEIGHT_DIGEST_H_
