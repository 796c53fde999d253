"""Rays to objects on nothing, for objects.py: sun, sky, mirror images, and what can be seen through.

It uses the things and the tree of boxes of room_tracer.py. The first thing is all around, and stands for nothing: a ray
that comes there adds no light and no opacity, one that was mirrored finds the sky. Light of the sky is found once, for
small fields of all surfaces; shadows of the sun and mirror images are traced for each picture.

After a change in another file, remove benchmarks/__pycache__, see room_paints.py.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from room_light import blur, start
from room_paints import LEAF, noise, scatter
from room_tracer import (
    AFAR,
    CLEAR,
    CUBE,
    Look,
    Thing,
    World,
    albedo,
    applied,
    hit,
    light_at,
    make_world,
    nearest,
    normal_at,
    on_cube,
    pixel_ray,
)

from nerf_pl.ops.numba_jit import compiled, in_parts
from nerf_pl.scenes.demo.render import display

WATER = 13  # a paint: plain, with ripples on what lies level
RIPPLE = 0.0035  # metres
SATIN = 0.1  # what is less glossy mirrors the sky alone, blurred
METAL = 0.4  # what is glossier is a metal
SUN = (0.42, -0.5, 0.757)  # the direction to it
SUNLIGHT = (2.6, 2.4, 2.05)
BOUNCE = 0.3  # of the sky's light at a thing that the sky's rays meet
THROUGH = 0.45  # of the sun, by leaves
MIRRORS = 2  # how often one ray is mirrored
FAINT = 2e-3  # a ray with less of a pixel's light is left out
RAYS = 32  # that are on their way at once
BOXES = (  # lights in the sky: direction, how far they reach to the side, radiance
    ((0.42, -0.5, 0.757), 0.16, 9.0),
    ((-0.8, -0.3, 0.52), 0.3, 3.0),
    ((0.2, 0.93, 0.31), 0.25, 2.4),
    ((-0.5, 0.6, 0.62), 0.12, 4.0),
)


class Objects(NamedTuple):
    """A world, and how clear its things are: see `Look`."""

    world: World
    clear: Float[np.ndarray, "n"]
    fog: Float[np.ndarray, "n"]


def make_objects(things: Sequence[Thing], field: float, rays: int = 10) -> Objects:
    """With the sky's light. field: side of the fields of light, in metres. rays: squared, to the sky."""
    around = Thing(CUBE, np.zeros(3), np.eye(3) * 100, Look(0, (0.0, 0.0, 0.0)))
    held = [around, *things]
    world = make_world(held, field)
    light = np.empty_like(world.light)
    in_parts(lambda a, b: shine_down(world, rays, light, a, b), len(light))
    blur(world, light)
    world.light[:] = light
    return Objects(world, *(np.array([getattr(t.look, name) for t in held], float) for name in ("clear", "fog")))


@compiled
def sky(x, y, z, blurred):
    """The sky's light from a direction: brighter above, with lights that have sharp edges unless it is blurred."""
    up = 0.5 + 0.5 * z
    red, green, blue = 0.3 + 0.55 * up, 0.28 + 0.62 * up, 0.25 + 0.75 * up
    ground = min(max(-4 * z, 0.0), 1.0)
    red, green, blue = red - 0.15 * ground, green - 0.15 * ground, blue - 0.15 * ground
    for way, reach, light in BOXES:
        along = x * way[0] + y * way[1] + z * way[2]
        if blurred:
            wide = reach + 0.25
            light *= (reach / wide) ** 2
            share = min(max(1.6 * (along - 1) / (wide * wide) + 1.4, 0.0), 1.0)
        else:
            share = 1.0 if along > 0 and x * x + y * y + z * z - along * along < reach * reach else 0.0
        red, green, blue = red + share * light, green + share * light, blue + share * light
    return red, green, blue


@compiled
def shine_down(world, rays, out, begin, end):
    """The sky's light that falls on fields, over pi. Things in its way send on some of it in their first colour."""
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
            i, _ = nearest(world, o, d, AFAR, stack)
            r, g, b2 = sky(d[0], d[1], d[2], True)
            if i > 0:
                c = world.colours
                r, g, b2 = BOUNCE * c[i, 0, 0] * r, BOUNCE * c[i, 0, 1] * g, BOUNCE * c[i, 0, 2] * b2
            red, green, blue = red + r, green + g, blue + b2
        out[f, 0], out[f, 1], out[f, 2] = red / (rays * rays), green / (rays * rays), blue / (rays * rays)


