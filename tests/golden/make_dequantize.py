"""Writes dequantize.txt: random blocks and what the gguf package makes of them.

A line per block: type, its bytes in hexadecimal, its values as hexadecimal bits
of fp32. Run: python tests/golden/make_dequantize.py > tests/golden/dequantize.txt
"""
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

# Where the fp16 scales of a block lie; random bytes there could be NaN.
SCALES = {Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
          Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208]}


def main():
    rng = np.random.default_rng(20240608)
    for kind, places in SCALES.items():
        elements, size = GGML_QUANT_SIZES[kind]
        for _ in range(4 if elements == 32 else 2):
            block = rng.integers(0, 256, size, dtype=np.uint8)
            for place in places:
                scale = np.array([rng.normal(0, 0.01)], dtype=np.float16)
                block[place:place + 2] = scale.view(np.uint8)
            values = dequantize(block[None, :], kind).astype(np.float32).ravel()
            assert values.size == elements
            print(kind.name, block.tobytes().hex(),
                  " ".join(f"{int(b):08x}" for b in values.view(np.uint32)))


if __name__ == "__main__":
    main()
