"""Walking rays until their light is gone, compiled for a CPU: each step in an occupied cell asks the field for its
density, one point at a time, so that nothing is computed for what lies behind."""

import math

import numpy as np

from nerf_pl.ops.hash_field.numba_grid import place
from nerf_pl.ops.layout import PRIMES
from nerf_pl.ops.numba_jit import compiled

ZERO, ONE = np.float32(0), np.float32(1)  # a plain 1 would make numbers of 64 bits
PRIME_Y, PRIME_Z = PRIMES[1:]


@compiled
def _encode(x, y, z, table, levels, channels, features):
    """The encoding of one point; see `numba_grid`."""
    for level in range(len(levels)):
        resolution, first, size, dense = levels[level, 0], levels[level, 1], levels[level, 2], levels[level, 3]
        a, u = place(x, np.float32(resolution))
        b, v = place(y, np.float32(resolution))
        c, w = place(z, np.float32(resolution))
        side, mask = np.int64(resolution + 1), size - 1
        for f in range(len(channels)):
            features[len(channels) * level + f] = ZERO
        for corner in range(8):
            i, j, k = np.int64(a) + (corner & 1), np.int64(b) + (corner >> 1 & 1), np.int64(c) + (corner >> 2)
            share = (u if corner & 1 else ONE - u) * (v if corner & 2 else ONE - v) * (w if corner & 4 else ONE - w)
            entry = i + side * (j + side * k) if dense else (i ^ (j * PRIME_Y) ^ (k * PRIME_Z)) & mask
            for f in range(len(channels)):
                features[len(channels) * level + f] += share * table[np.uint64(first + entry), f]


@compiled
def density_at(x, y, z, field, features, hidden):
    """The density at one point of the unit cube. field: table, levels, a number for each channel of an entry, the first
    layer (inputs, hidden), the weights of the raw density (hidden), and where it is cut off. The rest is to work with.
    """
    table, levels, channels, first, second, most = field
    _encode(x, y, z, table, levels, channels, features)
    for j in range(len(hidden)):
        hidden[j] = ZERO
    for i in range(len(features)):
        feature, row = features[i], first[i]
        for j in range(len(hidden)):
            hidden[j] += feature * row[j]
    for j in range(len(hidden)):
        hidden[j] = max(hidden[j], ZERO) * second[j]
    half = len(hidden)
    while half > 1:  # pairs are added side by side: a plain sum has to be in order, one number after the other
        half //= 2
        for j in range(half):
            hidden[j] += hidden[half + j]
    return np.float32(math.exp(min(hidden[0], most)))
