#ifndef QSWEEP_COORDINATOR_STORE_ROW_IDS_H_
#define QSWEEP_COORDINATOR_STORE_ROW_IDS_H_

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"
#include "coordinator/store/statement_cache.h"

namespace qsweep {

// The ids of rows that are named by a digest or a text and never deleted:
// looked up once and remembered, some thousands of each. 0: no such row.
// Errors: as Statement::Step. Single-thread; `statements` must outlive it.
class RowIds {
 public:
  explicit RowIds(StatementCache& statements) : statements_(statements) {}

  absl::StatusOr<int64_t> Configuration(const Digest& digest);
  absl::StatusOr<int64_t> Evaluation(absl::string_view text);
  absl::StatusOr<int64_t> Document(const Digest& digest);

  // After a rollback: what it removed may come again with another id.
  void Forget();

 private:
  template <typename Key, typename Bound>
  absl::StatusOr<int64_t> Find(absl::flat_hash_map<Key, int64_t>& known,
                               const Key& key, const char* sql,
                               const Bound& bound);

  // Of the document stored after the last one asked for, if it is this one.
  absl::StatusOr<int64_t> NextDocument(const Digest& digest);

  StatementCache& statements_;
  absl::flat_hash_map<Digest, int64_t> configurations_;
  absl::flat_hash_map<std::string, int64_t> evaluations_;
  absl::flat_hash_map<Digest, int64_t> documents_;
  int64_t last_document_ = 0;  // 0: none
  bool in_order_ = true;       // the last two were stored one after the other
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_ROW_IDS_H_
