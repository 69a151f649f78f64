#include "coordinator/store/sqlite_store.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/store/codec.h"
#include "coordinator/store/database_file.h"
#include "coordinator/store/mutation_writer.h"
#include "coordinator/store/row_ids.h"
#include "coordinator/store/sql.h"
#include "coordinator/store/state_loader.h"
#include "sqlite3.h"

namespace qsweep {
namespace {

constexpr int64_t kPageBytes = 4096;
// WAL sizes: checkpoint when idle, in passing, and shrink the file.
constexpr int64_t kIdlePages = (int64_t{1} << 20) / kPageBytes;
constexpr int64_t kPassivePages = (int64_t{8} << 20) / kPageBytes;
constexpr int64_t kTruncatePages = (int64_t{64} << 20) / kPageBytes;
// Rows of configurations that nobody asked for are passed over up to this many
// in a row; then a look-up of its own is cheaper.
constexpr int64_t kPassedOver = 16;

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

// Where something that is stored stands in what was asked for.
struct Place {
  int64_t id = 0;
  size_t index = 0;
};

// Cuts places, sorted by id, at the gaps.
std::vector<std::span<const Place>> RunsOf(std::span<const Place> places) {
  std::vector<std::span<const Place>> runs;
  size_t first = 0;
  for (size_t i = 1; i <= places.size(); ++i) {
    if (i == places.size() || places[i].id - places[i - 1].id > kPassedOver) {
      runs.push_back(places.subspan(first, i - first));
      first = i;
    }
  }
  return runs;
}

class SqliteStore : public Store {
 public:
  // page_check: that of this database, which nobody waited for; may be null.
  SqliteStore(std::optional<FileLock> lock, Database database,
              std::unique_ptr<Reserve> reserve,
              std::unique_ptr<PageCheck> page_check)
      : lock_(std::move(lock)),
        reserve_(std::move(reserve)),
        page_check_(std::move(page_check)),
        database_(std::move(database)),
        statements_(database_),
        ids_(statements_),
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
      std::span<const Digest> documents) override;
  absl::StatusOr<std::vector<std::optional<StoredRow>>> ReadMeasurements(
      absl::string_view evaluation, std::span<const Digest> configurations,
      std::span<const Digest> documents) override;

  absl::StatusOr<std::vector<std::vector<Digest>>> ReadCodes(
      std::span<const Digest> configurations) override;

