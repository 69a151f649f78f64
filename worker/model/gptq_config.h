#ifndef QSWEEP_WORKER_MODEL_GPTQ_CONFIG_H_
#define QSWEEP_WORKER_MODEL_GPTQ_CONFIG_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "worker/tokenizer/regex.h"

namespace qsweep {

// How a GPTQ checkpoint says one linear module is packed.
struct GptqModule {
  int bits = 4;            // 2, 3, 4, 8
  int64_t group_size = 0;  // inputs that share a scale; 0: all of a row
  bool symmetric = true;   // every zero point is 2^(bits-1)

  bool operator==(const GptqModule&) const = default;
};

// Which modules a GPTQ checkpoint packs and how: quantize_config.json, or
// quantization_config of config.json, as AutoGPTQ and GPTQModel write them.
// Immutable, thread-safe.
class GptqConfig {
 public:
  // Both: DATA_LOSS QS3003 not JSON, QS3011 a value missing or wrong;
  // UNIMPLEMENTED QS3009 another way of packing.
  static absl::StatusOr<GptqConfig> ReadQuantizeConfig(absl::string_view json,
                                                       const std::string& file);
  // Nothing: config.json has no quantization_config.
  static absl::StatusOr<std::optional<GptqConfig>> ReadConfigJson(
      absl::string_view json, const std::string& file);

  // How "model.layers.0.self_attn.q_proj" is packed; nothing: it is not. head:
  // it is the output head, which is not in a block. UNIMPLEMENTED QS3009: a
  // pattern of `dynamic` takes too long.
  absl::StatusOr<std::optional<GptqModule>> Find(absl::string_view module,
                                                 bool head) const;

  const GptqModule& common() const { return common_; }
  // Format gptq (v1): zero points are stored minus one, modulo 2^bits; else
  // gptq_v2: as they are.
  bool zeros_minus_one() const { return zeros_minus_one_; }
  // Of the file this was read from, for messages.
  const std::string& file() const { return file_; }

  // Whether both say the same, file aside.
  bool SameAs(const GptqConfig& other) const;

 private:
  friend class GptqConfigReader;

  // An entry of `dynamic`. The first whose pattern fits from the start of a
  // module's name counts.
  struct Override {
    std::string pattern;
    std::shared_ptr<const Regex> regex;
    std::optional<GptqModule> module;  // nothing: not packed ("-:")
  };

  std::string file_;
  GptqModule common_;
  bool zeros_minus_one_ = true;
  bool packs_head_ = false;
  std::vector<Override> overrides_;
  // Ends of names, as "self_attn.q_proj": others are not packed. Empty: all
  // are.
  std::vector<std::string> only_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_GPTQ_CONFIG_H_
