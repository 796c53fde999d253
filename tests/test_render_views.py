"""Several devices render the views of a film or a split, a view each at a time."""

import shutil
import threading
from dataclasses import replace

import pytest
import torch
from tiny import CPU, nerf, refused

import nerf_pl.checkpoints
from nerf_pl.checkpoints import open_run
from nerf_pl.cli.trained import Trained
from nerf_pl.rendering import render_view, render_views


@pytest.fixture
def models(trained_ngp):
    return [open_run(trained_ngp, CPU).model for _ in range(3)]


@pytest.fixture
def views(trained_ngp):
    scene = open_run(trained_ngp, CPU).scene("train", pictures=False)
    return [scene.view(i % len(scene)) for i in range(8)]


def test_pictures_come_in_order_and_are_those_of_one_device(models, views):
    alone = [render_view(models[0], view) for view in views]
    shared = list(render_views(models, iter(views)))
    assert len(shared) == 8
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one.rgb, other.rgb)
        assert torch.equal(one.depth, other.depth)


def test_each_device_renders_its_share_and_little_in_advance(models, views, monkeypatch):
    turns = {id(model): [] for model in models}
    views = [replace(view, near=view.near + 1e-3 * i) for i, view in enumerate(10 * views)]
    numbers = {view.near: i for i, view in enumerate(views)}

    def render(model, group, chunk):
        turns[id(model)] += [numbers[view.near] for view in group]
        return [render_view(model, view, chunk) for view in group]

    monkeypatch.setattr("nerf_pl.rendering._render_there", render)
    pictures = render_views(models, views)
    next(pictures)
    pictures.close()
    for k, model in enumerate(models):
        assert turns[id(model)]
        assert turns[id(model)] == list(range(k, 7, 3))[: len(turns[id(model)])]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_an_error_in_a_view_is_that_of_the_whole(models, views, monkeypatch):
    def fail(rays, background):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(models[1], "render", fail)
    with pytest.raises(torch.OutOfMemoryError, match="lower --chunk"):
        list(render_views(models, views))


def test_commands_share_the_work(trained_ngp, tmp_path, monkeypatch):
    run = shutil.copytree(trained_ngp, tmp_path / "run")
    nerf("eval", run)
    alone = (run / "metrics.json").read_text()
    (run / "metrics.json").unlink()
    used = []

    def opened(folder, device, which="last", others=()):
        used.append(others)
        return open_run(folder, CPU, which, [CPU for _ in others])

    monkeypatch.setattr(nerf_pl.checkpoints, "open_run", opened)
    monkeypatch.setattr(Trained, "_require_gpus", lambda *_: None)
    nerf("eval", run, "--num_gpus", 2)
    assert (run / "metrics.json").read_text() == alone
    nerf("render", run, "--num_gpus", 2, "--frames", 3, "--img_wh", 8, 8)
    assert used == 2 * [[torch.device("cuda", 1)]]


def test_more_gpus_than_there_are(trained_ngp, capsys):
    there = torch.cuda.device_count()
    told = refused(capsys, "eval", trained_ngp, "--num_gpus", there + 2)
    assert f"--num_gpus {there + 2}, but this machine has {there}: give fewer" in told
    told = refused(capsys, "mesh", trained_ngp, "--num_gpus", 2)
    assert "--num_gpus 2: this command uses one GPU; give 1, or 0 for the CPU" in told
    assert "give 0 to 64" in refused(capsys, "render", trained_ngp, "--num_gpus", 65)
