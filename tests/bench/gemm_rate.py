#!/usr/bin/env python3
"""Prints the rate of PyTorch's matrix products on a GPU, in TFLOP/s, as JSON: {"fp32": .., "fp16": ..}.

The products of a block of Llama-2-7B over 2,560 rows, in turn; fp32 without TF32, fp16 with sums in fp32.
"""
import json
import statistics

import torch

ROWS = 2560
PRODUCTS = [(4096, 4096)] * 4 + [(4096, 11008)] * 2 + [(11008, 4096)]  # inputs, outputs
WARM_UPS, RUNS = 3, 20


def rate(dtype):
    pairs = [(torch.randn(ROWS, inputs, device="cuda").to(dtype),
              torch.randn(outputs, inputs, device="cuda").to(dtype)) for inputs, outputs in PRODUCTS]
    seconds = []
    for run in range(-WARM_UPS, RUNS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for states, weights in pairs:
            states @ weights.T
        end.record()
        end.synchronize()
        if run >= 0:
            seconds.append(begin.elapsed_time(end) / 1e3)
    flops = sum(2 * ROWS * inputs * outputs for inputs, outputs in PRODUCTS)
    return flops / statistics.median(seconds) / 1e12


def main():
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    print(json.dumps({"fp32": rate(torch.float32), "fp16": rate(torch.float16)}))


if __name__ == "__main__":
    main()
