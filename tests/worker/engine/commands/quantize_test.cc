// `qengine quantize`: what it writes is what `score` measures, in either
// format, and nothing is left of what failed.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <poll.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include <sys/wait.h>

#include "common/base/clock.h"
#include "tests/support/error_matchers.h"
#include "tests/support/gptq_llama.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"
#include "worker/model/checkpoint.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::AnyOf;
using testing::GptqLlama;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TempDir;
using testing::TinyLlama;

using Json = nlohmann::json;
using Weights = std::map<std::string, std::vector<float>>;

struct Output {
  int code = 0;
  std::string out;
  std::string error;
};

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Weights WeightsOf(const std::string& path) {
  Weights weights;
  const auto checkpoint = Checkpoint::Open(path);
  QSWEEP_EXPECT_OK(checkpoint);
  if (!checkpoint.ok()) {
    return weights;
  }
  const auto model = (*checkpoint)->Describe("");
  QSWEEP_EXPECT_OK(model);
  for (const TensorDescription& tensor : model->tensors) {
    std::vector<float>& values = weights[tensor.name];
    values.resize(static_cast<size_t>(tensor.num_elements()));
    QSWEEP_EXPECT_OK((*checkpoint)->ReadTensor(tensor.name, values));
  }
  return weights;
}

class QuantizeTest : public ::testing::Test {
 protected:
  QuantizeTest() {
    fs::create_directory(model());
    setenv("XDG_CACHE_HOME", (directory_ / "cache").c_str(), 1);
    texts_ =
        directory_.Write("texts.json", R"({"a": ["Hello there", "xyz 123"]})");
    // As many tokens as the widest layer has inputs, and more.
    std::string text;
    for (int i = 0; i < 400; ++i) {
      text.push_back(static_cast<char>('a' + i * i % 23));
    }
    calibration_ = directory_.Write("calibration.json",
                                    absl::StrCat("{\"a\": \"", text, "\"}"));
  }

