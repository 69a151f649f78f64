#ifndef QSWEEP_TESTS_SUPPORT_FAULTY_STORE_H_
#define QSWEEP_TESTS_SUPPORT_FAULTY_STORE_H_

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/store/store.h"

namespace qsweep::testing {

// A Store that fails on demand and is the real one otherwise. Single-thread.
class FaultyStore : public Store {
 public:
  enum class Fault {
    kBeforeCommit,  // nothing is written
    kAfterCommit,   // everything is written, the answer is an error
    kLoad,
    kReadStatuses,  // and if it is DATA_LOSS, the store is broken ever after
    kIdle,
    kRestoreReserve,
  };

  explicit FaultyStore(std::unique_ptr<Store> store)
      : store_(std::move(store)) {}

  // The next call of that kind returns status.
  void FailNext(Fault fault, absl::Status status) {
    faults_.emplace_back(fault, std::move(status));
  }
  void ClearFaults() { faults_.clear(); }
  int64_t num_commits() const { return num_commits_; }

  absl::StatusOr<StateSnapshot> Load() override {
    absl::Status status = Take(Fault::kLoad);
    return status.ok() ? store_->Load() : status;
  }
  absl::Status Commit(std::span<const Mutation> batch) override {
    if (std::ranges::none_of(batch, IsDurable)) {
      return store_->Commit(batch);
    }
    if (absl::Status status = Take(Fault::kBeforeCommit); !status.ok()) {
      return status;
    }
    const absl::Status committed = store_->Commit(batch);
    if (!committed.ok()) {
      return committed;
    }
    ++num_commits_;
    return Take(Fault::kAfterCommit);
  }

  absl::Status Health() const override {
    return broken_.ok() ? store_->Health() : broken_;
  }
  absl::StatusOr<std::vector<v1::RowStatus>> MeasuredStatuses(
      absl::string_view evaluation, std::span<const Digest> configurations,
      std::span<const Digest> documents) override {
    if (absl::Status status = Take(Fault::kReadStatuses); !status.ok()) {
      if (absl::IsDataLoss(status)) {
        broken_ = status;
      }
      return status;
    }
    return store_->MeasuredStatuses(evaluation, configurations, documents);
  }
  absl::StatusOr<std::vector<std::optional<StoredRow>>> ReadMeasurements(
      absl::string_view evaluation, std::span<const Digest> configurations,
      std::span<const Digest> documents) override {
    return store_->ReadMeasurements(evaluation, configurations, documents);
  }
  absl::StatusOr<std::vector<std::vector<Digest>>> ReadCodes(
      std::span<const Digest> configurations) override {
    return store_->ReadCodes(configurations);
  }
  absl::StatusOr<int64_t> CountSkipped(
      JobNumber job, absl::string_view evaluation,
      std::span<const SkippedKey> more) override {
    return store_->CountSkipped(job, evaluation, more);
  }
  absl::StatusOr<int64_t> CountMoreSkipped(
      JobNumber job, absl::string_view evaluation,
      std::span<const SkippedKey> more) override {
    return store_->CountMoreSkipped(job, evaluation, more);
  }
  absl::StatusOr<v1::TaskSpec> ReadTaskSpec(TaskId task) override {
    return store_->ReadTaskSpec(task);
  }
  absl::StatusOr<StoredJob> ReadJob(JobNumber job) override {
    return store_->ReadJob(job);
  }
  absl::StatusOr<v1::JobPlan> ReadPlan(JobNumber job) override {
    return store_->ReadPlan(job);
  }
  absl::StatusOr<std::shared_ptr<const v1::ModelDescription>> ReadModel(
      const Digest& digest) override {
    return store_->ReadModel(digest);
  }
  absl::StatusOr<std::shared_ptr<const v1::Corpus>> ReadCorpus(
      const Digest& digest) override {
    return store_->ReadCorpus(digest);
  }
  absl::StatusOr<std::vector<v1::DurableEvent>> ReadEvents(JobNumber job,
                                                           EventSeq after,
                                                           int limit) override {
    return store_->ReadEvents(job, after, limit);
  }
  absl::StatusOr<std::vector<bool>> HasArtifacts(
      std::span<const Digest> digests) override {
    return store_->HasArtifacts(digests);
  }
  absl::StatusOr<std::vector<WorkerUuid>> UnusedWorkers() override {
    return store_->UnusedWorkers();
  }
  absl::StatusOr<bool> HasDuplicate(TaskId task, Epoch epoch,
                                    const Digest& payload_digest) override {
    return store_->HasDuplicate(task, epoch, payload_digest);
  }
  absl::Status Idle() override {
    absl::Status status = Take(Fault::kIdle);
    return status.ok() ? store_->Idle() : status;
  }
  absl::StatusOr<bool> Purge(int rows) override { return store_->Purge(rows); }
  absl::Status ReleaseReserve() override { return store_->ReleaseReserve(); }
  absl::Status RestoreReserve() override {
    absl::Status status = Take(Fault::kRestoreReserve);
    return status.ok() ? store_->RestoreReserve() : status;
  }
  absl::StatusOr<Info> GetInfo() override { return store_->GetInfo(); }

 private:
  absl::Status Take(Fault fault) {
    for (auto it = faults_.begin(); it != faults_.end(); ++it) {
      if (it->first == fault) {
        absl::Status status = it->second;
        faults_.erase(it);
        return status;
      }
    }
    return absl::OkStatus();
  }

  std::unique_ptr<Store> store_;
  absl::Status broken_;
  std::vector<std::pair<Fault, absl::Status>> faults_;
  int64_t num_commits_ = 0;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_FAULTY_STORE_H_
