#include "coordinator/store/query_guard.h"

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/digest.h"
#include "coordinator/store/analysis_cache.h"
#include "coordinator/store/database_file.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/support/error_matchers.h"
#include "tests/support/sanitized.h"
#include "tests/support/sweep_batches.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class QueryGuardTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = OpenSqliteStore({.directory = directory_.path()});
    QSWEEP_ASSERT_OK(store);
    store_ = *std::move(store);
    for (const auto& batch : WholeSweep()) {
      QSWEEP_ASSERT_OK(store_->Commit(batch));
    }
    auto database = OpenReader(DatabasePath(directory_.path()));
    QSWEEP_ASSERT_OK(database);
    const std::string path = AnalysisCache::Path(directory_.path());
    auto cache = AnalysisCache::Open(path);
    QSWEEP_ASSERT_OK(cache);
    cache_ = *std::move(cache);
    auto guard = QueryGuard::Create(*std::move(database), path, Clock::Real());
    QSWEEP_ASSERT_OK(guard);
    guard_ = *std::move(guard);
  }

  absl::StatusOr<v1::QueryResponse> Run(const std::string& sql,
                                        uint32_t limit = 0,
                                        uint32_t deadline_ms = 0) {
    v1::QueryRequest request;
    request.set_sql(sql);
    request.set_limit(limit);
    request.set_deadline_ms(deadline_ms);
    return guard_->Run(request, {});
  }
  int64_t Integer(const std::string& sql) {
    const auto response = Run(sql);
    EXPECT_EQ(response.status(), absl::OkStatus()) << sql;
    return response.ok() && response->rows_size() == 1
               ? response->rows(0).values(0).integer()
               : -1;
  }

  TempDir directory_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<AnalysisCache> cache_;
  std::unique_ptr<QueryGuard> guard_;
};

TEST_F(QueryGuardTest, AnswersOverEveryView) {
  EXPECT_EQ(Integer("SELECT count(*) FROM measurements_v1"), 12);
  EXPECT_EQ(Integer("SELECT measurements_done FROM jobs_v1"), 12);
  EXPECT_EQ(Integer("SELECT measurements_total FROM jobs_v1"), 12);
  EXPECT_EQ(Integer("SELECT measurements_reused FROM jobs_v1"), 0);
  EXPECT_EQ(Integer("SELECT count(*) FROM jobs_v1 WHERE state = 'succeeded'"),
            1);
  EXPECT_EQ(Integer("SELECT count(*) FROM tasks_v1 WHERE state = 'done' "
                    "AND worker = 'box-1' AND epoch = 1 AND jobs = '1'"),
            2);
  EXPECT_EQ(Integer("SELECT tasks_done FROM workers_v1"), 2);
  EXPECT_EQ(Integer("SELECT cast(attached_seconds AS INTEGER) FROM workers_v1"),
            100);
  EXPECT_EQ(Integer("SELECT attached_seconds = busy_seconds + idle_seconds AND "
                    "busy_seconds > 0 FROM workers_v1"),
            1);
  EXPECT_EQ(Integer("SELECT max(seq) FROM events_v1"), 2);
  for (const ViewDefinition& view : DocumentedViews()) {
    EXPECT_EQ(CodeOf(Run(absl::StrCat("SELECT * FROM ", view.name))), "OK")
        << view.name;
  }
}

// SQLite, left to itself, reads all measurements of an evaluation for each job.
TEST_F(QueryGuardTest, LooksUpTheMeasurementsOfAJobByTheirKeys) {
  auto database = OpenReader(DatabasePath(directory_.path()));
  QSWEEP_ASSERT_OK(database);
  for (const char* view : {"jobs_v1", "job_measurements_v1"}) {
    SCOPED_TRACE(view);
    auto plan = database->Prepare(
        absl::StrCat("EXPLAIN QUERY PLAN SELECT * FROM ", view));
    QSWEEP_ASSERT_OK(plan);
    int lookups = 0;
    while (*plan->Step()) {
      const std::string step(plan->Text(3));
      if (step.find(" m USING") != std::string::npos) {
        EXPECT_THAT(step, HasSubstr("evaluation=? AND document=? AND "
                                    "configuration=?"));
        ++lookups;
      }
    }
    EXPECT_GT(lookups, 0);
  }
}

