#include "coordinator/service/listen_address.h"

#include <string>

#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"

namespace qsweep::testing {
namespace {

TEST(ParseListenAddress, TakesLoopbackAndSockets) {
  for (const char* text :
       {"localhost:7680", "[::1]:7680", "127.0.0.1:0", "127.8.9.10:65535"}) {
    const auto listen = ParseListenAddress(text);
    QSWEEP_ASSERT_OK(listen);
    EXPECT_EQ(listen->address, text);
    EXPECT_EQ(listen->socket_path, "");
    EXPECT_FALSE(listen->leaves_machine);
  }
  const auto socket = ParseListenAddress("unix:/run/qsweep.sock");
  QSWEEP_ASSERT_OK(socket);
  EXPECT_EQ(socket->socket_path, "/run/qsweep.sock");
  EXPECT_FALSE(socket->leaves_machine);
}

TEST(ParseListenAddress, KnowsWhatOthersMayReach) {
  for (const char* text :
       {"0.0.0.0:7680", "[::]:7680", ":7680", "10.0.0.1:7680",
        "127.example.org:7680", "127.0.0.1.example.org:7680", "127.1:7680",
        "1270.0.0.1:7680", "128.0.0.1:7680", "localhost.example.org:7680"}) {
    const auto listen = ParseListenAddress(text);
    QSWEEP_ASSERT_OK(listen);
    EXPECT_TRUE(listen->leaves_machine) << text;
  }
}

TEST(ParseListenAddress, RefusesWhatIsNoAddress) {
  for (const char* text : {"", "localhost", "127.0.0.1:", "127.0.0.1:65536",
                           "127.0.0.1:-1", "127.0.0.1:http"}) {
    EXPECT_EQ(CodeOf(ParseListenAddress(text)), "QS1004") << text;
  }
}

}  // namespace
}  // namespace qsweep::testing
