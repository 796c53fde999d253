"""benchmarks/objects.py, synthetic scenes of objects: that they are scenes, and show one world."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nerf_pl.scenes import Request, Scene, load_scene

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not (BENCHMARKS / "objects.py").is_file(), reason="needs the source tree")
VIEWS, WIDTH = (4, 1, 2), 96


@pytest.fixture(scope="module")
def objects():
    pytest.importorskip("numba")
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("objects")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def scenes(objects, tmp_path_factory) -> dict[str, Scene]:
    """A small scene of each kind, and one of another seed."""
    root = tmp_path_factory.mktemp("objects")
    for kind in objects.KINDS:
        objects.make_scene(root / kind, kind, WIDTH, VIEWS, rays=3, fine=False)
    objects.make_scene(root / "other", "leaves", WIDTH, VIEWS, seed=1, rays=3, fine=False)
    return {path.name: load_scene(path) for path in root.iterdir()}


@pytest.mark.parametrize("kind", ["leaves", "water", "drums", "cloth"])
def test_it_loads_as_a_blender_scene(scenes, kind):
    scene = scenes[kind]
    assert (scene.near, scene.far, scene.background) == (2, 6, (1, 1, 1))
    assert tuple(scene.images.shape) == (VIEWS[0], WIDTH, WIDTH, 4)
    colours, alpha = scene.images[..., :3], scene.images[..., 3]
    assert float(colours[alpha == 255].float().std()) > 30
    assert 0.08 < float((alpha > 0).float().mean()) < 0.7
    for edge in (alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]):
        assert float((edge > 0).float().mean()) < 0.1  # pictures hold the object


def test_water_and_drums_are_seen_through(scenes):
    """Their alpha is partial on whole areas, that of leaves and cloth at edges alone."""
    within = {}
    for kind, scene in scenes.items():
        alpha = scene.images[..., 3]
        partial = ((alpha > 50) & (alpha < 240)).float()
        areas = torch.nn.functional.avg_pool2d(partial, 5, 1)
        within[kind] = float((areas > 0.999).float().mean())
    assert within["water"] > 0.1
    assert within["drums"] > 0.003
    assert within["leaves"] < 1e-3
    assert within["cloth"] < 1e-3


def test_splits_and_seeds_have_pictures_of_their_own(scenes):
    train, other = scenes["leaves"], scenes["other"]
    test = load_scene(train.root, Request("test"))
    assert len(test) == VIEWS[2]
    assert float((train.images.float() - other.images.float()).abs().mean()) > 5
    assert float((train.images[: len(test)].float() - test.images.float()).abs().mean()) > 5


def test_processes_draw_the_same(objects, scenes, tmp_path):
    objects.make_scene(tmp_path / "two", "drums", WIDTH, (2, 1, 1), rays=3, processes=2, fine=False)
    assert torch.equal(load_scene(tmp_path / "two").images, scenes["drums"].images[:2])


def test_pictures_show_what_the_cameras_say(objects, tmp_path, monkeypatch):
    """A red ball is seen in each picture where the camera of its view has it."""
    at, middle, unit = (0.2, -0.1, 0.5), 0.3, 0.4
    kinds, tracer = (importlib.import_module(name) for name in ("object_kinds", "room_tracer"))
    balls = [
        kinds.ball(at, 0.03, tracer.Look(kinds.PLASTER, (0.9, 0.0, 0.0))),
        kinds.ball((0, 0, middle), 0.03, tracer.Look(kinds.PLASTER, (0.0, 0.9, 0.0))),
    ]
    monkeypatch.setitem(objects.KINDS, "balls", kinds.Kind(lambda rng: iter(balls), middle, unit))
    objects.make_scene(tmp_path / "balls", "balls", WIDTH, VIEWS, rays=3, fine=False)
    scene = load_scene(tmp_path / "balls")
    place = (torch.tensor(at, dtype=torch.float64) - torch.tensor((0, 0, middle))) / unit
    seen = 0
    for i, image in enumerate(scene.images.int().numpy()):
        rows, columns = np.nonzero((image[..., 0] > 2 * image[..., 1]) & (image[..., 3] > 127))
        c2w, K = scene.cameras.c2w[i].double(), scene.cameras.K[i].double()
        x, y, z = (c2w[:, :3].T @ (place - c2w[:, 3])).tolist()
        u, v = K[0, 2] - K[0, 0] * x / z, K[1, 2] + K[1, 1] * y / z
        if not (5 < u < WIDTH - 5 and 5 < v < WIDTH - 5):
            continue
        seen += 1
        assert abs(columns.mean() + 0.5 - u) < 0.4
        assert abs(rows.mean() + 0.5 - v) < 0.4
    assert seen >= 3
