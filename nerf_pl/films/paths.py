"""Camera paths for films: turns, spirals, and the size of their frames."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.cameras import Cameras, up_direction

Point = tuple[float, float, float]
UP: Point = (0.0, 0.0, 1.0)
FOCUS = 3.5  # distance of the point that the spiral of a forward-facing scene looks at; its nearest point is at 4/3
GAP = 120.0  # degrees; cameras with a wider gap between their azimuths do not surround what they look at
NEARBY = 18.0  # degrees of azimuth from which on the cameras matter less to a turn that follows them
NEARER = 0.3  # most of the way to the target that a spiral may take: nearer, only a part of the target shows


def look_at(positions: Float[Tensor, "C 3"], target: Point = (0.0, 0.0, 0.0), up: Point = UP) -> Float[Tensor, "C 3 4"]:
    """Camera-to-world matrices (OpenGL axes) of cameras at `positions` that look at `target`, upright.

    Raises ValueError for a camera at the target, or exactly above or below it, where no direction is upright.
    """
    back = torch.nn.functional.normalize(positions - positions.new_tensor(target), dim=-1)
    right = torch.linalg.cross(positions.new_tensor(up).expand_as(back), back)
    length = right.norm(dim=-1, keepdim=True)
    if (length < 1e-6).any():
        raise ValueError(f"a camera at, above or below its target {target} has no upright direction")
    right = right / length
    return torch.stack([right, torch.linalg.cross(back, right), back, positions], -1)


def turntable(
    n: int,
    like: Cameras,
    radius: float = 4.0,
    elevation_deg: float = 30.0,
    target: Point = (0.0, 0.0, 0.0),
    up: Point = UP,
) -> Cameras:
    """n cameras on a full turn about the axis `up`, evenly spaced, all looking at `target`; the film of them loops.

    Size, focal length (of the first view), pixel convention, dtype and device are those of `like`. radius: world units
    from the target. elevation_deg: degrees above the horizon, strictly between -90 and 90. The usual film of a Blender
    scene has radius 4 and 30 degrees. Raises ValueError for n < 1, or for an elevation without an upright direction.
    """
    if n < 1:
        raise ValueError(f"a path needs at least one camera, got n={n}")
    # in float64, so that a path does not depend on the precision of the device
    azimuth = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    elevation = math.radians(elevation_deg)
    height = torch.full_like(azimuth, math.sin(elevation))
    circle = [math.cos(elevation) * torch.cos(azimuth), math.cos(elevation) * torch.sin(azimuth), height]
    frame = _frame_across(torch.tensor(up, dtype=torch.float64))
    positions = radius * torch.stack(circle, -1) @ frame.T + torch.tensor(target, dtype=torch.float64)
    return _all_like(like, look_at(positions, target, up))


def fit_turn(c2w: Float[Tensor, "C 3 4"], target: Point) -> tuple[float, float, Point]:
    """The turntable that follows given cameras: radius, elevation in degrees, axis.

    The axis is `cameras.up_direction`. The turn has the median height of the cameras above the target along the axis,
    and their median distance from the axis.
    """
    axis = up_direction(c2w)
    away = c2w[:, :, 3].double() - torch.tensor(target, dtype=torch.float64)
    height = (away @ axis).median().item()
    across = (away - (away @ axis)[:, None] * axis).norm(dim=-1).median().item()
    elevation = math.degrees(math.atan2(height, across))
    return math.hypot(height, across), max(-80.0, min(80.0, elevation)), _point(axis)  # upright, also for a drone


def turn_along(n: int, like: Cameras, target: Point, gap_deg: float = GAP) -> Cameras:
    """n cameras on a turn about what is up for given cameras that stays where these are; the film of them loops.

    At each azimuth it has the elevation and the distance from the target of the given cameras near there, which are
    averaged with a Gaussian weight. If no camera stands in a part wider than `gap_deg`, the turn swings to and fro
    over the rest: beyond, nothing was seen. All look at the target. Raises ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"a path needs at least one camera, got n={n}")
    axis = up_direction(like.c2w)
    frame = _frame_across(axis)
    away = (like.c2w[:, :, 3].double().cpu() - torch.tensor(target, dtype=torch.float64)) @ frame
    distances = away.norm(dim=1).clamp(min=1e-9)
    azimuths, elevations = torch.atan2(away[:, 1], away[:, 0]), torch.asin(away[:, 2] / distances)
    share = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    first, span = _widest_gap(azimuths)
    if span > math.radians(gap_deg):
        low, high = ((azimuths - first) % (2 * math.pi)).quantile(azimuths.new_tensor([0.05, 0.95]))
        share = first + (low + high) / 2 + (high - low) / 2 * share.sin()
    apart = (share[:, None] - azimuths + math.pi) % (2 * math.pi) - math.pi  # (n, C)
    weights = (-0.5 * (apart / math.radians(NEARBY)) ** 2).exp() + 1e-4
    weights = weights / weights.sum(1, keepdim=True)
    elevation = (weights @ elevations).clamp(-math.radians(80), math.radians(80))
    distance = (weights @ distances.log()).exp()
    around = torch.stack([elevation.cos() * share.cos(), elevation.cos() * share.sin(), elevation.sin()], 1)
    positions = distance[:, None] * around @ frame.T + torch.tensor(target, dtype=torch.float64)
    return _all_like(like, look_at(positions, target, _point(axis)))


