"""Scenes of Bundler and OpenMVG come back ray by ray. COLMAP models of other programs are a layout: no import."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from tiny import FLAGS, nerf, refused
from tool_world import SIZE, N, cameras, check, run_import, shoot

F, K1, K2 = 58.0, 0.08, -0.03


def bundler_lens(xy: np.ndarray) -> np.ndarray:
    """Bundler's manual: p = -P / P.z, p' = f r(p) p, from the middle of the picture, upwards."""
    up = xy * [1, -1]
    r2 = (up**2).sum(1, keepdims=True)
    p = F * (1 + K1 * r2 + K2 * r2**2) * up
    return np.stack([SIZE[0] / 2 + p[:, 0], SIZE[1] / 2 - p[:, 1]], 1)


def write_bundler(root: Path, names: str = "list.txt", prefix: str = "C:\\my photos\\") -> None:
    lines = ["# Bundle file v0.3", f"{N + 1} 1"]
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shoot(root / "images" / f"a {i}.png", rotation, centre, bundler_lens)
        lines.append(f"{F} {K1} {K2}")
        lines += [" ".join(map(repr, row)) for row in rotation.T.tolist()]
        lines.append(" ".join(map(repr, (-rotation.T @ centre).tolist())))
    lines += ["0 0 0", "0 0 0", "0 0 0", "0 0 0", "0 0 0"]
    lines += ["1.0 2.0 3.0", "255 255 255", "2 0 1 12.5 3.0 1 2 1.0 2.0"]
    (root / "bundle.out").write_text("\n".join(lines) + "\n")
    (root / names).write_text("".join(f"{prefix}a {i}.png 0 58.5\n" for i in range(N + 1)))


@pytest.mark.parametrize(("names", "prefix"), [("list.txt", "C:\\my photos\\"), ("imagelist.lst", "./")])
def test_bundler(tmp_path, capsys, names, prefix):
    write_bundler(tmp_path, names, prefix)
    (tmp_path / "notes.txt").write_text("nothing")
    lines = run_import(capsys, tmp_path)
    assert lines[:2] == ["format: Bundler", f"{tmp_path / 'bundle.out'}: 5 pictures, 4 placed"]
    assert f"left out: 1 could not be placed ({prefix}a 4.png)" in lines
    check(tmp_path)


def test_bundler_that_is_damaged(tmp_path, capsys):
    write_bundler(tmp_path)
    file = tmp_path / "bundle.out"
    good = file.read_text()
    file.write_text(good.replace(f"{F} {K1} {K2}", f"{F} {K1}", 1))
    assert "74 numbers for 5 cameras, not 15 each" in refused(capsys, "import", file)
    file.write_text(good)
    (tmp_path / "list.txt").unlink()
    assert "no list of as many pictures is beside it" in refused(capsys, "import", tmp_path)


OPENMVG = {
    "pinhole": {},
    "pinhole_radial_k1": {"disto_k1": [0.1]},
    "pinhole_radial_k3": {"disto_k3": [0.1, -0.04, 0.02]},
    "pinhole_brown_t2": {"disto_t2": [0.1, -0.04, 0.02, 0.006, -0.004]},
    "fisheye": {"fisheye": [0.08, -0.02, 0.01, 0.005]},
}


def openmvg_lens(kind: str):
    """The formulas of OpenMVG's cameras; the centre of the first pixel is at 0."""
    bends = next(iter(OPENMVG[kind].values()), [])

    def project(xy: np.ndarray) -> np.ndarray:
        x, y = xy.T
        r = np.hypot(x, y)
        if kind == "fisheye":
            theta = np.arctan(r)
            distorted = theta + sum(k * theta ** (2 * i + 3) for i, k in enumerate(bends))
            u, v = xy.T * distorted / np.maximum(r, 1e-12)
        else:
            k1, k2, k3, t1, t2 = [*bends, 0, 0, 0, 0, 0][:5]
            u, v = xy.T * (1 + k1 * r**2 + k2 * r**4 + k3 * r**6)
            u, v = u + t2 * (r**2 + 2 * x**2) + 2 * t1 * x * y, v + t1 * (r**2 + 2 * y**2) + 2 * t2 * x * y
        return np.stack([F * u + 24.8 + 0.5, F * v + 16.6 + 0.5], 1)

    return project


