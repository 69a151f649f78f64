#include "coordinator/qctl/output/measurements.h"

#include <vector>

#include "coordinator/qctl/output/output.h"

namespace qsweep::qctl {
namespace {

constexpr const char* kColumns[] = {
    "model",        "configuration",   "layer_set", "quantizer",
    "compute",      "evaluation",      "corpus",    "language",
    "document",     "document_digest", "status",    "nll_sum",
    "nll_fp_sum",   "unigram_nll_sum", "tokens",    "bytes",
    "bytes_scored", "chars",           "kl_sum",    "top1",
    "nonfinite",    "engine",          "device",    "task",
    "epoch",        "worker",          "created_at"};

const char* StatusName(v1::RowStatus status) {
  switch (status) {
    case v1::ROW_STATUS_OK:
      return "ok";
    case v1::ROW_STATUS_ONE_TOKEN:
      return "one_token";
    case v1::ROW_STATUS_TOO_LONG:
      return "too_long";
    case v1::ROW_STATUS_EMPTY:
      return "empty";
    default:
      return "unknown";
  }
}

// Parallel to kColumns.
std::vector<Value> Values(const v1::MeasurementRow& row) {
  const v1::Measurement& values = row.values();
  const bool ok = values.status() == v1::ROW_STATUS_OK;
  const auto when_ok = [ok](auto value) { return ok ? Value(value) : Value(); };
  return {row.model(),
          row.configuration(),
          row.layer_set(),
          row.quantizer(),
          row.compute(),
          row.evaluation(),
          row.corpus(),
          row.language(),
          row.document(),
          row.document_digest(),
          StatusName(values.status()),
          when_ok(values.nll_sum()),
          when_ok(values.nll_fp_sum()),
          when_ok(values.unigram_nll_sum()),
          when_ok(values.tokens()),
          values.bytes(),
          when_ok(values.bytes_scored()),
          values.chars(),
          ok && values.has_kl_sum() ? Value(values.kl_sum()) : Value(),
          ok && values.has_top1() ? Value(values.top1()) : Value(),
          when_ok(values.nonfinite()),
          row.engine(),
          row.device(),
          static_cast<int64_t>(row.task_id()),
          static_cast<int64_t>(row.epoch()),
          row.worker(),
          absl::FromUnixMicros(row.created_at_us())};
}

Table OneRow(const v1::MeasurementRow* row) {
  Table table;
  for (const char* name : kColumns) {
    table.columns.push_back({name, ""});
  }
  if (row != nullptr) {
    table.rows.push_back(Values(*row));
  }
  return table;
}

}  // namespace

std::string MeasurementCsvHeader() {
  return RenderDelimited(OneRow(nullptr), ',', true);
}

std::string MeasurementCsvLine(const v1::MeasurementRow& row) {
  return RenderDelimited(OneRow(&row), ',', false);
}

std::string MeasurementJsonLine(const v1::MeasurementRow& row) {
  const std::vector<Value> values = Values(row);
  Value::Object object;
  for (size_t i = 0; i < values.size(); ++i) {
    object.emplace_back(kColumns[i], values[i]);
  }
  return JsonText(object) + "\n";
}

}  // namespace qsweep::qctl
