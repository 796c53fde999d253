"""Published data sets that come with poses: what is imported, and what is said of others."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import refused
from tool_world import SIZE, N, cameras, check, opencv_axes, run_import, shoot

from nerf_pl.scenes import Request

FX, FY, CX, CY = 60.0, 62.0, 25.3, 17.1
K = np.array([[FX, 0, CX], [0, FY, CY], [0, 0, 1]])
BENT = {"k1": 0.08, "k2": -0.03}


def pinhole(xy: np.ndarray) -> np.ndarray:
    return xy * [FX, FY] + [CX, CY]


def bent(xy: np.ndarray) -> np.ndarray:
    r2 = (xy**2).sum(1, keepdims=True)
    return pinhole(xy * (1 + BENT["k1"] * r2 + BENT["k2"] * r2**2))


def c2w_of(rotation: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """4x4, with the axes right, down, ahead."""
    return np.concatenate([np.concatenate([opencv_axes(rotation), centre[:, None]], 1), [[0, 0, 0, 1]]])


def write_nerfplusplus(root: Path) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = K
    views = list(enumerate(zip(*cameras(6), strict=True)))
    for split, chosen in (("train", views[:4]), ("test", views[4:])):
        for i, (rotation, centre) in chosen:
            shoot(root / split / "rgb" / f"{i:05d}.png", rotation, centre, pinhole)
            for part, values in (("pose", c2w_of(rotation, centre)), ("intrinsics", matrix)):
                file = root / split / part / f"{i:05d}.txt"
                file.parent.mkdir(exist_ok=True)
                file.write_text(" ".join(map(str, values.flatten())))


@pytest.mark.parametrize("validation", ["none", "links", "copies"])
def test_nerfplusplus(tmp_path, capsys, validation):
    write_nerfplusplus(tmp_path)
    if validation == "links":
        for file in (tmp_path / "test").rglob("*.*"):
            link = tmp_path / "validation" / file.relative_to(tmp_path / "test")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(file, link.parent))
    elif validation == "copies":
        shutil.copytree(tmp_path / "test", tmp_path / "validation")
    lines = run_import(capsys, tmp_path)
    assert "format: NeRF++" in lines
    assert ("splits: train 4, test 2" if validation == "none" else "splits: train 4, val 2, test 2") in lines
    for split, n in (("train", 4), ("test", 2), *([("val", 2)] if validation != "none" else [])):
        check(tmp_path, n, request=Request(split))
    (tmp_path / "train/intrinsics/00001.txt").unlink()
    assert "00001.txt is missing, the intrinsics of" in refused(capsys, "import", tmp_path, "--overwrite")


@pytest.mark.parametrize("folder", ["blended_images", "images"])
def test_mvsnet(tmp_path, capsys, folder):
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shoot(tmp_path / folder / f"{i:08d}.png", rotation, centre, pinhole)
        Image.new("RGB", SIZE).save(tmp_path / folder / f"{i:08d}_masked.png")  # of BlendedMVS
        w2c = np.linalg.inv(c2w_of(rotation, centre))
        rows = ["extrinsic", *(" ".join(map(str, row)) for row in w2c), "", "intrinsic"]
        rows += [*(" ".join(map(str, row)) for row in K), "", "2.0 0.03 128 6.0"]  # depths
        (tmp_path / "cams").mkdir(exist_ok=True)
        (tmp_path / "cams" / f"{i:08d}_cam.txt").write_text("\n".join(rows))
    (tmp_path / "cams" / "pair.txt").write_text("4\n")
    (tmp_path / "cams" / "00000009_cam.txt").write_text("extrinsic intrinsic")
    lines = run_import(capsys, tmp_path)
    assert "format: MVSNet" in lines
    assert f"left out: 1 are not in {tmp_path / folder} (00000009)" in lines
    check(tmp_path)
    (tmp_path / "cams" / "00000001_cam.txt").write_text("extrinsic 1 2 3\nintrinsic")
    assert "00000001_cam.txt: extrinsic is '1 2 3 intrinsic'; 16 numbers" in refused(
        capsys, "import", tmp_path, "--overwrite"
    )


def write_nerfies(root: Path, folder: str = "1x", width: int = SIZE[0]) -> None:
    """The pictures have this width; the cameras tell of those of 1x."""
    names = [f"left_{i:06d}" for i in range(N)]
    (root / "camera").mkdir(parents=True)
    for name, rotation, centre in zip(names, *cameras(), strict=True):
        size = width, width * SIZE[1] // SIZE[0]
        shoot(root / "rgb" / folder / f"{name}.png", rotation, centre, lambda xy: bent(xy) * width / SIZE[0], size)
        values = {
            "orientation": opencv_axes(rotation).T.tolist(), "position": centre.tolist(), "focal_length": FX,
            "principal_point": [CX, CY], "skew": 0.0, "pixel_aspect_ratio": FY / FX,
            "radial_distortion": [*BENT.values(), 0.0], "tangential_distortion": [0.0, 0.0], "image_size": list(SIZE),
        }  # fmt: skip
        (root / "camera" / f"{name}.json").write_text(json.dumps(values))
    lists = {"ids": names, "train_ids": names[:3], "val_ids": names[2:]}
    (root / "dataset.json").write_text(json.dumps(lists))


@pytest.mark.parametrize(("folder", "width"), [("1x", SIZE[0]), ("2x", SIZE[0] // 2)])
def test_nerfies(tmp_path, capsys, folder, width):
    write_nerfies(tmp_path, folder, width)
    shutil.copytree(tmp_path / "rgb" / folder, tmp_path / "rgb" / "16x")
    lines = run_import(capsys, tmp_path)
    assert "format: Nerfies" in lines
    assert f"pictures: {tmp_path / 'rgb' / folder}" in lines
    assert "splits: train 3, test 1" in lines  # the third is trained on
    for split, n in (("train", 3), ("test", 1)):
        check(tmp_path, n, request=Request(split))
    camera = tmp_path / "camera" / "left_000001.json"
    values = json.loads(camera.read_text())
    for key, value, told in [
        ("orientation", [1, 2], "orientation is [1, 2]; three rows"),
        ("image_size", 3, "image_size is 3; two numbers"),
        ("focal_length", None, "focal_length is None"),
    ]:
        camera.write_text(json.dumps({**values, key: value}))
        assert told in refused(capsys, "import", tmp_path, "--overwrite")
    shutil.rmtree(tmp_path / "rgb")
    assert "1x is missing, the pictures of" in refused(capsys, "import", tmp_path, "--overwrite")


def test_one_split_of_nerfplusplus(tmp_path, capsys):
    write_nerfplusplus(tmp_path)
    assert "format: NSVF" in run_import(capsys, tmp_path / "train")
    check(tmp_path / "train", 4)
    (tmp_path / "train/intrinsics/00001.txt").unlink()
    assert "00001.txt is missing" in refused(capsys, "import", tmp_path / "train", "--overwrite")


def test_scannet(tmp_path, capsys):
    (tmp_path / "intrinsic").mkdir()
    (tmp_path / "pose").mkdir()
    np.savetxt(tmp_path / "intrinsic/intrinsic_color.txt", np.pad(K, (0, 1)) + np.diag([0, 0, 0, 1]))
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shoot(tmp_path / "color" / f"{i}.png", rotation, centre, pinhole)
        np.savetxt(tmp_path / "pose" / f"{i}.txt", c2w_of(rotation, centre))
    shutil.copy(tmp_path / "color/0.png", tmp_path / "color/7.png")
    (tmp_path / "pose/7.txt").write_text("-inf -inf -inf -inf\n" * 4)
    lines = run_import(capsys, tmp_path)
    assert "format: ScanNet" in lines
    assert "left out: 1 could not be placed (7.png)" in lines
    check(tmp_path)
    for lens, told in (
        ("-1 0 0\n0 1 0\n0 0 1", "has focal length -1"),
        ("60 9 0\n0 60 0\n0 0 1", "has a skew that moves"),
    ):
        (tmp_path / "intrinsic/intrinsic_color.txt").write_text(lens)
        assert told in refused(capsys, "import", tmp_path, "--overwrite")


@pytest.mark.parametrize("place", [".", ".."])
def test_replica(tmp_path, capsys, place):
    root = tmp_path / "room0"
    lines = []
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shoot(root / "results" / f"frame{i:06d}.png", rotation, centre, lambda xy: pinhole(xy) + 0.5)
        Image.fromarray(np.full(SIZE[::-1], 4 * 1000, np.uint16)).save(root / "results" / f"depth{i:06d}.png")
        lines.append(" ".join(map(str, c2w_of(rotation, centre).flatten())))
    (root / "traj.txt").write_text("\n".join(lines) + "\n")
    camera = {"w": SIZE[0], "h": SIZE[1], "fx": FX, "fy": FY, "cx": CX, "cy": CY, "scale": 1000.0}
    (root / place / "cam_params.json").write_text(json.dumps({"camera": camera}))
    told = run_import(capsys, root)
    assert "format: Replica" in told
    assert f"depth maps: {N}" in told
    check(root)
    (root / "traj.txt").write_text("\n".join(lines[1:]))
    assert f"has 3 lines for {N} pictures" in refused(capsys, "import", root, "--overwrite")
    (root / place / "cam_params.json").unlink()
    assert "cam_params.json is missing" in refused(capsys, "import", root, "--overwrite")


def rotation_vector(rotation: np.ndarray) -> list[float]:
    angle = np.arccos((np.trace(rotation) - 1) / 2)
    axis = [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    return (np.array(axis) * angle / (2 * np.sin(angle))).tolist()


@pytest.mark.parametrize("place", [".", "opensfm"])
@pytest.mark.parametrize("kind", ["perspective", "brown", "fisheye"])
def test_opensfm(tmp_path, capsys, place, kind):
    side = max(SIZE)
    camera = {"projection_type": kind, "width": SIZE[0], "height": SIZE[1], **BENT}
    if kind == "brown":
        camera |= {"focal_x": FX / side, "focal_y": FY / side, "k3": 0.0, "p1": 0.0, "p2": 0.0}
        camera |= {"c_x": (CX - SIZE[0] / 2) / side, "c_y": (CY - SIZE[1] / 2) / side}
    else:
        camera["focal"] = FX / side
    lens = {"brown": bent, "perspective": perspective, "fisheye": fisheye}[kind]
    shots = {}
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shoot(tmp_path / "images" / f"DJI_{i:04d}.png", rotation, centre, lens)
        turn = opencv_axes(rotation).T
        told = {"rotation": rotation_vector(turn), "translation": (-turn @ centre).tolist(), "camera": "v2 dji fc"}
        shots[f"DJI_{i:04d}.png"] = told
    small = {"cameras": {}, "shots": {"DJI_9999.png": {}}, "points": {}}
    file = tmp_path / place / "reconstruction.json"
    file.parent.mkdir(exist_ok=True)
    parts = [small, {"cameras": {"v2 dji fc": camera}, "shots": shots, "points": {}}]
    file.write_text(json.dumps(parts))
    lines = run_import(capsys, tmp_path)
    assert "format: OpenSfM" in lines
    assert "2 reconstructions: the largest is taken, without 1 picture" in lines
    check(tmp_path)
    camera["projection_type"] = "dual"
    file.write_text(json.dumps(parts))
    assert "has the projection 'dual'; one of perspective" in refused(capsys, "import", tmp_path, "--overwrite")
    camera["projection_type"] = kind
    for wrong in ("v3", ["v3"]):
        shots["DJI_0001.png"]["camera"] = wrong
        file.write_text(json.dumps(parts))
        assert f"has the camera {wrong!r}, which is not there" in refused(capsys, "import", tmp_path, "--overwrite")


def perspective(xy: np.ndarray) -> np.ndarray:
    r2 = (xy**2).sum(1, keepdims=True)
    return xy * (1 + BENT["k1"] * r2 + BENT["k2"] * r2**2) * FX + np.array(SIZE) / 2


def fisheye(xy: np.ndarray) -> np.ndarray:
    radius = np.linalg.norm(xy, axis=1, keepdims=True)
    theta = np.arctan(radius)
    bent_angle = theta * (1 + BENT["k1"] * theta**2 + BENT["k2"] * theta**4)
    return xy / np.maximum(radius, 1e-12) * bent_angle * FX + np.array(SIZE) / 2


@pytest.mark.parametrize(
    ("files", "photos", "told"),
    [
        (
            ("groundtruth.txt", "rgb.txt"),
            "rgb/1.png",
            "TUM RGB-D, whose poses are not read; to place its photos anew: ",
        ),
        (("mav0/cam0/data.csv",), "mav0/cam0/data/1.png", "EuRoC"),
        (("sensors/sensors.txt",), "sensors/records_data/1.jpg", "Kapture"),
        (("cameras.sfm",), "images/1.jpg", "Meshroom"),
        (("odometry.csv", "camera_matrix.csv", "depth/000000.png"), "rgb.mp4", "Stray Scanner"),
        (("lowres_wide.traj",), "lowres_wide/1.png", "ARKitScenes"),
        (("intri.yml", "extri.yml"), "images/00/1.png", "EasyMocap"),
        (("scan.usdz",), "", "it has no photos, and scan.usdz alone is nothing to learn from"),
        (("depth/1.png", "masks/1.png"), "color/0/1.png", "for photos alone use `nerf prepare`: "),
    ],
)
def test_what_is_not_read_is_named_with_what_to_do(tmp_path, monkeypatch, capsys, files, photos, told):
    monkeypatch.chdir(tmp_path)  # a message with long paths is shortened
    root = Path("found")
    for name in (*files, *([photos] if photos else [])):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    place = root / photos if photos.endswith("mp4") else (root / photos).parent
    for words in (("train", root), ("import", root)):
        line = refused(capsys, *words)
        assert told in line
        assert not photos or f"nerf prepare {place} --out" in line
