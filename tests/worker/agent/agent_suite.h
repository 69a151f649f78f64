#ifndef QSWEEP_TESTS_WORKER_AGENT_AGENT_SUITE_H_
#define QSWEEP_TESTS_WORKER_AGENT_AGENT_SUITE_H_

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <signal.h>
#include <stdlib.h>
#include <string>

#include <gtest/gtest.h>

#include "common/base/digest.h"
#include "common/job/corpus.h"
#include "tests/support/temp_dir.h"
#include "tests/support/worker_script.h"
#include "worker/agent/agent.h"
#include "worker/agent/mailbox.h"

namespace qsweep {

// Of a socket path, for those that need one.
using MakeCoordinator =
    std::function<std::unique_ptr<WorkerScript>(const std::string& socket)>;

// An agent with the fake engine, and the coordinator's side of the protocol.
class AgentTest : public ::testing::TestWithParam<MakeCoordinator> {
 protected:
  AgentTest() {
    signal(SIGPIPE, SIG_IGN);
    for (const char* knob : {"QSWEEP_FAKE_DELAY_MS", "QSWEEP_FAKE_DIE_ON",
                             "QSWEEP_FAKE_HANG_ON"}) {
      unsetenv(knob);
    }
    std::ofstream(dir_ / "model") << "weights";
    service_ = GetParam()(dir_ / "sock");
  }

  std::unique_ptr<Agent> Start() {
    AgentOptions options;
    options.directory = dir_.path();
    options.engine = {.program = QSWEEP_BINARY_DIR "/tests/fake_qengine",
                      .arguments = {"serve"}};
    options.settings.hello.set_worker_uuid("0123456789abcdef");
    options.settings.goodbye_limit = goodbye_limit_;
    options.settings.control = control_;
    options.spool.capacity_bytes = spool_bytes_;
    options.keep_identity = [this](const WorkerUuid& uuid) {
      kept_uuids_.Put(uuid.bytes());
      return absl::OkStatus();
    };
    auto agent = Agent::Start(options, service_->MakeClient());
    EXPECT_TRUE(agent.ok()) << agent.status();
    return *std::move(agent);
  }

  // Answers the hello.
  void Welcome() {
    service_->AwaitState([](const auto& s) { return s.has_hello(); });
    v1::DesiredState state = Desired(0);
    state.mutable_welcome()->set_session_id("session 16 bytes");
    state.mutable_welcome()->set_heartbeat_ms(100);
    state.mutable_welcome()->set_lease_ttl_ms(60'000);
    state.mutable_welcome()->set_reconnect_backoff_max_ms(50);
    service_->Push(state);
  }
  v1::DesiredState Desired(uint64_t task, uint64_t epoch = 1) {
    v1::DesiredState state;
    state.set_state_seq(++seq_);
    state.set_beat_ack(1'000'000);
    if (task == 0) {
      return state;
    }
    v1::DesiredLease& lease = *state.add_leases();
    lease.set_task_id(task);
    lease.set_epoch(epoch);
    v1::TaskSpec& spec = *lease.mutable_spec();
    spec.set_task_id(task);
    spec.set_content_key("key");
    spec.set_model_digest(Digest::Of("model").bytes());
    spec.mutable_model()->set_path(dir_ / "model");
    v1::LanguageCorpus corpus;
    corpus.set_language("eng");
    corpus.add_documents()->set_text("text");
    spec.add_languages()->set_language("eng");
    spec.mutable_languages(0)->set_artifact_digest(
        service_->AddArtifact(SerializeLanguageCorpus(corpus)).bytes());
    spec.add_configurations()->set_digest("configuration");
    spec.add_documents()->set_digest("document");
    return state;
  }
  static void End(Agent& agent) {
    agent.Shutdown("test");
    EXPECT_TRUE(agent.Wait().ok());
  }

  const testing::TempDir dir_;
  std::unique_ptr<WorkerScript> service_;
  Control control_ = Control::kStream;
  size_t spool_bytes_ = size_t{1} << 20;
  Mailbox<std::string> kept_uuids_;
  absl::Duration goodbye_limit_ = absl::Milliseconds(50);
  uint64_t seq_ = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_TESTS_WORKER_AGENT_AGENT_SUITE_H_
