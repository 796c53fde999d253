"""Exported cameras, as every layout's own and through the loaders again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_kept_views import LAYOUTS, kept_run
from tiny import CPU, config, nerf, refused

from nerf_pl.checkpoints import load_cameras, open_run
from nerf_pl.export.cameras import Pinhole, pinholes
from nerf_pl.scenes import Request, Scene, frame_of, load_scene


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def draw(root: Path, cameras: list[Pinhole]) -> None:
    """Pictures for the cameras."""
    for camera in cameras:
        file = root / "images" / camera.name
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(len(camera.name)).integers(0, 256, (camera.size[1], camera.size[0], 3), np.uint8)
        Image.fromarray(noise).save(file)


def rays(scene: Scene) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Origins and directions of each view in the coordinates of the scene's file, through the middles of pixels."""
    back = torch.linalg.inv(frame_of(scene))
    scene = replace(scene, ndc=None)
    found = []
    for i in range(len(scene)):
        world = scene.view(i).rays()
        origins = world.origins.double() @ back[:3, :3].T + back[:3, 3]
        found.append((origins, torch.nn.functional.normalize(world.directions.double() @ back[:3, :3].T, dim=1)))
    return found


def close(a: torch.Tensor, b: torch.Tensor, size: float) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, atol=2e-4 * size, rtol=0)


@pytest.mark.parametrize("written", ["transforms", "colmap"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cameras_come_back_through_the_loaders(tmp_path, layout, written):
    if written == "colmap":
        pytest.importorskip("pycolmap")
    run = kept_run(tmp_path / "scene", layout)
    views = dict(open_run(run, CPU).kept)
    shutil.rmtree(tmp_path / "scene")
    nerf("export", run, "--cameras", "out", "--num_gpus", 0)
    draw(Path("out"), pinholes(views))
    if written == "colmap":
        every = load_scene("out", Request("train", test_every=0), "colmap")
        found = {"train": every}
        before = {"train": [ray for split in ("train", "test") for ray in rays(views[split])]}
    else:
        found = {split: load_scene("out", Request(split)) for split in ("train", "test")}
        before = {split: rays(views[split]) for split in found}
    for split, scene in found.items():
        after = rays(scene)
        assert len(after) == len(before[split])
        size = max(float(origins.abs().max()) for origins, _ in before[split])
        for origins, directions in before[split]:  # the order is that of names
            same = [ray for ray in after if close(ray[0], origins, size) and close(ray[1], directions, 1)]
            assert len(same) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_reduced_run_has_the_cameras_of_its_photos(tmp_path, capsys, layout):
    """Whatever size the training read them at: what other programs read are the photos, by their own names."""
    root = tmp_path / "scene"
    run = kept_run(root, layout, downscale=2)
    nerf("export", run, "--cameras", "out", "--num_gpus", 0)
    whole = load_cameras(config("ngp"), root, "train", "test")
    for frame in json.loads(Path("out/transforms.json").read_text())["frames"]:
        file = Path("out") / frame["file_path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        inside = root / file.relative_to("out")
        shutil.copy(inside if inside.is_file() else root / file.relative_to("out/images"), file)
    for split, scene in whole.items():
        found = load_scene("out", Request(split))
        assert {found.cameras.size(i) for i in range(len(found))} == {scene.cameras.size(i) for i in range(len(scene))}
        size = max(float(origins.abs().max()) for origins, _ in rays(scene))
        after = rays(found)
        for origins, directions in rays(scene):
            assert any(close(ray[0], origins, size) and close(ray[1], directions, 1) for ray in after)
    nerf("export", run, "--cameras", "small", "--trained_size", "--num_gpus", 0)
    sides = {(camera.size, camera.focal) for camera in pinholes(whole)}
    small = {(camera.size, camera.focal) for camera in pinholes(dict(open_run(run, CPU).kept), as_trained=True)}
    assert sorted((w, h) for (w, h), _ in small) == sorted((w // 2, h // 2) for (w, h), _ in sides)
    assert "earlier version" not in capsys.readouterr().err


def test_a_run_of_an_earlier_version_says_that_it_knows_no_photos(tmp_path, capsys):
    run = kept_run(tmp_path / "scene", "blender", downscale=2)
    last = run / "checkpoints" / "last.ckpt"
    stored = torch.load(last)
    for views in stored["views"].values():
        del views["originals"]
    torch.save(stored, last)
    nerf("export", run, "--cameras", "out", "--num_gpus", 0)
    shown = capsys.readouterr()
    assert "its cameras are of the size that it was trained at" in shown.err
    assert "of 8x8 pixels" in shown.out


def test_pixels_keep_their_place_where_rays_pass_through_corners(trained):
    """As in Blender scenes of the method of 2020: its first pixel lies around the place 0."""
    scene = open_run(trained, CPU).kept["train"]
    assert scene.cameras.pixel_offset == 0
    camera = pinholes({"train": scene})[0]
    assert camera.middle == (8.5, 8.5)


def test_views_of_one_name_go_to_folders(trained):
    views = dict(open_run(trained, CPU).kept)
    names = [camera.name for camera in pinholes(views)]
    assert len(set(names)) == len(names) == 6
    assert {"train/r_0.png", "test/r_0.png"} <= set(names)
    assert len(pinholes({"train": views["train"], "test": views["train"]})) == 4  # the same views again


def test_a_file_that_is_there_stays(trained, capsys):
    run = shutil.copytree(trained, "run")  # the film goes there
    words = ["export", run, "--num_gpus", 0, "--cameras"]
    nerf(*words, "cameras.json")
    assert "6 cameras cameras.json, in the coordinates of the scene's file" in capsys.readouterr().out
    assert "cameras.json exists: give --overwrite" in refused(capsys, *words, "cameras.json")
    nerf(*words, "cameras.json", "--overwrite")
    nerf("render", run, "--path", "cameras.json", "--img_wh", 16, 16, "--depth", "none", "--num_gpus", 0)
