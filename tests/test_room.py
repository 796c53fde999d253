"""benchmarks/room.py, the synthetic scene of many photos: that it is a scene, and shows one world."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nerf_pl.scenes import Request, Scene, load_scene
from nerf_pl.scenes.scene import frame_of

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not (BENCHMARKS / "room.py").is_file(), reason="needs the source tree")
BALL = (0.05, -0.05, 1.36)  # shines in the air above the tree
VIEWS, WIDTH = 8, 144
LAYOUTS = ("llff", "transforms")


@pytest.fixture(scope="module")
def room():
    pytest.importorskip("numba")
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("room")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def scenes(room, tmp_path_factory) -> dict[str, Scene]:
    """A small room in both layouts, with a ball of a colour that nothing else has."""
    things, tracer = importlib.import_module("room_things"), importlib.import_module("room_tracer")
    root, usual = tmp_path_factory.mktemp("room"), room.furniture
    marker = things.ball(BALL, 0.05, tracer.Look(things.LAMP, (0.0, 9.0, 9.0)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "furniture", lambda rng: [*usual(rng), marker])
        for layout in LAYOUTS:
            room.make_room(root / layout, VIEWS, WIDTH, layout=layout, fine=False)
    return {layout: load_scene(root / layout) for layout in LAYOUTS}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_loads_as_a_scene_all_around(scenes, layout):
    scene = scenes[layout]
    assert scene.unbounded
    assert scene.ndc is None
    assert tuple(scene.images.shape) == (VIEWS - 1, WIDTH * 2 // 3, WIDTH, 3)
    assert 60 < float(scene.images.float().mean()) < 200
    assert float(scene.images.float().std()) > 30


def test_layouts_agree(scenes):
    llff, transforms = (scenes[layout] for layout in LAYOUTS)
    assert torch.equal(llff.images, transforms.images)  # the same seed gives the same pictures
    poses = [torch.linalg.inv(frame_of(scene))[:3] @ square(scene) for scene in (llff, transforms)]
    torch.testing.assert_close(*[unit(pose) for pose in poses], atol=1e-5, rtol=0)
    torch.testing.assert_close(llff.cameras.K, transforms.cameras.K)


def square(scene: Scene) -> torch.Tensor:
    """Camera-to-world matrices with four rows."""
    last = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]], dtype=torch.float64).expand(len(scene), 1, 4)
    return torch.cat([scene.cameras.c2w.double(), last], 1)


def unit(c2w: torch.Tensor) -> torch.Tensor:
    """With axes of length 1, whatever the unit of length."""
    return torch.cat([torch.nn.functional.normalize(c2w[:, :, :3], dim=1), c2w[:, :, 3:]], 2)


def test_another_seed_gives_other_pictures(room, scenes, tmp_path):
    room.make_room(tmp_path / "other", 2, WIDTH, seed=1, layout="both", fine=False)
    (tmp_path / "other" / "transforms.json").unlink()
    other = load_scene(tmp_path / "other", Request(pictures=True))
    assert float((other.images[0].float() - scenes["llff"].images[0].float()).abs().mean()) > 5


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_show_what_the_cameras_say(scenes, layout):
    """The ball is seen in each picture where the camera of its view has it."""
    scene = scenes[layout]
    at = (frame_of(scene) @ torch.tensor([*BALL, 1.0], dtype=torch.float64))[:3]
    missed = []
    for i, image in enumerate(scene.images.int().numpy()):
        rows, columns = np.nonzero((image[..., 0] < 60) & (image[..., 1:] > 180).all(-1))
        assert len(rows) > 20
        c2w, K = scene.cameras.c2w[i].double(), scene.cameras.K[i].double()
        x, y, z = (c2w[:, :3].T @ (at - c2w[:, 3])).tolist()
        u, v = K[0, 2] - K[0, 0] * x / z, K[1, 2] + K[1, 1] * y / z
        missed.append((float(columns.mean() + 0.5 - u), float(rows.mean() + 0.5 - v)))
    assert np.abs(missed).max() < 0.5  # pixels
    assert np.abs(np.mean(missed, 0)).max() < 0.15
