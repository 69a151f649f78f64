#include "coordinator/store/sqlite_store.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "coordinator/store/backup.h"
#include "coordinator/store/codec.h"
#include "coordinator/store/database_file.h"
#include "coordinator/store/measured_rows.h"
#include "coordinator/store/mutation_writer.h"
#include "coordinator/store/row_ids.h"
#include "coordinator/store/sql.h"
#include "coordinator/store/state_loader.h"
#include "coordinator/store/wal_alarm.h"
#include "sqlite3.h"

namespace qsweep {
namespace {

constexpr int64_t kPageBytes = 4096;
// WAL sizes: checkpoint when idle, in passing, and shrink the file.
constexpr int64_t kIdlePages = (int64_t{1} << 20) / kPageBytes;
constexpr int64_t kPassivePages = (int64_t{8} << 20) / kPageBytes;
constexpr int64_t kTruncatePages = (int64_t{64} << 20) / kPageBytes;
// A database that takes long to check is checked while it is loaded.
constexpr uintmax_t kCheckedBeside = uintmax_t{64} << 20;

// quick_check on a thread and a connection of its own.
class PageCheck {
 public:
  explicit PageCheck(std::string path)
      : thread_([this, path = std::move(path)] {
          auto database = OpenReader(path);
          status_ =
              database.ok() ? CheckPages(*database, path) : database.status();
        }) {}
  ~PageCheck() { Wait().IgnoreError(); }

  absl::Status Wait() {
    if (thread_.joinable()) {
      thread_.join();
    }
    return status_;
  }

 private:
  absl::Status status_;  // written by the thread; ours once it is joined
  std::thread thread_;
};

class SqliteStore : public Store {
 public:
  // page_check: that of this database, which nobody waited for; may be null.
  SqliteStore(std::optional<FileLock> lock, Database database,
              std::unique_ptr<Reserve> reserve,
              std::shared_ptr<ReadGate> read_gate,
              std::unique_ptr<PageCheck> page_check)
      : lock_(std::move(lock)),
        reserve_(std::move(reserve)),
        read_gate_(std::move(read_gate)),
        page_check_(std::move(page_check)),
        database_(std::move(database)),
        statements_(database_),
        ids_(statements_),
        rows_(statements_, ids_),
        writer_(statements_, ids_) {
    sqlite3_wal_hook(
        database_.handle(),
        [](void* pages, sqlite3*, const char*, int size) {
          *static_cast<int64_t*>(pages) = size;
          return SQLITE_OK;
        },
        &wal_pages_);
  }
  ~SqliteStore() override {
    sqlite3_wal_hook(database_.handle(), nullptr, nullptr);
  }

  absl::StatusOr<StateSnapshot> Load() override {
    EndReads();
    QSWEEP_RETURN_IF_ERROR(Health());
    absl::StatusOr<StateSnapshot> snapshot = LoadState(statements_);
    if (page_check_ != nullptr) {
      fatal_ = page_check_->Wait();
      page_check_.reset();
      QSWEEP_RETURN_IF_ERROR(Health());
    }
    return snapshot;
  }

