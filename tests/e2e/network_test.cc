// Workers behind a bad network: a router with NAT between them and the
// coordinator, all of it in namespaces of this process. TLS, as off loopback.
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/random.h"
#include "common/base/token_text.h"
#include "common/job/model_description_proto.h"
#include "tests/e2e/ledger.h"
#include "tests/e2e/local_cluster.h"
#include "tests/e2e/sweep_client.h"
#include "tests/support/error_matchers.h"
#include "tests/support/http2_buffering_proxy.h"
#include "tests/support/model_descriptions.h"
#include "tests/support/network_namespace.h"

namespace qsweep::testing {
namespace {

using ::testing::IsEmpty;

constexpr char kEngine[] = QSWEEP_BINARY_DIR "/tests/fake_qengine";
constexpr char kInit[] = QSWEEP_BINARY_DIR "/bin/qcoordinator";
// A twentieth of the defaults.
constexpr absl::Duration kHeartbeat = absl::Milliseconds(500);
constexpr absl::Duration kLeaseTtl = absl::Seconds(3);
constexpr absl::Duration kFailoverTtl = absl::Seconds(6);
// A worker is busy again within 25 s of the default timings; what TCP waits
// between repeats does not scale.
constexpr absl::Duration kBusyAgain = absl::Milliseconds(25'000 / 20 + 4'000);
constexpr absl::Duration kPatience = absl::Minutes(2);  // on a busy machine
constexpr const char* kWorkers[] = {"w1", "w2"};

// A client that submits one small sweep after the other.
class Load {
 public:
  // units: texts per language; each makes 24 tasks a sweep.
  Load(LocalCluster& cluster, int units) : cluster_(cluster) {
    model_.Write("model", "the fake engine only looks for it");
    std::map<std::string, std::vector<std::string>> texts;
    for (const char* language : {"deu", "eng", "fra"}) {
      for (int unit = 0; unit < units; ++unit) {
        texts[language].push_back(
            absl::StrCat("Article ", unit, " in ", language, "."));
      }
    }
    cluster.AddCorpus("corpus", texts);
    client_ = std::make_unique<SweepClient>(
        cluster.endpoint(), [this](int index) { return Job(index); }, ledger_);
  }

  void AwaitEnd() {
    client_->Stop();
    ASSERT_TRUE(AwaitTrue(kPatience, [this] { return client_->finished(); }))
        << cluster_.Logs();
    EXPECT_GE(client_->jobs(), 1);
    const std::string database = cluster_.coordinator_dir() + "/coordinator.db";
    EXPECT_THAT(ledger_.problems(), IsEmpty());
    EXPECT_THAT(FindViolations(database, ledger_.acknowledged()), IsEmpty());
    EXPECT_THAT(FindLeasesLostEarly(database, kLeaseTtl), IsEmpty());
  }

 private:
  v1::SubmitJobRequest Job(int index) const {
    v1::SubmitJobRequest request;
    request.set_job_uuid(SecureRandomBytes(16));
    v1::JobSpec& spec = *request.mutable_spec();
    spec.set_kind(v1::JOB_KIND_LAYER_SWEEP);
    spec.set_name(absl::StrCat("job-", index));
    spec.add_models()->set_path(model_ / "model");
    spec.add_quantizers(
        absl::StrCat("rtn:bits=", 2 + index % 5, ",group=", 8 << (index / 5)));
    spec.set_corpus("corpus");
    spec.set_reference("eng");
    *request.add_models() =
        ToProto(LlamaDescription("fake", {.layers = 6, .hidden = 64}));
    return request;
  }

