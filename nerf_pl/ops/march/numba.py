"""Marching through an occupancy grid, compiled for a CPU.

Each ray is walked once, and the numbers of its steps in occupied cells are noted. Samples are made of these alone.
"""

import math

import numpy as np
import torch
from torch import Tensor

from nerf_pl.ops.hash_field.numba_grid import level_table
from nerf_pl.ops.hash_field.reference import MAX_RAW
from nerf_pl.ops.march.numba_light import density_at
from nerf_pl.ops.march.reference import EXPLORERS, fit
from nerf_pl.ops.march.space import grid_span, moved
from nerf_pl.ops.march.types import Budget, Light, March, Stride
from nerf_pl.ops.numba_jit import compiled, in_parts
from nerf_pl.types import Rays, Samples

F = np.float32
ZERO, HALF, ONE, TWO, FOUR, TINY = F(0), F(1 / 2), F(1), F(2), F(4), F(1e-9)  # a plain 1 would make numbers of 64 bits
RAYS = 64  # that are worth a thread of their own


@compiled
def _straightened(t, linear):
    return linear * (ONE + math.log(t / linear)) if t > linear else t


@compiled
def _starts(origins, directions, near, far, aabb, jitter, step, linear, starts, steps, begin, end):
    """Where the first step of each ray lies, and how many steps there are to the end of its way."""
    for ray in range(begin, end):
        low, high = near[ray], far[ray]
        if linear:
            low, high = _straightened(low, linear), _straightened(high, linear)
        else:
            for axis in range(3):
                d = directions[ray, axis]
                inverse = ONE / (TINY if abs(d) < TINY else d)
                a, b = (aabb[0, axis] - origins[ray, axis]) * inverse, (aabb[1, axis] - origins[ray, axis]) * inverse
                low, high = max(low, min(a, b)), min(high, max(a, b))
        start = low + jitter[ray] * step
        starts[ray], steps[ray] = start, 0
        if high > start:
            n = np.int64(math.ceil((high - start) / step))
            while n > 0 and start + F(n - 1) * step >= high:
                n -= 1
            steps[ray] = n


@compiled
def _point(origins, directions, ray, start, k, step, linear, aabb, scale):
    """Step k of a ray: t, its place in the unit cube (x, y, z), and the factor by which its length differs from `step`.

    scale: one over the side of the cube; see `contract` for a space without end.
    """
    s, longer = start + F(k) * step, ONE
    t = s
    if linear and s > linear:
        t = linear * math.exp(s / linear - ONE)
    x, y, z = (
        origins[ray, 0] + t * directions[ray, 0],
        origins[ray, 1] + t * directions[ray, 1],
        origins[ray, 2] + t * directions[ray, 2],
    )
    if not linear:
        return t, (x - aabb[0, 0]) * scale, (y - aabb[0, 1]) * scale, (z - aabb[0, 2]) * scale, longer
    x = (TWO * x - (aabb[0, 0] + aabb[1, 0])) / (aabb[1, 0] - aabb[0, 0])
    y = (TWO * y - (aabb[0, 1] + aabb[1, 1])) / (aabb[1, 1] - aabb[0, 1])
    z = (TWO * z - (aabb[0, 2] + aabb[1, 2])) / (aabb[1, 2] - aabb[0, 2])
    m = max(max(abs(x), abs(y)), max(abs(z), ONE))
    to = (TWO - ONE / m) / (m * FOUR)
    return t, x * to + HALF, y * to + HALF, z * to + HALF, max(t / linear, ONE) / m


@compiled
def _corner(x, size):
    """The cell along an axis."""
    return min(max(np.int64(x), 0), size - 1)


@compiled
def _is_occupied(bits, x, y, z, size):
    """Whether the cell at a place, in cells, is occupied."""
    cell = _corner(x, size) + size * (_corner(y, size) + size * _corner(z, size))
    return bits[cell >> 5] >> (cell & 31) & 1 == 1


@compiled
def _walk(
    origins, directions, starts, next_steps, steps, words, explored, every, aabb, step, linear, scale, cells, size,
    most, rooms, hits, counts, begin, end,
):  # fmt: skip
    """Note the next steps of rays begin to end that lie in occupied cells, up to `most` of each.

    Of ray r they go to hits[rooms[r]] and after, and their number to counts[r]. One ray in `every` goes by the bits
    `explored`, the others by `words`. cells: how many cells the unit cube has along each axis.
    """
    for ray in range(begin, end):
        bits, k, count = (explored if ray % every == 0 else words), next_steps[ray], 0
        while k < steps[ray] and count < most:
            _, x, y, z, _ = _point(origins, directions, ray, starts[ray], k, step, linear, aabb, scale)
            if _is_occupied(bits, x * cells[0], y * cells[1], z * cells[2], size):
                hits[rooms[ray] + count] = k
                count += 1
            k += 1
        next_steps[ray], counts[ray] = k, count