  void WriteModel(const TinyLlama& llama) {
    const TempDir source;
    llama.WriteTo(source);
    fs::copy(
        source.path(), model(),
        fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  }

  std::string model() const { return directory_ / "model"; }
  std::string Target(const std::string& name) const {
    return directory_ / name;
  }

  Output Run(const std::vector<std::string>& arguments) const {
    const std::string command = absl::StrCat(QSWEEP_BINARY_DIR "/bin/qengine '",
                                             absl::StrJoin(arguments, "' '"),
                                             "' 2>", directory_ / "stderr");
    Output output;
    std::FILE* const pipe = popen(command.c_str(), "r");
    char buffer[4096];
    size_t size = 0;
    while ((size = fread(buffer, 1, sizeof(buffer), pipe)) > 0) {
      output.out.append(buffer, size);
    }
    output.code = WEXITSTATUS(pclose(pipe));
    output.error = ReadFile(directory_ / "stderr");
    return output;
  }

  // The model under a configuration, written and read again.
  Weights Quantized(const std::string& name,
                    const std::vector<std::string>& flags) const {
    std::vector<std::string> arguments = {"quantize", "--model", model(),
                                          "--out", Target(name)};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const Output output = Run(arguments);
    EXPECT_EQ(output.code, 0) << output.error;
    return WeightsOf(Target(name));
  }

  std::vector<Json> Rows(const std::string& path,
                         const std::vector<std::string>& flags) const {
    std::vector<std::string> arguments = {"score", "--model", path, "--texts",
                                          texts_};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const Output output = Run(arguments);
    EXPECT_EQ(output.code, 0) << output.error;
    std::vector<Json> rows;
    std::istringstream lines(output.out);
    for (std::string line; std::getline(lines, line);) {
      rows.push_back(Json::parse(line));
    }
    return rows;
  }

  std::vector<double> Nll(const std::string& path,
                          const std::vector<std::string>& flags) const {
    std::vector<double> nll;
    for (const Json& row : Rows(path, flags)) {
      nll.push_back(row["nll_sum"].get<double>());
    }
    return nll;
  }

  TempDir directory_;
  std::string texts_;
  std::string calibration_;
};

TEST_F(QuantizeTest, WritesWhatScoreMeasures) {
  struct Case {
    const char* quantizer;
    const char* protect;
    bool tied;
  };
  int number = 0;
  for (const Case& c :
       {Case{"rtn:bits=4,group=32", "L-1", true}, Case{"nf4", "none", false},
        Case{"upstream:p5-all", "embed", false},
        Case{"upstream:gpu,bits=8", "none", true},
        Case{"hqq:bits=3,group=32", "mlp@L0", true},
        Case{"upstream:p5-weights", "L1+top2.5%", true},
        Case{"gptq:bits=3,group=32,calib=exact", "L1", true}}) {
    SCOPED_TRACE(c.quantizer);
    WriteModel({.tied_head = c.tied});
    std::vector<std::string> flags = {"--quantizer", c.quantizer, "--protect",
                                      c.protect};
    if (absl::StartsWith(c.quantizer, "gptq")) {
      flags.insert(flags.end(), {"--calibration", calibration_});
    }
    const std::string name = absl::StrCat("new", ++number);
    Quantized(name, flags);
    EXPECT_EQ(Nll(Target(name), {}), Nll(model(), flags));
    EXPECT_EQ(Json::parse(ReadFile(Target(name) + "/config.json"))
                  .value("torch_dtype", ""),
              "float32");
  }
}

TEST_F(QuantizeTest, PacksTheSameWeights_AsItWritesInFloat32) {
  WriteModel({.layers = 3});
  struct Case {
    const char* quantizer;
    const char* protect;
  };
  int number = 0;
  for (const Case& c :
       {Case{"rtn:bits=4,group=32,scale=fp16", "none"},
        Case{"rtn:bits=4,group=32,sym=0,scale=fp16", "L0"},
        Case{"rtn:bits=8,group=16,grid=awq,sym=0,scale=fp16", "q@L1"},
        Case{"rtn:bits=2,group=-1,grid=gptq,scale=fp16", "L1:int8+v@L2"},
        Case{"rtn:bits=3,gran=tensor,scale=fp16", "L-1"},
        Case{"gptq:bits=4,group=32,scale=fp16", "L2"},
        Case{"gptq:bits=3,group=32,sym=0,act_order=1,scale=fp16", "L0:int8"},
        Case{"gptq:bits=4,group=32,act_order=1,static_groups=1,scale=fp16",
             "none"},
        Case{"gptq:bits=4,group=32,scale=fp16,calib=exact", "L0:int8+L1"}}) {
    SCOPED_TRACE(c.quantizer);
    std::vector<std::string> flags = {"--quantizer", c.quantizer, "--protect",
                                      c.protect};
    if (absl::StartsWith(c.quantizer, "gptq")) {
      flags.insert(flags.end(), {"--calibration", calibration_});
    }
    const std::string name = absl::StrCat("new", ++number);
    const Weights plain = Quantized(name, flags);
    flags.insert(flags.end(), {"--format", "gptq"});
    const Weights packed = Quantized(name + "-packed", flags);
    EXPECT_EQ(plain, packed);
    EXPECT_NE(plain, WeightsOf(model()));
    EXPECT_LT(fs::file_size(Target(name + "-packed") + "/model.safetensors"),
              fs::file_size(Target(name) + "/model.safetensors"));
  }
}

// A ready checkpoint as a configuration of the model it was made of, against
// that model's baseline.
TEST_F(QuantizeTest, ReadyCheckpointScoresAsTheConfigurationItWasMadeOf) {
  WriteModel({.layers = 3});
  int number = 0;
  for (const std::string quantizer :
       {"rtn:bits=4,group=32,scale=fp16",
        "gptq:bits=3,group=32,sym=0,act_order=1,scale=fp16"}) {
    SCOPED_TRACE(quantizer);
    std::vector<std::string> flags = {"--quantizer", quantizer};
    if (absl::StartsWith(quantizer, "gptq")) {
      flags.insert(flags.end(), {"--calibration", calibration_});
    }
    const std::string packed = Target(absl::StrCat("packed", ++number));
    std::vector<std::string> pack = {"quantize", "--model",  model(), "--out",
                                     packed,     "--format", "gptq"};
    pack.insert(pack.end(), flags.begin(), flags.end());
    const Output output = Run(pack);
    ASSERT_EQ(output.code, 0) << output.error;
    for (const char* protect : {"none", "L0", "L0-1+mlp@L2"}) {
      SCOPED_TRACE(protect);
      const auto rows = [&](std::vector<std::string> how) {
        how.insert(how.end(), {"--protect", protect});
        return Rows(model(), how);
      };
      const std::vector<Json> ready =
          rows({"--quantizer", "checkpoint:path=" + packed});
      const std::vector<Json> made = rows(flags);
      ASSERT_EQ(ready.size(), 2u);
      ASSERT_EQ(made.size(), 2u);
      for (size_t i = 0; i < ready.size(); ++i) {
        for (const char* field : {"nll_sum", "nll_fp_sum", "kl_sum", "top1",
                                  "tokens", "model", "layer_set"}) {
          EXPECT_EQ(ready[i][field], made[i][field]) << field;
        }
        EXPECT_NE(ready[i]["configuration"], made[i]["configuration"]);
        EXPECT_NE(ready[i]["nll_sum"], ready[i]["nll_fp_sum"]);
      }
    }
    // And written in float32 again.
    EXPECT_EQ(Quantized(absl::StrCat("again", number),
                        {"--quantizer", "checkpoint:path=" + packed}),
              WeightsOf(packed));
  }
}

TEST_F(QuantizeTest, RefusesACheckpointOfAnotherModel) {
  WriteModel({.layers = 3});
  const TempDir other;
  TinyLlama({.layers = 2}).WriteTo(other);
  const auto score = [&](const std::string& quantizer) {
    return Run({"score", "--model", model(), "--texts", texts_, "--quantizer",
                quantizer});
  };
  Output output = score("checkpoint:path=" + other.path());
  EXPECT_EQ(output.code, 1);
  EXPECT_THAT(output.error, AllOf(HasSubstr("QS3013"),
                                  HasSubstr("layers: 2, the model's 3")));
  // As qctl asks at a submit.
  output = Run({"describe", "--model", other.path(), "--of", model()});
  EXPECT_EQ(output.code, 1);
  EXPECT_THAT(output.error, HasSubstr("layers: 2, the model's 3"));
  TinyLlama({.layers = 3, .seed = 2}).WriteTo(other);
  output = Run({"describe", "--model", other.path(), "--of", model()});
  EXPECT_EQ(output.code, 0);
  EXPECT_THAT(output.out, HasSubstr("a ready checkpoint of " + model() + "\n"));
  // Two tokens change places.
  other.Write("tokenizer.json",
              absl::StrReplaceAll(ReadFile(other / "tokenizer.json"),
                                  {{R"(\u0061": 97)", R"(\u0061": 98)"},
                                   {R"(\u0062": 98)", R"(\u0062": 97)"}}));
  output = score("checkpoint:path=" + other.path());
  EXPECT_EQ(output.code, 1);
  EXPECT_THAT(output.error,
              AllOf(HasSubstr("QS3013"),
                    HasSubstr("its token 97 is \"b\", the model's \"a\"")));
  output = score("checkpoint:path=/nowhere");
  EXPECT_EQ(output.code, 3);
  EXPECT_THAT(output.error, HasSubstr("QS3001"));
  output =
      score("checkpoint:path=" + model() + ",digest=0123456789abcdef,bits=32");
  EXPECT_EQ(output.code, 1);
  EXPECT_THAT(output.error, HasSubstr("QS3010"));
}

TEST_F(QuantizeTest, SaysInBothConfigurations_HowItPacked) {
  WriteModel({.layers = 3});
  Quantized("new", {"--quantizer", "rtn:bits=4,group=32,scale=fp16",
                    "--protect", "L0+q@L1+L2:int8", "--format", "gptq"});
  const Json own = Json::parse(ReadFile(Target("new/quantize_config.json")));
  Json expected = Json::parse(R"({
      "quant_method": "gptq", "bits": 4, "group_size": 32, "sym": true,
      "desc_act": false, "lm_head": false, "checkpoint_format": "gptq_v2",
      "pack_dtype": "int32", "dynamic": {
        "-:^model\\.layers\\.0\\.": {},
        "-:^model\\.layers\\.1\\.self_attn\\.q_proj$": {},
        "+:^model\\.layers\\.2\\.": {"bits": 8}}})");
  expected["meta"] = own["meta"];
  EXPECT_EQ(own, expected);
  const Json config = Json::parse(ReadFile(Target("new/config.json")));
  EXPECT_EQ(config["quantization_config"], own);
  EXPECT_EQ(config["hidden_size"], 64);
  EXPECT_EQ(config["torch_dtype"], "float16");
  EXPECT_EQ(ReadFile(Target("new/tokenizer.json")),
            ReadFile(model() + "/tokenizer.json"));
}

