"""The solids of the built-in scene: rays meet them where their definitions say."""

import math

import numpy as np
import pytest

from nerf_pl.scenes.demo import shapes
from nerf_pl.scenes.demo.look import SOLIDS, STRIPED_BALL


def random_rays(n, dtype, seed=0):
    """From a sphere around the scene towards it."""
    rng = np.random.default_rng(seed)
    o = rng.standard_normal((3, n))
    o *= 4 / np.linalg.norm(o, axis=0)
    d = rng.uniform(-1, 1, (3, n)) - o
    return o.astype(dtype), (d / np.linalg.norm(d, axis=0)).astype(dtype)


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda solid: type(solid).__name__)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-7), (np.float32, 2e-5)])
def test_hits_lie_on_the_surface_and_face_the_ray(solid, dtype, tolerance):
    o, d = random_rays(20_000, dtype)
    t = solid.hit(o, d)
    assert t.dtype == dtype
    hit = np.isfinite(t)
    assert hit.mean() > 0.001
    p = (o + np.where(hit, t, 0) * d)[:, hit]
    assert np.abs(surface_distance(solid, p.astype(np.float64))).max() < tolerance
    n = solid.normal(p)
    np.testing.assert_allclose(np.linalg.norm(n, axis=0), 1, atol=1e-3)
    bevelled = isinstance(solid, shapes.Can)  # there the shading normal is bent on purpose
    assert (shapes.dot(n, d[:, hit]) < (0.8 if bevelled else 1e-2)).all()


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda solid: type(solid).__name__)
def test_no_hit_is_missed(solid):
    """Dense steps along each ray find no inside before the hit, and none at all on rays that miss."""
    o, d = random_rays(4000, np.float64, seed=1)
    first = np.full(4000, np.inf)
    for t in np.arange(2.0, 6.5, 0.004)[::-1]:
        first[surface_distance(solid, o + t * d) < 0] = t
    hit = solid.hit(o, d)
    both = np.isfinite(first) & np.isfinite(hit)
    assert both.sum() > 5
    assert ((first[both] - hit[both] > -1e-6) & (first[both] - hit[both] < 0.0041)).all()
    assert not (np.isfinite(first) & ~np.isfinite(hit)).any()
    only_hit = np.isfinite(hit) & ~np.isfinite(first)  # chords shorter than a step
    assert only_hit.sum() < 0.05 * both.sum() + 3


def surface_distance(solid, p):
    """Signed distance from its definition, written apart from the code under test; exact near the surface."""
    q = p - np.array(solid.center)[:, None]
    if isinstance(solid, shapes.Ball):
        return np.linalg.norm(q, axis=0) - solid.radius
    if isinstance(solid, shapes.Can):
        return np.maximum(np.hypot(q[0], q[1]) - solid.radius, np.abs(q[2]) - solid.half_height)
    if isinstance(solid, shapes.Ring):
        circle = q * [[1], [1], [0]]
        circle *= solid.radius / np.linalg.norm(circle, axis=0)
        return np.linalg.norm(q - circle, axis=0) - solid.tube
    if isinstance(solid, shapes.Capsule):
        line = np.subtract(solid.b, solid.a)[:, None]
        share = np.clip(((p - np.array(solid.a)[:, None]) * line).sum(0) / (line * line).sum(), 0, 1)
        return np.linalg.norm(p - np.array(solid.a)[:, None] - share * line, axis=0) - solid.radius
    cos, sin = math.cos(solid.turn), math.sin(solid.turn)
    q = np.abs(np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) @ q)
    core = np.minimum(q, solid.half - solid.edge)
    return np.linalg.norm(q - core, axis=0) - solid.edge


def test_solids_do_not_overlap():
    points = np.random.default_rng(0).uniform(-1.2, 1.2, (3, 200_000))
    inside = np.stack([surface_distance(solid, points) < -1e-3 for solid in SOLIDS])
    assert inside.any(1).all()
    # the striped ball sinks a little into the column that carries it
    apart = inside[[index for index, solid in enumerate(SOLIDS) if solid is not STRIPED_BALL]]
    assert apart.sum(0).max() == 1


def test_occluded_agrees_with_trace():
    o, d = random_rays(5000, np.float32, seed=2)
    assert (shapes.occluded(SOLIDS, o, d) == np.isfinite(shapes.trace(SOLIDS, o, d)[0])).all()
