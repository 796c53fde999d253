"""Checkpoints of version 0.1.0 load, render what they rendered then, and work on the command line."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import CPU, config, make, nerf

from nerf_pl.cameras import Cameras, View
from nerf_pl.checkpoints import load_model, open_run, read_checkpoint, save_model
from nerf_pl.methods import METHODS
from nerf_pl.methods.ngp.options import CPU as SIZES
from nerf_pl.rendering import render_view

OLD = Path(__file__).resolve().parent / "old_runs"
OPTIONS = {
    "nerf": {"net_depth": 2, "net_width": 32, "net_skip": 1, "N_samples": 8, "N_importance": 8, "noise_std": 0.0},
    "ngp": {
        "levels": 2, "features": 2, "log2_size": 8, "cells": 32, "hidden": 16, "colour_hidden": 16, "outputs": 16,
        "march_steps": 16, "samples": 256, "finest_resolution": 32, "horizon": SIZES.horizon, "unbounded": False,
    },
}  # fmt: skip


@pytest.fixture(params=list(METHODS))
def old(request, tmp_path) -> tuple[str, Path]:
    """A method, and the folder of a run of it."""
    path = tmp_path / "runs" / request.param / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    with gzip.open(OLD / f"{request.param}.ckpt.gz") as packed, path.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return request.param, path.parent.parent


def test_options_weights_and_picture_are_those_of_then(old):
    method, folder = old
    run, stored = open_run(folder, CPU), read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert run.config.method == method
    assert (run.config.train.batch_size, run.config.train.max_steps) == (64, 2)
    found = {name: getattr(run.config.model, name) for name in OPTIONS[method]}
    assert found == OPTIONS[method]
    assert run.root is None
    assert run.model.ndc is None
    ours = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    assert ours.keys() == stored["state_dict"].keys()
    assert all(torch.equal(value, stored["state_dict"][name]) for name, value in ours.items())

    with np.load(OLD / f"{method}.npz") as file:
        then = {name: torch.from_numpy(file[name]) for name in file}
    camera = Cameras(then["c2w"], then["K"], 12, 12, pixel_offset=0.0)  # as its loader gave the views by default
    view = View(camera, float(then["near"]), float(then["far"]), background=(1.0, 1.0, 1.0))
    image = render_view(run.model, view)
    for name in ("rgb", "depth", "opacity"):
        torch.testing.assert_close(getattr(image, name), then[name], atol=1e-5, rtol=1e-5)
    assert then["opacity"].std() > 0.1  # there is something to see


def test_it_can_be_evaluated(old, scene_dir):
    _, folder = old
    nerf("eval", folder, "--scene", scene_dir, "--num_gpus", 0)
    assert len(json.loads((folder / "metrics.json").read_text())["views"]) == 2


def test_it_is_a_start_for_a_training(old, scene_dir, tmp_path, monkeypatch):
    method, folder = old
    monkeypatch.chdir(tmp_path)
    sizes = {name: value for name, value in OPTIONS[method].items() if name != "unbounded"}
    words = [word for name, value in sizes.items() for word in (f"--{name}", value)]
    start = folder / "checkpoints" / "last.ckpt"
    more = ["--ckpt_path", start, "--max_steps", 1, "--batch_size", 64, "--num_gpus", 0, "--exp_name", "new"]
    later = ["--no_mirror"] if method == "ngp" else []  # what such runs had not
    nerf("train", scene_dir, "--method", method, *words, *more, *later)
    assert Path("runs/new/checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("ndc", [None, (2.0, 1.5)])
def test_the_space_of_a_model_is_stored_with_it(tmp_path, method, ndc):
    model = make(config(method))
    model.ndc = ndc
    save_model(tmp_path / "a.ckpt", model, config(method))
    assert load_model(tmp_path / "a.ckpt", CPU).model.ndc == ndc
