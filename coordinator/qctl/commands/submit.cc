#include <fstream>
#include <istream>
#include <optional>
#include <sstream>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/base/error_codes.h"
#include "common/base/random.h"
#include "common/base/status_macros.h"
#include "common/job/checkpoint_quantizer.h"
#include "common/job/job_spec.h"
#include "common/job/model_description_proto.h"
#include "common/job/quantizer.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/commands/spec_flags.h"
#include "coordinator/qctl/commands/submission_table.h"
#include "coordinator/qctl/commands/watcher.h"
#include "coordinator/qctl/context.h"
#include "coordinator/qctl/describe_model.h"
#include "coordinator/qctl/names.h"
#include "coordinator/qctl/pending_submits.h"
#include "coordinator/qctl/token_rates.h"

namespace qsweep::qctl {
namespace {

constexpr size_t kShortUuid = 8;

absl::StatusOr<std::string> ReadSpecText(const Context& context,
                                         const std::string& name) {
  std::stringstream text;
  if (name == "-") {
    text << context.environment().in->rdbuf();
    return text.str();
  }
  const std::string path = context.AbsolutePath(name);
  std::ifstream file(path);
  text << file.rdbuf();
  if (!file.is_open() || file.bad()) {
    return MakeError(kMalformedDocument, "cannot read the spec file", path);
  }
  return text.str();
}

// The field of a model as the spec file names it.
std::string ModelField(const v1::JobSpec& spec, int index) {
  return spec.models_size() == 1 ? "model"
                                 : absl::StrCat("models[", index, "]");
}

std::string AbsoluteModelPath(const Context& context, const std::string& path) {
  return context.AbsolutePath(absl::StartsWith(path, "~/")
                                  ? context.environment().Get("HOME") +
                                        path.substr(1)
                                  : path);
}

// Makes model paths absolute: workers run in other folders.
absl::Status ResolveModelPaths(const Context& context, v1::JobSpec& spec) {
  for (int i = 0; i < spec.models_size(); ++i) {
    v1::ModelReference& model = *spec.mutable_models(i);
    if (!model.id().empty()) {
      return MakeError(
          kModelNotFound,
          absl::StrCat("there is no folder or file \"", model.id(),
                       "\" here, and this version cannot fetch models from a "
                       "hub"),
          ModelField(spec, i),
          "download the model and give the path of its folder");
    }
    if (!model.path().empty()) {
      model.set_path(AbsoluteModelPath(context, model.path()));
    }
  }
  return absl::OkStatus();
}

// Makes the paths of ready checkpoints absolute.
absl::Status ResolveCheckpointPaths(const Context& context, v1::JobSpec& spec) {
  for (int i = 0; i < spec.quantizers_size(); ++i) {
    auto quantizer = ParseQuantizer(spec.quantizers(i));
    if (!quantizer.ok() || quantizer->checkpoint_path.empty()) {
      continue;  // the validation says what is wrong
    }
    quantizer->checkpoint_path =
        AbsoluteModelPath(context, quantizer->checkpoint_path);
    if (absl::StrContains(quantizer->checkpoint_path, ',')) {
      return MakeError(
          kBadValue,
          absl::StrCat("the path \"", quantizer->checkpoint_path,
                       "\" has a comma, which ends it in a quantizer"),
          absl::StrCat("quantizers[", i, "]"), "name a link to it");
    }
    spec.set_quantizers(i, FormatQuantizer(*quantizer));
  }
  return absl::OkStatus();
}

// Asks the engine what each model is.
absl::StatusOr<std::vector<ModelDescription>> DescribeModels(
    const Context& context, v1::SubmitJobRequest& request) {
  std::vector<ModelDescription> models;
  for (const v1::ModelReference& model : request.spec().models()) {
    QSWEEP_ASSIGN_OR_RETURN(
        models.emplace_back(),
        DescribeModel(context.environment().binary_dir, model.path()));
    *request.add_models() = ToProto(models.back());
  }
  return models;
}

// And what each ready checkpoint is: their digests become part of the spec.
absl::Status DescribeCheckpoints(const Context& context,
                                 const std::vector<ModelDescription>& models,
                                 v1::JobSpec& spec) {
  for (int i = 0; i < spec.quantizers_size(); ++i) {
    QSWEEP_ASSIGN_OR_RETURN(Quantizer quantizer,
                            ParseQuantizer(spec.quantizers(i)));
    if (quantizer.scheme.method != Method::kCheckpoint) {
      continue;
    }
    for (size_t m = 0; m < models.size(); ++m) {
      QSWEEP_ASSIGN_OR_RETURN(
          const ModelDescription checkpoint,
          DescribeModel(context.environment().binary_dir,
                        quantizer.checkpoint_path,
                        spec.models(static_cast<int>(m)).path()));
      QSWEEP_ASSIGN_OR_RETURN(quantizer,
                              WithCheckpoint(quantizer, checkpoint, models[m]));
    }
    spec.set_quantizers(i, FormatQuantizer(quantizer));
  }
  return absl::OkStatus();
}

// What makes two submits the same: spec and models.
Digest DigestOf(const v1::SubmitJobRequest& request) {
  std::string text = FormatJobSpecYaml(request.spec());
  for (const v1::ModelDescription& model : request.models()) {
    absl::StrAppend(&text, HexText(model.digest()), "\n");
  }
  return Digest::Of(text);
}

// No answer: the coordinator may or may not have the job.
bool OutcomeUnknown(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsCancelled(status) || absl::IsUnknown(status);
}

// A random UUID (RFC 4122, version 4), 16 bytes.
std::string RandomUuidBytes() {
  std::string bytes = SecureRandomBytes(JobUuid::kSize);
  bytes[6] = static_cast<char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<char>((bytes[8] & 0x3f) | 0x80);
  return bytes;
}

absl::StatusOr<JobUuid> ChooseUuid(Context& context, const Digest& digest,
                                   const PendingSubmits& pending) {
  if (context.arguments().Has("job-id")) {
    absl::StatusOr<JobUuid> uuid =
        JobUuid::FromText(context.arguments().Get("job-id"));
    if (!uuid.ok()) {
      return MakeError(kBadValue, "not a UUID", "--job-id",
                       "32 hex digits, like the output of uuidgen");
    }
    return uuid;
  }
  if (const std::optional<JobUuid> kept = pending.Find(digest)) {
    context.Note(
        absl::StrCat("the last submit of this spec got no answer; its job id ",
                     kept->text().substr(0, kShortUuid),
                     " is used again, so nothing is queued twice"));
    return *kept;
  }
  return JobUuid::FromBytes(RandomUuidBytes());
}

// Sends it, with the UUID on disk until the answer has come.
absl::StatusOr<v1::SubmitJobResponse> Send(Context& context,
                                           v1::SubmitJobRequest& request) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  const Digest digest = DigestOf(request);
  const PendingSubmits pending(context.environment());
  QSWEEP_ASSIGN_OR_RETURN(const JobUuid uuid,
                          ChooseUuid(context, digest, pending));
  request.set_job_uuid(uuid.bytes());
  QSWEEP_RETURN_IF_ERROR(pending.Keep(digest, uuid));
  absl::StatusOr<v1::SubmitJobResponse> response = client->SubmitJob(request);
  if (!OutcomeUnknown(response.status())) {
    pending.Forget(digest);
  } else {
    context.Note(absl::StrCat(
        "no answer came: the job may be queued or not. The same command again "
        "uses the same job id, ",
        uuid.text().substr(0, kShortUuid)));
  }
  return response;
}

absl::StatusOr<ExitCode> DryRun(Context& context,
                                v1::SubmitJobRequest& request) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  request.set_dry_run(true);
  // A dry run stores nothing, so its UUID is of no consequence.
  request.set_job_uuid(RandomUuidBytes());
  QSWEEP_ASSIGN_OR_RETURN(const v1::SubmitJobResponse response,
                          client->SubmitJob(request));
  context.Note("plan, checked by the coordinator; nothing was queued");
  QSWEEP_RETURN_IF_ERROR(context.Print(PlanTable(request, response.plan())));
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> SubmitSpec(Context& context, v1::JobSpec spec) {
  QSWEEP_RETURN_IF_ERROR(ResolveModelPaths(context, spec));
  QSWEEP_RETURN_IF_ERROR(ResolveCheckpointPaths(context, spec));
  QSWEEP_RETURN_IF_ERROR(ValidateJobSpec(spec));
  v1::SubmitJobRequest request;
  *request.mutable_spec() = std::move(spec);
  QSWEEP_ASSIGN_OR_RETURN(const std::vector<ModelDescription> models,
                          DescribeModels(context, request));
  QSWEEP_RETURN_IF_ERROR(
      DescribeCheckpoints(context, models, *request.mutable_spec()));
  request.set_owner(context.environment().Get("USER"));
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  // Tasks are sized without, too; a corpus or a model that is at fault, the
  // submit itself names.
  const auto rates = MeasureTokenRates(
      *client, context.environment().binary_dir, request.spec());
  if (rates.ok()) {
    request.mutable_token_rates()->Add(rates->begin(), rates->end());
  }
  if (context.arguments().Has("dry-run")) {
    return DryRun(context, request);
  }
  QSWEEP_ASSIGN_OR_RETURN(const v1::SubmitJobResponse response,
                          Send(context, request));
  QSWEEP_RETURN_IF_ERROR(context.Print(SubmissionTable(request, response)));
  if (context.for_people()) {
    for (const std::string& note : response.plan().notes()) {
      context.Note(absl::StrCat("note: ", note));
    }
  }
  if (!context.arguments().Has("wait")) {
    const std::string job =
        absl::StrCat(response.job_number(), context.ServerFlags());
    context.SuggestNext(
        {absl::StrCat("qctl watch ", job), absl::StrCat("qctl results ", job)});
    return ExitCode::kOk;
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const v1::JobSummary job,
      WatchOnto(context, UuidText(request.job_uuid()), absl::InfiniteDuration(),
                *context.environment().err,
                context.environment().err_is_terminal));
  NoteOutcome(context, job);
  return OutcomeOf(job);
}

absl::StatusOr<ExitCode> SubmitKind(Context& context, v1::JobKind kind) {
  QSWEEP_ASSIGN_OR_RETURN(v1::JobSpec spec, SpecFromFlags(context, kind));
  return SubmitSpec(context, std::move(spec));
}

absl::StatusOr<ExitCode> SubmitFile(Context& context) {
  if (!context.arguments().Has("file")) {
    return MakeError(kBadCommandLine,
                     "qctl submit needs a kind of job or a spec file", "submit",
                     "qctl submit layer-sweep --help, or -f spec.yaml");
  }
  QSWEEP_ASSIGN_OR_RETURN(
      const std::string text,
      ReadSpecText(context, context.arguments().Get("file")));
  QSWEEP_ASSIGN_OR_RETURN(
      v1::JobSpec spec, ParseJobSpec(text, context.arguments().GetAll("set")));
  return SubmitSpec(context, std::move(spec));
}

absl::StatusOr<ExitCode> SubmitMmlu(Context&) {
  return MakeError(kUnsupportedKind, "this version cannot run MMLU jobs yet",
                   "mmlu", "qctl submit layer-sweep measures perplexity");
}

constexpr char kSafeToRepeat[] =
    "Safe to repeat: the same spec after a lost answer is the same job, and "
    "what is\nmeasured already is not measured again.";

std::vector<Flag> SendFlags() {
  return {{"dry-run", 0, "", "show the plan, queue nothing"},
          {"wait", 0, "", "show the job until it ends; the exit code says how"},
          {"job-id", 0, "UUID", "the job's id (default: a new one)"}};
}

std::vector<Flag> WithSendFlags(std::vector<Flag> flags) {
  for (Flag& flag : SendFlags()) {
    flags.push_back(std::move(flag));
  }
  return flags;
}

Command FileCommand() {
  return {
      .path = {"submit"},
      .group = kRunGroup,
      .summary = "Queues the job of a spec file.",
      .examples = {{"qctl submit -f sweep.yaml --dry-run",
                    "what would run, and for how long"},
                   {"qctl submit -f sweep.yaml --set policy.reuse=never --wait",
                    ""},
                   {"generate-spec | qctl submit -f - -o name", ""}},
      .flags =
          WithSendFlags({{"file", 'f', "SPEC", "YAML or JSON file; - is stdin"},
                         {"set", 0, "PATH=VALUE",
                          "change one value: languages=[eng,rus]", true}}),
      .notes = kSafeToRepeat,
      .run = SubmitFile};
}

// A kind of job whose spec is given in flags.
Command KindCommand(const char* verb, const char* summary,
                    std::vector<Example> examples, bool many_models,
                    absl::StatusOr<ExitCode> (*run)(Context&)) {
  return {.path = {"submit", verb},
          .group = kRunGroup,
          .summary = summary,
          .examples = std::move(examples),
          .flags = WithSendFlags(SpecFlags(many_models)),
          .notes = kSafeToRepeat,
          .run = run};
}

}  // namespace

