#ifndef QSWEEP_TESTS_SUPPORT_FAKE_COORDINATOR_H_
#define QSWEEP_TESTS_SUPPORT_FAKE_COORDINATOR_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::testing {

// A coordinator in this process, behind real gRPC on a unix socket: it keeps
// jobs and corpora in memory, runs nothing, and does as a test tells it. The
// script is set before the first call; what was received is read after the
// last.
class FakeCoordinator {
 public:
  // Listens on unix:<dir>/.sock and writes <dir>/server.
  explicit FakeCoordinator(const std::string& dir);
  ~FakeCoordinator();

  struct Script {
    std::vector<v1::JobSummary> jobs;
    // What a watcher is told; each is followed by `after_events` becoming the
    // summary.
    std::vector<v1::WatchEvent> events;
    v1::JobSummary after_events;
    bool watch_until_cancelled = false;  // the job never ends
    absl::Status submit_error;  // instead of an answer; the job is kept
    std::vector<v1::MeasurementRow> rows;
    v1::QueryResponse query;
    v1::SampleTextsResponse samples;
    v1::GetResultsResponse results;
    std::vector<v1::TaskSummary> tasks;
    std::vector<v1::WorkerSummary> workers;
    std::vector<v1::Token> tokens;
    std::string ca_sha256;  // of a new token; empty: no certificate
  };
  Script& script();

  struct Received {
    std::vector<v1::SubmitJobRequest> submits;
    std::vector<v1::CancelJobRequest> cancels;
    std::vector<v1::Corpus> corpora;
    std::vector<std::string> artifacts;
    std::vector<v1::GetResultsRequest> results;
    std::vector<v1::SampleTextsRequest> samples;
    std::vector<v1::CreateTokenRequest> tokens;
    std::vector<v1::RevokeTokenRequest> revoked;
  };
  const Received& received() const;
  // Watchers so far, any thread.
  int num_watches() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_FAKE_COORDINATOR_H_
