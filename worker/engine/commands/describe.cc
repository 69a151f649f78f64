#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/checkpoint_quantizer.h"
#include "common/job/model_description.h"
#include "common/job/model_description_json.h"
#include "worker/engine/commands/commands.h"
#include "worker/engine/ready_checkpoints.h"
#include "worker/model/checkpoint.h"

namespace qsweep {
namespace {

std::string FormatSummary(const ModelDescription& model) {
  std::string text = absl::StrCat(
      "model          ", model.name,           //
      "\nfamily         ", model.family,       //
      "\nlayers         ", model.layers,       //
      "\nhidden size    ", model.hidden_size,  //
      "\nvocabulary     ", model.vocabulary_size, "\ncontext        ",
      model.context_length, " tokens", "\nparameters     ",
      model.num_parameters(), "\nhead           ",
      model.tied_head ? "tied to embed.token" : "its own");
  absl::StrAppend(
      &text, "\nweights        ",
      model.prequantized.empty()
          ? "full precision"
          : absl::StrCat("already quantized (", model.prequantized, ")"),
      "\ndigest         ", model.digest.hex(), "\ntokenizer      ",
      model.tokenizer_digest.hex(), "\n");
  return text;
}

std::string ComponentOf(const TensorDescription& tensor) {
  return absl::StrCat(ComponentName(tensor.component),
                      tensor.bias ? ".bias" : "");
}

std::string FormatTensors(const ModelDescription& model) {
  std::string text = absl::StrFormat("%5s  %-12s %-16s %6s  %s\n", "LAYER",
                                     "COMPONENT", "SHAPE", "BITS", "NAME");
  for (const TensorDescription& tensor : model.tensors) {
    absl::StrAppendFormat(&text, "%5s  %-12s %-16s %6.2f  %s\n",
                          tensor.layer < 0 ? "-" : absl::StrCat(tensor.layer),
                          ComponentOf(tensor), absl::StrJoin(tensor.shape, "x"),
                          tensor.stored_bits, tensor.name);
  }
  return text;
}

// Tensors of one component together, in the order in which they come.
std::string FormatComponents(const ModelDescription& model) {
  struct Sum {
    std::string component;
    std::string shape;
    int tensors = 0;
    int64_t weights = 0;
    double bits = 0;
  };
  std::vector<Sum> sums;
  for (const TensorDescription& tensor : model.tensors) {
    const std::string component = ComponentOf(tensor);
    const std::string shape = absl::StrJoin(tensor.shape, "x");
    auto sum = absl::c_find_if(sums, [&component](const Sum& known) {
      return known.component == component;
    });
    if (sum == sums.end()) {
      sum = sums.insert(sum, {.component = component, .shape = shape});
    }
    if (sum->shape != shape) {
      sum->shape = "several";
    }
    ++sum->tensors;
    sum->weights += tensor.num_elements();
    sum->bits +=
        tensor.stored_bits * static_cast<double>(tensor.num_elements());
  }
  std::string text = absl::StrFormat("%-12s %7s  %-16s %12s %6s\n", "COMPONENT",
                                     "TENSORS", "SHAPE", "WEIGHTS", "BITS");
  for (const Sum& sum : sums) {
    absl::StrAppendFormat(
        &text, "%-12s %7d  %-16s %12d %6.2f\n", sum.component, sum.tensors,
        sum.shape, sum.weights,
        sum.bits / static_cast<double>(std::max<int64_t>(sum.weights, 1)));
  }
  return text;
}

}  // namespace

std::string StateDir() {
  const char* temporary =
      std::getenv("TMPDIR");  // NOLINT(concurrency-mt-unsafe)
  return temporary != nullptr && *temporary != '\0' ? temporary
                                                    : ModelCacheDir();
}

std::string ModelCacheDir() {
  // Read before any thread could change the environment.
  const char* cache =
      std::getenv("XDG_CACHE_HOME");       // NOLINT(concurrency-mt-unsafe)
  const char* home = std::getenv("HOME");  // NOLINT(concurrency-mt-unsafe)
  std::string dir;
  if (cache != nullptr && *cache != '\0') {
    dir = absl::StrCat(cache, "/qsweep");
  } else if (home != nullptr && *home != '\0') {
    dir = absl::StrCat(home, "/.cache/qsweep");
  } else {
    return "";
  }
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  return error ? "" : dir;
}

absl::Status RunDescribe(const DescribeFlags& flags, const Print& print) {
  QSWEEP_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                          Checkpoint::Open(flags.model));
  QSWEEP_ASSIGN_OR_RETURN(const ModelDescription model,
                          checkpoint->Describe(ModelCacheDir()));
  if (!flags.of.empty()) {
    QSWEEP_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> base,
                            Checkpoint::Open(flags.of));
    QSWEEP_ASSIGN_OR_RETURN(const ModelDescription of,
                            base->Describe(ModelCacheDir()));
    const Quantizer quantizer{.scheme = {.method = Method::kCheckpoint},
                              .checkpoint_path = flags.model};
    QSWEEP_RETURN_IF_ERROR(WithCheckpoint(quantizer, model, of).status());
    QSWEEP_RETURN_IF_ERROR(CheckIsOf(flags.model, *checkpoint, *base));
  }
  if (flags.output == "json") {
    print(FormatModelDescriptionJson(model));
    return absl::OkStatus();
  }
  print(absl::StrCat(
      FormatSummary(model),
      flags.of.empty() ? ""
                       : absl::StrCat("it is          a ready checkpoint of ",
                                      flags.of, "\n"),
      "\n", flags.tensors ? FormatTensors(model) : FormatComponents(model)));
  return absl::OkStatus();
}

}  // namespace qsweep
