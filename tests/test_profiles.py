"""Colour profiles of pictures: colours are read as the sRGB that the profile says they are."""

import io
import shutil
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from nerf_pl.scenes import profiles
from nerf_pl.scenes.decode import converted, open_picture
from nerf_pl.scenes.pictures import read_headers, read_pictures
from nerf_pl.scenes.prepare.photos import stage_photos

GAMMA = 563 / 256  # as a profile can store it
# XYZ (D50) of full red, green and blue, rows X Y Z; from the primaries of each space
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
P3 = np.array([[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]])
SIZE = (16, 12)


def number(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def profile(name: str, space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2.1."""
    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + number(0.9642) + number(1.0) + number(0.8249),
        **tags,
    }
    table, data, place = b"", b"", 128 + 4 + 12 * len(tags)
    for key, content in tags.items():
        table += key + struct.pack(">II", place + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    connection = b"Lab " if space == b"CMYK" else b"XYZ "
    head = struct.pack(">I4sI4s4s4s12x4s4x", place + len(data), b"none", 0x02100000, kind, space, connection, b"acsp")
    head += bytes(24) + number(0.9642) + number(1.0) + number(0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def of_colours(name: str, xyz: np.ndarray) -> bytes:
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(GAMMA * 256))
    tags = {
        f"{c}XYZ".encode(): b"XYZ \0\0\0\0" + b"".join(map(number, column))
        for c, column in zip("rgb", xyz.T, strict=True)
    }
    return profile(name, b"RGB ", tags | {f"{c}TRC".encode(): curve for c in "rgb"})


def of_grey(gamma: float) -> bytes:
    return profile("Grey", b"GRAY", {b"kTRC": b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))})


def of_inks() -> bytes:
    """Black ink takes away lightness, the others nothing: a table from the corners to Lab."""
    corners = [(0 if k else 255, 128, 128) for _ in range(8) for k in range(2)]
    steps = bytes(range(256))
    matrix = b"".join(map(number, np.eye(3).ravel()))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + steps * 4 + bytes(sum(corners, ())) + steps * 3
    return profile("Inks", b"CMYK", {b"A2B0": table, b"A2B1": table})


def curved(linear: np.ndarray) -> np.ndarray:
    """sRGB's curve, in 8 bits."""
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def pixels(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (SIZE[1], SIZE[0], channels), np.uint8)


def read(file) -> np.ndarray:
    return read_pictures([file], [SIZE], read_headers([file]).mode)[0].numpy()


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize(("name", "xyz"), [("Adobe RGB", ADOBE), ("Display P3", P3)])
def test_colours_become_srgb(tmp_path, capsys, name, xyz, kind):
    file, values = tmp_path / f"a.{kind}", pixels(4 if kind == "png" else 3)
    if kind in ("jpg", "webp"):
        values = np.broadcast_to(values[:1, :1], values.shape).copy()
    how = {"quality": 100, "lossless": True} if kind == "webp" else {"quality": 100} if kind == "jpg" else {}
    Image.fromarray(values).save(file, icc_profile=of_colours(name, xyz), **how)
    expected = curved((values[..., :3] / 255.0) ** GAMMA @ (np.linalg.inv(SRGB) @ xyz).T)
    found = read(file)
    assert np.abs(found[..., :3] - expected).max() < 3
    assert np.abs(values[..., :3] - expected).max() > 8
    assert (found[..., 3:] == values[..., 3:]).all()
    read(file)
    assert capsys.readouterr().err.count(f"profile '{name}'; their colours become those of sRGB") == 1


@pytest.mark.parametrize("kind", ["grey", "grey and alpha", "16 bits", "inks", "lab"])
def test_other_kinds_of_colours(tmp_path, kind):
    file, values = tmp_path / "a.tif", pixels(1)[..., 0]
    expected = curved((values / 255.0) ** 1.0)
    if kind == "grey":
        Image.fromarray(values).save(file, icc_profile=of_grey(1.0))
    elif kind == "grey and alpha":
        file = tmp_path / "a.png"
        Image.fromarray(np.stack([values, 255 - values], -1)).save(file, icc_profile=of_grey(1.0))
    elif kind == "16 bits":
        Image.fromarray(values.astype(np.uint16) * 257).save(file, icc_profile=of_grey(1.0))
    elif kind == "inks":
        inks = np.zeros((*values.shape, 4), np.uint8)
        inks[..., 3] = values
        Image.fromarray(inks, "CMYK").save(file, icc_profile=of_inks())
        lightness = 100 * (1 - values / 255.0)
        expected = curved(np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3))
    else:
        colours = Image.fromarray(pixels())
        transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        ImageCms.applyTransform(colours, transform).save(file)
        assert np.abs(read(file).astype(int) - pixels()).max() < 10  # a and b have steps of 1
        return
    found = read(file)
    assert np.abs(found[..., :3] - expected[..., None]).max() < 3
    if kind == "grey and alpha":
        assert (found[..., 3] == 255 - values).all()


def test_profiles_that_change_nothing_or_cannot_be_used(tmp_path, capsys):
    values = pixels()
    picture = Image.fromarray(values)
    usual = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, content, told in [
        ("a.png", usual, ""),
        ("b.png", b"nothing", "b.png has a colour profile that cannot be read; its colours are taken for sRGB"),
        ("c.png", of_colours("P3", P3)[:200], "c.png has a colour profile that cannot be read"),
        ("d.png", of_grey(1.0), "d.png has the colour profile 'Grey', which is for GRAY, not for RGB"),
    ]:
        file = tmp_path / name
        picture.save(file, icc_profile=content)
        assert (read(file) == values).all()
        found = capsys.readouterr().err
        assert told in found
        assert told or not found
    printed = tmp_path / "b.tif"
    picture.convert("CMYK").save(printed)
    shutil.copy(printed, tmp_path / "c.tif")
    for file in (printed, tmp_path / "c.tif"):  # each from another split
        read(file)
    told = f"{tmp_path}: pictures have the colours of a printer (CMYK) and no profile, so they are guessed: save them"
    assert capsys.readouterr().err.count(told) == 1


def test_photos_are_prepared_in_srgb(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels()).save(tmp_path / "photos" / "a.png", icc_profile=of_colours("P3", P3))
    (tmp_path / "stage").mkdir()
    stage_photos(tmp_path / "photos", tmp_path / "out", 100, tmp_path / "stage", step=lambda *_: None)
    with Image.open(tmp_path / "stage" / "a.png") as staged:
        assert profiles.PROFILE not in staged.info
        with open_picture(tmp_path / "photos" / "a.png") as photo:
            expected = converted(photo, "RGB", tmp_path / "photos" / "a.png")
        assert (np.asarray(staged) == np.asarray(expected)).all()


def test_a_profile_is_read_once(monkeypatch):
    content, built = of_colours("own", P3), []
    build = ImageCms.buildTransform
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *args: built.append(1) or build(*args))
    for _ in range(3):
        kept = io.BytesIO()
        Image.fromarray(pixels()).save(kept, "PNG", icc_profile=content)
        profiles.to_srgb(Image.open(kept))
    assert len(built) == 1
