"""What evaluation shows of a scene: only what light reached in training. Elsewhere the field is noise."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nerf_pl.ops import cell_numbers, cell_places, pack_bits

ENOUGH = 2000  # steps; the rays of the second half of them reach all that is visible
FAINT = 1e-3  # share of the light that one step takes; less does not show
PROBED = 2**16  # cells whose halves are looked at together
WINDOW = 20_000  # steps; their rays reach it in any case (docs/log.md)


@dataclass(frozen=True)
class Shown:
    """Bits of a grid of size^3 cells that rays march through in evaluation.

    source: (G^3,) for each cell of the occupancy grid the cell whose content it shows. None: each shows its own.
    """

    bits: Int[Tensor, "W"]
    size: int
    source: Int[Tensor, "N"] | None = None


def what_shows(occupied: Bool[Tensor, "N"], seen: Int[Tensor, "M"], size: int, detail: int, extended: bool) -> Shown:
    """What evaluation shows of the occupied cells of a grid of size^3.

    seen: the last training step in which light reached each part of a cell. A cell has detail^3 parts, which are
    adjacent. extended: a cell that light did not reach shows the content of the nearest cell that light did reach.
    Otherwise the parts that light did not reach are empty.
    """
    lit = was_lit(seen, extended).view(-1, detail**3)
    if extended:
        source = nearest(lit.any(1).view(size, size, size)).view(-1)
        return Shown(pack_bits(occupied[source]), size, source)
    g, d = size, detail
    parts = (lit & occupied[:, None]).view(g, g, g, d, d, d)
    return Shown(pack_bits(parts.permute(0, 3, 1, 4, 2, 5).reshape(-1)), size * detail)


def was_lit(seen: Int[Tensor, "M"], ever: bool) -> Bool[Tensor, "M"]:
    """Parts of cells that light has reached. In a training too short to reach them all, all of them count.

    ever: light counts at any time, because few rays reach cells far away. Otherwise light counts only in the second
    half of the training so far, and only in its last WINDOW steps if the half is longer. Earlier light does not count:
    it shone through surfaces that had not formed yet.
    """
    last = int(seen.max())
    if last < (1 if ever else ENOUGH):
        return torch.ones_like(seen, dtype=torch.bool)
    return seen > (0 if ever else max(last // 2, last - WINDOW))


def nearest(known: Bool[Tensor, "G G G"]) -> Int[Tensor, "G G G"]:
    """For each cell [z, y, x] the number of the nearest known cell, by steps along the axes. A known cell is its own
    nearest. Without any known cell, each cell is its own.
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


@torch.no_grad()
def without_empty(
    shown: Shown, taken: Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]], span: Float[Tensor, "3"]
) -> Shown:
    """The halves of the cells along each axis in which the field takes more than FAINT of the light of a step at some
    of eight points.

    taken: this share, at points of the unit cube. span: the sides of the grid there.
    """
    size, words = 2 * shown.size, shown.bits.nonzero()[:, 0]  # most words are empty
    found = flags_of(shown.bits[words]).nonzero()[:, 0]
    cells = 32 * words[found // 32] + found % 32
    bits = torch.zeros(size**3 // 32, dtype=torch.int32, device=cells.device)
    eight = torch.cartesian_prod(*(torch.arange(2, device=cells.device),) * 3)
    for part in cells.split(PROBED):
        halves = (2 * cell_places(part, shown.size)[:, None] + eight).view(-1, 3)
        points = (halves[:, None] + (eight + 0.5) / 2) / size * span
        full = halves[taken(points.view(-1, 3)).view(-1, 8).amax(1) > FAINT]
        numbers = cell_numbers(full, size)
        bits.index_add_(0, numbers >> 5, (1 << (numbers & 31)).to(torch.int32))  # each bit comes once
    return Shown(bits, size)


def flags_of(bits: Int[Tensor, "W"]) -> Bool[Tensor, "N"]:
    """The inverse of `ops.pack_bits`."""
    return (bits[:, None] >> torch.arange(32, device=bits.device) & 1).bool().view(-1)


def bits_at(bits: Int[Tensor, "W"], cells: Int[Tensor, "N"]) -> Bool[Tensor, "N"]:
    """Whether the bits of these cells are set."""
    return (bits[cells >> 5] >> (cells & 31) & 1).bool()
