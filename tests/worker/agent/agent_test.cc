// The agent with its coordinator over gRPC.
#include "tests/support/scripted_worker_service.h"
#include "tests/worker/agent/agent_suite.h"

namespace qsweep {
namespace {

INSTANTIATE_TEST_SUITE_P(OverGrpc, AgentTest,
                         ::testing::Values([](const std::string& socket) {
                           return std::make_unique<ScriptedWorkerService>(
                               socket);
                         }));

}  // namespace
}  // namespace qsweep
