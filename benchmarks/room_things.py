"""What stands in the room of room.py. Lengths are metres, z is up, and the table stands at the origin."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from room_light import Lamps
from room_paints import BOOK, CHECK, CLOTH, LAMP, LEAF, PICTURE, PLANKS, PLASTER, RUG, SPECKLE, WALLPAPER, WINDOW, WOOD
from room_tracer import BALL, CAN, CUBE, Colour, Look, Thing

Point = Sequence[float] | Float[np.ndarray, "3"]
UP = np.array((0.0, 0.0, 1.0))
WINDOWS = (-1.0, 0.75)  # their middles, on the wall with y = 2.6
LAMPLIGHT = (13.0, 10.8, 7.8)
DAYLIGHT = (10.0, 11.0, 12.2)
WHITE = Look(PLASTER, (0.8, 0.78, 0.74))
DARK = Look(WOOD, (0.2, 0.1, 0.05), (0.09, 0.04, 0.02), 0.04)
OAK = Look(WOOD, (0.55, 0.36, 0.19), (0.33, 0.19, 0.09), 0.03)
PAINTED = Look(PLASTER, (0.75, 0.76, 0.72), gloss=0.03)
BARK = Look(SPECKLE, (0.25, 0.17, 0.11), (0.12, 0.08, 0.05))
CHROME = Look(PLASTER, (0.25, 0.25, 0.27), gloss=0.7)


def box(centre: Point, half: Point, look: Look, turn: float = 0.0) -> Thing:
    """half: half lengths. turn: about the vertical, in radians."""
    c, s = math.cos(turn), math.sin(turn)
    return Thing(CUBE, np.array(centre, float), np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * np.array(half), look)


def can(centre: Point, radius: float, half: float, look: Look) -> Thing:
    return Thing(CAN, np.array(centre, float), np.diag([radius, radius, half]), look)


def ball(centre: Point, radius: float | Point, look: Look) -> Thing:
    return Thing(BALL, np.array(centre, float), np.eye(3) * np.array(radius), look)


def rod(a: Point, b: Point, radius: float, look: Look) -> Thing:
    """A can from a to b."""
    a, b = np.array(a, float), np.array(b, float)
    return Thing(CAN, (a + b) / 2, axes_along(b - a, (radius, radius)), look)


def axes_along(way: Float[np.ndarray, "3"], across: tuple[float, float]) -> Float[np.ndarray, "3 3"]:
    """Half axes, of which the last is half of `way`."""
    z = way / np.linalg.norm(way)
    x = np.cross((0, 1, 0) if abs(z[1]) < 0.8 else (1, 0, 0), z)
    x /= np.linalg.norm(x)
    return np.stack([x * across[0], np.cross(z, x) * across[1], way / 2], 1)


def colour(rng: np.random.Generator, dark: float = 0.05, bright: float = 0.6) -> Colour:
    """A colour that is not grey."""
    r, g, b = np.clip(rng.uniform(dark, bright) * (0.35 + rng.dirichlet((0.8, 0.8, 0.8)) * 2), 0.02, 0.85)
    return float(r), float(g), float(b)


def furniture(rng: np.random.Generator) -> list[Thing]:
    """All things in the room, the room itself first."""
    return [
        box((0, 0, 1.35), (3, 2.6, 1.35), WHITE),
        *walls(),
        *windows(),
        *table(rng),
        *tree(rng),
        *ornaments(rng),
        *chairs(),
        *shelves(rng),
        *cabinet(rng),
        *sofa(rng),
    ]


def walls() -> Iterator[Thing]:
    """The floor, a rug, wallpaper, skirting, a door."""
    yield box((0, 0, 0.005), (3, 2.6, 0.005), Look(PLANKS, (0.5, 0.31, 0.16), (0.3, 0.17, 0.08), 0.03))
    yield box((0, 0, 0.015), (1.5, 1.15, 0.006), Look(RUG, (0.38, 0.06, 0.05), (0.62, 0.5, 0.3)))
    yield box((0, -2.595, 1.35), (3, 0.005, 1.35), Look(WALLPAPER, (0.5, 0.58, 0.5), (0.7, 0.62, 0.36)))
    yield box((2.995, 0, 1.35), (0.005, 2.6, 1.35), Look(PLASTER, (0.62, 0.42, 0.3)))
    for x, y, dx, dy in ((0, -2.58, 3, 0.012), (0, 2.58, 3, 0.012), (2.98, 0, 0.012, 2.6), (-2.98, 0, 0.012, 2.6)):
        yield box((x, y, 0.06), (dx, dy, 0.05), PAINTED)
    yield box((2.1, -2.57, 1.03), (0.48, 0.02, 1.03), PAINTED)
    for z in (0.55, 1.5):
        for x in (1.9, 2.3):
            yield box((x, -2.548, z), (0.15, 0.006, 0.36), Look(PLASTER, (0.6, 0.61, 0.57), gloss=0.03))
    yield ball((1.72, -2.5, 1.0), 0.03, CHROME)


def windows() -> Iterator[Thing]:
    """Windows with bars, curtains and a radiator, and the lamp over the table."""
    for x in WINDOWS:
        yield box((x, 2.59, 1.55), (0.62, 0.005, 0.68), Look(WINDOW, (1, 1, 1)))
        for dx in (-0.64, 0.0, 0.64):
            yield box((x + dx, 2.56, 1.55), (0.03, 0.035, 0.72), PAINTED)
        for z in (0.85, 1.75, 2.25):
            yield box((x, 2.56, z), (0.66, 0.03, 0.025), PAINTED)
        yield box((x, 2.5, 0.82), (0.75, 0.1, 0.02), PAINTED)
        for i in range(14):
            yield box((x - 0.455 + 0.07 * i, 2.53, 0.42), (0.022, 0.04, 0.3), PAINTED)
        for side in (-1, 1):
            for i in range(6):
                at = (x + side * (0.68 + 0.035 * i), 2.47 + 0.02 * (i % 2), 1.25)
                yield rod(
                    (at[0], at[1], 0.1), (at[0], at[1], 2.45), 0.03, Look(CLOTH, (0.55, 0.5, 0.38), (0.25, 0.3, 0.45))
                )
    yield rod((-2.3, 2.48, 2.47), (2.1, 2.48, 2.47), 0.015, DARK)
    yield box((0.1, -0.1, 2.36), (0.26, 0.26, 0.01), Look(LAMP, LAMPLIGHT))
    yield box((0.1, -0.1, 2.39), (0.28, 0.28, 0.02), CHROME)
    yield rod((0.1, -0.1, 2.4), (0.1, -0.1, 2.7), 0.006, DARK)


def lamps() -> Lamps:
    """What shines on things: the windows, and the lamp over the table."""
    corner = [(x - 0.62, 2.583, 0.87) for x in WINDOWS] + [(-0.16, -0.36, 2.345)]
    sides = [((1.24, 0, 0), (0, 0, 1.36)) for _ in WINDOWS] + [((0.52, 0, 0), (0, 0.52, 0))]
    normal = [(0, -1, 0) for _ in WINDOWS] + [(0, 0, -1)]
    light = [DAYLIGHT for _ in WINDOWS] + [LAMPLIGHT]
    return Lamps(*(np.array(each, float) for each in (corner, sides, normal, light)))


def table(rng: np.random.Generator) -> Iterator[Thing]:
    """A round table with a runner and a mat."""
    yield can((0, 0, 0.715), 0.68, 0.02, OAK)
    yield can((0, 0, 0.66), 0.55, 0.03, DARK)
    for turn in np.arange(4) * math.pi / 2 + 0.6:
        x, y = math.cos(turn), math.sin(turn)
        yield rod((0.52 * x, 0.52 * y, 0.01), (0.45 * x, 0.45 * y, 0.66), 0.03, DARK)
    yield box((0, 0, 0.736), (0.58, 0.19, 0.0015), Look(CLOTH, (0.72, 0.68, 0.58), (0.18, 0.26, 0.42)), 0.5)
    for i in range(150):  # fringes at both ends of the runner
        side, along = (-1 if i % 2 else 1), -0.185 + 0.37 * i / 149
        a = np.array([side * 0.58, along, 0.7365])
        b = a + np.array([side * rng.uniform(0.02, 0.03), rng.normal(0, 0.003), 0.0])
        turned = [(0.8776 * p[0] - 0.4794 * p[1], 0.4794 * p[0] + 0.8776 * p[1], p[2]) for p in (a, b)]
        yield rod(turned[0], turned[1], 0.0011, Look(PLASTER, (0.7, 0.66, 0.55)))
    yield can((0, 0, 0.742), 0.155, 0.004, Look(SPECKLE, (0.35, 0.36, 0.38), (0.6, 0.6, 0.58), 0.04))


def tree(rng: np.random.Generator) -> Iterator[Thing]:
    """A pot, soil with pebbles, a bent trunk, branches, leaves and berries."""
    glaze = Look(SPECKLE, (0.06, 0.16, 0.3), (0.15, 0.3, 0.42), 0.06)
    yield can((0, 0, 0.79), 0.125, 0.042, glaze)
    yield can((0, 0, 0.826), 0.137, 0.009, glaze)
    yield ball((0, 0, 0.832), (0.115, 0.115, 0.022), Look(SPECKLE, (0.14, 0.09, 0.06), (0.3, 0.22, 0.15)))
    for _ in range(90):
        turn, r = rng.uniform(0, 2 * math.pi), 0.112 * math.sqrt(rng.uniform(0.05, 1))
        grey = float(rng.uniform(0.25, 0.7))
        at = (r * math.cos(turn), r * math.sin(turn), 0.832 + 0.022 * math.sqrt(max(1 - (r / 0.115) ** 2, 0)))
        yield ball(at, rng.uniform(0.004, 0.011, 3), Look(SPECKLE, (grey, grey * 0.95, grey * 0.9), (0.2, 0.2, 0.2)))
    trunk = [np.array(p) for p in (
        (0, 0, 0.83), (0.012, 0.004, 0.88), (0.035, 0.0, 0.93), (0.03, -0.02, 0.98), (0.0, -0.03, 1.03),
        (-0.02, -0.015, 1.08), (-0.01, 0.005, 1.14), (0.005, 0.01, 1.2),
    )]  # fmt: skip
    for i, (a, b) in enumerate(pairwise(trunk)):
        yield rod(a, b, 0.026 - 0.003 * i, BARK)
        yield ball(b, 0.0255 - 0.003 * i, BARK)
    for i in range(15):
        root = trunk[2 + i * 5 // 14] + rng.uniform(-0.01, 0.02) * UP
        turn, reach = 2.4 * i + rng.normal(0, 0.3), rng.uniform(0.12, 0.26) * (1.15 - 0.045 * i)
        yield from branch(rng, root, turn, reach)


def branch(rng: np.random.Generator, root: Float[np.ndarray, "3"], turn: float, reach: float) -> Iterator[Thing]:
    """A branch with twigs, each with a tuft of leaves."""
    out = np.array([math.cos(turn), math.sin(turn), 0.25])
    middle = root + 0.5 * reach * out + rng.normal(0, 0.01, 3)
    end = middle + 0.5 * reach * out * (1, 1, 1.6) + rng.normal(0, 0.015, 3)
    yield rod(root, middle, 0.007, BARK)
    yield ball(middle, 0.007, BARK)
    yield rod(middle, end, 0.0045, BARK)
    for _ in range(6):
        start = middle + (end - middle) * rng.uniform(0.1, 1)
        tip = start + rng.normal(0, 0.032, 3) * (1, 1, 0.5) + 0.022 * UP
        yield rod(start, tip, 0.002, BARK)
        for _ in range(19):
            yield from leaf(rng, tip + rng.normal(0, 0.02, 3) * (1, 1, 0.6))
        if rng.random() < 0.5:
            red = float(rng.uniform(0.4, 0.75))
            yield ball(
                tip + rng.normal(0, 0.022, 3), rng.uniform(0.005, 0.009), Look(PLASTER, (red, 0.04, 0.03), gloss=0.04)
            )


def leaf(rng: np.random.Generator, at: Float[np.ndarray, "3"]) -> Iterator[Thing]:
    """One leaf, more or less level."""
    length, green = rng.uniform(0.012, 0.02), float(rng.uniform(0.2, 0.42))
    x, y, z = axes_along(rng.normal(0, 0.45, 3) + UP, (1, 1)).T
    turn = rng.uniform(0, 2 * math.pi)
    x, y = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    z = z / np.linalg.norm(z)
    look = Look(LEAF, (green * rng.uniform(0.35, 0.8), green, 0.05), (0.5, 0.6, 0.2), 0.02)
    yield Thing(BALL, at, np.stack([x * length, y * length * 0.55, z * 0.0012], 1), look)


def books(rng: np.random.Generator, start: Point, length: float, turn: float, deep: float = 0.09) -> Iterator[Thing]:
    """Books that stand in a row. start: the lower end of the row; turn: of the way along it."""
    along, at = np.array([math.cos(turn), math.sin(turn), 0.0]), 0.0
    while at < length - 0.06:
        thick, high = rng.uniform(0.008, 0.024), rng.uniform(0.085, 0.14)
        middle = np.array(start) + along * (at + thick) + high * UP
        gold = (0.75, 0.65, 0.35) if rng.random() < 0.6 else (0.05, 0.05, 0.05)
        yield box(middle, (thick, deep * rng.uniform(0.8, 1.0), high), Look(BOOK, colour(rng), gold, 0.02), turn)
        at += 2 * thick + (rng.uniform(0.03, 0.2) if rng.random() < 0.06 else 0.0005)


def ornaments(rng: np.random.Generator) -> Iterator[Thing]:
    """What lies on the table beside the tree."""
    for i, (x, y, turn) in enumerate(((-0.42, 0.2, 0.3), (-0.42, 0.2, 0.55), (-0.41, 0.2, 0.1))):
        half = (0.085 - 0.008 * i, 0.12 - 0.012 * i, 0.012)
        yield box((x, y, 0.748 + 0.025 * i), half, Look(BOOK, colour(rng), (0.8, 0.75, 0.6), 0.02), turn)
    yield ball((-0.41, 0.2, 0.843), 0.033, CHROME)
    for i in range(7):  # fruit on a plate
        r = 0.055 if i < 6 else 0.0
        at = (0.4 + r * math.cos(i * 1.05), 0.2 + r * math.sin(i * 1.05), 0.778 if i < 6 else 0.82)
        tint = ((0.75, 0.32, 0.03), (0.6, 0.07, 0.04), (0.5, 0.55, 0.08))[i % 3]
        yield ball(at, (0.031, 0.031, 0.029), Look(SPECKLE, tint, (tint[0], tint[1] * 1.6, 0.05), 0.03))
    yield can((0.4, 0.2, 0.741), 0.12, 0.006, Look(PLASTER, (0.8, 0.8, 0.78), gloss=0.05))
    yield can((0.36, -0.3, 0.785), 0.042, 0.05, Look(CHECK, (0.75, 0.73, 0.68), (0.1, 0.25, 0.5), 0.05))
    yield can((0.36, -0.3, 0.8353), 0.037, 0.0005, Look(PLASTER, (0.07, 0.035, 0.02), gloss=0.04))
    yield rod((0.402, -0.31, 0.775), (0.43, -0.31, 0.785), 0.006, PAINTED)
    yield rod((0.43, -0.31, 0.785), (0.402, -0.31, 0.805), 0.006, PAINTED)
    yield box((-0.12, -0.42, 0.737), (0.15, 0.105, 0.0015), Look(BOOK, (0.78, 0.76, 0.7), (0.06, 0.06, 0.07)), 0.2)
    yield rod((-0.2, -0.4, 0.745), (-0.08, -0.33, 0.745), 0.004, Look(CHECK, (0.7, 0.55, 0.05), (0.6, 0.1, 0.05), 0.04))
    yield can((0.1, 0.45, 0.8), 0.028, 0.065, Look(PLASTER, (0.7, 0.62, 0.48)))
    yield rod((0.1, 0.45, 0.86), (0.103, 0.451, 0.88), 0.0015, DARK)
    yield box((-0.3, -0.12, 0.758), (0.022, 0.022, 0.022), Look(CHECK, (0.8, 0.1, 0.08), (0.85, 0.8, 0.7), 0.04), 0.9)


def chairs() -> Iterator[Thing]:
    """Three chairs that do not stand straight."""
    for turn, away in ((0.4, 0.95), (2.5, 1.0), (4.3, 0.98)):
        x, y = math.cos(turn), math.sin(turn)

        def spot(out: float, side: float, z: float, x: float = x, y: float = y, away: float = away) -> Point:
            return (x * (away + out) - y * side, y * (away + out) + x * side, z)

        yield box(spot(0, 0, 0.44), (0.2, 0.21, 0.02), OAK, turn)
        yield box(spot(0, 0, 0.465), (0.18, 0.19, 0.012), Look(CLOTH, (0.5, 0.16, 0.12), (0.7, 0.6, 0.45)), turn)
        for side in (-0.18, 0.18):
            yield rod(spot(-0.17, side, 0.01), spot(-0.17, side, 0.43), 0.018, OAK)
            yield rod(spot(0.18, side, 0.01), spot(0.22, side, 0.92), 0.018, OAK)
        for i in range(5):
            side = -0.12 + 0.06 * i
            yield rod(spot(0.185, side, 0.46), spot(0.215, side, 0.88), 0.008, OAK)
        yield box(spot(0.215, 0, 0.89), (0.014, 0.19, 0.04), OAK, turn)


def shelves(rng: np.random.Generator) -> Iterator[Thing]:
    """A wall of shelves with books, vases and boxes."""
    for z in np.arange(6) * 0.38 + 0.1:
        yield box((-2.83, -0.2, z), (0.15, 1.6, 0.012), OAK)
        for y in (-1.78, -0.9, 0.0, 0.72):
            if rng.random() < 0.75 and z < 1.9:
                yield from books(rng, (-2.82, y, z + 0.013), 0.5 + 0.3 * rng.random(), math.pi / 2)
            else:
                tint = Look(SPECKLE, colour(rng), colour(rng), 0.05)
                yield can((-2.82, y + 0.2, z + 0.1), 0.05, 0.09, tint)
                yield ball((-2.82, y + 0.45, z + 0.1), (0.08, 0.08, 0.09), Look(CHECK, colour(rng), colour(rng), 0.03))
    for y in (-1.8, -0.95, -0.05, 0.68, 1.4):
        yield box((-2.83, y, 1.06), (0.15, 0.012, 1.05), OAK)


def cabinet(rng: np.random.Generator) -> Iterator[Thing]:
    """Against the wallpaper: a cabinet with a radio, books and a plant, pictures above it."""
    yield box((-0.6, -2.35, 0.4), (0.9, 0.22, 0.4), DARK)
    for i in range(3):
        yield box((-1.2 + 0.6 * i, -2.125, 0.4), (0.28, 0.008, 0.35), OAK)
        yield ball((-1.0 + 0.6 * i, -2.11, 0.45), 0.015, CHROME)
    yield from books(rng, (-1.4, -2.35, 0.8), 0.6, 0.0)
    yield box((-0.45, -2.33, 0.92), (0.2, 0.1, 0.12), Look(CLOTH, (0.3, 0.2, 0.1), (0.5, 0.4, 0.25)))
    yield can((0.1, -2.33, 0.9), 0.09, 0.1, Look(CHECK, (0.7, 0.66, 0.6), (0.55, 0.2, 0.1), 0.04))
    for _ in range(60):  # the plant's long leaves
        way = rng.normal(0, 1, 3) * (0.16, 0.1, 0.1) + 0.3 * UP
        look = Look(LEAF, (0.07, float(rng.uniform(0.15, 0.35)), 0.05), (0.4, 0.5, 0.2), 0.02)
        yield Thing(BALL, np.array((0.1, -2.33, 1.0)) + way / 2, axes_along(way, (0.014, 0.003)), look)
    for x, z, w, h in (
        (-1.35, 1.65, 0.3, 0.22),
        (-0.65, 1.75, 0.22, 0.3),
        (0.05, 1.8, 0.26, 0.2),
        (0.75, 1.6, 0.3, 0.4),
    ):
        yield box((x, -2.575, z), (w + 0.03, 0.015, h + 0.03), DARK)
        yield box((x, -2.562, z), (w, 0.006, h), Look(PICTURE, colour(rng), colour(rng, 0.3, 0.9), 0.02))


def sofa(rng: np.random.Generator) -> Iterator[Thing]:
    """Against the terracotta wall: a sofa with cushions, a poster, a clock, a floor lamp."""
    cover = Look(CLOTH, (0.2, 0.27, 0.3), (0.25, 0.33, 0.36))
    yield box((2.5, 0.1, 0.22), (0.42, 1.0, 0.2), cover)
    yield box((2.8, 0.1, 0.6), (0.14, 1.0, 0.3), cover)
    for y in (-0.95, 1.15):
        yield box((2.5, y, 0.4), (0.42, 0.1, 0.25), cover)
    for i, y in enumerate((-0.6, 0.0, 0.7)):
        look = Look((CHECK, CLOTH, RUG)[i], colour(rng), colour(rng, 0.3, 0.8))
        yield Thing(BALL, np.array([2.58, y, 0.62]), box((0, 0, 0), (0.1, 0.22, 0.2), look, 0.3 * i - 0.2).axes, look)
    yield box((2.98, -0.3, 1.65), (0.01, 0.5, 0.4), Look(PICTURE, colour(rng), colour(rng, 0.4, 0.9)))
    yield box((2.98, 0.85, 1.6), (0.01, 0.3, 0.42), Look(BOOK, (0.75, 0.72, 0.62), (0.1, 0.1, 0.15)))
    yield rod((2.94, 1.65, 1.8), (2.99, 1.65, 1.8), 0.16, Look(CHECK, (0.8, 0.8, 0.76), (0.7, 0.7, 0.66), 0.04))
    yield rod((2.6, 1.9, 0.01), (2.6, 1.9, 1.5), 0.012, CHROME)
    yield can((2.6, 1.9, 1.6), 0.17, 0.14, Look(LAMP, (1.5, 1.15, 0.7)))
    yield can((2.6, 1.9, 0.02), 0.14, 0.015, CHROME)
