"""The Blender loader: what it reads, and one clear line for whatever may be wrong with a folder."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nerf_pl.cameras import image_rays
from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, available_splits, detect, load_scene
from nerf_pl.scenes.blender import load_blender

POSE = [[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, -1.0, -4.0], [0.0, 1.0, 0.0, 0.25], [0.0, 0.0, 0.0, 1.0]]
ANGLE = 0.8


def picture(width: int = 12, height: int = 8, channels: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def write_scene(root: Path, n: int = 3, split: str = "train", **kwargs) -> list[np.ndarray]:
    images = [picture(seed=i, **kwargs) for i in range(n)]
    (root / split).mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(root / split / f"r_{i}.png")
    frames = [{"file_path": f"./{split}/r_{i}", "transform_matrix": POSE} for i in range(n)]
    (root / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": ANGLE, "frames": frames}))
    return images


def edit(root: Path, change) -> None:
    path = root / "transforms_train.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def complaint(root: Path, *parts: str, split: str = "train", **options) -> str:
    """The one line that loading ends with; it holds each of `parts`."""
    with pytest.raises(UserError) as caught:
        load_blender(root, Request(split, options.get("img_wh"), options.get("downscale", 1)))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_and_cameras_arrive_as_stored(tmp_path, channels):
    images = write_scene(tmp_path, channels=channels)
    scene = load_blender(tmp_path, Request())
    assert scene.images.dtype == torch.uint8
    assert (scene.images.numpy() == np.stack(images)).all()
    assert scene.names == ("r_0", "r_1", "r_2")
    assert (scene.near, scene.far, scene.background) == (2.0, 6.0, (1.0, 1.0, 1.0))
    assert scene.aabb.tolist() == [[-1.5] * 3, [1.5] * 3]
    cameras = scene.cameras
    assert (len(scene), cameras.width, cameras.height, cameras.pixel_offset) == (3, 12, 8, 0.5)
    assert cameras.c2w.tolist() == [POSE[:3]] * 3
    focal = 0.5 * 12 / math.tan(0.5 * ANGLE)
    torch.testing.assert_close(cameras.K[1], torch.tensor([[focal, 0, 6], [0, focal, 4], [0, 0, 1]]))


def test_the_field_of_view_spans_the_width(tmp_path):
    write_scene(tmp_path)
    cameras = load_scene(tmp_path, Request(pixel_offset=0.0)).cameras
    rays = image_rays(cameras, 0, 2.0, 6.0)
    forward = torch.tensor([0.0, 1.0, 0.0])  # minus the third axis of POSE
    left, middle = rays.directions[4 * 12], rays.directions[4 * 12 + 6]
    torch.testing.assert_close(middle, forward)  # the ray of the corner of pixel width / 2 is the axis
    assert math.acos(left @ forward) == pytest.approx(ANGLE / 2, abs=1e-5)


def test_resizing_scales_pictures_and_rays_alike(tmp_path):
    images = write_scene(tmp_path, width=24, height=16)
    small = load_blender(tmp_path, Request("train", (12, 8)))
    halved = load_blender(tmp_path, Request("train", downscale=2))
    expected = np.asarray(Image.fromarray(images[1]).resize((12, 8), Image.Resampling.LANCZOS))
    assert (small.images[1].numpy() == expected).all()
    assert torch.equal(small.images, halved.images)
    torch.testing.assert_close(small.cameras.K, halved.cameras.K)
    whole, part = (
        load_scene(tmp_path, Request(img_wh=size, pixel_offset=0.0)).view(0).rays() for size in (None, (12, 8))
    )
    torch.testing.assert_close(part.directions.view(8, 12, 3), whole.directions.view(16, 24, 3)[::2, ::2])


def test_a_rounded_aspect_ratio_is_accepted(tmp_path):
    write_scene(tmp_path)
    scene = load_blender(tmp_path, Request("train", (10, 7)))  # 6.67 rows
    assert scene.images.shape == (3, 7, 10, 4)
    assert scene.cameras.K[0, 1, 2] == 3.5


def test_file_names_may_carry_their_extension(tmp_path):
    images = write_scene(tmp_path)
    Image.fromarray(images[0]).save(tmp_path / "train" / "r_0.5.png")

    def change(values):
        values["frames"][1]["file_path"] = "train/r_1.png"
        values["frames"][2]["file_path"] = "./train/r_0.5"

    edit(tmp_path, change)
    scene = load_blender(tmp_path, Request())
    assert (scene.images.numpy() == np.stack([images[0], images[1], images[0]])).all()
    assert scene.names == ("r_0", "r_1", "r_0.5")


def test_opaque_and_transparent_pictures_may_be_mixed(tmp_path):
    write_scene(tmp_path)
    opaque = picture(channels=3, seed=9)
    Image.fromarray(opaque).save(tmp_path / "train" / "r_0.png")
    Image.fromarray(opaque[..., 0]).save(tmp_path / "train" / "r_1.png")  # grey
    scene = load_blender(tmp_path, Request())
    assert (scene.images[0, ..., :3].numpy() == opaque).all()
    assert (scene.images[1, ..., 2].numpy() == opaque[..., 0]).all()
    assert (scene.images[:2, ..., 3] == 255).all()


def test_missing_folder_and_file(tmp_path):
    complaint(tmp_path / "nowhere", "nowhere is not a folder")
    complaint(tmp_path, "transforms_train.json is missing", "no transforms_*.json")
    write_scene(tmp_path)
    write_scene(tmp_path, split="test")
    complaint(tmp_path, "transforms_val.json is missing", "test, train", split="val")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"camera_angle_x": 0.8, "frames": [', "line 1"),
        ("[]", "frames is missing"),
        ('{"frames": []}', "frames is empty"),
        ('{"camera_angle_x": 0.8}', "frames is missing"),
        ('{"camera_angle_x": 0.8, "frames": []}', "frames is empty"),
        ('{"camera_angle_x": 0.8, "frames": [7]}', "frame 0 has no file_path"),
        ('{"camera_angle_x": 0.8, "frames": [{"file_path": "a"}]}', "frame 0 (a) has no 4x4"),
    ],
)
def test_malformed_transforms(tmp_path, text, part):
    (tmp_path / "transforms_train.json").write_text(text)
    complaint(tmp_path, "transforms_train.json", part)


def test_transforms_that_are_not_text(tmp_path):
    (tmp_path / "transforms_train.json").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xd8")
    complaint(tmp_path, "transforms_train.json is not a text file")


@pytest.mark.parametrize(
    ("matrix", "part"),
    [
        (POSE[:2], "4x4"),
        ([[0.0] * 4] * 4, "no rotation"),
        ([[-x for x in POSE[0]], *POSE[1:]], "no rotation"),
        ([[1.0, 0.1, 0.0, 0.0], *POSE[1:]], "no rotation"),
        ([[1, 2], [3]], "4x4"),
        ("identity", "4x4"),
        ([[[1.0]] * 4] * 4, "4x4"),
        ([*POSE[:2], [0, float("inf"), 0, 0], POSE[3]], "not finite"),
    ],
)
def test_bad_poses(tmp_path, matrix, part):
    write_scene(tmp_path)
    edit(tmp_path, lambda values: values["frames"][1].update(transform_matrix=matrix))
    complaint(tmp_path, "frame 1", "./train/r_1", part)


def test_scaled_and_short_poses_are_fine(tmp_path):
    write_scene(tmp_path)
    scaled = [[3 * x for x in row[:3]] + row[3:] for row in POSE[:3]]
    edit(tmp_path, lambda values: values["frames"][1].update(transform_matrix=scaled))
    edit(tmp_path, lambda values: values["frames"][2].update(transform_matrix=[x for row in POSE for x in row]))
    assert load_blender(tmp_path, Request()).cameras.c2w.tolist() == [POSE[:3]] * 3


def test_missing_pictures_are_counted(tmp_path):
    write_scene(tmp_path, n=6)
    for i in range(1, 6):
        (tmp_path / "train" / f"r_{i}.png").unlink()
    message = complaint(tmp_path, "r_1.png", "r_2.png", "r_3.png", "5 of 6")
    assert "r_4.png" not in message


@pytest.mark.parametrize("keep", [0, 20, 60, -200])
def test_damaged_pictures_are_named(tmp_path, keep):
    write_scene(tmp_path, width=60, height=60)
    path = tmp_path / "train" / "r_2.png"
    path.write_bytes(path.read_bytes()[:keep])
    complaint(tmp_path, str(path), "restore it")


def test_a_corrupt_picture_is_named(tmp_path):
    write_scene(tmp_path, width=60, height=60)
    path = tmp_path / "train" / "r_1.png"
    data = bytearray(path.read_bytes())
    data[500:520] = bytes(20)
    path.write_bytes(data)
    complaint(tmp_path, str(path), "restore it")


def test_pictures_of_different_sizes(tmp_path):
    write_scene(tmp_path)
    Image.fromarray(picture(10, 8)).save(tmp_path / "train" / "r_1.png")
    complaint(tmp_path, "r_1.png has 10x8 pixels", "12x8", "one shape")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"img_wh": (6, 6)}, "--img_wh 6 6 changes the aspect ratio of the 12x8 pictures"),
        ({"img_wh": (6, 6)}, "give 6 4"),
        ({"img_wh": (0, 0)}, "--img_wh 0 0"),
        ({"downscale": 9}, "--downscale 9 leaves 1x0 pixels of the 12x8 pictures"),
        ({"downscale": 2}, "--downscale 2 leaves 6x4 pixels of the 12x8 pictures"),
        ({"downscale": 2}, "leave it out"),
        ({"downscale": 0}, "--downscale 0"),
    ],
)
def test_sizes_that_cannot_work(tmp_path, options, part):
    write_scene(tmp_path)
    complaint(tmp_path, part, **options)


def test_layouts_are_told_apart(tmp_path):
    write_scene(tmp_path / "toys", split="test")
    assert detect(tmp_path / "toys") == "blender"
    assert available_splits(tmp_path / "toys") == ("test",)
    assert len(load_scene(tmp_path / "toys", Request("test"))) == 3
    assert len(load_scene(str(tmp_path / "toys"), Request("test", spheric=True), "blender")) == 3
    with pytest.raises(UserError, match=r"did you mean .*toys"):
        detect(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="layouts understood: blender"):
        load_scene(tmp_path / "empty")
    with pytest.raises(UserError, match="is not a folder"):
        load_scene(tmp_path / "nowhere")
    with pytest.raises(UserError, match="--dataset_name nuscenes"):
        load_scene(tmp_path / "toys", dataset_name="nuscenes")
    with pytest.raises(UserError, match="--dataset_name nuscenes"):
        available_splits(tmp_path / "toys", "nuscenes")


def test_lego(data_dir):
    root = data_dir / "nerf_synthetic" / "lego"
    angle = json.loads((root / "transforms_test.json").read_text())["camera_angle_x"]
    whole = load_scene(root, Request("test"))
    assert whole.images.shape == (25, 800, 800, 4)
    assert whole.names[:2] == ("r_0", "r_8")
    torch.testing.assert_close(whole.cameras.K[0, 0, 0].item(), 0.5 * 800 / math.tan(0.5 * angle), rtol=1e-6, atol=0)
    half = load_scene(root, Request("test", img_wh=(400, 400)), "blender")
    assert half.images.shape == (25, 400, 400, 4)
    torch.testing.assert_close(half.cameras.K[:, :2], whole.cameras.K[:, :2] / 2)
    # the mean of 2x2 pixels differs from Lanczos only in detail
    coarse = whole.image(0).view(400, 2, 400, 2, 3).mean((1, 3))
    assert (half.image(0) - coarse).abs().mean() < 0.02
    assert 0.2 < (whole.images[0, ..., 3] > 0).float().mean() < 0.6
