#include "tests/sim/seed_log.h"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "common/base/version.h"

namespace qsweep::sim {
namespace {

using Json = nlohmann::json;

Json ToJson(const Tally& tally) {
  Json json = Json::object();
  for (const auto& [name, n] : tally.all()) {
    json[name] = n;
  }
  return json;
}

void AddTo(Tally& tally, const Json& json) {
  for (const auto& [name, n] : json.items()) {
    tally.Add(name, n.get<int64_t>());
  }
}

void AddTo(SeedsResult& total, const Json& line) {
  total.seeds += line.at("seeds").get<int64_t>();
  total.seconds += line.at("seconds").get<double>();
  for (const Json& violation : line.at("violations")) {
    total.violations.push_back(violation.get<std::string>());
  }
  AddTo(total.counts.faults, line.at("faults"));
  AddTo(total.counts.transitions, line.at("moves"));
  AddTo(total.counts.outcomes, line.at("answers"));
  AddTo(total.counts.checks, line.at("checks"));
}

}  // namespace

absl::StatusOr<SeedLog> SeedLog::Open(const SeedsOptions& options) {
  SeedLog log(options);
  const absl::Status status = log.Read();
  return status.ok() ? absl::StatusOr<SeedLog>(std::move(log)) : status;
}

absl::Status SeedLog::Read() {
  std::ifstream in(options_.jsonl);
  std::string line;
  uint64_t whole = 0;  // bytes
  while (std::getline(in, line) && !in.eof()) {
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || json.value("revision", "") != kRevision ||
        json.value("tasks", 0) != options_.tasks ||
        json.value("last", uint64_t{0}) != options_.last) {
      return absl::FailedPreconditionError(absl::StrCat(
          options_.jsonl, " is of another run or damaged: ", line));
    }
    blocks_.insert(json.at("first").get<uint64_t>());
    AddTo(total_, json);
    whole += line.size() + 1;
  }
  std::error_code error;
  if (in.is_open()) {
    std::filesystem::resize_file(options_.jsonl, whole, error);
  }
  return error ? absl::FailedPreconditionError(error.message())
               : absl::OkStatus();
}

absl::Status SeedLog::Append(uint64_t first, const SeedsResult& block) {
  const Json json = {{"first", first},
                     {"last", options_.last},
                     {"seeds", block.seeds},
                     {"tasks", options_.tasks},
                     {"revision", kRevision},
                     {"seconds", block.seconds},
                     {"violations", block.violations},
                     {"faults", ToJson(block.counts.faults)},
                     {"moves", ToJson(block.counts.transitions)},
                     {"answers", ToJson(block.counts.outcomes)},
                     {"checks", ToJson(block.counts.checks)}};
  const std::string line = json.dump() + "\n";
  const int file = open(options_.jsonl.c_str(),
                        O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const bool written = file >= 0 &&
                       write(file, line.data(), line.size()) ==
                           static_cast<ssize_t>(line.size()) &&
                       fdatasync(file) == 0;
  if (file >= 0) {
    close(file);
  }
  if (!written) {
    return absl::UnavailableError(
        absl::StrCat("cannot write ", options_.jsonl));
  }
  blocks_.insert(first);
  AddTo(total_, json);
  return absl::OkStatus();
}

}  // namespace qsweep::sim
