#include "coordinator/store/state_loader.h"

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"

#include "common/base/status_macros.h"
#include "coordinator/store/codec.h"
#include "coordinator/store/snapshot_check.h"
#include "coordinator/store/sql.h"

namespace qsweep {
namespace {

// Ids are given in sequence, and TaskTable has room for all below the last.
constexpr int64_t kMostId = int64_t{1} << 31;

bool IsId(int64_t value) { return value > 0 && value < kMostId; }

// Runs `sql` and hands each row to use(row).
template <typename Use>
absl::Status ForEachRow(StatementCache& statements, const char* sql, Use use) {
  QSWEEP_ASSIGN_OR_RETURN(Statement * row, statements.Get(sql));
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool more, row->Step());
    if (!more) {
      return absl::OkStatus();
    }
    if (absl::Status status = use(*row); !status.ok()) {
      row->Reset();
      return status;
    }
  }
}

absl::Status ReadInteger(StatementCache& statements, const char* sql,
                         int64_t& value) {
  return ForEachRow(statements, sql, [&](const Statement& row) {
    value = row.Integer(0);
    return absl::OkStatus();
  });
}

absl::StatusOr<Job> ReadJob(const Statement& row) {
  Job job;
  job.number = JobNumber(row.Integer(0));
  QSWEEP_ASSIGN_OR_RETURN(job.uuid, UuidColumn<JobUuid>(row, 1));
  QSWEEP_ASSIGN_OR_RETURN(job.spec_digest, DigestColumn(row, 2));
  job.owner = row.Text(3);
  QSWEEP_ASSIGN_OR_RETURN(job.state, JobStateFromText(row.View(4)));
  job.reason = row.Text(5);
  QSWEEP_ASSIGN_OR_RETURN(const v1::JobSpec spec,
                          ProtoColumn<v1::JobSpec>(row, 6));
  TakeSpec(spec, job);
  QSWEEP_ASSIGN_OR_RETURN(const v1::JobPlan plan,
                          ProtoColumn<v1::JobPlan>(row, 7));
  job.measurements_total = static_cast<int64_t>(plan.measurements());
  job.measurements_reused = static_cast<int64_t>(plan.measurements_reused());
  job.measurements_done = job.measurements_reused;  // tasks add theirs
  job.documents_skipped = row.Integer(8);
  job.priority = static_cast<int>(row.Integer(9));
  job.created_at = absl::FromUnixMicros(row.Integer(10));
  if (!row.IsNull(11)) {
    job.finished_at = absl::FromUnixMicros(row.Integer(11));
  }
  job.last_job_seq = row.Integer(12);
  return job;
}

absl::StatusOr<TaskGroup> ReadGroup(const Statement& row) {
  QSWEEP_ASSIGN_OR_RETURN(v1::TaskSpec prototype,
                          ProtoColumn<v1::TaskSpec>(row, 1));
  for (const v1::ConfigurationSpec& configuration :
       prototype.configurations()) {
    if (configuration.digest().size() != Digest::kSize) {
      return DamagedColumn("prototype");
    }
  }
  if (prototype.model_digest().size() != Digest::kSize) {
    return DamagedColumn("prototype");
  }
  return MakeTaskGroup(
      TaskGroupId(row.Integer(0)),
      std::make_shared<const v1::TaskSpec>(std::move(prototype)));
}

// What most tasks have none of: a reason, charged attempts, a delay, a result,
// a task they check.
absl::Status ReadHistory(const Statement& row, Task& task) {
  const bool charged =
      row.Integer(7) + row.Integer(8) + row.Integer(9) + row.Integer(10) > 0;
  if (!charged && row.View(6).empty() && row.IsNull(13) &&
      task.state != v1::TASK_STATE_DONE) {
    return absl::OkStatus();
  }
  TaskHistory& history = task.history.Edit();
  history.reason = row.Text(6);
  history.failed = static_cast<int>(row.Integer(7));
  history.lost = static_cast<int>(row.Integer(8));
  history.preempted = static_cast<int>(row.Integer(9));
  history.backoff = absl::Microseconds(row.Integer(10));
  if (!row.IsNull(13)) {
    history.audit_of = TaskId(row.Integer(13));
  }
  if (task.state == v1::TASK_STATE_DONE) {
    history.result_epoch = Epoch(row.Integer(11));
    QSWEEP_ASSIGN_OR_RETURN(history.result_digest, DigestColumn(row, 12));
  }
  return absl::OkStatus();
}

