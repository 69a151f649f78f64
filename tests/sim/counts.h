#ifndef QSWEEP_TESTS_SIM_COUNTS_H_
#define QSWEEP_TESTS_SIM_COUNTS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/string_view.h"

namespace qsweep::sim {

// How often something happened, by name. A run that met nothing proves nothing:
// see ExpectEnough.
class Tally {
 public:
  void Add(absl::string_view name, int64_t n = 1) {
    const auto it = counts_.find(name);
    if (it == counts_.end()) {
      counts_.emplace(name, n);
    } else {
      it->second += n;
    }
  }
  void Add(const Tally& other) {
    for (const auto& [name, n] : other.counts_) {
      Add(name, n);
    }
  }
  int64_t of(absl::string_view name) const {
    const auto it = counts_.find(name);
    return it == counts_.end() ? 0 : it->second;
  }
  const std::map<std::string, int64_t, std::less<>>& all() const {
    return counts_;
  }

 private:
  std::map<std::string, int64_t, std::less<>> counts_;
};

struct Counts {
  Tally faults;       // injected
  Tally transitions;  // of tasks, as committed: "READY -> LEASED"
  Tally outcomes;     // of results, as answered to workers
  Tally checks;       // of oracles
  void Add(const Counts& other) {
    faults.Add(other.faults);
    transitions.Add(other.transitions);
    outcomes.Add(other.outcomes);
    checks.Add(other.checks);
  }
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_COUNTS_H_
