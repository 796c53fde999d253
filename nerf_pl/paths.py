"""Camera paths for films."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.cameras import Cameras


def look_at(
    positions: Float[Tensor, "C 3"],
    target: tuple[float, float, float] = (0.0, 0.0, 0.0),
    up: tuple[float, float, float] = (0.0, 0.0, 1.0),
) -> Float[Tensor, "C 3 4"]:
    """Camera-to-world matrices (OpenGL axes) of cameras at `positions` that look at `target`, upright.

    Raises ValueError for a camera at the target or exactly above or below it: upright means nothing there.
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
    target: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Cameras:
    """n cameras on a full turn about the z axis, evenly spaced, all looking at `target`; the film of them loops.

    Size, focal length (of the first view), pixel convention, dtype and device are those of `like`. radius: world units
    from the target. elevation_deg: degrees above the horizon, strictly between -90 and 90; the usual film of a Blender
    scene has radius 4 and 30 degrees. Raises ValueError for n < 1 or an elevation that leaves no upright direction.
    """
    if n < 1:
        raise ValueError(f"a path needs at least one camera, got n={n}")
    # the angles are taken in float64: a path must not depend on the precision of the device
    azimuth = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    elevation = math.radians(elevation_deg)
    height = torch.full_like(azimuth, math.sin(elevation))
    circle = [math.cos(elevation) * torch.cos(azimuth), math.cos(elevation) * torch.sin(azimuth), height]
    positions = radius * torch.stack(circle, -1) + torch.tensor(target, dtype=torch.float64)
    c2w = look_at(positions, target).to(like.c2w)
    return replace(like, c2w=c2w, K=like.K[:1].expand(n, 3, 3).clone())