// Columns of a view's section in the reference, in their order.
std::vector<std::string> DocumentedColumns(const std::string& view) {
  std::ifstream page(QSWEEP_SOURCE_DIR "/docs/reference/views.md");
  std::vector<std::string> columns;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("## ", 0) == 0) {
      inside = line == "## " + view;
    } else if (inside && line.rfind("| `", 0) == 0) {
      columns.push_back(line.substr(3, line.find('`', 3) - 3));
    }
  }
  return columns;
}

TEST_F(QueryGuardTest, HasTheColumnsOfTheReferencePage) {
  std::vector<std::string> views = {kResultsView.name};
  for (const ViewDefinition& view : DocumentedViews()) {
    views.emplace_back(view.name);
  }
  for (const std::string& view : views) {
    const auto response = Run("SELECT * FROM " + view + " LIMIT 0");
    QSWEEP_ASSERT_OK(response);
    EXPECT_EQ(std::vector<std::string>(response->columns().begin(),
                                       response->columns().end()),
              DocumentedColumns(view))
        << view;
  }
}

TEST_F(QueryGuardTest, ShowsTheResultsSavedLast) {
  EXPECT_EQ(Integer("SELECT count(*) FROM results_v1"), 0);
  v1::GetResultsResponse response;
  response.set_reference("eng");
  v1::ResultPanel* panel = response.add_panels();
  panel->set_model("tiny");
  panel->add_languages()->set_language("fra");
  v1::ConfigurationResult* configuration = panel->add_configurations();
  configuration->set_layer_set("L0");
  configuration->set_layer(0);
  v1::CellResult* cell = configuration->add_cells();
  cell->mutable_delta_nll()->set_value(0.25);
  cell->mutable_delta_nll()->set_low(0.125);
  cell->mutable_recovery()->set_status("anchor");
  for (int i = 0; i < 2; ++i) {  // again: replaced, not doubled
    QSWEEP_ASSERT_OK(cache_->Save(JobNumber(1), "key", response));
  }
  QSWEEP_ASSERT_OK(cache_->Save(JobNumber(9), "key", response));  // deleted
  EXPECT_EQ(Integer("SELECT count(*) FROM results_v1"), 2);
  const auto row =
      Run("SELECT value, ci_low, ci_high, layer FROM results_v1 "
          "WHERE metric = 'delta_nll' AND lang = 'fra'");
  QSWEEP_ASSERT_OK(row);
  ASSERT_EQ(row->rows_size(), 1);
  EXPECT_EQ(row->rows(0).values(0).real(), 0.25);
  EXPECT_EQ(row->rows(0).values(1).real(), 0.125);
  EXPECT_EQ(row->rows(0).values(2).value_case(), v1::QueryValue::VALUE_NOT_SET);
  EXPECT_EQ(row->rows(0).values(3).integer(), 0);
  EXPECT_EQ(CodeOf(Run("SELECT * FROM analysis.result_set")), "QS4010");

  const auto found = cache_->Find(JobNumber(1), "key");
  QSWEEP_ASSERT_OK(found);
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ((*found)->reference(), "eng");
  EXPECT_FALSE(cache_->Find(JobNumber(1), "other rows")->has_value());
}

