"""Sparse points in a PLY file tell how near to the cameras a scene comes."""

import numpy as np
import pytest
import torch
from photo_world import K, edit, read, write

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request
from nerf_pl.scenes.points import read_points, room_in_file
from nerf_pl.scenes.transforms import load_transforms

XYZ = np.array([[0.0, 0, -2], [0.5, 0.25, -4], [-1, 1, 3], [np.nan, 0, 0]])
KINDS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


def ply(points: np.ndarray, kind: str = "ascii", number: str = "float") -> bytes:
    """With colours, and a face behind the vertices, as programs write it."""
    head = f"ply\nformat {kind} 1.0\ncomment of a program\nelement vertex {len(points)}\n"
    head += "".join(f"property {number} {axis}\n" for axis in "xyz") + "property uchar red\n"
    head += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    if kind == "ascii":
        return (head + "".join(f"{x} {y} {z} 7\n" for x, y, z in points) + "3 0 1 2\n").encode()
    form = KINDS[kind] + {"float": "f4", "double": "f8"}[number]
    rows = np.zeros(len(points), [("x", form), ("y", form), ("z", form), ("red", "u1")])
    for axis, values in zip("xyz", points.T, strict=True):
        rows[axis] = values
    return head.encode() + rows.tobytes() + b"\x03" + bytes(12)


@pytest.mark.parametrize("number", ["float", "double"])
@pytest.mark.parametrize("kind", KINDS)
def test_points_are_read(tmp_path, kind, number):
    (tmp_path / "a.ply").write_bytes(ply(XYZ, kind, number))
    found = read_points(tmp_path / "a.ply")
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, XYZ[:3], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_short(tmp_path, kind):
    content = ply(XYZ, kind)
    (tmp_path / "a.ply").write_bytes(content[: content.index(b"end_header") + 30])
    with pytest.raises(UserError, match=r"a\.ply .*remove ply_file_path"):
        read_points(tmp_path / "a.ply")


@pytest.mark.parametrize(
    "content",
    [b"", b"ply\nformat ascii 1.0\n", b"<html>", b"ply\nformat ascii 1.0\nelement face 3\nend_header\n",
     ply(XYZ).replace(b"float z", b"float w"), ply(XYZ).replace(b"ascii", b"utf8"),
     ply(XYZ).replace(b"uchar red", b"list uchar int red"), ply(XYZ).replace(b"0.25", b"zero"),
     ply(XYZ).replace(b"vertex 4", b"vertex 99999999999999999"), ply(XYZ).replace(b"vertex 4", b"vertex -4")],
)  # fmt: skip
def test_what_is_no_file_of_points(tmp_path, content):
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.ply .*remove ply_file_path"):
        read_points(tmp_path / "a.ply")


def cameras(n: int) -> torch.Tensor:
    """Side by side, looking along -z."""
    poses = torch.eye(4)[:3].repeat(n, 1, 1)
    poses[:, 0, 3] = torch.linspace(-0.5, 0.5, n)
    return poses


def test_the_nearest_points_in_front_of_cameras_count(tmp_path, capsys):
    gen = np.random.default_rng(0)
    wall = np.concatenate([gen.uniform(-1, 1, (500, 2)), np.full((500, 1), -3.0)], 1)
    stray = np.array([[0.0, 0, -0.2], [0, 0, 0.1]])  # one that is wrong, one behind the cameras
    (tmp_path / "a.ply").write_bytes(ply(np.concatenate([wall, stray])))
    assert room_in_file(tmp_path / "a.ply", cameras(5)).clear == pytest.approx(1.5)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("n", "told"), [(0, "0 finite points"), (1, "1 finite point"), (9, "9 finite points")])
def test_few_points_are_not_said_to_be_of_other_photos(tmp_path, capsys, n, told):
    there = np.concatenate([np.tile([[0.0, 0, -3]], (n, 1)), np.full((20, 3), np.nan)])
    (tmp_path / "a.ply").write_bytes(ply(there))
    assert room_in_file(tmp_path / "a.ply", cameras(5)) is None
    said = capsys.readouterr().err.replace("\n", " ")
    assert f"has {told}, too few to be used" in said
    assert "belong" not in said


def test_points_of_other_photos_are_not_used(tmp_path, capsys):
    (tmp_path / "a.ply").write_bytes(ply(np.tile([[0.0, 0, 5]], (50, 1))))
    assert room_in_file(tmp_path / "a.ply", cameras(5)) is None
    assert "do not belong to these photos" in capsys.readouterr().err.replace("\n", " ")
    assert room_in_file(tmp_path / "b.ply", cameras(5)) is None
    assert "is not there" in capsys.readouterr().err.replace("\n", " ")


def test_points_in_another_unit_are_not_used(tmp_path, capsys):
    """They would let rays begin behind what the cameras look at. All around, they are in front of all cameras."""
    write(tmp_path, K, [{}] * 9, {"ply_file_path": "sparse.ply"})
    usual = load_transforms(tmp_path, Request("train"))
    around = np.random.default_rng(0).normal(size=(2000, 3))
    (tmp_path / "sparse.ply").write_bytes(ply(60 * around / np.linalg.norm(around, axis=1, keepdims=True)))
    scene = load_transforms(tmp_path, Request("train"))
    assert (scene.near, scene.ahead, scene.told) == (usual.near, usual.ahead, False)
    assert "times as far as what the cameras look at" in capsys.readouterr().err


def test_a_scene_that_names_its_points(tmp_path):
    write(tmp_path, K, [{}] * 9, {"ply_file_path": "sparse.ply"})
    poses = torch.tensor([frame["transform_matrix"] for frame in read(tmp_path)["frames"]])[:, :3]
    ahead = poses[:, :, 3] - 2 * poses[:, :, 2]
    (tmp_path / "sparse.ply").write_bytes(ply(ahead.repeat(12, 1).numpy()))
    expected = room_in_file(tmp_path / "sparse.ply", poses).clear
    scene = load_transforms(tmp_path, Request("train"))
    assert expected is not None
    assert scene.near == pytest.approx(expected * float(scene.frame[0, :3].norm()), rel=1e-4)
    edit(tmp_path, {**read(tmp_path), "clear_distance": 0.5})  # what the file itself says counts more
    assert load_transforms(tmp_path, Request("train")).near == pytest.approx(0.5 * float(scene.frame[0, :3].norm()))
