"""The cells that the scene can occupy: the visual hull of the views' masks, and a tight box around it."""

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nerf_pl.cameras import Cameras, project
from nerf_pl.errors import UserError

MOST = 0.8  # of the views that see a cell
MARGIN = 1 / 32  # of a picture's size, around what differs from its background
NEAR = 1 / 8  # of the picture's longer side; if half of a cell covers more, it is too near for a mask to exclude it
TOGETHER = {"cuda": 2**22}  # cells that are projected at once, of as many views as fit; a CPU takes view after view
PIXELS = 2**26  # of masks that are summed at once: a gigabyte (a view with more is summed by itself)
FEW = 8  # one of as many views is asked first there


def points_of(
    place: Float[Tensor, "N 3"], aabb: Float[Tensor, "2 3"], unbounded: bool
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"] | float]:
    """World points of places in [0, 1] of the grid, and the factor by which lengths have shrunk there.

    If space is unbounded, this is the inverse of `ops.contract`.
    """
    if not unbounded:
        return aabb[0] + place * (aabb[1] - aabb[0]), 1.0
    q = 4 * place - 2
    m = 1 / (2 - q.abs().amax(1).clamp(min=1, max=2 - 1e-3))
    p = q * (m * m / (2 * m - 1))[:, None]
    return (aabb[0] + aabb[1]) / 2 + p * (aabb[1] - aabb[0]) / 2, m


def centres(size: int, device: torch.device | str = "cpu") -> Float[Tensor, "N 3"]:
    """The middle of each cell of a grid, in [0, 1], x fastest."""
    axis = (torch.arange(size, device=device) + 0.5) / size
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack([x, y, z], -1).view(-1, 3)


def balls(size: int, aabb: Float[Tensor, "2 3"], unbounded: bool) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]:
    """World middle and radius of a ball around each cell of a grid, x fastest.

    If space is unbounded, the outer side of a cell is stretched more than its inner one, so its middle in the world is
    not where `points_of` has that of the grid. The outermost cells, which have no end, are taken as far as it goes.
    """
    if not unbounded:
        points, _ = points_of(centres(size, aabb.device), aabb, False)
        return points, ((aabb[1] - aabb[0]).norm() / size / 2).expand(len(points))
    axis = torch.arange(size + 1, device=aabb.device) / size
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    corners = points_of(torch.stack([x, y, z], -1).view(-1, 3), aabb, True)[0].view(*x.shape, 3)
    ends = slice(None, -1), slice(1, None)
    of_cells = [corners[ends[k], ends[j], ends[i]] for k in (0, 1) for j in (0, 1) for i in (0, 1)]  # views, no copies
    middles = (reduce(torch.minimum, of_cells) + reduce(torch.maximum, of_cells)) / 2
    radii = reduce(torch.maximum, ((each - middles).norm(dim=-1) for each in of_cells))
    return middles.view(-1, 3), radii.view(-1)


def seen_cells(
    cameras: Cameras,
    masks: Bool[Tensor, "C H W"] | None,
    aabb: Float[Tensor, "2 3"],
    size: int,
    *,
    unbounded: bool = False,
    counted: Bool[Tensor, "C H W"] | None = None,
) -> Bool[Tensor, "G G G"]:
    """Possible cells: at least one view sees the cell, and it lies in the mask of every view that sees it.

    This is the visual hull (Laurentini 1994). Without masks, every cell that a view sees is possible. A cell counts as
    one in the mask if a square that holds its picture has a pixel of the mask, so no cell is lost that is in the mask
    in part. A cell so near that it covers much of a picture (`NEAR`) counts as one in its mask. counted: the pixels
    through which the views see; None for all.
    """
    points, radii = balls(size, aabb, unbounded)
    seen = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    alive = torch.arange(len(points), device=points.device)
    focal = cameras.K[:, (0, 1), (0, 1)].amax(1)
    sides = torch.tensor([cameras.size(i) for i in range(len(cameras))], device=points.device).unbind(1)
    together, views = TOGETHER.get(points.device.type, 1), torch.arange(len(cameras), device=points.device)
    if together > 1 and masks is not None:  # a few views leave out most cells, so that the others come many at a time
        views = torch.cat([views[::FEW], views])
    while len(views) and len(alive):
        most = together // len(alive)
        if masks is not None or counted is not None:
            most = min(most, PIXELS // (cameras.width * cameras.height))
        some, views = views.tensor_split([max(most, 1)])
        xy, depth = project(cameras, some, points[alive])
        radius, (column, row) = radii[alive], xy.unbind(-1)
        width, height = (side[some, None] for side in sides)
        distance = (points[alive] - cameras.c2w[some, None, :, 3]).norm(dim=-1)
        # half the size of the ball's picture, at most: a ball off the axis shows as an ellipse
        ahead = depth > radius
        ball = radius * focal[some, None] * distance / torch.where(ahead, depth * (depth - radius), 1.0)
        touched = (column > -ball) & (column < width + ball) & (row > -ball) & (row < height + ball)
        touched = torch.where(ahead, touched, depth > -radius)
        inside = (column > ball) & (column < width - ball) & (row > ball) & (row < height - ball)
        # a mask does not judge cells so near that they cover much of the picture
        judged = ahead & touched & (ball < torch.maximum(width, height) * NEAR)
        window = [torch.where(judged, at, 0.0) for at in (row - ball, row + ball, column - ball, column + ball)]
        if counted is not None:
            touched &= ~judged | _has_pixel(counted[some], window)
        if masks is None:
            seen[alive] |= touched.any(0)
            continue
        hit = ~judged | _has_pixel(masks[some], window)
        seen[alive] |= (touched & hit).any(0)
        # if the border cuts a cell, its other part may lie in the mask of another view
        alive = alive[(hit | ~inside).all(0)]
    held = torch.zeros_like(seen)
    held[alive] = True
    return (held & seen).view(size, size, size)


def _has_pixel(masks: Bool[Tensor, "V H W"], window: Sequence[Float[Tensor, "V N"]]) -> Bool[Tensor, "V N"]:
    """Whether the mask of a view has a pixel in each of these windows: top, bottom, left and right, in pixels."""
    _, height, width = masks.shape
    # pixels above and left of each corner, so that any window takes four of them (Crow 1984)
    sums = F.pad(masks.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32), (1, 0, 1, 0))
    top, bottom = (side.floor().long().add(i).clamp(0, height) for i, side in enumerate(window[:2]))
    left, right = (side.floor().long().add(i).clamp(0, width) for i, side in enumerate(window[2:]))
    view = torch.arange(len(masks), device=masks.device)[:, None]
    return sums[view, bottom, right] - sums[view, top, right] > sums[view, bottom, left] - sums[view, top, left]


