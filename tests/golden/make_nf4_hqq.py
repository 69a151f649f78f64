"""Writes nf4.txt and hqq.txt: what bitsandbytes and HQQ make of some weights.

Lines "weights HEX...", then per mode its name and parameters followed by what
the package returned; floats as hexadecimal bits of fp32. Neither package is
installed by the set-up; made with bitsandbytes 0.50.2 and hqq 0.2.8 on a CPU.
Run: pip install bitsandbytes hqq; python tests/golden/make_nf4_hqq.py
"""
import pathlib

import bitsandbytes.functional
import numpy
import torch
from hqq.core.quantize import Quantizer

FOLDER = pathlib.Path(__file__).parent


def hexadecimal(tensor):
    bits = tensor.detach().contiguous().reshape(-1).numpy().view(numpy.uint32)
    return " ".join(f"{b:x}" for b in bits)


def sample():
    """40 groups of 64: plain, shifted, tiny, constant, with outliers, large."""
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(40, 64, generator=generator) * 0.05
    weights[5] += 0.3
    weights[6] *= 1e-4
    weights[7] = 0.02
    weights[8, 3] = 4.0
    weights[9] *= 40
    weights[10] = weights[10].abs()
    weights[11] *= 300
    return weights


def write_nf4(weights):
    lines = [f"weights {hexadecimal(weights)}"]
    for group in (64, 256):
        for double in (0, 1):
            packed, state = bitsandbytes.functional.quantize_4bit(
                weights.reshape(-1), blocksize=group, quant_type="nf4", compress_statistics=bool(double))
            packed = packed.reshape(-1)
            codes = torch.stack([packed >> 4, packed & 15], 1).reshape(-1)
            values = bitsandbytes.functional.dequantize_4bit(packed.reshape(-1, 1), state)
            lines.append(f"{group} {double} " + "".join(f"{c:x}" for c in codes.tolist())
                         + " " + hexadecimal(values))
    (FOLDER / "nf4.txt").write_text("\n".join(lines) + "\n")


def write_hqq(weights):
    lines = [f"weights {hexadecimal(weights)}"]
    for bits in (4, 2, 3, 8):
        for axis in (1, 0):
            for round_zero in (1, 0):
                codes, meta = Quantizer.quantize(
                    weights.reshape(64, -1), nbits=bits, group_size=64, optimize=True,
                    round_zero=bool(round_zero), axis=axis, bitpack=False, device="cpu")
                lines.append(f"{bits} {axis} {round_zero} " + hexadecimal(meta["scale"]) + " | "
                             + hexadecimal(meta["zero"]) + " | "
                             + " ".join(str(int(c)) for c in codes.reshape(-1).tolist()))
    (FOLDER / "hqq.txt").write_text("\n".join(lines) + "\n")


write_nf4(sample())
write_hqq(sample())
