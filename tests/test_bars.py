"""Bars and corners that all pictures have alike are no part of the scene, and no background."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from test_backgrounds import COLOURS, LAYOUTS, things

from nerf_pl.scenes import Request, load_scene

HIGH, WIDE = 48, 64
DOWN, ACROSS = np.mgrid[:HIGH, :WIDE]
Y, X = np.abs(2 * (DOWN + 0.5) / HIGH - 1), np.abs(2 * (ACROSS + 0.5) / WIDE - 1)
BARS = {
    "of a film": Y > 0.8,
    "of a picture that was straightened": (X > 0.97 - 0.1 * Y**2) | (Y > 0.97 - 0.1 * X**2),
    "corners of a lens": X**2 + Y**2 > 1.3,
}


def photo(i: int, bars: np.ndarray, value: int) -> Image.Image:
    """Noise, a third of it as dark as bars."""
    rng = np.random.default_rng(i)
    pixels = rng.integers(0, 256, (HIGH, WIDE, 3), np.uint8)
    pixels[rng.random((HIGH, WIDE)) < 0.15] = 0
    pixels[bars] = value
    return Image.fromarray(pixels)


def expected(bars: np.ndarray) -> torch.Tensor:
    """Pixels that count: those not within two of a bar."""
    return torch.nn.functional.max_pool2d(torch.from_numpy(bars)[None].float(), 5, 1, 2)[0] == 0


@pytest.mark.parametrize("layout", ["blender", "transforms", "llff", "colmap"])
@pytest.mark.parametrize("kind", BARS)
def test_bars_do_not_count(tmp_path, capsys, layout, kind):
    bars = BARS[kind]
    LAYOUTS[layout](tmp_path / "scene", [photo(i, bars, 0) for i in range(10)])
    scene = load_scene(tmp_path / "scene", Request())
    told = capsys.readouterr().err
    assert "are the same black bars or corners around the rest, which do not count" in told
    assert "--background" not in told
    assert (scene.plain, scene.background) == (False, None)
    assert scene.unbounded or scene.ndc is not None
    assert scene.masks is not None
    if layout in ("blender", "transforms"):  # the others have pictures of another size here
        assert torch.equal(scene.masks, expected(bars).expand(len(scene), -1, -1))


@pytest.mark.parametrize("asked", [{"masks": "none"}, {"background": "black"}, {"pictures": False}])
def test_who_wants_them_counted_has_them(tmp_path, asked):
    LAYOUTS["transforms"](tmp_path / "scene", [photo(i, BARS["of a film"], 0) for i in range(10)])
    assert load_scene(tmp_path / "scene", Request(**asked)).masks is None


def test_white_ones_count_as_little(tmp_path):
    LAYOUTS["transforms"](tmp_path / "scene", [photo(i, BARS["of a film"], 255) for i in range(10)])
    masks = load_scene(tmp_path / "scene", Request()).masks
    assert masks is not None
    assert torch.equal(masks[0], expected(BARS["of a film"]))


def sky(i: int) -> np.ndarray:
    """A white sky, which is never lower than in the first picture."""
    return 8 + i > DOWN


@pytest.mark.parametrize("colour", COLOURS.values())
def test_a_plain_background_is_none(tmp_path, colour):
    LAYOUTS["transforms"](tmp_path / "scene", things(colour))
    scene = load_scene(tmp_path / "scene", Request())
    assert scene.plain
    assert scene.masks is None


@pytest.mark.parametrize("shown", [sky, lambda i: BARS["of a film"] & (i > 0)])
def test_what_differs_between_pictures_is_none(tmp_path, shown: Callable[[int], np.ndarray]):
    LAYOUTS["transforms"](tmp_path / "scene", [photo(i, shown(i), 255) for i in range(10)])
    assert load_scene(tmp_path / "scene", Request(test_every=0)).masks is None
