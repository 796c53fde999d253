"""From a field and samples to pixels, and from a model and a view to a picture."""

import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from nerf_pl.cameras import View, ndc_to_world
from nerf_pl.ops import Backend, composite, mean_of_rays
from nerf_pl.sampling import pixel_places
from nerf_pl.types import Background, Pixels, Rays, Samples, joined

CONTRAST = 16 / 255  # between neighbours; above it a pixel is the mean of several rays
IN_ADVANCE = 2  # groups of pictures that a model renders before they are asked for
TOGETHER = 32  # pictures of a group at most: small ones would otherwise all be rendered before the first is written
CPU_CHUNK = 1024  # rays in plain PyTorch; more leave the caches and spend their time on fresh pages


Found = tuple[Float[Tensor, "R 3"], Float[Tensor, "R"], Float[Tensor, "R"]]
"""Colour, depth and opacity of rays."""


@runtime_checkable
class RawField(Protocol):
    """A field that gives raw density, before the rectifier, and colour."""

    def density(self, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]: ...
    def __call__(
        self, xyz: Float[Tensor, "N 3"], dirs: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]: ...


@runtime_checkable
class Renderer(Protocol):
    """What `render_view` needs of a model; see `methods.Model`."""

    step: Tensor
    training: bool
    rays_per_pixel: int

    def render(self, rays: Rays, background: Background) -> Pixels: ...
    def train(self, mode: bool = True) -> object: ...


@runtime_checkable
class Hasty(Protocol):
    """A model that can render a quicker picture. haste: by which factor its samples are farther apart; 1 is usual."""

    haste: float


@runtime_checkable
class Chunked(Protocol):
    """A model that says how many rays a CPU renders at once, in place of CPU_CHUNK: `cpu_chunk`."""

    @property
    def cpu_chunk(self) -> int: ...


@runtime_checkable
class Averaged(Protocol):
    """A model whose picture is the mean of those that other models, `shown`, render."""

    @property
    def shown(self) -> Sequence[Renderer]: ...


@contextmanager
def hurried(model: object, haste: float) -> Iterator[None]:
    """Samples are farther apart by this factor, if the model can do that."""
    if not isinstance(model, Hasty):
        yield
        return
    usual, model.haste = model.haste, haste
    try:
        yield
    finally:
        model.haste = usual


@dataclass(frozen=True)
class Image:
    """A rendered picture: colour in [0, 1] in front of the background, expected distance, opacity."""

    rgb: Float[Tensor, "H W 3"]
    depth: Float[Tensor, "H W"]
    opacity: Float[Tensor, "H W"]

    def cpu(self) -> "Image":
        return Image(self.rgb.cpu(), self.depth.cpu(), self.opacity.cpu())


def render_samples(
    field: RawField,
    rays: Rays,
    samples: Samples,
    noise: Float[Tensor, "N"] | None = None,
    colour: bool = True,
    *,
    backend: Backend,
) -> Pixels:
    """Ask the field at the samples and composite density and colour. noise is added to the raw density.

    With colour=False the field is asked for density alone, and rgb is zero.
    """
    xyz, dirs = samples.points(rays)
    sigma, rgb = field(xyz, dirs) if colour else (field.density(xyz), None)
    if noise is not None:
        sigma = sigma + noise
    return composite(F.relu(sigma), rgb, samples, backend=backend)


def over(pixels: Pixels, background: Background | Tensor) -> Pixels:
    """The pixels in front of a background: one colour, or one for each pixel (R, 3). None is black."""
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
def render_rays(model: Renderer, rays: Rays, background: Background, chunk: int) -> Found:
    """Colour in [0, 1], depth and opacity of many rays, `chunk` at a time. The model must be in evaluation mode.

    Raises torch.OutOfMemoryError with a remedy if a chunk does not fit.
    """
    parts = []
    if rays.origins.device.type == "cpu":
        chunk = min(chunk, model.cpu_chunk if isinstance(model, Chunked) else CPU_CHUNK)
    for start in range(0, len(rays), chunk):
        try:
            last = model.render(rays[start : start + chunk], background)
        except torch.OutOfMemoryError as error:
            raise torch.OutOfMemoryError(f"out of GPU memory while rendering {chunk} rays: lower --chunk") from error
        parts.append((last.rgb.clamp(0, 1), last.depth, last.opacity))
    rgb, depth, opacity = (torch.cat(part) for part in zip(*parts, strict=True))
    return rgb, depth, opacity


