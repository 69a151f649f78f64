#include "common/base/openssl.h"

#include <openssl/err.h>

namespace qsweep {

std::string TakeOpenSslError() {
  const unsigned long code = ERR_get_error();  // NOLINT(google-runtime-int)
  ERR_clear_error();
  if (code == 0) {
    return "no reason given";
  }
  char text[256];
  ERR_error_string_n(code, text, sizeof(text));
  return text;
}

}  // namespace qsweep
