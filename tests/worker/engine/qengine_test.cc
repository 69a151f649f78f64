// The program: its exit codes, what it prints where, and that it never outlives
// its agent.
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <set>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/rpc/frame.h"
#include "qsweep/v1/engine.pb.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"

namespace qsweep {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using testing::TempDir;
using testing::TinyLlama;

constexpr char kBinary[] = QSWEEP_BINARY_DIR "/bin/qengine";

struct Child {
  pid_t pid = -1;
  int in = -1;   // its stdin
  int out = -1;  // its stdout
};

Child Start(std::vector<std::string> arguments, const std::string& error_file) {
  int in[2] = {};
  int out[2] = {};
  EXPECT_EQ(pipe2(in, O_CLOEXEC), 0);
  EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
  arguments.insert(arguments.begin(), kBinary);
  std::vector<char*> argv;
  for (std::string& argument : arguments) {
    argv.push_back(argument.data());
  }
  argv.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    const int error =
        open(error_file.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    dup2(error, STDERR_FILENO);
    execv(kBinary, argv.data());
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  return {.pid = pid, .in = in[1], .out = out[0]};
}

std::string ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  ssize_t size = 0;
  while ((size = read(fd, buffer, sizeof(buffer))) > 0) {
    text.append(buffer, static_cast<size_t>(size));
  }
  return text;
}

int ExitCode(const Child& child) {
  int status = 0;
  EXPECT_EQ(waitpid(child.pid, &status, 0), child.pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

struct Output {
  int code = 0;
  std::string out;
  std::string error;
};

class QengineTest : public ::testing::Test {
 protected:
  QengineTest() { TinyLlama().WriteTo(directory_); }

  std::string model() const { return directory_.path(); }
  std::string error_file() const { return model() + "/stderr"; }

  Output Run(std::vector<std::string> arguments, const std::string& in = "") {
    const Child child = Start(std::move(arguments), error_file());
    EXPECT_EQ(write(child.in, in.data(), in.size()),
              static_cast<ssize_t>(in.size()));
    close(child.in);
    Output output;
    output.out = ReadAll(child.out);
    close(child.out);
    output.code = ExitCode(child);
    const int error = open(error_file().c_str(), O_RDONLY | O_CLOEXEC);
    output.error = ReadAll(error);
    close(error);
    return output;
  }

  TempDir directory_;
};

TEST_F(QengineTest, PrintsARowPerDocument) {
  const std::string texts =
      directory_.Write("texts.json", R"({"b": ["xyz", "x"], "a": "xy"})");
  const Output output =
      Run({"score", "--model", model(), "--texts", texts, "--quantizer",
           "rtn:bits=4,group=32", "--protect", "L-1", "--eval", "aligned"});
  EXPECT_EQ(output.code, 0) << output.error;
  EXPECT_THAT(output.out, StartsWith(R"({"language":"b","document":0,)"));
  EXPECT_THAT(output.out, HasSubstr(R"({"language":"a","document":0,)"));
  EXPECT_THAT(output.out, HasSubstr(R"("layer_set":"L2")"));
  EXPECT_EQ(std::count(output.out.begin(), output.out.end(), '\n'), 3);
  const Output naive = Run({"score", "--model", model(), "--texts", texts,
                            "--quantizer", "rtn:bits=4,group=32", "--protect",
                            "L-1", "--eval", "aligned", "--naive"});
  EXPECT_EQ(naive.out, output.out);
}

// MKL's way on Intel CPUs without AVX-512, where 128 rows would not do. Other
// libraries and CPUs know the variable not, and pass as they are.
TEST_F(QengineTest, PassesItsCheck_OnCpusWithAvx2Alone) {
  setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2", 1);
  const Output output = Run({"selftest"});
  unsetenv("MKL_ENABLE_INSTRUCTIONS");
  EXPECT_EQ(output.code, 0) << output.error;
  EXPECT_THAT(output.out, HasSubstr("depend on the row alone: passed"));
}

TEST_F(QengineTest, TellsErrorsByExitCode) {
  const std::string texts = directory_.Write("texts.json", R"({"a": "xyz"})");
  const std::string broken = directory_.Write("broken.json", "{");
  struct Case {
    std::vector<std::string> arguments;
    int code;
    std::string error;
  };
  for (const Case& c : {
           Case{{"score", "--model", "/no/model", "--texts", texts},
                3,
                "QS3001"},
           Case{{"score", "--model", model(), "--texts", broken}, 2, "QS2114"},
           Case{{"score", "--model", model(), "--texts", texts, "--quantizer",
                 "rtm"},
                2,
                "QS1020"},
           Case{{"score", "--model", model(), "--texts", texts, "--quantizer",
                 "rtn", "--protect", "L9"},
                2,
                "QS1011"},
           Case{{"score", "--model", model(), "--texts", texts, "--eval",
                 "alined"},
                2,
                "aligned"},
           Case{{"score", "--model", model(), "--texts", texts, "--compute",
                 "fp16", "--device", "cpu"},
                2,
                "QS1004"},
           Case{{"score", "--texts", texts}, 2, "--model"},
           Case{{"score", "--model", model(), "--texts", texts, "--protect",
                 "L0"},
                2,
                "no quantizer to protect layers from"},
           Case{{"selftest", "--threads", "100000"}, 2, "4096"},
           Case{
               {"selftest", "--memory", "100XB"}, 2, "write 1500000000, 800MB"},
           Case{{"sing"}, 2, "error[QS1060]"},
           Case{{"score", "--sing"}, 2, "hint: see qengine --help"},
       }) {
    const Output output = Run(c.arguments);
    EXPECT_EQ(output.code, c.code) << output.error;
    EXPECT_THAT(output.error, HasSubstr(c.error));
  }
}

TEST_F(QengineTest, PrintsErrorsAsJson_WhenAskedForJson) {
  for (const auto& [arguments, code] :
       std::vector<std::pair<std::vector<std::string>, const char*>>{
           {{"describe", "--model", "/no/model", "-o", "json"}, "QS3001"},
           {{"describe", "--output=json"}, "QS1060"},
           {{"score", "-o", "json", "--sing"}, "QS1060"}}) {
    const Output output = Run(arguments);
    EXPECT_THAT(output.error,
                StartsWith(absl::StrCat(
                    R"({"schema":"qctl/v1","kind":"Error","code":")", code,
                    R"(","message":")")));
    EXPECT_THAT(output.error,
                EndsWith(absl::StrCat(R"("exit":)", output.code, "}\n")));
    EXPECT_EQ(output.out, "");
  }
  EXPECT_EQ(Run({"describe", "-o", "json", "--help"}).code, 0);
}

TEST_F(QengineTest, ScoresTheOthers_WhenADocumentCannotBe) {
  struct Case {
    const char* text;
    const char* status;
    const char* code;
  };
  for (const Case& c :
       {Case{"", "empty", "QS2110"}, Case{"x", "one_token", "QS2111"}}) {
    SCOPED_TRACE(c.status);
    const std::string texts = directory_.Write(
        "texts.json", absl::StrCat(R"({"a": [")", c.text, R"(", "xyz"]})"));
    const Output output = Run(
        {"score", "--model", model(), "--texts", texts, "--eval", "hf-text"});
    EXPECT_EQ(output.code, 7);
    EXPECT_THAT(
        output.out,
        AllOf(HasSubstr(absl::StrCat(R"("status":")", c.status,
                                     R"(","nll_sum":null)")),
              HasSubstr(R"("document":1,)"), HasSubstr(R"("status":"ok")")));
    EXPECT_THAT(output.error, AllOf(HasSubstr(c.code), HasSubstr(texts),
                                    HasSubstr("\n  hint: ")));
  }
}

TEST_F(QengineTest, SaysWhereAndWhyAFileOfTextsIsNoJson) {
  struct Case {
    std::string content;
    const char* error;
  };
  for (const Case& c :
       {Case{"{\n \"a\": \"x\",\n}", "line 3, column 1"},
        Case{R"({"a": "\ud800x"})", "surrogate"},
        Case{"{\"a\": \"\xff\"}", "ill-formed UTF-8"},
        Case{"{\"a\": \"" + std::string(5000, 'x'), "column 5008"},
        Case{"", "unexpected end of input"}, Case{"[]", "no JSON object"}}) {
    const std::string texts = directory_.Write("texts.json", c.content);
    const Output output = Run({"score", "--model", model(), "--texts", texts});
    EXPECT_EQ(output.code, 2);
    EXPECT_THAT(output.error, AllOf(HasSubstr("QS2114"), HasSubstr(c.error)));
    EXPECT_LT(output.error.size(), 1000u);
  }
  EXPECT_THAT(Run({"score", "--model", model(), "--texts", model()}).error,
              HasSubstr("is a folder"));
  EXPECT_THAT(
      Run({"score", "--model", model(), "--texts", "/no/texts.json"}).error,
      HasSubstr("No such file or directory"));
}

TEST_F(QengineTest, DescribesComponents_OrEveryTensor) {
  const Output summary = Run({"describe", "--model", model()});
  EXPECT_EQ(summary.code, 0) << summary.error;
  EXPECT_THAT(
      summary.out,
      AllOf(HasSubstr("layers         3\n"),
            HasSubstr("\n\nCOMPONENT    TENSORS  SHAPE                 "
                      "WEIGHTS   BITS\n"),
            HasSubstr("\nq                  3  64x64                   12288  "
                      "32.00\n"),
            Not(HasSubstr("model.layers")), Not(HasSubstr("ready"))));
  const Output tensors = Run({"describe", "--model", model(), "--tensors"});
  EXPECT_EQ(tensors.code, 0) << tensors.error;
  EXPECT_THAT(tensors.out,
              AllOf(HasSubstr("layers         3\n"),
                    HasSubstr("model.layers.2.self_attn.q_proj.weight\n")));
}

TEST_F(QengineTest, ReadsSizesOfMemory) {
  const Output output =
      Run({"selftest", "--device", "cpu", "--memory", "100 MiB"});
  EXPECT_EQ(output.code, 0) << output.error;
  EXPECT_THAT(output.out, HasSubstr(", 100 MiB\n"));
}

// What libtorch and MKL choose by decides the last bits.
TEST_F(QengineTest,
       HasAnotherFingerprint_WhenItsLibrariesUseOtherInstructions) {
  // Where the check of such products fails, the error names them.
  const auto fingerprint = [this] {
    const Output output = Run({"selftest", "--device", "cpu"});
    const std::string text = output.out + output.error;
    EXPECT_THAT(text, HasSubstr("torch "));
    const size_t begin = text.find("torch ");
    return text.substr(begin, text.find_first_of(":\n", begin) - begin);
  };
  std::set<std::string> seen = {fingerprint()};
  for (const auto& [name, value] :
       std::vector<std::pair<const char*, const char*>>{
           {"ATEN_CPU_CAPABILITY", "default"},
           {"MKL_ENABLE_INSTRUCTIONS", "SSE4_2"},
           {"MKL_CBWR", "COMPATIBLE"}}) {
    setenv(name, value, /*overwrite=*/1);
    EXPECT_TRUE(seen.insert(fingerprint()).second) << name;
    unsetenv(name);
  }
  EXPECT_FALSE(seen.insert(fingerprint()).second);
}

TEST_F(QengineTest, TokenizesLines) {
  const Output output = Run({"tokenize", "--model", model()}, "ab\n\nA\n");
  EXPECT_EQ(output.code, 0);
  EXPECT_EQ(output.out, "97 98\n\n65\n");
}

TEST_F(QengineTest, LeadsItsHelpWithExamples) {
  for (const std::string command :
       {"describe", "score", "quantize", "tokenize"}) {
    const Output output = Run({command, "--help"});
    EXPECT_EQ(output.code, 0);
    EXPECT_LT(output.out.find("Examples:"), output.out.find("Options:"))
        << command;
  }
}

TEST_F(QengineTest, EndsWithin2Seconds_WhenTheAgentGoesInTheMiddleOfATask) {
  const Child child = Start({"serve", "--threads", "2"}, error_file());
  FrameReader frames(child.out);
  v1::EngineEvent event;
  const auto ready = frames.Read();
  ASSERT_TRUE(ready.ok() && ready->has_value());
  ASSERT_TRUE(event.ParseFromString(**ready));
  EXPECT_TRUE(event.has_ready());
  // Enough work for minutes.
  v1::EngineRequest request;
  v1::EngineRun& run = *request.mutable_run();
  run.set_model_path(model());
  const Output described = Run({"describe", "--model", model(), "-o", "json"});
  const std::string key = "\"tokenizer_digest\": \"";
  const size_t at = described.out.find(key);
  ASSERT_NE(at, std::string::npos) << described.out;
  run.mutable_task()->set_evaluation("aligned@1;tok=" +
                                     described.out.substr(at + key.size(), 64));
  for (int bits = 2; bits <= 8; ++bits) {
    v1::ConfigurationSpec& spec = *run.mutable_task()->add_configurations();
    spec.set_quantizer(absl::StrCat("rtn:group=32,bits=", bits));
    spec.set_layer_set("none");
  }
  run.mutable_task()->add_languages()->set_language("eng");
  v1::LanguageCorpus& corpus = *run.add_languages();
  corpus.set_language("eng");
  for (int i = 0; i < 20000; ++i) {
    const std::string text = absl::StrCat(std::string(400, 'x'), i);
    corpus.add_documents()->set_text(text);
    run.mutable_task()->add_documents()->set_digest(Digest::Of(text).bytes());
  }
  ASSERT_TRUE(WriteFrame(child.in, request.SerializeAsString()).ok());
  bool running = false;
  while (!running) {
    const auto frame = frames.Read();
    ASSERT_TRUE(frame.ok() && frame->has_value());
    ASSERT_TRUE(event.ParseFromString(**frame));
    ASSERT_TRUE(event.has_progress()) << event.ShortDebugString();
    running = event.progress().progress().phase() == v1::TASK_PHASE_RUN;
  }
  const SteadyTime closed = Clock::Real().SteadyNow();
  close(child.in);
  EXPECT_EQ(ExitCode(child), 0);
  EXPECT_LT(Clock::Real().SteadyNow() - closed, absl::Seconds(2));
  close(child.out);
}

}  // namespace
}  // namespace qsweep
