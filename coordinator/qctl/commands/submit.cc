#include <filesystem>
#include <fstream>
#include <istream>
#include <sstream>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "common/base/error_codes.h"
#include "common/base/random.h"
#include "common/base/status_macros.h"
#include "common/job/job_spec.h"
#include "common/job/model_description_proto.h"
#include "coordinator/qctl/commands/commands.h"
#include "coordinator/qctl/commands/job_table.h"
#include "coordinator/qctl/commands/watcher.h"
#include "coordinator/qctl/context.h"
#include "coordinator/qctl/describe_model.h"
#include "coordinator/qctl/names.h"
#include "coordinator/qctl/pending_submits.h"

namespace qsweep::qctl {
namespace {

constexpr int64_t kMostPriority = 1000;
constexpr int64_t kMostCount = 1'000'000'000;
constexpr int64_t kLargestSeed = int64_t{1} << 53;  // exact in JSON
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

// A word that is a path of this machine is a path, whatever it looks like.
v1::ModelReference ModelOf(const Context& context, const std::string& text) {
  v1::ModelReference model = ParseModelReference(text);
  if (std::error_code error;  // unreadable counts as not there
      std::filesystem::exists(context.AbsolutePath(text), error)) {
    model.Clear();
    model.set_path(text);
  }
  return model;
}

// The integer flags of a spec.
absl::Status SetNumbers(const Arguments& arguments, v1::JobSpec& spec) {
  QSWEEP_ASSIGN_OR_RETURN(const int64_t seed,
                          arguments.GetInteger("seed", 0, 0, kLargestSeed));
  spec.set_seed(static_cast<uint64_t>(seed));
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t priority,
      arguments.GetInteger("priority", 0, -kMostPriority, kMostPriority));
  v1::JobPolicy& policy = *spec.mutable_policy();
  policy.set_priority(static_cast<int32_t>(priority));
  QSWEEP_ASSIGN_OR_RETURN(
      const int64_t max_retries,
      arguments.GetInteger("max-retries", 0, 1, kMostCount));
  policy.set_max_retries(static_cast<uint32_t>(max_retries));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t max_fails,
                          arguments.GetInteger("max-fails", 0, 1, kMostCount));
  policy.set_max_fails(static_cast<uint32_t>(max_fails));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t samples,
                          arguments.GetInteger("samples", 0, 1, kMostCount));
  QSWEEP_ASSIGN_OR_RETURN(const int64_t max_tokens,
                          arguments.GetInteger("max-tokens", 0, 2, kMostCount));
  std::vector<std::string> evals = arguments.GetList("eval");
  if (evals.empty()) {
    evals.emplace_back("aligned");
  }
  for (const std::string& eval : evals) {
    v1::EvaluationRequest& request = *spec.add_evals();
    request.set_eval(eval);
    request.set_samples(static_cast<uint32_t>(samples));
    request.set_max_tokens(static_cast<uint32_t>(max_tokens));
  }
  return absl::OkStatus();
}

void SetLayerSets(const Arguments& arguments, v1::JobSpec& spec) {
  for (const std::string& text : arguments.GetList("protect")) {
    v1::LayerSetPattern& pattern = *spec.add_layer_sets();
    if (text == "each" || text == "pairs" || text == "triples") {
      pattern.set_protect(text);
    } else {
      pattern.set_literal(text);
    }
  }
  for (const std::string& text : arguments.GetList("quantize")) {
    spec.add_layer_sets()->set_quantize(text);
  }
}

absl::Status SetNames(const Arguments& arguments, v1::JobSpec& spec) {
  spec.set_name(arguments.Get("name"));
  for (const std::string& label : arguments.GetAll("label")) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(label, absl::MaxSplits('=', 1));
    if (parts.first.empty() || !absl::StrContains(label, '=')) {
      return MakeError(kBadValue, absl::StrCat("\"", label, "\" is no label"),
                       "--label", "write it like paper=acl27");
    }
    (*spec.mutable_labels())[parts.first] = parts.second;
  }
  const std::string reuse = arguments.Get("reuse");
  spec.mutable_policy()->set_reuse(reuse == "never"     ? v1::REUSE_NEVER
                                   : reuse == "require" ? v1::REUSE_REQUIRE
                                                        : v1::REUSE_AUTO);
  const std::string compute = arguments.Get("compute");
  QSWEEP_ASSIGN_OR_RETURN(const Compute parsed,
                          ParseCompute(compute.empty() ? "fp32" : compute));
  spec.set_compute(ToProto(parsed));
  return absl::OkStatus();
}

