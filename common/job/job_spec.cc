#include "common/job/job_spec.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/job/job_spec_names.h"

namespace qsweep {

void FillJobSpecDefaults(v1::JobSpec& spec) {
  if (spec.kind() == v1::JOB_KIND_LAYER_SWEEP && spec.layer_sets().empty()) {
    spec.add_layer_sets()->set_protect("each");
  }
  if (spec.layers().empty()) {
    spec.set_layers("all");
  }
  if (spec.evals().empty()) {
    spec.add_evals()->set_eval("aligned");
  }
  if (spec.has_calibration() && spec.calibration().seeds().empty()) {
    spec.mutable_calibration()->add_seeds(0);
  }
  if (spec.replicates() == 0) {
    spec.set_replicates(1);
  }
  if (spec.compute() == v1::COMPUTE_UNSPECIFIED) {
    spec.set_compute(v1::COMPUTE_FP32);
  }
  if (spec.policy().reuse() == v1::REUSE_UNSPECIFIED) {
    spec.mutable_policy()->set_reuse(v1::REUSE_AUTO);
  }
}

v1::ModelReference ParseModelReference(absl::string_view text) {
  v1::ModelReference model;
  const bool path =
      absl::StartsWith(text, "/") || absl::StartsWith(text, ".") ||
      absl::StartsWith(text, "~") || absl::EndsWith(text, ".gguf");
  (path ? *model.mutable_path() : *model.mutable_id()) = std::string(text);
  return model;
}

std::string JobKindName(v1::JobKind kind) { return FindName(kKindNames, kind); }

v1::Compute ToProto(Compute compute) {
  switch (compute) {
    case Compute::kFp32:
      return v1::COMPUTE_FP32;
    case Compute::kBf16:
      return v1::COMPUTE_BF16;
    case Compute::kFp16:
      return v1::COMPUTE_FP16;
  }
  return v1::COMPUTE_UNSPECIFIED;
}

absl::StatusOr<Compute> FromProto(v1::Compute compute) {
  switch (compute) {
    case v1::COMPUTE_UNSPECIFIED:
    case v1::COMPUTE_FP32:
      return Compute::kFp32;
    case v1::COMPUTE_BF16:
      return Compute::kBf16;
    case v1::COMPUTE_FP16:
      return Compute::kFp16;
    default:
      return absl::UnimplementedError(
          absl::StrCat("compute mode ", static_cast<int>(compute)));
  }
}

}  // namespace qsweep
