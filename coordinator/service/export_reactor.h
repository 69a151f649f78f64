#ifndef QSWEEP_COORDINATOR_SERVICE_EXPORT_REACTOR_H_
#define QSWEEP_COORDINATOR_SERVICE_EXPORT_REACTOR_H_

#include "absl/status/status.h"
#include <grpcpp/support/server_callback.h>

#include "coordinator/loop.h"
#include "coordinator/store/reader.h"
#include "qsweep/v1/coordinator.pb.h"

namespace qsweep {

inline constexpr size_t kExportBatchRows = 500;
// Of a configuration, read at a time: rows of some 700 bytes each. Each page
// looks through the documents of the job again, so many small ones take longer.
inline constexpr int64_t kExportPageDocuments = 50'000;

// Makes the reactor of one ExportMeasurements stream, which deletes itself at
// its end: a job's rows in identity order, a page of a configuration read at a
// time, so that a slow client pins no snapshot and neither much memory.
// allowed: not OK ends the stream with it.
grpc::ServerWriteReactor<v1::MeasurementBatch>* NewExportReactor(
    Loop& loop, ReaderPool& readers,
    const v1::ExportMeasurementsRequest& request, const absl::Status& allowed);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_EXPORT_REACTOR_H_
