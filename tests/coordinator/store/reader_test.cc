#include "coordinator/store/reader.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/store/analysis_cache.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/support/error_matchers.h"
#include "tests/support/sweep_batches.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

class ReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = OpenSqliteStore({.directory = directory_.path()});
    QSWEEP_ASSERT_OK(store);
    store_ = *std::move(store);
    QSWEEP_ASSERT_OK(
        AnalysisCache::Open(AnalysisCache::Path(directory_.path())));
    auto reader = Reader::Open(directory_.path(), Clock::Real());
    QSWEEP_ASSERT_OK(reader);
    reader_ = *std::move(reader);
  }
  void CommitWholeSweep() {
    for (const auto& batch : WholeSweep()) {
      QSWEEP_ASSERT_OK(store_->Commit(batch));
    }
  }
  // The first column of a query's rows.
  std::vector<std::string> Column(const std::string& sql) {
    v1::QueryRequest request;
    request.set_sql(sql);
    const auto response = reader_->Query(request, {});
    EXPECT_EQ(response.status(), absl::OkStatus()) << sql;
    std::vector<std::string> column;
    for (const v1::QueryRow& row : response->rows()) {
      column.push_back(row.values(0).text());
    }
    return column;
  }
  // So many documents more for the job, each measured under its three
  // configurations.
  void AddDocuments(int num) {
    store_.reset();  // one connection writes at a time
    auto database = Database::Open(DatabasePath(directory_.path()),
                                   Database::Mode::kReadWriteCreate);
    QSWEEP_ASSERT_OK(database);
    QSWEEP_ASSERT_OK(database->Execute(absl::StrCat(
        "BEGIN;"
        "CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 4 UNION ALL "
        "SELECT i + 1 FROM n WHERE i < ",
        num + 3,
        ") SELECT i FROM n;"
        "INSERT INTO document SELECT 1000 + i, cast(printf('%32d', i) AS BLOB) "
        "FROM n;"
        "INSERT INTO job_document SELECT 1, i, 0, 'eng', i, 1000 + i FROM n;"
        "INSERT INTO measurement (configuration, evaluation, document, status, "
        "tokens, bytes, bytes_scored, chars, nonfinite, task, epoch, "
        "created_at_us) SELECT c.configuration, e.evaluation, 1000 + i, "
        "'empty', 0, 0, 0, 0, 0, 1, 1, 0 FROM n, job_configuration AS c, "
        "job_evaluation AS e WHERE c.job = 1 AND e.job = 1;"
        "COMMIT")));
    database = absl::UnavailableError("closed");
    auto store = OpenSqliteStore({.directory = directory_.path()});
    QSWEEP_ASSERT_OK(store);
    store_ = *std::move(store);
  }
  // Whether all of the log is in the file, and nobody holds it.
  bool LogIsFree() {
    store_.reset();
    auto database = Database::Open(DatabasePath(directory_.path()),
                                   Database::Mode::kReadWriteCreate);
    return database.ok() &&
           database->QueryInteger("PRAGMA wal_checkpoint(TRUNCATE)").value() ==
               0;
  }
  // In pages of so many documents.
  std::vector<v1::MeasurementRow> Export(int64_t job = 1,
                                         int64_t documents = 1000) {
    std::vector<v1::MeasurementRow> all;
    const auto ids = reader_->ExportConfigurations(JobNumber(job));
    EXPECT_EQ(ids.status(), absl::OkStatus());
    for (const int64_t id : *ids) {
      std::optional<ExportPosition> from = ExportPosition();
      while (from) {
        const auto page =
            reader_->ExportRows(JobNumber(job), id, *from, documents);
        EXPECT_EQ(page.status(), absl::OkStatus());
        EXPECT_LE(page->rows.size(), static_cast<size_t>(documents));
        all.insert(all.end(), page->rows.begin(), page->rows.end());
        from = page->next;
      }
    }
    return all;
  }

  TempDir directory_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Reader> reader_;
};

