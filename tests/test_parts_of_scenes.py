"""Folders and files that are nearly what a loader looks for: parts of scenes, masks that say nothing, data sets with
files of their own beside those of a layout."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from colmap_files import write_scene as write_colmap
from llff_files import facing
from llff_files import write_scene as write_llff
from photo_world import K, check_world, edit, read, write
from PIL import Image

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, detect, load_scene

ALL = Request("train", test_every=0)


@pytest.mark.parametrize("part", ["images", "sparse", "sparse/0"])
def test_a_part_of_a_scene_names_its_folder(tmp_path, part):
    write_colmap(tmp_path / "scene")
    with pytest.raises(UserError, match=f"{part} is a part of a scene: give {re.escape(str(tmp_path / 'scene'))},"):
        detect(tmp_path / "scene" / part)
    (tmp_path / "scene" / "images").rename(tmp_path / "scene" / "sparse" / "0" / "images")
    assert detect(tmp_path / "scene" / "sparse" / "0") == "colmap"  # which has all that it needs


def write_scannetpp(root: Path) -> torch.Tensor:
    """Photos and masks beside the folder of the JSON file, which has the frames for tests apart."""
    folder = root / "nerfstudio"
    c2w = write(folder, K, [{}] * 8)
    (folder / "images").rename(root / "resized_images")
    values = read(folder)
    (root / "resized_anon_masks").mkdir()
    for frame in values["frames"]:
        frame["file_path"] = Path(frame["file_path"]).name
        frame |= {"mask_path": frame["file_path"], "is_bad": False}
        mask = np.full((K["h"], K["w"]), 255, np.uint8)
        mask[:9] = 0
        Image.fromarray(mask).save(root / "resized_anon_masks" / frame["file_path"])
    frames = values.pop("frames")
    edit(folder, {**values, "frames": frames[:6], "test_frames": frames[6:], "has_mask": True})
    return c2w


def test_scannetpp(tmp_path, capsys):
    c2w = write_scannetpp(tmp_path)
    (tmp_path / "resized_undistorted_images").mkdir()
    for file in (tmp_path / "resized_images").iterdir():  # of another file
        Image.new("RGB", (K["w"], K["h"])).save(tmp_path / "resized_undistorted_images" / file.name)
    for split, n in (("train", 6), ("test", 2), ("val", 2)):
        scene = load_scene(tmp_path / "nerfstudio", Request(split))
        assert len(scene) == n
        check_world(scene, c2w)
        assert scene.masks is not None
        assert scene.masks.float().mean().item() == pytest.approx(0.75, abs=0.01)
    assert "not understood" not in capsys.readouterr().err


def test_the_largest_reduced_pictures_stand_for_those_that_are_missing(tmp_path):
    c2w = write(tmp_path, K, [{}] * 4)
    for folder, factor in (("images_2", 1), ("images_4", 2), ("images_16", 8)):
        (tmp_path / folder).mkdir()
        for file in (tmp_path / "images").iterdir():
            picture = Image.open(file)
            picture.resize((K["w"] // factor, K["h"] // factor)).save(tmp_path / folder / file.name)
    shutil.rmtree(tmp_path / "images")
    edit(tmp_path, {**read(tmp_path), **{key: 2 * value for key, value in K.items()}})
    scene = load_scene(tmp_path, ALL)
    assert scene.images.shape[1:3] == (K["h"], K["w"])
    check_world(scene, c2w)


@pytest.mark.parametrize(("unit", "refused"), [(1e-3, True), (1.0, False)])
def test_a_unit_cube_whose_cameras_are_in_one_corner(tmp_path, unit, refused):
    write(tmp_path, K, [{}] * 4)
    values = read(tmp_path)
    for frame in values["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] *= unit
    edit(tmp_path, {**values, "aabb_scale": 1})
    if refused:
        with pytest.raises(
            UserError, match=r"rays begin 0\.1 from the cameras, but what these look at is 0\.00\d+ away"
        ):
            load_scene(tmp_path, ALL)
    else:
        assert len(load_scene(tmp_path, ALL)) == 4


def with_masks(root: Path, *masks: np.ndarray) -> Path:
    write(root, K, [{}] * len(masks))
    values = read(root)
    (root / "masks").mkdir()
    for i, (mask, frame) in enumerate(zip(masks, values["frames"], strict=True)):
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")
        frame["mask_path"] = f"masks/{i}.png"
    (root / "transforms.json").write_text(json.dumps(values))
    return root


def halved(value: int) -> np.ndarray:
    mask = np.zeros((K["h"], K["w"]), np.uint8)
    mask[12:] = value
    return mask


def test_masks_that_leave_nothing_are_said(tmp_path, capsys):
    load_scene(with_masks(tmp_path, halved(0), halved(255), halved(1), halved(0)), ALL)
    assert (
        "2 of 4 masks leave nothing of their pictures (0.png, 3.png): white is what counts" in capsys.readouterr().err
    )


@pytest.mark.parametrize(("n", "said"), [(8, True), (3, False)])
def test_masks_that_leave_nothing_out_are_said(tmp_path, capsys, n, said):
    labels = [halved(3) + 4 for _ in range(n)]
    load_scene(with_masks(tmp_path, *labels), ALL)
    assert ("masks leave nothing out: black is what does not count" in capsys.readouterr().err) == said


def test_black_shapes_on_nothing_count(tmp_path):
    mask = np.dstack([np.zeros((K["h"], K["w"], 3), np.uint8), halved(255)])
    scene = load_scene(with_masks(tmp_path, *[mask] * 4), ALL)
    assert scene.masks is not None
    assert scene.masks.float().mean().item() == pytest.approx(2 / 3)


def test_llff_photos_in_a_folder_with_a_capital_letter(tmp_path):
    write_llff(tmp_path, facing(8))
    (tmp_path / "images").rename(tmp_path / "Images")
    assert len(load_scene(tmp_path, ALL, "llff")) == 7


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda root: (root / "images/new.png").write_bytes((root / "images/IMG_40.JPG.png").read_bytes()), "others$"),
        (
            lambda root: Image.new("RGB", (24, 16)).save(root / "images/IMG_40.JPG.jpg"),
            "the same names with another ending$",
        ),
        (lambda root: (root / "images/IMG_40.JPG.png").rename(root / "1.png"), "others$"),
    ],
)
@pytest.mark.parametrize("model", [False, True])
def test_other_pictures_than_rows(tmp_path, change, told, model):
    write_llff(tmp_path, facing(8))
    change(tmp_path)
    if model:
        (tmp_path / "sparse/0").mkdir(parents=True)
        (tmp_path / "sparse/0/images.bin").write_bytes(b"")
        told = told.replace("$", "; or give --dataset_name colmap, whose model names its pictures$")
    with pytest.raises(UserError, match=told):
        load_scene(tmp_path, ALL, "llff")


def test_intrinsics_beside_poses_are_said(tmp_path, capsys):
    write_llff(tmp_path, facing(8))
    np.save(tmp_path / "hwf_cxcy.npy", np.zeros(6))
    load_scene(tmp_path, ALL, "llff")
    assert "hwf_cxcy.npy is not read" in capsys.readouterr().err
