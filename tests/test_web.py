"""Pages of fields that are known: the grid, its bytes, and the rays through it."""

from dataclasses import replace

import pytest
import torch
from test_mesh import Ball
from tiny import nerf, refused

from nerf_pl.export.options import WebOptions
from nerf_pl.export.web import bake, opacity, tune
from nerf_pl.export.web.bake import web_page
from nerf_pl.export.web.grid import Grid, numbers_of
from nerf_pl.export.web.march import picture
from nerf_pl.export.web.pack import pack, quantised, unpack
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
