"""A mesh seen from all around: small pictures of it, drawn here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.extras import extra
from nerf_pl.scenes import Scene, frame_of

SIDE = 360  # pixels
FRAMES = 12
ELEVATION = math.radians(24)
POINTS = 250_000  # that are drawn of a mesh, each as a square of SPLAT pixels, so that no gaps are left
SPLAT = 2
PAPER = 255
LIGHT = np.array([0.35, 0.25, 0.9])
MOST_BYTES = 400e6  # of a mesh that is read


@dataclass(frozen=True)
class Turn:
    """A mesh from all around. pictures: square, one for each step of a full turn."""

    pictures: Sequence[UInt8[np.ndarray, "S S 3"]]
    vertices: int
    faces: int


def turn_of(path: Path, up: Float[np.ndarray, "3"]) -> Turn | None:
    """The mesh in a file. up: the direction that is drawn upwards. None, with a warning, if it cannot be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            warn(f"{path} is too large to be drawn in the report")
            return None
        mesh = extra("trimesh", f"a preview of {path}").load(str(path), force="mesh", process=False)
        vertices, faces = np.asarray(mesh.vertices, float), np.asarray(mesh.faces, int)
        if not len(faces) or not np.isfinite(vertices).all():
            return None
        visual = mesh.visual.to_color() if mesh.visual.kind == "texture" else mesh.visual
        colours = np.asarray(visual.vertex_colors)[:, :3].astype(np.float32)
    except UserError as error:
        warn(f"the report has no preview of {path}: {error}")
        return None
    except Exception:  # damaged files make the reader raise nearly any type
        warn(f"{path} is damaged, and is not drawn in the report")
        return None
    if colours.shape != vertices.shape:
        colours = np.full(vertices.shape, 176, np.float32)
    points, normals, shades = _sampled(vertices, faces, colours)
    points, normals = (part @ _upright(up).T for part in (points, normals))
    return Turn(list(_frames(points, normals, shades)), len(vertices), len(faces))


def up_of(views: Sequence[Scene], path: Path) -> Float[np.ndarray, "3"]:
    """The direction in a mesh's file that is up in the world of its scene. A .glb stands upright by itself."""
    if path.suffix.lower() == ".glb":
        return np.array([0.0, 1.0, 0.0])
    if not views:
        return np.array([0.0, 0.0, 1.0])
    world = np.array([0.0, 1.0, 0.0] if views[0].ndc is not None else [0.0, 0.0, 1.0])
    return np.linalg.inv(frame_of(views[0]).numpy())[:3, :3] @ world


def _upright(up: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """A rotation that takes a direction to z."""
    z = up / np.linalg.norm(up)
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def _sampled(
    vertices: Float[np.ndarray, "V 3"], faces: np.ndarray, colours: Float[np.ndarray, "V 3"]
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Points spread evenly over a mesh, with normals and colours."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(across, axis=1)
    rng = np.random.default_rng(0)
    chosen = np.searchsorted(np.cumsum(areas), rng.random(POINTS) * areas.sum()).clip(max=len(faces) - 1)
    a, b = rng.random((2, POINTS))
    a, b = np.where(a + b > 1, 1 - a, a), np.where(a + b > 1, 1 - b, b)
    weights = np.stack([1 - a - b, a, b], 1)[..., None]
    normals = across[chosen] / np.maximum(areas[chosen], 1e-30)[:, None]
    return (corners[chosen] * weights).sum(1), normals, (colours[faces[chosen]] * weights).sum(1)


def _frames(
    points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], colours: Float[np.ndarray, "N 3"]
) -> list[UInt8[np.ndarray, "S S 3"]]:
    """Pictures without perspective, from slightly above; of the points in a pixel the nearest one is drawn."""
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    points = points - (low + high) / 2
    radius = max(float(np.quantile(np.linalg.norm(points, axis=1), 0.999)), 1e-9)
    light = LIGHT / np.linalg.norm(LIGHT)
    shades = colours * (0.62 + 0.38 * np.abs(normals @ light))[:, None]
    return [_drawn(points / radius, shades, 2 * math.pi * i / FRAMES) for i in range(FRAMES)]


def _drawn(
    points: Float[np.ndarray, "N 3"], shades: Float[np.ndarray, "N 3"], azimuth: float
) -> UInt8[np.ndarray, "S S 3"]:
    cos, sin, tilt = math.cos(azimuth), math.sin(azimuth), ELEVATION
    right = points @ np.array([-sin, cos, 0.0])
    nearer = points @ np.array([math.cos(tilt) * cos, math.cos(tilt) * sin, math.sin(tilt)])
    above = points @ np.array([-math.sin(tilt) * cos, -math.sin(tilt) * sin, math.cos(tilt)])
    x, y = ((SIDE / 2 * (1 + 0.96 * part)).astype(int) for part in (right, -above))
    inside = (x >= 0) & (x <= SIDE - SPLAT) & (y >= 0) & (y <= SIDE - SPLAT)
    order = np.flatnonzero(inside)[np.argsort(nearer[inside].astype(np.float32))]  # what is written last stays
    over = np.arange(SPLAT)
    places = ((y[order, None] + over) * SIDE)[:, :, None] + (x[order, None] + over)[:, None, :]  # (N, SPLAT, SPLAT)
    picture = np.full((SIDE * SIDE, 3), PAPER, np.uint8)
    picture[places.reshape(-1)] = np.clip(shades[order], 0, 255).astype(np.uint8).repeat(SPLAT**2, 0)
    return picture.reshape(SIDE, SIDE, 3)
