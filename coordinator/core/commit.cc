#include "coordinator/core/commit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error_codes.h"
#include "common/base/planted.h"
#include "common/base/status_macros.h"
#include "common/job/job_spec.h"
#include "coordinator/core/audit.h"
#include "coordinator/core/worker_control.h"

namespace qsweep {
namespace {

using One = v1::CommitResultResponse::One;

One Outcome(v1::CommitOutcome outcome) {
  One one;
  one.set_outcome(outcome);
  return one;
}

bool SameBits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

// "cuda:1 Tesla T4" is a Tesla T4.
absl::string_view DeviceTypeOf(absl::string_view device) {
  if (absl::StartsWith(device, "cuda:")) {
    device.remove_prefix(std::min(device.find(' '), device.size()));
  }
  return device;
}

// What another order of sums may change.
struct Tolerance {
  double nll;                  // share of the NLL
  double kl;                   // share of the KL, which is far below the NLL
  double kl_per_token;         // nats: of two that are almost equal
  uint64_t tokens_per_change;  // of choices between near equals
  // nats: of a noise floor. The largest is kept for ever, so one that no
  // arithmetic has would hide all later results below it.
  double noise_per_token;
};

// fp32: ten times what analysis takes for arithmetic noise. Where products read
// fewer bits, a value near the middle of two is rounded the other way.
Tolerance ToleranceOf(Compute compute) {
  return compute == Compute::kFp32 ? Tolerance{.nll = 1e-4,
                                               .kl = 1e-3,
                                               .kl_per_token = 1e-5,
                                               .tokens_per_change = 1000,
                                               .noise_per_token = 1e-3}
                                   : Tolerance{.nll = 2e-3,
                                               .kl = 0.1,
                                               .kl_per_token = 1e-3,
                                               .tokens_per_change = 50,
                                               .noise_per_token = 5e-2};
}

// The same but for the last bits of sums, and choices between near equals.
bool CloseMeasurement(const v1::Measurement& a, const v1::Measurement& b,
                      const Tolerance& most) {
  const double tolerance =
      most.nll * std::max({std::abs(a.nll_sum()), std::abs(b.nll_sum()),
                           std::abs(a.nll_fp_sum())});
  const auto close = [tolerance](double x, double y) {
    return std::abs(x - y) <= tolerance;
  };
  const double kl_tolerance =
      most.kl * std::max(std::abs(a.kl_sum()), std::abs(b.kl_sum())) +
      most.kl_per_token * static_cast<double>(a.tokens());
  const uint64_t changes =
      std::max(a.top1(), b.top1()) - std::min(a.top1(), b.top1());
  return a.status() == b.status() && close(a.nll_sum(), b.nll_sum()) &&
         close(a.nll_fp_sum(), b.nll_fp_sum()) && a.tokens() == b.tokens() &&
         a.bytes() == b.bytes() && a.bytes_scored() == b.bytes_scored() &&
         a.chars() == b.chars() && a.has_kl_sum() == b.has_kl_sum() &&
         std::abs(a.kl_sum() - b.kl_sum()) <= kl_tolerance &&
         a.has_top1() == b.has_top1() &&
         changes <= 1 + a.tokens() / most.tokens_per_change &&
         a.nonfinite() == b.nonfinite();
}

// Of bytes, characters or tokens in one document: far above any document, and
// sums of many still fit the store's 64-bit integers.
constexpr uint64_t kMaxCount = uint64_t{1} << 40;

absl::Status CheckRow(const v1::Measurement& row) {
  const auto bad = [&row](absl::string_view what) {
    return MakeError(
        kBadResult,
        absl::StrCat("row of configuration ", row.configuration_index(),
                     ", document ", row.document_index(), ": ", what),
        "rows");
  };
  if (row.status() < v1::ROW_STATUS_OK || row.status() > v1::ROW_STATUS_EMPTY) {
    return bad("no status that is known");
  }
  for (const double sum :
       {row.nll_sum(), row.nll_fp_sum(), row.unigram_nll_sum(), row.kl_sum()}) {
    if (!std::isfinite(sum)) {
      return bad("a sum is not finite");
    }
  }
  for (const uint64_t count : {row.tokens(), row.bytes(), row.bytes_scored(),
                               row.chars(), row.nonfinite(), row.top1()}) {
    if (count > kMaxCount) {
      return bad("a count that no document has");
    }
  }
  if (!row.codes().empty() && row.codes().size() != size_t{Digest::kSize}) {
    return bad("codes that are no SHA-256");
  }
  if (row.status() != v1::ROW_STATUS_OK) {
    // The store would drop them, and a repetition be found to differ.
    const bool none = row.tokens() == 0 && row.nll_sum() == 0 &&
                      row.nll_fp_sum() == 0 && row.unigram_nll_sum() == 0 &&
                      !row.has_kl_sum() && !row.has_top1() &&
                      row.nonfinite() == 0;
    return none ? absl::OkStatus() : bad("sums although it was not scored");
  }
  if (row.tokens() == 0) {
    return bad("no token was scored");
  }
  return row.nonfinite() <= row.tokens() && row.top1() <= row.tokens()
             ? absl::OkStatus()
             : bad("counts above the number of tokens");
}

absl::Status CheckNoise(const v1::TaskReport& report, Compute compute) {
  const v1::NoiseFloor& noise = report.noise();
  const auto is_count = [](uint64_t count) {
    return count > 0 && count <= kMaxCount;
  };
  return !report.has_noise() ||
                 (noise.nll_per_token() >= 0 &&
                  noise.nll_per_token() <=
                      ToleranceOf(compute).noise_per_token &&
                  is_count(noise.documents()) && is_count(noise.tokens()))
             ? absl::OkStatus()
             : MakeError(kBadResult,
                         absl::StrCat("a noise floor that cannot be: ",
                                      noise.nll_per_token(), " nats a token"),
                         "report.noise");
}

// What the store and the speeds are told of how it ran.
absl::Status CheckReport(const v1::TaskReport& report, Compute compute) {
  constexpr double kSecondsMax = 1e9;  // thirty years
  constexpr uint64_t kBytesMax = uint64_t{1} << 60;
  for (const double seconds :
       {report.load_seconds(), report.run_seconds(), report.weight_seconds()}) {
    if (!(seconds >= 0 && seconds <= kSecondsMax)) {
      return MakeError(kBadResult,
                       absl::StrCat("it took ", seconds, " seconds"), "report");
    }
  }
  if (report.weight_bytes() > kBytesMax) {
    return MakeError(kBadResult,
                     absl::StrCat("it read ", report.weight_bytes(), " bytes"),
                     "report");
  }
  return CheckNoise(report, compute);
}

// The row of each key, [configurations, documents] row-major. The rows must be
// exactly the keys.
absl::StatusOr<std::vector<const v1::Measurement*>> RowsByKey(
    const v1::TaskResult& result, const TaskKeys& keys) {
  const size_t num_documents = keys.documents.size();
  const size_t num_keys = keys.configurations.size() * num_documents;
  std::vector<const v1::Measurement*> by_key(num_keys, nullptr);
  for (const v1::Measurement& row : result.rows()) {
    if (row.configuration_index() >= keys.configurations.size() ||
        row.document_index() >= num_documents) {
      return MakeError(kBadResult, "a row of a key that the task does not have",
                       "rows");
    }
    const v1::Measurement*& slot =
        by_key[row.configuration_index() * num_documents +
               row.document_index()];
    if (slot != nullptr) {
      return MakeError(
          kBadResult,
          absl::StrCat("two rows of configuration ", row.configuration_index(),
                       ", document ", row.document_index()),
          "rows");
    }
    QSWEEP_RETURN_IF_ERROR(CheckRow(row));
    slot = &row;
  }
  if (static_cast<size_t>(result.rows_size()) != num_keys) {
    return MakeError(
        kBadResult,
        absl::StrCat(result.rows_size(), " rows instead of ", num_keys),
        "rows");
  }
  return by_key;
}

Compute ComputeOf(const State& state, const Task& task) {
  return FromProto(state.group(task.group).prototype->compute())
      .value_or(Compute::kFp32);
}

// The attempt that the envelope is of.
Epoch EpochOf(const Task& task, const v1::ResultEnvelope& envelope) {
  return Planted(Bug::kCommitWithoutEpoch)
             ? task.epoch()
             : Epoch(static_cast<int64_t>(envelope.epoch()));
}

// A row is at most twenty numbers of ten bytes each and a digest; a report two
// names and a few numbers. What is beyond would be stored for ever.
constexpr size_t kRowBytesMax = 256;
constexpr size_t kReportBytesMax = 4096;

// A valid result of a known task, read.
struct Reading {
  const Task* task;
  Epoch epoch;
  Digest payload_digest;
  v1::TaskResult result;
  std::vector<MeasuredRow> new_rows;
  std::vector<MeasuredRow> differing;
  int64_t num_compared = 0;
  int64_t num_other_codes = 0;  // configurations
};

// Configurations whose codes no stored row has, though some have codes. One
// result has one digest of codes for each configuration.
absl::StatusOr<int64_t> CountOtherCodes(
    const std::vector<const v1::Measurement*>& by_key, const TaskKeys& keys) {
  int64_t others = 0;
  for (size_t c = 0; c < keys.configurations.size(); ++c) {
    absl::string_view codes;
    for (size_t d = 0; d < keys.documents.size(); ++d) {
      const std::string& here = by_key[c * keys.documents.size() + d]->codes();
      if (!here.empty() && !codes.empty() && here != codes) {
        return MakeError(
            kBadResult,
            absl::StrCat("rows of configuration ", c, " have different codes"),
            "rows");
      }
      codes = here.empty() ? codes : here;
    }
    if (codes.empty() || keys.known_codes.empty()) {
      continue;
    }
    const std::vector<Digest>& known = keys.known_codes[c];
    others += !known.empty() &&
              std::ranges::none_of(known, [codes](const Digest& digest) {
                return digest.bytes() == codes;
              });
  }
  return others;
}

absl::StatusOr<Reading> Read(
    const State& state, const v1::ResultEnvelope& envelope,
    v1::TaskResult result, const TaskKeys& keys,
    const std::vector<std::optional<StoredRow>>& stored) {
  const size_t bytes_max = kReportBytesMax + kRowBytesMax *
                                                 keys.configurations.size() *
                                                 keys.documents.size();
  if (envelope.payload().size() > bytes_max) {
    return MakeError(kBadResult,
                     absl::StrCat("the payload has ", envelope.payload().size(),
                                  " bytes; its rows have at most ", bytes_max),
                     "payload");
  }
  Reading reading;
  reading.result = std::move(result);
  reading.task =
      state.FindTask(TaskId(static_cast<int64_t>(envelope.task_id())));
  reading.epoch = EpochOf(*reading.task, envelope);
  QSWEEP_ASSIGN_OR_RETURN(reading.payload_digest,
                          Digest::FromBytes(envelope.payload_sha256()));
  QSWEEP_RETURN_IF_ERROR(
      CheckReport(reading.result.report(), ComputeOf(state, *reading.task)));
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<const v1::Measurement*> by_key,
                          RowsByKey(reading.result, keys));
  QSWEEP_ASSIGN_OR_RETURN(reading.num_other_codes,
                          CountOtherCodes(by_key, keys));
  for (size_t i = 0; i < by_key.size(); ++i) {
    const v1::Measurement& row = *by_key[i];
    MeasuredRow measured{
        .configuration = keys.configurations[i / keys.documents.size()],
        .document = keys.documents[i % keys.documents.size()],
        .values = row};
    if (!stored[i] || Planted(Bug::kMeasurementsNotUnique)) {
      reading.new_rows.push_back(std::move(measured));
    } else {
      ++reading.num_compared;
      if (!Repeats(row, reading.result.report(), *stored[i],
                   ComputeOf(state, *reading.task))) {
        reading.differing.push_back(std::move(measured));
      }
    }
  }
  return reading;
}

// Rows that arrived although their keys are stored.
void AddDuplicate(Draft& draft, Reading& reading, const TaskKeys& keys,
                  const WorkerUuid& worker) {
  draft.Add(DuplicateRecorded{.task = reading.task->id,
                              .epoch = reading.epoch,
                              .payload_digest = reading.payload_digest,
                              .evaluation = keys.evaluation,
                              .differing = std::move(reading.differing),
                              .num_compared = reading.num_compared,
                              .engine = reading.result.report().engine(),
                              .worker = worker,
                              .time = draft.now().wall});
}

// One alarm for the result, whatever of it differs.
void AddAlarm(Draft& draft, const Reading& reading, const WorkerUuid& worker) {
  std::vector<std::string> reasons;
  if (!reading.differing.empty()) {
    reasons.push_back(absl::StrCat(reading.differing.size(), " of ",
                                   reading.num_compared,
                                   " repeated measurements differ"));
  }
  if (reading.num_other_codes > 0) {
    reasons.push_back(absl::StrCat("other codes of ", reading.num_other_codes,
                                   " configurations than stored rows have"));
  }
  if (!reasons.empty()) {
    draft.AddTaskEvent(*reading.task,
                       {.kind = "determinism_alarm",
                        .reason = absl::StrJoin(reasons, "; "),
                        .worker = WorkerName(draft.state(), worker),
                        .epoch = reading.epoch});
  }
}

void AddResult(Draft& draft, Reading& reading, const TaskKeys& keys,
               const WorkerUuid& worker,
               const std::map<JobNumber, int64_t>& skipped,
               const Settings& settings) {
  const std::string name = WorkerName(draft.state(), worker);
  const Worker* known = draft.state().FindWorker(worker);
  const auto& lease = reading.task->lease;
  const bool holds = lease && reading.epoch == reading.task->epoch();
  draft.Add(ResultCommitted{
      .task = reading.task->id,
      .epoch = reading.epoch,
      .payload_digest = reading.payload_digest,
      .evaluation = keys.evaluation,
      .rows = std::move(reading.new_rows),
      .report = reading.result.report(),
      .worker = worker,
      .worker_name = name,
      .committed_at = draft.now().wall,
      .held = reading.task->lease ? draft.HeldTime(*reading.task)
                                  : absl::ZeroDuration(),
      .speed = MakeSpeedSample(
          draft.state().group(reading.task->group),
          reading.task->estimated_seconds,
          known == nullptr ? std::vector<v1::Device>() : known->devices,
          reading.result.report(),
          holds ? std::optional(draft.now().steady - lease->granted_at)
                : std::nullopt),
      .compute = ComputeOf(draft.state(), *reading.task),
      .documents_skipped = skipped});
  draft.AddTaskEvent(*reading.task, {.kind = "task_done",
                                     .from = ShortName(reading.task->state),
                                     .to = "DONE",
                                     .worker = name,
                                     .epoch = reading.epoch});
  if (!AddAudit(draft, *reading.task, worker, settings)) {
    EndJobsOf(draft, *reading.task, v1::TASK_STATE_DONE, skipped);
  }
  BlameWorkers(draft, *reading.task, worker, settings);
}

}  // namespace

