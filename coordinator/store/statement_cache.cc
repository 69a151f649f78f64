#include "coordinator/store/statement_cache.h"

#include <utility>

#include "common/base/status_macros.h"

namespace qsweep {

absl::StatusOr<Statement*> StatementCache::Get(const char* sql) {
  auto found = statements_.find(sql);
  if (found == statements_.end()) {
    absl::StatusOr<Statement> statement = database_.Prepare(sql);
    if (!statement.ok()) {
      if (absl::IsDataLoss(statement.status())) {
        lost_.Update(statement.status());
      }
      return statement.status();
    }
    statement->TellLoss(&lost_);
    found = statements_.emplace(sql, *std::move(statement)).first;
  }
  found->second.Reset();
  return &found->second;
}

}  // namespace qsweep
