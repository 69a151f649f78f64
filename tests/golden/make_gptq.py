"""Writes gptq.txt: what GPTQ's algorithm makes of some weights, in fp64.

tests/oracle/gptq_test.py uses the algorithm on what real layers read. Step by step as in the paper
(Frantar et al., arXiv 2210.17323) and its authors' program: damp, invert, factor the inverse, quantize
column by column, correct the block, then the rest. Weights and inputs come
from a generator that tests/worker/kernels/gptq_test.cc has, too; their products are exact in fp32. Outliers
are positive: a symmetric grid has a tie at the negative end, where fp32 and fp64 part for the rest of the row. A line
per mode: bits, group (0: a row), sym, act_order, static_groups, the error over the weights' Hessian
norm, the codes as hexadecimal digits. Run: python tests/golden/make_gptq.py
"""
import pathlib

import numpy as np
import torch

ROWS, COLUMNS, SAMPLES, BLOCK, DAMP = 64, 256, 512, 128, 0.01
DEAD = (5, 77)


class Generator:
    def __init__(self):
        self.state = 1

    def next(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n


def sample():
    generator = Generator()
    weights = np.zeros((ROWS, COLUMNS))
    for r in range(ROWS):
        for c in range(COLUMNS):
            weights[r, c] = (generator.next(2097153) - 1048576) / 4194304
            if c % 37 == 0:
                weights[r, c] = 4 * abs(weights[r, c])
    inputs = np.zeros((SAMPLES, COLUMNS))
    for s in range(SAMPLES):
        shared, before = generator.next(7) - 3, 0
        for c in range(COLUMNS):
            own = generator.next(17) - 8
            inputs[s, c] = (own + before + 2 * shared) * (3 if c % 8 == 0 else 1)
            before = own
    inputs[:, DEAD] = 0
    return weights, 2 / SAMPLES * inputs.T @ inputs


def to_tie(numbers):
    """How far they are from where rounding turns."""
    return np.abs(numbers - np.floor(numbers) - 0.5)


def parameters(weights, bits, sym):
    """Scale and zero of each row, and how far the zero is from a tie."""
    low, high = weights.min(1).clip(max=0), weights.max(1).clip(min=0)
    if sym:
        high = np.maximum(-low, high)
        low = np.where(low < 0, -high, low)
    none = (low == 0) & (high == 0)
    low, high = np.where(none, -1, low), np.where(none, 1, high)
    scale = (high - low) / (2**bits - 1)
    if sym:
        return scale, np.full_like(scale, 2 ** (bits - 1)), np.full_like(scale, 0.5)
    return scale, np.rint(-low / scale), to_tie(-low / scale)


def upper_factor(hessian, damp):
    damped = torch.tensor(hessian + damp * np.mean(np.diag(hessian)) * np.eye(len(hessian)))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).numpy()


def gptq(original, hessian, bits, group, sym, act_order, static_groups, damp=DAMP):
    """Codes and values of a matrix in fp64, how far each code is from another, and the order of the columns.

    How far: in steps, from a tie of its own rounding or of its group's zero.
    """
    rows, columns = original.shape
    hessian, weights = hessian.copy(), original.copy()
    dead = np.diag(hessian) == 0
    hessian[dead, dead] = 1
    weights[:, dead] = 0
    order = np.argsort(-np.diag(hessian), kind="stable") if act_order else np.arange(columns)
    weights, hessian = weights[:, order], hessian[order][:, order]
    upper = upper_factor(hessian, damp)
    width = group or columns
    fixed = [parameters(original[:, g:g + width], bits, sym) for g in range(0, columns, width)]
    codes, values, ties = np.zeros(weights.shape, int), np.zeros(weights.shape), np.zeros(weights.shape)
    for begin in range(0, columns, BLOCK):
        end = min(begin + BLOCK, columns)
        block, errors = weights[:, begin:end].copy(), np.zeros((rows, end - begin))
        for i in range(begin, end):
            if static_groups or not group:
                scale, zero, zero_tie = fixed[order[i] // width]
            elif i % group == 0:
                scale, zero, zero_tie = parameters(weights[:, i:i + group], bits, sym)
            w = block[:, i - begin].copy()
            codes[:, i] = np.clip(np.rint(w / scale) + zero, 0, 2**bits - 1)
            ties[:, i] = np.minimum(to_tie(w / scale), zero_tie)
            values[:, i] = scale * (codes[:, i] - zero)
            errors[:, i - begin] = (w - values[:, i]) / upper[i, i]
            block[:, i - begin:] -= np.outer(errors[:, i - begin], upper[i, i:end])
        weights[:, end:] -= errors @ upper[begin:end, end:]
    back = np.argsort(order)
    return codes[:, back], values[:, back], ties[:, back], order


def main():
    weights, hessian = sample()
    lines = []
    for mode in [(4, 64, 1, 0, 0), (4, 64, 0, 0, 0), (3, 0, 1, 0, 0), (2, 96, 1, 0, 0),
                 (4, 64, 1, 1, 0), (4, 64, 0, 1, 1)]:
        codes, values, _, _ = gptq(weights, hessian, *mode)
        lost = weights - values
        error = np.trace(lost @ hessian @ lost.T) / np.trace(weights @ hessian @ weights.T)
        lines.append(" ".join(map(str, mode)) + f" {float(error)!r} " + "".join(f"{c:x}" for c in codes.ravel()))
    path = pathlib.Path(__file__).parent / "gptq.txt"
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
