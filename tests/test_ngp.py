"""The hash-grid method, from what is typed to what it leaves behind."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import (
    CPU,
    NGP_FLAGS,
    batches,
    config,
    content,
    crashed,
    equal,
    make,
    nerf,
    rays_of_steps,
    refused,
    resumed,
    start,
    with_model,
)

from nerf_pl import rendering
from nerf_pl.checkpoints import load_split, open_run
from nerf_pl.errors import UserError
from nerf_pl.methods import METHODS
from nerf_pl.metrics import psnr
from nerf_pl.options import RunFolders
from nerf_pl.rendering import render_view
from nerf_pl.training import system
from nerf_pl.training.run import train


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_train_eval_and_render(scene_dir, capsys):
    nerf("train", scene_dir, *NGP_FLAGS, "--max_steps", 20, "--num_gpus", 0)
    out, err = capsys.readouterr()
    assert not err
    first, second, *progress, last = out.splitlines()  # a slow machine tells of its progress on the way, too
    assert first.endswith("4 views of 16 x 16 to train on, 1 for validation")
    assert second in ("CPU, plain PyTorch, fp32", "CPU, compiled by Numba, fp32")
    speed, quality = r"\S+ step/s  \S+ rays/s", r"train \d+\.\d\d val \d+\.\d\d dB"
    assert re.fullmatch(rf"100%  step 20  {speed}  {quality}  \d+\.\d GB  0:00 left", progress[-1])
    assert last.endswith("next: nerf eval runs/toys-ngp, nerf render runs/toys-ngp")
    run = Path("runs/toys-ngp")
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    nerf("eval", run)
    assert json.loads((run / "metrics.json").read_text())["method"] == "ngp"
    assert (run / "report.html").is_file()
    nerf("eval", run, "--split", "val", "--checkpoint", "best")
    nerf("render", run, "--frames", 2, "--img_wh", 8, 8)
    assert (run / "renders" / "360.mp4").is_file()


def test_best_is_the_best(trained_ngp):
    best = open_run(trained_ngp, CPU, "best")
    scene = best.scene("val")
    found = psnr(render_view(best.model, scene.view(0)).rgb, scene.image(0))
    assert float(found) == pytest.approx(content(trained_ngp)["best_psnr"], abs=1e-4)


def test_resuming_is_exact(scene_dir):
    """Forty steps in one go, and the same ended by a crash after twenty, between two updates of the occupancy grid."""
    options, whole, parts = config("ngp", max_steps=40, val_every=10), Path("whole"), Path("parts")
    options = replace(options, optim=replace(options.optim, lr=0.2))  # so that densities fall, and the grid remembers
    train(options, scene_dir, RunFolders.modern(whole))

    assert crashed(options, scene_dir, parts, after=20)["global_step"] == 20
    first, second = content(whole), resumed(options, scene_dir, parts)
    names = {f"model.occupancy.{name}" for name in ("density", "bits", "seen", "visible", "aabb", "possible")}
    assert names | {"model.active", "model.kept", "model.least"} <= first["state_dict"].keys()
    for part in ("state_dict", "optimizer_states", "global_step", "config", "best_psnr"):
        assert equal(first[part], second[part]), part
    (state,) = first["optimizer_states"]
    steps = [entry["step"] for entry in state["state"].values()]
    assert steps == [40, 40]  # of networks and table


def test_pixels_of_several_rays(scene_dir, monkeypatch, capsys):
    """In the second half of a training after so many steps, and in its last quarter; and in evaluation."""
    numbers = rays_of_steps(monkeypatch)
    for late, expected in ((3, 6), (8, 8), (20, 9)):
        numbers.clear()
        monkeypatch.setattr(system, "LATE_STEPS", late)
        options = with_model(config("ngp"), rays_per_pixel=3)
        train(options, scene_dir, RunFolders.modern(Path("run")), overwrite=True)
        assert numbers[-12:] == [1] * expected + [3] * (12 - expected)
    rendered = []
    monkeypatch.setattr(rendering, "pixel_places", lambda n, _: rendered.append(n) or [(0.0, 0.0)] * 2)
    nerf("eval", "run")
    nerf("eval", "run", "--rays_per_pixel", 2)
    nerf("render", "run", "--rays_per_pixel", 1, "--frames", 1, "--img_wh", 8, 8)
    assert rendered == [3] * 2 + [2] * 2 + [1]
    told = refused(capsys, "eval", "run", "--rays_per_pixel", 0)
    assert "--rays_per_pixel 0 cannot work: give 1 to 64" in told


def test_noise_on_the_density(trained_ngp):
    """Changes what is learned, but not what is seen."""
    scene = open_run(trained_ngp, CPU).scene("train")
    losses, pictures = [], []
    for noise in (0.0, 1.0):
        model = make(with_model(config("ngp"), density_noise=noise)).train()
        model.fit(scene)
        losses.append(model.loss(batches(model, scene, 64)(model.step))[0])
        pictures.append(render_view(model, scene.view(0)).rgb)
    assert losses[0] != losses[1]
    assert torch.equal(*pictures)


def test_two_processes_train_to_the_mean_of_their_weights(scene_dir, tmp_path):
    """One step of the command in two processes, and by hand."""
    words = ["train", scene_dir, *NGP_FLAGS, "--max_steps", 1, "--exp_name", "two", "--grad_share", 1]
    process = start(tmp_path, *words, "--num_gpus", 2, "--accelerator", "cpu")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not err
    assert "2 x CPU" in out
    assert out.count("next: nerf eval") == 1
    ours = content(tmp_path / "runs" / "two")

    options = with_model(config("ngp", max_steps=1), grad_share=1.0)
    scene = load_split(options, scene_dir, "train")
    gradients, grids, weights = [], [], []
    for rank in (0, 1):
        model = make(options, rank=rank).train()
        model.fit(scene)
        model.before_step(0)
        model.loss(batches(model, scene, 256)(model.step))[0].backward()
        gradients.append([model.field.params.grad, model.field.table.grad])
        model.make_optimizer(options.optim).step()
        weights.append(model.field.params.detach())
        grids.append(model.occupancy)
    assert torch.equal(grids[0].bits, grids[1].bits)
    assert torch.equal(grids[0].bits, ours["state_dict"]["model.occupancy.bits"])
    for i, pair in enumerate(zip(*gradients, strict=True)):
        mean = (pair[0] + pair[1]) / 2
        assert (pair[0] - mean).norm() > 0.1 * mean.norm()
        moment = ours["optimizer_states"][0]["state"][i]["m"]  # a tenth of the first gradient
        assert torch.allclose(10 * moment, mean, atol=1e-6 * float(mean.abs().max()) + 1e-9)
    assert not torch.allclose(*weights, atol=1e-6)
    assert torch.allclose(ours["state_dict"]["model.field.params"], (weights[0] + weights[1]) / 2, atol=1e-7)


def test_networks_too_wide_for_the_kernels(monkeypatch):
    """As on a GPU, where they would hold them on chip."""
    ngp, gpu = METHODS["ngp"], torch.device("cuda")
    monkeypatch.setenv("NERF_PL_OPS", "kernel")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    for name, value in (("hidden", 128), ("colour_hidden", 256)):
        wide = with_model(config("ngp"), **{name: value})
        with pytest.raises(UserError, match=f"--{name} {value} is too wide for the GPU kernels"):
            ngp.make(wide, gpu)
        plain = ngp.make(replace(wide, train=replace(wide.train, precision="fp32")), gpu)
        assert plain.backend.hash_field == "reference"
