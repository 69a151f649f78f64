#ifndef QSWEEP_COMMON_JOB_JOB_SPEC_H_
#define QSWEEP_COMMON_JOB_JOB_SPEC_H_

#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"
#include "common/job/quantizer.h"
#include "qsweep/v1/job.pb.h"

namespace qsweep {

// Reads a spec file (docs/reference/spec.md), YAML or JSON, after the overrides
// ("path=value", spec_tree.h), and fills defaults. The result has the right
// shape; ValidateJobSpec says whether its values make sense. INVALID_ARGUMENT:
// errors of ParseSpecTree and ApplyOverride; QS1001 an unknown field (with a
// suggestion), QS1003 a missing one, QS1004 a wrong type; all with
// line:column.
absl::StatusOr<v1::JobSpec> ParseJobSpec(
    absl::string_view text, std::span<const std::string> overrides = {});

// Writes every default out: layers "all", evals [aligned], compute fp32, reuse
// auto, replicates 1, {protect: each} for a layer sweep without layer sets, and
// of a calibration seeds [0]. Idempotent.
void FillJobSpecDefaults(v1::JobSpec& spec);

// All that can be said without models and corpus; qctl and the coordinator run
// the same code. OK, or the first error, its field named as the file names it:
// "layerSets[0]", "quantizers[1]", "policy.priority". Codes: QS1003 missing,
// QS1004 out of range, QS1053 kind not in this version, and those of
// ParseQuantizer, LayerSet::Parse, ParseLayerRange, EvaluationText.
absl::Status ValidateJobSpec(const v1::JobSpec& spec);

// The spec as a YAML file with every default written out, which parses back to
// the same spec. Deterministic: one text per spec.
std::string FormatJobSpecYaml(const v1::JobSpec& spec);

// SHA-256 of FormatJobSpecYaml: the identity of a submit and of its statistical
// family.
Digest JobSpecDigest(const v1::JobSpec& spec);

// A model as a command line names it: a path if it starts with "/", "." or "~"
// or ends in ".gguf", else a hub id.
v1::ModelReference ParseModelReference(absl::string_view text);

// "LayerSweep"; "" for a kind this version does not know.
std::string JobKindName(v1::JobKind kind);

v1::Compute ToProto(Compute compute);
// COMPUTE_UNSPECIFIED is fp32. UNIMPLEMENTED: a value this version lacks.
absl::StatusOr<Compute> FromProto(v1::Compute compute);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_JOB_SPEC_H_
