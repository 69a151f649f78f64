#!/usr/bin/env python3
"""report_skipped.py sees every way to skip, and which of them a run as root forbids."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
from xml.sax.saxutils import escape

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "report_skipped.py"


def googletest(case, why):
    return (f"[ RUN      ] {case}\n/a/b_test.cc:7: Skipped\n{why}\n\n[  SKIPPED ] {case} (0 ms)\n"
            f"[  SKIPPED ] 1 test, listed below:\n[  SKIPPED ] {case}\n")


class ReportSkipped(unittest.TestCase):
    def report(self, output, *, label="unit", status="run", strict=True):
        """Exit status and text for a run of one test, "t"."""
        with tempfile.TemporaryDirectory() as folder:
            junit, ctest = pathlib.Path(folder, "junit.xml"), pathlib.Path(folder, "ctest.json")
            junit.write_text(f'<testsuite><testcase name="t" status="{status}"><system-out>'
                             f"{escape(output)}</system-out></testcase></testsuite>")
            ctest.write_text(json.dumps({"tests": [
                {"name": "t", "properties": [{"name": "LABELS", "value": [label]}]}]}))
            run = subprocess.run([sys.executable, SCRIPT, junit, ctest] +
                                 ["--strict"] * strict, capture_output=True, text=True, check=False)
            return run.returncode, run.stdout

    def test_passes_a_run_of_everything(self):
        self.assertEqual(self.report("[       OK ] A.B (0 ms)\n"), (0, "skipped: nothing\n"))

    def test_forbids_every_way_to_skip(self):
        for output, status, what in ((googletest("A.B", "no device"), "run", "t: A.B: no device"),
                                     (googletest("P/A.B/Real", ""), "run", "t: P/A.B/Real"),
                                     ("OK (skipped=3)\n", "run", "t: 3 of its unittest cases"),
                                     ("", "notrun", "t: all of it")):
            with self.subTest(what):
                code, text = self.report(output, status=status)
                self.assertEqual(code, 1)
                self.assertIn(what, text)
                self.assertEqual(self.report(output, status=status, strict=False)[0], 0)

    def test_allows_what_the_build_leaves_out(self):
        code, text = self.report(googletest("A.B", "not in this build: no libtorch"))
        self.assertEqual(code, 0)
        self.assertIn("t: A.B: not in this build: no libtorch", text)

    def test_forbids_one_beside_what_the_build_leaves_out(self):
        code, _ = self.report(googletest("A.B", "not in this build: no libtorch") +
                              googletest("A.C", "no device"))
        self.assertEqual(code, 1)

    def test_allows_what_needs_a_gpu(self):
        self.assertEqual(self.report(googletest("A.B", "no device"), label="gpu")[0], 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
