#ifndef QSWEEP_TESTS_E2E_LEDGER_H_
#define QSWEEP_TESTS_E2E_LEDGER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/mutex.h"
#include "tests/e2e/sql_oracles.h"

namespace qsweep::testing {

// What clients and workers of a test were told, and what they found wrong.
// Thread-safe.
class Ledger {
 public:
  void Problem(const std::string& what) {
    MutexLock lock(mutex_);
    problems_.push_back(what);
  }
  void Count(const std::string& what) {
    MutexLock lock(mutex_);
    ++counts_[what];
  }
  void Job(const std::string& uuid, uint64_t number) {
    MutexLock lock(mutex_);
    const auto [it, inserted] = acknowledged_.jobs.emplace(uuid, number);
    if (it->second != number) {
      problems_.push_back(
          absl::StrCat("one UUID made jobs ", it->second, " and ", number));
    }
  }
  void Result(uint64_t task, uint64_t epoch) {
    MutexLock lock(mutex_);
    const auto [it, inserted] = acknowledged_.results.emplace(task, epoch);
    if (it->second != epoch) {
      problems_.push_back(absl::StrCat("task ", task, " was done by epochs ",
                                       it->second, " and ", epoch));
    }
  }
  void Superseded(uint64_t task, uint64_t epoch) {
    MutexLock lock(mutex_);
    acknowledged_.superseded.emplace_back(task, epoch);
  }

  Acknowledged acknowledged() const {
    MutexLock lock(mutex_);
    return acknowledged_;
  }
  std::vector<std::string> problems() const {
    MutexLock lock(mutex_);
    return problems_;
  }
  std::map<std::string, int> counts() const {
    MutexLock lock(mutex_);
    return counts_;
  }

 private:
  mutable Mutex mutex_;
  Acknowledged acknowledged_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> problems_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_E2E_LEDGER_H_
