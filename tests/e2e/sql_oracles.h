#ifndef QSWEEP_TESTS_E2E_SQL_ORACLES_H_
#define QSWEEP_TESTS_E2E_SQL_ORACLES_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

#include "qsweep/v1/worker.pb.h"

namespace qsweep::testing {

// What the outside was told, so that it must be there ever after.
struct Acknowledged {
  // A submit: UUID, 16 bytes -> number.
  std::map<std::string, uint64_t> jobs;
  // A result, or a `task_done` that a watcher saw: task -> epoch.
  std::map<uint64_t, uint64_t> results;
  // Results that came second: (task, epoch).
  std::vector<std::pair<uint64_t, uint64_t>> superseded;
};

// What must hold of a coordinator's database whatever was killed: the
// invariants of docs/simulation.md that SQL can see, integrity_check and
// foreign_key_check, and that every measurement is what fake_qengine makes of
// its key. Reads beside a coordinator that serves, in one transaction. Returns
// problems, each with its first row; empty: none.
std::vector<std::string> FindViolations(const std::string& database_path,
                                        const Acknowledged& acknowledged);

// Leases that were taken for lost sooner than `lease_ttl` after their grant.
// None, while every worker process lives on: as long as its lease is good no
// task may start a second time.
std::vector<std::string> FindLeasesLostEarly(const std::string& database_path,
                                             absl::Duration lease_ttl);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_E2E_SQL_ORACLES_H_
