"""The twins of marching through an occupancy grid, in plain PyTorch on any device, in float64 too."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nerf_pl.ops.hash_field.reference import hash_density
from nerf_pl.ops.march.space import contract, grid_span, moved
from nerf_pl.ops.march.types import Budget, Light, March, Stride, straightened
from nerf_pl.ops.rays.reference import composite, transmittance
from nerf_pl.types import Rays, Samples

EXPLORERS = 32  # one ray in so many also marches through cells that no light has reached of late


def march(
    rays: Rays,
    bits: Tensor,
    aabb: Tensor,
    jitter: Tensor,
    stride: Stride,
    budget: Budget | None = None,
    light: Light | None = None,
) -> March:
    active = len(rays) if budget is None else min(int(budget.active), len(rays))
    rows, t, inside = _steps(rays[:active], aabb, jitter, stride)
    places = _places(rays[rows], t, aabb, stride)
    corners = [place.to(torch.int32).clamp_(0, stride.size - 1) for place in places]
    cells = corners[0] + stride.size * (corners[1] + stride.size * corners[2])  # (rows, S)
    words = bits[cells >> 5]
    if budget is not None:
        words = torch.where((rows % EXPLORERS == 0)[:, None], words, budget.visible[cells >> 5])
    hits = ((words >> (cells & 31) & 1).bool() & inside).nonzero(as_tuple=True)
    t, cells = t[hits], cells[hits].long()
    if budget is not None and budget.detail > 1:
        cells = parts_of(cells, [i[hits] for i in corners], [place[hits] for place in places], budget.detail)
    ray_ids = rows[hits[0]]
    unit, dt = _in_cube(rays, ray_ids, t, aabb, stride)
    offsets, ended = F.pad(torch.bincount(ray_ids, minlength=len(rays)).cumsum(0), (1, 0)), None
    if light is not None:
        lit = reached(unit, Samples(t, dt, ray_ids, offsets), light)
        t, dt, unit, cells, ray_ids = t[lit], dt[lit], unit[lit], cells[lit], ray_ids[lit]
        met, offsets = offsets, F.pad(torch.bincount(ray_ids, minlength=len(rays)).cumsum(0), (1, 0))
        ended = offsets.diff() < met.diff()
    if budget is None:
        return March(Samples(t, dt, ray_ids, offsets), unit, cells, ended)
    room = fit(offsets, active, budget)
    samples = Samples(t[:room], dt[:room], ray_ids[:room], offsets.clamp(max=room))
    return March(samples, unit[:room], cells[:room], ended)


def _steps(rays: Rays, aabb: Tensor, jitter: Tensor, stride: Stride) -> tuple[Tensor, Tensor, Tensor]:
    """The rays that pass; t of their steps (rows, S), as many as the longest way has; which of these lie on the way."""
    step, linear = stride.step, stride.linear
    if linear is None:
        near, far = clip(rays, aabb)
    else:
        near, far = straightened(rays.near, linear), straightened(rays.far, linear)
    rows = (far > near).nonzero()[:, 0]
    start = near[rows] + jitter[rows] * step
    n_steps = int(((far[rows] - start) / step).ceil().max().clamp(min=0)) if len(rows) else 0
    s = start[:, None] + torch.arange(n_steps, device=near.device) * step
    t = s if linear is None else torch.where(s > linear, linear * (s / linear - 1).exp(), s)
    return rows, t, s < far[rows, None]


def _places(rays: Rays, t: Tensor, aabb: Tensor, stride: Stride) -> list[Tensor]:
    """Where the steps t (R, S) lie along each axis of the grid, in cells."""
    axes = [rays.origins[:, k, None] + t * rays.directions[:, k, None] for k in range(3)]
    if stride.linear is None:
        scale = stride.size / (aabb[1] - aabb[0])
        return [(x - low) * k for x, low, k in zip(axes, aabb[0], scale, strict=True)]
    unit, _ = contract(torch.stack(axes, -1).view(-1, 3), aabb)
    return [x.view(t.shape) * stride.size for x in unit.T]


def _in_cube(rays: Rays, ray_ids: Tensor, t: Tensor, aabb: Tensor, stride: Stride) -> tuple[Tensor, Tensor]:
    """The samples' points in the unit cube (N, 3), and their dt in its sides, shrunk where space is."""
    xyz, dt = (
        rays.origins[ray_ids] + t[:, None] * rays.directions[ray_ids],
        torch.full_like(t, stride.step / stride.side),
    )
    if stride.linear is None:
        return (xyz - aabb[0]) / stride.side, dt
    unit, shrunk = contract(xyz, aabb)
    return unit, dt * (t / stride.linear).clamp(min=1) / shrunk


