#ifndef QSWEEP_COMMON_RPC_FRAME_H_
#define QSWEEP_COMMON_RPC_FRAME_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qsweep {

// Frames on the pipe between a worker and its engine: a varint length, then
// that many bytes. Both ends refuse a longer frame than this: a damaged length
// must not become an allocation.
inline constexpr size_t kMaxFrameBytes = size_t{256} << 20;

// Writes one frame to a blocking descriptor, whole. UNAVAILABLE: the reader is
// gone (the process must ignore SIGPIPE) or the write failed; then part of the
// frame may be written, so nothing more can be sent. INVALID_ARGUMENT: longer
// than kMaxFrameBytes; nothing was written.
absl::Status WriteFrame(int fd, absl::string_view bytes);

// Reads frames from a blocking descriptor it does not own. Single-thread.
class FrameReader {
 public:
  explicit FrameReader(int fd, size_t max_bytes = kMaxFrameBytes)
      : fd_(fd), max_bytes_(max_bytes) {}

  // The next frame, or nothing at the end of the stream. DATA_LOSS: the stream
  // ends inside a frame, or the length is damaged or above the limit.
  // UNAVAILABLE: read error. After an error nothing more can be read.
  absl::StatusOr<std::optional<std::string>> Read();

 private:
  // Fills the buffer with at least one more byte; false at the end.
  absl::StatusOr<bool> Fill();

  const int fd_;
  const size_t max_bytes_;
  std::string buffer_;
  size_t position_ = 0;  // of the first byte of buffer_ not yet used
};

}  // namespace qsweep

#endif  // QSWEEP_COMMON_RPC_FRAME_H_
