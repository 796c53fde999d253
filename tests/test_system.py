"""Training, driven by Lightning: it learns, stops where it was told to, and goes on exactly where it stopped."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from nerf_pl.config import OptimOptions, from_dict
from nerf_pl.models import make_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import FLAGS, config, content, equal, start

from nerf_pl.checkpoints import load_model
from nerf_pl.errors import UserError
from nerf_pl.metrics import psnr
from nerf_pl.options import RunFolders
from nerf_pl.rendering import render_view
from nerf_pl.scenes import load_scene
from nerf_pl.training import callbacks
from nerf_pl.training.batches import PixelBatches
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
    assert from_dict(last["config"]) == config()
    assert settings["scene"] == last["scene"]
    assert last["global_step"] == 12
    events = logged(trained)
    psnr = events.Scalars("val/psnr")
    assert [event.step for event in psnr] == list(range(1, 13))  # a pass over the pixels has more steps than that
    assert max(event.value for event in psnr) == pytest.approx(last["best_psnr"])
    assert [event.step for event in events.Scalars("train/psnr")][-1] == 12
    assert len(events.Images("val/GT_pred_depth")) > 0


def test_best_is_the_best(trained):
    model, _, root = load_model(trained / "checkpoints" / "best.ckpt", torch.device("cpu"))
    scene = load_scene(root, split="val")
    found = psnr(render_view(model, scene, 0, 1024, torch.device("cpu"))["rgb"], scene.image(0))
    assert float(found) == pytest.approx(content(trained)["best_psnr"], abs=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "ranger", "sgd"])
def test_resuming_is_exact(scene_dir, tmp_path, monkeypatch, optimizer):
    """Twelve steps in one go, and the same ended by a crash after six and taken up again."""
    options = replace(
        config(val_every=3), optim=OptimOptions(optimizer=optimizer, lr_scheduler="poly", lr_per_step=True)
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(options, scene_dir, RunFolders.modern(whole))

    class CrashError(Exception):
        pass

    def crash(self, trainer, system):
        if system.step > 6:
            raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.ImageLog, "on_validation_start", crash, raising=False)
        with pytest.raises(CrashError):
            train(options, scene_dir, RunFolders.modern(parts))
    assert content(parts)["global_step"] == 6
    train(options, scene_dir, RunFolders.modern(parts), resume=True)
    first, second = content(whole), content(parts)
    for part in ("state_dict", "optimizer_states", "global_step", "config", "best_psnr"):
        assert equal(first[part], second[part]), part


def test_best_survives_a_resume(trained, scene_dir, tmp_path):
    """A run that goes on, and gets worse, keeps its best checkpoint."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = (run / "checkpoints" / "best.ckpt").read_bytes()
    worse = replace(config(max_steps=14), optim=replace(config().optim, lr=0.5))
    train(worse, scene_dir, RunFolders.modern(run), resume=True)
    assert content(run)["global_step"] == 14
    assert (run / "checkpoints" / "best.ckpt").read_bytes() == before


def test_seconds_are_kept(scene_dir, tmp_path):
    train(config(max_steps=None, seconds=1.5), scene_dir, RunFolders.modern(tmp_path))
    last = content(tmp_path)
    assert last["train_seconds"] == pytest.approx(1.5, abs=0.5)
    assert len(logged(tmp_path).Scalars("val/psnr")) >= 4
    assert logged(tmp_path).Scalars("val/psnr")[-1].step == last["global_step"]
    assert logged(tmp_path).Scalars("lr")[-1].value < 1e-5  # the schedule came to its end with the time


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
    fresh = make_model(config(), torch.device("cpu")).state_dict()
    assert torch.allclose(ours["model.coarse.params"], source["model.coarse.params"], atol=1e-9)
    assert torch.allclose(ours["model.fine.params"], fresh["fine.params"], atol=1e-9)


def test_diverging_ends_with_an_error(scene_dir, tmp_path):
    options = replace(config(max_steps=100), optim=OptimOptions(optimizer="sgd", lr=1e30))
    with pytest.raises(UserError, match=r"diverged.*--lr"):
        train(options, scene_dir, RunFolders.modern(tmp_path))


@pytest.mark.parametrize("epochs", [0.5, 2.0])
def test_epochs_are_passes_over_all_pixels(scene_dir, epochs):
    scene, options = load_scene(scene_dir), config(max_steps=None, num_epochs=epochs)
    system = NeRFSystem(options, make_model(options, torch.device("cpu")), scene)
    assert system.steps_per_epoch == 4 * 16 * 16 // 64
    assert system.max_steps == math.ceil(epochs * 16)
    assert NeRFSystem(options, system.model, scene, world=2).steps_per_epoch == 8


def one_step(options, scene, rank: int, step: int) -> tuple[dict, torch.Tensor]:
    """Gradients of one process, by plain autograd."""
    model = make_model(options, torch.device("cpu"), rank).train()
    model.step += step
    batches = PixelBatches(scene, options.train.batch_size, model.seed, options.train.max_steps // 4)
    model.loss(*batches(model.step))[0].backward()
    return {name: p.grad for name, p in model.named_parameters()}, model


def test_two_processes_train_with_the_mean_gradient(scene_dir, tmp_path):
    """One step of plain gradient descent by the command, in two processes, and by hand."""
    words = ["train", scene_dir, *FLAGS, "--noise_std", 0, "--batch_size", 64, "--max_steps", 1, "--exp_name", "two"]
    words += ["--num_gpus", 2, "--accelerator", "cpu", "--optimizer", "sgd", "--lr", 1, "--momentum", 0]
    process = start(tmp_path, *words)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not err
    assert out.count("next: nerf eval") == 1
    assert "2 x CPU" in out
    ours = content(tmp_path / "runs" / "two")["state_dict"]

    options, scene = config(max_steps=1), load_scene(scene_dir)
    (first, model), (second, _) = (one_step(options, scene, rank, 0) for rank in (0, 1))
    for name, p in model.named_parameters():
        assert not torch.allclose(first[name], second[name], atol=1e-4)
        assert torch.allclose(ours[f"model.{name}"], p - (first[name] + second[name]) / 2, atol=1e-5)
