#include <cmath>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include <yaml-cpp/yaml.h>

#include "common/base/error.h"
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

TEST(Render, WritesATexTable) {
  Table table = SmallTable();
  table.rows = {{"7", "50 % of a_b & {c}", 1.5, "x", "1±2"}};
  EXPECT_EQ(MustRender(table, {.format = OutputFormat::kTex}),
            "\\begin{tabular}{rll}\n\\hline\n"
            "ID & NAME & SUM \\\\\n\\hline\n"
            "7 & 50 \\% of a\\_b \\& \\{c\\} & 1$\\pm$2 \\\\\n"
            "\\hline\n\\end{tabular}\n");
}

// Whether a YAML reader sees what a JSON reader sees.
void ExpectSame(const YAML::Node& yaml, const nlohmann::json& json) {
  if (json.is_object() || json.is_array()) {
    ASSERT_EQ(yaml.IsMap(), json.is_object()) << json;
    ASSERT_EQ(yaml.size(), json.size()) << json;
    for (const auto& [key, value] : json.items()) {
      ExpectSame(json.is_object() ? yaml[key] : yaml[std::stoul(key)], value);
    }
  } else if (json.is_string()) {
    ASSERT_TRUE(yaml.IsScalar()) << json;
    EXPECT_EQ(yaml.Scalar(), json.get<std::string>());
    double number = 0;
    bool truth = false;
    // In quotes where it could be taken for something else.
    EXPECT_TRUE(yaml.Tag() == "!" ||
                (!YAML::convert<double>::decode(yaml, number) &&
                 !YAML::convert<bool>::decode(yaml, truth)))
        << json;
  } else {
    EXPECT_NE(yaml.Tag(), "!") << json;
    EXPECT_EQ(yaml.IsNull() ? "null" : yaml.Scalar(), json.dump());
  }
}

TEST(YamlText, ReadsBackAsTheJsonDoes) {
  Table table = SmallTable();
  table.columns[0].form = Form::kText;
  table.extra = {
      {"empty", Value::List()},
      {"none", Value::Object()},
      {"nested", Value::List{Value::List{1, 2}, Value::Object{{"a b", "x"}},
                             Value::Object{}, "L0"}},
      {"truncated", false}};
  for (const char* text : {"",
                           "yes",
                           "No",
                           "null",
                           "~",
                           "007",
                           "1e3",
                           ".nan",
                           "- x",
                           "a: b",
                           "#",
                           "a #b",
                           "rtn:bits=4,group=64",
                           "line\nline",
                           "tab\t",
                           "\"quoted\"",
                           "caf\u00e9",
                           "\xff",
                           "2026-08-01",
                           "0x1F",
                           "{a}",
                           "*a",
                           "&a",
                           "!a",
                           "%",
                           "@a",
                           "`a",
                           " a",
                           "a ",
                           "L0+L1",
                           "true"}) {
    table.rows.push_back({text, text, 0.1, Value(), 3});
  }
  table.rows.push_back({std::numeric_limits<double>::infinity(),
                        absl::UnixEpoch(), -1, true, 1e300});
  const std::string yaml = MustRender(table, {.format = OutputFormat::kYaml});
  const std::string json = MustRender(table, {.format = OutputFormat::kJson});
  ExpectSame(YAML::Load(yaml), nlohmann::json::parse(json));
  EXPECT_THAT(yaml, HasSubstr("schema: qctl/v1\nkind: ThingList\n"));
  EXPECT_THAT(yaml, HasSubstr("items:\n  - id: \"7\"\n    name: a\n"));
}

TEST(FormatForPeople, SpeaksOfSizesAndTimes) {
  const absl::Time now = absl::FromUnixSeconds(100'000);
  EXPECT_EQ(FormatForPeople(int64_t{1536}, Form::kBytes, now), "1.5 KiB");
  EXPECT_EQ(FormatForPeople(90.0, Form::kDuration, now), "1m30s");
  EXPECT_EQ(FormatForPeople(0.02, Form::kDuration, now), "20ms");
  for (const double none : {1e300, HUGE_VAL, std::nan("")}) {
    EXPECT_EQ(FormatForPeople(none, Form::kDuration, now), "over 100 years");
  }
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

}  // namespace
}  // namespace qsweep::qctl
