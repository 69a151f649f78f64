#ifndef QSWEEP_COORDINATOR_STORE_STATEMENT_CACHE_H_
#define QSWEEP_COORDINATOR_STORE_STATEMENT_CACHE_H_

#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "coordinator/store/sqlite.h"

namespace qsweep {

// Statements of one connection, each prepared once and kept. The keys are the
// addresses of the constants in sql.h. Single-thread; the database must outlive
// it.
class StatementCache {
 public:
  explicit StatementCache(Database& database) : database_(database) {}
  StatementCache(const StatementCache&) = delete;
  StatementCache& operator=(const StatementCache&) = delete;

  // The statement, reset. Lives as long as the cache.
  absl::StatusOr<Statement*> Get(const char* sql);

  template <typename... Args>
  absl::Status Run(const char* sql, const Args&... args) {
    absl::StatusOr<Statement*> statement = Get(sql);
    return statement.ok() ? (*statement)->Run(args...) : statement.status();
  }

  // The first DATA_LOSS, an I/O error or a damaged file, that a statement met.
  const absl::Status& lost() const { return lost_; }

 private:
  Database& database_;
  absl::Status lost_;
  // A node each: who holds a statement prepares others meanwhile.
  absl::node_hash_map<const char*, Statement> statements_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_STATEMENT_CACHE_H_
