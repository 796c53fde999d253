"""What a portable scene holds of a hash-grid model: what evaluation shows, and no more of the field than that needs.

field.levels: (L, 4) resolution, first entry, number of entries and 1 if dense, of each level. field.used: one bit for
each entry, whether it is stored. field.entries: (U, F) the entries that are, in their order. field.density_0 and so on:
see `ops.FieldLayout`. occupancy.aabb: the box. occupancy.shown: one bit for each cell, whether it shows anything.
occupancy.lit, in models that are `extended`: one bit for each cell, whether it shows its own content; others show that
of the cell that `visibility.nearest` gives. mirror.solid, in models with mirrored directions: see `mirror.Mirror`. Bits
are in bytes, the first in the lowest. Cells and vertices are numbered with x fastest.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from nerf_pl.methods.half import halved, take
from nerf_pl.methods.ngp.field import HashField
from nerf_pl.methods.ngp.occupancy import OccupancyGrid
from nerf_pl.methods.ngp.visibility import Shown, flags_of, nearest
from nerf_pl.ops import GridLayout, cell_numbers, cell_places, pack_bits

MARGIN = 0.01  # of a level's cell, by which rounding may move a point across a face
AT_ONCE = 2**20  # cells
CROWDED = 8.0  # level's cells that show, for each entry: then next to no entry is unused


def field_of(field: HashField, occupancy: OccupancyGrid) -> dict[str, Tensor]:
    """The field where it is shown. Entries that no point there reads are left out."""
    used = used_entries(field.grid, occupancy)
    table = halved({"entries": field.table.detach()[used]}, "field.")
    networks = halved(field.networks.parts(field.params), "field.")
    levels = field.grid.table(torch.device("cpu"))
    return {"field.levels": levels, "field.used": to_bytes(used), **table, **networks}


def take_field(field: HashField, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `field_of`; entries that are not stored are 0. Raises ValueError if something does not fit."""
    grid, device = field.grid, field.table.device
    levels = _found(tensors, "field.levels")
    if not torch.equal(levels.cpu(), grid.table(torch.device("cpu"))):
        raise ValueError("field.levels are not those of its options")
    used = from_bytes(_found(tensors, "field.used"), grid.total).to(device)
    entries = torch.zeros(int(used.sum()), grid.features, device=device)
    take(tensors, {"entries": entries}, "field.")
    take(tensors, field.networks.parts(field.params.detach()), "field.")
    with torch.no_grad():
        field.table.zero_()
        field.table[used] = entries
    field.refresh()


def shown_of(occupancy: OccupancyGrid) -> dict[str, Tensor]:
    """The box, and which cells show something."""
    shown = occupancy.shown()
    found = {"occupancy.aabb": occupancy.aabb.contiguous(), "occupancy.shown": to_bytes(flags_of(shown.bits))}
    if shown.source is None:
        return found
    own = torch.arange(len(shown.source), device=shown.source.device)
    return {**found, "occupancy.lit": to_bytes(shown.source == own)}


def take_shown(occupancy: OccupancyGrid, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `shown_of`. Raises ValueError if something does not fit."""
    device, size = occupancy.aabb.device, occupancy.size * (1 if occupancy.extended else occupancy.detail)
    take(tensors, {"aabb": occupancy.aabb}, "occupancy.")
    if not bool((occupancy.aabb[0] < occupancy.aabb[1]).all()):
        raise ValueError("occupancy.aabb is no box")
    flags = from_bytes(_found(tensors, "occupancy.shown"), size**3).to(device)
    source = None
    if occupancy.extended:
        lit = from_bytes(_found(tensors, "occupancy.lit"), size**3).to(device)
        source = nearest(lit.view(size, size, size)).view(-1)
    occupancy.show(Shown(pack_bits(flags), size, source))


def used_entries(grid: GridLayout, occupancy: OccupancyGrid) -> Bool[Tensor, "E"]:
    """Which entries of the table some point that evaluation shows may read."""
    shown = occupancy.shown()
    cells = flags_of(shown.bits).nonzero()[:, 0]
    if shown.source is not None:
        cells = shown.source[cells].unique()
    side = occupancy.span / shown.size  # of a cell, in the unit cube
    used = torch.zeros(grid.total, dtype=torch.bool, device=cells.device)
    for level, (first, size) in enumerate(zip(grid.offsets, grid.sizes, strict=True)):
        wide = max(int(1 / float(side.max() * grid.resolutions[level])), 1)  # so many cells are one of the level's
        place = _blocks(cells, shown.size, wide)
        if len(place) * float((wide * side * grid.resolutions[level]).clamp(min=1).prod()) > CROWDED * size:
            used[first : first + size] = True
            continue
        for part in place.split(AT_ONCE):
            _mark(used, grid, level, part, wide * side)
    return used


def _blocks(cells: Int[Tensor, "N"], size: int, wide: int) -> Int[Tensor, "M 3"]:
    """The places of the blocks of wide^3 cells that these cells of a grid of size^3 are in, in blocks."""
    blocks = cell_places(cells, size) // wide
    return blocks if wide == 1 else cell_places(cell_numbers(blocks, size).unique(), size)


def _mark(used: Bool[Tensor, "E"], grid: GridLayout, level: int, place: Int[Tensor, "N 3"], side: Tensor) -> None:
    """Mark the entries of all vertices of a level around the points of these cells."""
    resolution = grid.resolutions[level]
    low = (place * side * resolution - MARGIN).floor().clamp(0, resolution - 1).long()
    high = ((place + 1) * side * resolution + MARGIN).floor().clamp(0, resolution - 1).long() + 1
    counts = (high - low + 1).amax(0).tolist()
    for step in torch.cartesian_prod(*(torch.arange(n) for n in counts)).view(-1, 3).to(place.device):
        used[grid.entries(level, torch.minimum(low + step, high))] = True


def to_bytes(flags: Bool[Tensor, "N"]) -> UInt8[Tensor, "B"]:
    """8 flags to a byte, the first in its lowest bit; the last byte is filled up with zeros."""
    flags = torch.nn.functional.pad(flags, (0, -len(flags) % 8)).view(-1, 8)
    return (flags.to(torch.uint8) << torch.arange(8, dtype=torch.uint8, device=flags.device)).sum(1, dtype=torch.uint8)


def from_bytes(packed: UInt8[Tensor, "B"], count: int) -> Bool[Tensor, "N"]:
    """The inverse of `to_bytes`. Raises ValueError if these are not the bytes of so many flags."""
    if packed.dtype != torch.uint8 or packed.shape != (math.ceil(count / 8),):
        raise ValueError(f"{tuple(packed.shape)} bytes are not those of {count} flags")
    return (packed[:, None] >> torch.arange(8, dtype=torch.uint8, device=packed.device) & 1).bool().view(-1)[:count]


def _found(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"{name} is missing")
    return tensors[name]
