"""train.py, with the classic options"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, get_args

from nerf_pl.cli.classic_eval import FILMED, ClassicEval, Layout
from nerf_pl.cli.flags import AUTO, Flags, Plain
from nerf_pl.cli.reporting import Added
from nerf_pl.cli.trained import split_to_score
from nerf_pl.methods import CLASSIC
from nerf_pl.options import Config, DataOptions, ModelOptions, OptimOptions, Resume, RunFolders, TrainOptions
from nerf_pl.options.purposes import RUN, common
from nerf_pl.options.shared import NAME


@dataclass(frozen=True)
class ClassicTrain:
    """Train NeRF with the classic options; writes ckpts/EXP and logs/EXP."""

    root_dir: Path
    """Folder of the scene."""
    resume: Annotated[Resume, AUTO, common(RUN)] = False
    """Go on with the run where it stopped. auto, for jobs that a batch system starts again: go on if there is something
    to go on from, else start; if the run is finished, say so and exit with 0."""
    overwrite: Annotated[Plain[bool], common(RUN)] = False
    """Start again, over an earlier run of the same name."""
    data: Flags[DataOptions] = field(default_factory=lambda: CLASSIC.data)
    model: Flags[ModelOptions] = CLASSIC.model
    optim: Flags[OptimOptions] = field(default_factory=lambda: CLASSIC.optim)
    train: Flags[TrainOptions] = field(default_factory=lambda: CLASSIC.train)

    @property
    def folders(self) -> RunFolders:
        return RunFolders.classic(self.train.exp_name)

    @property
    def added(self) -> Added:
        gpus = 0 if self.train.accelerator == "cpu" else self.train.num_gpus
        return Added(self.folders.settings.parent, gpus, trains=True, anew=not self.resume)

    def run(self) -> None:
        from nerf_pl.console import console
        from nerf_pl.training.run import train

        config = Config(CLASSIC.method, self.model, self.data, self.optim, self.train)
        last = train(config, self.root_dir, self.folders, self.resume, self.overwrite)
        console.print(f"checkpoints in {last.parent}, report {self.added.report}; next: {self._to_score(last)}")

    def _to_score(self, last: Path) -> str:
        """The command that shows what a checkpoint has learned, with the options of this training.

        eval.py knows the layouts of the classic version alone. nerf eval takes all options from the checkpoint.
        """
        from nerf_pl.scenes import detect

        data, name = self.data, self.root_dir.resolve().name
        layout = detect(self.root_dir, data.spheric) if data.dataset_name == "auto" else data.dataset_name
        split = split_to_score(self.root_dir, data)
        if layout not in get_args(Layout) or data.img_wh is None:
            return f"nerf eval {shlex.join([str(last), *split])}"
        asked = {option: getattr(self.model, option) for option in ("N_samples", "N_importance", "use_disp")}
        asked |= {"dataset_name": layout, "img_wh": data.img_wh, "spheric": data.spheric, "chunk": self.train.chunk}
        words = ["--root_dir", str(self.root_dir), "--ckpt_path", str(last)]
        words += ["--scene_name", name] if NAME.holds(name) else []
        words += [] if layout == FILMED else split
        for option, value in asked.items():
            if value != getattr(ClassicEval, option):
                values = value if isinstance(value, tuple) else () if isinstance(value, bool) else (value,)
                words += [f"--no_{option}" if value is False else f"--{option}", *map(str, values)]
        return f"python eval.py {shlex.join(words)}"
