#ifndef QSWEEP_COORDINATOR_STORE_QUERY_GUARD_H_
#define QSWEEP_COORDINATOR_STORE_QUERY_GUARD_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "common/base/clock.h"
#include "coordinator/store/sqlite.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

// Lets users send SQL: one SELECT over the documented views and nothing else.
// Three fences, each enough against an honest mistake:
//   - the connection is read-only;
//   - an authorizer allows SELECT, the columns of the documented views, and
//     functions by name; tables may be read by the bodies of the views alone;
//   - SQLite's limits, a deadline, a limit on what is returned, and one on the
//     memory that SQLite takes for it.
// Single-thread.
class QueryGuard {
 public:
  // Takes a read-only connection for its own; clock outlives it. analysis_path:
  // the analysis cache, for results_v1.
  static absl::StatusOr<std::unique_ptr<QueryGuard>> Create(
      Database database, const std::string& analysis_path, const Clock& clock);
  ~QueryGuard();

  // request.limit rows at most (0: 10,000, which is also the most) and 8 MiB;
  // `truncated` says that there was more. INVALID_ARGUMENT QS4010: not one
  // SELECT over the views; QS4012: SQLite's own complaint.
  // DEADLINE_EXCEEDED QS4011: request.deadline_ms (0: 2,000; at most 60,000),
  // or 64 MiB of memory. stop: asked every millisecond or so; empty: never.
  // CANCELLED once it is true.
  absl::StatusOr<v1::QueryResponse> Run(const v1::QueryRequest& request,
                                        const std::function<bool()>& stop);

 private:
  struct State;  // has a fixed address: SQLite calls back with it
  explicit QueryGuard(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_QUERY_GUARD_H_
