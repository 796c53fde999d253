"""The objects of objects.py: what they are made of. Lengths are metres, z is up.

Each kind is a function from random numbers to its things; KINDS also says where its middle is, and its size.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from object_tracer import WATER
from room_paints import CHECK, CLOTH, LEAF, PLASTER, RUG, SPECKLE, WOOD
from room_things import UP, Point, axes_along, ball, box, can, rod
from room_tracer import BALL, CAN, TUBE, Look, Thing

STEM = Look(SPECKLE, (0.16, 0.2, 0.08), (0.1, 0.08, 0.04))
BARK = Look(SPECKLE, (0.3, 0.22, 0.15), (0.16, 0.11, 0.08))
CLAY = Look(SPECKLE, (0.5, 0.22, 0.12), (0.38, 0.16, 0.09), 0.03)
EARTH = Look(SPECKLE, (0.12, 0.08, 0.05), (0.3, 0.24, 0.18))
HULL = Look(WOOD, (0.42, 0.24, 0.11), (0.24, 0.12, 0.05), 0.03)
DECK = Look(WOOD, (0.6, 0.44, 0.26), (0.42, 0.28, 0.15))
MAST = Look(WOOD, (0.36, 0.21, 0.1), (0.22, 0.12, 0.05))
ROPE = Look(PLASTER, (0.3, 0.24, 0.15))
SAIL = Look(CLOTH, (0.75, 0.7, 0.58), (0.62, 0.56, 0.44))
CHROME = Look(PLASTER, (0.1, 0.1, 0.11), (0.92, 0.93, 0.95), 0.75)
BRASS = Look(PLASTER, (0.16, 0.11, 0.03), (0.95, 0.74, 0.36), 0.7)
LACQUER = Look(SPECKLE, (0.45, 0.02, 0.03), (0.6, 0.06, 0.05), 0.06)
RUBBER = Look(PLASTER, (0.03, 0.03, 0.03))
HEAD = Look(PLASTER, (0.85, 0.84, 0.8), gloss=0.04, clear=0.62)  # of a drum
BODY = Look(WATER, (0.1, 0.3, 0.32), gloss=0.03, clear=0.97, fog=6.0)
OAK = Look(WOOD, (0.5, 0.33, 0.18), (0.32, 0.19, 0.09), 0.04)


class Kind(NamedTuple):
    """things: in metres. middle: height of what the cameras look at. unit: metres that are one unit of the scene."""

    things: Callable[[np.random.Generator], Iterator[Thing]]
    middle: float
    unit: float


def curve(points: list[Float[np.ndarray, "3"]], thick: float, thin: float, look: Look) -> Iterator[Thing]:
    """Rods from point to point, ever thinner, with balls between them."""
    for i, (a, b) in enumerate(pairwise(points)):
        radius = thick + (thin - thick) * i / max(len(points) - 2, 1)
        yield rod(a, b, radius, look)
        yield ball(b, radius, look)


def tube(centre: Point, axes: Float[np.ndarray, "3 3"], look: Look) -> Thing:
    return Thing(TUBE, np.array(centre, float), axes, look)


# ---- leaves ----------------------------------------------------------------------------------------------------------


def leaves(rng: np.random.Generator) -> Iterator[Thing]:
    """A plant in a pot: thin stems, some six hundred leaves."""
    yield can((0, 0, 0.06), 0.07, 0.055, CLAY)
    yield can((0, 0, 0.118), 0.079, 0.012, CLAY)
    yield can((0, 0, 0.131), 0.07, 0.0015, EARTH)
    for _ in range(40):
        turn, r = rng.uniform(0, 2 * math.pi), 0.062 * math.sqrt(rng.random())
        yield ball((r * math.cos(turn), r * math.sin(turn), 0.134), rng.uniform(0.002, 0.006, 3), EARTH)
    for k in range(4):
        turn = 1.7 * k + rng.normal(0, 0.2)
        lean = np.array([math.cos(turn), math.sin(turn), 0.0]) * rng.uniform(0.03, 0.09)
        foot = 0.25 * lean + np.array([0, 0, 0.13])
        top = lean + np.array([0, 0, rng.uniform(0.5, 0.64)])
        trunk = [foot + (top - foot) * s + 0.012 * rng.normal(0, 1, 3) * (0 < s < 1) for s in np.linspace(0, 1, 9)]
        yield from curve(trunk, 0.0052, 0.0016, BARK)
        for i in range(15):
            s = rng.uniform(0.3, 1.0)
            at = min(int(8 * s), 7)
            root = trunk[at] + (trunk[at + 1] - trunk[at]) * (8 * s - at)
            yield from twig(rng, root, 2.4 * i + k, 0.16 * (1.15 - 0.7 * s))


def twig(rng: np.random.Generator, root: Float[np.ndarray, "3"], turn: float, reach: float) -> Iterator[Thing]:
    """A twig that bends down, with leaves on both sides."""
    out = np.array([math.cos(turn), math.sin(turn), rng.uniform(0.2, 0.7)])
    bent = [root + reach * s * out - reach * 0.5 * s * s * UP for s in (0.0, 0.33, 0.66, 1.0)]
    yield from curve(bent, 0.0015, 0.0008, STEM)
    count = int(rng.integers(8, 13))
    for j in range(count):
        s = (j + 1) / count
        at = min(int(3 * s), 2)
        start = bent[at] + (bent[at + 1] - bent[at]) * (3 * s - at)
        side = np.cross(out, UP) * (1 if j % 2 else -1)
        way = (
            0.6 * out + side / np.linalg.norm(side) * (0.9 if j + 1 < count else 0) - 0.35 * UP + rng.normal(0, 0.25, 3)
        )
        way *= rng.uniform(0.03, 0.048) / np.linalg.norm(way)
        neck = start + 0.18 * way
        yield rod(start, neck, 0.0005, STEM)
        green = float(rng.uniform(0.16, 0.34))
        look = Look(LEAF, (green * rng.uniform(0.2, 0.5), green, 0.06), (0.45, 0.55, 0.25), 0.035)
        axes = axes_along(way, (rng.uniform(0.008, 0.011), 0.0004))
        yield Thing(BALL, neck + way / 2, axes, look)


# ---- water -----------------------------------------------------------------------------------------------------------


def water(rng: np.random.Generator) -> Iterator[Thing]:
    """A ship with masts, ropes and nets in a disc of water that one half sees through; stones lie at its ground."""
    yield can((0, 0, -0.035), 0.62, 0.035, BODY)
    for _ in range(26):
        turn, r, grey = (
            rng.uniform(0, 2 * math.pi),
            0.55 * math.sqrt(rng.uniform(0.1, 1)),
            float(rng.uniform(0.15, 0.45)),
        )
        at = (r * math.cos(turn), r * math.sin(turn), -0.055)
        yield ball(
            at, rng.uniform(0.012, 0.035, 3) * (1, 1, 0.5), Look(SPECKLE, (grey, grey, grey * 0.9), (0.1, 0.1, 0.1))
        )
    for i in range(14):  # planks, each a little wider
        s = i / 13
        half = np.array([0.25 + 0.1 * s, 0.035 + 0.05 * math.sqrt(s), 0.0062])
        yield Thing(CAN, np.array([0.01 * s, 0, -0.045 + 0.011 * i]), np.diag(half), HULL if i % 3 else MAST)
    yield Thing(CAN, np.array([0.01, 0, 0.104]), np.diag([0.33, 0.075, 0.002]), DECK)
    yield box((-0.22, 0, 0.135), (0.075, 0.06, 0.03), HULL)
    yield box((-0.25, 0, 0.185), (0.05, 0.052, 0.022), MAST)
    yield box((0.06, 0.0, 0.115), (0.035, 0.025, 0.01), MAST)
    for x, y in ((0.14, 0.03), (0.16, -0.02), (-0.06, 0.04)):
        yield can((x, y, 0.12), 0.013, 0.016, HULL)
    yield rod((0.3, 0, 0.1), (0.52, 0, 0.2), 0.007, MAST)
    for x, top in ((-0.13, 0.5), (0.05, 0.62), (0.2, 0.5)):
        yield from mast(rng, x, top)
    for a, b in (((0.51, 0, 0.195), (0.2, 0, 0.5)), ((0.2, 0, 0.5), (0.05, 0, 0.6)), ((0.05, 0, 0.6), (-0.13, 0, 0.49)),
                 ((-0.13, 0, 0.49), (-0.29, 0, 0.2)), ((0.42, 0, 0.155), (0.05, 0, 0.45))):  # fmt: skip
        yield rod(a, b, 0.0012, ROPE)
    for _ in range(3):
        turn = rng.uniform(0, 2 * math.pi)
        at = np.array([0.45 * math.cos(turn), 0.3 + 0.1 * math.sin(turn), 0.0])
        yield rod(at, at + np.array([0.05, 0.02, 0.004]), 0.017, HULL)


def mast(rng: np.random.Generator, x: float, top: float) -> Iterator[Thing]:
    """A mast with two yards, a furled and a set sail, and nets of ropes to both sides."""
    yield rod((x, 0, 0.08), (x, 0, top), 0.0065, MAST)
    yield ball((x, 0, top), 0.008, MAST)
    for share, half in ((0.55, 0.15), (0.83, 0.1)):
        z = 0.1 + share * (top - 0.1)
        yield rod((x + 0.01, -half, z), (x + 0.01, half, z), 0.004, MAST)
        for y in np.linspace(-0.9 * half, 0.9 * half, 9):
            yield ball((x + 0.012, y, z - 0.006), (0.008, half * 0.11, 0.009 + rng.uniform(0, 0.003)), SAIL)
        yield rod((x, -half, z), (x, 0, z + 0.07), 0.0009, ROPE)
        yield rod((x, half, z), (x, 0, z + 0.07), 0.0009, ROPE)
    crow = 0.1 + 0.72 * (top - 0.1)
    yield tube((x, 0, crow), np.diag([0.02, 0.02, 0.012]), HULL)
    for side in (-1, 1):
        feet = [np.array([x - 0.045 + 0.018 * k, side * 0.074, 0.105]) for k in range(6)]
        head = np.array([x, side * 0.008, crow])
        for foot in feet:
            yield rod(foot, head, 0.0009, ROPE)
        for s in np.linspace(0.08, 0.8, 13):
            yield rod(feet[0] + (head - feet[0]) * s, feet[-1] + (head - feet[-1]) * s, 0.0007, ROPE)


# ---- drums -----------------------------------------------------------------------------------------------------------


def drums(rng: np.random.Generator) -> Iterator[Thing]:
    """A drum kit: heads that one sees through, mirroring rims, cymbals on thin stands."""
    yield from drum(rng, (0.02, 0, 0.29), (0.0, 1.0, 0.02), 0.27, 0.19)
    yield from drum(rng, (-0.19, -0.05, 0.69), (0.12, -0.28, 1.0), 0.15, 0.1)
    yield from drum(rng, (0.19, -0.05, 0.69), (-0.12, -0.28, 1.0), 0.165, 0.11)
    yield from drum(rng, (0.52, -0.28, 0.36), (-0.08, -0.1, 1.0), 0.2, 0.18)
    yield from drum(rng, (-0.47, -0.3, 0.52), (0.06, -0.06, 1.0), 0.18, 0.07)
    for x in (-0.1, 0.1):
        yield rod((x, 0, 0.54), (1.4 * x, -0.02, 0.64), 0.011, CHROME)
    for at, radius, height, tilt in (
        ((-0.56, 0.16), 0.21, 1.02, (0.2, -0.25, 1)), ((0.55, 0.17), 0.24, 1.08, (-0.22, -0.2, 1)),
        ((-0.72, -0.2), 0.16, 0.82, (0.03, 0.02, 1)),
    ):  # fmt: skip
        yield from cymbal((*at, height), radius, tilt)
        yield from stand(rng, (*at, 0.0), height + 0.05)
    yield from cymbal((-0.72, -0.2, 0.8), 0.16, (0.03, 0.02, -1))
    yield from stand(rng, (-0.47, -0.3, 0.0), 0.44)
    for turn in (0.5, 2.2, 4.2):
        x, y = 0.52 + 0.205 * math.cos(turn), -0.28 + 0.205 * math.sin(turn)
        yield rod((x, y, 0.0), (x, y, 0.42), 0.006, CHROME)
    for side in (-1, 1):
        yield rod((0.02 + side * 0.25, -0.1, 0.2), (0.02 + side * 0.36, -0.15, 0.0), 0.007, CHROME)
    yield from stool()


def drum(rng: np.random.Generator, centre: Point, way: Point, radius: float, half: float) -> Iterator[Thing]:
    """A hollow shell along `way`, with two heads, their rims, and lugs with rods."""
    centre, along = np.array(centre), np.array(way) / np.linalg.norm(way)
    frame = axes_along(2 * along, (1.0, 1.0))
    x, y, z = frame.T
    yield tube(centre, frame * (radius, radius, half), LACQUER)
    yield tube(centre, frame * (radius * 0.985, radius * 0.985, half), Look(WOOD, (0.6, 0.45, 0.28), (0.45, 0.3, 0.17)))
    for side in (-1, 1):
        end = centre + side * half * z
        yield Thing(CAN, end, frame * (radius, radius, 0.0006), HEAD)
        for ring, wide, high in ((0.0, 0.007, 0.006), (0.009, 0.004, 0.0035)):
            yield tube(end + side * (0.003 - ring) * z, frame * (radius + wide, radius + wide, high), CHROME)
    turn = rng.uniform(0, 1)
    for k in range(8):
        out = math.cos(turn + k * math.pi / 4) * x + math.sin(turn + k * math.pi / 4) * y
        at = centre + (radius + 0.008) * out
        yield rod(at - half * z, at + half * z, 0.0025, CHROME)
        yield Thing(BALL, at, axes_along(0.09 * min(half / 0.1, 1) * z, (0.009, 0.012)), CHROME)


def cymbal(centre: Point, radius: float, way: Point) -> Iterator[Thing]:
    centre, along = np.array(centre), np.array(way) / np.linalg.norm(way)
    yield Thing(BALL, centre, axes_along(0.022 * along, (radius, radius)), BRASS)
    yield Thing(BALL, centre + 0.009 * along, axes_along(0.045 * along, (0.2 * radius, 0.2 * radius)), BRASS)
    yield rod(centre, centre + 0.05 * along, 0.005, CHROME)


def stand(rng: np.random.Generator, foot: Point, height: float) -> Iterator[Thing]:
    """A tripod with a thin pole."""
    foot, turn = np.array(foot), rng.uniform(0, 2)
    yield rod(foot + 0.08 * UP, foot + 0.55 * height * UP, 0.009, CHROME)
    yield rod(foot + 0.5 * height * UP, foot + height * UP, 0.005, CHROME)
    yield ball(foot + 0.55 * height * UP, 0.014, CHROME)
    for k in range(3):
        out = np.array([math.cos(turn + 2.094 * k), math.sin(turn + 2.094 * k), 0.0])
        yield rod(foot + 0.3 * height * UP, foot + 0.19 * out + 0.01 * UP, 0.005, CHROME)
        yield ball(foot + 0.19 * out + 0.012 * UP, 0.012, RUBBER)


def stool() -> Iterator[Thing]:
    yield ball((0.02, -0.62, 0.47), (0.15, 0.15, 0.05), Look(PLASTER, (0.04, 0.04, 0.045), gloss=0.04))
    yield rod((0.02, -0.62, 0.1), (0.02, -0.62, 0.45), 0.013, CHROME)
    for k in range(3):
        out = np.array([math.cos(0.5 + 2.094 * k), math.sin(0.5 + 2.094 * k), 0.0])
        yield rod(np.array([0.02, -0.62, 0.2]), np.array([0.02, -0.62, 0.0]) + 0.17 * out, 0.008, CHROME)


# ---- cloth -----------------------------------------------------------------------------------------------------------


def cloth(rng: np.random.Generator) -> Iterator[Thing]:
    """A chair with woven covers, a folded blanket with fringes, a basket of wool, and food on a board."""
    cover, other = Look(CLOTH, (0.16, 0.32, 0.2), (0.62, 0.52, 0.3)), Look(RUG, (0.42, 0.09, 0.07), (0.7, 0.6, 0.42))
    for x in (-0.22, 0.22):
        yield rod((x, -0.2, 0.0), (x * 0.95, -0.19, 0.3), 0.016, OAK)
        yield rod((x, 0.24, 0.0), (x * 0.95, 0.2, 0.3), 0.016, OAK)
        yield box((x * 1.18, 0.0, 0.5), (0.022, 0.23, 0.012), OAK)
        yield rod((x * 1.18, -0.2, 0.33), (x * 1.18, -0.2, 0.5), 0.013, OAK)
    yield box((0, 0, 0.315), (0.26, 0.25, 0.022), OAK)
    yield box((0, -0.01, 0.36), (0.235, 0.225, 0.026), cover)
    yield ball((0, -0.01, 0.375), (0.24, 0.225, 0.055), cover)
    back = box((0, 0.215, 0.6), (0.22, 0.03, 0.24), cover)
    c, s = math.cos(0.2), math.sin(0.2)
    yield back._replace(axes=np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) @ back.axes)
    yield Thing(
        BALL, np.array([0, 0.2, 0.62]), np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) @ np.diag([0.2, 0.06, 0.2]), cover
    )
    yield Thing(BALL, np.array([-0.06, 0.09, 0.5]), box((0, 0, 0), (0.13, 0.05, 0.12), other, 0.3).axes, other)
    yield from blanket(rng)
    yield from basket(rng, (0.42, -0.22, 0.0))
    yield from food((-0.42, -0.2, 0.0))


def blanket(rng: np.random.Generator) -> Iterator[Thing]:
    """It hangs over an arm, in folds, with fringes at both ends."""
    look = Look(CHECK, (0.7, 0.66, 0.56), (0.25, 0.3, 0.42))
    for y in np.linspace(-0.16, 0.12, 15):
        swing, low = 0.005 * math.sin(55 * y), rng.uniform(0.24, 0.25)
        for side, end in ((0.288, low), (0.228, low + 0.13)):
            x = side + swing
            yield Thing(CAN, np.array([x, y, (end + 0.51) / 2]), np.diag([0.004, 0.0115, (0.51 - end) / 2]), look)
            for k in range(4):
                a = np.array([x, y - 0.009 + 0.006 * k, end])
                yield rod(a, a + rng.normal(0, 0.003, 3) - 0.03 * UP, 0.0011, look)
        yield rod((0.228 + swing, y, 0.513), (0.288 + swing, y, 0.513), 0.0115, look)


def basket(rng: np.random.Generator, at: Point) -> Iterator[Thing]:
    """Woven of rods, with balls of wool."""
    at, willow = np.array(at), Look(SPECKLE, (0.5, 0.36, 0.2), (0.35, 0.23, 0.11))
    for row in range(9):
        for k in range(28):
            ends = []
            for step in (k, k + 1):
                turn, r = step * math.pi / 14, 0.115 + 0.02 * row / 8 + (0.004 if (step + row) % 2 else -0.004)
                ends.append(at + np.array([r * math.cos(turn), r * math.sin(turn), 0.012 + 0.017 * row]))
            yield rod(ends[0], ends[1], 0.0055, willow)
    for k in range(28):
        out = np.array([math.cos(k * math.pi / 14), math.sin(k * math.pi / 14), 0])
        yield rod(at + 0.115 * out, at + 0.136 * out + 0.155 * UP, 0.003, willow)
    yield can(at + 0.006 * UP, 0.11, 0.006, willow)
    for k, tint in enumerate(((0.6, 0.12, 0.1), (0.15, 0.25, 0.5), (0.75, 0.6, 0.2), (0.7, 0.68, 0.6))):
        spot = at + np.array([0.055 * math.cos(1.6 * k), 0.055 * math.sin(1.6 * k), 0.125 + 0.02 * (k % 2)])
        yield ball(spot, 0.052, Look(CLOTH, tint, (tint[0] * 0.7, tint[1] * 0.7, tint[2] * 0.7)))
        for _ in range(14):  # threads wound around it
            way = rng.normal(0, 1, 3)
            frame = axes_along(0.004 * way / np.linalg.norm(way), (0.0535, 0.0535))
            yield Thing(TUBE, spot, frame, Look(PLASTER, tint))


def food(at: Point) -> Iterator[Thing]:
    """Two sausages in rolls on a board."""
    x, y, _ = at
    yield can((x, y, 0.012), 0.16, 0.012, OAK)
    yield can((x, y, 0.026), 0.135, 0.003, Look(PLASTER, (0.85, 0.84, 0.82), gloss=0.05))
    bread = Look(SPECKLE, (0.66, 0.4, 0.17), (0.55, 0.29, 0.1), 0.02)
    for side in (-0.055, 0.055):
        for part in (-0.02, 0.02):
            yield ball((x + side + part, y, 0.05), (0.024, 0.095, 0.023), bread)
        yield ball(
            (x + side, y, 0.066), (0.015, 0.108, 0.015), Look(SPECKLE, (0.5, 0.14, 0.06), (0.38, 0.09, 0.04), 0.05)
        )
        wave = [np.array([x + side + 0.008 * (-1) ** k, y - 0.085 + 0.0142 * k, 0.0815]) for k in range(13)]
        yield from curve(wave, 0.0035, 0.0035, Look(PLASTER, (0.8, 0.58, 0.06), gloss=0.04))


KINDS = {
    "leaves": Kind(leaves, 0.35, 0.27),
    "water": Kind(water, 0.22, 0.57),
    "drums": Kind(drums, 0.52, 0.76),
    "cloth": Kind(cloth, 0.36, 0.5),
}