  absl::Status Health() const override {
    return fatal_.ok() ? statements_.lost() : fatal_;
  }
  absl::Status Commit(std::span<const Mutation> batch) override;
  absl::StatusOr<std::vector<v1::RowStatus>> MeasuredStatuses(
      absl::string_view evaluation, std::span<const Digest> configurations,
      std::span<const Digest> documents) override {
    QSWEEP_RETURN_IF_ERROR(BeginRead());
    return rows_.Statuses(evaluation, configurations, documents);
  }
  absl::StatusOr<std::vector<std::optional<StoredRow>>> ReadMeasurements(
      absl::string_view evaluation, std::span<const Digest> configurations,
      std::span<const Digest> documents) override {
    QSWEEP_RETURN_IF_ERROR(BeginRead());
    return rows_.Read(evaluation, configurations, documents);
  }
  absl::StatusOr<std::vector<std::vector<Digest>>> ReadCodes(
      std::span<const Digest> configurations) override {
    QSWEEP_RETURN_IF_ERROR(Health());
    return rows_.Codes(configurations);
  }
  absl::StatusOr<int64_t> CountSkipped(
      JobNumber job, absl::string_view evaluation,
      std::span<const SkippedKey> more) override {
    QSWEEP_RETURN_IF_ERROR(Health());
    return rows_.CountSkipped(job, evaluation, more);
  }
  absl::StatusOr<int64_t> CountMoreSkipped(
      JobNumber job, absl::string_view evaluation,
      std::span<const SkippedKey> more) override {
    QSWEEP_RETURN_IF_ERROR(Health());
    return rows_.CountMoreSkipped(job, evaluation, more);
  }
  absl::StatusOr<v1::TaskSpec> ReadTaskSpec(TaskId task) override;
  absl::StatusOr<StoredJob> ReadJob(JobNumber job) override;
  absl::StatusOr<v1::JobPlan> ReadPlan(JobNumber job) override;
  absl::StatusOr<std::shared_ptr<const v1::ModelDescription>> ReadModel(
      const Digest& digest) override;
  absl::StatusOr<std::shared_ptr<const v1::Corpus>> ReadCorpus(
      const Digest& digest) override;
  absl::StatusOr<std::vector<v1::DurableEvent>> ReadEvents(JobNumber job,
                                                           EventSeq after,
                                                           int limit) override;
  absl::StatusOr<std::vector<bool>> HasArtifacts(
      std::span<const Digest> digests) override;
  absl::StatusOr<bool> HasDuplicate(TaskId task, Epoch epoch,
                                    const Digest& payload_digest) override;
  absl::StatusOr<std::vector<WorkerUuid>> UnusedWorkers() override;
  absl::StatusOr<bool> Purge(int rows) override;

  absl::Status Idle() override {
    QSWEEP_RETURN_IF_ERROR(Health());
    return wal_pages_ >= kIdlePages ? Checkpoint(SQLITE_CHECKPOINT_PASSIVE)
                                    : absl::OkStatus();
  }
  absl::Status ReleaseReserve() override {
    reserve_->Free();
    return absl::OkStatus();
  }
  absl::Status RestoreReserve() override {
    return reserve_->Take()
               ? absl::OkStatus()
               : MakeError(kDiskFull, "no room for the reserve", "",
                           "free space on the coordinator's disk");
  }
  absl::StatusOr<Info> GetInfo() override {
    QSWEEP_ASSIGN_OR_RETURN(const int64_t pages,
                            database_.QueryInteger("PRAGMA page_count"));
    return Info{.engine_version = sqlite3_libversion(),
                .database_bytes = pages * kPageBytes,
                .wal_bytes = wal_pages_ * kPageBytes};
  }

 private:
  absl::Status WriteAll(std::span<const Mutation> batch);
  // One of the statements' deletions of a purged job; whether it was not all.
  absl::StatusOr<bool> PurgeRows(const char* sql, int64_t job, int rows);
  absl::StatusOr<bool> PurgeOne(int rows);
  // One transaction for the look-ups of a step and what is written after them:
  // to lock the log for each costs more than the look-up.
  absl::Status Begin() {
    return database_.in_transaction() ? absl::OkStatus()
                                      : statements_.Run(sql::kBegin);
  }
  absl::Status BeginRead() {
    QSWEEP_RETURN_IF_ERROR(Health());
    return Begin();
  }
  // A failure is fatal.
  void Rollback();
  void EndReads() {
    if (Health().ok() && database_.in_transaction()) {
      Rollback();
    }
  }
  // Rolls back and says what a failure inside a transaction means.
  absl::Status Abandon(absl::Status error, bool in_commit);
  absl::Status Checkpoint(int mode);
  template <typename... Args>
  absl::StatusOr<Statement*> First(const char* sql, const absl::Status& missing,
                                   const Args&... args) {
    QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql));
    row->BindAll(args...);
    QSWEEP_ASSIGN_OR_RETURN(const bool found, row->Step());
    if (!found) {
      return missing;
    }
    return row;
  }

  std::optional<FileLock> lock_;
  std::unique_ptr<Reserve> reserve_;
  const std::shared_ptr<ReadGate> read_gate_;  // may be null
  std::unique_ptr<PageCheck> page_check_;      // null: known to be sound
  Database database_;
  StatementCache statements_;  // after database_: finalized before it closes
  RowIds ids_;
  MeasuredRows rows_;
  MutationWriter writer_;
  int64_t wal_pages_ = 0;
  WalAlarm wal_alarm_;
  absl::Status fatal_;  // of what no statement tells: rollback, checkpoint
};

