"""Pictures whose names in a scene's file differ from those on the disk: found in every layout and said, or refused."""

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import colmap_files
import llff_files
import numpy as np
import pytest
from PIL import Image

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, Scene, load_scene
from nerf_pl.scenes.finder import find_named
from nerf_pl.scenes.prepare.photos import stage_photos

N = 4
LAYOUTS = ("blender", "transforms", "colmap")


def write(layout: str, root: Path, name: Callable[[int], str], stored: Callable[[int], str]) -> list[np.ndarray]:
    """A scene whose file tells name(i) for the picture that lies at stored(i), seen from its folder; the pictures."""
    images = [colmap_files.picture(i) for i in range(N)]
    for i, image in enumerate(images):
        file = root / stored(i)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file, format="PNG")  # whatever the ending: all of it comes back
    c2w = colmap_files.poses(N)
    if layout == "colmap":
        colmap_files.write_model(root / "sparse" / "0", c2w, name=name)
        return images
    frames = [{"file_path": name(i), "transform_matrix": [*pose.tolist(), [0, 0, 0, 1]]} for i, pose in enumerate(c2w)]
    file = "transforms_train.json" if layout == "blender" else "transforms.json"
    (root / file).write_text(json.dumps({"camera_angle_x": 1.0, "frames": frames}))
    return images


def load(root: Path) -> Scene:
    return load_scene(root, Request(test_every=0))


def check(layout: str, root: Path, name: Callable[[int], str], stored: Callable[[int], str]) -> None:
    images = write(layout, root, name, stored)
    assert (load(root).images.numpy() == np.stack(images)).all()


NAMES = {
    "as told": ("images/r_{}.png", "images/r_{}.png"),
    "backslashes": (".\\images\\r_{}.png", "images/r_{}.png"),
    "another ending": ("images/r_{}.png", "images/r_{}.jpg"),
    "an ending in capitals": ("images/r_{}.jpg", "images/r_{}.JPG"),
    "an ending in mixed letters": ("./images/r_{}.JPG", "images/r_{}.Jpeg"),
    "no ending": ("images/r_{}", "images/r_{}.jpeg"),
    "no ending and backslashes": (".\\images\\r_{}", "images/r_{}.webp"),
    "a number for an ending": ("images/r_{}.5", "images/r_{}.5.png"),
    "another machine": ("/disk/of/another/scene/images/r_{}.png", "images/r_{}.png"),
    "another system": ("C:\\Users\\some body\\scene\\images\\r_{}.png", "images/r_{}.png"),
    "seen from the parent": ("scene/images/r_{}.png", "images/r_{}.png"),
    "seen from elsewhere": ("../../work/images/r_{}.png", "images/r_{}.png"),
    "seen from images": ("r_{}.png", "images/r_{}.png"),
    "a leading slash": ("/images/r_{}.png", "images/r_{}.png"),
    "an address": ("file:///data/images/r_{}.png", "images/r_{}.png"),
    "a short address": ("file://images/r_{}.png", "images/r_{}.png"),
    "a question behind it": ("images/r_{}.png?token=1&x=2", "images/r_{}.png"),
    "blanks": ("images/r {}.png", "images/r {}.png"),
    "blanks as in addresses": ("images/r%20{}.png", "images/r {}.png"),
    "a per cent sign": ("images/r%20{}.png", "images/r%20{}.png"),
    "capital letters": ("Images/R_{}.PNG", "images/r_{}.png"),
    "accents": (unicodedata.normalize("NFD", "images/é{}.png"), unicodedata.normalize("NFC", "images/é{}.png")),
    "accents, the other way": (unicodedata.normalize("NFC", "é{}.png"), unicodedata.normalize("NFD", "images/é{}.png")),
    "folders": ("images/left/{}/r.png", "images/left/{}/r.jpg"),
    "a folder of another name": ("images/r_{}.png", "photos of mine/r_{}.JPG"),
    "beside the file": ("images/r_{}.png", "r_{}.png"),
}


