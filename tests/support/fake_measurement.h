#ifndef QSWEEP_TESTS_SUPPORT_FAKE_MEASUREMENT_H_
#define QSWEEP_TESTS_SUPPORT_FAKE_MEASUREMENT_H_

#include "absl/strings/string_view.h"

#include "qsweep/v1/task.pb.h"

namespace qsweep::testing {

// The row that fake_qengine makes of a document under a configuration, without
// its two indexes. The digests alone decide it, so a test can compute again
// what a database should hold. baseline: the layer set is "all".
v1::Measurement FakeMeasurement(absl::string_view configuration_digest,
                                absl::string_view document_digest,
                                bool baseline);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_FAKE_MEASUREMENT_H_
