#ifndef QSWEEP_COMMON_BASE_OPENSSL_H_
#define QSWEEP_COMMON_BASE_OPENSSL_H_

#include <memory>
#include <string>

namespace qsweep {

// Owns what OpenSSL made: OpenSslPtr<X509, X509_free>.
template <auto kFree>
struct OpenSslDeleter {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
template <typename T, auto kFree>
using OpenSslPtr = std::unique_ptr<T, OpenSslDeleter<kFree>>;

// Why the last call of this thread failed, in OpenSSL's words; forgets it.
std::string TakeOpenSslError();

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_OPENSSL_H_
