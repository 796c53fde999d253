"""What may be wrong with a folder in the LLFF layout: one clear line for each."""

import math
from pathlib import Path

import numpy as np
import pytest
from llff_files import facing, picture, write_scene
from PIL import Image

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request
from nerf_pl.scenes.llff import load_llff


def complaint(root: Path, *parts: str, split: str = "train", **options) -> None:
    """The one line that loading ends with holds each of `parts`."""
    with pytest.raises(UserError) as caught:
        load_llff(root, Request(split, **options))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_what_is_missing(tmp_path):
    complaint(tmp_path / "nowhere", "poses_bounds.npy is missing")
    write_scene(tmp_path, facing(3), folders=())
    complaint(tmp_path, str(tmp_path), "has no pictures in images")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "._IMG_1.JPG").write_bytes(b"what a Mac leaves there")
    complaint(tmp_path, "has no pictures in images")


def test_pictures_unlike_the_rows(tmp_path):
    write_scene(tmp_path, facing(4), folders=(1, 2))
    (tmp_path / "images_2" / "image003.png").unlink()
    complaint(tmp_path, "poses_bounds.npy has 4 rows", "images_2 3 pictures", downscale=2)
    assert len(load_llff(tmp_path, Request("test"))) == 1  # the whole ones are complete


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"PK\x03\x04 an archive", b"<html>", "half", np.array([{"a": 1}], dtype=object)]
)
def test_files_that_are_no_array(tmp_path, content):
    write_scene(tmp_path, facing(3))
    path = tmp_path / "poses_bounds.npy"
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_bytes(path.read_bytes()[:300] if content == "half" else content)
    complaint(tmp_path, "poses_bounds.npy is damaged")


@pytest.mark.parametrize(
    ("array", "part"),
    [
        (np.zeros((3, 15)), "has the shape (3, 15)"),
        (np.zeros(17), "has the shape (17,)"),
        (np.zeros((0, 17)), "has the shape (0, 17)"),
        (np.full((3, 17), "a"), "holds <U1"),
        (np.full((3, 17), 1j), "holds complex128"),
        (np.zeros((3, 17)), "row 0 has a pose that is no rotation"),
    ],
)
def test_arrays_that_are_no_poses(tmp_path, array, part):
    write_scene(tmp_path, facing(3))
    np.save(tmp_path / "poses_bounds.npy", array)
    complaint(tmp_path, "poses_bounds.npy", part)


@pytest.mark.parametrize(
    ("column", "value", "part"),
    [
        (3, math.nan, "row 1 is not finite"),
        (16, math.inf, "row 1 has bounds that are not finite but 20.1 and inf"),
        (15, math.nan, "row 1 has bounds that are not finite but nan and 90.1"),
        (0, 3.0, "row 1 has a pose that is no rotation"),
        (4, 0.0, "row 1 has a height, width or focal length"),
        (14, -30.0, "row 1 has a height, width or focal length"),
        (15, 0.0, "row 1 has bounds that are not 0 < near < far but 0 and 90.1"),
        (15, -2.0, "but -2 and 90.1"),
        (16, 20.0, "but 20.1 and 20"),
    ],
)
def test_rows_that_cannot_be(tmp_path, column, value, part):
    write_scene(tmp_path, facing(3))
    rows = np.load(tmp_path / "poses_bounds.npy")
    rows[1, column] = value
    np.save(tmp_path / "poses_bounds.npy", rows)
    complaint(tmp_path, "poses_bounds.npy", part)


def test_many_rows_that_cannot_be_are_counted(tmp_path):
    write_scene(tmp_path, facing(3), (0.0, 0.0))
    complaint(tmp_path, "row 0 has bounds that are not 0 < near < far but 0 and 0 (2 other rows like it); correct")


def test_a_mirrored_pose(tmp_path):
    c2w = facing(3)
    c2w[:, :, 0] *= -1
    write_scene(tmp_path, c2w)
    complaint(tmp_path, "row 0 has a pose that is no rotation")


@pytest.mark.parametrize("keep", [0, 40, -60])
def test_a_damaged_photo(tmp_path, keep):
    write_scene(tmp_path, facing(3))
    path = tmp_path / "images" / "IMG_41.JPG.png"
    path.write_bytes(path.read_bytes()[:keep])
    complaint(tmp_path, str(path), "restore it")


def test_photos_of_another_shape(tmp_path):
    write_scene(tmp_path, facing(3))
    path = tmp_path / "images" / "IMG_42.JPG.png"
    Image.fromarray(picture(0, 24, 15)).save(path)
    complaint(tmp_path, f"{path} has 24x15 pixels", "one size")
    for path in (tmp_path / "images").iterdir():
        Image.fromarray(picture(0, 16, 16)).save(path)
    complaint(tmp_path, "poses_bounds.npy is of pictures of 24x16 pixels", "IMG_40.JPG.png has 16x16")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"img_wh": (12, 12)}, "--img_wh 12 12 changes the aspect ratio of the 24x16 pictures"),
        ({"img_wh": (12, 12)}, "give 12 8"),
        ({"img_wh": (0, 0)}, "--img_wh 0 0"),
        ({"downscale": 0}, "--downscale 0"),
        ({"downscale": 3}, "--downscale 3 leaves 8x5 pixels of the 24x16 pictures"),
        ({"downscale": 17}, "give 2 or less"),
    ],
)
def test_sizes_that_cannot_work(tmp_path, options, part):
    write_scene(tmp_path, facing(3), folders=(1, 2))
    complaint(tmp_path, part, **options)


def test_larger_pictures_than_there_are(tmp_path):
    write_scene(tmp_path, facing(3), folders=(4,))
    complaint(tmp_path, "--downscale 2: the largest pictures in", "images_4; give 4 or more", downscale=2)


def test_splits_without_views(tmp_path):
    write_scene(tmp_path, facing(1))
    complaint(tmp_path, "has 1 picture, none of them for train")
    complaint(tmp_path, "has 1 picture, none of them for train", test_every=0)
    complaint(tmp_path, "--test_every 0", "--path spiral", split="test", test_every=0)


def test_a_row_of_pictures_of_another_shape(tmp_path):
    write_scene(tmp_path, facing(4))
    rows = np.load(tmp_path / "poses_bounds.npy")
    rows[2, 4] = 40.0
    np.save(tmp_path / "poses_bounds.npy", rows)
    complaint(tmp_path, "IMG_42.JPG.png has 24x16 pixels", "row 2", "24x40, of another shape")
