"""Files: what is written reads back, appears complete or not at all, and fails in one clear line."""

import errno
import sys

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from nerf_pl import media
from nerf_pl.errors import UserError
from nerf_pl.extras import extra


def gradient(height: int, width: int, shift: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x / width, y / height, np.full(x.shape, shift)], -1).astype(np.float32)


def test_atomic_write_replaces_only_on_success(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with media.atomic_write(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("first")
        assert not target.exists()

    def interrupted():
        with media.atomic_write(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "first"
    assert list(target.parent.iterdir()) == [target]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    target = tmp_path / "depth.pfm"

    def write_half():
        with media.atomic_write(target) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError) as caught:
        write_half()
    message = str(caught.value)
    assert str(target) in message
    assert "No space left on device" in message
    assert "free some space" in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_of_a_folder_is_one_line(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="in the way of a folder"):
        media.write_png(tmp_path / "runs" / "a.png", gradient(4, 4))


def test_a_folder_in_the_way_of_a_file_is_one_line(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*a\.png"):
        media.write_png(tmp_path / "a.png", gradient(4, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_to_uint8_rounds_and_clips():
    values = np.array([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 254.4 / 255, 254.6 / 255, 2.0, np.nan], np.float32)
    assert media.to_uint8(values).tolist() == [0, 0, 0, 1, 254, 255, 255, 0]
    assert media.to_uint8(torch.from_numpy(values)).tolist() == [0, 0, 0, 1, 254, 255, 255, 0]
    every = np.arange(256, dtype=np.uint8)
    assert (media.to_uint8(every) == every).all()
    assert (media.to_uint8(every.astype(np.float32) / 255) == every).all()
    assert (media.to_uint8(torch.from_numpy(every)) == every).all()


@pytest.mark.parametrize("channels", [3, 4])
def test_png_is_lossless(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    media.write_png(tmp_path / "a.png", torch.from_numpy(image))
    assert (np.asarray(Image.open(tmp_path / "a.png")) == image).all()


def test_pfm_round_trip(tmp_path):
    depth = np.random.default_rng(0).random((5, 7), np.float32) * 6
    media.write_pfm(tmp_path / "d.pfm", torch.from_numpy(depth))
    assert (media.read_pfm(tmp_path / "d.pfm") == depth).all()


def test_pfm_lies_in_the_file_as_the_format_says(tmp_path):
    media.write_pfm(tmp_path / "d.pfm", np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    header, data = (tmp_path / "d.pfm").read_bytes().split(b"-1.0\n")
    assert header == b"Pf\n3 2\n"
    assert np.frombuffer(data, "<f4").tolist() == [4, 5, 6, 1, 2, 3]  # the lowest row comes first


def test_pfm_reads_colour_and_big_endian(tmp_path):
    values = np.arange(12, dtype=">f4")
    (tmp_path / "c.pfm").write_bytes(b"PF\n2 2\n1.0\n" + values.tobytes())
    assert (media.read_pfm(tmp_path / "c.pfm") == np.arange(12.0).reshape(2, 2, 3)[::-1]).all()


@pytest.mark.parametrize("data", [b"", b"P5\n1 1\n255\n0", b"Pf\n2 2\n-1.0\nabc", b"Pf\nx y\n-1.0\n"])
def test_a_damaged_pfm_is_named(tmp_path, data):
    (tmp_path / "d.pfm").write_bytes(data)
    with pytest.raises(UserError, match=r"d\.pfm is not a complete PFM"):
        media.read_pfm(tmp_path / "d.pfm")


def test_a_missing_pfm_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*d\.pfm"):
        media.read_pfm(tmp_path / "d.pfm")


def test_depth_bytes_are_bare_float32(tmp_path):
    depth = np.arange(6, dtype=np.float32).reshape(2, 3)
    media.write_depth_bytes(tmp_path / "depth_000", depth)
    assert np.fromfile(tmp_path / "depth_000", np.float32).tolist() == [0, 1, 2, 3, 4, 5]


def test_gif_keeps_size_count_and_time(tmp_path):
    media.write_gif(tmp_path / "a.gif", (gradient(9, 11, i / 4) for i in range(4)), fps=10)
    with Image.open(tmp_path / "a.gif") as film:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(film)]
        assert film.info["duration"] == 100
        assert film.info["loop"] == 0
    assert [frame.size for frame in frames] == [(11, 9)] * 4
    assert np.abs(np.asarray(frames[2], float) - gradient(9, 11, 0.5) * 255).mean() < 12


@pytest.mark.parametrize(("size", "even"), [((48, 64), (48, 64)), ((33, 47), (34, 48))])
def test_mp4_plays_in_browsers(tmp_path, size, even):
    alive = []

    def frames():
        for i in range(7):
            alive.append(i)
            yield gradient(*size, i / 8)

    media.write_mp4(tmp_path / "a.mp4", frames(), fps=25)
    assert alive == list(range(7))
    with av.open(str(tmp_path / "a.mp4")) as film:
        stream = film.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 25
        decoded = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
    assert len(decoded) == 7
    assert all(frame.shape[:2] == even for frame in decoded)
    expected = gradient(*size, 5 / 8) * 255
    assert np.abs(decoded[5][: size[0], : size[1]] - expected).mean() < 6


def test_mp4_without_pyav_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="pip install av"):
        media.write_mp4(tmp_path / "a.mp4", [gradient(4, 4)])


@pytest.mark.parametrize("write", [media.write_gif, media.write_mp4])
def test_films_without_frames_leave_no_file(tmp_path, write):
    with pytest.raises(ValueError, match="no frames"):
        write(tmp_path / "film", iter([]))
    assert not list(tmp_path.iterdir())


def test_mp4_frames_of_different_sizes_leave_no_file(tmp_path):
    with pytest.raises(ValueError, match="a frame of"):
        media.write_mp4(tmp_path / "a.mp4", [gradient(16, 16), gradient(16, 32)])
    assert not list(tmp_path.iterdir())


def test_depth_colours_darken_evenly_and_fade_where_empty():
    depth = np.linspace(1, 7, 61, dtype=np.float32)[None]
    colours = media.depth_colours(depth, near=2, far=6)
    brightness = colours[0] @ np.array([0.30, 0.59, 0.11])
    inside = brightness[10:51]
    assert (np.diff(inside) < 0).all()
    assert np.allclose(np.diff(inside), np.diff(inside).mean(), atol=1.5)
    assert (colours[0, :11] == colours[0, 0]).all()  # nearer than near
    assert (colours[0, 50:] == colours[0, -1]).all()  # beyond far
    odd = media.depth_colours(np.array([[np.inf, np.nan]], np.float32), 2, 6)
    assert (odd[0] == colours[0, -1]).all()
    faded = media.depth_colours(torch.from_numpy(depth), 2, 6, opacity=torch.zeros(1, 61))
    assert (faded == 255).all()


def test_colours_of_far_scenes_are_even_in_disparity():
    disparity = np.linspace(1 / 0.2, 1 / 50, 61)
    colours = media.depth_colours((1 / disparity).astype(np.float32)[None], near=0.2, far=50)
    brightness = colours[0] @ np.array([0.30, 0.59, 0.11])
    assert np.allclose(np.diff(brightness), np.diff(brightness).mean(), atol=1.5)
    assert np.diff(brightness).mean() < -2


def test_the_span_of_depths():
    depth = np.linspace(1, 3, 101, dtype=np.float32)[None]
    solid = np.ones_like(depth)
    assert media.depth_span(depth, solid, 2, 6) == (2, 6)
    assert media.depth_span(depth, solid, 0.05, 100) == pytest.approx((1.04, 2.96))
    solid[0, 51:] = 0.2
    assert media.depth_span(depth, solid, 0.05, 100) == pytest.approx((1.02, 1.98))
    assert media.depth_span(depth, torch.zeros(1, 101), 0.05, 100) == (0.05, 100)
    low, high = media.depth_span(np.full((1, 5), 2.0, np.float32), np.ones((1, 5), np.float32), 0, 10)
    assert low < high < 2.1


def test_fitted_keeps_the_aspect_and_adds_black():
    white = np.full((30, 60, 3), 255, np.uint8)
    assert media.fitted(white, 60, 30) is white
    tall = media.fitted(white, 20, 40)
    assert tall.shape == (40, 20, 3)
    assert (tall[15:25] == 255).all()
    assert not tall[:15].any()
    assert not tall[25:].any()


def test_gifs_are_made_light():
    frames, fps = media.lighter((gradient(300, 960, i / 50) for i in range(50)), fps=50)
    found = list(frames)
    assert [frame.shape for frame in found] == [(150, 480, 3)] * 17
    assert fps == pytest.approx(50 / 3)
    assert np.asarray(found[1])[..., 2].mean() == pytest.approx(3 / 50 * 255, abs=1)  # every third
    frames, fps = media.lighter([gradient(30, 20)] * 4, fps=10)
    assert ([frame.shape for frame in frames], fps) == ([(30, 20, 3)] * 4, 10)


def test_pictures_are_read_as_they_are_needed(tmp_path):
    media.write_png(tmp_path / "a.png", gradient(4, 6))
    pictures = media.read_pictures([tmp_path / "a.png", tmp_path / "missing.png"])
    assert (next(pictures) == media.to_uint8(gradient(4, 6))).all()
    with pytest.raises(FileNotFoundError):
        next(pictures)


def test_side_by_side_puts_transparency_on_white():
    clear = np.zeros((2, 3, 4), np.uint8)
    joined = media.side_by_side(gradient(2, 5), torch.zeros(2, 1, 3), clear)
    assert joined.shape == (2, 9, 3)
    assert (joined[:, 5] == 0).all()
    assert (joined[:, 6:] == 255).all()


def test_paths_may_be_text(tmp_path):
    media.write_png(str(tmp_path / "a.png"), gradient(2, 2))
    assert (tmp_path / "a.png").is_file()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_tensors_and_arrays_become_the_same_bytes(dtype):
    values = torch.cat([torch.linspace(-0.2, 1.2, 4001), torch.tensor([torch.nan, torch.inf, -torch.inf])]).to(dtype)
    found = media.to_uint8(values)
    np.testing.assert_array_equal(found, media.to_uint8(values.float().numpy()))
    assert found[-3:].tolist() == [0, 255, 0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("import torch_that_is_not_there", "cannot be imported (ModuleNotFoundError: No module named 'torch_that"),
        ("raise OSError('libx.so is missing')", "cannot be imported (libx.so is missing)"),
        ("None.x", "cannot be imported (AttributeError: 'NoneType'"),
    ],
)
def test_a_package_that_is_installed_badly_is_not_told_as_missing(tmp_path, monkeypatch, content, told):
    (tmp_path / "viser.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "viser", raising=False)
    with pytest.raises(UserError) as error:
        extra("viser", "nerf view")
    assert f"nerf view needs viser, which {told}" in str(error.value)
    assert str(error.value).endswith('pip install --force-reinstall "nerf_pl[viewer]"')