  absl::StatusOr<int64_t> CountSkipped(
      JobNumber job, absl::string_view evaluation,
      std::span<const SkippedKey> more) override;
  absl::StatusOr<int64_t> CountMoreSkipped(
      JobNumber job, absl::string_view evaluation,
      std::span<const SkippedKey> more) override;
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
                .database_bytes = pages * kPageBytes};
  }

 private:
  absl::Status WriteAll(std::span<const Mutation> batch);
  // Ids of evaluations and documents.
  using DocumentKeys = std::set<std::pair<int64_t, int64_t>>;
  // Those of `keys` under `evaluation` that are the job's.
  absl::StatusOr<DocumentKeys> FindJobKeys(JobNumber job,
                                           absl::string_view evaluation,
                                           std::span<const SkippedKey> keys);
  // One of the statements' deletions of a purged job; whether it was not all.
  absl::StatusOr<bool> PurgeRows(const char* sql, int64_t job, int rows);
  absl::StatusOr<bool> PurgeOne(int rows);
  // One transaction for the look-ups of a step and what is written after them:
  // to lock the log for each costs more than the look-up.
  absl::Status Begin() {
    return database_.in_transaction() ? absl::OkStatus()
                                      : statements_.Run(sql::kBegin);
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
  // The places of what is stored of them, by id.
  absl::StatusOr<std::vector<Place>> PlacesOf(
      absl::StatusOr<int64_t> (RowIds::*find)(const Digest&),
      std::span<const Digest> digests);
  // use(statement, index of configuration, index of document) for each stored
  // row of configurations x documents. The configuration's id is column 0 of
  // the statement, which reads a range of them of one document.
  template <typename Use>
  absl::Status ForEachMeasured(const char* sql, absl::string_view evaluation,
                               std::span<const Digest> configurations,
                               std::span<const Digest> documents, Use use);
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
  std::unique_ptr<PageCheck> page_check_;  // null: known to be sound
  Database database_;
  StatementCache statements_;  // after database_: finalized before it closes
  RowIds ids_;
  MutationWriter writer_;
  int64_t wal_pages_ = 0;
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

absl::StatusOr<std::vector<Place>> SqliteStore::PlacesOf(
    absl::StatusOr<int64_t> (RowIds::*find)(const Digest&),
    std::span<const Digest> digests) {
  std::vector<Place> places;
  for (size_t i = 0; i < digests.size(); ++i) {
    QSWEEP_ASSIGN_OR_RETURN(const int64_t id, (ids_.*find)(digests[i]));
    if (id != 0) {
      places.push_back({.id = id, .index = i});
    }
  }
  std::ranges::sort(places, {}, &Place::id);
  return places;
}

template <typename Use>
absl::Status SqliteStore::ForEachMeasured(
    const char* sql, absl::string_view evaluation,
    std::span<const Digest> configurations, std::span<const Digest> documents,
    Use use) {
  QSWEEP_RETURN_IF_ERROR(Health());
  QSWEEP_RETURN_IF_ERROR(Begin());
  QSWEEP_ASSIGN_OR_RETURN(const int64_t evaluation_id,
                          ids_.Evaluation(evaluation));
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Place> columns,
                          PlacesOf(&RowIds::Configuration, configurations));
  if (evaluation_id == 0 || columns.empty()) {
    return absl::OkStatus();
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<Place> rows,
                          PlacesOf(&RowIds::Document, documents));
  // Mostly nobody has measured any of them.
  if (rows.empty()) {
    return absl::OkStatus();
  }
  QSWEEP_ASSIGN_OR_RETURN(Statement * any, statements_.Get(sql::kHasRows));
  any->BindAll(evaluation_id, rows.front().id, rows.back().id);
  QSWEEP_ASSIGN_OR_RETURN(const bool has_rows, any->Step());
  any->Reset();
  if (!has_rows) {
    return absl::OkStatus();
  }
  const std::vector<std::span<const Place>> runs = RunsOf(columns);
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql));
  for (const Place& document : rows) {
    for (const std::span<const Place> run : runs) {
      row->BindAll(evaluation_id, document.id, run.front().id, run.back().id);
      while (true) {
        QSWEEP_ASSIGN_OR_RETURN(const bool more, row->Step());
        if (!more) {
          break;
        }
        for (const Place& column :
             std::ranges::equal_range(run, row->Integer(0), {}, &Place::id)) {
          QSWEEP_RETURN_IF_ERROR(use(*row, column.index, document.index));
        }
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::RowStatus>> SqliteStore::MeasuredStatuses(
    absl::string_view evaluation, std::span<const Digest> configurations,
    std::span<const Digest> documents) {
  std::vector<v1::RowStatus> statuses(configurations.size() * documents.size(),
                                      v1::ROW_STATUS_UNSPECIFIED);
  QSWEEP_RETURN_IF_ERROR(ForEachMeasured(
      sql::kReadStatuses, evaluation, configurations, documents,
      [&](const Statement& row, size_t c, size_t d) -> absl::Status {
        QSWEEP_ASSIGN_OR_RETURN(statuses[c * documents.size() + d],
                                RowStatusFromText(row.View(1)));
        return absl::OkStatus();
      }));
  return statuses;
}

absl::StatusOr<std::vector<std::optional<StoredRow>>>
SqliteStore::ReadMeasurements(absl::string_view evaluation,
                              std::span<const Digest> configurations,
                              std::span<const Digest> documents) {
  std::vector<std::optional<StoredRow>> values(configurations.size() *
                                               documents.size());
  QSWEEP_RETURN_IF_ERROR(ForEachMeasured(
      sql::kReadMeasurements, evaluation, configurations, documents,
      [&](const Statement& row, size_t c, size_t d) -> absl::Status {
        StoredRow& stored = values[c * documents.size() + d].emplace();
        stored.engine = row.Text(1);
        stored.device = row.Text(2);
        QSWEEP_ASSIGN_OR_RETURN(stored.values, MeasurementColumns(row, 3));
        if (!row.IsNull(14)) {
          stored.values.set_codes(row.Text(14));
        }
        return absl::OkStatus();
      }));
  return values;
}

absl::StatusOr<std::vector<std::vector<Digest>>> SqliteStore::ReadCodes(
    std::span<const Digest> configurations) {
  QSWEEP_RETURN_IF_ERROR(Health());
  std::vector<std::vector<Digest>> codes;
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql::kReadCodes));
  for (const Digest& configuration : configurations) {
    codes.emplace_back();
    QSWEEP_ASSIGN_OR_RETURN(const int64_t id,
                            ids_.Configuration(configuration));
    row->BindAll(id);
    while (true) {
      QSWEEP_ASSIGN_OR_RETURN(const bool more, row->Step());
      if (!more) {
        break;
      }
      QSWEEP_ASSIGN_OR_RETURN(codes.back().emplace_back(),
                              DigestColumn(*row, 0));
    }
  }
  return codes;
}

absl::StatusOr<int64_t> SqliteStore::CountSkipped(
    JobNumber job, absl::string_view evaluation,
    std::span<const SkippedKey> more) {
  QSWEEP_RETURN_IF_ERROR(Health());
  DocumentKeys skipped;
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql::kReadSkipped));
  row->BindAll(job);
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool found, row->Step());
    if (!found) {
      break;
    }
    skipped.emplace(row->Integer(0), row->Integer(1));
  }
  QSWEEP_ASSIGN_OR_RETURN(const DocumentKeys keys,
                          FindJobKeys(job, evaluation, more));
  skipped.insert(keys.begin(), keys.end());
  return static_cast<int64_t>(skipped.size());
}