@contextmanager
def evaluating(model: Renderer) -> Iterator[None]:
    """The model in evaluation mode, then in whatever mode it was."""
    was_training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(was_training)


def render_view(model: Renderer, view: View, chunk: int = 2**15) -> Image:
    """The picture of a view, on the model's device. chunk: rays at a time.

    First one ray per pixel is rendered. If a pixel differs little from its neighbours, that ray is the pixel. Otherwise
    the pixel is the mean of the model's `rays_per_pixel` rays (see `ops.mean_of_rays`). If the picture is the mean of
    several models, each has these rays in other places, so that together they see more of the pixel.

        >>> from pathlib import Path
        >>> from nerf_pl.checkpoints import open_run
        >>> run = open_run(Path("runs/first"), torch.device("cpu"))
        >>> image = render_view(run.model, run.scene("test").view(0))
        >>> tuple(image.rgb.shape), tuple(image.depth.shape)
        ((16, 16, 3), (16, 16))
    """
    return render_together(model, [view], chunk)[0]


def render_together(model: Renderer, views: Sequence[View], chunk: int) -> list[Image]:
    """The pictures of views of one size, on the model's device; see `render_view`. Their rays go through the model
    together, so that a GPU seldom waits for the host."""
    views = [view.to(model.step.device) for view in views]
    width, height = views[0].size
    shown = model.shown if isinstance(model, Averaged) else [model]
    places = [pixel_places(model.rays_per_pixel, i / len(shown)) for i in range(len(shown))]
    with evaluating(model):
        found = [
            render_rays(part, joined([view.rays(at[0]) for view in views]), None, chunk)
            for part, at in zip(shown, places, strict=True)
        ]
        if model.rays_per_pixel > 1:
            rgb, _, opacity = (values.split(width * height) for values in _mean(found))
            colours = [on_top(a, b, view.background) for a, b, view in zip(rgb, opacity, views, strict=True)]
            pixels = edges(torch.stack(colours).view(-1, height, width, 3))
            for part, first, at in zip(shown, found, places, strict=True):
                _refine(first, part, views, at[1:], pixels, chunk)
    parts = zip(*(values.split(width * height) for values in _mean(found)), strict=True)
    return [_image(of, view, (height, width)) for of, view in zip(parts, views, strict=True)]


def _mean(found: Sequence[Found]) -> Found:
    if len(found) == 1:
        return found[0]
    rgb, depth, opacity = (torch.stack(each).mean(0) for each in zip(*found, strict=True))
    return rgb, depth, opacity


