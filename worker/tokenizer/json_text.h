#ifndef QSWEEP_WORKER_TOKENIZER_JSON_TEXT_H_
#define QSWEEP_WORKER_TOKENIZER_JSON_TEXT_H_

#include <string>

#include "absl/strings/string_view.h"

namespace qsweep {

// The JSON string of this text, with its quotes. text: valid UTF-8.
std::string JsonString(absl::string_view text);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_TOKENIZER_JSON_TEXT_H_
