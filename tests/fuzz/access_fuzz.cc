// What a stranger writes of itself: tokens, addresses, certificates, the file
// of a credential. The input: one text, tried as each of them.
#include <string>

#include "common/base/error_json.h"
#include "common/base/ids.h"
#include "common/base/token_text.h"
#include "common/rpc/channel.h"
#include "common/rpc/credential.h"
#include "common/rpc/tls_peer.h"
#include "coordinator/qctl/selector.h"
#include "coordinator/service/certificates.h"
#include "coordinator/service/listen_address.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/scratch.h"

namespace qsweep::fuzz {
namespace {

// An error about a token must not tell what was in it, which may be most of a
// secret: it is the same for every text.
template <typename Token>
void CheckToken(absl::StatusOr<Token> (*parse)(absl::string_view),
                absl::string_view text) {
  const absl::StatusOr<Token> token = parse(text);
  if (token.ok()) {
    Expect(absl::StrContains(text, FormatToken(*token)),
           "a token has two texts");
    return;
  }
  ExpectNamed(token.status());
  Expect(token.status() == parse("").status(),
         "an error tells what was in a token");
}

void CheckAddress(const std::string& text) {
  const auto endpoint = ParseEndpoint(text);
  if (OkOrNamed(endpoint)) {
    const auto again = ParseEndpoint(endpoint->address);
    Expect(again.ok() && again->address == endpoint->address,
           "an address is completed twice");
    ExpectNamed(CheckEncrypted(*endpoint));
  }
  const auto listen = ParseListenAddress(text);
  if (OkOrNamed(listen)) {
    Expect(listen->socket_path.empty() || !listen->leaves_machine,
           "a unix socket that others can reach");
  }
}

void CheckFiles(const std::string& text) {
  static const Scratch kFolder;
  OkOrNamed(ReadCredential(kFolder.Write("credential", text)));
  OkOrNamed(ReadTokenFile(kFolder.Write("token", text)));
  if (OkOrNamed(ReadCertificateFile(kFolder.Write("ca.pem", text)))) {
    Expect(DigestOfCertificate(text).ok(), "a certificate without a digest");
  }
  std::filesystem::create_directory(kFolder / "tls");
  for (const char* name : {"tls/ca.pem", "tls/ca.key", "tls/server.pem"}) {
    kFolder.Write(name, text);
  }
  OkOrNamed(ReadCertificates(kFolder.path(), absl::FromUnixSeconds(1)));
}

void CheckAll(const std::string& text) {
  CheckToken(ParseAccessToken, text);
  CheckToken(ParseJoinToken, text);
  if (const auto uuid = JobUuid::FromText(text); uuid.ok()) {
    Expect(JobUuid::FromText(uuid->text()) == uuid, "a UUID has two values");
  }
  if (const auto digest = Digest::FromHex(text); digest.ok()) {
    Expect(Digest::FromHex(digest->hex()) == digest, "a digest has two values");
  }
  if (const auto error = ParseErrorJson(text)) {
    Expect(!error->ok(), "an error that is none");
    ExpectNamed(*error);
  }
  OkOrNamed(qctl::ExpandSelectors({text}));
  CheckAddress(text);
  CheckFiles(text);
}

}  // namespace
}  // namespace qsweep::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  qsweep::fuzz::CheckAll(qsweep::fuzz::Input(data, size).Rest());
  return 0;
}
