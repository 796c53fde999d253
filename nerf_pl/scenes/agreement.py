"""Whether pictures fit their poses: points that two neighbours share must lie where both cameras can see them."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nerf_pl.scenes.conventions import MATRICES, Convention, misread, readings
from nerf_pl.scenes.corners import SIDE, Corners, corners, shared
from nerf_pl.scenes.normalize import moved
from nerf_pl.scenes.scene import Scene, frame_of

# what was measured: docs/log.md, "Whether pictures fit their poses"
PAIRS = 16  # of neighbours in space, and half as many in the order of names
TURNED = 25.0  # degrees between neighbours at most: patches are not turned or tilted much
OFF = 0.01 * SIDE  # pixels that a point may lie beside the line on which the other camera has it
SHARED = 12  # points of a pair that counts
FEWEST = 6  # pairs without which nothing is said
SMALLEST = 64  # pixels of the shorter side of pictures
POOR, GOOD = 0.5, 0.9  # shares of points that fit poses that are wrong, and that are right
ZOOMS = tuple(1.15**i for i in range(-8, 9) if i)  # factors of the focal length that are tried
BETTER = 0.2  # by this a reading must be better than the poses as they are


class Reading(NamedTuple):
    """A way in which the cameras may be meant. told: what to say of it; zoom: the factor of their focal lengths."""

    told: str
    c2w: Float[Tensor, "C 3 4"]
    zoom: float = 1.0


def doubt(scene: Scene, poses: Convention) -> str:
    """What is most likely wrong with the cameras of training views; an empty text if nothing is. The pictures say it.
    If they do not tell, what the cameras look at does. poses: how the scene's file has them."""
    found = disagreement(scene, poses)
    return looking_away(scene, poses) if found is None else found


def looking_away(scene: Scene, poses: Convention) -> str:
    """What to say if cameras look at one point once their poses are read in another way, and not as they are. The views
    of a photo that was cut have no part in it, for a panorama looks everywhere."""
    counts = Counter(scene.photos)
    whole = [counts[scene.photos[i]] == 1 if scene.photos else True for i in range(len(scene))]
    found = misread(_in_file(scene)[torch.tensor(whole)], poses)
    told = f"the cameras look at no common point, but would if their poses were {found}"
    return f"{scene.root}: {told}; {_convert(poses)}" if found else ""


def disagreement(scene: Scene, poses: Convention = MATRICES) -> str | None:
    """What to say if the pictures of training views do not fit their cameras; an empty text if they do. Names what
    would fit, if anything does. None if the pictures do not tell, as too few of them share points."""
    if len(scene) < 3 or min(scene.cameras.width, scene.cameras.height) < SMALLEST:
        return None
    meant = list(_readings(_in_file(scene), poses))
    shares = torch.tensor(list(_shares(scene, meant)))  # (pairs, readings)
    if len(shares) < FEWEST:
        return None
    as_told, *others = shares.median(0).values.tolist()
    best, reading = max(zip(others, meant[1:], strict=True), key=lambda pair: pair[0])
    told = f"{scene.root}: {as_told:.0%} of the points that neighbouring pictures share fit the poses"
    if best > GOOD and best - as_told > BETTER:
        return f"{told}, and {best:.0%} would if {reading.told}"
    if as_told < POOR:
        why = (
            "are the pictures in the order of their poses, are these and the focal length right, and does nothing move?"
        )
        return f"{told}: {why} If poses are nearly right, give --refine_poses"
    return "" if as_told > GOOD else None


def _in_file(scene: Scene) -> Float[Tensor, "C 3 4"]:
    """The cameras in the coordinates of the scene's own file."""
    return moved(scene.cameras.c2w.double().cpu(), torch.linalg.inv(frame_of(scene)))


def _convert(poses: Convention) -> str:
    return f"if they are so, convert them: {poses.right}"


def _readings(c2w: Float[Tensor, "C 3 4"], poses: Convention) -> Iterator[Reading]:
    """The cameras as they are, then as they would have to be meant."""
    over = torch.tensor((-1, -1, 1, 1), dtype=c2w.dtype)
    yield Reading("", c2w)
    for told, other in readings(c2w, poses):
        yield Reading(f"they were {told}; {_convert(poses)}", other)
    yield Reading("the pictures were turned by 180 degrees; turn the pictures, or the poses", c2w * over)
    mirrors = {
        "the world were left-handed, as in Unity; change the sign of its z and of the cameras'": (1, 1, -1),
        "the world were mirrored; mirror an axis of it, and one of the cameras": (-1, 1, 1),
    }
    for told, signs in mirrors.items():
        flip = torch.diag(torch.tensor(signs, dtype=c2w.dtype))
        yield Reading(told, torch.cat([flip @ c2w[:, :, :3] @ flip, flip @ c2w[:, :, 3:]], 2))
    for zoom in ZOOMS:
        times = f"the focal length were about {zoom:.2g} times as long"
        yield Reading(f"{times}; is it right, and of pictures of this size and cut?", c2w, zoom)


