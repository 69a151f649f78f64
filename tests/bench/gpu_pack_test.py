#!/usr/bin/env python3
"""What `deploy/gpu_check.sh --pack` packs: small enough, complete, and nothing of this machine.

    python3 tests/bench/gpu_pack_test.py build/release/bin
"""
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOP = "qsweep-gpu-check/"
MAX_BYTES = 50 << 20
# What the build of the engine alone looks for.
HEADERS = ("absl/status/status.h", "simdjson.h", "spdlog/spdlog.h", "fmt/format.h", "nlohmann/json.hpp",
           "CLI/CLI.hpp", "pcre2.h", "unicode/uchar.h", "openssl/evp.h", "openssl/configuration.h",
           "gtest/gtest.h", "gmock/gmock.h")
LIBRARIES = ("libabsl_status.so", "libsimdjson.so", "libspdlog.so", "libfmt.so", "libpcre2-8.a", "libicuuc.a",
             "libicudata.a", "libcrypto.a", "libgtest.a", "libgtest_main.a", "libgmock.a")


class Pack(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.file = pathlib.Path(cls.folder.name) / "check.tar.gz"
        done = subprocess.run(["bash", "deploy/gpu_check.sh", "--pack", str(cls.file)], cwd=ROOT,
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        cls.tar = tarfile.open(cls.file)
        cls.names = {name.removeprefix(TOP) for name in cls.tar.getnames()}

    @classmethod
    def tearDownClass(cls):
        cls.tar.close()
        cls.folder.cleanup()

    def test_is_small(self):
        self.assertLess(self.file.stat().st_size, MAX_BYTES)

    def test_has_the_sources(self):
        listed = subprocess.run(["git", "ls-files", "common/base", "common/job", "worker/engine",
                                 "worker/kernels", "worker/model", "tests/bench", "deploy/cmake"],
                                cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        self.assertEqual([name for name in listed if name not in self.names], [])
        self.assertIn("REVISION", self.names)

    def test_has_headers_and_libraries(self):
        packed = [name.removeprefix("packed/") for name in self.names if name.startswith("packed/")]
        self.assertEqual([name for name in HEADERS if f"include/{name}" not in packed], [])
        libraries = {pathlib.Path(name).name for name in packed if name.startswith("lib/")}
        self.assertEqual([name for name in LIBRARIES if name not in libraries], [])

    def test_links_lead_to_what_is_packed(self):
        for member in self.tar.getmembers():
            if member.issym():
                folder = pathlib.PurePosixPath(member.name).parent
                self.assertIn(str(folder / member.linkname).removeprefix(TOP), self.names)

    def test_every_library_that_a_cmake_file_names_is_packed(self):
        for name in self.names:
            if not re.search(r"packed/lib/.*/cmake/.*\.cmake$", name):
                continue
            text = self.tar.extractfile(TOP + name).read().decode()
            for file in re.findall(r"\$\{_IMPORT_PREFIX\}/(lib/[\w./+-]+\.(?:so|a)[\w.]*)", text):
                self.assertIn("packed/" + file, self.names, name)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
