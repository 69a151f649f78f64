#include "coordinator/store/mutation_writer.h"

#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"

#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/job/job_spec.h"
#include "common/job/quantizer.h"
#include "coordinator/core/state.h"
#include "coordinator/store/codec.h"
#include "coordinator/store/sql.h"

namespace qsweep {
namespace {

// For the jobs view; fields by their names in job.proto.
std::string Json(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  QSWEEP_CHECK(
      google::protobuf::util::MessageToJsonString(message, &json, options)
          .ok());
  return json;
}

std::string LabelsJson(const v1::JobSpec& spec) {
  google::protobuf::Struct labels;
  for (const auto& [key, value] : spec.labels()) {
    (*labels.mutable_fields())[key].set_string_value(value);
  }
  return Json(labels);
}

}  // namespace

absl::Status MutationWriter::Write(const Mutation& mutation) {
  return std::visit([this](const auto& m) { return On(m); }, mutation);
}

absl::Status MutationWriter::On(const CoordinatorStarted& m) {
  return statements_.Run(sql::kSetCoordinatorEpoch, m.epoch);
}

absl::Status MutationWriter::On(const ArtifactAdded& m) {
  return statements_.Run(sql::kAddArtifact, Blob{m.digest.bytes()},
                         Blob{*m.bytes});
}

absl::Status MutationWriter::On(const CorpusAdded& m) {
  const v1::Corpus& corpus = *m.corpus;
  QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kAddCorpus, Blob{corpus.digest()},
                                         corpus.name(),
                                         Blob{corpus.SerializeAsString()}));
  QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kSetCorpusName, corpus.name(),
                                         Blob{corpus.digest()}));
  for (const v1::CorpusLanguage& language : corpus.languages()) {
    for (int i = 0; i < language.document_digests_size(); ++i) {
      const Blob digest{language.document_digests(i)};
      QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kAddDocument, digest));
      QSWEEP_RETURN_IF_ERROR(statements_.Run(
          sql::kAddCorpusDocument, Blob{corpus.digest()}, language.language(),
          i, language.document_ids(i), digest));
    }
  }
  return absl::OkStatus();
}

absl::Status MutationWriter::On(const ModelAdded& m) {
  return statements_.Run(sql::kAddModel, Blob{m.digest.bytes()},
                         m.model->name(), Blob{m.model->SerializeAsString()});
}

absl::Status MutationWriter::On(const JobAdded& m) {
  QSWEEP_RETURN_IF_ERROR(statements_.Run(
      sql::kAddJob, m.number, m.uuid, Blob{m.spec_digest.bytes()},
      m.spec->name(), JobKindText(m.spec->kind()), m.owner, LabelsJson(*m.spec),
      Blob{m.corpus.bytes()}, Blob{m.spec->SerializeAsString()}, Json(*m.spec),
      Blob{m.plan->SerializeAsString()}, m.documents_skipped,
      m.spec->policy().priority(), absl::ToUnixMicros(m.created_at)));
  int ordinal = 0;
  for (const Digest& model : m.models) {
    QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kAddJobModel, m.number,
                                           ordinal++, Blob{model.bytes()}));
  }
  QSWEEP_RETURN_IF_ERROR(AddConfigurations(m));
  ordinal = 0;
  for (const JobEvaluation& evaluation : m.evaluations) {
    const auto model = static_cast<size_t>(evaluation.model_index);
    QSWEEP_RETURN_IF_ERROR(
        statements_.Run(sql::kAddEvaluation, evaluation.text));
    QSWEEP_RETURN_IF_ERROR(statements_.Run(
        sql::kAddJobEvaluation, m.number, ordinal++,
        Blob{m.models[model].bytes()}, evaluation.eval_index, evaluation.text));
  }
  return AddDocuments(m.number, 0, m.documents);
}

absl::Status MutationWriter::AddDocuments(
    JobNumber job, int first_ordinal,
    const std::vector<JobDocument>& documents) {
  int ordinal = first_ordinal;
  for (const JobDocument& document : documents) {
    QSWEEP_ASSIGN_OR_RETURN(const int64_t id, ids_.Document(document.digest));
    QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kAddJobDocument, job, ordinal++,
                                           document.eval_index,
                                           document.language, document.id, id));
  }
  return absl::OkStatus();
}

absl::Status MutationWriter::On(const JobDocumentsAdded& m) {
  return AddDocuments(m.job, m.first_ordinal, m.documents);
}

absl::Status MutationWriter::On(const JobPlanningResumed& m) {
  return statements_.Run(sql::kSetJobPlan, m.job,
                         Blob{m.plan->SerializeAsString()},
                         std::optional<int64_t>());
}