TEST_F(QuantizeTest, UnpacksAReadyCheckpoint) {
  GptqLlama packed{.act_order = true};
  const TempDir source;
  packed.WriteTo(source);
  const Output output = Run({"quantize", "--model", source.path(), "--out",
                             Target("new"), "-o", "json"});
  EXPECT_EQ(output.code, 0) << output.error;
  const Json item = Json::parse(output.out)["items"][0];
  EXPECT_EQ(item["quantizer"], "fp");
  EXPECT_EQ(item["tensors_quantized"], 0);
  EXPECT_EQ(item["tensors_kept"], 2 + 2 * 9);
  EXPECT_EQ(item["weight_bytes"],
            fs::file_size(Target("new/model.safetensors")));
  EXPECT_EQ(WeightsOf(Target("new")), packed.weights);
  EXPECT_FALSE(fs::exists(Target("new/quantize_config.json")));
}

TEST_F(QuantizeTest, LeavesNothing_WhenItRefuses) {
  WriteModel({.intermediate_size = 100});  // fills no words at 4 bits
  fs::create_directory(Target("there"));
  struct Case {
    std::vector<std::string> flags;
    int code;
    const char* error;
    const char* text;
  };
  const std::string to = Target("new");
  for (const Case& c : {
           Case{{"--out", Target("there")}, 1, "QS7002", "there already"},
           Case{{"--out", Target("none/new")}, 1, "QS7002", "none/new"},
           Case{{"--out", to, "--quantizer", "rtn", "--protect", "L9"},
                2,
                "QS1011",
                "L9"},
           Case{{"--out", to, "--quantizer", "gptq:bits=4"},
                2,
                "QS1003",
                "calibration"},
           Case{{"--out", to, "--quantizer", "awq:calib=exact"},
                2,
                "QS1003",
                "calibration"},
           Case{{"--out", to, "--quantizer", "rtn", "--calibration",
                 calibration_},
                2,
                "QS1004",
                "not calibrated"},
           Case{{"--out", to, "--protect", "L0"}, 2, "QS1004", "--protect"},
           Case{{"--out", to, "--format", "gptq"}, 2, "QS1004", "nothing"},
           Case{{"--out", to, "--format", "gptq", "--quantizer", "rtn"},
                2,
                "QS1004",
                "scale=fp16"},
           Case{{"--out", to, "--format", "gptq", "--quantizer", "nf4"},
                2,
                "QS1004",
                "integer codes"},
           Case{{"--out", to, "--format", "gptq", "--quantizer",
                 "rtn:group=32,scale=fp16,replicate=1"},
                2,
                "QS1004",
                "replicate"},
           Case{{"--out", to, "--format", "gptq", "--quantizer",
                 "rtn:arith=fp16,scale=fp16"},
                2,
                "QS1004",
                "arith=fp16"},
           Case{{"--out", to, "--format", "gptq", "--quantizer",
                 "upstream:gpu,scale=fp16"},
                2,
                "QS1004",
                "scope=linear"},
           Case{{"--out", to, "--format", "gptq", "--quantizer",
                 "rtn:bits=5,scale=fp16"},
                2,
                "QS1042",
                "5 bits"},
           Case{{"--out", to, "--format", "gptq", "--quantizer",
                 "rtn:bits=4,group=20,scale=fp16"},
                2,
                "QS1042",
                "32-bit words"},
           Case{{"--out", to, "--format", "awq"}, 2, "", "--format"},
           Case{{}, 2, "", "--out"},
       }) {
    std::vector<std::string> arguments = {"quantize", "--model", model()};
    arguments.insert(arguments.end(), c.flags.begin(), c.flags.end());
    SCOPED_TRACE(absl::StrJoin(arguments, " "));
    const Output output = Run(arguments);
    EXPECT_EQ(output.code, c.code);
    EXPECT_THAT(output.error, AllOf(HasSubstr(c.error), HasSubstr(c.text)));
    EXPECT_EQ(output.out, "");
    EXPECT_TRUE(fs::is_empty(Target("there")));
    for (const auto& entry : fs::directory_iterator(directory_.path())) {
      EXPECT_THAT(entry.path().filename().string(),
                  Not(AnyOf(HasSubstr("new"), HasSubstr("partial"))));
    }
  }
}