@compiled
def _walk_lit(
    origins, directions, starts, steps, words, explored, every, aabb, step, linear, scale, cells, size, rooms, hits,
    counts, ended, field, thick, begin, end,
):  # fmt: skip
    """Note the steps of rays begin to end that lie in occupied cells and in front of the optical depth `thick`; see
    `_walk`. To `ended` goes whether there are more behind. field: see `density_at`."""
    features, hidden = np.empty(field[3].shape[0], F), np.empty(field[3].shape[1], F)
    for ray in range(begin, end):
        bits, k, count, depth = (explored if ray % every == 0 else words), 0, 0, ZERO
        while k < steps[ray] and depth < thick:
            _, x, y, z, longer = _point(origins, directions, ray, starts[ray], k, step, linear, aabb, scale)
            if _is_occupied(bits, x * cells[0], y * cells[1], z * cells[2], size):
                hits[rooms[ray] + count] = k
                count += 1
                tau = density_at(x, y, z, field, features, hidden) * (step * scale * longer)
                depth += ZERO if math.isnan(tau) else tau
            k += 1
        counts[ray], ended[ray] = count, False
        while k < steps[ray] and not ended[ray]:
            _, x, y, z, _ = _point(origins, directions, ray, starts[ray], k, step, linear, aabb, scale)
            ended[ray] = _is_occupied(bits, x * cells[0], y * cells[1], z * cells[2], size)
            k += 1


@compiled
def _write(
    origins, directions, starts, aabb, step, linear, scale, cells, size, detail, rooms, hits, offsets, t, dt, ray_ids,
    unit, numbers, begin, end,
):  # fmt: skip
    """The samples of rays begin to end, from the steps that `_walk` noted."""
    for ray in range(begin, end):
        for i in range(offsets[ray], offsets[ray + 1]):
            k = hits[rooms[ray] + i - offsets[ray]]
            t[i], x, y, z, longer = _point(origins, directions, ray, starts[ray], k, step, linear, aabb, scale)
            unit[i, 0], unit[i, 1], unit[i, 2], ray_ids[i], dt[i] = x, y, z, ray, step * scale * longer
            x, y, z = x * cells[0], y * cells[1], z * cells[2]
            a, b, c = _corner(x, size), _corner(y, size), _corner(z, size)
            cell = a + size * (b + size * c)
            if detail > 1:
                parts = F(detail)
                a = min(max(np.int64(x * parts) - a * detail, 0), detail - 1)
                b = min(max(np.int64(y * parts) - b * detail, 0), detail - 1)
                c = min(max(np.int64(z * parts) - c * detail, 0), detail - 1)
                cell = cell * detail**3 + a + detail * (b + detail * c)
            numbers[i] = cell


