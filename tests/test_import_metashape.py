"""Metashape's cameras.xml, written from its manual, comes back ray by ray."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import refused
from tool_world import SIZE, N, cameras, check, run_import, shoot, similarity

F, CX, CY = 55.0, 1.7, -0.9
BROWN = {"b1": 1.3, "k1": 0.1, "k2": -0.04, "k3": 0.02, "k4": 0.01, "p1": 0.006, "p2": -0.004}


def frame_lens(k: dict[str, float]):
    """The manual's formulas of a frame camera."""
    k = {name: k.get(name, 0.0) for name in ("b1", "k1", "k2", "k3", "k4", "p1", "p2")}

    def project(xy: np.ndarray) -> np.ndarray:
        x, y = xy.T
        r = np.hypot(x, y)
        radial = 1 + k["k1"] * r**2 + k["k2"] * r**4 + k["k3"] * r**6 + k["k4"] * r**8
        u = x * radial + k["p1"] * (r**2 + 2 * x**2) + 2 * k["p2"] * x * y
        v = y * radial + k["p2"] * (r**2 + 2 * y**2) + 2 * k["p1"] * x * y
        return np.stack([SIZE[0] * 0.5 + CX + u * F + u * k["b1"], SIZE[1] * 0.5 + CY + v * F], 1)

    return project


def fisheye_lens(k: dict[str, float]):
    """The manual's formulas of a fisheye camera."""

    def project(xy: np.ndarray) -> np.ndarray:
        r0 = np.maximum(np.hypot(*xy.T), 1e-12)
        x, y = xy.T * np.arctan(r0) / r0
        r2 = x * x + y * y
        radial = 1 + k["k1"] * r2 + k["k2"] * r2**2
        u = x * radial + k["p1"] * (r2 + 2 * x**2) + 2 * k["p2"] * x * y
        v = y * radial + k["p2"] * (r2 + 2 * y**2) + 2 * k["p1"] * x * y
        return np.stack([SIZE[0] * 0.5 + CX + u * F, SIZE[1] * 0.5 + CY + v * F], 1)

    return project


def calibration(k: dict[str, float], f: float = F, kind: str = "adjusted", projection: str = "") -> str:
    values = "".join(f"<{name}>{value!r}</{name}>" for name, value in {"f": f, "cx": CX, "cy": CY, **k}.items())
    told = f' type="{projection}"' if projection else ""
    return f'<calibration{told} class="{kind}"><resolution width="{SIZE[0]}" height="{SIZE[1]}"/>{values}</calibration>'


def sensor(inside: str, number: int = 0, kind: str = "frame") -> str:
    size = f'<resolution width="{SIZE[0]}" height="{SIZE[1]}"/>'
    return f'<sensor id="{number}" label="lens" type="{kind}">{size}{inside}</sensor>'


def camera(number: int, rotation: np.ndarray, centre: np.ndarray, **attributes: object) -> str:
    """Camera to chunk: the axes are right, down, ahead."""
    pose = np.eye(4)
    pose[:3] = np.stack([rotation[:, 0], -rotation[:, 1], -rotation[:, 2], centre], 1)
    told = {"id": number, "sensor_id": 0, "label": f"photo {number}", **attributes}
    words = " ".join(f'{name}="{value}"' for name, value in told.items())
    return f"<camera {words}><transform>{' '.join(map(repr, pose.ravel().tolist()))}</transform></camera>"


def transform() -> tuple[str, np.ndarray, np.ndarray]:
    """The similarity from chunk to world; and the world's cameras as the chunk has them."""
    scale, turn, shift = similarity()
    rotations, centres = cameras()
    text = " ".join(map(repr, turn.ravel().tolist()))
    moved = " ".join(map(repr, shift.tolist()))
    tag = f"<transform><rotation>{text}</rotation><translation>{moved}</translation><scale>{scale}</scale></transform>"
    return tag, turn.T @ rotations, (centres - shift) @ turn / scale


def write(root: Path, sensors: str, inside: str, more: str = "") -> None:
    root.mkdir(exist_ok=True)
    chunk = f'<chunk label="Chunk 1"><sensors>{sensors}</sensors>{more}<cameras>{inside}</cameras></chunk>'
    (root / "cameras.xml").write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<document version="2.0.0">{chunk}</document>'
    )


