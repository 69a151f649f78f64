#include "coordinator/store/reader.h"

#include <algorithm>
#include <array>
#include <deque>
#include <numeric>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/job/job_spec.h"
#include "common/job/quantizer.h"
#include "coordinator/store/analysis_cache.h"
#include "coordinator/store/codec.h"
#include "coordinator/store/database_file.h"
#include "coordinator/store/query_guard.h"
#include "coordinator/store/sql.h"
#include "coordinator/store/sqlite_store.h"
#include "coordinator/store/statement_cache.h"
#include "sqlite3.h"

namespace qsweep {
namespace {

// Of one statement, which is a snapshot: while it lasts, the log cannot be used
// again and grows with each commit.
constexpr absl::Duration kReadDeadline = absl::Seconds(2);
// A page looks through all documents of the job, to find those in order.
constexpr absl::Duration kExportDeadline = absl::Seconds(30);
constexpr int kReadOpsPerCheck = 10'000;
// The rows of a job are read in as many statements as it takes.
constexpr size_t kRowsPerRead = 50'000;

class SqliteReader : public Reader {
 public:
  SqliteReader(std::string directory, Database database,
               std::unique_ptr<QueryGuard> guard, const Clock& clock,
               std::shared_ptr<ReadGate> gate)
      : directory_(std::move(directory)),
        database_(std::move(database)),
        statements_(database_),
        guard_(std::move(guard)),
        clock_(clock),
        gate_(std::move(gate)) {
    sqlite3_progress_handler(
        database_.handle(), kReadOpsPerCheck,
        [](void* opaque) {
          const auto* reader = static_cast<SqliteReader*>(opaque);
          return reader->clock_.SteadyNow() >= reader->deadline_ ||
                         reader->Stopped()
                     ? 1
                     : 0;
        },
        this);
  }

  absl::StatusOr<std::vector<JobNumber>> ReadJobNumbers() override;
  absl::StatusOr<JobSource> ReadJobSource(JobNumber job) override;
  absl::StatusOr<std::vector<std::string>> ReadJobLanguages(
      JobNumber job) override;
  absl::StatusOr<std::vector<int64_t>> ExportConfigurations(
      JobNumber job) override;
  absl::StatusOr<ExportPage> ExportRows(JobNumber job, int64_t configuration,
                                        const ExportPosition& from,
                                        int64_t documents) override;
  absl::StatusOr<JobRows> ReadJobRows(
      JobNumber job, const std::function<bool()>& stop) override;
  absl::StatusOr<std::shared_ptr<const v1::Corpus>> ReadCorpus(
      const std::string& name_or_digest) override;
  absl::StatusOr<ArtifactPart> ReadArtifact(const Digest& digest,
                                            uint64_t offset,
                                            uint64_t limit) override;
  absl::StatusOr<v1::QueryResponse> Query(
      const v1::QueryRequest& request,
      const std::function<bool()>& stop) override {
    WaitForGate();
    return guard_->Run(request, stop);
  }
  absl::StatusOr<BackupInfo> BackUp(int keep) override {
    WaitForGate();
    return BackUpDatabase(directory_, clock_.Now(), keep);
  }
  absl::StatusOr<std::vector<std::string>> FindProblems() override {
    WaitForGate();
    return FindDatabaseProblems(DatabasePath(directory_));
  }

 private:
  void WaitForGate() {
    if (gate_ != nullptr) {
      gate_->Wait();
    }
  }
  // Runs sql, in a transaction of its own, and hands each row to use(row).
  template <typename Use, typename... Args>
  absl::Status ForEach(const char* sql, Use use, const Args&... args) {
    return ForEachWithin(kReadDeadline, sql, use, args...);
  }
  template <typename Use, typename... Args>
  absl::Status ForEachWithin(absl::Duration limit, const char* sql, Use use,
                             const Args&... args) {
    WaitForGate();
    deadline_ = clock_.SteadyNow() + limit;
    QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements_.Get(sql));
    row->BindAll(args...);
    while (true) {
      const absl::StatusOr<bool> more = row->Step();
      if (!more.ok()) {
        return Stopped() ? absl::CancelledError("the reader was told to stop")
               : more.status().code() == absl::StatusCode::kCancelled
                   ? MakeError(kQueryLimit,
                               "reading the rows ran into its deadline")
                   : more.status();
      }
      if (!*more) {
        return absl::OkStatus();
      }
      if (absl::Status status = use(*row); !status.ok()) {
        row->Reset();
        return status;
      }
    }
  }
  bool Stopped() const { return stop_ != nullptr && *stop_ && (*stop_)(); }
  absl::StatusOr<JobRows> ReadAll(JobNumber job);
  // Of the documents at these positions.
  absl::Status ReadRows(JobNumber job, size_t from, size_t to,
                        std::vector<JobRows::Row>& rows);
  absl::Status ReadHead(JobNumber job, JobRows& rows);
  absl::Status CheckIsThere(JobNumber job);
  absl::StatusOr<std::vector<v1::ModelDescription>> ReadModels(JobNumber job);
  absl::StatusOr<std::shared_ptr<const v1::Corpus>> ReadStoredCorpus(
      const Digest& digest);
  absl::Status ReadLists(JobNumber job, JobRows& rows);

