#include "coordinator/qctl/command.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "common/base/duration_text.h"
#include "common/base/error_codes.h"

namespace qsweep::qctl {

std::string Command::name() const { return absl::StrJoin(path, " "); }

std::span<const Flag> GlobalFlags() {
  static const std::vector<Flag> flags = {
      {"server", 's', "ADDR", "coordinator: unix:PATH or HOST:PORT"},
      {"dir", 0, "DIR", "folder of a local cluster (default: ./.qsweep)"},
      {"token-file", 0, "FILE", "file with the access token"},
      {"ca-file", 0, "FILE",
       "certificate of the coordinator, for --token-file"},
      {"output", 'o', "FORMAT",
       "table, wide, json, jsonl, yaml, csv, tsv, md, tex or name"},
      {"columns", 0, "A,B", "show these columns only, in this order"},
      {"no-header", 0, "", "leave out the heading"},
      {"quiet", 'q', "", "no messages on stderr, only errors"},
      {"color", 0, "WHEN", "colours", false, {"auto", "always", "never"}},
      {"help", 'h', "", "this text"},
  };
  return flags;
}

bool Arguments::Has(absl::string_view name) const {
  return values_.find(name) != values_.end();
}

std::string Arguments::Get(absl::string_view name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? "" : found->second.back();
}

std::vector<std::string> Arguments::GetAll(absl::string_view name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::vector<std::string>() : found->second;
}

std::vector<std::string> Arguments::GetList(absl::string_view name) const {
  std::vector<std::string> items;
  for (const std::string& value : GetAll(name)) {
    for (const absl::string_view item :
         absl::StrSplit(value, ',', absl::SkipWhitespace())) {
      items.emplace_back(absl::StripAsciiWhitespace(item));
    }
  }
  return items;
}

namespace {

// As the user knows it: flags are named in small letters, positionals are not.
std::string FieldName(absl::string_view name) {
  return absl::ascii_isupper(static_cast<unsigned char>(name[0]))
             ? std::string(name)
             : absl::StrCat("--", name);
}

}  // namespace

absl::StatusOr<int64_t> Arguments::GetInteger(absl::string_view name,
                                              int64_t otherwise, int64_t low,
                                              int64_t high) const {
  if (!Has(name)) {
    return otherwise;
  }
  int64_t value = 0;
  if (!absl::SimpleAtoi(Get(name), &value) || value < low || value > high) {
    return MakeError(kBadValue,
                     absl::StrCat("\"", Get(name), "\" is not a whole number ",
                                  low, " to ", high),
                     FieldName(name));
  }
  return value;
}

absl::StatusOr<absl::Duration> Arguments::GetDuration(
    absl::string_view name, absl::Duration otherwise) const {
  if (!Has(name)) {
    return otherwise;
  }
  const std::string text = Get(name);
  const std::optional<absl::Duration> duration = ParseDurationText(text);
  if (!duration) {
    return MakeError(kBadValue, absl::StrCat("\"", text, "\" is not a time"),
                     FieldName(name), "write it like 90s, 5m, 1h30m or 30d");
  }
  return *duration;
}

void Arguments::Add(absl::string_view name, std::string value) {
  values_[std::string(name)].push_back(std::move(value));
}

}  // namespace qsweep::qctl
