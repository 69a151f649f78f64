#include "common/job/spec_tree.h"

#include <map>
#include <set>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/exceptions.h"
#include "yaml-cpp/mark.h"
#include "yaml-cpp/parser.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/utf8.h"

namespace qsweep {
namespace {

constexpr size_t kLargestText = size_t{1} << 20;
constexpr int kDeepestNesting = 32;
constexpr int kMostNodes = 20'000;

std::string Place(int line, int column) {
  return line == 0 ? "--set" : absl::StrCat(line, ":", column);
}

int CountNodes(const SpecNode& node) {
  int count = 1;
  for (const SpecNode& item : node.items) {
    count += CountNodes(item);
  }
  for (const SpecNode::Entry& entry : node.entries) {
    count += CountNodes(entry.value);
  }
  return count;
}

int Depth(const SpecNode& node) {
  int depth = 0;
  for (const SpecNode& item : node.items) {
    depth = std::max(depth, Depth(item));
  }
  for (const SpecNode::Entry& entry : node.entries) {
    depth = std::max(depth, Depth(entry.value));
  }
  return depth + 1;
}

// Builds the tree from the parser's events. After the first error, events are
// ignored: the parser cannot be stopped.
class TreeBuilder : public YAML::EventHandler {
 public:
  absl::StatusOr<SpecNode> Finish() && {
    QSWEEP_RETURN_IF_ERROR(status_);
    return std::move(root_);
  }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Add(NodeAt(mark, SpecNode::Kind::kNull), anchor);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& /*tag*/,
                YAML::anchor_t anchor, const std::string& value) override {
    SpecNode node = NodeAt(mark, SpecNode::Kind::kScalar);
    node.scalar = value;
    Add(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchored_.find(anchor);
    if (found == anchored_.end()) {
      Fail(kMalformedDocument, "an alias names a value it is part of", mark);
      return;
    }
    // Counted before it is copied: aliases of aliases grow exponentially.
    num_nodes_ += CountNodes(found->second) - 1;
    if (static_cast<int>(open_.size()) + Depth(found->second) >
        kDeepestNesting) {
      FailNesting(mark);
    }
    if (CheckCount(mark)) {
      Add(found->second, 0);
    }
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/,
                       YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    Open(mark, SpecNode::Kind::kSequence, anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/,
                  YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    Open(mark, SpecNode::Kind::kMap, anchor);
  }
  void OnMapEnd() override { Close(); }

 private:
  // A container whose end has not come yet.
  struct OpenNode {
    SpecNode node;
    YAML::anchor_t anchor;
    bool has_key = false;  // of a map: the next value belongs to the last entry
  };

  static SpecNode NodeAt(const YAML::Mark& mark, SpecNode::Kind kind) {
    SpecNode node;
    node.kind = kind;
    node.line = mark.line + 1;
    node.column = mark.column + 1;
    return node;
  }

  void Fail(const ErrorCode& code, absl::string_view message,
            const YAML::Mark& mark, absl::string_view field = "") {
    if (status_.ok()) {
      status_ = MakeError(
          code,
          absl::StrCat(message, " at ", Place(mark.line + 1, mark.column + 1)),
          field);
    }
  }

  void FailNesting(const YAML::Mark& mark) {
    Fail(kMalformedDocument,
         absl::StrCat("nesting is deeper than ", kDeepestNesting), mark);
  }

  bool CheckCount(const YAML::Mark& mark) {
    if (num_nodes_ > kMostNodes) {
      Fail(kMalformedDocument,
           absl::StrCat("the document has more than ", kMostNodes,
                        " values, aliases counted"),
           mark);
    }
    return status_.ok();
  }

  void Open(const YAML::Mark& mark, SpecNode::Kind kind,
            YAML::anchor_t anchor) {
    if (static_cast<int>(open_.size()) >= kDeepestNesting) {
      FailNesting(mark);
    }
    open_.push_back({NodeAt(mark, kind), anchor});
  }

  void Close() {
    OpenNode closed = std::move(open_.back());
    open_.pop_back();
    Add(std::move(closed.node), closed.anchor);
  }

  void Add(SpecNode node, YAML::anchor_t anchor) {
    ++num_nodes_;
    YAML::Mark mark;
    mark.line = node.line - 1;
    mark.column = node.column - 1;
    if (!CheckCount(mark)) {
      return;
    }
    if (anchor != 0) {
      anchored_[anchor] = node;
    }
    if (open_.empty()) {
      root_ = std::move(node);
    } else if (open_.back().node.kind == SpecNode::Kind::kSequence) {
      open_.back().node.items.push_back(std::move(node));
    } else {
      AddToMap(open_.back(), std::move(node), mark);
    }
  }

  // Keys and values come alternately.
  void AddToMap(OpenNode& map, SpecNode node, const YAML::Mark& mark) {
    if (map.has_key) {
      map.node.entries.back().value = std::move(node);
      map.has_key = false;
      return;
    }
    map.has_key = true;
    if (node.kind != SpecNode::Kind::kScalar) {
      Fail(kMalformedDocument, "a field name is not a word", mark);
    } else if (map.node.Find(node.scalar) != nullptr) {
      Fail(kDuplicateField,
           absl::StrCat("field \"", node.scalar, "\" is given twice, again"),
           mark, node.scalar);
    }
    map.node.entries.push_back(
        {std::move(node.scalar), node.line, node.column, {}});
  }

  absl::Status status_;
  SpecNode root_;
  std::vector<OpenNode> open_;
  std::map<YAML::anchor_t, SpecNode> anchored_;
  int num_nodes_ = 0;
};

// Forgets where nodes stood: an override has no lines.
void ClearPlaces(SpecNode& node) {
  node.line = 0;
  node.column = 0;
  for (SpecNode& item : node.items) {
    ClearPlaces(item);
  }
  for (SpecNode::Entry& entry : node.entries) {
    entry.line = 0;
    entry.column = 0;
    ClearPlaces(entry.value);
  }
}

absl::Status PathError(absl::string_view path, absl::string_view message) {
  return MakeError(kBadValue, absl::StrCat("--set ", path, ": ", message),
                   path);
}

// The value of a key, made when it is missing.
absl::StatusOr<SpecNode*> StepInto(SpecNode& node, absl::string_view key,
                                   absl::string_view path) {
  if (node.kind == SpecNode::Kind::kNull) {
    node.kind = SpecNode::Kind::kMap;
  }
  if (node.kind != SpecNode::Kind::kMap || key.empty()) {
    return PathError(path, absl::StrCat("\"", key, "\" is no field there"));
  }
  for (SpecNode::Entry& entry : node.entries) {
    if (entry.key == key) {
      return &entry.value;
    }
  }
  node.entries.push_back({std::string(key), 0, 0, {}});
  return &node.entries.back().value;
}

// The item of a sequence; one past the end is made.
absl::StatusOr<SpecNode*> StepToItem(SpecNode& node, absl::string_view text,
                                     absl::string_view path) {
  int index = 0;
  if (!absl::SimpleAtoi(text, &index) || index < 0) {
    return PathError(path, absl::StrCat("[", text, "] is no position"));
  }
  if (node.kind == SpecNode::Kind::kNull) {
    node.kind = SpecNode::Kind::kSequence;
  }
  const int size = static_cast<int>(node.items.size());
  if (node.kind != SpecNode::Kind::kSequence || index > size) {
    return PathError(path, absl::StrCat("there is no item ", index));
  }
  if (index == size) {
    node.items.emplace_back();
  }
  return &node.items[static_cast<size_t>(index)];
}

}  // namespace

const SpecNode* SpecNode::Find(absl::string_view key) const {
  for (const Entry& entry : entries) {
    if (entry.key == key) {
      return &entry.value;
    }
  }
  return nullptr;
}

std::string SpecNode::place() const { return Place(line, column); }
std::string SpecNode::Entry::place() const { return Place(line, column); }

absl::StatusOr<SpecNode> ParseSpecTree(absl::string_view text) {
  if (text.size() > kLargestText) {
    return MakeError(kMalformedDocument, "the document is larger than 1 MiB");
  }
  if (!IsValidUtf8(text)) {
    return MakeError(kMalformedDocument, "the document is not UTF-8");
  }
  TreeBuilder builder;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) {
      return MakeError(kMalformedDocument, "the document is empty");
    }
    TreeBuilder second;
    if (parser.HandleNextDocument(second)) {
      return MakeError(kMalformedDocument,
                       "the file holds more than one document", "",
                       "Submit one spec per file.");
    }
  } catch (const YAML::Exception& error) {
    return MakeError(
        kMalformedDocument,
        absl::StrCat(error.msg, " at ",
                     Place(error.mark.line + 1, error.mark.column + 1)));
  }
  return std::move(builder).Finish();
}

