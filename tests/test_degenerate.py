"""Cameras that say little: in one spot, one photo, two groups far apart, one astray. Training, evaluation and film end
well, or in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from llff_files import write_scene
from photo_world import poses
from PIL import Image
from tiny import NGP_FLAGS, nerf, refused
from torch import Tensor

from nerf_pl.errors import UserError
from nerf_pl.films.paths import look_at
from nerf_pl.scenes import Request, load_scene
from nerf_pl.scenes.spread import two_groups

N = 6


def in_one_spot(c2w: Tensor) -> Tensor:
    return torch.cat([c2w[:, :, :3], torch.tensor([1.0, 2.0, 3.0]).double().expand(len(c2w), 3)[:, :, None]], -1)


def far_apart(c2w: Tensor) -> Tensor:
    c2w = c2w.clone()
    c2w[len(c2w) // 2 :, :, 3] += 1000
    return c2w


def astray(c2w: Tensor) -> Tensor:
    c2w = c2w.clone()
    c2w[1, :, 3] += 1000
    return c2w


CAMERAS: dict[str, Callable[[Tensor], Tensor]] = {
    "one spot": in_one_spot,
    "the same": lambda c2w: c2w[:1].repeat(N, 1, 1),
    "one": lambda c2w: c2w[:1],
    "two": lambda c2w: c2w[:2],
    "two groups": far_apart,
    "one astray": astray,
}


def write_json(root: Path, c2w: Tensor, *names: str) -> None:
    frames = []
    for i, pose in enumerate(c2w.tolist()):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 24, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
        frames.append({"file_path": f"{i}.png", "transform_matrix": pose})
    for name in names:
        (root / f"{name}.json").write_text(json.dumps({"fl_x": 30.0, "w": 24, "h": 16, "frames": frames}))


def write_colmap(root: Path, c2w: Tensor) -> None:
    pytest.importorskip("pycolmap")
    import colmap_files

    colmap_files.write_model(root / "sparse" / "0", c2w.numpy())
    colmap_files.write_pictures(root / "images", [colmap_files.picture(i) for i in range(len(c2w))])


LAYOUTS: dict[str, Callable[[Path, Tensor], None]] = {
    "blender": lambda root, c2w: write_json(root, c2w, "transforms_train", "transforms_test"),
    "transforms": lambda root, c2w: write_json(root, c2w, "transforms"),
    "llff": write_scene,
    "colmap": write_colmap,
}


def write(root: Path, layout: str, cameras: str) -> Path:
    root.mkdir(exist_ok=True)
    LAYOUTS[layout](root, CAMERAS[cameras](poses(N)))
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cameras", CAMERAS)
def test_scenes_are_read_or_refused(tmp_path, capsys, layout, cameras):
    root = write(tmp_path / "scene", layout, cameras)
    request = Request(test_every=0 if cameras == "one" else 8)
    if (layout, cameras) == ("llff", "one"):
        with pytest.raises(UserError, match="none of them for train: add pictures"):
            load_scene(root, request)
        return
    scene = load_scene(root, request)
    for name in ("c2w", "K"):
        assert torch.isfinite(getattr(scene.cameras, name)).all()
    assert 0 <= scene.near < scene.far < float("inf")
    assert torch.isfinite(scene.aabb).all()
    assert ("are their poses right?" in capsys.readouterr().err) == (cameras in ("one astray", "two groups"))


def test_two_groups_are_told_apart():
    """They are told if most of the world between them is empty, and not if all look at one thing."""
    c2w = poses(20)
    for gap, told in ((5.0, False), (40.0, False), (200.0, True), (5000.0, True)):
        apart = c2w.clone()
        apart[1::2, 0, 3] += gap
        groups = two_groups(apart)
        assert (groups is not None) == told
        assert groups is None or set(map(tuple, groups)) == {tuple(range(0, 20, 2)), tuple(range(1, 20, 2))}
    assert two_groups(c2w) is None
    assert two_groups(in_one_spot(c2w)) is None
    pair = c2w.clone()
    pair[:, :, 3] = torch.tensor([[0.0, 0, 0], [1, 0, 0]]).double().repeat(10, 1)
    assert two_groups(pair) is None  # a pair of cameras that stand still
    ends = torch.cat([torch.randn(6, 3).double() + torch.tensor([x, 0.0, 0]) for x in (-100, 0)])
    assert two_groups(look_at(ends, (-50.0, 30.0, 0.0))) is None


@pytest.mark.parametrize(
    ("layout", "cameras"),
    [
        ("blender", "one spot"), ("transforms", "one spot"), ("colmap", "one"), ("llff", "two groups"),
        ("transforms", "one astray"), ("llff", "the same"),
    ],
)  # fmt: skip
def test_they_go_all_the_way(tmp_path, monkeypatch, capsys, layout, cameras):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "scene", layout, cameras)
    cpu = ["--num_gpus", 0]
    every = ["--test_every", 0] if cameras == "one" else []
    nerf("train", "scene", *NGP_FLAGS, *every, *cpu, "--max_steps", 1, "--exp_name", "run")
    nerf("eval", "runs/run", *cpu, "--split", "train" if cameras == "one" else "test")
    nerf("render", "runs/run", *cpu, "--frames", 2)
    assert list((tmp_path / "runs" / "run").rglob("*.mp4"))


@pytest.mark.parametrize("cameras", ["one", "the same"])
def test_a_box_that_no_camera_sees_is_one_line(tmp_path, monkeypatch, capsys, cameras):
    """One camera says nothing of where a scene of the Blender layout lies."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "scene", "blender", cameras)
    assert "no camera looks inside the scene's box" in refused(capsys, "train", "scene", *NGP_FLAGS, "--num_gpus", 0)