def possible_cells(
    cameras: Cameras,
    masks: Bool[Tensor, "C H W"] | None,
    aabb: Float[Tensor, "2 3"],
    size: int,
    *,
    unbounded: bool = False,
    counted: Bool[Tensor, "C H W"] | None = None,
) -> Bool[Tensor, "G G G"]:
    """`seen_cells`. Raises UserError if there are none."""
    possible = seen_cells(cameras, masks, aabb, size, unbounded=unbounded, counted=counted)
    if not bool(possible.any()):
        box = " to ".join("(" + ", ".join(f"{v:.3g}" for v in corner) + ")" for corner in aabb.tolist())
        is_seen = bool(seen_cells(cameras, None, aabb, size, unbounded=unbounded).any())
        what = "the views' masks leave nothing" if is_seen else "no camera looks"
        raise UserError(f"{what} inside the scene's box, {box}: are the poses and the size of the scene right?")
    return possible


def scene_box(
    cameras: Cameras,
    masks: Bool[Tensor, "C H W"] | None,
    aabb: Float[Tensor, "2 3"],
    size: int,
    *,
    counted: Bool[Tensor, "C H W"] | None = None,
    vague: bool = False,
) -> Float[Tensor, "2 3"]:
    """The tight box inside `aabb` around the possible cells. Without masks it is `aabb`.

    vague: the masks may lack parts of the object. Then it is the box around `likely_cells`, and one cell more, or
    `aabb` if no cell is likely. Raises UserError if the masks are not vague and no cell is possible.
    """
    if masks is None:
        return aabb
    if vague:
        held, more = likely_cells(cameras, masks, aabb, size).nonzero(), 1
    else:
        held, more = possible_cells(cameras, masks, aabb, size, counted=counted).nonzero(), 0
    if not len(held):
        return aabb
    cell = (aabb[1] - aabb[0]) / size
    # a grid is z, y, x
    low, high = (held.amin(0).flip(0) - more).clamp(min=0), (held.amax(0).flip(0) + 1 + more).clamp(max=size)
    return torch.stack([aabb[0] + low * cell, aabb[0] + high * cell])


def likely_cells(
    cameras: Cameras, masks: Bool[Tensor, "C H W"], aabb: Float[Tensor, "2 3"], size: int
) -> Bool[Tensor, "G G G"]:
    """Cells whose middle lies, in most of the views that see it, in the rectangle around the view's mask.

    For masks that may have holes, and lack parts of the object in some views: a white handle in front of white.
    """
    points, _ = points_of(centres(size, aabb.device), aabb, False)
    votes, views = torch.zeros_like(points[:, 0]), torch.zeros_like(points[:, 0])
    for camera in range(len(cameras)):
        rows, columns = (masks[camera].any(axis).nonzero()[:, 0] for axis in (1, 0))
        if not len(rows):
            continue
        xy, depth = project(cameras, camera, points)
        column, row = xy.unbind(-1)
        width, height = cameras.size(camera)
        margin = MARGIN * max(width, height)
        seen = (depth > 0) & (column > 0) & (column < width) & (row > 0) & (row < height)
        within = (column > columns[0] - margin) & (column < columns[-1] + 1 + margin)
        within &= (row > rows[0] - margin) & (row < rows[-1] + 1 + margin)
        votes += seen & within
        views += seen
    return ((views > 0) & (votes >= MOST * views)).view(size, size, size)
