"""The frames of JSON files, in both layouts that have them: what says something twice, and files that editors made."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import photo_world
import pytest

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, Scene, load_scene
from nerf_pl.scenes.agreement import looking_away
from nerf_pl.scenes.conventions import MATRICES

LAYOUTS = {"blender": "transforms_train.json", "transforms": "transforms.json"}
N = 4


@pytest.fixture(params=LAYOUTS)
def scene_file(tmp_path, request) -> Path:
    """The JSON file of a small scene."""
    photo_world.write(tmp_path / "scene", photo_world.K, [{}] * N)
    return (tmp_path / "scene" / "transforms.json").rename(tmp_path / "scene" / LAYOUTS[request.param])


def load(file: Path) -> Scene:
    return load_scene(file.parent, Request(test_every=0))


def change(file: Path, edit: Callable[[list[dict]], object]) -> None:
    values = json.loads(file.read_text())
    edit(values["frames"])
    file.write_text(json.dumps(values))


def complaint(file: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["images/000.png", "./images/000.png", "images\\000.png"])
def test_a_frame_that_is_told_twice_counts_once(scene_file, capsys, name):
    before = load(scene_file)
    change(scene_file, lambda frames: frames.append({**frames[0], "file_path": name}))
    after = load(scene_file)
    assert (after.images == before.images).all()
    assert np.allclose(after.cameras.c2w, before.cameras.c2w)
    assert f"{scene_file}: 1 of {N + 1} frames show the picture of another frame again" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["images/000.png", "./images/000.png", "images/sub/../000.png"])
def test_two_poses_of_one_picture_are_refused(scene_file, name):
    change(scene_file, lambda frames: frames.append({**frames[1], "file_path": name}))
    (scene_file.parent / "images" / "sub").mkdir()
    told = complaint(scene_file)
    assert f"frame {N} ({name}) shows the same picture as frame 0 (images/000.png)" in told
    assert "another transform_matrix" in told


def test_two_focal_lengths_of_one_picture_are_refused(scene_file):
    change(scene_file, lambda frames: frames.append({**frames[0], "fl_x": 70.0}))
    assert "another fl_x" in complaint(scene_file)


def test_a_picture_does_not_stand_for_a_missing_one_too(scene_file):
    """One that differs in its ending alone."""
    change(scene_file, lambda frames: frames[1].update(file_path="images/000.jpg"))
    assert "images/000.png and images/000.jpg could both be images/000.png" in complaint(scene_file)


@pytest.mark.parametrize("name", ["a" * 300, "images/" + "b" * 5000 + ".png", "a\nb", "a\0b", ".", "  "])
def test_names_that_no_file_can_have_are_missing_pictures(scene_file, capsys, name):
    change(scene_file, lambda frames: frames[1].update(file_path=name))
    if scene_file.name == LAYOUTS["transforms"]:
        assert len(load(scene_file)) == N - 1
        told = capsys.readouterr().err
        assert told.count("\n") == 1
    else:
        with pytest.raises(UserError) as caught:
            load(scene_file)
        told = str(caught.value)
    assert f"1 of {N} pictures" in told
    assert len(told) < 600


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_in_any_encoding_of_unicode(scene_file, encoding):
    before = load(scene_file)
    scene_file.write_bytes(scene_file.read_text().encode(encoding))
    assert (load(scene_file).images == before.images).all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "// a comment\n" + text,
        lambda text: text[:-1] + ",}",
        lambda text: text[: len(text) // 2],
        lambda text: "[" * 100_000,
        lambda text: text[:-1] + ', "x": ' + "1" * 6000 + "}",
    ],
)
def test_damaged_json_is_refused_in_one_line(scene_file, damage):
    scene_file.write_text(damage(scene_file.read_text()))
    assert "correct it, or restore it" in complaint(scene_file)


def test_cameras_that_look_away_are_said(scene_file):
    """Those of programs whose cameras look along z, which are rotations, too."""

    def turn(frames: list[dict]) -> None:
        for frame in frames:
            frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])).tolist()

    assert looking_away(load(scene_file), MATRICES) == ""
    change(scene_file, turn)
    told = looking_away(load(scene_file), MATRICES)
    assert told.startswith(f"{scene_file.parent}: the cameras look at no common point")
    assert "camera to world with y down and z ahead" in told


def test_poses_that_stand_for_none_are_said(tmp_path, capsys):
    """Some programs write the same matrix for all pictures that they could not place. Cameras that stand still are not
    doubted."""
    n = 9
    poses = photo_world.write(tmp_path, photo_world.K, [{}] * n).tolist()
    values = photo_world.read(tmp_path)

    def said(numbers: list[int]) -> bool:
        for frame, number in zip(values["frames"], numbers, strict=True):
            frame["transform_matrix"] = poses[number]
        photo_world.edit(tmp_path, values)
        load(tmp_path / "transforms.json")
        return "3 of 9 pictures have one and the same pose" in capsys.readouterr().err

    assert said([0, 0, 0, *range(3, n)])
    for others in ([*range(n)], [0] * n, [0, 0, *range(2, n)], [i // 3 for i in range(n)]):
        assert not said(others)


def test_pictures_that_no_list_names_are_for_tests(tmp_path, capsys):
    """Never those that are trained on."""
    photo_world.write(tmp_path, photo_world.K, [{}] * N)
    file, names = tmp_path / "transforms.json", [f"images/{i:03}.png" for i in range(N)]

    def split(name: str, **lists: list[str]) -> tuple[str, ...]:
        photo_world.edit(tmp_path, {**photo_world.read(tmp_path), "test_filenames": None, **lists})
        return load_scene(tmp_path, Request(name)).names

    assert split("train", train_filenames=names[:3]) == ("000", "001", "002")
    for name in ("val", "test"):
        assert split(name, train_filenames=names[:3]) == ("003",)
    assert capsys.readouterr().err == ""
    assert split("test", train_filenames=names[:3], test_filenames=names[2:]) == ("002", "003")
    assert "1 of 2 pictures in test_filenames are in train_filenames, too (002.png)" in capsys.readouterr().err
    assert split("train", train_filenames=[*names[:2], "images/9.png"]) == ("000", "001")
    assert f"{file}: 1 of 3 pictures in train_filenames are missing (images/9.png)" in capsys.readouterr().err
    with pytest.raises(UserError, match="none is left for val: add test_filenames, or give --test_every 0"):
        split("val", train_filenames=names)
    assert len(split("train", train_filenames=names)) == N
    untold = {"train_filenames": [], "val_filenames": names[1:2]}
    assert split("train", test_filenames=names[:1], **untold) == ("002", "003")
    untold["val_filenames"] = []
    assert split("val", test_filenames=names[:1], **untold) == ("000",)
    assert split("test", test_filenames=names[:1], **untold) == ("000",)
    assert "there is no train_filenames, so all pictures that test_filenames leave" in capsys.readouterr().err
    with pytest.raises(UserError, match="test_filenames leave no picture for train"):
        split("train", test_filenames=names, **untold)


def test_keys_that_are_not_understood_are_said_once(scene_file, capsys):
    """Those that mean nothing here are not; times of a scene that moves are."""
    values = json.loads(scene_file.read_text())
    for i, frame in enumerate(values["frames"]):
        frame.update(world_scale=2.0, sharpness=30.0, rotation=0.1, time=i / N, rolling_shutter=[0, 0], mask=None)
    scene_file.write_text(json.dumps({**values, "white_transparent": True, "applied_scale": 0.5, "far": False}))
    load(scene_file)
    load(scene_file)
    told = capsys.readouterr().err
    assert (
        told.count("not understood, and change nothing: white_transparent (--background white instead), world_scale")
        == 1
    )
    assert told.count(f"the frames are of {N} times; what moves is learned as if it stood still") == 1
    scene_file.write_text(json.dumps({**values, "from_mitsuba": True}))
    assert "from_mitsuba is True, which would change the rays" in complaint(scene_file)
