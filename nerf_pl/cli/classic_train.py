"""train.py, with the classic options"""

from dataclasses import dataclass, field
from pathlib import Path

from nerf_pl.cli.flags import Flags, Plain
from nerf_pl.methods import CLASSIC
from nerf_pl.options import Config, DataOptions, ModelOptions, OptimOptions, RunFolders, TrainOptions


@dataclass(frozen=True)
class ClassicTrain:
    """Train NeRF with the classic options; writes ckpts/EXP and logs/EXP."""

    root_dir: Path
    """Folder of the scene."""
    resume: Plain[bool] = False
    """Go on with the run where it stopped."""
    overwrite: Plain[bool] = False
    """Start again, over an earlier run of the same name."""
    data: Flags[DataOptions] = field(default_factory=lambda: CLASSIC.data)
    model: Flags[ModelOptions] = CLASSIC.model
    optim: Flags[OptimOptions] = field(default_factory=lambda: CLASSIC.optim)
    train: Flags[TrainOptions] = field(default_factory=lambda: CLASSIC.train)

    @property
    def folders(self) -> RunFolders:
        return RunFolders.classic(self.train.exp_name)

    def run(self) -> None:
        from nerf_pl.console import console
        from nerf_pl.training.run import train

        config = Config(CLASSIC.method, self.model, self.data, self.optim, self.train)
        last = train(config, self.root_dir, self.folders, self.resume, self.overwrite)
        console.print(f"checkpoints in {last.parent}", markup=False)
