#include "coordinator/store/row_ids.h"

#include "common/base/status_macros.h"
#include "coordinator/store/sql.h"

namespace qsweep {
namespace {

constexpr size_t kMost = 10'000;  // then all are forgotten

}  // namespace

template <typename Key, typename Bound>
absl::StatusOr<int64_t> RowIds::Find(absl::flat_hash_map<Key, int64_t>& known,
                                     const Key& key, const char* sql,
                                     const Bound& bound) {
  if (const auto it = known.find(key); it != known.end()) {
    return it->second;
  }
  QSWEEP_ASSIGN_OR_RETURN(Statement * find, statements_.Get(sql));
  find->BindAll(bound);
  QSWEEP_ASSIGN_OR_RETURN(const bool found, find->Step());
  if (!found) {
    return 0;
  }
  const int64_t id = find->Integer(0);
  find->Reset();
  if (known.size() >= kMost) {
    known.clear();
  }
  known.emplace(key, id);
  return id;
}

absl::StatusOr<int64_t> RowIds::Configuration(const Digest& digest) {
  return Find(configurations_, digest, sql::kReadConfigurationId,
              Blob{digest.bytes()});
}

absl::StatusOr<int64_t> RowIds::Evaluation(absl::string_view text) {
  return Find(evaluations_, std::string(text), sql::kReadEvaluationId, text);
}

absl::StatusOr<int64_t> RowIds::Document(const Digest& digest) {
  return Find(documents_, digest, sql::kReadDocumentId, Blob{digest.bytes()});
}

void RowIds::Forget() {
  configurations_.clear();
  evaluations_.clear();
  documents_.clear();
}

}  // namespace qsweep
