"""How options of commands are typed."""

from dataclasses import field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import tyro

from nerf_pl.options import Config

if TYPE_CHECKING:
    import torch

Command = TypeVar("Command")
Flags = tyro.conf.OmitArgPrefixes  # --lr, without the name of the dataclass that it is in
Plain = tyro.conf.FlagCreatePairsOff  # --resume, without a --no_resume
AUTO = tyro.conf.arg(metavar="[auto]")  # --resume, or --resume auto; see `parse`
Position = tyro.conf.Positional[Path]
RUNS = Path("runs")


def with_model(command: type[Command], preset: Config) -> type[Command]:
    """The command whose field `model` has the options of the preset's method, and its defaults."""
    kind = type(preset.model)
    model = ("model", Flags[kind], field(default_factory=lambda: preset.model))
    made = make_dataclass(command.__name__, [model], bases=(command,), frozen=True)
    made.__doc__ = command.__doc__
    return made


def device_of(num_gpus: int) -> "torch.device":
    """The GPU if there is one and num_gpus is not 0, else the CPU."""
    import torch

    return torch.device("cuda" if num_gpus > 0 and torch.cuda.is_available() else "cpu")
