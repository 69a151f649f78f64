#ifndef QSWEEP_COORDINATOR_SERVICE_JOB_SOURCE_H_
#define QSWEEP_COORDINATOR_SERVICE_JOB_SOURCE_H_

#include <memory>

#include "absl/status/statusor.h"

#include "coordinator/core/submit.h"
#include "coordinator/store/reader.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

// What is read and expanded of jobs beside the loop, since it takes seconds for
// a large corpus, in which the loop would serve nobody. For reader threads.

// A new job. Null: it cannot be prepared, and the loop says why.
std::shared_ptr<const PreparedSubmit> PrepareAhead(
    Reader& reader, const v1::SubmitJobRequest& request);

// A job that is to be planned again. Null as above.
std::shared_ptr<const PreparedSubmit> PrepareAgainAhead(
    Reader& reader, const v1::JobSummary& job);

// The first texts of each language. Errors: the reader's, ChooseLanguages's.
absl::StatusOr<v1::SampleTextsResponse> SampleTextsOf(
    Reader& reader, const v1::SampleTextsRequest& request);

// The loop's answer with what is stored of the job. Errors: the reader's.
absl::StatusOr<v1::GetJobResponse> DescribeJob(Reader& reader,
                                               v1::GetJobResponse of_loop);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_JOB_SOURCE_H_
