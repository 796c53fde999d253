"""Rays in a closed room: where they meet balls, cubes, cans and tubes, and what light comes from there.

Each thing is a ball, a cube or an upright can of radius and half height 1, taken to its place by three half axes, so
that leaves are flat balls and branches thin cans. A tube is the side of a can, without thickness. The first thing is
the room, a cube seen from inside. Light that falls on things is found once, for small fields of all surfaces
(room_light.py): pictures are then free of noise, and quick. Mirror images are traced for each picture.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from room_paints import LAMP, WINDOW, outside, paint

from nerf_pl.ops.numba_jit import compiled, in_parts
from nerf_pl.scenes.demo.render import display

BALL, CUBE, CAN, TUBE = range(4)
Colour = tuple[float, float, float]
AFAR = 1e9
CLEAR = 1e-5  # metres that a ray starts above its surface
LEAF_SIZE = 3  # things in a leaf of the tree of boxes


class Look(NamedTuple):
    """paint: a number of room_paints. gloss: the share of light that is mirrored straight back; 0 for matt things.

    clear: the share of what is not mirrored that goes straight on, fog: how much of that is lost on each metre inside.
    In a room all things are solid: these two are for objects.py.
    """

    paint: int
    first: Colour
    second: Colour = (0.0, 0.0, 0.0)
    gloss: float = 0.0
    clear: float = 0.0
    fog: float = 0.0


class Thing(NamedTuple):
    kind: int
    centre: Float[np.ndarray, "3"]
    axes: Float[np.ndarray, "3 3"]  # the half axes, as columns
    look: Look


class World(NamedTuple):
    kind: Int[np.ndarray, "n"]
    inverse: Float[np.ndarray, "n 3 4"]  # from the world to the frame of each thing
    place: Float[np.ndarray, "n 3 4"]  # and back
    half: Float[np.ndarray, "n 3"]  # lengths of the half axes
    paint: Int[np.ndarray, "n"]
    colours: Float[np.ndarray, "n 2 3"]
    gloss: Float[np.ndarray, "n"]
    fields: Int[np.ndarray, "n 3"]  # of light, along each half axis
    first: Int[np.ndarray, "n"]  # number of the first field of each thing
    light: Float[np.ndarray, "f 3"]  # that falls on each field, over pi
    boxes: Float[np.ndarray, "m 6"]  # a tree of boxes, depth first, around all things but the first
    second: Int[np.ndarray, "m"]  # the second branch of each box; the first follows it
    axis: Int[np.ndarray, "m"]  # along which its branches lie; -1 for a leaf
    held: Int[np.ndarray, "m 2"]  # what a leaf holds, begin and end in order
    order: Int[np.ndarray, "n"]


def make_world(things: Sequence[Thing], field: float) -> World:
    """field: side of the fields of light, in metres."""
    axes, centre = np.stack([t.axes for t in things]), np.stack([t.centre for t in things])
    back = np.linalg.inv(axes)
    half = np.linalg.norm(axes, axis=1)
    fields = np.clip(np.ceil(2 * half / field), 1, 200).astype(np.int64)
    counts = 2 * (fields[:, 1] * fields[:, 2] + fields[:, 0] * (fields[:, 1] + fields[:, 2]))
    kind = np.array([t.kind for t in things])
    extent = np.where((kind == BALL)[:, None], np.sqrt((axes**2).sum(2)), np.abs(axes).sum(2))
    can = np.sqrt((axes[:, :, :2] ** 2).sum(2)) + np.abs(axes[:, :, 2])
    extent = np.where((kind >= CAN)[:, None], can, extent) + 1e-6
    looks = [t.look for t in things]
    return World(
        kind,
        np.concatenate([back, -back @ centre[:, :, None]], 2),
        np.concatenate([axes, centre[:, :, None]], 2),
        half,
        np.array([look.paint for look in looks]),
        np.array([(look.first, look.second) for look in looks]),
        np.array([look.gloss for look in looks]),
        fields,
        np.cumsum(counts) - counts,
        np.zeros((counts.sum(), 3)),
        *_boxes(centre - extent, centre + extent),
    )


def _boxes(low: Float[np.ndarray, "n 3"], high: Float[np.ndarray, "n 3"]) -> tuple[np.ndarray, ...]:
    """The tree of boxes. Each is cut where the areas of its parts, times what they hold, are least."""
    boxes, second, axis, held, order = [], [], [], [], []

    def add(ids: np.ndarray) -> None:
        mine = len(boxes)
        boxes.append(np.concatenate([low[ids].min(0), high[ids].max(0)]))
        second.append(0)
        axis.append(-1)
        held.append((len(order), len(order) + len(ids)))
        if len(ids) <= LEAF_SIZE:
            order.extend(ids.tolist())
            return
        best = (np.inf, 0, 0, ids)
        for k in range(3):
            along = ids[np.argsort((low + high)[ids, k], kind="stable")]
            left = _areas(np.minimum.accumulate(low[along]), np.maximum.accumulate(high[along]))
            along_back = along[::-1]
            right = _areas(np.minimum.accumulate(low[along_back]), np.maximum.accumulate(high[along_back]))[::-1]
            count = np.arange(1, len(ids))
            cost = left[:-1] * count + right[1:] * (len(ids) - count)
            if cost.min() < best[0]:
                best = (cost.min(), k, int(cost.argmin()) + 1, along)
        axis[mine] = best[1]
        add(best[3][: best[2]])
        second[mine] = len(boxes)
        add(best[3][best[2] :])

    add(np.arange(1, len(low)))
    return np.array(boxes), np.array(second), np.array(axis), np.array(held), np.array(order)


def _areas(low: Float[np.ndarray, "k 3"], high: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k"]:
    x, y, z = (high - low).T
    return x * y + y * z + z * x


@compiled
def hit(world, i, o, d):
    """Along a ray: how far away it enters a thing and leaves it. It misses if the latter is less.

    It enters and leaves a tube where it meets it first.
    """
    m, kind = world.inverse, world.kind[i]
    px = m[i, 0, 0] * o[0] + m[i, 0, 1] * o[1] + m[i, 0, 2] * o[2] + m[i, 0, 3]
    py = m[i, 1, 0] * o[0] + m[i, 1, 1] * o[1] + m[i, 1, 2] * o[2] + m[i, 1, 3]
    pz = m[i, 2, 0] * o[0] + m[i, 2, 1] * o[1] + m[i, 2, 2] * o[2] + m[i, 2, 3]
    dx = m[i, 0, 0] * d[0] + m[i, 0, 1] * d[1] + m[i, 0, 2] * d[2]
    dy = m[i, 1, 0] * d[0] + m[i, 1, 1] * d[1] + m[i, 1, 2] * d[2]
    dz = m[i, 2, 0] * d[0] + m[i, 2, 1] * d[1] + m[i, 2, 2] * d[2]
    if kind == BALL:
        a, b, c = dx * dx + dy * dy + dz * dz, px * dx + py * dy + pz * dz, px * px + py * py + pz * pz - 1
        inside = b * b - a * c
        if inside <= 0:
            return 1.0, 0.0
        root = math.sqrt(inside)
        return (-b - root) / a, (root - b) / a
    dz = dz if abs(dz) > 1e-12 else 1e-12
    enter, leave = -pz / dz - abs(1 / dz), -pz / dz + abs(1 / dz)
    if kind == CUBE:
        dx, dy = dx if abs(dx) > 1e-12 else 1e-12, dy if abs(dy) > 1e-12 else 1e-12
        enter = max(enter, -px / dx - abs(1 / dx), -py / dy - abs(1 / dy))
        leave = min(leave, -px / dx + abs(1 / dx), -py / dy + abs(1 / dy))
        return enter, leave
    a, b = max(dx * dx + dy * dy, 1e-18), px * dx + py * dy
    inside = b * b - a * (px * px + py * py - 1)
    if inside <= 0:
        return 1.0, 0.0
    root = math.sqrt(inside)
    if kind == TUBE:
        near, far = (-b - root) / a, (root - b) / a
        if near > 0 and enter <= near <= leave:
            return near, near
        return (far, far) if enter <= far <= leave else (1.0, 0.0)
    return max(enter, (-b - root) / a), min(leave, (root - b) / a)


@compiled
def enters(box, i, o, r, far):
    """How far away a ray enters a box; more than `far` if it misses it. r: one over its direction."""
    ax, bx = (box[i, 0] - o[0]) * r[0], (box[i, 3] - o[0]) * r[0]
    ay, by = (box[i, 1] - o[1]) * r[1], (box[i, 4] - o[1]) * r[1]
    az, bz = (box[i, 2] - o[2]) * r[2], (box[i, 5] - o[2]) * r[2]
    near = max(min(ax, bx), min(ay, by), min(az, bz), 0.0)
    return near if near <= min(max(ax, bx), max(ay, by), max(az, bz), far) else AFAR


@compiled
def nearest(world, o, d, limit, stack):
    """The first thing that a ray meets, and how far away; with a limit, any thing nearer than that, or else -1."""
    found, best = -1, limit
    if limit >= AFAR:
        found, best = 0, hit(world, 0, o, d)[1]
    r = (
        1 / (d[0] if abs(d[0]) > 1e-12 else 1e-12),
        1 / (d[1] if abs(d[1]) > 1e-12 else 1e-12),
        1 / (d[2] if abs(d[2]) > 1e-12 else 1e-12),
    )
    depth, node = 0, 0
    while True:
        if enters(world.boxes, node, o, r, best) < AFAR:
            axis = world.axis[node]
            if axis >= 0:
                forward = (r[0] if axis == 0 else r[1] if axis == 1 else r[2]) > 0
                stack[depth] = world.second[node] if forward else node + 1
                node = node + 1 if forward else world.second[node]
                depth += 1
                continue
            for k in range(world.held[node, 0], world.held[node, 1]):
                i = world.order[k]
                enter, leave = hit(world, i, o, d)
                if enter > leave or enter >= best:
                    continue
                if limit < AFAR and leave > 0:  # a ray that begins inside a thing is blocked, too
                    return i, enter
                if enter > 0:
                    found, best = i, enter
        if depth == 0:
            return found, best
        depth -= 1
        node = stack[depth]


@compiled
def applied(m, i, p):
    """A point taken by a matrix."""
    x = m[i, 0, 0] * p[0] + m[i, 0, 1] * p[1] + m[i, 0, 2] * p[2] + m[i, 0, 3]
    y = m[i, 1, 0] * p[0] + m[i, 1, 1] * p[1] + m[i, 1, 2] * p[2] + m[i, 1, 3]
    return x, y, m[i, 2, 0] * p[0] + m[i, 2, 1] * p[1] + m[i, 2, 2] * p[2] + m[i, 2, 3]


@compiled
def on_cube(kind, p):
    """The point of a cube's surface that stands for a point of a thing's surface, both in the frame of the thing."""
    x, y, z = p
    if kind >= CAN:
        rho = math.hypot(x, y)
        if kind == CAN and abs(z) > rho:
            return x, y, 1.0 if z > 0 else -1.0
        size = max(abs(x), abs(y))
        return x / size, y / size, z
    size = max(abs(x), abs(y), abs(z))
    return x / size, y / size, z / size


@compiled
def normal_at(world, i, p):
    """The unit normal at a point of a thing's surface, which is given in the frame of the thing."""
    x, y, z = p
    if world.kind[i] >= CAN:
        is_lid = world.kind[i] == CAN and abs(z) > math.hypot(x, y)
        x, y, z = (0.0, 0.0, z) if is_lid else (x, y, 0.0)
    elif world.kind[i] == CUBE:
        size = max(abs(x), abs(y), abs(z))
        x, y, z = (x, 0.0, 0.0) if abs(x) == size else (0.0, y, 0.0) if abs(y) == size else (0.0, 0.0, z)
    m = world.inverse
    nx = m[i, 0, 0] * x + m[i, 1, 0] * y + m[i, 2, 0] * z
    ny = m[i, 0, 1] * x + m[i, 1, 1] * y + m[i, 2, 1] * z
    nz = m[i, 0, 2] * x + m[i, 1, 2] * y + m[i, 2, 2] * z
    scale = (-1 if i == 0 else 1) / math.sqrt(nx * nx + ny * ny + nz * nz)
    return nx * scale, ny * scale, nz * scale


