"""From a rendered picture to what the viewer shows of it."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from nerf_pl import media
from nerf_pl.cameras import View
from nerf_pl.rendering import Image, ends_of_rays
from nerf_pl.viewer.stage import Mode

LEAST_OPACITY = 0.1  # of a pixel that has a surface
Span = tuple[float, float]


def paint(image: Image, view: View, mode: Mode, span: Span | None = None) -> UInt8[ndarray, "H W 3"]:
    """The picture of a view as colours. span: the depths at both ends of the colour scale; None: see `span_of`."""
    if mode == "colour":
        return media.to_uint8(image.rgb)
    if mode == "opacity":
        return np.repeat(media.to_uint8(image.opacity)[..., None], 3, axis=2)
    if mode == "depth":
        return media.depth_colours(image.depth, *(span or span_of(image, view)), image.opacity)
    shown = (normals(image, view) + 1) / 2
    opacity = image.opacity[..., None].to(shown).clamp(0, 1)
    return media.to_uint8(shown * opacity + 1 - opacity)


def span_of(image: Image, view: View) -> Span:
    """The range of depths of a picture."""
    near, far = (0.0, 2.0) if view.ndc is not None else (view.near, view.far)
    return media.depth_span(image.depth, image.opacity, near, far)


def normals(image: Image, view: View) -> Float[Tensor, "H W 3"]:
    """The unit normals of the surface, in the world, from the depths of neighbouring pixels. They face the camera; the
    border of the picture has those beside it."""
    points = ends_of_rays(view.to(image.depth.device), image.depth, image.opacity, LEAST_OPACITY)
    if min(points.shape[:2]) < 3:
        return torch.zeros_like(points)
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    found = F.normalize(torch.linalg.cross(down, across), dim=-1)
    towards = view.camera.c2w[0, :, 3].to(points) - points[1:-1, 1:-1]
    found = torch.where((found * towards).sum(-1, keepdim=True) < 0, -found, found)
    return F.pad(found.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")[0].permute(1, 2, 0)