TEST_F(ReaderTest, ExportsRowsInIdentityOrder) {
  CommitWholeSweep();
  const std::vector<v1::MeasurementRow> rows = Export();
  ASSERT_EQ(rows.size(), 12u);
  const auto key = [](const v1::MeasurementRow& row) {
    return std::tie(row.model(), row.configuration(), row.layer_set(),
                    row.quantizer(), row.compute(), row.evaluation(),
                    row.corpus(), row.language(), row.document());
  };
  for (size_t i = 1; i < rows.size(); ++i) {
    EXPECT_LT(key(rows[i - 1]), key(rows[i])) << i;
  }
  const v1::MeasurementRow& first = rows.front();
  EXPECT_EQ(first.model(), SweepModel().hex());
  EXPECT_EQ(first.corpus(), "texts");
  EXPECT_EQ(first.compute(), "fp32");
  EXPECT_EQ(first.language(), "eng");
  EXPECT_EQ(first.document_digest(), SweepDocuments()[0].hex());
  EXPECT_EQ(first.engine(), "engine-1");
  EXPECT_EQ(first.worker(), "box-1");
  EXPECT_EQ(first.task_id(), 1u);
  EXPECT_EQ(first.epoch(), 1u);
  EXPECT_EQ(first.values().tokens(), 6u);
}

// A configuration with very many rows is never in memory whole.
TEST_F(ReaderTest, ExportsTheSameRows_HoweverLongAPageIs) {
  CommitWholeSweep();
  AddDocuments(20);
  const auto texts = [this](int64_t documents) {
    std::vector<std::string> lines;
    for (const v1::MeasurementRow& row : Export(1, documents)) {
      lines.push_back(row.SerializeAsString());
    }
    return lines;
  };
  const std::vector<std::string> whole = texts(1000);
  EXPECT_EQ(whole.size(), 3u * 24);
  for (const int64_t documents : {1, 7, 24, 25}) {
    EXPECT_EQ(texts(documents), whole) << documents;
  }
}

// Documents without a row yet take their place in a page all the same.
TEST_F(ReaderTest, ExportsWhatThereIs_WhileTheJobRuns) {
  size_t before = 0;
  for (const auto& batch : WholeSweep()) {
    QSWEEP_ASSERT_OK(store_->Commit(batch));
    const size_t now = Export(1, 1).size();
    EXPECT_EQ(Export(1, 1000).size(), now);
    EXPECT_GE(now, before);
    before = now;
  }
  EXPECT_EQ(before, 12u);
}

TEST_F(ReaderTest, SeesACommitAtOnce_WhileTheJobRuns) {
  const auto batches = WholeSweep();
  for (size_t i = 0; i < 6; ++i) {  // up to the first result
    QSWEEP_ASSERT_OK(store_->Commit(batches[i]));
  }
  EXPECT_EQ(Export().size(), 6u);
  for (size_t i = 6; i < batches.size(); ++i) {
    QSWEEP_ASSERT_OK(store_->Commit(batches[i]));
  }
  EXPECT_EQ(Export().size(), 12u);
}

TEST_F(ReaderTest, ReadsTheRowsOfAJobWithWhatTheyMean) {
  CommitWholeSweep();
  const auto rows = reader_->ReadJobRows(JobNumber(1), {});
  QSWEEP_ASSERT_OK(rows);
  EXPECT_EQ(rows->corpus.name(), "texts");
  EXPECT_EQ(rows->spec.reference(), "eng");
  ASSERT_EQ(rows->models.size(), 1u);
  EXPECT_EQ(rows->models[0].layers(), 2u);
  // Tasks 1 and 2 tell 1e-7 and 2e-7, in fp32.
  EXPECT_EQ(rows->noise_floors, std::vector<double>{2e-7});
  ASSERT_EQ(rows->configurations.size(), 3u);
  EXPECT_TRUE(rows->configurations[0].baseline);
  EXPECT_EQ(rows->configurations[2].resolved, "L0");
  EXPECT_EQ(rows->configurations[2].single_layer, 0);
  EXPECT_EQ(rows->configurations[2].overhead_layers, 0.5);
  EXPECT_FALSE(rows->configurations[1].single_layer.has_value());
  EXPECT_TRUE(rows->configurations[1].unprotected);
  EXPECT_FALSE(rows->configurations[2].unprotected);
  ASSERT_EQ(rows->evaluations.size(), 1u);
  EXPECT_EQ(rows->evaluations[0].text, kEvaluation);
  ASSERT_EQ(rows->documents.size(), 4u);
  EXPECT_EQ(rows->documents[1].language, "fra");
  EXPECT_EQ(rows->documents[1].id, "1");
  ASSERT_EQ(rows->rows.size(), 12u);
  const JobRows::Row& row = rows->rows[6];  // configuration 1, document 2
  EXPECT_EQ(row.configuration, 1);
  EXPECT_EQ(row.document, 2);
  EXPECT_EQ(row.values.nll_sum(), 1 + 0.1 + 1.0);
  EXPECT_EQ(CodeOf(reader_->ReadJobRows(JobNumber(2), {})), "QS4020");
}

