#include "worker/engine/commands/texts.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/quantizer.h"
#include "worker/engine/commands/commands.h"

namespace qsweep {
namespace {

// In the order of the file, as its author wrote the languages.
using Json = nlohmann::ordered_json;

// Where a text is no JSON and why, from "[json...] parse error at line 1,
// column 2: ...; last read: '...'". What was read last may be long.
std::string Reason(const Json::parse_error& error) {
  constexpr size_t kLongestReason = 200;
  absl::string_view text = error.what();
  text.remove_prefix(std::min(text.find("] ") + 2, text.size()));
  if (text.size() > kLongestReason) {
    text = text.substr(0, text.find("; last read: "));
  }
  return absl::StrCat("is no JSON: ", text);
}

absl::StatusOr<std::string> ReadFile(const std::string& path,
                                     absl::string_view flag) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return BadTexts(path, flag, "is a folder");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    const std::error_code reason(errno, std::generic_category());
    return BadTexts(path, flag,
                    absl::StrCat("cannot be read: ", reason.message()));
  }
  std::stringstream bytes;
  bytes << file.rdbuf();
  if (bytes.bad()) {
    return BadTexts(path, flag, "cannot be read");
  }
  return bytes.str();
}

}  // namespace

absl::Status BadTexts(const std::string& path, absl::string_view flag,
                      absl::string_view what) {
  return MakeError(
      kUnreadableCorpus, absl::StrCat(path, ": ", what), flag,
      "Give a JSON object {\"language\": \"text\" or [\"texts\"]}.");
}

absl::StatusOr<std::vector<EngineLanguage>> ReadTexts(const std::string& path,
                                                      absl::string_view flag) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, flag));
  Json root;
  try {
    root = Json::parse(bytes);
  } catch (const Json::parse_error& error) {
    return BadTexts(path, flag, Reason(error));
  }
  if (!root.is_object()) {
    return BadTexts(path, flag, "is no JSON object");
  }
  std::vector<EngineLanguage> languages;
  for (const auto& [language, value] : root.items()) {
    EngineLanguage& added = languages.emplace_back();
    added.language = language;
    const Json list = value.is_array() ? value : Json::array({value});
    for (const Json& text : list) {
      if (!text.is_string()) {
        return BadTexts(
            path, flag,
            absl::StrCat("'", language, "' is neither text nor texts"));
      }
      added.texts.push_back(text.get<std::string>());
    }
  }
  return languages;
}

absl::StatusOr<EngineConfiguration> ConfigurationOfFlags(
    const std::string& quantizer, const std::string& protect) {
  if (!quantizer.empty()) {
    return EngineConfiguration{.quantizer = quantizer, .layer_set = protect};
  }
  if (protect != kProtectsNothing) {
    return MakeError(kBadValue, "There is no quantizer to protect layers from.",
                     "--protect", "Give a --quantizer, too.");
  }
  return EngineConfiguration{.quantizer = "fp", .layer_set = "all"};
}

absl::Status AddCalibration(const std::string& path, EngineTask& task) {
  if (path.empty()) {
    return absl::OkStatus();
  }
  std::string& text = task.configurations[0].quantizer;
  auto quantizer = text == "fp" ? absl::StatusOr<Quantizer>(Quantizer())
                                : ParseQuantizer(text);
  QSWEEP_RETURN_IF_ERROR(quantizer.status());
  if (!quantizer->scheme.calibrated()) {
    return MakeError(kBadValue, absl::StrCat(text, " is not calibrated"),
                     "--calibration", "Leave it out, or use gptq or awq.");
  }
  QSWEEP_ASSIGN_OR_RETURN(std::vector<EngineLanguage> languages,
                          ReadTexts(path, "--calibration"));
  // As a corpus has them: a job's codes come of texts in this order.
  std::ranges::sort(languages, {}, &EngineLanguage::language);
  EngineCalibration calibration;
  std::vector<Digest> digests;
  for (EngineLanguage& language : languages) {
    for (size_t i = 0; i < language.texts.size(); ++i) {
      calibration.documents.push_back(
          {.language = static_cast<int>(task.languages.size()),
           .text = static_cast<int>(i)});
      digests.push_back(Digest::Of(language.texts[i]));
    }
    task.languages.push_back(std::move(language));
  }
  if (digests.empty()) {
    return BadTexts(path, "--calibration", "holds no text");
  }
  const uint64_t texts = CalibrationTexts(digests);
  uint64_t& wanted = quantizer->scheme.calibration_texts;
  if (wanted != 0 && wanted != texts) {
    return MakeError(
        kBadValue,
        absl::StrCat("the texts of ", path, " are ", ShortDigestText(texts),
                     ", not those of ", text),
        "--calibration", "Leave texts out of the quantizer.");
  }
  wanted = texts;
  text = FormatQuantizer(*quantizer);
  task.calibrations.push_back(std::move(calibration));
  return absl::OkStatus();
}

}  // namespace qsweep
