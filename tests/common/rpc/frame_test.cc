#include "common/rpc/frame.h"

#include <csignal>
#include <fcntl.h>
#include <string>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

namespace qsweep {
namespace {

// A pipe whose ends close with it.
struct Pipe {
  Pipe() { EXPECT_EQ(pipe2(fd, O_CLOEXEC), 0); }
  ~Pipe() {
    CloseWriter();
    close(fd[0]);
  }
  void CloseWriter() {
    if (fd[1] >= 0) {
      close(fd[1]);
      fd[1] = -1;
    }
  }
  void WriteRaw(const std::string& bytes) {
    EXPECT_EQ(write(fd[1], bytes.data(), bytes.size()),
              static_cast<ssize_t>(bytes.size()));
  }
  int fd[2] = {-1, -1};
};

TEST(Frame, ArrivesWhole_WhenItIsEmptyShortOrLongerThanThePipe) {
  Pipe pipe;
  const std::string sizes[] = {"", "x", std::string(127, 'a'),
                               std::string(128, 'b'),
                               std::string(3'000'000, 'c')};
  std::thread writer([&] {
    for (const std::string& frame : sizes) {
      EXPECT_TRUE(WriteFrame(pipe.fd[1], frame).ok());
    }
    pipe.CloseWriter();
  });
  FrameReader reader(pipe.fd[0]);
  for (const std::string& frame : sizes) {
    const auto got = reader.Read();
    ASSERT_TRUE(got.ok() && got->has_value());
    EXPECT_TRUE(**got == frame) << frame.size();
  }
  const auto end = reader.Read();
  ASSERT_TRUE(end.ok());
  EXPECT_FALSE(end->has_value());
  writer.join();
}

TEST(Frame, IsDataLoss_WhenTheStreamIsCutOrDamaged) {
  struct Case {
    const char* name;
    std::string bytes;
  };
  for (const Case& c : {
           Case{"cut in the length", std::string("\x80", 1)},
           Case{"cut in the body", std::string("\x05"
                                               "abc",
                                               4)},
           Case{"endless length", std::string(10, '\xFF')},
           Case{"above the limit", std::string("\x81\x08"
                                               "x",
                                               3)},
       }) {
    SCOPED_TRACE(c.name);
    Pipe pipe;
    pipe.WriteRaw(c.bytes);
    pipe.CloseWriter();
    FrameReader reader(pipe.fd[0], 1024);
    EXPECT_EQ(reader.Read().status().code(), absl::StatusCode::kDataLoss);
  }
}

TEST(Frame, IsUnavailable_WhenTheReaderIsGone) {
  signal(SIGPIPE, SIG_IGN);
  int fd[2];
  ASSERT_EQ(pipe2(fd, O_CLOEXEC), 0);
  close(fd[0]);
  EXPECT_TRUE(absl::IsUnavailable(WriteFrame(fd[1], "x")));
  close(fd[1]);
}

}  // namespace
}  // namespace qsweep
