"""Where there is something: a grid that follows the density."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nerf_pl import ops
from nerf_pl.hull import points_of
from nerf_pl.types import Rays, Samples

THRESHOLD = 0.01  # of the light, which a step through an occupied cell takes at least
PART = {"cuda": 2**19, "cpu": 2**14}  # cells that one update asks for at most
ENOUGH = 2000  # steps, after which the rays of a half of them have found what can be seen
WINDOW = 20_000  # steps whose rays find it in any case
WHOLE = 16  # first updates, that ask for all of them all the same
DECAY = 0.95  # of the densities found, in an update
CONE = 1 / 256  # step over distance, where steps of an unbounded space grow (Mueller et al. 2022, appendix E.1)


class OccupancyGrid(nn.Module):
    """A grid of size^3 cells over a box, each with the density last seen in it (Mueller et al. 2022, appendix E.2).

    A cell is occupied if light would lose more than THRESHOLD of itself within a step of the march. `possible` cells
    are those that may ever be: where no camera looks, or where the masks leave nothing, none is. unbounded: the box is
    the middle of all of space, see `ops.contract`. plain: march in plain PyTorch on a GPU as well.

    In evaluation what light did not reach in training is empty, since of it the field says nothing but noise: cells, or
    parts of them, of which each has detail^3. extended: such cells hold what the nearest one does that it reached.
    """

    density: Tensor
    bits: Tensor
    seen: Tensor
    visible: Tensor
    aabb: Tensor
    possible: Tensor

    def __init__(
        self,
        aabb: Float[Tensor, "2 3"],
        size: int,
        plain: bool = False,
        unbounded: bool = False,
        extended: bool = False,
        detail: int = 1,
    ):
        super().__init__()
        if size % 32:
            raise ValueError(f"size={size} must be a multiple of 32")
        self.size, self.plain = size, plain
        self.unbounded, self.extended, self.detail = unbounded, extended, detail
        self.register_buffer("aabb", aabb.to(torch.float32))
        self.register_buffer("density", torch.zeros(size**3))
        self.register_buffer("bits", torch.full((size**3 // 32,), -1, dtype=torch.int32))
        # the last step in which light reached a part, those of a cell one after the other
        self.register_buffer("seen", torch.zeros((size * detail) ** 3, dtype=torch.int32))
        self.register_buffer("visible", torch.full((size**3 // 32,), -1, dtype=torch.int32))
        self.register_buffer("possible", torch.ones(size**3, dtype=torch.bool))
        self._cells: Tensor | None = None  # numbers of the possible cells
        self._shown: tuple[Tensor, Tensor | None] | None = None  # bits, and which cell stands for each
        self.register_load_state_dict_post_hook(lambda module, _: module._changed())

    def restrict(self, possible: Bool[Tensor, "G G G"]) -> None:
        """Only these cells, indexed [z, y, x], may be occupied from now on; all of them are until the next update."""
        self.possible.copy_(possible.reshape(-1))
        self.bits.copy_(ops.pack_bits(self.possible))
        self.visible.copy_(self.bits)
        self._changed()

    def _changed(self) -> None:
        self._cells = self._shown = None

    def stride(self, step: float) -> ops.Stride:
        """Steps of this world length; those of an unbounded space grow with the distance."""
        side = float((self.aabb[1] - self.aabb[0]).max())  # waits for a GPU, so ask once
        return ops.Stride(step, self.size, side, step / CONE if self.unbounded else None)

    def unit(self, xyz: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"] | float]:
        """World points in the unit cube, and by how much lengths there have shrunk; the longest side of the box fills
        the cube, or half of it where space is unbounded."""
        if self.unbounded:
            return ops.contract(xyz, self.aabb)
        return (xyz - self.aabb[0]) / (self.aabb[1] - self.aabb[0]).max(), 1.0

    def march(
        self, rays: Rays, stride: ops.Stride, jitter: Float[Tensor, "R"], batch: ops.Batch | None = None
    ) -> tuple[Samples, Float[Tensor, "N 3"], Int[Tensor, "N"]]:
        """Samples in occupied cells, with dt in sides of the unit cube, their points in it, and cells; see
        `ops.march`."""
        march = ops.march_reference.march if self.plain else ops.march
        bits, stride = (self.bits, stride) if self.training else (self.shown(), self.through_shown(stride))
        t, dt, ray_ids, offsets, unit, cells = march(
            rays.origins, rays.directions, rays.near, rays.far, bits, self.aabb, jitter, stride, batch
        )
        return Samples(t, dt, ray_ids, offsets), unit if self.training else self.moved(unit), cells

    def shown(self) -> Tensor:
        """Bits of what is to be shown in evaluation: of the parts of cells, as cells of a grid of their own, or of the
        cells where they are extended. See `through_shown`."""
        if self._shown is None:
            lit, d, g = self.lit().view(-1, self.detail**3), self.detail, self.size
            if self.extended:
                source = nearest(lit.any(1).view(g, g, g)).view(-1)
                self._shown = ops.pack_bits(self._occupied()[source]), source
            else:
                parts = (lit & self._occupied()[:, None]).view(g, g, g, d, d, d)
                self._shown = ops.pack_bits(parts.permute(0, 3, 1, 4, 2, 5).reshape(-1)), None
        return self._shown[0]

    def through_shown(self, stride: ops.Stride) -> ops.Stride:
        """The same steps through the grid that `shown` speaks of."""
        return stride if self.extended else replace(stride, size=self.size * self.detail)

    def forget_shown(self) -> None:
        """Training goes on: light will reach other cells."""
        self._shown = None

    def lit(self) -> Bool[Tensor, "N"]:
        """Parts of cells that light has reached. In a box it must have been in the second half of the training so far,
        in its last WINDOW steps if that is less: before, it shines through what is yet to form. All count while that
        is too little to have found them all.

        Where cells are to be extended it may have been at any time: cells far away are reached by few rays, and one of
        another kind in their place shows more than what noise they hold.
        """
        last = int(self.seen.max())
        if self.extended:
            return self.seen > 0 if last else torch.ones_like(self.seen, dtype=torch.bool)
        since = max(last // 2, last - WINDOW)
        return self.seen > since if last >= ENOUGH else torch.ones_like(self.seen, dtype=torch.bool)

    def moved(self, unit: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Points of the unit cube, to where the field is to be asked for them in evaluation."""
        if not self.extended:
            return unit
        self.shown()
        assert self._shown is not None
        source = self._shown[1]
        assert source is not None
        sides = self.aabb[1] - self.aabb[0]
        span = torch.ones_like(sides) if self.unbounded else sides / sides.max()
        place = (unit / span * self.size).long().clamp(0, self.size - 1)
        cell = place[:, 0] + self.size * (place[:, 1] + self.size * place[:, 2])
        source = source[cell]
        other = torch.stack([source % self.size, source // self.size % self.size, source // self.size**2], 1)
        return unit + (other - place) * (span / self.size)

    @torch.no_grad()
    def update(
        self,
        density: Callable[[Tensor], Tensor],
        uniform: Callable[[int], Tensor],
        march_step: float,
        turn: int,
        since: int,
    ) -> None:
        """Ask for the density at a random point of possible cells, all of them or a part in turn, and set the bits. A
        part will do once the field has formed.

        What was found before fades by DECAY, so that a cell of which a random point missed the surface stays for some
        updates. A cell is visible if light reached a sample in it in a training step after `since`.
        uniform(n): n random numbers in [0, 1).
        """
        if self._cells is None:
            self._cells = self.possible.nonzero().squeeze(1)
        parts = -(-len(self._cells) // PART["cpu" if self._cells.device.type == "cpu" else "cuda"])
        parts = min(parts, 1) if turn < WHOLE and len(self._cells) <= PART["cuda"] else parts
        cells = self._cells[turn % parts :: parts] if parts else self._cells
        n, size = len(cells), self.size
        place = torch.stack([cells % size, cells // size % size, cells // size**2], 1)
        xyz, shrunk = points_of((place + uniform(3 * n).view(n, 3)) / size, self.aabb, self.unbounded)
        sigma = density(xyz) * shrunk  # steps are as much longer there
        self.density[cells] = torch.maximum(self.density[cells] * DECAY, sigma)
        found = self.density[self._cells] if parts > 1 else self.density[cells]
        # a field that has not formed yet is thin everywhere: no more than the mean is asked of a cell
        least = torch.clamp(found.mean(), max=THRESHOLD / march_step) if n else self.density.new_zeros(())
        occupied = (self.density > least) & self.possible
        self.bits.copy_(ops.pack_bits(occupied))
        seen = (self.seen > since).view(-1, self.detail**3).any(1)
        self.visible.copy_(ops.pack_bits(occupied & seen))
        self._shown = None

    def share(self) -> float:
        """Share of all cells that are occupied."""
        return float(self._occupied().float().mean())

    def _occupied(self) -> Bool[Tensor, "N"]:
        return (self.bits[:, None] >> torch.arange(32, device=self.bits.device) & 1).bool().view(-1)


def nearest(known: Bool[Tensor, "G G G"]) -> Int[Tensor, "G G G"]:
    """For each cell [z, y, x] the number of the nearest known one, by steps along the axes: itself if it is known.
    Without a known cell each stands for itself.
    """
    size = len(known)
    own = torch.arange(size**3, device=known.device).view(known.shape)
    if not bool(known.any()):
        return own
    source = torch.where(known, own, -1)
    while bool((source < 0).any()):
        before = F.pad(source, (1, 1, 1, 1, 1, 1), value=-1)
        for axis in range(3):
            for start in (0, 2):
                ranges = [slice(1, -1)] * 3
                ranges[axis] = slice(start, start + size)
                source = torch.where(source < 0, before[tuple(ranges)], source)
    return source
