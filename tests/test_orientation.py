"""Pictures that EXIF turns, in all layouts: as stored if that fits, turned if only that fits, and never a guess."""

import json
from collections.abc import Sequence
from pathlib import Path

import colmap_files
import llff_files
import numpy as np
import pytest
from PIL import Image, ImageOps

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, Scene, load_scene

LAYOUTS = ("blender", "transforms", "colmap", "llff")
WIDE, HIGH, SQUARE = (24, 16), (16, 24), (16, 16)


def stored(size: tuple[int, int], seed: int) -> np.ndarray:
    return colmap_files.picture(seed, size)


def write_pictures(folder: Path, size: tuple[int, int], turns: Sequence[int]) -> None:
    folder.mkdir(parents=True)
    for i, turn in enumerate(turns):
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.fromarray(stored(size, i)).save(folder / f"{i}.png", exif=exif)


def write(
    layout: str, root: Path, size: tuple[int, int], turns: Sequence[int], told: Sequence[tuple[int, int]]
) -> None:
    """A scene with a picture of that size for each turn, whose file tells these sizes."""
    write_pictures(root / "images", size, turns)
    c2w = colmap_files.poses(len(turns))
    if layout == "llff":
        llff_files.write_scene(root, llff_files.facing(len(turns)), folders=())
        rows = np.load(root / "poses_bounds.npy")
        rows[:, [9, 4]] = told  # width and height
        np.save(root / "poses_bounds.npy", rows)
        return
    if layout == "colmap":
        cameras = [("SIMPLE_PINHOLE", [20.0, w / 2, h / 2], (w, h)) for w, h in told]
        colmap_files.write_model(root / "sparse" / "0", c2w, cameras, name=lambda i: f"{i}.png")
        return
    frames = [
        {
            "file_path": f"images/{i}.png", "transform_matrix": [*pose.tolist(), [0, 0, 0, 1]], "fl_x": 20.0,
            "w": told[i][0], "h": told[i][1],
        } for i, pose in enumerate(c2w)
    ]  # fmt: skip
    name = "transforms_train.json" if layout == "blender" else "transforms.json"
    (root / name).write_text(json.dumps({"frames": frames}))


def load(layout: str, root: Path) -> Scene:
    if layout != "llff":
        return load_scene(root, Request(test_every=0))
    return load_scene(root, Request("test", test_every=2))  # views 0, 2, ...


def seen(scene: Scene, index: int) -> np.ndarray:
    width, height = scene.cameras.size(index)
    return scene.images[index, :height, :width].numpy()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("size", "turn", "told", "turned"),
    [
        *((WIDE, turn, WIDE, False) for turn in (1, 2, 3, 4, 5, 6, 7, 8)),
        *((WIDE, turn, HIGH, True) for turn in (5, 6, 7, 8)),
        *((SQUARE, turn, SQUARE, False) for turn in (3, 6, 8)),
        (WIDE, 8, (320, 480), True),
    ],
)
def test_sizes_decide_whether_pictures_are_turned(tmp_path, capsys, layout, size, turn, told, turned):
    write(layout, tmp_path, size, [turn] * 4, [told] * 4)
    scene = load(layout, tmp_path)
    picture = Image.fromarray(stored(size, 0))
    if turned:
        exif = picture.getexif()
        exif[0x0112] = turn
        picture = ImageOps.exif_transpose(picture)
    assert (seen(scene, 0) == np.asarray(picture)).all()
    lines = [line for line in capsys.readouterr().err.splitlines() if "EXIF" in line]
    is_sure = turn == 1 or (not turned and turn >= 5 and size != SQUARE)
    assert len(lines) == (0 if is_sure else 1)
    for line in lines:
        assert "0.png" in line
        assert ("their sizes fit only so" if turned else "taken as stored") in line


@pytest.mark.parametrize("layout", ["blender", "transforms", "colmap"])
def test_each_picture_is_taken_as_its_own_size_says(tmp_path, layout):
    write(layout, tmp_path, WIDE, [6, 6, 1, 8], [WIDE, HIGH, WIDE, HIGH])
    scene = load(layout, tmp_path)
    assert [scene.cameras.size(i) for i in range(4)] == [WIDE, HIGH, WIDE, HIGH]
    for i, turns in enumerate((0, -1, 0, 1)):
        assert (seen(scene, i) == np.rot90(stored(WIDE, i), turns)).all()


@pytest.mark.parametrize("layout", ["blender", "transforms", "colmap"])
def test_one_program_turned_all_pictures_or_none(tmp_path, capsys, layout):
    """Pictures that fit both ways are turned beside others that fit only turned."""
    write(layout, tmp_path, WIDE, [6, 3, 1, 8], [HIGH, WIDE, WIDE, HIGH])
    scene = load(layout, tmp_path)
    for i, turns in enumerate((-1, 2, 0, 1)):
        assert (seen(scene, i) == np.rot90(stored(WIDE, i), turns)).all()
    assert "3 of 4 pictures are turned as EXIF says" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["blender", "transforms", "colmap"])
def test_a_picture_that_fits_both_ways_is_refused_among_others_of_both_kinds(tmp_path, layout):
    write(layout, tmp_path, WIDE, [6, 6, 3, 1], [WIDE, HIGH, WIDE, WIDE])
    with pytest.raises(UserError, match=r"images/2\.png both ways; turn the files themselves"):
        load(layout, tmp_path)


@pytest.mark.parametrize(("middle", "turned"), [(None, False), ((8.5, 12.0), True), ((12.0, 8.5), False)])
def test_where_no_size_is_told_the_middle_of_the_picture_may_tell(tmp_path, capsys, middle, turned):
    write("transforms", tmp_path, WIDE, [6] * 2, [WIDE] * 2)
    values = json.loads((tmp_path / "transforms.json").read_text())
    for frame in values["frames"]:
        del frame["w"], frame["h"]
        frame.update({} if middle is None else {"cx": middle[0], "cy": middle[1]})
    (tmp_path / "transforms.json").write_text(json.dumps(values))
    assert load("transforms", tmp_path).cameras.size(0) == (HIGH if turned else WIDE)
    assert ("EXIF" in capsys.readouterr().err) == (middle is None or turned)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("has_exif", [False, True])
def test_masks_have_the_shape_of_their_pictures(tmp_path, turned, has_exif):
    """A mask is turned if it fits only so, whatever becomes of its picture."""
    write("transforms", tmp_path, WIDE, [6] * 2, [HIGH if turned else WIDE] * 2)
    values = json.loads((tmp_path / "transforms.json").read_text())
    marked = np.zeros((16, 24), bool)
    marked[2:5, 3:20] = True
    shown = np.rot90(marked, -1) if turned else marked
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = Image.fromarray(marked if has_exif else shown.copy())
    pixels.save(tmp_path / "mask.png", **({"exif": exif} if has_exif else {}))
    for frame in values["frames"]:
        frame["mask_path"] = "mask.png"
    (tmp_path / "transforms.json").write_text(json.dumps(values))
    scene = load("transforms", tmp_path)
    assert scene.masks is not None
    assert (scene.masks[0].numpy() == shown).all()


def test_damaged_exif_data_is_as_good_as_none(tmp_path):
    """Pillow's warnings are errors here."""
    write("transforms", tmp_path, WIDE, [1] * 4, [WIDE] * 4)
    for file in (tmp_path / "images").iterdir():
        with Image.open(file) as picture:
            picture.load()
            picture.save(file, exif=b"II*\0\x08\0\0\0\xff\xff\0\0")
    assert load_scene(tmp_path, Request(test_every=0)).images.shape[1:3] == (16, 24)