absl::StatusOr<v1::JobSpec> SpecFromFlags(const Context& context,
                                          v1::JobKind kind) {
  const Arguments& arguments = context.arguments();
  v1::JobSpec spec;
  spec.set_kind(kind);
  for (const char* flag : {"model", "models"}) {
    for (const std::string& text : arguments.GetList(flag)) {
      *spec.add_models() = ModelOf(context, text);
    }
  }
  for (const std::string& quantizer : arguments.GetAll("quantizer")) {
    spec.add_quantizers(quantizer);
  }
  for (const std::string& language : arguments.GetList("languages")) {
    spec.add_languages(language);
  }
  spec.set_layers(arguments.Get("layers"));
  spec.set_corpus(arguments.Get("corpus"));
  spec.set_reference(arguments.Get("reference"));
  SetLayerSets(arguments, spec);
  QSWEEP_RETURN_IF_ERROR(SetNumbers(arguments, spec));
  QSWEEP_RETURN_IF_ERROR(SetNames(arguments, spec));
  FillJobSpecDefaults(spec);
  return spec;
}

// The field of a model as the spec file names it.
std::string ModelField(const v1::JobSpec& spec, int index) {
  return spec.models_size() == 1 ? "model"
                                 : absl::StrCat("models[", index, "]");
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
    std::string path = model.path();
    if (absl::StartsWith(path, "~/")) {
      path = context.environment().Get("HOME") + path.substr(1);
    }
    if (!path.empty()) {
      model.set_path(context.AbsolutePath(path));
    }
  }
  return absl::OkStatus();
}

