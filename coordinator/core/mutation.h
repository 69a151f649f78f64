#ifndef QSWEEP_COORDINATOR_CORE_MUTATION_H_
#define QSWEEP_COORDINATOR_CORE_MUTATION_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/ids.h"
#include "common/job/canonical_spelling.h"
#include "common/job/quantizer.h"
#include "coordinator/core/speeds.h"
#include "coordinator/core/token.h"
#include "qsweep/v1/coordinator.pb.h"
#include "qsweep/v1/job.pb.h"
#include "qsweep/v1/task.pb.h"
#include "qsweep/v1/worker.pb.h"

namespace qsweep {

// All that can ever be remembered. Decide functions return mutations,
// State::Apply carries them out, Store::Commit writes them; nothing else
// changes State or disk. A new alternative compiles only when both know it.
//
// Each mutation leaves State consistent (CheckInvariants). Big protos are
// shared, never copied, and never null. Members marked `memory only` are not
// stored: deadlines mean nothing after a restart.

using TaskGroupId = IntegerId<struct TaskGroupIdTag>;

// The process began to serve. Leases found then are honoured until
// `failover_deadline`; timers of BACKOFF tasks start again at `now`.
struct CoordinatorStarted {
  int64_t epoch = 0;             // one more than the last
  SteadyTime now;                // memory only
  SteadyTime failover_deadline;  // memory only
};

// Bytes of an artifact (a serialized LanguageCorpus), by their SHA-256.
struct ArtifactAdded {
  Digest digest;
  std::shared_ptr<const std::string> bytes;
};

// A corpus whose artifacts are stored; its name points to it from now on.
struct CorpusAdded {
  std::shared_ptr<const v1::Corpus> corpus;
};

struct ModelAdded {
  Digest digest;
  std::shared_ptr<const v1::ModelDescription> model;
};

// One configuration of a job, as the user wrote it and as the model has it.
struct JobConfiguration {
  int model_index = 0;  // into JobSpec.models
  Digest digest;
  std::string quantizer;  // text; "fp" for the baseline
  std::string layer_set;  // as written: "L75%", "each" expanded to "L3"
  std::string resolved;   // on this model: "L22"; "all" for the baseline
  Spelling canonical;     // the same for every job that has it
  bool baseline = false;
  bool unprotected = false;         // measures what "none" does
  std::optional<int> single_layer;  // measures what "Lk" does
  double overhead_params = 0;       // shares of the model, quantization.md 4
  double overhead_layers = 0;
  double overhead_kept = 0;
  double overhead_bytes = 0;
};

// The measurements of a job are, for each of its models and evaluations, the
// model's configurations x the documents of that evaluation.
struct JobEvaluation {
  int model_index = 0;  // into JobSpec.models
  int eval_index = 0;   // into JobSpec.evals
  std::string text;     // canonical: "aligned@1;tok=..."
};

struct JobDocument {
  int eval_index = 0;    // into JobSpec.evals
  std::string language;  // corpus code
  std::string id;        // aligned
  Digest digest;         // equal texts share it, and their measurements
};

// A job in state PLANNING: no task is leased on its behalf before a
// JobStateChanged.
struct JobAdded {
  JobNumber number;
  JobUuid uuid;
  Digest
      spec_digest;  // of the submit request: same UUID, other digest: refused
  std::string owner;
  absl::Time created_at;
  std::shared_ptr<const v1::JobSpec> spec;
  std::shared_ptr<const v1::JobPlan> plan;
  std::vector<Digest> models;  // parallel to spec.models; ModelAdded before
  Digest corpus;
  std::vector<JobConfiguration> configurations;
  std::vector<JobEvaluation> evaluations;
  std::vector<JobDocument> documents;  // by evaluation, language, id
  int64_t documents_skipped = 0;       // Job::documents_skipped so far
};

// More documents of a job in state PLANNING, which come after those of the
// mutations before. Written again they are the same.
struct JobDocumentsAdded {
  JobNumber job;
  int first_ordinal = 0;
  std::vector<JobDocument> documents;
};

// The planning of a job begins again, and of the measurements its tasks bring
// none is counted. plan: with what is known before.
struct JobPlanningResumed {
  JobNumber job;
  std::shared_ptr<const v1::JobPlan> plan;
};

// The plan of a job in state PLANNING is whole; a JobStateChanged follows.
struct JobActivated {
  JobNumber job;
  std::shared_ptr<const v1::JobPlan> plan;
  int64_t documents_skipped = 0;  // Job::documents_skipped so far
};

// A job that had ended is PLANNING, until the next JobStateChanged.
struct JobReopened {
  JobNumber job;
  // Over what is measured now; null: the plan it has. measurements_reused are
  // those that no DONE task of the job brings.
  std::shared_ptr<const v1::JobPlan> plan;
};

struct JobPriorityChanged {
  JobNumber job;
  int priority = 0;
};

struct JobStateChanged {
  JobNumber job;
  v1::JobState state = v1::JOB_STATE_UNSPECIFIED;
  std::string reason;  // for people; may be empty
  absl::Time time;     // becomes finished_at when the state is terminal
};

// A job that ended is forgotten, with the tasks that nobody else has. Its rows
// are deleted in time (Store::Purge); measurements stay.
struct JobPurged {
  JobNumber job;
};

// A task that was given up and that no job has any more is forgotten.
struct TaskForgotten {
  TaskId task;
};

// What all tasks of one plan share: a TaskSpec without task_id, content_key,
// documents and estimated_seconds.
struct TaskGroupAdded {
  TaskGroupId id;
  std::shared_ptr<const v1::TaskSpec> prototype;
};

struct TaskDocumentKey {
  Digest digest;
  uint32_t language_index = 0;  // into the prototype's languages
  bool operator==(const TaskDocumentKey&) const = default;
};

// A task in state READY.
struct TaskAdded {
  TaskId id;
  TaskGroupId group;
  Digest content_key;  // unique
  std::vector<TaskDocumentKey> documents;
  float estimated_seconds = 0;
  TaskId audit_of;  // valid: measures again what that task brought
};

// The job wants the task's result. It may want it already: a plan that is made
// in slices then found more that the task brings, or begins again and takes
// back what it counted.
struct JobTaskAdded {
  JobNumber job;
  TaskId task;
  int64_t num_measurements =
      0;  // of the job's that this task brings; < 0: back
};
struct JobTaskRemoved {
  JobNumber job;
  TaskId task;
};

// READY -> LEASED. The epoch is the task's last plus one.
struct LeaseGranted {
  TaskId task;
  Epoch epoch;
  JobNumber job;  // memory only: the subscriber that holds the worker now
  WorkerUuid worker;
  SessionId session;
  std::string
      credential;         // identity of the worker's calls; "" on a unix socket
  absl::Time granted_at;  // for people
  SteadyTime now;         // memory only
  SteadyTime deadline;    // memory only
};

enum class LeaseEnd {
  kCommitted,   // this attempt's result was stored
  kSuperseded,  // another attempt's result was stored
  kFailed,      // charged to the task
  kStalled,     // charged to the task
  kLost,        // expired or given up; charged to `lost`
  kPreempted,   // announced; free
  kCancelled,   // nobody wants the task any more
};
absl::string_view LeaseEndName(LeaseEnd end);  // "committed", ...

// LEASED -> to, unless a result ends the lease (ResultCommitted). The end says
// which counter grows by one: kFailed and kStalled `failed`, kLost `lost`,
// kPreempted `preempted`.
struct LeaseEnded {
  TaskId task;
  Epoch epoch;
  LeaseEnd end = LeaseEnd::kLost;
  v1::TaskState to = v1::TASK_STATE_UNSPECIFIED;  // READY, BACKOFF,
                                                  // QUARANTINED, CANCELLED
  std::string reason;
  absl::Duration backoff;  // BACKOFF: stored, armed again at a restart
  absl::Duration held;     // for the cost ledger: Draft::HeldTime
  absl::Time ended_at;     // for people
  SteadyTime now;          // memory only
};

// A move of a task that holds no lease. READY from QUARANTINED or CANCELLED
// starts with new budgets and the same sequence of epochs.
struct TaskStateChanged {
  TaskId task;
  v1::TaskState to = v1::TASK_STATE_UNSPECIFIED;
  bool new_budgets = false;  // failed, lost and preempted become 0
  std::string reason;
};

// One measurement, with its key.
struct MeasuredRow {
  Digest configuration;
  Digest document;
  v1::Measurement values;  // its two indexes are of the task that brought it
};

// The first valid result of a task: task -> DONE. The attempt's grant ends
// kCommitted; a lease of another epoch that is held ends kSuperseded. Rows are
// new keys only: the others are in a DuplicateRecorded.
struct ResultCommitted {
  TaskId task;
  Epoch epoch;            // of the attempt; may be older than the lease's
  Digest payload_digest;  // SHA-256 of the serialized TaskResult
  std::string evaluation;
  std::vector<MeasuredRow> rows;
  v1::TaskReport report;
  WorkerUuid worker;
  std::string worker_name;
  absl::Time committed_at;
  absl::Duration held;  // by the lease that ends with it; zero: none did
  SpeedSample speed;    // what the attempt teaches
  Compute compute = Compute::kFp32;  // of the task
  // Job::documents_skipped with these rows, of the subscribers whose count may
  // have changed.
  std::map<JobNumber, int64_t> documents_skipped;
};

// A later result for keys that are stored. Nothing stored changes.
struct DuplicateRecorded {
  TaskId task;
  Epoch epoch;
  Digest payload_digest;
  std::string evaluation;
  std::vector<MeasuredRow> differing;  // rows that do not repeat the stored
  int64_t num_compared = 0;
  std::string engine;
  WorkerUuid worker;
  absl::Time time;
};

struct EventAppended {
  JobNumber job;                                  // not valid: of a worker
  std::shared_ptr<const v1::DurableEvent> event;  // seq and job_seq set
};

// The worker was attached for so long beside what is known, for the ledger.
struct WorkerTimeAdded {
  WorkerUuid worker;
  absl::Duration attached;  // whole microseconds
  absl::Time time;
};

// A worker said hello; its session replaces the one before.
struct WorkerAttached {
  WorkerUuid worker;
  SessionId session;  // memory only
  BootId boot;        // memory only
  uint64_t boot_seq = 0;
  std::string credential;
  std::shared_ptr<const v1::Hello> hello;  // name, devices, build_id are stored
  absl::Time time;
  SteadyTime now;       // memory only
  SteadyTime deadline;  // memory only
};

// What an operator, or the worker's record, lets it do. An open worker is
// leased tasks; the others finish what they hold.
enum class WorkerMode { kOpen, kDraining, kQuarantined };
absl::string_view WorkerModeName(WorkerMode mode);  // "open", ...

// kOpen forgets what the worker was blamed for.
struct WorkerModeChanged {
  WorkerUuid worker;
  WorkerMode mode = WorkerMode::kOpen;
  std::string reason;
  absl::Duration drain_deadline;  // memory only; zero: no hurry
};

// A lost worker to which no row refers is forgotten.
struct WorkerForgotten {
  WorkerUuid worker;
};

// The task failed on this worker and another one finished it.
struct WorkerBlamed {
  WorkerUuid worker;
  TaskId task;
};

// Memory only, all of it: a heartbeat costs no write.
struct WorkerReported {
  WorkerUuid worker;
  std::shared_ptr<const v1::WorkerState> state;
  SteadyTime now;
  SteadyTime deadline;
};

// Memory only. The worker is live but nobody hears it, or it is gone.
enum class WorkerLiveness { kLive, kSuspect, kLost };
struct WorkerLivenessChanged {
  WorkerUuid worker;
  WorkerLiveness to = WorkerLiveness::kLost;
};

// Memory only. A listing confirmed the lease and moved its deadline.
struct LeaseRenewed {
  TaskId task;
  Epoch epoch;
  SessionId session;
  SteadyTime now;
  SteadyTime deadline;
  v1::TaskProgress progress;
  SteadyTime run_deadline = SteadyTime::InfiniteFuture();  // once it ran
  absl::Duration progress_limit;
  SteadyTime commit_deadline = SteadyTime::InfiniteFuture();
};

// Memory only. Since when a job has tasks to run and nobody on them;
// InfiniteFuture: it does not wait. told: an event said so.
struct JobWaits {
  JobNumber job;
  SteadyTime since = SteadyTime::InfiniteFuture();
  bool told = false;
};

// Memory only. A DesiredState with all leases of the worker went out.
struct WorkerInformed {
  WorkerUuid worker;
  uint64_t state_seq = 0;
};

struct TokenAdded {
  Token token;
};
// Another secret for the same token.
struct TokenRotated {
  TokenId token;
  Digest secret;  // SHA-256 of it
};
struct TokenRevoked {
  TokenId token;
  absl::Time revoked_at;
};

// Who changed access, and calls that were refused. Stored only: nothing is
// decided from it.
struct AuditRecorded {
  absl::Time time;
  std::string actor;    // "socket", "token/7", "local/...", or an address
  std::string action;   // "token_created", "joined", "token_revoked", ...
  std::string subject;  // the token, or the method that was refused
  std::string detail;
  int64_t count = 1;  // calls refused since the last line
};

using Mutation = std::variant<
    CoordinatorStarted, ArtifactAdded, CorpusAdded, ModelAdded, JobAdded,
    JobDocumentsAdded, JobPlanningResumed, JobActivated, JobReopened, JobPurged,
    JobPriorityChanged, JobStateChanged, TaskGroupAdded, TaskAdded,
    JobTaskAdded, JobTaskRemoved, LeaseGranted, LeaseEnded, TaskStateChanged,
    TaskForgotten, ResultCommitted, DuplicateRecorded, EventAppended,
    WorkerTimeAdded, WorkerAttached, WorkerModeChanged, WorkerForgotten,
    WorkerBlamed, WorkerReported, WorkerLivenessChanged, LeaseRenewed, JobWaits,
    WorkerInformed, TokenAdded, TokenRotated, TokenRevoked, AuditRecorded>;

// False for the memory-only ones: a batch without a durable mutation needs no
// transaction.
bool IsDurable(const Mutation& mutation);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_MUTATION_H_