def write_openmvg(root: Path, kind: str) -> Path:
    views, poses, intrinsics = [], [], []
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shoot(root / "images" / f"{i}.png", rotation, centre, openmvg_lens(kind))
        data = {"filename": f"{i}.png", "local_path": "", "id_view": i, "id_intrinsic": i % 2, "id_pose": 10 + i}
        views.append({"key": i, "value": {"polymorphic_id": 1073741824, "ptr_wrapper": {"id": 1, "data": data}}})
        w2c = np.stack([rotation[:, 0], -rotation[:, 1], -rotation[:, 2]])
        poses.append({"key": 10 + i, "value": {"rotation": w2c.tolist(), "center": centre.tolist()}})
    for key in (0, 1):  # the second does not repeat the name of its type
        named = {"polymorphic_id": 1} if key else {"polymorphic_id": 2147483649, "polymorphic_name": kind}
        data = {
            "width": SIZE[0],
            "height": SIZE[1],
            "focal_length": F,
            "principal_point": [24.8, 16.6],
            **OPENMVG[kind],
        }
        intrinsics.append({"key": key, "value": {**named, "ptr_wrapper": {"id": 1, "data": data}}})
    file = root / "sfm_data.json"
    values = {"views": views, "intrinsics": intrinsics, "extrinsics": poses, "structure": []}
    file.write_text(json.dumps({"sfm_data_version": "0.3", "root_path": "/somewhere", **values}))
    return file


@pytest.mark.parametrize("kind", OPENMVG)
def test_openmvg(tmp_path, capsys, kind):
    file = write_openmvg(tmp_path, kind)
    values = json.loads(file.read_text())
    values["views"].append({"key": 9, "value": {"ptr_wrapper": {"data": {"filename": "9.png", "id_pose": 99}}}})
    file.write_text(json.dumps(values))
    assert "left out: 1 could not be placed (9.png)" in run_import(capsys, tmp_path)
    check(tmp_path)


def test_openmvg_that_is_damaged(tmp_path, capsys):
    file = write_openmvg(tmp_path, "pinhole")
    good = file.read_text()
    for old, new, told in [
        ('"pinhole"', '"spherical"', "is of the type 'spherical'"),
        ("[24.8, 16.6]", "[24.8]", "principal_point is [24.8]; 2 numbers belong there"),
        ('"extrinsics": [', '"extrinsics": [7, ', "has no list extrinsics"),
        ("58.0", "-58.0", "focal_length is -58"),
        ('"2.png"', '"1.png"', "2 cameras are of the picture"),
        ('{"sfm', '{{"sfm', "is not valid JSON"),
    ]:
        assert old in good
        file.write_text(good.replace(old, new, 1))
        assert told in refused(capsys, "import", tmp_path)


@pytest.mark.parametrize("place", ["sparse/0", "."])
def test_colmap_models_need_no_import(tmp_path, capsys, place):
    """As RealityCapture exports them: text, in one of two places, a camera for each picture, no observations."""
    pytest.importorskip("pycolmap")
    model = tmp_path / place
    model.mkdir(parents=True, exist_ok=True)
    lines = {"cameras": ["# Camera list with one line of data per camera:"], "images": [], "points3D": []}
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shoot(tmp_path / "images" / f"IMG_{i}.png", rotation, centre, lambda xy: xy * [F, F] + [24.8, 16.6])
        w2c = np.stack([rotation[:, 0], -rotation[:, 1], -rotation[:, 2]])
        w = 0.5 * np.sqrt(1 + np.trace(w2c))
        xyz = np.array([w2c[2, 1] - w2c[1, 2], w2c[0, 2] - w2c[2, 0], w2c[1, 0] - w2c[0, 1]]) / (4 * w)
        pose = " ".join(map(repr, [float(w), *xyz.tolist(), *(-w2c @ centre).tolist()]))
        lines["cameras"].append(f"{i + 1} PINHOLE {SIZE[0]} {SIZE[1]} {F} {F} 24.8 16.6")
        lines["images"] += [f"{i + 1} {pose} {i + 1} IMG_{i}.png", ""]
    for name, rows in lines.items():
        (model / f"{name}.txt").write_text("\n".join(rows) + "\n")
    told = refused(capsys, "import", tmp_path)
    assert f"needs no import, its layout is colmap: nerf train {tmp_path}" in told
    check(tmp_path)


def test_the_next_command_runs(tmp_path, capsys, monkeypatch):
    """Also where another layout would be found first, and in a folder whose name needs quotes."""
    monkeypatch.chdir(tmp_path)
    root = Path("my scene")
    write_bundler(root)
    (root / "transforms_train.json").write_text("{}")
    line = run_import(capsys, root)[-1]
    command = line.partition("; next: ")[2]
    assert command == "nerf train 'my scene' --dataset_name transforms"
    nerf(*shlex.split(command)[1:], *FLAGS, "--max_steps", 1, "--batch_size", 64, "--num_gpus", 0, "--test_every", 0)
    assert Path("runs/my scene-nerf/checkpoints/last.ckpt").is_file()