// Asks the engine what each model is.
absl::Status DescribeModels(const Context& context,
                            v1::SubmitJobRequest& request) {
  for (const v1::ModelReference& model : request.spec().models()) {
    QSWEEP_ASSIGN_OR_RETURN(
        const ModelDescription description,
        DescribeModel(context.environment().binary_dir, model.path()));
    *request.add_models() = ToProto(description);
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
  return JobUuid::FromBytes(SecureRandomBytes(JobUuid::kSize));
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

std::string PlanSentence(const v1::JobPlan& plan) {
  std::string text =
      absl::StrCat(WithThousands(static_cast<int64_t>(plan.tasks())),
                   plan.tasks() == 1 ? " task queued" : " tasks queued");
  if (plan.tasks_shared() > 0) {
    absl::StrAppend(&text, ", ", plan.tasks_shared(),
                    " shared with other jobs");
  }
  return absl::StrCat(
      text, ", ", WithThousands(static_cast<int64_t>(plan.measurements())),
      " measurements, ",
      WithThousands(static_cast<int64_t>(plan.measurements_reused())),
      " of them reused");
}

Table SubmissionTable(const v1::SubmitJobRequest& request,
                      const v1::SubmitJobResponse& response) {
  Table table;
  table.kind = "Submission";
  table.name_column = "uuid";
  table.name_prefix = "job/";
  table.columns = {{"number", "JOB", Form::kNumber},
                   {"uuid", "UUID", Form::kShortId},
                   {"name", "NAME"},
                   {"existed", "existed", Form::kText, Audience::kMachines},
                   {"plan", "plan", Form::kText, Audience::kMachines},
                   {"sentence", "PLAN", Form::kText, Audience::kPeople}};
  table.rows = {{absl::StrCat(response.job_number()),
                 UuidText(request.job_uuid()), request.spec().name(),
                 response.existed(), PlanObject(response.plan()),
                 response.existed() ? "this job was queued before"
                                    : PlanSentence(response.plan())}};
  return table;
}

std::string ModelText(const v1::ModelDescription& model) {
  return absl::StrCat(model.name(), " (", model.family(), ", ", model.layers(),
                      " layers, digest ", ShortHex(model.digest()), ")");
}

Table PlanTable(const v1::SubmitJobRequest& request, const v1::JobPlan& plan) {
  const auto count = [](uint64_t number) {
    return WithThousands(static_cast<int64_t>(number));
  };
  Value::List models;
  for (const v1::ModelDescription& model : request.models()) {
    models.push_back(ModelText(model));
  }
  Table table;
  table.kind = "Plan";
  table.record = true;
  table.columns = {
      {"models", "model"},
      {"plan", "plan", Form::kText, Audience::kMachines},
      {"configurations", "configurations", Form::kText, Audience::kPeople},
      {"measurements", "measurements", Form::kText, Audience::kPeople},
      {"tasks", "tasks", Form::kText, Audience::kPeople},
      {"work", "layer evaluations", Form::kText, Audience::kPeople},
      {"time", "time", Form::kText, Audience::kPeople},
      {"notes", "notes", Form::kText, Audience::kPeople}};
  const double seconds = plan.estimated_seconds();
  table.rows = {
      {models, PlanObject(plan), count(plan.configurations()),
       absl::StrCat(count(plan.measurements()), " = ",
                    count(plan.configurations()), " x ",
                    count(plan.documents()), " documents in ", plan.languages(),
                    " languages; ", count(plan.measurements_reused()),
                    " are there already"),
       absl::StrCat(count(plan.tasks()), ", ", count(plan.tasks_shared()),
                    " of other jobs"),
       absl::StrCat(count(plan.layer_evaluations()), " instead of ",
                    count(plan.layer_evaluations_naive()),
                    " one configuration at a time"),
       seconds > 0 ? absl::StrCat("about ",
                                  FormatForPeople(seconds, Form::kDuration,
                                                  absl::Time()),
                                  " on the workers attached now")
                   : "no worker is attached: unknown",
       absl::StrJoin(plan.notes(), "; ")}};
  return table;
}

absl::StatusOr<ExitCode> DryRun(Context& context,
                                v1::SubmitJobRequest& request) {
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  request.set_dry_run(true);
  // A dry run stores nothing, so its UUID is of no consequence.
  request.set_job_uuid(SecureRandomBytes(JobUuid::kSize));
  QSWEEP_ASSIGN_OR_RETURN(const v1::SubmitJobResponse response,
                          client->SubmitJob(request));
  context.Note("plan, checked by the coordinator; nothing was queued");
  QSWEEP_RETURN_IF_ERROR(context.Print(PlanTable(request, response.plan())));
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> SubmitSpec(Context& context, v1::JobSpec spec) {
  QSWEEP_RETURN_IF_ERROR(ResolveModelPaths(context, spec));
  QSWEEP_RETURN_IF_ERROR(ValidateJobSpec(spec));
  v1::SubmitJobRequest request;
  *request.mutable_spec() = std::move(spec);
  QSWEEP_RETURN_IF_ERROR(DescribeModels(context, request));
  request.set_owner(context.environment().Get("USER"));
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

std::vector<Flag> SendFlags() {
  return {{"dry-run", 0, "", "show the plan, queue nothing"},
          {"wait", 0, "", "show the job until it ends; the exit code says how"},
          {"job-id", 0, "UUID", "the job's id (default: a new one)"}};
}

std::vector<Flag> SpecFlags(bool many_models) {
  std::vector<Flag> flags = {
      {"model", 0, "PATH",
       "folder with config.json or one .gguf, or a .gguf file", many_models},
      {"corpus", 0, "NAME", "texts, see qctl corpora list"},
      {"languages", 0, "A,B,...", "of the corpus (default: all)", true},
      {"reference", 0, "LANG", "language that gaps are relative to"},
      {"quantizer", 0, "Q", "like rtn:bits=4,group=64", true},
      {"protect", 0, "WHAT", "each, pairs, triples, or a layer set like L0+L9",
       true},
      {"quantize", 0, "each", "quantize one layer, protect the others", true},
      {"layers", 0, "RANGE", "layers that patterns try: all or 0-7"},
      {"eval", 0, "E", "aligned (default) or hf-text", true},
      {"samples", 0, "N", "units per language, chosen by a seeded hash"},
      {"max-tokens", 0, "N", "skip longer documents"},
      {"compute",
       0,
       "C",
       "precision of products",
       false,
       {"fp32", "bf16", "fp16"}},
      {"seed", 0, "N", "of the sample and the bootstrap"},
      {"reuse",
       0,
       "WHEN",
       "rows measured before",
       false,
       {"auto", "never", "require"}},
      {"name", 0, "NAME", "to find the job by"},
      {"label", 0, "K=V", "kept with the job", true},
      {"priority", 0, "N", "higher runs first"},
      {"max-retries", 0, "N", "failed attempts per task"},
      {"max-fails", 0, "N", "failed tasks before the job fails"}};
  if (many_models) {
    flags.insert(flags.begin() + 1,
                 {"models", 0, "A,B,...", "the same as --model A --model B"});
  }
  for (Flag& flag : SendFlags()) {
    flags.push_back(std::move(flag));
  }
  return flags;
}

}  // namespace

std::vector<Command> SubmitCommands() {
  std::vector<Flag> file_flags = {
      {"file", 'f', "SPEC", "YAML or JSON file; - is stdin"},
      {"set", 0, "PATH=VALUE", "change one value: languages=[eng,rus]", true}};
  for (Flag& flag : SendFlags()) {
    file_flags.push_back(std::move(flag));
  }
  const std::string again =
      "Safe to repeat: the same spec after a lost answer is the same job, and "
      "what is\nmeasured already is not measured again.";
  return {
      {.path = {"submit"},
       .group = kRunGroup,
       .summary = "Queues the job of a spec file.",
       .examples =
           {{"qctl submit -f sweep.yaml --dry-run",
             "what would run, and for how long"},
            {"qctl submit -f sweep.yaml --set policy.reuse=never --wait", ""},
            {"generate-spec | qctl submit -f - -o name", ""}},
       .flags = std::move(file_flags),
       .notes = again,
       .run = SubmitFile},
      {.path = {"submit", "layer-sweep"},
       .group = kRunGroup,
       .summary = "Measures a model with each layer protected alone.",
       .examples =
           {{"qctl submit layer-sweep --model ./SmolLM2-135M --corpus udhr \\\n"
             "      --reference eng --quantizer rtn:bits=4,group=64",
             "baseline, nothing protected, each layer alone"},
            {"qctl submit layer-sweep --model m.gguf --corpus udhr \\\n"
             "      --languages eng,arb --quantizer rtn:bits=4 --layers 0-7 "
             "--wait",
             "the first eight layers, wait for the end"}},
       .flags = SpecFlags(false),
       .notes = again,
       .run =
           [](Context& context) {
             return SubmitKind(context, v1::JOB_KIND_LAYER_SWEEP);
           }},
      {.path = {"submit", "cross-model"},
       .group = kRunGroup,
       .summary = "Measures the same relative layer sets on several models.",
       .examples =
           {{"qctl submit cross-model --models ./SmolLM2-135M,./tiny-llama \\\n"
             "      --corpus udhr --reference eng --quantizer rtn:bits=4 \\\n"
             "      --protect none --protect L0+L-1 --protect L0+L75%+L-1",
             ""}},
       .flags = SpecFlags(true),
       .notes = again,
       .run =
           [](Context& context) {
             return SubmitKind(context, v1::JOB_KIND_CROSS_MODEL);
           }},
      {.path = {"submit", "configs"},
       .group = kRunGroup,
       .summary = "Measures the configurations you write down.",
       .examples = {{"qctl submit configs --model ./SmolLM2-135M --corpus udhr "
                     "\\\n      --quantizer upstream:gpu --quantizer "
                     "rtn:bits=4,group=64 \\\n      --protect none --protect "
                     "L0+L29",
                     "every quantizer with every layer set"}},
       .flags = SpecFlags(false),
       .notes = again,
       .run =
           [](Context& context) {
             return SubmitKind(context, v1::JOB_KIND_CONFIGS);
           }},
      {.path = {"submit", "mmlu"},
       .group = kRunGroup,
       .summary = "Task accuracy; not in this version (QS1053).",
       .examples = {{"qctl submit layer-sweep --help", "what there is"}},
       .flags = SpecFlags(false),
       .run = SubmitMmlu},
  };
}

}  // namespace qsweep::qctl