@pytest.mark.parametrize("way", NAMES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_are_found_and_what_was_assumed_is_said_once(tmp_path, capsys, layout, way):
    told, stored = NAMES[way]
    root = tmp_path / "scene"
    check(layout, root, told.format, stored.format)
    lines = [line for line in capsys.readouterr().err.splitlines() if "other names" in line]
    is_plain = layout != "colmap" and way in ("as told", "a number for an ending", "blanks", "a per cent sign")
    if layout != "colmap":  # names in a model are seen from images
        assert len(lines) == (0 if is_plain else 1)
    for line in lines:
        assert f"{N} of {N} pictures" in line
        assert f"such as {stored.format(0)} for " in line
        assert layout == "colmap" or line.endswith(told.format(0))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("others", [["images/r_0.jpg", "images/r_0.webp"], ["images/r_0.Png", "images/r_0.pNg"]])
def test_two_pictures_that_could_be_meant_are_refused(tmp_path, layout, others):
    write(layout, tmp_path, "images/r_{}.png".format, "images/r_{}.png".format)
    (tmp_path / "images" / "r_0.png").unlink()
    for other in others:
        shutil.copy(tmp_path / "images" / "r_1.png", tmp_path / other)
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert "images/r_0.png could be" in message
    assert all(other in message for other in others)


def named(root: Path, names: list[str], **how) -> list[str | None]:
    """What a scene.json finds."""
    files = find_named(root / "scene.json", names, **how)
    return [file.relative_to(root).as_posix() if file else None for file in files]


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_the_closest_of_several_is_taken(tmp_path):
    touch(tmp_path, "a.png", "a.jpg", "b.JPG", "b.png", "c.jpeg", "c.png", "D.png", "d.png")
    assert named(tmp_path, ["a", "a.png", "b.jpg", "c.jpg", "d.png", "D"]) == [
        "a.png", "a.png", "b.JPG", "c.jpeg", "d.png", "D.png",
    ]  # fmt: skip


def test_a_picture_that_is_missing_is_no_other_one(tmp_path):
    """Neither one of another split or kind, nor one from elsewhere while its folder is there."""
    touch(tmp_path, "test/r_0.png", "val/r_1.png", "masks/r_0.png", "depth/r_0.png", "runs/x/renders/test/r_0.png")
    touch(tmp_path, "images_24x16/r_0.png", ".thumbnails/r_0.png", "@eaDir/r_0.jpg/r_0.jpg")
    assert named(tmp_path, ["train/r_0", "train/r_1"], split="train") == [None, None]
    assert named(tmp_path, ["train/r_0", "train/r_1"]) == [None, None]
    touch(tmp_path, "train/r_1.png", "elsewhere/r_0.png")
    assert named(tmp_path, ["train/r_0", "train/r_1"]) == [None, "train/r_1.png"]
    assert named(tmp_path, ["gone/r_0"], split="train") == ["elsewhere/r_0.png"]


def test_one_picture_is_not_taken_for_two(tmp_path):
    touch(tmp_path, "images/1.png")
    with pytest.raises(UserError, match=r"left/1.png and right/1.png could both be images/1.png"):
        named(tmp_path, ["left/1.png", "right/1.png"])


def test_masks_are_found_among_masks(tmp_path):
    touch(tmp_path, "images/1.png", "all masks/1.png", "images/2.png")
    assert named(tmp_path, ["/there/m/1.jpg", "/there/m/2.jpg"], masks=True) == ["all masks/1.png", None]
    touch(tmp_path, "masks/2.PNG")
    assert named(tmp_path, ["2.png"], masks=True) == ["masks/2.PNG"]


def test_reduced_pictures_stand_for_others_only_where_there_are_no_others(tmp_path):
    touch(tmp_path, "images_4/1.png", "photos/1.png")
    assert named(tmp_path, ["images/1.png"]) == ["photos/1.png"]
    (tmp_path / "photos" / "1.png").unlink()
    assert named(tmp_path, ["images/1.png"]) == ["images_4/1.png"]
    touch(tmp_path, "images_8/1.png")
    assert named(tmp_path, ["images/1.png"]) == ["images_4/1.png"]  # the largest
    touch(tmp_path, "images_4/left/1.png")
    with pytest.raises(UserError, match=r"images_4/1.png or images_4/left/1.png"):
        named(tmp_path, ["images/1.png"])


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a" * 5000, "a\0b", "\\", "%00", "~", "images/", "file://"])
def test_names_that_name_nothing(tmp_path, name):
    touch(tmp_path, "images/1.png")
    assert named(tmp_path, [name]) == [None]


def test_reduced_photos_of_a_model_whose_names_begin_with_images(tmp_path):
    write("colmap", tmp_path, "images/r_{}.png".format, "images/r_{}.png".format)
    reduced = [colmap_files.picture(50 + i, (12, 8)) for i in range(N)]
    (tmp_path / "images_2").mkdir()
    for i, image in enumerate(reduced):
        Image.fromarray(image).save(tmp_path / "images_2" / f"r_{i}.png")
    scene = load_scene(tmp_path, Request(test_every=0, downscale=2))
    assert (scene.images.numpy() == np.stack(reduced)).all()


def test_masks_of_a_model_whose_names_begin_with_images(tmp_path):
    write("colmap", tmp_path, "images/r_{}.png".format, "images/r_{}.png".format)
    (tmp_path / "masks").mkdir()
    for i in range(N):
        Image.fromarray(np.eye(16, 24, i, dtype=np.uint8)).save(tmp_path / "masks" / f"r_{i}.png")
    masks = load(tmp_path).masks
    assert masks is not None
    assert masks.sum((1, 2)).tolist() == [16] * N


JUNK = [
    ".hidden.png", "._photo.png", ".thumbnails/a.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/._a.png",
    "#recycle/a.png", "Thumbs.db", ".DS_Store", "desktop.ini", ".ipynb_checkpoints/a-checkpoint.png",
]  # fmt: skip


def test_what_systems_put_beside_photos_is_no_photo(tmp_path):
    """In LLFF scenes, whose pictures are those in a folder, and for nerf prepare."""
    llff_files.write_scene(tmp_path / "scene", llff_files.facing(3))
    before = load_scene(tmp_path / "scene", Request("train", test_every=0))
    touch(tmp_path / "scene" / "images", *JUNK)
    touch(tmp_path / "scene" / ".images_2", "a.png")
    assert load_scene(tmp_path / "scene", Request("train", test_every=0)).names == before.names
    (tmp_path / "stage").mkdir()
    photos = stage_photos(
        tmp_path / "scene" / "images", tmp_path / "out", 32, tmp_path / "stage", step=lambda title, done, total: None
    )
    assert [photo.name for photo in photos] == ["IMG_40.JPG.png", "IMG_41.JPG.png", "IMG_42.JPG.png"]


def test_a_link_to_the_folder_of_photos(tmp_path):
    touch(tmp_path, "disk/p/1.JPG")
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "photos").symlink_to(tmp_path / "disk" / "p")
    (tmp_path / "scene" / "again").symlink_to(tmp_path / "scene")  # a circle
    assert named(tmp_path / "scene", ["/elsewhere/1.jpg"]) == ["photos/1.JPG"]
