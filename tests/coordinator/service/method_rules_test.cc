#include "coordinator/service/method_rules.h"

#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"

#include "qsweep/v1/coordinator.pb.h"
#include "qsweep/v1/worker.pb.h"
#include "tests/support/error_matchers.h"

namespace qsweep::testing {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> MethodsOf(
    const google::protobuf::FileDescriptor* file) {
  std::vector<std::string> names;
  for (int s = 0; s < file->service_count(); ++s) {
    for (int m = 0; m < file->service(s)->method_count(); ++m) {
      names.push_back(file->service(s)->method(m)->name());
    }
  }
  return names;
}

TEST(MethodRules, AreOneForEachMethodOfBothServices) {
  std::vector<std::string> methods =
      MethodsOf(v1::GetStatusRequest::descriptor()->file());
  const std::vector<std::string> more =
      MethodsOf(v1::Hello::descriptor()->file());
  methods.insert(methods.end(), more.begin(), more.end());
  ASSERT_GT(methods.size(), 20u);
  std::vector<std::string> ruled;
  for (const MethodRule& rule : MethodRules()) {
    ruled.emplace_back(rule.method);
  }
  EXPECT_THAT(ruled, ::testing::UnorderedElementsAreArray(methods));
}

Principal Holder(v1::Role role) { return {.role = role}; }

TEST(CheckMethod, AllowsARoleWhatItIsFor) {
  struct Case {
    const char* method;
    std::set<v1::Role> allowed;
  };
  for (const Case& c :
       {Case{"ListJobs", {v1::ROLE_READ, v1::ROLE_SUBMIT, v1::ROLE_ADMIN}},
        Case{"Query", {v1::ROLE_READ, v1::ROLE_SUBMIT, v1::ROLE_ADMIN}},
        Case{"SubmitJob", {v1::ROLE_SUBMIT, v1::ROLE_ADMIN}},
        Case{"CancelJob", {v1::ROLE_SUBMIT, v1::ROLE_ADMIN}},
        Case{"PutArtifact", {v1::ROLE_SUBMIT, v1::ROLE_ADMIN}},
        Case{"Attach", {v1::ROLE_WORKER, v1::ROLE_ADMIN}},
        Case{"CommitResult", {v1::ROLE_WORKER, v1::ROLE_ADMIN}},
        Case{"GetArtifact", {v1::ROLE_WORKER, v1::ROLE_ADMIN}},
        Case{"CreateToken", {v1::ROLE_ADMIN}},
        Case{"RevokeToken", {v1::ROLE_ADMIN}}, Case{"Join", {}},
        Case{"NoSuchMethod", {}}}) {
    for (const v1::Role role :
         {v1::ROLE_UNSPECIFIED, v1::ROLE_READ, v1::ROLE_SUBMIT, v1::ROLE_WORKER,
          v1::ROLE_ADMIN}) {
      EXPECT_EQ(CheckMethod(Holder(role), c.method).ok(),
                c.allowed.contains(role))
          << c.method << " " << v1::Role_Name(role);
    }
  }
}

TEST(CheckMethod, AllowsAJoinTokenOneThing_WhateverItsRole) {
  Principal joiner = Holder(v1::ROLE_ADMIN);
  joiner.kind = v1::TOKEN_KIND_JOIN;
  for (const MethodRule& rule : MethodRules()) {
    EXPECT_EQ(CheckMethod(joiner, rule.method).ok(), rule.need == Need::kJoin)
        << rule.method;
  }
}

TEST(CheckMethod, SaysWhatIsNeeded) {
  const absl::Status refused = CheckMethod(Holder(v1::ROLE_READ), "CancelJob");
  EXPECT_EQ(CodeOf(refused), "QS6002");
  EXPECT_TRUE(absl::IsPermissionDenied(refused));
  EXPECT_THAT(refused.message(), HasSubstr("role read may not call CancelJob"));
  EXPECT_THAT(HintOf(refused), HasSubstr("--role submit"));
}

}  // namespace
}  // namespace qsweep::testing
