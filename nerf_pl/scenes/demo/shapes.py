"""The solids of the demo scene and where rays meet them, in NumPy.

Points and directions are (3, N), so that each coordinate is one contiguous array; origins may be (3, 1), shared by all
rays. The dtype of the rays is kept: float32 is enough for colours, exact depth takes float64.

Each solid has
    center, bound    a sphere that holds it, to pass over most rays cheaply
    distance(p)      how far a point is from the surface; less than 0 inside
    hit(o, d)        distance along the unit directions d, inf where it is missed; from inside, to its far side
    normal(p)        unit normals, outwards, at points of its surface
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

Vectors = Float[np.ndarray, "3 #N"]
Scalars = Float[np.ndarray, "#N"]
Point = tuple[float, float, float]

T_MIN = 1e-4  # a ray does not meet the surface that it starts from


@dataclass(frozen=True)
class Ball:
    center: Point
    radius: float

    @property
    def bound(self) -> float:
        return self.radius

    def distance(self, p: Vectors) -> Scalars:
        return length(p - column(self.center, p)) - self.radius

    def hit(self, o: Vectors, d: Vectors) -> Scalars:
        return _sphere(o - column(self.center, d), d, self.radius)

    def normal(self, p: Vectors) -> Vectors:
        return (p - column(self.center, p)) / self.radius


@dataclass(frozen=True)
class Can:
    """An upright cylinder with flat ends. Over the width `bevel` normals turn around the edges: they catch light."""

    center: Point
    radius: float
    half_height: float
    bevel: float

    @property
    def bound(self) -> float:
        return float(np.hypot(self.radius, self.half_height))

    def distance(self, p: Vectors) -> Scalars:
        x, y, z = p - column(self.center, p)
        side, end = np.hypot(x, y) - self.radius, np.abs(z) - self.half_height
        return np.hypot(np.maximum(side, 0), np.maximum(end, 0)) + np.minimum(np.maximum(side, end), 0)

    def hit(self, o: Vectors, d: Vectors) -> Scalars:
        p = o - column(self.center, d)
        # a convex solid: the ray is inside it while it is inside the round wall and between the two ends
        dz = np.where(np.abs(d[2]) < 1e-9, 1e-9, d[2])
        middle, half = -p[2] / dz, np.abs(self.half_height / dz)
        a = np.maximum(d[0] ** 2 + d[1] ** 2, 1e-12)
        nearest = -(p[0] * d[0] + p[1] * d[1]) / a
        gap = (p[0] + nearest * d[0]) ** 2 + (p[1] + nearest * d[1]) ** 2
        chord = np.sqrt(np.maximum(self.radius**2 - gap, 0) / a)
        enter = np.maximum(nearest - chord, middle - half)
        leave = np.minimum(nearest + chord, middle + half)
        t = np.where(enter > T_MIN, enter, leave)
        return np.where((enter < leave) & (t > T_MIN) & (gap < self.radius**2), t, np.inf).astype(d.dtype)

    def normal(self, p: Vectors) -> Vectors:
        x, y, z = p - column(self.center, p)
        rho = np.maximum(np.hypot(x, y), 1e-6)
        side, end = (
            np.clip(1 - depth / self.bevel, 0, 1) for depth in (self.radius - rho, self.half_height - np.abs(z))
        )
        n = np.stack([side * x / rho, side * y / rho, end * np.sign(z)])
        return n / np.maximum(length(n), 1e-6)


@dataclass(frozen=True)
class Capsule:
    """All points within `radius` of the line from a to b."""

    a: Point
    b: Point
    radius: float

    @property
    def center(self) -> Point:
        x, y, z = (np.array(self.a) + np.array(self.b)) / 2
        return float(x), float(y), float(z)

    @property
    def length(self) -> float:
        return float(np.linalg.norm(np.subtract(self.b, self.a)))

    @property
    def bound(self) -> float:
        return self.radius + self.length / 2

    def distance(self, p: Vectors) -> Scalars:
        local, axis = p - column(self.a, p), self.axis(p)
        return length(local - np.clip(dot(local, axis), 0, self.length) * axis) - self.radius

    def axis(self, like: Vectors) -> Vectors:
        return (column(self.b, like) - column(self.a, like)) / self.length

    def hit(self, o: Vectors, d: Vectors) -> Scalars:
        p, axis = o - column(self.a, d), self.axis(d)
        p_along, d_along = dot(p, axis), dot(d, axis)
        p_across, d_across = p - p_along * axis, d - d_along * axis
        a = np.maximum(dot(d_across, d_across), 1e-12)
        nearest = -dot(p_across, d_across) / a
        gap = dot(p_across + nearest * d_across, p_across + nearest * d_across)
        wall = nearest - np.sqrt(np.maximum(self.radius**2 - gap, 0) / a)
        along = p_along + wall * d_along
        # where the endless wall is met beyond an end, only the round cap of that end can be met
        end = np.where(along < 0, 0, self.length)
        cap = _sphere(p - end * axis, d, self.radius)
        t = np.where((along >= 0) & (along <= self.length), wall, cap)
        return np.where((gap < self.radius**2) & (t > T_MIN), t, np.inf).astype(d.dtype)

    def normal(self, p: Vectors) -> Vectors:
        local, axis = p - column(self.a, p), self.axis(p)
        along = np.clip(dot(local, axis), 0, self.length)
        return (local - along * axis) / self.radius


@dataclass(frozen=True)
class Ring:
    """A torus that lies flat: a tube of radius `tube` around a circle of `radius`."""

    center: Point
    radius: float
    tube: float

    @property
    def bound(self) -> float:
        return self.radius + self.tube

    def distance(self, p: Vectors) -> Scalars:
        x, y, z = p - column(self.center, p)
        return np.hypot(np.hypot(x, y) - self.radius, z) - self.tube

    def hit(self, o: Vectors, d: Vectors) -> Scalars:
        return _march(self, self.tube, o, d)

    def normal(self, p: Vectors) -> Vectors:
        x, y, z = p - column(self.center, p)
        inner = 1 - self.radius / np.maximum(np.hypot(x, y), 1e-6)
        return np.stack([x * inner, y * inner, z]) / self.tube


@dataclass(frozen=True)
class Cube:
    """A cube with round edges, turned about the z axis by `turn` radians."""

    center: Point
    half: float
    edge: float
    turn: float

    @property
    def bound(self) -> float:
        return (self.half - self.edge) * 3**0.5 + self.edge

    def local(self, p: Vectors) -> Vectors:
        """Coordinates along the cube's own axes, -half to half."""
        x, y, z = p - column(self.center, p)
        cos, sin = float(np.cos(self.turn)), float(np.sin(self.turn))
        return np.stack([cos * x + sin * y, cos * y - sin * x, z])

    def distance(self, p: Vectors) -> Scalars:
        beyond = np.abs(self.local(p)) - (self.half - self.edge)
        return length(np.maximum(beyond, 0)) + np.minimum(beyond.max(0), 0) - self.edge

    def hit(self, o: Vectors, d: Vectors) -> Scalars:
        return _march(self, self.half, o, d)

    def normal(self, p: Vectors) -> Vectors:
        q = self.local(p)
        q = np.sign(q) * np.maximum(np.abs(q) - (self.half - self.edge), 0)
        x, y, z = q / np.maximum(length(q), 1e-9)
        cos, sin = float(np.cos(self.turn)), float(np.sin(self.turn))
        return np.stack([cos * x - sin * y, sin * x + cos * y, z])


