"""Photos whose background was removed show an object on nothing, in every layout that has no box of its own."""

import json
from pathlib import Path

import numpy as np
import pytest
from llff_files import around
from PIL import Image

from nerf_pl.scenes import Request, load_scene
from nerf_pl.scenes.pictures import cut_out


def pixels(seed: int, least_alpha: int) -> np.ndarray:
    found = np.random.default_rng(seed).integers(1, 256, (16, 24, 4), np.uint8)
    found[:, :, 3] = 255
    for side in (found[:3], found[-1:], found[:, :1]):
        side[..., 3] = least_alpha
    return found


def write_json(root: Path, least_alpha: int) -> None:
    root.mkdir()
    frames = []
    for i, pose in enumerate(around().tolist()):
        Image.fromarray(pixels(i, least_alpha)).save(root / f"{i}.png")
        frames.append({"file_path": f"{i}.png", "transform_matrix": [*pose, [0, 0, 0, 1]]})
    (root / "transforms.json").write_text(json.dumps({"fl_x": 30.0, "w": 24, "h": 16, "frames": frames}))


def write_colmap(root: Path, least_alpha: int) -> None:
    pytest.importorskip("pycolmap")
    import colmap_files

    colmap_files.write_scene(root)
    for i, file in enumerate(sorted((root / "images").iterdir())):
        with Image.open(file) as stored:
            size = stored.size
        Image.fromarray(pixels(i, least_alpha)).resize(size, Image.Resampling.NEAREST).save(file)


@pytest.mark.parametrize("write", [write_json, write_colmap])
@pytest.mark.parametrize("pictures", [True, False])
def test_they_have_a_box(tmp_path, write, pictures):
    """Also where only the cameras are asked for. Pictures that have alpha, and use none of it, are photos."""
    write(tmp_path / "cut", 0)
    write(tmp_path / "photos", 255)
    cut, photos = (load_scene(tmp_path / name, Request(pictures=pictures)) for name in ("cut", "photos"))
    assert (cut.unbounded, photos.unbounded) == (False, True)
    assert cut.aabb.tolist() == [[-1] * 3, [1] * 3]
    assert 0 < cut.near < cut.far < 4 < photos.far
    centres = cut.cameras.c2w[:, :, 3]
    assert cut.far >= float((centres.norm(dim=1)).max())  # what is in the middle is in front of far
    assert cut.background == (1, 1, 1)


def test_corners_without_a_photo_are_no_background(tmp_path):
    """As undoing a lens leaves them; or a sky that was cut out."""
    for name, rows in (("corner", 4), ("sky", 16)):
        picture = pixels(0, 255)
        picture[: 4 if name == "sky" else rows, : 4 if name == "corner" else None, 3] = 0
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        assert not cut_out([tmp_path / f"{name}.png"])


def test_who_asks_for_no_end_gets_none(tmp_path):
    write_json(tmp_path / "cut", 0)
    assert load_scene(tmp_path / "cut", Request(objects=False)).unbounded


def test_one_whole_photo_is_enough_to_doubt_it(tmp_path):
    files = []
    for i in range(4):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels(i, 255 if i == 2 else 0)).save(files[-1])
    assert not cut_out(files)
    assert cut_out(files[:2])
    files[1].write_bytes(b"no picture")
    assert not cut_out(files[:2])
