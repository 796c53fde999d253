"""The smallest things that still go all the way: a model, a training, a command line."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nerf_pl.cli import main
from nerf_pl.config import PRESETS, Config, ModelOptions

PROJECT = Path(__file__).resolve().parent.parent
MODEL = ModelOptions(N_samples=8, N_importance=8, noise_std=0.0, net_depth=2, net_width=32, net_skip=1)
FLAGS = [
    "--method",
    "nerf",
    "--N_samples",
    "8",
    "--N_importance",
    "8",
    "--net_depth",
    "2",
    "--net_width",
    "32",
    "--net_skip",
    "1",
]


def config(**train: object) -> Config:
    """A few hundred rays a second, even under the checks of shapes."""
    settings = {"batch_size": 64, "max_steps": 12, "num_gpus": 0, "exp_name": "tiny", **train}
    return replace(PRESETS["nerf"], model=MODEL, train=replace(PRESETS["nerf"].train, **settings))


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
