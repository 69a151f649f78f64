#ifndef QSWEEP_COORDINATOR_QCTL_COMMANDS_SUBMISSION_TABLE_H_
#define QSWEEP_COORDINATOR_QCTL_COMMANDS_SUBMISSION_TABLE_H_

#include "coordinator/qctl/output/output.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// The answer to a submit (kind Submission); `-o name` prints job/<uuid>.
Table SubmissionTable(const v1::SubmitJobRequest& request,
                      const v1::SubmitJobResponse& response);

// What would run (kind Plan).
Table PlanTable(const v1::SubmitJobRequest& request, const v1::JobPlan& plan);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_COMMANDS_SUBMISSION_TABLE_H_