absl::StatusOr<Task> ReadTask(const Statement& row, DigestTable& documents) {
  if (!IsId(row.Integer(0)) || !IsId(row.Integer(1))) {
    return DamagedColumn("id");
  }
  Task task;
  task.id = TaskId(row.Integer(0));
  task.group = TaskGroupId(row.Integer(1));
  QSWEEP_ASSIGN_OR_RETURN(task.content_key, DigestColumn(row, 2));
  QSWEEP_ASSIGN_OR_RETURN(task.state, TaskStateFromText(row.View(5)));
  QSWEEP_ASSIGN_OR_RETURN(const size_t num_documents,
                          CountDocuments(row.View(3)));
  task.estimated_seconds = static_cast<float>(row.Real(4));
  if (task.state != v1::TASK_STATE_DONE) {
    task.documents.reserve(num_documents);
    for (size_t i = 0; i < num_documents; ++i) {
      const TaskDocumentKey key = UnpackDocument(row.View(3), i);
      task.documents.push_back({.document = documents.Add(key.digest),
                                .language_index = key.language_index});
    }
  }
  QSWEEP_RETURN_IF_ERROR(ReadHistory(row, task));
  if (task.state == v1::TASK_STATE_DONE) {
    task.history.Edit().num_documents = static_cast<int32_t>(num_documents);
  }
  return task;
}

absl::StatusOr<Worker> ReadWorker(const Statement& row) {
  Worker worker;
  QSWEEP_ASSIGN_OR_RETURN(worker.uuid, UuidColumn<WorkerUuid>(row, 0));
  worker.boot_seq = static_cast<uint64_t>(row.Integer(1));
  worker.credential = row.Text(2);
  QSWEEP_ASSIGN_OR_RETURN(const v1::Hello hello,
                          ProtoColumn<v1::Hello>(row, 3));
  worker.name = hello.name();
  worker.build_id = hello.build_id();
  worker.devices = {hello.devices().begin(), hello.devices().end()};
  QSWEEP_ASSIGN_OR_RETURN(worker.mode, WorkerModeFromText(row.View(4)));
  worker.mode_reason = row.Text(5);
  worker.blamed = row.Integer(6);
  worker.tasks_done = row.Integer(7);
  worker.last_seen = absl::FromUnixMicros(row.Integer(8));
  worker.attached = absl::Microseconds(row.Integer(9));
  return worker;
}

absl::StatusOr<Token> ReadToken(const Statement& row) {
  const auto time = [&row](int column) {
    return row.IsNull(column) ? absl::InfiniteFuture()
                              : absl::FromUnixMicros(row.Integer(column));
  };
  Token token;
  token.id = TokenId(row.Integer(0));
  QSWEEP_ASSIGN_OR_RETURN(token.secret, DigestColumn(row, 1));
  QSWEEP_ASSIGN_OR_RETURN(token.kind, TokenKindFromText(row.View(2)));
  QSWEEP_ASSIGN_OR_RETURN(token.role, RoleFromText(row.View(3)));
  token.name = row.Text(4);
  token.reusable = row.Integer(5) != 0;
  if (!row.IsNull(6)) {
    token.lifetime = absl::Microseconds(row.Integer(6));
  }
  if (!row.IsNull(7)) {
    token.joined_with = TokenId(row.Integer(7));
  }
  token.created_by = row.Text(8);
  token.created_at = time(9);
  token.expires_at = time(10);
  token.revoked_at = time(11);
  return token;
}

// One load: rows that belong together are joined here, by ids, in memory.
class Loader {
 public:
  explicit Loader(StatementCache& statements) : statements_(statements) {}

