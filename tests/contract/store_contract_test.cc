// What every Store promises, whatever keeps the bytes.
#include <filesystem>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/state.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/support/error_matchers.h"
#include "tests/support/faulty_store.h"
#include "tests/support/sweep_batches.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

struct Implementation {
  const char* name;
  std::function<absl::StatusOr<std::unique_ptr<Store>>(const std::string&)>
      open;
};

void PrintTo(const Implementation& implementation, std::ostream* out) {
  *out << implementation.name;
}

absl::StatusOr<std::unique_ptr<Store>> OpenFile(const std::string& directory) {
  return OpenSqliteStore({.directory = directory});
}

absl::StatusOr<std::unique_ptr<Store>> OpenFaulty(
    const std::string& directory) {
  absl::StatusOr<std::unique_ptr<Store>> store = OpenFile(directory);
  if (!store.ok()) {
    return store.status();
  }
  return std::make_unique<FaultyStore>(*std::move(store));
}

class StoreContract : public ::testing::TestWithParam<Implementation> {
 protected:
  void Open(const std::string& directory) {
    absl::StatusOr<std::unique_ptr<Store>> store = GetParam().open(directory);
    QSWEEP_ASSERT_OK(store);
    store_ = *std::move(store);
  }
  void SetUp() override { Open(directory_.path()); }
  void Reopen() {
    store_.reset();
    Open(directory_.path());
  }

  // Applies to a State and commits, as the loop does.
  void Commit(const std::vector<Mutation>& batch) {
    for (const Mutation& mutation : batch) {
      state_.Apply(mutation);
    }
    QSWEEP_ASSERT_OK(store_->Commit(batch));
  }
  void CommitAll(const std::vector<std::vector<Mutation>>& batches) {
    for (const std::vector<Mutation>& batch : batches) {
      Commit(batch);
    }
  }
  std::string Reloaded() {
    absl::StatusOr<StateSnapshot> snapshot = store_->Load();
    EXPECT_EQ(snapshot.status(), absl::OkStatus());
    return State(*std::move(snapshot)).DumpDurable();
  }

  TempDir directory_;
  std::unique_ptr<Store> store_;
  State state_;
};

TEST_P(StoreContract, LoadsAnEmptyState_WhenNew) {
  EXPECT_EQ(Reloaded(), State().DumpDurable());
}

TEST_P(StoreContract, ReloadsWhatWasApplied_AfterEveryBatch) {
  for (const std::vector<Mutation>& batch : WholeSweep()) {
    Commit(batch);
    EXPECT_EQ(Reloaded(), state_.DumpDurable());
  }
}

