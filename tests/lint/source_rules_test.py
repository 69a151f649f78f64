#!/usr/bin/env python3
"""Each rule of source_rules.py catches what it is for, and lets right code pass."""
import sys
import unittest

import source_rules

GOOD_HEADER = ("#ifndef QSWEEP_COMMON_BASE_A_H_\n#define QSWEEP_COMMON_BASE_A_H_\n"
               "// A thing.\nclass A {};\n#endif\n")



class SourceRules(unittest.TestCase):
    def one(self, path, text, expected):
        found = source_rules.check({path: text})
        self.assertEqual(len(found), 1, found)
        self.assertIn(expected, found[0])

    def test_passes_right_code(self):
        self.assertEqual(source_rules.check({
            "common/base/a.h": GOOD_HEADER,
            "coordinator/core/lease.cc": '#include "common/base/ids.h"\n',
            "worker/engine/decoder.cc": '#include <ATen/ops/mm.h>\n#include "common/base/a.h"\n',
        }), [])

    def test_finds_a_forbidden_edge(self):
        self.one("coordinator/qctl/main.cc", '#include "coordinator/core/state.h"\n', "may not include")
        self.one("common/base/a.cc", '#include "common/job/expand.h"\n', "may not include")
        self.one("worker/kernels/rtn.cc", '#include "qsweep/v1/job.pb.h"\n', "protobuf")

    def test_finds_torch_and_grpc_in_the_wrong_place(self):
        self.one("worker/sweep/trie_x.cc", "#include <ATen/Tensor.h>\n", "torch outside")
        self.one("coordinator/loop.cc", "#include <grpcpp/grpcpp.h>\n", "grpc outside")

    def test_finds_more_than_plain_types_in_a_kernel(self):
        self.one("worker/kernels/rtn.cu", '#include "absl/status/status.h"\n', "a .cu file")
        self.one("worker/kernels/rtn.cu", '#include "common/base/error.h"\n', "a .cu file")
        self.assertEqual(source_rules.check({
            "worker/kernels/rtn.cu": '#include <bit>\n#include <cstdint>\n#include "worker/kernels/rtn.h"\n'}), [])

    def test_finds_torch_that_meets_protobuf_through_a_header(self):
        found = source_rules.check({
            "worker/engine/torch_engine.cc": '#include <ATen/Tensor.h>\n#include "worker/engine/e.h"\n',
            "worker/engine/e.h": "#ifndef QSWEEP_WORKER_ENGINE_E_H_\n"
                                 '#include "qsweep/v1/task.pb.h"\n',
        })
        self.assertEqual(found, ["worker/engine/torch_engine.cc: includes torch, and protobuf "
                                 "through worker/engine/e.h"])

    def test_finds_impure_core(self):
        self.one("coordinator/core/lease.cc", "#include <mutex>\n", "pure part")

    def test_finds_bad_lines(self):
        self.one("worker/agent/agent.cc", "auto t = absl::Now();\n", "real time")
        self.one("common/base/a.h", GOOD_HEADER + "std::string_view s;\n", "string_view")
        self.one("worker/agent/agent.cc", "absl::optional<int> s;\n", "std has")
        self.one("worker/agent/agent.cc", "std::cout << 1;\n", "std::cout")
        self.one("worker/agent/agent.cc", "// TO" "DO: later\n", "unfinished")
        self.one("coordinator/service/a.cc", 'x("SELECT a FROM b");\n', "SQL outside")
        self.one("tests/e2e/a_test.cc", "absl::SleepFor(x);\n", "sleeps")

    def test_finds_long_files_wrong_guards_and_bare_classes(self):
        self.one("common/base/a.cc", "\n" * 801, "801 lines")
        self.one("common/base/a.h", "#ifndef A_H\n", "include guard")
        self.one("common/base/a.h", GOOD_HEADER.replace("// A thing.\n", "\n"), "no comment")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
