"""Pictures that a file lists in another order, or in the wrong split: said, or refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from llff_files import SIZE, facing, write_scene
from photo_world import K, read, write
from PIL import Image

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, detect, load_scene

N = 6


def rename(folder: Path, name) -> None:
    files = sorted(folder.iterdir())
    new = [file.rename(folder / f"renamed {file.name}") for file in files]
    for i, file in enumerate(new):
        file.rename(folder / name(i))


@pytest.mark.parametrize(
    ("name", "told"), [("{}.png", True), ("IMG ({}).png", True), ("{:02}.png", False), ("{}_a.png", True)]
)
def test_the_order_of_numbers(tmp_path, capsys, name, told):
    write_scene(tmp_path, facing(12))
    rename(tmp_path / "images", name.format)
    load_scene(tmp_path, Request(test_every=0))
    assert ("in the order of names, as LLFF writes them" in capsys.readouterr().err) == told


def halves(root: Path, order: list[int]) -> None:
    """Smooth photos, and reduced ones of them in another order."""
    write_scene(root, facing(N))
    (root / "images_2").mkdir()
    x = np.linspace(0, 1, SIZE[0])[None, :, None]
    for i, file in enumerate(sorted((root / "images").iterdir())):
        picture = Image.fromarray(np.broadcast_to(40 * i + 30 * x, (SIZE[1], SIZE[0], 3)).astype(np.uint8))
        picture.save(file)
        picture.resize((SIZE[0] // 2, SIZE[1] // 2)).save(root / "images_2" / f"image{order[i]:03}.png")


def test_reduced_photos_in_another_order(tmp_path):
    halves(tmp_path / "same", [*range(N)])
    assert len(load_scene(tmp_path / "same", Request(test_every=0, downscale=2))) == N - 1
    halves(tmp_path / "other", [*range(N)][::-1])
    with pytest.raises(UserError, match=r"image000.png shows what .*IMG_45.* but is in the place of IMG_40"):
        load_scene(tmp_path / "other", Request(test_every=0, downscale=2))
    load_scene(tmp_path / "other", Request(test_every=0))


def blender(root: Path, path, stored) -> None:
    """Six views, two of them for tests, which the files call path(split, i) and that lie at stored(split, i)."""
    write(root, K, [{}] * N)
    values = read(root)
    (root / "transforms.json").unlink()
    for split, frames in (("test", values["frames"][:2]), ("train", values["frames"][2:])):
        for i, frame in enumerate(frames):
            file = root / stored(split, i)
            file.parent.mkdir(exist_ok=True)
            (root / frame["file_path"]).rename(file)
            frame["file_path"] = path(split, i)
        (root / f"transforms_{split}.json").write_text(json.dumps({**values, "frames": frames}))


@pytest.mark.parametrize("told", ["./{}/r_{}", "./r_{1}", "images/{0}_r/r_{1}.png"])
@pytest.mark.parametrize("stored", ["{}/r_{}.png", "rgb_{}/r_{}.png", "{}-images/r_{}.png"])
def test_folders_of_splits(tmp_path, told, stored):
    blender(tmp_path, told.format, stored.format)
    for split, n in (("train", 4), ("test", 2)):
        scene = load_scene(tmp_path, Request(split))
        for i in range(n):
            with Image.open(tmp_path / stored.format(split, i)) as picture:
                assert (scene.images[i].numpy() == np.asarray(picture)).all()


def test_views_that_are_trained_on_and_scored(tmp_path, capsys):
    blender(tmp_path, "./{}/r_{}".format, "{}/r_{}.png".format)
    load_scene(tmp_path, Request("test"))
    assert "trained on" not in capsys.readouterr().err
    shutil.copy(tmp_path / "transforms_train.json", tmp_path / "transforms_test.json")
    load_scene(tmp_path, Request("test"))
    assert "4 of 4 pictures are in transforms_train.json, too" in capsys.readouterr().err


def test_a_split_in_other_coordinates(tmp_path, capsys):
    blender(tmp_path, "./{}/r_{}".format, "{}/r_{}.png".format)
    file = tmp_path / "transforms_test.json"
    values = json.loads(file.read_text())
    for frame in values["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] *= 10
    file.write_text(json.dumps(values))
    load_scene(tmp_path, Request("test"))
    assert "times as far as those of transforms_train.json from what these look at" in capsys.readouterr().err


def test_a_scene_two_folders_below(tmp_path):
    write(tmp_path / "dense" / "0", K, [{}] * 2)
    with pytest.raises(UserError, match=r"did you mean .*dense/0\?"):
        detect(tmp_path)


@pytest.mark.parametrize("ending", ["gif", "JP2", "tga", "dng"])
def test_pictures_of_a_kind_that_is_not_read(tmp_path, ending):
    write(tmp_path, K, [{}] * 2)
    for file in (tmp_path / "images").iterdir():
        file.rename(file.with_suffix(f".{ending}"))
    with pytest.raises(UserError, match=f"images/000.{ending} is no kind of picture that is read: convert it to PNG"):
        load_scene(tmp_path)
