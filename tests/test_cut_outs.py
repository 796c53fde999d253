"""Photos whose background was removed show an object on nothing, in every layout that has no box of its own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from llff_files import around
from PIL import Image
from test_backgrounds import LAYOUTS, thing

from nerf_pl.errors import UserError
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


def masked_photos(root: Path, layout: str, n: int = 10) -> None:
    """Photos with masks in the way of the layout, and the cut-outs that they make, in root / "photos" and "cut"."""
    LAYOUTS[layout](root / "cut", [thing(i, (0, 0, 0, 0)) for i in range(n)])
    LAYOUTS[layout](root / "photos", [thing(i, (0, 0, 0, 0)) for i in range(n)])
    for file in sorted((root / "photos").rglob("*.png")):
        with Image.open(file) as stored:
            pixels = np.array(stored)
        shown = pixels[..., 3] > 0
        noise = np.random.default_rng(int(shown.sum())).integers(0, 256, pixels[..., :3].shape, np.uint8)
        Image.fromarray(np.where(shown[..., None], pixels[..., :3], noise)).save(file)
        (root / "photos" / "masks").mkdir(exist_ok=True)
        Image.fromarray(shown).save(root / "photos" / "masks" / file.name)
    for file in (root / "photos").glob("*.json"):
        values = json.loads(file.read_text())
        for frame in values["frames"]:
            frame["mask_path"] = f"masks/{frame['file_path']}"
        file.write_text(json.dumps(values))


@pytest.mark.parametrize("layout", ["blender", "transforms", "llff", "colmap", "unit cube"])
def test_masks_as_transparency(tmp_path, layout):
    """The scene is that of cut-outs; the cameras alone lie in the same space."""
    masked_photos(tmp_path, layout)
    cut = load_scene(tmp_path / "cut", Request())
    for pictures in (True, False):
        scene = load_scene(tmp_path / "photos", Request(masks="alpha", pictures=pictures))
        assert (scene.near, scene.far, scene.unbounded) == (cut.near, cut.far, cut.unbounded)
        assert torch.equal(scene.aabb, cut.aabb)
        assert (scene.masks, scene.background, scene.plain) == (None, (1, 1, 1), False)
        assert scene.images.shape == cut.images.shape
    scene = load_scene(tmp_path / "photos", Request(masks="alpha"))
    assert torch.equal(scene.images[..., 3], cut.images[..., 3])
    assert torch.equal(scene.image(1), cut.image(1))
    assert load_scene(tmp_path / "photos", Request(masks="alpha", background="black")).background == (0, 0, 0)
    assert load_scene(tmp_path / "photos", Request()).masks is not None
    assert load_scene(tmp_path / "photos", Request(masks="none")).masks is None


def test_masks_that_are_not_there_cut_nothing_out(tmp_path):
    LAYOUTS["transforms"](tmp_path / "scene", [thing(i, (0, 0, 0)) for i in range(4)])
    with pytest.raises(UserError, match=r"--masks alpha: .* has no masks"):
        load_scene(tmp_path / "scene", Request(masks="alpha"))


def in_front_of(root: Path, colour: int, inverted: bool) -> None:
    """Photos of noise in front of one colour, which a JPEG would not keep quite, with masks of the noise."""
    (root / "masks").mkdir(parents=True)
    frames = []
    for i, pose in enumerate(around().tolist()):
        rng = np.random.default_rng(i)
        row, column = np.mgrid[:32, :48]
        shown = (row - 16) ** 2 + (column - 20 - i) ** 2 < 100
        picture = np.where(
            shown[..., None], rng.integers(0, 256, (32, 48, 3)), colour + rng.integers(-4, 5, (32, 48, 3))
        )
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / f"{i}.png")
        Image.fromarray(shown != inverted).save(root / "masks" / f"{i}.png")
        frames.append(
            {"file_path": f"{i}.png", "mask_path": f"masks/{i}.png", "transform_matrix": [*pose, [0, 0, 0, 1]]}
        )
    (root / "transforms.json").write_text(json.dumps({"fl_x": 60.0, "w": 48, "h": 32, "frames": frames}))


@pytest.mark.parametrize("masks", ["pixels", "alpha"])
@pytest.mark.parametrize(("colour", "name"), [(255, "white"), (0, "black"), (128, "0.502 0.502 0.502")])
def test_masks_that_seem_inverted_are_said(tmp_path, capsys, masks, colour, name):
    """The surroundings alone count, and are of one colour: nothing is easier to learn."""
    for inverted in (True, False):
        in_front_of(tmp_path / str(inverted), colour, inverted)
        for split in ("train", "val"):
            load_scene(tmp_path / str(inverted), Request(split, masks=masks))
    told = [line for line in capsys.readouterr().err.splitlines() if "invert the masks" in line]
    (line,) = told
    assert line.startswith(
        f"{tmp_path / 'True'}: 100% of what counts by the masks has one colour, {name}, and what they"
    )
    assert line.endswith("has others; if that is the object, invert the masks: white is what counts")


def test_masks_are_not_doubted_where_all_has_one_colour(tmp_path, capsys):
    """Or where nothing counts, or all: other lines tell of that."""
    in_front_of(tmp_path / "scene", 255, True)
    for file in (tmp_path / "scene").glob("*.png"):
        Image.new("RGB", (48, 32), "white").save(file)
    load_scene(tmp_path / "scene", Request(background="none"))
    for value in (0, 255):
        for file in (tmp_path / "scene" / "masks").iterdir():
            Image.new("L", (48, 32), value).save(file)
        load_scene(tmp_path / "scene", Request(background="none"))
    assert "invert the masks" not in capsys.readouterr().err


def test_masks_that_cut_all_out_are_told(tmp_path):
    in_front_of(tmp_path / "scene", 255, False)
    for file in (tmp_path / "scene" / "masks").iterdir():
        Image.new("L", (48, 32), 0).save(file)
    with pytest.raises(UserError, match=r"transparent everywhere.*: make masks that are white where the object is"):
        load_scene(tmp_path / "scene", Request(masks="alpha"))
