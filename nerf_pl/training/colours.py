"""Exposure and white balance that change from photo to photo."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nerf_pl.ops.colour import linear
from nerf_pl.scenes import Scene

RATE, BETAS, EPS = 2e-4, (0.9, 0.99), 1e-12  # of Adam
DECAY = 0.5  # times RATE: by how much a step draws the changes towards none
UNEVEN = 0.12  # see `unevenness`; from this on changes are learned unless the user decides (docs/log.md)
SIDE_BY_SIDE = 0.5  # of two photos: distance over that of the cameras from their middle, and change of direction
LEAST_PAIRS = 6  # that tell anything
LOOK = 16_384  # pixels of a photo, about, that are looked at


class ColourFit(nn.Module):
    """An affine change of its colours for each training photo, which is learned beside the model.

    views: how many there are. photos: see `Scene`; the views of a photo that was cut share its change.

    A camera with automatic exposure shows one place in several brightnesses. A model that must explain all of them puts
    fog in front of cameras. Here the photo is changed instead, to what a camera with the mean exposure of all photos
    would have shown; so the model, and what it renders, has that exposure. The changes are zero at first, and on
    average over the photos always. They have an Adam of their own, which a CUDA graph can hold (docs/log.md).
    """

    first: Tensor
    second: Tensor
    count: Tensor

    photo: Tensor

    def __init__(self, views: int, photos: Sequence[int] = ()):
        super().__init__()
        different = sorted(set(photos)) or range(views)
        n, rows = len(different), {photo: i for i, photo in enumerate(different)}
        of_view = torch.tensor([rows[photo] for photo in photos or different])
        self.register_buffer("photo", of_view, persistent=False)
        self.change = nn.Parameter(torch.zeros(n, 4, 3))  # a parameter stays a leaf when the module moves to a GPU
        self.register_buffer("first", torch.zeros(n, 4, 3))
        self.register_buffer("second", torch.zeros(n, 4, 3))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, rgb: Float[Tensor, "P 3"], views: Int[Tensor, "P"]) -> Float[Tensor, "P 3"]:
        """The colours of pixels as the mean exposure would have them. views: which view each pixel is of."""
        change = (self.change - self.change.mean(0)).index_select(0, self.photo.index_select(0, views))  # (P, 4, 3)
        return rgb + (rgb[:, None] @ change[:, :3])[:, 0] + change[:, 3]

    @torch.no_grad()
    def adapt(self) -> None:
        """One step of Adam, from the gradient that the last backward pass left; the gradient is removed."""
        grad = self.change.grad
        if grad is None:
            return
        grad = torch.where(grad.isfinite().all(), grad, 0)  # as a model's optimizer, pass over what is not finite
        self.count += 1
        self.first.lerp_(grad, 1 - BETAS[0])
        self.second.lerp_(grad * grad, 1 - BETAS[1])
        mean, size = self.first / (1 - BETAS[0] ** self.count), self.second / (1 - BETAS[1] ** self.count)
        self.change.mul_(1 - RATE * DECAY).sub_(RATE * mean / (size.sqrt() + EPS))
        self.change.grad = None


def unevenness(scene: Scene) -> float:
    """How much the brightness of photos differs that were taken side by side: the usual standard deviation of the
    logarithm of a photo's mean light. 0 if there are too few such photos to tell.

    What two cameras side by side see has nearly the same mean. Automatic exposure that follows what is seen changes it
    by some hundredths, photos from several days or with several settings by more.
    """
    places, directions = scene.cameras.c2w[:, :, 3], -scene.cameras.c2w[:, :, 2]
    size = (places - places.mean(0)).norm(dim=1).mean().clamp(min=1e-9)
    apart = torch.cdist(places, places) / size + torch.cdist(directions, directions)
    apart.fill_diagonal_(torch.inf)
    distance, neighbour = apart.min(1)
    pairs = distance < SIDE_BY_SIDE
    if len(scene) < 2 or int(pairs.sum()) < LEAST_PAIRS:
        return 0.0
    light = torch.tensor([_mean_light(scene, i) for i in range(len(scene))]).clamp(min=1e-3).log()
    differences = (light - light[neighbour])[pairs].abs()
    return float(1.48 * differences.median() / 2**0.5)  # 1.48 MAD is the standard deviation of normal numbers


def _mean_light(scene: Scene, index: int) -> float:
    """Of the pixels that count, in linear light."""
    width, height = scene.cameras.size(index)
    image, mask = scene.images[index, :height, :width], scene.mask(index)
    every = max(int((image.shape[0] * image.shape[1] / LOOK) ** 0.5), 1)
    light = linear(image[::every, ::every, :3].float() / 255).mean(-1)
    if mask is not None and bool(mask[::every, ::every].any()):
        light = light[mask[::every, ::every]]
    return float(light.mean())
