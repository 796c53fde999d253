"""Opaque pictures in the Blender layout that show more than an object: a scene without end, as in other layouts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from photo_world import K, check_world, poses, read, worst, write
from PIL import Image
from tiny import config

from nerf_pl.checkpoints import load_split, load_training
from nerf_pl.scenes import Request, frame_of, load_scene

N = 6


@pytest.fixture
def root(tmp_path) -> Path:
    """Photos around a point, the first of them for tests."""
    write(tmp_path, K, [{}] * N)
    values = read(tmp_path)
    for split, frames in (("train", values["frames"][1:]), ("test", values["frames"][:1])):
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps({**values, "frames": frames}))
    return tmp_path


def repaint(root: Path, change) -> None:
    for file in (root / "images").iterdir():
        Image.fromarray(change(np.array(Image.open(file)))).save(file)


def framed_by(picture: np.ndarray) -> np.ndarray:
    """The middle of a picture, on black."""
    picture[:8] = picture[-8:] = picture[:, :8] = picture[:, -8:] = 0
    picture[9, 9] = 0  # which makes it no rectangle
    return picture


def test_photos_get_the_world_of_other_layouts(root, capsys):
    scene = load_scene(root, Request(), "blender")
    assert "the pictures show more than an object" in capsys.readouterr().err
    assert (scene.unbounded, scene.background, scene.orbit) == (True, None, None)
    c2w = poses(N)[1:]
    check_world(scene, c2w)
    (root / "transforms.json").write_text(json.dumps({**read(root), "frames": read(root)["frames"][1:]}))
    same = load_scene(root, Request(test_every=0), "transforms")
    torch.testing.assert_close(scene.cameras.c2w, same.cameras.c2w, atol=1e-5, rtol=0)
    torch.testing.assert_close(scene.aabb, same.aabb)
    assert (scene.near, scene.far) == pytest.approx((same.near, same.far), rel=1e-4)


def test_a_surface_that_fills_the_borders_is_no_background(root):
    """As that of a table, which has a grain."""
    grain = np.random.default_rng(0).integers(-8, 9, (36, 48, 1))

    def on_a_table(picture: np.ndarray) -> np.ndarray:
        table = np.repeat(170 + grain, 3, 2).astype(np.uint8)
        table[9:-9, 9:-9] = picture[9:-9, 9:-9]
        table[18:] = picture[18:]
        return table

    repaint(root, on_a_table)
    assert load_scene(root, Request(), "blender").unbounded


@pytest.mark.parametrize("asked", [{"scale": 1.0}, {"tight": True}, {"endless": False}, {"objects": False}])
def test_who_asks_for_a_box_has_it(root, asked):
    scene = load_scene(root, Request(**asked), "blender")
    assert not scene.unbounded
    assert max(worst(scene, frame_of(scene), i) for i in range(len(scene))) < 3


@pytest.mark.parametrize("plain", ["alpha", "border", "sky"])
def test_objects_keep_their_box(root, plain):
    """Also those of whose borders a good part is plain: it may be what is behind them."""
    changes = {
        "alpha": lambda p: np.dstack([p, np.where(framed_by(p.copy()).any(2), 255, 0).astype(np.uint8)]),
        "border": framed_by,
        "sky": lambda p: np.concatenate([np.full_like(p[:18], 255), p[18:]]),
    }
    repaint(root, changes[plain])
    assert not load_scene(root, Request(), "blender").unbounded


def test_a_run_decides_once_for_all_splits(root):
    """Whatever the pictures of a test split show."""
    options = config("ngp")
    data, model = replace(options.data, dataset_name="blender"), replace(options.model, unbounded=None)
    options = replace(options, data=data, model=model)
    decided, scene = load_training(options, root)
    model: Any = decided.model
    assert model.unbounded
    file = root / "images" / "000.png"
    Image.new("RGB", (48, 36), (90, 20, 20)).save(file)
    for pictures in (True, False):
        test = load_split(decided, root, "test", pictures)
        assert test.unbounded
        torch.testing.assert_close(frame_of(test), frame_of(scene))
    asked = replace(options, data=replace(options.data, aabb=(0.0, -1.0, -5.0, 4.0, 3.0, -1.0)))
    decided, scene = load_training(asked, root)
    assert not scene.unbounded
    torch.testing.assert_close(frame_of(load_split(decided, root, "test")), frame_of(scene))