bool HasCodes(const v1::TaskResult& result) {
  return std::ranges::any_of(result.rows(), [](const v1::Measurement& row) {
    return !row.codes().empty();
  });
}

TaskKeys KeysOfTask(const State& state, const Task& task) {
  const TaskGroup& group = state.group(task.group);
  TaskKeys keys{.evaluation = group.prototype->evaluation(),
                .configurations = group.configurations};
  for (const DocumentRef& ref : task.documents) {
    keys.documents.push_back(state.documents()[ref.document]);
  }
  return keys;
}

TaskKeys KeysOfSpec(const v1::TaskSpec& spec) {
  TaskKeys keys{.evaluation = spec.evaluation()};
  for (const v1::ConfigurationSpec& configuration : spec.configurations()) {
    keys.configurations.push_back(*Digest::FromBytes(configuration.digest()));
  }
  for (const v1::TaskDocument& document : spec.documents()) {
    keys.documents.push_back(*Digest::FromBytes(document.digest()));
  }
  return keys;
}

absl::StatusOr<v1::TaskResult> OpenEnvelope(
    const State& state, absl::string_view credential,
    const v1::ResultEnvelope& envelope) {
  const Task* task =
      state.FindTask(TaskId(static_cast<int64_t>(envelope.task_id())));
  if (task == nullptr) {
    return MakeError(kTaskNotFound,
                     absl::StrCat("no task ", envelope.task_id()), "task_id");
  }
  const Epoch epoch = EpochOf(*task, envelope);
  if (!epoch.valid() || epoch > task->epoch()) {
    return MakeError(kBadResult,
                     absl::StrCat("epoch ", envelope.epoch(), " of task ",
                                  envelope.task_id(), " was never granted"),
                     "epoch");
  }
  if (task->history->grants[static_cast<size_t>(epoch.value() - 1)]
          .credential != credential) {
    return MakeError(kNotAllowed, "the lease was granted to another",
                     "worker_uuid");
  }
  if (envelope.content_key() != task->content_key.bytes()) {
    return MakeError(kBadResult, "the result is of another task's content",
                     "content_key");
  }
  if (envelope.payload_sha256() != Digest::Of(envelope.payload()).bytes()) {
    return MakeError(kBadResult, "the payload does not have its SHA-256",
                     "payload_sha256");
  }
  v1::TaskResult result;
  if (!result.ParseFromString(envelope.payload())) {
    return MakeError(kBadResult, "the payload is not a TaskResult", "payload");
  }
  return result;
}

