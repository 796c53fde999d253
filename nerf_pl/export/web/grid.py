"""The baked grid: blocks of lattice points, most of which are empty and not kept."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nerf_pl.export.web.space import Space

BLOCK = 4  # lattice points along each side of a block
FARTHEST = 31  # blocks: larger distances are not told apart
FEATURES = 8  # of view dependence, at each point
CHANNELS = 1 + 3 + FEATURES


@dataclass(frozen=True)
class Grid:
    """Values at the lattice points of a space.

    numbers: of the kept points, (P,) numbers of their blocks times BLOCK^3 plus their places in these, x fastest; in
    ascending order. values: opacity, see `opacity`, then diffuse colour and features of view dependence.
    far: for each block how many blocks away, along any axis, there is one with something in it; 0 for those, up to
    FARTHEST. Blocks are indexed [z, y, x]. slots: for each block with far = 0 its number among them, -1 for others.
    rows: for each slot the rows in `values` of the block's (BLOCK + 1)^3 points, those that it shares with the blocks
    after it included; P for points that are not kept.
    """

    space: Space
    numbers: Int[Tensor, "P"]
    values: Float[Tensor, "P ch"]
    far: Int[Tensor, "Z Y X"]
    slots: Int[Tensor, "Z Y X"]
    rows: Int[Tensor, "S B"]

    @staticmethod
    def of(space: Space, numbers: Int[Tensor, "P"], values: Float[Tensor, "P ch"]) -> "Grid":
        """The grid with these points; see the fields of the same names."""
        shape, device = blocks_of(space), numbers.device
        owners, place = (numbers // BLOCK**3).unique(return_inverse=True)
        owner_slots = torch.full((shape[0] * shape[1] * shape[2],), -1, device=device)
        owner_slots[owners] = torch.arange(len(owners), device=device)
        own = torch.full((len(owners) + 1, BLOCK**3), len(numbers), dtype=torch.int32, device=device)
        own[place, numbers % BLOCK**3] = torch.arange(len(numbers), device=device, dtype=torch.int32)
        owner_slots = owner_slots.view(shape)
        far = distances(owner_slots >= 0)
        full = far == 0
        slots = torch.full(shape, -1, device=device)
        slots[full] = torch.arange(int(full.sum()), device=device)
        return Grid(space, numbers, values, far, slots, _with_shared(full, owner_slots, own))

    def corners(self, places: Float[Tensor, "N 3"]) -> tuple[Int[Tensor, "N 8"], Float[Tensor, "N 8"]]:
        """The rows of the eight lattice points around places that are counted in cells, and their trilinear weights.
        Points that are not kept have row P."""
        most = places.new_tensor(self.far.shape[::-1], dtype=torch.long) - 1
        block = torch.minimum((places / BLOCK).long().clamp(min=0), most)
        local = (places - block * BLOCK).clamp(0, BLOCK)
        first = local.floor().clamp(max=BLOCK - 1)
        x, y, z = block.unbind(1)
        slot = self.slots[z, y, x]
        steps = torch.cartesian_prod(*(torch.arange(2, device=places.device),) * 3)  # (8, 3)
        inner = _number(first.long(), BLOCK + 1)[:, None] + _number(steps, BLOCK + 1)
        found = self.rows.view(-1)[slot.clamp(min=0)[:, None] * (BLOCK + 1) ** 3 + inner].long()
        rows = torch.where(slot[:, None] >= 0, found, len(self.numbers))
        part = (local - first)[:, None]
        return rows, torch.where(steps.bool(), part, 1 - part).prod(2)

    def at(self, places: Float[Tensor, "N 3"], values: Float[Tensor, "P ch"] | None = None) -> Float[Tensor, "N ch"]:
        """Values between lattice points: opacity is interpolated, and the others are means that it weights. values:
        in place of those of the grid. Differentiable in them."""
        values = self.values if values is None else values
        rows, weights = self.corners(places)
        # index_select, since its gradient is a plain sum
        found = F.pad(values, (0, 0, 0, 1)).index_select(0, rows.flatten()).view(*rows.shape, -1)  # (N, 8, ch)
        shares = weights * found[..., 0]
        total = shares.sum(1, keepdim=True)
        rest = (shares[..., None] * found[..., 1:]).sum(1) / total.clamp(min=1e-6)
        return torch.cat([total, rest], 1)


def _with_shared(
    full: Bool[Tensor, "Z Y X"], owner_slots: Int[Tensor, "Z Y X"], own: Int[Tensor, "O B"]
) -> Int[Tensor, "S C"]:
    """`Grid.rows`, given the rows of each block's own points; the last row of `own` is that of blocks without any."""
    z, y, x = full.nonzero(as_tuple=True)
    padded = F.pad(owner_slots, (0, 1, 0, 1, 0, 1), value=-1)
    columns = []
    for at in torch.cartesian_prod(*(torch.arange(BLOCK + 1),) * 3).flip(1).tolist():  # x fastest
        over = [int(i == BLOCK) for i in at]
        owner = padded[z + over[2], y + over[1], x + over[0]]
        columns.append(own[owner, at[0] % BLOCK + BLOCK * (at[1] % BLOCK + BLOCK * (at[2] % BLOCK))])
    return torch.stack(columns, 1)


