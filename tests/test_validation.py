"""Validations are planned: they cost no more than a share of the training, and see as much as that allows."""

from dataclasses import replace

import pytest
import torch
from tiny import config, content, make

from nerf_pl.methods.nerf.model import NeRF
from nerf_pl.options import RunFolders
from nerf_pl.rendering import lattice
from nerf_pl.scenes import load_scene
from nerf_pl.training import validation
from nerf_pl.training.run import train
from nerf_pl.training.validation import COARSEST, LATTICES, plan, probe

PIXELS = 100 * 100


def test_a_cheap_validation_sees_all():
    found = plan(20, 8, PIXELS, pixel_seconds=1e-6, budget=1.0)
    assert (len(found.views), found.every) == (8, 1)
    assert (found.views[0], found.views[-1]) == (0, 19)  # spread over all of them
    assert len(set(found.views)) == 8
    assert plan(3, 8, PIXELS, 1e-6, 1.0).views == (0, 1, 2)


def test_fewer_pixels_come_before_fewer_views():
    whole = 8 * PIXELS  # seconds, where a pixel takes one
    for share, views, every in ((1, 8, 1), (0.3, 8, 2), (1 / 64, 8, 8), (1 / 128, 4, 8), (1 / 512, 1, 8)):
        found = plan(20, 8, PIXELS, 1.0, share * whole)
        assert (len(found.views), found.every) == (views, every), share
    found = plan(20, 8, PIXELS, 1.0, whole / 2000)  # not even one view on the widest lattice
    assert len(found.views) == 1
    assert found.every > LATTICES[-1]


@pytest.mark.parametrize("budget", [0.0, 1.0, 37.0, 900.0, 1e4, 1e9])
@pytest.mark.parametrize(("n_views", "most"), [(1, 8), (5, 8), (100, 8), (100, 1)])
def test_a_budget_is_kept_but_for_the_least_there_can_be(n_views, most, budget):
    found = plan(n_views, most, PIXELS, 1.0, budget)
    assert 1 <= len(found.views) <= min(n_views, most)
    assert all(0 <= view < n_views for view in found.views)
    assert 1 <= found.every <= COARSEST
    cost = len(found.views) * PIXELS / found.every**2
    assert cost <= budget or (len(found.views), found.every) == (1, COARSEST)


def test_a_probe_measures_a_pixel(scene_dir, monkeypatch):
    """By a clock on which a ray takes a millisecond; the model stays in training."""
    model, now, whole = make(config()).train(), [0.0], NeRF.render

    def render(self, rays, background):
        now[0] += 1e-3 * len(rays)
        return whole(self, rays, background)

    monkeypatch.setattr(NeRF, "render", render)
    monkeypatch.setattr(validation.time, "perf_counter", lambda: now[0])
    assert probe(model, load_scene(scene_dir), 100) == pytest.approx(1e-3)
    assert model.training


def test_a_slow_model_is_judged_by_some_of_its_pixels(scene_dir, tmp_path, monkeypatch, capsys):
    """And says so once; its pictures in the log are as large as what was rendered."""
    rendered, whole = [], NeRF.render

    def render(self, rays, background):
        rendered.append(len(rays))
        return whole(self, rays, background)

    monkeypatch.setattr(NeRF, "render", render)
    monkeypatch.setattr("nerf_pl.training.system.probe", lambda model, scene, chunk: 0.01)
    train(config(max_steps=4, val_every=2), scene_dir, RunFolders.modern(tmp_path))
    told = "validation looks at one pixel in 9 of 1 view, to take no more than a tenth of the time"
    assert capsys.readouterr().out.count(told) == 1
    assert rendered == [lattice(torch.zeros(16, 16), 3).numel()] * 2  # 2.6 seconds would be all of them, 0.5 are given
    assert content(tmp_path)["best_psnr"] > 0


def test_a_quick_model_is_judged_by_all_of_its_pixels(scene_dir, tmp_path, capsys):
    train(config(max_steps=2), scene_dir, RunFolders.modern(tmp_path))
    assert "validation looks at" not in capsys.readouterr().out


def test_a_slow_model_is_timed_by_few_pixels(scene_dir, monkeypatch):
    """A validation may take half a second, so it must not take seconds to find out how much to look at."""
    model, now, whole = make(config()), [0.0], NeRF.render

    def render(self, rays, background):
        now[0] += 0.002 * len(rays)
        return whole(self, rays, background)

    scene = load_scene(scene_dir)
    scene = replace(scene, cameras=scene.cameras.resized(400, 300))
    monkeypatch.setattr(NeRF, "render", render)
    monkeypatch.setattr(validation.time, "perf_counter", lambda: now[0])
    assert probe(model, scene, 100) == pytest.approx(0.002)
    assert now[0] < 0.5
