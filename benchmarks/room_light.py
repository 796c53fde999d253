"""The light in the room of room.py, found once for small fields of all surfaces: of lamps, the sun and other things."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from room_paints import LAMP, WINDOW, scatter
from room_tracer import AFAR, BALL, CAN, CLEAR, World, applied, matt, nearest, normal_at

from nerf_pl.ops.numba_jit import compiled, in_parts

SUN = (0.33, 0.84, 0.41)  # the direction to it
SUNLIGHT = (4.2, 3.6, 2.8)
SUN_RAYS = 12
SOFT = 0.04  # how far the sun's rays turn aside, so that its shadows have soft edges
BLUR = 2  # fields to each side, over which light from other things is averaged: few rays find it, so it is noisy
COARSE = 0.1  # width of a pixel, in metres, that spares the detail of what sends on light


class Lamps(NamedTuple):
    """Rectangles that shine to the side of their normal. light: what a camera would see of them. sides: in metres."""

    corner: Float[np.ndarray, "L 3"]
    sides: Float[np.ndarray, "L 2 3"]
    normal: Float[np.ndarray, "L 3"]
    light: Float[np.ndarray, "L 3"]


def light_up(world: World, lamps: Lamps, *, rays: int = 8, bounces: int = 2) -> None:
    """Find the light on all fields. rays: squared, to each lamp and to all around."""
    n = len(world.light)
    direct = np.empty_like(world.light)
    in_parts(lambda a, b: shine(world, lamps, rays, direct, a, b), n)
    world.light[:] = direct
    for _ in range(bounces):
        bounced = np.empty_like(direct)
        in_parts(lambda a, b: gather(world, rays, bounced, a, b), n)  # noqa: B023 - it runs at once
        blur(world, bounced)
        world.light[:] = direct + bounced


def blur(world: World, light: Float[np.ndarray, "f 3"]) -> None:
    """Average light over the nearest fields of each face."""
    for first, fields in zip(world.first, world.fields.tolist(), strict=True):
        for across in ((1, 2), (0, 2), (0, 1)):
            columns, rows = (fields[axis] for axis in across)
            for _ in range(2):
                face = light[first : first + rows * columns].reshape(rows, columns, 3)
                for axis, count in enumerate((rows, columns)):
                    wide = np.pad(face, [(BLUR, BLUR) if k == axis else (0, 0) for k in range(3)], "edge")
                    face = np.mean([wide.take(range(k, k + count), axis) for k in range(2 * BLUR + 1)], 0)
                light[first : first + rows * columns] = face.reshape(-1, 3)
                first += rows * columns


@compiled
def field_middle(world, f):
    """The thing that a field belongs to, and the middle of the field: in its frame."""
    i = np.searchsorted(world.first, f, "right") - 1
    nx, ny, nz = world.fields[i, 0], world.fields[i, 1], world.fields[i, 2]
    f -= world.first[i]
    if f < 2 * ny * nz:
        side, f = f // (ny * nz), f % (ny * nz)
        x, y, z = 2.0 * side - 1, (2 * (f % ny) + 1) / ny - 1, (2 * (f // ny) + 1) / nz - 1
    elif f < 2 * (ny * nz + nx * nz):
        f -= 2 * ny * nz
        side, f = f // (nx * nz), f % (nx * nz)
        x, y, z = (2 * (f % nx) + 1) / nx - 1, 2.0 * side - 1, (2 * (f // nx) + 1) / nz - 1
    else:
        f -= 2 * (ny * nz + nx * nz)
        side, f = f // (nx * ny), f % (nx * ny)
        x, y, z = (2 * (f % nx) + 1) / nx - 1, (2 * (f // nx) + 1) / ny - 1, 2.0 * side - 1
    scale = 1.0
    if world.kind[i] == BALL:
        scale = 1 / math.sqrt(x * x + y * y + z * z)
        return i, (x * scale, y * scale, z * scale)
    if world.kind[i] == CAN:
        rho = math.hypot(x, y)
        scale = 1 / rho if abs(z) < 1 else min(0.999 / max(rho, 1e-9), 1.0)
    return i, (x * scale, y * scale, z)


@compiled
def start(world, f):
    """The thing, a point just above the middle of a field, and the normal there."""
    i, p = field_middle(world, f)
    n, at = normal_at(world, i, p), applied(world.place, i, p)
    return i, (at[0] + CLEAR * n[0], at[1] + CLEAR * n[1], at[2] + CLEAR * n[2]), n


@compiled
def shine(world, lamps, rays, out, begin, end):
    """Light that falls on fields from lamps and the sun, over pi."""
    stack = np.empty(128, np.int64)
    for f in range(begin, end):
        i, o, n = start(world, f)
        red, green, blue = 0.0, 0.0, 0.0
        dark = world.paint[i] == WINDOW or world.paint[i] == LAMP
        for lamp in range(0 if dark else len(lamps.light)):
            total, e = 0.0, lamps.sides
            for k in range(rays * rays):
                u = (k % rays + scatter(f, k, 2 * lamp)) / rays
                v = (k // rays + scatter(f, k, 2 * lamp + 1)) / rays
                x = lamps.corner[lamp, 0] + u * e[lamp, 0, 0] + v * e[lamp, 1, 0] - o[0]
                y = lamps.corner[lamp, 1] + u * e[lamp, 0, 1] + v * e[lamp, 1, 1] - o[1]
                z = lamps.corner[lamp, 2] + u * e[lamp, 0, 2] + v * e[lamp, 1, 2] - o[2]
                away = math.sqrt(x * x + y * y + z * z)
                d = (x / away, y / away, z / away)
                facing = n[0] * d[0] + n[1] * d[1] + n[2] * d[2]
                m = lamps.normal[lamp]
                leaving = -(m[0] * d[0] + m[1] * d[1] + m[2] * d[2])
                if facing > 0 and leaving > 0 and nearest(world, o, d, away, stack)[0] < 0:
                    total += facing * leaving / max(away * away, 0.01)
            a, b = e[lamp, 0], e[lamp, 1]
            area = math.sqrt((a[0] ** 2 + a[1] ** 2 + a[2] ** 2) * (b[0] ** 2 + b[1] ** 2 + b[2] ** 2))
            share = total * area / (math.pi * rays * rays)
            red += share * lamps.light[lamp, 0]
            green += share * lamps.light[lamp, 1]
            blue += share * lamps.light[lamp, 2]
        sun = 0.0 if dark else sunshine(world, f, o, n, stack)
        out[f, 0], out[f, 1], out[f, 2] = red + sun * SUNLIGHT[0], green + sun * SUNLIGHT[1], blue + sun * SUNLIGHT[2]


@compiled
def sunshine(world, f, o, n, stack):
    """How much of the sun a field sees through the windows."""
    facing, total = n[0] * SUN[0] + n[1] * SUN[1] + n[2] * SUN[2], 0.0
    for k in range(SUN_RAYS if facing > 0 else 0):
        x = SUN[0] + SOFT * (scatter(f, k, 91) - 0.5)
        z = SUN[2] + SOFT * (scatter(f, k, 92) - 0.5)
        i, _ = nearest(world, o, (x, SUN[1], z), AFAR, stack)
        total += facing if world.paint[i] == WINDOW else 0.0
    return total / SUN_RAYS


@compiled
def gather(world, rays, out, begin, end):
    """Light that falls on fields from all things but lamps and windows, over pi."""
    stack = np.empty(128, np.int64)
    for f in range(begin, end):
        _, o, n = start(world, f)
        s = 1.0 if n[2] >= 0 else -1.0  # two axes across the normal: Duff et al. 2017
        a = -1 / (s + n[2])
        b = n[0] * n[1] * a
        ux, uy, uz, vx, vy, vz = 1 + s * n[0] * n[0] * a, s * b, -s * n[0], b, s + n[1] * n[1] * a, -n[1]
        red, green, blue = 0.0, 0.0, 0.0
        for k in range(rays * rays):
            turn = 2 * math.pi * (k % rays + scatter(f, k, 71)) / rays
            square = (k // rays + scatter(f, k, 72)) / rays
            x, y, z = math.sqrt(square) * math.cos(turn), math.sqrt(square) * math.sin(turn), math.sqrt(1 - square)
            d = (x * ux + y * vx + z * n[0], x * uy + y * vy + z * n[1], x * uz + y * vz + z * n[2])
            i, t = nearest(world, o, d, AFAR, stack)
            if world.paint[i] != WINDOW and world.paint[i] != LAMP:  # they are counted already
                p = applied(world.inverse, i, (o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]))
                r, g, b = matt(world, i, p, d, COARSE)
                red, green, blue = red + r, green + g, blue + b
        for k, value in enumerate((red, green, blue)):
            out[f, k] = value / (rays * rays)