absl::Status SqliteStore::Commit(std::span<const Mutation> batch) {
  QSWEEP_RETURN_IF_ERROR(Health());
  if (std::ranges::none_of(batch, IsDurable)) {
    EndReads();
    return Health();
  }
  if (absl::Status status = WriteAll(batch); !status.ok()) {
    return Abandon(std::move(status), /*in_commit=*/false);
  }
  if (absl::Status status = statements_.Run(sql::kCommit); !status.ok()) {
    return Abandon(std::move(status), /*in_commit=*/true);
  }
  // The batch is on disk whatever happens to the checkpoint. Without space it
  // waits; an I/O error stops the store at the next call.
  if (wal_pages_ > kTruncatePages) {
    Checkpoint(SQLITE_CHECKPOINT_TRUNCATE).IgnoreError();
  } else if (wal_pages_ > kPassivePages) {
    Checkpoint(SQLITE_CHECKPOINT_PASSIVE).IgnoreError();
  }
  // 0: all of it is in the file, and the next commit tells whether the log
  // begins anew.
  if (wal_pages_ > 0) {
    if (const auto news = wal_alarm_.Watch(wal_pages_ * kPageBytes)) {
      LogWarning(*news);
    }
  }
  if (read_gate_ != nullptr) {
    read_gate_->Watch(wal_pages_ * kPageBytes);
  }
  return absl::OkStatus();
}

absl::Status SqliteStore::WriteAll(std::span<const Mutation> batch) {
  QSWEEP_RETURN_IF_ERROR(Begin());
  for (const Mutation& mutation : batch) {
    QSWEEP_RETURN_IF_ERROR(writer_.Write(mutation));
  }
  return absl::OkStatus();
}

void SqliteStore::Rollback() {
  if (absl::Status status = statements_.Run(sql::kRollback); !status.ok()) {
    fatal_ = MakeError(kDamagedDatabase, status.message());
  }
}

absl::Status SqliteStore::Abandon(absl::Status error, bool in_commit) {
  ids_.Forget();
  if (error.code() == absl::StatusCode::kDataLoss) {
    fatal_ = error;
    return error;
  }
  if (database_.in_transaction()) {
    Rollback();
    QSWEEP_RETURN_IF_ERROR(Health());
  }
  if (error.code() == absl::StatusCode::kResourceExhausted) {
    return error;
  }
  return in_commit ? absl::UnavailableError(error.message())
                   : absl::InternalError(error.message());
}

absl::Status SqliteStore::Checkpoint(int mode) {
  // A pinned reader makes TRUNCATE busy; waiting for it would stop the loop.
  sqlite3_busy_timeout(database_.handle(), 0);
  int log = 0;
  int done = 0;
  const int result =
      sqlite3_wal_checkpoint_v2(database_.handle(), nullptr, mode, &log, &done);
  sqlite3_busy_timeout(database_.handle(), 5000);
  if (result == SQLITE_OK && log == done) {
    wal_pages_ = 0;  // the next write starts the WAL again
  }
  if (result == SQLITE_OK || (result & 0xff) == SQLITE_BUSY) {
    return absl::OkStatus();
  }
  absl::Status error = SqliteError(database_.handle(), result, "checkpoint");
  if (error.code() == absl::StatusCode::kDataLoss) {
    fatal_ = error;
  }
  return error;
}

absl::StatusOr<v1::TaskSpec> SqliteStore::ReadTaskSpec(TaskId task) {
  QSWEEP_ASSIGN_OR_RETURN(
      Statement * row,
      First(sql::kReadTaskSpec,
            MakeError(kTaskNotFound, absl::StrCat("no task ", task.value())),
            task));
  QSWEEP_ASSIGN_OR_RETURN(v1::TaskSpec spec,
                          ProtoColumn<v1::TaskSpec>(*row, 0));
  spec.set_task_id(static_cast<uint64_t>(task.value()));
  spec.set_content_key(row->Text(1));
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<TaskDocumentKey> documents,
                          UnpackDocuments(row->View(2)));
  for (const TaskDocumentKey& key : documents) {
    v1::TaskDocument* document = spec.add_documents();
    document->set_digest(key.digest.bytes());
    document->set_language_index(key.language_index);
  }
  spec.set_estimated_seconds(row->Real(3));
  row->Reset();
  return spec;
}