absl::Status MutationWriter::On(const JobActivated& m) {
  return statements_.Run(sql::kSetJobPlan, m.job,
                         Blob{m.plan->SerializeAsString()},
                         std::optional(m.documents_skipped));
}

absl::Status MutationWriter::AddConfigurations(const JobAdded& m) {
  QSWEEP_ASSIGN_OR_RETURN(const Compute mode, FromProto(m.spec->compute()));
  const std::string compute = ComputeName(mode);
  int ordinal = 0;
  for (const JobConfiguration& configuration : m.configurations) {
    const auto model = static_cast<size_t>(configuration.model_index);
    const std::string digest = configuration.digest.bytes();
    QSWEEP_RETURN_IF_ERROR(statements_.Run(
        sql::kAddConfiguration, Blob{digest}, Blob{m.models[model].bytes()},
        configuration.canonical.quantizer, configuration.canonical.layer_set,
        compute, configuration.baseline));
    QSWEEP_RETURN_IF_ERROR(statements_.Run(
        sql::kAddJobConfiguration, m.number, ordinal++, Blob{digest},
        configuration.quantizer, configuration.layer_set,
        configuration.resolved, configuration.unprotected,
        configuration.single_layer, configuration.overhead_params,
        configuration.overhead_layers, configuration.overhead_kept,
        configuration.overhead_bytes));
  }
  return absl::OkStatus();
}

absl::Status MutationWriter::On(const JobReopened& m) {
  std::optional<Blob> plan;
  std::string bytes;
  if (m.plan != nullptr) {
    bytes = m.plan->SerializeAsString();
    plan = Blob{bytes};
  }
  return statements_.Run(sql::kReopenJob, m.job, plan);
}

absl::Status MutationWriter::On(const JobPurged& m) {
  return statements_.Run(sql::kPurgeJob, m.job);
}

absl::Status MutationWriter::On(const JobPriorityChanged& m) {
  return statements_.Run(sql::kSetJobPriority, m.job, m.priority);
}

absl::Status MutationWriter::On(const JobStateChanged& m) {
  std::optional<int64_t> finished_at_us;
  if (IsTerminal(m.state)) {
    finished_at_us = absl::ToUnixMicros(m.time);
  }
  return statements_.Run(sql::kSetJobState, m.job, JobStateText(m.state),
                         m.reason, finished_at_us);
}

absl::Status MutationWriter::On(const TaskGroupAdded& m) {
  return statements_.Run(sql::kAddTaskGroup, m.id,
                         Blob{m.prototype->model_digest()},
                         Blob{m.prototype->SerializeAsString()});
}

absl::Status MutationWriter::On(const TaskAdded& m) {
  std::optional<int64_t> audit_of;
  if (m.audit_of.valid()) {
    audit_of = m.audit_of.value();
  }
  return statements_.Run(
      sql::kAddTask, m.id, m.group, Blob{m.content_key.bytes()},
      Blob{PackDocuments(m.documents)}, m.estimated_seconds, audit_of);
}

absl::Status MutationWriter::On(const JobTaskAdded& m) {
  return statements_.Run(sql::kAddJobTask, m.job, m.task, m.num_measurements);
}

absl::Status MutationWriter::On(const JobTaskRemoved& m) {
  return statements_.Run(sql::kRemoveJobTask, m.job, m.task);
}

absl::Status MutationWriter::On(const LeaseGranted& m) {
  QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kAddLease, m.task, m.epoch,
                                         m.worker, m.session, m.credential,
                                         absl::ToUnixMicros(m.granted_at)));
  return statements_.Run(sql::kSetTaskLeased, m.task);
}

absl::Status MutationWriter::On(const LeaseEnded& m) {
  QSWEEP_RETURN_IF_ERROR(statements_.Run(
      sql::kEndLease, m.task, m.epoch, absl::ToUnixMicros(m.ended_at),
      LeaseEndName(m.end), absl::ToInt64Microseconds(m.held)));
  const absl::Duration backoff =
      m.to == v1::TASK_STATE_BACKOFF ? m.backoff : absl::ZeroDuration();
  const bool failed = m.end == LeaseEnd::kFailed || m.end == LeaseEnd::kStalled;
  return statements_.Run(sql::kChargeTask, m.task, TaskStateText(m.to),
                         m.reason, absl::ToInt64Microseconds(backoff), failed,
                         m.end == LeaseEnd::kLost,
                         m.end == LeaseEnd::kPreempted);
}

absl::Status MutationWriter::On(const TaskStateChanged& m) {
  return statements_.Run(sql::kMoveTask, m.task, TaskStateText(m.to), m.reason,
                         m.new_budgets);
}

