#!/usr/bin/env python3
"""The kernels' library holds machine code of every GPU it promises, and PTX for newer ones.

    python3 tests/worker/kernels/architectures_test.py build/release/bin
"""
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import unittest

LIBRARY = pathlib.Path(sys.argv[1]).parent / "worker/kernels/libqsweep_kernels_cuda.a"
FOLDER = pathlib.Path(__file__).resolve().parents[3] / "worker/kernels"
MACHINE_CODE = {75, 80, 86, 89, 90}
PTX = {75}
KIND_PTX, KIND_ELF = 1, 2


def images(data):
    """(kind, architecture) lists, one for each fat binary in the bytes.

    A fat binary is a header (magic, version, header size, size of the rest) and images, each with a
    header of its own: kind, version, header size, size, ..., and the architecture in its 8th word.
    """
    start = data.find(b"\x50\xed\x55\xba")
    while start >= 0:
        version, header, size = struct.unpack_from("<HHQ", data, start + 4)
        if version == 1 and header == 16:
            found, at = [], start + header
            while at < start + header + size:
                kind, _, image_header, image_size = struct.unpack_from("<HHIQ", data, at)
                found.append((kind, struct.unpack_from("<I", data, at + 28)[0]))
                at += image_header + image_size
            yield found
        start = data.find(b"\x50\xed\x55\xba", start + 4)


@unittest.skipUnless(LIBRARY.exists(), "kernels not compiled: no nvcc")
class Architectures(unittest.TestCase):
    def test_every_kernel_file_has_all(self):
        binaries = list(images(LIBRARY.read_bytes()))
        self.assertEqual(len(binaries), len(list(FOLDER.glob("*.cu"))))
        for found in binaries:
            self.assertEqual({a for kind, a in found if kind == KIND_ELF}, MACHINE_CODE)
            self.assertEqual({a for kind, a in found if kind == KIND_PTX}, PTX)

    @unittest.skipUnless(shutil.which("cuobjdump"), "no cuobjdump")
    def test_cuobjdump_agrees(self):
        listed = subprocess.run(["cuobjdump", "--list-elf", str(LIBRARY)], check=True,
                                capture_output=True, text=True).stdout
        self.assertEqual({int(a) for a in re.findall(r"\.sm_(\d+)\.cubin", listed)}, MACHINE_CODE)


if __name__ == "__main__":
    if not LIBRARY.exists():
        print("kernels not compiled: no nvcc")
    unittest.main(argv=sys.argv[:1])
