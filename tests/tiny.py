"""The smallest things that still go all the way: a model, a training, a command line."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

import nerf_pl
from nerf_pl.cli import main
from nerf_pl.methods import METHODS
from nerf_pl.methods.model import Model
from nerf_pl.methods.nerf.options import NeRFOptions
from nerf_pl.methods.ngp.options import NGPOptions
from nerf_pl.options import Config, RunFolders
from nerf_pl.scenes import Scene
from nerf_pl.training.batches import PixelBatches
from nerf_pl.training.callbacks import ImageLog
from nerf_pl.training.checkpoint_io import AtomicCheckpointIO
from nerf_pl.training.gradients import Gradients
from nerf_pl.training.run import train
from nerf_pl.training.system import NeRFSystem

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = Path(nerf_pl.__file__).resolve().parent  # beside the tests, or installed from a wheel
CPU = torch.device("cpu")
MODEL = NeRFOptions(N_samples=8, N_importance=8, noise_std=0.0, net_depth=2, net_width=32, net_skip=1)
GRID = NGPOptions(
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
    preset = METHODS[method].preset
    options = replace(preset.train, **{"seconds": None, **settings, **train})
    model = {"nerf": MODEL, "ngp": GRID}[method]
    return METHODS[method].complete(replace(preset, model=model, train=options), "cpu")


def with_model(options: Config, **values: object) -> Config:
    """The same options, but for some of the method's own."""
    return replace(options, model=replace(options.model, **values))


def make(options: Config, device: torch.device = CPU, rank: int = 0) -> Model:
    """The model of these options, on its device."""
    return METHODS[options.method].make(options, device, rank).to(device)


def batches(model: Model, scene: Scene, batch_size: int, precrop_steps: int = 0) -> PixelBatches:
    """The batches that a training would give the model."""
    draw = {"precrop_steps": precrop_steps, "random_until": model.random_until, "limit": model.batch_limit}
    return PixelBatches(scene, batch_size, model.seed, backend=model.backend, **draw)


def content(run: Path) -> dict:
    """The last checkpoint of a run."""
    return AtomicCheckpointIO().load_checkpoint(run / "checkpoints" / "last.ckpt")


class CrashError(Exception):
    """What ends a training in `crashed`."""


def crashed(options: Config, root: Path, run: Path, after: int) -> dict:
    """Train until the first validation after so many steps, which crashes. The last checkpoint of the run."""

    def crash(self: ImageLog, trainer: object, system: NeRFSystem) -> None:
        if system.step > after:
            raise CrashError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageLog, "on_validation_start", crash, raising=False)
        with pytest.raises(CrashError):
            train(options, root, RunFolders.modern(run))
    return content(run)


def resumed(options: Config, root: Path, run: Path) -> dict:
    """Take up a run again. Its last checkpoint."""
    train(options, root, RunFolders.modern(run), resume=True)
    return content(run)


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


def rays_of_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets the rays per pixel of each batch from now on."""
    numbers, whole = [], Gradients.__call__

    def call(self, rays_per_pixel=1, part=None):
        numbers.append(rays_per_pixel)
        whole(self, rays_per_pixel, part)

    monkeypatch.setattr(Gradients, "__call__", call)
    return numbers
