"""Bars and corners that all pictures have alike are no part of the scene, and no background."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_backgrounds import COLOURS, LAYOUTS, things

from nerf_pl.checkpoints.views import kept_views
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


def held_out(root: Path, layout: str, pictures: list[Image.Image]) -> None:
    """Write a scene whose split for tests has two of the pictures."""
    LAYOUTS[layout](root, pictures)
    if layout == "blender":
        tests = json.loads((root / "transforms_test.json").read_text())
        tests["frames"] = tests["frames"][::8]
        (root / "transforms_test.json").write_text(json.dumps(tests))


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


@pytest.mark.parametrize("layout", ["blender", "transforms", "llff", "colmap"])
def test_all_splits_have_those_of_the_training_views(tmp_path, layout):
    """Also a split of two pictures, which by themselves have more in common."""
    photos = [photo(i, BARS["of a film"] | ((i % 8 == 0) & (Y > 0.4)), 0) for i in range(10)]
    held_out(tmp_path / "scene", layout, photos)
    if layout == "blender":  # whose views for tests are trained on here
        for i in (0, 8):
            photo(i, BARS["of a film"], 0).save(tmp_path / "scene" / f"{i:02d}.png")
    trained, tested = (load_scene(tmp_path / "scene", Request(split)) for split in ("train", "test"))
    assert (len(trained) > 5, len(tested)) == (True, 2)
    assert trained.masks is not None
    assert tested.masks is not None
    assert torch.equal(tested.masks, trained.masks[:1].expand(2, -1, -1))
    at_hand = load_scene(tmp_path / "scene", Request("test"), trained=trained)
    assert at_hand.masks is not None
    assert torch.equal(at_hand.masks, tested.masks)
    kept = kept_views({"train": trained})["train"]
    assert isinstance(kept, dict)
    assert "bars" not in kept  # which earlier versions could not read


def test_views_of_another_size_have_them_too(tmp_path):
    held_out(tmp_path / "scene", "blender", [photo(i, BARS["of a film"], 0) for i in range(10)])
    tests = json.loads((tmp_path / "scene" / "transforms_test.json").read_text())
    for frame in tests["frames"]:
        with Image.open(tmp_path / "scene" / frame["file_path"]) as picture:
            picture.resize((2 * WIDE, 2 * HIGH), Image.Resampling.NEAREST).save(
                tmp_path / "scene" / f"large_{frame['file_path']}"
            )
        frame["file_path"] = f"large_{frame['file_path']}"
    (tmp_path / "scene" / "transforms_test.json").write_text(json.dumps(tests))
    masks = load_scene(tmp_path / "scene", Request("test")).masks
    assert masks is not None
    assert torch.equal(masks[0], expected(BARS["of a film"].repeat(2, 0).repeat(2, 1)))


def test_a_dark_view_alone_has_none(tmp_path):
    """Two pictures in the dark, in a scene without bars."""
    held_out(tmp_path / "scene", "transforms", [photo(i, (i % 8 == 0) & (Y > 0.8), 0) for i in range(10)])
    assert load_scene(tmp_path / "scene", Request("test")).masks is None


def test_training_views_that_cannot_be_read_are_said(tmp_path, capsys):
    held_out(tmp_path / "scene", "blender", [photo(i, BARS["of a film"], 0) for i in range(10)])
    (tmp_path / "scene" / "01.png").write_bytes(b"damaged")
    assert load_scene(tmp_path / "scene", Request("test")).masks is None
    assert "whether the pictures for training have bars is not known" in capsys.readouterr().err


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
