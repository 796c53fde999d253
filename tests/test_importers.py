"""Scenes as RealityCapture, Polycam, Record3D, NSVF and NeuS write them, from the definitions of their formats, come
back ray by ray."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from photo_world import read
from PIL import Image
from tiny import refused
from tool_world import SIZE, N, cameras, check, run_import, shoot, similarity

from nerf_pl.cli.import_ import Format
from nerf_pl.scenes import Request, load_scene
from nerf_pl.scenes.importers import IMPORTERS

HEADER = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"
BROWN = {"k1": 0.1, "k2": -0.04, "k3": 0.02, "k4": 0.01, "t1": 0.006, "t2": -0.004}
FX, FY, CX, CY = 60.0, 62.0, 25.3, 17.1


def pinhole(xy: np.ndarray) -> np.ndarray:
    return xy * [FX, FY] + [CX, CY]


def opencv_axes(rotation: np.ndarray) -> np.ndarray:
    """Right, down, ahead."""
    return np.stack([rotation[:, 0], -rotation[:, 1], -rotation[:, 2]], 1)


def film_lens(f: float, px: float, py: float, size: tuple[int, int]):
    """RealityCapture's: a film of 36 mm along the longer side, Brown's distortion with two tangential coefficients."""

    def project(xy: np.ndarray) -> np.ndarray:
        x, y = xy.T
        r2 = x * x + y * y
        radial = 1 + BROWN["k1"] * r2 + BROWN["k2"] * r2**2 + BROWN["k3"] * r2**3 + BROWN["k4"] * r2**4
        u = x * radial + BROWN["t1"] * (r2 + 2 * x * x) + 2 * BROWN["t2"] * x * y
        v = y * radial + BROWN["t2"] * (r2 + 2 * y * y) + 2 * BROWN["t1"] * x * y
        scale = max(size)  # pixels of the film
        return np.stack([(f / 36 * u + px) * scale + size[0] / 2, (f / 36 * v + py) * scale + size[1] / 2], 1)

    return project


def compass(rotation: np.ndarray) -> tuple[float, float, float]:
    """Heading, pitch and roll in degrees. The program's help gives the matrix world to camera (right, down, ahead)."""
    R = opencv_axes(rotation).T
    pitch, heading, roll = np.arcsin(-R[1, 2]), np.arctan2(-R[1, 0], -R[1, 1]), np.arctan2(-R[0, 2], -R[2, 2])
    (cx, cy, cz), (sx, sy, sz) = np.cos((roll, pitch, heading)), np.sin((roll, pitch, heading))
    told = [
        [cx * cz + sx * sy * sz, -cx * sz + cz * sx * sy, -cy * sx],
        [-cy * sz, -cy * cz, -sy],
        [cx * sy * sz - cz * sx, cx * cz * sy + sx * sz, -cx * cy],
    ]
    np.testing.assert_allclose(told, R, atol=1e-12)
    return tuple(np.degrees((heading, pitch, roll)).tolist())


def write_csv(root: Path, size: tuple[int, int] = SIZE, first: str = "") -> None:
    rows = []
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        f, px, py = 40.0 + i, 0.03, -0.02
        shoot(root / "images" / f"IMG_{i}.png", rotation, centre, film_lens(f, px, py, size), size)
        values = [*centre.tolist(), *compass(rotation), f, px, py, *BROWN.values()]
        rows.append(",".join([f"IMG_{i}.jpg", *map(repr, values)]))  # it knew them as JPEGs
    (root / "cameras.csv").write_text("\n".join([first + HEADER, *rows]) + "\n", encoding="utf-8-sig")


@pytest.mark.parametrize("size", [SIZE, (36, 48)])
def test_realitycapture(tmp_path, capsys, size):
    write_csv(tmp_path, size, "#cameras 4\n")
    Image.new("RGB", size).save(tmp_path / "images" / "lost.png")
    lines = run_import(capsys, tmp_path)
    assert lines[:2] == ["format: RealityCapture", f"{tmp_path / 'cameras.csv'}: 5 pictures, 4 placed"]
    assert "left out: 1 are not in the CSV file (lost.png)" in lines
    check(tmp_path)


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_realitycapture_after_a_spreadsheet(tmp_path, capsys, delimiter, encoding):
    """Of a country that writes 1,5."""
    write_csv(tmp_path / "export")
    file = tmp_path / "export" / "cameras.csv"
    text = file.read_text(encoding="utf-8-sig").replace(",", delimiter).replace(".", ",").replace(",jpg", ".jpg")
    file.write_text(text, encoding=encoding)
    run_import(capsys, tmp_path / "export")
    check(tmp_path / "export")
    assert f"did you mean {tmp_path / 'export'}?" in refused(capsys, "import", tmp_path)


def test_realityscan_with_names_of_its_own(tmp_path, capsys):
    """Version 2 says yaw, and the units; names in the letters of Windows."""
    write_csv(tmp_path)
    file = tmp_path / "cameras.csv"
    named = HEADER.replace("heading", "yaw").replace(",f,px,py", ",f_35mm,px_norm,py_norm")
    text = file.read_text(encoding="utf-8-sig").replace(HEADER, named).replace("IMG_2", "Büro")
    file.write_bytes(text.encode("cp1252"))
    (tmp_path / "images" / "IMG_2.png").rename(tmp_path / "images" / "Büro.png")
    (tmp_path / "flight.csv").write_text("#name,x,y,alt,yaw,pitch,roll\nIMG_0.jpg,1,2,3,4,5,6\n")
    run_import(capsys, tmp_path)
    check(tmp_path)


