"""nerf sweep"""

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from nerf_pl.cli.flags import RUNS, Flags, Plain, with_model
from nerf_pl.console import console, errors, warn
from nerf_pl.errors import UserError
from nerf_pl.methods import DEFAULT, METHODS
from nerf_pl.options import Config, DataOptions, ModelOptions, OptimOptions, Options, RunFolders, TrainOptions
from nerf_pl.options.purposes import MACHINE, RUN, common
from nerf_pl.options.ranges import Range, at_least, check_options, require
from nerf_pl.signals import Stopped
from nerf_pl.writing import locked

if TYPE_CHECKING:
    from nerf_pl.sweep import Job, Row, Slot

PRESET = METHODS[DEFAULT].preset
NAME = "sweep"
BOTH = "give it or --seed, not both"
MOST_TOLD = 8  # failures in the last line
PROTOCOL = (
    "each model was trained on the train split alone; a score is the mean over the views that were held out, rendered"
    " at the size of the training and compared as 8-bit pictures"
)


@dataclass(frozen=True)
class Training:
    """How a method is trained. asked: its options as words for `nerf train`."""

    config: Config
    asked: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """Train and score many scenes, one for each free GPU, and write one table of all scores to runs/NAME.

    It goes on after a scene that fails. Started again, it does what is left. It takes all options of nerf train."""

    scenes: Annotated[tuple[Path, ...], tyro.conf.Positional] = tyro.MISSING
    """Folders of the scenes."""
    methods: Annotated[tuple[str, ...], common(RUN, "ngp nerf")] = (DEFAULT,)
    """The methods to train with, each on every scene."""
    seeds: Annotated[
        tuple[int, ...],
        Range(lambda seeds: all(0 <= seed < 2**63 for seed in seeds), "give numbers from 0 to 2^63"),
        common(RUN, "0 1 2"),
    ] = ()
    """Random seeds, with each of which every scene is trained. The table has the means over the seeds."""
    jobs: Annotated[int | None, at_least(1), common(MACHINE, "2")] = None
    """Trainings at the same time. By default one for each GPU, or for each --num_gpus of them; on a CPU one."""
    overwrite: Annotated[Plain[bool], common(RUN)] = False
    """Start all trainings again, over earlier runs of the same names."""
    model: Flags[ModelOptions] = PRESET.model
    data: Flags[DataOptions] = field(default_factory=lambda: PRESET.data)
    optim: Flags[OptimOptions] = field(default_factory=lambda: PRESET.optim)
    train: Flags[TrainOptions] = field(default_factory=lambda: replace(PRESET.train, exp_name=NAME))

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for name, values in (("seeds", self.seeds), ("methods", self.methods)):
            if len(set(values)) < len(values):
                yield name, "name each once"


