"""How far the air in front of each pixel is clear, as sparse points tell that a photo sees."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nerf_pl.console import warn
from nerf_pl.scenes.normalize import AHEAD
from nerf_pl.scenes.scene import Scene

TILES = 48  # along the longer side of a picture
TRUSTED = 0.5  # least share of points that pictures must show
MARGIN = 0.9  # of the distance of the nearest point around a tile: points lie a little wrong


def clearings(scene: Scene) -> Float[Tensor, "C h w"] | None:
    """For tiles of each picture's canvas, up to which distance from the camera there is nothing. 0 where no point is
    seen, which tells nothing. None if the scene has no points.

    A tile that a photo sees a point in is clear up to MARGIN of the distance of the nearest point that the photo sees
    in it or in the eight tiles around it. A photo sees no point behind something else. So this can fail only for things
    that are smaller than a tile and have no points of their own.
    """
    if scene.seen is None:
        return None
    cameras = scene.cameras
    tile = max(cameras.width, cameras.height) / TILES
    rows, columns = max(round(cameras.height / tile), 1), max(round(cameras.width / tile), 1)
    per_tile = cameras.width / columns, cameras.height / rows
    maps = [
        _nearest(p, c2w, K, per_tile, (rows, columns))
        for p, c2w, K in zip(scene.seen, cameras.c2w, cameras.K, strict=True)
    ]
    nearest = torch.stack(maps)
    around = -F.max_pool2d(-nearest[:, None], 3, 1, 1)[:, 0]
    return torch.where(nearest.isfinite(), MARGIN * around, 0.0)


def with_trusted_points(scene: Scene) -> Scene:
    """The scene without its sparse points, with one line, if photos do not show what they are said to see: points of
    another scene, or in another frame. Photos that were cut see their points in several views, so nothing tells."""
    if scene.seen is None or scene.photos:
        return scene
    cameras, inside, n = scene.cameras, 0, 0
    for i, points in enumerate(scene.seen):
        x, y, ahead = _projected(points, cameras.c2w[i], cameras.K[i])
        width, height = cameras.size(i)
        inside += int((ahead & (x >= 0) & (x <= width) & (y >= 0) & (y <= height)).sum())
        n += len(points)
    if inside >= TRUSTED * n:
        return scene
    told = f"{n - inside} of {n} sparse points lie outside of the pictures that are said to show them"
    warn(f"{scene.root}: {told}: they do not belong to these photos, and are not used", f"{scene.root}: sparse points")
    return replace(scene, seen=None, ahead=AHEAD if scene.ahead else 0.0, told=False)


def _projected(
    points: Float[Tensor, "n 3"], c2w: Float[Tensor, "3 4"], K: Float[Tensor, "3 3"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"], Bool[Tensor, "n"]]:
    """Columns and rows at which a camera sees points, from the picture's corner, and which are ahead of it."""
    right, up, back = ((points - c2w[:, 3]) @ c2w[:, :3]).unbind(1)
    return K[0, 2] - K[0, 0] * right / back, K[1, 2] + K[1, 1] * up / back, back < 0


def _nearest(
    points: Float[Tensor, "n 3"],
    c2w: Float[Tensor, "3 4"],
    K: Float[Tensor, "3 3"],
    tile: tuple[float, float],
    size: tuple[int, int],
) -> Float[Tensor, "h w"]:
    """The distance of the nearest point in each tile of a picture; infinite where there is none. tile: width and height
    in pixels."""
    rows, columns = size
    nearest = torch.full((rows * columns,), torch.inf)
    x, y, ahead = _projected(points, c2w, K)
    column, row = (x / tile[0]).floor(), (y / tile[1]).floor()
    inside = ahead & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    cell = (row * columns + column)[inside].long()
    return nearest.scatter_reduce_(0, cell, (points - c2w[:, 3]).norm(dim=1)[inside], "amin").view(rows, columns)