absl::StatusOr<SqliteStore::DocumentKeys> SqliteStore::FindJobKeys(
    JobNumber job, absl::string_view evaluation,
    std::span<const SkippedKey> keys) {
  DocumentKeys found;
  // A document is looked up until one of its configurations is the job's.
  absl::flat_hash_set<Digest> seen;
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql::kFindJobKey));
  for (const SkippedKey& key : keys) {
    if (seen.contains(key.document)) {
      continue;
    }
    row->BindAll(job, Blob{key.configuration.bytes()}, evaluation,
                 Blob{key.document.bytes()});
    QSWEEP_ASSIGN_OR_RETURN(const bool is_job_key, row->Step());
    if (is_job_key) {
      seen.insert(key.document);
      found.emplace(row->Integer(0), row->Integer(1));
    }
  }
  row->Reset();
  return found;
}

absl::StatusOr<int64_t> SqliteStore::CountMoreSkipped(
    JobNumber job, absl::string_view evaluation,
    std::span<const SkippedKey> more) {
  QSWEEP_RETURN_IF_ERROR(Health());
  QSWEEP_ASSIGN_OR_RETURN(const DocumentKeys keys,
                          FindJobKeys(job, evaluation, more));
  int64_t count = 0;
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql::kHasSkipped));
  for (const auto& [evaluation_id, document] : keys) {
    row->BindAll(job, evaluation_id, document);
    QSWEEP_ASSIGN_OR_RETURN(const bool counted, row->Step());
    count += counted ? 0 : 1;
  }
  row->Reset();
  return count;
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
      beside ? std::make_unique<PageCheck>(path) : nullptr);
}

}  // namespace qsweep
