#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error_codes.h"
#include "common/job/did_you_mean.h"
#include "coordinator/qctl/help.h"

namespace qsweep::qctl {
namespace {

constexpr char kSelectors[] =
    R"(How to name a job:
  12             its number
  last           the newest job
  my-sweep       its name
  7f3a91c2       its UUID, or the first 8 digits and more
  job/<uuid>     what `-o name` prints
`qctl jobs cancel` also takes several, and ranges: 10-12, 2-10:2.
)";

constexpr char kExitCodes[] =
    R"(0    ok
1    failed
2    wrong usage, or the spec is not valid
3    not found
4    not authenticated or not allowed
5    conflict: the same job UUID with another spec
6    the coordinator does not answer
7    waited; tasks failed or documents were skipped
8    waited; the job was cancelled
9    differences
10   no worker can ever run it
124  timeout
130  Ctrl-C: detached, the job goes on
)";

constexpr char kJson[] =
    R"(Every command takes -o json and writes one document on stdout:
  {"schema":"qctl/v1","kind":"JobList","items":[{...}]}
Errors are one line on stderr:
  {"schema":"qctl/v1","kind":"Error","code":"QS4020","message":...,
   "field":...,"hint":...,"exit":3}
Within v1 members are only added. Identities are strings, times are RFC 3339
in UTC, NaN and infinity are null. -o jsonl writes an item per line, -o yaml
the same document as YAML.
)";

constexpr char kEnvironment[] =
    R"(Which coordinator, the first that is given:
  --server ADDR      unix:PATH or HOST:PORT (port 7680 when left out)
  --dir DIR          a local cluster: the files `server` and `token` in DIR
  QCTL_SERVER        as --server
  QCTL_DIR           as --dir
  ./.qsweep          the local cluster of `qctl up` without --dir
The token: --token-file, QCTL_TOKEN_FILE, what `qctl login` kept of the server
($XDG_CONFIG_HOME/qsweep/servers, else ~/.config), or the file `token` in DIR.
NO_COLOR switches colours off. XDG_STATE_HOME (else ~/.local/state) holds
qsweep/submits: job UUIDs of submits whose answer has not come yet, and
qsweep/rotations: new secrets of tokens whose rotation was not answered yet.
)";

constexpr char kSpec[] =
    R"(A spec is YAML, or the same shape as JSON:
  apiVersion: qctl/v1
  kind: LayerSweep                # LayerSweep, CrossModel (models: [...]), Configs
  name: first-sweep
  model: {path: ./SmolLM2-135M}
  quantizers: ["rtn:bits=4,group=64"]
  layerSets: [none, {protect: each}]
  corpus: udhr
  languages: [eng, deu_1996, arb]
  reference: eng
  evals: [{eval: aligned, samples: 12}]
  policy: {maxRetries: 3, reuse: auto, compute: fp32}
Send it:  qctl submit -f sweep.yaml [--set languages=[eng,rus]] [--dry-run]
)";

constexpr std::pair<const char*, const char*> kTopics[] = {
    {"selectors", kSelectors}, {"exit-codes", kExitCodes},
    {"json", kJson},           {"environment", kEnvironment},
    {"spec", kSpec},
};

}  // namespace

std::vector<std::string> HelpTopics() {
  std::vector<std::string> names;
  for (const auto& [name, text] : kTopics) {
    names.emplace_back(name);
  }
  return names;
}

absl::StatusOr<std::string> TopicHelp(absl::string_view topic) {
  for (const auto& [name, text] : kTopics) {
    if (topic == name) {
      return std::string(text);
    }
  }
  return MakeError(kUnknownTopic, absl::StrCat("no help topic \"", topic, "\""),
                   std::string(topic), DidYouMeanHint(topic, HelpTopics()));
}

}  // namespace qsweep::qctl
