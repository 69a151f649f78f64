#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/error_codes.h"
#include "coordinator/qctl/output/output.h"
#include "coordinator/qctl/output/text_width.h"

namespace qsweep::qctl {
namespace {

using testing::HasSubstr;

Table SmallTable() {
  Table table;
  table.kind = "ThingList";
  table.columns = {{"id", "ID", Form::kNumber},
                   {"name", "NAME"},
                   {"secret", "SECRET", Form::kText, Audience::kMachines},
                   {"detail", "DETAIL", Form::kText, Audience::kWide},
                   {"sum", "SUM", Form::kText, Audience::kPeople}};
  table.rows = {{"7", "a", 1.5, "x", "1 of 2"},
                {"12", "a,\"b\"", Value(), "y", "2 of 2"}};
  table.name_prefix = "thing/";
  return table;
}

std::string MustRender(const Table& table, const OutputStyle& style) {
  absl::StatusOr<std::string> text = Render(table, style);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.value_or("");
}

TEST(Render, AlignsColumns_ForPeople) {
  EXPECT_EQ(MustRender(SmallTable(), {}),
            "ID  NAME   SUM\n"
            " 7  a      1 of 2\n"
            "12  a,\"b\"  2 of 2\n");
}

TEST(Render, ShowsMore_WhenWide) {
  EXPECT_THAT(MustRender(SmallTable(), {.format = OutputFormat::kWide}),
              HasSubstr("ID  NAME   DETAIL  SUM\n"));
}

TEST(Render, GivesMachinesTheValues_NotTheSummary) {
  EXPECT_EQ(MustRender(SmallTable(), {.format = OutputFormat::kCsv}),
            "id,name,secret,detail\n7,a,1.5,x\n12,\"a,\"\"b\"\"\",,y\n");
  EXPECT_EQ(MustRender(SmallTable(), {.format = OutputFormat::kJsonl}),
            "{\"id\":\"7\",\"name\":\"a\",\"secret\":1.5,\"detail\":\"x\"}\n"
            "{\"id\":\"12\",\"name\":\"a,\\\"b\\\"\",\"secret\":null,"
            "\"detail\":\"y\"}\n");
  EXPECT_EQ(MustRender(SmallTable(), {.format = OutputFormat::kName}),
            "thing/7\nthing/12\n");
}

TEST(Render, KeepsAColumnPerField_WhenTsvHoldsTabs) {
  Table table = SmallTable();
  table.rows = {{"1", "a\tb\nc", Value(), "", ""}};
  EXPECT_EQ(MustRender(table, {.format = OutputFormat::kTsv, .header = false}),
            "1\ta b c\t\t\n");
}

TEST(Render, ShowsChosenColumns_InTheirOrder) {
  EXPECT_EQ(MustRender(SmallTable(), {.format = OutputFormat::kCsv,
                                      .header = false,
                                      .columns = {"detail", "id"}}),
            "x,7\ny,12\n");
}

TEST(Render, SuggestsTheColumnMeant) {
  const absl::Status status =
      Render(SmallTable(), {.columns = {"nmae"}}).status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
  EXPECT_THAT(GetErrorInfo(status)->hint, HasSubstr("\"name\""));
}

TEST(Render, WritesNullForWhatJsonCannotHold) {
  EXPECT_EQ(JsonText(std::numeric_limits<double>::infinity()), "null");
  EXPECT_EQ(JsonText(std::numeric_limits<double>::quiet_NaN()), "null");
  EXPECT_EQ(JsonText(0.1), "0.1");
}

TEST(Render, AlignsByTerminalColumns_WhenTextIsWideOrCombining) {
  Table table;
  table.columns = {{"name", "NAME"}, {"n", "N"}};
  // Two wide characters; one letter with a combining accent; Hebrew.
  table.rows = {{"中文", "1"}, {"e\u0301", "2"}, {"עברית", "3"}};
  EXPECT_EQ(MustRender(table, {}),
            "NAME   N\n"
            "中文   1\n"
            "e\u0301      2\n"
            "\u2068עברית\u2069  3\n");
}

TEST(Render, MakesControlCharactersHarmless) {
  Table table;
  table.columns = {{"name", "NAME"}};
  table.rows = {{"a\x1b[31mred"}};
  EXPECT_THAT(MustRender(table, {}), HasSubstr("a?[31mred"));
}

TEST(Render, CutsTheWidestText_WhenTheTerminalIsNarrow) {
  Table table;
  table.columns = {{"id", "ID", Form::kNumber}, {"reason", "REASON"}};
  table.rows = {{"1234567", "a reason that is much too long"}};
  const std::string text = MustRender(table, {.width = 20});
  EXPECT_THAT(text, HasSubstr("1234567  a reason t…\n"));
}

TEST(Render, PrintsARecordAsLines) {
  Table table = SmallTable();
  table.record = true;
  table.rows.pop_back();
  EXPECT_EQ(MustRender(table, {}),
            "ID      7\nNAME    a\nDETAIL  x\nSUM     1 of 2\n");
}

TEST(Render, WritesMarkdown) {
  EXPECT_THAT(MustRender(SmallTable(), {.format = OutputFormat::kMarkdown}),
              HasSubstr("| ID | NAME | SUM |\n|---:|---|---|\n| 7 | a |"));
}

TEST(FormatForPeople, SpeaksOfSizesAndTimes) {
  const absl::Time now = absl::FromUnixSeconds(100'000);
  EXPECT_EQ(FormatForPeople(int64_t{1536}, Form::kBytes, now), "1.5 KiB");
  EXPECT_EQ(FormatForPeople(90.0, Form::kDuration, now), "1m30s");
  EXPECT_EQ(FormatForPeople(0.02, Form::kDuration, now), "20ms");
  EXPECT_EQ(FormatForPeople(now - absl::Hours(26), Form::kAge, now), "1d02h");
  EXPECT_EQ(FormatForPeople(0.125, Form::kPercent, now), "12.5 %");
  EXPECT_EQ(FormatForPeople(0.999, Form::kBar, now), "#######-  99 %");
  EXPECT_EQ(FormatForPeople(Value(), Form::kNumber, now), "-");
  EXPECT_EQ(WithThousands(-1234567), "-1,234,567");
}

TEST(ParseOutputFormat, SuggestsTheFormatMeant) {
  const absl::Status status = ParseOutputFormat("jsn").status();
  EXPECT_EQ(GetErrorInfo(status)->code, "QS7001");
  EXPECT_THAT(GetErrorInfo(status)->hint, HasSubstr("\"json\""));
}

TEST(ShortestText, ReadsBackAsTheSameDouble) {
  EXPECT_EQ(ShortestText(0.1), "0.1");
  EXPECT_EQ(ShortestText(1e22), "1e+22");
  EXPECT_EQ(ShortestText(4177.123456789012), "4177.123456789012");
}

TEST(RenderErrorJson, HoldsCodePlaceHintAndExitCode) {
  EXPECT_EQ(RenderErrorJson(MakeError(kJobNotFound, "no job", "JOB", "look")),
            "{\"schema\":\"qctl/v1\",\"kind\":\"Error\",\"code\":\"QS4020\","
            "\"message\":\"no job\",\"field\":\"JOB\",\"hint\":\"look\","
            "\"exit\":3}\n");
}

}  // namespace
}  // namespace qsweep::qctl
