#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_MEASUREMENTS_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_MEASUREMENTS_H_

#include <string>

#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// Measurement rows as files: identity columns first, independent of the job,
// then the measured values, then what differs from run to run (engine, device,
// task, epoch, worker, created_at), so that two runs compare by `cut` and
// `diff`. Sums are in nats. A row whose status is not "ok" has no sums.

// "model,configuration,...,created_at\n".
std::string MeasurementCsvHeader();
// One line; numbers are the shortest text that reads back as the same double.
std::string MeasurementCsvLine(const v1::MeasurementRow& row);
// One JSON object and a newline; the same names, what is absent is null.
std::string MeasurementJsonLine(const v1::MeasurementRow& row);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_MEASUREMENTS_H_
