"""One frame for scenes whose files choose their own: upright, in the middle, cameras within the unit ball."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_NEAR, NEAR, FAR = 0.02, 0.1, 100.0  # bounds of rays where space is unbounded, in the unit of this frame
FARTHEST = 0.9  # quantile of the cameras' distances that becomes 1
CROSSING = math.sin(math.radians(5)) ** 2  # axes closer to parallel than this do not fix a point
STRAY = 50.0  # times as far from the middle of the cameras as half of them are
REWEIGHTED = 20  # least squares in a row
LOOKING_AT = math.cos(math.radians(30))
NEAREST = 0.05  # quantile of the cameras' distances from what they look at
OF_NEAREST = 1 / 3  # share of that distance in which nothing stands in front of any camera, wherever it looks
SPACED = 1.5  # times as far as neighbours are apart; of the measured walk this is NEAR
SPOT = 1e-6  # cameras that are no farther apart stand in one place
AHEAD = 0.4  # share of the way from each camera to what all look at, in which nothing stands (docs/log.md)
YIELDS = 0.9  # of the share of its way from which on a camera sees sparse points: surfaces lie a little nearer


def normalize_poses(
    c2w: Float[Tensor, "C 3 4"], scale: float | None = None
) -> tuple[Float[Tensor, "C 3 4"], Float[Tensor, "4 4"]]:
    """Poses in a frame of our own, and the similarity that takes old world points to new ones.

    The origin is the point that the cameras look at or, where there is none (a walk, a panorama), their mean centre; z
    is their mean up; and the unit of length is the distance of the farthest camera from the origin. "Farthest" is the
    90th percentile, without stray poses: these, or one long shot, must not shrink all the rest. scale: old lengths
    times this are new lengths instead. Rotations stay rotations.
    """
    poses = c2w.double()
    centres = poses[:, :, 3]
    counted = torch.ones(len(centres), dtype=torch.bool)
    counted[strays(c2w)] = False
    origin = camera_focus(poses)
    if not looks_at(poses, origin):
        origin = centres[counted].mean(0)
    if scale is None:
        farthest = torch.quantile((centres[counted] - origin).norm(dim=-1), FARTHEST).item()
        scale = 1 / farthest if farthest > 1e-9 else 1.0  # else: all cameras in one place
    rotation = _upright(poses)
    placed = scale * (centres - origin) @ rotation.T
    transform = torch.eye(4, dtype=torch.float64)
    transform[:3, :3] = scale * rotation
    transform[:3, 3] = -scale * rotation @ origin
    return torch.cat([rotation @ poses[:, :, :3], placed[:, :, None]], -1).to(c2w.dtype), transform.to(c2w.dtype)


def moved(c2w: Float[Tensor, "C 3 4"], frame: Float[Tensor, "4 4"] | None) -> Float[Tensor, "C 3 4"]:
    """Poses after a similarity of the world; None leaves them as they are. Rotations stay rotations."""
    if frame is None:
        return c2w
    rotation = frame[:3, :3] / frame[0, :3].norm()
    centres = c2w[:, :, 3] @ frame[:3, :3].T + frame[:3, 3]
    return torch.cat([rotation @ c2w[:, :, :3], centres[:, :, None]], -1)


def reach(centres: Float[Tensor, "C 3"], aabb: Float[Tensor, "2 3"]) -> tuple[float, float]:
    """The least distance from a camera to a box, 0 if one is inside, and the greatest to one of its corners."""
    outside = torch.maximum(aabb[0] - centres, centres - aabb[1]).clamp(min=0).norm(dim=-1)
    across = torch.maximum((centres - aabb[0]).abs(), (centres - aabb[1]).abs()).norm(dim=-1)
    return outside.min().item(), across.max().item()


def camera_focus(c2w: Float[Tensor, "C 3 4"]) -> Float[Tensor, "3"]:
    """The point nearest to all optical axes, by least squares; for parallel ones, a point ahead of the cameras.

    A few stray cameras can pull it away from what all others look at. So if the cameras do not look at it, but most of
    them at the point with the least mean distance to the axes, it is that (iteratively reweighted least squares).
    """
    focus = _nearest_to_axes(c2w, torch.ones(len(c2w), dtype=torch.float64))
    if looks_at(c2w, focus):
        return focus
    found = focus
    for _ in range(REWEIGHTED):
        ways = found.double() - c2w[:, :, 3].double()
        away = torch.linalg.cross(ways, torch.nn.functional.normalize(c2w[:, :, 2].double(), dim=-1)).norm(dim=-1)
        weights = 1 / away.clamp(min=1e-3 * float(away.median()) + 1e-12)
        found = _nearest_to_axes(c2w, weights / weights.mean())
    return found if looks_at(c2w, found) else focus


def _nearest_to_axes(c2w: Float[Tensor, "C 3 4"], weights: Float[Tensor, "C"]) -> Float[Tensor, "3"]:
    """The point with the least weighted mean of squared distances to the optical axes."""
    centres, axes = c2w[:, :, 3].double(), -torch.nn.functional.normalize(c2w[:, :, 2].double(), dim=-1)
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None]  # (C, 3, 3)
    across = across * weights[:, None, None]
    total = across.sum(0) + 1e-6 * len(c2w) * torch.eye(3, dtype=torch.float64)
    wanted = (across @ centres[:, :, None]).sum(0)[:, 0] + 1e-6 * (centres + axes).sum(0)
    return torch.linalg.solve(total, wanted).to(c2w.dtype)


def _towards(c2w: Float[Tensor, "C 3 4"], point: Float[Tensor, "3"]) -> Float[Tensor, "C"]:
    """The cosine of the angle between each camera's axis and the way to a point."""
    axes = -torch.nn.functional.normalize(c2w[:, :, 2], dim=-1)
    return (axes * torch.nn.functional.normalize(point - c2w[:, :, 3], dim=-1)).sum(-1)


