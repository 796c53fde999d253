"""Scenes as Polycam, Record3D, NSVF and NeuS write them, from the definitions of their formats, come
back ray by ray."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from photo_world import read
from PIL import Image
from tiny import refused
from tool_world import SIZE, N, cameras, check, opencv_axes, run_import, shoot, similarity

from nerf_pl.cli.import_ import Format
from nerf_pl.scenes import Request, load_scene
from nerf_pl.scenes.importers import IMPORTERS

FX, FY, CX, CY = 60.0, 62.0, 25.3, 17.1


def pinhole(xy: np.ndarray) -> np.ndarray:
    return xy * [FX, FY] + [CX, CY]


def write_polycam(root: Path, cameras_name: str, images_name: str, wrong: float = 0.0) -> None:
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shoot(root / images_name / f"10{i}.png", rotation, centre, pinhole)
        pose = np.concatenate([rotation, centre[:, None] + wrong], 1)
        values = {f"t_{r}{c}": pose[r, c] for r in range(3) for c in range(4)}
        values |= {"fx": FX, "fy": FY, "cx": CX, "cy": CY, "width": SIZE[0], "height": SIZE[1], "blur_score": 90.0}
        (root / cameras_name).mkdir(exist_ok=True)
        (root / cameras_name / f"10{i}.json").write_text(json.dumps(values))


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("inside", ["keyframes", "."])
def test_polycam(tmp_path, capsys, corrected, inside):
    base = tmp_path / inside
    write_polycam(base, "cameras", "images", wrong=0.5 if corrected else 0.0)
    if corrected:
        write_polycam(base, "corrected_cameras", "corrected_images")
    (base / "depth").mkdir()
    Image.new("I;16", (8, 6)).save(base / "depth" / "100.png")
    Image.new("RGB", SIZE).save(base / ("corrected_images" if corrected else "images") / "200.png")
    lines = run_import(capsys, tmp_path)
    assert any("has not adjusted them" in line for line in lines) != corrected
    assert any("left out: 1 have no camera in" in line for line in lines)
    assert "depth maps: 1" in lines
    values = read(tmp_path)
    assert values["integer_depth_scale"] == 0.001
    assert values["frames"][0]["depth_file_path"] == f"{inside}/depth/100.png".removeprefix("./")
    check(tmp_path)


def test_polycam_that_is_damaged(tmp_path, capsys):
    write_polycam(tmp_path, "cameras", "images")
    file = tmp_path / "cameras" / "101.json"
    values = json.loads(file.read_text())
    for change, told in [({"t_03": None}, "t_03 is None"), ({"fx": 0}, "fx is 0"), ({"t_00": 5.0}, "no rotation")]:
        file.write_text(json.dumps({**values, **change}))
        message = refused(capsys, "import", tmp_path)
        assert str(file) in message
        assert told in message
    file.write_text(json.dumps({**values, "width": 96}))
    assert "has 48x36 pixels, but its camera" in refused(capsys, "import", tmp_path)
    (tmp_path / "images").rename(tmp_path / "pictures")
    assert "images is missing, the pictures of" in refused(capsys, "import", tmp_path)


def test_polycam_without_corrected_images(tmp_path, capsys):
    write_polycam(tmp_path, "corrected_cameras", "images")
    assert any("corrected_images is missing" in line for line in run_import(capsys, tmp_path))
    check(tmp_path)
    write_polycam(tmp_path, "cameras", "images")
    assert any("has not adjusted them" in line for line in run_import(capsys, tmp_path, "--overwrite"))
    check(tmp_path)


def quaternion(rotation: np.ndarray) -> list[float]:
    """x, y, z, w: the rotation's axis times the sine of half its angle, and the cosine."""
    angles, vectors = np.linalg.eig(rotation)
    axis = np.real(vectors[:, np.argmin(np.abs(angles - 1))])
    angle = np.arccos((np.trace(rotation) - 1) / 2)
    across = np.cross(axis, [0.3, 0.5, -0.8])
    if np.dot(np.cross(across, rotation @ across), axis) < 0:
        axis = -axis
    return [*(axis * np.sin(angle / 2)).tolist(), float(np.cos(angle / 2))]


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("place", ["EXR_RGBD/metadata.json", "metadata"])
def test_record3d(tmp_path, capsys, place, each):
    file = tmp_path / place
    poses, coefficients = [], []
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shift = i * each
        pictures = file.parent / ("rgb" if place.endswith("json") else "rgbd")
        shoot(pictures / f"{i}.png", rotation, centre, lambda xy, shift=shift: pinhole(xy) + shift)
        poses.append([*quaternion(rotation), *centre.tolist()])
        coefficients.append([FX, FY, CX + shift, CY + shift])
    columns, rows = [FX, 0, 0, 0, FY, 0, CX, CY, 1], [FX, 0, CX, 0, FY, CY, 0, 0, 1]
    values = {"w": SIZE[0], "h": SIZE[1], "K": rows if each else columns, "poses": [*poses, poses[0]]}
    if each:
        values["perFrameIntrinsicCoeffs"] = [*coefficients, coefficients[0]]
    file.write_text(json.dumps(values))
    if place.endswith("json"):
        (file.parent / "depth").mkdir()
        (file.parent / "depth" / "2.exr").touch()
    lines = run_import(capsys, tmp_path)
    assert f"left out: 1 are not in {pictures} (4)" in lines
    assert ("depth maps: 1" in lines) == place.endswith("json")
    check(tmp_path)
    for picture in pictures.iterdir():
        picture.rename(picture.with_name(f"frame_{picture.name}"))
    assert f"{file} places 0 of the pictures that are there (4 have no pose" in refused(capsys, "import", tmp_path)
    file.write_text(json.dumps({key: value[:4] if key[0] == "p" else value for key, value in values.items()}))
    assert any("poses are theirs in the order" in line for line in run_import(capsys, tmp_path, "--overwrite"))
    check(tmp_path)
    (tmp_path / "transforms.json").unlink()
    file.write_text(json.dumps({**values, "poses": [[0, 0, 0, 0, 1, 2, 3]] * 4}))
    assert "pose 0 is no rotation, its quaternion has length 0" in refused(capsys, "import", tmp_path)
    file.write_text(json.dumps({**values, "K": [1, 2, 3]}))
    assert "K is [1, 2, 3]; 9 numbers belong there" in refused(capsys, "import", tmp_path)