absl::StatusOr<StoredJob> SqliteStore::ReadJob(JobNumber job) {
  StoredJob stored;
  QSWEEP_ASSIGN_OR_RETURN(
      Statement * row,
      First(sql::kReadJob,
            MakeError(kJobNotFound, absl::StrCat("no job ", job.value())),
            job));
  QSWEEP_ASSIGN_OR_RETURN(stored.spec, ProtoColumn<v1::JobSpec>(*row, 0));
  QSWEEP_ASSIGN_OR_RETURN(stored.corpus, DigestColumn(*row, 2));
  row->Reset();
  QSWEEP_ASSIGN_OR_RETURN(row, statements_.Get(sql::kReadJobModels));
  row->BindAll(job);
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool more, row->Step());
    if (!more) {
      return stored;
    }
    QSWEEP_ASSIGN_OR_RETURN(const Digest model, DigestColumn(*row, 0));
    stored.models.push_back(model);
  }
}

absl::StatusOr<v1::JobPlan> SqliteStore::ReadPlan(JobNumber job) {
  QSWEEP_ASSIGN_OR_RETURN(
      Statement * row,
      First(sql::kReadJob,
            MakeError(kJobNotFound, absl::StrCat("no job ", job.value())),
            job));
  absl::StatusOr<v1::JobPlan> plan = ProtoColumn<v1::JobPlan>(*row, 1);
  row->Reset();
  return plan;
}

absl::StatusOr<std::shared_ptr<const v1::ModelDescription>>
SqliteStore::ReadModel(const Digest& digest) {
  QSWEEP_ASSIGN_OR_RETURN(
      Statement * row,
      First(sql::kReadModel,
            absl::NotFoundError(absl::StrCat("no model ", digest.hex())),
            Blob{digest.bytes()}));
  QSWEEP_ASSIGN_OR_RETURN(v1::ModelDescription model,
                          ProtoColumn<v1::ModelDescription>(*row, 0));
  row->Reset();
  return std::make_shared<const v1::ModelDescription>(std::move(model));
}

absl::StatusOr<std::shared_ptr<const v1::Corpus>> SqliteStore::ReadCorpus(
    const Digest& digest) {
  QSWEEP_ASSIGN_OR_RETURN(
      Statement * row,
      First(sql::kReadCorpus,
            MakeError(kUnknownCorpus, absl::StrCat("no corpus ", digest.hex()),
                      "corpus", "list them with 'qctl corpora list'"),
            Blob{digest.bytes()}));
  QSWEEP_ASSIGN_OR_RETURN(v1::Corpus corpus, ProtoColumn<v1::Corpus>(*row, 0));
  row->Reset();
  return std::make_shared<const v1::Corpus>(std::move(corpus));
}

absl::StatusOr<std::vector<v1::DurableEvent>> SqliteStore::ReadEvents(
    JobNumber job, EventSeq after, int limit) {
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql::kReadEvents));
  row->BindAll(job, after, limit);
  std::vector<v1::DurableEvent> events;
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool more, row->Step());
    if (!more) {
      return events;
    }
    v1::DurableEvent& event = events.emplace_back();
    event.set_seq(static_cast<uint64_t>(row->Integer(0)));
    event.set_time_us(row->Integer(1));
    event.set_job_seq(static_cast<uint64_t>(row->Integer(2)));
    event.set_task_id(static_cast<uint64_t>(row->Integer(3)));
    event.set_worker(row->Text(4));
    event.set_kind(row->Text(5));
    event.set_from(row->Text(6));
    event.set_to(row->Text(7));
    event.set_epoch(static_cast<uint64_t>(row->Integer(8)));
    event.set_reason(row->Text(9));
  }
}

absl::StatusOr<std::vector<bool>> SqliteStore::HasArtifacts(
    std::span<const Digest> digests) {
  QSWEEP_ASSIGN_OR_RETURN(Statement * find, statements_.Get(sql::kHasArtifact));
  std::vector<bool> stored;
  stored.reserve(digests.size());
  for (const Digest& digest : digests) {
    find->BindAll(Blob{digest.bytes()});
    QSWEEP_ASSIGN_OR_RETURN(const bool found, find->Step());
    stored.push_back(found);
  }
  find->Reset();
  return stored;
}

absl::StatusOr<bool> SqliteStore::HasDuplicate(TaskId task, Epoch epoch,
                                               const Digest& payload_digest) {
  QSWEEP_ASSIGN_OR_RETURN(Statement * find,
                          statements_.Get(sql::kHasDuplicate));
  find->BindAll(task, epoch, Blob{payload_digest.bytes()});
  QSWEEP_ASSIGN_OR_RETURN(const bool found, find->Step());
  find->Reset();
  return found;
}

