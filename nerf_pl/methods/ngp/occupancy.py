"""The occupancy grid, which follows the density of the field."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nerf_pl.methods.ngp.hull import points_of
from nerf_pl.methods.ngp.visibility import Shown, bits_at, flags_of, what_shows, without_empty
from nerf_pl.ops import (
    Backend,
    Budget,
    Light,
    March,
    Stride,
    cell_numbers,
    cell_places,
    contract,
    grid_span,
    march,
    moved,
    pack_bits,
)
from nerf_pl.types import Rays

THRESHOLD = 0.01  # least share of the light that an occupied cell takes in one step of the march
PART = {"cuda": 2**19, "cpu": 2**14}  # most cells at which one update asks for the density
WHOLE = 16  # the first updates, which ask at all cells
FORMING = 0.3  # share of the mean density that an occupied cell has at least, where space is unbounded (docs/log.md)
MOST_HALVED = 512  # cells along an axis; their halves take 128 MB as bits
DECAY = 0.95  # of the stored densities, at each update
CONE = 1 / 256  # step over distance, where steps of an unbounded space grow (Mueller et al. 2022, appendix E.1)


class OccupancyGrid(nn.Module):
    """A grid of size^3 cells over a box, each with a density of its own (Mueller et al. 2022, appendix E.2).

    A cell is occupied if one step of the march in it would take more than THRESHOLD of the light. Only `possible` cells
    can be occupied; a cell is not possible if no camera sees it or if the masks exclude it.
    unbounded: the box is the middle of all of space, see `ops.contract`. detail, extended: decide what evaluation
    shows, see `visibility.what_shows`.
    """

    aabb: Tensor
    density: Tensor
    bits: Tensor
    seen: Tensor
    visible: Tensor
    possible: Tensor

    def __init__(
        self,
        aabb: Float[Tensor, "2 3"],
        size: int,
        backend: Backend,
        *,
        unbounded: bool = False,
        extended: bool = False,
        detail: int = 1,
    ):
        super().__init__()
        if size % 32:
            raise ValueError(f"size={size} must be a multiple of 32")
        self.size, self.backend = size, backend
        self.unbounded, self.extended, self.detail = unbounded, extended, detail
        self.register_buffer("aabb", aabb.to(torch.float32))
        self.register_buffer("density", torch.zeros(size**3))
        self.register_buffer("bits", torch.full((size**3 // 32,), -1, dtype=torch.int32))
        # the last step in which light reached each part of a cell; the parts of a cell are adjacent
        self.register_buffer("seen", torch.zeros((size * detail) ** 3, dtype=torch.int32))
        self.register_buffer("visible", torch.full((size**3 // 32,), -1, dtype=torch.int32))
        self.register_buffer("possible", torch.ones(size**3, dtype=torch.bool))
        self._cells: Tensor | None = None  # numbers of the possible cells
        self._shown: Shown | None = None
        self._filled: Shown | None = None
        self.register_load_state_dict_post_hook(lambda module, _: module._changed())

    def restrict(self, possible: Bool[Tensor, "G G G"]) -> None:
        """Let only these cells, indexed [z, y, x], be occupied from now on. All of them are, until the next update."""
        self.possible.copy_(possible.reshape(-1))
        self.bits.copy_(pack_bits(self.possible))
        self.visible.copy_(self.bits)
        self._changed()

    def _changed(self) -> None:
        self._cells = None
        self.forget_shown()

    # ---- space -------------------------------------------------------------------------------------------------------

    def stride(self, step: float) -> Stride:
        """Steps of this world length. In an unbounded space they grow with the distance."""
        side = float((self.aabb[1] - self.aabb[0]).max())  # waits for a GPU, so it is read once
        return Stride(step, self.size, side, step / CONE if self.unbounded else None)

    def unit(self, xyz: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"] | float]:
        """World points in the unit cube, and the factor by which lengths have shrunk there.

        The longest side of the box fills the cube, or half of it if space is unbounded.
        """
        if self.unbounded:
            return contract(xyz, self.aabb)
        return (xyz - self.aabb[0]) / (self.aabb[1] - self.aabb[0]).max(), 1.0

    @property
    def span(self) -> Float[Tensor, "3"]:
        """The sides of the grid in the unit cube."""
        return grid_span(self.aabb, self.unbounded)

    def march(
        self, rays: Rays, stride: Stride, jitter: Float[Tensor, "R"], budget: Budget, light: Light | None = None
    ) -> March:
        """Samples of a training step in occupied cells; see `ops.march`."""
        return march(rays, self.bits, self.aabb, jitter, stride, budget, light, backend=self.backend)

    # ---- what evaluation shows ---------------------------------------------------------------------------------------

    def shown(self) -> Shown:
        """What evaluation shows. It is kept until training continues."""
        if self._shown is None:
            self._shown = what_shows(flags_of(self.bits), self.seen, self.size, self.detail, self.extended)
        return self._shown

    def filled(self, taken: Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]]) -> Shown:
        """What shows, without the parts that the field leaves empty, see `visibility.without_empty`. Kept as `shown`
        is. Where cells show the content of others, and of very many cells, it is all that shows."""
        if self._filled is None:
            shown = self.shown()
            whole = self.extended or shown.size > MOST_HALVED
            self._filled = shown if whole else without_empty(shown, taken, self.span)
        return self._filled

    def show(self, shown: Shown) -> None:
        """Show this from now on. It is kept until training continues."""
        self._shown, self._filled = shown, None

    def forget_shown(self) -> None:
        """Call this when training continues, since light will reach other cells."""
        self._shown = self._filled = None

    def moved(self, unit: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """The points at which evaluation asks the field in place of these points of the unit cube."""
        source = self.shown().source
        return unit if source is None else moved(unit, source, self.size, self.span)

    def shows(self, unit: Float[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
        """Whether evaluation shows the field at these points of the unit cube."""
        shown = self.shown()
        place = unit / self.span
        inside = ((place >= 0) & (place <= 1)).all(1)
        cells = cell_numbers((place * shown.size).long().clamp(0, shown.size - 1), shown.size)
        return bits_at(shown.bits, cells) & inside

    # ---- following the density ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def update(
        self,
        density: Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]],
        uniform: Callable[[int], Float[Tensor, "M"]],
        *,
        march_step: float,
        turn: int,
        since: int,
    ) -> None:
        """Ask for the density at a random point of each possible cell, and set the bits.

        After the first updates, each update asks at a part of the cells in turn. A stored density fades by DECAY, so a
        cell whose random point misses the surface stays occupied for some updates. A cell is visible if light reached a
        sample in it in a training step after `since`.
        density: maps world points to densities. uniform: gives n random numbers in [0, 1). turn: number of the update.
        """
        cells, n_parts = self._due(turn)
        n, size = len(cells), self.size
        place = cell_places(cells, size) + uniform(3 * n).view(n, 3)
        xyz, shrunk = points_of(place / size, self.aabb, self.unbounded)
        sigma = density(xyz) * shrunk  # steps are longer there by the same factor
        self.density[cells] = torch.maximum(self.density[cells] * DECAY, sigma)
        found = self.density[self._possible_cells()] if n_parts > 1 else self.density[cells]
        # a field that has not formed yet is thin everywhere, so the threshold is never above the mean, or a share of it
        share = FORMING if self.unbounded else 1.0
        least = torch.clamp(share * found.mean(), max=THRESHOLD / march_step) if n else self.density.new_zeros(())
        occupied = (self.density > least) & self.possible
        self.bits.copy_(pack_bits(occupied))
        seen = (self.seen > since).view(-1, self.detail**3).any(1)
        self.visible.copy_(pack_bits(occupied & seen))
        self.forget_shown()

    def taken(self, side: float) -> Float[Tensor, "C"]:
        """Which share of the light each cell takes on the length of a cell. side: of the grid, in the world."""
        return -torch.expm1(-self.density * (side / self.size)) * self.possible

    def _due(self, turn: int) -> tuple[Tensor, int]:
        """The cells at which an update asks for the density, and the number of parts that all cells form."""
        cells = self._possible_cells()
        n_parts = -(-len(cells) // PART["cpu" if cells.device.type == "cpu" else "cuda"])
        n_parts = min(n_parts, 1) if turn < WHOLE and len(cells) <= PART["cuda"] else n_parts
        return (cells[turn % n_parts :: n_parts] if n_parts else cells), n_parts

    def _possible_cells(self) -> Tensor:
        if self._cells is None:
            self._cells = self.possible.nonzero().squeeze(1)
        return self._cells
