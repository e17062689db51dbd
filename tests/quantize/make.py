"""Errors of ggml's quantizers on the weights of tests/quantize.rs: python make.py LIBGGML STORIES260K > errors.json

LIBGGML is a shared library of ggml's ggml.c and ggml-quants.c (from the sdist of llama-cpp-python 0.3.9 on PyPI). The
`gguf` package quantizes the types that the library lacks, if it can. An error is sqrt(sum((y - x)^2) / sum(x^2)), where
the `gguf` package dequantizes y.
"""

import ctypes
import json
import sys

import gguf
import numpy as np

TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"]


def drawn():
    """The same numbers as `drawn` in tests/quantize.rs: nearly normal rows, every second one with heavy tails."""
    state, rows = 1, []
    for row in range(64):
        values = []
        for _ in range(1024):
            total = 0
            for _ in range(4):
                state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                total += (state >> 40) - 2**23
            x = total / 2**23
            values.append(x * abs(x) if row % 2 else x)
        rows.append(values)
    return np.array(rows, dtype=np.float32)


def trained(path):
    tensors = [t.data for t in gguf.GGUFReader(path).tensors if len(t.shape) == 2]
    flat = np.concatenate([t.astype(np.float32).ravel() for t in tensors])
    return flat[: flat.size // 1024 * 1024].reshape(-1, 1024)


def main():
    lib = ctypes.CDLL(sys.argv[1])
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    out = {}
    for name, x in [("drawn", drawn()), ("trained", trained(sys.argv[2]))]:
        x, errors = np.ascontiguousarray(x), {}
        for label in TYPES:
            t = gguf.GGMLQuantizationType[label]
            if label == "MXFP4":
                packed = gguf.quants.quantize(x, t)
            else:
                length, size = gguf.GGML_QUANT_SIZES[t]
                packed = np.zeros((x.shape[0], x.shape[1] // length * size), dtype=np.uint8)
                rows, cols = ctypes.c_int64(x.shape[0]), ctypes.c_int64(x.shape[1])
                lib.ggml_quantize_chunk(
                    int(t), x.ctypes.data_as(ctypes.c_void_p), packed.ctypes.data_as(ctypes.c_void_p),
                    ctypes.c_int64(0), rows, cols, None,
                )
            y = gguf.quants.dequantize(packed, t).astype(np.float64)
            errors[label] = float(np.sqrt(((y - x) ** 2).sum() / (x.astype(np.float64) ** 2).sum()))
        out[name] = errors
    print(json.dumps(out, indent=1))


main()
