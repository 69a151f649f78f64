#ifndef QSWEEP_COORDINATOR_CORE_COMMIT_H_
#define QSWEEP_COORDINATOR_CORE_COMMIT_H_

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "common/job/quantizer.h"
#include "coordinator/core/decision.h"
#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"

namespace qsweep {

// What a task measures: configurations x documents, under one evaluation.
struct TaskKeys {
  std::string evaluation;
  std::vector<Digest> configurations;
  std::vector<Digest> documents;
  // Of the codes that stored rows of each configuration have. Parallel to
  // configurations, or empty: the result has no codes.
  std::vector<std::vector<Digest>> known_codes;
};

// Keys of a task from State. The task must not be DONE: a DONE task's are made
// from the spec the store keeps.
TaskKeys KeysOfTask(const State& state, const Task& task);
TaskKeys KeysOfSpec(const v1::TaskSpec& spec);

// A measurement as the store has it, and what made it: of TaskReport.
struct StoredRow {
  v1::Measurement values;
  std::string engine;
  std::string device;
};

// Whether rows of the result have codes, so that known_codes are needed.
bool HasCodes(const v1::TaskResult& result);

// The result in the envelope, or why the envelope is not of its task, as an
// outcome to send back. Decides without the stored rows, so nothing is read for
// a message that is refused.
absl::StatusOr<v1::TaskResult> OpenEnvelope(const State& state,
                                            absl::string_view credential,
                                            const v1::ResultEnvelope& envelope);

// To known_codes, which are those of the store: those that rows of the batch,
// which is not stored yet, have.
void AddKnownCodes(std::span<const Mutation> batch, TaskKeys& keys);

// Whether it is the result that made the task, which is DONE, so.
bool IsResultOf(const Task& task, const v1::ResultEnvelope& envelope);

// A measurement that says why a document has no sums.
struct SkippedKey {
  Digest configuration;
  Digest document;
  bool stored = false;  // by another task
};

// Keys of the task that will have a stored row that is not OK. Rows of keys
// that the task does not have are passed over.
std::vector<SkippedKey> SkippedKeys(
    const v1::TaskResult& result, const TaskKeys& keys,
    const std::vector<std::optional<StoredRow>>& stored);

// Decides about one result that OpenEnvelope opened, in this order:
//   1. The rows are not exactly the task's keys, once each, with finite sums:
//      REJECTED, nothing changes.
//   2. The task is DONE: with this epoch and payload ALREADY_COMMITTED; with
//      another the rows are compared and SUPERSEDED.
//   3. The task is CANCELLED: CANCELLED.
//   4. Else the rows are stored, whatever granted epoch they are of; a key that
//      is stored already is compared and never replaced. The task is DONE: OK.
// In 2 and 4 rows that differ, and codes that no stored row of their
// configuration has, unless none has any, raise one alarm in each job.
// stored: [configurations, documents] of keys, row-major, as Store has them.
// skipped: Job::documents_skipped of each subscriber once SkippedKeys are
// stored; may be empty when there are none.
// The reply is never an error: a refusal is an outcome.
Decision<v1::CommitResultResponse::One> DecideCommit(
    const State& state, const v1::ResultEnvelope& envelope,
    v1::TaskResult result, const TaskKeys& keys,
    const std::vector<std::optional<StoredRow>>& stored,
    const std::map<JobNumber, int64_t>& skipped, const Settings& settings,
    const Now& now);

// Equal in every field that follows from what identifies a measurement; doubles
// by their bits. So neither the two indexes, nor unigram_nll_sum: its model is
// fitted on all texts of the language in the corpus, and the same document may
// stand in several.
bool SameMeasurement(const v1::Measurement& a, const v1::Measurement& b);

// Whether `row` repeats what is stored. By the same build of the engine on the
// same type of device: SameMeasurement. Other machines round otherwise: what is
// counted in the text must be equal; NLL sums may differ by 1e-4 of the NLL, KL
// sums by 1e-3 of the larger and 1e-5 nats a token, and of a thousand tokens,
// and one more, one may have another first choice. Where products read less
// than fp32: 2e-3; 0.1 and 1e-3 nats; of fifty tokens.
bool Repeats(const v1::Measurement& row, const v1::TaskReport& report,
             const StoredRow& stored, Compute compute);

// The outcome that refuses a result.
v1::CommitResultResponse::One RejectedResult(const absl::Status& why);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_COMMIT_H_