Solid = Ball | Can | Capsule | Ring | Cube


def trace(solids: Sequence[Solid], o: Vectors, d: Vectors) -> tuple[Scalars, Int[np.ndarray, "N"]]:
    """Distance to the first solid that each ray meets and its index; inf and -1 where there is none."""
    nearest = np.full(d.shape[1], np.inf, d.dtype)
    ids = np.full(d.shape[1], -1, np.int8)
    for index, solid in enumerate(solids):
        near = np.flatnonzero(_meets_bound(solid, o, d))
        if near.size:
            t = solid.hit(_take(o, near), d[:, near])
            closer = t < nearest[near]
            nearest[near[closer]], ids[near[closer]] = t[closer], index
    return nearest, ids


def occluded(solids: Sequence[Solid], o: Vectors, d: Vectors) -> Bool[np.ndarray, "N"]:
    """Whether each ray meets any solid."""
    blocked = np.zeros(o.shape[1], bool)
    for solid in solids:
        near = np.flatnonzero(_meets_bound(solid, o, d) & ~blocked)
        if near.size:
            blocked[near] = np.isfinite(solid.hit(o[:, near], _take(d, near)))
    return blocked


def column(point: Sequence[float] | Float[np.ndarray, "3"], like: np.ndarray) -> Float[np.ndarray, "3 1"]:
    """A point that broadcasts against (3, N) arrays, in their dtype."""
    return np.asarray(point, like.dtype)[:, None]


