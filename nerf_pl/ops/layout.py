"""How the weights of the 2020 network lie in one flat vector.

One vector means one cast to bf16, one optimizer launch, one all-reduce and one gradient buffer per network, and the
kernels find every matrix at a fixed offset. Matrices are (out, in), row-major.
"""

import math
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class MLPLayout:
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


def encoded_width(n_freqs: int) -> int:
    """Columns of a frequency encoding of 3 coordinates, 3 + 6 n_freqs, padded to a multiple of 16."""
    return -(-(3 + 6 * n_freqs) // 16) * 16
