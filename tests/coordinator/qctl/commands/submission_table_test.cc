#include "coordinator/qctl/commands/submission_table.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qsweep::qctl {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string Shown(const v1::JobPlan& plan) {
  return *Render(PlanTable({}, plan), {});
}

TEST(PlanTable, TellsTheTimeOfTasks_AndOfCalibrationBesideIt) {
  v1::JobPlan plan;
  EXPECT_THAT(Shown(plan), HasSubstr("none: all is measured already\n"));
  plan.set_tasks_shared(2);
  EXPECT_THAT(Shown(plan), HasSubstr("none of its own: tasks of other jobs "
                                     "bring the rest\n"));
  plan.set_tasks(1);
  plan.set_calibration_seconds(150);
  EXPECT_THAT(Shown(plan),
              HasSubstr("unknown: no worker that may run it is attached\n"));
  plan.set_estimated_seconds(75);
  EXPECT_THAT(Shown(plan),
              HasSubstr("about 1m15s on the workers attached now; plus about "
                        "2m30s of calibration on each that has no codes "
                        "yet\n"));
  plan.clear_calibration_seconds();
  EXPECT_THAT(Shown(plan), HasSubstr("about 1m15s on the workers attached "
                                     "now\n"));
  EXPECT_THAT(Shown(plan), Not(HasSubstr("calibration")));
}

}  // namespace
}  // namespace qsweep::qctl
