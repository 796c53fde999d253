"""Trainings that repeat themselves bit for bit on a GPU, as far as a machine without one can tell."""

import contextlib
import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import config, content, make

from nerf_pl import cli, ops
from nerf_pl.checkpoints import load_model
from nerf_pl.checkpoints.files import write_checkpoint
from nerf_pl.errors import UserError
from nerf_pl.methods import METHODS
from nerf_pl.ops import Backend
from nerf_pl.options import RunFolders, TrainOptions, to_dict
from nerf_pl.options.purposes import Help
from nerf_pl.options.ranges import marks
from nerf_pl.scenes import load_scene
from nerf_pl.training import run as training
from nerf_pl.training.deterministic import CUBLAS, deterministic
from nerf_pl.training.run import train
from nerf_pl.training.system import NeRFSystem

GPU = torch.device("cuda")


def state() -> tuple[bool, bool, str | None]:
    """What a process has that a deterministic training changes."""
    torch_says = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    return *torch_says, os.environ.get(CUBLAS)


@pytest.mark.parametrize(
    ("given", "kept"), [(None, ":4096:8"), (":16:8", ":16:8"), (":4096:8", ":4096:8"), (":8:8", ":4096:8")]
)
def test_the_process_is_as_before_afterwards(monkeypatch, given, kept):
    monkeypatch.delenv(CUBLAS, raising=False)
    if given is not None:
        monkeypatch.setenv(CUBLAS, given)
    before, shown = state(), warnings.showwarning
    with contextlib.suppress(KeyError), deterministic():
        assert state() == (True, True, kept)
        raise KeyError
    assert state() == before == (False, False, given)
    assert warnings.showwarning is shown


def test_an_operation_without_an_order_is_told_in_one_line(capsys):
    told = "dreamed_cuda does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms'"
    with deterministic():
        for _ in range(2):
            warnings.warn(f"{told}\nYou can file an issue", UserWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="another"):
            warnings.warn("another", UserWarning, stacklevel=1)
    err = capsys.readouterr().err
    assert err.count("PyTorch has no deterministic dreamed_cuda:") == 1
    assert "file an issue" not in err


@pytest.mark.parametrize("method", METHODS)
def test_a_model_in_a_deterministic_training_on_a_gpu_has_no_kernels(monkeypatch, method):
    monkeypatch.delenv("NERF_PL_OPS", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert make_on_gpu(method).backend == Backend(dtype=torch.bfloat16)


def make_on_gpu(method: str):
    return METHODS[method].make(config(method, deterministic=True), GPU)


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_repeat_itself_is_refused(method):
    config(method, deterministic=True).check()
    for values, told in [({"seconds": 5.0}, "give --max_steps and no --seconds"), ({"num_gpus": 2}, "in one process")]:
        with pytest.raises(UserError, match=f"--deterministic cannot work: .*{told}"):
            config(method, deterministic=True, **values).check()


def test_it_is_an_option_of_both_commands_that_only_the_long_help_shows():
    assert cli.parse(["train", "x", "--deterministic"]).train.deterministic
    assert cli.parse(["--root_dir", "x", "--deterministic"], "train.py").train.deterministic
    assert not dict(marks(TrainOptions, Help))["deterministic"].common


@pytest.mark.parametrize("where", ["gpu", "cpu"])
@pytest.mark.parametrize("is_asked", [True, False])
def test_only_a_gpu_is_told_and_only_if_asked(scene_dir, tmp_path, monkeypatch, where, is_asked):
    """From before the pictures are read, which CUDA starts beside."""
    seen = []

    def made(*_: object, **__: object) -> None:
        seen.append(state())
        raise UserError("that is all")

    monkeypatch.delenv(CUBLAS, raising=False)
    monkeypatch.setattr(training, "devices_of", lambda config: (where, 1))
    monkeypatch.setattr(training, "_made", made)
    with pytest.raises(UserError, match="that is all"):
        train(config(deterministic=is_asked), scene_dir, RunFolders.modern(tmp_path / "run"))
    off = (False, False, None)
    assert seen == [(True, True, ":4096:8") if where == "gpu" and is_asked else off]
    assert state() == off


def test_a_run_stays_deterministic_when_it_goes_on(trained, scene_dir, tmp_path, monkeypatch, capsys):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    stored = content(run)
    stored["config"]["train"]["deterministic"] = True
    write_checkpoint(stored, run / "checkpoints" / "last.ckpt")
    train(config(max_steps=13), scene_dir, RunFolders.modern(run), resume=True)
    assert "; deterministic, as all trainings on a CPU are" in " ".join(capsys.readouterr().out.split())
    assert content(run)["config"]["train"]["deterministic"] is True
    with monkeypatch.context() as patch:  # what shows the model need not be slow
        asked = []
        patch.setattr(ops, "choose", lambda *given: asked.append(given) or Backend())
        assert load_model(run / "checkpoints" / "last.ckpt", torch.device("cpu")).config.train.deterministic
    assert [given[2] for given in asked] == [False]


@pytest.mark.parametrize("program", ["nerf", "train.py"])
@pytest.mark.parametrize("known_by", ["settings", "checkpoint"])
def test_a_deterministic_run_cannot_become_another(tmp_path, monkeypatch, program, known_by):
    monkeypatch.chdir(tmp_path)
    named = ["--exp_name", "a", "--resume"]
    words = ["train", "x", *named] if program == "nerf" else ["--root_dir", "x", *named]
    folders = RunFolders.modern(Path("runs/a")) if program == "nerf" else RunFolders.classic("a")
    folders.settings.parent.mkdir(parents=True)
    for is_on in (True, False):
        values = to_dict(config(deterministic=is_on))
        if known_by == "settings":
            folders.settings.write_text(json.dumps(values))
        else:
            write_checkpoint({"config": values}, folders.last)
        command: Any = cli.parse(words, program)
        assert command.train.deterministic == is_on
        given = [*words, "--no_deterministic"]
        if is_on:
            with pytest.raises(UserError, match=r"--no_deterministic: .*last\.ckpt was trained with --deterministic; "):
                cli.parse(given, program)
        else:
            cli.parse(given, program)


def test_a_run_that_was_not_deterministic_cannot_become_it(trained, scene_dir, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    with pytest.raises(UserError, match=r"--deterministic True: .*last\.ckpt was trained with False"):
        train(config(deterministic=True, max_steps=14), scene_dir, RunFolders.modern(run), resume=True)


def test_the_first_line_says_what_it_costs(scene_dir, monkeypatch):
    options = config()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(NeRFSystem, "device", GPU)
    for is_asked in (False, True):
        asked = replace(options, train=replace(options.train, deterministic=is_asked))
        line = NeRFSystem(asked, make(options), load_scene(scene_dir)).describe()
        assert line.startswith("a GPU, ")
        assert line.endswith("; deterministic, so without the kernels, which are faster") == is_asked
