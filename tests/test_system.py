"""Training, driven by Lightning: it learns, stops where it was told to, and goes on exactly where it stopped."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import CPU, batches, config, content, crashed, equal, make, resumed

from nerf_pl.checkpoints import open_run
from nerf_pl.checkpoints.files import duplicate
from nerf_pl.errors import UserError
from nerf_pl.methods import METHODS, from_dict
from nerf_pl.metrics import psnr
from nerf_pl.options import OptimOptions, RunFolders
from nerf_pl.rendering import render_view
from nerf_pl.scenes import load_scene
from nerf_pl.training import gradients, system, validation
from nerf_pl.training.gradients import Gradients
from nerf_pl.training.run import train
from nerf_pl.training.system import NeRFSystem


def logged(run) -> EventAccumulator:
    events = EventAccumulator(str(run / "logs"))
    events.Reload()
    return events


def test_it_learns(scene_dir, tmp_path):
    options = config(max_steps=200, val_every=20)
    train(replace(options, optim=replace(options.optim, lr=3e-3)), scene_dir, RunFolders.modern(tmp_path))
    psnr = [event.value for event in logged(tmp_path).Scalars("val/psnr")]
    assert len(psnr) == 10
    assert psnr[-1] > psnr[0] + 1.5


def test_what_a_training_leaves_behind(trained):
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    last = content(trained)
    settings = json.loads((trained / "settings.json").read_text())
    data = replace(config().data, background="none")  # as the pictures have none
    assert from_dict(last["config"]) == replace(config(), data=data)
    assert settings["scene"] == last["scene"]
    assert last["global_step"] == 12
    events = logged(trained)
    psnr = events.Scalars("val/psnr")
    assert [event.step for event in psnr] == list(range(1, 13))  # a pass over the pixels has more steps than that
    assert max(event.value for event in psnr) == pytest.approx(last["best_psnr"])
    assert [event.step for event in events.Scalars("train/psnr")][-1] == 12
    assert len(events.Images("val/GT_pred_depth")) > 0


def test_best_is_the_best(trained):
    best = open_run(trained, CPU, "best")
    scene = best.scene("val")
    found = psnr(render_view(best.model, scene.view(0)).rgb, scene.image(0))
    assert float(found) == pytest.approx(content(trained)["best_psnr"], abs=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "ranger", "sgd"])
def test_resuming_is_exact(scene_dir, tmp_path, optimizer):
    """Twelve steps in one go, and the same ended by a crash after six and taken up again."""
    options = replace(
        config(val_every=3), optim=OptimOptions(optimizer=optimizer, lr_scheduler="poly", lr_per_step=True)
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(options, scene_dir, RunFolders.modern(whole))

    assert crashed(options, scene_dir, parts, after=6)["global_step"] == 6
    first, second = content(whole), resumed(options, scene_dir, parts)
    for part in ("state_dict", "optimizer_states", "global_step", "config", "best_psnr"):
        assert equal(first[part], second[part]), part


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize(("seconds", "validations"), [(2.0, 1), (12.0, 2), (40.0, 4)])
def test_a_training_ends_with_its_time(scene_dir, tmp_path, monkeypatch, method, seconds, validations):
    """By a clock on which a step takes a second: up to four validations, one in five seconds at most."""
    now, whole = [0.0], Gradients.__call__

    def call(self, rays_per_pixel=1, part=None):
        now[0] += 1.0
        whole(self, rays_per_pixel, part)

    monkeypatch.setattr(Gradients, "__call__", call)
    for module in (gradients, system, validation):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    train(config(method, max_steps=None, seconds=seconds), scene_dir, RunFolders.modern(tmp_path))
    last, events = content(tmp_path), logged(tmp_path)
    assert last["train_seconds"] == seconds
    assert last["global_step"] == seconds
    assert len(events.Scalars("val/psnr")) == validations
    assert events.Scalars("val/psnr")[-1].step == last["global_step"]
    assert events.Scalars("lr")[-1].value < 1e-5  # the schedule came to its end with the time


def test_seconds_and_steps_end_at_whatever_comes_first(scene_dir, tmp_path):
    train(config(max_steps=5, seconds=1000.0), scene_dir, RunFolders.modern(tmp_path))
    assert content(tmp_path)["global_step"] == 5
    assert logged(tmp_path).Scalars("val/psnr")[-1].step == 5


def test_without_a_validation_split(scene_dir, tmp_path, capsys):
    root = tmp_path / "scene"
    shutil.copytree(scene_dir, root)
    (root / "transforms_val.json").unlink()
    train(config(), root, RunFolders.modern(tmp_path))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
    assert content(tmp_path)["global_step"] == 12
    assert "no val split" in capsys.readouterr().out


def test_starting_from_weights(trained, scene_dir, tmp_path):
    """Weights come from the file, unless their names start with a prefix to ignore."""
    path = str(trained / "checkpoints" / "last.ckpt")
    options = replace(config(ckpt_path=path, max_steps=1, prefixes_to_ignore=("fine",)))
    train(replace(options, optim=replace(options.optim, lr=1e-12)), scene_dir, RunFolders.modern(tmp_path))
    source, ours = content(trained)["state_dict"], content(tmp_path)["state_dict"]
    fresh = make(config()).state_dict()
    assert torch.allclose(ours["model.coarse.params"], source["model.coarse.params"], atol=1e-9)
    assert torch.allclose(ours["model.fine.params"], fresh["fine.params"], atol=1e-9)


def test_diverging_ends_with_an_error(scene_dir, tmp_path):
    options = replace(config(max_steps=100), optim=OptimOptions(optimizer="sgd", lr=1e15))
    with pytest.raises(UserError, match=r"diverged.*--lr"):
        train(options, scene_dir, RunFolders.modern(tmp_path))


@pytest.mark.parametrize("epochs", [0.5, 2.0])
def test_epochs_are_passes_over_all_pixels(scene_dir, epochs):
    scene, options = load_scene(scene_dir), config(max_steps=None, num_epochs=epochs)
    one = NeRFSystem(options, make(options), scene)
    assert one.length.steps_per_epoch == 4 * 16 * 16 // 64
    assert one.length.max_steps == math.ceil(epochs * 16)
    assert NeRFSystem(options, one.model, scene, world=2).length.steps_per_epoch == 8


@pytest.mark.parametrize("method", list(METHODS))
def test_processes_start_alike_and_draw_different_numbers(scene_dir, method):
    """The weights are those of process 0, the pixels and samples of each its own; see test_ngp for their exchange."""
    scene, options = load_scene(scene_dir), config(method)
    first, second = (make(options, rank=rank).train() for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    drawn = [batches(model, scene, 64)(model.step) for model in (first, second)]
    assert not torch.equal(drawn[0].rays.directions, drawn[1].rays.directions)
    for model in (first, second):
        model.fit(scene)
    assert first.loss(drawn[0])[0] != second.loss(drawn[0])[0]  # other samples on the same rays


def test_best_survives_a_resume(trained, scene_dir, tmp_path):
    """A run that goes on, and gets worse, keeps its best checkpoint."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    folder = run / "checkpoints"
    duplicate(folder / "last.ckpt", folder / "best.ckpt")
    before = (folder / "best.ckpt").read_bytes()
    worse = replace(config(max_steps=14), optim=replace(config().optim, lr=0.5))
    train(worse, scene_dir, RunFolders.modern(run), resume=True)
    assert content(run)["global_step"] == 14
    assert (folder / "best.ckpt").read_bytes() == before


def test_a_view_that_equals_its_photograph_does_not_decide_for_ever(scene_dir, tmp_path, monkeypatch):
    """As one that shows nothing may: the best weights are still chosen by the other views."""
    monkeypatch.setattr(system.metrics, "psnr", lambda *_: torch.tensor(float("inf")))
    train(config(max_steps=2), scene_dir, RunFolders.modern(tmp_path))
    assert content(tmp_path)["best_psnr"] == 60
