#ifndef QSWEEP_COMMON_JOB_SPEC_TREE_H_
#define QSWEEP_COMMON_JOB_SPEC_TREE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qsweep {

// A YAML or JSON document as read: scalars are still text. Value type.
struct SpecNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };
  struct Entry;  // of a map, in the order written

  Kind kind = Kind::kNull;
  std::string scalar;
  std::vector<SpecNode> items;  // kSequence
  std::vector<Entry> entries;   // kMap
  int line = 0;                 // from 1; 0: made by an override
  int column = 0;

  // The value of a key of a map, or nullptr.
  const SpecNode* Find(absl::string_view key) const;
  // "4:7", or "--set" for what an override made.
  std::string place() const;
};

struct SpecNode::Entry {
  std::string key;
  int line = 0;
  int column = 0;
  SpecNode value;

  std::string place() const;
};

// Reads one document. Aliases are copied in. INVALID_ARGUMENT: QS1002 not
// YAML, empty, more than one document, over 1 MiB, nested deeper than 32, or
// over 20,000 values with all aliases copied; QS1005 a key given twice. Errors
// say line:column.
absl::StatusOr<SpecNode> ParseSpecTree(absl::string_view text);

// Sets one value: "seed=3", "policy.reuse=never", "languages=[eng, deu]",
// "evals[0].samples=8". The value is YAML; maps on the way are made, an index
// one past the end appends. INVALID_ARGUMENT: QS1002 no "=", no value that
// parses; QS1004 the path runs through a scalar or past the end.
absl::Status ApplyOverride(SpecNode& root, absl::string_view override_text);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_SPEC_TREE_H_
