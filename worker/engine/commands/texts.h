#ifndef QSWEEP_WORKER_ENGINE_COMMANDS_TEXTS_H_
#define QSWEEP_WORKER_ENGINE_COMMANDS_TEXTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "worker/engine/engine.h"

namespace qsweep {

// Languages and texts of a JSON file {language: text or [texts]}, in its order.
// INVALID_ARGUMENT QS2114, the flag named.
absl::StatusOr<std::vector<EngineLanguage>> ReadTexts(const std::string& path,
                                                      absl::string_view flag);
// QS2114.
absl::Status BadTexts(const std::string& path, absl::string_view flag,
                      absl::string_view what);

// The configuration that --quantizer and --protect mean; "" for the first: the
// baseline. INVALID_ARGUMENT QS1004: layers are protected from nothing.
absl::StatusOr<EngineConfiguration> ConfigurationOfFlags(
    const std::string& quantizer, const std::string& protect);

// Puts the texts of a file after the task's other ones, languages in the order
// of a corpus, and which they are into the quantizer of its only configuration.
// "": does nothing. INVALID_ARGUMENT
// QS2114, QS1004: the quantizer is not calibrated, or names other texts; errors
// of ParseQuantizer.
absl::Status AddCalibration(const std::string& path, EngineTask& task);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_COMMANDS_TEXTS_H_
