"""The surface where a density passes a threshold: marching cubes, slab by slab, so that memory stays bounded."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nerf_pl.console import progress
from nerf_pl.export.region import Region, densities
from nerf_pl.extras import extra
from nerf_pl.methods.model import Model
from nerf_pl.rendering import evaluating

SLAB = 2**23  # values held at once
HALVINGS = 6  # of the edge of a cell, around the place where it meets the surface
Values = Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]]
"""Values at world points."""


@dataclass(frozen=True)
class Lattice:
    """Points in a region, `cell` apart along each axis. counts: how many along each axis."""

    region: Region
    cell: float
    counts: tuple[int, int, int]

    @staticmethod
    def over(region: Region, resolution: int) -> "Lattice":
        """The lattice whose longest side has this many cells."""
        cell = float(region.sides.max()) / resolution
        x, y, z = (max(math.ceil(float(side) / cell - 1e-3), 1) + 1 for side in region.sides)
        return Lattice(region, cell, (x, y, z))

    def world(self, numbers: Tensor) -> Float[Tensor, "N 3"]:
        """World points of places, counted in cells from the lowest corner."""
        own = self.region.box[0].to(numbers.device).double() + self.cell * numbers.double()
        return self.region.world(own.float())


@dataclass(frozen=True)
class Found:
    """A surface, whose triangles turn counterclockwise seen from outside. highest: the highest value that was met.
    vertices: in the world. unknown: the share of triangles left out because values beside them are unknown."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    highest: float
    unknown: float = 0.0