TEST_P(StoreContract, ReloadsTokens) {
  Token join{.id = TokenId(1),
             .secret = Digest::Of("join"),
             .kind = v1::TOKEN_KIND_JOIN,
             .role = v1::ROLE_WORKER,
             .name = "lab",
             .reusable = true,
             .lifetime = absl::Hours(48),
             .created_by = "socket",
             .created_at = absl::FromUnixSeconds(1'700'000'000),
             .expires_at = absl::FromUnixSeconds(1'700'003'600)};
  Token access{.id = TokenId(2),
               .secret = Digest::Of("access"),
               .kind = v1::TOKEN_KIND_ACCESS,
               .role = v1::ROLE_WORKER,
               .joined_with = TokenId(1),
               .created_by = "token/1",
               .created_at = absl::FromUnixSeconds(1'700'000'001)};
  Commit({TokenAdded{join}, TokenAdded{access},
          AuditRecorded{.time = access.created_at,
                        .actor = "token/1",
                        .action = "joined",
                        .subject = "token/2"}});
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
  EXPECT_NE(Reloaded(), State().DumpDurable());
  Commit({TokenRevoked{.token = TokenId(2),
                       .revoked_at = absl::FromUnixSeconds(1'700'000'002)}});
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
}

TEST_P(StoreContract, ReloadsEveryEndOfALease) {
  CommitAll({StartBatch(1), CorpusBatch(), SubmitBatch(1), AttachBatch()});
  int64_t epoch = 0;
  for (const LeaseEnd end : {LeaseEnd::kFailed, LeaseEnd::kStalled,
                             LeaseEnd::kLost, LeaseEnd::kPreempted}) {
    Commit(LeaseBatch(1, ++epoch));
    EXPECT_EQ(Reloaded(), state_.DumpDurable());
    LeaseEnded ended;
    ended.task = TaskId(1);
    ended.epoch = Epoch(epoch);
    ended.end = end;
    ended.to = v1::TASK_STATE_BACKOFF;
    ended.reason = "why";
    ended.backoff = absl::Milliseconds(1500);
    ended.ended_at = absl::FromUnixSeconds(1'700'000'100);
    Commit({ended});
    EXPECT_EQ(Reloaded(), state_.DumpDurable());
    Commit({TaskStateChanged{.task = TaskId(1), .to = v1::TASK_STATE_READY}});
  }
  Commit({TaskStateChanged{.task = TaskId(1),
                           .to = v1::TASK_STATE_QUARANTINED,
                           .reason = "budget spent"}});
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
  Commit({TaskStateChanged{
      .task = TaskId(1), .to = v1::TASK_STATE_READY, .new_budgets = true}});
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
  EXPECT_EQ(state_.task(TaskId(1)).history->failed, 0);
}

TEST_P(StoreContract, KeepsALateResult_WhenAnotherLeaseIsOpen) {
  CommitAll({StartBatch(1), CorpusBatch(), SubmitBatch(1), AttachBatch(),
             LeaseBatch(1, 1)});
  LeaseEnded lost;
  lost.task = TaskId(1);
  lost.epoch = Epoch(1);
  lost.end = LeaseEnd::kLost;
  lost.to = v1::TASK_STATE_READY;
  CommitAll({{lost}, LeaseBatch(1, 2), ResultBatch(1, 1)});
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
  Commit(DuplicateBatch(1, 2));
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
}

TEST_P(StoreContract, ForgetsARemovedSubscription) {
  CommitAll({StartBatch(1), CorpusBatch(), SubmitBatch(1)});
  Commit({JobTaskRemoved{JobNumber(1), TaskId(2)},
          TaskStateChanged{.task = TaskId(2), .to = v1::TASK_STATE_CANCELLED}});
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
}

TEST_P(StoreContract, KeepsACommit_WhenClosedAndOpenedAgain) {
  CommitAll(WholeSweep());
  Reopen();
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
}

TEST_P(StoreContract, KeepsACommit_WhenTheProcessDies) {
  CommitAll(WholeSweep());
  // What a crash leaves: database and WAL, never closed.
  TempDir crashed;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory_.path())) {
    if (entry.path().extension() != ".reserve") {
      std::filesystem::copy(entry.path(),
                            crashed / entry.path().filename().string());
    }
  }
  store_.reset();
  Open(crashed.path());
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
}

TEST_P(StoreContract, WritesNothing_WhenOneMutationIsRefused) {
  CommitAll({StartBatch(1), CorpusBatch()});
  std::vector<Mutation> batch = SubmitBatch(1);
  batch.push_back(TaskGroupAdded{TaskGroupId(1),  // its number is taken
                                 std::get<TaskGroupAdded>(batch[2]).prototype});
  EXPECT_EQ(store_->Commit(batch).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
  Commit(SubmitBatch(1));  // and the store goes on
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
}

// Rows get other numbers when they come again.
TEST_P(StoreContract, StoresUnderTheRightKeys_AfterAllOfThemWereRolledBack) {
  CommitAll({StartBatch(1)});
  const std::vector<std::vector<Mutation>> batches = {
      CorpusBatch(), SubmitBatch(1), AttachBatch(), LeaseBatch(1, 1),
      ResultBatch(1, 1)};
  std::vector<Mutation> refused;
  for (const std::vector<Mutation>& batch : batches) {
    refused.insert(refused.end(), batch.begin(), batch.end());
  }
  refused.push_back(TaskGroupAdded{
      TaskGroupId(1), std::get<TaskGroupAdded>(batches[1][2]).prototype});
  EXPECT_EQ(store_->Commit(refused).code(), absl::StatusCode::kInternal);

  auto other = std::make_shared<v1::Corpus>();
  other->set_name("other");
  other->set_digest(Digest::Of("other corpus").bytes());
  v1::CorpusLanguage* language = other->add_languages();
  language->set_language("eng");
  language->add_document_ids("1");
  language->add_document_digests(Digest::Of("other text").bytes());
  Commit({CorpusAdded{other}});
  CommitAll(batches);
  Reopen();
  const std::vector<Digest> configurations = {SweepConfigurations()[2]};
  EXPECT_THAT(
      *store_->MeasuredStatuses(kEvaluation, configurations, SweepDocuments()),
      ElementsAre(v1::ROW_STATUS_OK, v1::ROW_STATUS_OK,
                  v1::ROW_STATUS_UNSPECIFIED, v1::ROW_STATUS_UNSPECIFIED));
}

TEST_P(StoreContract, RefusesAReferenceToNothing) {
  QSWEEP_ASSERT_OK(store_->Commit(StartBatch(1)));
  EXPECT_EQ(store_->Commit(SubmitBatch(1)).code(),  // no such corpus
            absl::StatusCode::kInternal);
  EXPECT_EQ(store_->Commit(LeaseBatch(9, 1)).code(),
            absl::StatusCode::kInternal);
}

TEST_P(StoreContract, RefusesASecondRowOfAKey) {
  CommitAll({StartBatch(1), CorpusBatch(), SubmitBatch(1), SubmitBatch(2),
             AttachBatch(), LeaseBatch(1, 1), ResultBatch(1, 1),
             LeaseBatch(3, 1)});
  EXPECT_EQ(store_->Commit(ResultBatch(3, 1)).code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
}

TEST_P(StoreContract, AnswersWhatIsMeasured) {
  CommitAll({StartBatch(1), CorpusBatch(), SubmitBatch(1), AttachBatch(),
             LeaseBatch(2, 1), ResultBatch(2, 1)});
  const std::vector<Digest> configurations = {SweepConfigurations()[2],
                                              Digest::Of("unknown")};
  std::vector<Digest> documents = SweepDocuments();
  documents.push_back(documents[2]);  // asked for twice
  const auto statuses =
      store_->MeasuredStatuses(kEvaluation, configurations, documents);
  QSWEEP_ASSERT_OK(statuses);
  constexpr v1::RowStatus kNone = v1::ROW_STATUS_UNSPECIFIED;
  EXPECT_THAT(
      *statuses,
      ElementsAre(kNone, kNone, v1::ROW_STATUS_OK, v1::ROW_STATUS_ONE_TOKEN,
                  v1::ROW_STATUS_OK, kNone, kNone, kNone, kNone, kNone));
  EXPECT_THAT(*store_->MeasuredStatuses("hf-text@1", configurations, documents),
              Each(kNone));
}

TEST_P(StoreContract, CountsSkippedDocumentsOfAJobOnce) {
  CommitAll(WholeSweep());
  const std::vector<Digest> configurations = SweepConfigurations();
  const std::vector<Digest> documents = SweepDocuments();
  const auto count = [&](absl::string_view evaluation,
                         const std::vector<SkippedKey>& more) {
    return store_->CountSkipped(JobNumber(1), evaluation, more).value_or(-1);
  };
  // Stored under three configurations.
  EXPECT_EQ(count("", {}), 1);
  EXPECT_EQ(count(kEvaluation, {{configurations[0], documents[3]}}), 1);
  EXPECT_EQ(count(kEvaluation, {{configurations[0], documents[1]},
                                {configurations[1], documents[1]}}),
            2);
  // What is not the job's: a configuration, a document, an evaluation.
  EXPECT_EQ(count(kEvaluation, {{Digest::Of("other"), documents[1]},
                                {configurations[0], Digest::Of("other")}}),
            1);
  EXPECT_EQ(count("hf-text@1", {{configurations[0], documents[1]}}), 1);
  // What they add to it.
  const auto more = [&](const std::vector<SkippedKey>& keys) {
    return store_->CountMoreSkipped(JobNumber(1), kEvaluation, keys)
        .value_or(-1);
  };
  EXPECT_EQ(more({{configurations[0], documents[3]}}), 0);
  EXPECT_EQ(more({{configurations[0], documents[1]},
                  {configurations[1], documents[1]},
                  {configurations[1], documents[2]},
                  {Digest::Of("other"), documents[0]},
                  {configurations[0], Digest::Of("other")}}),
            2);
}

TEST_P(StoreContract, GivesRowsBackToTheLastBit) {
  CommitAll({StartBatch(1), CorpusBatch(), SubmitBatch(1), AttachBatch(),
             LeaseBatch(2, 1)});
  const std::vector<Mutation> result = ResultBatch(2, 1);
  Commit(result);
  const auto values = store_->ReadMeasurements(
      kEvaluation, SweepConfigurations(),
      std::vector<Digest>{SweepDocuments()[2], SweepDocuments()[3]});
  QSWEEP_ASSERT_OK(values);
  ASSERT_EQ(values->size(), 6u);
  const auto& rows = std::get<ResultCommitted>(result[0]).rows;
  for (size_t i = 0; i < rows.size(); ++i) {
    ASSERT_TRUE((*values)[i].has_value()) << i;
    EXPECT_EQ((*values)[i]->values.SerializeAsString(),
              rows[i].values.SerializeAsString());
    EXPECT_EQ((*values)[i]->engine, "engine-1");
    EXPECT_EQ((*values)[i]->device, "cpu");
  }
}

TEST_P(StoreContract, ReadsTheCodesOfConfigurations) {
  CommitAll({StartBatch(1), CorpusBatch(), SubmitBatch(1), AttachBatch(),
             LeaseBatch(1, 1), LeaseBatch(2, 1)});
  const auto codes = [&] {
    const auto read = store_->ReadCodes(std::vector<Digest>{
        SweepConfigurations()[1], SweepConfigurations()[2], Digest::Of("?")});
    EXPECT_TRUE(read.ok()) << read.status();
    return *read;
  };
  EXPECT_THAT(codes(), ElementsAre(IsEmpty(), IsEmpty(), IsEmpty()));
  Commit(ResultBatch(1, 1));
  const Digest first = Digest::Of("codes");
  EXPECT_THAT(codes(), ElementsAre(IsEmpty(), ElementsAre(first), IsEmpty()));
  std::vector<Mutation> others = ResultBatch(2, 1);
  const Digest second = Digest::Of("other codes");
  for (MeasuredRow& row : std::get<ResultCommitted>(others[0]).rows) {
    if (!row.values.codes().empty()) {
      row.values.set_codes(second.bytes());
    }
  }
  Commit(others);
  EXPECT_THAT(
      codes(),
      ElementsAre(IsEmpty(), UnorderedElementsAre(first, second), IsEmpty()));
}

TEST_P(StoreContract, ReadsWhatStateDoesNotHold) {
  CommitAll(WholeSweep());
  const auto job = store_->ReadJob(JobNumber(1));
  QSWEEP_ASSERT_OK(job);
  EXPECT_EQ(job->spec.name(), "sweep-1");
  const auto plan = store_->ReadPlan(JobNumber(1));
  QSWEEP_ASSERT_OK(plan);
  EXPECT_EQ(plan->measurements(), 12u);
  EXPECT_THAT(job->models, ElementsAre(SweepModel()));
  EXPECT_EQ(job->corpus, SweepCorpus());
  const auto task = store_->ReadTaskSpec(TaskId(2));  // DONE
  QSWEEP_ASSERT_OK(task);
  EXPECT_EQ(task->task_id(), 2u);
  ASSERT_EQ(task->documents_size(), 2);
  EXPECT_EQ(task->documents(1).digest(), SweepDocuments()[3].bytes());
  EXPECT_EQ(task->documents(1).language_index(), 1u);
  EXPECT_EQ(task->configurations_size(), 3);
  EXPECT_EQ((*store_->ReadModel(SweepModel()))->name(), "tiny");
  EXPECT_EQ((*store_->ReadCorpus(SweepCorpus()))->languages_size(), 2);
  EXPECT_THAT(*store_->HasArtifacts(std::vector<Digest>{
                  Digest::Of(SweepArtifact(1)), Digest::Of("none")}),
              ElementsAre(true, false));
  EXPECT_GT(store_->GetInfo()->database_bytes, 0);
}

// Others cannot be deleted: rows refer to them.
TEST_P(StoreContract, ForgetsWorkersThatNothingRefersTo) {
  CommitAll(WholeSweep());
  const std::vector<WorkerUuid> before = *store_->UnusedWorkers();
  const auto hello = std::make_shared<v1::Hello>();
  const WorkerUuid idle = *WorkerUuid::FromBytes(std::string(16, 'i'));
  CommitAll({{WorkerAttached{.worker = idle, .hello = hello}}});
  ASSERT_THAT(*store_->UnusedWorkers(), SizeIs(before.size() + 1));
  EXPECT_THAT(*store_->UnusedWorkers(), Contains(idle));
  QSWEEP_ASSERT_OK(store_->Commit({{WorkerForgotten{.worker = idle}}}));
  EXPECT_EQ(*store_->UnusedWorkers(), before);
  const StateSnapshot snapshot = *store_->Load();
  EXPECT_THAT(snapshot.workers, Not(IsEmpty()));
  for (const Worker& worker : snapshot.workers) {
    EXPECT_NE(worker.uuid, idle);
    if (std::ranges::find(before, worker.uuid) == before.end()) {
      EXPECT_EQ(
          store_->Commit({{WorkerForgotten{.worker = worker.uuid}}}).code(),
          absl::StatusCode::kInternal);
    }
  }
}

TEST_P(StoreContract, KnowsADuplicateByItsAttemptAndPayload) {
  for (const auto& batch : WholeSweep()) {
    QSWEEP_ASSERT_OK(store_->Commit(batch));
  }
  const auto batch = DuplicateBatch(1, 1);
  const Digest payload = std::get<DuplicateRecorded>(batch[0]).payload_digest;
  EXPECT_FALSE(*store_->HasDuplicate(TaskId(1), Epoch(1), payload));
  QSWEEP_ASSERT_OK(store_->Commit(batch));
  EXPECT_TRUE(*store_->HasDuplicate(TaskId(1), Epoch(1), payload));
  EXPECT_FALSE(*store_->HasDuplicate(TaskId(2), Epoch(1), payload));
  EXPECT_FALSE(*store_->HasDuplicate(TaskId(1), Epoch(1), Digest::Of("other")));
}

TEST_P(StoreContract, SaysWhatIsMissing) {
  EXPECT_EQ(CodeOf(store_->ReadJob(JobNumber(1))), "QS4020");
  EXPECT_EQ(CodeOf(store_->ReadPlan(JobNumber(1))), "QS4020");
  EXPECT_EQ(CodeOf(store_->ReadTaskSpec(TaskId(1))), "QS4021");
  EXPECT_EQ(CodeOf(store_->ReadCorpus(SweepCorpus())), "QS2113");
  EXPECT_EQ(store_->ReadModel(SweepModel()).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_P(StoreContract, ReadsEventsAboveANumber) {
  CommitAll({StartBatch(1), CorpusBatch(), SubmitBatch(1), SubmitBatch(2)});
  Commit({Event(1, 1, 1, "a"), Event(2, 2, 1, "b"), Event(1, 3, 2, "c"),
          Event(1, 4, 3, "d")});
  const auto events = store_->ReadEvents(JobNumber(1), EventSeq(1), 10);
  QSWEEP_ASSERT_OK(events);
  ASSERT_EQ(events->size(), 2u);
  EXPECT_EQ((*events)[0].kind(), "c");
  EXPECT_EQ((*events)[0].job_seq(), 2u);
  EXPECT_EQ((*events)[1].seq(), 4u);
  EXPECT_EQ(store_->ReadEvents(JobNumber(1), EventSeq(0), 1)->size(), 1u);
  EXPECT_EQ(store_->ReadEvents(JobNumber(1), EventSeq(4), 1)->size(), 0u);
  // A number of another job's event.
  const auto others = store_->ReadEvents(JobNumber(1), EventSeq(2), 10);
  QSWEEP_ASSERT_OK(others);
  ASSERT_EQ(others->size(), 2u);
  EXPECT_EQ((*others)[0].seq(), 3u);
  EXPECT_EQ(store_->ReadEvents(JobNumber(2), EventSeq(1), 10)->size(), 1u);
}

TEST_P(StoreContract, MovesACorpusName_WhenAddedWithOtherTexts) {
  CommitAll({StartBatch(1), CorpusBatch()});
  auto other = std::make_shared<v1::Corpus>();
  other->set_name("texts");
  other->set_digest(Digest::Of("other corpus").bytes());
  Commit({CorpusAdded{other}});
  Commit(CorpusBatch());  // and back, with documents that are stored
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
}

TEST_P(StoreContract, RefusesASecondWriter) {
  const absl::StatusOr<std::unique_ptr<Store>> second =
      GetParam().open(directory_.path());
  EXPECT_EQ(CodeOf(second), "QS4003");
  Commit(StartBatch(1));  // the first goes on
  store_.reset();
  Open(directory_.path());
}

TEST_P(StoreContract, CommitsWithoutTheReserve) {
  QSWEEP_EXPECT_OK(store_->ReleaseReserve());
  QSWEEP_EXPECT_OK(store_->ReleaseReserve());
  CommitAll(WholeSweep());
  QSWEEP_EXPECT_OK(store_->RestoreReserve());
  QSWEEP_EXPECT_OK(store_->Idle());
  EXPECT_EQ(Reloaded(), state_.DumpDurable());
}

INSTANTIATE_TEST_SUITE_P(
    All, StoreContract,
    ::testing::Values(Implementation{"File", OpenFile},
                      Implementation{"Decorated", OpenFaulty}),
    [](const auto& param_info) { return param_info.param.name; });

TEST(FaultyStore, LeavesNothingOrAll_AsAsked) {
  TempDir directory;
  auto opened = OpenFile(directory.path());
  QSWEEP_ASSERT_OK(opened);
  FaultyStore store(*std::move(opened));
  store.FailNext(FaultyStore::Fault::kBeforeCommit,
                 absl::InternalError("planted"));
  EXPECT_FALSE(store.Commit(StartBatch(1)).ok());
  EXPECT_EQ(store.Load()->coordinator_epoch, 0);
  store.FailNext(FaultyStore::Fault::kAfterCommit,
                 absl::UnavailableError("planted"));
  EXPECT_FALSE(store.Commit(StartBatch(1)).ok());
  EXPECT_EQ(store.Load()->coordinator_epoch, 1);
  store.FailNext(FaultyStore::Fault::kLoad, absl::DataLossError("planted"));
  EXPECT_FALSE(store.Load().ok());
  EXPECT_TRUE(store.Load().ok());
}

}  // namespace
}  // namespace qsweep::testing