TEST_F(QuantizeTest, WritesTheSame_WithTheLeastMemoryThatWorks) {
  WriteModel({});
  const auto run = [&](const std::string& memory, const std::string& name) {
    return Run({"quantize", "--model", model(), "--out", Target(name),
                "--quantizer", "hqq:bits=4,group=32", "--protect", "top5%",
                "--threads", "3", "--memory", memory});
  };
  const Output refused = run("1000", "new");
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.error, HasSubstr("QS5006"));
  EXPECT_FALSE(fs::exists(Target("new")));
  constexpr char kBefore[] = "The least that works is ";
  const size_t at = refused.error.find(kBefore);
  ASSERT_NE(at, std::string::npos) << refused.error;
  const int64_t least =
      std::stoll(refused.error.substr(at + sizeof(kBefore) - 1));
  EXPECT_EQ(run(absl::StrCat(least - 1), "new").code, 1);
  EXPECT_EQ(run(absl::StrCat(least), "little").code, 0);
  EXPECT_EQ(run("0", "much").code, 0);
  EXPECT_EQ(ReadFile(Target("little/model.safetensors")),
            ReadFile(Target("much/model.safetensors")));
}

TEST_F(QuantizeTest, LeavesNothing_WhenItIsInterrupted) {
  WriteModel({});
  for (const int number : {SIGINT, SIGTERM}) {
    const pid_t pid = fork();
    if (pid == 0) {  // the signal waits when the program starts
      sigset_t signals;
      sigemptyset(&signals);
      sigaddset(&signals, number);
      sigprocmask(SIG_BLOCK, &signals, nullptr);
      raise(number);
      execl(QSWEEP_BINARY_DIR "/bin/qengine", "qengine", "quantize", "--model",
            model().c_str(), "--out", Target("new").c_str(), nullptr);
      _exit(127);
    }
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(WEXITSTATUS(status), 1);
    for (const auto& entry : fs::directory_iterator(directory_.path())) {
      EXPECT_THAT(entry.path().filename().string(), Not(HasSubstr("new")));
    }
  }
}

