#include "coordinator/store/sqlite_store.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "coordinator/store/codec.h"
#include "coordinator/store/database_file.h"
#include "coordinator/store/mutation_writer.h"
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

class SqliteStore : public Store {
 public:
  SqliteStore(std::optional<FileLock> lock, Database database,
              std::unique_ptr<Reserve> reserve)
      : lock_(std::move(lock)),
        reserve_(std::move(reserve)),
        database_(std::move(database)),
        statements_(database_),
        writer_(statements_) {
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
    QSWEEP_RETURN_IF_ERROR(fatal_);
    return LoadState(statements_);
  }

  absl::Status Commit(std::span<const Mutation> batch) override;

  absl::StatusOr<std::vector<v1::RowStatus>> MeasuredStatuses(
      absl::string_view evaluation, std::span<const Digest> configurations,
      std::span<const Digest> documents) override;
  absl::StatusOr<std::vector<std::optional<v1::Measurement>>> ReadMeasurements(
      absl::string_view evaluation, std::span<const Digest> configurations,
      std::span<const Digest> documents) override;

  absl::StatusOr<int64_t> CountSkipped(
      JobNumber job, absl::string_view evaluation,
      std::span<const SkippedKey> more) override;
  absl::StatusOr<v1::TaskSpec> ReadTaskSpec(TaskId task) override;
  absl::StatusOr<StoredJob> ReadJob(JobNumber job) override;
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

  absl::Status Idle() override {
    QSWEEP_RETURN_IF_ERROR(fatal_);
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
  using DocumentIndexes = absl::flat_hash_map<int64_t, std::vector<size_t>>;

  absl::Status WriteAll(std::span<const Mutation> batch);
  // Rolls back and says what a failure inside a transaction means.
  absl::Status Abandon(absl::Status error, bool in_commit);
  absl::Status Checkpoint(int mode);
  // Where each stored document stands in `documents`; the others are left out.
  absl::StatusOr<DocumentIndexes> IndexDocuments(
      std::span<const Digest> documents);
  // use(statement, index of configuration, index of document) for each stored
  // row of configurations x documents. The document's id is column 0 of sql.
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
  Database database_;
  StatementCache statements_;  // after database_: finalized before it closes
  MutationWriter writer_;
  int64_t wal_pages_ = 0;
  absl::Status fatal_;  // not OK: an I/O error; nothing is done any more
};

absl::Status SqliteStore::Commit(std::span<const Mutation> batch) {
  QSWEEP_RETURN_IF_ERROR(fatal_);
  if (std::ranges::none_of(batch, IsDurable)) {
    return absl::OkStatus();
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
  QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kBegin));
  for (const Mutation& mutation : batch) {
    QSWEEP_RETURN_IF_ERROR(writer_.Write(mutation));
  }
  return absl::OkStatus();
}

