"""Formats of pictures and kinds of pixels: each is read as 8-bit sRGB, or one line says why not."""

import builtins
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerf_pl.errors import UserError
from nerf_pl.scenes import decode, pictures
from nerf_pl.scenes.decode import is_transparent, open_picture
from nerf_pl.scenes.memory import Budget
from nerf_pl.scenes.pictures import read_headers, read_pictures
from nerf_pl.scenes.prepare.photos import stage_photos

SIZE = (24, 16)


def pixels(channels: int = 3, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, top, (SIZE[1], SIZE[0], channels), dtype)


def read(file: Path, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The picture as every layout reads it."""
    headers = read_headers([file])
    assert headers.stored == [SIZE]
    return read_pictures([file], [size], headers.mode)[0].numpy()


def test_sixteen_bits_become_eight(tmp_path):
    grey = pixels(1, dtype=np.uint16)[..., 0]
    expected = np.round(grey / 257)[..., None].repeat(3, -1)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        assert (read(tmp_path / name) == expected).all()
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "grey32.tif")
    assert (read(tmp_path / "grey32.tif") == expected).all()


@pytest.mark.parametrize("name", ["p.png", "p.tif"])
@pytest.mark.parametrize(("white", "dtype"), [(255, "uint16"), (255, "int32"), (1023, "uint16"), (4095, "int32")])
def test_fewer_bits_in_pictures_of_many_are_seen_and_said(tmp_path, capsys, white, dtype, name):
    """All pictures tell together: a dark one stays dark."""
    if name == "p.png" and dtype == "int32":
        return  # which PNG has no room for
    levels = np.linspace(0, 1, 48).reshape(6, 8)
    files = [tmp_path / f"{i}{name}" for i in range(2)]
    for file, brightness in zip(files, (1.0, 0.01), strict=True):
        Image.fromarray((brightness * white * levels).round().astype(dtype)).save(file)
    both = read_pictures(files, [(8, 6)] * 2, "RGB")
    assert np.abs(both[0, ..., 0].numpy() - 255 * levels).max() <= 0.6
    assert both[1].max() <= 3
    assert f"{white} is taken to be white" in capsys.readouterr().err


def test_sixteen_bits_of_colour(tmp_path):
    av = pytest.importorskip("av")
    colours = pixels(3, dtype=np.uint16)
    for name, codec in (("colours.png", "png"), ("colours.tiff", "tiff")):
        layout = "rgb48be" if codec == "png" else "rgb48le"
        with av.open(str(tmp_path / name), "w", format="image2") as film:
            stream = film.add_stream(codec, rate=1)
            stream.width, stream.height, stream.pix_fmt = *SIZE, layout
            film.mux(stream.encode(av.VideoFrame.from_ndarray(colours, format=layout)))
            film.mux(stream.encode(None))
        assert np.abs(read(tmp_path / name) - colours / 257.0).max() < 1  # Pillow cuts them off


def write_deep(file: Path, values: np.ndarray) -> None:
    """A PNG or a TIFF of 16 bits in colour, or in grey with alpha, which Pillow does not write."""
    if file.suffix == ".tif":
        tifffile = pytest.importorskip("tifffile", reason='needs tifffile: pip install "nerf_pl[tiff]"')
        more = {"extrasamples": ["unassalpha"]} if values.shape[-1] in (2, 4) else {}
        tifffile.imwrite(file, values, photometric="rgb" if values.shape[-1] > 2 else "minisblack", **more)
        return
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize(("name", "channels"), [("p.png", 2), ("p.png", 3), ("p.png", 4), ("p.tif", 3), ("p.tif", 4)])
@pytest.mark.parametrize("white", [255, 1023, 4095, 65535])
def test_fewer_bits_in_colour_pictures_of_sixteen(tmp_path, capsys, name, channels, white):
    levels = pixels(channels) / 255
    levels[0, 0] = 1
    files = [tmp_path / f"{i}{name}" for i in range(2)]
    for file, brightness in zip(files, (1.0, 0.02), strict=True):
        write_deep(file, (brightness * white * levels).round().astype(np.uint16))
    mode = read_headers(files).mode
    both = read_pictures(files, [SIZE] * 2, mode).numpy().astype(float)
    assert mode == ("RGB" if channels == 3 else "RGBA")
    wanted = 255 * (levels if channels > 2 else levels[..., [0, 0, 0, 1]])
    assert np.abs(both[0] - wanted).max() <= 1
    assert both[1].max() <= 6
    assert ("is taken to be white" in capsys.readouterr().err) == (white < 65535)


@pytest.mark.parametrize("name", ["p.png", "p.tif", "p.webp"])
def test_kinds_of_pixels(tmp_path, name):
    """Grey, palettes, and either with transparency."""
    whole = Image.fromarray(pixels())
    kinds = {"L": whole.convert("L"), "P": whole.quantize(16), "1": whole.convert("1")}
    kinds["LA"], kinds["RGBA"] = whole.convert("LA"), Image.fromarray(pixels(4))
    for kind, picture in kinds.items():
        file = tmp_path / f"{kind}-{name}"
        saved = picture if not name.endswith("webp") else picture.convert("RGBA" if "A" in kind else "RGB")
        saved.save(file, **({"lossless": True, "exact": True} if name.endswith("webp") else {}))
        expected = np.asarray(picture.convert("RGBA" if kind == "RGBA" else "RGB"))
        assert (read(file)[..., : expected.shape[-1]] == expected).all(), kind


def test_a_transparent_colour_of_a_palette(tmp_path):
    picture = Image.fromarray(pixels()).quantize(16)
    picture.save(tmp_path / "p.png", transparency=3)
    found = read(tmp_path / "p.png")
    assert ((found[..., 3] == 0) == (np.asarray(picture) == 3)).all()


def test_four_inks(tmp_path):
    Image.fromarray(pixels()).resize(SIZE).convert("CMYK").save(tmp_path / "p.tif")
    assert (read(tmp_path / "p.tif") == pixels()).all()


def write_linear(file: Path, linear: np.ndarray, half: bool = False) -> None:
    av = pytest.importorskip("av")
    layout = "gbrpf32le" if linear.shape[-1] == 3 else "gbrapf32le"
    with av.open(str(file), "w", format="image2") as film:
        stream = film.add_stream(file.suffix[1:], rate=1, options={"format": "half"} if half else {})
        stream.height, stream.width = linear.shape[:2]
        stream.pix_fmt = layout
        film.mux(stream.encode(av.VideoFrame.from_ndarray(linear.astype(np.float32), format=layout)))
        film.mux(stream.encode(None))


def srgb(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(("name", "half"), [("p.exr", False), ("p.exr", True), ("p.hdr", False)])
def test_linear_light_becomes_srgb(tmp_path, name, half):
    linear = 1.5 * np.random.default_rng(0).random((SIZE[1], SIZE[0], 3)) ** 2
    linear[0, :3] = [[0, 0, 0], [0.002, 0.002, 0.002], [9, 9, 9]]
    write_linear(tmp_path / name, linear, half)
    wrong = np.abs(read(tmp_path / name).astype(float) - srgb(linear))
    exact = linear > (0 if name == "p.exr" else 0.5) * linear.max(-1, keepdims=True)  # HDR: 8 bits and one exponent
    assert wrong[exact].max() <= (1.01 if name == "p.exr" else 2)


def test_colours_of_linear_light_are_weighed_by_alpha(tmp_path):
    rng = np.random.default_rng(0)
    straight, alpha = rng.random((SIZE[1], SIZE[0], 3)), rng.choice([0.0, 0.5, 1.0], (SIZE[1], SIZE[0], 1))
    write_linear(tmp_path / "p.exr", np.concatenate([straight * alpha, alpha], -1))
    found = read(tmp_path / "p.exr")
    assert (found[..., 3:] == np.round(255 * alpha)).all()
    assert np.abs(found[..., :3] - srgb(straight))[alpha[..., 0] > 0].max() <= 1


@pytest.mark.parametrize("how", ["float32", "float16", "float64", "planar", "zlib", "straight"])
def test_tiffs_of_floating_point_numbers_are_linear_light(tmp_path, how):
    tifffile = pytest.importorskip("tifffile", reason='needs tifffile: pip install "nerf_pl[tiff]"')
    rng = np.random.default_rng(0)
    linear, alpha = rng.random((SIZE[1], SIZE[0], 3)) ** 2, rng.choice([0.5, 1.0], (SIZE[1], SIZE[0], 1))
    values, more = linear.astype(how if how.startswith("float") else np.float32), {"photometric": "rgb"}
    if how == "planar":
        values, more = np.moveaxis(values, -1, 0), {**more, "planarconfig": "separate"}
    if how == "straight":
        values = np.concatenate([linear, alpha], -1).astype(np.float32)
        more["extrasamples"] = ["unassalpha"]
    tifffile.imwrite(tmp_path / "p.tif", values, compression="zlib" if how == "zlib" else None, **more)
    found = read(tmp_path / "p.tif")
    assert np.abs(found[..., :3] - srgb(linear)).max() <= 1.01
    if how == "straight":
        assert (found[..., 3:] == np.round(255 * alpha)).all()


def test_tiffs_that_are_no_pictures_are_named(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile", reason='needs tifffile: pip install "nerf_pl[tiff]"')
    tifffile.imwrite(tmp_path / "p.tif", np.zeros((16, 24, 3), np.uint32), photometric="rgb")
    with pytest.raises(UserError, match=r"p\.tif has pixels of the kind uint32, .* save it with 8 or 16 bits"):
        read(tmp_path / "p.tif")
    tifffile.imwrite(tmp_path / "p.tif", np.zeros((16, 24, 5), np.float32), photometric="rgb")
    with pytest.raises(UserError, match=r"p\.tif has 5 channels"):
        read(tmp_path / "p.tif")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(UserError, match=r'p\.tif, a TIFF of .* numbers, needs tifffile: pip install "nerf_pl\[tiff\]"'):
        read(tmp_path / "p.tif")


@pytest.mark.parametrize("name", ["p.exr", "p.tif"])
def test_linear_light_that_is_brighter_than_white_is_said(tmp_path, capsys, name):
    tifffile = pytest.importorskip("tifffile", reason='needs tifffile: pip install "nerf_pl[tiff]"')
    for brightness, told in ((0.9, False), (255.0, True)):
        linear = np.full((SIZE[1], SIZE[0], 3), brightness, np.float32)
        if name == "p.exr":
            write_linear(tmp_path / name, linear)
        else:
            tifffile.imwrite(tmp_path / name, linear, photometric="rgb")
        read(tmp_path / name)
        assert ("is brighter than 1, which becomes white" in capsys.readouterr().err) == told


def test_damaged_linear_pictures(tmp_path):
    write_linear(tmp_path / "whole.exr", np.random.default_rng(0).random((64, 48, 3)))
    write_linear(tmp_path / "whole.hdr", np.random.default_rng(0).random((64, 48, 3)))
    for name in ("cut.exr", "cut.hdr"):
        data = (tmp_path / f"whole{name[3:]}").read_bytes()
        for length in (0, 4, 100, len(data) // 2, len(data) - 1):
            (tmp_path / name).write_bytes(data[:length])
            if name == "cut.hdr" and length == len(data) - 1:
                continue  # the format does not say how long it is
            with pytest.raises(UserError, match="not a readable picture"):
                read_headers([tmp_path / name])


def test_avif(tmp_path):
    smooth = np.kron(np.linspace(20, 230, 24), np.ones((16, 3, 1))).transpose(0, 2, 1).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "p.avif", quality=95)
    assert np.abs(read(tmp_path / "p.avif").astype(int) - smooth).max() < 12


def test_heic(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason='needs pillow-heif: pip install "nerf_pl[heic]"')
    smooth = np.kron(np.linspace(20, 230, 24), np.ones((16, 3, 1))).transpose(0, 2, 1).astype(np.uint8)
    pillow_heif.register_heif_opener()
    Image.fromarray(smooth).save(tmp_path / "IMG 1.HEIC", quality=95)
    assert np.abs(read(tmp_path / "IMG 1.HEIC").astype(int) - smooth).max() < 12
    (tmp_path / "stage").mkdir()
    staged = stage_photos(tmp_path, tmp_path / "out", 64, tmp_path / "stage", step=lambda *told: None)
    assert [(photo.name, photo.size) for photo in staged] == [("IMG_1.png", SIZE)]


def test_heic_without_its_package(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "pillow_heif":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setattr(decode, "FORMATS", tuple(name for name in decode.FORMATS if name != "HEIF"))
    decode._formats.cache_clear()
    (tmp_path / "a.heic").write_bytes(b"ftypheic")
    try:
        with pytest.raises(UserError, match=r'a\.heic is a HEIC photo.*pip install "nerf_pl\[heic\]"'):
            read_headers([tmp_path / "a.heic"])
    finally:
        decode._formats.cache_clear()


def test_what_a_file_is_does_not_follow_from_its_name(tmp_path):
    """A JPEG may be called .png. PostScript, which Pillow would hand to Ghostscript, and others are no photos."""
    Image.fromarray(pixels()).save(tmp_path / "p.png", format="JPEG")
    assert read(tmp_path / "p.png").shape == (16, 24, 3)
    Image.fromarray(pixels()).save(tmp_path / "s.png", format="EPS")
    Image.fromarray(pixels()).save(tmp_path / "g.jpg", format="GIF")
    for name in ("s.png", "g.jpg"):
        with pytest.raises(UserError, match=f"{name} is not a readable picture"):
            read_headers([tmp_path / name])
    for name in ("e.jpg", "e.tif", "e.exr"):  # of a copy that was cut off
        (tmp_path / name).touch()
        with pytest.raises(UserError, match=rf"{name} is not a readable picture \(the file is empty\): restore it"):
            read_headers([tmp_path / name])


def test_pixels_that_are_no_colours(tmp_path):
    Image.fromarray(np.random.default_rng(0).random((16, 24), np.float32)).save(tmp_path / "depth.tif")
    with pytest.raises(UserError, match=r"depth\.tif has pixels of the kind F"):
        read(tmp_path / "depth.tif")


def test_huge_pictures_are_read_without_a_word(tmp_path, monkeypatch):
    """Pillow alone would warn from 89 megapixels on, and refuse twice as many."""
    Image.new("1", (14000, 13500), 1).save(tmp_path / "huge.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_headers([tmp_path / "huge.png"]).stored == [(14000, 13500)]
    monkeypatch.setattr(pictures, "free_memory", lambda: 2_000_000_000)
    with pytest.raises(UserError, match=r"14000x13500 pixels, which take 2\.3 GB to decode, and 2\.0 GB are free"):
        read_pictures([tmp_path / "huge.png"], [(14, 13)], "RGB")


def test_threads_share_the_memory_to_decode_in():
    budget = Budget(10)
    with budget.take(6), budget.take(4):
        assert budget.left == 0
    with budget.take(500):  # alone
        assert budget.left == 0
    assert budget.left == 10


def test_transparency_is_seen_from_the_header(tmp_path):
    for kind, expected in (("RGB", False), ("RGBA", True), ("LA", True), ("L", False)):
        Image.fromarray(pixels()).convert(kind).save(tmp_path / "p.png")
        with open_picture(tmp_path / "p.png") as picture:
            assert is_transparent(picture) == expected
