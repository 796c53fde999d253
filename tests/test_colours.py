"""Exposure and white balance of photos: learned beside the model, and nothing is left of them in it."""

from dataclasses import replace
from pathlib import Path

import llff_files
import pytest
import torch
from llff_files import around
from tiny import config, content, crashed, equal, resumed

from nerf_pl.cameras import Cameras
from nerf_pl.ops.colour import srgb
from nerf_pl.options import RunFolders
from nerf_pl.scenes import Scene
from nerf_pl.training.colours import UNEVEN, ColourFit, unevenness
from nerf_pl.training.run import train


def test_other_exposures_are_found():
    """Of four photos of one thing, of which one is much brighter and one much bluer."""
    torch.manual_seed(0)
    thing = torch.rand(4, 50, 3) * 0.5
    gains = torch.tensor([[1.0, 1, 1], [1.5, 1.5, 1.5], [0.8, 0.8, 1.1], [0.8, 0.8, 0.8]])
    photos = (thing[:1] * gains[:, None]).reshape(-1, 3)
    numbers = torch.arange(4).repeat_interleave(50)
    fit, mean = ColourFit(4), (thing[0] * gains.mean(0)).repeat(4, 1)
    start = torch.mean((fit(photos, numbers) - mean) ** 2)
    assert torch.equal(fit(photos, numbers), photos)
    for _ in range(4000):
        torch.mean((fit(photos, numbers) - mean) ** 2).backward()
        fit.adapt()
    assert fit.change.grad is None
    assert torch.mean((fit(photos, numbers) - mean) ** 2) < start / 20
    assert torch.count_nonzero(fit.change) == fit.change.numel()


def test_it_can_move():
    """To another device, or type: what is learned stays what gradients are kept for."""
    fit = ColourFit(2).to(torch.float64)
    fit(torch.rand(4, 3).double(), torch.tensor([0, 0, 1, 1])).sum().backward()
    assert fit.change.is_leaf
    fit.adapt()
    assert fit.change.abs().max() > 0


def test_a_change_that_all_photos_share_is_none():
    fit, rgb = ColourFit(3), torch.rand(6, 3)
    with torch.no_grad():
        fit.change += 0.3
    torch.testing.assert_close(fit(rgb, torch.tensor([0, 0, 1, 1, 2, 2])), rgb)


def test_views_of_one_photo_share_its_change():
    fit = ColourFit(5, (3, 3, 0, 5, 5))
    assert fit.change.shape[0] == 3
    fit(torch.rand(5, 3), torch.arange(5))[0].sum().backward()
    fit.adapt()
    changed = fit(torch.ones(5, 3), torch.arange(5)) - 1
    assert torch.equal(changed[0], changed[1])
    assert torch.equal(changed[3], changed[4])
    assert not torch.equal(changed[0], changed[2])


def ring(n: int, gains: torch.Tensor) -> Scene:
    """n photos of one grey thing, taken from a circle around it, in linear light times the gains."""
    angles = torch.arange(n) * 2 * torch.pi / n
    back = torch.stack([angles.cos(), angles.sin(), torch.zeros(n)], 1)
    up = torch.tensor([0.0, 0, 1]).expand(n, 3)
    c2w = torch.stack([torch.linalg.cross(up, back), up, back, back], 2)
    light = 0.2 + 0.1 * torch.rand(n, 8, 12, 1, generator=torch.Generator().manual_seed(0))
    pictures = (srgb(light * gains[:, None, None, None]).clamp(max=1) * 255).round().to(torch.uint8)
    K = torch.tensor([[10.0, 0, 6], [0, 10, 4], [0, 0, 1]]).expand(n, 3, 3)
    aabb = torch.tensor([[-1.0] * 3, [1.0] * 3])
    return Scene(Cameras(c2w, K, 12, 8), pictures.expand(n, 8, 12, 3), 0.1, 10.0, aabb, unbounded=True)


def test_uneven_exposure_is_recognised():
    noise = torch.randn(30, generator=torch.Generator().manual_seed(1))
    slow = (0.5 * (torch.arange(30) * 2 * torch.pi / 30).sin()).exp()  # as automatic exposure follows what is seen
    assert unevenness(ring(30, torch.ones(30))) < 0.03
    assert unevenness(ring(30, slow)) < UNEVEN
    assert unevenness(ring(30, (0.3 * noise).exp())) == pytest.approx(0.3, rel=0.5)


def test_photos_far_apart_say_nothing_of_exposure():
    assert unevenness(ring(6, torch.tensor([0.5, 1, 2, 0.5, 1, 2]))) == 0
    assert unevenness(ring(1, torch.ones(1))) == 0


def test_masks_hide_what_does_not_count():
    scene = ring(30, torch.ones(30))
    images = scene.images.clone()
    images[::2, :4] = 255
    masks = torch.ones(30, 8, 12, dtype=torch.bool)
    masks[:, :4] = False
    assert unevenness(replace(scene, images=images)) > UNEVEN
    assert unevenness(replace(scene, images=images, masks=masks)) < 0.03


@pytest.mark.parametrize("uneven", [True, False])
def test_a_training_decides_by_itself_and_says_so(options, capsys, monkeypatch, uneven):
    monkeypatch.setattr("nerf_pl.training.run.unevenness", lambda scene: 0.3 if uneven else 0.02)
    auto = replace(options, train=replace(options.train, fit_colours=None, max_steps=2))
    train(auto, Path("photos"), RunFolders.modern(Path("a")))
    assert any("colours" in name for name in content(Path("a"))["state_dict"]) == uneven
    said = capsys.readouterr()
    assert ("--no_fit_colours" in said.out + said.err) == uneven


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    llff_files.write_scene(tmp_path / "photos", around())
    return config("ngp", max_steps=8, val_every=4, fit_colours=True)


def test_training_learns_them_and_goes_on_with_them(options):
    whole, parts = Path("whole"), Path("parts")
    train(options, Path("photos"), RunFolders.modern(whole))
    assert content(whole)["state_dict"]["batches.colours.change"].abs().max() > 0

    crashed(options, Path("photos"), parts, after=4)
    assert equal(content(whole)["state_dict"], resumed(options, Path("photos"), parts)["state_dict"])


def test_it_can_be_left_out(options):
    train(
        replace(options, train=replace(options.train, fit_colours=False)), Path("photos"), RunFolders.modern(Path("a"))
    )
    assert not any("colours" in name for name in content(Path("a"))["state_dict"])


def test_pictures_with_alpha_are_left_as_they_are(scene_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(config("ngp", max_steps=2, fit_colours=True), scene_dir, RunFolders.modern(Path("a")))
    assert not any("colours" in name for name in content(Path("a"))["state_dict"])


def test_a_gradient_that_is_not_finite_changes_nothing():
    fit = ColourFit(2)
    fit.change.grad = torch.full_like(fit.change, torch.nan)
    fit.adapt()
    assert not fit.change.any()
    assert not fit.second.any()