def test_realityscan_with_matrices(tmp_path, capsys):
    """Its table for OpenCV: world to camera, pixels, and OpenCV's order of the coefficients."""
    names = [f"R{r}{c}" for r in range(3) for c in range(3)]
    header = ["#name", "tx", "ty", "tz", *names, "f_pix", "px_pix", "py_pix", "k1", "k2", "t2", "t1", "k3", "k4"]
    rows = [",".join(header) + " (pixels, Brown's coefficients, ordered as those of OpenCV)"]
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shoot(tmp_path / f"IMG_{i}.png", rotation, centre, film_lens(40.0, 0.03, -0.02, SIZE))
        w2c = opencv_axes(rotation).T
        inside = [40 / 36 * SIZE[0], 0.03 * SIZE[0] + SIZE[0] / 2, -0.02 * SIZE[0] + SIZE[1] / 2]
        bends = [BROWN[name] for name in ("k1", "k2", "t2", "t1", "k3", "k4")]
        rows.append(
            ",".join([f"IMG_{i}.png", *map(repr, [*(-w2c @ centre).tolist(), *w2c.ravel().tolist(), *inside, *bends])])
        )
    (tmp_path / "cameras.csv").write_text("\n".join(rows))
    run_import(capsys, tmp_path)
    check(tmp_path)


def test_realitycapture_that_is_damaged(tmp_path, capsys):
    write_csv(tmp_path)
    file = tmp_path / "cameras.csv"
    good = file.read_text()
    for old, new, told in [
        ("IMG_2.jpg,", "IMG_2.jpg,east", "line 4 (IMG_2.jpg): x is 'east"),
        (",40.0,", ",-40,", "line 2 (IMG_0.jpg): f is -40"),
        (",0.006,-0.004\nIMG_1", "\nIMG_1", "line 2 has 14 values, not 16"),
    ]:
        assert old in good
        file.write_text(good.replace(old, new, 1))
        assert told in refused(capsys, "import", tmp_path)
    file.write_text(good)
    (tmp_path / "again.csv").write_text(good)
    assert "are both cameras of RealityCapture: name the one to import" in refused(capsys, "import", tmp_path)
    run_import(capsys, file)
    check(tmp_path)


def write_xmp(root: Path, model: str = "brown4t2") -> None:
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        f, u, v = 40.0 + i, 0.03, -0.02
        shoot(root / "images" / f"IMG_{i}.png", rotation, centre, film_lens(f, u, v, SIZE))
        turn, place, bends = (
            " ".join(map(repr, row))
            for row in (opencv_axes(rotation).T.ravel().tolist(), centre.tolist(), BROWN.values())
        )
        position = "" if i else f"<xcr:Position>{place}</xcr:Position>"  # as an attribute in files of older versions
        attribute = f'xcr:Position="{place}"' if i else ""
        (root / "images" / f"IMG_{i}.xmp").write_text(
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description xcr:Version="3" xcr:DistortionModel="{model}" xcr:FocalLength35mm="{f}" xcr:Skew="0" '
            f'xcr:AspectRatio="1" xcr:PrincipalPointU="{u}" xcr:PrincipalPointV="{v}" {attribute} '
            'xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#">'
            f"<xcr:Rotation>{turn}</xcr:Rotation>{position}"
            f"<xcr:DistortionCoeficients>{bends}</xcr:DistortionCoeficients>"
            "</rdf:Description></rdf:RDF></x:xmpmeta>"
        )


def test_realitycapture_beside_each_picture(tmp_path, capsys):
    write_xmp(tmp_path)
    Image.new("RGB", SIZE).save(tmp_path / "images" / "lost.png")
    lines = run_import(capsys, tmp_path)
    assert "left out: 1 have no XMP file with a pose (lost.png)" in lines
    check(tmp_path)
    write_xmp(tmp_path, "division")
    assert "distortion model 'division': choose one of the Brown" in refused(capsys, "import", tmp_path, "--overwrite")


def test_realitycapture_in_degrees(tmp_path, capsys):
    write_csv(tmp_path)
    file = tmp_path / "cameras.csv"
    header, *rows = file.read_text().splitlines()
    for i, row in enumerate(rows):
        name, x, y, alt, *rest = row.split(",")
        place = [13.4 + float(x) * 1e-5, 52.5 + float(y) * 1e-5, float(alt)]
        rows[i] = ",".join([name, *map(repr, place), *rest])
    file.write_text("\n".join([header, *rows]))
    assert "look like degrees: choose a local or metric" in refused(capsys, "import", tmp_path)
    file.write_text("\n".join([header.replace("alt,", ""), *rows]))
    assert "has no column alt" in refused(capsys, "import", tmp_path)


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
    values = {"w": SIZE[0], "h": SIZE[1], "K": [FX, 0, 0, 0, FY, 0, CX, CY, 1], "poses": [*poses, poses[0]]}
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
    assert f"{file} places 0 pictures that are there (4 have no pose" in refused(capsys, "import", tmp_path)
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
    lines = run_import(capsys, tmp_path)
    assert ("masks: 4" in lines) == masks
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
    assert "has 4 cameras, but there are 3 pictures" in refused(capsys, "import", tmp_path, "--overwrite", "--no_masks")
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
    write_csv(tmp_path)
    write_nsvf(tmp_path, ["a", "b"], "16 numbers")
    told = refused(capsys, "import", tmp_path)
    assert "has files of RealityCapture and NSVF: give --format realitycapture or --format nsvf" in told
    run_import(capsys, tmp_path, "--format", "realitycapture")
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
