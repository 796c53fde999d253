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
CONTRAST = 16 / 255  # of neighbouring pixels, from which on they are made of several rays
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
    return replace(pixels, rgb=on_top(pixels.rgb, pixels.opacity, background))


def on_top(
    rgb: Float[Tensor, "R 3"], opacity: Float[Tensor, "R"], background: Background | Tensor
) -> Float[Tensor, "R 3"]:
    """Premultiplied colours in front of the background; see `over`."""
    rest = (1 - opacity)[:, None]
    if isinstance(background, Tensor):
        return rgb + rest * background
    if background is None or all(b == 0 for b in background):
        return rgb
    if all(b == 1 for b in background):
        return rgb + rest
    return rgb + rest * torch.tensor(background, device=rest.device)


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

    A pixel is the mean of as many rays as the model's `rays_per_pixel` (see `ops.grid_reference.mean_of_rays`); where
    the first of them show nearly the same colour as far as the next pixels, it is the first one.
    """
    was_training = model.training
    model.eval()
    shape = scene.cameras.size(view)[::-1]
    scene = replace(scene, cameras=scene.cameras.to(device))  # once, for all rays of a pixel
    first, *others = pixel_places(model.rays_per_pixel)
    rgb, depth, opacity = render_rays(model, scene.rays(view, device, first), None, chunk)
    if others and len(pixels := edges(on_top(rgb, opacity, scene.background).view(*shape, 3))):
        within = torch.tensor(others, device=device).repeat_interleave(len(pixels), 0)
        rays = scene.rays(view, device, (within[:, 0], within[:, 1]), pixels.repeat(len(others)))
        more = render_rays(model, rays, None, chunk)
        parts = zip((rgb, depth, opacity), more, strict=True)
        # (k, P, ..) of all rays of these pixels
        colours, depths, opacities = (torch.cat([a[None, pixels], b.unflatten(0, (-1, len(pixels)))]) for a, b in parts)
        rgb[pixels], opacity[pixels] = ops.grid_reference.mean_of_rays(colours.transpose(0, 1), opacities.T)
        depth[pixels] = depths.mean(0)
    model.train(was_training)
    rgb = on_top(rgb, opacity, scene.background).clamp(0, 1)
    return {"rgb": rgb.view(*shape, 3), "depth": depth.view(shape), "opacity": opacity.view(shape)}


def edges(rgb: Float[Tensor, "H W 3"]) -> Int[Tensor, "P"]:
    """Numbers, row by row, of the pixels around which some channel varies by more than CONTRAST."""
    channels = rgb.permute(2, 0, 1)[None]
    highest, lowest = F.max_pool2d(channels, 3, 1, 1), -F.max_pool2d(-channels, 3, 1, 1)
    return (highest - lowest > CONTRAST).any(1).flatten().nonzero()[:, 0]
