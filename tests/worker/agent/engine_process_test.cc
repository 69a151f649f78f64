#include "worker/agent/engine_process.h"

#include <memory>
#include <signal.h>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "tests/support/engine_listener.h"

namespace qsweep {
namespace {

using testing::EngineListener;
using ::testing::HasSubstr;

constexpr char kFakeEngine[] = QSWEEP_BINARY_DIR "/tests/fake_qengine";

std::unique_ptr<EngineProcess> StartFake(EngineListener& listener) {
  signal(SIGPIPE, SIG_IGN);
  auto engine = EngineProcess::Start(
      {.program = kFakeEngine, .arguments = {"serve"}}, listener.callbacks());
  EXPECT_TRUE(engine.ok()) << engine.status();
  return *std::move(engine);
}

// An engine that is a shell script.
std::unique_ptr<EngineProcess> StartScript(const std::string& script,
                                           EngineListener& listener,
                                           size_t max_frame_bytes = 1024) {
  auto engine = EngineProcess::Start({.program = "/bin/sh",
                                      .arguments = {"-c", script},
                                      .max_frame_bytes = max_frame_bytes},
                                     listener.callbacks());
  EXPECT_TRUE(engine.ok()) << engine.status();
  return *std::move(engine);
}

TEST(EngineProcess, SpeaksAndEndsByItself_WhenItsInputEnds) {
  EngineListener listener;
  const auto engine = StartFake(listener);
  EXPECT_EQ(listener.Next().ready().fingerprint(), "fake-1");
  engine->CloseInput();
  const absl::Status exit = listener.Exit();
  EXPECT_EQ(exit.message(), "the engine exited with code 0");
  EXPECT_FALSE(listener.killed());
  EXPECT_FALSE(engine->Send({}).ok());
}

TEST(EngineProcess, SaysWhichSignalKilledIt) {
  EngineListener listener;
  const auto engine = StartFake(listener);
  listener.Next();
  ASSERT_EQ(kill(engine->pid(), SIGKILL), 0);
  const absl::Status exit = listener.Exit();
  EXPECT_EQ(GetErrorInfo(exit)->code, "QS5002");
  EXPECT_TRUE(listener.killed());
  EXPECT_EQ(exit.message(), "the engine was killed by signal 9 (Killed)");
  EXPECT_TRUE(absl::IsUnavailable(engine->Send({})));
}

TEST(EngineProcess, IsQS5001_WhenTheProgramIsMissing) {
  EngineListener listener;
  const auto engine = EngineProcess::Start({.program = "/nonexistent/qengine"},
                                           listener.callbacks());
  EXPECT_EQ(GetErrorInfo(engine.status())->code, "QS5001");
  EXPECT_THAT(engine.status().message(), HasSubstr("/nonexistent/qengine"));
}

TEST(EngineProcess, KillsIt_WhenItWritesSomethingElseThanFrames) {
  struct Case {
    const char* name;
    const char* script;
    const char* want;
  };
  for (const Case& c :
       {Case{"oversized", "printf '\\200\\200\\001x'; exec sleep 100",
             "a frame of 16384 bytes is longer than the limit of 1024 bytes"},
        Case{"not an event", "printf '\\003xyz'; exec sleep 100",
             "not an EngineEvent"},
        Case{"cut", "printf '\\377'", "inside a frame's length"}}) {
    SCOPED_TRACE(c.name);
    EngineListener listener;
    const auto engine = StartScript(c.script, listener);
    EXPECT_THAT(std::string(listener.Exit().message()), HasSubstr(c.want));
  }
}

TEST(EngineProcess, KillsIt_WhenItClosesItsOutputAndStays) {
  EngineListener listener;
  const auto engine = StartScript("exec >&-; exec sleep 100", listener);
  EXPECT_THAT(std::string(listener.Exit().message()),
              HasSubstr("killed by signal 9"));
}

TEST(EngineProcess, CanBeKilled_WhileSendWaitsForAFullPipe) {
  EngineListener listener;
  const auto engine = StartScript("exec sleep 100", listener);
  v1::EngineRequest request;
  request.mutable_run()->set_model_path(std::string(1 << 20, 'x'));
  absl::Status sent;
  std::thread sender([&] { sent = engine->Send(request); });
  engine->Kill();
  sender.join();
  EXPECT_TRUE(absl::IsUnavailable(sent));
  EXPECT_FALSE(listener.Exit().ok());
}

TEST(EngineProcess, LeavesNoDescriptorsToItsSuccessor) {
  EngineListener first_listener;
  EngineListener second_listener;
  const auto first = StartFake(first_listener);
  first_listener.Next();
  const auto second = StartFake(second_listener);
  second_listener.Next();
  // Were the second to hold the writing end of the first one's stdin, the
  // first would never see its end.
  first->CloseInput();
  EXPECT_EQ(first_listener.Exit().message(), "the engine exited with code 0");
}

TEST(EngineProcess, DiesWithTheThreadThatStartedIt) {
  EngineListener listener;
  std::unique_ptr<EngineProcess> engine;
  std::thread([&] {
    engine = StartFake(listener);
    listener.Next();  // by now the engine has asked for the signal
  }).join();
  EXPECT_THAT(std::string(listener.Exit().message()),
              HasSubstr("killed by signal 9"));
}

}  // namespace
}  // namespace qsweep
