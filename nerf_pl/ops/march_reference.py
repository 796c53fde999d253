"""The twins of marching through an occupancy grid, in plain PyTorch; see `grid_reference`."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EXPLORERS = 32  # one ray in so many also marches through cells that no ray has seen of late


@dataclass(frozen=True)
class Batch:
    """How a training batch marches: at most `budget` samples.

    active: (1,) int32, how many of the rays march; it is set to the number that would fill the budget next time.
    kept: (1,) int32, set to the number of rays that found room. visible: bits of the occupied cells that were seen of
    late, where most rays march. detail: the cells told of samples are parts of the grid's, each divided in so many
    along each axis: they are numbered cell by cell, x fastest.
    """

    budget: int
    active: Tensor
    kept: Tensor
    visible: Tensor
    detail: int = 1


@dataclass(frozen=True)
class Stride:
    """How rays step through a grid of size^3 cells over a box.

    step: world length from one sample to the next. side: of the field's unit cube, in world length; the box lies in its
    corner. linear None: what there is lies in the box. Otherwise the box is a cube in the middle of a space without
    end that `contract` fits into the unit cube, and past the distance `linear` from the camera steps grow with it.
    """

    step: float
    size: int
    side: float
    linear: float | None = None

    def place(self, t: Tensor) -> Tensor:
        """Where on the ray t is, in sides of the unit cube: a length that grows by as much with every step."""
        if self.linear is None:
            return t / self.side
        far = t.clamp(min=self.linear)
        return torch.where(t > self.linear, self.linear * (1 + (far / self.linear).log()), t) / self.side


def contract(xyz: Tensor, aabb: Tensor) -> tuple[Tensor, Tensor]:
    """All of space (N, 3) into the unit cube, whose middle half the cube `aabb` fills:  q = (2 - 1/m) p / m  where
    m = max|p| > 1, p in half sides from the centre (Barron et al. 2022, eq. 10, in the maximum norm of Tancik et al.
    2023). Returns that, and max(m, 1) (N,), by which lengths have shrunk.
    """
    p = (2 * xyz - (aabb[0] + aabb[1])) / (aabb[1] - aabb[0])
    m = p.abs().amax(1).clamp(min=1)
    return p * ((2 - 1 / m) / m / 4)[:, None] + 0.5, m


def march(
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    bits: Tensor,
    aabb: Tensor,
    jitter: Tensor,
    stride: Stride,
    batch: Batch | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Steps along each ray, from near to far, that fall into occupied cells.

        s_k = s(near) + (k + jitter) step < s(far),   k = 0, 1, ...;   s(t) = t,  or linear (1 + ln(t / linear)) past it

    Where the box is all there is, near and far are those of the part of the ray inside. bits: a bit for each of size^3
    cells, see `pack_bits`. jitter: (R,) in [0, 1).
    Returns t (N,), dt (N,) in sides of the unit cube, shrunk where space is, ray_ids (N,), offsets (R + 1,), the points
    in the unit cube (N, 3) and their cells (N,), or the parts of them that `Batch.detail` asks for.
    """
    step, linear = stride.step, stride.linear
    n_rays, n = near.shape[0], near.shape[0] if batch is None else min(int(batch.active), near.shape[0])
    near, far = near[:n], far[:n]
    if linear is None:
        near, far = clip(origins[:n], directions[:n], near, far, aabb)
    else:
        near, far = (torch.where(v > linear, linear * (1 + (v / linear).log()), v) for v in (near, far))
    rows = (far > near).nonzero()[:, 0]  # the rays that pass
    start = near[rows] + jitter[rows] * step
    n_steps = int(((far[rows] - start) / step).ceil().max().clamp(min=0)) if len(rows) else 0
    s = start[:, None] + torch.arange(n_steps, device=near.device) * step  # (R, S)
    t = s if linear is None else torch.where(s > linear, linear * (s / linear - 1).exp(), s)
    axes = [origins[rows, k, None] + t * directions[rows, k, None] for k in range(3)]
    if linear is None:
        scale = stride.size / (aabb[1] - aabb[0])
        places = [(x - low) * k for x, low, k in zip(axes, aabb[0], scale, strict=True)]
    else:
        places = [unit.view(s.shape) * stride.size for unit in contract(torch.stack(axes, -1).view(-1, 3), aabb)[0].T]
    i, j, k = (place.to(torch.int32).clamp_(0, stride.size - 1) for place in places)
    cells = i + stride.size * (j + stride.size * k)
    words = bits[cells >> 5]
    if batch is not None:
        words = torch.where((rows % EXPLORERS == 0)[:, None], words, batch.visible[cells >> 5])
    hit = (words >> (cells & 31) & 1).bool() & (s < far[rows, None])
    ray_ids, steps = hit.nonzero(as_tuple=True)
    t, cells = t[ray_ids, steps], cells[ray_ids, steps].long()
    if batch is not None and batch.detail > 1:
        inside = [place[ray_ids, steps] for place in places]
        cells = parts_of(cells, [i[ray_ids, steps], j[ray_ids, steps], k[ray_ids, steps]], inside, batch.detail)
    ray_ids = rows[ray_ids]
    xyz, dt = origins[ray_ids] + t[:, None] * directions[ray_ids], torch.full_like(t, step / stride.side)
    if linear is None:
        unit = (xyz - aabb[0]) / stride.side
    else:
        unit, shrunk = contract(xyz, aabb)
        dt = dt * (t / linear).clamp(min=1) / shrunk
    offsets = F.pad(torch.bincount(ray_ids, minlength=n_rays).cumsum(0), (1, 0))
    if batch is None:
        return t, dt, ray_ids, offsets, unit, cells
    total, room = int(offsets[-1]), int(offsets[offsets <= batch.budget][-1])
    batch.kept.fill_(int((offsets[1 : n + 1] <= batch.budget).sum()))
    # aim a little below the budget, since past it whole rays are lost
    batch.active.fill_(min(max(int(n * 0.98 * batch.budget / max(total, 1)), 64), n_rays))
    return t[:room], dt[:room], ray_ids[:room], offsets.clamp(max=room), unit[:room], cells[:room]


