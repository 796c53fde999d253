"""A picture that takes long: its rows are shown as they are rendered, from the top, over the coarser one before."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from nerf_pl.cameras import View
from nerf_pl.rendering import Image, on_top
from nerf_pl.types import Pixels
from nerf_pl.viewer.paint import Span, paint
from nerf_pl.viewer.stage import Mode


@dataclass
class Rows:
    """The picture of a view, as far as it is rendered.

    before: the coarser picture, of the same size. span: see `paint`. passes: the picture is the mean of so many models,
    each of which renders all rows before the next one does. Rays come row by row. Those that pixels with an edge have
    beside come at the end, and are left to the whole picture.
    """

    before: UInt8[ndarray, "H W 3"]
    view: View
    mode: Mode
    span: Span | None
    passes: int
    _sum: Float[Tensor, "P 5"] | None = None  # of colour, depth and opacity of each pixel
    _n: int = 0  # pixels that are rendered, of all passes
    _shown: int = 0  # of these, in the last picture

    def add(self, pixels: Pixels) -> None:
        """Take the next pixels."""
        width, height = self.view.size
        if self._n == self.passes * width * height:
            return
        found = torch.cat([pixels.rgb.clamp(0, 1), pixels.depth[:, None], pixels.opacity[:, None]], 1)
        if self._sum is None:
            self._sum = found.new_zeros(width * height, 5)
        start = self._n % len(self._sum)
        self._sum[start : start + len(found)] += found
        self._n += len(found)

    def picture(self) -> UInt8[ndarray, "H W 3"] | None:
        """The picture so far; None if there is no more of it than the last time."""
        if self._sum is None or self._n == self._shown:
            return None
        self._shown = self._n
        width, height = self.view.size
        whole, rest = divmod(self._n, len(self._sum))
        times = torch.full_like(self._sum[:, :1], max(whole, 1))
        times[:rest] = whole + 1
        rgb, depth, opacity = (self._sum / times).split([3, 1, 1], 1)
        rgb = on_top(rgb, opacity[:, 0], self.view.background).clamp(0, 1)
        image = Image(rgb.view(height, width, 3), depth.view(height, width), opacity.view(height, width))
        rows = height if whole else max(rest // width - 1, 0)  # normals also depend on the row below
        picture = self.before.copy()
        picture[:rows] = paint(image, self.view, self.mode, self.span)[:rows]
        return picture
