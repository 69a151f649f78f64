#include "common/rpc/frame.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <errno.h>
#include <optional>
#include <string>
#include <unistd.h>

#include "absl/strings/str_cat.h"

#include "common/base/status_macros.h"

namespace qsweep {
namespace {

constexpr size_t kReadBytes = size_t{64} << 10;
constexpr int kMaxVarintBits = 35;  // five bytes hold every allowed length

absl::Status WriteAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      return absl::UnavailableError(
          absl::StrCat("cannot write to the pipe: ", strerror(errno)));
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

std::string Varint(uint64_t value) {
  std::string bytes;
  while (value >= 0x80) {
    bytes.push_back(static_cast<char>((value & 0x7F) | 0x80));
    value >>= 7;
  }
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

absl::Status TooLong(uint64_t size, size_t limit) {
  return absl::DataLossError(absl::StrCat("a frame of ", size,
                                          " bytes is longer than the limit of ",
                                          limit, " bytes"));
}

}  // namespace

absl::Status WriteFrame(int fd, absl::string_view bytes) {
  if (bytes.size() > kMaxFrameBytes) {
    return absl::InvalidArgumentError(
        TooLong(bytes.size(), kMaxFrameBytes).message());
  }
  // One write for what fits the pipe's buffer, so that a short frame is never
  // seen half.
  std::string frame = Varint(bytes.size());
  frame.append(bytes.data(), bytes.size());
  return WriteAll(fd, frame);
}

absl::StatusOr<bool> FrameReader::Fill() {
  if (position_ > 0) {
    buffer_.erase(0, position_);
    position_ = 0;
  }
  const size_t old_size = buffer_.size();
  buffer_.resize(old_size + kReadBytes);
  ssize_t got;
  do {
    got = read(fd_, buffer_.data() + old_size, kReadBytes);
  } while (got < 0 && errno == EINTR);
  const int error = errno;
  buffer_.resize(old_size + static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (got < 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot read from the pipe: ", strerror(error)));
  }
  return got > 0;
}

absl::StatusOr<std::optional<std::string>> FrameReader::Read() {
  uint64_t size = 0;
  for (int shift = 0;; shift += 7) {
    if (position_ == buffer_.size()) {
      QSWEEP_ASSIGN_OR_RETURN(const bool more, Fill());
      if (!more) {
        if (shift == 0) {
          return std::nullopt;
        }
        return absl::DataLossError("the stream ends inside a frame's length");
      }
    }
    const auto byte = static_cast<uint8_t>(buffer_[position_++]);
    size |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if ((byte & 0x80) == 0) {
      break;
    }
    if (shift + 7 >= kMaxVarintBits) {
      return absl::DataLossError("a frame's length is damaged");
    }
  }
  if (size > max_bytes_) {
    return TooLong(size, max_bytes_);
  }
  while (buffer_.size() - position_ < size) {
    QSWEEP_ASSIGN_OR_RETURN(const bool more, Fill());
    if (!more) {
      return absl::DataLossError("the stream ends inside a frame");
    }
  }
  std::string frame = buffer_.substr(position_, size);
  position_ += size;
  return frame;
}

}  // namespace qsweep