@compiled
def sunlit(objects, at, stack):
    """How much of the sun comes to a point."""
    share = 1.0
    for _ in range(8):
        i, t = nearest(objects.world, at, SUN, AFAR, stack)
        if i == 0:
            return share
        inside = max(hit(objects.world, i, at, SUN)[1] - t, 0.0)
        share *= objects.clear[i] * math.exp(-objects.fog[i] * inside)
        if share < 0.01:
            return 0.0
        at = moved(at, SUN, t + CLEAR)
    return share


@compiled
def moved(at, d, t):
    return at[0] + t * d[0], at[1] + t * d[1], at[2] + t * d[2]


@compiled
def ripple(x, y):
    """Height of the water, in metres."""
    return RIPPLE * (
        noise(9 * x, 9 * y, 0.5)
        + 0.5 * noise(23 * x + 0.3 * y, 23 * y, 7.5)
        + 0.22 * noise(57 * x, 57 * y + 9 * x, 3.5)
    )


@compiled
def facing_normal(world, i, p, at, d):
    """The normal of a surface on the side that a ray comes from."""
    n = normal_at(world, i, p)
    if n[0] * d[0] + n[1] * d[1] + n[2] * d[2] > 0:
        n = (-n[0], -n[1], -n[2])
    if world.paint[i] == WATER and n[2] > 0.9:
        h = 1e-3
        a = (ripple(at[0] + h, at[1]) - ripple(at[0] - h, at[1])) / (2 * h)
        b = (ripple(at[0], at[1] + h) - ripple(at[0], at[1] - h)) / (2 * h)
        length = math.sqrt(a * a + b * b + 1)
        n = (-a / length, -b / length, 1 / length)
    return n


@compiled
def matt_light(objects, i, p, at, n, width, stack):
    """The light that a thing sends on from a point, but for what it mirrors; and how much of the sun comes there."""
    world = objects.world
    q = on_cube(world.kind[i], p)
    r, g, b = albedo(world, i, p, q, width)
    red, green, blue = light_at(world, i, q)
    facing = n[0] * SUN[0] + n[1] * SUN[1] + n[2] * SUN[2]
    side = 1.0 if facing > 0 else -1.0
    shown = facing if facing > 0 else -THROUGH * facing if world.paint[i] == LEAF or objects.clear[i] > 0 else 0.0
    sun = sunlit(objects, moved(at, n, side * CLEAR), stack) if shown > 0 else 0.0
    red, green, blue = (
        red + sun * shown * SUNLIGHT[0],
        green + sun * shown * SUNLIGHT[1],
        blue + sun * shown * SUNLIGHT[2],
    )
    return r * red, g * green, b * blue, sun if facing > 0 else 0.0


@compiled
def mirror_share(objects, i, facing):
    """How much of red, green and blue a surface mirrors. Metals colour it: theirs is the second colour."""
    gloss, c = objects.world.gloss[i], objects.world.colours
    share = gloss + (1 - gloss) * max(1 - facing, 0.0) ** 5 if gloss > 0 else 0.0  # Schlick 1994
    if gloss < METAL:
        return share, share, share
    return share * c[i, 1, 0], share * c[i, 1, 1], share * c[i, 1, 2]


@compiled
def lost_inside(objects, i, o, d, t, stack):
    """The share of a ray that goes on into a thing, which does not come to the next thing, or to the other side."""
    ahead = nearest(objects.world, moved(o, d, t + CLEAR), d, AFAR, stack)[1]
    return 1 - math.exp(-objects.fog[i] * max(min(ahead, hit(objects.world, i, o, d)[1] - t), 0.0))


@compiled
def push(todo, count, o, d, way, mirrors, share):
    """One more ray is on its way, unless it is too faint. Returns how many are."""
    if max(share[0], share[1], share[2]) < FAINT or count >= RAYS:
        return count
    ray = todo[count]
    ray[0], ray[1], ray[2], ray[3], ray[4], ray[5] = o[0], o[1], o[2], d[0], d[1], d[2]
    ray[6], ray[7], ray[8], ray[9], ray[10] = way, mirrors, share[0], share[1], share[2]
    return count + 1


