"""Intrinsics of pictures of another size, poses of another convention, models with numbers that cannot be: none of them
is silent, and nothing that is meant so is refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from llff_files import around, facing, write_scene
from photo_world import K, poses, read, write
from PIL import Image
from tiny import nerf

from nerf_pl.errors import UserError
from nerf_pl.films.paths import look_at
from nerf_pl.scenes import LOADERS, Request, Scene, frame_of, load_scene
from nerf_pl.scenes.agreement import doubt, looking_away
from nerf_pl.scenes.conventions import misread

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
N = 6


@pytest.fixture(params=["blender", "transforms"])
def layout(request) -> str:
    return request.param


def load_json(root: Path, layout: str, change: Callable[[dict], object]) -> Scene:
    """Load what `photo_world.write` wrote, in a layout, after a change of its file."""
    values = read(root)
    change(values)
    (root / "transforms.json").unlink()
    values = {key: value for key, value in values.items() if value is not None}
    (root / ("transforms_train.json" if layout == "blender" else "transforms.json")).write_text(json.dumps(values))
    return load_scene(root, Request(test_every=0), layout)


def resize(root: Path, factor: float) -> None:
    for file in (root / "images").iterdir():
        with Image.open(file) as picture:
            smaller = picture.resize((round(picture.width * factor), round(picture.height * factor)))
        smaller.save(file)


@pytest.mark.parametrize(
    ("factor", "told", "part"),
    [
        (0.5, {"w": 24, "h": 18}, "cx 25.3, cy 17.1 is the middle of a picture of 51x34 pixels, not of 24x18"),
        (0.5, {"w": 24, "h": 18, "cx": None, "cy": None, "camera_angle_x": 2 * math.atan(0.4)}, "of another size"),
        (2.0, {"cx": None, "cy": None, "w": 96, "h": 72, "x_fov": 43.603}, "give w and h, the size that fl_x"),
        (1.0, {"cx": 0, "cy": 0}, "cx 0, cy 0 is a corner"),
        (1.0, {"cy": None}, "cy is missing"),
        (1.0, {"cx": None, "w": None, "h": None}, "cx is missing"),
        (1.0, {"w": 2, "h": 1}, "w 2, h 1"),
        (1.0, {"w": 48e5, "h": 36e5}, "w 4.8e+06"),
        (1.0, {"w": None, "h": None, "width": 24, "image_height": 36}, "w 24, h 36"),
    ],
)
def test_intrinsics_of_other_pictures_are_refused(tmp_path, layout, factor, told, part):
    write(tmp_path, K, [{}] * N)
    resize(tmp_path, factor)
    with pytest.raises(UserError, match="transforms") as caught:
        load_json(tmp_path, layout, lambda values: values.update(told))
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("factor", "told", "part"),
    [
        (2 / 3, {"w": 32, "h": 24}, "not of 32x24; give w and h of the size"),
        (2 / 3, {"w": None, "h": None}, "not of 32x24; give w and h of the size"),
        (2.0, {"w": 96, "h": 72}, "not of 96x72"),
        (1.0, {"cx": 17.1, "cy": 25.3}, "in the right order?"),
        (1.0, {"fl_y": 120.0}, "pixels are not square"),
        (0.5, dict.fromkeys(("w", "h", "cx", "cy")), "fl_x is taken to be of pictures of 24x18 pixels, which see 23"),
        (1.0, {"fl_x": None, "fl_y": None, "camera_angle_x": 0.8, "camera_angle_y": 0.8}, "pixels are not square"),
    ],
)
def test_doubtful_intrinsics_are_said(tmp_path, layout, capsys, factor, told, part):
    write(tmp_path, K, [{}] * N)
    resize(tmp_path, factor)
    load_json(tmp_path, layout, lambda values: values.update(told))
    assert capsys.readouterr().err.count(part) == 1


def test_parts_of_pictures_have_middles_anywhere(tmp_path, layout, capsys):
    """A quarter of a picture has its middle in a corner."""
    corners = [{"cx": x, "cy": y, "w": 48, "h": 36} for x, y in ((48.0, 36.0), (1.5, 36.0), (48.0, 1.5), (1.5, 1.5))]
    write(tmp_path, K, corners)
    load_json(tmp_path, layout, lambda values: None)
    assert "middle of a picture" not in capsys.readouterr().err


CONVENTIONS = {
    "camera to world with y down and z ahead": lambda m: m @ FLIP,
    "world to camera": np.linalg.inv,
    "world to camera with y down and z ahead": lambda m: FLIP @ np.linalg.inv(m),
}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_matrices_of_another_convention_are_said(tmp_path, layout, capsys, convention):
    write(tmp_path, K, [{}] * N)

    def change(values: dict) -> None:
        for frame in values["frames"]:
            frame["transform_matrix"] = CONVENTIONS[convention](np.array(frame["transform_matrix"])).tolist()

    scene = load_json(tmp_path, layout, change)
    told = f"would if their poses were {convention}; if they are so, convert them: camera to world, y up and z back"
    assert told in doubt(scene, LOADERS[layout].poses)  # of tiny pictures, which do not tell
    nerf("info", tmp_path)
    assert capsys.readouterr().err.count(told) == 1


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("views", [around, facing])
def test_rows_of_another_convention_are_said(tmp_path, convention, views):
    c2w = torch.cat([views(8), torch.tensor([0.0, 0, 0, 1]).expand(8, 1, 4)], 1).numpy()
    other = torch.from_numpy(np.stack([CONVENTIONS[convention](m)[:3] for m in c2w]))
    write_scene(tmp_path, other)
    if "world to camera" in convention and views is facing:
        return  # cameras that differ little in direction say too little
    scene = load_scene(tmp_path, Request(test_every=0), "llff")
    told = looking_away(scene, LOADERS["llff"].poses)
    assert f"would if their poses were {convention}" in told
    assert "with the axes down, right, back" in told


def level_turn(n: int, height: float, out: float) -> torch.Tensor:
    """Cameras that look outward from a place."""
    angle = torch.arange(n, dtype=torch.float64) * 2 * math.pi / n
    ways = torch.stack([angle.cos(), angle.sin(), torch.zeros(n)], -1)
    centres = out * ways + torch.tensor([3.0, -2.0, height])
    return torch.cat([look_at(c[None], tuple((c + w).tolist())) for c, w in zip(centres, ways.double(), strict=True)])


def test_other_captures_are_not_doubted():
    along = torch.stack([torch.linspace(0, 9, 8), torch.zeros(8), torch.zeros(8)], -1).double()
    walk = torch.cat([look_at(c[None], tuple((c + torch.tensor([1.0, 0, 0])).tolist())) for c in along])
    for views in (poses(8), around(9), facing(9), walk, level_turn(8, 1.6, 0.0), poses(2)):
        assert misread(views) == ""


@pytest.mark.parametrize("outward", [0.0, 1.0])
def test_cameras_that_look_outward_are_trained_on(tmp_path, layout, outward):
    write(tmp_path, K, [{}] * 8)

    def change(values: dict) -> None:
        for frame, pose in zip(values["frames"], level_turn(8, 1.6, outward).tolist(), strict=True):
            frame["transform_matrix"] = pose

    load_json(tmp_path, layout, change)  # no error


@pytest.mark.parametrize(
    ("bounds", "part"),
    [
        ({2: (1e-9, 50.0)}, "row 2 has the near bound 1e-09, and half of all have more than 20"),
        ({0: (0.5, 50.0)}, "row 0 has the near bound 0.5"),
        (dict.fromkeys(range(8), (1e-4, 2e-4)), "are both in the same unit?"),
    ],
)
@pytest.mark.parametrize("views", [around, facing])
def test_bounds_that_cannot_be_meant_are_said(tmp_path, capsys, bounds, part, views):
    write_scene(tmp_path, views(8))
    rows = np.load(tmp_path / "poses_bounds.npy")
    for row, pair in bounds.items():
        rows[row, 15:] = pair
    np.save(tmp_path / "poses_bounds.npy", rows)
    load_scene(tmp_path, Request(test_every=0), "llff")
    assert part in capsys.readouterr().err


def with_bounds(root: Path, *, factor: float = 1.0, first: float | None = None) -> Scene:
    """Photos from one side. first: the near bound of the first row."""
    write_scene(root, facing(8))
    rows = np.load(root / "poses_bounds.npy")
    rows[:, 15:] *= factor
    rows[0, 15] = first or rows[0, 15]
    np.save(root / "poses_bounds.npy", rows)
    return load_scene(root, Request(test_every=0), "llff")


@pytest.mark.parametrize("factor", [1e-6, 0.01, 100.0, 1e6])
def test_bounds_in_another_unit_leave_photos_from_one_side_as_they_are(tmp_path, capsys, factor):
    """Nearly so: what the cameras look at says how far the scene is."""
    usual, other = (with_bounds(tmp_path / name, factor=f) for name, f in (("usual", 1.0), ("other", factor)))
    assert "but what the cameras look at is" in capsys.readouterr().err
    assert 0.5 < frame_of(other)[0, :3].norm() / frame_of(usual)[0, :3].norm() < 2
    assert other.aabb.abs().max() < 2 * usual.aabb.abs().max()


def test_one_bound_that_is_wrong_changes_nothing(tmp_path):
    usual, other = (with_bounds(tmp_path / name, first=b) for name, b in (("usual", None), ("other", 1e-9)))
    torch.testing.assert_close(other.cameras.c2w, usual.cameras.c2w, rtol=0.01, atol=1e-3)


def test_the_nearest_bound_that_counts_is_told_with_its_own_row(tmp_path, capsys):
    write_scene(tmp_path, around(9))
    rows = np.load(tmp_path / "poses_bounds.npy")
    rows[:, 15] = [1e-9, *(1e-3 - 1e-5 * np.arange(8))]
    np.save(tmp_path / "poses_bounds.npy", rows)
    load_scene(tmp_path, Request(test_every=0), "llff")
    assert "the nearest bound is 0.00093 (row 8)" in capsys.readouterr().err


def test_bounds_of_cameras_that_hardly_move(tmp_path, capsys):
    c2w = facing(8)
    c2w[:, :, 3] = c2w[:1, :, 3] + 0.01 * (c2w[:, :, 3] - c2w[:1, :, 3])
    c2w[:, :, :3] = c2w[:1, :, :3]
    write_scene(tmp_path, c2w)
    load_scene(tmp_path, Request(test_every=0), "llff")
    assert "What is nearer than the bound is not shown" in capsys.readouterr().err


@pytest.mark.parametrize("factor", [1e-3, 1e6])
def test_focal_lengths_that_cannot_be(tmp_path, factor):
    write_scene(tmp_path, facing(8))
    rows = np.load(tmp_path / "poses_bounds.npy")
    rows[3, 14] *= factor
    np.save(tmp_path / "poses_bounds.npy", rows)
    with pytest.raises(UserError, match=r"row 3 has a focal length of .* for a picture of 24x16"):
        load_scene(tmp_path, Request(test_every=0), "llff")