@torch.no_grad()
def reached(unit: Tensor, samples: Samples, light: Light) -> Tensor:
    """Which samples (N,) light reaches."""
    if not len(samples):
        return torch.ones_like(samples.ray_ids, dtype=torch.bool)
    sigma = hash_density(unit.to(light.weights.table.dtype), light.weights)
    tau = (sigma * samples.dt).nan_to_num(nan=0.0)
    return transmittance(tau, samples) > light.least


def fit(offsets: Tensor, active: int, budget: Budget) -> int:
    """How many samples the budget has room for, of whole rays; and how many rays should march next."""
    fits = offsets <= budget.size
    budget.kept.fill_(int(fits[1 : active + 1].sum()))
    # aim a little below the budget, since past it whole rays are lost
    wanted = int(active * 0.98 * budget.size / max(int(offsets[-1]), 1))
    budget.active.fill_(min(max(wanted, 64), len(offsets) - 1))
    return int(offsets[fits][-1])


def parts_of(cells: Tensor, corners: list[Tensor], places: list[Tensor], detail: int) -> Tensor:
    """Numbers (N,) of the parts of cells in which places are; corners and places, in cells, along each axis."""
    a, b, c = (
        ((place * detail).to(torch.int32) - corner * detail).clamp(0, detail - 1)
        for place, corner in zip(places, corners, strict=True)
    )
    return cells * detail**3 + a + detail * (b + detail * c)


def clip(rays: Rays, aabb: Tensor) -> tuple[Tensor, Tensor]:
    """near and far (R,) of the part of each ray that lies in the box; far < near for a ray that misses it."""
    inverse = 1 / torch.where(rays.directions.abs() < 1e-9, 1e-9, rays.directions)
    a, b = (aabb[0] - rays.origins) * inverse, (aabb[1] - rays.origins) * inverse  # (R, 3)
    return torch.maximum(rays.near, torch.minimum(a, b).amax(1)), torch.minimum(rays.far, torch.maximum(a, b).amin(1))


class Advance:
    """See `types.Way`. All samples are marched to at the start, so that a pass has room for any number of rays."""

    passes: tuple[int, ...] = (8, 24, 64)  # fewer than on a GPU, since each costs more

    def __init__(self, rays: Rays, bits: Tensor, aabb: Tensor, stride: Stride, room: int, source: Tensor | None = None):
        self.samples, unit, *_ = march(rays, bits, aabb, torch.full_like(rays.near, 0.5), stride)
        span = grid_span(aabb, stride.linear is not None)
        self.unit = unit if source is None else moved(unit, source, stride.size, span)
        ids, offsets = self.samples.ray_ids, self.samples.offsets
        self.rank, self.counts = torch.arange(len(ids), device=ids.device) - offsets[ids], offsets.diff()
        self.passed, self.rgb = torch.ones_like(rays.near), torch.zeros_like(rays.origins)
        self.depth, self.goes_on = torch.zeros_like(rays.near), self.counts > 0  # (R,)
        self.begin, self.now = 0, self.rank[:0]  # the first sample of the next pass, and the samples of this one

    def fill(self, k: int) -> tuple[Tensor, Tensor, None]:
        ids = self.samples.ray_ids
        due = (self.rank >= self.begin) & (self.rank < self.begin + k)
        self.now = (due & self.goes_on[ids]).nonzero()[:, 0]
        return self.unit[self.now], ids[self.now], None

    def blend(self, sigma: Tensor, rgb: Tensor, k: int, stop: float) -> None:
        t, dt, ids = (values[self.now] for values in (self.samples.t, self.samples.dt, self.samples.ray_ids))
        offsets = F.pad(torch.bincount(ids, minlength=len(self.counts)).cumsum(0), (1, 0))
        part = composite(sigma, rgb, Samples(t, dt, ids, offsets))
        self.rgb = self.rgb + self.passed[:, None] * part.rgb
        self.depth = self.depth + self.passed * part.depth
        self.passed, self.begin = self.passed * (1 - part.opacity), self.begin + k
        self.goes_on = (self.passed > stop) & (self.counts > self.begin)

    def left(self) -> int:
        return int(self.goes_on.sum())
