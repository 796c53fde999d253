"""nerf train"""

import dataclasses
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from nerf_pl.cli.flags import AUTO, RUNS, Flags, Plain, Position, with_model
from nerf_pl.cli.reporting import Added
from nerf_pl.cli.served import Served
from nerf_pl.cli.trained import split_to_score
from nerf_pl.errors import UserError
from nerf_pl.methods import DEFAULT, METHODS, method_of
from nerf_pl.options import Config, DataOptions, ModelOptions, OptimOptions, Resume, RunFolders, TrainOptions
from nerf_pl.options.purposes import RUN, common
from nerf_pl.signals import until_ctrl_c

if TYPE_CHECKING:
    from nerf_pl.training.watching import Watcher

PRESET = METHODS[DEFAULT].preset
LONGEST_NAME = 150  # characters of a scene's name that a run is named after


@dataclass(frozen=True)
class Train:
    """Train a model on a scene; everything of the run goes to runs/NAME."""

    scene: Position = tyro.MISSING
    """Folder of the scene."""
    method: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(METHODS)}}}"), common(RUN, DEFAULT)] = DEFAULT
    """ngp is a hash grid that trains in seconds; nerf is the method of the 2020 paper. It sets the other defaults and
    brings options of its own: see --method nerf --help."""
    resume: Annotated[Resume, AUTO, common(RUN)] = False
    """Go on with the run where it stopped. auto, for jobs that a batch system starts again: go on if there is something
    to go on from, else start; if the run is finished, say so and exit with 0."""
    overwrite: Annotated[Plain[bool], common(RUN)] = False
    """Start again, over an earlier run of the same name."""
    view: Annotated[Plain[bool], common(RUN)] = False
    """Show the scene in the browser while it trains, and after that until Ctrl-C."""
    served: Flags[Served] = field(default_factory=Served)
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

    def run(self) -> Callable[[], None] | None:
        """Train. Returns what shows the result until Ctrl-C, if the training is shown; see `parse.Command`."""
        _require_no_run(self.scene)
        if not self.view:
            if self.served != Served():
                raise UserError("--host and --port say where a training is shown: add --view, or leave them out")
            self._train()
            return None
        from nerf_pl.console import console
        from nerf_pl.viewer.live import Live

        if self.train.num_gpus > 1:
            told = f"--num_gpus {self.train.num_gpus}: --view shows a training in one process"
            raise UserError(f"{told}, give --num_gpus 1")
        with ExitStack() as stack:
            served = self.served.server("nerf train --view", f"nerf train {self.scene}")
            server, address = stack.enter_context(served)
            console.print(f"the viewer is at {address}: open it in a browser")
            live = Live(server, self.folders.settings.parent, self.train.chunk, not method_of(self.method).tight)
            stack.callback(live.stop)
            self._train(live)
            still_open = stack.pop_all()

        def stay() -> None:
            with still_open, until_ctrl_c():
                console.print(f"the viewer stays at {address} until Ctrl-C")
                live.run()

        return stay

    def _train(self, watcher: "Watcher | None" = None) -> None:
        from nerf_pl.console import console
        from nerf_pl.training.run import train

        options = dataclasses.replace(self.train, exp_name=self.name)
        config = Config(self.method, self.model, self.data, self.optim, options)
        last = train(config, self.scene, self.folders, self.resume, self.overwrite, watcher)
        folder = str(self.folders.settings.parent)
        scored = shlex.join([folder, *split_to_score(self.scene, self.data)])
        told = f"next: nerf eval {scored}, nerf render {shlex.quote(folder)}"
        console.print(f"checkpoints in {last.parent}, report {self.added.report}; {told}")


def _require_no_run(scene: Path) -> None:
    """Raises UserError, with the command that goes on with it, for a run in place of a scene."""
    from nerf_pl.scenes import available_splits
    from nerf_pl.scenes.runs import SETTINGS, run_at, scene_of

    run = run_at(scene)
    if run is None or not (run / SETTINGS).is_file() or (scene.is_dir() and available_splits(scene)):
        return
    home = run.resolve()
    command = f"nerf train {shlex.join([scene_of(run) or 'SCENE', '--exp_name', home.name, '--resume'])}"
    told = f"{scene} is {'a run' if run == scene else f'of the run {run}'} and no scene"
    if home.parent.name != RUNS.name:
        raise UserError(f"{told}: move it to {RUNS / home.name}, and {command} goes on with it")
    there = "" if home.parent == RUNS.resolve() else f"in {home.parent.parent} "
    raise UserError(f"{told}: {there}{command} goes on with it (add your other options)")


@cache
def train_command(method: str) -> type[Train]:
    """The command with the options of a method."""
    return with_model(Train, METHODS[method].preset)


def train_defaults(preset: Config) -> Train:
    """The command with the defaults of a method. The scene is still missing."""
    options = dataclasses.replace(preset.train, exp_name="")
    given = {"model": preset.model, "data": preset.data, "optim": preset.optim, "train": options}
    return train_command(preset.method)(method=preset.method, **given)