void AddKnownCodes(std::span<const Mutation> batch, TaskKeys& keys) {
  absl::flat_hash_map<Digest, size_t> indexes;
  for (size_t c = 0; c < keys.configurations.size(); ++c) {
    indexes.emplace(keys.configurations[c], c);
  }
  for (const Mutation& mutation : batch) {
    const auto* committed = std::get_if<ResultCommitted>(&mutation);
    if (committed == nullptr) {
      continue;
    }
    for (const MeasuredRow& row : committed->rows) {
      const auto it = row.values.codes().empty()
                          ? indexes.end()
                          : indexes.find(row.configuration);
      if (it == indexes.end()) {
        continue;
      }
      const Digest codes = *Digest::FromBytes(row.values.codes());
      std::vector<Digest>& known = keys.known_codes[it->second];
      if (std::ranges::find(known, codes) == known.end()) {
        known.push_back(codes);
      }
    }
  }
}

bool IsResultOf(const Task& task, const v1::ResultEnvelope& envelope) {
  return EpochOf(task, envelope) == task.history->result_epoch &&
         envelope.payload_sha256() == task.history->result_digest.bytes();
}

std::vector<SkippedKey> SkippedKeys(
    const v1::TaskResult& result, const TaskKeys& keys,
    const std::vector<std::optional<StoredRow>>& stored) {
  std::vector<SkippedKey> skipped;
  for (const v1::Measurement& row : result.rows()) {
    const size_t c = row.configuration_index();
    const size_t d = row.document_index();
    if (c >= keys.configurations.size() || d >= keys.documents.size()) {
      continue;
    }
    // A stored row is never replaced.
    const auto& known = stored[c * keys.documents.size() + d];
    if ((known ? known->values.status() : row.status()) != v1::ROW_STATUS_OK) {
      skipped.push_back(
          {keys.configurations[c], keys.documents[d], known.has_value()});
    }
  }
  return skipped;
}

