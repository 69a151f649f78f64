// The pipe between worker and engine. The input: the bytes of a pipe.
#include <unistd.h>

#include <sys/mman.h>

#include "common/base/check.h"
#include "common/rpc/frame.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"

namespace qsweep::fuzz {
namespace {

// A file in memory that reads from its start.
class PipeOf {
 public:
  explicit PipeOf(absl::string_view bytes) : fd_(memfd_create("pipe", 0)) {
    QSWEEP_CHECK(fd_ >= 0);
    QSWEEP_CHECK(write(fd_, bytes.data(), bytes.size()) ==
                 static_cast<ssize_t>(bytes.size()));
    Rewind();
  }
  ~PipeOf() { close(fd_); }
  PipeOf(const PipeOf&) = delete;
  PipeOf& operator=(const PipeOf&) = delete;

  int fd() const { return fd_; }
  void Rewind() { lseek(fd_, 0, SEEK_SET); }

 private:
  const int fd_;
};

void CheckRoundTrip(const std::string& frame) {
  PipeOf pipe("");
  Expect(WriteFrame(pipe.fd(), frame).ok(), "a frame cannot be written");
  pipe.Rewind();
  FrameReader reader(pipe.fd());
  const auto again = reader.Read();
  Expect(again.ok() && again->has_value() && **again == frame,
         "a frame is not what was written");
  const auto end = reader.Read();
  Expect(end.ok() && !end->has_value(), "more than was written");
}

void CheckPipe(const std::string& bytes) {
  constexpr size_t kMostBytes = 1 << 16;
  PipeOf pipe(bytes);
  FrameReader reader(pipe.fd(), kMostBytes);
  size_t taken = 0;
  while (true) {
    const auto frame = reader.Read();
    if (!frame.ok()) {
      Expect(absl::IsDataLoss(frame.status()), "damage with another name");
      return;
    }
    if (!frame->has_value()) {
      return;
    }
    taken += 1 + (*frame)->size();
    Expect(taken <= bytes.size(), "more than the pipe has");
    CheckRoundTrip(**frame);
  }
}

}  // namespace
}  // namespace qsweep::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  qsweep::fuzz::CheckPipe(qsweep::fuzz::Input(data, size).Rest());
  return 0;
}
