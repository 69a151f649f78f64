#include "coordinator/service/method_rules.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/job/role.h"

namespace qsweep {
namespace {

constexpr MethodRule kRules[] = {
    // CoordinatorService
    {"GetStatus", Need::kRead},
    {"SubmitJob", Need::kSubmit},
    {"ListJobs", Need::kRead},
    {"GetJob", Need::kRead},
    {"CancelJob", Need::kSubmit},
    {"ControlJob", Need::kSubmit},
    {"WatchJob", Need::kRead},
    {"ListTasks", Need::kRead},
    {"ExplainTask", Need::kRead},
    {"ListWorkers", Need::kRead},
    {"ControlWorker", Need::kAdmin},
    {"PutArtifact", Need::kSubmit},
    {"AddCorpus", Need::kSubmit},
    {"ListCorpora", Need::kRead},
    {"SampleTexts", Need::kSubmit},
    {"GetResults", Need::kRead},
    {"ExportMeasurements", Need::kRead},
    {"Query", Need::kRead},
    {"Backup", Need::kAdmin},
    {"CheckDatabase", Need::kAdmin},
    {"CollectGarbage", Need::kAdmin},
    {"Join", Need::kJoin},
    {"CreateToken", Need::kAdmin},
    {"ListTokens", Need::kAdmin},
    {"RevokeToken", Need::kAdmin},
    {"RotateToken", Need::kAdmin},
    // WorkerService
    {"Attach", Need::kWorker},
    {"Synchronize", Need::kWorker},
    {"CommitResult", Need::kWorker},
    {"ReleaseTask", Need::kWorker},
    {"GetArtifact", Need::kWorker},
};

bool Satisfies(v1::Role role, Need need) {
  switch (need) {
    case Need::kRead:
      return role == v1::ROLE_READ || role == v1::ROLE_SUBMIT ||
             role == v1::ROLE_ADMIN;
    case Need::kSubmit:
      return role == v1::ROLE_SUBMIT || role == v1::ROLE_ADMIN;
    case Need::kWorker:
      return role == v1::ROLE_WORKER || role == v1::ROLE_ADMIN;
    case Need::kAdmin:
      return role == v1::ROLE_ADMIN;
    case Need::kJoin:
      return false;
  }
  return false;
}

const char* RoleNeeded(Need need) {
  switch (need) {
    case Need::kRead:
      return "read";
    case Need::kSubmit:
      return "submit";
    case Need::kWorker:
      return "worker";
    case Need::kAdmin:
    case Need::kJoin:
      break;
  }
  return "admin";
}

absl::Status Refuse(const Principal& principal, Need need,
                    absl::string_view method) {
  if (principal.kind == v1::TOKEN_KIND_JOIN) {
    return MakeError(
        kNotAllowed, absl::StrCat("a join token may not call ", method),
        "token",
        "exchange it first: qctl login HOST:PORT --token T, or qworker --join");
  }
  if (need == Need::kJoin) {
    return MakeError(kNotAllowed, "only a join token can be exchanged", "token",
                     "make one with qctl tokens create");
  }
  return MakeError(
      kNotAllowed,
      absl::StrCat("role ", RoleName(principal.role), " may not call ", method),
      "token",
      absl::StrCat("ask for a token of role ", RoleNeeded(need),
                   ": qctl tokens create --role ", RoleNeeded(need)));
}

}  // namespace

std::span<const MethodRule> MethodRules() { return kRules; }

absl::Status CheckMethod(const Principal& principal, absl::string_view method) {
  const auto* rule =
      std::ranges::find_if(kRules, [method](const MethodRule& candidate) {
        return method == candidate.method;
      });
  if (rule == std::end(kRules)) {
    return MakeError(kNotAllowed, absl::StrCat("nobody may call ", method));
  }
  const bool allowed = principal.kind == v1::TOKEN_KIND_JOIN
                           ? rule->need == Need::kJoin
                           : Satisfies(principal.role, rule->need);
  return allowed ? absl::OkStatus() : Refuse(principal, rule->need, method);
}

}  // namespace qsweep
