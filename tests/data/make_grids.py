"""Writes src/dtype/grids/<type>.bin: the grids of the IQ types, in the layout that follows the planes on the GPU.

    pip install gguf numpy; python tests/data/make_grids.py

The formats define the values; ggml chose them, and the `gguf` Python package contains them. Entries of eight values use
two bits per value, its index among the grid's three values: value 4j + k of entries 2n and 2n + 1 together is at bit
8k + 2j of word n. Entries of four values are one word, with one byte per value.
"""

from pathlib import Path

import numpy as np
from gguf.quants import IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS


def grid(kind):
    """The grid: (entries, values per entry)."""
    kind.init_grid()
    return kind.grid.reshape(kind.grid_shape).astype(np.int32)


def places(kind):
    place = np.searchsorted(kind.grid_map, grid(kind)).astype(np.uint32)
    assert (np.array(kind.grid_map)[place] == grid(kind)).all()
    bits = 8 * np.arange(4) + 2 * np.arange(4).reshape(4, 1)
    return (place.reshape(-1, 4, 4) << bits.astype(np.uint32)).sum((1, 2), dtype=np.uint32).astype("<u4")


def main():
    folder = Path(__file__).parents[2] / "src/dtype/grids"
    for kind in (IQ1_S, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S):
        wide = kind.grid_shape[1] == 8
        data = places(kind) if wide else grid(kind).astype(np.uint8)
        (folder / f"{kind.__name__.lower()}.bin").write_bytes(data.tobytes())


main()