  const std::string directory_;
  Database database_;
  StatementCache statements_;
  std::unique_ptr<QueryGuard> guard_;
  const Clock& clock_;
  const std::shared_ptr<ReadGate> gate_;         // may be null
  SteadyTime deadline_;                          // of the statement that runs
  const std::function<bool()>* stop_ = nullptr;  // of the call that runs
};

absl::StatusOr<std::vector<JobNumber>> SqliteReader::ReadJobNumbers() {
  std::vector<JobNumber> jobs;
  QSWEEP_RETURN_IF_ERROR(
      ForEach(sql::kReadJobNumbers, [&jobs](const Statement& row) {
        jobs.push_back(JobNumber(row.Integer(0)));
        return absl::OkStatus();
      }));
  return jobs;
}

absl::StatusOr<JobSource> SqliteReader::ReadJobSource(JobNumber job) {
  JobSource source;
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kReadJobHead,
      [&source](const Statement& row) -> absl::Status {
        QSWEEP_ASSIGN_OR_RETURN(source.spec, ProtoColumn<v1::JobSpec>(row, 0));
        QSWEEP_ASSIGN_OR_RETURN(v1::Corpus corpus,
                                ProtoColumn<v1::Corpus>(row, 1));
        source.corpus = std::make_shared<const v1::Corpus>(std::move(corpus));
        QSWEEP_ASSIGN_OR_RETURN(source.plan, ProtoColumn<v1::JobPlan>(row, 2));
        return absl::OkStatus();
      },
      job));
  if (source.corpus == nullptr) {
    return MakeError(kJobNotFound, absl::StrCat("no job ", job.value()));
  }
  QSWEEP_ASSIGN_OR_RETURN(source.models, ReadModels(job));
  if (source.spec.has_calibration()) {
    QSWEEP_ASSIGN_OR_RETURN(
        const Digest digest,
        Digest::FromBytes(source.spec.calibration().corpus_digest()));
    QSWEEP_ASSIGN_OR_RETURN(source.calibration_corpus,
                            ReadStoredCorpus(digest));
  }
  return source;
}

absl::StatusOr<std::vector<std::string>> SqliteReader::ReadJobLanguages(
    JobNumber job) {
  std::vector<std::string> languages;
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kReadJobLanguages,
      [&languages](const Statement& row) {
        languages.push_back(row.Text(0));
        return absl::OkStatus();
      },
      job));
  return languages;
}

absl::StatusOr<std::vector<int64_t>> SqliteReader::ExportConfigurations(
    JobNumber job) {
  std::vector<int64_t> ids;
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kExportConfigurations,
      [&](const Statement& row) {
        ids.push_back(row.Integer(0));
        return absl::OkStatus();
      },
      job));
  return ids;
}

// Of kExportMeasurements.
constexpr int kStatusColumn = 16;  // NULL: no row is stored
constexpr int kOrdinalColumn = 27;

absl::StatusOr<v1::MeasurementRow> ExportRow(const Statement& row) {
  v1::MeasurementRow out;
  out.set_model(row.Text(0));
  out.set_configuration(row.Text(1));
  out.set_layer_set(row.Text(2));
  out.set_quantizer(row.Text(3));
  out.set_compute(row.Text(4));
  out.set_evaluation(row.Text(5));
  out.set_corpus(row.Text(6));
  out.set_language(row.Text(7));
  out.set_document(row.Text(8));
  out.set_document_digest(row.Text(9));
  out.set_engine(row.Text(10));
  out.set_device(row.Text(11));
  out.set_task_id(static_cast<uint64_t>(row.Integer(12)));
  out.set_epoch(static_cast<uint64_t>(row.Integer(13)));
  out.set_worker(row.Text(14));
  out.set_created_at_us(row.Integer(15));
  QSWEEP_ASSIGN_OR_RETURN(*out.mutable_values(),
                          MeasurementColumns(row, kStatusColumn));
  return out;
}