absl::StatusOr<std::vector<WorkerUuid>> SqliteStore::UnusedWorkers() {
  QSWEEP_RETURN_IF_ERROR(Health());
  QSWEEP_ASSIGN_OR_RETURN(Statement * rows,
                          statements_.Get(sql::kUnusedWorkers));
  std::vector<WorkerUuid> workers;
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool more, rows->Step());
    if (!more) {
      return workers;
    }
    QSWEEP_ASSIGN_OR_RETURN(workers.emplace_back(),
                            WorkerUuid::FromBytes(rows->View(0)));
  }
}

absl::StatusOr<bool> SqliteStore::PurgeRows(const char* sql, int64_t job,
                                            int rows) {
  QSWEEP_RETURN_IF_ERROR(statements_.Run(sql, job, rows));
  return sqlite3_changes(database_.handle()) >= rows;
}

absl::StatusOr<bool> SqliteStore::PurgeOne(int rows) {
  QSWEEP_ASSIGN_OR_RETURN(Statement * find,
                          statements_.Get(sql::kFindPurgedJob));
  QSWEEP_ASSIGN_OR_RETURN(const bool found, find->Step());
  const int64_t job = found ? find->Integer(0) : 0;
  find->Reset();
  if (!found) {
    return false;
  }
  for (const char* sql : {sql::kPurgeEvents, sql::kPurgeJobDocuments,
                          sql::kPurgeJobConfigurations}) {
    QSWEEP_ASSIGN_OR_RETURN(const bool more, PurgeRows(sql, job, rows));
    if (more) {
      return true;
    }
  }
  QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kArchiveTasks, job, rows));
  QSWEEP_ASSIGN_OR_RETURN(const bool more,
                          PurgeRows(sql::kPurgeJobTasks, job, rows));
  if (!more) {
    for (const char* sql :
         {sql::kPurgeJobEvaluations, sql::kPurgeJobModels, sql::kDeleteJob}) {
      QSWEEP_RETURN_IF_ERROR(statements_.Run(sql, job));
    }
  }
  return true;  // perhaps another job
}

absl::StatusOr<bool> SqliteStore::Purge(int rows) {
  EndReads();
  QSWEEP_RETURN_IF_ERROR(Health());
  absl::StatusOr<bool> more = false;
  absl::Status status = statements_.Run(sql::kBegin);
  if (status.ok()) {
    more = PurgeOne(rows);
    status = more.status();
  }
  bool in_commit = false;
  if (status.ok()) {
    in_commit = true;
    status = statements_.Run(sql::kCommit);
  }
  return status.ok() ? more : Abandon(std::move(status), in_commit);
}

}  // namespace

std::string DatabasePath(const std::string& directory) {
  return absl::StrCat(directory, "/coordinator.db");
}

absl::StatusOr<std::unique_ptr<Store>> OpenSqliteStore(
    SqliteStoreOptions options) {
  std::optional<FileLock> lock;
  if (options.vfs.empty()) {
    QSWEEP_ASSIGN_OR_RETURN(lock, FileLock::Acquire(absl::StrCat(
                                      options.directory, "/coordinator.lock")));
    options.reserve = std::make_unique<ReserveFile>(
        absl::StrCat(options.directory, "/coordinator.reserve"));
    QSWEEP_ASSIGN_OR_RETURN(const bool finished,
                            FinishRestore(options.directory));
    if (finished) {
      LogWarning("finished a restore that was killed");
    }
    QSWEEP_RETURN_IF_ERROR(RefuseMissingDatabase(options.directory));
  }
  const std::string path = DatabasePath(options.directory);
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  const bool beside = options.vfs.empty() && !error && bytes > kCheckedBeside;
  const bool check_first = options.check_pages && !beside;
  absl::StatusOr<Database> database =
      OpenWriter(path, options.vfs, check_first);
  if (absl::IsResourceExhausted(database.status())) {
    // Recovery takes room, too.
    options.reserve->Free();
    database = OpenWriter(path, options.vfs, check_first);
  }
  QSWEEP_RETURN_IF_ERROR(database.status());
  // Without room for it the coordinator serves all the same.
  options.reserve->Take();
  return std::make_unique<SqliteStore>(
      std::move(lock), *std::move(database), std::move(options.reserve),
      std::move(options.read_gate),
      beside ? std::make_unique<PageCheck>(path) : nullptr);
}

}  // namespace qsweep
