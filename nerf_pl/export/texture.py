"""A texture for a mesh: its surface laid out flat in charts, and the colour of the field at each texel."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from nerf_pl.console import console, progress
from nerf_pl.export.files import Geometry
from nerf_pl.export.raster import covered, shares_at
from nerf_pl.extras import extra

GAP = 4  # texels between charts, so that a viewer that blurs texels mixes no two charts
AT_ONCE = 2**16  # texels
Colours = Callable[[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]], Float[np.ndarray, "N 3"]]
"""Colours in [0, 1] at points with normals."""


def unwrapped(mesh: Geometry, size: int) -> Geometry:
    """The mesh with places in a texture of size x size texels, `uv`. Vertices on the seams between charts are there
    several times then."""
    xatlas = extra("xatlas", "--texture")
    atlas, packing = xatlas.Atlas(), xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = size, GAP, True
    points = mesh.vertices - mesh.vertices.mean(0)  # far from the origin, single precision would be coarse
    console.print(f"laying {len(mesh.faces)} triangles out flat")
    atlas.add_mesh(points.astype(np.float32), mesh.faces.astype(np.uint32), mesh.normals.astype(np.float32))
    atlas.generate(xatlas.ChartOptions(), packing)
    kept, faces, uv = atlas[0]
    return Geometry(
        mesh.vertices[kept], mesh.normals[kept], mesh.colours[kept], faces.astype(np.int64), uv.astype(np.float64)
    )


def textured(mesh: Geometry, size: int, colours: Colours) -> Geometry:
    """An unwrapped mesh with its texture. Texels of no chart have the colour of the nearest one that has a chart: at
    seams a viewer mixes them in."""
    assert mesh.uv is not None
    corners = places(mesh.uv, size)[mesh.faces]
    owner = np.full(size * size, -1, np.int32)
    for texels, own in covered(corners, size, size):
        owner[texels] = own
    known = np.flatnonzero(owner >= 0)
    parts = range(0, len(known), AT_ONCE)
    texture = np.zeros((size * size, 3), np.uint8)
    for start in progress(parts, len(parts), "colouring the texture"):
        texels = known[start : start + AT_ONCE]
        shares = shares_at(corners[owner[texels]], texels, size)
        around = mesh.faces[owner[texels]]
        points, normals = ((shares[..., None] * part[around]).sum(1) for part in (mesh.vertices, mesh.normals))
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        texture[texels] = np.round(255 * colours(points, normals))
    return replace(mesh, texture=_spread(texture.reshape(size, size, 3), (owner >= 0).reshape(size, size)))


def places(uv: Float[np.ndarray, "V 2"], size: int) -> Float[np.ndarray, "V 2"]:
    """Columns and rows in a texture, the centre of the first texel at 0.5. v counts upwards, rows count downwards."""
    return size * np.stack([uv[:, 0], 1 - uv[:, 1]], 1)


def _spread(texture: np.ndarray, known: np.ndarray) -> np.ndarray:
    if not known.any():
        return texture
    away = extra("scipy.ndimage", "--texture").distance_transform_edt
    row, column = away(~known, return_distances=False, return_indices=True)
    return texture[row, column]
