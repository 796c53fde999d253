"""Depth pictures that transforms.json names tell how near to the cameras a scene comes."""

import numpy as np
import pytest
import torch
from photo_world import K, edit, read, write
from PIL import Image

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request
from nerf_pl.scenes.normalize import camera_focus, near_of
from nerf_pl.scenes.transforms import load_transforms

FRAMES = 9


@pytest.fixture
def scene(tmp_path):
    """Photos whose depth pictures show a wall at 0.8 of the way to what the cameras look at, and one wrong pixel."""
    write(tmp_path, K, [{"depth_file_path": f"depth/{i}.png"} for i in range(FRAMES)])
    (tmp_path / "depth").mkdir()
    for i, far in enumerate(distances(tmp_path)):
        depths = np.full((20, 30), round(800 * far), np.uint16)
        depths[:5], depths[10, 10] = 0, 1  # not known, and wrong
        Image.fromarray(depths).save(tmp_path / "depth" / f"{i}.png")
    return tmp_path


def distances(root) -> list[float]:
    poses = torch.tensor([frame["transform_matrix"] for frame in read(root)["frames"]], dtype=torch.float64)[:, :3]
    return (poses[:, :, 3] - camera_focus(poses)).norm(dim=1).tolist()


def near(root) -> float:
    found = load_transforms(root, Request("train"))
    return found.near / float(found.frame[0, :3].norm())


def usual(root) -> float:
    found = load_transforms(root, Request("train", test_every=0))
    return near_of(found.cameras.c2w) / float(found.frame[0, :3].norm())


def test_rays_begin_at_half_of_the_least_depth(scene):
    expected = 0.4 * min(distances(scene))
    assert near(scene) == pytest.approx(expected, rel=0.01)
    for i in range(FRAMES):  # the same as arrays, in another unit
        depths = np.asarray(Image.open(scene / "depth" / f"{i}.png")).astype(np.float32)
        np.save(scene / "depth" / f"{i}.npy", depths[..., None] / 1000)
    frames = [{**frame, "depth_path": f"depth/{i}.npy"} for i, frame in enumerate(read(scene)["frames"])]
    for frame in frames:
        del frame["depth_file_path"]  # Instant-NGP calls it so
    edit(scene, {**read(scene), "frames": frames, "integer_depth_scale": 1.0})
    assert near(scene) == pytest.approx(expected, rel=0.01)


def test_what_may_be_any_picture_is_not_taken_for_depths(scene, capsys):
    frames = [{**frame, "depth_path": frame["depth_file_path"]} for frame in read(scene)["frames"]]
    for frame in frames:
        del frame["depth_file_path"]
        Image.new("RGB", (12, 9)).save(scene / frame["depth_path"])
    edit(scene, {**read(scene), "frames": frames})
    assert near(scene) == pytest.approx(usual(scene), rel=0.05)
    assert "depth_path (depth_file_path instead)" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(("scale", "told"), [(1.0, "800"), (0.0035, "2.8")])
def test_depths_that_contradict_the_poses_are_not_used(scene, capsys, scale, told):
    """Not even if rays would only begin a little behind what the cameras look at."""
    edit(scene, {**read(scene), "integer_depth_scale": scale})
    assert near(scene) == pytest.approx(usual(scene), rel=0.05)
    assert f"{told} times as far as what the cameras look at" in capsys.readouterr().err.replace("\n", " ")


def test_depths_that_are_not_there_do_not_count(scene, capsys):
    for i in range(FRAMES):
        (scene / "depth" / f"{i}.png").unlink()
    assert near(scene) == pytest.approx(usual(scene), rel=0.05)
    assert "are not there, and do not count" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (np.zeros((9, 9), np.uint8), "8 bits, and the file does not say"),
        (np.zeros((9, 9, 3), np.uint8), "colours of no more than 8 bits"),
        (None, "is damaged, or no picture"),
    ],
)
def test_files_that_hold_no_depths(scene, content, told):
    file = scene / "depth" / "0.png"
    file.write_bytes(b"PNG") if content is None else Image.fromarray(content).save(file)
    with pytest.raises(UserError, match=told) as error:
        load_transforms(scene, Request("train"))
    assert str(file) in str(error.value)


def test_grey_pictures_of_few_bits_count_if_the_file_says_what_they_stand_for(scene):
    expected, scale = 0.4 * min(distances(scene)), max(distances(scene)) / 200
    for i, far in enumerate(distances(scene)):
        Image.fromarray(np.full((20, 30), round(0.8 * far / scale), np.uint8)).save(scene / "depth" / f"{i}.png")
    edit(scene, {**read(scene), "integer_depth_scale": scale})
    assert near(scene) == pytest.approx(expected, rel=0.02)
    assert load_transforms(scene, Request("train")).seen is not None


def test_an_array_of_another_shape_or_kind(scene):
    edit(scene, {**read(scene), "frames": [{**f, "depth_file_path": "depth/0.npy"} for f in read(scene)["frames"]]})
    for wrong in (np.zeros((2, 3, 4)), np.array([["a"]]), np.array([[{}]])):
        np.save(scene / "depth" / "0.npy", wrong, allow_pickle=True)
        with pytest.raises(UserError, match=r"0\.npy"):
            load_transforms(scene, Request("train"))


def test_photos_see_the_points_of_their_depth_pictures(scene):
    """Each stands for a wall across the camera's axis, as far as its depths say."""
    found = load_transforms(scene, Request("train"))
    assert found.seen is not None
    unit = float(found.frame[0, :3].norm())
    kept = [far for i, far in enumerate(distances(scene)) if i % 8]
    width, height = found.cameras.width, found.cameras.height
    for points, c2w, intrinsics, far in zip(found.seen, found.cameras.c2w, found.cameras.K, kept, strict=True):
        local = (points - c2w[:, 3]) @ c2w[:, :3]
        usual = local[:, 2] < -0.1 * unit * far  # without the wrong pixel
        assert (~usual).sum() == 1
        assert torch.allclose(-local[usual, 2], torch.tensor(0.8 * far * unit).float(), rtol=0.01)
        x = intrinsics[0, 2] - intrinsics[0, 0] * local[usual, 0] / local[usual, 2]
        y = intrinsics[1, 2] + intrinsics[1, 1] * local[usual, 1] / local[usual, 2]
        assert 0 < x.min() < 0.05 * width < 0.95 * width < x.max() < width
        assert 0.2 * height < y.min() < 0.3 * height < 0.95 * height < y.max() < height  # the top is not known


def test_depth_pictures_that_are_held_in_another_way_show_no_points(scene):
    for i in range(FRAMES):
        path = scene / "depth" / f"{i}.png"
        Image.fromarray(np.asarray(Image.open(path)).T.copy()).save(path)
    assert load_transforms(scene, Request("train")).seen is None
