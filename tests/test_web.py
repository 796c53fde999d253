"""Pages of fields that are known: the grid, its bytes, and the rays through it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_mesh import Ball
from tiny import nerf, refused
from torch.nn.functional import normalize

from nerf_pl.export.options import WebOptions
from nerf_pl.export.web import bake, coding, opacity, tune
from nerf_pl.export.web.bake import web_page
from nerf_pl.export.web.colours import Looks, fit_points, fit_table, shown
from nerf_pl.export.web.faint import foretold
from nerf_pl.export.web.grid import CHANNELS, FEATURES, Grid, numbers_of
from nerf_pl.export.web.march import picture
from nerf_pl.export.web.pack import LEVELS, UNSAFE, Baked, as_text, before, pack, quantised, unpack
from nerf_pl.export.web.space import Space
from nerf_pl.rendering import render_view
from nerf_pl.scenes import Scene, load_scene


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(tune, "RAYS", {"cpu": 2**9})
    monkeypatch.setattr(tune, "BATCH", {"cpu": 2**8})
    monkeypatch.setattr(bake, "RAYS", {"cpu": 2**12})


@pytest.fixture
def scene(scene_dir) -> Scene:
    scene = load_scene(scene_dir)
    return replace(scene, cameras=scene.cameras.resized(48, 48))


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).pow(2).mean().log10())


def test_the_grid_comes_back_from_its_bytes_and_shows_the_ball(scene, monkeypatch):
    monkeypatch.setattr(tune, "RAYS", {"cpu": 2**12})
    baked = web_page(Ball(), scene, WebOptions(resolution=32), 1024, "ball").baked
    grid = unpack(pack(baked.grid), baked.grid.space, tuple(baked.grid.far.shape), len(baked.grid.numbers))
    for name in ("numbers", "far", "slots", "rows"):
        assert torch.equal(getattr(grid, name), getattr(baked.grid, name))
    torch.testing.assert_close(grid.values, quantised(baked.grid.values), atol=1e-6, rtol=0)
    view = scene.view(0)
    assert psnr(picture(replace(baked, grid=grid), view), render_view(Ball(), view).rgb) > 25


@pytest.mark.parametrize("count", [0, 1, 2 * coding.LANE // CHANNELS])
def test_values_come_back_from_their_code(count):
    rng = np.random.default_rng(0)
    steps = rng.integers(-4, 5, (count, CHANNELS)).cumsum(0)
    levels = np.clip(30 + steps, 0, np.array(LEVELS) - 1).astype(np.uint8)
    rows = np.arange(count, dtype=np.int32)[:, None] - np.array([1, 7, 50], np.int32)
    rows[(rows < 0) | (rng.random(rows.shape) < 0.2)] = count
    coded = coding.encoded(levels, rows)
    np.testing.assert_array_equal(coding.decoded(coded, rows, CHANNELS), levels)
    assert 2 * len(coded.words) <= 0.6 * levels.size + 4


def test_a_page_holds_bytes_as_text_that_a_browser_leaves_as_it_is():
    content = bytes(range(256)) * 7 + b"abc"
    text = as_text(content)
    assert not {chr(code) for code in UNSAFE} & set(text)
    bits = "".join(f"{ord(each) % 128:07b}" for each in text)[: 8 * len(content)]
    assert int(bits, 2).to_bytes(len(content), "big") == content
    assert len(text.encode()) < 1.18 * len(content)


def test_points_that_do_not_show_have_what_the_packing_foretells():
    """And take next to no bytes. The others stay as they are."""
    space = Space("box", (0.0, 0.0, 0.0), 1.0, (11, 11, 11))
    points = torch.cartesian_prod(*(torch.arange(12),) * 3)
    numbers = numbers_of(space, points).sort().values
    generator = torch.Generator().manual_seed(0)
    grid = Grid.of(space, numbers, quantised(torch.rand(len(numbers), CHANNELS, generator=generator)))
    baked = Baked(grid, (0.0, 1.0), torch.zeros(FEATURES, 15, 3))
    shown = torch.arange(len(numbers)) % 9 == 0
    found = foretold(baked, shown).grid.values
    torch.testing.assert_close(found[shown], grid.values[shown], atol=1e-6, rtol=0)
    rows = before(space, numbers)
    steps = torch.tensor(LEVELS) - 1
    for row in (~shown).nonzero()[::50, 0].tolist():
        around = found[[each for each in rows[row] if each < len(numbers)]] * steps
        torch.testing.assert_close(
            (found[row] * steps)[1:], (around.mean(0) + 0.5 + 1e-4).floor()[1:], atol=1e-3, rtol=0
        )
    assert len(pack(replace(grid, values=found))) < 0.5 * len(pack(grid))


@pytest.mark.parametrize("n", [1, 6])
def test_the_table_of_colours_needs_no_more_points_than_there_are(n):
    """Rays of a fog that is trained for a second end at a handful."""
    directions = normalize(torch.randn(n, 9, 3, generator=torch.Generator().manual_seed(0)), dim=2)
    found = Looks(directions.add(1).div(2), directions, torch.ones(n, 9, dtype=torch.bool))
    table = fit_table(found)
    own = fit_points(found, table)
    told = own[:, None, :3] + torch.einsum("nk,nvkc->nvc", own[:, 3:], shown(table, directions))
    assert (told - found.rgb).abs().mean() < (found.rgb.mean(1, keepdim=True) - found.rgb).abs().mean() / 4


@pytest.mark.parametrize("method", ["trained", "trained_ngp"])
def test_the_command(request, tmp_path, capsys, method):
    """On a field that is fog still."""
    out = tmp_path / "page.html"
    nerf("export", request.getfixturevalue(method), "--web", out, "--num_gpus", 0, "--resolution", 16)
    assert "open it in a browser" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert "http" not in out.read_text()


def test_what_can_go_wrong_is_said(trained_ngp, tmp_path, scene, capsys):
    words = ["export", trained_ngp, "--num_gpus", 0]
    assert "give --web FILE.html" in refused(capsys, *words)
    assert "name a .html" in refused(capsys, *words, "--web", "a.png")
    assert "--megabytes 0.0 cannot work" in refused(capsys, *words, "--web", tmp_path / "a.html", "--megabytes", 0)
    assert "does not exist" in refused(capsys, "export", tmp_path / "no", "--web", tmp_path / "a.html")
    (tmp_path / "file").touch()
    told = refused(capsys, *words, "--resolution", 16, "--web", tmp_path / "file" / "a.html")
    assert f"cannot write {tmp_path / 'file' / 'a.html'}" in told
    with pytest.raises(Exception, match="nothing solid"):
        web_page(Ball(9.0), scene, WebOptions(), 1024, "nothing")


class Wall(Ball):
    """Everything beyond a plane."""

    def __init__(self, begins: float) -> None:
        super().__init__()
        self.begins = begins

    def density(self, xyz):
        return 30.0 * (xyz[:, 0] > self.begins).float()


@pytest.mark.parametrize("wall", [3.1, 3.5, 3.9])
def test_surfaces_lie_between_points_where_the_field_has_them(wall):
    """A ray across a wall is half lost near it, wherever between two points of the grid it is."""
    space = Space("box", (0.0, 0.0, 0.0), 1.0, (8, 8, 8))
    points = torch.cartesian_prod(torch.arange(4, 8), torch.arange(9), torch.arange(9))
    numbers = numbers_of(space, points).sort().values
    grid = opacity.fitted(Wall(wall), Grid.of(space, numbers, torch.ones(len(numbers), 1)))
    x = torch.linspace(0, 7, 701)
    thick = opacity.thickness(grid.at(torch.stack([x, torch.full_like(x, 4.3), torch.full_like(x, 4.6)], 1))[:, 0])
    lost = 1 - (-0.01 * thick.cumsum(0)).exp()
    assert float(x[lost > 0.5][0]) == pytest.approx(wall, abs=0.4)
