"""All options of a run, and where its files go."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from nerf_pl.options.ranges import Options, check_options, require
from nerf_pl.options.shared import DataOptions, OptimOptions, TrainOptions

Resume = Literal[False, True, "auto"]
"""Whether to go on with a run. auto: if there is one, else start it; do nothing if it is finished."""


@runtime_checkable
class ModelOptions(Options, Protocol):
    """A method's own options: a frozen dataclass."""

    def conflicts_with(self, optim: OptimOptions, train: TrainOptions) -> Iterator[tuple[Options, str, str]]:
        """Shared options that this method cannot work with: for each its dataclass, its name and a remedy."""
        ...


@dataclass(frozen=True)
class Config:
    """method: a key of `methods.METHODS`. model: the method's own options, see `methods.Method.options`."""

    method: str
    model: ModelOptions
    data: DataOptions = field(default_factory=DataOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    train: TrainOptions = field(default_factory=TrainOptions)

    def check(self) -> None:
        """Raises UserError for a value that cannot work. The message names the option, the value and the remedy."""
        for part in (self.data, self.model, self.optim, self.train):
            check_options(part)
        for part, name, remedy in self.model.conflicts_with(self.optim, self.train):
            require(False, part, name, remedy)


def to_dict(config: Config) -> dict[str, object]:
    """Plain Python values, for JSON and for checkpoints that load without executing code."""
    return dataclasses.asdict(config)


@dataclass(frozen=True)
class RunFolders:
    """Where the files of a run go."""

    checkpoints: Path
    logs: Path
    settings: Path

    @property
    def last(self) -> Path:
        """The checkpoint that a training goes on from."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best weights. A training without validation has none."""
        return self.checkpoints / "best.ckpt"

    @property
    def trained(self) -> Path | None:
        """A checkpoint of the run that is there. None if it has neither."""
        return next((path for path in (self.last, self.best) if path.is_file()), None)

    @property
    def replaced(self) -> Path:
        """A file that is there from the beginning of a training with --overwrite until its first checkpoint. Until then
        all others are of the run before."""
        return self.settings.parent / "being-replaced.txt"

    def goes_on(self, resume: Resume) -> bool:
        """Whether a training with --resume as given goes on with the run that is there, instead of starting anew."""
        return self.last.is_file() and not self.replaced.exists() if resume == "auto" else bool(resume)

    @staticmethod
    def modern(run: Path) -> "RunFolders":
        return RunFolders(run / "checkpoints", run / "logs", run / "settings.json")

    @staticmethod
    def classic(exp_name: str) -> "RunFolders":
        return RunFolders(Path("ckpts") / exp_name, Path("logs") / exp_name, Path("logs") / exp_name / "settings.json")