def photos(root: Path, lens, suffix: str = ".png") -> None:
    for i, (rotation, centre) in enumerate(zip(*cameras(), strict=True)):
        shoot(root / "images" / f"photo {i}{suffix}", rotation, centre, lens)


@pytest.mark.parametrize(
    ("kind", "where"),
    [("frame", "component"), ("frame", "chunk"), ("fisheye", "chunk"), ("equidistant_fisheye", "component")],
)
def test_views_agree_with_the_world(tmp_path, capsys, kind, where):
    k = BROWN if kind == "frame" else {"k1": 0.08, "k2": -0.02, "p1": 0.006, "p2": -0.004}
    photos(tmp_path, (frame_lens if kind == "frame" else fisheye_lens)(k))
    tag, rotations, centres = transform()
    owner = {"component_id": 3} if where == "component" else {}
    inside = [camera(i, rotations[i], centres[i], **owner) for i in range(N)]
    more = f'<components><component id="3">{tag}</component></components>' if owner else tag
    calibrations = calibration({}, 30.0, "initial") + calibration(k, projection=kind)
    kind = kind.removeprefix("equidistant_")  # sensors keep the older name
    group = f'<group id="0" label="Group">{"".join(inside[:2])}</group>'
    write(tmp_path, sensor(calibrations, kind=kind), group + "".join(inside[2:]), more)
    lines = run_import(capsys, tmp_path)
    assert f"{tmp_path / 'cameras.xml'}: 4 pictures, 4 placed" in lines
    assert lines[-1] == f"{tmp_path / 'transforms.json'}; next: nerf train {tmp_path}"
    check(tmp_path)


def test_several_sensors_and_what_is_left_out(tmp_path, capsys):
    rotations, centres = cameras()
    photos(tmp_path, frame_lens(BROWN))
    shoot(tmp_path / "images" / "photo 1.png", rotations[1], centres[1], frame_lens({"k1": -0.1}))
    inside = [camera(0, rotations[0], centres[0]), camera(1, rotations[1], centres[1], sensor_id=1)]
    inside += [camera(2, rotations[2], centres[2], enabled="false"), '<camera id="3" sensor_id="0" label="photo 3"/>']
    inside += [camera(9, rotations[2], centres[2]), camera(8, rotations[2], centres[2], sensor_id=2)]
    sensors = sensor(calibration(BROWN)) + sensor(calibration({"k1": -0.1}), 1) + sensor("", 2, "spherical")
    write(tmp_path, sensors, "".join(inside))
    (tmp_path / "masks").mkdir()
    Image.new("L", SIZE, 255).save(tmp_path / "masks" / "photo 0_mask.png")
    lines = run_import(capsys, tmp_path)
    assert "left out: 1 are disabled (photo 2)" in lines
    assert "left out: 1 are not aligned (photo 3)" in lines
    assert f"left out: 1 are not in {tmp_path} (photo 9)" in lines
    assert any("sensors of a type that cannot be imported (spherical) (photo 8)" in line for line in lines)
    assert "masks: 1" in lines
    check(tmp_path, 2)
    written = json.loads((tmp_path / "transforms.json").read_text())
    assert written["frames"][0]["mask_path"] == "masks/photo 0_mask.png"
    told = refused(capsys, "import", tmp_path)
    assert "transforms.json exists: give --overwrite" in told
    run_import(capsys, tmp_path, "--overwrite", "--no_masks")
    assert "mask_path" not in (tmp_path / "transforms.json").read_text()


def test_geographic_coordinates(tmp_path, capsys):
    """A chunk in metres from the middle of the earth: the origin is moved, and the file says so."""
    rotations, centres = cameras()
    photos(tmp_path, frame_lens(BROWN))
    away = np.array([4_000_000.0, 500_000.0, 4_900_000.0])
    words = " ".join(map(str, away))
    more = f"<transform><translation>{words}</translation><scale>1</scale></transform>"
    write(tmp_path, sensor(calibration(BROWN)), "".join(map(camera, range(N), rotations, centres)), more)
    assert any("the origin is moved to (4000002, 500001, 489999" in line for line in run_import(capsys, tmp_path))
    applied = np.eye(4)
    applied[:3] = json.loads((tmp_path / "transforms.json").read_text())["applied_transform"]
    back = np.linalg.inv(applied)
    back[:3, 3] -= away
    check(tmp_path, to_world=back)