def _number(at: Int[Tensor, "*shape 3"], side: int) -> Int[Tensor, "*shape"]:
    x, y, z = at.unbind(-1)
    return x + side * (y + side * z)


def blocks_of(space: Space) -> tuple[int, int, int]:
    """How many blocks hold the lattice points of a space, along z, y and x."""
    z, y, x = (n // BLOCK + 1 for n in reversed(space.counts))
    return z, y, x


def points_at(space: Space, numbers: Int[Tensor, "P"]) -> Int[Tensor, "P 3"]:
    """The lattice points with these numbers; see `Grid`."""
    _, ny, nx = blocks_of(space)
    block, local = numbers // BLOCK**3, numbers % BLOCK**3
    corner = torch.stack([block % nx, block // nx % ny, block // (nx * ny)], 1)
    within = torch.stack([local % BLOCK, local // BLOCK % BLOCK, local // BLOCK**2], 1)
    return corner * BLOCK + within


def numbers_of(space: Space, points: Int[Tensor, "P 3"]) -> Int[Tensor, "P"]:
    """The inverse of `points_at`; -1 for points outside."""
    z, y, x = blocks_of(space)
    block = points.div(BLOCK, rounding_mode="floor")
    inside = ((block >= 0) & (block < points.new_tensor([x, y, z]))).all(1)
    number = block[:, 0] + x * (block[:, 1] + y * block[:, 2])
    return torch.where(inside, number * BLOCK**3 + _number(points % BLOCK, BLOCK), -1)


def spread(space: Space, numbers: Int[Tensor, "P"], way: int) -> Int[Tensor, "Q"]:
    """The lattice points with these numbers and, along each axis, the next ones in a direction: 1 or -1; in ascending
    order."""
    limits = torch.tensor(space.counts, device=numbers.device)
    for axis in range(3):
        points = points_at(space, numbers)
        points[:, axis] += way
        inside = ((points >= 0) & (points <= limits)).all(1)
        numbers = torch.cat([numbers, numbers_of(space, points[inside])]).unique()
    return numbers


def distances(owners: Bool[Tensor, "Z Y X"]) -> Int[Tensor, "Z Y X"]:
    """`Grid.far`, given the blocks that have points. A block also has something in it if one that follows it along
    some of the axes has points: cells lie between points."""
    near = F.max_pool3d(F.pad(owners.float(), (0, 1, 0, 1, 0, 1))[None, None], 2, 1)
    far = torch.zeros_like(owners, dtype=torch.long)
    for _ in range(FARTHEST):
        far += near[0, 0] == 0
        near = F.max_pool3d(near, 3, 1, 1)
    return far