@compiled
def light_at(world, i, q):
    """The light that falls on a thing, between the four fields nearest to a point. q: see `on_cube`."""
    nx, ny, nz = world.fields[i, 0], world.fields[i, 1], world.fields[i, 2]
    x, y, z = abs(q[0]), abs(q[1]), abs(q[2])
    first = world.first[i]
    if x >= y and x >= z:
        columns, rows, u, v, first = ny, nz, q[1], q[2], first + (ny * nz if q[0] > 0 else 0)
    elif y >= z:
        columns, rows, u, v, first = nx, nz, q[0], q[2], first + 2 * ny * nz + (nx * nz if q[1] > 0 else 0)
    else:
        columns, rows, u, v = nx, ny, q[0], q[1]
        first += 2 * (ny * nz + nx * nz) + (nx * ny if q[2] > 0 else 0)
    u = min(max((0.5 * u + 0.5) * columns - 0.5, 0.0), columns - 1.0)
    v = min(max((0.5 * v + 0.5) * rows - 0.5, 0.0), rows - 1.0)
    a, b = int(u), int(v)
    right, below = 1 if a + 1 < columns else 0, columns if b + 1 < rows else 0
    u, v, at = u - a, v - b, first + b * columns + a
    red, green, blue = 0.0, 0.0, 0.0
    for k in range(4):
        share = (u if k & 1 else 1 - u) * (v if k & 2 else 1 - v)
        field = at + (right if k & 1 else 0) + (below if k & 2 else 0)
        red += share * world.light[field, 0]
        green += share * world.light[field, 1]
        blue += share * world.light[field, 2]
    return red, green, blue


