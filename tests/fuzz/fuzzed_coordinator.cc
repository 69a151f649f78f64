#include "tests/fuzz/fuzzed_coordinator.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"

#include "common/base/check.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/fuzz/no_reserve.h"
#include "tests/support/sweep_requests.h"

namespace qsweep::fuzz {
void FuzzedLink::Send(v1::DesiredState state) {
  Expect(!closed_, "a state on a closed stream");
  Expect(state.state_seq() > state_.state_seq() || !state_.state_seq(),
         "a state that is older than the one before");
  if (state.has_welcome()) {
    session_ = state.welcome().session_id();
  }
  state_ = std::move(state);
}

void FuzzedLink::Close(absl::Status status) {
  Expect(!closed_, "a stream is closed twice");
  // What a worker sends is refused by name, or the database would have to.
  Expect(!absl::IsInternal(status), "a report that the store cannot take");
  closed_ = true;
}

bool FuzzedSink::Send(v1::WatchEvent event) {
  Expect(!refused_ && !closed_, "an event for a watcher that is gone");
  if (capacity_ == 0) {
    refused_ = true;
    return false;
  }
  --capacity_;
  if (event.has_durable()) {
    Expect(event.durable().job_seq() > last_job_seq_, "an event comes late");
    last_job_seq_ = event.durable().job_seq();
  }
  return true;
}

void FuzzedSink::Close(absl::Status status) {
  Expect(!closed_, "a watch is closed twice");
  Expect(!absl::IsInternal(status), "a watch that is a defect");
  closed_ = true;
}

FuzzedCoordinator::FuzzedCoordinator(const sim::MemoryVfs* disk) : disk_(1) {
  if (disk != nullptr) {
    disk_.CopyFilesOf(*disk);
  }
  Open();
}
FuzzedCoordinator::~FuzzedCoordinator() {
  ++life_;
  loop_.reset();
}

const sim::MemoryVfs& FuzzedCoordinator::CleanDisk() {
  static const auto* const kDisk = [] {
    FuzzedCoordinator first(nullptr);
    first.AddCorpus();
    first.End();
    first.loop_.reset();  // closes the database
    auto* disk = new sim::MemoryVfs(1);
    disk->CopyFilesOf(first.disk_);
    return disk;
  }();
  return *kDisk;
}

void FuzzedCoordinator::Open() {
  auto store = OpenSqliteStore({.directory = "/coordinator",
                                .vfs = disk_.name(),
                                .reserve = std::make_unique<NoReserve>(),
                                .check_pages = false});
  if (!store.ok()) {
    Fail("the store does not open: " + store.status().ToString());
  }
  store_ = store->get();
  loop_ = std::make_unique<Loop>(*std::move(store), Settings(), clock_, 7);
  const absl::Status started = loop_->Start();
  if (!started.ok()) {
    Fail("the loop does not start: " + started.ToString());
  }
}

void FuzzedCoordinator::Step() {
  const absl::Status status = loop_->Step(clock_.SteadyNow());
  if (!status.ok()) {
    Fail("a step failed: " + status.ToString());
  }
  const std::vector<std::string> problems = CheckInvariants(loop_->state());
  if (!problems.empty()) {
    Fail("invariants: " + absl::StrJoin(problems, "; "));
  }
}

void FuzzedCoordinator::Restart() {
  ++life_;
  asked_ = answered_ = 0;
  disk_.KillProcess();
  loop_.reset();
  disk_.StartProcess();
  Open();
}

void FuzzedCoordinator::CheckDisk() {
  auto snapshot = store_->Load();
  Expect(snapshot.ok(), "what was stored cannot be loaded");
  const State stored(*std::move(snapshot));
  Expect(stored.DumpDurable() == loop_->state().DumpDurable(),
         "the disk does not hold the state");
}

void FuzzedCoordinator::End() {
  loop_->End(absl::OkStatus());
  Expect(asked_ == answered_, "a call was never answered");
}

// A defect shows as an error no caller could cause, or as a batch the database
// did not take.
void FuzzedCoordinator::CheckAnswer(const absl::Status& status) {
  if (absl::IsInternal(status) || absl::IsUnknown(status) ||
      absl::IsDataLoss(status) ||
      absl::StartsWith(status.message(), "not stored")) {
    Fail("answered with " + status.ToString());
  }
}

void FuzzedCoordinator::AddCorpus() {
  constexpr int kUnits = 3;
  const CorpusData data = testing::SmallCorpus(kUnits);
  for (size_t i = 0; i < data.artifacts.size(); ++i) {
    loop_->PostArtifact(Digest::Of(data.artifacts[i]), data.artifacts[i],
                        Answer<v1::PutArtifactResponse>());
  }
  v1::AddCorpusRequest request;
  *request.mutable_corpus() = data.corpus;
  loop_->Post(Caller{}, request, Answer<v1::AddCorpusResponse>());
  Step();
}

}  // namespace qsweep::fuzz