def looks_at(c2w: Float[Tensor, "C 3 4"], point: Float[Tensor, "3"]) -> bool:
    """Whether the optical axes cross, and most cameras have the point near the middle of their picture."""
    axes = -torch.nn.functional.normalize(c2w[:, :, 2], dim=-1)
    spread = 1 - torch.linalg.eigvalsh(axes.T @ axes / len(axes))[-1]  # mean squared sine to the common direction
    to_point = point - c2w[:, :, 3]
    baseline = (c2w[:, :, 3] - c2w[:, :, 3].mean(0)).norm(dim=-1).mean()
    if spread < CROSSING or baseline < 0.05 * to_point.norm(dim=-1).mean():  # the latter: a turn on one spot
        return False
    return bool(_towards(c2w, point).quantile(0.2) > LOOKING_AT)


def near_of(c2w: Float[Tensor, "C 3 4"]) -> float:
    """Where rays of cameras in the frame of `normalize_poses` begin, if nothing else is known: at OF_NEAREST of the way
    to the common point that they look at, from the nearest of them. Whatever else stands there is fog. Cameras that
    look at none have it at NEAR or, along a way that is long against the steps of the one who walked it, at SPACED
    steps: neighbours see the same things, so these are not much nearer than neighbours are to each other."""
    focus = camera_focus(c2w)
    if looks_at(c2w, focus):
        return max(NEAR, OF_NEAREST * usual_nearest(c2w, focus))
    return min(NEAR, max(SPACED * _spacing(c2w), LEAST_NEAR))


def _spacing(c2w: Float[Tensor, "C 3 4"]) -> float:
    """How far cameras are from the nearest one in another place, in the middle; infinite if all are in one place."""
    centres = c2w[:, :, 3].double()
    apart = [torch.cdist(part, centres) for part in centres.split(1024)]
    nearest = torch.cat([each.masked_fill(each < SPOT, math.inf).amin(1) for each in apart])
    return float(nearest.median())


def usual_nearest(c2w: Float[Tensor, "C 3 4"], focus: Float[Tensor, "3"]) -> float:
    """The distance of the nearest cameras from what they look at, but for the very nearest."""
    return float((c2w[:, :, 3] - focus).norm(dim=-1).quantile(NEAREST))


def ahead_of(c2w: Float[Tensor, "C 3 4"], share: float = math.inf) -> float:
    """The share of the way from each camera to the point that all look at, in which nothing stands: AHEAD or, if
    sparse points are nearer, less. 0 if the cameras look at no common point.

    share: that of its way from which on a camera sees points, see `points.first_share`.
    """
    return min(AHEAD, YIELDS * share) if looks_at(c2w, camera_focus(c2w)) else 0.0


def closest_of(c2w: Float[Tensor, "C 3 4"]) -> float:
    """How near the nearest of the cameras comes to the origin."""
    return float(c2w[:, :, 3].norm(dim=-1).min())


def strays(c2w: Float[Tensor, "C 3 4"]) -> list[int]:
    """The cameras that are so far from the others that their places are most likely wrong."""
    centres = c2w[:, :, 3].double()
    distances = (centres - centres.median(0).values).norm(dim=-1)
    usual = distances.median()
    return (distances > STRAY * usual).nonzero()[:, 0].tolist() if len(c2w) > 2 and usual > 0 else []


def in_one_pose(c2w: Float[Tensor, "C 3 4"]) -> list[int]:
    """The cameras, three or more, that have one and the same pose while all others differ: most likely it stands for
    none. Cameras that do not move take several photos in each pose, or all in one."""
    _, group, counts = c2w.reshape(-1, 12).unique(dim=0, return_inverse=True, return_counts=True)
    alike = (group == counts.argmax()).nonzero()[:, 0].tolist()
    return alike if len(alike) > 2 and len(counts) > 2 and len(alike) + len(counts) - 1 == len(c2w) else []


def _upright(c2w: Float[Tensor, "C 3 4"]) -> Float[Tensor, "3 3"]:
    """The smallest rotation that takes the cameras' mean up to z."""
    up, back = c2w[:, :, 1].mean(0), c2w[:, :, 2].mean(0)
    if up.norm() < 0.1:  # cameras that look straight down and turn: up is where they come from
        up = back
    if up.norm() < 0.1:
        return torch.eye(3, dtype=c2w.dtype)
    x, y, z = torch.nn.functional.normalize(up, dim=0).tolist()
    if z < -1 + 1e-9:
        return torch.diag(c2w.new_tensor([1.0, -1.0, -1.0]))
    # Rodrigues' formula for the axis up x z
    turn = c2w.new_tensor([[0, 0, -x], [0, 0, -y], [x, y, 0]])
    return torch.eye(3, dtype=c2w.dtype) + turn + turn @ turn / (1 + z)
