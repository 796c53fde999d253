"""transforms.json that cannot be read as it is: one clear line each."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request
from nerf_pl.scenes.transforms import load_transforms

POSE = [[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, -1.0, -4.0], [0.0, 1.0, 0.0, 0.25], [0.0, 0.0, 0.0, 1.0]]
INF = float("inf")


def write(root: Path, n: int = 4) -> dict:
    (root / "images").mkdir()
    frames = []
    for i in range(n):
        pixels = np.random.default_rng(i).integers(0, 256, (36, 48, 3), np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": POSE})
    values = {"fl_x": 50.0, "w": 48, "h": 36, "frames": frames}
    save(root, values)
    return values


def save(root: Path, values: object) -> None:
    (root / "transforms.json").write_text(json.dumps(values))


def complaint(root: Path, *parts: str, split: str = "train", **options) -> None:
    """Loading ends with one line that holds each of `parts`."""
    with pytest.raises(UserError) as caught:
        load_transforms(root, Request(split, **options))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"frames": [', "line 1"),
        ("[]", "frames is missing"),
        ("{}", "frames is missing"),
        ('{"frames": {}}', "frames is missing"),
        ('{"frames": []}', "frames is empty"),
        ('{"frames": [7]}', "frame 0 has no file_path"),
        ('{"frames": [{"file_path": 3}]}', "frame 0 has no file_path"),
        ('{"frames": [{"file_path": "a"}]}', "frame 0 (a) has no 4x4"),
    ],
)
def test_malformed_files(tmp_path, text, part):
    (tmp_path / "transforms.json").write_text(text)
    complaint(tmp_path, "transforms.json", part)


def test_no_file(tmp_path):
    complaint(tmp_path, "transforms.json", "No such file")


@pytest.mark.parametrize(
    ("shared", "parts"),
    [
        ({"fl_x": None}, ["no focal length", "camera_angle_x"]),
        ({"fl_x": 0}, ["fl_x is 0"]),
        ({"fl_x": "50"}, ["fl_x is '50'", "finite number"]),
        ({"fl_y": -3.0}, ["fl_y is -3"]),
        ({"fl_x": True}, ["fl_x is True"]),
        ({"fl_x": INF}, ["fl_x is inf"]),
        ({"fl_x": None, "camera_angle_x": 40.0}, ["camera_angle_x is 40", "radians"]),
        ({"cx": [1]}, ["cx is [1]"]),
        ({"k1": float("nan")}, ["k1 is nan"]),
        ({"k1": -90.0}, ["coefficients right"]),
        ({"w": None}, ["w is missing"]),
        ({"h": None}, ["h is missing"]),
        ({"w": 0}, ["w 0, h 36"]),
        ({"w": 36}, ["w 36, h 36", "48x36", "aspect ratio"]),
        ({"camera_model": "EQUIRECTANGULAR"}, ["'EQUIRECTANGULAR'", "OPENCV_FISHEYE"]),
        ({"camera_model": 5}, ["camera_model 5"]),
        ({"ftheta_p0": 0.1}, ["ftheta_p0"]),
    ],
)
@pytest.mark.parametrize("place", ["shared", "frame"])
def test_values_that_make_no_sense(tmp_path, shared, parts, place):
    values = write(tmp_path)
    if place == "frame":
        values["frames"][1].update(shared)
        parts = [*parts, "frame 1 (images/1.png)"]
    else:
        values.update(shared)
    save(tmp_path, values)
    complaint(tmp_path, "transforms.json", *parts)


@pytest.mark.parametrize(
    ("shared", "parts"),
    [
        ({"aabb_scale": "big"}, ["aabb_scale is 'big'"]),
        ({"aabb_scale": 0.5}, ["aabb_scale is 0.5"]),
        ({"aabb_scale": 1, "scale": 0}, ["scale is 0"]),
        ({"aabb_scale": 1, "offset": [1, 2]}, ["offset is [1, 2]"]),
        ({"aabb_scale": 1, "offset": "left"}, ["offset is 'left'"]),
        ({"ply_file_path": 3}, ["ply_file_path is 3; name a PLY file"]),
    ],
)
def test_boxes_that_make_no_sense(tmp_path, shared, parts):
    save(tmp_path, {**write(tmp_path), **shared})
    complaint(tmp_path, "transforms.json", *parts)


@pytest.mark.parametrize(
    ("matrix", "part"),
    [
        (POSE[:2], "4x4"),
        ([[1, 2], [3]], "4x4"),
        ("identity", "4x4"),
        ([*POSE[:2], [0, INF, 0, 0], POSE[3]], "not finite"),
        ([[0.0] * 4] * 4, "no rotation"),
        ([[-x for x in POSE[0]], *POSE[1:]], "no rotation"),
    ],
)
def test_bad_poses(tmp_path, matrix, part):
    values = write(tmp_path)
    values["frames"][2]["transform_matrix"] = matrix
    save(tmp_path, values)
    complaint(tmp_path, "frame 2 (images/2.png)", part)


def test_scaled_and_short_poses_are_fine(tmp_path):
    values = write(tmp_path)
    values["frames"][2]["transform_matrix"] = [[3 * x for x in row[:3]] + row[3:] for row in POSE[:3]]
    save(tmp_path, values)
    c2w = load_transforms(tmp_path, Request("train", test_every=0)).cameras.c2w
    assert (c2w[2] - c2w[1]).abs().max() < 1e-6


def test_missing_pictures_are_left_out_with_one_warning(tmp_path, capsys):
    write(tmp_path, 12)
    for i in range(2, 7):
        (tmp_path / "images" / f"{i}.png").unlink()
    train = load_transforms(tmp_path, Request("train", test_every=3))
    test = load_transforms(tmp_path, Request("test", test_every=3))
    assert sorted(train.names + test.names) == ["0", "1", "10", "11", "7", "8", "9"]
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert f"5 of 12 pictures named in {tmp_path / 'transforms.json'}" in told.err
    assert "images/2.png, images/3.png, images/4.png, ..." in told.err
    assert "images/5.png" not in told.err


def test_no_picture_at_all(tmp_path):
    write(tmp_path)
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    complaint(tmp_path, "images/0.png", "4 of 4", "file_path")


@pytest.mark.parametrize("keep", [0, 20, 60, -200])
def test_damaged_pictures_are_named(tmp_path, keep):
    write(tmp_path)
    path = tmp_path / "images" / "2.png"
    path.write_bytes(path.read_bytes()[:keep])
    complaint(tmp_path, str(path), "restore it")


def test_masks(tmp_path):
    values = write(tmp_path)
    values["frames"][1]["mask_path"] = "masks/1.png"
    save(tmp_path, values)
    complaint(tmp_path, "frame 1 (images/1.png)", str(tmp_path / "masks/1.png"), "is missing")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "1.png").write_bytes(b"")
    complaint(tmp_path, "masks/1.png is damaged")
    Image.new("L", (20, 20)).save(tmp_path / "masks" / "1.png")
    complaint(tmp_path, "masks/1.png is 20x20", "48x36")
    Image.new("L", (48, 36), 1).save(tmp_path / "masks" / "1.png")
    hiding = tmp_path / "images" / "dynamic_mask_1.png"
    hiding.write_bytes(b"")
    complaint(tmp_path, "dynamic_mask_1.png is damaged")
    hiding.unlink()
    values["frames"][1]["mask_path"] = 7
    save(tmp_path, values)
    complaint(tmp_path, "mask_path 7")


def test_sizes_and_splits_that_cannot_work(tmp_path):
    values = write(tmp_path)
    complaint(tmp_path, "--img_wh 20 20", "aspect", img_wh=(20, 20))
    complaint(tmp_path, "--downscale 5 leaves 9x7 pixels of the 48x36", "give 4 or less", downscale=5)
    complaint(tmp_path, "--test_every 0", "for test", split="test", test_every=0)
    Image.new("RGB", (36, 48)).save(tmp_path / "images" / "2.png")
    values["frames"][2].update(w=36, h=48)
    save(tmp_path, values)
    complaint(tmp_path, "--img_wh 24 18", "several sizes", img_wh=(24, 18))
    save(tmp_path, {**values, "frames": values["frames"][:1]})
    complaint(tmp_path, "--test_every 8", "1 picture", "for train")
