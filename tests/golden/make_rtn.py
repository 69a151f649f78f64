"""Writes rtn.txt: what rounding to nearest makes of a small matrix, by NumPy.

NumPy's float16 rounds after each operation, its float32 does too, and np.rint
rounds halves to even, so this is the definition written a second time. First
line: the weights; then one line per mode. Floats as hexadecimal bits of fp32.
Run: python tests/golden/make_rtn.py > tests/golden/rtn.txt
"""
import itertools

import numpy as np

ROWS, COLS = 2, 14


def parameters(w, grid, sym, bits, scale_type):
    """Scale, zero, lowest and highest code of one group; the scale in w's type."""
    t = w.dtype.type
    levels = 2**bits - 1
    half = 2 ** (bits - 1)
    low, high = w.min(), w.max()
    store = lambda s: t(np.float16(s)) if scale_type == "fp16" else s
    if grid == "absmax" or (grid == "awq" and sym):
        peak = np.abs(w).max()
        if grid == "awq":
            peak = max(peak, t(1e-5))
        return store(t(peak / t(half - 1))), None, -half, half - 1
    if grid == "gptq":
        low, high = min(low, t(0)), max(high, t(0))
        if sym:
            high = max(np.abs(low), high)
            if low < 0:
                low = -high
        if low == 0 and high == 0:
            low, high = t(-1), t(1)
        scale = store(t(t(high - low) / t(levels)))
        zero = half if sym else int(np.clip(np.rint(t(-low / scale)), 0, levels))
    else:
        scale = store(t(max(t(high - low), t(1e-5)) / t(levels)))
        zero = int(np.clip(-np.rint(t(low / scale)), 0, levels))
    return scale, zero, 0, levels


def quantize_group(w, grid, sym, bits, scale_type):
    t = w.dtype.type
    scale, zero, lowest, highest = parameters(w, grid, sym, bits, scale_type)
    if grid == "absmax" and scale == 0:
        return w
    integer = np.rint((w / scale).astype(t))
    if zero is not None:
        integer = integer + t(zero)
    integer = np.clip(integer, lowest, highest).astype(t)
    if zero is not None:
        integer = integer - t(zero)
    return (integer * scale).astype(t)


def quantize(w, grid, sym, bits, gran, group, arith, scale_type):
    w = w.astype(np.float16 if arith == "fp16" else np.float32)
    if gran == "tensor":
        out = quantize_group(w.reshape(-1), grid, sym, bits, scale_type)
        return out.reshape(w.shape).astype(np.float32)
    step = w.shape[1] if gran == "channel" else group
    parts = [
        np.stack([quantize_group(row, grid, sym, bits, scale_type)
                  for row in w[:, i:i + step]])
        for i in range(0, w.shape[1], step)
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def hexadecimal(array):
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32).ravel()
    return " ".join(f"{int(b):08x}" for b in bits)


def main():
    rng = np.random.default_rng(20240607)
    w = rng.normal(0, 0.05, (ROWS, COLS)).astype(np.float32)
    w[0, 3] = 0.9  # an outlier
    w[1, 7:] = np.abs(w[1, 7:])  # a group of one sign
    print("weights", hexadecimal(w))
    for grid, sym in [("absmax", 1), ("gptq", 1), ("gptq", 0), ("awq", 1), ("awq", 0)]:
        # 5 leaves a short last group, which AWQ does not allow.
        group = 7 if grid == "awq" else 5
        for bits, gran, arith, scale in itertools.product(
                (2, 3, 4, 8), ("tensor", "channel", "group"), ("fp32", "fp16"),
                ("fp32", "fp16")):
            out = quantize(w, grid, sym, bits, gran, group, arith, scale)
            size = group if gran == "group" else 0
            print(grid, sym, bits, gran, size, arith, scale, hexadecimal(out))


if __name__ == "__main__":
    main()
