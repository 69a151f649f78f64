// The agent without gRPC, whose packaged library ThreadSanitizer cannot look
// into: all of its own threads.
#include "tests/support/scripted_worker_clients.h"
#include "tests/worker/agent/agent_suite.h"

namespace qsweep {
namespace {

INSTANTIATE_TEST_SUITE_P(InProcess, AgentTest,
                         ::testing::Values([](const std::string& socket) {
                           return std::make_unique<ScriptedWorkerClients>(
                               socket);
                         }));

}  // namespace
}  // namespace qsweep
