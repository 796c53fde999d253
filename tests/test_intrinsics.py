"""Intrinsics mean the same in every JSON layout. What would change the rays is never ignored."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from photo_world import LENS, K, read, worst, write
from PIL import Image

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, Scene, frame_of, load_scene
from nerf_pl.scenes.lenses import half_view, read_lens
from nerf_pl.scenes.undistort import opencv

X, Y = 2 * math.atan(24 / 60), 2 * math.atan(18 / 62)
PIXELS = ["fl_x", "fl_y", "cx", "cy", "w", "h"]
NONE = dict.fromkeys(PIXELS)
MIDDLE = {**K, "cx": 24.0, "cy": 18.0}


@pytest.fixture(params=["blender", "transforms"])
def layout(request) -> str:
    return request.param


def load(root: Path, layout: str, change: Callable[[dict], object] = lambda values: None) -> Scene:
    """The scene that `photo_world.write` wrote, in a layout, after a change of its file."""
    values = read(root)
    change(values)
    values = {key: value for key, value in values.items() if value is not None}
    file = root / ("transforms_train.json" if layout == "blender" else "transforms.json")
    (root / "transforms.json").unlink()
    file.write_text(json.dumps(values))
    return load_scene(root, Request(test_every=0), layout)


def check(scene: Scene, limit: float = 2.0) -> None:
    for index in range(len(scene)):
        assert worst(scene, frame_of(scene), index) < limit


def complaint(root: Path, layout: str, change: Callable[[dict], object], *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        load(root, layout, change)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


WAYS: dict[str, tuple[dict, list[dict], dict]] = {
    "pixels": (K, [{}] * 2, {}),
    "short names": (K, [{}] * 2, {"fl_x": None, "fl_y": None, "fx": 60.0, "fy": 62.0}),
    "lens": ({**K, **LENS}, [{}] * 2, {}),
    "fisheye": ({**K, "k1": 0.1, "k2": -0.02, "is_fisheye": True}, [{}] * 2, {}),
    "fisheye by name": ({**K, "k1": 0.3, "k3": 0.05, "camera_model": "OPENCV_FISHEYE"}, [{}] * 2, {}),
    "angles": (MIDDLE, [{}] * 2, {**NONE, "camera_angle_x": X, "camera_angle_y": Y}),
    "degrees": (MIDDLE, [{}] * 2, {**NONE, "x_fov": math.degrees(X), "y_fov": math.degrees(Y)}),
    "vertical angle": ({**MIDDLE, "fl_x": 62.0}, [{}] * 2, {**NONE, "camera_angle_y": Y}),
    "frame over file": ({**K, **LENS}, [{}, {"fl_x": 90.0}, {"k1": -0.2, "p1": 0.0}], {}),
    "mixed sizes": ({**K, **LENS}, [{}, {"w": 36, "h": 48, "cx": 17.0, "cy": 25.0}, {"w": 40, "h": 30, "cy": 15}], {}),
    "harmless": (
        K,
        [{"rotation": 0.01, "sharpness": 20.0, "colmap_im_id": 3}] * 2,
        {"rolling_shutter": [0, 0, 0, 0], "ortho": False, "is_fisheye": False, "k5": 0, "skew": 0.0, "aabb": [1]},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_views_agree_with_the_world(tmp_path, layout, way):
    shared, frames, told = WAYS[way]
    write(tmp_path, shared, frames, told)
    check(load(tmp_path, layout))


def test_an_angle_in_each_frame(tmp_path, layout):
    frames = [{**MIDDLE, "fl_x": focal, "fl_y": focal} for focal in (50.0, 60.0, 75.0)]
    write(tmp_path, {}, frames)

    def change(values: dict) -> None:
        values["camera_angle_x"] = 0.3  # of no frame
        for frame in values["frames"]:
            focal = frame["fl_x"]
            for name in PIXELS:
                del frame[name]
            frame["camera_angle_x"] = 2 * math.atan(24 / focal)

    check(load(tmp_path, layout, change))


def test_an_angle_of_a_frame_counts_more_than_a_length_of_the_file(tmp_path, layout, capsys):
    write(tmp_path, {**MIDDLE, "fl_y": 60.0}, [{}] * 2)

    def change(values: dict) -> None:
        values.update(fl_x=300.0, fl_y=None)
        for frame in values["frames"]:
            frame["camera_angle_x"] = X

    check(load(tmp_path, layout, change))
    assert "is taken, though" not in capsys.readouterr().err


def test_what_differs_is_said_once(tmp_path, layout, capsys):
    write(tmp_path, K, [{}] * 3)
    check(load(tmp_path, layout, lambda values: values.update(camera_angle_x=0.5, camera_angle_y=Y * 1.001)))
    told = capsys.readouterr().err
    assert told.count("is taken, though") == 1
    assert "frame 0 (images/000.png) (and 2 more): fl_x (60) is taken, though camera_angle_x (0.5) tells 93.9" in told


def test_pictures_at_another_resolution(tmp_path, layout):
    write(tmp_path, {**K, **LENS}, [{}] * 2)
    larger = {"w": 480, "h": 360, "fl_x": 600.0, "fl_y": 620.0, "cx": 253.0, "cy": 171.0}
    check(load(tmp_path, layout, lambda values: values.update(larger)))


def test_pictures_of_several_sizes_may_share_an_angle_if_they_have_one_shape(tmp_path, layout):
    write(tmp_path, {**MIDDLE, "fl_y": 60.0}, [{}] * 3)
    small = tmp_path / "images" / "001.png"
    Image.open(small).resize((24, 18), Image.Resampling.BOX).save(small)
    scene = load(tmp_path, layout, lambda values: values.update({**NONE, "camera_angle_x": X}))
    assert scene.cameras.size(1) == (24, 18)
    check(scene, 8.0)
    Image.open(small).resize((24, 24)).save(small)
    (tmp_path / "transforms.json").write_text((next(tmp_path.glob("*.json"))).read_text())
    complaint(tmp_path, layout, lambda values: None, "frame 1", "001.png has 24x24", "000.png 48x36", "one shape")


@pytest.mark.parametrize(
    ("told", "parts"),
    [
        ({**NONE}, ["no focal length"]),
        ({**NONE, "fov": 50.0}, ["no focal length", "fov", "fl_x"]),
        ({**NONE, "intrinsics": [[60, 0, 24], [0, 60, 18], [0, 0, 1]]}, ["no focal length", "intrinsics"]),
        ({"fl_x": 0}, ["fl_x is 0"]),
        ({"fx": -60.0, "fl_x": None}, ["fx is -60"]),
        ({"fl_x": 1.2}, ["fl_x is 1.2", "for a picture of 48"]),
        ({"fl_x": 1e9}, ["fl_x is 1e+09", "correct it"]),
        ({"fl_x": float("nan")}, ["fl_x is nan"]),
        ({**NONE, "camera_angle_x": math.pi}, ["camera_angle_x is 3.14", "0 to pi"]),
        ({**NONE, "camera_angle_x": 3.1415}, ["camera_angle_x is 3.14", "focal length"]),
        ({**NONE, "camera_angle_y": -0.5}, ["camera_angle_y is -0.5"]),
        ({**NONE, "x_fov": 180}, ["x_fov is 180", "0 to 180"]),
        ({"cx": 0.5}, ["cx is 0.5"]),
        ({"cy": -1e5}, ["cy is -100000"]),
        ({"w": None, "h": None, "cx": 48.0}, ["cx is 48", "give w and h"]),
        ({"w": 36}, ["w 36, h 36", "48x36", "aspect ratio"]),
        ({"h": None}, ["h is missing"]),
        ({"camera_model": "ORTHOPHOTO"}, ["camera_model 'ORTHOPHOTO'"]),
        ({"camera_type": "vr180"}, ["camera_type 'vr180'"]),
        ({"camera_model": "PINHOLE", "is_fisheye": True}, ["is_fisheye true contradicts"]),
        ({"camera_model": "OPENCV_FISHEYE", "is_fisheye": False}, ["is_fisheye false contradicts"]),
        ({"is_fisheye": "yes"}, ["is_fisheye is 'yes'"]),
        ({"is_fisheye": True, "k5": 0.1}, ["k5 is 0.1"]),
        ({"rolling_shutter": [0, 0.1, 0, 0]}, ["rolling_shutter is [0, 0.1, 0, 0]"]),
        ({"ortho": True}, ["ortho is True"]),
        ({"skew": 0.3}, ["skew is 0.3"]),
        ({"distortion_params": [0.1, 0, 0, 0]}, ["distortion_params is"]),
        ({"k7": 0.3}, ["k7 is 0.3"]),
        ({"k1": "a"}, ["k1 is 'a'"]),
        ({"p2": float("inf")}, ["p2 is inf"]),
    ],
)
@pytest.mark.parametrize("place", ["file", "frame"])
def test_what_makes_no_sense_or_is_not_understood(tmp_path, layout, told, parts, place):
    write(tmp_path, K, [{}] * 2)

    def change(values: dict) -> None:
        (values if place == "file" else values["frames"][1]).update(told)

    complaint(tmp_path, layout, change, *parts, *(["frame 1 (images/001.png)"] if place == "frame" else []))


def test_the_rational_lens_of_opencv():
    """Its coefficients from k4 on are in the denominator."""
    coefficients = {"k1": 0.2, "k2": -0.03, "p1": 0.001, "p2": 0.002, "k3": 0.01, "k4": 0.3, "k5": 0.05, "k6": -0.01}
    xy = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 2))
    seen = read_lens("a.json", {**K, **coefficients}, (48, 36)).project()(xy)
    x, y, r2 = xy[:, 0], xy[:, 1], (xy**2).sum(1)
    radial = (1 + 0.2 * r2 - 0.03 * r2**2 + 0.01 * r2**3) / (1 + 0.3 * r2 + 0.05 * r2**2 - 0.01 * r2**3)
    u = x * radial + 0.002 * x * y + 0.002 * (r2 + 2 * x * x)
    v = y * radial + 0.001 * (r2 + 2 * y * y) + 0.004 * x * y
    np.testing.assert_allclose(seen, np.stack([60 * u + 25.3, 62 * v + 17.1], 1), rtol=1e-12)
    four = {"k4": 0.3, "camera_model": "FULL_OPENCV"}
    assert read_lens("a.json", {**K, **four}, (48, 36)).rational == (0.3, 0, 0)
    plain = read_lens("a.json", {**K, "k4": 0.3}, (48, 36))
    np.testing.assert_allclose(plain.project()(xy), opencv(plain.K, (0, 0, 0, 0.3))(xy))


def test_a_field_of_view_without_pictures():
    spellings: list[dict] = [K, {"camera_angle_x": X}, {"x_fov": math.degrees(X)}, {"fl_x": 60.0, "cx": 24.0}]
    for values in spellings:
        assert half_view("a.json", values) == pytest.approx(24 / 60)
    assert half_view("a.json", {"fl_x": 60.0}) is None
    assert half_view("a.json", {}) is None


def test_masks_of_the_blender_layout(tmp_path):
    write(tmp_path, K, [{}] * 2)
    shows = np.zeros((36, 48), np.uint8)
    shows[:20] = 255
    Image.fromarray(shows).save(tmp_path / "shows.png")
    scene = load(tmp_path, "blender", lambda values: values["frames"][1].update(mask_path="shows.png"))
    assert scene.masks is not None
    assert scene.masks[0].all()
    assert (scene.masks[1].numpy() == (shows > 0)).all()


@pytest.mark.parametrize("scale", [1.0, 2.5, 0.01])
def test_scaled_axes_are_said_once(tmp_path, layout, scale, capsys):
    c2w = write(tmp_path, K, [{}] * 3)

    def change(values: dict) -> None:
        for frame in values["frames"][1:]:
            frame["transform_matrix"] = [
                [scale * x for x in row[:3]] + row[3:] for row in frame["transform_matrix"][:3]
            ]

    scene = load(tmp_path, layout, change)
    check(scene)
    told = capsys.readouterr().err
    assert told.count("only their directions are taken") == (scale != 1)
    assert f"the axes of 2 of 3 poses are not of length 1 but {scale:g}" in told or scale == 1
    turned = scene.cameras.c2w[:, :, :3].double()
    torch.testing.assert_close(turned.mT @ turned, torch.eye(3).double().expand(len(c2w), 3, 3), atol=1e-6, rtol=0)
