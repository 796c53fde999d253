"""Light and pictures of the demo scene: Whitted ray tracing with soft shadows, one reflection and ambient light."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from nerf_pl.ops.colour import srgb
from nerf_pl.scenes.demo.look import BOARD, FLOOR, SCENE, SOLIDS
from nerf_pl.scenes.demo.shapes import Scalars, Vectors, column, dot, length, occluded, rotate, trace

KEY_SPREAD = 0.10  # tangent of the angle that the main light's radius spans: its shadows are soft
KEY_COLOUR = (2.45, 2.25, 1.95)
SKY_COLOUR = (0.46, 0.52, 0.62)
BOUNCE_COLOUR = (0.34, 0.24, 0.16)
LIFT = 1e-3  # rays leave a surface from slightly above it
RAYS_AT_ONCE = 1 << 18  # tens of MB; smaller pieces lose to the cost of calling NumPy
GOLDEN_ANGLE = np.pi * (3 - 5**0.5)


def _frame(towards: tuple[float, float, float]) -> Float[np.ndarray, "3 3"]:
    """Rows: the unit direction and two axes across it, the first of them level."""
    normal = np.array(towards) / np.linalg.norm(towards)
    side = np.cross(normal, (0.0, 0.0, 1.0)) / np.hypot(normal[0], normal[1])
    return np.stack([normal, side, np.cross(side, normal)])


KEY_FRAME = _frame((0.58, -0.56, 0.72))  # towards the main light
# light boxes: where they hang, half width and half height as tangents, radiance
BOXES = (
    (KEY_FRAME, 0.30, 0.30, (7.5, 7.2, 6.6)),
    (_frame((-0.80, -0.35, 0.48)), 0.22, 0.55, (2.6, 2.8, 3.1)),
    (_frame((0.25, 0.90, 0.36)), 0.70, 0.16, (2.2, 2.2, 2.3)),
)


@dataclass(frozen=True)
class FloorLight:
    """Light that reaches the board, baked once: shares of the main light and of the sky that are seen from there.

    Square grids over [-R, R]^2, R the board's radius; rows are y.
    """

    key: Float[np.ndarray, "n n"]
    sky: Float[np.ndarray, "n n"]

    def at(self, x: Scalars, y: Scalars) -> tuple[Scalars, Scalars]:
        """Bilinear look-up."""
        n = len(self.key)
        u, v = (np.clip((w / BOARD.radius * 0.5 + 0.5) * n - 0.5, 0, n - 1.001) for w in (x, y))
        i, j = u.astype(np.int32), v.astype(np.int32)
        u, v = u - i, v - j
        grids = np.stack([self.key, self.sky])
        upper = grids[:, j, i] * (1 - u) + grids[:, j, i + 1] * u
        lower = grids[:, j + 1, i] * (1 - u) + grids[:, j + 1, i + 1] * u
        key, sky = upper * (1 - v) + lower * v
        return key, sky


@lru_cache(maxsize=2)  # the same for all scenes of one size
def bake_floor(n: int, samples: int = 48) -> FloorLight:
    """FloorLight on an n x n grid, with `samples` directions for the main light and as many for the sky."""
    ticks = ((np.arange(n, dtype=np.float32) + 0.5) / n * 2 - 1) * BOARD.radius
    x, y = (w.ravel() for w in np.meshgrid(ticks, ticks))
    inside = np.flatnonzero(np.hypot(x, y) < BOARD.radius + 2.5 / n)
    points = np.stack([x, y, np.full_like(x, FLOOR + LIFT)])[:, inside]
    others = [solid for solid in SOLIDS if solid is not BOARD]
    at_once = max(1, RAYS_AT_ONCE // inside.size)  # directions
    index = np.arange(samples) + 0.5
    turn, rho = index * GOLDEN_ANGLE, np.sqrt(index / samples)
    # a spiral of equal areas on the unit disc; lifted to the hemisphere it is weighted by the cosine
    up = np.stack([rho * np.cos(turn), rho * np.sin(turn), np.sqrt(1 - rho**2)])
    grids = []
    for directions in (key_directions(samples), up):
        seen = np.zeros(n * n, np.float32)
        for first in range(0, samples, at_once):
            some = directions[:, first : first + at_once].astype(np.float32)
            starts, rays = np.tile(points, some.shape[1]), np.repeat(some, inside.size, axis=1)
            seen[inside] += (~occluded(others, starts, rays)).reshape(-1, inside.size).sum(0)
        grids.append((seen / samples).reshape(n, n))
    return FloorLight(*grids)


def key_directions(count: int) -> Float[np.ndarray, "3 count"]:
    """Unit directions to points spread over the round main light: the same share of its area for each."""
    index = np.arange(count) + 0.5
    rho, turn = KEY_SPREAD * np.sqrt(index / count), index * GOLDEN_ANGLE
    towards, side, up = KEY_FRAME[:, :, None]
    d = towards + rho * np.cos(turn) * side + rho * np.sin(turn) * up
    return d / length(d)


def environment(d: Vectors) -> Vectors:
    """Radiance from the studio around the scene: a bright horizon, a bluish ceiling, a warm floor, and light boxes."""
    up, down = np.clip(d[2], 0, 1), np.clip(-d[2] * 6, 0, 1)
    horizon, zenith, floor = (column(c, d) for c in ((0.86, 0.85, 0.83), (0.30, 0.40, 0.58), (0.30, 0.26, 0.23)))
    light = horizon + (zenith - horizon) * np.sqrt(up) + (floor - horizon) * down
    for frame, half_width, half_height, radiance in BOXES:
        facing, u, v = rotate(frame, d)
        u, v = np.abs(u) / np.maximum(facing, 1e-3), np.abs(v) / np.maximum(facing, 1e-3)
        inside = np.clip((half_width - u) / 0.06 + 0.5, 0, 1) * np.clip((half_height - v) / 0.06 + 0.5, 0, 1)
        light += column(radiance, d) * (inside * (facing > 0))
    return light


def _ambient(p: Vectors, n: Vectors, own: int) -> Vectors:
    """Light from the whole sky and from the board, dimmed by the solids near by, each taken for a ball.

    The board itself is dimmed by nothing here: what its upper side gets is baked, see FloorLight.
    """
    up = 0.5 + 0.5 * n[2]
    for solid in SOLIDS:
        if solid not in (BOARD, SOLIDS[own]) and SOLIDS[own] is not BOARD:
            towards = column(solid.center, p) - p
            distance = length(towards)
            facing = np.maximum(dot(towards, n) / distance, 0)
            up = up * (1 - np.minimum(facing * (0.8 * solid.bound / distance) ** 2, 0.85))
    down = 0.5 - 0.5 * n[2]
    height = np.clip((p[2] - FLOOR) / 0.35, 0, 1)  # next to the board, what it reflects is the solid's own shadow
    return column(SKY_COLOUR, p) * up + column(BOUNCE_COLOUR, p) * (down * (0.25 + 0.75 * height))


@dataclass(frozen=True)
class Shaded:
    """Points where rays met a surface, and the light that leaves each of them towards its ray."""

    start: Vectors  # just above the point
    reflected: Vectors  # the ray's direction after a mirror
    matt: Vectors  # light that was scattered
    mirror: Vectors  # share of what comes along `reflected`


def shade(o: Vectors, d: Vectors, t: Scalars, ids: Int[np.ndarray, "N"], *, floor: FloorLight, key: Vectors) -> Shaded:
    """Shade points at distance t on the solids `ids`; key: unit direction to one point of the main light, by ray."""
    p = o + t * d
    n, albedo, mirror, ambient = (np.empty_like(p) for _ in range(4))
    for own, (solid, material) in enumerate(SCENE):
        rays = np.flatnonzero(ids == own)
        if rays.size:
            points = p[:, rays]
            n[:, rays] = normals = solid.normal(points)
            albedo[:, rays] = material.paint(points)
            mirror[:, rays] = column(material.mirror, d)
            ambient[:, rays] = _ambient(points, normals, own)
    lit = np.maximum(dot(n, key), 0)
    board = ids == SOLIDS.index(BOARD)
    top = np.flatnonzero(board & (p[2] > FLOOR - LIFT))
    seen, sky = floor.at(p[0, top], p[1, top])
    lit[top] *= seen
    ambient[:, top] = column(SKY_COLOUR, d) * sky
    start = p + LIFT * n
    doubtful = np.flatnonzero((lit > 0) & ~board)
    lit[doubtful] *= ~occluded(SOLIDS, start[:, doubtful], key[:, doubtful])
    facing = np.clip(-dot(n, d), 0, 1)
    away = (1 - facing) * (1 - facing)
    mirror += (1 - mirror) * (away * away * (1 - facing))  # Schlick's approximation of Fresnel's law
    matt = albedo * (column(KEY_COLOUR, d) * lit + ambient) * (1 - mirror)
    return Shaded(start, d + 2 * facing * n, matt, mirror)


def radiance(
    o: Vectors, d: Vectors, t: Scalars, ids: Int[np.ndarray, "N"], *, floor: FloorLight, key: Vectors
) -> Vectors:
    """Light that comes back along rays that met the solids `ids` after t, with one reflection traced."""
    first = shade(o, d, t, ids, floor=floor, key=key)
    seen = environment(first.reflected)
    t, ids = trace(SOLIDS, first.start, first.reflected)
    met = np.flatnonzero(ids >= 0)
    second = shade(first.start[:, met], first.reflected[:, met], t[met], ids[met], floor=floor, key=key[:, met])
    seen[:, met] = second.matt + second.mirror * environment(second.reflected)
    return first.matt + first.mirror * seen


def display(light: Vectors) -> Vectors:
    """sRGB in [0, 1] of linear light, through a film-like curve that spares the highlights (Narkowicz 2015)."""
    x = 0.62 * light
    return srgb(torch.from_numpy(np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0, 1))).numpy()


def pixel_directions(
    c2w: Float[np.ndarray, "3 4"], size: int, angle_x: float, *, x: Float[np.ndarray, "w"], y: Float[np.ndarray, "h"]
) -> Vectors:
    """Unit directions through columns x and rows y of a square picture, row by row, in float64.

    The middle of the first pixel is 0.5, the principal point size / 2: as Blender and Cameras.pixel_offset 0.5 have it.
    """
    focal = 0.5 * size / math.tan(0.5 * angle_x)
    right, down = (w.ravel() for w in np.meshgrid(x - size / 2, y - size / 2))
    d = rotate(c2w[:, :3], np.stack([right / focal, -down / focal, np.full_like(right, -1)]))
    return d / length(d)


def render_view(
    c2w: Float[np.ndarray, "3 4"], size: int, angle_x: float, floor: FloorLight, *, supersampling: int = 2
) -> UInt8[np.ndarray, "size size 4"]:
    """RGBA, alpha not premultiplied; each pixel is the mean over a square around its ray, in display colours."""
    fine = (np.arange(size * supersampling) + 0.5) / supersampling
    light_ids = np.arange(fine.size) % supersampling
    keys = key_directions(supersampling**2).astype(np.float32)
    o = c2w[:, 3:].astype(np.float32)
    step = supersampling * max(1, RAYS_AT_ONCE // (fine.size * supersampling))
    rgba = np.empty((size, size, 4), np.uint8)
    for row in range(0, fine.size, step):
        rows = slice(row, row + step)
        d = pixel_directions(c2w, size, angle_x, x=fine, y=fine[rows]).astype(np.float32)
        key = keys[:, (light_ids[rows, None] * supersampling + light_ids).ravel()]
        t, ids = trace(SOLIDS, o, d)
        met = np.flatnonzero(ids >= 0)
        layers = np.zeros((4, ids.size), np.float32)  # premultiplied colour and coverage
        layers[:3, met] = display(radiance(o, d[:, met], t[met], ids[met], floor=floor, key=key[:, met]))
        layers[3, met] = 1
        layers = layers.reshape(4, -1, supersampling, size, supersampling).mean((2, 4))
        layers[:3] /= np.maximum(layers[3], 1e-6)
        rgba[row // supersampling : (row + step) // supersampling] = (layers * 255 + 0.5).transpose(1, 2, 0)
    return rgba


def exact_depth(c2w: Float[np.ndarray, "3 4"], size: int, angle_x: float) -> Float[np.ndarray, "size size"]:
    """Distance from the camera along the ray of each pixel (float64 inside), 0 where it meets nothing."""
    ticks = np.arange(float(size)) + 0.5
    t, ids = trace(SOLIDS, c2w[:, 3:], pixel_directions(c2w, size, angle_x, x=ticks, y=ticks))
    return np.where(ids >= 0, t, 0).astype(np.float32).reshape(size, size)
