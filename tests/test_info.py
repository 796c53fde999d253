"""nerf info: what it says of scenes and runs can be typed back."""

import json

import photo_world
import pytest
import torch
from tiny import nerf, refused

from nerf_pl.films.files import read_keyframes
from nerf_pl.scenes import Request, frame_of, load_scene
from nerf_pl.text import box_text


def told(capsys, *words: object) -> dict[str, str]:
    nerf("info", *words)
    rows = capsys.readouterr().out.splitlines()
    return {row[:11].strip(): row[13:] for row in rows}


def test_a_scene(scene_dir, capsys, tmp_path):
    found = told(capsys, scene_dir)
    assert found["layout"] == "blender"
    assert found["train"] == "4 views of 16 x 16"
    assert found["test"].startswith("2 views")
    assert found["extent"] == "all lies from (-1.5, -1.5, -1.5) to (1.5, 1.5, 1.5)"
    assert found["frame"] == "file to world: 1 0 0 0; 0 1 0 0; 0 0 1 0"
    (tmp_path / "path.json").write_text(found["film"])
    scene = load_scene(scene_dir, Request("train"))
    assert len(read_keyframes(tmp_path / "path.json", scene.cameras).cameras) == 1


@pytest.mark.parametrize("method", ["nerf", "ngp"])
def test_a_run(trained, trained_ngp, capsys, method):
    run = trained if method == "nerf" else trained_ngp
    found = told(capsys, run)
    assert found["method"].startswith(f"{method}; ")
    assert "nerf eval" in found["scores"] or "PSNR" in found["scores"]
    assert found["train"] == "4 views of 16 x 16"
    assert json.loads(found["film"])["keyframes"][0]["time"] == 0


def test_the_scores_of_a_portable_scene_are_beside_it(trained_ngp, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nerf("export", trained_ngp, "--scene", "toys.nerf", "--num_gpus", 0)
    capsys.readouterr()
    nerf("info", "toys.nerf")
    shown = capsys.readouterr()
    assert "scores       none: nerf eval toys.nerf\n" in shown.out
    assert not shown.err
    (tmp_path / "toys").mkdir()
    (tmp_path / "toys" / "metrics.json").write_text('{"psnr": 20.0, "ssim": 0.5}')
    assert told(capsys, "toys.nerf")["scores"] == "PSNR 20.00 dB, SSIM 0.5000 (toys/metrics.json)"


def test_what_is_no_scene(tmp_path, capsys):
    assert "nowhere does not exist" in refused(capsys, "info", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "is no scene folder" in refused(capsys, "info", tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("transform.json", "transforms.json"),
        ("Transforms.json", "transforms.json"),
        ("transforms.json.txt", "transforms.json"),
        ("transforms_Train.json", "transforms_train.json"),
        ("Poses_Bounds.npy", "poses_bounds.npy"),
    ],
)
def test_files_with_nearly_the_names_of_a_layout(tmp_path, capsys, name, usual):
    (tmp_path / name).touch()
    assert f"{name} is not looked for: call it {usual}" in refused(capsys, "info", tmp_path)


def test_files_of_splits_by_other_names_are_said(scene_dir, capsys, tmp_path):
    for name in ("train", "val"):
        values = json.loads((scene_dir / f"transforms_{name}.json").read_text())
        frames = [{**frame, "file_path": str(scene_dir / frame["file_path"])} for frame in values["frames"]]
        (tmp_path / f"transforms_{name}id.json").write_text(json.dumps({**values, "frames": frames}))
    (tmp_path / "transforms_trainid.json").rename(tmp_path / "transforms_train.json")
    nerf("info", tmp_path)
    assert "not read: transforms_valid.json; the files of splits are called" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("transforms_train.json", "give the folder of the scene, SCENE (its layout is blender)"),
        ("all.zip", "it is an archive; unpack it"),
        ("all.tar.gz", "it is an archive; unpack it"),
        ("walk.MOV", "nerf prepare SCENE/walk.MOV makes a scene of a film"),
        ("cameras.xml", "nerf import SCENE/cameras.xml makes a scene of it"),
        ("notes.txt", "give the folder of the scene, SCENE"),
        ("photo.jpg", "give the folder of a scene; nerf prepare makes one"),
    ],
)
def test_a_file_in_place_of_a_folder(tmp_path, capsys, name, told):
    (tmp_path / "transforms_train.json").touch()
    (tmp_path / name).write_text("<document><chunk></chunk></document>" if name.endswith("xml") else "")
    said = refused(capsys, "info", tmp_path / name)
    assert f"{name} is not a folder: {told.replace('SCENE', str(tmp_path))}" in said


