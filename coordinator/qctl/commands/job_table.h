#ifndef QSWEEP_COORDINATOR_QCTL_COMMANDS_JOB_TABLE_H_
#define QSWEEP_COORDINATOR_QCTL_COMMANDS_JOB_TABLE_H_

#include <vector>

#include "coordinator/qctl/output/output.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// The columns of a list of jobs (kind JobList); `-o name` prints job/<uuid>.
Table JobTable();
// A job as a row of it.
std::vector<Value> JobRow(const v1::JobSummary& job);
// Everything about one job (kind Job).
Table JobRecord(const v1::GetJobResponse& response);
// A plan as an object: configurations, documents, ...
Value::Object PlanObject(const v1::JobPlan& plan);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_COMMANDS_JOB_TABLE_H_
