"""Moving a camera until the rendered picture fits a photo."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nerf_pl.cameras import View
from nerf_pl.rendering import Image, Renderer, ends_of_rays, groups_of, render_together

LEAST_OPACITY = 0.5  # of pixels that count
LEAST_RESIDUAL = 1e-3  # that is taken for usual
OUTLIER = 4.0  # a pixel whose residual is more than so many times the usual one counts less
MOST_MOVE = 3.0  # pixels by which one step moves the picture, on average, at most
DAMPING = 1e-2  # share of the diagonal that is added to the normal equations
LEAST_SIDE = 8  # pixels; smaller pictures are not aligned
PIXELS = 40_000  # that a picture is reduced to, about: enough for a twentieth of a pixel of the whole


@dataclass(frozen=True)
class Pair:
    """A view, what the model shows in it, and the photo that it is to fit. mask: the pixels that count; None for
    all."""

    view: View
    image: Image
    photo: Float[Tensor, "h w 3"]
    mask: Bool[Tensor, "h w"] | None = None


@dataclass(frozen=True)
class Fit:
    """What a small motion m of the cameras of some pairs does to the mean squared difference of their colours: it is
    about error + 2 g m + m H m. A motion is a rotation vector and a shift in world units, both along the axes of the
    first camera.

    chance: what g is if the differences change their sign in the left half of each picture, in the upper half, and in
    two opposite quarters. No motion of a camera looks like that, so what one seems to win there is chance. away: the
    usual distance of what is seen. flows: by how many columns and rows a unit of each motion moves what a pixel shows,
    and how much the pixel counts.
    """

    H: Float[Tensor, "6 6"]
    g: Float[Tensor, "6"]
    error: Float[Tensor, ""]
    chance: Float[Tensor, "3 6"]
    away: Float[Tensor, ""]
    flows: Sequence[tuple[Float[Tensor, "h w 2 6"], Float[Tensor, "h w"]]]

    def limited(self, move: Float[Tensor, "6"]) -> Float[Tensor, "6"]:
        """The motion, made short enough to trust: it moves pictures by no more than MOST_MOVE pixels, on average."""
        lengths = [((flow @ move).norm(dim=-1) * weight).sum() for flow, weight in self.flows]
        length = torch.stack(lengths).sum() / torch.stack([weight.sum() for _, weight in self.flows]).sum().clamp(min=1)
        move = move * (MOST_MOVE / length.clamp(min=MOST_MOVE))
        return torch.where(move.isfinite().all(), move, 0)


def align(
    model: Renderer,
    view: View,
    photo: Float[Tensor, "H W 3"],
    mask: Bool[Tensor, "H W"] | None = None,
    *,
    steps: int = 1,
    pixels: int = PIXELS,
    chunk: int = 2**15,
) -> View:
    """The view, with its camera moved so that the model's picture fits the photo.

    mask: the pixels that count. steps: how often the camera is moved. pixels: size, about, of the reduced pictures that
    are compared. chunk: rays at a time.
    """
    for _ in range(steps):
        (pair,) = compared(model, [view], [photo], [mask], pixels=pixels, chunk=chunk)
        if pair is None:
            return view
        c2w = view.camera.c2w
        moved = after_motion(c2w[0], aligning_move([pair]).to(c2w.device))
        view = replace(view, camera=replace(view.camera, c2w=moved[None]))
    return view


def compared(
    model: Renderer,
    views: Iterable[View],
    photos: Iterable[Float[Tensor, "H W 3"]],
    masks: Iterable[Bool[Tensor, "H W"] | None],
    *,
    pixels: int,
    chunk: int,
) -> list[Pair | None]:
    """What the model shows in each view, beside its photo, both reduced to about so many pixels. None for pictures of
    less than 8 pixels in width or height, which say nothing."""
    device = model.step.device
    reduced = [
        _reduced(view, photo.to(device), None if mask is None else mask.to(device), pixels)
        for view, photo, mask in zip(views, photos, masks, strict=True)
    ]
    tells = [min(view.size) >= LEAST_SIDE for view, _, _ in reduced]
    groups = groups_of(model, [view for view, _, _ in compress(reduced, tells)], chunk)
    images = (image for group in groups for image in render_together(model, group, chunk))
    return [
        Pair(view.to(device), next(images), photo, mask) if told else None
        for (view, photo, mask), told in zip(reduced, tells, strict=True)
    ]


def aligning_move(pairs: Sequence[Pair]) -> Float[Tensor, "6"]:
    """The small motion of cameras in one place that draws the rendered pictures towards the photos; see `Fit`. A
    picture without slopes gives no motion."""
    fit = fit_of(pairs)
    return fit.limited(-torch.linalg.solve(fit.H + DAMPING * torch.diag(fit.H.diagonal()), fit.g)).float()


def fit_of(pairs: Sequence[Pair]) -> Fit:
    """How pictures from one place fit their photos, and how that changes as the cameras move.

    One Gauss-Newton step on the difference of the colours (Lucas and Kanade 1981): the depth of a pixel says how a
    motion moves what it shows, and the slope of the pictures says how its colour then changes. What is seen is taken
    to look the same from both places.
    """
    poses = torch.cat([pair.view.camera.c2w for pair in pairs])
    turns = _seen_from(poses[0], poses)  # (n, 6, 6)
    H, error, n = torch.zeros_like(turns[0]), turns.new_zeros(()), turns.new_zeros(())
    g = turns.new_zeros(4, 6)  # of the differences as they are, then of those with changed signs
    flows, distances = [], []
    for pair, turn in zip(pairs, turns, strict=True):
        away = _distances(pair.view, pair.image)
        columns = _flows(pair.view, away)
        slopes = [0.5 * (a + b) for a, b in zip(_slopes(pair.image.rgb), _slopes(pair.photo), strict=True)]
        gradients = [u[..., None] * slopes[0] + v[..., None] * slopes[1] for u, v in columns]
        residual = pair.photo - pair.image.rgb
        weight = _weights(residual, pair.image, pair.mask)
        J = torch.stack(gradients, -1).flatten(0, 2).double() @ turn  # (3 h w, 6)
        r, w = residual.flatten().double(), weight.flatten().repeat_interleave(3).double()
        signs = _signs(weight).flatten(1).repeat_interleave(3, 1).double()  # (4, 3 h w)
        H, g = H + J.T @ (w[:, None] * J), g + (signs * (w * r)) @ J
        error, n = error + (w * r * r).sum(), n + w.sum()
        flows.append((torch.stack([torch.stack(column, -1) for column in columns], -1).double() @ turn, weight))
        distances.append(away[weight > 0])
    known, n = torch.cat(distances).double(), n.clamp(min=1)
    H = H / n + 1e-12 * torch.eye(6, dtype=H.dtype, device=H.device)
    return Fit(H, g[0] / n, error / n, g[1:] / n, known.median() if len(known) else torch.ones_like(n), flows)


def _signs(like: Float[Tensor, "h w"]) -> Float[Tensor, "4 h w"]:
    """1 everywhere; then the signs of `Fit.chance`."""
    height, width = like.shape
    upper = torch.where(torch.arange(height, device=like.device) < height // 2, -1.0, 1.0)[:, None].expand_as(like)
    left = torch.where(torch.arange(width, device=like.device) < width // 2, -1.0, 1.0).expand_as(like)
    return torch.stack([torch.ones_like(like), left, upper, upper * left])


def _seen_from(first: Float[Tensor, "3 4"], poses: Float[Tensor, "C 3 4"]) -> Float[Tensor, "C 6 6"]:
    """What turns a motion along the axes of the first camera into one along the axes of each, in one place."""
    turns = poses[:, :, :3].double().transpose(1, 2) @ first[:, :3].double()
    found = torch.zeros(len(poses), 6, 6, dtype=torch.float64, device=poses.device)
    found[:, :3, :3] = found[:, 3:, 3:] = turns
    return found


def after_motion(c2w: Float[Tensor, "3 4"], move: Float[Tensor, "6"]) -> Float[Tensor, "3 4"]:
    """A pose after a motion along its own axes; see `Fit`."""
    x, y, z = move[:3].double().unbind()
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
    axes, place = c2w[:, :3].double(), c2w[:, 3].double()
    turned = axes @ torch.linalg.matrix_exp(skew)
    return torch.cat([turned, (place + axes @ move[3:].double())[:, None]], 1).to(c2w)


def _reduced(
    view: View, photo: Tensor, mask: Tensor | None, pixels: int
) -> tuple[View, Float[Tensor, "h w 3"], Bool[Tensor, "h w"] | None]:
    """The view, its photo and its mask, at about so many pixels."""
    width, height = view.size
    every = max(round((width * height / pixels) ** 0.5), 1)
    size = max(width // every, 1), max(height // every, 1)
    camera = view.camera.resized(*size)
    small = F.interpolate(photo.permute(2, 0, 1)[None], size[::-1], mode="area")[0].permute(1, 2, 0)
    if mask is not None:
        mask = F.interpolate(mask[None, None].float(), size[::-1], mode="area")[0, 0] == 1
    return replace(view, camera=camera), small, mask


def _distances(view: View, image: Image) -> Float[Tensor, "h w"]:
    """How far from the camera the pixels show something."""
    points = ends_of_rays(view, image.depth, image.opacity, LEAST_OPACITY)
    return (points - view.camera.c2w[0, :, 3]).norm(dim=-1).clamp(min=1e-6)


def _flows(view: View, distances: Float[Tensor, "h w"]) -> list[tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]]:
    """By how many columns and rows a unit of each motion of the camera moves what the pixels show."""
    camera, (height, width) = view.camera, distances.shape
    K = camera.K[0].to(distances)
    columns, rows = (torch.arange(n, device=K.device) + camera.pixel_offset for n in (width, height))
    x = ((columns - K[0, 2]) / K[0, 0]).expand(height, width)  # (x, y, -1) is the direction of a pixel
    y = (-(rows - K[1, 2]) / K[1, 1])[:, None].expand(height, width)
    inverse = (1 + x * x + y * y).sqrt() / distances  # of the depth along the axis
    zero, one = torch.zeros_like(x), torch.ones_like(x)

    def flow(dx: Tensor, dy: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
        """Of a point that moves by this times its depth, along the axes of the camera."""
        return K[0, 0] * (dx + x * dz), -K[1, 1] * (dy + y * dz)

    # seen from the camera, a rotation w and a shift s of the camera move a point p by p x w - s
    turns = [flow(zero, -one, -y), flow(one, zero, x), flow(y, -x, zero)]
    return [*turns, flow(-inverse, zero, zero), flow(zero, -inverse, zero), flow(zero, zero, -inverse)]


def _weights(residual: Tensor, image: Image, mask: Tensor | None) -> Float[Tensor, "h w"]:
    """How much each pixel counts: not at the border, where slopes are one-sided, and less where it fits badly."""
    size = residual.abs().amax(2)
    counts = image.opacity > LEAST_OPACITY
    counts[[0, -1]] = False
    counts[:, [0, -1]] = False
    if mask is not None:
        counts &= mask
    usual = size[counts].median() if bool(counts.any()) else size.new_ones(())
    return (OUTLIER * usual.clamp(min=LEAST_RESIDUAL) / size.clamp(min=1e-6)).clamp(max=1) * counts


def _slopes(rgb: Float[Tensor, "h w 3"]) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w 3"]]:
    """Derivatives of colours along columns and rows."""
    padded = F.pad(rgb.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")[0]
    across = 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])
    down = 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1])
    return across.permute(1, 2, 0), down.permute(1, 2, 0)
