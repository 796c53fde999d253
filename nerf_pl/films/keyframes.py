"""Camera paths through keyframes: views in time order, joined smoothly. `films.files` reads them from files."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.cameras import Cameras, quaternions, rotation_matrices
from nerf_pl.films.paths import framed

PANORAMA = "equirectangular"  # camera_type of a film all around


@dataclass(frozen=True)
class Keyframes:
    """Cameras, of one size, that a film passes at `times` (seconds, rising).

    period: not None says that the film is a loop of two cameras or more, and how long until it is back at the first.
    fps: what a file asks for, if it does.
    """

    cameras: Cameras
    times: Float[Tensor, "C"]
    period: float | None = None
    fps: float | None = None

    @property
    def duration(self) -> float:
        return self.period or float(self.times[-1] - self.times[0])

    def at(self, times: Float[Tensor, "T"]) -> Cameras:
        """The cameras at any times between the first and the last; at a keyframe's time exactly that keyframe.

        Positions, rotations (as quaternions) and intrinsics are Catmull-Rom splines in time, so that their speed has no
        jumps.
        """
        cameras, knots = self.cameras, self.times.double()
        c2w, K = cameras.c2w.double(), cameras.K.double()
        turned = _continuous(quaternions(c2w[:, :, :3]))
        values = torch.cat([c2w[:, :, 3], K.flatten(1), turned], 1)
        if self.period is not None:
            # one knot before the first and two after the last, so that the loop is as smooth where it closes
            around = [len(values) - 1, *range(len(values)), 0, 1]
            shift = knots.new_tensor([-1, *[0] * len(values), 1, 1])
            values, knots = values[around], knots[around] + shift * self.period
            values = torch.cat([values[:, :12], _continuous(values[:, 12:])], 1)
        found = spline(values, knots, times.double())
        rotations = rotation_matrices(found[:, 12:])
        path = torch.cat([rotations, found[:, :3, None]], -1)
        return replace(cameras, c2w=path.to(cameras.c2w), K=found[:, 3:12].view(-1, 3, 3).to(cameras.K))

    def frames(self, fps: float) -> int:
        """How many frames a film has that takes its time."""
        return max(round(self.duration * fps) + (self.period is None), 1)

    def film(self, n: int) -> Cameras:
        """n cameras, evenly spaced in time; of a loop the last is one step before the first."""
        start, steps = float(self.times[0]), torch.arange(n, dtype=torch.float64)
        return self.at(start + steps * (self.duration / max(n if self.period else n - 1, 1)))


def spline(values: Float[Tensor, "N D"], knots: Float[Tensor, "N"], at: Float[Tensor, "T"]) -> Float[Tensor, "T D"]:
    """A Catmull-Rom spline with uneven knots: through values[i] at knots[i], once continuously differentiable.

    Its slope at a knot is that of the parabola through it and its neighbours. knots: rising. Beyond them it stays.
    """
    if len(knots) == 1:
        return values.expand(len(at), -1)
    h = torch.diff(knots)[:, None]
    slopes = torch.diff(values, dim=0) / h
    inner = (slopes[:-1] * h[1:] + slopes[1:] * h[:-1]) / (h[1:] + h[:-1])
    ends = (2 * slopes[:1] - inner[:1], 2 * slopes[-1:] - inner[-1:]) if len(inner) else (slopes, slopes)
    tangents = torch.cat([ends[0], inner, ends[1]])
    at = at.clamp(knots[0], knots[-1])
    i = (torch.searchsorted(knots, at, right=True) - 1).clamp(0, len(h) - 1)
    s = (at - knots[i])[:, None] / h[i]
    fresh, out = (1 + 2 * s) * (1 - s) ** 2 * values[i], s * (1 - s) ** 2 * h[i] * tangents[i]  # Hermite
    return fresh + out + s**2 * (3 - 2 * s) * values[i + 1] - s**2 * (1 - s) * h[i] * tangents[i + 1]


def _continuous(quaternions: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """Of q and -q, which are the same rotation, the one nearer to the one before."""
    flips = torch.where((quaternions[1:] * quaternions[:-1]).sum(-1) < 0, -1.0, 1.0).cumprod(0)
    return torch.cat([quaternions[:1], quaternions[1:] * flips[:, None]])


def through_views(views: Cameras, count: int, every: int | None = None, loop: bool = False) -> Keyframes:
    """Keyframes at `count` of the views, or at every so many of them, in their order: that of the capture or, if they
    jump about in it, from each to the nearest that is left.

    Times rise with the square root of the way between views (centripetal), where a turn of one radian counts as much as
    a way as long as the views' typical distance from their middle; their unit means nothing. Raises ValueError for
    every < 1 or beyond the views.
    """
    if every is not None and not 1 <= every <= len(views):
        raise ValueError(f"every {every} of {len(views)} views")
    count = min(max(count, 1), len(views))
    picked = torch.arange(0, len(views), every) if every else torch.linspace(0, len(views) - 1, count).round().long()
    c2w = views.c2w.double().cpu()
    far = _distances(c2w)
    order = _tour(far)
    straight = torch.arange(len(order))
    if _length(far, straight) <= 2 * _length(far, order):
        order = straight
    order = order[picked]
    views = framed(views, *views.size(int(order[0])))[order]
    ways = far[order, order.roll(-1)].clamp(min=1e-6).sqrt()  # the last leads back
    times = torch.cat([ways.new_zeros(1), ways[:-1].cumsum(0)])
    return Keyframes(views, times, float(times[-1] + ways[-1]) if loop and len(order) > 1 else None)


def _distances(c2w: Float[Tensor, "C 3 4"]) -> Float[Tensor, "C C"]:
    centres, R = c2w[:, :, 3], c2w[:, :, :3]
    unit = (centres - centres.mean(0)).norm(dim=-1).median().clamp(min=1e-9)
    traces = torch.einsum("iab,jab->ij", R, R)
    return torch.cdist(centres, centres) / unit + ((traces - 1) / 2).clamp(-1, 1).arccos()


def _tour(far: Float[Tensor, "C C"]) -> Tensor:
    """All views, each followed by the nearest one not yet visited."""
    order, left = [0], far.clone()
    left.fill_diagonal_(math.inf)
    for _ in range(len(far) - 1):
        left[:, order[-1]] = math.inf
        order.append(int(left[order[-1]].argmin()))
    return torch.tensor(order)


def _length(far: Float[Tensor, "C C"], order: Tensor) -> float:
    return float(far[order[:-1], order[1:]].sum())


def keyframes_in_file(cameras: Cameras, fps: float, frame: Float[Tensor, "4 4"]) -> dict[str, object]:
    """The content of a JSON file that `files.read_keyframes` reads as these cameras, one a frame of a film.

    frame: takes points of the scene's own file to the world; the poses are in the coordinates of the file."""
    scale = frame[0, :3].norm()
    back = torch.linalg.inv(frame)
    entries = []
    for i in range(len(cameras)):
        c2w = torch.eye(4, dtype=torch.float64)
        pose = cameras.c2w[i].double().cpu()
        c2w[:3, :3], c2w[:3, 3] = frame[:3, :3].T @ pose[:, :3] / scale, back[:3, :3] @ pose[:, 3] + back[:3, 3]
        entries.append({"time": i / fps, "c2w": c2w.tolist(), "K": cameras.K[i].tolist()})
    size: dict[str, object] = {"width": cameras.width, "height": cameras.height}
    kind = {"camera_type": PANORAMA} if cameras.panorama else {}
    return {"coordinates": "file", "file_to_world": frame.tolist(), "fps": fps, **size, **kind, "keyframes": entries}
