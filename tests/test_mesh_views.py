"""Surfaces that are found from the depths of views."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ball_world import CENTRE, RADIUS, Ball, whole

from nerf_pl.export.fusion import LEFT, depth_of, fused
from nerf_pl.export.mesh import mesh_of
from nerf_pl.export.region import box_in_file
from nerf_pl.extras import EXTRAS
from nerf_pl.scenes import load_scene
from nerf_pl.sights import look

for needed in (package for package, of in EXTRAS.items() if of == "mesh" and package != "xatlas"):
    pytest.importorskip(needed, reason='needs the extra mesh: pip install "nerf_pl[mesh]"')
SEEN = {"keep_unseen": False}


@pytest.fixture(scope="module")
def scene(scene_dir):
    scene = load_scene(scene_dir)
    return replace(scene, cameras=scene.cameras.resized(128, 128))


@pytest.mark.parametrize("unbounded", [False, True])
@pytest.mark.parametrize("hollow", [0.0, 0.4])
def test_the_surface_of_a_ball(scene, hollow, unbounded):
    """The inner side of a shell, and what lies on the far side of the ball, no camera sees."""
    found = mesh_of(Ball(hollow), replace(scene, unbounded=unbounded), whole(resolution=40, **SEEN), 1024)
    mesh = found.geometry
    away = np.linalg.norm(mesh.vertices - CENTRE.numpy(), axis=1)
    assert found.threshold is None
    assert np.abs(away - RADIUS).max() < 2 * found.cell
    assert np.abs(away - RADIUS).mean() < 0.3 * found.cell
    outwards = (mesh.vertices - CENTRE.numpy()) / away[:, None]
    assert (mesh.normals * outwards).sum(1).mean() > 0.97
    assert 0 < found.unseen < 1


def test_a_ray_ends_where_a_third_of_its_light_is_lost():
    """Along a ray into a ball, which has one density; from inside of it; and past it."""
    density, origin = 60.0, CENTRE + torch.tensor([2.0, 0.0, 0.0])
    ways = torch.nn.functional.normalize(torch.tensor([[-1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [-1.0, 1.0, 0.0]]), dim=1)
    start, otherwise = torch.tensor([1.2, 1.5, 1.2]), torch.tensor([7.0, 8.0, 9.0])
    depth = depth_of(Ball(), origin, ways, start, start + 0.3, otherwise)
    inside = -math.log(LEFT) / density
    assert depth.tolist() == pytest.approx([2 - RADIUS + inside, 1.5 + inside, 9.0], abs=0.3 / 32)


def test_what_views_say_of_points(scene):
    """In front of the surface, behind it, deep inside, and beyond all pictures."""
    model, sights = Ball(), look(Ball(), scene, 1024)
    camera = sights[0].camera.c2w[0, :, 3]
    towards = torch.nn.functional.normalize(camera - CENTRE, dim=0)
    points = CENTRE + torch.tensor([[RADIUS + 0.3], [RADIUS + 0.02], [RADIUS - 0.05], [0.05]]) * towards
    points = torch.cat([points, torch.tensor([[0.0, 0.0, 90.0]])])
    band = torch.full((5,), 0.1)
    values = fused(sights[:1], points, band, band)
    assert model.density(points).tolist() == [0, 0, 60, 60, 0]
    assert float(values[0]) == -1
    assert -0.5 < float(values[1]) < 0 < float(values[2]) < 1
    assert values[3:].isnan().all()


def test_the_box_of_a_scene_in_its_file(scene):
    frame = torch.diag(torch.tensor([0.5, 0.5, 0.5, 1.0], dtype=torch.float64))
    frame[:3, 3] = 1
    box = (scene.aabb - 1) * 2
    assert box_in_file(replace(scene, frame=frame)) == pytest.approx(box.flatten().tolist(), abs=1e-5)