def test_places_on_a_map_can_be_typed_back(tmp_path, capsys):
    """Four digits of a place millions of metres from the origin would be tens of metres off."""
    away = torch.tensor([448262.0, 5411932.0, 350.0]).double()
    c2w = photo_world.write(tmp_path, photo_world.K, [{}] * 6)
    c2w[:, :, 3] += away
    values = photo_world.read(tmp_path)
    for frame, pose in zip(values["frames"], c2w.tolist(), strict=True):
        frame["transform_matrix"] = pose
    photo_world.edit(tmp_path, values)
    found = told(capsys, tmp_path)
    (tmp_path / "path.json").write_text(found["film"])
    scene = load_scene(tmp_path, Request("train"))
    first = read_keyframes(tmp_path / "path.json", scene.cameras, frame_of(scene)).cameras
    apart = (first.c2w[0, :, 3] - scene.cameras.c2w[:, :, 3]).norm(dim=1)
    assert apart.min() < 0.002
    rows = found["frame"].removeprefix("file to world: ").split("; ")
    frame = torch.tensor([[float(word) for word in row.split()] for row in rows], dtype=torch.float64)
    there = torch.cat([c2w[0, :, 3], torch.ones(1)])
    typed = frame[:, :3] @ there[:3] + frame[:, 3]
    torch.testing.assert_close(typed, frame_of(scene)[:3] @ there, atol=1e-3, rtol=0)
    assert "448264" in found["looking"]


def turn(n: int, radius: float, middle: list[float]) -> torch.Tensor:
    """Cameras on a circle, or on one spot, that look away from its middle."""
    angle = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    back = -torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
    right = torch.linalg.cross(torch.tensor([0.0, 0, 1]).double().expand(n, 3), back)
    at = torch.tensor(middle).double() - radius * back
    return torch.stack([right, torch.linalg.cross(back, right), back, at], -1)


@pytest.mark.parametrize(
    ("poses", "cameras", "looking"),
    [
        (turn(12, 0.0, [3.0, 4, 5]), "all at (3, 4, 5)", "outwards, from that spot"),
        (turn(12, 0.0, [448262.0, 5411932, 350]), "all at (448262, 5411932, 350)", "outwards, from that spot"),
        (
            turn(12, 0.5, [3.0, 4, 5]),
            "from (2.5, 3.5, 5) to (3.5, 4.5, 5)",
            "in several directions, at no common point",
        ),
        (turn(1, 0.0, [3.0, 4, 5]), "all at (3, 4, 5)", "along (1, 0, 0)"),
        (turn(1, 0.0, [3.0, 4, 5]).repeat(9, 1, 1), "all at (3, 4, 5)", "along (1, 0, 0), all of them"),
    ],
)
def test_cameras_without_a_common_point(tmp_path, capsys, poses, cameras, looking):
    """No point is named that they do not look at, neither in the film."""
    photo_world.write(tmp_path, photo_world.K, [{}] * len(poses))
    values = photo_world.read(tmp_path)
    for frame, pose in zip(values["frames"], poses.tolist(), strict=True):
        frame["transform_matrix"] = [*pose, [0, 0, 0, 1]]
    photo_world.edit(tmp_path, values)
    found = told(capsys, tmp_path, "--test_every", 0)
    assert found["cameras"] == f"{cameras}, in the scene's own file"
    assert found["looking"] == looking
    (tmp_path / "path.json").write_text(found["film"])
    scene = load_scene(tmp_path, Request("train", test_every=0))
    first = read_keyframes(tmp_path / "path.json", scene.cameras, frame_of(scene)).cameras
    torch.testing.assert_close(first.c2w[0, :, 2], scene.cameras.c2w[0, :, 2], atol=0.01, rtol=0)


def test_boxes_as_options_take_them():
    assert box_text([-1, -0.5, 0, 1, 2.25, 1e-9]) == "-1 -0.5 0 1 2.25 0"
    assert box_text([448262.125, 5411932, -3, 448263.25, 5411940.5, 4]) == "448262.125 5411932 -3 448263.25 5411940.5 4"
