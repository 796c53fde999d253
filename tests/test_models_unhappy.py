"""COLMAP models in text that hold what cannot be: each ends in one line that says where, or is said and goes on."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pycolmap")
import pycolmap
from colmap_files import write_scene
from PIL import Image

from nerf_pl.errors import UserError
from nerf_pl.scenes import LOADERS, Request, load_scene
from nerf_pl.scenes.agreement import doubt
from nerf_pl.scenes.model_files import _entries
from nerf_pl.scenes.model_text import _photos

Change = Callable[[list[str]], object]
N = 6


def write(root: Path, rigs: bool = False) -> Path:
    """A scene whose model is in text, with the poses in images.txt as older versions of COLMAP write it."""
    write_scene(root, n=N, text=True)
    model = root / "sparse" / "0"
    for name in ("rigs.txt", "frames.txt"):
        if not rigs:
            (model / name).unlink()
    return model


def edit(model: Path, name: str, change: Change, entries: Sequence[int] | None = None) -> None:
    """Change the words of entries; of pictures, whose entries have two lines, the first lines."""
    file = model / f"{name}.txt"
    lines = file.read_text().splitlines()
    begins = [i for i, line in enumerate(lines) if not line.startswith("#")][:: 2 if name == "images" else 1]
    for i in begins if entries is None else [begins[entry] for entry in entries]:
        words = lines[i].split(" ")
        change(words)
        lines[i] = " ".join(words)
    file.write_text("\n".join(lines) + "\n")


def put(place: int, *words: str) -> Change:
    return lambda line: line.__setitem__(slice(place, place + len(words)), words)


@pytest.mark.parametrize(
    ("file", "change", "parts"),
    [
        ("images", put(1, "0", "0", "0", "0"), ["images.txt", "the rotation of image 2 is 0 0 0 0"]),
        ("images", put(2, "nan"), ["images.txt: line 7 has nan"]),
        ("images", put(5, "inf"), ["images.txt: line 7 has inf"]),
        ("images", put(6, "1e30"), ["view_01.png", "not finite"]),
        ("images", put(7, "x"), ["images.txt: line 7 has x"]),
        ("images", put(0, "1"), ["images.txt: lines 5 and 7 are both of image 1"]),
        ("images", put(9, "view_00.png"), ["view_00.png twice", "remove the wrong one"]),
        ("images", put(8, "7"), ["images.txt: line 7 has view_01.png taken by camera 7, which cameras.txt lacks"]),
        ("points3D", put(1, "nan"), ["points3D.txt: line 5 has nan"]),
        ("points3D", put(3, "-inf"), ["points3D.txt: line 5 has -inf"]),
    ],
)
def test_entries_that_cannot_be(tmp_path, file, change, parts):
    edit(write(tmp_path), file, change, [1])
    with pytest.raises(UserError) as caught:
        load_scene(tmp_path, Request(test_every=0))
    assert all(part in str(caught.value) for part in (str(tmp_path), *parts)), str(caught.value)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (put(4, "0"), ["focal length 0", "24x16"]),
        (put(5, "-3"), ["focal length -3"]),
        (put(4, "1e-7", "1e-7"), ["focal length 1e-07"]),
        (put(4, "1e8", "1e8"), ["focal length 1e+08"]),
        (put(4, "nan"), ["cameras.txt: line 4 has nan"]),
        (put(2, "0"), ["0x16 pixels"]),
        (put(6, "4000"), ["middle at 4000, 8"]),
        (put(2, "12", "8"), ["middle of a picture of 24x16 pixels, not of 12x8"]),
        (put(4, "40", "40", "24", "16"), ["middle of a picture of 48x32 pixels, not of 24x16"]),
    ],
)
def test_cameras_that_cannot_be(tmp_path, change, parts):
    edit(write(tmp_path), "cameras", change)
    with pytest.raises(UserError) as caught:
        load_scene(tmp_path, Request(test_every=0))
    assert all(part in str(caught.value) for part in (str(tmp_path), *parts)), str(caught.value)


@pytest.mark.parametrize("kind", ["SIMPLE_RADIAL", "SIMPLE_DIVISION"])
def test_a_distortion_that_is_not_finite(tmp_path, kind):
    """COLMAP takes it for none."""
    write_scene(tmp_path, n=N, cameras=((kind, [20.0, 12.0, 8.0, math.nan], (24, 16)),), xyz=np.zeros((0, 3)))
    with pytest.raises(UserError, match=rf"\({kind}\) has the parameters 20, 12, 8, nan, not all finite"):
        load_scene(tmp_path, Request(test_every=0))


def test_a_camera_that_took_no_photo_is_not_looked_at(tmp_path):
    file = write(tmp_path) / "cameras.txt"
    file.write_text(f"{file.read_text()}7 OPENCV 0 0 0 0 5 5 0 0 0 0\n")
    assert len(load_scene(tmp_path, Request(test_every=0))) == N


@pytest.mark.parametrize(("gone", "there"), [("frames", "rigs"), ("rigs", "frames")])
def test_a_file_of_newer_models_that_was_not_copied_is_named(tmp_path, gone, there):
    write_scene(tmp_path, n=N)
    (tmp_path / "sparse" / "0" / f"{gone}.bin").unlink()
    with pytest.raises(UserError, match=rf"sparse/0 has {there}.bin and no {gone}.bin: copy that as well"):
        load_scene(tmp_path, Request(test_every=0))


@pytest.mark.parametrize("text", [False, True])
def test_names_that_are_not_in_utf8(tmp_path, text):
    """As on a computer whose file names are in Latin-1."""
    write_scene(tmp_path, n=N, text=text)
    file = tmp_path / "sparse" / "0" / f"images.{'txt' if text else 'bin'}"
    file.write_bytes(file.read_bytes().replace(b"view_03", b"v\xe9w_03"))
    with pytest.raises(UserError, match=rf"{file.name} has a name of a photo that is not in UTF-8: rename"):
        load_scene(tmp_path, Request(test_every=0))


def test_poses_of_newer_models_are_those_of_their_frames(tmp_path):
    edit(write(tmp_path, rigs=True), "frames", put(2, "0", "0", "0", "0"), [1])
    with pytest.raises(UserError, match=r"frames.txt: the rotation of frame 2 is 0 0 0 0"):
        load_scene(tmp_path, Request(test_every=0))


def test_a_binary_pose_without_a_rotation(tmp_path):
    write_scene(tmp_path, n=N)
    file = tmp_path / "sparse" / "0" / "frames.bin"
    data = bytearray(file.read_bytes())
    data[16:48] = bytes(32)
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"frames.bin: the rotation of frame \d is 0 0 0 0"):
        load_scene(tmp_path, Request(test_every=0))


def test_a_photo_that_is_there_twice_counts_once(tmp_path, capsys):
    file = write(tmp_path) / "images.txt"
    lines = file.read_text().splitlines()
    first = [line for line in lines if not line.startswith("#")][:2]
    file.write_text("\n".join([*lines, first[0].replace("1 ", "77 ", 1), first[1]]) + "\n")
    assert len(load_scene(tmp_path, Request(test_every=0))) == N
    assert f"1 of {N + 1} photos in the model are there twice" in capsys.readouterr().err


def test_names_with_blanks(tmp_path):
    """COLMAP takes such a name, in text, to end at the blank."""
    write_scene(tmp_path, n=N, text=True, name=lambda i: f"my view {i}.png")
    for i in range(N):
        (tmp_path / "images" / f"view_{i:02}.png").rename(tmp_path / "images" / f"my view {i}.png")
    assert load_scene(tmp_path, Request(test_every=0)).names == tuple(f"my view {i}" for i in range(N))


def test_photos_that_are_another_size_of_the_same_are_read(tmp_path):
    """The model may be of larger photos, whose middles are theirs."""
    write(tmp_path)
    for photo in (tmp_path / "images").iterdir():
        with Image.open(photo) as picture:
            half = picture.resize((12, 8))
        half.save(photo)
    scene = load_scene(tmp_path, Request(test_every=0))
    assert scene.cameras.K[0, :2, 2].tolist() == pytest.approx([6, 4])


def without_points(model: Path) -> None:
    """A model that was written by hand, from known poses."""
    (model / "points3D.txt").write_text("")
    lines = [line for line in (model / "images.txt").read_text().splitlines() if not line.startswith("#")]
    (model / "images.txt").write_text("".join(f"{line}\n\n" for line in lines[::2]))


@pytest.mark.parametrize("points", [True, False])
def test_quaternions_in_the_order_of_other_programs(tmp_path, capsys, points):
    """x y z w. Points in front of cameras near the origin may stay there."""
    model = write(tmp_path)

    def change(words: list[str]) -> None:
        words[1:5] = [*words[2:5], words[1]]

    edit(model, "images", change)
    if points:
        with pytest.raises(UserError, match="have them if its quaternions are in the order x y z w"):
            load_scene(tmp_path, Request(test_every=0))
        return
    without_points(model)
    load_scene(tmp_path, Request(test_every=0))
    assert "the cameras of the model are upright if its quaternions are in the order x y z w" in capsys.readouterr().err


def opengl(pose: np.ndarray) -> np.ndarray:
    return np.diag([1.0, -1.0, -1.0, 1.0]) @ pose


@pytest.mark.parametrize(
    ("convention", "points", "told"),
    [
        (np.linalg.inv, True, "would if their poses were camera to world with y down and z ahead; if they are so"),
        (np.linalg.inv, False, "would if their poses were camera to world with y down and z ahead; if they are so"),
        (opengl, True, "points that photos of the model see lie behind their cameras"),
        (opengl, False, "would if their poses were world to camera with y up and z back; if they are so"),
        (lambda pose: np.linalg.inv(opengl(pose)), False, "were camera to world with y up and z back; if they are so"),
        (lambda pose: pose, True, ""),
    ],
)
def test_poses_of_another_convention_are_said(tmp_path, capsys, convention, points, told):
    model = write(tmp_path)

    def change(words: list[str]) -> None:
        w, *xyz = map(float, words[1:5])
        pose = np.eye(4)
        pose[:3, :3] = pycolmap.Rotation3d(np.array([*xyz, w])).matrix()
        pose[:3, 3] = [float(word) for word in words[5:8]]
        pose = convention(pose)
        *xyz, w = pycolmap.Rotation3d(pose[:3, :3]).quat
        words[1:8] = map(str, (w, *xyz, *pose[:3, 3]))

    edit(model, "images", change)
    if not points:
        without_points(model)
    scene = load_scene(tmp_path, Request(test_every=0))
    said = capsys.readouterr().err + doubt(scene, LOADERS["colmap"].poses)
    assert told in said if told else said == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (put(1, "pinhole"), "line 4 has the model 'pinhole', which is none of COLMAP's"),
        (put(1, "SIMPLE_PINHOLE"), "line 4 has 4 parameters, but SIMPLE_PINHOLE has 3"),
        (lambda words: words.append("0"), "line 4 has 5 parameters, but PINHOLE has 4"),
        (lambda words: words.__delitem__(slice(2, None)), "line 4 is no camera"),
    ],
)
def test_cameras_of_scripts_and_hands_are_told(tmp_path, change, told):
    edit(write(tmp_path), "cameras", change)
    with pytest.raises(UserError) as caught:
        load_scene(tmp_path, Request(test_every=0))
    assert told in str(caught.value)


def test_blank_lines_and_comments_between_photos_mean_nothing(tmp_path):
    """COLMAP skips them in front of a photo."""
    file = write(tmp_path) / "images.txt"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    file.write_text(
        "  # a script\n" + "".join(f"{a}\n{b}\n\n# next\n" for a, b in zip(lines[::2], lines[1::2], strict=True))
    )
    assert len(load_scene(tmp_path, Request(test_every=0))) == N


@pytest.mark.parametrize("line", ["", "  ", "# a note", "# 1 2"])
def test_lines_between_a_photo_and_its_points_are_told(tmp_path, line):
    """COLMAP takes such a line for the points, and all who read the file do."""
    file = write(tmp_path) / "images.txt"
    lines = file.read_text().splitlines()
    lines.insert(next(i for i, each in enumerate(lines) if each.endswith("view_01.png")) + 1, line)
    file.write_text("\n".join(lines) + "\n")
    assert [number for number, _ in _entries(file)] == [number for number, _, _ in _photos(file)]
    told = "8 is not the line of points of photo view_01" if line.strip() else "9 has points, where the line of a photo"
    with pytest.raises(UserError, match=rf"images\.txt: line {told}"):
        load_scene(tmp_path, Request(test_every=0))


def test_photos_without_their_lines_of_points_are_told(tmp_path):
    """COLMAP would take every second photo for the points of the one before."""
    file = write(tmp_path) / "images.txt"
    lines = [line for line in file.read_text().splitlines() if line.startswith("#") or line.endswith(".png")]
    file.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"line 6 is not the line of points of photo view_00\.png"):
        load_scene(tmp_path, Request(test_every=0))
    whole = file.read_text().replace(".png", ".png\n")
    for encoding in ("utf-8-sig", "utf-16"):
        file.write_text(whole, encoding=encoding)
        with pytest.raises(UserError, match=r"images\.txt begins with a byte order mark"):
            load_scene(tmp_path, Request(test_every=0))
    file.write_text(whole.replace(".png\n", ".png\n10,5 2,5 -1"))
    with pytest.raises(UserError, match=r"images\.txt: line 6 has numbers like 10,5: write them with a point"):
        load_scene(tmp_path, Request(test_every=0))
