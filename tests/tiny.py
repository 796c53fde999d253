"""The smallest things that still go all the way: a model, a training, a command line."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from nerf_pl.checkpoint import AtomicCheckpointIO
from nerf_pl.cli import main
from nerf_pl.config import PRESETS, Config, GridOptions, ModelOptions
from nerf_pl.sizes import sized

PROJECT = Path(__file__).resolve().parent.parent
MODEL = ModelOptions(N_samples=8, N_importance=8, noise_std=0.0, net_depth=2, net_width=32, net_skip=1)
GRID = GridOptions(
    levels=4, features=2, log2_size=12, finest_resolution=32, hidden=32, colour_hidden=32, cells=32, march_steps=64,
    samples=2048,
)  # fmt: skip


def flags(options: object) -> list[str]:
    """The words that ask for what is not the default."""
    values = {f.name: getattr(options, f.name) for f in fields(options) if getattr(options, f.name) != f.default}
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


FLAGS = ["--method", "nerf", *flags(MODEL)]
NGP_FLAGS = [*flags(GRID), "--batch_size", "256"]


def config(method: str = "nerf", **train: object) -> Config:
    """A few hundred rays a second, even under the checks of shapes."""
    settings = {"batch_size": 64 if method == "nerf" else 256, "max_steps": 12, "num_gpus": 0, "exp_name": "tiny"}
    preset = PRESETS[method]
    options = replace(preset.train, **{"seconds": None, **settings, **train})
    model = replace(MODEL, grad_share=preset.model.grad_share)
    grid = GRID if method == "ngp" else preset.grid
    return sized(replace(preset, model=model, grid=grid, train=options), "cpu")


def content(run: Path) -> dict:
    """The last checkpoint of a run."""
    return AtomicCheckpointIO().load_checkpoint(run / "checkpoints" / "last.ckpt")


def equal(a: object, b: object) -> bool:
    """Whether all there is in two checkpoints is the same, to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def nerf(*words: object, program: str = "nerf") -> None:
    """A command line, in this process."""
    main([str(word) for word in words], program)


def refused(capsys: pytest.CaptureFixture, *words: object, program: str = "nerf", code: int = 2) -> str:
    """The one line that a command line ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        nerf(*words, program=program)
    message = capsys.readouterr().err
    assert stop.value.code == code, message
    assert message.count("\n") == 1, message
    assert message.startswith(f"{program}: ")
    return message.strip()


def start(folder: Path, *words: object, code: str = "from nerf_pl.cli import main; main()") -> subprocess.Popen:
    """A command line in a process and a process group of its own."""
    script = folder / "start.py"
    script.write_text(code)
    command = [sys.executable, str(script), *map(str, words)]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