std::vector<Command> SubmitCommands() {
  return {
      FileCommand(),
      KindCommand(
          "layer-sweep", "Measures a model with each layer protected alone.",
          {{"qctl submit layer-sweep --model ./SmolLM2-135M --corpus udhr \\\n"
            "      --reference eng --quantizer rtn:bits=4,group=64",
            "baseline, nothing protected, each layer alone"},
           {"qctl submit layer-sweep --model m.gguf --corpus udhr \\\n"
            "      --languages eng,arb --quantizer rtn:bits=4 --layers 0-7 "
            "--wait",
            "the first eight layers, wait for the end"}},
          false,
          [](Context& context) {
            return SubmitKind(context, v1::JOB_KIND_LAYER_SWEEP);
          }),
      KindCommand(
          "cross-model",
          "Measures the same relative layer sets on several models.",
          {{"qctl submit cross-model --models ./SmolLM2-135M,./tiny-llama \\\n"
            "      --corpus udhr --reference eng --quantizer rtn:bits=4 \\\n"
            "      --protect none --protect L0+L-1 --protect L0+L75%+L-1",
            ""}},
          true,
          [](Context& context) {
            return SubmitKind(context, v1::JOB_KIND_CROSS_MODEL);
          }),
      KindCommand(
          "configs", "Measures the configurations you write down.",
          {{"qctl submit configs --model ./SmolLM2-135M --corpus udhr \\\n"
            "      --quantizer upstream:gpu --quantizer rtn:bits=4,group=64 "
            "\\\n      --protect none --protect L0+L29",
            "every quantizer with every layer set"}},
          false,
          [](Context& context) {
            return SubmitKind(context, v1::JOB_KIND_CONFIGS);
          }),
      KindCommand("mmlu", "Task accuracy; not in this version (QS1053).",
                  {{"qctl submit layer-sweep --help", "what there is"}}, false,
                  SubmitMmlu)};
}

}  // namespace qsweep::qctl