absl::StatusOr<ExportPage> SqliteReader::ExportRows(JobNumber job,
                                                    int64_t configuration,
                                                    const ExportPosition& from,
                                                    int64_t documents) {
  ExportPage page;
  int64_t seen = 0;
  QSWEEP_RETURN_IF_ERROR(ForEachWithin(
      kExportDeadline, sql::kExportMeasurements,
      [&](const Statement& row) -> absl::Status {
        if (!row.IsNull(kStatusColumn)) {
          QSWEEP_ASSIGN_OR_RETURN(page.rows.emplace_back(), ExportRow(row));
        }
        if (++seen == documents) {
          page.next = ExportPosition{.evaluation = row.Text(5),
                                     .language = row.Text(7),
                                     .document = row.Text(8),
                                     .ordinal = row.Integer(kOrdinalColumn)};
        }
        return absl::OkStatus();
      },
      job, configuration, from.evaluation, from.language, from.document,
      from.ordinal, documents));
  return page;
}

absl::Status SqliteReader::ReadHead(JobNumber job, JobRows& rows) {
  bool found = false;
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kReadJobHead,
      [&](const Statement& row) -> absl::Status {
        found = true;
        QSWEEP_ASSIGN_OR_RETURN(rows.spec, ProtoColumn<v1::JobSpec>(row, 0));
        QSWEEP_ASSIGN_OR_RETURN(rows.corpus, ProtoColumn<v1::Corpus>(row, 1));
        return absl::OkStatus();
      },
      job));
  return found ? absl::OkStatus()
               : MakeError(kJobNotFound, absl::StrCat("no job ", job.value()));
}

absl::StatusOr<JobConfiguration> ConfigurationOf(const Statement& row) {
  JobConfiguration configuration;
  configuration.model_index = static_cast<int>(row.Integer(1));
  QSWEEP_ASSIGN_OR_RETURN(configuration.digest, DigestColumn(row, 2));
  configuration.quantizer = row.Text(3);
  configuration.layer_set = row.Text(4);
  configuration.resolved = row.Text(5);
  configuration.baseline = row.Integer(6) != 0;
  configuration.unprotected = row.Integer(7) != 0;
  if (!row.IsNull(8)) {
    configuration.single_layer = static_cast<int>(row.Integer(8));
  }
  configuration.overhead_params = row.Real(9);
  configuration.overhead_layers = row.Real(10);
  configuration.overhead_kept = row.Real(11);
  configuration.overhead_bytes = row.Real(12);
  return configuration;
}

absl::StatusOr<std::vector<v1::ModelDescription>> SqliteReader::ReadModels(
    JobNumber job) {
  std::vector<v1::ModelDescription> models;
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kReadJobModelDescriptions,
      [&models](const Statement& row) -> absl::Status {
        QSWEEP_ASSIGN_OR_RETURN(models.emplace_back(),
                                ProtoColumn<v1::ModelDescription>(row, 0));
        return absl::OkStatus();
      },
      job));
  return models;
}

absl::Status SqliteReader::ReadLists(JobNumber job, JobRows& rows) {
  QSWEEP_ASSIGN_OR_RETURN(rows.models, ReadModels(job));
  QSWEEP_ASSIGN_OR_RETURN(const Compute compute,
                          FromProto(rows.spec.compute()));
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kReadJobNoise,
      [&](const Statement& row) {
        rows.noise_floors.push_back(row.Real(0));
        return absl::OkStatus();
      },
      job, ComputeName(compute)));
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kReadJobConfigurations,
      [&](const Statement& row) -> absl::Status {
        QSWEEP_ASSIGN_OR_RETURN(rows.configurations.emplace_back(),
                                ConfigurationOf(row));
        return absl::OkStatus();
      },
      job));
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kReadJobEvaluations,
      [&](const Statement& row) {
        rows.evaluations.push_back(
            {.model_index = static_cast<int>(row.Integer(1)),
             .eval_index = static_cast<int>(row.Integer(2)),
             .text = row.Text(3)});
        return absl::OkStatus();
      },
      job));
  return ForEach(
      sql::kReadJobDocuments,
      [&](const Statement& row) -> absl::Status {
        QSWEEP_ASSIGN_OR_RETURN(const Digest digest, DigestColumn(row, 4));
        rows.documents.push_back(
            {.eval_index = static_cast<int>(row.Integer(1)),
             .language = row.Text(2),
             .id = row.Text(3),
             .digest = digest});
        return absl::OkStatus();
      },
      job);
}

