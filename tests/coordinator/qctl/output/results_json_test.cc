#include "coordinator/qctl/output/results_json.h"

#include <limits>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "coordinator/qctl/output/output.h"
#include "tests/coordinator/qctl/output/sample_results.h"

namespace qsweep::qctl {
namespace {

using Json = nlohmann::json;

TEST(ResultsDocument, HasTheQctlShape) {
  const Json json = Json::parse(JsonText(ResultsDocument(SampleResults())));
  EXPECT_EQ(json["schema"], "qctl/v1");
  EXPECT_EQ(json["kind"], "Results");
  EXPECT_EQ(json["job"]["id"], "7f7f7f7f-7f7f-7f7f-7f7f-7f7f7f7f7f7f");
  EXPECT_EQ(json["job"]["number"], "12");
  EXPECT_EQ(json["seed"], "7");
  ASSERT_EQ(json["items"].size(), 1u);
  const Json& panel = json["items"][0];
  EXPECT_EQ(panel["languages"].size(), 4u);
  EXPECT_EQ(panel["configurations"].size(), 6u);
  const Json& cell = panel["configurations"][2]["cells"][2];
  EXPECT_EQ(cell["language"], "rus");
  EXPECT_DOUBLE_EQ(cell["recovery"]["value"].get<double>(), 0.2);
  EXPECT_EQ(cell["recovery"]["status"], "ok");
  EXPECT_DOUBLE_EQ(cell["gap_bits_per_unit"]["low"].get<double>(), 12);
}

TEST(ResultsDocument, GivesNullAndAReason_WhereANumberDoesNotExist) {
  v1::GetResultsResponse results = SampleResults();
  v1::CellResult* cell =
      results.mutable_panels(0)->mutable_configurations(2)->mutable_cells(1);
  cell->set_ppl(std::numeric_limits<double>::infinity());
  cell->clear_kl_per_token();
  const Json json = Json::parse(JsonText(ResultsDocument(results)));
  const Json& configurations = json["items"][0]["configurations"];
  const Json& changed = configurations[2]["cells"][1];
  EXPECT_TRUE(changed["ppl"].is_null());
  EXPECT_EQ(changed["ppl_status"], "overflow");
  EXPECT_TRUE(changed["kl_per_token"].is_null());
  EXPECT_EQ(changed["kl_per_token_status"], "undefined");
  EXPECT_EQ(configurations[2]["cells"][0]["disparity_status"], "reference");
  const Json& unlearned = configurations[2]["cells"][3]["recovery"];
  EXPECT_TRUE(unlearned["value"].is_null());
  EXPECT_EQ(unlearned["status"], "unlearned");
  EXPECT_TRUE(configurations[1]["rank"].is_null());
}

}  // namespace
}  // namespace qsweep::qctl
