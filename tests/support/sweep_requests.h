#ifndef QSWEEP_TESTS_SUPPORT_SWEEP_REQUESTS_H_
#define QSWEEP_TESTS_SUPPORT_SWEEP_REQUESTS_H_

#include <string>
#include <vector>

#include "common/job/corpus.h"
#include "qsweep/v1/coordinator.pb.h"
#include "qsweep/v1/task.pb.h"

namespace qsweep::testing {

// Requests that a real coordinator accepts, small enough to be run by hand.

// Corpus "texts": eng and swh, documents "0" to units - 1.
CorpusData SmallCorpus(int units);

struct SweepOptions {
  std::string uuid = "a";  // stands for a job UUID
  int layers = 2;          // of the model: layers + 2 configurations
  std::string layer_range = "all";
  v1::Reuse reuse = v1::REUSE_AUTO;
  std::string owner = "ann";
};
// A layer sweep of a tiny model over both languages of SmallCorpus.
v1::SubmitJobRequest SweepRequest(const SweepOptions& options = {});

// The result an engine without defects gives: every value is a function of
// configuration and document alone.
v1::TaskResult HonestResult(const v1::TaskSpec& spec);
v1::ResultEnvelope EnvelopeOf(const v1::TaskSpec& spec, uint64_t epoch,
                              const v1::TaskResult& result);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_SWEEP_REQUESTS_H_