def dense_surface(model: Model, lattice: Lattice, threshold: float) -> Found:
    """The surface where the density passes the threshold, see `region.densities`; empty if it does so nowhere."""

    def density(xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        return densities(model, xyz, lattice.region.ndc)

    with evaluating(model):
        return find_surface(density, lattice, threshold, model.step.device, title="asking the density", halve=True)


def find_surface(
    values: Values, lattice: Lattice, threshold: float, device: torch.device, *, title: str, halve: bool
) -> Found:
    """The surface where values, which are higher inside, pass the threshold; empty if they do so nowhere.

    Neighbouring slabs share a layer of values, and vertices are known by the edges of cells that they lie on: the mesh
    has no seams. It is open where it meets the end of the lattice, and where values are unknown, nan. halve: ask for
    more values along edges, since values between the lattice's are no straight lines.
    """
    cubes = extra("skimage.measure", "a mesh").marching_cubes
    nx, ny, nz = lattice.counts
    thickness = max(SLAB // (ny * nz), 1)
    last, highest, dropped, most = None, -math.inf, 0, 2 * threshold or 1.0
    places, triangles, total = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
    starts = range(0, nx, thickness)
    for start in progress(starts, len(starts), title):
        layers = _layers(values, lattice, range(start, min(start + thickness, nx)), device)
        highest = max(highest, float(np.nanmax(layers, initial=-math.inf)))
        slab = layers if last is None else np.concatenate([last, layers])
        first, last = start - (last is not None), layers[-1:].copy()
        # what is far denser than the surface would pull it outwards; what is unknown is taken as inside
        filled = np.minimum(np.nan_to_num(slab, nan=most), most)
        if len(slab) < 2 or not filled.min() < threshold < filled.max():
            continue
        vertices, faces, *_ = cubes(filled, threshold)
        kept = faces[_known(slab, vertices)[faces].all(1)]
        dropped += len(faces) - len(kept)
        places.append(vertices.astype(np.float64) + np.array([first, 0, 0]))
        triangles.append(kept.astype(np.int64) + total)
        total += len(vertices)
    vertices, faces = used(*welded(np.concatenate(places), np.concatenate(triangles), lattice.counts))
    numbers = torch.from_numpy(vertices).to(device)
    if halve:
        numbers = _on_the_surface(values, lattice, numbers, threshold)
    # the cubes turn triangles clockwise, and normalised device coordinates are a left-handed space
    faces = faces if lattice.region.to_world is None else faces[:, ::-1]
    unknown = dropped / max(dropped + len(faces), 1)
    return Found(lattice.world(numbers).double().cpu().numpy(), np.ascontiguousarray(faces), highest, unknown)


def _layers(values: Values, lattice: Lattice, numbers: range, device: torch.device) -> Float[np.ndarray, "X Y Z"]:
    _, ny, nz = lattice.counts
    axes = [torch.arange(n, device=device) for n in (ny, nz)]
    found = []
    for x in numbers:  # a layer at a time: coordinates take more room than values
        points = lattice.world(torch.cartesian_prod(torch.tensor([x], device=device), *axes))
        found.append(values(points).view(ny, nz).cpu())
    return torch.stack(found).numpy()


def _known(slab: Float[np.ndarray, "X Y Z"], vertices: Float[np.ndarray, "V 3"]) -> Bool[np.ndarray, "V"]:
    """Whether the values are known at both ends of the edges that vertices lie on."""
    low, high = (end(vertices).astype(np.int64) for end in (np.floor, np.ceil))
    return ~np.isnan(slab[tuple(low.T)] + slab[tuple(high.T)])


def welded(
    places: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], counts: tuple[int, int, int]
) -> tuple[Float[np.ndarray, "W 3"], Int[np.ndarray, "G 3"]]:
    """The mesh with one vertex on each edge of a cell. Triangles that became lines are left out. places: in cells."""
    corner = np.floor(places)
    along = places > corner  # on an edge it is one axis, at a corner none
    number = np.ravel_multi_index(tuple(corner.astype(np.int64).T), counts)
    axis = np.where(along.any(1), along.argmax(1), 3)
    keys = np.where(along.sum(1) < 2, 4 * number + axis, -1 - number)  # the others lie inside of their cells
    _, kept, new = np.unique(keys, return_index=True, return_inverse=True)
    faces = new.reshape(-1)[faces]
    lines = (faces == np.roll(faces, 1, axis=1)).any(1)
    return places[kept], faces[~lines]


def _on_the_surface(
    values: Values, lattice: Lattice, found: Float[Tensor, "V 3"], threshold: float
) -> Float[Tensor, "V 3"]:
    """The vertices, moved along their edges to where the values pass the threshold."""

    def is_inside(at: Tensor) -> Tensor:
        return values(lattice.world(at)) > threshold

    along = found != found.floor()
    low = found.floor()
    high = torch.where(along, low + 1, low)
    low_inside, high_inside = is_inside(low), is_inside(high)
    chosen = (along.sum(1) == 1) & (low_inside != high_inside)
    inner = torch.where(low_inside[:, None], low, high)[chosen]
    outer = torch.where(low_inside[:, None], high, low)[chosen]
    for _ in range(HALVINGS):
        middle = (inner + outer) / 2
        inside = is_inside(middle)[:, None]
        inner, outer = torch.where(inside, middle, inner), torch.where(inside, outer, middle)
    found[chosen] = (inner + outer) / 2
    return found


def without_small_parts(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], least: float
) -> tuple[Int[np.ndarray, "G 3"], int]:
    """The triangles of the parts that have at least this share of the largest part's area; how many parts went."""
    if not len(faces) or least <= 0:
        return faces, 0
    sparse: Any = extra("scipy.sparse", "a mesh")
    graph = extra("scipy.sparse.csgraph", "a mesh")
    pairs = np.concatenate([faces[:, :2], faces[:, 1:]])
    links = sparse.coo_matrix((np.ones(len(pairs), bool), tuple(pairs.T)), shape=2 * (len(vertices),))
    _, parts = graph.connected_components(links, directed=False)
    of_face = parts[faces[:, 0]]
    areas = np.bincount(of_face, area(vertices, faces))
    small = areas < least * areas.max()
    return faces[~small[of_face]], int((small & (areas > 0)).sum())


def area(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "F"]:
    """The area of each triangle."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def used(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "W 3"], Int[np.ndarray, "F 3"]]:
    """The mesh without the vertices of no triangle."""
    kept, new = np.unique(faces, return_inverse=True)
    return vertices[kept], new.reshape(faces.shape)


def normals_of(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Unit normals, outwards: of the triangles around each vertex, by their areas."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    across = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for i in range(3):
        for axis in range(3):
            total[:, axis] += np.bincount(faces[:, i], across[:, axis], len(vertices))
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)