def write_nsvf(root: Path, names: list[str], intrinsics: str) -> None:
    (root / "pose").mkdir(parents=True)
    for name, rotation, centre in zip(names, *cameras(len(names)), strict=True):
        shoot(root / "rgb" / f"{name}.png", rotation, centre, pinhole if "16" in intrinsics else one_focal)
        matrix = np.eye(4)
        matrix[:3] = np.concatenate([opencv_axes(rotation), centre[:, None]], 1)
        np.savetxt(root / "pose" / f"{name}.txt", matrix)
    if "16" in intrinsics:
        np.savetxt(root / "intrinsics.txt", [[FX, 0, CX, 0], [0, FY, CY, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    else:
        (root / "intrinsics.txt").write_text(f"{FX} {CX} {CY} 0.\n0. 0. 0.\n0.\n1.\n{SIZE[1]} {SIZE[0]}\n")


def one_focal(xy: np.ndarray) -> np.ndarray:
    return xy * FX + [CX, CY]


@pytest.mark.parametrize("intrinsics", ["16 numbers", "five lines"])
@pytest.mark.parametrize("tests", ["1_", "2_"])
def test_nsvf(tmp_path, capsys, tests, intrinsics):
    names = ["0_0", "0_1", "0_2", "1_0", "1_1", *(["2_0"] if tests == "2_" else [])]
    write_nsvf(tmp_path, names, intrinsics)
    (tmp_path / "bbox.txt").write_text("1.0 0.0 -4.0 3.0 2.5 -1.5 0.1\n")
    lines = run_import(capsys, tmp_path)
    assert "box: (1, 0, -4) to (3, 2.5, -1.5)" in lines
    assert f"splits: train 3, val 2, test {1 if tests == '2_' else 2}" in lines
    for split, n in (("train", 3), ("val", 2), ("test", 1 if tests == "2_" else 2)):
        check(tmp_path, n, request=Request(split))
    scene = load_scene(tmp_path, Request("test"))
    assert scene.names == (("2_0",) if tests == "2_" else ("1_0", "1_1"))
    assert not scene.unbounded
    assert (scene.aabb[0].numpy() <= [1, 0, -4]).all()
    assert (scene.aabb[1].numpy() >= [3, 2.5, -1.5]).all()
    assert (scene.aabb[1] - scene.aabb[0]).numpy() == pytest.approx(2.5, rel=0.02)


def test_nsvf_that_is_damaged(tmp_path, capsys):
    write_nsvf(tmp_path, ["a", "b", "c"], "16 numbers")
    (tmp_path / "metadata.json").write_text("{")  # files of others do not matter
    (tmp_path / "notes.xml").write_text("<chunk")
    (tmp_path / "notes.csv").write_bytes(b"\xff\xfe heading")
    (tmp_path / "cameras").mkdir()
    (tmp_path / "cameras" / "1.json").mkdir()
    (tmp_path / "rgb" / "c.png").unlink()
    lines = run_import(capsys, tmp_path)
    assert f"left out: 1 are not in {tmp_path / 'rgb'} (c)" in lines
    assert not any(line.startswith(("splits", "box")) for line in lines)
    check(tmp_path, 2)
    for name, text, told in [
        ("bbox.txt", "1 1 1 0 0 0", "bbox.txt is no box"),
        ("pose/a.txt", "1 2 3", "a.txt is '1 2 3'; 16 or 12 finite numbers belong there"),
        ("intrinsics.txt", "60 0 24\n0 60 18\n0 0 nan", "9 or 11 or 12 or 16 finite numbers"),
    ]:
        good = (tmp_path / name).read_text() if (tmp_path / name).exists() else "0 0 0 1 1 1"
        (tmp_path / name).write_text(text)
        assert told in refused(capsys, "import", tmp_path, "--overwrite")
        (tmp_path / name).write_text(good)
    (tmp_path / "rgb").rename(tmp_path / "pictures")
    assert "rgb is missing, the pictures of" in refused(capsys, "import", tmp_path, "--overwrite")


def write_neus(root: Path, masks: bool = True, scaled: float = 1.0) -> np.ndarray:
    """Projections from the sphere; centres of pixels are whole numbers. Gives sphere to world."""
    scale, _, shift = similarity()
    to_world = np.diag([scale, scale, scale, 1.0])
    to_world[:3, 3] = shift
    K = np.array([[FX, 0, CX - 0.5], [0, FY, CY - 0.5], [0, 0, 1]])
    arrays = {}
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shoot(root / "image" / f"{i:03}.png", rotation, centre, pinhole)
        w2c = opencv_axes(rotation).T
        arrays[f"world_mat_{i}"] = np.eye(4)
        arrays[f"world_mat_{i}"][:3] = scaled * K @ np.concatenate([w2c, -w2c @ centre[:, None]], 1)
        arrays[f"scale_mat_{i}"] = to_world
        if masks:
            (root / "mask").mkdir(exist_ok=True)
            Image.fromarray(np.full(SIZE[::-1], 255, np.uint8)).save(root / "mask" / f"{i:03}.png")
    np.savez(root / "cameras_sphere.npz", **arrays)
    return to_world


@pytest.mark.parametrize(("masks", "scaled"), [(True, 1.0), (False, -250.0)])
def test_neus(tmp_path, capsys, masks, scaled):
    to_world = write_neus(tmp_path, masks, scaled)
    if masks:  # as others call it, and without the last row
        (tmp_path / "mask").rename(tmp_path / "masks")
        arrays = dict(np.load(tmp_path / "cameras_sphere.npz"))
        np.savez(tmp_path / "cameras_sphere.npz", **{k: v[:3] if k[0] == "w" else v for k, v in arrays.items()})
    lines = run_import(capsys, tmp_path)
    assert ("masks: 4" in lines) == masks
    assert any("no masks" in line for line in lines) != masks
    check(tmp_path, to_world=to_world)
    scene = load_scene(tmp_path, Request(test_every=0))
    assert (scene.masks is not None, scene.unbounded) == (masks, not masks)
    if masks:
        assert scene.aabb.numpy() == pytest.approx(np.array([[-1.01] * 3, [1.01] * 3]))


def test_neus_that_is_damaged(tmp_path, capsys):
    to_world = write_neus(tmp_path)
    (tmp_path / "image" / "001.png").unlink()
    (tmp_path / "mask" / "001.png").unlink()
    run_import(capsys, tmp_path)
    check(tmp_path, N - 1, to_world)
    for i, file in enumerate(sorted((tmp_path / "image").iterdir())):
        file.rename(file.with_name(f"view{'abc'[i]}.png"))
    assert "has 4 cameras for 3 pictures" in refused(capsys, "import", tmp_path, "--overwrite", "--no_masks")
    np.savez(tmp_path / "cameras_sphere.npz", world_mat_0=np.array([print], dtype=object))
    assert "damaged, or holds more than numbers" in refused(capsys, "import", tmp_path)
    np.savez(tmp_path / "cameras_sphere.npz", world_mat_0=np.eye(4))
    assert "has world_mat_0 but no scale_mat_0" in refused(capsys, "import", tmp_path)
    with (tmp_path / "cameras_sphere.npz").open("wb") as alone:
        np.save(alone, np.eye(4))
    assert "damaged" in refused(capsys, "import", tmp_path)
    (tmp_path / "cameras_sphere.npz").write_bytes(b"nothing")
    assert "damaged" in refused(capsys, "import", tmp_path)


def test_programs_are_told_apart(tmp_path, capsys):
    write_polycam(tmp_path, "cameras", "images")
    write_nsvf(tmp_path, ["a", "b"], "16 numbers")
    told = refused(capsys, "import", tmp_path)
    assert "has files of Polycam and NSVF: give --format polycam or --format nsvf" in told
    assert f"it has files of Polycam and NSVF: nerf import {tmp_path} makes" in refused(capsys, "info", tmp_path)
    run_import(capsys, tmp_path, "--format", "polycam")
    check(tmp_path)
    assert get_args(Format) == ("auto", *IMPORTERS)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "runs/x"], "--out: scene is a scene, which has no such option"),
        (["--scene", "other"], "--scene: scene is a scene"),
        (["--images", "gone"], "gone does not exist"),
    ],
)
def test_options_that_mean_nothing(tmp_path, capsys, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    Path("scene").mkdir()
    assert told in refused(capsys, "import", "scene", *words)
    Path("scan.zip").touch()
    assert "unpack it" in refused(capsys, "import", "scan.zip")
    Path("scan.psx").touch()
    assert "export its cameras" in refused(capsys, "import", "scan.psx")
    Path("old.ckpt").touch()
    assert "--overwrite: old.ckpt is a checkpoint" in refused(capsys, "import", "old.ckpt", "--overwrite")


def write_sdfstudio(root: Path) -> dict:
    frames = []
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shoot(root / f"{i:06}_rgb.png", rotation, centre, pinhole)
        pose = np.eye(4)
        pose[:3] = np.concatenate([opencv_axes(rotation), centre[:, None]], 1)
        K = [[FX, 0, CX, 0], [0, FY, CY, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
        frame = {"rgb_path": f"{i:06}_rgb.png", "camtoworld": pose.tolist(), "intrinsics": K}
        frames.append({**frame, "mono_depth_path": f"{i:06}_depth.npy", "mono_normal_path": f"{i:06}_normal.npy"})
    box = {"aabb": [[1, 0, -4], [3, 2, -2]], "near": 0.5, "far": 4.5, "radius": 1.0, "collider_type": "near_far"}
    values = {"camera_model": "OPENCV", "width": SIZE[0], "height": SIZE[1], "has_mono_prior": True, "pairs": None}
    values |= {"worldtogt": np.eye(4).tolist(), "scene_box": box, "frames": frames}
    (root / "meta_data.json").write_text(json.dumps(values))
    return values


@pytest.mark.parametrize("kind", ["open", "masks", "room"])
def test_sdfstudio(tmp_path, capsys, kind):
    values = write_sdfstudio(tmp_path)
    for i, frame in enumerate(values["frames"]):
        if kind == "masks":
            frame["foreground_mask"] = f"{i:06}_foreground.png"
            Image.new("RGB", SIZE, "white").save(tmp_path / frame["foreground_mask"])
        elif kind == "room":
            frame["sensor_depth_path"] = f"{i:06}_sensor_depth.npy"
            np.save(tmp_path / frame["sensor_depth_path"], np.full((9, 12), 4.0, np.float32))
            values["scene_box"]["aabb"] = [[-40, -40, -40], [40, 40, 40]]
    (tmp_path / "meta_data.json").write_text(json.dumps(values))
    lines = run_import(capsys, tmp_path)
    assert any("the box of the file is not kept" in line for line in lines) == (kind == "open")
    assert ("masks: 4" in lines, "depth maps: 4" in lines) == (kind == "masks", kind == "room")
    check(tmp_path)
    scene = load_scene(tmp_path, Request(test_every=0))
    assert scene.unbounded == (kind == "open")


def test_sdfstudio_that_is_damaged(tmp_path, capsys):
    values = write_sdfstudio(tmp_path)
    first = values["frames"][0]
    for name, value, told in [
        ("rgb_path", None, "frame 0 has no rgb_path"),
        ("camtoworld", [[1, 2], [3]], "frame 0 (000000_rgb.png) has no 4x4 camtoworld"),
        ("intrinsics", [[0, 0, 0]] * 3, "intrinsics is [[0, 0, 0]"),
    ]:
        damaged = {**values, "frames": [{**first, name: value}, *values["frames"][1:]]}
        (tmp_path / "meta_data.json").write_text(json.dumps(damaged))
        assert told in refused(capsys, "import", tmp_path)
    (tmp_path / "meta_data.json").write_text(json.dumps({**values, "scene_box": {"aabb": [[1, 1, 1], [0, 0, 0]]}}))
    assert "the lowest corner comes first" in refused(capsys, "import", tmp_path)


def write_gaussians(root: Path, scene: Path | None = None) -> list[dict]:
    """Of pictures in another folder, which were reduced as they were read."""
    entries = []
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        images = (scene or root) / "images"
        shoot(images / f"{i:05}.png", rotation, centre, lambda xy: xy * [FX, FY] + np.array(SIZE) / 2)
        entry = {"id": i, "img_name": f"{i:05}", "width": SIZE[0] // 2, "height": SIZE[1] // 2}
        entry |= {"position": centre.tolist(), "rotation": opencv_axes(rotation).tolist(), "fy": FY / 2, "fx": FX / 2}
        entries.append(entry)
    root.mkdir(exist_ok=True)
    (root / "cameras.json").write_text(json.dumps(entries))
    return entries


def test_gaussian_splatting(tmp_path, capsys):
    """The folder of a trained model."""
    scene, model = tmp_path / "scene", tmp_path / "model"
    entries = write_gaussians(model, scene)
    (model / "train" / "ours_30000" / "gt").mkdir(parents=True)
    (model / "point_cloud").mkdir()
    Image.new("RGB", SIZE).save(model / "train" / "ours_30000" / "gt" / "00000.png")  # no picture of camera 0
    assert "without its pictures: give --images FOLDER" in refused(capsys, "import", model)
    (model / "cfg_args").write_text("Namespace(images='images', source_path='/far/away', white_background=False)")
    assert "(not in /far/away, where the training had them): give --images" in refused(capsys, "import", model)
    run_import(capsys, model, "--images", scene / "images")
    check(model)
    (model / "cfg_args").write_text(f"Namespace(images='images', source_path='{scene}', white_background=False)")
    assert f"pictures: {scene}" in run_import(capsys, model, "--overwrite")
    check(model)
    for name, value, told in [
        ("img_name", 7, "camera 0 has no img_name"),
        ("fx", 0, "fx is 0"),
        ("position", [1], "position is"),
    ]:
        (model / "cameras.json").write_text(json.dumps([{**entries[0], name: value}]))
        assert told in refused(capsys, "import", model)