TEST_F(QueryGuardTest, KeepsTypes) {
  const auto response =
      Run("SELECT lang, tokens, nll_sum, kl_sum FROM measurements_v1 "
          "WHERE layer_set = 'L0' AND document = '2' ORDER BY lang");
  QSWEEP_ASSERT_OK(response);
  EXPECT_THAT(response->columns(),
              ElementsAre("lang", "tokens", "nll_sum", "kl_sum"));
  ASSERT_EQ(response->rows_size(), 2);
  EXPECT_EQ(response->rows(0).values(0).text(), "eng");
  EXPECT_EQ(response->rows(0).values(1).integer(), 6);
  EXPECT_EQ(response->rows(0).values(2).real(), 1 + 0.1 + 2.0);
  EXPECT_EQ(response->rows(1).values(2).value_case(),  // one token: NULL
            v1::QueryValue::VALUE_NOT_SET);
}

TEST_F(QueryGuardTest, AllowsWhatPeopleWrite) {
  for (const char* sql :
       {"select lang, sum(nll_sum) / sum(tokens) as x from measurements_v1 "
        "group by 1 having count(*) > 1 order by x desc limit 3;",
        "WITH t AS (SELECT lang, nll_sum FROM measurements_v1) "
        "SELECT lang, avg(nll_sum) OVER (PARTITION BY lang) FROM t",
        "SELECT a.lang FROM measurements_v1 a JOIN measurements_v1 b "
        "USING (document, layer_set) WHERE a.lang < b.lang",
        "SELECT json_extract(labels, '$.team') FROM jobs_v1 -- comment",
        "SELECT 1 UNION SELECT 2",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        "WHERE i < 10) SELECT sum(i) FROM n"}) {
    EXPECT_EQ(CodeOf(Run(sql)), "OK") << sql;
  }
}

TEST_F(QueryGuardTest, RefusesEverythingElse) {
  for (const char* sql : {"DELETE FROM measurement",
                          "INSERT INTO event (seq) VALUES (9)",
                          "UPDATE job SET state = 'failed'",
                          "DROP VIEW jobs_v1",
                          "CREATE TABLE t (x)",
                          "CREATE TEMP TABLE t (x)",
                          "CREATE TEMP VIEW v AS SELECT 1",
                          "PRAGMA user_version",
                          "PRAGMA wal_checkpoint",
                          "ATTACH '/tmp/other.db' AS other",
                          "DETACH main",
                          "BEGIN",
                          "COMMIT",
                          "SAVEPOINT s",
                          "VACUUM",
                          "VACUUM INTO '/tmp/copy.db'",
                          "REINDEX",
                          "ANALYZE",
                          "EXPLAIN SELECT 1",
                          "EXPLAIN QUERY PLAN SELECT 1",
                          "",
                          "  ; ",
                          "-- nothing",
                          "SELECT 1; SELECT 2",
                          "SELECT 1; DROP TABLE job"}) {
    EXPECT_EQ(CodeOf(Run(sql)), "QS4010") << sql;
  }
}

TEST_F(QueryGuardTest, RefusesTables_HoweverTheyAreNamed) {
  for (const char* sql :
       {"SELECT * FROM job", "SELECT count(*) FROM task",
        "SELECT 1 FROM worker", "SELECT credential FROM main.lease",
        "SELECT * FROM sqlite_schema", "SELECT * FROM sqlite_master",
        "SELECT * FROM temp.sqlite_master", "SELECT * FROM sqlite_temp_master",
        "SELECT * FROM pragma_table_info('job')",
        "SELECT * FROM pragma_database_list",
        "SELECT (SELECT name FROM model) FROM jobs_v1",
        "SELECT name FROM jobs_v1 WHERE number IN (SELECT number FROM job)",
        // A common table expression counts as a view of that name.
        "WITH jobs_v1 AS (SELECT * FROM job) SELECT * FROM jobs_v1",
        "WITH measurements_v1(a) AS (SELECT credential FROM lease) "
        "SELECT a FROM measurements_v1",
        "SELECT * FROM (SELECT * FROM lease) AS jobs_v1",
        "SELECT rowid FROM job",
        "SELECT (SELECT max(rowid) FROM job) FROM jobs_v1",
        "SELECT count(*) FROM jobs_v1 JOIN lease ON lease.epoch = 1",
        "SELECT * FROM main.measurements_v1"}) {
    EXPECT_EQ(CodeOf(Run(sql)), "QS4010") << sql;
  }
}