// A tensor takes much longer than the answer to a signal may.
TEST_F(QuantizeTest, EndsInTheMidstOfATensor_WhenItIsInterrupted) {
  WriteModel({.layers = 1, .intermediate_size = 128 << 10});
  const std::vector<std::string> arguments = {
      "quantize",    "--model",     model(),       "--out",
      Target("new"), "--quantizer", "hqq:group=64"};
  const SteadyTime begin = Clock::Real().SteadyNow();
  ASSERT_EQ(Run(arguments).code, 0);
  const absl::Duration whole = Clock::Real().SteadyNow() - begin;
  fs::remove_all(Target("new"));
  const pid_t pid = fork();
  if (pid == 0) {
    std::vector<const char*> argv = {"qengine"};
    for (const std::string& argument : arguments) {
      argv.push_back(argument.c_str());
    }
    argv.push_back(nullptr);
    execv(QSWEEP_BINARY_DIR "/bin/qengine",
          const_cast<char* const*>(argv.data()));
    _exit(127);
  }
  const auto writes = [this] {
    for (const auto& entry : fs::directory_iterator(directory_.path())) {
      if (absl::StrContains(entry.path().filename().string(), "new") &&
          fs::exists(entry.path() / "model.safetensors")) {
        return true;
      }
    }
    return false;
  };
  while (!writes() && waitpid(pid, nullptr, WNOHANG) == 0) {
    poll(nullptr, 0, /*timeout=*/5);
  }
  const SteadyTime interrupted = Clock::Real().SteadyNow();
  ASSERT_EQ(kill(pid, SIGTERM), 0);
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  const absl::Duration answer = Clock::Real().SteadyNow() - interrupted;
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_FALSE(writes());
  EXPECT_LT(answer, whole / 2) << "of " << whole;
}

}  // namespace
}  // namespace qsweep