def look_inward(c2w: Float[Tensor, "C 3 4"], target: Point) -> bool:
    """Whether nine in ten cameras have the target ahead."""
    away = c2w[:, :, 3].double() - torch.tensor(target, dtype=torch.float64)
    return ((away * c2w[:, :, 2].double()).sum(-1) > 0).double().mean().item() >= 0.9


def widest_gap(c2w: Float[Tensor, "C 3 4"], target: Point) -> float:
    """The widest gap, in degrees, between the azimuths of cameras about the target."""
    away = c2w[:, :, 3].double().cpu() - torch.tensor(target, dtype=torch.float64)
    flat = away @ _frame_across(up_direction(c2w))
    return math.degrees(_widest_gap(torch.atan2(flat[:, 1], flat[:, 0]))[1])


def _widest_gap(azimuths: Float[Tensor, "C"]) -> tuple[float, float]:
    """The azimuth at which the widest gap ends, and its width, in radians."""
    found = azimuths.sort().values
    gaps = torch.diff(found, append=found[:1] + 2 * math.pi)
    widest = int(gaps.argmax())
    return found[(widest + 1) % len(found)].item(), gaps[widest].item()


def mean_pose(c2w: Float[Tensor, "C 3 4"]) -> Float[Tensor, "3 4"]:
    """A camera with the mean position, viewing direction and up direction of others, in float64. If these are turned to
    and fro about their axes, as those of a drone that looks straight down, up is the way that most of them have, or its
    opposite.

    Raises ValueError if the cameras look in all directions, so that the mean direction vanishes.
    """
    c2w = c2w.double()
    _, up, back, centre = c2w.mean(0).unbind(-1)
    right = torch.linalg.cross(up, back)
    if right.norm() < 0.05:
        up = torch.linalg.eigh(c2w[:, :, 1].T @ c2w[:, :, 1])[1][:, -1]
        right = torch.linalg.cross(up * torch.sign(up @ c2w[0, :, 1]), back)
    if back.norm() < 0.2 or right.norm() < 0.05:
        raise ValueError("the cameras look in all directions")
    back, right = back / back.norm(), right / right.norm()
    return torch.stack([right, torch.linalg.cross(back, right), back, centre], -1)


def spiral(
    n: int, like: Cameras, pose: Float[Tensor, "3 4"] | None = None, focus: float = FOCUS, turns: int = 2
) -> Cameras:
    """n cameras on a spiral among the training views `like`, all looking at one point; the film of them loops.

        position = (rx cos a, -ry sin a, -rz sin(a / 2)),   0 <= a < 2 pi turns        the code of NeRF 2020, for LLFF

    in the frame of `pose`. r is the 90th percentile of the views' offsets on each axis. pose: see `mean_pose`; None is
    the origin, looking along -z, as forward-facing scenes are normalised. focus: the distance from pose to that point.
    The rest as in `turntable`. Raises ValueError for n < 1 or a focus that is not positive.
    """
    if n < 1 or not focus > 0:
        raise ValueError(f"a spiral needs a camera and something ahead of it, got n={n} and focus={focus}")
    pose = torch.eye(3, 4, dtype=torch.float64) if pose is None else pose.double()
    local = (like.c2w[:, :, 3].double().to(pose.device) - pose[:, 3]) @ pose[:, :3]
    radii = local.abs().quantile(0.9, dim=0)
    radii[2] = radii[2].clamp(max=NEARER * focus)
    a = torch.arange(n, dtype=torch.float64) * (2 * math.pi * turns / n)
    around = torch.stack([torch.cos(a), -torch.sin(a), -torch.sin(a / 2)], -1) * radii
    positions = around @ pose[:, :3].T + pose[:, 3]
    target = pose[:, 3] - focus * pose[:, 2]
    return _all_like(like, look_at(positions, _point(target), _point(pose[:, 1])))


def framed(cameras: Cameras, width: int, height: int) -> Cameras:
    """The same views in frames of another size, the same for all. The vertical field of view stays.

    Focal lengths scale with the height. If the aspect ratio stays, to half a pixel, the principal point keeps its
    place. Otherwise it moves to the middle.
    """
    wide, high = cameras.width, cameras.height
    if cameras.sizes is None and abs(width * high - height * wide) <= max(wide, high) / 2:
        return cameras.resized(width, height)
    heights = [cameras.size(i)[1] for i in range(len(cameras))]
    K = cameras.K * (height / cameras.K.new_tensor(heights))[:, None, None]
    K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = width / 2, height / 2, 1
    return replace(cameras, K=K, width=width, height=height, sizes=None)


def _all_like(like: Cameras, c2w: Float[Tensor, "C 3 4"]) -> Cameras:
    """Cameras at these poses, otherwise like the first view of `like`."""
    return replace(like, c2w=c2w.to(like.c2w), K=like.K[:1].expand(len(c2w), 3, 3).clone(), sizes=None)


def _frame_across(axis: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Columns: two directions across `axis`, and `axis` itself. For z it is the identity."""
    axis = torch.nn.functional.normalize(axis, dim=0)
    start = torch.zeros_like(axis)
    start[0 if axis[0].abs() < 0.9 else 1] = 1
    start = torch.nn.functional.normalize(start - (start @ axis) * axis, dim=0)
    return torch.stack([start, torch.linalg.cross(axis, start), axis], -1)


def _point(vector: Float[Tensor, "3"]) -> Point:
    x, y, z = vector.tolist()
    return x, y, z
