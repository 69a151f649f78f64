"""Every file of deploy/experiments is planned and, a document of each language, run.

    build/venv/bin/python tests/e2e/experiments_test.py BIN_DIR

The models are tiny, of random weights, and as deep as those that the files name.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/bench"))
import random_llama  # noqa: E402

LANGUAGES = "eng,heb,arb,cmn_hans,deu_1996,fra"
DEPTHS = {"Llama-2-7b-hf": 32, "TinyLlama-1.1B": 22, "SmolLM2-135M": 30}
# Configurations with the baseline, and languages.
EXPECTED = {"01_quick_validation": (1 + 4, 4), "02_layer_sweep": (1 + 1 + 32, 4),
            "03_real_gptq": (1 + 2, 6), "04_cross_model": (3 * (1 + 2 * 3), 4)}


class Cluster:
    def __init__(self, binaries, folder):
        self.binaries, self.folder = pathlib.Path(binaries).resolve(), folder
        self.environment = os.environ | {
            "PATH": f"{self.binaries}:{os.environ['PATH']}", "QCTL_DIR": str(folder / "cluster"),
            "XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}

    def run(self, program, *arguments):
        done = subprocess.run([program, *map(str, arguments)], env=self.environment, encoding="utf-8",
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise SystemExit(f"{program} {' '.join(map(str, arguments))}: {done.returncode}\n{done.stderr}")
        return done.stdout

    def make_models(self):
        models = self.folder / "models"
        for name, layers in DEPTHS.items():
            random_llama.write(models / name, random_llama.TINY | dict(
                layers=layers, hidden=32, intermediate=64, heads=4, kv_heads=2, context=4096), "F16")
        self.run("qengine", "quantize", "--model", models / "Llama-2-7b-hf", "--out", models / "Llama-2-7B-GPTQ",
                 "--quantizer", "rtn:bits=4,group=32,scale=fp16", "--format", "gptq")

    def add_corpora(self):
        self.run("qctl", "corpora", "add", "udhr", ROOT / "build/data/udhr", "--languages", LANGUAGES)
        texts = self.folder / "calibration.json"
        texts.write_text(json.dumps({"eng": [f"number {i} of many: {i * i}" for i in range(40)]}))
        self.run("qctl", "corpora", "add", "calibration", texts)

    def try_experiment(self, file):
        spec = self.folder / file.name
        spec.write_text(file.read_text().replace("/models/", f"{self.folder}/models/"))
        configurations, languages = EXPECTED[file.stem]
        plan = json.loads(self.run("qctl", "submit", "-f", spec, "--dry-run", "-o", "json"))["items"][0]["plan"]
        assert plan["configurations"] == configurations, plan
        assert plan["languages"] == languages, plan
        assert plan["measurements"] == plan["documents"] * configurations, plan
        self.run("qctl", "submit", "-f", spec, "--set", "evals=[{eval: hf-text, samples: 1}]", "--wait")
        name = file.stem[3:].replace("_", "-")
        rows = self.run("qctl", "export", name, "--format", "csv").splitlines()
        assert len(rows) == 1 + configurations * languages, rows[:2]
        print(f"{file.name}: {plan['measurements']} measurements planned, {len(rows) - 1} made")


def main():
    files = sorted((ROOT / "deploy/experiments").glob("*.yaml"))
    assert [file.stem for file in files] == list(EXPECTED), files
    with tempfile.TemporaryDirectory(prefix="qsweep_", dir="/tmp") as folder:
        cluster = Cluster(sys.argv[1], pathlib.Path(folder))
        cluster.make_models()
        cluster.run("qctl", "up", "--workers", 1, "--threads", 1)
        try:
            cluster.add_corpora()
            for file in files:
                cluster.try_experiment(file)
        finally:
            cluster.run("qctl", "down")


if __name__ == "__main__":
    main()