Decision<One> DecideCommit(const State& state,
                           const v1::ResultEnvelope& envelope,
                           v1::TaskResult result, const TaskKeys& keys,
                           const std::vector<std::optional<StoredRow>>& stored,
                           const std::map<JobNumber, int64_t>& skipped,
                           const Settings& settings, const Now& now) {
  absl::StatusOr<Reading> reading =
      Read(state, envelope, std::move(result), keys, stored);
  if (!reading.ok()) {
    return {.reply = RejectedResult(reading.status())};
  }
  const Task& task = *reading->task;
  const WorkerUuid& worker =
      task.history->grants[static_cast<size_t>(reading->epoch.value() - 1)]
          .worker;
  Draft draft(state, now);
  if (task.state == v1::TASK_STATE_DONE) {
    if (IsResultOf(task, envelope)) {
      return {.reply = Outcome(v1::COMMIT_OUTCOME_ALREADY_COMMITTED)};
    }
    AddAlarm(draft, *reading, worker);
    AddDuplicate(draft, *reading, keys, worker);
    return {.mutations = draft.Take(),
            .reply = Outcome(v1::COMMIT_OUTCOME_SUPERSEDED)};
  }
  if (task.state == v1::TASK_STATE_CANCELLED) {
    return {.reply = Outcome(v1::COMMIT_OUTCOME_CANCELLED)};
  }
  AddAlarm(draft, *reading, worker);
  if (reading->num_compared > 0) {
    AddDuplicate(draft, *reading, keys, worker);
  }
  AddResult(draft, *reading, keys, worker, skipped, settings);
  return {.mutations = draft.Take(), .reply = Outcome(v1::COMMIT_OUTCOME_OK)};
}

