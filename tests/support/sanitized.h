#ifndef QSWEEP_TESTS_SUPPORT_SANITIZED_H_
#define QSWEEP_TESTS_SUPPORT_SANITIZED_H_

namespace qsweep::testing {

// Whether a sanitizer keeps what is freed, and a shadow of all: a process then
// takes more memory than the product asks for.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kSanitized =
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_SANITIZED_H_
