#include "coordinator/qctl/output/watch_view.h"

#include "gtest/gtest.h"

namespace qsweep::qctl {
namespace {

TEST(WatchView, NamesTheQuantizer_WhenThereAreSeveral) {
  WatchView view;
  view.languages = {"eng"};
  view.cells = {{"nf4", "none", {0.5}}, {"nf4", "L2", {0.25}}};
  EXPECT_EQ(RenderWatchCells(view, 9, {.width = 80}),
            "PROTECT         eng\n"
            "none         +0.500\n"
            "L2           +0.250\n");
  view.cells.insert(view.cells.begin(),
                    {"rtn:bits=4,group=128,sym=1,zero=x", "none", {1.5}});
  EXPECT_EQ(RenderWatchCells(view, 2, {.width = 80}),
            "PROTECT   QUANTIZER                       eng\n"
            "none      rtn:bits=4,g…sym=1,zero=x    +1.500\n"
            "none      nf4                          +0.500\n"
            "and 1 more configurations\n");
}

}  // namespace
}  // namespace qsweep::qctl