@compiled
def matt(world, i, p, d, width):
    """The light that a thing sends on from a point, but for what it mirrors. p: in its frame. width: of a pixel."""
    if world.paint[i] == WINDOW:
        return outside(d[0], d[1], d[2])
    if world.paint[i] == LAMP:
        return world.colours[i, 0, 0], world.colours[i, 0, 1], world.colours[i, 0, 2]
    q = on_cube(world.kind[i], p)
    r, g, b = albedo(world, i, p, q, width)
    red, green, blue = light_at(world, i, q)
    return r * red, g * green, b * blue


@compiled
def albedo(world, i, p, q, width):
    """The share of light that a thing sends on from a point, matt. q: see `on_cube`."""
    c, half = world.colours, world.half
    x, y, z = p[0] * half[i, 0], p[1] * half[i, 1], p[2] * half[i, 2]
    ax, ay, az = abs(q[0]), abs(q[1]), abs(q[2])
    u, v = (y, z) if ax >= ay and ax >= az else (x, z) if ay >= az else (x, y)
    if world.kind[i] >= CAN and az < 1:
        u = math.atan2(y, x) * half[i, 0]
    share, shade = paint(world.paint[i], x, y, z, u, v, i, width)
    return (
        (c[i, 0, 0] + share * (c[i, 1, 0] - c[i, 0, 0])) * shade,
        (c[i, 0, 1] + share * (c[i, 1, 1] - c[i, 0, 1])) * shade,
        (c[i, 0, 2] + share * (c[i, 1, 2] - c[i, 0, 2])) * shade,
    )


