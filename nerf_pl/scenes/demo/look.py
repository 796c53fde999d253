"""What the demo scene looks like: the solids, their materials, the light on them, and the pictures of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float

from nerf_pl.ops.colour import linear
from nerf_pl.scenes.demo import shapes
from nerf_pl.scenes.demo.shapes import Scalars, Vectors, column, dot

FLOOR = -0.40  # height of the board's upper side
BOARD = shapes.Can((0.0, 0.0, FLOOR - 0.07), 1.14, 0.07, 0.014)
LACQUER_BALL = shapes.Ball((-0.08, 0.36, FLOOR + 0.38), 0.38)
GOLD_BALL = shapes.Ball((0.47, -0.40, FLOOR + 0.165), 0.165)
RING = shapes.Ring((0.47, -0.40, FLOOR + 0.085), 0.28, 0.085)
DIE = shapes.Cube((-0.42, -0.42, FLOOR + 0.19), 0.19, 0.045, 0.42)
COLUMN = shapes.Can((0.60, 0.33, FLOOR + 0.34), 0.115, 0.34, 0.012)
STRIPED_BALL = shapes.Ball((0.60, 0.33, FLOOR + 0.68 + 0.185), 0.19)
PILL = shapes.Capsule((-0.82, -0.04, FLOOR + 0.10), (-0.62, 0.28, FLOOR + 0.10), 0.10)


def _rgb(code: str) -> Float[np.ndarray, "3 1"]:
    """A colour written as in HTML, made linear."""
    values = torch.tensor([int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    return linear(values).numpy()[:, None]


def _edge(x: Scalars, width: float = 0.02) -> Scalars:
    """0 below zero, 1 above it, with a ramp between that keeps texture edges from jagging."""
    return np.clip(x / width + 0.5, 0, 1)


def _mix(a: Vectors, b: Vectors, share: Scalars) -> Vectors:
    return a + (b - a) * share


@cache
def _noise_table() -> Float[np.ndarray, "256 256"]:
    return np.random.default_rng(7).random((256, 256), dtype=np.float32)


def _noise(x: Scalars, y: Scalars) -> Scalars:
    """Value noise in [0, 1]: random numbers on the integer lattice, smoothly interpolated."""
    table, column0, row0 = _noise_table(), np.floor(x), np.floor(y)
    u, v = x - column0, y - row0
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    i, j = column0.astype(np.int32) & 255, row0.astype(np.int32) & 255
    i1, j1 = (i + 1) & 255, (j + 1) & 255
    upper = table[j, i] + (table[j, i1] - table[j, i]) * u
    lower = table[j1, i] + (table[j1, i1] - table[j1, i]) * u
    return upper + (lower - upper) * v


def _paint_board(p: Vectors) -> Vectors:
    """A chessboard of maple and walnut with a brass ring let into its rim."""
    x, y, z = p
    rho = np.hypot(x, y)
    cell = 0.235
    i, j = np.floor(x / cell), np.floor(y / cell)
    dark = (i + j) % 2
    # the grain of neighbouring cells runs crosswise, and each cell is cut from another part of the plank
    rim = rho > 0.945
    angle = np.arctan2(y, x)
    sector = np.floor(angle * (4 / np.pi))  # the rim is made of eight pieces
    along = np.where(rim, angle + 2.9 * sector, np.where(dark > 0, x, y) + 3.7 * i)
    across = np.where(rim, rho + 0.6 * (z - FLOOR) + 1.3 * sector, np.where(dark > 0, y, x) + 5.3 * j)
    grain = 0.6 * _noise(along * 3.1, across * 40) + 0.4 * _noise(along * 9 + 40, across * 110)
    maple = _mix(_rgb("e3bd85"), _rgb("c08a50"), grain)
    walnut = _mix(_rgb("7d4a2a"), _rgb("472413"), grain)
    # fine dark joints between the pieces: distance to the nearest one, in world units
    joint = cell * np.minimum(np.abs(x / cell - np.round(x / cell)), np.abs(y / cell - np.round(y / cell)))
    joint = np.where(rim, np.abs(angle * (4 / np.pi) - np.round(angle * (4 / np.pi))) * 0.8, joint)
    wood = _mix(maple, walnut, np.where(rim, 1, dark)) * (0.5 + 0.5 * _edge(joint - 0.004, 0.007))
    brass = _edge(0.016 - np.abs(rho - 0.945), 0.008) * (z > FLOOR - 0.01)
    return _mix(wood, _rgb("cf9a45"), brass)


def _paint_lacquer_ball(p: Vectors) -> Vectors:
    return np.broadcast_to(_rgb("0f5c74"), p.shape)


def _paint_gold_ball(p: Vectors) -> Vectors:
    return np.broadcast_to(_rgb("6e430c"), p.shape)


def _paint_ring(p: Vectors) -> Vectors:
    """Stripes that wind around the tube."""
    x, y, z = p - column(RING.center, p)
    around, tube = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y) - RING.radius)
    phase = np.sin(9 * around + 2 * tube)
    colour = _mix(_rgb("f2e3c6"), _rgb("e2622c"), _edge(phase, 0.22))
    return _mix(colour, _rgb("7c1d2b"), _edge(phase - 0.86, 0.16))


# which of the 3x3 places of a face carry a pip, by its number of pips less one
PIPS = np.array([[0,0,0,0,1,0,0,0,0], [1,0,0,0,0,0,0,0,1], [1,0,0,0,1,0,0,0,1], [1,0,1,0,0,0,1,0,1],
                 [1,0,1,0,1,0,1,0,1], [1,0,1,1,0,1,1,0,1]], bool).reshape(6, 3, 3)  # fmt: skip


def _paint_die(p: Vectors) -> Vectors:
    """Ivory; opposite faces add up to seven."""
    q = DIE.local(p) / DIE.half
    axis = np.abs(q).argmax(0)
    rays = np.arange(q.shape[1])
    u, v = q[(axis + 1) % 3, rays], q[(axis + 2) % 3, rays]
    face = np.where(q[axis, rays] > 0, axis, 5 - axis)  # 0, 1, 2 opposite 5, 4, 3
    i, j = (np.clip(np.round(w / 0.5), -1, 1).astype(int) for w in (u, v))
    off = np.hypot(u - 0.5 * i, v - 0.5 * j)
    radius = np.where(face == 0, 0.26, 0.16)
    pip = PIPS[face, i + 1, j + 1] * _edge(radius - off, 0.05)
    ink = np.where(face == 0, _rgb("c3202f"), _rgb("22304a"))
    return _mix(_rgb("f4ecd8"), ink, pip)


def _paint_column(p: Vectors) -> Vectors:
    """Stripes like those of a barber's pole."""
    x, y, z = p - column(COLUMN.center, p)
    phase = np.sin(2 * np.arctan2(y, x) + 17 * z)
    stripes = _mix(_rgb("f6f1e7"), _rgb("c8242f"), _edge(phase - 0.1, 0.18))
    return _mix(stripes, _rgb("d9a441"), _edge(np.abs(z) - (COLUMN.half_height - 0.045), 0.01))


