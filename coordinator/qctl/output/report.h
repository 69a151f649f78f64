#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_REPORT_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_REPORT_H_

#include <map>
#include <string>

#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// What the caller of RenderReport knows beside the results.
struct ReportOptions {
  std::string command;        // that makes this report again
  std::string rows_csv;       // `qctl export`: embedded, offered for download
  std::string created_at;     // RFC 3339, UTC
  std::string unit = "unit";  // what a unit of the corpus is: "article"
  std::map<std::string, std::string> language_names;  // by corpus code
};

// One HTML file that makes no request: the verdict in three sentences, pictures
// as inline SVG with a real table behind each, the statistics used, flags,
// provenance, the rows. Readable by keyboard and screen reader, light and dark.
std::string RenderReport(const v1::GetResultsResponse& results,
                         const ReportOptions& options);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_REPORT_H_
