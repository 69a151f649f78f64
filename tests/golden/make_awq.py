"""Writes awq.txt: what AWQ's steps make of some weights, in fp64.

As in the paper (Lin et al., arXiv 2306.00978) and its authors' program: column scales of a ratio, the limit of each
group, the codes. tests/oracle/awq_test.py uses the steps on real layers. Weights and inputs come from a generator
that tests/worker/kernels/awq_test.cc has, too; most weights are positive, since a group that is clipped at both
ends has a tie for its zero point (7.5 at 4 bits). A line per mode: bits, group, sym, index of the ratio, then the
scales, for each group the step that limits it, and the codes as hexadecimal digits. Run: python
tests/golden/make_awq.py
"""
import pathlib

import make_gptq
import numpy as np

ROWS, COLUMNS, SAMPLES, RATIOS, STEPS = 16, 128, 64, 20, 10


def sample():
    generator = make_gptq.Generator()
    weights = np.array([[(generator.next(2097153) - 262144) / 4194304 for _ in range(COLUMNS)] for _ in range(ROWS)])
    weights[:, ::37] *= 4
    inputs = np.zeros((SAMPLES, COLUMNS))
    for s in range(SAMPLES):
        before = 0
        for c in range(COLUMNS):
            own = generator.next(17) - 8
            inputs[s, c] = (own + before) * (9 if c % 8 == 0 else 1)
            before = own
    inputs[:, 5] = 0
    return weights, inputs


def column_scales(magnitudes, ratio):
    scales = np.maximum(magnitudes**ratio, 1e-4)
    scales = scales / np.sqrt(scales.max() * scales.min())
    return np.where(np.isfinite(scales), scales, 1)


def codes_of(groups, bits, sym):
    """Codes, scale and zero of weights [rows, groups, size]."""
    levels = 2**bits - 1
    if sym:
        scale = np.maximum(abs(groups).max(-1, keepdims=True), 1e-5) / (levels // 2)
        zero = np.full_like(scale, levels // 2 + 1)
    else:
        low, high = groups.min(-1, keepdims=True), groups.max(-1, keepdims=True)
        scale = np.maximum(high - low, 1e-5) / levels
        zero = np.clip(-np.rint(low / scale), 0, levels)
    return np.clip(np.rint(groups / scale) + zero, 0, levels), scale, zero


def values_of(groups, bits, sym):
    codes, scale, zero = codes_of(groups, bits, sym)
    return scale * (codes - zero)


def ties(groups, bits, sym):
    """Weights of groups whose zero point is a tie, as that of a group that is clipped at both ends: 7.5 at 4 bits."""
    if sym:
        return np.zeros(groups.shape, bool)
    low, high = groups.min(-1, keepdims=True), groups.max(-1, keepdims=True)
    exact = -low / np.maximum(high - low, 1e-5) * (2**bits - 1)
    return np.broadcast_to(abs(exact % 1 - 0.5) < 1e-4, groups.shape)


def limits(groups, inputs, bits, sym):
    """The best limit of each group, and its step. inputs: [samples, groups, size], over the column scales."""
    largest = abs(groups).max(-1, keepdims=True)
    errors = []
    for step in range(STEPS):
        limit = largest * (1 - step / 20)
        lost = groups - values_of(np.clip(groups, -limit, limit), bits, sym)
        errors.append((np.einsum("rgs,ngs->rgn", lost, inputs)**2).sum(-1))
    steps = np.argmin(errors, 0)
    return largest * (1 - steps[..., None] / 20), steps


def awq(weights, inputs, scales, bits, group, sym, clip=True):
    """Codes, values, steps and ties of a matrix; inputs: [samples, columns], or none: groups are not clipped."""
    rows, columns = weights.shape
    groups = (weights * scales).reshape(rows, -1, group or columns)
    steps = np.zeros(groups.shape[:2], int)
    if clip:
        limit, steps = limits(groups, (inputs / scales).reshape(len(inputs), -1, group or columns), bits, sym)
        groups = np.clip(groups, -limit, limit)
    codes = codes_of(groups, bits, sym)[0]
    values = values_of(groups, bits, sym).reshape(rows, columns) / scales
    return (codes.reshape(rows, columns).astype(int), values, steps,
            ties(groups, bits, sym).reshape(rows, columns))


def main():
    weights, inputs = sample()
    lines = []
    for bits, group, sym, index in [(4, 32, 0, 0), (4, 32, 0, 9), (3, 64, 0, 14), (3, 32, 1, 5), (4, 0, 0, 3)]:
        scales = column_scales(abs(inputs).mean(0), index / RATIOS)
        codes, _, steps, _ = awq(weights, inputs, scales, bits, group, sym)
        lines.append(f"{bits} {group} {sym} {index} " + " ".join(f"{s:.9g}" for s in scales) + " " +
                     "".join(map(str, steps.ravel())) + " " + "".join(f"{c:x}" for c in codes.ravel()))
    path = pathlib.Path(__file__).parent / "awq.txt"
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
