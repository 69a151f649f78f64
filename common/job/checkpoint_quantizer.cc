#include "common/job/checkpoint_quantizer.h"

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

// "4 layers, the model 30"; empty where they are equal.
template <typename T>
std::string Difference(absl::string_view what, const T& checkpoint,
                       const T& model) {
  return checkpoint == model
             ? ""
             : absl::StrCat(what, " ", checkpoint, ", the model's ", model);
}

std::string TensorDifference(const TensorDescription& checkpoint,
                             const TensorDescription& model) {
  const auto shape = [](const TensorDescription& tensor) {
    return absl::StrCat("[", absl::StrJoin(tensor.shape, ", "), "]");
  };
  const std::string name = Difference("a tensor", checkpoint.name, model.name);
  return name.empty()
             ? Difference(checkpoint.name, shape(checkpoint), shape(model))
             : name;
}

// What differs first, for people; empty: nothing.
std::string FindDifference(const ModelDescription& checkpoint,
                           const ModelDescription& model) {
  const std::vector<std::string> differences = {
      Difference("family", checkpoint.family, model.family),
      Difference("layers:", checkpoint.layers, model.layers),
      Difference("hidden size", checkpoint.hidden_size, model.hidden_size),
      Difference("vocabulary", checkpoint.vocabulary_size,
                 model.vocabulary_size),
      Difference(
          "head",
          absl::string_view(checkpoint.tied_head ? "tied" : "of its own"),
          absl::string_view(model.tied_head ? "tied" : "of its own")),
      Difference("tensors:", checkpoint.tensors.size(), model.tensors.size())};
  for (const std::string& difference : differences) {
    if (!difference.empty()) {
      return difference;
    }
  }
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    std::string difference =
        TensorDifference(checkpoint.tensors[i], model.tensors[i]);
    if (!difference.empty()) {
      return difference;
    }
  }
  return "";
}

// Thousandths of bits a weight that the blocks' linear layers take, on average.
int StoredMillibits(const ModelDescription& checkpoint) {
  double bits = 0;
  double elements = 0;
  for (const TensorDescription& tensor : checkpoint.tensors) {
    if (IsLinear(tensor.component) && !tensor.bias) {
      const auto count = static_cast<double>(tensor.num_elements());
      bits += count * tensor.stored_bits;
      elements += count;
    }
  }
  return elements == 0 ? kMostMillibits
                       : static_cast<int>(std::lround(bits / elements * 1000));
}

}  // namespace

absl::Status CheckpointDiffers(absl::string_view path, absl::string_view what) {
  return MakeError(
      kCheckpointDiffers,
      absl::StrCat("The checkpoint is not of this model: ", what, "."), path,
      "Name the checkpoint that was made of this very model.");
}

absl::StatusOr<Quantizer> WithCheckpoint(const Quantizer& quantizer,
                                         const ModelDescription& checkpoint,
                                         const ModelDescription& model) {
  QSWEEP_CHECK(quantizer.scheme.method == Method::kCheckpoint);
  const std::string difference = FindDifference(checkpoint, model);
  if (!difference.empty()) {
    return CheckpointDiffers(quantizer.checkpoint_path, difference);
  }
  Quantizer complete = quantizer;
  complete.scheme.checkpoint = ShortDigest(checkpoint.digest);
  complete.scheme.stored_millibits = StoredMillibits(checkpoint);
  if (quantizer.scheme.checkpoint != 0 &&
      quantizer.scheme.checkpoint != complete.scheme.checkpoint) {
    return MakeError(
        kModelDigestMismatch,
        absl::StrCat("The checkpoint here is ",
                     ShortDigestText(complete.scheme.checkpoint),
                     ", the quantizer says ",
                     ShortDigestText(quantizer.scheme.checkpoint), "."),
        quantizer.checkpoint_path,
        "Give this machine the checkpoint the job was submitted with.");
  }
  return complete;
}

}  // namespace qsweep