  LocalCluster& cluster_;
  TempDir model_;
  Ledger ledger_;
  std::unique_ptr<SweepClient> client_;
};

LocalCluster::Options ClusterOptions() {
  LocalCluster::Options options;
  options.engine = kEngine;
  options.task_seconds = 1e-6;  // so small that each document is a task
  options.heartbeat = kHeartbeat;
  options.lease_ttl = kLeaseTtl;
  options.failover_ttl = kFailoverTtl;
  options.worker_environment = {{"QSWEEP_FAKE_DELAY_MS", "200"}};
  return options;
}

//   coordinator 10.77.1.1 -- qv: 10.77.1.2 router, NAT 10.77.2.1 -- qt: workers
class NetworkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (auto* network : {&coordinator_, &router_, &workers_}) {
      auto made = NetworkNamespace::Create();
      if (absl::IsPermissionDenied(made.status())) {
        GTEST_SKIP() << "needs root, to make network namespaces";
      }
      QSWEEP_ASSERT_OK(made);
      *network = *std::move(made);
    }
    auto link = TunLink::Create(*router_, *workers_, "qt");
    QSWEEP_ASSERT_OK(link);
    link_ = *std::move(link);
    QSWEEP_ASSERT_OK(coordinator_->Run(absl::StrCat(
        "ip link add qv type veth peer name qv netns ", router_->path(),
        " && ip address add 10.77.1.1/24 dev qv && ip link set qv up")));
    QSWEEP_ASSERT_OK(router_->Run(
        "ip address add 10.77.1.2/24 dev qv && ip link set qv up && "
        "ip address add 10.77.2.1/24 dev qt && ip link set qt up && "
        "echo 1 > /proc/sys/net/ipv4/ip_forward && "
        "echo 0 > /proc/sys/net/netfilter/nf_conntrack_tcp_loose && "
        "nft add table ip router && "
        "nft add chain ip router post "
        "'{ type nat hook postrouting priority 100; }' && "
        "nft add rule ip router post oifname qv masquerade && "
        "nft add chain ip router known "
        "'{ type filter hook forward priority 0; }' && "
        "nft add rule ip router known ct state invalid drop && "
        "nft add chain ip router fault "
        "'{ type filter hook forward priority 1; }'"));
    QSWEEP_ASSERT_OK(workers_->Run(
        "ip address add 10.77.2.2/24 dev qt && ip link set qt up && "
        "ip route add default via 10.77.2.1"));
  }

  // Everything runs and works.
  void StartCluster(int units) {
    LocalCluster::Options options = ClusterOptions();
    options.coordinator_flags = {"--listen", "10.77.1.1:7680"};
    options.coordinator_network = coordinator_->descriptor();
    options.worker_network = workers_->descriptor();
    options.worker_server = "10.77.1.1:7680";
    cluster_ = std::make_unique<LocalCluster>(options);
    const auto init = ChildProcess::Start(
        {.argv = {kInit, "init", "--dir", cluster_->coordinator_dir()},
         .log_path = cluster_->path() + "/init.log"});
    ASSERT_EQ(init->Wait(kPatience), 0) << cluster_->Logs();
    ASSERT_NO_FATAL_FAILURE(cluster_->StartCoordinator());
    const Secret secret = Secret::Make();
    v1::CreateTokenRequest request;
    request.set_secret_sha256(secret.digest().bytes());
    request.set_kind(v1::TOKEN_KIND_JOIN);
    request.set_role(v1::ROLE_WORKER);
    request.set_reusable(true);
    const auto made = cluster_->client().CreateToken(request);
    QSWEEP_ASSERT_OK(made);
    cluster_->options().worker_flags = {
        "--join",
        FormatToken(JoinTokenText{
            .ca = *Digest::FromBytes(made->ca_sha256()),
            .id = TokenId(static_cast<int64_t>(made->token().token_id())),
            .secret = secret})};
    for (const char* worker : kWorkers) {
      cluster_->StartWorker(worker, 1);
    }
    ASSERT_NO_FATAL_FAILURE(cluster_->AwaitWorkers(std::size(kWorkers)));
    load_ = std::make_unique<Load>(*cluster_, units);
  }

  int64_t ResultsOf(const std::string& worker) {
    return cluster_->QueryInteger(
        absl::StrCat("SELECT count(*) FROM attempts_v1 WHERE useful AND "
                     "worker = '",
                     worker, "'"));
  }
  int64_t LostLeases() {
    return cluster_->QueryInteger(
        "SELECT count(*) FROM attempts_v1 WHERE outcome = 'lost'");
  }
  // Until each worker has brought a result that it has not brought before.
  absl::Duration AwaitBusy(absl::Duration timeout) {
    const SteadyTime began = Clock::Real().SteadyNow();
    for (const char* worker : kWorkers) {
      const int64_t before = ResultsOf(worker);
      EXPECT_TRUE(
          AwaitTrue(timeout, [&] { return ResultsOf(worker) > before; }))
          << worker << " is idle" << cluster_->Logs();
    }
    return Clock::Real().SteadyNow() - began;
  }
  absl::Status Nft(const std::string& rule) {
    return router_->Run(
        absl::StrCat("nft add rule ip router fault '", rule, "'"));
  }
  absl::Status NoNft() {
    return router_->Run("nft flush chain ip router fault");
  }

