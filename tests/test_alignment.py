"""Cameras are moved to where the rendered picture fits a photo; poses that were wrong come back."""

from dataclasses import replace
from pathlib import Path

import llff_files
import pytest
import torch
from llff_files import around
from tiny import config, content, crashed, equal, resumed

from nerf_pl.alignment import Pair, after_motion, align, align_together, aligning_move
from nerf_pl.cameras import Cameras, View, ndc_points
from nerf_pl.options import RunFolders
from nerf_pl.rendering import Image, render_view
from nerf_pl.training.poses import TURNS
from nerf_pl.training.run import train
from nerf_pl.types import Pixels

MOTION = torch.tensor([0.02, -0.03, 0.04, 0.10, -0.05, 0.08])
NDC = (1.5, 1.5)


class Hills:
    """A coloured surface z = -3 + sin(2 x) / 2 in front of a camera at the origin, which every ray meets once."""

    step, training, rays_per_pixel = torch.zeros(1), False, 1

    def __init__(self, ndc: tuple[float, float] | None = None):
        self.ndc = ndc

    def train(self, mode: bool = True) -> "Hills":
        return self

    def render(self, rays, background):
        origins, directions = rays.origins, rays.viewdirs
        if self.ndc is not None:  # back to the world, where the surface is
            z = 2 / (origins[:, 2] - 1)
            origins = torch.stack([-origins[:, 0] * z / self.ndc[0], -origins[:, 1] * z / self.ndc[1], z], -1)
        t = (-3 - origins[:, 2]) / directions[:, 2]
        for _ in range(30):
            x, y, z = (origins + t[:, None] * directions).unbind(1)
            t = t + 0.7 * (0.5 * torch.sin(2 * x) - 3 - z) / directions[:, 2]
        xyz = origins + t[:, None] * directions
        x, y, _ = xyz.unbind(1)
        rgb = torch.stack([(3 * x + y).sin(), (2 * y - x).sin(), (4 * x * y).cos()], -1) / 2 + 0.5
        if self.ndc is not None:
            t = (ndc_points(xyz, self.ndc) - rays.origins).norm(dim=1)
        return Pixels(rgb, t, torch.ones_like(t), t.new_zeros(0))


@pytest.fixture
def view() -> View:
    K = torch.tensor([[[150.0, 0, 100], [0, 150, 80], [0, 0, 1]]])
    return View(Cameras(torch.eye(4)[None, :3].clone(), K, 200, 160), 0.1, 10.0)


def at(view: View, c2w: torch.Tensor) -> View:
    return replace(view, camera=replace(view.camera, c2w=c2w[None]))


@pytest.mark.parametrize("ndc", [None, NDC])
@pytest.mark.parametrize("pixels", [40_000, 10_000])
def test_a_camera_comes_back(view, ndc, pixels):
    view, model = replace(view, ndc=ndc), Hills(ndc)
    photo, true = render_view(model, view).rgb, view.camera.c2w[0]
    wrong = at(view, after_motion(true, MOTION))
    found = align(model, wrong, photo, steps=8, pixels=pixels)
    assert (found.camera.c2w[0] - true).abs().max() < 0.003
    assert found.size == view.size
    torch.testing.assert_close(found.camera.K, view.camera.K)


def test_what_a_mask_hides_does_not_count(view):
    model = Hills()
    photo, true = render_view(model, view).rgb, view.camera.c2w[0]
    mask = torch.ones(160, 200, dtype=torch.bool)
    mask[:, :90] = False
    spoiled = torch.where(mask[:, :, None], photo, photo.roll(25, 1))
    wrong = at(view, after_motion(true, 0.5 * MOTION))
    found, misled = (align(model, wrong, spoiled, m, steps=14).camera.c2w[0] for m in (mask, None))
    assert (found - true).abs().max() < 0.003
    assert (misled - true).abs().max() > 0.01


def test_views_of_one_photo_move_as_one(view):
    """One of them shows nothing that tells how to move it."""
    model, true = Hills(), view.camera.c2w[0]
    turns = [after_motion(true, torch.tensor([0, angle, 0, 0, 0, 0])) for angle in (-0.4, 0.4, 0.0)]
    photos = [render_view(model, at(view, turn)).rgb for turn in turns]
    last = at(view, after_motion(turns[2], MOTION))
    masks = [None, torch.ones(160, 200, dtype=torch.bool), torch.zeros(160, 200, dtype=torch.bool)]
    wrong = [after_motion(true, MOTION)[:, :3] @ turn[:, :3] for turn in turns]
    wrong = [at(view, torch.cat([turn, last.camera.c2w[0, :, 3:]], 1)) for turn in wrong]
    found = align_together(model, wrong, photos, masks, steps=6, pixels=8_000)
    for each, turn in zip(found, turns, strict=True):
        assert (each.camera.c2w[0] - turn).abs().max() < 0.003


def test_where_nothing_can_be_compared_nothing_moves(view):
    blank = Image(torch.full((160, 200, 3), 0.5), torch.ones(160, 200), torch.ones(160, 200))
    assert not aligning_move([Pair(view, blank, torch.zeros(160, 200, 3))]).any()
    nothing = replace(blank, rgb=torch.rand(160, 200, 3), opacity=torch.zeros(160, 200), depth=torch.zeros(160, 200))
    assert aligning_move([Pair(view, nothing, torch.rand(160, 200, 3))]).abs().max() < 1e-6
    tiny = replace(view, camera=view.camera.resized(5, 4))
    assert align(Hills(), tiny, torch.rand(4, 5, 3)) is tiny


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    llff_files.write_scene(tmp_path / "photos", around())
    return config("ngp", max_steps=16, val_every=8, refine_poses=True)


def test_training_moves_cameras_and_goes_on_with_them(options):
    whole, parts = Path("whole"), Path("parts")
    train(options, Path("photos"), RunFolders.modern(whole))
    refined = content(whole)["refined"]
    assert refined["turns"] == len(TURNS)
    assert refined["c2w"].isfinite().all()

    halfway = crashed(options, Path("photos"), parts, after=8)
    assert 0 < halfway["refined"]["turns"] < len(TURNS)
    second = resumed(options, Path("photos"), parts)
    for part in ("state_dict", "refined"):
        assert equal(content(whole)[part], second[part])


def test_without_the_option_a_checkpoint_holds_no_poses(options):
    off = replace(options, train=replace(options.train, refine_poses=False))
    train(off, Path("photos"), RunFolders.modern(Path("a")))
    assert "refined" not in content(Path("a"))
