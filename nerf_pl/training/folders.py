"""The folders of a run that is to be trained: whether they are free, and what an earlier run has left there."""

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nerf_pl.errors import UserError
from nerf_pl.options import Resume, RunFolders
from nerf_pl.training.machines import process
from nerf_pl.training.processes import follow_first
from nerf_pl.writing import atomic_write, locked, remove_leftovers, remove_leftovers_in, write_errors

HISTORY = "history.json"  # see report.history


def check_folder(folders: RunFolders, resume: Resume, overwrite: bool) -> None:
    """Raises UserError if there is a run that is neither to go on nor to be replaced, or none that could go on."""
    last = folders.last
    if resume and overwrite:
        raise UserError("--resume goes on with a run and --overwrite starts again: give one of them")
    if resume and not last.is_file() and folders.best.is_file():
        copied = shlex.join(["cp", str(folders.best), str(last)])
        raise UserError(f"--resume: there is no {last}: {copied}, then the same command goes on from the best weights")
    if resume == "auto":
        return
    if resume and not last.is_file():
        raise UserError(f"--resume: there is no {last}; leave it out to start a new run")
    if resume and folders.replaced.exists():
        told = f"--resume: {last} is of the run before, which a training with --overwrite was to replace"
        remedy = (
            f"that saved nothing; start it again with --overwrite, or remove {folders.replaced} to go on with the old"
        )
        raise UserError(f"{told}: {remedy}")
    if (there := folders.trained) is not None and not resume and not overwrite:
        raise UserError(
            f"{there} exists: add --resume to go on, --overwrite to start again, or give another --exp_name"
        )


@contextmanager
def held(folders: RunFolders) -> Iterator[None]:
    """Hold the lock of the run, and remove what a killed training left there. Processes that help end with the first
    one, which holds the lock. Raises UserError if another training holds it."""
    if process() > 0:
        follow_first(lambda: saved(folders))
        yield
        return
    with locked(folders.settings.parent, "wait for it, end it, or give another --exp_name"):
        remove_leftovers_in(folders.checkpoints)
        remove_leftovers(folders.settings)
        yield


def saved(folders: RunFolders) -> str:
    """What a training that is lost can go on from."""
    if folders.goes_on("auto"):
        return f"{folders.last} is of an earlier step: the same command with --resume goes on"
    return "nothing was saved yet"


@contextmanager
def marked(folders: RunFolders, goes_on: bool) -> Iterator[None]:
    """Note, until there is a checkpoint of the new run, that what is there is of the old one. If the new training is
    killed before, nobody takes the old weights for new ones. If it cannot begin, all is as it was."""
    if goes_on or process() > 0 or (there := folders.trained) is None or folders.replaced.is_file():
        yield
        return
    with atomic_write(folders.replaced) as path:
        path.write_text(
            f"A training is to replace this run. Until it saves something, {there} is the old one.\n",
            encoding="utf-8",
        )
    try:
        yield
    except UserError:
        folders.replaced.unlink()
        raise


def preparation(folders: RunFolders, settings: dict[str, object], resume: bool) -> Callable[[], None]:
    """What writes the settings and, unless the run is resumed, removes what an earlier run of the name left: called
    after last.ckpt is replaced, so that the earlier run is whole until then."""
    old = [folders.logs / "hparams.yaml"]  # the options of this training take its place
    if not resume:
        # the mark goes after what could be taken for a result of this training
        old = [folders.best, folders.replaced, *folders.logs.glob("events.out.tfevents.*"), *old]
        old.append(folders.settings.with_name(HISTORY))

    def prepare() -> None:
        for file in old:
            with write_errors(file):
                file.unlink(missing_ok=True)
        with atomic_write(folders.settings) as path:
            path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    return prepare
