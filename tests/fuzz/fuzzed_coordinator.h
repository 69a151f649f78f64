#ifndef QSWEEP_TESTS_FUZZ_FUZZED_COORDINATOR_H_
#define QSWEEP_TESTS_FUZZ_FUZZED_COORDINATOR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/loop.h"
#include "tests/fuzz/expect.h"
#include "tests/sim/memory_vfs.h"
#include "tests/support/simulated_clock.h"

namespace qsweep::fuzz {

// A stream of a worker: keeps the session and the leases it was told last.
class FuzzedLink : public WorkerLink {
 public:
  void Send(v1::DesiredState state) override;
  void Close(absl::Status status) override;

  bool closed() const { return closed_; }
  const std::string& session() const { return session_; }
  const v1::DesiredState& state() const { return state_; }

 private:
  bool closed_ = false;
  std::string session_;
  v1::DesiredState state_;
};

// A watcher that takes so many events, then refuses.
class FuzzedSink : public WatchSink {
 public:
  explicit FuzzedSink(size_t capacity) : capacity_(capacity) {}
  bool Send(v1::WatchEvent event) override;
  int Room() override { return 100; }
  void Close(absl::Status status) override;

 private:
  size_t capacity_;
  bool refused_ = false;
  bool closed_ = false;
  uint64_t last_job_seq_ = 0;
};

// The real loop, core and SQL on a disk in memory, under a clock that stands.
// It has the corpus that requests name; the disk is a copy of one that was made
// once, since an input may be a few messages.
// Whatever it is sent, after each step: the step succeeded, the invariants
// hold, no call was answered twice or with a defect; in the end every call was
// answered, and the disk holds the state. Single-thread.
class FuzzedCoordinator {
 public:
  FuzzedCoordinator() : FuzzedCoordinator(&CleanDisk()) {}
  ~FuzzedCoordinator();

  Loop& loop() { return *loop_; }
  void Advance(absl::Duration duration) { clock_.Advance(duration); }
  void Step();
  // As kill -9, then a new process: calls and streams are gone.
  void Restart();
  // What the disk holds is the state.
  void CheckDisk();
  // Ends it; every call must have its answer.
  void End();

  // A reply to hand to the loop.
  template <typename Response>
  Reply<Response> Answer() {
    ++asked_;
    return [this, life = life_, answered = std::make_shared<bool>(false)](
               const absl::StatusOr<Response>& response) {
      Expect(life == life_, "a call of an earlier process is answered");
      Expect(!*answered, "a call is answered twice");
      *answered = true;
      ++answered_;
      CheckAnswer(response.status());
    };
  }

 private:
  // disk: what to begin with; null: nothing.
  explicit FuzzedCoordinator(const sim::MemoryVfs* disk);
  // A disk with the corpus and nothing else.
  static const sim::MemoryVfs& CleanDisk();
  void AddCorpus();
  void Open();
  static void CheckAnswer(const absl::Status& status);

  sim::MemoryVfs disk_;
  testing::SimulatedClock clock_;
  Store* store_ = nullptr;  // the loop's
  std::unique_ptr<Loop> loop_;
  int life_ = 0;
  int64_t asked_ = 0;
  int64_t answered_ = 0;
};

}  // namespace qsweep::fuzz

#endif  // QSWEEP_TESTS_FUZZ_FUZZED_COORDINATOR_H_
