"""A baked grid as bytes and as text, and back. The page unpacks the same bytes.

Four bytes say how long the first part is, the least first. That part, deflated: Grid.far, one byte for each block, x
fastest; for each block with far = 0, in this order, the bits of which of its points are kept; the frequencies of
`coding`, 16 bits each. What follows are the words of `coding`: levels of alpha, the three colours and the features.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from nerf_pl.export.web.coding import SYMBOLS, Coded, contexts, decoded, encoded
from nerf_pl.export.web.grid import BLOCK, CHANNELS, FEATURES, Grid, blocks_of, numbers_of, points_at
from nerf_pl.export.web.space import Space

OUTLIERS = 0.002  # of the values of a feature or colour, at each end, that 8 bits do not reach
LEVEL = 9  # of the compression
LEVELS = (52, *(86,) * 3, *(52,) * FEATURES)  # that are told apart; each step is a whole number of 255ths
UNSAFE = (0, 13, 60)  # which a browser reads as something else: an error, a line's end, the end of the script


@dataclass(frozen=True)
class Baked:
    """A grid and how to read it. Values are in [0, 1]: a diffuse colour is base[0] + base[1] v, and a feature 2 v - 1.
    table: see `colours`, for features in [-1, 1]."""

    grid: Grid
    base: tuple[float, float]
    table: Float[Tensor, "K J 3"]


def normalised(grid: Grid, table: Float[Tensor, "K J 3"]) -> Baked:
    """What is stored of a grid whose colours and features have any size."""
    values = grid.values.clone()
    if not len(values):
        return Baked(grid, (0.0, 1.0), table)
    sample = values[:: max(len(values) // 2**20, 1)]
    ends = sample.new_tensor([OUTLIERS, 1 - OUTLIERS])
    low, high = (float(v) for v in sample[:, 1:4].flatten()[: 2**23].quantile(ends))
    low, high = min(low, 0.0), max(high, 1.0)
    values[:, 1:4] = (values[:, 1:4] - low) / (high - low)
    size = sample[:, 4:].abs().quantile(1 - 2 * OUTLIERS, dim=0).clamp(min=1e-6)
    values[:, 4:] = (values[:, 4:] / size + 1) / 2
    return Baked(replace(grid, values=values.clamp(0, 1)), (low, high - low), table * size[:, None, None])


def quantised(values: Float[Tensor, "P ch"]) -> Float[Tensor, "P ch"]:
    """Values as they come back from a page. What is kept is never quite transparent."""
    steps = values.new_tensor(LEVELS) - 1
    values = (values * steps).round() / steps
    return torch.cat([values[:, :1].clamp(min=1 / float(steps[0])), values[:, 1:]], 1)


def pack(grid: Grid) -> bytes:
    full = (grid.far.flatten() == 0).nonzero()[:, 0]
    slot = torch.searchsorted(full, grid.numbers // BLOCK**3)
    kept = torch.zeros(len(full), BLOCK**3, dtype=torch.bool, device=slot.device)
    kept[slot, grid.numbers % BLOCK**3] = True
    masks = np.packbits(kept.cpu().numpy(), axis=1, bitorder="little")
    steps = grid.values.new_tensor(LEVELS) - 1
    levels = (quantised(grid.values) * steps).round().to(torch.uint8).cpu().numpy()
    coded = encoded(levels, before(grid.space, grid.numbers.cpu()))
    far = grid.far.to(torch.uint8).cpu().numpy()
    first = zlib.compress(far.tobytes() + masks.tobytes() + coded.frequencies.astype("<u2").tobytes(), LEVEL)
    return len(first).to_bytes(4, "little") + first + coded.words.astype("<u2").tobytes()


def unpack(content: bytes, space: Space, blocks: tuple[int, int, int], points: int) -> Grid:
    """The grid in bytes of `pack`. blocks: how many along z, y and x. points: how many are kept."""
    start = 4 + int.from_bytes(content[:4], "little")
    data = np.frombuffer(zlib.decompress(content[4:start]), np.uint8)
    count = blocks[0] * blocks[1] * blocks[2]
    full = np.nonzero(data[:count] == 0)[0]
    end = count + len(full) * BLOCK**3 // 8
    kept = np.unpackbits(data[count:end].reshape(len(full), -1), axis=1, bitorder="little").astype(bool)
    owner, place = np.nonzero(kept)
    assert len(owner) == points
    numbers = torch.from_numpy(full[owner] * BLOCK**3 + place)
    shares = np.frombuffer(data[end:].tobytes(), "<u2").reshape(contexts(CHANNELS), SYMBOLS)
    coded = Coded(shares, np.frombuffer(content[start:], "<u2"))
    levels = torch.from_numpy(decoded(coded, before(space, numbers), CHANNELS)).float()
    return Grid.of(space, numbers, levels / (levels.new_tensor(LEVELS) - 1))


def before(space: Space, numbers: Int[Tensor, "P"]) -> NDArray[np.int32]:
    """The rows (P, 3) of the points before each of those with these numbers, along x, y and z; P for none."""
    count = len(numbers)
    owners = (numbers // BLOCK**3).unique()
    dense = torch.full((len(owners) + 1, BLOCK**3), count, dtype=torch.int32)
    dense[torch.searchsorted(owners, numbers // BLOCK**3), numbers % BLOCK**3] = torch.arange(count, dtype=torch.int32)
    z, y, x = blocks_of(space)
    places = torch.full((x * y * z + 1,), len(owners), dtype=torch.int32)
    places[owners] = torch.arange(len(owners), dtype=torch.int32)
    points, rows = points_at(space, numbers), torch.empty(count, 3, dtype=torch.int32)
    for axis in range(3):
        points[:, axis] -= 1
        found = numbers_of(space, points)
        # -1, of points outside, is in the last of the places, which has no points
        rows[:, axis] = dense[places[found.div(BLOCK**3, rounding_mode="floor")].long(), found % BLOCK**3]
        points[:, axis] += 1
    return rows.numpy()


def as_text(content: bytes) -> str:
    """Bytes as text of a page, 7 bits in each character, whose code has 128 added where it is UNSAFE. In UTF-8 most
    take one byte."""
    bits = np.unpackbits(np.frombuffer(content, np.uint8))
    bits = np.append(bits, np.zeros(-len(bits) % 7, np.uint8)).reshape(-1, 7)
    codes = np.packbits(bits, axis=1)[:, 0] >> 1
    codes[np.isin(codes, UNSAFE)] += 128
    return codes.tobytes().decode("latin-1")
