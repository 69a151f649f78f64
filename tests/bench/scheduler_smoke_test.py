#!/usr/bin/env python3
"""The quick run of the scheduler's benchmark: it ends well, so the rows in its databases are those
that were submitted, and its JSON says what docs/benchmarks.md promises."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parent / "scheduler.py"
BIN = pathlib.Path(sys.argv.pop(1))


class SchedulerBench(unittest.TestCase):
    def test_writes_figures_and_counts_when_quick(self):
        with tempfile.TemporaryDirectory(prefix="qbench") as folder:
            run = subprocess.run([sys.executable, SCRIPT, "--quick", "--bin", BIN, "--folder",
                                  f"{folder}/run", "--out", f"{folder}/out"],
                                 capture_output=True, text=True)
            self.assertEqual(run.returncode, 0, run.stderr)
            report = json.loads(pathlib.Path(folder, "out/scheduler.json").read_text())
            self.assertEqual(len(list(pathlib.Path(folder, "out").glob("scheduler-*Z.json"))), 1)
        for figure in ("T1", "T2", "T3", "T6", "T11"):
            self.assertLessEqual({"asked", "got", "met", "how"}, report["targets"][figure].keys())
            self.assertIn(figure, run.stdout)
        for key in ("cpu", "cores", "kernel", "file_system", "fdatasync_us", "revision", "date"):
            self.assertIn(key, report["environment"])
        # 400 tasks and 16 before them, of 8 rows each.
        for name in ("throughput", "synced", "unsynced"):
            self.assertEqual(report["runs"][name][0]["counted"], {
                "tasks_done": 416, "measurements": 3328, "leases": 416, "duplicates": 0})
        self.assertEqual(report["runs"]["submit_large"][0]["counted"], {"tasks_queued": 2000})
        self.assertEqual(report["runs"]["restart"][0]["recomputed"], 0)
        latency = report["runs"]["throughput"][0]["result_to_lease"]
        self.assertEqual(sum(latency["histogram"]), latency["count"])
        self.assertGreater(latency["count"], 0)

    def test_refuses_a_figure_it_does_not_have(self):
        run = subprocess.run([sys.executable, SCRIPT, "--only", "T8"], capture_output=True, text=True)
        self.assertEqual(run.returncode, 2)
        self.assertIn("no such figure: T8", run.stderr)


if __name__ == "__main__":
    unittest.main()
