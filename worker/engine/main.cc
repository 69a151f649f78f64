// qengine: the program that owns the model. The command line only; what a
// command does is in commands/.
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/error_json.h"
#include "common/base/log.h"
#include "common/base/memory_limit.h"
#include "common/base/version.h"
#include "worker/engine/commands/commands.h"

namespace qsweep {
namespace {

constexpr char kExamples[] =
    R"(Measures what quantization does to a language model, layer by layer.

Examples:
  qengine describe --model models/smollm2-135m
  qengine score --model models/smollm2-135m --texts texts.json
  qengine score --model models/smollm2-135m --texts texts.json \
      --quantizer rtn:bits=4,group=64 --protect L0+L-1 --eval aligned
  qengine quantize --model models/smollm2-135m --out smollm2-4bit \
      --quantizer rtn:bits=4,group=64
  echo 'Hello there' | qengine tokenize --model models/smollm2-135m
  qengine selftest)";

void PrintToStdout(absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

void AddEngineFlags(CLI::App& command, EngineFlags& flags) {
  command
      .add_option("--device", flags.device,
                  "cpu, cuda, or auto (default): a GPU where there is one")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command
      .add_option("--threads", flags.threads,
                  "Compute threads; 0: one per CPU it may use")
      ->check(CLI::Range(0, 4096));
  command
      .add_option_function<std::string>(
          "--memory",
          [&flags](const std::string& text) {
            flags.memory = ParseMemoryLimit(text).value();  // checked below
          },
          "Of the device for weights and states, and of the host for what "
          "`quantize` writes at a time: bytes, 800MB, 1.5GiB, or 40% of what "
          "is free; 0: most of it. States that do not fit go to a file in "
          "$TMPDIR, or in the cache's folder")
      ->check([](const std::string& text) {
        return std::string(ParseMemoryLimit(text).status().message());
      });
}

void AddModel(CLI::App& command, std::string& model) {
  command
      .add_option("--model", model,
                  "Directory with config.json, directory with one .gguf, or a "
                  ".gguf file")
      ->required();
}

void AddServe(CLI::App& app, std::function<absl::Status()>& run) {
  const auto flags = std::make_shared<EngineFlags>();
  CLI::App* command = app.add_subcommand(
      "serve",
      "Run tasks that come as frames on stdin; for qworker, not for people");
  AddEngineFlags(*command, *flags);
  command->callback(
      [&run, flags] { run = [flags] { return RunServe(*flags); }; });
}

void AddDescribe(CLI::App& app, std::function<absl::Status()>& run) {
  const auto flags = std::make_shared<DescribeFlags>();
  CLI::App* command =
      app.add_subcommand("describe",
                         "Say what a model is made of.\n\nExamples:\n"
                         "  qengine describe --model models/smollm2-135m\n"
                         "  qengine describe --model model.gguf -o json\n"
                         "  qengine describe --model PACKED --of MODEL");
  AddModel(*command, flags->model);
  command->add_option("--of", flags->of,
                      "Model that it must be a ready checkpoint of");
  command->add_flag("--tensors", flags->tensors,
                    "List every tensor, not only what each component has");
  command->add_option("-o,--output", flags->output, "table or json")
      ->check(CLI::IsMember({"table", "json"}));
  command->callback([&run, flags] {
    run = [flags] { return RunDescribe(*flags, PrintToStdout); };
  });
}

void AddTokenize(CLI::App& app, std::function<absl::Status()>& run) {
  const auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* command = app.add_subcommand(
      "tokenize",
      "Print the token ids of each line of stdin.\n\nExamples:\n"
      "  echo 'Hello there' | qengine tokenize --model models/smollm2-135m\n"
      "  qengine tokenize --model MODEL --special < lines.txt");
  AddModel(*command, flags->model);
  command->add_flag("--special", flags->special,
                    "With what the tokenizer adds itself (BOS, ...)");
  command->callback([&run, flags] {
    run = [flags] { return RunTokenize(*flags, std::cin, PrintToStdout); };
  });
}

void AddScore(CLI::App& app, std::function<absl::Status()>& run) {
  const auto flags = std::make_shared<ScoreFlags>();
  CLI::App* command = app.add_subcommand(
      "score",
      "Score texts under one configuration: a row per document.\n\nExamples:\n"
      "  qengine score --model MODEL --texts texts.json\n"
      "  qengine score --model MODEL --texts texts.json --quantizer "
      "rtn:bits=4,group=64\n"
      "  qengine score --model MODEL --texts texts.json --quantizer "
      "upstream:gpu --protect L0+L11 -o json\n"
      "  qengine score --model MODEL --texts texts.json --quantizer "
      "gptq:bits=4,group=64 --calibration other.json\n"
      "  qengine score --model MODEL --texts texts.json --quantizer "
      "checkpoint:path=PACKED");
  AddModel(*command, flags->model);
  command
      ->add_option("--texts", flags->texts,
                   "JSON file {language: text or [texts]}")
      ->required();
  command->add_option("--quantizer", flags->quantizer,
                      "Quantizer text; none: the baseline");
  command->add_option("--protect", flags->protect,
                      "Layer set to keep in full precision (default: none)");
  command->add_option("--calibration", flags->calibration,
                      "JSON file like --texts, which gptq and awq learn from");
  command->add_option("--eval", flags->evaluation,
                      "hf-text (default) or aligned");
  command
      ->add_option("--max-tokens", flags->max_tokens,
                   "Skip longer documents; 0: the model's context")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--compute", flags->compute,
                      "fp32 (default), bf16 on a CPU, fp16 on a GPU");
  command->add_flag("--naive", flags->naive,
                    "One configuration at a time, nothing shared: the oracle");
  command->add_option("-o,--output", flags->output, "jsonl (default) or json")
      ->check(CLI::IsMember({"jsonl", "json"}));
  AddEngineFlags(*command, flags->engine);
  command->callback([&run, flags] {
    run = [flags] { return RunScore(*flags, PrintToStdout); };
  });
}

void AddQuantize(CLI::App& app, std::function<absl::Status()>& run) {
  const auto flags = std::make_shared<QuantizeFlags>();
  CLI::App* command = app.add_subcommand(
      "quantize",
      "Write a model as a configuration has it: a Hugging Face "
      "directory.\n\nExamples:\n"
      "  qengine quantize --model MODEL --out NEW --quantizer "
      "rtn:bits=4,group=64 --protect L0+L-1\n"
      "  qengine quantize --model MODEL --out NEW --quantizer "
      "rtn:bits=4,scale=fp16 --format gptq\n"
      "  qengine quantize --model MODEL --out NEW --quantizer "
      "gptq:bits=4,scale=fp16 --calibration texts.json --format gptq\n"
      "  qengine quantize --model model.gguf --out NEW");
  AddModel(*command, flags->model);
  command
      ->add_option("--out", flags->target,
                   "Directory to make; it must not be there yet")
      ->required();
  command->add_option("--quantizer", flags->quantizer,
                      "Quantizer text; none: the model as it is");
  command->add_option("--protect", flags->protect,
                      "Layer set to keep in full precision (default: none)");
  command->add_option("--calibration", flags->calibration,
                      "JSON file {language: text or [texts]}, which gptq and "
                      "awq learn from");
  command
      ->add_option("--format", flags->format,
                   "float32 (default): the weights that the codes stand for; "
                   "gptq: the codes, packed as GPTQModel reads them")
      ->check(CLI::IsMember({"float32", "gptq"}));
  command->add_option("-o,--output", flags->output, "table (default) or json")
      ->check(CLI::IsMember({"table", "json"}));
  AddEngineFlags(*command, flags->engine);
  command->callback([&run, flags] {
    run = [flags] { return RunQuantize(*flags, PrintToStdout); };
  });
}

void AddSelftest(CLI::App& app, std::function<absl::Status()>& run) {
  const auto flags = std::make_shared<EngineFlags>();
  CLI::App* command = app.add_subcommand(
      "selftest", "Check that results are reproducible here, and how fast");
  AddEngineFlags(*command, *flags);
  command->callback([&run, flags] {
    run = [flags] { return RunSelftest(*flags, PrintToStdout); };
  });
}

int Main(int argc, char** argv) {
  SetLogName("qengine");
  CLI::App app(kExamples, "qengine");
  app.set_version_flag("--version",
                       absl::StrCat("qengine ", kVersion, " ", kRevision));
  app.require_subcommand(1);
  std::function<absl::Status()> run;
  AddServe(app, run);
  AddDescribe(app, run);
  AddTokenize(app, run);
  AddScore(app, run);
  AddQuantize(app, run);
  AddSelftest(app, run);
  const bool json = WantsJson(std::vector<std::string>(argv + 1, argv + argc));
  absl::Status status;
  try {
    app.parse(argc, argv);
    status = run();
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      return app.exit(error);
    }
    status = MakeError(kBadCommandLine, error.what(), "",
                       "see qengine --help, or qengine COMMAND --help");
  }
  std::fflush(stdout);
  if (!status.ok()) {
    const std::string text =
        json ? FormatErrorAsJson(status)
             : absl::StrCat(FormatErrorForPeople(status), "\n");
    std::fputs(text.c_str(), stderr);
  }
  return static_cast<int>(ExitCodeOf(status));
}

}  // namespace
}  // namespace qsweep

int main(int argc, char** argv) { return qsweep::Main(argc, argv); }
