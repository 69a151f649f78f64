#include "worker/agent/model_list.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <optional>
#include <unistd.h>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "common/base/log.h"

namespace qsweep {
namespace {

constexpr size_t kHexSize = 2 * size_t{Digest::kSize};

struct Entry {
  Digest model;
  std::string path;
};

std::optional<Entry> ParseEntry(const std::string& line) {
  if (line.size() < kHexSize + 2 || line[kHexSize] != ' ') {
    return std::nullopt;
  }
  const auto model = Digest::FromHex(line.substr(0, kHexSize));
  return model.ok() ? std::optional(Entry{*model, line.substr(kHexSize + 1)})
                    : std::nullopt;
}

std::vector<Entry> ReadEntries(const std::string& path) {
  std::vector<Entry> entries;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (std::optional<Entry> entry = ParseEntry(line)) {
      entries.push_back(*std::move(entry));
    }
  }
  return entries;
}

}  // namespace

std::vector<Digest> ModelList::Read() const {
  std::vector<Digest> models;
  for (const Entry& entry : ReadEntries(file_)) {
    if (access(entry.path.c_str(), R_OK) == 0) {
      models.push_back(entry.model);
    }
  }
  std::ranges::reverse(models);
  return models;
}

// Under another name first, so that a crash leaves the old list or the new.
void ModelList::Keep(const Digest& model, const std::string& path) const {
  if (absl::StrContains(path, "\n")) {
    return;
  }
  std::vector<Entry> entries = ReadEntries(file_);
  std::erase_if(entries, [&](const Entry& e) { return e.model == model; });
  entries.push_back({model, path});
  const size_t first = entries.size() - std::min(entries.size(), kMost);
  const std::string part = file_ + ".part";
  std::ofstream out(part, std::ios::trunc);
  for (size_t i = first; i < entries.size(); ++i) {
    out << entries[i].model.hex() << ' ' << entries[i].path << '\n';
  }
  out.close();
  if (!out || std::rename(part.c_str(), file_.c_str()) != 0) {
    LogWarning(absl::StrCat("cannot write '", file_, "'"));
  }
}

}  // namespace qsweep