@compiled
def seen(objects, o, d, cone, stack, todo):
    """Light and opacity along a ray. todo: room for rays on their way: begin, direction, way so far, mirrors, shares.

    A ray that ends in a pixel, never mirrored, passes all that is clear with equal shares of its colours.
    """
    world, red, green, blue, opacity = objects.world, 0.0, 0.0, 0.0, 1.0
    count = push(todo, 0, o, d, 0.0, 0.0, (1.0, 1.0, 1.0))
    while count > 0:
        count -= 1
        ray = todo[count]
        o, d, sr, sg, sb = (ray[0], ray[1], ray[2]), (ray[3], ray[4], ray[5]), ray[8], ray[9], ray[10]
        way, mirrors = ray[6], ray[7]
        i, t = nearest(world, o, d, AFAR, stack)
        if i == 0:
            if mirrors == 0:
                opacity -= sr
                continue
            r, g, b = sky(d[0], d[1], d[2], False)
            red, green, blue = red + sr * r, green + sg * g, blue + sb * b
            continue
        way, at = way + t, moved(o, d, t)
        p = applied(world.inverse, i, at)
        n = facing_normal(world, i, p, at, d)
        r, g, b, sun = matt_light(objects, i, p, at, n, cone * way, stack)
        facing, clear = -(n[0] * d[0] + n[1] * d[1] + n[2] * d[2]), objects.clear[i]
        mr, mg, mb = mirror_share(objects, i, facing)
        rest = 1 - max(mr, mg, mb)
        back = moved(d, n, 2 * facing)
        if mirrors >= MIRRORS or (world.gloss[i] < SATIN and clear == 0):
            xr, xg, xb = sky(back[0], back[1], back[2], True)
            bright = 0.35 + 0.65 * sun  # what shades the sun hides much of the sky, too
            red, green, blue = red + sr * mr * xr * bright, green + sg * mg * xg * bright, blue + sb * mb * xb * bright
        else:
            above = moved(at, n, CLEAR)
            count = push(todo, count, above, back, way, mirrors + 1, (sr * mr, sg * mg, sb * mb))
        passed = rest * clear
        if passed > 0 and objects.fog[i] > 0:
            passed *= 1 - lost_inside(objects, i, o, d, t, stack)
        here = rest - passed
        red, green, blue = red + sr * here * r, green + sg * here * g, blue + sb * here * b
        count = push(todo, count, moved(at, d, CLEAR), d, way, mirrors, (sr * passed, sg * passed, sb * passed))
    return red, green, blue, opacity


@compiled
def trace_pixels(objects, c2w, size, focal, rays, out, begin, end):
    """The mean light and opacity of rays x rays rays through each pixel."""
    stack, todo = np.empty(128, np.int64), np.empty((RAYS, 11))
    o = (c2w[0, 3], c2w[1, 3], c2w[2, 3])
    for pixel in range(begin, end):
        red, green, blue, opacity = 0.0, 0.0, 0.0, 0.0
        for k in range(rays * rays):
            d = pixel_ray(c2w, size, focal, rays, pixel, k)
            r, g, b, a = seen(objects, o, d, 1 / focal, stack, todo)
            red, green, blue, opacity = red + r, green + g, blue + b, opacity + a
        for channel, total in enumerate((red, green, blue, opacity)):
            out[channel, pixel] = total / rays**2


def picture(
    objects: Objects, c2w: Float[np.ndarray, "3 4"], size: tuple[int, int], focal: float, rays: int = 4
) -> UInt8[np.ndarray, "h w 4"]:
    """An RGBA picture. As in PNG files, colours are not multiplied by alpha. c2w: OpenGL axes."""
    width, height = size
    light = np.empty((4, width * height), np.float32)
    in_parts(lambda a, b: trace_pixels(objects, c2w, size, focal, rays, light, a, b), width * height)
    alpha = light[3].clip(0, 1)
    shown = display(light[:3] / np.maximum(alpha, 1e-4)) * (alpha >= 0.5 / 255)
    return (np.concatenate([shown, alpha[None]]) * 255 + 0.5).astype(np.uint8).T.reshape(height, width, 4)