  std::unique_ptr<NetworkNamespace> coordinator_;
  std::unique_ptr<NetworkNamespace> router_;
  std::unique_ptr<NetworkNamespace> workers_;
  std::unique_ptr<TunLink> link_;
  std::unique_ptr<LocalCluster> cluster_;
  std::unique_ptr<Load> load_;
};

struct NetworkFault {
  const char* name;
  std::function<absl::Status()> begin;
  std::function<absl::Status()> heal;
  absl::Duration lasts;
};

TEST_F(NetworkTest, LosesNothingAndIsBusyAgain_AfterEachFault) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(/*units=*/4));
  const auto cut = [this](bool down, bool up) {
    link_->Set({.cut = down}, {.cut = up});
    return absl::OkStatus();
  };
  const absl::Duration brief = kLeaseTtl / 2;  // 30 s of the defaults
  const absl::Duration longer = kLeaseTtl * 1.2;
  const NetworkFault faults[] = {
      {"a blackout", [&] { return cut(true, true); },
       [&] { return cut(false, false); }, brief},
      {"a blackout longer than a lease", [&] { return cut(true, true); },
       [&] { return cut(false, false); }, longer},
      {"nothing reaches the coordinator",
       [this] { return Nft("oifname qv drop"); }, [this] { return NoNft(); },
       longer},
      {"nothing reaches the workers", [this] { return Nft("oifname qt drop"); },
       [this] { return NoNft(); }, longer},
      {"a cut cable", [this] { return router_->Run("ip link set qv down"); },
       [this] { return router_->Run("ip link set qv up"); }, kLeaseTtl / 3},
      {"a black hole for large packets",
       [this] { return Nft("ip length > 500 drop"); },
       [this] { return NoNft(); }, longer},
      // Nothing heals it: what was connected is dead and does not know.
      {"the router forgets its connections",
       [this] { return router_->Run("conntrack -F"); },
       [] { return absl::OkStatus(); }, absl::ZeroDuration()},
  };
  AwaitBusy(kPatience);
  for (const NetworkFault& fault : faults) {
    SCOPED_TRACE(fault.name);
    const int64_t lost = LostLeases();
    QSWEEP_ASSERT_OK(fault.begin());
    AwaitTrue(fault.lasts, [] { return false; });
    QSWEEP_ASSERT_OK(fault.heal());
    const absl::Duration busy_after = AwaitBusy(kBusyAgain);
    std::printf(
        "%s: busy again %s after it healed, %ld leases lost\n", fault.name,
        absl::FormatDuration(absl::Trunc(busy_after, absl::Milliseconds(1)))
            .c_str(),
        static_cast<long>(LostLeases() - lost));
    if (fault.lasts < kLeaseTtl) {
      EXPECT_EQ(LostLeases(), lost) << "started again, its lease was good";
    }
  }
  load_->AwaitEnd();
}

TEST_F(NetworkTest, FinishesASweep_OnASlowLinkThatLosesAndReorders) {
  link_->SetBoth(
      {.delay = absl::Milliseconds(150), .jitter = absl::Milliseconds(40)});
  QSWEEP_ASSERT_OK(Nft("numgen random mod 100 < 5 drop"));
  QSWEEP_ASSERT_OK(router_->Run(
      "for device in qv qt; do tc qdisc add dev $device root tbf rate 1mbit "
      "burst 4kb latency 400ms || exit 1; done"));
  ASSERT_NO_FATAL_FAILURE(StartCluster(/*units=*/1));
  load_->AwaitEnd();
  EXPECT_GT(link_->packets(), 200);
}

// On sockets: no privilege is needed. No stream says a word, so whoever works
// polls.
TEST(BufferingProxy, MakesWorkersPoll) {
  LocalCluster cluster(ClusterOptions());
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  const std::string socket = cluster.path() + "/proxy";
  Http2BufferingProxy proxy(socket, cluster.path() + "/sock");
  cluster.options().worker_server = absl::StrCat("unix:", socket);
  cluster.StartWorker("w1", 1);
  ASSERT_NO_FATAL_FAILURE(cluster.AwaitWorkers(1));
  // It knows the heartbeat by now; from here on its stream is dead.
  proxy.SetBuffering(true);
  Load load(cluster, /*units=*/1);
  ASSERT_NO_FATAL_FAILURE(load.AwaitEnd());
}

}  // namespace
}  // namespace qsweep::testing
