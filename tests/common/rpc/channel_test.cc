#include "common/rpc/channel.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include <gmock/gmock.h>
#include <grpcpp/support/status.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/rpc/lock_checks.h"
#include "common/rpc/status_conversion.h"

namespace qsweep {
namespace {

TEST(ParseEndpoint, FillsInWhatIsMissing) {
  struct Case {
    const char* text;
    const char* want;
  };
  for (const Case& c :
       {Case{"unix:/tmp/.sock", "unix:/tmp/.sock"},
        Case{"host:1234", "host:1234"}, Case{"host", "host:7680"},
        Case{":99", "localhost:99"}, Case{"[::1]:5", "[::1]:5"}}) {
    SCOPED_TRACE(c.text);
    const auto endpoint = ParseEndpoint(c.text);
    ASSERT_TRUE(endpoint.ok());
    EXPECT_EQ(endpoint->address, c.want);
  }
}

TEST(ParseEndpoint, NamesTheMistake_WhenTheAddressIsBad) {
  for (const std::string& text :
       {std::string(""), std::string("unix:"), std::string("host:0"),
        std::string("host:65536"), std::string("host:http"),
        "unix:/" + std::string(107, 'x')}) {
    SCOPED_TRACE(text);
    const absl::Status status = ParseEndpoint(text).status();
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(GetErrorInfo(status)->code, "QS1004");
  }
}

TEST(ReadTokenFile, TakesTheFirstLine_AndRefusesAnEmptyFile) {
  const std::string path = testing::TempDir() + "/channel_test_token";
  std::ofstream(path) << "  secret \nsecond line\n";
  EXPECT_EQ(*ReadTokenFile(path), "secret");
  std::ofstream(path) << " \n";
  EXPECT_EQ(GetErrorInfo(ReadTokenFile(path).status())->code, "QS6001");
  std::filesystem::remove(path);
  EXPECT_EQ(GetErrorInfo(ReadTokenFile(path).status())->code, "QS6001");
}

TEST(ExplainCallStatus, SaysHowToStartOne_WhenNobodyAnswers) {
  const absl::Status status = ExplainCallStatus(
      {.address = "unix:/data/q/.sock"}, absl::UnavailableError("refused"));
  EXPECT_EQ(GetErrorInfo(status)->code, "QS4001");
  EXPECT_EQ(GetErrorInfo(status)->field, "server");
  EXPECT_THAT(std::string(status.message()),
              ::testing::HasSubstr("unix:/data/q/.sock"));
  EXPECT_EQ(GetErrorInfo(status)->hint, "start one: qctl up --dir /data/q");
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kUnreachable);
  for (const auto& [address, directory] :
       {std::pair("unix:/nope", "/"), std::pair("unix:nope", "."),
        std::pair("unix:a/nope", "a"), std::pair("host:1", "DIR")}) {
    EXPECT_EQ(GetErrorInfo(ExplainCallStatus({.address = address},
                                             absl::UnavailableError("refused")))
                  ->hint,
              absl::StrCat("start one: qctl up --dir ", directory));
  }
}

TEST(ExplainCallStatus, KeepsTheCoordinatorsOwnCode) {
  const absl::Status overloaded =
      MakeError(kSpoolFull, "no room", "spool", "free some");
  EXPECT_EQ(ExplainCallStatus({.address = "h:1"}, overloaded), overloaded);
}

// Debian's Abseil ends the process at the second order.
TEST(DisableGrpcLockChecks, LetsLocksBeTakenInAnyOrder) {
  DisableGrpcLockChecks();
  absl::Mutex one;
  absl::Mutex two;
  {
    const absl::MutexLock first(&one);
    const absl::MutexLock second(&two);
  }
  const absl::MutexLock second(&two);
  const absl::MutexLock first(&one);
}

TEST(GrpcStatus, KeepsCodeTextAndErrorInfo_ThereAndBack) {
  const absl::Status status =
      MakeError(kJobNotFound, "no job matches 'x'", "job", "qctl jobs list");
  const grpc::Status wire = ToGrpcStatus(status);
  EXPECT_EQ(wire.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(FromGrpcStatus(wire), status);
  EXPECT_TRUE(FromGrpcStatus(ToGrpcStatus(absl::OkStatus())).ok());
}

TEST(GrpcStatus, DropsForeignDetails) {
  const absl::Status status = FromGrpcStatus(
      grpc::Status(grpc::StatusCode::INTERNAL, "text", "\xFF\xFFnot ours"));
  EXPECT_EQ(status, absl::InternalError("text"));
}

}  // namespace
}  // namespace qsweep
