"""How options of commands are typed."""

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    import torch

Flags = tyro.conf.OmitArgPrefixes  # --lr, without the name of the dataclass that it is in
Plain = tyro.conf.FlagCreatePairsOff  # --resume, without a --no_resume
Position = tyro.conf.Positional[Path]
RUNS = Path("runs")


def device_of(num_gpus: int) -> "torch.device":
    """The GPU if there is one and num_gpus is not 0, else the CPU."""
    import torch

    return torch.device("cuda" if num_gpus > 0 and torch.cuda.is_available() else "cpu")