def _refine(
    first: Found,
    model: Renderer,
    views: Sequence[View],
    places: Sequence[tuple[float, float]],
    pixels: Int[Tensor, "P"],
    chunk: int,
) -> None:
    """Make some pixels the means of their first rays, which are in `first`, and of rays through more places.

    pixels: numbered through all views, one after the other."""
    if not len(pixels):
        return
    size = len(first[1]) // len(views)
    counts = [len(pixels)] if len(views) == 1 else (pixels // size).bincount(minlength=len(views)).tolist()
    within = torch.tensor(places, device=pixels.device)  # (k, 2)
    rays = []
    for view, own in zip(views, pixels.split(counts), strict=True):
        column, row = within.repeat_interleave(len(own), 0).unbind(1)
        rays.append(view.rays((column, row), (own % size).repeat(len(places))))
    further = render_rays(model, joined(rays), None, chunk)
    rows = [len(places) * count for count in counts]

    def with_first(values: Tensor, more: Tensor) -> Tensor:
        """Those of all rays of the pixels (k + 1, P, ..)."""
        each = [part.view(len(places), len(part) // len(places), *part.shape[1:]) for part in more.split(rows)]
        return torch.cat([values[None, pixels], torch.cat(each, 1)])

    colours, depths, opacities = (with_first(*both) for both in zip(first, further, strict=True))
    rgb, depth, opacity = first
    rgb[pixels], opacity[pixels] = mean_of_rays(colours.transpose(0, 1), opacities.T)
    depth[pixels] = depths.mean(0)


def render_views(models: Sequence[Renderer], views: Iterable[View], chunk: int = 2**15) -> Generator[Image, None, None]:
    """The pictures of many views, in order, on the CPU; see `render_view`.

    models: the same model once on each device. They render at the same time, each its own group, see `groups_of`.
    """
    groups = groups_of(models[0], views, chunk)
    if len(models) == 1 and not models[0].step.is_cuda:
        for group in groups:
            yield from _render_there(models[0], group, chunk)
        return
    # a GPU renders the next views while somebody writes the last ones to files
    threads = [ThreadPoolExecutor(1) for _ in models]
    begun: deque[Future[list[Image]]] = deque()
    try:
        for i, group in enumerate(groups):
            turn = i % len(models)
            begun.append(threads[turn].submit(_render_there, models[turn], group, chunk))
            if len(begun) > IN_ADVANCE * len(models):
                yield from begun.popleft().result()
        while begun:
            yield from begun.popleft().result()
    finally:
        for thread in threads:
            thread.shutdown(cancel_futures=True)


def groups_of(model: Renderer, views: Iterable[View], chunk: int) -> Iterator[list[View]]:
    """The views that are rendered together, in order: neighbours of one size, up to `TOGETHER`, that have no more than
    `chunk` pixels together. A CPU has nothing to gain from that, so each of its views is alone."""
    group: list[View] = []
    for view in views:
        most = min(chunk // math.prod(view.size), TOGETHER) if model.step.is_cuda else 1
        if group and (view.size != group[0].size or len(group) >= most):
            yield group
            group = []
        group.append(view)
    if group:
        yield group


def _render_there(model: Renderer, views: Sequence[View], chunk: int) -> list[Image]:
    """Each thread has a current GPU of its own, on which kernels start."""
    device = model.step.device
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        return [image.cpu() for image in render_together(model, views, chunk)]


def ends_of_rays(
    view: View, depth: Float[Tensor, "*shape"], opacity: Float[Tensor, "*shape"], least: float = 1e-6
) -> Float[Tensor, "*shape 3"]:
    """The world points that the pixels of a view show, at the mean depth of what each ray saw.

    depth, opacity: of all pixels, row by row; see `Image`. least: the opacity by which depth is divided at least.
    """
    rays = view.rays()
    t = depth.flatten() / opacity.flatten().clamp(min=least)
    points = rays.origins + t[:, None] * rays.directions
    return (points if view.ndc is None else ndc_to_world(points, view.ndc)).view(*depth.shape, 3)


def render_lattice(model: Renderer, view: View, every: int, chunk: int = 2**15) -> Image:
    """Every `every`-th pixel of a view along rows and columns, one ray each: for a quick look, and to estimate scores.

    `lattice(picture, every)` gives the same pixels of a photograph.
    """
    view = view.to(model.step.device)
    width, height = view.size
    numbers = lattice(torch.arange(width * height, device=model.step.device).view(height, width), every)
    with evaluating(model):
        found = render_rays(model, view.rays(pixels=numbers.flatten()), None, chunk)
    return _image(found, view, numbers.shape)


def lattice(picture: Shaped[Tensor, "H W *channels"], every: int) -> Shaped[Tensor, "h w *channels"]:
    """Every `every`-th pixel along rows and columns."""
    start = every // 2 if min(picture.shape[:2]) > every // 2 else 0
    return picture[start::every, start::every]


def _image(parts: tuple[Tensor, Tensor, Tensor], view: View, shape: Sequence[int]) -> Image:
    rgb, depth, opacity = parts
    rgb = on_top(rgb, opacity, view.background).clamp(0, 1)
    return Image(rgb.view(*shape, 3), depth.view(*shape), opacity.view(*shape))


def edges(rgb: Float[Tensor, "*V H W 3"]) -> Int[Tensor, "P"]:
    """Numbers of the pixels with a 3x3 neighbourhood in which a channel varies by more than CONTRAST: row by row,
    picture by picture."""
    channels = rgb.movedim(-1, -3)
    highest, lowest = F.max_pool2d(channels, 3, 1, 1), -F.max_pool2d(-channels, 3, 1, 1)
    return (highest - lowest > CONTRAST).any(-3).flatten().nonzero()[:, 0]
