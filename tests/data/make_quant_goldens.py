"""Writes quant/<type>.bin: file blocks and the weights that the `gguf` Python package reads from them.

    pip install gguf numpy; python tests/data/make_quant_goldens.py

A file contains blocks, then their weights as little-endian f32; the number of blocks follows from the length. Quants
are seeded random bits. The scales cover every kind of f16 that a valid file may contain.
"""

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type, dequantize

# Ordinary, negative, smallest and largest subnormals of both signs, smallest normals, zeros, largest.
SCALES = [0x2C01, 0xA9F3, 0x1234, 0x0001, 0x03FF, 0x8001, 0x82A5, 0x0400, 0x8400, 0x0000, 0x8000, 0x7BFF, 0xFBFF]
# Byte offset of a block's f16 fields.
HALVES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
    Type.IQ1_S: [0], Type.IQ1_M: [], Type.IQ2_XXS: [0], Type.IQ2_XS: [0], Type.IQ2_S: [0], Type.IQ3_XXS: [0], Type.IQ3_S: [0],
    Type.IQ4_NL: [0], Type.IQ4_XS: [0], Type.MXFP4: [], Type.TQ1_0: [52], Type.TQ2_0: [64],
}  # fmt: skip
EXPONENTS = [0, 1, 2, 3, 100, 119, 120, 127, 128, 200, 253, 254, 255]


def quant_blocks(rng, qtype):
    size = GGML_QUANT_SIZES[qtype][1]
    blocks = rng.integers(0, 256, (len(SCALES), size), dtype=np.uint8)
    # All bits set and all bits clear: the extremes of every quant, and of every scale inside a superblock.
    blocks = np.concatenate([blocks, np.full((1, size), 0xFF, np.uint8), np.zeros((2, size), np.uint8)])
    scales = SCALES + [0x2C01, 0x2C01, 0x0000]
    for i, block in enumerate(blocks):
        for k, at in enumerate(HALVES[qtype]):
            # The second field cycles through the kinds with another stride, for many different pairs.
            half = scales[i] if k == 0 else scales[(5 * i + 1) % len(scales)]
            block[at : at + 2] = np.array([half], "<u2").view(np.uint8)
        if qtype == Type.IQ1_M:
            # The scale: four bits at the top of each of the last four u16.
            for k in range(4):
                block[49 + 2 * k] = block[49 + 2 * k] & 15 | (scales[i] >> (4 * k) & 15) << 4
        if qtype == Type.MXFP4:
            block[0] = (EXPONENTS + [127, 0, 0])[i]
    blocks[-1] = 0
    return blocks


def float_blocks(rng, qtype):
    if qtype == Type.F32:
        special = np.array([0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x7F7FFFFF, 0x3F800001], "<u4")
        return np.concatenate([special, rng.standard_normal(58).astype("<f4").view("<u4")]).view(np.uint8)
    bits = np.concatenate([np.array(SCALES, "<u2"), rng.integers(0, 0x7C00, 115, dtype=np.uint16)])
    return bits.astype("<u2").view(np.uint8)


def main():
    folder = Path(__file__).parent / "quant"
    folder.mkdir(exist_ok=True)
    for qtype in [Type.F32, Type.F16, Type.BF16, *HALVES]:
        rng = np.random.default_rng(int(qtype) + 2026)
        blocks = quant_blocks(rng, qtype) if qtype in HALVES else float_blocks(rng, qtype)
        with np.errstate(over="ignore"):
            weights = dequantize(blocks, qtype).astype("<f4")
        assert not np.isnan(weights).any()
        (folder / f"{qtype.name}.bin").write_bytes(blocks.tobytes() + weights.tobytes())


main()
