#ifndef QSWEEP_TESTS_E2E_SWEEPS_H_
#define QSWEEP_TESTS_E2E_SWEEPS_H_

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "qsweep/v1/job.pb.h"
#include "tests/e2e/local_cluster.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {

enum class SweepKind {
  kFakeEngine,  // rows from digests, a task takes 300 ms
  kRealEngine,  // a tiny random Llama
};

// A layer sweep in many tasks: with 24 units it takes about a minute on two
// workers.
struct Sweep {
  std::shared_ptr<TempDir> model_dir;
  LocalCluster::Options cluster;
  v1::JobSpec spec;
  v1::ModelDescription model;
  std::map<std::string, std::vector<std::string>> texts;
  size_t num_measurements = 0;
};

// units: aligned documents of each of its three languages.
Sweep MakeSweep(SweepKind kind, int units = 24);

// Adds the sweep's corpus and submits its job; the job's name.
std::string SubmitSweep(LocalCluster& cluster, const Sweep& sweep);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_E2E_SWEEPS_H_