TEST_F(QueryGuardTest, RefusesFunctionsThatReachOut) {
  for (const char* sql :
       {"SELECT load_extension('x')", "SELECT randomblob(10)",
        "SELECT zeroblob(1000000)", "SELECT random()",
        "SELECT sqlite_source_id()", "SELECT last_insert_rowid()",
        "SELECT fts3_tokenizer('x')", "SELECT readfile('/etc/passwd')",
        "SELECT writefile('/tmp/x', 'y')", "SELECT * FROM json_each('[1]')"}) {
    const std::string code = CodeOf(Run(sql));
    // SQLite does not know some of them at all.
    EXPECT_TRUE(code == "QS4010" || code == "QS4012") << sql << " " << code;
  }
  EXPECT_EQ(CodeOf(Run("SELECT load_extension('x')")), "QS4010");
}

TEST_F(QueryGuardTest, PassesOnWhatSqliteSays) {
  const auto typo = Run("SELEC 1");
  EXPECT_EQ(CodeOf(typo), "QS4012");
  EXPECT_THAT(std::string(typo.status().message()), HasSubstr("SELEC"));
  const auto column = Run("SELECT nosuch FROM jobs_v1");
  EXPECT_EQ(CodeOf(column), "QS4012");
  EXPECT_THAT(std::string(column.status().message()), HasSubstr("nosuch"));
}

TEST_F(QueryGuardTest, StopsAtTheDeadline_WhenAQueryNeverEnds) {
  const SteadyTime start = Clock::Real().SteadyNow();
  const auto response =
      Run("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
          "SELECT max(i) FROM n",
          0, 500);
  EXPECT_EQ(CodeOf(response), "QS4011");
  EXPECT_LT(Clock::Real().SteadyNow() - start, absl::Seconds(5));
  EXPECT_EQ(Integer("SELECT 7"), 7);  // and the next one is not affected
}

TEST_F(QueryGuardTest, CutsLongAnswers) {
  const auto rows = Run("SELECT lang FROM measurements_v1", 5);
  QSWEEP_ASSERT_OK(rows);
  EXPECT_EQ(rows->rows_size(), 5);
  EXPECT_TRUE(rows->truncated());
  EXPECT_FALSE(Run("SELECT lang FROM measurements_v1", 12)->truncated());
  // 10,000 rows of 1 KiB are more than 8 MiB.
  const auto wide =
      Run("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
          "WHERE i < 10000) SELECT printf('%1000d', i) FROM n");
  QSWEEP_ASSERT_OK(wide);
  EXPECT_TRUE(wide->truncated());
  EXPECT_LE(wide->ByteSizeLong(), size_t{9} << 20);
}

