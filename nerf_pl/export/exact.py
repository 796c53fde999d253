"""How far a mesh of the built-in scene is from the scene's surface, which is known exactly."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nerf_pl.export.files import Geometry
from nerf_pl.extras import extra
from nerf_pl.scenes.demo import CAMERA_ANGLE_X, table_poses
from nerf_pl.scenes.demo.look import BOARD, SOLIDS
from nerf_pl.scenes.demo.render import exact_depth, pixel_directions

SIZE = 2 * BOARD.radius  # of the whole scene
VIEWS, SIDE = 12, 100  # from which the true surface is looked at, and the pixels along a side of each


@dataclass(frozen=True)
class Agreement:
    """Mean distances, as shares of the scene's size, and the mean cosine between normals. accuracy: from the mesh to
    the surface. completeness: from the visible points of the surface to the mesh."""

    accuracy: float
    completeness: float
    normals: float


def agreement(mesh: Geometry) -> Agreement:
    """How well a mesh, in the coordinates of the scene's file, agrees with the built-in scene."""
    points, normals = visible_points()
    tree = extra("scipy.spatial", "comparing a mesh").cKDTree(mesh.vertices)
    away, nearest = tree.query(points)
    across = np.abs(((points - mesh.vertices[nearest]) * mesh.normals[nearest]).sum(1))
    # between vertices the mesh is flat: within the length of an edge the distance from its plane counts
    edge = 2 * float(np.median(_edges(mesh)))
    apart = np.where(away < edge, across, away)
    cosine = (normals * mesh.normals[nearest]).sum(1)
    return Agreement(accuracy(mesh.vertices), float(apart.mean()) / SIZE, float(cosine.mean()))


def accuracy(points: Float[np.ndarray, "N 3"]) -> float:
    """The mean distance of points, in the coordinates of the scene's file, from the surface of the built-in scene, as a
    share of its size."""
    return float(np.abs(np.stack([solid.distance(points.T) for solid in SOLIDS])).min(0).mean()) / SIZE


def visible_points() -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Points of the true surface that cameras around it see, and the normals there."""
    points, ticks = [], np.arange(float(SIDE)) + 0.5
    for pose in table_poses(VIEWS):
        depth = exact_depth(pose, SIDE, CAMERA_ANGLE_X).ravel().astype(np.float64)
        directions = pixel_directions(pose, SIDE, CAMERA_ANGLE_X, x=ticks, y=ticks)
        points.append((pose[:, 3:] + depth * directions)[:, depth > 0])
    found = np.concatenate(points, 1)
    owner = np.abs(np.stack([solid.distance(found) for solid in SOLIDS])).argmin(0)
    normals = np.zeros_like(found)
    for i, solid in enumerate(SOLIDS):
        normals[:, owner == i] = solid.normal(found[:, owner == i])
    return found.T, normals.T


def _edges(mesh: Geometry) -> Float[np.ndarray, "E"]:
    return np.linalg.norm(mesh.vertices[mesh.faces[:, 0]] - mesh.vertices[mesh.faces[:, 1]], axis=1)