def dot(a: Vectors, b: Vectors) -> Scalars:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def rotate(matrix: Float[np.ndarray, "3 3"], a: Vectors) -> Vectors:
    """matrix @ a, without BLAS: its own threads would get in the way of those that render."""
    return np.stack([dot(column(row, a), a) for row in matrix])


def length(a: Vectors) -> Scalars:
    return np.sqrt(dot(a, a))


def _take(vectors: Vectors, index: Int[np.ndarray, "M"]) -> Float[np.ndarray, "3 #M"]:
    return vectors if vectors.shape[1] == 1 else vectors[:, index]


def _meets_bound(solid: Solid, o: Vectors, d: Vectors) -> Bool[np.ndarray, "N"]:
    p = column(solid.center, d) - o
    along = dot(p, d)
    return (dot(p, p) - along * along < solid.bound**2 * 1.0001) & (along > -solid.bound)


def _sphere(p: Vectors, d: Vectors, radius: float) -> Scalars:
    """Distance from p, relative to the centre, to a sphere."""
    along = -dot(p, d)
    across = p + along * d  # its length is exact in float32; the usual discriminant would cancel
    inside = radius**2 - dot(across, across)
    chord = np.sqrt(np.maximum(inside, 0))
    t = np.where(along - chord > T_MIN, along - chord, along + chord)
    return np.where((inside > 0) & (t > T_MIN), t, np.inf).astype(d.dtype)


def _march(solid: "Ring | Cube", half_height: float, o: Vectors, d: Vectors) -> Scalars:
    """Sphere tracing (Hart 1996) of a solid whose exact distance function is known.

    Starts where the ray is inside both the bound and the layer of half_height above and below the centre; ends with
    Newton steps along the ray, which converge to the rounding error.
    """
    p = o - column(solid.center, d)
    along = -dot(p, d)
    chord = np.sqrt(np.maximum(solid.bound**2 - (dot(p, p) - along * along), 0))
    dz = np.where(np.abs(d[2]) < 1e-9, 1e-9, d[2])
    middle, half = -p[2] / dz, np.abs(half_height / dz) * 1.001 + 1e-5
    start = np.maximum(np.maximum(along - chord, middle - half), 0).astype(d.dtype)
    end = np.minimum(along + chord, middle + half)
    result = np.full(start.size, np.inf, d.dtype)
    left = np.flatnonzero(start < end)
    shared_o, shared_d = (np.broadcast_to(w, (3, start.size)) for w in (o, d))
    for _ in range(50):  # rays that graze take the most
        if not left.size:
            break
        o, d, t = shared_o[:, left], shared_d[:, left], start[left]
        for _ in range(4):  # dropping the rays that are done costs about as much as a step
            step = solid.distance(o + t * d)
            t += step
        start[left] = t
        met = step < 2e-5
        result[left[met]] = t[met]
        left = left[~met & (t < end[left])]
    hit = np.flatnonzero(np.isfinite(result))
    o, d, t = shared_o[:, hit], shared_d[:, hit], result[hit]
    for _ in range(4):
        p = o + t * d
        slope = np.minimum(dot(solid.normal(p), d), -0.01)  # bounded, lest grazing rays jump
        t -= np.clip(solid.distance(p) / slope, -1e-3, 1e-3)
    # a ray that came near but passes by is no hit; one from inside is met at once
    close = solid.distance(o + t * d) < (1e-5 if d.dtype == np.float32 else 1e-8)
    result[hit] = np.where(close, np.maximum(t, 2 * T_MIN), np.inf)
    return result
