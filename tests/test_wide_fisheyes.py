"""Fisheye photos that are too wide for one view, and circles that do not count."""

import math
from pathlib import Path

import numpy as np
import photo_world
import pytest
import torch
from photo_world import check_world, poses, worst, write
from PIL import Image

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, Scene, frame_of, load_scene
from nerf_pl.scenes.undistort import fisheye_look
from nerf_pl.scenes.wide import fisheye

CIRCLE = {"w": 200, "h": 200, "fl_x": 63.66, "fl_y": 63.66, "cx": 100.0, "cy": 100.0, "camera_model": "wide"}
LIMIT = 3.0  # 8-bit steps


def load(root: Path, **asked: object) -> Scene:
    return load_scene(root, Request(**{"test_every": 0, "background": "none", **asked}))


def write_fisheyes(root: Path, lens: dict, told: dict | None = None, n: int = 2) -> torch.Tensor:
    """Photos through a lens that may see more than half of the sphere."""
    return write(root, lens, [{}] * n, {"camera_model": "OPENCV_FISHEYE", "field": None, **(told or {})})


@pytest.mark.parametrize("kind", ["OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "FISHEYE", "THIN_PRISM_FISHEYE"])
def test_wide_fisheyes_of_colmap(tmp_path, kind):
    pytest.importorskip("pycolmap")
    from colmap_files import write_model, write_pictures

    k1 = 0.0 if kind == "FISHEYE" else 0.01
    lens = CIRCLE | {"k1": k1, "field": 170.0}
    f, middle = [CIRCLE["fl_x"]], [100.0, 100.0]
    params = {
        "OPENCV_FISHEYE": [*f, *f, *middle, k1, 0.0, 0.0, 0.0],
        "SIMPLE_RADIAL_FISHEYE": [*f, *middle, k1],
        "FISHEYE": [*f, *f, *middle],
        "THIN_PRISM_FISHEYE": [*f, *f, *middle, k1, *[0.0] * 7],
    }[kind]
    c2w = poses(2)
    write_model(tmp_path / "sparse" / "0", c2w.numpy(), [(kind, params, (200, 200))])
    write_pictures(tmp_path / "images", [photo_world.photo(pose, lens) for pose in c2w])
    scene = load(tmp_path)
    assert len(scene) == 10
    assert max(worst(scene, frame_of(scene), i) for i in range(10)) < LIMIT
    assert seen_share(scene, 5, math.radians(84)) > 0.97


def seen_share(scene: Scene, views: int, angle: float) -> float:
    """Of the directions up to an angle from the axis of the first photo, how many the first views see."""
    front = scene.cameras.c2w[0]
    ring = np.linspace(0, angle, 40)[:, None], np.linspace(0, 2 * math.pi, 60)[None]
    away = [np.sin(ring[0]) * np.cos(ring[1]), np.sin(ring[0]) * np.sin(ring[1]), -np.cos(ring[0]) + 0 * ring[1]]
    directions = torch.from_numpy(np.stack(away, -1).reshape(-1, 3)).float() @ front[:, :3].T
    seen = torch.zeros(len(directions), dtype=torch.bool)
    for i in range(views):
        local = directions @ scene.cameras.c2w[i, :, :3]
        K, (width, height) = scene.cameras.K[i], scene.cameras.size(i)
        x, y = (local[:, 0] / -local[:, 2] * K[0, 0] + K[0, 2]), (-local[:, 1] / -local[:, 2] * K[1, 1] + K[1, 2])
        inside = (local[:, 2] < 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        mask = scene.mask(i)
        assert mask is not None
        seen[inside] |= mask[y[inside].long(), x[inside].long()]
    return float(seen.float().mean())


WIDE = {
    "180 degrees in a circle": (CIRCLE | {"field": 180.0}, {}, 5, 87),
    "a crop radius": (CIRCLE, {"fisheye_crop_radius": 90.0}, 5, 78),
    "220 degrees": (CIRCLE | {"fl_x": 50.0, "fl_y": 50.0, "field": 220.0}, {}, 5, 105),
    "wide alone": ({**CIRCLE, "h": 140, "cy": 70.0, "fl_x": 88.0, "fl_y": 88.0, "k1": 0.01}, {}, 3, 43),
    "high alone": ({**CIRCLE, "w": 140, "cx": 71.0, "fl_x": 88.0, "fl_y": 88.0}, {}, 3, 43),
}


@pytest.mark.parametrize("name", WIDE)
def test_wide_fisheyes_keep_their_field(tmp_path, capsys, name):
    lens, told, views, angle = WIDE[name]
    c2w = write_fisheyes(tmp_path, lens, told)
    scene = load(tmp_path)
    assert len(scene) == 2 * views
    assert scene.names[0] == "000/front"
    check_world(scene, c2w, LIMIT)
    assert seen_share(scene, views, math.radians(angle)) > 0.97
    told = capsys.readouterr().err
    assert told.count(f"2 fisheye photos are cut into {2 * views} views; they see") == 1
    assert ("black and do not count" in told) == ("field" in lens)
    half = load(tmp_path, downscale=2)
    assert all(
        abs(2 * a - b) <= 2
        for i in range(views)
        for a, b in zip(half.cameras.size(i), scene.cameras.size(i), strict=True)
    )
    assert max(worst(half, frame_of(half), i) for i in range(views)) < 4 * LIMIT


@pytest.mark.parametrize("radius", [None, 60.0])
def test_narrower_fisheyes_stay_one_view(tmp_path, capsys, radius):
    lens = {**CIRCLE, "fl_x": 110.0, "fl_y": 110.0}
    c2w = write_fisheyes(tmp_path, lens, {"fisheye_crop_radius": radius})
    scene = load(tmp_path)
    assert (len(scene), scene.photos, scene.names) == (2, (), ("000", "001"))
    check_world(scene, c2w, LIMIT)
    assert "cut into" not in capsys.readouterr().err
    if radius is None:
        assert scene.masks is None
        return
    # the radius is in pixels of the photo: an angle of 60 / 110
    directions = (scene.view(0).rays().directions @ -scene.cameras.c2w[0, :, 2]).view(200, 200)
    apart = (directions.acos() - radius / 110.0).abs() * 110
    clear = apart > 0.5
    assert scene.masks is not None
    assert (scene.masks[0] == (directions.acos() < radius / 110.0))[clear].all()


def test_a_crop_radius_counts_for_plain_cameras_too_and_for_the_size_that_is_told(tmp_path):
    write(tmp_path, photo_world.K, [{}] * 2, {"fisheye_crop_radius": 15.0})
    mask = load(tmp_path).masks
    assert mask is not None
    y, x = np.mgrid[:36, :48] + 0.5
    assert (mask[0].numpy() == (np.hypot(x - 24, y - 18) <= 15)).all()
    for file in (tmp_path / "images").iterdir():
        Image.open(file).resize((24, 18)).save(file)
    mask = load(tmp_path).masks
    assert mask is not None
    y, x = np.mgrid[:18, :24] + 0.5
    assert (mask[0].numpy() == (np.hypot(x - 12, y - 9) <= 7.5)).all()


def test_a_lens_is_not_followed_beyond_where_it_folds():
    K = np.array([[60.0, 0, 100], [0, 60.0, 100], [0, 0, 1]])
    cut = fisheye((200, 200), fisheye_look(K, (-0.1, 0.0, 0.0, 0.0)), K, None)
    assert cut.look is not None
    fold = math.sqrt(1 / 0.3)  # where the derivative of a - 0.1 a^3 is 0
    angles = np.array([0.5, fold - 0.01, fold + 0.01, 2.5])
    place = cut.look(np.stack([np.sin(angles), 0 * angles, np.cos(angles)], -1))
    assert np.isnan(place).any(1).tolist() == [False, False, True, True]


@pytest.mark.parametrize("asked", ["none", "alpha"])
def test_what_lies_outside_the_circle_is_neither_shown_nor_empty(tmp_path, asked):
    write_fisheyes(tmp_path / "wide", CIRCLE, {"fisheye_crop_radius": 90.0})
    write(tmp_path / "plain", photo_world.K, [{}] * 2, {"fisheye_crop_radius": 15.0})
    for kind in ("wide", "plain"):
        with pytest.raises(UserError, match=f"--masks {asked}"):
            load(tmp_path / kind, masks=asked)
