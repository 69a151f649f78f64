#ifndef QSWEEP_TESTS_SUPPORT_LOOP_HARNESS_H_
#define QSWEEP_TESTS_SUPPORT_LOOP_HARNESS_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "coordinator/loop.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/support/faulty_store.h"
#include "tests/support/simulated_clock.h"
#include "tests/support/state_builder.h"
#include "tests/support/sweep_requests.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {

// A worker's end of an Attach stream: keeps what it was sent.
class RecordingLink : public WorkerLink {
 public:
  void Send(v1::DesiredState state) override {
    QSWEEP_CHECK(!closed);
    states.push_back(std::move(state));
  }
  void Close(absl::Status status) override {
    QSWEEP_CHECK(!closed);
    closed = std::move(status);
  }

  std::vector<v1::DesiredState> states;
  std::optional<absl::Status> closed;
};

class RecordingSink : public WatchSink {
 public:
  bool Send(v1::WatchEvent event) override {
    QSWEEP_CHECK(!closed);
    if (events.size() >= capacity) {
      return false;
    }
    events.push_back(std::move(event));
    return true;
  }
  int Room() override { return room; }
  void Close(absl::Status status) override {
    QSWEEP_CHECK(!closed);
    closed = std::move(status);
  }
  // "snapshot", "progress" or the kind of a durable event.
  std::vector<std::string> Kinds() const {
    std::vector<std::string> kinds;
    for (const v1::WatchEvent& event : events) {
      kinds.push_back(event.has_snapshot()   ? "snapshot"
                      : event.has_progress() ? "progress"
                                             : event.durable().kind());
    }
    return kinds;
  }

  size_t capacity = 1'000'000;
  int room = 1000;
  std::vector<v1::WatchEvent> events;
  std::optional<absl::Status> closed;
};

// A coordinator without threads and sockets: the real loop and the real store
// in a folder of its own, under a clock that stands.
class LoopHarness {
 public:
  // sql: of the database that is there at first; empty: there is none.
  explicit LoopHarness(const Settings& settings = {},
                       const std::string& sql = "")
      : settings_(settings) {
    if (!sql.empty()) {
      auto database = Database::Open(DatabasePath(dir_.path()),
                                     Database::Mode::kReadWriteCreate);
      QSWEEP_CHECK(database.ok() && database->Execute(sql).ok());
    }
    Open();
  }

  Loop& loop() { return *loop_; }
  const std::string& directory() const { return dir_.path(); }
  SimulatedClock& clock() { return clock_; }
  FaultyStore& store() { return *store_; }
  const State& state() const { return loop_->state(); }

  absl::Status Step() { return loop_->Step(clock_.SteadyNow()); }
  absl::Status StepAfter(absl::Duration duration) {
    clock_.Advance(duration);
    return Step();
  }
  // As kill -9: nothing is said to anyone. Then a new process on the folder.
  void Crash() {
    loop_.reset();
    Open();
  }
  void Crash(const Settings& settings) {
    settings_ = settings;
    Crash();
  }

  // Posts, steps, and hands back the answer; nothing: none yet.
  template <typename Response, typename Request>
  std::optional<absl::StatusOr<Response>> Call(Request request) {
    auto answer = std::make_shared<std::optional<absl::StatusOr<Response>>>();
    const auto reply = [answer](absl::StatusOr<Response> r) {
      *answer = std::move(r);
    };
    if constexpr (requires { loop_->Post(Caller{}, request, reply); }) {
      loop_->Post(Caller{}, std::move(request), reply);
    } else {
      loop_->Post(std::move(request), reply);
    }
    last_step_ = Step();
    return *answer;
  }
  template <typename Response, typename Request>
  std::optional<absl::StatusOr<Response>> CallAs(const Caller& caller,
                                                 Request request) {
    auto answer = std::make_shared<std::optional<absl::StatusOr<Response>>>();
    loop_->Post(
        caller, std::move(request),
        [answer](absl::StatusOr<Response> r) { *answer = std::move(r); });
    last_step_ = Step();
    return *answer;
  }
  absl::StatusOr<v1::SubmitJobResponse> Submit(const SweepOptions& options) {
    return *Call<v1::SubmitJobResponse>(SweepRequest(options));
  }
  v1::CommitResultResponse::One Commit(const v1::ResultEnvelope& envelope);
  // Uploads SmallCorpus.
  void AddCorpus(int units);
  const absl::Status& last_step() const { return last_step_; }

 private:
  void Open() {
    auto store = OpenSqliteStore({.directory = dir_.path()});
    QSWEEP_CHECK(store.ok());
    auto faulty = std::make_unique<FaultyStore>(*std::move(store));
    store_ = faulty.get();
    loop_ = std::make_unique<Loop>(std::move(faulty), settings_, clock_, 7);
    QSWEEP_CHECK(loop_->Start().ok());
  }

  TempDir dir_;
  SimulatedClock clock_;
  Settings settings_;
  FaultyStore* store_ = nullptr;
  std::unique_ptr<Loop> loop_;
  absl::Status last_step_;
};

inline v1::CommitResultResponse::One LoopHarness::Commit(
    const v1::ResultEnvelope& envelope) {
  v1::CommitResultRequest request;
  *request.add_results() = envelope;
  std::optional<absl::StatusOr<v1::CommitResultResponse>> answer;
  loop_->Post(Caller{}, request,
              [&answer](absl::StatusOr<v1::CommitResultResponse> r) {
                answer = std::move(r);
              });
  last_step_ = Step();
  QSWEEP_CHECK(answer && answer->ok());
  return (*answer)->results(0);
}

inline void LoopHarness::AddCorpus(int units) {
  const CorpusData data = SmallCorpus(units);
  for (size_t i = 0; i < data.artifacts.size(); ++i) {
    loop_->PostArtifact(
        *Digest::FromBytes(
            data.corpus.languages(static_cast<int>(i)).artifact_digest()),
        data.artifacts[i], [](absl::StatusOr<v1::PutArtifactResponse> r) {
          QSWEEP_CHECK(r.ok());
        });
  }
  v1::AddCorpusRequest request;
  *request.mutable_corpus() = data.corpus;
  const auto answer = Call<v1::AddCorpusResponse>(request);
  QSWEEP_CHECK(answer && answer->ok());
}

// Attaches a worker; the DesiredStates come to the link.
inline std::shared_ptr<RecordingLink> Attach(LoopHarness& harness,
                                             const std::string& name,
                                             uint64_t boot_seq = 1) {
  auto link = std::make_shared<RecordingLink>();
  v1::WorkerState report;
  *report.mutable_hello() = MakeHello(name, {.boot_seq = boot_seq});
  report.set_credits(2);
  harness.loop().PostAttach(Caller{}, report, link);
  QSWEEP_CHECK(harness.Step().ok());
  return link;
}

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_LOOP_HARNESS_H_