absl::StatusOr<JobRows> SqliteReader::ReadJobRows(
    JobNumber job, const std::function<bool()>& stop) {
  stop_ = &stop;
  absl::StatusOr<JobRows> rows = ReadAll(job);
  stop_ = nullptr;
  return rows;
}

absl::StatusOr<JobRows> SqliteReader::ReadAll(JobNumber job) {
  JobRows rows;
  QSWEEP_RETURN_IF_ERROR(ReadHead(job, rows));
  QSWEEP_RETURN_IF_ERROR(ReadLists(job, rows));
  const size_t documents = std::max<size_t>(
      kRowsPerRead / std::max<size_t>(rows.configurations.size(), 1), 1);
  for (size_t from = 0; from < rows.documents.size(); from += documents) {
    QSWEEP_RETURN_IF_ERROR(ReadRows(job, from, from + documents, rows.rows));
  }
  // Rows only come, but of a job that was deleted meanwhile what it had is
  // gone.
  QSWEEP_RETURN_IF_ERROR(CheckIsThere(job));
  std::ranges::sort(rows.rows, {}, [](const JobRows::Row& row) {
    return std::tuple(row.configuration, row.evaluation, row.document);
  });
  return rows;
}

absl::Status SqliteReader::CheckIsThere(JobNumber job) {
  bool found = false;
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kHasJob,
      [&found](const Statement&) {
        found = true;
        return absl::OkStatus();
      },
      job));
  return found ? absl::OkStatus()
               : MakeError(kJobNotFound, absl::StrCat("no job ", job.value()));
}

absl::Status SqliteReader::ReadRows(JobNumber job, size_t from, size_t to,
                                    std::vector<JobRows::Row>& rows) {
  return ForEach(
      sql::kReadJobRows,
      [&rows](const Statement& row) -> absl::Status {
        JobRows::Row& out = rows.emplace_back();
        out.configuration = static_cast<int>(row.Integer(0));
        out.evaluation = static_cast<int>(row.Integer(1));
        out.document = static_cast<int>(row.Integer(2));
        QSWEEP_ASSIGN_OR_RETURN(out.values, MeasurementColumns(row, 3));
        return absl::OkStatus();
      },
      job, static_cast<int64_t>(from), static_cast<int64_t>(to));
}

absl::StatusOr<std::shared_ptr<const v1::Corpus>>
SqliteReader::ReadStoredCorpus(const Digest& digest) {
  std::shared_ptr<const v1::Corpus> corpus;
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kReadCorpus,
      [&corpus](const Statement& row) -> absl::Status {
        QSWEEP_ASSIGN_OR_RETURN(v1::Corpus body,
                                ProtoColumn<v1::Corpus>(row, 0));
        corpus = std::make_shared<const v1::Corpus>(std::move(body));
        return absl::OkStatus();
      },
      Blob{digest.bytes()}));
  if (corpus == nullptr) {
    return MakeError(kUnknownCorpus, absl::StrCat("no corpus ", digest.hex()));
  }
  return corpus;
}

absl::StatusOr<std::shared_ptr<const v1::Corpus>> SqliteReader::ReadCorpus(
    const std::string& name_or_digest) {
  const auto digest = Digest::FromHex(name_or_digest);
  const std::string bytes = digest.ok() ? digest->bytes() : "";
  std::shared_ptr<const v1::Corpus> corpus;
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kReadNamedCorpus,
      [&](const Statement& row) -> absl::Status {
        QSWEEP_ASSIGN_OR_RETURN(v1::Corpus body,
                                ProtoColumn<v1::Corpus>(row, 0));
        corpus = std::make_shared<const v1::Corpus>(std::move(body));
        return absl::OkStatus();
      },
      name_or_digest, Blob{bytes}));
  if (corpus == nullptr) {
    return MakeError(kUnknownCorpus,
                     absl::StrCat("no corpus '", name_or_digest, "'"), "corpus",
                     "list them with 'qctl corpora list'");
  }
  return corpus;
}

absl::StatusOr<ArtifactPart> SqliteReader::ReadArtifact(const Digest& digest,
                                                        uint64_t offset,
                                                        uint64_t limit) {
  ArtifactPart part;
  bool found = false;
  QSWEEP_RETURN_IF_ERROR(ForEach(
      sql::kReadArtifact,
      [&](const Statement& row) {
        found = true;
        part.total_size = static_cast<uint64_t>(row.Integer(0));
        part.data = row.Text(1);
        return absl::OkStatus();
      },
      Blob{digest.bytes()}, offset, limit));
  if (!found) {
    return MakeError(kArtifactNotFound,
                     absl::StrCat("no artifact ", digest.hex()), "",
                     "add the corpus again with 'qctl corpora add'");
  }
  return part;
}

