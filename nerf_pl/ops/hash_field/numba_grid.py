"""The hash grid, compiled for a CPU: features of points, and the gradient of the table; see `reference.hash_grid`.

Points are taken in blocks, for each of which the vertices of a level are found before any of its entries is read.
Indices that cannot be negative are unsigned or count from 0, so that no time goes into counting from the end.
"""

import functools

import numpy as np
import torch
from torch import Tensor

from nerf_pl.ops.layout import PRIMES, GridLayout
from nerf_pl.ops.numba_jit import compiled, in_parts

ZERO, ONE, EIGHTH = np.float32(0), np.float32(1), np.float32(1 / 8)  # a plain 1 would make numbers of 64 bits
PRIME_Y, PRIME_Z = PRIMES[1:]
BLOCK = 64  # points


@compiled
def place(x, resolution):
    """The cell along an axis, and how far into it x lies. What is not a number lies at 0."""
    x = min(x, ONE) if x > ZERO else ZERO
    scaled = x * resolution
    cell = min(np.floor(scaled), resolution - ONE)
    return np.int32(cell), scaled - cell


@compiled
def _vertices(xyz, level, cells, within, entries, weights):
    """The eight vertices around the points xyz (n, 3): their entries (n, 8) in the table, and weights (n, 8).

    level: resolution, first entry, entries, and 1 if dense. cells, within: (3, n), to work with.
    The vertices are those at corner = x + 2 y + 4 z.
    """
    resolution, first, size, dense = level[0], level[1], level[2], level[3]
    for i in range(len(xyz)):
        for axis in range(3):
            cells[axis, i], within[axis, i] = place(xyz[i, axis], np.float32(resolution))
    side, mask = resolution + 1, size - 1
    for i in range(len(xyz)):
        x, y, z = np.int64(cells[0, i]), np.int64(cells[1, i]), np.int64(cells[2, i])
        if dense:
            x0 = first + x + side * (y + side * z)
            x1 = x0 + 1
            entries[i, 0], entries[i, 1], entries[i, 2], entries[i, 3] = x0, x1, x0 + side, x1 + side
            x0, x1 = x0 + side**2, x1 + side**2
            entries[i, 4], entries[i, 5], entries[i, 6], entries[i, 7] = x0, x1, x0 + side, x1 + side
        else:
            y0, z0 = y * PRIME_Y, z * PRIME_Z
            y1, z1 = y0 + PRIME_Y, z0 + PRIME_Z
            at = y0 ^ z0, y1 ^ z0, y0 ^ z1, y1 ^ z1
            for yz in range(4):
                entries[i, 2 * yz] = first + ((x ^ at[yz]) & mask)
                entries[i, 2 * yz + 1] = first + (((x + 1) ^ at[yz]) & mask)
        x1, y1, z1 = within[0, i], within[1, i], within[2, i]
        x0, y0, z0 = ONE - x1, ONE - y1, ONE - z1
        a, b, c, d = y0 * z0, y1 * z0, y0 * z1, y1 * z1
        weights[i, 0], weights[i, 1], weights[i, 2], weights[i, 3] = x0 * a, x1 * a, x0 * b, x1 * b
        weights[i, 4], weights[i, 5], weights[i, 6], weights[i, 7] = x0 * c, x1 * c, x0 * d, x1 * d


@compiled
def _encode(xyz, table, levels, out, channels, begin, end):
    """Rows begin to end of the features. channels: one item for each number of an entry, known when compiling."""
    cells, within = np.empty((3, BLOCK), np.int32), np.empty((3, BLOCK), np.float32)
    entries, weights = np.empty((BLOCK, 8), np.uint32), np.empty((BLOCK, 8), np.float32)
    for first in range(begin, end, BLOCK):
        n = min(BLOCK, end - first)
        for level in range(len(levels)):
            _vertices(xyz[first : first + n], levels[level], cells, within, entries, weights)
            rows = out[first : first + n]
            for i in range(len(rows)):
                for f in range(len(channels)):
                    value = ZERO
                    for corner in range(8):
                        value += weights[i, corner] * table[entries[i, corner], f]
                    rows[i, len(channels) * level + f] = value


@compiled
def _encode_backward(xyz, table, levels, d_features, smoothness, d_table, channels, begin, end):
    """Adds the gradient of levels begin to end to d_table."""
    cells, within = np.empty((3, BLOCK), np.int32), np.empty((3, BLOCK), np.float32)
    entries, weights = np.empty((BLOCK, 8), np.uint32), np.empty((BLOCK, 8), np.float32)
    for level in range(begin, end):
        for first in range(0, len(xyz), BLOCK):
            n = min(BLOCK, len(xyz) - first)
            _vertices(xyz[first : first + n], levels[level], cells, within, entries, weights)
            for i in range(n):
                for f in range(len(channels)):
                    grad, mean = d_features[first + i, len(channels) * level + f], ZERO
                    if smoothness:
                        for corner in range(8):
                            mean += table[entries[i, corner], f]
                    for corner in range(8):
                        entry = entries[i, corner]
                        d_table[entry, f] += weights[i, corner] * grad
                        if smoothness:
                            d_table[entry, f] += smoothness * (table[entry, f] - EIGHTH * mean)


def encode(xyz: Tensor, table: Tensor, layout: GridLayout) -> Tensor:
    """Features (N, layout.width) of points (N, 3) in the unit cube."""
    out = xyz.new_empty(xyz.shape[0], layout.width)
    given = xyz.detach().contiguous().numpy(), table.detach().numpy(), level_table(layout), out.numpy()
    channels = (0,) * layout.features
    in_parts(lambda begin, end: _encode(*given, channels, begin, end), xyz.shape[0])
    return out


def encode_backward(xyz: Tensor, table: Tensor, layout: GridLayout, d_features: Tensor, smoothness: float) -> Tensor:
    """The gradient of the table, from that of the features (N, layout.width) and of the loss `losses.smoothness`."""
    d_table = torch.zeros_like(table)
    given = xyz.contiguous().numpy(), table.detach().numpy(), level_table(layout), d_features.contiguous().numpy()
    pull, channels = np.float32(smoothness / max(xyz.shape[0], 1)), (0,) * layout.features
    # a thread has levels of its own, so no two of them add to one entry
    in_parts(lambda a, b: _encode_backward(*given, pull, d_table.numpy(), channels, a, b), layout.levels, least=1)
    return d_table


@functools.cache
def level_table(layout: GridLayout) -> np.ndarray:
    return layout.table(torch.device("cpu")).long().numpy()