TEST_F(QueryGuardTest, LimitsWhatAQueryMayBe) {
  EXPECT_EQ(
      CodeOf(Run(absl::StrCat("SELECT '", std::string(70'000, 'x'), "'"))),
      "QS4011");
  EXPECT_EQ(CodeOf(Run("WITH RECURSIVE n(s) AS (SELECT 'xx' UNION ALL "
                       "SELECT s || s FROM n WHERE length(s) < 4000000) "
                       "SELECT max(length(s)) FROM n")),
            "QS4012");
  std::string compound = "SELECT 1";
  for (int i = 0; i < 10; ++i) {
    compound += " UNION ALL SELECT 1";
  }
  EXPECT_EQ(CodeOf(Run(compound)), "QS4012");
  EXPECT_EQ(CodeOf(Run("SELECT " + std::string(200, '(') + "1" +
                       std::string(200, ')'))),
            "QS4012");
}

// The most that this process had in memory since ResetPeak, bytes.
int64_t PeakBytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kib = 0;
  while (status >> word) {
    if (word == "VmHWM:") {
      status >> kib;
    }
  }
  return kib << 10;
}
void ResetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

// It would sort, group or keep for a subquery what is many times larger.
TEST_F(QueryGuardTest, TakesNoMoreMemoryThanItMay_AndServesOn) {
  const std::string big =
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
      "WHERE i < 2000) ";
  for (const char* rest :
       {"SELECT printf('%*d', 1000000, i) AS s FROM n ORDER BY s DESC",
        "SELECT DISTINCT printf('%*d', 1000000, i) FROM n ORDER BY 1",
        "SELECT length(group_concat(s)) FROM (SELECT i % 9, "
        "printf('%*d', 900000, i) AS s FROM n GROUP BY 2 ORDER BY 2 DESC)",
        "SELECT count(*) FROM (SELECT printf('%*d', 1000000, i) AS s FROM n "
        "UNION SELECT 'x')"}) {
    SCOPED_TRACE(rest);
    ResetPeak();
    const int64_t before = PeakBytes();
    const auto answer = Run(absl::StrCat(big, rest), 0, 60'000);
    EXPECT_EQ(CodeOf(answer), "QS4011");
    EXPECT_THAT(answer.status().message(), HasSubstr("64 MiB"));
    if (!Sanitized()) {
      EXPECT_LT(PeakBytes() - before, int64_t{100} << 20);
    }
    EXPECT_EQ(Integer("SELECT count(*) FROM measurements_v1"), 12);
  }
}

// A row has a hundred columns at most, of a megabyte each.
TEST_F(QueryGuardTest, CutsAWideRow_BeforeItIsBuilt) {
  std::vector<std::string> columns;
  for (int i = 0; i < 20; ++i) {
    columns.push_back(absl::StrCat("printf('%*d', 1000000, ", i, ")"));
  }
  ResetPeak();
  const int64_t before = PeakBytes();
  const auto answer = Run(absl::StrCat("SELECT ", absl::StrJoin(columns, ",")));
  QSWEEP_ASSERT_OK(answer);
  EXPECT_TRUE(answer->truncated());
  EXPECT_EQ(answer->rows_size(), 0);
  if (!Sanitized()) {
    EXPECT_LT(PeakBytes() - before, int64_t{60} << 20);
  }
}

// What is taken and given back again does not use the budget up.
TEST_F(QueryGuardTest, CountsWhatIsHeld_NotWhatPassed) {
  EXPECT_EQ(Integer("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
                    "FROM n WHERE i < 500) "
                    "SELECT sum(length(printf('%*d', 1000000, i))) FROM n"),
            500'000'000);
}

// SQLite's own trim would take minutes for the first of them, in which it
// looks at no deadline.
TEST_F(QueryGuardTest, EndsInTime_WhateverItsFunctionsAreGiven) {
  const int size = Sanitized() ? 40'000 : 400'000;  // time grows by its square
  const std::string values = absl::StrCat(
      "WITH v AS MATERIALIZED (SELECT replace(printf('%*d', ", size,
      ", 0), ' ', 'a') AS a, replace(printf('%*d', ", size,
      ", 0), ' ', 'b') || 'c' AS b, replace(printf('%*d', ", size / 2 - 10'000,
      ", 0), ' ', 'a') || 'b' AS half, "
      "'%' || replace(printf('%*d', 90, 0), ' ', 'a') || 'b' AS pattern), "
      "n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) ");
  for (const char* call :
       {"trim(b, a || 'c' || i)", "rtrim(b, a || i)", "instr(a, half || i)",
        "replace(a, half || i, 'x')", "a LIKE pattern || i",
        "a GLOB '*' || substr(pattern, 2) || i"}) {
    SCOPED_TRACE(call);
    const SteadyTime began = Clock::Real().SteadyNow();
    EXPECT_EQ(
        CodeOf(Run(absl::StrCat(values, "SELECT max(", call, ") FROM v, n"), 0,
                   300)),
        "QS4011");
    EXPECT_LT(Clock::Real().SteadyNow() - began, absl::Seconds(20));
  }
  EXPECT_EQ(CodeOf(Run(
                absl::StrCat("SELECT 'a' LIKE '", std::string(101, 'a'), "'"))),
            "QS4012");
}

TEST_F(QueryGuardTest, SearchesAndTrimsAsSqliteDoes) {
  auto plain = OpenReader(DatabasePath(directory_.path()));
  QSWEEP_ASSERT_OK(plain);
  for (const char* call : {"instr('haystack', 'st')",
                           "instr('a', 'b')",
                           "instr('', 'a')",
                           "instr('a', '')",
                           "instr('', '')",
                           "instr('äöü', 'ü')",
                           "instr(x'c3a4c3b6', x'c3b6')",
                           "instr(x'c3a4c3b6', 'ö')",
                           "instr(12345, 34)",
                           "instr(NULL, 'a')",
                           "instr('a', NULL)",
                           "replace('aaaa', 'aa', 'b')",
                           "replace('abc', '', 'x')",
                           "replace('abc', 'b', '')",
                           "replace('', 'a', 'b')",
                           "replace('abcabc', 'c', 'xyz')",
                           "replace(1212, 2, 'z')",
                           "replace(NULL, 'a', 'b')",
                           "replace('a', NULL, 'b')",
                           "replace('a', 'a', NULL)",
                           "replace('aXbX', 'X', 'é')",
                           "trim('  a b ')",
                           "trim('xxaxbxx', 'x')",
                           "trim('xyaxy', 'yx')",
                           "ltrim('xxaxx', 'x')",
                           "rtrim('xxaxx', 'x')",
                           "trim('äaä', 'ä')",
                           "trim('aaa', 'a')",
                           "trim('', 'a')",
                           "trim('abc', '')",
                           "rtrim('12.500', '0')",
                           "ltrim(NULL, 'a')",
                           "trim('a', NULL)",
                           "rtrim('aöäö', 'öä')",
                           "trim(1221, 1)"}) {
    SCOPED_TRACE(call);
    const auto expected =
        plain->QueryText(absl::StrCat("SELECT quote(", call, ")"));
    QSWEEP_ASSERT_OK(expected);
    const auto got = Run(absl::StrCat("SELECT quote(", call, ")"));
    QSWEEP_ASSERT_OK(got);
    EXPECT_EQ(got->rows(0).values(0).text(), *expected);
  }
}

TEST_F(QueryGuardTest, GivesBrokenTextAsBytes) {
  const auto response = Run("SELECT char(233), CAST(x'ff' AS TEXT)");
  QSWEEP_ASSERT_OK(response);
  EXPECT_EQ(response->rows(0).values(0).text(), "\u00e9");
  EXPECT_EQ(response->rows(0).values(1).blob(), "\xff");
  // A surrogate, overlong forms, beyond U+10FFFF, a cut: no proto string
  // either.
  for (const char* hex :
       {"eda080", "c080", "e08080", "f08080af", "f4908080", "e282"}) {
    const auto broken = Run(absl::StrCat("SELECT CAST(x'", hex, "' AS TEXT)"));
    QSWEEP_ASSERT_OK(broken);
    EXPECT_EQ(broken->rows(0).values(0).value_case(), v1::QueryValue::kBlob)
        << hex;
  }
}

TEST_F(QueryGuardTest, LeavesTheFileAsItWas) {
  const auto digest = [&] {
    return DigestOfFile(DatabasePath(directory_.path()))->hex();
  };
  const std::string before = digest();
  EXPECT_EQ(CodeOf(Run("DELETE FROM measurement")), "QS4010");
  EXPECT_EQ(CodeOf(Run("PRAGMA user_version = 9")), "QS4010");
  EXPECT_EQ(CodeOf(Run("SELECT * FROM measurements_v1")), "OK");
  EXPECT_EQ(digest(), before);
}

}  // namespace
}  // namespace qsweep::testing