def parts_of(cells: Tensor, corners: list[Tensor], places: list[Tensor], detail: int) -> Tensor:
    """Numbers (N,) of the parts of cells in which places are; corners and places, in cells, along each axis."""
    a, b, c = (
        ((place * detail).to(torch.int32) - corner * detail).clamp(0, detail - 1)
        for place, corner in zip(places, corners, strict=True)
    )
    return cells * detail**3 + a + detail * (b + detail * c)


def clip(origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, aabb: Tensor) -> tuple[Tensor, Tensor]:
    """near and far (R,) of the part of each ray that lies in the box; far < near for a ray that misses it."""
    inverse = 1 / torch.where(directions.abs() < 1e-9, 1e-9, directions)
    a, b = (aabb[0] - origins) * inverse, (aabb[1] - origins) * inverse  # (R, 3)
    return torch.maximum(near, torch.minimum(a, b).amax(1)), torch.minimum(far, torch.maximum(a, b).amin(1))


def cell_of(xyz: Tensor, aabb: Tensor, size: int) -> Tensor:
    """Number (N,) of the cell of a grid of size^3 over the box, x fastest; points outside belong to the nearest."""
    cell = ((xyz - aabb[0]) * (size / (aabb[1] - aabb[0]))).floor().clamp(0, size - 1).long()
    return cell[:, 0] + size * (cell[:, 1] + size * cell[:, 2])


def pack_bits(flags: Tensor) -> Tensor:
    """(32 n,) bool -> (n,) int32, the first flag in the lowest bit."""
    powers = 1 << torch.arange(32, device=flags.device)
    return (flags.view(-1, 32) * powers).sum(1).to(torch.int32)  # the highest bit wraps to the sign
