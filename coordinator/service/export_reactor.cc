#include "coordinator/service/export_reactor.h"

#include <deque>
#include <functional>
#include <iterator>
#include <utility>
#include <vector>

#include "common/base/status_macros.h"
#include "common/rpc/status_conversion.h"

namespace qsweep {
namespace {

class ExportReactor : public grpc::ServerWriteReactor<v1::MeasurementBatch> {
 public:
  ExportReactor(Loop& loop, ReaderPool& readers,
                const v1::ExportMeasurementsRequest& request,
                const absl::Status& allowed)
      : readers_(readers) {
    if (!allowed.ok()) {
      Finish(ToGrpcStatus(allowed));
      return;
    }
    loop.Post(request.job(), [this](absl::StatusOr<v1::JobSummary> job) {
      if (!job.ok()) {
        Finish(ToGrpcStatus(job.status()));
        return;
      }
      job_ = JobNumber(static_cast<int64_t>(job->job_number()));
      Post([this](Reader& reader) { Start(reader); });
    });
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      Finish(ToGrpcStatus(absl::CancelledError("the reader is gone")));
      return;
    }
    Post([this](Reader& reader) { SendNext(reader); });
  }
  void OnDone() override { delete this; }

 private:
  // Each step has exactly one successor: a write, a posted job or Finish.
  void Post(std::function<void(Reader&)> step) {
    if (absl::Status posted = readers_.Post(ReadKind::kLong, std::move(step));
        !posted.ok()) {
      Finish(ToGrpcStatus(posted));
    }
  }

  void Start(Reader& reader) {
    absl::StatusOr<std::vector<int64_t>> configurations =
        reader.ExportConfigurations(job_);
    if (!configurations.ok()) {
      Finish(ToGrpcStatus(configurations.status()));
      return;
    }
    configurations_ = {configurations->begin(), configurations->end()};
    SendNext(reader);
  }

  void SendNext(Reader& reader) {
    if (absl::Status status = FillBatch(reader); !status.ok()) {
      Finish(ToGrpcStatus(status));
    } else if (batch_.rows_size() == 0) {
      Finish(grpc::Status::OK);
    } else {
      StartWrite(&batch_);
    }
  }

  absl::Status FillBatch(Reader& reader) {
    batch_.Clear();
    while (rows_.empty() && !configurations_.empty()) {
      QSWEEP_ASSIGN_OR_RETURN(
          ExportPage page, reader.ExportRows(job_, configurations_.front(),
                                             position_, kExportPageDocuments));
      if (page.next) {
        position_ = *std::move(page.next);
      } else {
        position_ = ExportPosition();
        configurations_.pop_front();
      }
      rows_ = {std::make_move_iterator(page.rows.begin()),
               std::make_move_iterator(page.rows.end())};
    }
    while (!rows_.empty() &&
           static_cast<size_t>(batch_.rows_size()) < kExportBatchRows) {
      *batch_.add_rows() = std::move(rows_.front());
      rows_.pop_front();
    }
    return absl::OkStatus();
  }

  ReaderPool& readers_;
  JobNumber job_;
  std::deque<int64_t> configurations_;   // not read whole yet
  ExportPosition position_;              // in the first of them
  std::deque<v1::MeasurementRow> rows_;  // of the page read last, not sent
  v1::MeasurementBatch batch_;
};

}  // namespace

grpc::ServerWriteReactor<v1::MeasurementBatch>* NewExportReactor(
    Loop& loop, ReaderPool& readers,
    const v1::ExportMeasurementsRequest& request, const absl::Status& allowed) {
  return new ExportReactor(loop, readers, request, allowed);
}

}  // namespace qsweep
