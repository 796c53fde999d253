"""The sharpest frames of a film: which are chosen, upright, and what is no film."""

import av
import numpy as np
import pytest

from nerf_pl.errors import UserError
from nerf_pl.media import write_mp4
from nerf_pl.scenes.prepare import video


def marked(i: int, sharp: bool, width: int = 128, height: int = 96) -> np.ndarray:
    """A frame that tells its number by the grey of its left half; its right half is stripes, sharp or blurred."""
    frame = np.full((height, width, 3), 10 + 8 * i, np.uint8)
    stripes = 127 + 100 * np.sin(np.arange(width // 2) * (1.5 if sharp else 0.15))
    frame[:, width // 2 :] = stripes[:, None].astype(np.uint8)
    return frame


def number(pixels: np.ndarray) -> int:
    return round((float(pixels[:, : pixels.shape[1] // 3].mean()) - 10) / 8)


@pytest.mark.parametrize(("n", "chosen"), [(1, [7]), (3, [2, 7, 11]), (4, [2, 5, 7, 11])])
def test_the_sharpest_frame_of_each_window_is_kept(tmp_path, n, chosen):
    sharp = {2, 5, 7, 11}
    frames = [marked(i, i in sharp) for i in range(12)]
    for i in (7, 11):  # sharper still
        frames[i][::2, 64:] //= 2
    frames[11][::2, 64:] += 20
    write_mp4(tmp_path / "film.mp4", frames, fps=10)
    told = []
    kept = list(video.sharp_frames(tmp_path / "film.mp4", n, lambda done, total: told.append((done, total))))
    assert [number(pixels) for pixels in kept] == chosen
    assert kept[0].shape == (96, 128, 3)
    assert told == [(i + 1, 12) for i in range(12)]


def test_a_short_film_gives_all_of_its_frames(tmp_path):
    write_mp4(tmp_path / "film.mp4", [marked(i, True) for i in range(5)])
    assert [number(pixels) for pixels in video.sharp_frames(tmp_path / "film.mp4", 20)] == list(range(5))


@pytest.mark.parametrize(("total", "n"), [(12, 3), (100, 7), (7, 7), (3, 10), (1000, 999)])
def test_windows_are_in_order_and_of_equal_length(total, n):
    windows = [video.window_of(i, total, n) for i in range(total)]
    lengths = np.bincount(windows)
    assert windows == sorted(windows)
    assert len(lengths) == min(n, total)
    assert lengths.max() - lengths.min() <= 1
    assert lengths.min() >= 1
    assert video.window_of(total + 3, total, n) >= windows[-1]  # a film may have more than it says


def test_sharpness_is_the_variance_of_the_laplacian():
    grey = np.random.default_rng(1).integers(0, 256, (48, 64), np.uint8)
    g = grey.astype(float)
    values = [
        g[y - 1, x] + g[y + 1, x] + g[y, x - 1] + g[y, x + 1] - 4 * g[y, x]
        for y in range(1, g.shape[0] - 1)
        for x in range(1, g.shape[1] - 1)
    ]
    assert video.sharpness(grey) == pytest.approx(np.var(values), rel=1e-5)
    ramp = np.tile(np.arange(64, dtype=np.uint8), (48, 1))
    assert video.sharpness(ramp) == 0


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_films_are_turned_upright(tmp_path, degrees):
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:8] = 255  # white at the top
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(degrees)
        film.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        film.mux(stream.encode(None))
    (pixels,) = video.sharp_frames(path, 1)
    expected = np.rot90(frame, round(degrees / 90))  # the angle counts counterclockwise
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 8


@pytest.mark.parametrize(("kept", "is_told"), [(1.0, False), (0.5, True)])
def test_a_film_that_is_cut_short_is_said(tmp_path, capsys, kept, is_told):
    """Half of a walk around a scene would be missing, unnoticed."""
    film = tmp_path / "film.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), np.uint8)
    write_mp4(film, frames, fps=10)
    content = film.read_bytes()
    film.write_bytes(content[: int(kept * len(content))])
    assert (len(list(video.sharp_frames(film, 100))) == 40) != is_told
    told = capsys.readouterr().err
    assert told.startswith(f"{film}: its frames end after ") == is_told
    assert ("of 4 seconds, so it is cut short; copy it again" in told) == is_told


def test_files_that_are_no_films(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing" * 100)
    with pytest.raises(UserError, match=r"a.mp4 is no readable film \(.*\): give"):
        list(video.sharp_frames(tmp_path / "a.mp4", 5))
    with av.open(str(tmp_path / "a.wav"), "w") as sound:
        stream = sound.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=160)
        frame.sample_rate = 8000
        sound.mux(stream.encode(frame))
    with pytest.raises(UserError, match=r"a.wav has no pictures in it"):
        list(video.sharp_frames(tmp_path / "a.wav", 5))
