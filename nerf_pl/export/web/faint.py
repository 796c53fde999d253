"""How much the points of a grid show. Those that hardly any ray shows are not asked for colours, and take next to no
bytes of a page."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nerf_pl.export.web.grid import Grid, points_at
from nerf_pl.export.web.pack import LEVELS, Baked, before, quantised
from nerf_pl.export.web.tune import Ways

NEXT = 0.5  # of its share is that of a point's neighbours: rays between the known ones may show these


@torch.no_grad()
def shares_of(grid: Grid, ways: Sequence[Ways]) -> Float[Tensor, "P"]:
    """The largest share that a point has in the light of any of some rays, or NEXT times that of a point beside it, and
    so on for two steps."""
    device = grid.numbers.device
    share = torch.zeros(len(grid.numbers) + 1, device=device)
    for some in ways:
        rows, part = grid.corners(some.places)
        share.scatter_reduce_(0, rows.flatten(), (part * some.weights[:, None]).flatten(), "amax")
    rows = torch.from_numpy(before(grid.space, grid.numbers.cpu())).to(device).long()
    for _ in range(2):
        share[-1] = 0  # of points that are not kept
        around = share[rows].amax(1)  # of the points before each
        for axis in range(3):
            share.scatter_reduce_(0, rows[:, axis], NEXT * share[:-1], "amax")
        share[:-1] = torch.maximum(share[:-1], NEXT * around)
    return share[:-1]


def foretold(baked: Baked, shown: Bool[Tensor, "P"]) -> Baked:
    """The same, where points that are not shown have the colours and features that the packing foretells."""
    grid = baked.grid
    numbers, hidden = grid.numbers.cpu(), (~shown).nonzero()[:, 0].cpu()
    if not len(hidden):
        return baked
    rows, count = before(grid.space, numbers), len(numbers)
    steps = torch.tensor(LEVELS) - 1
    levels = (quantised(grid.values.cpu()) * steps).round().to(torch.int16).numpy()
    levels = np.concatenate([levels, np.zeros_like(levels[:1])])
    # all points before one lie on an earlier one of these diagonal planes
    plane = points_at(grid.space, numbers[hidden]).sum(1)
    plane, order = plane.sort(stable=True)
    sizes = plane.unique_consecutive(return_counts=True)[1].tolist()
    for part in hidden[order].split(sizes):
        around = rows[part.numpy()]
        number = (around < count).sum(1)
        kept, around, number = part.numpy()[number > 0], around[number > 0], number[number > 0][:, None]
        levels[kept, 1:] = (2 * levels[around, 1:].sum(1) + number) // (2 * number)
    values = (torch.from_numpy(levels[:-1]) / steps).to(grid.values)
    return replace(baked, grid=replace(grid, values=values))