absl::Status MutationWriter::On(const TaskForgotten& m) {
  return statements_.Run(sql::kForgetTask, m.task);
}

absl::Status MutationWriter::On(const ResultCommitted& m) {
  const int64_t committed_at_us = absl::ToUnixMicros(m.committed_at);
  const int64_t held_us = absl::ToInt64Microseconds(m.held);
  const int64_t load_us =
      absl::ToInt64Microseconds(absl::Seconds(m.report.load_seconds()));
  QSWEEP_RETURN_IF_ERROR(
      statements_.Run(sql::kSetLeaseCommitted, m.task, m.epoch, committed_at_us,
                      m.report.engine(), m.report.device(),
                      Blob{m.report.SerializeAsString()}, held_us, load_us));
  QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kSupersedeOpenLease, m.task,
                                         committed_at_us, held_us));
  for (const MeasuredRow& row : m.rows) {
    QSWEEP_RETURN_IF_ERROR(AddMeasurement(m, row));
  }
  QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kSetTaskDone, m.task, m.epoch,
                                         Blob{m.payload_digest.bytes()}));
  for (const auto& [job, skipped] : m.documents_skipped) {
    QSWEEP_RETURN_IF_ERROR(statements_.Run(sql::kSetJobSkipped, job, skipped));
  }
  QSWEEP_RETURN_IF_ERROR(AddNoise(m));
  QSWEEP_RETURN_IF_ERROR(AddSpeed(m.speed, m.speed.operation, m.speed.gflops));
  QSWEEP_RETURN_IF_ERROR(
      AddSpeed(m.speed, Speeds::kLoads, m.speed.load_seconds));
  QSWEEP_RETURN_IF_ERROR(
      AddSpeed(m.speed, Speeds::kWeights, m.speed.weight_bandwidth));
  return statements_.Run(sql::kCountWorkerTask, m.worker, kTasksPerPardon);
}

absl::Status MutationWriter::AddNoise(const ResultCommitted& m) {
  if (!m.report.has_noise()) {
    return absl::OkStatus();
  }
  const v1::NoiseFloor& noise = m.report.noise();
  const std::string model = m.speed.model.bytes();
  return statements_.Run(sql::kAddNoise, Blob{model}, ComputeName(m.compute),
                         m.report.engine(), noise.nll_per_token(),
                         static_cast<int64_t>(noise.documents()),
                         static_cast<int64_t>(noise.tokens()));
}

absl::Status MutationWriter::AddSpeed(const SpeedSample& sample,
                                      const std::string& operation,
                                      double value) {
  if (!std::isfinite(value) || value <= 0) {
    return absl::OkStatus();
  }
  const std::string bytes = sample.model.bytes();
  const Blob model{bytes};
  QSWEEP_RETURN_IF_ERROR(
      statements_.Run(sql::kAddSpeed, model, operation, sample.device, value));
  return statements_.Run(sql::kDropSpeeds, model, operation, sample.device,
                         Speeds::kKept);
}

absl::Status MutationWriter::AddMeasurement(const ResultCommitted& m,
                                            const MeasuredRow& row) {
  const v1::Measurement& values = row.values;
  std::optional<double> nll_sum;
  std::optional<double> nll_fp_sum;
  std::optional<double> unigram_nll_sum;
  std::optional<double> kl_sum;
  std::optional<uint64_t> top1;
  if (values.status() == v1::ROW_STATUS_OK) {
    nll_sum = values.nll_sum();
    nll_fp_sum = values.nll_fp_sum();
    unigram_nll_sum = values.unigram_nll_sum();
    if (values.has_kl_sum()) {
      kl_sum = values.kl_sum();
    }
    if (values.has_top1()) {
      top1 = values.top1();
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(const int64_t configuration,
                          ids_.Configuration(row.configuration));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t evaluation,
                          ids_.Evaluation(m.evaluation));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t document, ids_.Document(row.document));
  std::optional<Blob> codes;
  if (!values.codes().empty()) {
    codes = Blob{values.codes()};
    QSWEEP_RETURN_IF_ERROR(
        statements_.Run(sql::kAddCodes, configuration, *codes));
  }
  return statements_.Run(sql::kAddMeasurement, configuration, evaluation,
                         document, RowStatusText(values.status()), nll_sum,
                         nll_fp_sum, unigram_nll_sum, values.tokens(),
                         values.bytes(), values.bytes_scored(), values.chars(),
                         kl_sum, top1, values.nonfinite(), codes, m.task,
                         m.epoch, absl::ToUnixMicros(m.committed_at));
}