bool SameMeasurement(const v1::Measurement& a, const v1::Measurement& b) {
  return a.status() == b.status() && SameBits(a.nll_sum(), b.nll_sum()) &&
         SameBits(a.nll_fp_sum(), b.nll_fp_sum()) && a.tokens() == b.tokens() &&
         a.bytes() == b.bytes() && a.bytes_scored() == b.bytes_scored() &&
         a.chars() == b.chars() && a.has_kl_sum() == b.has_kl_sum() &&
         SameBits(a.kl_sum(), b.kl_sum()) && a.has_top1() == b.has_top1() &&
         a.top1() == b.top1() && a.nonfinite() == b.nonfinite() &&
         a.codes() == b.codes();
}

bool Repeats(const v1::Measurement& row, const v1::TaskReport& report,
             const StoredRow& stored, Compute compute) {
  const bool alike =
      report.engine() == stored.engine &&
      DeviceTypeOf(report.device()) == DeviceTypeOf(stored.device);
  return alike ? SameMeasurement(row, stored.values)
               : CloseMeasurement(row, stored.values, ToleranceOf(compute));
}

One RejectedResult(const absl::Status& why) {
  One one = Outcome(v1::COMMIT_OUTCOME_REJECTED);
  v1::Failure* failure = one.mutable_failure();
  failure->set_status_code(static_cast<int>(why.code()));
  failure->set_message(std::string(why.message()));
  if (const auto info = GetErrorInfo(why)) {
    failure->mutable_detail()->set_code(info->code);
    failure->mutable_detail()->set_field(info->field);
    failure->mutable_detail()->set_hint(info->hint);
  }
  return one;
}

}  // namespace qsweep