  absl::StatusOr<StateSnapshot> Load() {
    int64_t last_task = 0;
    int64_t last_group = 0;
    int64_t last_event = 0;
    QSWEEP_RETURN_IF_ERROR(ReadInteger(statements_, sql::kReadCoordinatorEpoch,
                                       snapshot_.coordinator_epoch));
    QSWEEP_RETURN_IF_ERROR(
        ReadInteger(statements_, sql::kReadLastGroup, last_group));
    QSWEEP_RETURN_IF_ERROR(
        ReadInteger(statements_, sql::kReadLastEvent, last_event));
    QSWEEP_RETURN_IF_ERROR(
        ReadInteger(statements_, sql::kReadLastTask, last_task));
    snapshot_.last_task = TaskId(last_task);
    snapshot_.last_group = TaskGroupId(last_group);
    snapshot_.last_event = EventSeq(last_event);
    QSWEEP_RETURN_IF_ERROR(LoadNames());
    QSWEEP_RETURN_IF_ERROR(LoadTasks());
    QSWEEP_RETURN_IF_ERROR(LoadJobs());
    QSWEEP_RETURN_IF_ERROR(DropPurgedTasks());
    QSWEEP_RETURN_IF_ERROR(CheckSnapshot(snapshot_));
    QSWEEP_RETURN_IF_ERROR(LoadSpeeds());
    return std::move(snapshot_);
  }

 private:
  absl::Status LoadNames() {
    QSWEEP_RETURN_IF_ERROR(
        ForEachRow(statements_, sql::kReadCorpusNames,
                   [&](const Statement& row) -> absl::Status {
                     QSWEEP_ASSIGN_OR_RETURN(snapshot_.corpora[row.Text(0)],
                                             DigestColumn(row, 1));
                     return absl::OkStatus();
                   }));
    QSWEEP_RETURN_IF_ERROR(ForEachRow(
        statements_, sql::kReadModelDigests,
        [&](const Statement& row) -> absl::Status {
          QSWEEP_ASSIGN_OR_RETURN(const Digest digest, DigestColumn(row, 0));
          snapshot_.models.insert(digest);
          return absl::OkStatus();
        }));
    QSWEEP_RETURN_IF_ERROR(
        ForEachRow(statements_, sql::kReadTokens,
                   [&](const Statement& row) -> absl::Status {
                     QSWEEP_ASSIGN_OR_RETURN(Token token, ReadToken(row));
                     snapshot_.tokens.push_back(std::move(token));
                     return absl::OkStatus();
                   }));
    return ForEachRow(statements_, sql::kReadWorkers,
                      [&](const Statement& row) -> absl::Status {
                        QSWEEP_ASSIGN_OR_RETURN(Worker worker, ReadWorker(row));
                        snapshot_.workers.push_back(std::move(worker));
                        return absl::OkStatus();
                      });
  }

  absl::Status LoadTasks() {
    QSWEEP_RETURN_IF_ERROR(
        ForEachRow(statements_, sql::kReadGroups,
                   [&](const Statement& row) -> absl::Status {
                     QSWEEP_ASSIGN_OR_RETURN(TaskGroup group, ReadGroup(row));
                     snapshot_.groups.push_back(std::move(group));
                     return absl::OkStatus();
                   }));
    QSWEEP_RETURN_IF_ERROR(
        ForEachRow(statements_, sql::kReadTasks,
                   [&](const Statement& row) -> absl::Status {
                     QSWEEP_ASSIGN_OR_RETURN(
                         Task task, ReadTask(row, snapshot_.documents));
                     snapshot_.tasks.Add(std::move(task));
                     return absl::OkStatus();
                   }));
    return ForEachRow(statements_, sql::kReadLeases,
                      [&](const Statement& row) { return AddLease(row); });
  }