def _paint_striped_ball(p: Vectors) -> Vectors:
    """Six segments, tilted, with a white cap at each pole."""
    x, y, z = (p - column(STRIPED_BALL.center, p)) / STRIPED_BALL.radius
    y, z = 0.82 * y - 0.57 * z, 0.57 * y + 0.82 * z
    sector = np.floor((np.arctan2(y, x) / np.pi + 1) * 3).astype(int) % 3
    colours = np.concatenate([_rgb("f4b81f"), _rgb("1f8a5b"), _rgb("f3efe6")], 1)
    return _mix(colours[:, sector], _rgb("f3efe6"), _edge(np.abs(z) - 0.9, 0.05))


def _paint_pill(p: Vectors) -> Vectors:
    along = dot(p - column(PILL.center, p), PILL.axis(p))
    halves = _mix(_rgb("6cae3a"), _rgb("f3efe6"), _edge(along, 0.008))
    return _mix(halves, _rgb("d9a441"), _edge(0.014 - np.abs(along), 0.008))


@dataclass(frozen=True)
class Material:
    """mirror: share of light that is reflected looking straight at it, by colour; dielectrics have about 0.04."""

    paint: Callable[[Vectors], Vectors]
    mirror: tuple[float, float, float]


SCENE: tuple[tuple[shapes.Solid, Material], ...] = (
    (BOARD, Material(_paint_board, (0.025, 0.025, 0.025))),
    (LACQUER_BALL, Material(_paint_lacquer_ball, (0.055, 0.055, 0.055))),
    (GOLD_BALL, Material(_paint_gold_ball, (0.80, 0.52, 0.20))),
    (RING, Material(_paint_ring, (0.035, 0.035, 0.035))),
    (DIE, Material(_paint_die, (0.035, 0.035, 0.035))),
    (COLUMN, Material(_paint_column, (0.03, 0.03, 0.03))),
    (STRIPED_BALL, Material(_paint_striped_ball, (0.04, 0.04, 0.04))),
    (PILL, Material(_paint_pill, (0.04, 0.04, 0.04))),
)
SOLIDS = tuple(solid for solid, _ in SCENE)