class _Walk:
    """Rays on their way, in arrays."""

    def __init__(self, rays: Rays, aabb: Tensor, jitter: Tensor, stride: Stride, n: int):
        self.rays = rays.origins[:n].contiguous().numpy(), rays.directions[:n].contiguous().numpy()
        self.aabb, self.size, self.n = aabb.numpy(), stride.size, n
        self.step, self.linear, self.scale = F(stride.step), F(stride.linear or 0), F(1 / stride.side)
        sides = self.aabb[1] - self.aabb[0]
        in_cube = sides * self.scale if stride.linear is None else np.ones(3, F)
        self.cells = (F(stride.size) / in_cube).astype(F)
        self.starts, self.steps = np.empty(n, F), np.empty(n, np.int64)
        self.next, self.counts, self.ended = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.bool_)
        ends = rays.near[:n].contiguous().numpy(), rays.far[:n].contiguous().numpy()
        way = self.aabb, jitter[:n].contiguous().numpy(), self.step, self.linear, self.starts, self.steps
        in_parts(lambda begin, end: _starts(*self.rays, *ends, *way, begin, end), n, RAYS)

    def walk(self, words: Tensor, explored: Tensor, every: int, most: int | None = None) -> None:
        """See `_walk`."""
        room = self.steps - self.next if most is None else np.minimum(self.steps - self.next, most)
        self.rooms = np.cumsum(room) - room
        self.hits = np.empty(int(room.sum()), np.int32)
        grid = words.numpy(), explored.numpy(), every, self.aabb, self.step, self.linear, self.scale, self.cells
        last = self.size, 2**62 if most is None else most, self.rooms, self.hits, self.counts
        way = *self.rays, self.starts, self.next, self.steps, *grid, *last
        in_parts(lambda begin, end: _walk(*way, begin, end), self.n, RAYS)

    def walk_lit(self, words: Tensor, explored: Tensor, every: int, light: Light) -> None:
        """See `_walk_lit`."""
        weights = light.weights
        layers = weights.networks.parts(weights.params.detach())
        first, second = layers["density_0"].T.contiguous().numpy(), layers["density_1"][0].contiguous().numpy()
        channels = (0,) * weights.grid.features
        field = weights.table.detach().numpy(), level_table(weights.grid), channels, first, second, F(MAX_RAW)
        self.rooms = np.cumsum(self.steps) - self.steps
        self.hits = np.empty(int(self.steps.sum()), np.int32)
        grid = words.numpy(), explored.numpy(), every, self.aabb, self.step, self.linear, self.scale, self.cells
        last = self.size, self.rooms, self.hits, self.counts, self.ended, field, F(-math.log(light.least))
        way = *self.rays, self.starts, self.steps, *grid, *last
        in_parts(lambda begin, end: _walk_lit(*way, begin, end), self.n, RAYS)

    def samples(self, offsets: Tensor, detail: int = 1) -> March:
        """The samples of the last steps. Ray r takes offsets[r + 1] - offsets[r] of those that were noted."""
        n = int(offsets[-1])
        t, dt, unit = np.empty(n, F), np.empty(n, F), np.empty((n, 3), F)
        ray_ids, numbers = np.empty(n, np.int64), np.empty(n, np.int64)
        way = *self.rays, self.starts, self.aabb, self.step, self.linear, self.scale, self.cells, self.size, detail
        out = self.rooms, self.hits, offsets.numpy(), t, dt, ray_ids, unit, numbers
        in_parts(lambda begin, end: _write(*way, *out, begin, end), self.n, RAYS)
        samples = Samples(torch.from_numpy(t), torch.from_numpy(dt), torch.from_numpy(ray_ids), offsets)
        return March(samples, torch.from_numpy(unit), torch.from_numpy(numbers))


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
    way = _Walk(rays, aabb, jitter, stride, active)
    words = bits if budget is None else budget.visible
    if light is None:
        way.walk(words, bits, EXPLORERS)
    else:
        way.walk_lit(words, bits, EXPLORERS, light)
    offsets = torch.zeros(len(rays) + 1, dtype=torch.int64)
    offsets[1 : active + 1] = torch.from_numpy(np.cumsum(way.counts))
    offsets[active + 1 :] = offsets[active]
    if budget is None:
        found = way.samples(offsets)
    else:
        found = way.samples(offsets.clamp(max=fit(offsets, active, budget)), budget.detail)
    if light is None:
        return found
    ended = torch.zeros(len(rays), dtype=torch.bool)
    ended[:active] = torch.from_numpy(way.ended)
    return found._replace(ended=ended)


@compiled
def _blend(sigma, rgb, t, dt, offsets, passed, colours, depth, begin, end):
    """Add samples to their rays, behind what is there."""
    for ray in range(begin, end):
        for i in range(offsets[ray], offsets[ray + 1]):
            rest = passed[ray] * math.exp(-sigma[i] * dt[i])
            weight = passed[ray] - rest
            for c in range(3):
                colours[ray, c] += weight * rgb[i, c]
            depth[ray] += weight * t[i]
            passed[ray] = rest


class Advance:
    """See `types.Way`."""

    passes: tuple[int, ...] = (8, 24, 64)  # fewer than on a GPU, since each costs more

    def __init__(self, rays: Rays, bits: Tensor, aabb: Tensor, stride: Stride, room: int, source: Tensor | None = None):
        self.bits, self.source, self.size = bits, source, stride.size
        self.span = grid_span(aabb, stride.linear is not None)
        self.now = None
        self.way = _Walk(rays, aabb, torch.full_like(rays.near, 0.5), stride, len(rays))
        self.passed, self.rgb = torch.ones_like(rays.near), torch.zeros_like(rays.origins)
        self.depth = torch.zeros_like(rays.near)

    def fill(self, k: int) -> tuple[Tensor, Tensor, None]:
        self.way.walk(self.bits, self.bits, 1, k)
        offsets = torch.zeros(self.way.n + 1, dtype=torch.int64)
        offsets[1:] = torch.from_numpy(np.cumsum(self.way.counts))
        self.now = self.way.samples(offsets)
        unit = self.now.unit
        unit = unit if self.source is None else moved(unit, self.source, self.size, self.span)
        return unit, self.now.samples.ray_ids, None

    def blend(self, sigma: Tensor, rgb: Tensor, k: int, stop: float) -> None:
        assert self.now is not None
        s = self.now.samples
        given = sigma.contiguous().numpy(), rgb.contiguous().numpy(), s.t.numpy(), s.dt.numpy(), s.offsets.numpy()
        rays = self.passed.numpy(), self.rgb.numpy(), self.depth.numpy()
        in_parts(lambda begin, end: _blend(*given, *rays, begin, end), self.way.n, RAYS)
        ended = rays[0] <= stop
        self.way.next[ended] = self.way.steps[ended]

    def left(self) -> int:
        return int((self.way.next < self.way.steps).sum())