absl::Status SqliteStore::Abandon(absl::Status error, bool in_commit) {
  if (error.code() == absl::StatusCode::kDataLoss) {
    fatal_ = error;
    return error;
  }
  if (database_.in_transaction()) {
    if (absl::Status status = statements_.Run(sql::kRollback); !status.ok()) {
      fatal_ = MakeError(kDamagedDatabase, status.message());
      return fatal_;
    }
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

absl::StatusOr<SqliteStore::DocumentIndexes> SqliteStore::IndexDocuments(
    std::span<const Digest> documents) {
  DocumentIndexes indexes;
  QSWEEP_ASSIGN_OR_RETURN(Statement * find,
                          statements_.Get(sql::kReadDocumentId));
  for (size_t i = 0; i < documents.size(); ++i) {
    find->BindAll(Blob{documents[i].bytes()});
    QSWEEP_ASSIGN_OR_RETURN(const bool found, find->Step());
    if (found) {
      indexes[find->Integer(0)].push_back(i);
    }
  }
  find->Reset();
  return indexes;
}

template <typename Use>
absl::Status SqliteStore::ForEachMeasured(
    const char* sql, absl::string_view evaluation,
    std::span<const Digest> configurations, std::span<const Digest> documents,
    Use use) {
  QSWEEP_RETURN_IF_ERROR(fatal_);
  QSWEEP_ASSIGN_OR_RETURN(const DocumentIndexes indexes,
                          IndexDocuments(documents));
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql));
  for (size_t c = 0; c < configurations.size(); ++c) {
    row->BindAll(Blob{configurations[c].bytes()}, evaluation);
    while (true) {
      QSWEEP_ASSIGN_OR_RETURN(const bool more, row->Step());
      if (!more) {
        break;
      }
      const auto found = indexes.find(row->Integer(0));
      if (found == indexes.end()) {
        continue;
      }
      for (const size_t d : found->second) {
        QSWEEP_RETURN_IF_ERROR(use(*row, c, d));
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

absl::StatusOr<std::vector<std::optional<v1::Measurement>>>
SqliteStore::ReadMeasurements(absl::string_view evaluation,
                              std::span<const Digest> configurations,
                              std::span<const Digest> documents) {
  std::vector<std::optional<v1::Measurement>> values(configurations.size() *
                                                     documents.size());
  QSWEEP_RETURN_IF_ERROR(ForEachMeasured(
      sql::kReadMeasurements, evaluation, configurations, documents,
      [&](const Statement& row, size_t c, size_t d) -> absl::Status {
        QSWEEP_ASSIGN_OR_RETURN(values[c * documents.size() + d],
                                MeasurementColumns(row, 1));
        return absl::OkStatus();
      }));
  return values;
}

absl::StatusOr<int64_t> SqliteStore::CountSkipped(
    JobNumber job, absl::string_view evaluation,
    std::span<const SkippedKey> more) {
  QSWEEP_RETURN_IF_ERROR(fatal_);
  std::set<std::pair<int64_t, int64_t>> skipped;  // evaluation, document
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql::kReadSkipped));
  row->BindAll(job);
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool found, row->Step());
    if (!found) {
      break;
    }
    skipped.emplace(row->Integer(0), row->Integer(1));
  }
  // A document is looked up until one of its configurations is the job's.
  absl::flat_hash_set<Digest> counted;
  QSWEEP_ASSIGN_OR_RETURN(row, statements_.Get(sql::kFindJobKey));
  for (const SkippedKey& key : more) {
    if (counted.contains(key.document)) {
      continue;
    }
    row->BindAll(job, Blob{key.configuration.bytes()}, evaluation,
                 Blob{key.document.bytes()});
    QSWEEP_ASSIGN_OR_RETURN(const bool found, row->Step());
    if (found) {
      counted.insert(key.document);
      skipped.emplace(row->Integer(0), row->Integer(1));
    }
  }
  row->Reset();
  return static_cast<int64_t>(skipped.size());
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
  QSWEEP_ASSIGN_OR_RETURN(stored.plan, ProtoColumn<v1::JobPlan>(*row, 1));
  QSWEEP_ASSIGN_OR_RETURN(stored.corpus, DigestColumn(*row, 2));
  row->Reset();
  QSWEEP_ASSIGN_OR_RETURN(row, statements_.Get(sql::kReadJobModels));
  row->BindAll(job);
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool more, row->Step());
    if (!more) {
      break;
    }
    QSWEEP_ASSIGN_OR_RETURN(const Digest model, DigestColumn(*row, 0));
    stored.models.push_back(model);
  }
  QSWEEP_ASSIGN_OR_RETURN(row, statements_.Get(sql::kReadJobLanguages));
  row->BindAll(job);
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool more, row->Step());
    if (!more) {
      return stored;
    }
    stored.languages.push_back(row->Text(0));
  }
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
  absl::StatusOr<Database> database = OpenWriter(path, options.vfs);
  if (absl::IsResourceExhausted(database.status())) {
    // Recovery takes room, too.
    options.reserve->Free();
    database = OpenWriter(path, options.vfs);
  }
  QSWEEP_RETURN_IF_ERROR(database.status());
  // Without room for it the coordinator serves all the same.
  options.reserve->Take();
  return std::make_unique<SqliteStore>(std::move(lock), *std::move(database),
                                       std::move(options.reserve));
}

}  // namespace qsweep
