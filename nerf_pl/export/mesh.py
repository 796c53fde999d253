"""A mesh of what a trained model shows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.console import console
from nerf_pl.errors import UserError
from nerf_pl.export.colours import colours_of
from nerf_pl.export.files import Geometry
from nerf_pl.export.fusion import fused, sharpened
from nerf_pl.export.options import MeshOptions
from nerf_pl.export.region import Region, densities, nothing_in, region_of
from nerf_pl.export.surface import Lattice, dense_surface, find_surface, normals_of, used, without_small_parts
from nerf_pl.export.texture import textured, unwrapped
from nerf_pl.extras import extra
from nerf_pl.media import to_uint8
from nerf_pl.methods.model import Model
from nerf_pl.rendering import evaluating
from nerf_pl.scenes import Scene
from nerf_pl.sights import Sight, ends_of, is_seen, look

RESOLUTION = {"cpu": 256, "cuda": 512}
VIEWS, SIDE = {"cpu": 24, "cuda": 64}, {"cpu": 128, "cuda": 400}  # that are looked from; pixels of the longer side
BAND_CELLS, BAND, JUMP = 3, 0.03, 0.06  # see `fused`; shares of the longest side
AT_ONCE = {"cpu": 2**15, "cuda": 2**20}  # points that views are asked about
TEXTURED_FACES = 100_000  # more take minutes to lay out flat
QUANTILE, SHARE = 0.5, 0.5  # the threshold is this share of the median density where rays end
MOST_ENDS = 2**17  # whose densities are asked for the threshold
BEHIND = 0.01  # of the longest side: how far behind what a view shows a surface may lie and still count as seen

Surface = tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"], float]
"""Vertices, triangles, and the share of the surface that was left out because no view sees it."""


@dataclass(frozen=True)
class Meshed:
    """A mesh in the scene's world, and how it came about. threshold: the density of the surface, None if it was found
    from the depths of views. smaller: parts left out because they are small. unseen: the share of the surface that was
    left out because no view sees it. cell: in the world or, of photos from one side, in normalised device
    coordinates."""

    geometry: Geometry
    threshold: float | None
    cell: float
    smaller: int
    unseen: float


def mesh_of(model: Model, scene: Scene, options: MeshOptions, chunk: int) -> Meshed:
    """The surface that the training views of a scene show, with colours and normals.

    chunk: rays rendered at once. Raises UserError if there is no surface.
    """
    device = model.step.device
    sights = look(model, scene, chunk, most=VIEWS[device.type], side=SIDE[device.type])
    whole = region_of(scene, options.crop)
    ends = ends_of(sights)
    region = whole.around(ends)  # the rest would be taken away again
    if region is None:
        raise UserError(nothing_in(options.crop, len(ends)))
    lattice = Lattice.over(whole if options.keep_unseen else region, options.resolution or RESOLUTION[device.type])
    if options.threshold is None and not options.keep_unseen:
        sights, threshold = sharpened(model, sights, region), None
        vertices, faces, unseen = _from_views(sights, lattice, device)
    else:
        threshold = options.threshold or threshold_of(model, lattice.region, ends)
        vertices, faces, unseen = _from_density(model, sights, lattice, threshold, options.keep_unseen)
    faces, smaller = without_small_parts(vertices, faces, options.smallest_part)
    if not len(faces):
        told = "the training views agree on no surface" if threshold is None else "no training view sees the surface"
        raise UserError(f"{told}: give --keep_unseen, a --threshold for its density, or train longer")
    vertices, faces = used(vertices, faces)
    most = options.faces or (len(faces) if options.texture is None else TEXTURED_FACES)
    if len(faces) > most:
        vertices, faces = _reduced(vertices, faces, most)
    geometry = _coloured(model, sights, lattice, (vertices, faces), options.texture)
    return Meshed(geometry, threshold, lattice.cell * _scale(region), smaller, unseen)


def _from_views(sights: Sequence[Sight], lattice: Lattice, device: torch.device) -> Surface:
    """The surface that the depths of views agree on."""
    side = float(lattice.region.sides.max())
    band, jump = max(BAND_CELLS * lattice.cell, BAND * side), JUMP * side

    def behind(xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        lengths = lattice.region.lengths(xyz)
        parts = zip(*(part.split(AT_ONCE[device.type]) for part in (xyz, band * lengths, jump * lengths)), strict=True)
        return torch.cat([fused(sights, *part) for part in parts])

    found = find_surface(behind, lattice, 0.0, device, title="fusing what the views see", halve=False)
    return found.vertices, found.faces, found.unknown


def _from_density(
    model: Model, sights: Sequence[Sight], lattice: Lattice, threshold: float, keep_unseen: bool
) -> Surface:
    """The surface where the density passes the threshold, less what no view sees."""
    found = dense_surface(model, lattice, threshold)
    vertices, faces = found.vertices, found.faces
    if not len(faces):
        raise UserError(_too_high(found.highest, threshold))
    if keep_unseen:
        return vertices, faces, 0.0
    at = torch.from_numpy(vertices).float().to(model.step.device)
    seen = is_seen(sights, at, _reach(lattice, at)).cpu().numpy()
    kept = faces[seen[faces].any(1)]
    return vertices, kept, 1 - len(kept) / len(faces)


def threshold_of(model: Model, region: Region, ends: Float[Tensor, "N 3"]) -> float:
    """The density of the surface: half of the median density where the rays of the views end. See
    `region.densities` for its unit."""
    every = max(len(ends) // MOST_ENDS, 1)
    with evaluating(model):
        found = densities(model, ends[::every], region.ndc)
    found = found[found > 0]
    if not len(found):
        raise UserError("the field has no density where the training views end: train longer, or give --threshold")
    return SHARE * float(found.quantile(QUANTILE))


def _reach(lattice: Lattice, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """How far behind what a view shows a point may lie and still count as seen, in the world."""
    own = max(2 * lattice.cell, BEHIND * float(lattice.region.sides.max()))
    return own * lattice.region.lengths(xyz)


def _reduced(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], count: int
) -> tuple[Float[np.ndarray, "W 3"], Int[np.ndarray, "G 3"]]:
    simplify = extra("fast_simplification", "--faces").simplify
    middle = vertices.mean(0)
    points, triangles, *_ = simplify((vertices - middle).astype(np.float32), faces.astype(np.int32), target_count=count)
    return used(points.astype(np.float64) + middle, triangles.astype(np.int64))


def _coloured(
    model: Model,
    sights: Sequence[Sight],
    lattice: Lattice,
    mesh: tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]],
    texture: int | None,
) -> Geometry:
    """The mesh with colours at its vertices or, if a size is given for it, in a texture."""

    def colours(points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        at, outwards = (torch.from_numpy(part).float().to(model.step.device) for part in (points, normals))
        lengths = {"cell": lattice.cell * lattice.region.lengths(at), "tolerance": _reach(lattice, at)}
        return colours_of(model, sights, at, outwards, **lengths).cpu().numpy()

    vertices, faces = mesh
    normals = normals_of(vertices, faces)
    if texture is not None:
        grey = np.full(vertices.shape, 128, np.uint8)
        return textured(unwrapped(Geometry(vertices, normals, grey, faces), texture), texture, colours)
    console.print(f"colouring {len(vertices)} vertices")
    return Geometry(vertices, normals, to_uint8(colours(vertices, normals)), faces)


def _scale(region: Region) -> float:
    return 1.0 if region.to_world is None else float(region.to_world[0, :3].norm())


def _too_high(densest: float, threshold: float) -> str:
    if densest <= 0:
        return "the field is empty: train longer"
    told = f"nothing is denser than --threshold {threshold:.4g}; the densest point has {densest:.4g}"
    return f"{told}: give --threshold {densest / 2:.3g}, or train longer"