  // Rows come in order of epoch, and every epoch has one.
  absl::Status AddLease(const Statement& row) {
    Task* found = snapshot_.tasks.Find(TaskId(row.Integer(0)));
    if (found == nullptr) {  // archived
      return absl::OkStatus();
    }
    Task& task = *found;
    if (Epoch(row.Integer(1)) != task.epoch().Next()) {
      return DamagedColumn("epoch");
    }
    QSWEEP_ASSIGN_OR_RETURN(const WorkerUuid worker,
                            UuidColumn<WorkerUuid>(row, 2));
    std::vector<Grant>& grants = task.history.Edit().grants;
    grants.push_back({.worker = worker, .credential = row.Text(4)});
    if (!row.IsNull(5)) {
      QSWEEP_ASSIGN_OR_RETURN(grants.back().end, LeaseEndFromText(row.View(5)));
    } else {
      QSWEEP_ASSIGN_OR_RETURN(const SessionId session,
                              UuidColumn<SessionId>(row, 3));
      task.lease = Lease{.worker = worker, .session = session};
    }
    return absl::OkStatus();
  }

  absl::Status LoadJobs() {
    QSWEEP_RETURN_IF_ERROR(ForEachRow(
        statements_, sql::kReadJobs, [&](const Statement& row) -> absl::Status {
          QSWEEP_ASSIGN_OR_RETURN(Job job, ReadJob(row));
          job_index_[job.number] = snapshot_.jobs.size();
          snapshot_.jobs.push_back(std::move(job));
          return absl::OkStatus();
        }));
    return ForEachRow(statements_, sql::kReadJobTasks,
                      [&](const Statement& row) { return AddJobTask(row); });
  }

  absl::Status DropPurgedTasks() {
    absl::flat_hash_set<TaskGroupId> emptied;
    QSWEEP_RETURN_IF_ERROR(ForEachRow(
        statements_, sql::kReadPurgedTasks, [&](const Statement& row) {
          const TaskId id(row.Integer(0));
          const Task* task = snapshot_.tasks.Find(id);
          if (task != nullptr && task->jobs.empty()) {
            emptied.insert(TaskGroupId(task->group));
            snapshot_.tasks.Erase(id);
          }
          return absl::OkStatus();
        }));
    if (!emptied.empty()) {
      for (const auto& [id, task] : snapshot_.tasks) {
        emptied.erase(TaskGroupId(task.group));
      }
      std::erase_if(snapshot_.groups, [&emptied](const TaskGroup& group) {
        return emptied.contains(group.id);
      });
    }
    return absl::OkStatus();
  }

  absl::Status LoadSpeeds() {
    return ForEachRow(
        statements_, sql::kReadSpeeds,
        [&](const Statement& row) -> absl::Status {
          SpeedSample sample{.operation = row.Text(1), .device = row.Text(2)};
          QSWEEP_ASSIGN_OR_RETURN(sample.model, DigestColumn(row, 0));
          const double value = row.Real(3);
          if (!std::isfinite(value) || value <= 0) {
            return DamagedColumn("speed");
          }
          (sample.operation == Speeds::kLoads     ? sample.load_seconds
           : sample.operation == Speeds::kWeights ? sample.weight_bandwidth
                                                  : sample.gflops) = value;
          snapshot_.speeds.push_back(std::move(sample));
          return absl::OkStatus();
        });
  }

  absl::Status AddJobTask(const Statement& row) {
    const auto job_found = job_index_.find(JobNumber(row.Integer(0)));
    Task* task = snapshot_.tasks.Find(TaskId(row.Integer(1)));
    if (job_found == job_index_.end() || task == nullptr) {
      return DamagedColumn("job_task");
    }
    Job& job = snapshot_.jobs[job_found->second];
    const int64_t measurements = row.Integer(2);
    if (measurements < 0 || measurements > kMostMeasurementsPerTask) {
      return DamagedColumn("measurements");
    }
    job.tasks.emplace_hint(job.tasks.end(), task->id,
                           static_cast<uint32_t>(measurements));
    task->jobs.push_back(job.number);  // ascending: rows come by job
    if (task->state == v1::TASK_STATE_DONE) {
      job.measurements_done += measurements;
    }
    return absl::OkStatus();
  }

  StatementCache& statements_;
  StateSnapshot snapshot_;
  absl::flat_hash_map<JobNumber, size_t> job_index_;
};

}  // namespace

absl::StatusOr<StateSnapshot> LoadState(StatementCache& statements) {
  return Loader(statements).Load();
}

}  // namespace qsweep
