"""Scenes as RealityCapture and RealityScan write them, from the definitions of their formats, come back ray by ray."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import refused
from tool_world import SIZE, cameras, check, opencv_axes, run_import, shoot

HEADER = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"
BROWN = {"k1": 0.1, "k2": -0.04, "k3": 0.02, "k4": 0.01, "t1": 0.006, "t2": -0.004}


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


def test_realitycapture_with_a_part_of_a_matrix(tmp_path, capsys):
    """Columns of one's own do not take the place of the angles."""
    write_csv(tmp_path)
    file = tmp_path / "cameras.csv"
    header, *rows = file.read_text(encoding="utf-8-sig").splitlines()
    file.write_text("\n".join([f"{header},r00", *(f"{row},1" for row in rows)]))
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
    for file in (tmp_path / "images").glob("*.xmp"):  # all models are the same if they bend nothing
        file.write_text(file.read_text().replace(" ".join(map(repr, BROWN.values())), "0 0 0 0 0 0"))
    assert any("without distortion" in line for line in run_import(capsys, tmp_path, "--overwrite"))


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
