"""nerf demo"""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nerf_pl.cli.eval import Eval
from nerf_pl.cli.flags import RUNS, device_of
from nerf_pl.cli.render import Render
from nerf_pl.cli.reporting import Added
from nerf_pl.cli.trained import Trained
from nerf_pl.errors import Interrupted, UserError
from nerf_pl.films.options import FilmOptions
from nerf_pl.methods import DEFAULT, METHODS
from nerf_pl.options import RunFolders

SECONDS = {"cpu": 89.5, "cuda": 15.0}


@dataclass(frozen=True)
class Demo:
    """Make the built-in scene, train on it, evaluate and film it. Takes some minutes on a CPU."""

    out: Path = RUNS / "demo"
    """Folder of the run."""
    scene: Path = Path("data/demo")
    """Folder of the scene."""
    seconds: float | None = None
    """Training time."""
    num_gpus: Literal[0, 1] = 1
    """0 means the CPU."""

    @property
    def added(self) -> Added:
        return Added(self.out, self.num_gpus, trains=True, anew=True)

    @property
    def goes_on(self) -> str | None:
        """The command that goes on with a training that was stopped, where there is one."""
        if self.out.resolve().parent != RUNS.resolve():
            return None
        scene, name = shlex.quote(str(self.scene)), shlex.quote(self.out.resolve().name)
        return f"nerf train {scene} --exp_name {name} --resume"

    def run(self) -> None:
        from nerf_pl.console import console
        from nerf_pl.scenes.demo import make_demo
        from nerf_pl.training.run import train

        self._require_no_other_run()
        root = make_demo(self.scene)
        seconds = SECONDS[device_of(self.num_gpus).type] if self.seconds is None else self.seconds
        config = METHODS[DEFAULT].preset
        settings = {"seconds": seconds, "num_gpus": self.num_gpus, "exp_name": self.out.resolve().name, "val_views": 2}
        config = replace(config, train=replace(config.train, **settings))
        console.print(f"scene {root}")
        try:
            train(config, root, RunFolders.modern(self.out), overwrite=True)
        except Interrupted as stop:
            if stop.resumable and self.goes_on:
                _tell_path()
            raise
        trained = Trained(self.out, num_gpus=self.num_gpus)
        Eval(trained).run()
        Render(trained, FilmOptions(frames=36, fps=18)).run()
        _tell_path()
        console.print(
            f"{self.added.report} shows all of this on one page; next: nerf view {shlex.quote(str(self.out))}"
        )

    def _require_no_other_run(self) -> None:
        """Raises UserError if the run that is there is of another scene: only a demo takes the place of a demo."""
        from nerf_pl.scenes.demo import is_demo
        from nerf_pl.scenes.runs import scene_of

        scene = None if RunFolders.modern(self.out).trained is None else scene_of(self.out)
        if scene is not None and not is_demo(Path(scene)):
            raise UserError(f"--out {self.out} holds a training on {scene}, which is no demo: give another folder")


def _tell_path() -> None:
    """What to do if the shell does not find the command that a demo ends with, as after `make demo`."""
    from nerf_pl.console import console
    from nerf_pl.doctor.findings import command

    if advice := command().advice:
        console.print(f"the command nerf is not on the path of this shell: {advice}")
