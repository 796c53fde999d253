"""Scenes of the Blender layout of any size and at any place: bounds and box follow the cameras."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from colmap_files import picture
from colmap_files import write_scene as write_colmap
from llff_files import around, facing
from llff_files import write_scene as write_llff
from PIL import Image
from tiny import CPU, FLAGS, NGP_FLAGS, config, make, nerf, refused

from nerf_pl.checkpoints import open_run, save_model
from nerf_pl.errors import UserError
from nerf_pl.films.paths import look_at
from nerf_pl.scenes import Request, Scene, frame_of, load_scene
from nerf_pl.scenes.normalize import reach
from nerf_pl.scenes.placing import bounded, missed, place

CLASSIC = (2.0, 6.0, [[-1.5] * 3, [1.5] * 3])
LEGO = 0.36  # the tangent of half the field of view of the 2020 scenes


def spread(n: int = 30, distance: float = 4.031, seed: int = 0) -> torch.Tensor:
    """Cameras on the upper half of a ball that look at the origin."""
    at = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    at[:, 2] = at[:, 2].abs()
    return look_at(distance * torch.nn.functional.normalize(at, dim=-1))


def transformed(root: Path, change: np.ndarray) -> None:
    """Scale and shift the world of a scene, camera axes aside."""
    scale = np.cbrt(np.linalg.det(change[:3, :3]))
    for file in root.glob("transforms_*.json"):
        values = json.loads(file.read_text())
        for frame in values["frames"]:
            pose = change @ np.array(frame["transform_matrix"])
            pose[:3, :3] /= scale
            frame["transform_matrix"] = pose.tolist()
        file.write_text(json.dumps(values))


def similarity(scale: float, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    change = np.diag([scale, scale, scale, 1.0])
    change[:3, 3] = shift
    return change


def told(scene: Scene) -> tuple[float, float, list]:
    return scene.near, scene.far, scene.aabb.tolist()


@pytest.mark.parametrize("distance", [3.3, 4.031, 4.4])
def test_scenes_of_the_usual_size_stay_as_they_are(distance):
    found = place(spread(distance=distance), LEGO)
    assert found.frame is None
    assert (found.near, found.far, found.aabb.tolist()) == CLASSIC


@pytest.mark.parametrize("scale", [1e-3, 0.3, 2.0, 3.0, 10.0, 1e4])
@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (5.0, -3.0, 100.0)])
def test_others_come_to_lie_like_those(scene_dir, tmp_path, scale, shift, capsys):
    root = Path(shutil.copytree(scene_dir, tmp_path / "scene"))
    before = {split: load_scene(root, Request(split)) for split in ("train", "test")}
    transformed(root, similarity(scale, shift))
    for split, expected in before.items():
        scene = load_scene(root, Request(split))
        assert told(scene) == CLASSIC
        assert scene.orbit == (4.0, 30.0)
        # a similarity that is about the inverse of the change: the cameras are where they were
        torch.testing.assert_close(scene.cameras.c2w, expected.cameras.c2w, atol=0.1, rtol=0)
        assert float(frame_of(scene)[0, 0]) == pytest.approx(1 / scale, rel=0.05) or scale == 1
        assert missed(scene) == ""
    assert capsys.readouterr().err.count("\n") == 1
    left = load_scene(root, Request(scale=1.0))
    assert left.frame is None
    assert told(left) == CLASSIC
    by_hand = load_scene(root, Request(scale=0.5))
    torch.testing.assert_close(frame_of(by_hand), torch.from_numpy(similarity(0.5)))
    torch.testing.assert_close(by_hand.cameras.c2w[:, :, 3], 0.5 * left.cameras.c2w[:, :, 3])


def test_the_demo_and_real_scenes_stay(scene_dir, data_dir):
    real = data_dir / "nerf_synthetic"
    for root, split, pictures in (
        (scene_dir, "train", True),
        (scene_dir, "test", True),
        (real / "lego", "train", False),  # which are hundreds of large pictures
        (real / "lego", "test", False),
        (real / "mic", "train", True),
    ):
        scene = load_scene(root, Request(split, downscale=1 if root == scene_dir else 8, pictures=pictures))
        assert (scene.frame, scene.orbit) == (None, (4.0, 30.0))
        assert told(scene) == CLASSIC
        assert missed(scene) == ""
        values = json.loads((root / f"transforms_{split}.json").read_text())
        poses = torch.tensor([frame["transform_matrix"] for frame in values["frames"]])[:, :3]
        assert torch.equal(scene.cameras.c2w, poses)


def test_a_wide_view_has_a_larger_box_and_bounds_that_hold_it():
    for tangent, half in ((0.6, 0.6 * 4.031), (2.0, 0.75 * 4.031)):
        c2w = spread()
        found = place(c2w, tangent)
        assert found.aabb[1].tolist() == pytest.approx([half] * 3)
        nearest, farthest = reach(spread()[:, :, 3].float(), found.aabb)
        assert found.near == pytest.approx(max(nearest, 0.08), abs=0.02)
        assert found.far == pytest.approx(farthest, abs=0.02)
    c2w[::2, :, 3] *= 1.5  # on their axes
    found = place(c2w, LEGO)
    assert found.near < 2 < 6 < found.far


def test_photos_that_look_at_no_common_point_have_no_end(tmp_path):
    (tmp_path / "p").mkdir()
    frames = []
    for i, pose in enumerate(spread(12)):
        pose = pose.clone()
        pose[:, :3] *= torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64)  # outward
        Image.fromarray(picture(i, (12, 8))).save(tmp_path / "p" / f"{i}.png")
        frames.append({"file_path": f"p/{i}", "transform_matrix": pose.tolist()})
    values = {"camera_angle_x": 0.9, "frames": frames}
    (tmp_path / "transforms_train.json").write_text(json.dumps(values))
    (tmp_path / "transforms_test.json").write_text(json.dumps({**values, "frames": frames[:2]}))
    scene, other = load_scene(tmp_path), load_scene(tmp_path, Request("test"))
    assert scene.unbounded
    assert (scene.near, scene.far, scene.background, scene.orbit) == (0.1, 100.0, None, None)
    assert torch.equal(frame_of(scene), frame_of(other))
    assert torch.equal(scene.cameras.c2w[:2], other.cameras.c2w)


def test_a_box_that_misses_what_is_seen_is_said(scene_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Path(shutil.copytree(scene_dir, tmp_path / "scene"))
    transformed(root, similarity(1.0, (0.9, 0, 0)))
    scene = load_scene(root, Request(scale=1.0))
    line = missed(scene)
    assert "\n" not in line
    assert str(root) in line
    assert "beside the box that is learned, (-1.5, -1.5, -1.5) to (1.5, 1.5, 1.5)" in line
    nerf("train", root, *NGP_FLAGS, "--max_steps", 1, "--num_gpus", 0, "--scale", 1, "--overwrite")
    assert line in capsys.readouterr().err
    transformed(root, similarity(8.0))
    for words in (FLAGS, NGP_FLAGS):
        assert "no camera looks inside" in refused(
            capsys, "train", root, *words, "--num_gpus", 0, "--scale", 1, "--overwrite"
        )


def test_bounds_by_hand(scene_dir, tmp_path, capsys):
    root = Path(shutil.copytree(scene_dir, tmp_path / "scene"))
    transformed(root, similarity(3.0))
    scene = load_scene(root)
    unit = float(frame_of(scene)[0, 0])
    other = bounded(scene, 7.0, 17.0)
    assert (other.near, other.far) == pytest.approx((7 * unit, 17 * unit))
    assert bounded(scene, None, None) is scene
    assert (bounded(scene, 7.0, None).far, bounded(scene, None, 17.0).near) == (scene.far, scene.near)
    for near, far, part in (
        (40.0, None, "--near 40: give less than 17"),
        (None, 1.0, "--far 1: give more than 5"),
        (1e3, 1e4, "--near 1000: give less than"),
    ):
        with pytest.raises(UserError, match=part):
            bounded(scene, near, far)
    words = ("train", root, *NGP_FLAGS, "--num_gpus", 0)
    assert "--near 5.0 cannot work: give less than --far 4" in refused(capsys, *words, "--near", 5, "--far", 4)
    for wrong in (["--near", 0], ["--far", -1], ["--far", "nan"], ["--scale", 0], ["--scale", "inf"], ["--scale", -2]):
        assert f"{wrong[0]} " in refused(capsys, *words, *wrong)


def test_runs_that_know_no_frame_leave_the_scene_as_it_is(scene_dir, tmp_path):
    """Those of version 0.1.0, and those that were made from the weights of others."""
    root = Path(shutil.copytree(scene_dir, tmp_path / "scene"))
    transformed(root, similarity(2.0))
    options = config()
    save_model(tmp_path / "last.ckpt", make(options), options, str(root))
    run = open_run(tmp_path / "last.ckpt", CPU)
    assert run.frame is None
    assert run.scene().frame is None
    assert told(run.scene()) == CLASSIC
    assert replace(run, frame=frame_of(load_scene(root))).scene().frame is not None


@pytest.mark.parametrize("layout", ["llff", "around", "colmap", "transforms"])
def test_scale_in_other_layouts(tmp_path, layout):
    root = tmp_path / "scene"
    if layout == "colmap":
        write_colmap(root)
    elif layout == "transforms":
        from photo_world import K, edit, read, write

        write(root, K, [{}] * 5)
    else:
        write_llff(root, facing() if layout == "llff" else around())
    if layout == "llff":
        with pytest.raises(UserError, match=r"--scale 2: .* photos from one side"):
            load_scene(root, Request(scale=2.0))
        with pytest.raises(UserError, match=r"--far 9: .* photos from one side"):
            bounded(load_scene(root), None, 9.0)
        return
    usual, scene = load_scene(root), load_scene(root, Request(scale=2.0))
    assert frame_of(scene)[0, :3].norm() == pytest.approx(2.0)
    factor = 2 / frame_of(usual)[0, :3].norm().item()
    torch.testing.assert_close(scene.cameras.c2w[:, :, 3], factor * usual.cameras.c2w[:, :, 3], atol=1e-4, rtol=1e-4)
    assert bounded(scene, 0.25, 7.0).near == pytest.approx(0.5)
    if layout == "transforms":
        edit(root, {**read(root), "aabb_scale": 1})
        with pytest.raises(UserError, match=r"--scale 2: .* has a scale of its own"):
            load_scene(root, Request(scale=2.0))
