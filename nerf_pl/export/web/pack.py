"""A baked grid as bytes, and back. The page unpacks the same bytes.

deflated: Grid.far, one byte for each block, x fastest; for each block with far = 0, in this order, the bits of which of
its points are kept; then, for alpha, the three colours and the features in turn, one byte for each kept point, as the
difference from the point before.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.export.web.grid import BLOCK, CHANNELS, FEATURES, Grid
from nerf_pl.export.web.space import Space

OUTLIERS = 0.002  # of the values of a feature or colour, at each end, that 8 bits do not reach
LEVEL = 9  # of the compression
LEVELS = (52, *(86,) * 3, *(52,) * FEATURES)  # that are told apart; each step is a whole number of 255ths


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
    values = (quantised(grid.values) * 255).round().to(torch.uint8).cpu().numpy()
    planes = np.diff(values, axis=0, prepend=np.zeros((1, CHANNELS), np.uint8)).T  # wraps, as the page's sums do
    far = grid.far.to(torch.uint8).cpu().numpy()
    return zlib.compress(far.tobytes() + masks.tobytes() + planes.tobytes(), LEVEL)


def unpack(content: bytes, space: Space, blocks: tuple[int, int, int], points: int) -> Grid:
    """The grid in bytes of `pack`. blocks: how many along z, y and x. points: how many are kept."""
    data = np.frombuffer(zlib.decompress(content), np.uint8)
    count = blocks[0] * blocks[1] * blocks[2]
    full = np.nonzero(data[:count] == 0)[0]
    end = count + len(full) * BLOCK**3 // 8
    kept = np.unpackbits(data[count:end].reshape(len(full), -1), axis=1, bitorder="little").astype(bool)
    owner, place = np.nonzero(kept)
    planes = data[end:].reshape(1 + 3 + FEATURES, points)
    values = np.cumsum(planes, axis=1, dtype=np.uint8).T.astype(np.float32) / 255
    return Grid.of(space, torch.from_numpy(full[owner] * BLOCK**3 + place), torch.from_numpy(values))
