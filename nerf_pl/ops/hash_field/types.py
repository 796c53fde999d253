"""What goes into the field of a hash grid and into its loss."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.ops.layout import FieldLayout, GridLayout
from nerf_pl.types import Samples


@dataclass(frozen=True)
class HashWeights:
    """All that a hash-grid field has learned, and how it lies.

    table: entries of all levels, laid out as `grid` says. params: weights of both networks, as `networks` says.
    values: the copy of the table that kernels read, in float16; whoever changes the table writes it too. The twin reads
    the table itself.
    """

    table: Float[Tensor, "E F"]
    params: Float[Tensor, "P"]
    grid: GridLayout
    networks: FieldLayout
    values: Float[Tensor, "E F"] | None = None

    def read(self) -> Tensor:
        """The entries that kernels read. Raises ValueError without."""
        if self.values is None:
            raise ValueError("the kernels read HashWeights.values, a copy of the table in float16: it is None")
        return self.values


@dataclass(frozen=True)
class Normals:
    """Which way surfaces face, on a grid over the unit cube, which is read between its cells.

    values: of cells [z, y, x], of any length, 0 where it is not known; the fourth number is 0. scale: how many cells a
    side of the unit cube is long, along each axis.
    """

    values: Float[Tensor, "S S S 4"]
    scale: Float[Tensor, "3"]


@dataclass(frozen=True)
class Target:
    """What `field_loss` compares the rendered pixels with, and the buffers that it updates.

    With P pixels for R = k P rays each pixel is the `mean_of_rays` of k rays after each other.
    rgb, background: colours of the pixels, and of what is behind them. kept: how many rays count. cells: in which cell
    each sample lies. seen: for each cell the last step in which light reached it; those that it reaches now are set to
    `step`.
    share: the largest part of the samples that the backward pass visits; 1 visits all. least: a sample with a gradient
    of this size or more is surely visited. It is adapted in place, so that as many are visited as `share` says.
    close_range: gradients of samples nearer to the camera than this are multiplied by (t / close_range)^2; 0: of none.
    charbonnier: error of a colour from which on it counts by its size, not by its square, see `losses.photometric`;
    0: all errors count by their squares.
    distortion, smoothness: weights of the losses of these names. For distortion, place says where on its ray each
    sample lies, and width how long a step is there; both in sides of the unit cube.
    clear: up to which t there is nothing on the rays of each pixel. emptiness: weight of the loss of this name, on the
    device, since it changes from step to step.
    """

    rgb: Float[Tensor, "P 3"]
    background: Float[Tensor, "P 3"]
    kept: Int[Tensor, "1"]
    cells: Int[Tensor, "N"]
    seen: Int[Tensor, "C"]
    step: Int[Tensor, "1"]
    least: Float[Tensor, "1"]
    share: float = 1.0
    close_range: float = 0.0
    charbonnier: float = 0.0
    place: Float[Tensor, "N"] | None = None
    width: float = 0.0
    distortion: float = 0.0
    smoothness: float = 0.0
    clear: Float[Tensor, "P"] | None = None
    emptiness: Float[Tensor, "1"] | None = None

    def rays_per_pixel(self, samples: Samples) -> int:
        return (samples.offsets.shape[0] - 1) // max(self.rgb.shape[0], 1)

    def rays_kept(self, samples: Samples) -> int:
        """How many rays count: of pixels all of whose rays found room. Waits for a GPU."""
        k = self.rays_per_pixel(samples)
        return int(self.kept) // k * k


class Listed(NamedTuple):
    """The samples that a backward pass goes back to, in any order. Arrays may be longer than the list.

    order: their numbers. count: how many they are. d_sigma, d_rgb: gradients of their densities and colours, divided by
    the probability of being listed.
    """

    order: Int[Tensor, "M"]
    count: Int[Tensor, "1"]
    d_sigma: Float[Tensor, "M"]
    d_rgb: Float[Tensor, "M 3"]
