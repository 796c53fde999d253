"""What goes into the march through an occupancy grid, and what comes out of it."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nerf_pl.ops.hash_field.types import HashWeights
from nerf_pl.types import Samples


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

    def place(self, t: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        """Where on the ray t is, in sides of the unit cube: a length that grows by as much with every step."""
        return (t if self.linear is None else straightened(t, self.linear)) / self.side


@dataclass(frozen=True)
class Budget:
    """How many samples a training batch takes, and through which cells its rays march.

    size: the most samples. active: how many of the rays march; it is set, in place, to the number that would fill the
    budget next time. kept: set to the number of rays that found room.
    visible: bits of the occupied cells that light reached of late. Most rays march through these alone.
    detail: each cell is divided in so many parts along each axis, and the cells told of samples are these parts,
    numbered cell by cell, x fastest.
    """

    size: int
    active: Int[Tensor, "1"]
    kept: Int[Tensor, "1"]
    visible: Int[Tensor, "W"]
    detail: int = 1


@dataclass(frozen=True)
class Light:
    """Where the rays of a training batch end: at the first sample that no more than the share `least` of their light
    reaches, as the field behind `weights` has it.

    With a small share, what lies farther shows in no pixel, and has next to no gradient. A density that is no
    number takes no light, so it ends no ray.
    """

    weights: HashWeights
    least: float


class March(NamedTuple):
    """Samples in occupied cells.

    samples: t, and dt in sides of the unit cube. unit: the points in the unit cube. cells: the cell of each sample, or
    its part if `Budget.detail` is above 1. ended: the rays that left samples out, as no light reached them; see
    `Light`. None if rays go on to their ends.
    """

    samples: Samples
    unit: Float[Tensor, "N 3"]
    cells: Int[Tensor, "N"]
    ended: Bool[Tensor, "R"] | None = None


@runtime_checkable
class Way(Protocol):
    """Rays on their way through the grid, a few samples at a time. Each pass is a call of `fill`, which gives the next
    samples of the rays that are still on their way, and one of `blend`, which adds what the field says of them.

    passes: how many samples of each ray to take at a time; the last number repeats. passed: the share of light that
    is left of each ray so far. rgb: premultiplied colours. depth: expected distances.
    """

    passes: tuple[int, ...]
    passed: Float[Tensor, "R"]
    rgb: Float[Tensor, "R 3"]
    depth: Float[Tensor, "R"]

    def fill(self, k: int) -> tuple[Float[Tensor, "N 3"], Int[Tensor, "N"], Int[Tensor, "1"] | None]:
        """The next k samples of each ray: points of the unit cube at which to ask the field, ray ids, and how many they
        are if not all of these count (an integer on the device)."""
        ...

    def blend(self, sigma: Float[Tensor, "N"], rgb: Float[Tensor, "N 3"], k: int, stop: float) -> None:
        """Add the samples of the last `fill` to their rays. Rays of which no more than `stop` of the light is left end.

        sigma: density per side of the unit cube."""
        ...

    def left(self) -> int:
        """How many rays are still on their way. Waits for a GPU."""
        ...


def straightened(t: Float[Tensor, "*shape"], linear: float) -> Float[Tensor, "*shape"]:
    """The length that counts steps, where they grow with the distance t past `linear`:  linear (1 + ln(t / linear))."""
    return torch.where(t > linear, linear * (1 + (t.clamp(min=linear) / linear).log()), t)