// In statements of 50,000 rows, so that none holds the log for long.
TEST_F(ReaderTest, ReadsAllRowsOfALargeJobOnce) {
  CommitWholeSweep();
  AddDocuments(30'000);
  const auto rows = reader_->ReadJobRows(JobNumber(1), {});
  QSWEEP_ASSERT_OK(rows);
  ASSERT_EQ(rows->documents.size(), 30'004u);
  ASSERT_EQ(rows->rows.size(), 3 * 30'004u);
  for (size_t i = 0; i < rows->rows.size(); ++i) {
    ASSERT_EQ(rows->rows[i].configuration, static_cast<int>(i / 30'004));
    ASSERT_EQ(rows->rows[i].document, static_cast<int>(i % 30'004));
  }
}

// A second passes each time it is asked.
class HurriedClock : public Clock {
 public:
  SteadyTime SteadyNow() const override {
    return SteadyTime::FromSinceBoot(absl::Seconds(++seconds_));
  }
  absl::Time Now() const override { return absl::FromUnixSeconds(seconds_); }

 private:
  mutable std::atomic<int64_t> seconds_ = 1000;
};

TEST_F(ReaderTest, EndsAReadAfterTwoSeconds_AnExportLater) {
  CommitWholeSweep();
  AddDocuments(2000);
  const HurriedClock clock;
  auto hurried = Reader::Open(directory_.path(), clock);
  QSWEEP_ASSERT_OK(hurried);
  const auto read = (*hurried)->ReadJobRows(JobNumber(1), {});
  EXPECT_EQ(CodeOf(read), "QS4011");
  const auto few = (*hurried)->ExportConfigurations(JobNumber(1));
  QSWEEP_ASSERT_OK(few);
  EXPECT_EQ(few->size(), 3u);
  const auto page = (*hurried)->ExportRows(JobNumber(1), few->front(),
                                           ExportPosition(), 5000);
  QSWEEP_ASSERT_OK(page);
  EXPECT_EQ(page->rows.size(), 2004u);
  EXPECT_FALSE(page->next.has_value());
  EXPECT_TRUE(LogIsFree());
}

TEST_F(ReaderTest, HoldsNoSnapshotBetweenCalls) {
  CommitWholeSweep();
  QSWEEP_EXPECT_OK(reader_->ReadJobRows(JobNumber(1), {}));
  EXPECT_EQ(Export().size(), 12u);
  QSWEEP_EXPECT_OK(reader_->ReadJobSource(JobNumber(1)));
  QSWEEP_EXPECT_OK(reader_->ReadArtifact(Digest::Of(SweepArtifact(1)), 0, 3));
  EXPECT_EQ(CodeOf(reader_->ReadJobSource(JobNumber(9))), "QS4020");
  v1::QueryRequest cut;
  cut.set_sql("SELECT * FROM measurements_v1");
  cut.set_limit(1);
  QSWEEP_EXPECT_OK(reader_->Query(cut, {}));
  EXPECT_TRUE(LogIsFree());
}

TEST_F(ReaderTest, ReadsWhatAJobWasPlannedFrom) {
  CommitWholeSweep();
  const auto source = reader_->ReadJobSource(JobNumber(1));
  QSWEEP_ASSERT_OK(source);
  EXPECT_EQ(source->spec.name(), "sweep-1");
  EXPECT_EQ(source->plan.measurements(), 12u);
  ASSERT_EQ(source->models.size(), 1u);
  EXPECT_EQ(source->models[0].digest(), SweepModel().bytes());
  ASSERT_NE(source->corpus, nullptr);
  EXPECT_EQ(source->corpus->digest(), SweepCorpus().bytes());
  EXPECT_EQ(source->calibration_corpus, nullptr);
  EXPECT_EQ(*reader_->ReadJobLanguages(JobNumber(1)),
            (std::vector<std::string>{"eng", "fra"}));
  EXPECT_EQ(CodeOf(reader_->ReadJobSource(JobNumber(77))), "QS4020");
}

TEST_F(ReaderTest, KeepsTheLargestNoise_ByComputeAndEngine) {
  const std::vector<std::vector<Mutation>> batches = WholeSweep();
  double told = 4e-7;
  for (std::vector<Mutation> batch : batches) {
    for (Mutation& mutation : batch) {
      if (auto* result = std::get_if<ResultCommitted>(&mutation)) {
        result->compute = told > 3e-7 ? Compute::kFp32 : Compute::kBf16;
        result->report.mutable_noise()->set_nll_per_token(told);
        told -= 3e-7;
      }
    }
    QSWEEP_ASSERT_OK(store_->Commit(batch));
  }
  EXPECT_THAT(reader_->ReadJobRows(JobNumber(1), {})->noise_floors,
              ::testing::ElementsAre(4e-7));
}

// The configurations are the same by their digests, and so are the rows.
TEST_F(ReaderTest, GivesEachJobItsOwnSpelling_WhicheverCameFirst) {
  CommitWholeSweep();
  std::vector<Mutation> batch = SubmitBatch(2);
  std::erase_if(batch, [](const Mutation& mutation) {
    return std::holds_alternative<TaskAdded>(mutation) ||
           std::holds_alternative<JobTaskAdded>(mutation);
  });
  for (Mutation& mutation : batch) {
    if (auto* job = std::get_if<JobAdded>(&mutation)) {
      JobConfiguration& none = job->configurations[1];
      none.quantizer = "rtn:bits=8";
      none.layer_set = none.resolved = "L0-1:int4";
      none.unprotected = false;
      none.overhead_bytes = 0.25;
      JobConfiguration& single = job->configurations[2];
      single.layer_set = "attn@L0%+mlp@L0";
      single.resolved = "attn@L0+mlp@L0";
      single.single_layer.reset();
      single.overhead_layers = 0;
    }
  }
  QSWEEP_ASSERT_OK(store_->Commit(batch));
  // measurements_v1 knows no job; job_measurements_v1 is the jobs' own.
  EXPECT_EQ(
      Column("SELECT DISTINCT quantizer || ' ' || layer_set FROM "
             "measurements_v1 ORDER BY 1"),
      (std::vector<std::string>{"fp all", "rtn:bits=4 L0", "rtn:bits=4 none"}));
  EXPECT_EQ(Column("SELECT DISTINCT job || ' ' || layer_set || ' ' || written "
                   "FROM job_measurements_v1 ORDER BY 1"),
            (std::vector<std::string>{"1 L0 L0", "1 all all", "1 none none",
                                      "2 L0-1:int4 L0-1:int4", "2 all all",
                                      "2 attn@L0+mlp@L0 attn@L0%+mlp@L0"}));
  const auto first = reader_->ReadJobRows(JobNumber(1), {});
  QSWEEP_ASSERT_OK(first);
  EXPECT_EQ(first->configurations[1].resolved, "none");
  EXPECT_TRUE(first->configurations[1].unprotected);
  const auto second = reader_->ReadJobRows(JobNumber(2), {});
  QSWEEP_ASSERT_OK(second);
  EXPECT_EQ(second->rows.size(), 12u);
  ASSERT_EQ(second->configurations.size(), 3u);
  const JobConfiguration& none = second->configurations[1];
  EXPECT_EQ(none.quantizer, "rtn:bits=8");
  EXPECT_EQ(none.layer_set, "L0-1:int4");
  EXPECT_EQ(none.resolved, "L0-1:int4");
  EXPECT_FALSE(none.unprotected);
  EXPECT_EQ(none.overhead_bytes, 0.25);
  const JobConfiguration& single = second->configurations[2];
  EXPECT_EQ(single.layer_set, "attn@L0%+mlp@L0");
  EXPECT_EQ(single.resolved, "attn@L0+mlp@L0");
  EXPECT_EQ(single.single_layer, std::nullopt);
  EXPECT_EQ(single.overhead_layers, 0);

  const auto layer_sets = [this](int64_t job) {
    std::set<std::string> seen;
    for (const v1::MeasurementRow& row : Export(job)) {
      seen.insert(row.quantizer() + " " + row.layer_set());
    }
    return seen;
  };
  EXPECT_THAT(layer_sets(1), ::testing::ElementsAre("fp all", "rtn:bits=4 L0",
                                                    "rtn:bits=4 none"));
  EXPECT_THAT(layer_sets(2),
              ::testing::ElementsAre("fp all", "rtn:bits=4 attn@L0+mlp@L0",
                                     "rtn:bits=8 L0-1:int4"));
}

TEST_F(ReaderTest, ReadsArtifactsInParts) {
  CommitWholeSweep();
  const std::string bytes = SweepArtifact(1);
  std::string got;
  while (got.size() < bytes.size()) {
    const auto part = reader_->ReadArtifact(Digest::Of(bytes), got.size(), 30);
    QSWEEP_ASSERT_OK(part);
    EXPECT_EQ(part->total_size, bytes.size());
    ASSERT_FALSE(part->data.empty());
    got += part->data;
  }
  EXPECT_EQ(got, bytes);
  EXPECT_EQ(reader_->ReadArtifact(Digest::Of(bytes), 10'000, 30)->data, "");
  EXPECT_EQ(CodeOf(reader_->ReadArtifact(Digest::Of("x"), 0, 30)), "QS4041");
}

TEST_F(ReaderTest, FindsACorpusByNameOrDigest) {
  CommitWholeSweep();
  const auto by_digest = reader_->ReadCorpus(SweepCorpus().hex());
  QSWEEP_ASSERT_OK(by_digest);
  EXPECT_EQ((*by_digest)->digest(), SweepCorpus().bytes());
  const auto by_name = reader_->ReadCorpus((*by_digest)->name());
  QSWEEP_ASSERT_OK(by_name);
  EXPECT_EQ((*by_name)->digest(), SweepCorpus().bytes());
  EXPECT_EQ(CodeOf(reader_->ReadCorpus("other")), "QS2113");
  EXPECT_EQ(CodeOf(reader_->ReadCorpus(Digest::Of("other").hex())), "QS2113");
}

TEST_F(ReaderTest, RunsJobsOnItsThreads_AndThoseQueuedBeforeItEnds) {
  CommitWholeSweep();
  auto pool = ReaderPool::Start(directory_.path(), Clock::Real(), 2);
  QSWEEP_ASSERT_OK(pool);
  std::promise<bool> other_thread;
  const std::thread::id here = std::this_thread::get_id();
  QSWEEP_ASSERT_OK((*pool)->Post(ReadKind::kQuick, [&](Reader&) {
    other_thread.set_value(std::this_thread::get_id() != here);
  }));
  EXPECT_TRUE(other_thread.get_future().get());
  std::atomic<int> rows = 0;
  for (int i = 0; i < 20; ++i) {
    const ReadKind kind = i % 2 == 0 ? ReadKind::kQuick : ReadKind::kLong;
    QSWEEP_ASSERT_OK((*pool)->Post(kind, [&](Reader& reader) {
      rows +=
          static_cast<int>(reader.ReadJobRows(JobNumber(1), {})->rows.size());
    }));
  }
  pool->reset();
  EXPECT_EQ(rows, 20 * 12);
}

// Users take all the threads they can get, with reads of their two kinds.
TEST_F(ReaderTest, KeepsThreadsForWorkersAndSubmits_WhileUsersReadsWait) {
  auto pool = ReaderPool::Start(directory_.path(), Clock::Real(), 4);
  QSWEEP_ASSERT_OK(pool);
  std::promise<void> end;
  const std::shared_future<void> ended = end.get_future().share();
  std::atomic<int> long_ones = 0;
  std::atomic<int> shows = 0;
  const auto fill = [&](ReadKind kind, std::atomic<int>& begun) {
    absl::Status refused;
    int accepted = 0;
    while (refused.ok() && accepted < 5000) {
      refused = (*pool)->Post(kind, [&](Reader&) {
        ++begun;
        ended.wait();
      });
      accepted += refused.ok() ? 1 : 0;
    }
    EXPECT_EQ(CodeOf(refused), "QS4040");
    EXPECT_GE(accepted, 1000);
    EXPECT_LE(accepted, 1003);  // and those that run
  };
  const auto runs = [&](ReadKind kind) {
    std::promise<void> done;
    QSWEEP_ASSERT_OK((*pool)->Post(kind, [&](Reader&) { done.set_value(); }));
    done.get_future().wait();
  };
  fill(ReadKind::kLong, long_ones);
  runs(ReadKind::kShow);
  runs(ReadKind::kShow);
  EXPECT_LE(long_ones, 2);
  fill(ReadKind::kShow, shows);
  for (int i = 0; i < 3; ++i) {
    runs(ReadKind::kQuick);
  }
  EXPECT_LE(long_ones, 2);
  EXPECT_LE(long_ones + shows, 3);
  end.set_value();
  pool->reset();
  EXPECT_GE(long_ones, 1000);
  EXPECT_GE(shows, 1000);
}

TEST_F(ReaderTest, EndsAQuery_WhenItsCallerIsGone) {
  v1::QueryRequest request;
  request.set_sql(
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
      "SELECT max(i) FROM n");
  request.set_deadline_ms(60'000);
  int asked = 0;
  const auto answer =
      reader_->Query(request, [&asked] { return ++asked == 3; });
  EXPECT_TRUE(absl::IsCancelled(answer.status()));
  EXPECT_EQ(asked, 3);
}

TEST(Reader, SaysSo_WhenThereIsNoDatabase) {
  TempDir directory;
  EXPECT_FALSE(Reader::Open(directory.path(), Clock::Real()).ok());
}

}  // namespace
}  // namespace qsweep::testing
