#include "coordinator/qctl/commands/watcher.h"

#include <algorithm>
#include <sstream>
#include <string>

#include "gtest/gtest.h"

namespace qsweep::qctl {
namespace {

int64_t NumLines(const std::ostringstream& out) {
  const std::string text = out.str();
  return std::count(text.begin(), text.end(), '\n');
}

TEST(WatchLines, SayLittleOfAJobOfManyTasks) {
  std::ostringstream out;
  WatchLines lines(out);
  absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  WatchView view;
  view.title = "job 1";
  view.state = "running";
  view.tasks_total = 4000;
  lines.Add(view, now);
  EXPECT_EQ(NumLines(out), 1);
  for (; view.tasks_done < 3999; ++view.tasks_done) {
    now += absl::Milliseconds(1);
    lines.Add(view, now);
    lines.Add(view, now);
  }
  EXPECT_EQ(NumLines(out), 100);
  ++view.tasks_done;
  view.state = "succeeded";
  lines.Add(view, now);
  EXPECT_EQ(NumLines(out), 101);
  EXPECT_NE(out.str().find("job 1 succeeded"), std::string::npos);
  EXPECT_NE(out.str().find("tasks 4000/4000"), std::string::npos);
}

TEST(WatchLines, ShowThatAJobLives) {
  std::ostringstream out;
  WatchLines lines(out);
  absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  WatchView view;
  view.tasks_total = 2;
  for (int second = 0; second < 100; ++second) {
    lines.Add(view, now);
    now += absl::Seconds(1);
  }
  EXPECT_EQ(NumLines(out), 10);
}

}  // namespace
}  // namespace qsweep::qctl
