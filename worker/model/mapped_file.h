#ifndef QSWEEP_WORKER_MODEL_MAPPED_FILE_H_
#define QSWEEP_WORKER_MODEL_MAPPED_FILE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace qsweep {

// A file mapped read-only into memory; unmapped by the destructor. Immutable,
// thread-safe. A file that another program shortens while it is mapped ends
// this process (SIGBUS): model files are not to be written to while in use.
class MappedFile {
 public:
  // NOT_FOUND QS3001: no such file, or not a regular file that can be read.
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(
      const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const uint8_t> bytes() const { return bytes_; }

 private:
  MappedFile(std::string path, std::span<const uint8_t> bytes)
      : path_(std::move(path)), bytes_(bytes) {}

  const std::string path_;
  const std::span<const uint8_t> bytes_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_MAPPED_FILE_H_
