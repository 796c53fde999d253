"""nerf train"""

import dataclasses
import shlex
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated

import tyro

from nerf_pl.cli.flags import RUNS, Flags, Plain, Position, with_model
from nerf_pl.cli.reporting import Added
from nerf_pl.cli.trained import split_to_score
from nerf_pl.methods import DEFAULT, METHODS
from nerf_pl.options import Config, DataOptions, ModelOptions, OptimOptions, RunFolders, TrainOptions

PRESET = METHODS[DEFAULT].preset
LONGEST_NAME = 150  # characters of a scene's name that a run is named after


@dataclass(frozen=True)
class Train:
    """Train a model on a scene; everything of the run goes to runs/NAME."""

    scene: Position = tyro.MISSING
    """Folder of the scene."""
    method: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(METHODS)}}}")] = DEFAULT
    """ngp is a hash grid that trains in seconds; nerf is the method of the 2020 paper. It sets the other defaults and
    brings options of its own: see --method nerf --help."""
    resume: Plain[bool] = False
    """Go on with the run where it stopped."""
    overwrite: Plain[bool] = False
    """Start again, over an earlier run of the same name."""
    model: Flags[ModelOptions] = PRESET.model
    data: Flags[DataOptions] = field(default_factory=lambda: PRESET.data)
    optim: Flags[OptimOptions] = field(default_factory=lambda: PRESET.optim)
    train: Flags[TrainOptions] = field(default_factory=lambda: dataclasses.replace(PRESET.train, exp_name=""))

    @property
    def name(self) -> str:
        named = "".join(c if c.isprintable() else "_" for c in self.scene.resolve().name)
        return self.train.exp_name or f"{named[:LONGEST_NAME]}-{self.method}"

    @property
    def folders(self) -> RunFolders:
        return RunFolders.modern(RUNS / self.name)

    @property
    def added(self) -> Added:
        gpus = 0 if self.train.accelerator == "cpu" else self.train.num_gpus
        return Added(self.folders.settings.parent, gpus, trains=True, anew=not self.resume)

    def run(self) -> None:
        from nerf_pl.console import console
        from nerf_pl.training.run import train

        options = dataclasses.replace(self.train, exp_name=self.name)
        config = Config(self.method, self.model, self.data, self.optim, options)
        last = train(config, self.scene, self.folders, self.resume, self.overwrite)
        folder = str(self.folders.settings.parent)
        scored = shlex.join([folder, *split_to_score(self.scene, self.data)])
        told = f"next: nerf eval {scored}, nerf render {shlex.quote(folder)}"
        console.print(f"checkpoints in {last.parent}, report {self.added.report}; {told}")


@cache
def train_command(method: str) -> type[Train]:
    """The command with the options of a method."""
    return with_model(Train, METHODS[method].preset)


def train_defaults(preset: Config) -> Train:
    """The command with the defaults of a method. The scene is still missing."""
    options = dataclasses.replace(preset.train, exp_name="")
    given = {"model": preset.model, "data": preset.data, "optim": preset.optim, "train": options}
    return train_command(preset.method)(method=preset.method, **given)
