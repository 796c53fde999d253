"""Points that two pictures share: corners, known again by the pixels around them, as far as their neighbours agree."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nerf_pl.scenes.scene import Scene, on_background

SIDE = 256  # pixels of the longer side of the pictures that are looked at
MOST = 400  # corners of a picture
APART = 7  # pixels: the side of the square in which one corner counts
PATCH = 9  # pixels: the side of the square by which a corner is known
MARGIN = 8  # pixels at the borders without corners
PLAIN = 1e-5  # squared slope of the grey values, below which nothing is a corner
ALIKE, SINGLE = 0.85, 0.04  # correlation of two patches that may be of one point, and by how much the next is worse
AROUND, AGREEING = 5, 3  # of so many neighbours so many move alike
TOGETHER = 0.03 * SIDE  # pixels by which motions differ that are alike
STILL = 1.0  # pixels; what moves less is painted on all pictures, as the date of a film
FEWEST = 8  # points


@dataclass(frozen=True)
class Corners:
    """Corners of a small picture. at: x, y from its left upper corner; patches: of length 1, mean 0; scale: pixels of
    the small picture for one of the view's own."""

    at: Float[Tensor, "n 2"]
    patches: Float[Tensor, "n p"]
    scale: tuple[float, float]


def corners(scene: Scene, index: int) -> Corners:
    """The strongest corners of a view (Shi and Tomasi 1994), without those that its mask leaves out."""
    grey, counts, scale = _small(scene, index)
    across, down = grey[1:-1, 2:] - grey[1:-1, :-2], grey[2:, 1:-1] - grey[:-2, 1:-1]
    xx, xy, yy = (_blurred(part / 4, 2.0) for part in (across * across, across * down, down * down))
    least = (xx + yy) / 2 - (((xx - yy) / 2) ** 2 + xy * xy).sqrt()  # eigenvalue of the tensor of slopes
    least = F.pad(least, (1, 1, 1, 1))
    inner = torch.zeros_like(counts)
    inner[MARGIN:-MARGIN, MARGIN:-MARGIN] = True
    highest = F.max_pool2d(least[None, None], APART, 1, APART // 2)[0, 0]
    strength = torch.where((least == highest) & inner & counts, least, 0.0).flatten()
    best, where = strength.topk(min(MOST, len(strength)))
    where = where[best > PLAIN]
    width = grey.shape[1]
    y, x = where // width, where % width
    reach = torch.arange(PATCH) - PATCH // 2
    patches = _blurred(grey, 1.0)[(y[:, None] + reach)[:, :, None], (x[:, None] + reach)[:, None]].flatten(1)  # (n, p)
    patches = patches - patches.mean(1, keepdim=True)
    return Corners(torch.stack([x, y], 1) + 0.5, F.normalize(patches, dim=1), scale)


def shared(first: Corners, second: Corners) -> tuple[Float[Tensor, "m 2"], Float[Tensor, "m 2"]]:
    """Where two pictures have the points that both show. Each is the best for the other, no other one is nearly as
    good, and most of its neighbours move as it does."""
    none = first.at[:0], second.at[:0]
    if min(len(first.at), len(second.at)) < FEWEST:
        return none
    alike = first.patches @ second.patches.T
    best, which = alike.topk(2, dim=1)
    returns = alike.argmax(0)[which[:, 0]] == torch.arange(len(alike))
    clear = returns & (best[:, 0] > ALIKE) & (best[:, 0] - best[:, 1] > SINGLE)
    here, there = first.at[clear], second.at[which[clear, 0]]
    if len(here) < FEWEST:
        return none
    motion = there - here
    around = torch.cdist(here, here).topk(AROUND + 1, largest=False).indices[:, 1:]
    agree = ((motion[around] - motion[:, None]).norm(dim=-1) < TOGETHER).sum(1) >= AGREEING
    kept = agree & (motion.norm(dim=-1) > STILL)
    return here[kept], there[kept]


def _small(scene: Scene, index: int) -> tuple[Float[Tensor, "h w"], Tensor, tuple[float, float]]:
    """Grey values of a view, reduced, which of them count, and the scale along x and y."""
    width, height = scene.cameras.size(index)
    skip = max(max(width, height) // (2 * SIDE), 1)  # the mean of all pixels of a large picture takes long
    picture = on_background(scene.images[index, :height:skip, :width:skip], scene.background).mean(-1)
    mask = scene.mask(index)
    counts = torch.ones_like(picture) if mask is None else mask[::skip, ::skip].float()
    shrink = min(SIDE / max(picture.shape), 1.0)
    size = [max(round(side * shrink), 1) for side in picture.shape]
    grey, counts = (F.interpolate(part[None, None], size, mode="area")[0, 0] for part in (picture, counts))
    near = -F.max_pool2d(-counts[None, None], PATCH, 1, PATCH // 2)[0, 0]  # no patch reaches beyond what counts
    return grey, near > 0.999, (size[1] / width, size[0] / height)


def _blurred(picture: Float[Tensor, "h w"], sigma: float) -> Float[Tensor, "h w"]:
    reach = round(2 * sigma)
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2).to(picture)
    bell = bell / bell.sum()
    padded = F.pad(picture[None, None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, bell.view(1, 1, 1, -1)), bell.view(1, 1, -1, 1))[0, 0]
