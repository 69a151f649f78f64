#include "common/job/role.h"

#include <utility>

namespace qsweep {
namespace {

constexpr std::pair<v1::Role, const char*> kRoles[] = {
    {v1::ROLE_READ, "read"},
    {v1::ROLE_SUBMIT, "submit"},
    {v1::ROLE_WORKER, "worker"},
    {v1::ROLE_ADMIN, "admin"}};

}  // namespace

absl::string_view RoleName(v1::Role role) {
  for (const auto& [candidate, name] : kRoles) {
    if (candidate == role) {
      return name;
    }
  }
  return "";
}

v1::Role RoleOf(absl::string_view name) {
  for (const auto& [role, candidate] : kRoles) {
    if (name == candidate) {
      return role;
    }
  }
  return v1::ROLE_UNSPECIFIED;
}

}  // namespace qsweep
