#!/usr/bin/env python3
"""What the engine does on a GPU compiles, where there is nvcc but no libtorch with CUDA to build it with.

    python3 tests/worker/engine/cuda_sources_test.py build/release/bin

The compiler checks each file as it checks those that are built. CPU libtorch has all headers but one.
"""
import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv[1]).parent
ROOT = pathlib.Path(__file__).resolve().parents[3]
GENERATED = "c10/cuda/impl/cuda_cmake_macros.h"  # by a CUDA build of PyTorch; says how c10 was linked


def cuda_headers():
    cache = (BUILD / "CMakeCache.txt").read_text()
    for line in cache.splitlines():
        if line.startswith("QSWEEP_CUDART:"):
            for folder in pathlib.Path(line.partition("=")[2]).parents:
                if (folder / "include/cuda_runtime_api.h").exists():
                    return folder / "include"
    return None


def command_of_the_engine():
    """How a file of worker/engine is compiled with libtorch, without what it is compiled to."""
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        if "qsweep_worker_engine.dir" in entry["command"]:
            words = [w for w in shlex.split(entry["command"]) if not w.endswith("ccache")]
            for option in ("-include", "-o", "-c"):
                if option in words:
                    at = words.index(option)
                    del words[at:at + 2]
            return [w for w in words if w not in ("-Winvalid-pch", "-fpch-preprocess")]
    return None


HEADERS, COMMAND = cuda_headers(), command_of_the_engine()


@unittest.skipUnless(HEADERS and COMMAND, "no nvcc, or the engine is not built")
class CudaSources(unittest.TestCase):
    def test_they_compile(self):
        with tempfile.TemporaryDirectory() as folder:
            generated = pathlib.Path(folder) / GENERATED
            generated.parent.mkdir(parents=True)
            generated.touch()

            def errors(path):
                result = subprocess.run(COMMAND + ["-fsyntax-only", "-isystem", HEADERS, "-isystem", folder, path],
                                        capture_output=True, text=True)
                return result.stderr if result.returncode else ""

            sources = sorted((ROOT / "worker/engine").glob("cuda_*.cc"))
            self.assertGreater(len(sources), 5)
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                for path, text in zip(sources, pool.map(errors, sources)):
                    self.assertEqual(text, "", path)


if __name__ == "__main__":
    if not (HEADERS and COMMAND):
        print("device path not compiled: no nvcc, or no libtorch")
    unittest.main(argv=sys.argv[:1])
