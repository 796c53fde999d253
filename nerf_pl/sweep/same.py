"""Whether runs that a sweep goes on with were trained on the scenes and with the options that its table will state."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from nerf_pl.errors import UserError
from nerf_pl.scenes.runs import scene_of
from nerf_pl.sweep.jobs import Job
from nerf_pl.sweep.scores import Row, weights_of

WHERE = {"num_gpus", "accelerator", "chunk", "save_minutes"}  # options that say where and how a training runs
LENGTHS = {"seconds": "seconds", "max_steps": "steps"}  # options of the length, and what a row calls it


def require_same_scenes(jobs: Sequence[Job], scenes: Mapping[str, Path]) -> None:
    """Raises UserError for a run that was trained on another scene, of the same name. A scene may have moved. scenes:
    their folders, by their names."""
    for job in jobs:
        before = scene_of(job.run) if weights_of(job.run) else None
        if before is not None and Path(before).resolve() != scenes[job.scene].resolve():
            told = f"{job.run} was trained on {before}, and not on {scenes[job.scene]}"
            raise UserError(f"{told}: give another --exp_name, or --overwrite to start again")


def require_same_options(jobs: Sequence[Job], before: Mapping[str, Row]) -> None:
    """Raises UserError for a run that was trained with other options, for a finished one would be scored as if it had
    those of today. It may become longer. before: what an earlier sweep wrote, by the names of the runs."""
    for job in jobs:
        old, weights = before.get(job.name), weights_of(job.run)
        if old is None or not weights or (old.replaces and old.weights == weights) or _may_go_on(old, job):
            continue
        given, asked = (shlex.join(words) or "defaults" for words in (old.asked, job.asked))
        told = f"{job.run} was trained with {given}, asked now: {asked}"
        raise UserError(f"{told}: give the same options, another --exp_name, or --overwrite to start again")


def _may_go_on(old: Row, job: Job) -> bool:
    given, asked = _options(old.asked), _options(job.asked)
    lengths = {name: given.pop(name, ()) for name in LENGTHS}, {name: asked.pop(name, ()) for name in LENGTHS}
    return given == asked and (lengths[0] == lengths[1] or _is_longer(old, *lengths))


def _is_longer(old: Row, before: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]) -> bool:
    """Whether the training is to be longer than it was, or than was asked for if it was stopped."""
    for name, measured in LENGTHS.items():
        lengths = [float(before[name][0])] if before[name] else []
        lengths += [] if getattr(old, measured) is None else [getattr(old, measured)]
        if now[name] and not (lengths and float(now[name][0]) > max(lengths)):
            return False
    return any(now.values())


def _options(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values of each option that shapes a run, by its name."""
    found: dict[str, tuple[str, ...]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word.removeprefix("--")
            found[name] = ()
        else:
            found[name] = (*found[name], word)
    return {name: values for name, values in found.items() if name not in WHERE}