@dataclass(frozen=True)
class Sweeping:
    """The command. trainings: how each method is trained. typed: the words of the command line."""

    options: Sweep
    trainings: tuple[Training, ...]
    typed: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return RUNS / self.options.train.exp_name

    def run(self) -> None:
        import torch

        from nerf_pl.sweep import DONE, planned, read_rows, require_same_options, require_same_scenes, slots_of
        from nerf_pl.training.devices import devices_of

        check_options(self.options)
        require(not self.options.seeds or "--seed" not in self.trainings[0].asked, self.options, "seeds", BOTH)
        for training in self.trainings:
            training.config.check()
        where = devices_of(self.trainings[0].config)
        slots = slots_of(*where, torch.cuda.device_count() if where[0] == "gpu" else 0, self.options.jobs)
        if RunFolders.modern(self.folder).settings.is_file():
            raise UserError(f"{self.folder} is a run: give the sweep another --exp_name")
        rows: dict[str, Row] = {}
        scenes = _labelled(_folders(self.options.scenes))
        jobs = list(self._jobs(scenes, rows, ["--num_gpus", "0"] if where[0] == "cpu" else []))
        _require_there(scenes[job.scene] for job in jobs if not job.run.is_dir())
        with locked(self.folder, "wait for it, end it, or give another --exp_name"):
            before = read_rows(self.folder)
            if not self.options.overwrite:
                require_same_scenes(jobs, scenes)
                require_same_options(jobs, before)
            rows |= planned(jobs, before, self.options.overwrite)
            left = [job for job in jobs if rows[job.name].state != DONE]
            for row in rows.values():
                if row.state == DONE:
                    console.print(f"{row.run}: {row.told()}, from before")
            number = self._work(left, slots, rows)
        self._tell(list(rows.values()), number)

    def _jobs(self, scenes: Mapping[str, Path], rows: "Mapping[str, Row]", device: Sequence[str]) -> "Iterator[Job]":
        """One for each scene, method and seed. scenes: by their labels. rows: what is known of each when it begins.
        device: options of the evaluation."""
        for label, scene in scenes.items():
            for training in self.trainings:
                for seed in self.options.seeds or (None,):
                    yield self._job((scene, label), training, seed, rows, device)

    def _job(
        self,
        scene: tuple[Path, str],
        training: Training,
        seed: int | None,
        rows: "Mapping[str, Row]",
        device: Sequence[str],
    ) -> "Job":
        from nerf_pl.sweep import Job, split_to_score, weights_of

        (root, label), method = scene, training.config.method
        name = f"{self.folder.name}-{label}-{method}{'' if seed is None else f'-seed{seed}'}"
        asked = (*training.asked, *(() if seed is None else ("--seed", str(seed))))
        run = RUNS / name

        def trains() -> list[str]:
            is_old = rows[name].replaces and rows[name].weights == weights_of(run)
            how = ["--overwrite"] if is_old else ["--resume", "auto"]
            return ["train", str(root), "--method", method, "--exp_name", name, *asked, *how]

        def scores() -> list[str]:
            return ["eval", str(run), *split_to_score(run), *device]

        return Job(run, label, method, seed, asked, (trains, scores))

    def _work(self, jobs: "Sequence[Job]", slots: "Sequence[Slot]", rows: "dict[str, Row]") -> int:
        """Do the jobs, and write the scores before, after each of them and in the end. Returns the number of the signal
        that ended it, or 0."""
        from nerf_pl.sweep import FAILED, STOPPED, Board, Worker, scored, work_through, write_scores

        told = self._protocol()

        def ended(worker: Worker) -> None:
            job = worker.job
            if worker.stopped or worker.why:
                before = rows[job.name]
                how = (STOPPED, "") if worker.stopped else (FAILED, worker.why)
                rows[job.name] = replace(before, state=how[0], why=how[1])
            else:
                rows[job.name] = scored(job)
            try:
                write_scores(self.folder, list(rows.values()), told)
            except UserError as error:  # a full disk may have room again before the end
                warn(str(error))

        write_scores(self.folder, list(rows.values()), told)
        number = work_through(jobs, slots, self.folder / "logs", Board(jobs, rows), ended)
        write_scores(self.folder, list(rows.values()), told)
        return number

    def _protocol(self) -> dict[str, str]:
        from nerf_pl.report.history import machine, versions
        from nerf_pl.sweep import versions_told

        trained = {f"options of {each.config.method}": shlex.join(each.asked) or "defaults" for each in self.trainings}
        train = self.options.train
        gpus = 0 if train.accelerator == "cpu" else train.num_gpus
        return {
            "title": f"Scores of {self.folder.name}",
            "scores": PROTOCOL,
            "command": f"nerf sweep {shlex.join(self.typed)}",
            **trained,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(gpus),
            "versions": versions_told(versions()),
        }

    def _tell(self, rows: "Sequence[Row]", number: int) -> None:
        """The last lines. Raises Stopped if a signal ended the sweep; exits with code 1 if a scene failed."""
        from nerf_pl.sweep import DONE, FAILED, TABLE, VALUES, means_told

        done = sum(row.state == DONE for row in rows)
        if number:
            raise Stopped(f"{done} of {len(rows)} are done: the same command goes on", number)
        for line in means_told(rows):
            console.print(line)
        console.print(f"scores {self.folder / TABLE}, {self.folder / VALUES}")
        if failed := [row for row in rows if row.state == FAILED]:
            names = ", ".join(row.run for row in failed[:MOST_TOLD])
            more = f" and {len(failed) - MOST_TOLD} more" if len(failed) > MOST_TOLD else ""
            remedy = "the same command tries them again and keeps the others"
            errors.print(f"nerf: {len(failed)} of {len(rows)} failed, {names}{more}: {remedy}", style="red")
            sys.exit(1)


