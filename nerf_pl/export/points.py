"""A cloud of points with colours and normals, from what the training views see."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nerf_pl.console import progress
from nerf_pl.errors import UserError
from nerf_pl.export.files import Geometry
from nerf_pl.export.options import PointOptions
from nerf_pl.export.region import Region, nothing_in, region_of
from nerf_pl.media import to_uint8
from nerf_pl.methods.model import Model
from nerf_pl.rendering import evaluating
from nerf_pl.scenes import Scene
from nerf_pl.sights import CPU_VIEWS, Sight, ends_of, look, pixels_of, sight, small, spread

MOST_VIEWS = 100
SPARE = 1.25  # pixels for each point that is wanted, since some are outliers
REACH = 3  # pixels around one, along each axis, that fix the plane through it
STEEPNESS = 4.0  # the tangent of the slope up to which pixels side by side are of one surface
LEAST_AROUND = 0.3  # of the pixels around a point that must be of its surface
LEAST_FACING = 0.1  # cosine between the normal and the way to the camera
TOLERANCE = 0.02  # of the distance, within which views agree on it
SEED = 0


@dataclass(frozen=True)
class Cloud:
    """Points in the scene's world; `geometry` has no faces. outliers: the share of the pixels' points that was left
    out. enough: whether there are as many points as were asked for."""

    geometry: Geometry
    outliers: float
    enough: bool


def points_of(model: Model, scene: Scene, options: PointOptions, chunk: int) -> Cloud:
    """Points where the rays of the training views end, with the colours that these show.

    Left out are points that hang in the air: those of pixels across the edge of something, and those that more views
    see through than see. chunk: rays rendered at once. Raises UserError if the views show nothing.
    """
    sights, region = look(model, scene, chunk), region_of(scene, options.crop)
    share = _share(sights, region)
    if share == 0:
        raise UserError(nothing_in(options.crop, len(ends_of(sights))))
    views = spread(scene, CPU_VIEWS if model.step.device.type == "cpu" else MOST_VIEWS)
    wanted = SPARE * options.count / share / len(views)  # pixels of a view
    found: list[tuple[Tensor, ...]] = []
    total = 0
    with evaluating(model):
        for view in progress(views, len(views), "finding points"):
            width, height = view.size
            side = math.ceil(max(width, height) * math.sqrt(wanted / (width * height)))
            one = sight(model, small(view, max(side, 2 * REACH)).to(model.step.device), chunk)
            normals, is_surface = surfaces(one)
            inside = one.ends & within(region, one.points)
            total += int(inside.sum())
            kept = inside & is_surface
            points = one.points[kept]
            agreed = agree(sights, points)
            found.append(tuple(part[kept][agreed].cpu() for part in (one.points, normals, one.rgb)))
    xyz, normals, rgb = (torch.cat(parts) for parts in zip(*found, strict=True))
    if not len(xyz):
        raise UserError("the views do not agree on any point: the field is fog still, train longer")
    chosen = torch.randperm(len(xyz), generator=torch.Generator().manual_seed(SEED))[: options.count].sort().values
    xyz, normals, rgb = (part[chosen] for part in (xyz, normals, rgb))
    faces = torch.zeros(0, 3, dtype=torch.int64).numpy()
    geometry = Geometry(xyz.double().numpy(), normals.double().numpy(), to_uint8(rgb), faces)
    return Cloud(geometry, 1 - sum(len(part[0]) for part in found) / total, len(chosen) == options.count)


def surfaces(one: Sight) -> tuple[Float[Tensor, "H W 3"], Bool[Tensor, "H W"]]:
    """The normal at each pixel, facing the camera, and whether it is of a surface, not of the air between two.

    The normal is that of the plane through the points of the pixels around, by least squares, of those that may be of
    the same surface.
    """
    moments = _moments(one)
    n, su, sv, suu, suv, svv = (part[..., None] for part in moments[:6])  # (H, W, 1) each
    sp, sup, svp = moments[6:].permute(1, 2, 0).split(3, 2)  # (H, W, 3) each
    n = n.clamp(min=1)
    suu, suv, svv = suu - su * su / n, suv - su * sv / n, svv - sv * sv / n
    pu, pv = sup - su * sp / n, svp - sv * sp / n
    across, down = svv * pu - suv * pv, suu * pv - suv * pu  # the slopes, times one positive number
    normals = F.normalize(torch.linalg.cross(down, across), dim=2).nan_to_num()
    towards = F.normalize(one.camera.c2w[0, :, 3] - one.points, dim=2).nan_to_num()
    facing = (normals * towards).sum(2)
    normals = torch.where(facing[..., None] < 0, -normals, normals)
    enough = LEAST_AROUND * (2 * REACH + 1) ** 2
    return normals, one.ends & (n[..., 0] >= enough) & (facing.abs() >= LEAST_FACING)


def _moments(one: Sight) -> Float[Tensor, "15 H W"]:
    """Sums over the pixels around each that may be of its surface: 1, u, v, u u, u v, v v, the way p to the point of
    each, u p and v p. u, v: columns and rows from the pixel."""
    height, width = one.distance.shape
    ends = torch.where(one.ends, one.distance, torch.inf)
    points = torch.where(one.ends[..., None], one.points, 0).permute(2, 0, 1)
    far = F.pad(ends, 4 * (REACH,), value=torch.inf)
    around = F.pad(points, 4 * (REACH,))
    footprint = torch.where(one.ends, one.distance, 0) / one.camera.K[0, 0, 0]
    sums = points.new_zeros(15, height, width)
    for v in range(-REACH, REACH + 1):
        for u in range(-REACH, REACH + 1):
            rows, columns = slice(REACH + v, REACH + v + height), slice(REACH + u, REACH + u + width)
            allowed = STEEPNESS * footprint * max(abs(u), abs(v), 0.5)
            same = one.ends & ((far[rows, columns] - ends).abs() <= allowed)
            away = torch.where(same, around[:, rows, columns] - points, 0)
            for i, factor in enumerate((1, u, v, u * u, u * v, v * v)):
                sums[i] += factor * same
            for i, factor in enumerate((1, u, v)):
                sums[6 + 3 * i : 9 + 3 * i] += factor * away
    return sums


def agree(sights: Sequence[Sight], points: Float[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
    """Whether at least twice as many views see each point as see through it."""
    against = torch.zeros(len(points), dtype=torch.int32, device=points.device)
    both = against.clone()
    for each in sights:
        inside, pixels, _ = pixels_of(each.camera, points)
        length = (points - each.camera.c2w[0, :, 3]).norm(dim=1)
        # of the pixels around, as wide as one may be wrong
        farthest = F.max_pool2d(each.distance[None, None], 3, 1, 1).flatten()[pixels]
        nearest = -F.max_pool2d(-each.distance[None, None], 3, 1, 1).flatten()[pixels]
        reach = TOLERANCE * length
        through = inside & (nearest > length + reach)
        seen = inside & ~through & (farthest >= length - reach)
        against += through.int()
        both += seen.int()
    return 2 * against <= both.clamp(min=1)


def within(region: Region, points: Float[Tensor, "H W 3"]) -> Bool[Tensor, "H W"]:
    """Whether world points lie in a region."""
    own, box = region.own(points.reshape(-1, 3)), region.box.to(points)
    return ((own >= box[0]) & (own <= box[1])).all(1).view(points.shape[:2])


def _share(sights: Sequence[Sight], region: Region) -> float:
    """Of the pixels, those whose rays end in a region."""
    hits = sum(int((one.ends & within(region, one.points)).sum()) for one in sights)
    return hits / sum(one.distance.numel() for one in sights)
