#include "worker/engine/ready_checkpoints.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/checkpoint_quantizer.h"
#include "worker/engine/model_identity.h"

namespace qsweep {
namespace {

// Files have these as fp32, or as decimals of it.
bool SameNumber(double a, double b) {
  return static_cast<float>(a) == static_cast<float>(b);
}

bool SameScaling(const std::optional<Llama3RopeScaling>& a,
                 const std::optional<Llama3RopeScaling>& b) {
  if (!a || !b) {
    return a.has_value() == b.has_value();
  }
  return SameNumber(a->factor, b->factor) &&
         SameNumber(a->low_frequency_factor, b->low_frequency_factor) &&
         SameNumber(a->high_frequency_factor, b->high_frequency_factor) &&
         SameNumber(a->original_context_length, b->original_context_length);
}

// What the shapes of tensors do not say. A context may be written shorter.
absl::Status CompareConfigs(const std::string& path, const ModelConfig& config,
                            const ModelConfig& model) {
  const auto differs = [&](absl::string_view what, auto own, auto of_model) {
    return CheckpointDiffers(
        path, absl::StrCat(what, " ", own, ", the model's ", of_model));
  };
  if (config.heads != model.heads) {
    return differs("heads:", config.heads, model.heads);
  }
  if (config.kv_heads != model.kv_heads) {
    return differs("key-value heads:", config.kv_heads, model.kv_heads);
  }
  if (!SameNumber(config.rms_eps, model.rms_eps)) {
    return differs("epsilon of the norms", config.rms_eps, model.rms_eps);
  }
  if (!SameNumber(config.rope_theta, model.rope_theta)) {
    return differs("base of the rotary embedding", config.rope_theta,
                   model.rope_theta);
  }
  if (!SameScaling(config.rope_scaling, model.rope_scaling)) {
    return CheckpointDiffers(path, "its rotary embedding is scaled otherwise");
  }
  return absl::OkStatus();
}

// Rows of the embedding and of the head are of tokens. One that is empty is
// special, or padding.
absl::Status CompareTokens(const std::string& path, const Tokenizer& tokenizer,
                           const Tokenizer& model) {
  if (tokenizer.digest() == model.digest()) {
    return absl::OkStatus();
  }
  const int count =
      std::min(tokenizer.vocabulary_size(), model.vocabulary_size());
  for (int32_t id = 0; id < count; ++id) {
    const std::string own = tokenizer.TokenBytes(id);
    const std::string of_model = model.TokenBytes(id);
    if (own != of_model && !own.empty() && !of_model.empty()) {
      return CheckpointDiffers(
          path,
          absl::StrCat("its token ", id, " is \"", absl::CHexEscape(own),
                       "\", the model's \"", absl::CHexEscape(of_model), "\""));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckIsOf(const std::string& path, const Checkpoint& checkpoint,
                       const Checkpoint& model) {
  QSWEEP_RETURN_IF_ERROR(
      CompareConfigs(path, checkpoint.config(), model.config()));
  return CompareTokens(path, checkpoint.tokenizer(), model.tokenizer());
}

absl::StatusOr<ReadyCheckpoints::Ready> ReadyCheckpoints::OpenOne(
    const Quantizer& quantizer, const Checkpoint& base,
    const ModelDescription& model, const Stopped& stopped) const {
  Ready ready{.path = quantizer.checkpoint_path,
              .identity = IdentityOfModel(quantizer.checkpoint_path),
              .model = model.digest};
  if (ready.path.empty()) {
    return MakeError(kModelNotFound,
                     absl::StrCat("where the checkpoint ",
                                  ShortDigestText(quantizer.scheme.checkpoint),
                                  " lies is not known"),
                     "quantizer", "Write checkpoint:path=DIR.");
  }
  QSWEEP_ASSIGN_OR_RETURN(ready.checkpoint, Checkpoint::Open(ready.path));
  QSWEEP_ASSIGN_OR_RETURN(const ModelDescription description,
                          ready.checkpoint->Describe(cache_dir_, stopped));
  QSWEEP_RETURN_IF_ERROR(
      WithCheckpoint(quantizer, description, model).status());
  QSWEEP_RETURN_IF_ERROR(CheckIsOf(ready.path, *ready.checkpoint, base));
  return ready;
}

absl::Status ReadyCheckpoints::Open(std::span<const Quantizer> quantizers,
                                    const Checkpoint& base,
                                    const ModelDescription& model,
                                    const Stopped& stopped) {
  std::map<uint64_t, Ready> before = std::exchange(ready_, {});
  std::map<uint64_t, Ready> now;
  for (const Quantizer& quantizer : quantizers) {
    const uint64_t key = quantizer.scheme.checkpoint;
    if (quantizer.scheme.method != Method::kCheckpoint || now.contains(key)) {
      continue;
    }
    const auto known = before.find(key);
    if (known != before.end() &&
        known->second.path == quantizer.checkpoint_path &&
        known->second.model == model.digest &&
        known->second.identity == IdentityOfModel(quantizer.checkpoint_path)) {
      now.insert(before.extract(known));
      continue;
    }
    QSWEEP_ASSIGN_OR_RETURN(Ready ready,
                            OpenOne(quantizer, base, model, stopped));
    now.emplace(key, std::move(ready));
  }
  ready_ = std::move(now);
  return absl::OkStatus();
}

const Checkpoint& ReadyCheckpoints::Of(const Scheme& scheme) const {
  return *ready_.at(scheme.checkpoint).checkpoint;
}

absl::StatusOr<std::string> CompleteQuantizer(const std::string& text,
                                              const ModelDescription& model,
                                              const std::string& cache_dir,
                                              const Stopped& stopped) {
  if (text == "fp") {
    return text;
  }
  QSWEEP_ASSIGN_OR_RETURN(const Quantizer quantizer, ParseQuantizer(text));
  if (quantizer.scheme.method != Method::kCheckpoint ||
      quantizer.checkpoint_path.empty()) {
    return text;
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                          Checkpoint::Open(quantizer.checkpoint_path));
  QSWEEP_ASSIGN_OR_RETURN(const ModelDescription description,
                          checkpoint->Describe(cache_dir, stopped));
  QSWEEP_ASSIGN_OR_RETURN(const Quantizer complete,
                          WithCheckpoint(quantizer, description, model));
  return FormatQuantizer(complete);
}

}  // namespace qsweep
