#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/status_macros.h"
#include "worker/engine/commands/commands.h"
#include "worker/model/checkpoint.h"

namespace qsweep {

absl::Status RunTokenize(const TokenizeFlags& flags, std::istream& in,
                         const Print& print) {
  QSWEEP_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                          Checkpoint::Open(flags.model));
  const Tokenizer& tokenizer = checkpoint->tokenizer();
  std::string line;
  while (std::getline(in, line)) {
    print(absl::StrCat(
        absl::StrJoin(flags.special ? tokenizer.EncodeWithSpecial(line)
                                    : tokenizer.Encode(line),
                      " "),
        "\n"));
  }
  return absl::OkStatus();
}

}  // namespace qsweep