def _shares(scene: Scene, meant: list[Reading]) -> Iterator[list[float]]:
    """For each pair of views that share enough points, the share of these that fits each reading."""
    known: dict[int, Corners] = {}
    for pair in _pairs(meant[0].c2w):
        known |= {i: corners(scene, i) for i in pair if i not in known}
        points = shared(*(known[i] for i in pair))
        if len(points[0]) < SHARED:
            continue
        lenses = [_scaled(scene.cameras.K[i], known[i].scale) for i in pair]
        fits = []
        for _, c2w, zoom in meant:
            factor = torch.tensor([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]], dtype=torch.float64)
            fits.append(_fit(points, [K * factor for K in lenses], (c2w[pair[0]], c2w[pair[1]])))
        yield [float(fit.double().mean()) for fit in fits]


def _pairs(c2w: Float[Tensor, "C 3 4"]) -> list[tuple[int, int]]:
    """Views in turn with the nearest one that looks about the same way, and with the one that is turned least, which is
    the same whatever the convention of the poses. Then neighbours in the order of names, which are neighbours in most
    captures even if the poses are wrong."""
    n, centres, pairs = len(c2w), c2w[:, :, 3], []
    for turn, i in enumerate(range(0, n, max(n // PAIRS, 1))):
        trace = (c2w[i, :, :3] * c2w[:, :, :3]).sum((1, 2))
        turned = torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))
        away = (centres - centres[i]).norm(dim=-1)
        other = (turned < TURNED) & (away > 1e-9 * away.max())
        if other.any():
            pairs.append((i, int((turned if turn % 2 else away).where(other, math.inf).argmin())))
    pairs += [(i, i + 1) for i in range(0, n - 1, max(2 * n // PAIRS, 1))]
    return list(dict.fromkeys((min(pair), max(pair)) for pair in pairs))


def _scaled(K: Float[Tensor, "3 3"], scale: tuple[float, float]) -> Float[Tensor, "3 3"]:
    return torch.diag(torch.tensor([*scale, 1.0], dtype=torch.float64)) @ K.double()


def _fit(
    points: tuple[Float[Tensor, "m 2"], Float[Tensor, "m 2"]],
    lenses: list[Float[Tensor, "3 3"]],
    poses: tuple[Float[Tensor, "3 4"], Float[Tensor, "3 4"]],
) -> Bool[Tensor, "m"]:
    """Which points of two pictures can be one point in front of both cameras.

    The point of the second picture must lie next to the epipolar line of the first one's, which the plane through both
    centres and the point makes in it. Where the two rays come closest must be ahead of both cameras, unless they are
    so nearly parallel that the point is far off.
    """
    ways = [_directions(at.double(), K, pose) for at, K, pose in zip(points, lenses, poses, strict=True)]
    baseline = poses[1][:, 3] - poses[0][:, 3]
    normal = torch.linalg.cross(baseline.expand_as(ways[0]), ways[0]) @ poses[1][:, :3]
    focal = lenses[1].diagonal()[:2]
    per_pixel = (normal[:, :2] / focal).norm(dim=1).clamp(min=1e-12)
    beside = ((normal @ poses[1][:, :3].T) * ways[1]).sum(1).abs() / per_pixel
    first, second = (F.normalize(way, dim=1) for way in ways)
    # closest points of the lines: s first - t second = baseline, in least squares
    along, behind, cosine = first @ baseline, second @ baseline, (first * second).sum(1)
    sine = 1 - cosine**2
    ahead = (along - cosine * behind > 0) & (cosine * along - behind > 0)
    is_far = (cosine > 0) & (sine.clamp(min=0).sqrt() < OFF / focal.max())
    return (beside < OFF) & (ahead | is_far)


def _directions(at: Float[Tensor, "m 2"], K: Float[Tensor, "3 3"], c2w: Float[Tensor, "3 4"]) -> Float[Tensor, "m 3"]:
    """The ways, in the world, that pixels of a camera see; 1 long along its axis."""
    x, y = ((at - K[:2, 2]) / K.diagonal()[:2]).unbind(1)
    return torch.stack([x, -y, -torch.ones_like(x)], 1) @ c2w[:, :3].T
