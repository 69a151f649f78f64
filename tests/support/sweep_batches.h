#ifndef QSWEEP_TESTS_SUPPORT_SWEEP_BATCHES_H_
#define QSWEEP_TESTS_SUPPORT_SWEEP_BATCHES_H_

#include <string>
#include <vector>

#include "coordinator/core/mutation.h"

namespace qsweep::testing {

// The mutations of a small sweep, in the order a coordinator makes them: two
// languages with two aligned documents each, three configurations (baseline,
// none, L0), two tasks of one language each. Values are fixed, so two stores
// that commit the same batches hold the same rows.

inline constexpr char kEvaluation[] = "aligned@1;tok=00";

Digest SweepModel();
Digest SweepCorpus();
std::vector<Digest> SweepConfigurations();      // baseline, none, L0
std::vector<Digest> SweepDocuments();           // eng 1, eng 2, fra 1, fra 2
std::string SweepArtifact(int language_index);  // bytes
WorkerUuid SweepWorker();
SessionId SweepSession();

std::vector<Mutation> StartBatch(int64_t coordinator_epoch);
std::vector<Mutation> CorpusBatch();
// Job `number` with tasks 2 number - 1 and 2 number.
std::vector<Mutation> SubmitBatch(int64_t number);
std::vector<Mutation> AttachBatch();
// Grants the task's epoch to the worker.
std::vector<Mutation> LeaseBatch(int64_t task, int64_t epoch);
// The rows of the task, values made from its number.
std::vector<Mutation> ResultBatch(int64_t task, int64_t epoch);
std::vector<Mutation> DuplicateBatch(int64_t task, int64_t epoch);
// An event of the job: seq and job_seq as given.
Mutation Event(int64_t job, uint64_t seq, uint64_t job_seq,
               const std::string& kind);

// All of it for job 1: both tasks done, an event each.
std::vector<std::vector<Mutation>> WholeSweep();

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_SWEEP_BATCHES_H_
