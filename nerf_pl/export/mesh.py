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
from nerf_pl.export.options import MeshOptions
from nerf_pl.export.region import Region, densities, nothing_in, region_of
from nerf_pl.export.sights import Sight, ends_of, is_seen, look
from nerf_pl.export.surface import Lattice, find_surface, normals_of, used, without_small_parts
from nerf_pl.export.texture import textured, unwrapped
from nerf_pl.extras import extra
from nerf_pl.media import to_uint8
from nerf_pl.methods.model import Model
from nerf_pl.rendering import evaluating
from nerf_pl.scenes import Scene

GPU_RESOLUTION, CPU_RESOLUTION = 512, 256
TEXTURED_FACES = 100_000  # more take minutes to lay out flat
QUANTILE, SHARE = 0.5, 0.5  # the threshold is this share of the median density where rays end
MOST_ENDS = 2**17  # whose densities are asked for the threshold
BEHIND = 0.01  # of the longest side: how far behind what a view shows a surface may lie and still count as seen


@dataclass(frozen=True)
class Meshed:
    """A mesh in the scene's world, and how it came about. smaller: parts left out because they are small. unseen: the
    share of the surface that was left out because no view sees it. cell: in the world or, of photos from one side, in
    normalised device coordinates."""

    geometry: Geometry
    threshold: float
    cell: float
    smaller: int
    unseen: float


def mesh_of(model: Model, scene: Scene, options: MeshOptions, chunk: int) -> Meshed:
    """The surface that the training views of a scene show, with colours and normals.

    chunk: rays rendered at once. Raises UserError if there is no surface.
    """
    sights = look(model, scene, chunk)
    whole = region_of(scene, options.crop)
    ends = ends_of(sights)
    region = whole.around(ends)  # the rest would be taken away again
    if region is None:
        raise UserError(nothing_in(options.crop, len(ends)))
    region = whole if options.keep_unseen else region
    threshold = options.threshold or threshold_of(model, region, ends)
    default = CPU_RESOLUTION if model.step.device.type == "cpu" else GPU_RESOLUTION
    lattice = Lattice.over(region, options.resolution or default)
    found = find_surface(model, lattice, threshold)
    vertices, faces, unseen = found.vertices, found.faces, 0.0
    if not len(faces):
        raise UserError(_too_high(found.densest, threshold))
    device = model.step.device
    if not options.keep_unseen:
        at = torch.from_numpy(vertices).float().to(device)
        seen = is_seen(sights, at, _reach(lattice, at)).cpu().numpy()
        kept = faces[seen[faces].any(1)]
        unseen = 1 - len(kept) / len(faces)
        faces = kept
    faces, smaller = without_small_parts(vertices, faces, options.smallest_part)
    if not len(faces):
        raise UserError("no training view sees any of the surface: give --keep_unseen, or a lower --threshold")
    vertices, faces = used(vertices, faces)
    most = options.faces or (len(faces) if options.texture is None else TEXTURED_FACES)
    if len(faces) > most:
        vertices, faces = _reduced(vertices, faces, most)
    geometry = _coloured(model, sights, lattice, (vertices, faces), options.texture)
    return Meshed(geometry, threshold, lattice.cell * _scale(region), smaller, unseen)


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