@compiled
def seen(world, o, d, cone, stack):
    """The light that comes along a ray, with what is seen in one mirror. cone: width of a pixel in 1 m distance."""
    red, green, blue, share, way = 0.0, 0.0, 0.0, 1.0, 0.0
    for bounce in range(2):
        i, t = nearest(world, o, d, AFAR, stack)
        way += t
        at = (o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2])
        p = applied(world.inverse, i, at)
        r, g, b = matt(world, i, p, d, cone * way)
        gloss = world.gloss[i]
        if gloss == 0 or bounce == 1:
            return red + share * r, green + share * g, blue + share * b
        n = normal_at(world, i, p)
        facing = -(n[0] * d[0] + n[1] * d[1] + n[2] * d[2])
        mirrored = gloss + (1 - gloss) * max(1 - facing, 0.0) ** 5  # Schlick 1994
        red, green, blue = (1 - mirrored) * r, (1 - mirrored) * g, (1 - mirrored) * b
        share = mirrored
        o = (at[0] + CLEAR * n[0], at[1] + CLEAR * n[1], at[2] + CLEAR * n[2])
        d = (d[0] + 2 * facing * n[0], d[1] + 2 * facing * n[1], d[2] + 2 * facing * n[2])
    return red, green, blue


@compiled
def pixel_ray(c2w, size, focal, rays, pixel, k):
    """The direction of one of rays x rays rays through a pixel, no two of them in one row or column of the pixel."""
    width, height = size
    i, j = k % rays, k // rays
    x = (pixel % width + (i + (j + 0.5) / rays) / rays - 0.5 * width) / focal
    y = (0.5 * height - pixel // width - (j + (rays - i - 0.5) / rays) / rays) / focal
    far = 1 / math.sqrt(x * x + y * y + 1)
    return (
        (c2w[0, 0] * x + c2w[0, 1] * y - c2w[0, 2]) * far,
        (c2w[1, 0] * x + c2w[1, 1] * y - c2w[1, 2]) * far,
        (c2w[2, 0] * x + c2w[2, 1] * y - c2w[2, 2]) * far,
    )


@compiled
def trace_pixels(world, c2w, size, focal, rays, out, begin, end):
    """The mean light of rays x rays rays through each pixel."""
    stack = np.empty(128, np.int64)
    for pixel in range(begin, end):
        red, green, blue = 0.0, 0.0, 0.0
        for k in range(rays * rays):
            d = pixel_ray(c2w, size, focal, rays, pixel, k)
            r, g, b = seen(world, (c2w[0, 3], c2w[1, 3], c2w[2, 3]), d, 1 / focal, stack)
            red, green, blue = red + r, green + g, blue + b
        out[0, pixel], out[1, pixel], out[2, pixel] = red / rays**2, green / rays**2, blue / rays**2


def picture(
    world: World, c2w: Float[np.ndarray, "3 4"], size: tuple[int, int], focal: float, rays: int = 2
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture of the world. c2w: OpenGL axes. The middle of the first pixel is 0.5."""
    width, height = size
    light = np.empty((3, width * height), np.float32)
    in_parts(lambda a, b: trace_pixels(world, c2w, size, focal, rays, light, a, b), width * height)
    return (display(light) * 255 + 0.5).astype(np.uint8).T.reshape(height, width, 3)
