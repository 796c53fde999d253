"""From a field and samples to pixels, and from a model and a camera to an image."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl import ops
from nerf_pl.sampling import pixel_places
from nerf_pl.scenes import Scene
from nerf_pl.types import Pixels, Rays, Samples

Background = tuple[float, float, float] | None
CONTRAST = 8 / 255  # of neighbouring pixels, from which on they are made of several rays
CPU_CHUNK = 1024  # rays; more leave the caches and spend their time on fresh pages


def render_samples(field, rays: Rays, samples: Samples, noise: Tensor | None = None, colour: bool = True) -> Pixels:
    """Ask the field at the samples and blend what it says. noise (N,) is added to the raw density.

    colour=False asks for density alone and leaves rgb zero.
    """
    xyz, dirs = samples.points(rays)
    sigma, rgb = field(xyz, dirs) if colour else (field.density(xyz), None)
    if noise is not None:
        sigma = sigma + noise
    return ops.composite(F.relu(sigma), rgb, samples)


def over(pixels: Pixels, background: Background | Tensor) -> Pixels:
    """The pixels in front of a background colour, or of one for each (R, 3); None leaves black."""
    if isinstance(background, Tensor):
        return replace(pixels, rgb=pixels.rgb + (1 - pixels.opacity)[:, None] * background)
    if background is None or all(b == 0 for b in background):
        return pixels
    rest = (1 - pixels.opacity)[:, None]
    if all(b == 1 for b in background):
        return replace(pixels, rgb=pixels.rgb + rest)
    return replace(pixels, rgb=pixels.rgb + rest * torch.tensor(background, device=rest.device))


@torch.no_grad()
def render_rays(
    model, rays: Rays, background: Background, chunk: int
) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R"], Float[Tensor, "R"]]:
    """Colour in [0, 1], depth and opacity of many rays, `chunk` at a time. The model must be in evaluation mode.

    Raises torch.OutOfMemoryError with a remedy if a chunk does not fit.
    """
    parts = []
    chunk = min(chunk, CPU_CHUNK) if rays.origins.device.type == "cpu" else chunk
    for start in range(0, len(rays), chunk):
        try:
            last = model.render(rays[start : start + chunk], background)
        except torch.OutOfMemoryError as error:
            raise torch.OutOfMemoryError(f"out of GPU memory while rendering {chunk} rays: lower --chunk") from error
        parts.append((last.rgb.clamp(0, 1), last.depth, last.opacity))
    rgb, depth, opacity = (torch.cat(part) for part in zip(*parts, strict=True))
    return rgb, depth, opacity


def render_view(model, scene: Scene, view: int, chunk: int, device: torch.device) -> dict[str, Tensor]:
    """One view of a scene: rgb (H, W, 3) in [0, 1], depth (H, W), opacity (H, W).

    A pixel is the mean of as many rays as the model's `rays_per_pixel`; where the first of them show nearly the same
    colour as far as the next pixels, it is the first one.
    """
    was_training = model.training
    model.eval()
    shape = scene.cameras.size(view)[::-1]
    scene = replace(scene, cameras=scene.cameras.to(device))  # once, for all rays of a pixel
    first, *others = pixel_places(model.rays_per_pixel)
    parts = render_rays(model, scene.rays(view, device, first), scene.background, chunk)
    if others and len(pixels := edges(parts[0].view(*shape, 3))):
        for place in others:
            rays = scene.rays(view, device, place, pixels)
            for part, more in zip(parts, render_rays(model, rays, scene.background, chunk), strict=True):
                part[pixels] += more
        for part in parts:
            part[pixels] /= model.rays_per_pixel
    model.train(was_training)
    rgb, depth, opacity = parts
    return {"rgb": rgb.view(*shape, 3), "depth": depth.view(shape), "opacity": opacity.view(shape)}


def edges(rgb: Float[Tensor, "H W 3"]) -> Int[Tensor, "P"]:
    """Numbers, row by row, of the pixels around which some channel varies by more than CONTRAST."""
    channels = rgb.permute(2, 0, 1)[None]
    highest, lowest = F.max_pool2d(channels, 3, 1, 1), -F.max_pool2d(-channels, 3, 1, 1)
    return (highest - lowest > CONTRAST).any(1).flatten().nonzero()[:, 0]
