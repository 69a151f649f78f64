#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/corpus.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/context.h"
#include "coordinator/qctl/names.h"

namespace qsweep::qctl {
namespace {

Table LanguageTable() {
  Table table;
  table.kind = "CorpusLanguageList";
  table.columns = {
      {"language", "LANGUAGE"},
      {"name", "NAME"},
      {"bcp47", "BCP-47"},
      {"documents", "DOCUMENTS", Form::kNumber},
      {"bytes", "BYTES", Form::kBytes},
      {"digest", "DIGEST", Form::kText, Audience::kMachines},
  };
  return table;
}

std::vector<Value> LanguageRow(const v1::CorpusLanguage& language) {
  return {language.language(), language.name(),
          language.bcp47(),    language.documents(),
          language.bytes(),    HexText(language.artifact_digest())};
}

// The language gaps are most often relative to: English, or else the first.
// Texts from JSON have a code only.
std::string LikelyReference(const v1::Corpus& corpus) {
  for (const v1::CorpusLanguage& language : corpus.languages()) {
    if (language.language() == "eng" || language.language() == "en" ||
        language.bcp47() == "en") {
      return language.language();
    }
  }
  return corpus.languages(0).language();
}

absl::StatusOr<ExitCode> Add(Context& context) {
  const std::string name = context.arguments().Get("NAME");
  QSWEEP_ASSIGN_OR_RETURN(
      const CorpusData data,
      ReadCorpus(name, context.AbsolutePath(context.arguments().Get("PATH")),
                 context.arguments().GetList("languages")));
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  Table table = LanguageTable();
  size_t known = 0;
  for (size_t i = 0; i < data.artifacts.size(); ++i) {
    QSWEEP_ASSIGN_OR_RETURN(const v1::PutArtifactResponse put,
                            client->PutArtifact(data.artifacts[i]));
    known += put.existed() ? 1 : 0;
    table.rows.push_back(
        LanguageRow(data.corpus.languages(static_cast<int>(i))));
  }
  v1::AddCorpusRequest request;
  *request.mutable_corpus() = data.corpus;
  QSWEEP_ASSIGN_OR_RETURN(const v1::AddCorpusResponse response,
                          client->AddCorpus(request));
  table.extra = {{"name", name},
                 {"digest", HexText(data.corpus.digest())},
                 {"existed", response.existed()}};
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  for (const std::string& note : data.notes) {
    context.Note(absl::StrCat("note: ", note));
  }
  context.Note(absl::StrCat("corpus ", name, " (",
                            ShortHex(data.corpus.digest()),
                            response.existed() ? ") was there" : ") is added",
                            "; ", data.artifacts.size() - known, " of ",
                            data.artifacts.size(), " languages uploaded"));
  context.SuggestNext({absl::StrCat(
      "qctl submit layer-sweep --model PATH --corpus ", name, " --reference ",
      LikelyReference(data.corpus), " --quantizer rtn:bits=4,group=64",
      context.ServerFlags())});
  return ExitCode::kOk;
}

Value::List LanguageCodes(const v1::Corpus& corpus) {
  Value::List codes;
  for (const v1::CorpusLanguage& language : corpus.languages()) {
    codes.push_back(language.language());
  }
  return codes;
}

absl::StatusOr<ExitCode> List(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  QSWEEP_ASSIGN_OR_RETURN(const v1::ListCorporaResponse response,
                          client->ListCorpora({}));
  Table table;
  table.kind = "CorpusList";
  table.columns = {{"name", "CORPUS"},
                   {"digest", "DIGEST", Form::kShortId},
                   {"languages_count", "LANGUAGES", Form::kNumber},
                   {"documents", "DOCUMENTS", Form::kNumber},
                   {"bytes", "BYTES", Form::kBytes},
                   {"license", "LICENSE", Form::kText, Audience::kWide},
                   {"languages", "CODES"}};
  for (const v1::Corpus& corpus : response.corpora()) {
    uint64_t documents = 0;
    uint64_t bytes = 0;
    for (const v1::CorpusLanguage& language : corpus.languages()) {
      documents += language.documents();
      bytes += language.bytes();
    }
    table.rows.push_back({corpus.name(), HexText(corpus.digest()),
                          corpus.languages_size(), documents, bytes,
                          corpus.license(), LanguageCodes(corpus)});
  }
  table.empty_text = "No corpora yet. Add one: qctl corpora add NAME PATH";
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Show(Context& context) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  v1::ListCorporaRequest request;
  request.set_name(context.arguments().Get("NAME"));
  QSWEEP_ASSIGN_OR_RETURN(const v1::ListCorporaResponse response,
                          client->ListCorpora(request));
  if (response.corpora().empty()) {
    return MakeError(kUnknownCorpus,
                     absl::StrCat("no corpus \"", request.name(), "\""), "NAME",
                     "qctl corpora list");
  }
  Table table = LanguageTable();
  const v1::Corpus& corpus = response.corpora(0);
  for (const v1::CorpusLanguage& language : corpus.languages()) {
    table.rows.push_back(LanguageRow(language));
  }
  table.extra = {{"name", corpus.name()}, {"digest", HexText(corpus.digest())}};
  QSWEEP_RETURN_IF_ERROR(context.Print(table));
  return ExitCode::kOk;
}

}  // namespace

std::vector<Command> CorporaCommands() {
  return {
      {.path = {"corpora", "add"},
       .group = kStartGroup,
       .summary = "Uploads texts; what is there already is not sent again.",
       .examples = {{"qctl corpora add udhr ./udhr --languages eng,deu_1996,"
                     "arb",
                     "a folder of the Universal Declaration of Human Rights"},
                    {"qctl corpora add mine texts.json",
                     "{\"eng\": [\"...\"], \"arb\": [\"...\"]}, aligned by "
                     "position"},
                    {"qctl corpora add mine texts.jsonl",
                     "a line per document: {\"language\", \"id\", \"text\"}"}},
       .positionals = {{"NAME", "how jobs name it"},
                       {"PATH", "folder or file; its kind is told by content"}},
       .flags = {{"languages", 0, "A,B,...", "only these (default: all)",
                  true}},
       .run = Add},
      {.path = {"corpora", "list"},
       .group = kLookGroup,
       .summary = "Lists corpora.",
       .examples = {{"qctl corpora", ""}, {"qctl corpora list -o json", ""}},
       .run = List},
      {.path = {"corpora", "show"},
       .group = kLookGroup,
       .summary = "Shows the languages of a corpus.",
       .examples = {{"qctl corpora show udhr", ""}},
       .positionals = {{"NAME", "of the corpus"}},
       .run = Show},
  };
}

}  // namespace qsweep::qctl