def test_components_that_nothing_ties(tmp_path, capsys):
    rotations, centres = cameras()
    photos(tmp_path, frame_lens(BROWN))
    inside = [camera(i, rotations[i], centres[i], component_id=int(i == 1)) for i in range(N)]
    parts = '<components><component id="0"/><component id="1"/></components>'
    write(tmp_path, sensor(calibration(BROWN)), "".join(inside), parts)
    assert "left out: 1 are in another component than most (photo 1)" in run_import(capsys, tmp_path)
    check(tmp_path, 3)


def test_pictures_elsewhere_and_the_file_by_name(tmp_path, capsys):
    rotations, centres = cameras()
    photos(tmp_path / "photos", frame_lens(BROWN), ".PNG")
    write(tmp_path / "scene", sensor(calibration(BROWN)), "".join(map(camera, range(N), rotations, centres)))
    told = refused(capsys, "import", tmp_path / "scene")
    assert "places 0 of the pictures that are there (4 are not in" in told
    assert "--images FOLDER" in told
    file = tmp_path / "scene" / "cameras.xml"
    run_import(capsys, file, "--images", tmp_path / "photos", "--format", "metashape")
    written = json.loads((tmp_path / "scene" / "transforms.json").read_text())
    assert written["frames"][0]["file_path"] == "../photos/images/photo 0.PNG"
    check(tmp_path / "scene")


def test_groups_tell_pictures_of_one_name_apart(tmp_path, capsys):
    rotations, centres = cameras()
    for i in range(N):
        shoot(tmp_path / "abcd"[i] / "shot.png", rotations[i], centres[i], frame_lens(BROWN))
    inside = [camera(i, rotations[i], centres[i], label="shot") for i in range(N)]
    groups = [f'<group label="{"abcd"[i]}">{inside[i]}</group>' for i in range(N)]
    write(tmp_path, sensor(calibration(BROWN)), "".join(groups))
    run_import(capsys, tmp_path)
    check(tmp_path)
    write(tmp_path, sensor(calibration(BROWN)), "".join(inside))
    assert "have several pictures of their name" in refused(capsys, "import", tmp_path, "--overwrite")


@pytest.mark.parametrize(
    ("sensors", "told"),
    [
        (sensor(calibration({"b2": 9.0})), "a skew that moves pixels by 2.9"),
        (sensor(calibration({"p3": 0.1})), "p3 0.1, which transforms.json cannot say"),
        (sensor(calibration({"k1": 0.1}, -1)), "focal length -1"),
        (sensor(calibration({})).replace("55.0", "fifty"), "f is 'fifty'"),
        (sensor(""), "4 have no sensor with a calibration): align the pictures"),
        (sensor(calibration({})).replace('"48"', '"0"'), "resolution 0x36"),
    ],
)
def test_what_cannot_be_imported_is_one_line(tmp_path, capsys, sensors, told):
    rotations, centres = cameras()
    photos(tmp_path, frame_lens({}))
    write(tmp_path, sensors, "".join(map(camera, range(N), rotations, centres)))
    assert told in refused(capsys, "import", tmp_path)
    assert not (tmp_path / "transforms.json").exists()


def test_damaged_files(tmp_path, capsys):
    rotations, centres = cameras()
    photos(tmp_path, frame_lens({}))
    mirrored = rotations * np.array([1.0, 1.0, -1.0])
    write(tmp_path, sensor(calibration({})), "".join(map(camera, range(N), mirrored, centres)))
    assert "camera photo 0 has a pose that is no rotation" in refused(capsys, "import", tmp_path)
    (tmp_path / "cameras.xml").write_text("<document><chunk>")
    assert "cameras.xml is not valid XML" in refused(capsys, "import", tmp_path)
    (tmp_path / "cameras.xml").write_text("<other/>")
    assert "no files of a program that is known (docs/importing.md lists them)" in refused(capsys, "import", tmp_path)
    assert "no files of Metashape" in refused(capsys, "import", tmp_path, "--format", "metashape")
    assert "does not exist" in refused(capsys, "import", tmp_path / "gone.xml")