class ReaderThreads : public ReaderPool {
 public:
  explicit ReaderThreads(std::vector<std::unique_ptr<Reader>> readers)
      : readers_(std::move(readers)) {
    for (const std::unique_ptr<Reader>& reader : readers_) {
      threads_.emplace_back([this, &reader] { Serve(*reader); });
    }
  }
  ~ReaderThreads() override {
    {
      MutexLock lock(mutex_);
      ending_ = true;
    }
    changed_.NotifyAll();
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }

  absl::Status Post(ReadKind kind, std::function<void(Reader&)> job) override {
    {
      MutexLock lock(mutex_);
      Queue& queue = waiting_[static_cast<size_t>(kind)];
      if (queue.size() >= kWaitingMax) {
        return MakeError(kOverloaded, "too many calls wait to read", "",
                         "Try again in a few seconds.");
      }
      queue.push_back(std::move(job));
    }
    changed_.NotifyOne();
    return absl::OkStatus();
  }

 private:
  using Queue = std::deque<std::function<void(Reader&)>>;
  static constexpr size_t kNumKinds = 3;
  static constexpr size_t kWaitingMax = 1000;  // of a kind

  // How many threads may run a kind and those after it.
  size_t MostThreads(size_t kind) const {
    const size_t all = readers_.size();
    const std::array<size_t, kNumKinds> most = {all, all - 1, all / 2};
    return std::max<size_t>(most[kind], 1);
  }

  // The kind of which a thread may run one; kNumKinds: none.
  size_t Next() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (size_t kind = 0; kind < kNumKinds; ++kind) {
      const size_t running =
          std::accumulate(running_.begin() + static_cast<ptrdiff_t>(kind),
                          running_.end(), size_t{0});
      if (!waiting_[kind].empty() && running < MostThreads(kind)) {
        return kind;
      }
    }
    return kNumKinds;
  }

  bool AllDone() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ending_ && std::ranges::all_of(waiting_, &Queue::empty);
  }

  void Serve(Reader& reader) {
    while (true) {
      std::function<void(Reader&)> job;
      size_t kind = kNumKinds;
      {
        MutexLock lock(mutex_);
        for (kind = Next(); kind == kNumKinds && !AllDone(); kind = Next()) {
          changed_.Wait(mutex_);
        }
        if (kind == kNumKinds) {
          return;
        }
        ++running_[kind];
        job = std::move(waiting_[kind].front());
        waiting_[kind].pop_front();
      }
      job(reader);
      job = nullptr;  // what it holds goes before the next call may count on it
      {
        MutexLock lock(mutex_);
        --running_[kind];
      }
      // Another thread may run now what this one held back, or see the end.
      changed_.NotifyAll();
    }
  }

  const std::vector<std::unique_ptr<Reader>> readers_;
  Mutex mutex_;
  CondVar changed_;
  std::array<Queue, kNumKinds> waiting_ ABSL_GUARDED_BY(mutex_);
  std::array<size_t, kNumKinds> running_ ABSL_GUARDED_BY(mutex_) = {};
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Reader>> Reader::Open(
    const std::string& directory, const Clock& clock,
    std::shared_ptr<ReadGate> gate) {
  const std::string path = DatabasePath(directory);
  QSWEEP_ASSIGN_OR_RETURN(Database database, OpenReader(path));
  QSWEEP_ASSIGN_OR_RETURN(Database for_users, OpenReader(path));
  QSWEEP_ASSIGN_OR_RETURN(
      std::unique_ptr<QueryGuard> guard,
      QueryGuard::Create(std::move(for_users), AnalysisCache::Path(directory),
                         clock));
  return std::make_unique<SqliteReader>(
      directory, std::move(database), std::move(guard), clock, std::move(gate));
}

absl::StatusOr<std::unique_ptr<ReaderPool>> ReaderPool::Start(
    const std::string& directory, const Clock& clock, int num_threads,
    const std::shared_ptr<ReadGate>& gate) {
  std::vector<std::unique_ptr<Reader>> readers;
  for (int i = 0; i < num_threads; ++i) {
    QSWEEP_ASSIGN_OR_RETURN(std::unique_ptr<Reader> reader,
                            Reader::Open(directory, clock, gate));
    readers.push_back(std::move(reader));
  }
  return std::make_unique<ReaderThreads>(std::move(readers));
}

}  // namespace qsweep
