#ifndef QSWEEP_TESTS_SIM_SEED_LOG_H_
#define QSWEEP_TESTS_SIM_SEED_LOG_H_

#include <cstdint>
#include <set>
#include <string>

#include "absl/status/statusor.h"

#include "tests/sim/run_seeds.h"

namespace qsweep::sim {

// A file of JSON lines, one per block of seeds that ran: what a long run that
// is stopped goes on from. Single-thread.
class SeedLog {
 public:
  static constexpr uint64_t kBlock = 50;

  // Reads what is there. FAILED_PRECONDITION: a line is of another revision,
  // number of tasks or last seed, or damaged; a last line without its end is
  // dropped.
  static absl::StatusOr<SeedLog> Open(const SeedsOptions& options);

  bool Has(uint64_t first) const { return blocks_.contains(first); }
  // Of the blocks in the file; seconds: of each, added up.
  const SeedsResult& total() const { return total_; }
  // Adds a block that begins with `first`; on disk when it returns OK.
  absl::Status Append(uint64_t first, const SeedsResult& block);

 private:
  explicit SeedLog(const SeedsOptions& options) : options_(options) {}
  absl::Status Read();

  SeedsOptions options_;
  std::set<uint64_t> blocks_;  // by their first seed
  SeedsResult total_;
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_SEED_LOG_H_