def _folders(paths: Sequence[Path]) -> list[Path]:
    """The scenes. Files among folders are left out: a pattern such as scenes/* finds them, too. Raises UserError if
    there is nothing else."""
    files = [path for path in paths if path.is_file()]
    if len(files) == len(paths):
        given = f"{files[0]} is a file" if files else "no scene is named"
        raise UserError(f"{given}: give the folders of scenes, such as my_scenes/*")
    if files:
        warn(f"left out, as they are files and no scenes: {', '.join(map(str, files))}")
    return [path for path in paths if path not in files]


def _labelled(scenes: Sequence[Path]) -> dict[str, Path]:
    """The scenes by what they are called in the table. Raises UserError if that does not tell them apart."""
    from nerf_pl.sweep import labels_of

    return dict(zip(labels_of(scenes), scenes, strict=True))


def _require_there(scenes: Iterable[Path]) -> None:
    """Raises UserError for a scene that is not there: in an hour, when its turn comes, nobody may look."""
    for scene in scenes:
        if not scene.is_dir():
            raise UserError(f"{scene} is not a folder: give the folders of scenes, such as my_scenes/*")


@cache
def sweep_command(method: str) -> type[Sweep]:
    """The command with the options of a method."""
    return with_model(Sweep, METHODS[method].preset)


def sweep_defaults(preset: Config) -> Sweep:
    """The command with the defaults of a method. The scenes are still missing."""
    options = replace(preset.train, exp_name=NAME)
    given = {"model": preset.model, "data": preset.data, "optim": preset.optim, "train": options}
    return sweep_command(preset.method)(**given)


def methods_in(argv: Sequence[str]) -> tuple[str, ...]:
    """The words after --methods; the default method if there are none."""
    for i, word in enumerate(argv):
        if word == "--methods":
            return tuple(takewhile(lambda each: not each.startswith("-"), argv[i + 1 :])) or (DEFAULT,)
        if word.startswith("--methods="):
            return (word.partition("=")[2],)
    return (DEFAULT,)


def with_trainings(commands: Mapping[str, Sweep], is_typed: Callable[[str], bool], typed: Sequence[str]) -> Sweeping:
    """The sweep that trains with each of the methods. commands: what was typed, parsed with the options of each."""
    trainings = []
    for method, command in commands.items():
        config = Config(method, command.model, command.data, command.optim, command.train)
        parts = (command.model, command.data, command.optim, command.train)
        trainings.append(Training(config, tuple(word for part in parts for word in _words(part, is_typed))))
    return Sweeping(next(iter(commands.values())), tuple(trainings), tuple(typed))


def _words(options: Options, is_typed: Callable[[str], bool]) -> Iterator[str]:
    """The typed options as words of a command line. A sweep names its runs itself."""
    for each in fields(options):
        if each.name == "exp_name" or not (is_typed(each.name) or is_typed(f"no_{each.name}")):
            continue
        value = getattr(options, each.name)
        yield f"--{'no_' if value is False else ''}{each.name}"
        if not isinstance(value, bool):
            yield from map(str, value if isinstance(value, tuple) else (value,))
