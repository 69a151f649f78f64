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

// A corpus is stored and asked for in the same order: the neighbour costs less
// than a search by a random key, most of whose pages are not in memory.
absl::StatusOr<int64_t> RowIds::NextDocument(const Digest& digest) {
  if (last_document_ == 0 || !in_order_) {
    return 0;
  }
  QSWEEP_ASSIGN_OR_RETURN(Statement * read,
                          statements_.Get(sql::kReadDocumentDigest));
  read->BindAll(last_document_ + 1);
  QSWEEP_ASSIGN_OR_RETURN(const bool found, read->Step());
  const bool is_it = found && read->View(0) == digest.bytes();
  read->Reset();
  return is_it ? last_document_ + 1 : 0;
}

absl::StatusOr<int64_t> RowIds::Document(const Digest& digest) {
  int64_t id = 0;
  if (!documents_.contains(digest)) {
    QSWEEP_ASSIGN_OR_RETURN(id, NextDocument(digest));
  }
  if (id == 0) {
    QSWEEP_ASSIGN_OR_RETURN(id, Find(documents_, digest, sql::kReadDocumentId,
                                     Blob{digest.bytes()}));
  }
  in_order_ = id == last_document_ + 1;
  last_document_ = id;
  return id;
}

void RowIds::Forget() {
  configurations_.clear();
  evaluations_.clear();
  documents_.clear();
  last_document_ = 0;
}

}  // namespace qsweep
