#!/usr/bin/env python3
"""The tiny run of the engine's benchmark: it ends well, both sides agree, and its JSON says what
docs/benchmarks.md promises. Its times say nothing."""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parent / "engine.py"
BIN = pathlib.Path(sys.argv.pop(1))


class EngineBench(unittest.TestCase):
    def test_both_sides_agree_when_tiny(self):
        with tempfile.TemporaryDirectory(prefix="qbench") as folder:
            run = subprocess.run([sys.executable, SCRIPT, "--tiny", "--bin", BIN, "--folder",
                                  f"{folder}/run", "--out", f"{folder}/out"],
                                 capture_output=True, text=True)
            self.assertEqual(run.returncode, 0, run.stderr)
            report = json.loads(pathlib.Path(folder, "out/engine.json").read_text())
        targets = report["targets"]
        for target in targets.values():
            self.assertLessEqual({"asked", "got", "met", "how"}, target.keys())
        self.assertTrue(targets["agrees with the earlier loop"]["met"], targets)
        good = targets["sweep against a good notebook"]["how"]
        self.assertLessEqual(float(re.search(r"differs by (\S+) at most", good)[1]), 1e-4)
        for figure in ("sweep against --naive", "head-light sweep against --naive",
                       "two workers of one thread against one"):
            self.assertIn("rows equal to the last bit", targets[figure]["got"])
        weights = 256 * 256
        for quantizer in ("rtn:bits=4,group=64", "rtn:bits=8,gran=channel", "nf4:group=64"):
            self.assertIn(f"{weights:,} of {weights:,} weights equal",
                          targets[f"{quantizer} over memcpy, one core"]["got"])
        codes = weights // 4
        self.assertIn(f"{codes:,} of {codes:,} codes equal",
                      targets["HQQ against eager PyTorch, one core"]["got"])
        self.assertIn("GPTQ 64 x 256 against eager PyTorch", targets)
        self.assertIn("anonymous memory of the sweep", targets)
        self.assertEqual(report["runs"]["sweep"][0]["layer_evaluations"],
                         report["runs"]["sweep"][0]["layer_evaluations_planned"])
        self.assertTrue(report["quick"])

    def test_refuses_a_figure_it_does_not_have(self):
        run = subprocess.run([sys.executable, SCRIPT, "--only", "T8"], capture_output=True, text=True)
        self.assertEqual(run.returncode, 2)
        self.assertIn("no such figure: T8", run.stderr)


if __name__ == "__main__":
    unittest.main()