absl::Status MutationWriter::On(const DuplicateRecorded& m) {
  QSWEEP_ASSIGN_OR_RETURN(Statement * add, statements_.Get(sql::kAddDuplicate));
  add->BindAll(m.task, m.epoch, Blob{m.payload_digest.bytes()}, m.evaluation,
               m.num_compared, static_cast<int64_t>(m.differing.size()),
               m.engine, m.worker, absl::ToUnixMicros(m.time));
  QSWEEP_ASSIGN_OR_RETURN(const bool row, add->Step());
  QSWEEP_CHECK(row);  // RETURNING
  const int64_t id = add->Integer(0);
  add->Reset();
  int ordinal = 0;
  for (const MeasuredRow& differing : m.differing) {
    QSWEEP_RETURN_IF_ERROR(statements_.Run(
        sql::kAddDuplicateRow, id, ordinal++,
        Blob{differing.configuration.bytes()}, Blob{differing.document.bytes()},
        Blob{differing.values.SerializeAsString()}));
  }
  return absl::OkStatus();
}

absl::Status MutationWriter::On(const EventAppended& m) {
  const v1::DurableEvent& event = *m.event;
  std::optional<int64_t> job;
  std::optional<uint64_t> job_seq;
  std::optional<uint64_t> task;
  if (m.job.valid()) {
    job = m.job.value();
    job_seq = event.job_seq();
  }
  if (event.task_id() != 0) {
    task = event.task_id();
  }
  return statements_.Run(sql::kAddEvent, event.seq(), event.time_us(), job,
                         job_seq, task, event.worker(), event.kind(),
                         event.from(), event.to(), event.epoch(),
                         event.reason());
}

absl::Status MutationWriter::On(const WorkerTimeAdded& m) {
  return statements_.Run(sql::kAddWorkerTime, m.worker,
                         absl::ToInt64Microseconds(m.attached),
                         absl::ToUnixMicros(m.time));
}

absl::Status MutationWriter::On(const WorkerAttached& m) {
  return statements_.Run(sql::kAddWorker, m.worker, m.boot_seq, m.credential,
                         Blob{m.hello->SerializeAsString()}, m.hello->name(),
                         m.hello->usd_per_hour(), absl::ToUnixMicros(m.time));
}

absl::Status MutationWriter::On(const WorkerModeChanged& m) {
  return statements_.Run(sql::kSetWorkerMode, m.worker, WorkerModeName(m.mode),
                         m.reason);
}

absl::Status MutationWriter::On(const WorkerForgotten& m) {
  return statements_.Run(sql::kForgetWorker, m.worker);
}

absl::Status MutationWriter::On(const WorkerBlamed& m) {
  return statements_.Run(sql::kBlameWorker, m.worker);
}

absl::Status MutationWriter::On(const TokenAdded& m) {
  const Token& token = m.token;
  std::optional<int64_t> lifetime_us;
  if (token.lifetime != absl::InfiniteDuration()) {
    lifetime_us = absl::ToInt64Microseconds(token.lifetime);
  }
  std::optional<int64_t> joined_with;
  if (token.joined_with.valid()) {
    joined_with = token.joined_with.value();
  }
  std::optional<int64_t> expires_at_us;
  if (token.expires_at != absl::InfiniteFuture()) {
    expires_at_us = absl::ToUnixMicros(token.expires_at);
  }
  return statements_.Run(sql::kAddToken, token.id, Blob{token.secret.bytes()},
                         TokenKindText(token.kind), RoleText(token.role),
                         token.name, token.reusable, lifetime_us, joined_with,
                         token.created_by, absl::ToUnixMicros(token.created_at),
                         expires_at_us);
}

absl::Status MutationWriter::On(const TokenRotated& m) {
  return statements_.Run(sql::kRotateToken, m.token, Blob{m.secret.bytes()});
}

absl::Status MutationWriter::On(const TokenRevoked& m) {
  return statements_.Run(sql::kRevokeToken, m.token,
                         absl::ToUnixMicros(m.revoked_at));
}

absl::Status MutationWriter::On(const AuditRecorded& m) {
  return statements_.Run(sql::kAddAudit, absl::ToUnixMicros(m.time), m.actor,
                         m.action, m.subject, m.detail, m.count);
}

// Memory only: what a restart must not know, or learns again from the workers.
absl::Status MutationWriter::On(const WorkerReported&) {
  return absl::OkStatus();
}
absl::Status MutationWriter::On(const WorkerLivenessChanged&) {
  return absl::OkStatus();
}
absl::Status MutationWriter::On(const LeaseRenewed&) {
  return absl::OkStatus();
}
absl::Status MutationWriter::On(const JobWaits&) { return absl::OkStatus(); }
absl::Status MutationWriter::On(const WorkerInformed&) {
  return absl::OkStatus();
}

}  // namespace qsweep