absl::Status ApplyOverride(SpecNode& root, absl::string_view override_text) {
  const size_t equals = override_text.find('=');
  if (equals == absl::string_view::npos) {
    return MakeError(kMalformedDocument,
                     absl::StrCat("--set ", override_text, " has no \"=\""), "",
                     "Write it like --set policy.priority=5.");
  }
  const absl::string_view path =
      absl::StripAsciiWhitespace(override_text.substr(0, equals));
  absl::StatusOr<SpecNode> value =
      ParseSpecTree(override_text.substr(equals + 1));
  if (!value.ok()) {
    return MakeError(
        kMalformedDocument,
        absl::StrCat("--set ", path, ": ", value.status().message()), path);
  }
  ClearPlaces(*value);
  SpecNode* node = &root;
  for (absl::string_view step : absl::StrSplit(path, '.')) {
    const size_t bracket = step.find('[');
    QSWEEP_ASSIGN_OR_RETURN(node,
                            StepInto(*node, step.substr(0, bracket), path));
    while (!step.empty() && bracket != absl::string_view::npos) {
      const size_t open = step.find('[');
      const size_t close = step.find(']');
      if (open == absl::string_view::npos) {
        break;
      }
      if (close == absl::string_view::npos || close < open) {
        return PathError(path, "\"]\" is missing");
      }
      QSWEEP_ASSIGN_OR_RETURN(
          node,
          StepToItem(*node, step.substr(open + 1, close - open - 1), path));
      step.remove_prefix(close + 1);
    }
  }
  *node = *std::move(value);
  return absl::OkStatus();
}

}  // namespace qsweep
