"""How the weights of a network, and the entries of a hash grid, lie in one flat vector each.

One vector means one cast to half precision, one optimizer launch, one all-reduce and one gradient buffer per network,
and the kernels find every matrix at a fixed offset. Matrices are (out, in), row-major.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

PRIMES = (1, 2654435761, 805459861)
"""Of the spatial hash (Mueller et al. 2022, eq. 4)."""


class FlatLayout:
    """Named shapes, one after the other in a flat vector."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order of storage."""
        raise NotImplementedError

    @cached_property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes.values()]

    @cached_property
    def offsets(self) -> dict[str, int]:
        offsets, at = {}, 0
        for name, size in zip(self.shapes, self.sizes, strict=True):
            offsets[name] = at
            at += size
        return offsets

    @property
    def total(self) -> int:
        return sum(self.sizes)

    def parts(self, params: Tensor) -> dict[str, Tensor]:
        """Views of the vector `params` by name."""
        pieces = params.split(self.sizes)
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), pieces, strict=True)}


@dataclass(frozen=True)
class MLPLayout(FlatLayout):
    """A density network of `depth` layers of `width`, the encoded position entering layer `skip` once more, then a
    feature layer and a colour branch of half the width (NeRF 2020, fig. 7).

    The encoded position and direction are padded with zeros to a multiple of 16, as tensor cores want it. The skip
    layer is stored as two matrices, its position columns (`skip`) and its hidden columns (in `hidden`).
    """

    depth: int = 8
    width: int = 256
    skip: int = 4
    xyz_freqs: int = 10
    dir_freqs: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.skip < self.depth:
            raise ValueError(f"skip={self.skip} must be a layer from 1 to depth - 1 = {self.depth - 1}")
        if self.width % 32:
            raise ValueError(f"width={self.width} must be a multiple of 32")

    @property
    def half(self) -> int:
        return self.width // 2

    @property
    def xyz_width(self) -> int:
        return encoded_width(self.xyz_freqs)

    @property
    def dir_width(self) -> int:
        return encoded_width(self.dir_freqs)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order of storage. `hidden` holds layers 1 to depth - 1 and then the feature layer."""
        W, D, H = self.width, self.depth, self.half
        return {
            "first": (W, self.xyz_width),
            "hidden": (D, W, W),
            "skip": (W, self.xyz_width),
            "dir": (H, W),
            "view": (H, self.dir_width),
            "sigma": (W,),
            "rgb": (3, H),
            "b_hidden": (D + 1, W),
            "b_dir": (H,),
            "b_sigma": (1,),
            "b_rgb": (3,),
        }


@dataclass(frozen=True)
class GridLayout:
    """A multiresolution hash grid (Mueller et al. 2022, section 3): `levels` grids over the unit cube, their resolution
    growing geometrically from `base` to `finest` cells a side, with `features` numbers at every vertex.

    A level whose (resolution + 1)^3 vertices fit into 2^log2_size entries is stored densely, x fastest; the vertices
    of finer ones share 2^log2_size entries by hashing. The flat vector holds (total, features). finer: by which share
    of the way to the next level all levels are finer than that.
    """

    levels: int = 16
    features: int = 2
    log2_size: int = 19
    base: int = 16
    finest: int = 2048
    finer: float = 0.0

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        growth = (self.finest / self.base) ** (1 / max(self.levels - 1, 1))
        # the small number keeps the last level from falling short of `finest` by rounding
        levels = (self.base * growth ** (level + self.finer) for level in range(self.levels))
        return tuple(max(math.floor(cells + 1e-6), 1) for cells in levels)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each level, a multiple of 8."""
        return tuple(min(-(-((r + 1) ** 3) // 8) * 8, 2**self.log2_size) for r in self.resolutions)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        return tuple(sum(self.sizes[:level]) for level in range(self.levels))

    def is_dense(self, level: int) -> bool:
        return (self.resolutions[level] + 1) ** 3 <= 2**self.log2_size

    @property
    def total(self) -> int:
        return sum(self.sizes)

    def entries(self, level: int, vertices: Int[Tensor, "N 3"]) -> Int[Tensor, "N"]:
        """Where in the flat vector the entries of these vertices of a level are."""
        x, y, z = vertices.long().unbind(1)
        side, size = self.resolutions[level] + 1, self.sizes[level]
        if self.is_dense(level):
            return x + side * (y + side * z) + self.offsets[level]
        return (x ^ (y * PRIMES[1]) ^ (z * PRIMES[2])) % size + self.offsets[level]

    @property
    def width(self) -> int:
        """Columns of the encoding."""
        return self.levels * self.features

    def table(self, device: torch.device) -> Tensor:
        """What the kernels read: (levels, 4) int32 of resolution, first entry, entries, and 1 if dense."""
        rows = zip(self.resolutions, self.offsets, self.sizes, map(self.is_dense, range(self.levels)), strict=True)
        return torch.tensor([[int(value) for value in row] for row in rows], dtype=torch.int32, device=device)


@dataclass(frozen=True)
class FieldLayout(FlatLayout):
    """The two networks behind a hash grid (Mueller et al. 2022, section 5.4), without biases.

    density: inputs -> hidden -> outputs, of which the first is the raw density; colour: those outputs and the encoded
    direction -> colour_hidden -> colour_hidden -> 3.
    """

    inputs: int = 32
    hidden: int = 64
    outputs: int = 16
    view: int = 16
    colour_hidden: int = 64

    def __post_init__(self) -> None:
        for name in ("hidden", "outputs", "view", "colour_hidden"):
            value = getattr(self, name)
            if value < 16 or value & (value - 1):
                raise ValueError(f"{name}={value} must be a power of two, 16 or more")

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order of storage. The first colour layer is stored as two matrices."""
        H, C = self.hidden, self.colour_hidden
        return {
            "density_0": (H, self.inputs),
            "density_1": (self.outputs, H),
            "colour_0": (C, self.outputs),
            "view": (C, self.view),
            "colour_1": (C, C),
            "colour_2": (3, C),
        }


def encoded_width(n_freqs: int) -> int:
    """Columns of a frequency encoding of 3 coordinates, 3 + 6 n_freqs, padded to a multiple of 16."""
    return -(-(3 + 6 * n_freqs) // 16) * 16
